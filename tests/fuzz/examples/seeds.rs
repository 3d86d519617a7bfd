//! Writes the seeds that come from a kernel (root): `cargo run --example seeds`, in this folder. Those of text are written
//! by hand.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ssh_rescue::decode::{ipset, sock_diag};
use ssh_rescue::facts::{Family, Seen};
use ssh_rescue::host::{Call, Host, Message, NFNL_SUBSYS_IPSET, Netlink, Rtnl, Scratch};
use ssh_rescue::observe::firewall::firewall;

const RULES: &str = "table inet t {
    set nets { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
    set slow { type ipv4_addr; flags dynamic,timeout; timeout 1m; size 128; }
    map verdicts { type inet_service : verdict; elements = { 22 : jump ssh, 80 : accept } }
    set pairs { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/24 . 22-23 } }
    chain ssh {
        ip saddr @nets accept comment \"known\"
        ip6 saddr 2001:db8::/32 tcp flags & (syn | ack) == syn accept
        ct state { new, established } ct mark 7 meta mark set 0x10 counter
        limit rate 6/minute burst 3 packets log prefix \"ssh \" accept
        update @slow { ip saddr limit rate 1/second } reject with tcp reset
        fib saddr . iif oif missing drop
        numgen random mod 3 0 jhash ip saddr mod 2 0 quota over 1 mbytes drop
        ct count over 5 reject with icmpx admin-prohibited
    }
    chain in {
        type filter hook input priority 0; policy drop;
        iifname \"eth*\" meta l4proto tcp tcp dport vmap @verdicts
        ip saddr . tcp dport @pairs meta skuid 0 accept
        ip saddr != { 10.0.0.0/8, 172.16.0.0/12 } goto ssh
        meta time \"2030-01-01\" socket transparent 1 osf name \"Linux\" drop
    }
}
table ip m {
    chain pre { type nat hook prerouting priority -100; tcp dport 22 dnat to 192.0.2.9:2222; tcp dport 2200-2210 redirect to :22; }
    chain post { type nat hook postrouting priority 100; ip saddr 192.0.2.1 masquerade; }
}
table netdev n { chain i { type filter hook ingress device lo priority 0; ip saddr 203.0.113.0/24 drop; }; }
";

const IPTABLES: &str = "*filter
:INPUT DROP [0:0]
:ssh - [0:0]
-A INPUT -p tcp -m tcp --dport 22 --tcp-flags SYN,ACK SYN -j ssh
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m multiport --dports 22,80:90 -m limit --limit 3/min -j LOG --log-prefix \"x \"
-A INPUT -m state --state NEW -m addrtype --dst-type LOCAL -m mark --mark 0x1/0xff -g ssh
-A INPUT -m recent --name SSH --set -m comment --comment \"a comment\" -j MARK --set-xmark 0x1/0x1
-A ssh -m hashlimit --hashlimit-above 6/min --hashlimit-mode srcip --hashlimit-name h -j DROP
-A ssh -m time --timestart 08:00 --timestop 18:00 -m statistic --mode nth --every 3 --packet 0 -j RETURN
-A ssh -m connlimit --connlimit-above 3 -m length --length 40:60 -m pkttype --pkt-type unicast -j REJECT
-A ssh -m iprange --src-range FIRST-LAST -m mac --mac-source 02:00:00:00:00:01 -j NFQUEUE --queue-num 1
COMMIT
";

fn main() {
    Host::live()
        .scratch(Scratch::Network, |host| {
            record(host);
            Ok(())
        })
        .expect("a scratch namespace: root");
}

fn record(host: &Host) {
    let ends = |text: &str, first: &str, last: &str| text.replace("FIRST", first).replace("LAST", last);
    tool(host, "nft", &["-f", "-"], RULES);
    tool(host, "iptables-legacy-restore", &[], &ends(IPTABLES, "192.0.2.1", "192.0.2.9"));
    tool(host, "ip6tables-legacy-restore", &[], &ends(IPTABLES, "2001:db8::1", "2001:db8::9"));
    let native = firewall(host);
    let Seen::Present(rules) = &native.nft else { panic!("{:?}", native.nft) };
    let raw = &rules.raw;
    let dump = [&raw.tables, &raw.chains, &raw.sets, &raw.elements, &raw.rules].map(|list| padded(list)).concat();
    seed("nft_dump", "native", &dump);
    for (number, list) in raw.rules.iter().filter_map(|m| expressions(m)).enumerate() {
        seed("nft_rule", &format!("rule-{number:02}"), &[&[0], list].concat());
    }
    for (name, rules) in [("legacy4", &native.legacy4), ("legacy6", &native.legacy6)] {
        let Seen::Present(rules) = rules else { panic!("{rules:?}") };
        let table = rules.raw.iter().find(|t| t.table == "filter").expect("a filter table");
        seed(name, "filter", &[&table.info[..], &table.entries].concat());
    }
    // The same rules as iptables-nft has them: each match and target is an expression of its own.
    tool(host, "nft", &["flush", "ruleset"], "");
    tool(host, "iptables-nft-restore", &[], &ends(IPTABLES, "192.0.2.1", "192.0.2.9"));
    let Seen::Present(rules) = firewall(host).nft else { panic!("no nf_tables") };
    for (number, list) in rules.raw.rules.iter().filter_map(|m| expressions(m)).enumerate() {
        seed("nft_rule", &format!("xt-{number:02}"), &[&[1], list].concat());
        for (place, bytes) in extensions(list).into_iter().enumerate() {
            seed("xt", &format!("{number:02}-{place}"), &bytes);
        }
    }
    sets(host);
    sockets();
    routes();
}

