//! The gate as a whole. What libwrap itself makes of a file is asked in tests/tcpdmatch.rs.

use proptest::prelude::*;

use super::super::fixture::{healthy, ip};
use super::super::paths;
use super::*;
use crate::facts::{AddrSet, Binary};

fn host(allow: &str, deny: &str) -> Snapshot {
    let file = |path: &str, text: &str| Seen::Present(TextFile { path: path.into(), bytes: text.into() });
    let mut snapshot = healthy();
    snapshot.wrappers.allow = file("/etc/hosts.allow", allow);
    snapshot.wrappers.deny = file("/etc/hosts.deny", deny);
    snapshot
}

fn gate(family: Family, snapshot: &Snapshot) -> PathVerdict {
    let path = paths(&Policy::default(), &snapshot.net).into_iter().find(|p| p.family == family).expect("a path");
    let mut verdict = PathVerdict::open(path);
    wrappers(&mut verdict, snapshot);
    verdict
}

fn gate4(allow: &str, deny: &str) -> PathVerdict {
    gate(Family::Ipv4, &host(allow, deny))
}

fn codes(snapshot: &Snapshot) -> Vec<(&'static str, Severity)> {
    findings(&Policy::default(), snapshot).iter().map(|f| (f.code, f.severity)).collect()
}

#[test]
fn a_denied_source_is_closed_on_by_its_line() {
    let verdict = gate4("sshd: 10.0.0.0/8\n", "# all the others\nALL: ALL\n");
    assert_eq!(verdict.admitted.words(), ["10.0.0.0/8"]);
    let [blocked] = &verdict.blocked[..] else { panic!("one: {verdict:?}") };
    assert_eq!(
        (blocked.symptom, blocked.by.gate, &*blocked.by.place),
        (Symptom::Closed, Gate::Wrappers, "/etc/hosts.deny")
    );
    assert_eq!(
        (blocked.by.position, blocked.by.rule.as_deref(), blocked.by.respected),
        (Some(2), Some("ALL: ALL"), false)
    );
}

#[test]
fn both_families_are_judged() {
    let snapshot = host("sshd: [2001:db8:1::]/48\n", "ALL: ALL\n");
    assert!(gate(Family::Ipv4, &snapshot).admitted.is_empty());
    assert_eq!(gate(Family::Ipv6, &snapshot).admitted.words(), ["2001:db8:1::/48"]);
}

#[test]
fn bans_of_single_addresses_are_meant_and_told_as_one() {
    let verdict = gate4("", "ALL: 203.0.113.9\nALL: 203.0.113.10 [2001:db8::9]\nsshd: 203.0.113.11\n");
    let [ban] = &verdict.blocked[..] else { panic!("one: {verdict:?}") };
    assert!(ban.by.respected);
    assert_eq!(ban.sources.words(), ["203.0.113.9-203.0.113.11"]);
    assert_eq!(ban.by.rule.as_deref(), Some("ALL: 203.0.113.9 and 2 more such lines"));
    let one = gate4("", "ALL: 203.0.113.9\n");
    assert_eq!(one.blocked[0].by.rule.as_deref(), Some("ALL: 203.0.113.9"));
    let verdict = gate4("", "ALL: 203.0.113.0/24\n");
    assert!(!verdict.blocked[0].by.respected, "a network is no ban");
}

#[test]
fn a_name_leaves_open_who_is_let_in() {
    let verdict = gate4("sshd: .example.com 10.\n", "ALL: ALL\n");
    assert_eq!(verdict.admitted.words(), ["10.0.0.0/8"]);
    assert_eq!(verdict.unknown_sources(), verdict.admitted.complement());
    assert!(verdict.unknown[0].reason.contains(".example.com"), "{verdict:?}");
}

