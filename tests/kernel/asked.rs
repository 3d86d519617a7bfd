//! Saved rulesets, each asked afresh: the judge and the kernel side by side, for sources near every address that a ruleset
//! names, in both families.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use ssh_rescue::facts::{Family, number};
use ssh_rescue::host::Host;
use ssh_rescue::judge::netfilter::{Ports, walk};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net;
use ssh_rescue::rehearse::layout::Layout;
use ssh_rescue::rehearse::packet::{Flow, Protocol};
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};
use ssh_rescue::rehearse::ruleset::{Place, Saved, SavedBackend, load};

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, root};
use super::corpus::{folder, recorded};
use super::generate::Dice;
use super::oracle::{Count, Judged, agrees, first, judged, path};

/// The rulesets that come with the tests: path, back-end, origin and licence of each in `MANIFEST.tsv`.
const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rulesets");
/// Sources that one ruleset is asked about, of each family.
const SOURCES: usize = 200;
/// Sources of each ruleset and family whose first connection is asked about, each on rules loaded afresh.
const FIRST: usize = 3;

fn own() -> Vec<Saved> {
    let folder = Path::new(OWN);
    let manifest = fs::read_to_string(folder.join("MANIFEST.tsv")).unwrap();
    let row = |line: &str| {
        let mut fields = line.split('\t');
        let (file, backend) = (fields.next().unwrap(), fields.next().unwrap());
        let backend: SavedBackend = backend.parse().unwrap();
        let own = |family: &Family| (if *family == Family::Ipv4 { ADDRESS4 } else { ADDRESS6 }).parse().unwrap();
        let to = families(backend).iter().map(own).collect();
        let place = Place { interface: "eth0".into(), ifindex: IFINDEX, to };
        Saved::open(&Host::live(), &folder.join(file), Some(backend), place).unwrap()
    };
    manifest.lines().skip(1).map(row).collect()
}

fn families(backend: SavedBackend) -> &'static [Family] {
    match backend {
        SavedBackend::Nft => &Family::BOTH,
        SavedBackend::IptablesNft | SavedBackend::IptablesLegacy => &[Family::Ipv4],
        SavedBackend::Ip6tablesNft | SavedBackend::Ip6tablesLegacy => &[Family::Ipv6],
    }
}

/// At and beside the ends of every address, prefix and range in the text, and some anywhere.
fn sources(text: &str, family: Family) -> Vec<IpAddr> {
    let mut near = BTreeSet::new();
    let is_part = |c: char| c.is_ascii_hexdigit() || matches!(c, '.' | ':' | '/');
    for word in text.split(|c: char| !is_part(c)) {
        let net = word.parse::<IpNet>().ok().or_else(|| word.parse::<IpAddr>().ok().map(IpNet::from));
        let Some(net) = net.filter(|n| Family::of(n.network()) == family) else { continue };
        for end in [number(net.network()), number(net.broadcast())] {
            near.extend([end.saturating_sub(1), end, end.saturating_add(1).min(family.max())]);
        }
    }
    let mut dice = Dice::new(text.len() as u64);
    let clients = |n: &u128| is_client(family.address(*n));
    let mut all: Vec<u128> = near.into_iter().filter(clients).collect();
    while all.len() > SOURCES {
        all.swap_remove(dice.below(all.len()));
    }
    all.extend((0..60).map(|_| dice.wide() & family.max()).filter(clients));
    all.into_iter().map(|n| family.address(n)).collect()
}

/// Whether the kernel takes a packet from there at all, and answers it.
fn is_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let o = a.octets();
            !a.is_loopback() && !a.is_unspecified() && o[0] != 0 && o[0] < 224 && o[..3] != [192, 0, 2]
        }
        IpAddr::V6(a) => {
            let first = a.segments()[0];
            (0x2000..0x4000).contains(&first) && a.segments()[..4] != [0x2001, 0xdb8, 2, 0]
        }
    }
}

