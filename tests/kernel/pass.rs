//! The whole road on a scratch host with a real sshd and a client beside it.

use serde_json::Value;
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::judge::Verdict;
use ssh_rescue::pass::{Outcome, Report, check, repair};
use ssh_rescue::plan::words;
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{Phase, StateDir, Undone, history, undo};
use ssh_rescue::rehearse::drill::{LOCKOUTS, Sight, Stage};

use super::common::root;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");

/// What a repair may change: the rules of every back-end, and /etc.
fn everything(host: &Host) -> Vec<String> {
    let mut all = Vec::new();
    let tools = ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"];
    let tools = tools.map(|tool| (tool, vec![]));
    for (tool, args) in tools.into_iter().chain([("nft", vec!["-s", "list", "ruleset"])]) {
        let output = host.run(&Call::new(tool, &args)).unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
        all.extend(lines.map(|l| format!("{tool}: {}", l.split(" [").next().unwrap_or(l))));
    }
    for name in ["hosts.allow", "hosts.deny", "ufw/user.rules", "ufw/user6.rules"] {
        all.push(format!("{name}: {:?}", std::fs::read_to_string(format!("/etc/{name}")).ok()));
    }
    all
}

fn told(report: &Report) -> String {
    format!(
        "{:?}: {}\n  plan {:?}\n  declined {:?}\n  error {:?}\n  after {:?}",
        report.outcome,
        report.before.sentence,
        report.plan.as_ref().map(|p| &p.steps),
        report.declined,
        report.error,
        report.after.as_ref().map(|a| &a.sentence),
    )
}

#[test]
fn a_healthy_host_sees_no_write() {
    if !root("a healthy host") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        let state = StateDir::default();
        let before = everything(stage.host);
        let report = repair(stage.host, &state, &Policy::default(), false).unwrap();
        assert_eq!(report.outcome, Outcome::Healthy, "{}", told(&report));
        assert_eq!(everything(stage.host), before);
        assert!(!state.path().exists(), "a state folder was made");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

/// Locks out, repairs, looks; repairs again, which must change nothing; undoes, which must lock out again.
#[test]
fn every_lock_out_is_rescued_and_every_rescue_undone() {
    if !root("rescue") {
        return;
    }
    let mut failed = Vec::new();
    for lockout in LOCKOUTS {
        let result = Stage::build(&Host::live(), |stage| {
            (lockout.apply)(stage)?;
            let (host, state, policy) = (stage.host, StateDir::default(), Policy::default());
            let locked_out = everything(host);
            let dry = repair(host, &state, &policy, true).unwrap();
            if everything(host) != locked_out || state.path().exists() {
                return Ok(Err(format!("a dry run wrote: {}", told(&dry))));
            }
            let report = repair(host, &state, &policy, false).unwrap();
            let after = stage.see()?;
            if after != [Sight::Banner; 2] || report.outcome != Outcome::Repaired {
                return Ok(Err(format!("a client sees {after:?}: {}", told(&report))));
            }
            let rescued = everything(host);
            let again = repair(host, &state, &policy, false).unwrap();
            if again.outcome != Outcome::Healthy || everything(host) != rescued {
                return Ok(Err(format!("again: {}", told(&again))));
            }
            let ids = history(&Host::live(), &state).unwrap().entries;
            assert!(ids.iter().all(|e| e.phase == Phase::Confirmed), "{ids:?}");
            for entry in ids.iter().rev() {
                if !matches!(undo(host, &state, &entry.id), Ok(Undone::TakenBack(_))) {
                    return Ok(Err(format!("undo of {:?}", entry.steps)));
                }
            }
            let now = everything(host);
            if now != locked_out {
                return Ok(Err(format!("after the undo:\n{locked_out:#?}\n{now:#?}")));
            }
            Ok(Ok(format!("{} ms", report.evidence.map_or(0, |e| e.milliseconds))))
        });
        match result {
            Ok(Ok(words)) => println!("{}: rescued, undone ({words})", lockout.name),
            Ok(Err(why)) => failed.push(format!("{}: {why}", lockout.name)),
            Err(error) => failed.push(format!("{}: {}", lockout.name, chain(&error))),
        }
    }
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), LOCKOUTS.len(), failed.join("\n"));
}

