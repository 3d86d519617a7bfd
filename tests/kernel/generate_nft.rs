//! Random rulesets of nft.

use ssh_rescue::facts::Family;

use super::generate::{Dice, Script, World};

const CHAINS: usize = 4;

struct Table<'a> {
    world: &'a World,
    /// ip, ip6 or inet
    family: &'static str,
    sets: Vec<&'static str>,
}

pub fn script(dice: &mut Dice, world: &World) -> Script {
    let own = if world.family == Family::Ipv4 { "ip" } else { "ip6" };
    let mut lines = Vec::new();
    for number in 0..1 + dice.below(2) {
        let family = if dice.chance(50) { "inet" } else { own };
        lines.push(format!("table {family} t{number} {{"));
        let mut table = Table { world, family, sets: Vec::new() };
        table.sets(dice, &mut lines);
        table.chains(dice, &mut lines);
        lines.push("}".into());
    }
    if dice.chance(12) {
        let mut table = Table { world, family: "netdev", sets: Vec::new() };
        lines.push("table netdev n {".into());
        table.sets(dice, &mut lines);
        lines.push("chain in { type filter hook ingress device \"eth0\" priority 0; policy accept;".into());
        for _ in 0..1 + dice.below(3) {
            let rule = table.rule(dice, Place { hook: "ingress", nat: false, depth: CHAINS });
            lines.push(rule);
        }
        lines.push("}".into());
        if dice.chance(40) {
            lines.push("chain out { type filter hook egress device \"eth0\" priority 0; policy accept;".into());
            let rule = table.rule(dice, Place { hook: "egress", nat: false, depth: CHAINS });
            lines.extend([rule, "}".into()]);
        }
        lines.push("}".into());
    }
    Script { tool: "nft".into(), lines }
}

#[derive(Clone, Copy)]
struct Place {
    hook: &'static str,
    nat: bool,
    /// Chains of this number and above may be jumped to.
    depth: usize,
}