#[test]
fn a_name_that_few_clients_have_bars_few() {
    for deny in ["ALL: PARANOID\n", "sshd: .evil.example\n", "ALL: @blocked\n"] {
        let verdict = gate4("", deny);
        assert!(verdict.reachable().is_full() && verdict.admitted.is_empty() && verdict.unknown.is_empty(), "{deny}");
    }
    for deny in ["ALL: UNKNOWN\n", "ALL: KNOWN\n"] {
        assert!(gate4("", deny).unknown_sources().is_full(), "{deny}");
    }
}

#[test]
fn names_that_are_denied_anyway_leave_nothing_open() {
    let verdict = gate4("", "ALL: .evil.example\nALL: ALL\n");
    assert!(verdict.blocked_sources().is_full());
    assert!(gate4("sshd: .example.com\nsshd: ALL\n", "ALL: ALL\n").admitted.is_full());
}

#[test]
fn whom_one_line_denies_is_told_once_whatever_was_in_doubt_before_it() {
    let verdict = gate4("", "ALL: .evil.example EXCEPT 10.0.0.0/8\nALL: ALL\n");
    let [blocked] = &verdict.blocked[..] else { panic!("one: {verdict:?}") };
    assert!(blocked.sources.is_full() && blocked.by.position == Some(2));
}

#[test]
fn a_line_that_may_let_in_leaves_those_in_no_doubt_whom_it_excepts() {
    let verdict = gate4("sshd: .evil.example : deny\nsshd: .example.com EXCEPT 10.0.0.0/8\n", "");
    assert_eq!(verdict.reachable().words(), ["10.0.0.0/8"]);
    assert_eq!(verdict.unknown_sources(), verdict.reachable().complement());
}

#[test]
fn users_and_commands_leave_open() {
    assert!(gate4("sshd: root@ALL\n", "ALL: ALL\n").unknown_sources().is_full());
    assert!(gate4("sshd: ALL@10.\n", "ALL: ALL\n").unknown.is_empty());
    assert!(gate4("sshd: ALL : aclexec /bin/check %a\n", "ALL: ALL\n").unknown_sources().is_full());
    assert!(gate4("sshd: ALL : user nobody\n", "").unknown_sources().is_full());
    assert!(gate4("sshd: ALL : user nobody : deny\n", "").blocked_sources().is_full());
}

/// Its word is to deny, and so is its error.
#[test]
fn another_user_in_hosts_deny_denies_unless_it_allows() {
    assert!(gate4("", "sshd: ALL : user nobody\n").blocked_sources().is_full());
    assert!(gate4("", "sshd: ALL : user nobody : allow\n").unknown_sources().is_full());
    assert!(gate4("", "sshd: UNKNOWN : user nobody : allow\nALL: ALL\n").unknown_sources().is_full());
}

#[test]
fn options_turn_a_line_round() {
    assert!(gate4("sshd: ALL : deny\n", "").blocked_sources().is_full());
    assert!(gate4("", "sshd: ALL : allow\n").admitted.is_full());
    let verdict = gate4("sshd: ALL : alow\n", "");
    assert!(verdict.blocked_sources().is_full());
    assert_eq!(
        verdict.blocked[0].by.rule.as_deref(),
        Some("sshd: ALL : alow (unknown option `alow`: libwrap then denies)")
    );
    let verdict = gate4("", "sshd: ALL : twist /bin/echo no\n");
    assert_eq!(verdict.blocked[0].symptom, Symptom::Closed);
    assert_eq!(
        verdict.blocked[0].by.rule.as_deref(),
        Some("sshd: ALL : twist /bin/echo no (another program answers in sshd's place)")
    );
}

#[test]
fn the_port_and_the_address_of_this_host_are_known() {
    assert!(gate4("22: ALL\n", "ALL: ALL\n").admitted.is_full());
    assert!(gate4("2222: ALL\n", "ALL: ALL\n").admitted.is_empty());
    assert!(gate4("sshd@192.0.2.10: ALL\n", "ALL: ALL\n").admitted.is_full());
    assert!(gate4("sshd@192.0.2.99: ALL\n", "ALL: ALL\n").admitted.is_empty());
    assert!(gate4("sshd@host.example.com: ALL\n", "ALL: ALL\n").unknown_sources().is_full());
}

