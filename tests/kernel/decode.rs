//! What is read from the kernel, against what the tools list.

use serde_json::Value;
use ssh_rescue::facts::{
    Backend, ChainKind, ElementData, ElementKey, Expr, Family, Firewall, Hook, Language, Net, Policy, Seen, Table,
    TableFamily, Verdict, XtMatch, XtTarget, number,
};
use ssh_rescue::host::{Call, Host};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net;
use ssh_rescue::rehearse::ruleset::load;

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, root, tool};
use super::corpus::{folder, recorded};
use super::generate::case;
use super::generated::loaded;

fn tun() -> Net {
    const ARPHRD_NONE: u16 = 65534;
    super::common::net(ARPHRD_NONE)
}

fn nft_tables(firewall: &Firewall) -> &[Table] {
    match &firewall.nft {
        Seen::Present(rules) => &rules.tables,
        other => panic!("{other:?}"),
    }
}

fn unknown(firewall: &Firewall) -> Vec<String> {
    let rules = firewall.tables().flat_map(|t| &t.chains).flat_map(|c| c.rules.iter());
    let names = rules.flat_map(|r| &r.exprs).filter_map(|e| match e {
        Expr::Unknown { name }
        | Expr::XtMatch(XtMatch::Unknown { name })
        | Expr::XtTarget(XtTarget::Unknown { name }) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// How many objects of a kind `nft -j list ruleset` shows.
fn listed(host: &Host) -> impl Fn(&str) -> usize {
    let output = host.run(&Call::new("nft", &["-j", "list", "ruleset"])).unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    move |kind| list["nftables"].as_array().unwrap().iter().filter(|o| o.get(kind).is_some()).count()
}

fn compare(host: &Host, what: &str) {
    let seen = firewall(host);
    let tables = nft_tables(&seen);
    let count = listed(host);
    let chains = || tables.iter().flat_map(|t| &t.chains);
    assert_eq!(tables.len(), count("table"), "{what}");
    assert_eq!(chains().count(), count("chain"), "{what}");
    assert_eq!(chains().map(|c| c.rules.len()).sum::<usize>(), count("rule"), "{what}");
    assert_eq!(unknown(&seen), Vec::<String>::new(), "{what}");
    for (legacy, save) in [(&seen.legacy4, "iptables-legacy-save"), (&seen.legacy6, "ip6tables-legacy-save")] {
        let tables = legacy.present().map_or(&[][..], |rules| &rules.tables);
        let output = host.run(&Call::new(save, &[])).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let count = |first| text.lines().filter(|l| l.starts_with(first)).count();
        let chains = || tables.iter().flat_map(|t| &t.chains);
        assert_eq!(tables.len(), count('*'), "{what}: {save}");
        assert_eq!(chains().count(), count(':'), "{what}: {save}");
        assert_eq!(chains().map(|c| c.rules.len()).sum::<usize>(), count('-'), "{what}: {save}");
        for chain in chains() {
            let policy = chain.base.as_ref().map_or("-", |b| if b.policy == Policy::Drop { "DROP" } else { "ACCEPT" });
            assert!(text.contains(&format!(":{} {policy} ", chain.name)), "{what}: {save}: {} {policy}", chain.name);
        }
    }
}

#[test]
fn generated_rulesets_are_read_whole() {
    if !root("decode of generated rulesets") {
        return;
    }
    for seed in 0..300 {
        let mut case = case(seed);
        loaded(&case.net, &mut case.scripts, |host, _| compare(host, &format!("seed {seed}")))
            .unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
    }
}

#[test]
fn links_addresses_and_routes_are_read() {
    if !root("decode of links") {
        return;
    }
    let net = loaded(&tun(), &mut [], |host, _| net(host)).unwrap();
    let links = net.links.present().unwrap();
    let eth0 = links.iter().find(|l| l.name == "eth0").unwrap();
    assert!(eth0.index == IFINDEX && eth0.up && !eth0.loopback && !eth0.xdp, "{eth0:?}");
    assert_eq!(eth0.driver.as_deref(), Some("tun"));
    let addresses = net.addresses.present().unwrap();
    for wanted in [ADDRESS4, ADDRESS6] {
        let own = addresses.iter().find(|a| a.address.to_string() == wanted).unwrap();
        assert!(own.interface == IFINDEX && own.global && !own.tentative, "{own:?}");
    }
    let routes = net.routes.present().unwrap();
    let defaults: Vec<_> = routes.iter().filter(|r| r.is_default()).collect();
    assert!(defaults.len() == 2 && defaults.iter().all(|r| r.interfaces == [IFINDEX]), "{defaults:?}");
    assert!(!net.policy_routing);
    assert!(net.rp_filter.iter().any(|(name, _)| name == "eth0"));
}

/// Each rule in words, and as its own tool lists it.
fn words(host: &Host) -> Vec<(String, String)> {
    let seen = firewall(host);
    let mut pairs = Vec::new();
    for table in seen.tables() {
        let six = if table.family == TableFamily::Ip6 { "6" } else { "" };
        let family = table.family.to_string();
        for chain in &table.chains {
            let listed: Vec<String> = if table.is_iptables() {
                let backend = if table.backend == Backend::Nft { "nft" } else { "legacy" };
                let tool = format!("ip{six}tables-{backend}");
                let output = host.run(&Call::new(&tool, &["-t", &table.name, "-S", &chain.name])).unwrap();
                if !output.ok() {
                    // Native expressions, of which iptables-nft makes no sense.
                    continue;
                }
                let prefix = format!("-A {}", chain.name);
                let text = String::from_utf8(output.stdout).unwrap();
                text.lines().filter_map(|l| l.strip_prefix(&prefix)).map(|l| l.trim_start().to_owned()).collect()
            } else {
                let args = ["-s", "list", "chain", &family, &table.name, &chain.name];
                let text = String::from_utf8(host.run(&Call::new("nft", &args)).unwrap().stdout).unwrap();
                let rule = |l: &&str| l.starts_with("\t\t") && !l.starts_with("\t\ttype ");
                text.lines().filter(rule).map(|l| l.trim().to_owned()).collect()
            };
            assert_eq!(chain.rules.len(), listed.len(), "{} {} {}", family, table.name, chain.name);
            pairs.extend(chain.rules.iter().map(|rule| rule.words(&Language::of(table))).zip(listed));
        }
    }
    pairs
}

#[test]
fn every_saved_ruleset_is_read_whole_and_told_as_its_tool_does() {
    if !root("decode of the corpus") {
        return;
    }
    let Some(folder) = folder() else { return };
    let (mut rules, mut same) = (0, 0);
    for truth in recorded(&folder) {
        let pairs = load(&Host::live(), &truth.saved(&folder), |host, _| {
            compare(host, &format!("{} {}", truth.file, truth.backend));
            words(host)
        })
        .unwrap_or_else(|e| panic!("{}: {}", truth.file, ssh_rescue::chain(&e)));
        rules += pairs.len();
        same += pairs.iter().filter(|(words, listed)| words == listed).count();
    }
    println!("{rules} rules, {same} of them word by word");
    // Not told: options of targets that let the packet go on, times of day, concatenated loads.
    assert!(rules > 5000 && same * 100 > rules * 93, "{same} of {rules}");
}

const IPSETS: &str = "
create gone hash:ip
create ip hash:ip timeout 600
create masked hash:ip netmask 24
create net hash:net
create net6 hash:net family inet6
create ipport hash:ip,port
create netiface hash:net,iface
create ipportnet hash:ip,port,net
create mac hash:mac
create bip bitmap:ip range 192.0.2.0/24
create bport bitmap:port range 1-100
create all list:set
create two hash:net,net
create mark hash:ip,mark
add ip 192.0.2.1
add ip 192.0.2.2 timeout 0
add masked 192.0.2.77
add net 10.0.0.0/8
add net 10.1.0.0/16 nomatch
add net6 2001:db8::/32
add ipport 192.0.2.1,tcp:22
add netiface 192.0.2.0/24,eth0
add ipportnet 192.0.2.1,udp:53,198.51.100.0/24
add mac 02:00:00:00:00:01
add bip 192.0.2.5
add bport 22-23
add all net
add all ip
add two 192.0.2.0/24,198.51.100.0/25
add mark 192.0.2.9,0x63
destroy gone
";

#[test]
fn ipsets_of_every_type_are_read() {
    if !root("decode of ipsets") {
        return;
    }
    let sets = loaded(&tun(), &mut [], |host, _| {
        for line in IPSETS.lines().filter(|l| !l.is_empty()) {
            let output = host.run(&Call { stdin: line.as_bytes(), ..Call::new("ipset", &["restore"]) }).unwrap();
            let missing = ["set type not supported", "does not exist"].iter().any(|c| output.complaint().contains(c));
            assert!(output.ok() || missing, "{line}: {}", output.complaint());
            if !output.ok() {
                println!("without {line}");
            }
        }
        match firewall(host).ipsets {
            Seen::Present(sets) => sets,
            other => panic!("{other:?}"),
        }
    })
    .unwrap();
    let set = |name: &str| sets.iter().find(|s| s.name == name).unwrap();
    let v4 = |first: &str, last: &str| -> Option<(u128, u128)> {
        Some((number(first.parse().unwrap()), number(last.parse().unwrap())))
    };
    assert!(sets.iter().all(|s| s.opaque.is_none()), "{sets:?}");
    let indices: Vec<u16> = ["ip", "masked", "net"].iter().map(|n| set(n).index).collect();
    assert!(indices.windows(2).all(|w| w[0] + 1 == w[1]), "{indices:?}");
    assert_eq!(
        (set("net").family, set("net6").family, set("all").family),
        (Some(Family::Ipv4), Some(Family::Ipv6), None)
    );
    let mut timeouts: Vec<_> = set("ip").members.iter().map(|m| (m.address, m.has_timeout)).collect();
    timeouts.sort();
    assert_eq!(timeouts, [(v4("192.0.2.1", "192.0.2.1"), true), (v4("192.0.2.2", "192.0.2.2"), false)]);
    assert_eq!(set("masked").members[0].address, v4("192.0.2.0", "192.0.2.255"));
    let mut nets: Vec<_> = set("net").members.iter().map(|m| (m.address, m.nomatch)).collect();
    nets.sort();
    assert_eq!(nets, [(v4("10.0.0.0", "10.255.255.255"), false), (v4("10.1.0.0", "10.1.255.255"), true)]);
    assert_eq!(set("net6").members[0].address, v4("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"));
    let one = |name: &str| set(name).members[0].clone();
    assert_eq!((one("ipport").proto, one("ipport").port), (Some(6), Some((22, 22))));
    assert_eq!(one("netiface").interface.as_deref(), Some("eth0"));
    let third = one("ipportnet");
    assert_eq!(
        (third.proto, third.port, third.address2),
        (Some(17), Some((53, 53)), v4("198.51.100.0", "198.51.100.255"))
    );
    assert_eq!(one("bip").address, v4("192.0.2.5", "192.0.2.5"));
    let ports: Vec<_> = set("bport").members.iter().map(|m| m.port).collect();
    assert_eq!(ports, [Some((22, 22)), Some((23, 23))]);
    let names: Vec<_> = set("all").members.iter().map(|m| m.set.as_deref()).collect();
    assert_eq!(names, [Some("net"), Some("ip")]);
    let has = |name: &str| sets.iter().any(|s| s.name == name);
    if has("mac") {
        assert_eq!(one("mac").mac, Some([2, 0, 0, 0, 0, 1]));
    }
    if has("two") {
        assert_eq!(one("two").address2, v4("198.51.100.0", "198.51.100.127"));
    }
    if has("mark") {
        assert_eq!(one("mark").mark, Some(0x63));
    }
}

#[test]
fn a_set_of_many_members_is_read_whole() {
    if !root("decode of a large ipset") {
        return;
    }
    let members: String = (0..20_000).map(|n| format!("add many 10.0.{}.{}\n", n / 256, n % 256)).collect();
    let sets = loaded(&tun(), &mut [], |host, _| {
        tool(host, "ipset", &["restore"], &format!("create many hash:ip\n{members}create last hash:ip\n"));
        firewall(host).ipsets
    })
    .unwrap();
    let sizes: Vec<_> = sets.present().unwrap().iter().map(|s| (s.name.as_str(), s.members.len())).collect();
    assert_eq!(sizes, [("many", 20_000), ("last", 0)]);
}

#[test]
fn what_is_outside_netfilter_is_named() {
    if !root("detection of traffic control and IPsec") {
        return;
    }
    let (before, after) = loaded(&tun(), &mut [], |host, _| {
        let before = firewall(host).outside;
        tool(host, "tc", &["qdisc", "add", "dev", "eth0", "clsact"], "");
        let program = ["filter", "add", "dev", "eth0", "ingress", "bpf", "direct-action", "bytecode", "1,6 0 0 0"];
        tool(host, "tc", &program, "");
        let policy =
            ["xfrm", "policy", "add", "src", "198.51.100.0/24", "dst", "0.0.0.0/0", "dir", "in", "action", "block"];
        tool(host, "ip", &policy, "");
        (before, firewall(host).outside)
    })
    .unwrap();
    assert_eq!(before, []);
    let kinds: Vec<_> = after.iter().map(|o| (o.kind, o.place.as_str())).collect();
    assert_eq!(kinds, [("tc-ingress", "eth0"), ("xfrm", "IPsec policies")]);
}

const SETS: &str = "
table inet t {
    set singles { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.9 }; }
    set ranges { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 11.0.0.0-11.0.0.5, 192.0.2.1, 224.0.0.0/3 }; }
    set ports { type inet_service; flags interval; elements = { 0-10, 11, 60000-65535 }; }
    set marks { type mark; flags interval; elements = { 1-256, 4096 }; }
    set names { type ifname; elements = { eth0, eth1 }; }
    set pairs { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.0/8 . 22-23, 192.0.2.1 . 80 }; }
    set gone { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 1h, 192.0.2.2 timeout 10ms }; }
    map verdicts { type ipv4_addr : verdict; flags interval; elements = { 10.0.0.0/8 : drop, 11.0.0.1 : jump c }; }
    map values { type inet_service : mark; elements = { 22 : 7 }; }
    set counted { type ipv4_addr; counter; elements = { 192.0.2.1 }; }
    chain c { }
}
";

