//! Random rulesets of iptables and ip6tables, for either back-end.

use ssh_rescue::facts::Family;

use super::generate::{Dice, Script, World};

const CHAINS: usize = 3;
const TABLES: [(&str, &[&str]); 5] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING", "INPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "OUTPUT"]),
    ("security", &["INPUT", "OUTPUT"]),
];

/// Sets, and how many of a match's directions each asks for: the client's side, then the host's.
const SETS: [(&str, &str, &[bool]); 9] = [
    ("ips", "hash:ip", &[true]),
    ("nets", "hash:net", &[true]),
    ("ipports", "hash:ip,port", &[true, false]),
    ("netports", "hash:net,port", &[true, false]),
    ("netifaces", "hash:net,iface", &[true, true]),
    ("portnets", "hash:ip,port,net", &[false, false, true]),
    ("ports", "bitmap:port", &[false]),
    ("masked", "hash:ip", &[true]),
    ("list", "list:set", &[true]),
];

/// What `ipset restore` takes.
pub fn sets(dice: &mut Dice, world: &World) -> Script {
    let family = if world.family == Family::Ipv4 { "inet" } else { "inet6" };
    let host = if world.family == Family::Ipv4 { super::common::ADDRESS4 } else { super::common::ADDRESS6 };
    let mut lines = Vec::new();
    for (name, kind, _) in SETS {
        let options = match (name, world.family) {
            ("ports", _) => " range 20-30".to_owned(),
            ("list", _) => String::new(),
            ("masked", Family::Ipv4) => format!(" family {family} netmask 20"),
            ("masked", Family::Ipv6) => format!(" family {family} netmask 40"),
            _ => format!(" family {family}{}", if dice.chance(30) { " timeout 3600" } else { "" }),
        };
        lines.push(format!("create {name} {kind}{options}"));
    }
    for (name, ..) in SETS {
        for _ in 0..dice.below(4) {
            let block = world.any(dice);
            let net = world.prefix(block).unwrap_or_else(|| world.text(block.0));
            let nomatch = if dice.chance(35) { " nomatch" } else { "" };
            let port = dice.pick(&["22", "23", "tcp:22", "udp:22"]);
            let member = match name {
                "ips" | "masked" => world.text(block.0),
                "nets" => format!("{net}{nomatch}"),
                "ipports" => format!("{},{port}", world.text(block.1)),
                "netports" => format!("{net},{port}{nomatch}"),
                "netifaces" => format!("{net},{}{nomatch}", dice.pick(&["eth0", "eth1"])),
                "portnets" => format!("{host},{port},{net}{nomatch}"),
                "ports" => dice.pick(&["22", "23-25", "20-22"]).to_owned(),
                _ => dice.pick(&["ips", "nets", "masked", "ports"]).to_owned(),
            };
            lines.push(format!("add {name} {member}"));
        }
    }
    Script { tool: "ipset".into(), lines }
}

pub fn script(dice: &mut Dice, world: &World, backend: &str, sets: bool) -> Script {
    let tool = if world.family == Family::Ipv4 { "iptables" } else { "ip6tables" };
    let mut lines = Vec::new();
    for (table, hooks) in TABLES {
        let wanted = if table == "filter" { 90 } else { 20 };
        if dice.chance(wanted) {
            one_table(dice, world, (table, sets), hooks, &mut lines);
        }
    }
    Script { tool: format!("{tool}-{backend}-restore"), lines }
}

fn one_table(dice: &mut Dice, world: &World, (table, sets): (&str, bool), hooks: &[&str], lines: &mut Vec<String>) {
    lines.push(format!("*{table}"));
    for hook in hooks {
        let policy =
            if table == "filter" && dice.chance(if *hook == "INPUT" { 40 } else { 10 }) { "DROP" } else { "ACCEPT" };
        lines.push(format!(":{hook} {policy} [0:0]"));
    }
    for number in 0..CHAINS {
        lines.push(format!(":c{number} - [0:0]"));
    }
    for number in 0..CHAINS {
        for _ in 0..dice.below(4) {
            let rule = rule(dice, world, (table, sets), "any", number + 1);
            lines.push(format!("-A c{number} {rule}"));
        }
    }
    for hook in hooks {
        let count = if *hook == "INPUT" { 1 + dice.below(6) } else { dice.below(3) };
        for _ in 0..count {
            let rule = rule(dice, world, (table, sets), hook, 0);
            lines.push(format!("-A {hook} {rule}"));
        }
    }
    lines.push("COMMIT".into());
}

