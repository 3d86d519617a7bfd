//! What is said of a host, in its own words: one scene after the other, as a report shows it.

use std::net::IpAddr;

use super::fixture::{filter, healthy, listener as socket, nft, owner, table};
use super::*;
use crate::facts::*;
use crate::policy::Policy as Asked;

const DROP: Expr = Expr::Verdict(crate::facts::Verdict::Drop);
const ACCEPT: Expr = Expr::Verdict(crate::facts::Verdict::Accept);
const REJECT: Expr = Expr::Reject(RejectWith::TcpReset);

/// Sources whose first byte is this one (IPv4).
fn first_byte(byte: u8) -> Vec<Expr> {
    vec![
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 1 },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![byte].into() },
    ]
}

/// One source address (IPv4).
fn from(text: &str) -> Vec<Expr> {
    let IpAddr::V4(address) = fixture::ip(text) else { panic!("{text}") };
    vec![
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: address.octets().to_vec().into() },
    ]
}

fn and(mut exprs: Vec<Expr>, then: Expr) -> Vec<Expr> {
    exprs.push(then);
    exprs
}

fn limit() -> Expr {
    Expr::Limit { over: false, text: "3/minute".into() }
}

fn of(family: TableFamily, chains: Vec<Chain>) -> Table {
    Table { family, ..table(chains, Vec::new()) }
}

fn with(tables: Vec<Table>) -> Snapshot {
    Snapshot { firewall: nft(tables), ..healthy() }
}

/// With many rules the families are judged side by side: each path stands where it was, judged as it is alone.
#[test]
fn many_rules_are_judged_path_by_path_as_a_few_are() {
    let ban = |n: usize| and(from(&format!("10.{}.{}.7", n / 250, n % 250)), DROP);
    let mut snapshot = input((0..super::MANY).map(ban).chain([vec![REJECT]]).collect());
    snapshot.net.addresses = Seen::Present(vec![
        fixture::address("2001:db8::11", 64),
        fixture::address(fixture::V4, 24),
        fixture::address(fixture::V6, 64),
        fixture::address("192.0.2.11", 24),
    ]);
    let asked = Asked::default();
    let paths = paths(&asked, &snapshot.net);
    assert_eq!(paths.iter().filter(|path| path.family == Family::Ipv6).count(), 2);
    let orders = [paths.clone(), paths.iter().rev().cloned().collect(), vec![paths[2].clone(), paths[0].clone()]];
    for paths in orders {
        let due: Vec<PathVerdict> = paths.iter().map(|path| firewall(&asked, &snapshot, path.clone())).collect();
        let found = judge_paths(&asked, &snapshot, paths);
        let found: Vec<PathVerdict> = found.gates.into_iter().map(|gates| gates.firewall).collect();
        assert!(found == due);
        assert!(found.iter().all(|verdict| verdict.admitted.is_empty()));
    }
}

/// Both families in one chain on a hook.
fn on(hook: Hook, policy: crate::facts::Policy, rules: Vec<Vec<Expr>>) -> Snapshot {
    with(vec![of(TableFamily::Inet, vec![filter(hook, policy, rules)])])
}

fn input(rules: Vec<Vec<Expr>>) -> Snapshot {
    on(Hook::Input, crate::facts::Policy::Accept, rules)
}

fn four(rules: Vec<Vec<Expr>>) -> Snapshot {
    with(vec![of(TableFamily::Ip, vec![filter(Hook::Input, crate::facts::Policy::Accept, rules)])])
}

/// A device chain, of the netdev family.
fn device(hook: Hook) -> Snapshot {
    let mut chain = filter(hook, crate::facts::Policy::Accept, vec![vec![DROP]]);
    chain.base.as_mut().unwrap().devices = vec!["eth0".into()];
    with(vec![of(TableFamily::Netdev, vec![chain])])
}

