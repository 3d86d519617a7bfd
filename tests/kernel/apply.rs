//! Accept rules written to real tables: the right rule, at the right place, found again by its tag and taken away.

use ssh_rescue::apply::{insert, iptables, nft};
use ssh_rescue::facts::{Backend, Family, TableFamily};
use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::plan::{Accept, Insert, TableInserts, Traffic};

use super::common::{root, tool};

const ID: &str = "20260101T000000-0001";

fn accept(source: Option<&str>) -> Accept {
    Accept {
        traffic: Traffic::Ssh,
        family: None,
        source: source.map(|s| s.parse().unwrap()),
        port: 22,
        interface: Some("eth0".into()),
        answer: false,
        after: Vec::new(),
    }
}

fn at(backend: Backend, family: TableFamily, table: &str, inserts: Vec<(&str, usize, Accept)>) -> TableInserts {
    let inserts =
        inserts.into_iter().map(|(chain, index, accept)| Insert { chain: chain.into(), index, accept }).collect();
    TableInserts { backend, family, table: table.into(), inserts }
}

fn lines(host: &Host, program: &str, args: &[&str]) -> Vec<String> {
    let output = host.run(&Call::new(program, args)).unwrap();
    assert!(output.ok(), "{program} {args:?}: {}", output.complaint());
    String::from_utf8(output.stdout).unwrap().lines().map(|l| l.trim().to_owned()).collect()
}

fn scratch<T: Send>(work: impl FnOnce(&Host) -> T + Send) -> T {
    Host::live().scratch(Scratch::Host, |host| Ok(work(host))).unwrap()
}

/// The lines of a chain's listing by nft, without what opens and closes it.
fn nft_chain(host: &Host, family: &str, table: &str, chain: &str) -> Vec<String> {
    let all = lines(host, "nft", &["list", "chain", family, table, chain]);
    all.into_iter()
        .filter(|l| !l.is_empty() && !l.starts_with("table") && !l.starts_with("chain") && l != "}")
        .collect()
}

#[test]
fn native_rules_come_to_stand_where_they_should() {
    if !root("insert into nf_tables") {
        return;
    }
    scratch(|host| {
        tool(
            host,
            "nft",
            &["-f", "-"],
            "table inet t {
                chain bans { ip saddr 203.0.113.9 drop; }
                chain in { type filter hook input priority 0; policy drop;
                    ct state established accept
                    tcp dport 80 accept
                    drop
                }
                chain out { type filter hook output priority 0; policy drop; }
            }",
        );
        let narrow = Accept { after: vec!["bans".into()], ..accept(Some("198.51.100.0/25")) };
        let six = accept(Some("2001:db8:100::/64"));
        let answer = Accept { answer: true, family: Some(Family::Ipv4), ..accept(None) };
        let plan = at(
            Backend::Nft,
            TableFamily::Inet,
            "t",
            vec![
                ("in", 2, narrow),
                ("in", 2, six),
                ("in", 0, accept(None)),
                ("in", 7, accept(Some("192.0.2.1/32"))),
                ("out", 0, answer),
            ],
        );
        insert(host, ID, &plan).unwrap();
        let comment = format!("comment \"ssh-rescue:{ID}\"");
        assert_eq!(
            nft_chain(host, "inet", "t", "in"),
            [
                "type filter hook input priority filter; policy drop;",
                &format!("iifname \"eth0\" tcp dport 22 accept {comment}"),
                "ct state established accept",
                "tcp dport 80 accept",
                &format!("iifname \"eth0\" ip6 saddr 2001:db8:100::/64 tcp dport 22 accept {comment}"),
                &format!("iifname \"eth0\" ip saddr 198.51.100.0/25 tcp dport 22 jump bans {comment}"),
                &format!("iifname \"eth0\" ip saddr 198.51.100.0/25 tcp dport 22 accept {comment}"),
                "drop",
                &format!("iifname \"eth0\" ip saddr 192.0.2.1 tcp dport 22 accept {comment}"),
            ]
        );
        assert_eq!(
            nft_chain(host, "inet", "t", "out")[1],
            format!("meta nfproto ipv4 oifname \"eth0\" tcp sport 22 accept {comment}")
        );
        let whole = lines(host, "nft", &["list", "ruleset"]);
        insert(host, ID, &plan).unwrap();
        assert_eq!(lines(host, "nft", &["list", "ruleset"]), whole, "a second time");
        assert_eq!(nft::count(ID, TableFamily::Inet, "t").unwrap(), 6);
        assert_eq!(nft::remove("20260101T000000-0002", TableFamily::Inet, "t").unwrap(), 0);
        assert_eq!(nft::remove(ID, TableFamily::Inet, "t").unwrap(), 6);
        assert_eq!(nft::count(ID, TableFamily::Inet, "t").unwrap(), 0);
        assert_eq!(nft_chain(host, "inet", "t", "in").len(), 4);
        assert_eq!(nft::remove(ID, TableFamily::Inet, "gone").unwrap(), 0);
    });
}

