//! Plans on copies: what the kernel passes, and what it does not.

use std::sync::Arc;

use ssh_rescue::facts::*;
use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::judge::{Blame, Gate, Judgement, Path, PathGates, PathVerdict, Symptom, Verdict as Overall};
use ssh_rescue::plan::{Accept, Insert, Plan, Step, TableInserts, Traffic};
use ssh_rescue::policy::Policy;
use ssh_rescue::rehearse::{BoxedError, Evidence, RehearsalError, rehearse};

use super::clone::raw;
use super::common::{ADDRESS4, ADDRESS6, IFINDEX, net, root, tool};

pub fn snapshot(firewall: Firewall) -> Snapshot {
    Snapshot::rules_alone(net(1), firewall)
}

/// Everybody is blocked by the firewall, on one path for each family.
fn judgement() -> Judgement {
    let gates = [(Family::Ipv4, ADDRESS4), (Family::Ipv6, ADDRESS6)].map(|(family, address)| {
        let path =
            Path { family, interface: "eth0".into(), ifindex: IFINDEX, address: address.parse().unwrap(), port: 22 };
        let open = PathVerdict::open(path);
        let mut firewall = open.clone();
        let by = Blame {
            neighbours: false,
            gate: Gate::Firewall,
            place: "inet t in".into(),
            hook: None,
            rule: None,
            position: None,
            respected: false,
            rule_ref: None,
            via: None,
        };
        firewall.block(&AddrSet::full(family), Symptom::TimedOut, by);
        PathGates { whole: firewall.clone(), firewall, listener: open.clone(), wrappers: open, neighbours: Vec::new() }
    });
    Judgement {
        verdict: Overall::Blocked,
        symptom: Symptom::TimedOut,
        sentence: String::new(),
        findings: Vec::new(),
        gates: gates.into(),
    }
}

fn accept(source: Option<&str>) -> Insert {
    let accept = Accept {
        traffic: Traffic::Ssh,
        family: None,
        source: source.map(|s| s.parse().unwrap()),
        port: 22,
        interface: Some("eth0".into()),
        answer: false,
        after: Vec::new(),
    };
    Insert { chain: "in".into(), index: 0, accept }
}

fn plan(inserts: Vec<Insert>) -> Plan {
    let step = Step::Nft { generation: 1, family: TableFamily::Inet, table: "t".into(), inserts };
    Plan { id: "test".into(), steps: vec![step], declined: Vec::new() }
}

/// Loads `rules` in a scratch host, and rehearses `plan` there, each insert being made by `nft insert rule` of the text that
/// `rule` gives.
fn rehearsed(
    rules: &str,
    plan: Plan,
    rule: impl Fn(&Accept) -> String + Sync,
) -> Result<(Evidence, String), RehearsalError> {
    let insert = |host: &Host, _: &str, at: &TableInserts| -> Result<(), BoxedError> {
        for insert in &at.inserts {
            let line = format!("insert rule {} {} {} {}", at.family, at.table, insert.chain, rule(&insert.accept));
            let output = host.run(&Call::new("nft", &[&line]))?;
            if !output.ok() {
                return Err(output.complaint().into());
            }
        }
        Ok(())
    };
    let (result, listing) = Host::live()
        .scratch(Scratch::Network, |host| {
            tool(host, "nft", &["-f", "-"], rules);
            let nft = NftRules { generation: 0, tables: Vec::new(), raw: Arc::new(raw()) };
            let firewall = Firewall {
                nft: Seen::Present(nft),
                legacy4: Seen::Absent,
                legacy6: Seen::Absent,
                ipsets: Seen::Absent,
                outside: Vec::new(),
            };
            let snapshot = snapshot(firewall);
            let result = rehearse(host, &snapshot, plan, &Policy::default(), &judgement(), true, &insert);
            Ok((result, host.run(&Call::new("nft", &["list", "ruleset"])).unwrap().stdout))
        })
        .unwrap();
    let listing = String::from_utf8(listing).unwrap();
    result.map(|r| (r.into_parts().1, listing))
}

