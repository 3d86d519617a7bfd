//! A copy of a ruleset answers as the ruleset does, and lists as it does.

use std::sync::Arc;

use ssh_rescue::facts::{Family, Firewall, IpSet, LegacyRules, NftRules, RawLegacy, RawNft, Seen};
use ssh_rescue::host::{Call, Host, Message, Netlink, Scratch, read_legacy};
use ssh_rescue::rehearse::clone::{IpsetsAsText, firewall, ipsets};
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};
use ssh_rescue::rehearse::ruleset::load;

use super::common::{IFINDEX, net, root, tcp, tool};
use super::corpus::{folder, recorded};

fn dump(netlink: &mut Netlink, kind: u16, body: &[u8]) -> Vec<Vec<u8>> {
    netlink.dump(&Message { kind: 10 << 8 | kind, flags: 0, body: body.to_vec() }).unwrap()
}

/// nf_tables as the calling thread's namespace has it, undecoded.
pub fn raw() -> RawNft {
    let mut netlink = Netlink::netfilter().unwrap();
    let all = [0u8, 0, 0, 0];
    let sets = dump(&mut netlink, 10, &all);
    // Elements are asked for set by set: family, NFTA_SET_ELEM_LIST_TABLE and _SET, which are a set's own first attributes.
    let elements = sets.iter().flat_map(|set| {
        let mut body = vec![set[16], 0, 0, 0];
        let mut rest = &set[20..];
        for _ in 0..2 {
            let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).next_multiple_of(4);
            body.extend(&rest[..length]);
            rest = &rest[length..];
        }
        dump(&mut netlink, 13, &body)
    });
    let elements: Vec<_> = elements.collect();
    RawNft {
        tables: dump(&mut netlink, 1, &all),
        chains: dump(&mut netlink, 4, &all),
        objects: dump(&mut netlink, 19, &all),
        flowtables: dump(&mut netlink, 23, &all),
        rules: dump(&mut netlink, 7, &all),
        sets,
        elements,
    }
}

fn listing(host: &Host) -> String {
    let nft = host.run(&Call::new("nft", &["-s", "list", "ruleset"])).unwrap();
    String::from_utf8(nft.stdout).unwrap()
}

fn only_legacy(family: Family, tables: Vec<RawLegacy>) -> Firewall {
    let rules = Seen::Present(LegacyRules { tables: Vec::new(), raw: Arc::new(tables) });
    let (legacy4, legacy6) = if family == Family::Ipv4 { (rules, Seen::Absent) } else { (Seen::Absent, rules) };
    Firewall { nft: Seen::Absent, legacy4, legacy6, ipsets: Seen::Absent, outside: Vec::new() }
}

/// The legacy tables of the calling thread's namespace.
fn legacy(family: Family) -> Vec<RawLegacy> {
    let names = if family == Family::Ipv4 { "ip_tables_names" } else { "ip6_tables_names" };
    let names = std::fs::read_to_string(format!("/proc/thread-self/net/{names}")).unwrap_or_default();
    names.lines().map(|table| read_legacy(family, table).unwrap()).collect()
}

