//! From rules to a plan to the kernel: what is judged, what is planned, and what a client sees then.

use ssh_rescue::apply::insert;
use ssh_rescue::facts::{Seen, Snapshot};
use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::judge::{Verdict, judge};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::plan::{Decision, plan, words};
use ssh_rescue::policy::{Mode, Policy};
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};
use ssh_rescue::rehearse::rehearse;

use super::common::{IFINDEX, net, root, tcp};

struct Case {
    name: &'static str,
    scripts: &'static [(&'static str, &'static str)],
    sources: &'static [&'static str],
    /// What the plan does, in its own words; empty: nothing.
    plan: &'static [&'static str],
    /// Who gets in afterwards, and who does not.
    open: &'static [&'static str],
    shut: &'static [&'static str],
}

const FOUR: &str = "198.51.100.7";
const SIX: &str = "2001:db8:100::7";
const BANNED: &str = "203.0.113.9";

const CASES: &[Case] = &[
    Case {
        name: "policy drop of iptables: appended after the ban",
        scripts: &[(
            "iptables-restore",
            "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 203.0.113.9 -j DROP\n-A INPUT -i lo -j ACCEPT\nCOMMIT\n",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 3 of ip filter INPUT"],
        open: &[FOUR, SIX],
        shut: &[BANNED],
    },
    Case {
        name: "reject in a chain of its own: the accept stands before it, after the ban",
        scripts: &[(
            "iptables-legacy-restore",
            "*filter\n:mine - [0:0]\n-A INPUT -j mine\n-A mine -s 203.0.113.9 -j DROP\n-A mine -p tcp --dport 22 -j REJECT\nCOMMIT\n",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 2 of ip filter mine"],
        open: &[FOUR, SIX],
        shut: &[BANNED],
    },
    Case {
        name: "a chain that many rules use is left alone: the accept stands before the rule that calls it for everybody",
        scripts: &[(
            "iptables-restore",
            "*filter\n:logdrop - [0:0]\n-A INPUT -s 203.0.113.9 -j logdrop\n-A INPUT -p tcp -j logdrop\n-A logdrop -j DROP\nCOMMIT\n",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 2 of ip filter INPUT"],
        open: &[FOUR, SIX],
        shut: &[BANNED],
    },
    Case {
        name: "both families in one inet chain: one rule",
        scripts: &[("nft", "table inet t { chain in { type filter hook input priority 0; policy drop; }; }")],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 1 of inet t in"],
        open: &[FOUR, SIX],
        shut: &[],
    },
    Case {
        name: "two tables that both drop, and the answer: a rule in each",
        scripts: &[(
            "nft",
            "table inet a { chain pre { type filter hook prerouting priority -300; tcp dport 22 drop; }; }
             table inet b { chain in { type filter hook input priority 0; policy drop; }; }
             table inet c { chain out { type filter hook output priority 0; policy drop; }; }",
        )],
        sources: &[],
        plan: &[
            "accept tcp to port 22 by eth0 before rule 1 of inet a pre",
            "accept tcp to port 22 by eth0 before rule 1 of inet b in",
            "accept answers from tcp port 22 by eth0 before rule 1 of inet c out",
        ],
        open: &[FOUR, SIX],
        shut: &[],
    },
    Case {
        name: "netdev ingress",
        scripts: &[(
            "nft",
            "table netdev n { chain in { type filter hook ingress device eth0 priority 0; ip saddr 203.0.113.9 drop; tcp dport 22 drop; }; }",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 before rule 2 of netdev n in"],
        open: &[FOUR, SIX],
        shut: &[BANNED],
    },
    Case {
        name: "nat leads the port elsewhere",
        scripts: &[("iptables-restore", "*nat\n-A PREROUTING -p tcp --dport 22 -j REDIRECT --to-ports 2222\nCOMMIT\n")],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 1 of ip nat PREROUTING"],
        open: &[FOUR, SIX],
        shut: &[],
    },
    Case {
        name: "a port that is rewritten without nat",
        scripts: &[(
            "nft",
            "table inet p { chain x { type filter hook prerouting priority -310; tcp dport 22 tcp dport set 2222; }; }",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 1 of inet p x"],
        open: &[FOUR, SIX],
        shut: &[],
    },
    Case {
        name: "established connections only: the client's ACK is what is dropped",
        scripts: &[(
            "nft",
            "table inet t { chain in { type filter hook input priority 0; ct state new accept; ip saddr 0.0.0.0/0 drop; }; }",
        )],
        sources: &[],
        plan: &["accept tcp to port 22 by eth0 before rule 2 of inet t in"],
        open: &[FOUR, SIX],
        shut: &[],
    },
    Case {
        name: "sources by name: only they, and also past a ban",
        scripts: &[(
            "iptables-restore",
            "*filter\n:INPUT DROP [0:0]\n:f2b-sshd - [0:0]\n-A INPUT -j f2b-sshd\n-A f2b-sshd -s 198.51.100.7 -j REJECT\nCOMMIT\n",
        )],
        sources: &["198.51.100.0/24"],
        plan: &[
            "accept tcp to port 22 from 198.51.100.0/24 by eth0 before rule 2 of ip filter INPUT",
            "accept tcp to port 22 from 198.51.100.0/24 by eth0 before rule 1 of ip filter f2b-sshd",
        ],
        open: &[FOUR, "198.51.100.200"],
        shut: &[BANNED],
    },
    Case {
        name: "a part of a named network each: an accept for all of it before the first",
        scripts: &[(
            "nft",
            "table inet t { chain in { type filter hook input priority 0; ip saddr 203.0.113.9 drop; \
             ip saddr 198.51.100.0/25 drop; ip saddr 198.51.100.128/26 drop; }; }",
        )],
        sources: &["198.51.100.0/24"],
        plan: &["accept tcp to port 22 from 198.51.100.0/24 by eth0 before rule 2 of inet t in"],
        open: &[FOUR, "198.51.100.130", "198.51.100.200"],
        shut: &[BANNED],
    },
    Case {
        name: "a restriction to some is meant, and a ban is none of our business",
        scripts: &[
            ("iptables-restore", "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/8 -j ACCEPT\nCOMMIT\n"),
            (
                "nft",
                "table ip6 t { chain in { type filter hook input priority 0; ip6 saddr 2001:db8:bad::/48 drop; }; }",
            ),
        ],
        sources: &[],
        plan: &[],
        open: &[SIX, "10.1.2.3"],
        shut: &[FOUR],
    },
];

fn snapshot(host: &Host) -> Snapshot {
    let bare = Snapshot::rules_alone(net(65534), firewall(host));
    Snapshot { listeners: Seen::Present(Vec::new()), ..bare }
}

/// What the case did otherwise than expected.
fn run(case: &Case) -> Result<(), String> {
    let mut policy = Policy::default();
    policy.sshd.mode = Mode::Off;
    policy.wrappers.mode = Mode::Off;
    if !case.sources.is_empty() {
        policy.ssh.sources = Some(case.sources.iter().map(|s| s.parse().unwrap()).collect());
    }
    let inside = |host: &Host| {
        let mut layout = set_up(host, &net(65534), &[IFINDEX], &[])?;
        for (tool, text) in case.scripts {
            let args: &[&str] = if *tool == "nft" { &["-f", "-"] } else { &[] };
            let output = host.run(&Call { stdin: text.as_bytes(), ..Call::new(tool, args) }).unwrap();
            assert!(output.ok(), "{}: {}", case.name, output.complaint());
        }
        let before = snapshot(host);
        let judgement = judge(&policy, &before);
        let steps = match plan(&policy, &before, &judgement, "test") {
            Decision::Repair(plan) => {
                let steps = plan.steps.clone();
                if let Err(error) = rehearse(host, &before, plan, &policy, &judgement, true, &insert) {
                    return Ok(Err(format!("rehearsal: {}", ssh_rescue::chain(&error))));
                }
                steps
            }
            Decision::Healthy => Vec::new(),
            Decision::Refuse(declined) => return Ok(Err(format!("refused: {declined:?}"))),
        };
        for at in steps.iter().flat_map(|s| s.inserts(&before.firewall)) {
            insert(host, "test", &at).unwrap();
        }
        let told = words(&steps);
        if told != case.plan {
            return Ok(Err(format!("planned {told:#?}\n{}", judgement.sentence)));
        }
        let listeners = Listeners::open(&[22, 2222], &[]).unwrap();
        let flows: Vec<_> = case.open.iter().chain(case.shut).map(|s| tcp(s, 40000, 22)).collect();
        let answers = ask(&mut layout.uplinks[0], &listeners, &flows).unwrap();
        for (flow, (place, answer)) in flows.iter().zip(answers.iter().enumerate()) {
            if (*answer == Answer::Open(22)) != (place < case.open.len()) {
                return Ok(Err(format!("{}: {answer:?}", flow.source)));
            }
        }
        let after = snapshot(host);
        let judgement = judge(&policy, &after);
        if !matches!(judgement.verdict, Verdict::Reachable | Verdict::AtRisk) {
            return Ok(Err(format!("afterwards: {}", judgement.sentence)));
        }
        match plan(&policy, &after, &judgement, "again") {
            Decision::Healthy => Ok(Ok(())),
            decision => Ok(Err(format!("a second time: {decision:?}"))),
        }
    };
    Host::live().scratch(Scratch::Network, inside).unwrap()
}

#[test]
fn each_lockout_is_mended_by_the_least() {
    if !root("mend") {
        return;
    }
    let wrong: Vec<_> =
        CASES.iter().filter_map(|case| run(case).err().map(|e| format!("{}: {e}", case.name))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