#[test]
fn lists_in_files_are_followed() {
    let mut snapshot = host("sshd: /etc/admins\n", "ALL: ALL\n");
    let admitted = |snapshot: &Snapshot| gate(Family::Ipv4, snapshot);
    assert!(admitted(&snapshot).unknown_sources().is_full(), "not read");
    snapshot.wrappers.lists = vec![
        ("/etc/admins".into(), Seen::Present(b"10.1.2.3\n/etc/more".to_vec())),
        ("/etc/more".into(), Seen::Present(b"192.168.*".to_vec())),
    ];
    assert_eq!(admitted(&snapshot).admitted.words(), ["10.1.2.3", "192.168.0.0/16"]);
    snapshot.wrappers.lists[1].1 = Seen::Absent;
    assert_eq!(admitted(&snapshot).admitted.words(), ["10.1.2.3"]);
    snapshot.wrappers.lists[1].1 = Seen::Present(b"/etc/admins".to_vec());
    assert_eq!(admitted(&snapshot).admitted.words(), ["10.1.2.3"], "a circle ends");
}

#[test]
fn a_broken_line_of_hosts_deny_denies_everybody() {
    let verdict = gate4("sshd: 10.\n", "# no newline");
    assert_eq!(verdict.admitted.words(), ["10.0.0.0/8"]);
    assert_eq!(verdict.blocked[0].by.position, Some(1));
    assert_eq!(codes(&host("", "# no newline")), [("wrappers.line.broken", Severity::Warning)]);
    assert!(gate4("# no newline", "").admitted.is_full());
}

#[test]
fn an_sshd_without_libwrap_asks_nobody() {
    let mut snapshot = host("", "ALL: ALL\n");
    snapshot.sshd.binary =
        Seen::Present(Binary { path: "/usr/sbin/sshd".into(), needed: vec!["libc.so.6".into()], version: None });
    assert!(gate(Family::Ipv4, &snapshot).admitted.is_full());
    assert_eq!(codes(&snapshot), [("wrappers.unused", Severity::Info)]);
    snapshot.sshd.binary = Seen::Unreadable("open /usr/sbin/sshd: permission denied".into());
    assert!(gate(Family::Ipv4, &snapshot).unknown_sources().is_full());
}

#[test]
fn a_file_that_cannot_be_read_leaves_open() {
    let mut snapshot = host("sshd: 10.\n", "");
    snapshot.wrappers.deny = Seen::Unreadable("open /etc/hosts.deny: permission denied".into());
    let verdict = gate(Family::Ipv4, &snapshot);
    assert_eq!(verdict.admitted.words(), ["10.0.0.0/8"]);
    assert_eq!(verdict.unknown_sources(), verdict.admitted.complement());
    assert_eq!(codes(&snapshot), [("wrappers.unreadable", Severity::Warning)]);
    let by = &verdict.unknown[0].by;
    assert_eq!((&*by.place, by.position, by.rule.as_deref()), ("/etc/hosts.deny", None, None));
}

#[test]
fn odd_lines_are_named() {
    assert_eq!(codes(&host("sshd ALL\n", "")), []);
    assert_eq!(codes(&host("sshd ALL\nsshd: ALL\n", "")), [("wrappers.line.skipped", Severity::Info)]);
    assert_eq!(codes(&host("sshd: 10. : bogus\n", "")), [("wrappers.option.bad", Severity::Warning)]);
}