/// nat leads the port to another one.
fn led(port: u16) -> Snapshot {
    let redirect = Expr::Nat(Nat {
        kind: NatKind::Redirect,
        addr_min: None,
        addr_max: None,
        port_min: Some(0),
        port_max: None,
        nfproto: 0,
        flags: 0,
    });
    let rules = vec![vec![Expr::Immediate { dreg: 0, data: port.to_be_bytes().as_slice().into() }, redirect]];
    let mut nat = filter(Hook::Prerouting, crate::facts::Policy::Accept, rules);
    nat.base.as_mut().unwrap().kind = ChainKind::Nat;
    with(vec![of(TableFamily::Inet, vec![nat])])
}

fn bans(addresses: &[&str]) -> Snapshot {
    let jump = vec![Expr::Verdict(crate::facts::Verdict::Jump("f2b-sshd".into()))];
    let mut chain =
        filter(Hook::Input, crate::facts::Policy::Accept, addresses.iter().map(|a| and(from(a), REJECT)).collect());
    (chain.name, chain.base) = ("f2b-sshd".into(), None);
    with(vec![of(TableFamily::Ip, vec![filter(Hook::Input, crate::facts::Policy::Accept, vec![jump]), chain])])
}

fn hosts(snapshot: Snapshot, allow: &str, deny: &str) -> Snapshot {
    let file = |path: &str, text: &str| Seen::Present(TextFile { path: path.into(), bytes: text.into() });
    let lists = Vec::new();
    Snapshot {
        wrappers: Wrappers { allow: file("/etc/hosts.allow", allow), deny: file("/etc/hosts.deny", deny), lists },
        ..snapshot
    }
}

fn listening(sockets: Vec<Listener>) -> Snapshot {
    Snapshot { listeners: Seen::Present(sockets), ..healthy() }
}

fn broken() -> Snapshot {
    let mut snapshot = listening(Vec::new());
    let messages = vec!["/etc/ssh/sshd_config line 3: Bad configuration option: Prot".to_owned()];
    snapshot.sshd.test = Seen::Present(ConfigTest { passed: false, status: 255, messages });
    snapshot
}

fn lost(why: &str) -> Snapshot {
    let mut snapshot = healthy();
    snapshot.firewall.nft = Seen::Unreadable(why.into());
    snapshot.firewall.legacy6 = Seen::Unreadable(why.into());
    snapshot
}

fn deaf() -> Snapshot {
    let ssh = vec![
        Expr::Meta { dreg: 0, key: MetaKey::L4Proto },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![6].into() },
        ACCEPT,
    ];
    let mut snapshot = on(Hook::Input, crate::facts::Policy::Drop, vec![ssh]);
    let Seen::Present(links) = &mut snapshot.net.links else { panic!("no links") };
    links[0].arp = true;
    snapshot
}

fn routes(kind: RouteKind) -> Snapshot {
    let mut snapshot = healthy();
    let Seen::Present(all) = &mut snapshot.net.routes else { panic!("no routes") };
    let new = Route { kind, destination: "10.0.0.0/8".parse().unwrap(), ..all[0].clone() };
    all.push(new);
    snapshot
}

fn at_rest(snapshot: Snapshot) -> Snapshot {
    Snapshot { at_rest: true, ..snapshot }
}

fn asked(ports: &[u16], sources: &[&str]) -> Asked {
    let mut policy = Asked::default();
    policy.ssh.ports = ports.to_vec();
    policy.ssh.sources = (!sources.is_empty()).then(|| sources.iter().map(|s| s.parse().unwrap()).collect());
    policy
}

/// The verdict, the sentence and the findings; also those of the ports that the policy does not want.
fn told(policy: &Asked, snapshot: &Snapshot) -> String {
    let judgement = judge(policy, snapshot);
    let mut text = format!("{:?}, {:?}: {}\n", judgement.verdict, judgement.symptom, judgement.sentence);
    for finding in &judgement.findings {
        text.push_str(&format!("  {:?} {}: {}\n", finding.severity, finding.code, finding.summary));
    }
    text
}