fn narrow(accept: &Accept) -> String {
    let source = match accept.source {
        Some(net) if net.addr().is_ipv4() => format!("ip saddr {net} "),
        Some(net) => format!("ip6 saddr {net} "),
        None => String::new(),
    };
    format!("iifname eth0 {source}tcp dport 22 accept")
}

const DROPS: &str = "table inet t { chain in { type filter hook input priority 0; policy drop;
    tcp dport 443 accept
    tcp dport 80 limit rate 1/hour burst 7 packets accept
    udp dport 123 accept
}; }";

#[test]
fn a_plan_that_lets_in_whom_it_should_is_passed() {
    if !root("rehearsal") {
        return;
    }
    let (evidence, listing) = rehearsed(DROPS, plan(vec![accept(None)]), narrow).unwrap();
    println!("{evidence:?}");
    assert_eq!(evidence.unrehearsed, None);
    assert!(evidence.probes > 200 && evidence.missing.is_empty());
    assert!(!listing.contains("dport 22"), "the host itself was changed:\n{listing}");
}

#[test]
fn a_plan_for_some_sources_lets_in_only_those() {
    if !root("rehearsal") {
        return;
    }
    let sources = vec![accept(Some("198.51.100.0/24")), accept(Some("2001:db8:100::/64"))];
    rehearsed(DROPS, plan(sources.clone()), narrow).unwrap();
    let wide = rehearsed(DROPS, plan(sources), |_| "tcp dport 22 accept".into());
    assert!(matches!(wide, Err(RehearsalError::Opened { port: 22, .. })), "{wide:?}");
}

#[test]
fn a_plan_that_opens_another_port_is_refused() {
    if !root("rehearsal") {
        return;
    }
    for (rule, protocol, door) in [("accept", "tcp", 1), ("meta l4proto udp accept", "udp", 22)] {
        let wide = |a: &Accept| {
            if protocol == "tcp" { rule.into() } else { format!("{}; insert rule inet t in {rule}", narrow(a)) }
        };
        let refused = rehearsed(DROPS, plan(vec![accept(None)]), wide);
        let told = matches!(&refused, Err(RehearsalError::Opened { protocol: p, port, .. }) if *p == protocol && *port == door);
        assert!(told, "{rule}: {refused:?}");
    }
}

#[test]
fn an_accept_before_another_table_that_drops_is_refused() {
    if !root("rehearsal") {
        return;
    }
    let rules =
        format!("{DROPS}\ntable inet late {{ chain x {{ type filter hook input priority 50; tcp dport 22 drop; }}; }}");
    let refused = rehearsed(&rules, plan(vec![accept(None)]), narrow);
    assert!(matches!(refused, Err(RehearsalError::StillShut { port: 22, .. })), "{refused:?}");
}

#[test]
fn an_answer_that_does_not_get_out_is_refused() {
    if !root("rehearsal") {
        return;
    }
    let rules =
        format!("{DROPS}\ntable inet late {{ chain x {{ type filter hook output priority 0; tcp sport 22 drop; }}; }}");
    let refused = rehearsed(&rules, plan(vec![accept(None)]), narrow);
    assert!(matches!(refused, Err(RehearsalError::StillShut { port: 22, .. })), "{refused:?}");
}

#[test]
fn three_hundred_rules_are_rehearsed() {
    if !root("rehearsal") {
        return;
    }
    let rules: Vec<_> =
        (0..300).map(|n| format!("ip saddr 10.{}.{}.0/24 tcp dport {} drop", n / 250, n % 250, 1000 + n)).collect();
    let rules = format!(
        "table inet t {{ chain in {{ type filter hook input priority 0; policy drop;\n{}\n}}; }}",
        rules.join("\n")
    );
    let (evidence, _) = rehearsed(&rules, plan(vec![accept(None)]), narrow).unwrap();
    println!("300 rules: {evidence:?}");
}