#[test]
fn sets_of_every_shape_are_read() {
    if !root("decode of sets") {
        return;
    }
    let seen = loaded(&tun(), &mut [], |host, _| {
        tool(host, "nft", &["-f", "-"], SETS);
        std::thread::sleep(std::time::Duration::from_millis(50));
        firewall(host)
    })
    .unwrap();
    let table = &nft_tables(&seen)[0];
    let keys = |name: &str| {
        let mut keys: Vec<_> = table.set(name).unwrap().elements.iter().map(|e| e.key.clone()).collect();
        keys.sort_by_key(|k| k.first().map(<[u8]>::to_vec));
        keys
    };
    let one = |bytes: &[u8]| ElementKey::One(bytes.to_vec().into());
    let range = |first: &[u8], last: &[u8]| ElementKey::Range(first.into(), last.into());
    assert_eq!(keys("singles"), [one(&[192, 0, 2, 1]), one(&[192, 0, 2, 9])]);
    assert_eq!(
        keys("ranges"),
        [
            range(&[10, 0, 0, 0], &[10, 255, 255, 255]),
            range(&[11, 0, 0, 0], &[11, 0, 0, 5]),
            one(&[192, 0, 2, 1]),
            range(&[224, 0, 0, 0], &[255; 4])
        ]
    );
    assert_eq!(keys("ports"), [range(&[0, 0], &[0, 10]), one(&[0, 11]), range(&[0xea, 0x60], &[0xff, 0xff])]);
    // Intervals are kept big-endian, whatever the type's own order.
    assert_eq!(keys("marks"), [range(&[0, 0, 0, 1], &[0, 0, 1, 0]), one(&[0, 0, 16, 0])]);
    let padded = |name: &str| one(&[name.as_bytes(), &[0; 12]].concat());
    assert_eq!(keys("names"), [padded("eth0"), padded("eth1")]);
    let pairs = table.set("pairs").unwrap();
    assert_eq!((pairs.fields.as_slice(), pairs.key_len), (&[4, 2][..], 8));
    let pair = range(&[10, 0, 0, 0, 0, 22, 0, 0], &[10, 255, 255, 255, 0, 23, 0, 0]);
    assert_eq!(keys("pairs"), [pair, one(&[192, 0, 2, 1, 0, 80, 0, 0])]);
    assert_eq!(keys("gone"), [one(&[192, 0, 2, 1])]);
    let data = |name: &str| -> Vec<_> {
        let mut elements = table.set(name).unwrap().elements.clone();
        elements.sort_by_key(|e| e.key.first().map(<[u8]>::to_vec));
        elements.into_iter().map(|e| e.data.unwrap()).collect()
    };
    let verdicts = [Verdict::Drop, Verdict::Jump("c".into())].map(ElementData::Verdict);
    assert_eq!(data("verdicts"), verdicts);
    assert_eq!(data("values"), [ElementData::Bytes(7u32.to_ne_bytes().as_slice().into())]);
    let (verdicts, values) = (table.set("verdicts").unwrap(), table.set("values").unwrap());
    assert_eq!((verdicts.is_map, verdicts.data_len, values.is_map, values.data_len), (true, 0, true, 4));
    assert_eq!(table.set("counted").unwrap().elements[0].exprs, [Expr::Counter]);
    assert!(table.set("gone").unwrap().has_timeout && table.set("ranges").unwrap().is_interval);
}