#[test]
fn a_host_is_told_in_these_words() {
    use crate::facts::Policy::{Accept, Drop};
    let everybody = || asked(&[22], &[]);
    let named = || asked(&[22], &["198.51.100.0/24"]);
    let opaque = Expr::XtMatch(XtMatch::Unknown { name: "bpf".into() });
    let restricted = || four(vec![and(first_byte(10), ACCEPT), vec![DROP]]);
    let mut nowhere = healthy();
    nowhere.net.addresses = Seen::Unreadable("netlink: no buffer space".into());
    let nobody = Snapshot { privileged: false, ..healthy() };
    let scenes: Vec<(&str, Asked, Snapshot)> = vec![
        ("nothing is the matter", everybody(), healthy()),
        ("a disk on which nothing is the matter", everybody(), at_rest(healthy())),
        ("a policy that drops", everybody(), on(Hook::Input, Drop, vec![])),
        ("the same on a disk", everybody(), at_rest(on(Hook::Input, Drop, vec![]))),
        ("a rule that drops one family", everybody(), four(vec![vec![DROP]])),
        ("a rule that rejects", everybody(), input(vec![vec![Expr::Counter], vec![REJECT]])),
        ("before the routing", everybody(), on(Hook::Prerouting, Accept, vec![vec![DROP]])),
        ("led elsewhere", everybody(), led(2222)),
        ("the answer", everybody(), on(Hook::Output, Drop, vec![])),
        ("the answer, after the routing", everybody(), on(Hook::Postrouting, Accept, vec![vec![DROP]])),
        ("at the device", everybody(), device(Hook::Ingress)),
        ("the answer, at the device", everybody(), device(Hook::Egress)),
        ("one ban", everybody(), bans(&["203.0.113.9"])),
        ("three bans", everybody(), bans(&["203.0.113.9", "203.0.113.10", "203.0.113.77"])),
        ("a ban of somebody named", named(), bans(&["198.51.100.7", "203.0.113.9"])),
        ("some are let in by one family, all by the other", everybody(), restricted()),
        ("some are let in by one family, nobody by the other", everybody(), {
            let mut both = restricted();
            let Seen::Present(rules) = &mut both.firewall.nft else { panic!("no rules") };
            rules.tables.push(of(TableFamily::Ip6, vec![filter(Hook::Input, Drop, vec![])]));
            both
        }),
        ("all but a part", everybody(), four(vec![and(first_byte(10), DROP)])),
        ("named sources are lacking", named(), restricted()),
        ("two ports, one of them without sshd", asked(&[22, 2222], &[]), healthy()),
        ("a match that is not known", everybody(), four(vec![vec![opaque, DROP]])),
        ("a rate", everybody(), four(vec![vec![limit(), ACCEPT], vec![DROP]])),
        ("rules that cannot be read", everybody(), lost("netlink: operation not permitted")),
        ("without root's rights", everybody(), nobody),
        ("no way in", everybody(), nowhere),
        ("sshd does not run", everybody(), listening(Vec::new())),
        ("sshd cannot start", everybody(), broken()),
        ("sshd listens elsewhere", everybody(), listening(vec![socket("127.0.0.1", 22), socket("0.0.0.0", 2222)])),
        ("four strangers on the port", everybody(), {
            let owners = (1..5).map(|pid| owner(pid, "nginx", "/usr/sbin/nginx")).collect();
            listening(vec![Listener { owners: Seen::Present(owners), ..socket("0.0.0.0", 22) }, socket("::", 22)])
        }),
        ("nobody knows whose socket it is", everybody(), {
            let own = |address| Listener { owners: Seen::Present(Vec::new()), ..socket(address, 22) };
            listening(vec![own("0.0.0.0"), own("::")])
        }),
        ("a line of the wrappers", everybody(), hosts(healthy(), "# who\n", "# nobody\nsshd: ALL\n")),
        ("wrappers for one family", everybody(), hosts(healthy(), "sshd: 10.0.0.0/8\n", "ALL: ALL\n")),
        (
            "each gate lets in others",
            everybody(),
            hosts(restricted(), "sshd: 192.168.0.0/255.255.0.0 [::]/0\n", "ALL: ALL\n"),
        ),
        ("led to a port of sshd's", everybody(), {
            let mut snapshot = led(2222);
            snapshot.sshd.settings = Seen::Present(Settings { ports: vec![22, 2222], ..Settings::default() });
            let all = ["0.0.0.0", "::"].into_iter().flat_map(|a| [socket(a, 22), socket(a, 2222)]);
            snapshot.listeners = Seen::Present(all.collect());
            snapshot
        }),
        ("led to another's port", everybody(), {
            let mut snapshot = led(8080);
            let others = ["0.0.0.0", "::"].map(|a| Listener {
                owners: Seen::Present(vec![owner(9, "nginx", "/usr/sbin/nginx")]),
                ..socket(a, 8080)
            });
            let Seen::Present(all) = &mut snapshot.listeners else { panic!("no listeners") };
            all.extend(others);
            snapshot
        }),
        ("lines that sshd does not take", everybody(), {
            let mut snapshot = broken();
            let bytes = b"Port 22\n# a note\n  Prot 23\nUseDNS maybe\n".to_vec();
            snapshot.sshd.files.config = vec![
                TextFile { path: "/etc/ssh/sshd_config.d/x.conf".into(), bytes: b"a\nb\nc\n".to_vec() },
                TextFile { path: "/etc/ssh/sshd_config".into(), bytes },
            ];
            let Seen::Present(test) = &mut snapshot.sshd.test else { panic!("no test") };
            test.messages.push("/etc/ssh/sshd_config line 4: unsupported option \"maybe\".".into());
            snapshot
        }),
        ("sshd is configured for another port", everybody(), {
            let mut snapshot = healthy();
            let listen = vec![(fixture::ip("192.0.2.10"), 2022)];
            snapshot.sshd.settings = Seen::Present(Settings { ports: vec![2222], listen, ..Settings::default() });
            snapshot
        }),
        ("neighbour discovery is dropped", everybody(), deaf()),
        ("a blackhole", named(), routes(RouteKind::Blackhole)),
        ("a blackhole for those who are named", asked(&[22], &["10.1.0.0/16"]), routes(RouteKind::Blackhole)),
        ("answers have no way back", asked(&[22], &["10.1.0.0/16"]), routes(RouteKind::Unreachable)),
    ];
    let text: String =
        scenes.iter().map(|(name, policy, snapshot)| format!("# {name}\n{}", told(policy, snapshot))).collect();
    insta::assert_snapshot!(text);
}

