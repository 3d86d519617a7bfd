use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Strategy;

use super::*;

fn shown(text: &str) -> String {
    match parse(text) {
        Ok(_) => "no mistake".to_owned(),
        Err(mistakes) => mistakes.iter().map(|m| m.show("policy.toml")).collect::<Vec<_>>().join("\n"),
    }
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(parse("").unwrap(), Policy::default());
    assert_eq!(parse("# nothing\n\n[ssh]\n[firewall]\n").unwrap(), Policy::default());
}

#[test]
fn every_key_is_read() {
    let text = r#"
        mode = "report"
        [ssh]
        port = [22, 2222]
        sources = ["198.51.100.0/24", "2001:db8:100::/64", "192.0.2.7"]
        interfaces = ["eth0"]
        [firewall]
        mode = "repair"
        strategy = "disable"
        persist = false
        respect = ["f2b-*", "mine?"]
        panic = "repair"
        conntrack = "off"
        unrehearsed = false
        [wrappers]
        mode = "off"
        [sshd]
        unmask = true
        persist = true
        emergency = true
        logins = "repair"
        [disk]
        reserve = false
        [restraint]
        attempts = 5
        per = "1h30m"
        [control]
        group = "adm"
        [report]
        console = true
        metrics = "/var/lib/prometheus/node-exporter"
    "#;
    let nets = ["198.51.100.0/24", "2001:db8:100::/64", "192.0.2.7/32"].map(|n| n.parse().unwrap());
    let expected = Policy {
        ssh: SshPolicy { ports: vec![22, 2222], sources: Some(nets.into()), interfaces: Some(vec!["eth0".into()]) },
        firewall: FirewallPolicy {
            mode: Mode::Repair,
            strategy: super::Strategy::Disable,
            persist: false,
            respect: vec!["f2b-*".into(), "mine?".into()],
            panic: Mode::Repair,
            conntrack: Mode::Off,
            unrehearsed: false,
        },
        wrappers: WrappersPolicy { mode: Mode::Off },
        sshd: SshdPolicy { mode: Mode::Report, unmask: true, persist: true, emergency: true, logins: Mode::Repair },
        disk: DiskPolicy { reserve: false },
        restraint: RestraintPolicy { attempts: 5, per_seconds: 5400 },
        control: ControlPolicy { group: Some("adm".into()) },
        report: ReportPolicy { console: true, metrics: Some("/var/lib/prometheus/node-exporter".into()) },
    };
    assert_eq!(parse(text), Ok(expected));
}