#[test]
fn a_batch_of_an_old_generation_changes_nothing() {
    if !root("a generation that is gone") {
        return;
    }
    scratch(|host| {
        tool(host, "nft", &["-f", "-"], "table ip t { chain in { type filter hook input priority 0; policy drop; }; }");
        let generation = nft::generation().unwrap();
        let plan = at(
            Backend::Nft,
            TableFamily::Ip,
            "t",
            vec![("in", 0, accept(None)), ("in", 1, accept(Some("192.0.2.1/32")))],
        );
        tool(host, "nft", &["add", "rule", "ip", "t", "in", "drop"], "");
        let before = lines(host, "nft", &["list", "ruleset"]);
        let error = nft::insert(Some(generation), ID, &plan).unwrap_err();
        assert!(error.is_overtaken(), "{error:?}");
        assert_eq!(lines(host, "nft", &["list", "ruleset"]), before);
        let generation = nft::generation().unwrap();
        nft::insert(Some(generation), ID, &plan).unwrap();
        assert_eq!(nft::generation().unwrap(), generation + 1, "one commit");
        let far = at(Backend::Nft, TableFamily::Ip, "t", vec![("in", 9, accept(None))]);
        assert!(nft::insert(None, "20260101T000000-0003", &far).unwrap_err().is_overtaken());
    });
}

#[test]
fn a_device_chain_takes_a_rule_for_one_family() {
    if !root("insert into netdev") {
        return;
    }
    scratch(|host| {
        let rules = "table netdev t { chain in { type filter hook ingress device lo priority 0; drop; }; }";
        tool(host, "nft", &["-f", "-"], rules);
        let plan = at(
            Backend::Nft,
            TableFamily::Netdev,
            "t",
            vec![("in", 0, Accept { family: Some(Family::Ipv6), interface: None, ..accept(None) })],
        );
        insert(host, ID, &plan).unwrap();
        let rule = format!("meta protocol ip6 tcp dport 22 accept comment \"ssh-rescue:{ID}\"");
        assert_eq!(nft_chain(host, "netdev", "t", "in")[1..], [rule, "drop".into()]);
    });
}

const SAVED: &str = "*filter\n:INPUT DROP [0:0]\n:bans - [0:0]\n-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT\n-A INPUT -j DROP\nCOMMIT\n";