/// The sentence ended in "it is not known whether clients can connect: ", and no finding said more.
#[test]
fn what_is_not_known_of_a_listener_is_said() {
    let snapshot = listening(vec![
        Listener { owners: Seen::Unreadable("read /proc/9: gone".into()), ..socket("::", 22) },
        socket("0.0.0.0", 22),
    ]);
    let judgement = judge(&asked(&[22], &["2001:db8:1::/48"]), &snapshot);
    let words = "it is not known whether everybody can connect: who holds [::]:22: read /proc/9: gone";
    assert_eq!(judgement.sentence, format!("it is not known whether clients can connect: {words}"));
    let said: Vec<_> = judgement.findings.iter().map(|f| (f.code, f.severity, f.summary.as_str())).collect();
    assert_eq!(said, [("path.unknown", Severity::Warning, words)]);
}

fn net4(text: &str) -> AddrSet {
    AddrSet::net(text.parse().unwrap())
}

#[test]
fn what_becomes_of_a_first_connection_is_said_as_far_as_it_is_sure() {
    let words = |admitted: &[&str], blocked: &[&str]| {
        let all = |nets: &[&str]| nets.iter().fold(AddrSet::empty(Family::Ipv4), |all, net| all.union(&net4(net)));
        let mut open = Open::new(net4("10.0.0.0/8"), "a rate".into(), Blame::gate(Gate::Firewall, "t"));
        open.first = First::among(&open.sources, &all(admitted), &all(blocked));
        open.first_words()
    };
    let (low, high) = ("10.0.0.0/9", "10.128.0.0/9");
    assert_eq!(words(&[], &[]), None);
    assert_eq!(words(&["10.0.0.0/8"], &[]).unwrap(), "a first connection gets in");
    assert_eq!(words(&[], &["10.0.0.0/8"]).unwrap(), "a first connection is blocked (port knocking?)");
    assert_eq!(words(&[low], &[]).unwrap(), "a first connection gets in from 10.0.0.0/9");
    assert_eq!(words(&[], &[high]).unwrap(), "a first connection is blocked from 10.128.0.0/9");
    assert_eq!(
        words(&[low], &[high]).unwrap(),
        "a first connection gets in from 10.0.0.0/9, and is blocked from 10.128.0.0/9"
    );
}