fn sets(host: &Host) {
    let text = "create a hash:net timeout 600\nadd a 192.0.2.0/24 nomatch\ncreate b hash:ip,port\nadd b 192.0.2.1,tcp:22\n\
                create c bitmap:port range 1-100\nadd c 22\ncreate d list:set\nadd d a\ncreate e hash:ip family inet6\nadd e 2001:db8::1\n";
    tool(host, "ipset", &["restore"], text);
    const IPSET_CMD_LIST: u16 = 7;
    let list =
        Message { kind: u16::from(NFNL_SUBSYS_IPSET) << 8 | IPSET_CMD_LIST, flags: 0, body: ipset::list_request() };
    let dump = Netlink::netfilter().and_then(|mut n| n.dump(&list)).expect("a dump of ipsets");
    assert!(ipset::sets(&dump).is_some_and(|sets| sets.len() == 5));
    seed("ipset", "five", &padded(&dump));
}

fn sockets() {
    let _open =
        ["0.0.0.0:22", "[::]:2222"].map(|a| std::net::TcpListener::bind(a).expect("a port of a scratch namespace"));
    for (name, family) in [("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)] {
        let request = Message { kind: sock_diag::SOCK_DIAG_BY_FAMILY, flags: 0, body: sock_diag::request(family) };
        let dump = Netlink::sock_diag().and_then(|mut n| n.dump(&request)).expect("a dump of sockets");
        seed("sock_diag", name, &padded(&dump));
    }
}

fn routes() {
    const KINDS: [(u16, usize); 5] = [(18, 16), (22, 8), (26, 12), (34, 12), (38, 20)];
    let mut rtnl = Rtnl::open().expect("rtnetlink");
    rtnl.up(1).expect("lo up");
    let address: IpAddr = "192.0.2.10".parse().expect("an address");
    rtnl.add_address(1, address, 24).expect("an address of lo");
    for (number, (kind, size)) in KINDS.into_iter().enumerate() {
        let dump = rtnl.dump(kind, &vec![0; size]).expect("a dump");
        for (place, message) in dump.iter().take(3).enumerate() {
            seed("route", &format!("{number}-{place}"), &[&[number as u8], &message[..]].concat());
        }
    }
}

/// The value of NFTA_RULE_EXPRESSIONS of a rule.
fn expressions(rule: &[u8]) -> Option<&[u8]> {
    attributes(rule.get(20..)?).into_iter().find(|(kind, _)| *kind == 4).map(|(_, value)| value)
}

/// Each match and target of a list of expressions as an input of the target `xt`.
fn extensions(list: &[u8]) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (_, expression) in attributes(list) {
        let parts = attributes(expression);
        let [(_, kind), (_, data), ..] = parts[..] else { continue };
        let parts = attributes(data);
        let [(_, name), (_, revision), (_, info), ..] = parts[..] else { continue };
        let what = match kind {
            b"match\0" => 0,
            b"target\0" => 1,
            _ => continue,
        };
        out.push([&[what, revision[3], 0], name, info].concat());
    }
    out
}

fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut all = Vec::new();
    while let [a, b, c, d, ..] = bytes {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let Some(value) = bytes.get(4..length) else { break };
        all.push((u16::from_ne_bytes([*c, *d]) & 0x3fff, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn padded(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.extend(message);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

fn seed(target: &str, name: &str, bytes: &[u8]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    fs::create_dir_all(&folder).expect("make the folder");
    fs::write(folder.join(name), bytes).expect("write the seed");
}

fn tool(host: &Host, program: &str, args: &[&str], stdin: &str) {
    let output = host.run(&Call { stdin: stdin.as_bytes(), ..Call::new(program, args) }).expect("run the tool");
    assert!(output.ok(), "{program}: {}", output.complaint());
}