/// hosts_options(5), and what the options are read with in options.c.
#[test]
fn options_are_taken_or_refused_by_their_values() {
    let taken = [
        "nice",
        "nice 5",
        "nice=-7",
        "rfc931",
        "rfc931 5",
        "severity info",
        "severity auth.info",
        "severity LOCAL7.Crit",
        "umask 022",
        "umask 777",
        "umask 00777",
        "linger 0",
        "linger +3",
        "setenv A b=c",
        "keepalive",
        "banners /x",
    ];
    for option in taken {
        assert_eq!(options::effect(option.as_bytes()), options::Effect::File, "{option}");
    }
    let refused = [
        "nice x",
        "rfc931 0",
        "rfc931 -1",
        "rfc931 x",
        "severity auth",
        "severity auth.none",
        "severity none.info",
        "umask 1000",
        "umask -1",
        "umask 8",
        "umask",
        "linger -1",
        "linger x",
        "linger",
        "banners",
        "twist",
        "setenv A=B c",
        "keepalive yes",
        "allow : keepalive",
        "=x",
    ];
    for option in refused {
        let effect = options::effect(option.as_bytes());
        assert!(matches!(effect, options::Effect::Error(_)), "{option}: {effect:?}");
    }
}

#[test]
fn the_end_of_an_address_is_a_pattern() {
    let barred = gate4("", "ALL: .51.100.7\n").blocked_sources();
    assert!(barred.contains(ip("198.51.100.7")) && !barred.contains(ip("198.51.100.17")));
    assert_eq!(barred.count(), 256);
}

#[test]
fn a_network_is_read_as_inet_addr_does() {
    for (net, read) in [("010.0.0.0", "8.0.0.0/8"), ("0x0a.0.0.0", "10.0.0.0/8"), ("10.0.0.0", "10.0.0.0/8")] {
        assert_eq!(gate4("", &format!("ALL: {net}/255.0.0.0\n")).blocked_sources().words(), [read], "{net}");
    }
}

/// What inet_addr(3) takes for no address matches nobody.
#[test]
fn a_network_that_is_no_dotted_quad_matches_nobody() {
    for pattern in ["10.0.0.0.0/8", "10.0.0.1/255.255.255.255"] {
        assert_eq!(gate4("", &format!("ALL: {pattern}\n")).blocked, [], "{pattern}");
    }
    assert_eq!(gate4("", "ALL: 10.0.0.0/8\n").blocked_sources().words(), ["10.0.0.0/8"]);
}