#[test]
fn the_parts_of_a_verdict_stay_disjoint_and_none_is_empty() {
    let path = paths(&Asked::default(), &healthy().net).remove(0);
    let by = || Blame::gate(Gate::Firewall, "t");
    let open = |net: &str| Open::new(net4(net), "a rate".into(), by());
    let mut limits = PathVerdict::open(path.clone());
    limits.admitted.subtract(&net4("10.0.0.0/8"));
    limits.conditional.push(open("10.0.0.0/8"));
    let mut whole = PathVerdict::open(path.clone());
    whole.then(&limits);
    assert_eq!((&whole.admitted, &whole.conditional), (&limits.admitted, &limits.conditional));
    // The same again takes nothing from anybody.
    whole.then(&limits);
    assert_eq!((&whole.admitted, &whole.conditional), (&limits.admitted, &limits.conditional));
    let mut doubts = PathVerdict::open(path);
    doubts.doubt(&net4("10.0.0.0/8"), "a file".into(), by());
    whole.then(&doubts);
    assert_eq!(whole.conditional, []);
    assert_eq!(whole.unknown.iter().map(|o| o.sources.to_string()).collect::<Vec<_>>(), ["10.0.0.0/8"]);
    whole.block(&net4("10.0.0.0/8"), Symptom::TimedOut, by());
    assert_eq!(whole.unknown, []);
    assert_eq!(whole.blocked_sources(), net4("10.0.0.0/8"));
}

#[test]
fn bans_in_a_hundred_chains_are_not_told_chain_by_chain() {
    let chain = |n: usize| Chain {
        name: format!("c{n}"),
        ..filter(Hook::Input, crate::facts::Policy::Accept, vec![and(from(&format!("198.51.100.{n}")), DROP)])
    };
    let called = (0..100).map(|n| Chain { base: None, ..chain(n) });
    let jumps = (0..100).map(|n| vec![Expr::Verdict(crate::facts::Verdict::Jump(format!("c{n}")))]).collect();
    let base = Chain { name: "input".into(), ..filter(Hook::Input, crate::facts::Policy::Accept, jumps) };
    let snapshot = with(vec![of(TableFamily::Ip, std::iter::once(base).chain(called).collect())]);
    let judgement = judge(&Asked::default(), &snapshot);
    let meant = judgement.findings.iter().filter(|f| f.summary.contains("taken as meant"));
    let summaries: Vec<&str> = meant.map(|f| f.summary.as_str()).collect();
    assert_eq!(summaries.len(), 65, "{summaries:#?}");
    let rest = summaries.last().unwrap();
    assert!(rest.contains("36 rules of ip t c64 and other places"), "{rest}");
    let text = |n: usize| format!("198.51.100.{n}");
    assert!(summaries.iter().any(|s| s.contains(&text(63)) && s.contains("ip t c63")), "{summaries:#?}");
}