fn rule(dice: &mut Dice, world: &World, (table, sets): (&str, bool), hook: &str, depth: usize) -> String {
    let mut words = Vec::new();
    let answer = matches!(hook, "OUTPUT" | "POSTROUTING") || (hook == "any" && dice.chance(25));
    let (side, port) = if answer { ("-d", "--sport") } else { ("-s", "--dport") };
    let not = |dice: &mut Dice| if dice.chance(20) { "! " } else { "" };
    if dice.chance(55) {
        let block = world.any(dice);
        let option = if answer { "--dst-range" } else { "--src-range" };
        match world.prefix(block) {
            Some(prefix) => words.push(format!("{}{side} {prefix}", not(dice))),
            None => {
                let (first, last) = (world.text(block.0), world.text(block.1));
                words.push(format!("-m iprange {}{option} {first}-{last}", not(dice)));
            }
        }
    }
    let mut tcp = false;
    if dice.chance(50) {
        tcp = true;
        words.push("-p tcp".into());
        let negation = not(dice);
        match dice.below(6) {
            0 | 1 => words.push(format!("-m tcp {negation}{port} {}", dice.pick(&["22", "23", "1:1024", "2222"]))),
            2 => {
                let list = dice.pick(&["22,80", "20:25,443", "80,443"]);
                let option = if answer { "--sports" } else { "--dports" };
                words.push(format!("-m multiport {negation}{option} {list}"));
            }
            3 => {
                words.push(dice.pick(&["-m tcp --syn", "-m tcp ! --syn", "-m tcp --tcp-flags SYN,ACK SYN,ACK"]).into())
            }
            _ => {}
        }
    } else if dice.chance(10) {
        words.push(dice.pick(&["! -p tcp", "-p udp"]).into());
    }
    for _ in 0..[0, 0, 1, 1, 2][dice.below(5)] {
        words.push(extension(dice, world, table, hook));
    }
    if sets && dice.chance(35) {
        let (name, _, sides) = SETS[dice.below(SETS.len())];
        let word = |client: &bool| if *client != answer { "src" } else { "dst" };
        let directions: Vec<&str> = sides.iter().map(word).collect();
        words.push(format!("-m set {}--match-set {name} {}", not(dice), directions.join(",")));
    }
    words.push(target(dice, table, hook, depth, tcp));
    words.join(" ")
}

