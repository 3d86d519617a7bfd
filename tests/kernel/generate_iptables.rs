//! Random rulesets of iptables and ip6tables, for either back-end.

use ssh_rescue::facts::Family;

use super::generate::{Dice, Script, World};

const CHAINS: usize = 3;
const TABLES: [(&str, &[&str]); 4] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING"]),
    ("filter", &["INPUT", "OUTPUT"]),
];

pub fn script(dice: &mut Dice, world: &World, backend: &str) -> Script {
    let tool = if world.family == Family::Ipv4 { "iptables" } else { "ip6tables" };
    let mut lines = Vec::new();
    for (table, hooks) in TABLES {
        let wanted = if table == "filter" { 90 } else { 20 };
        if dice.chance(wanted) {
            one_table(dice, world, table, hooks, &mut lines);
        }
    }
    Script { tool: format!("{tool}-{backend}-restore"), lines }
}

fn one_table(dice: &mut Dice, world: &World, table: &str, hooks: &[&str], lines: &mut Vec<String>) {
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
            let rule = rule(dice, world, table, "any", number + 1);
            lines.push(format!("-A c{number} {rule}"));
        }
    }
    for hook in hooks {
        let count = if *hook == "INPUT" { 1 + dice.below(6) } else { dice.below(3) };
        for _ in 0..count {
            let rule = rule(dice, world, table, hook, 0);
            lines.push(format!("-A {hook} {rule}"));
        }
    }
    lines.push("COMMIT".into());
}

fn rule(dice: &mut Dice, world: &World, table: &str, hook: &str, depth: usize) -> String {
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
        words.push(extension(dice, world, hook));
    }
    words.push(target(dice, table, hook, depth, tcp));
    words.join(" ")
}

fn extension(dice: &mut Dice, world: &World, hook: &str) -> String {
    let not = if dice.chance(20) { "! " } else { "" };
    let inwards = matches!(hook, "PREROUTING" | "INPUT");
    match dice.below(9) {
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
            Family::Ipv4 => {
                dice.pick(&["-m ttl --ttl-gt 0", "-m ttl --ttl-lt 1", "-m ttl --ttl-gt 0", "-m ttl --ttl-gt 10"]).into()
            }
            Family::Ipv6 => {
                dice.pick(&["-m hl --hl-gt 0", "-m hl --hl-lt 1", "-m hl --hl-gt 0", "-m hl --hl-gt 10"]).into()
            }
        },
        8 => format!("-m length {not}--length {}", dice.pick(&["40:100", "0:39"])),
        _ => "-m comment --comment \"a rule\"".into(),
    }
}

fn target(dice: &mut Dice, table: &str, hook: &str, depth: usize, tcp: bool) -> String {
    let jump = depth < CHAINS;
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
        12 | 13 if table == "raw" => "-j CT --notrack".into(),
        12 | 13 if table == "nat" && tcp => format!("-j REDIRECT --to-ports {}", dice.pick(&["2222", "22"])),
        14 => "-m comment --comment \"goes on\"".into(),
        _ => "-j ACCEPT".into(),
    }
}