#[test]
fn bans_of_one_chain_are_told_apart_by_what_a_client_sees() {
    let mut snapshot = bans(&["203.0.113.9", "203.0.113.10"]);
    let Seen::Present(rules) = &mut snapshot.firewall.nft else { panic!("no rules") };
    let chain = rules.tables[0].chains.last_mut().unwrap();
    let drop = Rule { exprs: and(from("203.0.113.11"), DROP), ..chain.rules[0].clone() };
    chain.rules = [&chain.rules[..], &[drop]].concat().into();
    let judgement = judge(&Asked::default(), &snapshot);
    let said: Vec<&str> = judgement.findings.iter().filter_map(|f| f.summary.split(" on ").next()).collect();
    assert_eq!(said, ["203.0.113.9-203.0.113.10 (connection refused)", "203.0.113.11 (connection timed out)"]);
}

#[test]
fn sources_whose_answers_leave_elsewhere_are_kept_out_by_rp_filter() {
    let mut snapshot = routes(RouteKind::Unicast);
    let (Seen::Present(links), Seen::Present(routes)) = (&mut snapshot.net.links, &mut snapshot.net.routes) else {
        panic!("no network")
    };
    links.push(Link { index: 3, name: "eth1".into(), ..links[0].clone() });
    routes.last_mut().unwrap().interfaces = vec![3];
    snapshot.net.rp_filter = vec![("eth0".into(), 1), ("eth1".into(), 0)];
    let judgement = judge(&asked(&[22], &["10.1.0.0/16"]), &snapshot);
    let [finding] = &judgement.findings[..] else { panic!("one: {:?}", judgement.findings) };
    assert_eq!((finding.code, finding.severity), ("route.rp-filter", Severity::Critical));
}

#[test]
fn behind_a_listener_that_is_missing_only_what_sshd_lacks_is_named() {
    let mut snapshot = listening(Vec::new());
    snapshot.firewall = bans(&["198.51.100.7"]).firewall;
    let judgement = judge(&asked(&[22], &["198.51.100.0/24"]), &snapshot);
    assert!(judgement.findings.iter().any(|f| f.code == "firewall.input.reject" && f.severity == Severity::Critical));
    assert!(judgement.sentence.ends_with("because nothing listens on port 22"), "{}", judgement.sentence);
}

#[test]
fn a_host_of_one_family_is_told_without_it() {
    let mut snapshot = on(Hook::Input, crate::facts::Policy::Drop, vec![]);
    snapshot.net.addresses = Seen::Present(vec![fixture::address(fixture::V4, 24)]);
    let judgement = judge(&Asked::default(), &snapshot);
    assert!(judgement.sentence.starts_with("connection timed out, because "), "{}", judgement.sentence);
}

#[test]
fn those_who_get_in_are_told_once_and_by_their_own_name_where_half_are_barred() {
    let (asked, snapshot) = (Asked::default(), healthy());
    let mut gates = judge(&asked, &snapshot).gates;
    let mut intent = Intent::of(&asked, &snapshot, &gates);
    intent.demands.retain(|d| d.family == Family::Ipv4);
    intent.demands.push(Demand { interface: Some("eth1".into()), ..intent.demands[0].clone() });
    intent.outside[0] = net4("10.0.0.0/8");
    let mut said = |admitted: &str| {
        gates[0].whole.admitted = net4(admitted);
        blame::sentence(super::Verdict::Reachable, &intent, &gates, &[]).1
    };
    assert_eq!(said("10.0.0.0/8"), "clients can connect: everybody by ipv4 on port 22");
    assert_eq!(said("10.0.0.0/9"), "clients can connect: 10.0.0.0/9 by ipv4 on port 22");
}

/// eth1 has another address, and another way to everybody.
fn two_uplinks() -> Snapshot {
    let mut snapshot = routes(RouteKind::Unicast);
    let net = &mut snapshot.net;
    let (Seen::Present(links), Seen::Present(addresses), Seen::Present(routes)) =
        (&mut net.links, &mut net.addresses, &mut net.routes)
    else {
        panic!("no network")
    };
    links.push(Link { index: 3, name: "eth1".into(), ..links[0].clone() });
    addresses.push(Address { interface: 3, ..fixture::address("203.0.113.10", 24) });
    let other = Route { interfaces: vec![3], metric: 100, ..routes[0].clone() };
    *routes.last_mut().unwrap() = other;
    snapshot
}