fn extension(dice: &mut Dice, world: &World, table: &str, hook: &str) -> String {
    let not = if dice.chance(20) { "! " } else { "" };
    let inwards = matches!(hook, "PREROUTING" | "INPUT");
    match dice.below(18) {
        9 if hook == "OUTPUT" => {
            let owner = dice.pick(&["--uid-owner 0", "--uid-owner 1-99", "--gid-owner 0", "--socket-exists"]);
            format!("-m owner {not}{owner}")
        }
        10 | 11 => {
            let host = if world.family == Family::Ipv4 { super::common::ADDRESS4 } else { super::common::ADDRESS6 };
            let [from, to] = [world.text(world.any(dice).0), world.text(world.any(dice).1)];
            let ends = [format!("--ctorigsrc {from}"), format!("--ctrepldst {to}"), format!("--ctreplsrc {host}")];
            let plain = ["--ctorigdstport 22", "--ctreplsrcport 22", "--ctreplsrcport 2222", "--ctproto 6"];
            let status = ["--ctstatus CONFIRMED", "--ctstatus SEEN_REPLY", "--ctstatus NONE"];
            let all: Vec<&str> = ends.iter().map(String::as_str).chain(plain).chain(status).collect();
            let wanted = dice.pick(&all);
            format!("-m conntrack {not}{wanted}")
        }
        12 => format!("-m conntrack --ctdir {}", dice.pick(&["ORIGINAL", "REPLY"])),
        13 if hook == "PREROUTING" && table != "nat" => {
            dice.pick(&["-m rpfilter", "-m rpfilter --invert", "-m rpfilter --loose --invert"]).into()
        }
        13 if hook == "INPUT" => dice.pick(&["-m socket --transparent", "-m pkttype --pkt-type unicast"]).into(),
        14 if world.family == Family::Ipv4 => {
            dice.pick(&["-m u32 --u32 6&0xFF=6", "-m u32 --u32 0>>22&0x3C@0&0xFFFF=22:2222"]).into()
        }
        15 if inwards => format!("-m devgroup {not}--src-group {}", dice.pick(&["0", "5"])),
        16 if inwards => format!("-m policy --dir in --pol {}", dice.pick(&["none", "ipsec"])),
        16 => format!("-m helper {not}--helper ftp"),
        17 if dice.chance(8) => "-m limit --limit 10/sec".into(),
        17 if inwards => "-m string --algo bm --string ".to_owned() + &"long".repeat(25),
        0 | 1 => {
            let state = dice.pick(&["NEW", "ESTABLISHED,RELATED", "INVALID", "NEW,ESTABLISHED", "UNTRACKED", "DNAT"]);
            format!("-m conntrack {not}--ctstate {state}")
        }
        2 => format!("-m state {not}--state {}", dice.pick(&["NEW", "ESTABLISHED", "INVALID", "RELATED,ESTABLISHED"])),
        3 => format!("-m mark {not}--mark {}", dice.pick(&["0x1", "0x2/0x3", "0x0", "0x1/0x1"])),
        4 => format!("-m connmark {not}--mark {}", dice.pick(&["0x1", "0x0", "0x1/0x3"])),
        5 if inwards => {
            let name = dice.pick(&["eth0", "eth+", "lo", "et+"]);
            format!("{not}-i {name}")
        }
        5 if hook == "OUTPUT" => format!("{not}-o {}", dice.pick(&["eth0", "eth+", "lo"])),
        6 if inwards => {
            let (kind, of) = (dice.pick(&["--dst-type", "--src-type"]), dice.pick(&["LOCAL", "UNICAST", "MULTICAST"]));
            format!("-m addrtype {not}{kind} {of}")
        }
        7 => match world.family {
            Family::Ipv4 => dice.pick(&["-m ttl --ttl-gt 0", "-m ttl --ttl-lt 1", "-m ttl --ttl-gt 0"]).into(),
            Family::Ipv6 => dice.pick(&["-m hl --hl-gt 0", "-m hl --hl-lt 1", "-m hl --hl-gt 0"]).into(),
        },
        8 => format!("-m length {not}--length {}", dice.pick(&["40:100", "0:39"])),
        _ => "-m comment --comment \"a rule\"".into(),
    }
}

fn target(dice: &mut Dice, table: &str, hook: &str, depth: usize, tcp: bool) -> String {
    // What leads elsewhere may stand in PREROUTING and what is called from there alone.
    let jump = depth < CHAINS && !(table == "nat" && matches!(hook, "INPUT" | "POSTROUTING"));
    match dice.below(16) {
        0..4 => "-j ACCEPT".into(),
        4..8 if table != "nat" => "-j DROP".into(),
        8 => "-j RETURN".into(),
        9..12 if jump => {
            let to = depth + dice.below(CHAINS - depth);
            format!("{} c{to}", dice.pick(&["-j", "-j", "-g"]))
        }
        12 | 13 if table == "mangle" => dice
            .pick(&[
                "-j MARK --set-mark 0x1",
                "-j MARK --set-xmark 0x2/0x3",
                "-j MARK --or-mark 0x1",
                "-j CONNMARK --set-mark 0x1",
                "-j CONNMARK --save-mark",
                "-j CONNMARK --restore-mark",
            ])
            .into(),
        12 | 13 if table == "filter" && hook == "INPUT" => {
            if tcp && dice.chance(50) {
                "-j REJECT --reject-with tcp-reset".into()
            } else {
                "-j REJECT".into()
            }
        }
        12 | 13 if table == "raw" => dice.pick(&["-j CT --notrack", "-j CT --notrack", "-j CT --zone 3"]).into(),
        12 | 13 if hook == "POSTROUTING" => "-j MASQUERADE".into(),
        12 | 13 if table == "nat" && tcp && hook != "INPUT" => dice
            .pick(&["-j REDIRECT --to-ports 2222", "-j REDIRECT --to-ports 22", "-j DNAT --to-destination :2222"])
            .into(),
        14 => "-m comment --comment \"goes on\"".into(),
        _ => "-j ACCEPT".into(),
    }
}