impl Table<'_> {
    fn ip(&self) -> &'static str {
        if self.world.family == Family::Ipv4 { "ip" } else { "ip6" }
    }

    fn sets(&mut self, dice: &mut Dice, lines: &mut Vec<String>) {
        let kind = if self.world.family == Family::Ipv4 { "ipv4_addr" } else { "ipv6_addr" };
        let mut declare = |name, head: String, elements: Vec<String>| {
            self.sets.push(name);
            lines.push(format!("set {name} {{ {head} elements = {{ {} }}; }}", elements.join(", ")));
        };
        let world = self.world;
        if dice.chance(50) {
            let singles = (0..3).map(|_| world.text(world.any(dice).0)).collect();
            declare("singles", format!("type {kind};"), unique(singles));
        }
        if dice.chance(50) {
            let blocks = vec![world.words(world.any(dice)), world.words(world.any(dice))];
            declare("blocks", format!("type {kind}; flags interval; auto-merge;"), blocks);
        }
        if dice.chance(40) {
            declare("ports", "type inet_service; flags interval;".into(), vec!["22".into(), "80-90".into()]);
        }
        if dice.chance(40) {
            let pair = |dice: &mut Dice| format!("{} . {}", world.text(world.any(dice).0), dice.pick(&["22", "23"]));
            let pairs = unique(vec![pair(dice), pair(dice)]);
            declare("pairs", format!("type {kind} . inet_service;"), pairs);
        }
        if dice.chance(30) {
            let pair = format!("{} . {}", world.words(world.any(dice)), dice.pick(&["22", "1-1024", "23"]));
            declare("spans", format!("type {kind} . inet_service; flags interval;"), vec![pair]);
        }
        if dice.chance(20) {
            let elements = vec![world.text(world.any(dice).0), "*".into()];
            declare("anyone", format!("type {kind};"), elements);
        }
        self.maps(dice, kind, lines);
    }

    fn maps(&mut self, dice: &mut Dice, kind: &str, lines: &mut Vec<String>) {
        let (a, b) = (self.world.any(dice), self.world.any(dice));
        let apart = a.0 > b.1 || b.0 > a.1;
        let [a, b] = [a, b].map(|block| self.world.words(block));
        let verdict = |dice: &mut Dice| dice.pick(&["accept", "drop", "continue", "return"]);
        let mut declare = |name, of: &str, elements: String| {
            self.sets.push(name);
            lines.push(format!("map {name} {{ type {kind}{of}; flags interval; elements = {{ {elements} }}; }}"));
        };
        if apart && dice.chance(40) {
            let rest = if dice.chance(40) { format!(", * : {}", verdict(dice)) } else { String::new() };
            declare("verdicts", " : verdict", format!("{a} : {}, {b} : {}{rest}", verdict(dice), verdict(dice)));
        }
        if apart && dice.chance(30) {
            declare("marks", " : mark", format!("{a} : 0x1, {b} : 0x2"));
        }
        if apart && dice.chance(30) {
            let elements = format!("{a} . 20-25 : {}, {b} . 22 : {}", verdict(dice), verdict(dice));
            declare("spanned", " . inet_service : verdict", elements);
        }
    }

    fn chains(&mut self, dice: &mut Dice, lines: &mut Vec<String>) {
        for number in (0..CHAINS).rev() {
            lines.push(format!("chain c{number} {{"));
            for _ in 0..dice.below(4) {
                let rule = self.rule(dice, Place { hook: "any", nat: false, depth: number + 1 });
                lines.push(rule);
            }
            lines.push("}".into());
        }
        let mut hooks = vec!["input"];
        hooks.extend(["prerouting", "output", "postrouting", "input"].into_iter().filter(|_| dice.chance(25)));
        for (number, hook) in hooks.into_iter().enumerate() {
            let priority = dice.pick(&["-300", "-150", "-10", "0", "10", "50", "2000"]);
            let policy = if dice.chance(30) { "drop" } else { "accept" };
            lines.push(format!("chain b{number} {{ type filter hook {hook} priority {priority}; policy {policy};"));
            for _ in 0..1 + dice.below(6) {
                let rule = self.rule(dice, Place { hook, nat: false, depth: 0 });
                lines.push(rule);
            }
            lines.push("}".into());
        }
        if dice.chance(15) {
            lines.push("chain nat { type nat hook prerouting priority -100; policy accept;".into());
            for _ in 0..1 + dice.below(2) {
                let rule = self.rule(dice, Place { hook: "prerouting", nat: true, depth: CHAINS });
                lines.push(rule);
            }
            lines.push("}".into());
        }
        if dice.chance(4) {
            lines.push("chain natin { type nat hook input priority 100; policy accept;".into());
            let rule = self.rule(dice, Place { hook: "input", nat: false, depth: CHAINS });
            lines.extend([rule, "}".into()]);
        }
    }

    fn rule(&self, dice: &mut Dice, place: Place) -> String {
        let mut words = Vec::new();
        for _ in 0..[0, 1, 1, 1, 2, 2, 3][dice.below(7)] {
            words.push(self.matching(dice, place.hook));
        }
        if dice.chance(10) {
            words.push("counter".into());
        }
        words.push(self.statement(dice, place));
        words.join(" ")
    }

    /// The address and port of the client's side and of the host's, as a packet on this hook carries them.
    fn sides(&self, hook: &str, dice: &mut Dice) -> (&'static str, &'static str) {
        let answer = matches!(hook, "output" | "postrouting" | "egress") || (hook == "any" && dice.chance(25));
        if answer { ("daddr", "sport") } else { ("saddr", "dport") }
    }

    fn matching(&self, dice: &mut Dice, hook: &str) -> String {
        let (ip, world) = (self.ip(), self.world);
        let (address, port) = self.sides(hook, dice);
        let not = if dice.chance(20) { "!= " } else { "" };
        let named = |name: &str| self.sets.contains(&name);
        match dice.below(32) {
            24 if self.family != "netdev" => {
                let words = world.words(world.any(dice));
                dice.pick(&[
                    "ct original proto-dst 22",
                    "ct reply proto-src 22",
                    format!("ct original {ip} saddr {not}{words}").as_str(),
                    format!("ct reply {ip} daddr {not}{words}").as_str(),
                    "ct zone 7",
                    "ct zone 0",
                    "ct mark & 0x3 == 0x1",
                    "ct helper \"ftp\"",
                ])
                .to_owned()
            }
            25 if self.family != "netdev" => {
                let status = dice.pick(&["dnat", "!= dnat", "seen-reply", "confirmed", "== 0", "assured", "0x100"]);
                format!("ct status {status}")
            }
            26 => dice.pick(&["@th,16,16 22", "@th,104,8 & 2 == 2", "@nh,72,8 6", "@nh,48,8 6"]).to_owned(),
            27 if matches!(hook, "output" | "postrouting") => {
                dice.pick(&["meta skuid 0", "meta skuid != 0", "meta skuid 1000", "meta skgid 0"]).to_owned()
            }
            27 | 28 => dice
                .pick(&[
                    "iifname . tcp dport { \"eth0\" . 22 }",
                    "meta mark . tcp dport { 0x0-0x1 . 20-25 }",
                    "meta mark . tcp dport { 0x1 . 22, 0x2 . 22 }",
                    "iifkind \"tun\"",
                    "sdif 0",
                    "ether type ip",
                    "ether type ip6",
                    "iiftype 1",
                ])
                .to_owned(),
            29 => dice
                .pick(&[
                    "numgen inc mod 1 0",
                    format!("jhash {ip} saddr mod 1 0").as_str(),
                    "socket transparent 0",
                    "exthdr frag missing",
                    "rt ipsec missing",
                    "meta ipsec missing",
                    "pkttype host",
                ])
                .to_owned(),
            30 => match world.family {
                Family::Ipv4 => dice.pick(&["ip ttl > 0", "ip protocol tcp", "ip version 4", "ip hdrlength 5"]),
                Family::Ipv6 => dice.pick(&["ip6 hoplimit > 0", "ip6 nexthdr tcp", "ip6 version 6", "ip6 nexthdr 6"]),
            }
            .to_owned(),
            31 if named("anyone") => format!("{ip} {address} {not}@anyone"),
            0..4 => format!("{ip} {address} {not}{}", world.words(world.any(dice))),
            4 => {
                let list = unique(vec![world.text(world.any(dice).0), world.text(world.any(dice).1)]);
                format!("{ip} {address} {not}{{ {} }}", list.join(", "))
            }
            5 if named("singles") => format!("{ip} {address} {not}@singles"),
            6 if named("blocks") => format!("{ip} {address} {not}@blocks"),
            7 if named("ports") => format!("tcp {port} {not}@ports"),
            8 if named("pairs") => format!("{ip} {address} . tcp {port} {not}@pairs"),
            9 if named("spans") => format!("{ip} {address} . tcp {port} {not}@spans"),
            10 | 11 => {
                format!("tcp {port} {not}{}", dice.pick(&["22", "23", "1-1024", "{ 22, 80 }", "{ 20-25, 443 }"]))
            }
            12 => format!("th {port} {not}22"),
            13 | 14 if self.family != "netdev" => {
                let state = dice.pick(&[
                    "new",
                    "established",
                    "established,related",
                    "invalid",
                    "{ new, established }",
                    "{ established }",
                    "untracked",
                    "new,untracked",
                    "related",
                ]);
                format!("ct state {not}{state}")
            }
            15 => dice
                .pick(&[
                    "tcp flags syn",
                    "tcp flags & (fin | syn | rst | ack) == syn",
                    "tcp flags { syn }",
                    "tcp flags ack",
                    "tcp flags syn,ack",
                    "tcp flags != syn",
                    "tcp flags & (syn | ack) == syn | ack",
                    "tcp flags { syn, syn | ack }",
                ])
                .to_owned(),
            16 if hook == "any" || self.family == "netdev" => "meta l4proto tcp".into(),
            16 => match hook {
                "output" => {
                    dice.pick(&["oifname \"eth0\"", "oif 77", "oifname \"eth*\"", "oifname != \"eth0\""]).into()
                }
                "postrouting" => dice.pick(&["oifname \"eth0\"", "oifname != \"lo\""]).into(),
                _ => dice
                    .pick(&[
                        "iifname \"eth0\"",
                        "iif 77",
                        "iif lo",
                        "iifname \"eth*\"",
                        "iifname != \"lo\"",
                        "iifname { \"lo\", \"eth0\" }",
                        "iifname \"et\"",
                        "meta iifgroup 0",
                        "meta iiftype 65534",
                    ])
                    .into(),
            },
            17 => dice
                .pick(&[
                    "meta mark 0x1",
                    "meta mark & 0x3 == 0x2",
                    "meta mark != 0x0",
                    "meta mark 0x1-0x3",
                    "meta mark { 0x1, 0x2 }",
                    "meta mark 0",
                ])
                .to_owned(),
            18 if self.family != "netdev" => dice
                .pick(&[
                    "ct mark 0x1",
                    "ct mark != 0x0",
                    "ct direction original",
                    "ct direction reply",
                    "ct status dnat",
                ])
                .to_owned(),
            19 => dice
                .pick(&["meta l4proto tcp", "meta l4proto { tcp, udp }", "meta l4proto != tcp", "meta l4proto udp"])
                .to_owned(),
            20 if self.family == "inet" => {
                dice.pick(&["meta nfproto ipv4", "meta nfproto ipv6", "meta nfproto != ipv4"]).to_owned()
            }
            21 if matches!(hook, "prerouting" | "input") => dice
                .pick(&[
                    "fib daddr type local",
                    "fib saddr type local",
                    "fib daddr type != local",
                    "fib saddr . iif oif exists",
                    "fib saddr . iif oif missing",
                    "fib daddr . iif type local",
                    "fib saddr type unicast",
                ])
                .to_owned(),
            22 => match world.family {
                Family::Ipv4 => {
                    let mask = dice.pick(&["255.0.0.0", "255.0.0.0", "255.254.0.0", "255.255.0.255", "255.255.15.255"]);
                    let value = dice.pick(&["0.0.0.1", "10.0.0.0", "0.0.0.0"]);
                    format!("ip {address} & {mask} {} {value}", dice.pick(&["==", "!="]))
                }
                Family::Ipv6 => format!("ip6 {address} & f0ff:: {} 2000::", dice.pick(&["==", "!="])),
            },
            _ => {
                let plain: &[&str] = &["meta l4proto 6", "meta length < 100", "meta length 40-90", "tcp window != 0"];
                dice.pick(plain).to_owned()
            }
        }
    }

    fn statement(&self, dice: &mut Dice, place: Place) -> String {
        let (ip, world) = (self.ip(), self.world);
        let (address, port) = self.sides(place.hook, dice);
        let jumpable = place.depth < CHAINS && self.family != "netdev";
        if place.nat {
            let ways: &[&str] = match self.family {
                "inet" => &["dnat ip to 192.0.2.10:2222", "dnat ip6 to [2001:db8:2::10]:2222", "dnat ip to :22"],
                "ip" => &["dnat to :2222", "dnat to :22", "dnat to 192.0.2.99", "drop"],
                _ => &["dnat to :2222", "dnat to :22", "dnat to 2001:db8:2::99", "drop"],
            };
            let ways = [&["redirect to :2222", "redirect to :22", "accept", "return"], ways].concat();
            return format!("meta l4proto tcp {}", dice.pick(&ways));
        }
        let named = |name: &str| self.sets.contains(&name);
        match dice.below(25) {
            20 if named("verdicts") => format!("{ip} {address} vmap @verdicts"),
            21 if named("spanned") => format!("{ip} {address} . tcp {port} vmap @spanned"),
            22 if named("marks") => format!("meta mark set {ip} {address} map @marks"),
            23 if self.family != "netdev" => dice
                .pick(&[
                    "ct state vmap { new : continue, established : accept, invalid : drop }",
                    "ct state vmap { established : accept, new : return }",
                    "ct zone set 7",
                    "ip dscp set cs1",
                    "ip6 dscp set cs1",
                    "tcp dport set 2222",
                ])
                .to_owned(),
            24 if dice.chance(10) => "limit rate 1000/second accept".into(),
            0..5 => "accept".into(),
            5..9 => "drop".into(),
            9 => "return".into(),
            10..13 if jumpable => {
                let to = place.depth + dice.below(CHAINS - place.depth);
                format!("{} c{to}", dice.pick(&["jump", "jump", "goto"]))
            }
            13 if place.hook == "input" => match self.family {
                "inet" => dice.pick(&["reject", "reject with tcp reset", "reject with icmpx admin-prohibited"]).into(),
                _ => dice.pick(&["reject", "meta l4proto tcp reject with tcp reset"]).into(),
            },
            14 | 15 => dice
                .pick(&[
                    "meta mark set 0x1",
                    "meta mark set 0x2",
                    "meta mark set meta mark | 0x2",
                    "meta mark set meta mark & 0x1",
                    "meta mark set meta mark ^ 0x3",
                ])
                .to_owned(),
            16 if self.family != "netdev" => {
                dice.pick(&["ct mark set 0x1", "meta mark set ct mark", "ct mark set meta mark"]).to_owned()
            }
            17 => {
                let verdict = |dice: &mut Dice| dice.pick(&["accept", "drop", "continue", "return"]);
                let (a, b) = (world.any(dice), world.any(dice));
                if a.0 <= b.1 && b.0 <= a.1 {
                    format!("{ip} {address} vmap {{ {} : {} }}", world.words(a), verdict(dice))
                } else {
                    let (a, b) = (world.words(a), world.words(b));
                    format!("{ip} {address} vmap {{ {a} : {}, {b} : {} }}", verdict(dice), verdict(dice))
                }
            }
            18 => {
                let words = world.words(world.any(dice));
                dice.pick(&[
                    format!("meta mark set {ip} {address} map {{ {words} : 0x1 }}").as_str(),
                    format!("tcp {port} vmap {{ 22 : drop, 23 : accept }}").as_str(),
                    format!("tcp {port} vmap {{ 1-21 : accept, 22-30 : continue }}").as_str(),
                ])
                .to_owned()
            }
            19 if place.hook == "prerouting" => "notrack".into(),
            _ => "continue".into(),
        }
    }
}

fn unique(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list.dedup();
    list
}