#[test]
fn who_is_named_must_get_in_by_each_uplink_and_anybody_by_one() {
    let snapshot = hosts(two_uplinks(), "", "sshd@203.0.113.10: ALL\n");
    let verdict = |policy: &Asked| judge(policy, &snapshot).verdict;
    assert_eq!(verdict(&asked(&[22], &[])), super::Verdict::Reachable);
    assert_eq!(verdict(&asked(&[22], &["198.51.100.0/24"])), super::Verdict::Blocked);
    let mut named = asked(&[22], &[]);
    named.ssh.interfaces = Some(vec!["eth0".into(), "eth1".into()]);
    assert_eq!(verdict(&named), super::Verdict::Blocked);
}

#[test]
fn one_address_of_an_interface_is_way_in_enough() {
    let mut snapshot = hosts(healthy(), "", "sshd@192.0.2.11: ALL\n");
    if let Seen::Present(addresses) = &mut snapshot.net.addresses {
        addresses.push(fixture::address("192.0.2.11", 24));
    }
    assert_eq!(judge(&asked(&[22], &[]), &snapshot).verdict, super::Verdict::Reachable);
    assert_eq!(judge(&asked(&[22], &["198.51.100.0/24"]), &snapshot).verdict, super::Verdict::Reachable);
}

/// Whom to let in by one port the restriction of another does not say.
#[test]
fn a_family_is_left_alone_for_the_other_one_at_the_same_port_alone() {
    let mut snapshot = hosts(healthy(), "22: 10.0.0.0/8 [::]/0\n2222@192.0.2.10: ALL\n", "ALL: ALL\n");
    let all = ["0.0.0.0", "::"].into_iter().flat_map(|a| [socket(a, 22), socket(a, 2222)]);
    snapshot.listeners = Seen::Present(all.collect());
    let policy = asked(&[22, 2222], &[]);
    let judgement = judge(&policy, &snapshot);
    let intent = Intent::of(&policy, &snapshot, &judgement.gates);
    let lacking = intent.demands.iter().filter(|d| matches!(d.whole, Standing::Lacking { .. }));
    assert_eq!(lacking.map(|d| (d.family, d.port)).collect::<Vec<_>>(), [(Family::Ipv6, 2222)]);
}

#[test]
fn a_firewall_that_is_off_drops_no_neighbour_discovery() {
    let mut policy = asked(&[22], &[]);
    policy.firewall.mode = Mode::Off;
    let path = paths(&policy, &deaf().net).pop().unwrap();
    assert_eq!(path.family, Family::Ipv6);
    assert!(firewall(&policy, &deaf(), path).admitted.is_full());
}

/// The sentence named the first other finding in its place.
#[test]
fn a_family_by_which_nobody_passes_every_gate_is_a_risk_where_the_other_is_restricted() {
    let restricted = four(vec![and(first_byte(10), ACCEPT), vec![DROP]]);
    let snapshot = hosts(restricted, "sshd: 192.168.0.0/255.255.0.0 [2001:db8:1::]/48\n", "ALL: ALL\n");
    let judgement = judge(&asked(&[22], &[]), &snapshot);
    let words = "firewall, listener and wrappers each let somebody in by ipv4, but nobody passes all of them: \
                 whom to let in, only the policy's sources can say";
    assert_eq!(judgement.verdict, super::Verdict::AtRisk);
    assert_eq!(judgement.sentence, format!("clients can connect, but {words}"));
    let first = &judgement.findings[0];
    assert_eq!((first.code, first.severity), ("path.disjoint", Severity::Warning));
}

#[test]
fn a_family_that_is_left_alone_is_a_risk_whatever_is_found() {
    let policy = asked(&[22], &[]);
    let mut intent = Intent::of(&policy, &healthy(), &judge(&policy, &healthy()).gates);
    assert_eq!(super::verdict(&intent, &[]), super::Verdict::Reachable);
    intent.demands[0].whole = Standing::LeftAlone;
    assert_eq!(super::verdict(&intent, &[]), super::Verdict::AtRisk);
}
