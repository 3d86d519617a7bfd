//! Where a plausible model and the kernel differ: each line asks the kernel, and the judge must say the same.

use ssh_rescue::facts::{AddrSet, Family};
use ssh_rescue::host::{Host, Scratch};
use ssh_rescue::judge::netfilter::{Ports, walk};
use ssh_rescue::judge::{Open, PathVerdict};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net as observed;
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, net, patient, root, tcp};
use super::oracle::{Judged, agrees, first, judged, path};
use super::{lines_first, lines_nft, lines_order, lines_xt};

pub struct Line {
    pub name: &'static str,
    /// Tool and its input. `in:` before rules stands for one chain on the input hook: of an inet table at priority 0, or INPUT
    /// of iptables' filter table (rules parted by `;`).
    pub scripts: &'static [(&'static str, &'static str)],
    /// One source after the other, in this order.
    pub expected: &'static [(&'static str, Answer)],
    pub sure: Sure,
    /// What not every kernel is built with: without it the line is skipped.
    pub needs: Option<&'static str>,
}

/// Whether the judge can tell; else a part of its reason.
#[derive(Debug, Clone, Copy)]
pub enum Sure {
    Exact,
    /// Nor can it tell what becomes of a first connection.
    Conditional(&'static str),
    /// It can tell what becomes of a first connection.
    First(&'static str),
    Unknown(&'static str),
}

pub const A: &str = "198.51.100.7";
pub const B: &str = "203.0.113.9";
pub const SIX: &str = "2001:db8:100::7";
/// The first address of its net, which is that of any of its routers.
pub const ROUTERS: &str = "2001:db8:100::";

/// Calls of ip(8), one a line.
pub const IP: &str = "ip";
pub const NFT: &str = "nft";
pub const IPSET: &str = "ipset";
/// Of both back-ends, one after the other.
pub const IPTABLES: &str = "iptables";
pub const IP6TABLES: &str = "ip6tables";
pub const LEGACY: &str = "iptables-legacy";

const ARPHRD_NONE: u16 = 65534;
const ARPHRD_ETHER: u16 = 1;

macro_rules! line {
    ($name:literal, [$($tool:ident $rules:literal),+], $($source:ident: $answer:expr),+
     $(; conditional $why:literal)? $(; first $first:literal)? $(; unknown $what:literal)? $(; needs $need:literal)?) => {
        Line {
            name: $name,
            scripts: &[$(($tool, $rules)),+],
            expected: &[$(($source, $answer)),+],
            sure: line!(@sure $($why)? ; $($first)? ; $($what)?),
            needs: line!(@needs $($need)?),
        }
    };
    (@sure ; ;) => { crate::lines::Sure::Exact };
    (@sure $why:literal ; ;) => { crate::lines::Sure::Conditional($why) };
    (@sure ; $first:literal ;) => { crate::lines::Sure::First($first) };
    (@sure ; ; $what:literal) => { crate::lines::Sure::Unknown($what) };
    (@needs) => { None };
    (@needs $need:literal) => { Some($need) };
}
pub(super) use line;

#[test]
fn the_kernel_and_the_judge_do_what_each_line_says() {
    if !root("lines") {
        return;
    }
    let sets = [
        (ARPHRD_NONE, lines_nft::LINES),
        (ARPHRD_NONE, lines_xt::LINES),
        (ARPHRD_NONE, lines_order::LINES),
        (ARPHRD_NONE, lines_first::LINES),
        (ARPHRD_NONE, lines_xt::IPSETS),
        (ARPHRD_ETHER, lines_xt::ON_ETHERNET),
    ];
    let (mut wrong, mut asked, mut skipped) = (Vec::new(), 0, 0);
    for (kind, lines) in sets {
        for (line, backend) in lines.iter().flat_map(|l| backends(l).iter().map(move |b| (l, *b))) {
            match differences(line, backend, kind) {
                Some(differences) => {
                    asked += 1;
                    wrong.extend(differences.into_iter().map(|d| format!("{} ({backend}): {d}", line.name)));
                }
                None => {
                    skipped += 1;
                    println!("SKIPPED {}: this kernel is built without {}", line.name, line.needs.unwrap_or_default());
                }
            }
        }
    }
    println!("{asked} lines asked, {skipped} skipped");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn backends(line: &Line) -> &'static [&'static str] {
    let either = line.scripts.iter().any(|(tool, _)| matches!(*tool, IPTABLES | IP6TABLES));
    if either { &["legacy", "nft"] } else { &["as written"] }
}

/// What the kernel or the judge says otherwise than the line; None where the kernel lacks what it needs.
fn differences(line: &Line, backend: &str, kind: u16) -> Option<Vec<String>> {
    let flows = line.expected.iter().enumerate().map(|(n, (source, _))| tcp(source, 40000 + n as u16, 22));
    let flows: Vec<_> = flows.collect();
    let inside = |host: &Host| {
        let mut layout = set_up(host, &net(kind), &[IFINDEX], &[])?;
        match load(host, line, backend) {
            Ok(()) => {}
            Err(_) if line.needs.is_some() => return Ok(None),
            Err(complaint) => return Ok(Some(Err(complaint))),
        }
        let (rules, net) = (firewall(host), observed(host));
        let ports = Ports { ssh: vec![22, 2222], ..Ports::default() };
        let verdicts = [(Family::Ipv4, ADDRESS4), (Family::Ipv6, ADDRESS6)]
            .map(|(family, to)| walk(&rules, &net, &path(family, to, &net), &[], &ports));
        let listeners = Listeners::open(&[22, 2222], &[]).unwrap();
        Ok(Some(Ok((ask(&mut layout.uplinks[0], &listeners, &flows).unwrap(), verdicts))))
    };
    let (answers, [four, six]) = match Host::live().scratch(Scratch::Network, inside).unwrap()? {
        Ok(both) => both,
        Err(complaint) => return Some(vec![complaint]),
    };
    let mut wrong = Vec::new();
    let mut open = Vec::new();
    let mut first_told = false;
    for (place, ((source, expected), answer)) in line.expected.iter().zip(answers).enumerate() {
        let verdict = if source.contains(':') { &six } else { &four };
        let said = judged(verdict, source.parse().unwrap());
        if answer != *expected {
            wrong.push(format!("{source}: expected {expected:?}, the kernel says {answer:?}"));
        }
        if let (0, Some(admitted)) = (place, first(verdict, source.parse().unwrap())) {
            first_told = true;
            if admitted != answer.is_open() {
                wrong.push(format!("{source}: judged to get in at first: {admitted}, the kernel says {answer:?}"));
            }
        }
        match agrees(said, answer) {
            Some(true) => {}
            Some(false) => wrong.push(format!("{source}: judged {said:?}, the kernel says {answer:?}")),
            None => open.push(reason(said, verdict, source)),
        }
    }
    let named = |part: &str, kind: &str| open.iter().any(|reason| reason.starts_with(kind) && reason.contains(part));
    let as_said = match line.sure {
        Sure::Exact => open.is_empty(),
        Sure::Conditional(part) => named(part, "conditional") && !first_told,
        Sure::First(part) => named(part, "conditional") && first_told,
        Sure::Unknown(part) => named(part, "unknown"),
    };
    if !as_said {
        wrong.push(format!(
            "expected {:?}, the judge leaves open: {open:?} (a first connection told: {first_told})",
            line.sure
        ));
    }
    Some(wrong)
}

fn reason(said: Judged, verdict: &PathVerdict, source: &str) -> String {
    let source = AddrSet::single(source.parse().unwrap());
    let of = |list: &[Open]| list.iter().find(|o| o.sources.intersects(&source)).map(|o| o.reason.clone());
    match said {
        Judged::Conditional => format!("conditional: {}", of(&verdict.conditional).unwrap_or_default()),
        _ => format!("unknown: {}", of(&verdict.unknown).unwrap_or_default()),
    }
}

/// Loads the rules of a line in the calling thread's namespace.
fn load(host: &Host, line: &Line, backend: &str) -> Result<(), String> {
    for (tool, text) in line.scripts {
        let (program, args): (String, &[&str]) = match *tool {
            NFT => (tool.to_string(), &["-f", "-"]),
            IPSET => (tool.to_string(), &["restore"]),
            IP => (tool.to_string(), &["-batch", "-"]),
            IPTABLES | IP6TABLES => (format!("{tool}-{backend}-restore"), &[]),
            named => (format!("{named}-restore"), &[]),
        };
        let text = match text.strip_prefix("in: ") {
            Some(rules) if *tool == NFT => {
                format!("table inet t {{ chain x {{ type filter hook input priority 0; {rules}; }}; }}\n")
            }
            Some(rules) => {
                let rules: String = rules.split("; ").map(|rule| format!("-A INPUT {rule}\n")).collect();
                format!("*filter\n{rules}COMMIT\n")
            }
            None => format!("{text}\n"),
        };
        let output = host.run(&patient(&program, args, &text)).unwrap();
        if !output.ok() {
            return Err(format!("{program}: {}\n{text}", output.complaint()));
        }
    }
    Ok(())
}

#[test]
fn where_nat_leads_a_flow_the_rule_that_loses_its_packets_is_named() {
    if !root("a packet that is lost") {
        return;
    }
    const RULES: Line = line!("", [NFT "table ip n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet p { chain y { type filter hook prerouting priority -10; ct state established tcp dport set 2223; }; }"], A: Answer::HalfOpen(2222));
    assert_eq!(differences(&RULES, "as written", ARPHRD_NONE).unwrap(), Vec::<String>::new());
    let verdict = Host::live().scratch(Scratch::Network, |host| {
        let _layout = set_up(host, &net(ARPHRD_NONE), &[IFINDEX], &[])?;
        load(host, &RULES, "as written").unwrap();
        let net = observed(host);
        let ports = Ports { ssh: vec![22, 2222], ..Ports::default() };
        Ok(walk(&firewall(host), &net, &path(Family::Ipv4, ADDRESS4, &net), &[], &ports))
    });
    let blocked = verdict.unwrap().blocked;
    assert_eq!(blocked.iter().map(|b| &*b.by.place).collect::<Vec<_>>(), ["inet p y"]);
}