/// hosts_access(5), "Patterns".
#[test]
fn a_pattern_matches_a_text() {
    for (pattern, text, wanted) in [
        (".tue.nl", "wzv.win.tue.nl", true),
        (".tue.nl", ".tue.nl", false),
        (".tue.nl", "wzv.win.tue.be", false),
        ("131.155.", "131.155.1.2", true),
        ("131.155.", "131.15.1.2", false),
        ("ALL", "anything", true),
        ("KNOWN", "host.example", true),
        ("KNOWN", "unknown", false),
        ("[2001:db8::1]", "2001:db8:0::1", true),
        ("[2001:db8::1]", "2001:db8::2", false),
        ("[2001:db8::1]", "host.example", false),
        ("192.0.2.7", "::ffff:192.0.2.7", true),
        ("SSHD", "sshd", true),
        ("ssh", "sshd", false),
    ] {
        assert_eq!(pattern::string(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
    }
}

#[test]
fn a_wildcard_over_ipv6_is_a_prefix_or_left_open() {
    let of = |client: &str| {
        // In a line a `:` would end the clients: such patterns stand in lists of their own.
        let mut snapshot = host("sshd: /etc/clients\n", "ALL: ALL\n");
        snapshot.wrappers.lists = vec![("/etc/clients".into(), Seen::Present(client.as_bytes().to_vec()))];
        let verdict = gate(Family::Ipv6, &snapshot);
        (verdict.admitted.words().join(" "), verdict.unknown_sources().is_full())
    };
    let sure = |text: &str| (text.to_owned(), false);
    let open = || (String::new(), true);
    for (pattern, wanted) in [
        ("*", sure("::/0")),
        ("2001:*", sure("2001::/16")),
        ("2001:2:*", sure("2001:2::/32")),
        ("1:2:3:4:5:6:*", sure("1:2:3:4:5:6::/96")),
        ("[2001:db8::9]", sure("2001:db8::9")),
        // No text of an address begins like that.
        ("12345*", sure("")),
        ("12345:*", sure("")),
        ("192.168.*", sure("")),
        // What is left open: a group that may be longer or is written in another way, and what is no prefix.
        ("1234*", open()),
        ("2001:2*", open()),
        ("2001:02:*", open()),
        ("2001:0:*", open()),
        ("2001:*:1", open()),
        ("2001:?", open()),
        ("1:2:3:4:5:6:7:*", open()),
        ("1:2:3:4:5:6:7:8:9:*", open()),
    ] {
        assert_eq!(of(pattern), wanted, "{pattern}");
    }
}

#[test]
fn the_reason_is_that_of_the_first_pattern_on_which_it_depends() {
    let reason = |allow: &str| gate4(allow, "ALL: ALL\n").unknown[0].reason.clone();
    assert_eq!(reason("sshd: .a.example .b.example\n"), "whether the client's name in DNS matches .a.example");
    assert_eq!(reason("sshd: @trusted\n"), "netgroup @trusted is not looked up");
    assert_eq!(reason("sshd: LOCAL\n"), "whether the client's name has no dot (LOCAL)");
    let two = gate4("sshd: 10. : aclexec /bin/a\nsshd: 11. : aclexec /bin/b\n", "ALL: ALL\n");
    let told: Vec<_> = two.unknown.iter().map(|o| (o.sources.to_string(), o.reason.as_str())).collect();
    assert_eq!(
        told,
        [
            ("10.0.0.0/8".to_owned(), "what the command `/bin/a` says"),
            ("11.0.0.0/8".to_owned(), "what the command `/bin/b` says"),
        ]
    );
}

#[test]
fn a_doubt_about_many_is_not_made_one_about_few() {
    for deny in ["ALL: .evil.example KNOWN\n", "ALL: .evil.example\nALL: KNOWN\n"] {
        assert!(gate4("", deny).unknown_sources().is_full(), "{deny}");
    }
    assert!(gate4("sshd: .example.com : user nobody\n", "").unknown_sources().is_full());
    let but = gate4("", "ALL: 203.0.113.9 EXCEPT 203.0.113.10\n");
    assert!(!but.blocked[0].by.respected, "more than single addresses");
}

/// It was taken for a line that bars the few whose name is "ALL": everybody was said to get in.
#[test]
fn all_but_those_of_a_name_are_not_few() {
    let verdict = gate4("", "ALL: ALL EXCEPT .good.example\n");
    assert!(verdict.reachable().is_empty() && verdict.unknown_sources().is_full(), "{verdict:?}");
    assert_eq!(verdict.unknown[0].reason, "whether the client's name in DNS matches .good.example");
}

/// tcpdmatch(8) finds no name and no netgroup, and runs no command.
#[test]
fn one_client_is_judged_as_tcpdmatch_does() {
    for (allow, wanted) in [
        ("sshd: KNOWN\n", Answer::Denied),
        ("sshd: LOCAL\n", Answer::Denied),
        ("sshd: @trusted\n", Answer::Denied),
        ("sshd: UNKNOWN\n", Answer::Granted),
        ("sshd: ALL : aclexec /bin/false\n", Answer::Granted),
        ("sshd@unknown: ALL\n", Answer::Granted),
        ("sshd@KNOWN: ALL\n", Answer::Denied),
        ("sshd@LOCAL: ALL\n", Answer::Denied),
        ("sshd@10.0.0.9: ALL\n", Answer::Denied),
        ("sshd@10.0.0.0/8: ALL\n", Answer::Denied),
    ] {
        assert_eq!(dry_run(&host(allow, "ALL: ALL\n").wrappers, ip("10.0.0.1")), wanted, "{allow}");
    }
}

#[test]
fn a_long_list_of_bans_is_read() {
    let deny: String =
        (0..20_000u32).map(|n| format!("ALL: {}\n", std::net::Ipv4Addr::from(0x0b00_0000 + 2 * n))).collect();
    let verdict = gate4("", &deny);
    assert_eq!(verdict.blocked.len(), 1);
    assert_eq!(verdict.blocked_sources().count(), 20_000);
}

fn text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "ALL",
        "sshd",
        ":",
        ": ",
        "EXCEPT",
        "10.",
        "10.0.0.0/8",
        "[2001:db8::]/32",
        ".example.com",
        "KNOWN",
        "UNKNOWN",
        "PARANOID",
        "LOCAL",
        "@net",
        "root@",
        "/etc/list",
        "192.168.*",
        "10.0.0.1",
        "allow",
        "deny",
        "twist x",
        "aclexec x",
        "user x",
        "bogus",
        "\n",
        "\n",
        "\n",
        "\\\n",
        " ",
        ",",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|w| w.join(" "))
}