fn compare(saved: &Saved, count: &mut Count) -> Vec<String> {
    let mut wrong = Vec::new();
    let inside = |host: &Host, layout: &mut Layout| {
        let (rules, net) = (firewall(host), net(host));
        let listeners = Listeners::open(&[22], &[]).unwrap();
        for &family in families(saved.backend) {
            let Some(&target) = saved.place.to.iter().find(|to| Family::of(**to) == family) else { continue };
            let verdict = walk(&rules, &net, &path(family, &target.to_string(), &net), &[], &Ports::default());
            let flow = |(n, source): (usize, IpAddr)| Flow {
                protocol: Protocol::Tcp,
                source,
                source_port: 33000 + n as u16,
                target,
                port: 22,
            };
            let flows: Vec<Flow> = sources(&saved.text, family).into_iter().enumerate().map(flow).collect();
            let answers = ask(&mut layout.uplinks[0], &listeners, &flows).unwrap();
            for (flow, answer) in flows.iter().zip(answers) {
                count.pairs += 1;
                let said = judged(&verdict, flow.source);
                match agrees(said, answer) {
                    Some(true) => {}
                    None => count.leave_open(said, &verdict, flow.source),
                    Some(false) => wrong.push(difference(saved, flow, said, answer)),
                }
            }
        }
    };
    load(&Host::live(), saved, inside)
        .unwrap_or_else(|e| panic!("{}: {}", saved.file.display(), ssh_rescue::chain(&e)));
    count.rulesets += 1;
    wrong
}

/// First connections of conditional sources, each to rules that nobody has met yet; how many were asked, and differences.
fn compare_first(saved: &Saved) -> (usize, Vec<String>) {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for &family in families(saved.backend) {
        let Some(&target) = saved.place.to.iter().find(|to| Family::of(**to) == family) else { continue };
        let judge = |host: &Host, _: &mut Layout| {
            let (rules, net) = (firewall(host), net(host));
            walk(&rules, &net, &path(family, &target.to_string(), &net), &[], &Ports::default())
        };
        let verdict = load(&Host::live(), saved, judge).unwrap();
        let answered = sources(&saved.text, family).into_iter().filter_map(|s| Some((s, first(&verdict, s)?)));
        let (open, shut): (Vec<_>, Vec<_>) = answered.partition(|(_, admitted)| *admitted);
        for (source, admitted) in open.into_iter().take(FIRST).chain(shut.into_iter().take(FIRST)) {
            let flow = Flow { protocol: Protocol::Tcp, source, source_port: 33000, target, port: 22 };
            let answer = load(&Host::live(), saved, |_, layout| {
                let listeners = Listeners::open(&[22], &[]).unwrap();
                ask(&mut layout.uplinks[0], &listeners, &[flow]).unwrap()[0]
            })
            .unwrap();
            asked += 1;
            if answer.is_open() != admitted {
                let (file, backend) = (saved.file.display(), saved.backend);
                let says = if admitted { "gets in" } else { "is blocked" };
                wrong.push(format!("{file} ({backend}): {source}, that {says} at first, but the kernel: {answer:?}"));
            }
        }
    }
    (asked, wrong)
}

fn difference(saved: &Saved, flow: &Flow, said: Judged, answer: Answer) -> String {
    let (file, backend) = (saved.file.display(), saved.backend);
    format!("{file} ({backend}): {} judged {said:?}, but the kernel: {answer:?}", flow.source)
}

#[test]
fn the_judge_agrees_with_the_kernel_on_saved_rulesets_asked_afresh() {
    if !root("saved rulesets asked afresh") {
        return;
    }
    let beside = folder().map(|folder| recorded(&folder).iter().map(|r| r.saved(&folder)).collect::<Vec<_>>());
    let mut count = Count::default();
    let mut wrong = Vec::new();
    for saved in own().iter().chain(beside.iter().flatten()) {
        wrong.extend(compare(saved, &mut count));
    }
    let (open, unsaid) = (count.open_percent(), count.unsaid_percent());
    println!("{count:?}, {open:.2} % left open, {unsaid:.2} % without a first answer, {} differences", wrong.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(count.unknown * 100 <= count.pairs, "too much is unknown: {count:?}");
    assert!(unsaid <= 5.0, "of too many nothing is said: {count:?}");
}

#[test]
fn a_first_connection_to_saved_rulesets_fares_as_judged() {
    if !root("first connections to saved rulesets") {
        return;
    }
    let beside = folder().map(|folder| recorded(&folder).iter().map(|r| r.saved(&folder)).collect::<Vec<_>>());
    let mut asked = 0;
    let mut wrong = Vec::new();
    for saved in own().iter().chain(beside.iter().flatten()) {
        let (more, differences) = compare_first(saved);
        asked += more;
        wrong.extend(differences);
    }
    println!("{asked} first connections, {} differences", wrong.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(asked > 5, "only {asked} were asked");
}