#[test]
fn tables_of_iptables_are_written_by_iptables() {
    if !root("insert into the tables of iptables") {
        return;
    }
    let cases = [
        ("iptables-nft", Backend::Nft, TableFamily::Ip, "198.51.100.0/24"),
        ("ip6tables-nft", Backend::Nft, TableFamily::Ip6, "2001:db8:100::/64"),
        ("iptables-legacy", Backend::Legacy, TableFamily::Ip, "198.51.100.0/24"),
        ("ip6tables-legacy", Backend::Legacy, TableFamily::Ip6, "2001:db8:100::/64"),
    ];
    for (command, backend, family, source) in cases {
        scratch(|host| {
            tool(host, &format!("{command}-restore"), &[], SAVED);
            let narrow = Accept { after: vec!["bans".into()], ..accept(Some(source)) };
            let plan = at(
                backend,
                family,
                "filter",
                vec![("INPUT", 1, narrow), ("INPUT", 4, accept(None)), ("INPUT", 0, accept(None))],
            );
            insert(host, ID, &plan).unwrap();
            let comment = format!("-m comment --comment \"ssh-rescue:{ID}\"");
            let expected = [
                "-P INPUT DROP".to_owned(),
                format!("-A INPUT -i eth0 -p tcp -m tcp --dport 22 {comment} -j ACCEPT"),
                "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT".to_owned(),
                format!("-A INPUT -s {source} -i eth0 -p tcp -m tcp --dport 22 {comment} -j bans"),
                format!("-A INPUT -s {source} -i eth0 -p tcp -m tcp --dport 22 {comment} -j ACCEPT"),
                "-A INPUT -j DROP".to_owned(),
                format!("-A INPUT -i eth0 -p tcp -m tcp --dport 22 {comment} -j ACCEPT"),
            ];
            assert_eq!(lines(host, command, &["-S", "INPUT"]), expected, "{command}");
            insert(host, ID, &plan).unwrap();
            assert_eq!(lines(host, command, &["-S", "INPUT"]), expected, "{command}, a second time");
            let saved = lines(host, &format!("{command}-save"), &[]);
            assert!(!saved.iter().any(|l| l.contains("incompatible")), "{command}: {saved:?}");
            assert_eq!(iptables::count(host, ID, backend, family, "filter").unwrap(), 4, "{command}");
            assert_eq!(iptables::remove(host, "20260101T000000-0002", backend, family, "filter").unwrap(), 0);
            assert_eq!(iptables::remove(host, ID, backend, family, "filter").unwrap(), 4, "{command}");
            assert_eq!(lines(host, command, &["-S", "INPUT"]).len(), 3, "{command}");
            assert_eq!(iptables::remove(host, ID, backend, family, "filter").unwrap(), 0, "{command}");
            assert_eq!(iptables::remove(host, ID, backend, family, "mangle").unwrap(), 0, "{command}");
        });
    }
}

#[test]
fn a_refused_insert_changes_nothing() {
    if !root("an insert that is refused") {
        return;
    }
    for (command, backend) in [("iptables-nft", Backend::Nft), ("iptables-legacy", Backend::Legacy)] {
        scratch(|host| {
            tool(host, &format!("{command}-restore"), &[], SAVED);
            let before = lines(host, command, &["-S"]);
            let plan =
                at(backend, TableFamily::Ip, "filter", vec![("INPUT", 0, accept(None)), ("INPUT", 9, accept(None))]);
            let error = insert(host, ID, &plan).unwrap_err().to_string();
            assert!(error.contains(&format!("{command}-restore")), "{error}");
            assert_eq!(lines(host, command, &["-S"]), before, "{command}");
        });
    }
}

#[test]
fn a_table_named_as_iptables_names_it_is_mended_with_native_rules_in_it() {
    if !root("a table that iptables cannot read") {
        return;
    }
    scratch(|host| {
        let rules =
            "table ip filter { set s { type ipv4_addr; }; chain INPUT { type filter hook input priority 0; policy drop;
            ip saddr @s accept; tcp dport { 80, 443 } accept; tcp dport vmap { 25: drop, 22: drop }; }; }";
        tool(host, "nft", &["-f", "-"], rules);
        insert(host, ID, &at(Backend::Nft, TableFamily::Ip, "filter", vec![("INPUT", 1, accept(None))])).unwrap();
        let listed = nft_chain(host, "ip", "filter", "INPUT");
        assert!(listed[2].starts_with("iifname \"eth0\" tcp dport 22 ") && listed[2].contains("accept"), "{listed:?}");
        assert_eq!(listed.len(), 5, "{listed:?}");
        assert_eq!(nft::remove(ID, TableFamily::Ip, "filter").unwrap(), 1);
    });
}

#[test]
fn nobody_waits_for_the_legacy_lock_for_ever() {
    if !root("the lock of iptables-legacy") {
        return;
    }
    scratch(|host| {
        tool(host, "iptables-legacy-restore", &[], SAVED);
        let before = lines(host, "iptables-legacy", &["-S"]);
        let file = std::fs::File::create("/run/xtables.lock").unwrap();
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
        let plan = at(Backend::Legacy, TableFamily::Ip, "filter", vec![("INPUT", 0, accept(None))]);
        let error = insert(host, ID, &plan).unwrap_err();
        let told = ssh_rescue::chain(error.as_ref());
        assert!(
            told.contains("/run/xtables.lock") && told.contains(&format!("process {} ", std::process::id())),
            "{told}"
        );
        drop(lock);
        assert_eq!(lines(host, "iptables-legacy", &["-S"]), before);
    });
}