#[test]
fn what_is_meant_is_left_alone() {
    if !root("what is meant") {
        return;
    }
    let meant = [
        ("a ban of one address", "table inet f2b-table { chain f2b-chain { type filter hook input priority -1; ip saddr 203.0.113.9 drop; }; }"),
        (
            "a few are admitted",
            "table inet t { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept;
               ip saddr { 10.0.0.0/8, 192.0.2.0/24 } tcp dport 22 accept; ip6 saddr { 2001:db8::/32, fd00::/8, fe80::/10 } tcp dport 22 accept; meta l4proto ipv6-icmp accept; }; }",
        ),
    ];
    for (name, rules) in meant {
        Stage::build(&Host::live(), |stage| {
            stage.tool("nft", &["-f", "-"], rules)?;
            let before = everything(stage.host);
            let (judgement, _) = check(stage.host, &Policy::default());
            assert!(
                matches!(judgement.verdict, Verdict::Reachable | Verdict::AtRisk),
                "{name}: {}",
                judgement.sentence
            );
            let report = repair(stage.host, &StateDir::default(), &Policy::default(), false).unwrap();
            assert_eq!(report.outcome, Outcome::Healthy, "{name}: {}", told(&report));
            assert_eq!(everything(stage.host), before, "{name}");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{name}: {}", chain(&e)));
    }
}

/// Clients whose connections the rules let in, and whose packets nobody brings: neighbour discovery is dropped.
#[test]
fn neighbours_find_the_host_again() {
    if !root("neighbour discovery") {
        return;
    }
    let admit = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -s 2001:db8:100::/64 -p tcp --dport 22 -j ACCEPT\nCOMMIT\n";
    let nft = "table inet t { chain in { type filter hook input priority 0; policy drop; iif lo accept; ip protocol tcp accept;
               ip6 saddr 2001:db8:100::/64 tcp dport 22 accept; }; }";
    let cases: [(&str, &[&str], &str, &str); 4] = [
        ("nft", &["-f", "-"], nft, "before rule 4 of inet t in"),
        ("ip6tables-nft-restore", &[], admit, "before rule 3 of ip6 filter INPUT"),
        ("ip6tables-legacy-restore", &[], admit, "before rule 3 of ip6 filter INPUT"),
        (
            "ip6tables-nft-restore",
            &[],
            "*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p ipv6-icmp -j DROP\nCOMMIT\n",
            "before rule 1 of ip6 filter OUTPUT",
        ),
    ];
    for (tool, args, rules, place) in cases {
        Stage::build(&Host::live(), |stage| {
            stage.tool(tool, args, rules)?;
            let (state, policy) = (StateDir::default(), Policy::default());
            let locked_out = everything(stage.host);
            assert_eq!(stage.see()?, [Sight::Banner, Sight::TimedOut], "{tool}");
            let (judgement, _) = check(stage.host, &policy);
            let codes: Vec<_> = judgement.findings.iter().map(|f| f.code).collect();
            assert!(codes.contains(&"firewall.neighbours.drop"), "{tool}: {codes:?}");
            let explain = Call::new(PROGRAM, &["explain", "--json", "2001:db8:100::7"]);
            let explained: Value = serde_json::from_slice(&stage.host.run(&explain).unwrap().stdout).unwrap();
            let legs = explained["ways"][0]["neighbours"].as_array().unwrap();
            let states: Vec<_> = legs.iter().map(|leg| leg["state"].as_str().unwrap()).collect();
            let outward = place.contains("OUTPUT");
            assert_eq!(
                states,
                if outward { ["passed", "blocked"] } else { ["blocked", "not-reached"] },
                "{explained:#}"
            );
            let report = repair(stage.host, &state, &policy, false).unwrap();
            assert_eq!(report.outcome, Outcome::Repaired, "{tool}: {}", told(&report));
            let steps = report.plan.as_ref().map(|plan| words(&plan.steps)).unwrap();
            assert_eq!(steps, [format!("accept neighbour discovery by eth0 {place}")], "{tool}");
            assert_eq!(stage.see()?, [Sight::Banner; 2], "{tool}: {}", told(&report));
            let again = repair(stage.host, &state, &policy, false).unwrap();
            assert_eq!(again.outcome, Outcome::Healthy, "{tool}: {}", told(&again));
            assert!(matches!(undo(stage.host, &state, &report.id.unwrap()), Ok(Undone::TakenBack(_))), "{tool}");
            assert_eq!(everything(stage.host), locked_out, "{tool}");
            assert_eq!(stage.see()?, [Sight::Banner, Sight::TimedOut], "{tool}: undone");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{tool}: {}", chain(&e)));
    }
}