/// Found by fuzzing: three hundred names to the fourth were looked at, for hours.
#[test]
fn a_list_that_names_itself_many_times_is_worked_out() {
    let mut snapshot = host("sshd: /etc/list\n", "ALL: ALL\n");
    let list = format!("{}10.0.0.0/255.0.8.0 203.0.113.9", "/etc/list ".repeat(300));
    snapshot.wrappers.lists = vec![("/etc/list".into(), Seen::Present(list.into_bytes()))];
    let verdict = gate(Family::Ipv4, &snapshot);
    assert!(verdict.admitted.contains(ip("203.0.113.9")) && verdict.unknown_sources().contains(ip("198.51.100.7")));
    assert_eq!(dry_run(&snapshot.wrappers, ip("203.0.113.9")), Answer::Granted);
}

proptest! {
    /// Whatever names turn out to be and commands say: what is sure is so in a dry run as well.
    #[test]
    fn what_is_sure_holds_in_a_dry_run(allow in text(), deny in text(), near in any::<u32>()) {
        let snapshot = host(&allow, &deny);
        let tables = Tables::of(&snapshot.wrappers);
        let files = [("/etc/list".into(), Seen::Present(b"10.0.0.9".to_vec()))];
        let lists = Lists::of(&files);
        let request = |client| Request { family: Family::Ipv4, daemon: DAEMON, server: None, client, lists: &lists };
        let all = access(tables.allow(), tables.deny(), &request(None));
        let mut cover = AddrSet::empty(Family::Ipv4);
        for part in &all {
            prop_assert!(!part.sources.intersects(&cover), "parts overlap");
            cover.union_with(&part.sources);
        }
        prop_assert!(cover.is_full(), "parts do not cover the family");
        let fate = |parts: &[Part], address| parts.iter().find(|p| p.sources.contains(address)).map(|p| p.fate.clone());
        for address in ["10.0.0.1", "10.0.0.9", "10.200.0.1", "192.168.3.4", "203.0.113.1"].map(ip).into_iter().chain([std::net::Ipv4Addr::from(near).into()]) {
            let dry = access(tables.allow(), tables.deny(), &request(Some(address)));
            let (wet, dry) = (fate(&all, address), fate(&dry, address));
            match (wet, dry) {
                (Some(Fate::Granted), dry) => prop_assert_eq!(dry, Some(Fate::Granted)),
                (Some(Fate::Denied { .. } | Fate::Twisted { .. }), dry) => {
                    prop_assert!(matches!(dry, Some(Fate::Denied { .. } | Fate::Twisted { .. })), "{:?}", dry);
                }
                _ => {}
            }
        }
    }
}