fn legacy_listing(host: &Host, family: Family) -> String {
    let tool = if family == Family::Ipv4 { "iptables-legacy-save" } else { "ip6tables-legacy-save" };
    let output = host.run(&Call::new(tool, &[])).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Tables are listed in the order of their making; comments carry the time.
    let mut tables: Vec<_> = text
        .split_inclusive("COMMIT\n")
        .map(|table| table.lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"))
        .collect();
    tables.sort();
    tables.join("\n")
}

#[test]
fn a_copy_of_every_legacy_ruleset_lists_as_the_original() {
    if !root("clone of legacy tables") {
        return;
    }
    let Some(folder) = folder() else { return };
    let mut copies = 0;
    for truth in recorded(&folder).iter().filter(|t| t.backend.contains("legacy")) {
        let saved = truth.saved(&folder);
        let family = if truth.backend.starts_with("ip6") { Family::Ipv6 } else { Family::Ipv4 };
        let (original, tables) =
            load(&Host::live(), &saved, |host, _| (legacy_listing(host, family), legacy(family))).unwrap();
        assert!(!tables.is_empty(), "{}", truth.file);
        let copy = Host::live()
            .scratch(Scratch::Network, |host| {
                let _layout = set_up(host, &saved.net(), &[saved.place.ifindex], &[])?;
                let made = firewall(host, &only_legacy(family, tables), &IpsetsAsText::default());
                Ok(made.map(|()| legacy_listing(host, family)))
            })
            .unwrap()
            .unwrap_or_else(|e| panic!("{} ({}): {}", truth.file, truth.backend, ssh_rescue::chain(&e)));
        assert!(original == copy, "{} ({}):\n{original}\n--- copy ---\n{copy}", truth.file, truth.backend);
        copies += 1;
    }
    println!("{copies} legacy copies");
    assert!(copies > 50);
}

const RARE: &str = "
table inet t {
    flags dormant
    counter hits { }
    quota much { over 25 mbytes }
    limit slow { rate 400/minute }
    ct timeout short { protocol tcp; l3proto ip; policy = { established: 100, close: 4 } }
    ct expectation later { protocol tcp; dport 9876; timeout 2m; size 12; l3proto ip }
    set seen { type ipv4_addr; size 100; flags dynamic,timeout; timeout 1h; elements = { 192.0.2.1 expires 30m } }
    set nets { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 192.168.0.0/16 comment \"ours\" } }
    set spans { type ipv6_addr . inet_service . mark; flags interval; elements = { 2001:db8::/32 . 20-25 . 0x1-0x2 } }
    map doors { type ipv4_addr . inet_service : verdict; elements = { 198.51.100.1 . 22 : jump other, 198.51.100.2 . 22 : drop } }
    map marks { type ifname : mark; elements = { \"eth0\" : 0x7 } }
    map counted { type ipv4_addr : counter; elements = { 198.51.100.3 : \"hits\" } }
    map with_default { typeof ip saddr : verdict; elements = { 198.51.100.4 : accept, * : continue } }
    chain other { ip saddr 198.51.100.9 reject with icmpx host-unreachable; }
    chain in {
        type filter hook input priority mangle + 3; policy drop;
        quota name \"much\" drop
        limit name \"slow\" accept
        counter name ip saddr map @counted
        ip saddr . tcp dport vmap @doors
        ip saddr vmap @with_default
        update @seen { ip saddr limit rate over 10/second burst 20 packets } drop
        add @seen { ip saddr timeout 5m counter } accept
        ip6 saddr . tcp dport . meta mark @spans accept
        ct mark set meta mark and 0xff or 0x100
        meta mark set iifname map @marks
        tcp dport { 22, 80-90 } ct state new log prefix \"in: \" group 2 accept
        fib saddr . iif oif missing drop
        numgen random mod 4 vmap { 0 : accept, 1-3 : continue }
        jhash ip saddr mod 8 seed 0xdeadbeef 3 accept
        tcp option maxseg size set 1300
        @th,16,16 22 @nh,96,32 & 0xff000000 0x0a000000 accept
        meta hour \"10:00\"-\"12:00\" accept
        ct count over 5 drop
    }
    chain nat { type nat hook prerouting priority dstnat; dnat ip addr . port to tcp dport map { 8080 : 10.0.0.1 . 80 }; }
}
table ip6 nat { chain post { type nat hook postrouting priority srcnat; masquerade random,persistent; }; }
table netdev n { set gone { type ipv4_addr; flags interval; }; chain i { type filter hook ingress devices = { eth0, eth9 } priority 5; ip saddr @gone drop; }; }
table arp a { chain i { type filter hook input priority 0; arp operation request counter; }; }
table bridge b { chain f { type filter hook forward priority 0; ether type ip accept; }; }
";

#[test]
fn a_copy_of_rare_things_lists_as_the_original() {
    if !root("clone of rare things") {
        return;
    }
    let refused = |host: &Host, text: &str| {
        let output = host.run(&Call { stdin: text.as_bytes(), ..Call::new("nft", &["-f", "-"]) }).unwrap();
        (!output.ok()).then(|| String::from_utf8(output.stderr).unwrap())
    };
    let (original, raw) = Host::live()
        .scratch(Scratch::Network, |host| {
            let _layout = set_up(host, &net(65534), &[IFINDEX], &["eth9".into()])?;
            let mut text = RARE.to_owned();
            // Without what this kernel or this nft does not have.
            while let Some(complaint) = refused(host, &text) {
                let line: usize = complaint.split(':').nth(1).unwrap().parse().unwrap();
                let mut lines: Vec<_> = text.lines().collect();
                println!("without {}", lines.remove(line - 1));
                text = lines.join("\n") + "\n";
            }
            Ok((listing(host), raw()))
        })
        .unwrap();
    assert!(original.lines().count() > 60, "{original}");
    let copy = Host::live()
        .scratch(Scratch::Network, |host| {
            let _layout = set_up(host, &net(65534), &[IFINDEX], &["eth9".into()])?;
            Ok(firewall(host, &only_nft(raw), &IpsetsAsText::default()).map(|()| listing(host)))
        })
        .unwrap()
        .unwrap_or_else(|e| panic!("{}", ssh_rescue::chain(&e)));
    let plain = |text: &str| text.lines().map(|l| l.split(" expires ").next().unwrap().to_owned()).collect::<Vec<_>>();
    for (original, copy) in plain(&original).iter().zip(plain(&copy)) {
        assert_eq!(*original, copy);
    }
    assert_eq!(plain(&original).len(), plain(&copy).len());
}

#[test]
fn an_anonymous_chain_is_copied_as_a_named_one() {
    if !root("clone of an anonymous chain") {
        return;
    }
    let rules =
        "table inet t { chain in { type filter hook input priority 0; ip saddr 198.51.100.7 jump { drop; }; }; }";
    let raw = Host::live()
        .scratch(Scratch::Network, |host| {
            tool(host, "nft", &["-f", "-"], rules);
            Ok(raw())
        })
        .unwrap();
    let answers = Host::live()
        .scratch(Scratch::Network, |host| {
            let mut layout = set_up(host, &net(65534), &[IFINDEX], &[])?;
            firewall(host, &only_nft(raw), &IpsetsAsText::default()).unwrap();
            let listeners = Listeners::open(&[22], &[]).unwrap();
            let flows = ["198.51.100.7", "198.51.100.8"].map(|s| tcp(s, 40000, 22));
            Ok(ask(&mut layout.uplinks[0], &listeners, &flows).unwrap())
        })
        .unwrap();
    assert_eq!(answers, [Answer::Silent, Answer::Open(22)]);
}

#[test]
fn a_copy_keeps_the_numbers_of_ipsets() {
    if !root("clone of ipsets") {
        return;
    }
    let rules = "*filter\n-A INPUT -p tcp --dport 22 -m set --match-set barred src -j DROP\nCOMMIT\n";
    let member = |name: &str, index| IpSet {
        name: name.into(),
        index,
        type_name: "hash:ip".into(),
        family: Some(Family::Ipv4),
        members: Vec::new(),
        opaque: None,
    };
    let answers = Host::live()
        .scratch(Scratch::Network, |host| {
            let ipset = "create gone hash:ip\ncreate other hash:ip\ncreate barred hash:net\n\
                         add barred 198.51.100.0/24\nadd other 203.0.113.1\ndestroy gone\n";
            tool(host, "ipset", &["restore"], ipset);
            tool(host, "iptables-legacy-restore", &[], rules);
            let mut firewall_here = only_legacy(Family::Ipv4, legacy(Family::Ipv4));
            firewall_here.ipsets = Seen::Present(vec![member("other", 1), member("barred", 2)]);
            let sets = ipsets(host, &firewall_here).unwrap();
            host.scratch(Scratch::Network, |host| {
                let mut layout = set_up(host, &net(65534), &[IFINDEX], &[])?;
                firewall(host, &firewall_here, &sets).unwrap();
                let listeners = Listeners::open(&[22], &[]).unwrap();
                let flows = ["198.51.100.9", "203.0.113.1", "198.51.101.1"].map(|s| tcp(s, 40000, 22));
                Ok(ask(&mut layout.uplinks[0], &listeners, &flows).unwrap())
            })
        })
        .unwrap();
    assert_eq!(answers, [Answer::Silent, Answer::Open(22), Answer::Open(22)]);
}

fn only_nft(raw: RawNft) -> Firewall {
    Firewall {
        nft: Seen::Present(NftRules { generation: 0, tables: Vec::new(), raw: Arc::new(raw) }),
        legacy4: Seen::Absent,
        legacy6: Seen::Absent,
        ipsets: Seen::Absent,
        outside: Vec::new(),
    }
}

#[test]
fn a_copy_of_every_nf_tables_ruleset_lists_as_the_original() {
    if !root("clone") {
        return;
    }
    let Some(folder) = folder() else { return };
    let mut copies = 0;
    for truth in recorded(&folder).iter().filter(|t| !t.backend.contains("legacy")) {
        let saved = truth.saved(&folder);
        let (original, raw) = load(&Host::live(), &saved, |host, _| (listing(host), raw())).unwrap();
        let copy = Host::live()
            .scratch(Scratch::Network, |host| {
                let _layout = set_up(host, &saved.net(), &[saved.place.ifindex], &[])?;
                Ok(firewall(host, &only_nft(raw), &IpsetsAsText::default()).map(|()| listing(host)))
            })
            .unwrap()
            .unwrap_or_else(|e| panic!("{} ({}): {}", truth.file, truth.backend, ssh_rescue::chain(&e)));
        assert!(original == copy, "{} ({}):\n{original}\n--- copy ---\n{copy}", truth.file, truth.backend);
        copies += 1;
    }
    println!("{copies} copies");
    assert!(copies > 70);
}