#[test]
fn all_mistakes_are_shown_at_once_in_the_order_of_the_text() {
    let text = "mode = \"repiar\"\n\
                [ssh]\n\
                prot = 22\n\
                sources = [\"10.1.2.3/8\", \"::ffff:10.0.0.0/104\", \"everybody\"]\n\
                interfaces = []\n\
                [fierwall]\n\
                mode = \"off\"\n\
                [firewall]\n\
                \tpersist = \"yes\"\n\
                attempts = 3\n\
                respect = [\"*\", \"f2b-[a-z]\", 7]\n\
                [restraint]\n\
                attempts = 0\n\
                per = 3600\n\
                [control]\n\
                group = \"a dm\"\n\
                [report]\n\
                metrics = \"var/../x\"\n";
    insta::assert_snapshot!(shown(text), @r#"
    policy.toml:1:8: expected "off", "report" or "repair": did you mean "repair"?
      |
    1 | mode = "repiar"
      |        ^^^^^^^^

    policy.toml:3:1: unknown key `prot` in [ssh]: did you mean `port`?
      |
    3 | prot = 22
      | ^^^^

    policy.toml:4:12: an address inside the network: did you mean "10.0.0.0/8" or "10.1.2.3"?
      |
    4 | sources = ["10.1.2.3/8", "::ffff:10.0.0.0/104", "everybody"]
      |            ^^^^^^^^^^^^

    policy.toml:4:26: an IPv4 network in the form of IPv6: did you mean "10.0.0.0/8"?
      |
    4 | sources = ["10.1.2.3/8", "::ffff:10.0.0.0/104", "everybody"]
      |                          ^^^^^^^^^^^^^^^^^^^^^

    policy.toml:4:49: expected an address or a network, such as "198.51.100.0/24" or "2001:db8::/32"
      |
    4 | sources = ["10.1.2.3/8", "::ffff:10.0.0.0/104", "everybody"]
      |                                                 ^^^^^^^^^^^

    policy.toml:5:14: expected at least one interface; without `interfaces`, those with a default route count
      |
    5 | interfaces = []
      |              ^^

    policy.toml:6:2: unknown key `fierwall`: did you mean `firewall`?
      |
    6 | [fierwall]
      |  ^^^^^^^^

    policy.toml:9:12: expected `true` or `false`, found a string
      |
    9 |  persist = "yes"
      |            ^^^^^

    policy.toml:10:1: unknown key `attempts` in [firewall]: it stands in [restraint]
       |
    10 | attempts = 3
       | ^^^^^^^^

    policy.toml:11:12: expected some names, not every name; to leave the firewall alone, set its `mode` to "report"
       |
    11 | respect = ["*", "f2b-[a-z]", 7]
       |            ^^^

    policy.toml:11:17: expected only `*` and `?` as wildcards: there are no classes and alternatives
       |
    11 | respect = ["*", "f2b-[a-z]", 7]
       |                 ^^^^^^^^^^^

    policy.toml:11:30: expected the name of a chain, set or table, `*` for any characters and `?` for one, found an integer
       |
    11 | respect = ["*", "f2b-[a-z]", 7]
       |                              ^

    policy.toml:13:12: expected a number of repairs, from 1 to 1000
       |
    13 | attempts = 0
       |            ^

    policy.toml:14:7: expected a duration from 1 second to 30 days, such as "90s", "30m", "1h", "1h30m" or "2d": did you mean "3600s"?
       |
    14 | per = 3600
       |       ^^^^

    policy.toml:16:9: expected the name of a group, such as "adm"
       |
    16 | group = "a dm"
       |         ^^^^^^

    policy.toml:18:11: expected the absolute path of a folder, without `..`
       |
    18 | metrics = "var/../x"
       |           ^^^^^^^^^^
    "#);
}

#[test]
fn what_is_no_toml_is_shown_too_and_its_line_is_not_judged_twice() {
    let text = "[ssh]\nport = \nsources = [\"10.0.0.0/8\"\n\n[firewall\nmode = repair\n[ssh]\nport = 22\nport = 23\n";
    insta::assert_snapshot!(shown(text), @r#"
    policy.toml:2:8: string values must be quoted, expected literal string
      |
    2 | port = 
      |        ^

    policy.toml:5:1: missing comma between array elements, expected `,`
      |
    5 | [firewall
      | ^
    "#);
}

#[test]
fn ports_are_between_1_and_65535() {
    for (value, good) in [("1", true), ("65535", true), ("0", false), ("65536", false), ("-22", false), ("0x16", true)]
    {
        for text in [format!("ssh.port = {value}"), format!("ssh.port = [{value}]")] {
            assert_eq!(parse(&text).is_ok(), good, "{text}");
        }
    }
    assert_eq!(parse("ssh.port = [22, 2222, 22]").unwrap().ssh.ports, [22, 2222]);
    for text in ["ssh.port = []", "ssh.port = \"22\"", "ssh.port = 22.0", "ssh.port = 99999999999999999999"] {
        assert_eq!(parse(text).unwrap_err().len(), 1, "{text}");
    }
}

#[test]
fn durations_have_units_that_fall() {
    for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("1d12h", 129600), ("30d", 2592000)] {
        assert_eq!(parse(&format!("restraint.per = \"{text}\"")).unwrap().restraint.per_seconds, seconds, "{text}");
    }
    for text in ["", "0s", "1", "h", "1h1h", "1m1h", "1 h", "-1h", "31d", "99999999999999999999d", "1h30", "1µ"] {
        assert_eq!(parse(&format!("restraint.per = \"{text}\"")).unwrap_err().len(), 1, "{text}");
    }
}

#[test]
fn carets_stand_under_the_mistake() {
    let long = format!("[ssh]\n{}interfaces = [\"{}/\"]", " ".repeat(30), "ö".repeat(150));
    let mistakes = parse(&long).unwrap_err();
    assert_eq!((mistakes.len(), mistakes[0].line, mistakes[0].column), (1, 2, 45));
    let show = mistakes[0].show("p");
    let lines: Vec<&str> = show.lines().collect();
    assert_eq!(lines[2].chars().nth(lines[3].find('^').unwrap()), Some('"'));
    assert!(lines.iter().all(|l| l.chars().count() <= 120), "{show}");
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    assert_eq!(parse(&"#".repeat(POLICY_LIMIT + 1)).unwrap_err().len(), 1);
    assert!(parse(&"#".repeat(POLICY_LIMIT)).is_ok());
}

#[test]
fn names_are_respected_by_wildcard() {
    let policy = parse("firewall.respect = [\"f2b-*\", \"ban?\"]").unwrap().firewall;
    for (name, respected) in
        [("f2b-sshd", true), ("f2b-", true), ("xf2b-", false), ("ban1", true), ("ban", false), ("ban12", false)]
    {
        assert_eq!(respects(&policy.respect, name), respected, "{name}");
    }
}

fn net() -> impl Strategy<Value = IpNet> {
    let four = (any::<u32>(), 0u8..=32).prop_map(|(a, p)| IpNet::V4(Ipv4Net::new(a.into(), p).unwrap().trunc()));
    let six = (any::<u128>(), 0u8..=128).prop_map(|(a, p)| IpNet::V6(Ipv6Net::new(a.into(), p).unwrap().trunc()));
    let mapped = |n: &IpNet| matches!(n, IpNet::V6(n) if n.addr().to_ipv4_mapped().is_some() && n.prefix_len() >= 96);
    prop_oneof![four, six].prop_filter("an IPv4 network in the form of IPv6", move |n| !mapped(n))
}

fn a_policy() -> impl Strategy<Value = Policy> {
    let ssh = (
        prop::collection::hash_set(1u16.., 1..4),
        option::of(prop::collection::vec(net(), 1..5)),
        option::of(prop::collection::vec("[a-z\"\\\\'#é]{1,7}", 1..3)),
    );
    let mode = || select(MODES.map(|(_, m)| m).to_vec());
    let strategy = select(super::STRATEGIES.map(|(_, s)| s).to_vec());
    let respect = prop::collection::vec("[a-z\"\\\\'#é*?-]{0,9}[a-z]", 0..4);
    let firewall = (mode(), strategy, any::<bool>(), respect, mode(), any::<bool>(), mode());
    let rest = (mode(), mode(), any::<[bool; 4]>(), 1u32..=1000, 1u64..=2592000, mode());
    let report = (option::of("[a-z_][a-z0-9_-]{0,20}"), any::<bool>(), option::of("/[a-z \"\\\\'#é/.]{0,20}[a-z]"));
    let parts = (ssh, firewall, rest, report);
    parts.prop_filter_map("a path with ..", |(ssh, firewall, rest, report)| {
        if report.2.as_ref().is_some_and(|p| p.split('/').any(|part| part == "..")) {
            return None;
        }
        Some(Policy {
            ssh: SshPolicy { ports: ssh.0.into_iter().collect(), sources: ssh.1, interfaces: ssh.2 },
            firewall: FirewallPolicy {
                mode: firewall.0,
                strategy: firewall.1,
                persist: firewall.2,
                respect: firewall.3,
                panic: firewall.4,
                unrehearsed: firewall.5,
                conntrack: firewall.6,
            },
            wrappers: WrappersPolicy { mode: rest.0 },
            sshd: SshdPolicy {
                mode: rest.1,
                unmask: rest.2[0],
                persist: rest.2[1],
                emergency: rest.2[2],
                logins: rest.5,
            },
            disk: DiskPolicy { reserve: rest.2[3] },
            restraint: RestraintPolicy { attempts: rest.3, per_seconds: rest.4 },
            control: ControlPolicy { group: report.0 },
            report: ReportPolicy { console: report.1, metrics: report.2.map(PathBuf::from) },
        })
    })
}

/// Pieces of policies, so that random texts come near to real ones.
fn a_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        select(vec![
            "[ssh]",
            "[firewall]",
            "[",
            "]",
            "=",
            "\n",
            "port",
            "sources",
            "mode",
            " = ",
            "\"",
            "22",
            "\"10.0.0.1/8\"",
            "'",
            "\"\"\"",
            ",",
            "{",
            "}",
            "#",
            "per",
            "[restraint]",
            "\"1h\"",
            "respect",
            "true",
            ".",
            "\r",
            "\t",
            "é",
            "\u{202e}",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn a_policy_that_is_shown_is_read_again(policy in a_policy()) {
        let text = policy.to_toml();
        prop_assert_eq!(parse(&text).map_err(|_| shown(&text)), Ok(policy));
    }

    #[test]
    fn any_text_is_read_or_its_mistakes_have_places(text in a_text()) {
        if let Err(mistakes) = parse(&text) {
            prop_assert!(!mistakes.is_empty());
            for m in &mistakes {
                prop_assert!(m.line >= 1 && m.line <= text.split('\n').count(), "{m}");
                let line = text.split('\n').nth(m.line - 1).unwrap();
                prop_assert!(m.column >= 1 && m.column <= line.chars().count() + 1, "{m} in {line:?}");
                let show = m.show("p");
                prop_assert!(show.contains('^') && !show.contains(['\u{202e}', '\t', '\r']), "{show}");
            }
        }
    }
}