#[test]
fn tables_and_chains_are_read_with_their_flags() {
    if !root("decode of chains") {
        return;
    }
    let rules = "
table inet asleep { flags dormant; chain in { type filter hook input priority 5; policy drop; }; }
table netdev n { chain i { type filter hook ingress devices = { eth0, lo } priority -500; }; }
table ip nat { chain post { type nat hook postrouting priority srcnat; masquerade; }; }
table ip6 m { chain out { type route hook output priority mangle; ip6 daddr ::1 counter goto more comment \"why\"; }; chain more { }; }
";
    let seen = loaded(&tun(), &mut [], |host, _| {
        tool(host, "nft", &["-f", "-"], rules);
        firewall(host)
    })
    .unwrap();
    let base = |family, table: &str, chain: &str| {
        let found = seen.table(Backend::Nft, family, table).unwrap().chain(chain).unwrap();
        let base = found.base.clone().unwrap();
        (base.hook, base.kind, base.priority, base.policy, base.devices)
    };
    let none = Vec::<String>::new;
    let input = base(TableFamily::Inet, "asleep", "in");
    assert_eq!(input, (Hook::Input, ChainKind::Filter, 5, Policy::Drop, none()));
    assert!(seen.table(Backend::Nft, TableFamily::Inet, "asleep").unwrap().dormant);
    let (hook, _, priority, _, mut devices) = base(TableFamily::Netdev, "n", "i");
    devices.sort();
    assert_eq!((hook, priority, devices), (Hook::Ingress, -500, vec!["eth0".into(), "lo".into()]));
    let post = base(TableFamily::Ip, "nat", "post");
    assert_eq!(post, (Hook::Postrouting, ChainKind::Nat, 100, Policy::Accept, none()));
    let out = base(TableFamily::Ip6, "m", "out");
    assert_eq!(out, (Hook::Output, ChainKind::Route, -150, Policy::Accept, none()));
    let more = seen.table(Backend::Nft, TableFamily::Ip6, "m").unwrap();
    let rule = &more.chain("out").unwrap().rules[0];
    assert_eq!(rule.comment.as_deref(), Some("why"));
    assert_eq!(rule.words(&Language::of(more)), "ip6 daddr ::1 counter goto more comment \"why\"");
    assert!(rule.handle.is_some() && more.chain("more").unwrap().base.is_none());
}
