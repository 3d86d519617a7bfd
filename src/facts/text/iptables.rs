//! The words of `iptables -S`.

use super::Piece;
use super::statement::verdict;
use super::target::{nat_name, reject, target};
use super::value::protocol;
use crate::facts::{
    Conntrack, Expr, Family, IfaceMatch, Masked, MultiportWhich, Ports, U32Op, U32Test, Verdict, XtHeader, XtMatch,
};

/// None for what iptables does not show; `family` is that of the table, where it is known.
pub fn words(piece: &Piece<'_>, family: Option<Family>) -> Option<String> {
    match piece {
        Piece::Test { left, op, right } => Some(test(left, op, right)),
        Piece::Statement(words) => Some(words.clone()),
        Piece::Expr(Expr::Counter) => None,
        Piece::Expr(Expr::Verdict(found)) => Some(match found {
            Verdict::Accept | Verdict::Drop | Verdict::Return => format!("-j {}", verdict(found).to_uppercase()),
            Verdict::Jump(chain) => format!("-j {chain}"),
            Verdict::Goto(chain) => format!("-g {chain}"),
            other => verdict(other),
        }),
        Piece::Expr(Expr::Reject(with)) => Some(reject(*with, family)),
        Piece::Expr(Expr::Nat(nat)) => Some(format!("-j {}", nat_name(nat.kind))),
        Piece::Expr(Expr::XtMatch(found)) => Some(r#match(found, family)),
        Piece::Expr(Expr::XtTarget(found)) => Some(target(found, family)),
        Piece::Expr(_) => None,
    }
}

fn not(inverted: bool) -> &'static str {
    if inverted { "! " } else { "" }
}

/// `iptables -S` writes the header of the packet first, in this order.
pub fn rank(words: &str) -> usize {
    let order = ["-s ", "-d ", "-i ", "-o ", "-p "];
    let words = words.strip_prefix("! ").unwrap_or(words);
    order.iter().position(|option| words.starts_with(option)).unwrap_or(order.len())
}

/// A native expression of iptables-nft.
fn test(left: &str, op: &str, right: &str) -> String {
    if let Some(mask) = left.strip_prefix("meta mark & ").filter(|_| matches!(op, "==" | "!=")) {
        return format!("-m mark {}--mark {}/{}", not(op == "!="), short(right), short(mask));
    }
    let option = match (left, op) {
        (_, "" | "!=") => match left {
            "ip saddr" | "ip6 saddr" => "-s",
            "ip daddr" | "ip6 daddr" => "-d",
            "iifname" => "-i",
            "oifname" => "-o",
            "meta l4proto" | "ip protocol" | "ip6 nexthdr" => "-p",
            "tcp sport" => "-m tcp --sport",
            "tcp dport" => "-m tcp --dport",
            "udp sport" => "-m udp --sport",
            "udp dport" => "-m udp --dport",
            "meta mark" => "-m mark --mark",
            "meta pkttype" => "-m pkttype --pkt-type",
            _ => "",
        },
        _ => "",
    };
    let right = match option {
        "-s" | "-d" if !right.contains(['/', '-']) => format!("{right}/{}", if right.contains(':') { 128 } else { 32 }),
        "-i" | "-o" => right.trim_matches('"').replace('*', "+"),
        "-m mark --mark" => short(right),
        "-m pkttype --pkt-type" => right.replace("host", "unicast"),
        option if option.ends_with("port") => right.replace('-', ":"),
        _ => right.to_owned(),
    };
    let inverted = not(op == "!=");
    match option.rsplit_once(' ') {
        None if option.is_empty() && op.is_empty() => format!("{left} {right}"),
        None if option.is_empty() => format!("{left} {op} {right}"),
        None => format!("{inverted}{option} {right}"),
        Some((module, option)) => format!("{module} {inverted}{option} {right}"),
    }
}

/// A hexadecimal number without its zeros.
fn short(hex: &str) -> String {
    let digits = hex.strip_prefix("0x").map(|digits| digits.trim_start_matches('0'));
    digits.map_or_else(|| hex.to_owned(), |digits| format!("0x{}", if digits.is_empty() { "0" } else { digits }))
}

pub fn range((first, last): Ports, between: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

pub fn add(words: &mut String, more: &str) {
    if !more.is_empty() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(more);
    }
}

fn ports(words: &mut String, option: &str, ports: Ports, inverted: bool) {
    if ports != (0, u16::MAX) || inverted {
        add(words, &format!("{}{option} {}", not(inverted), range(ports, ':')));
    }
}

/// Whether an address is IPv4 follows from its mask, where it is not whole from its value.
pub fn masked(of: &Masked) -> String {
    let wide = of.mask > u128::from(u32::MAX) || of.address > u128::from(u32::MAX);
    let (family, ones) = if wide { (Family::Ipv6, u128::MAX) } else { (Family::Ipv4, u128::from(u32::MAX)) };
    let length = of.mask.count_ones();
    let prefix = (of.mask | (ones >> length.min(127))) == ones || of.mask == ones;
    let address = family.address(of.address);
    if prefix { format!("{address}/{length}") } else { format!("{address}/{}", family.address(of.mask)) }
}

fn interface(option: &str, of: &IfaceMatch) -> String {
    let plus = if of.exact { "" } else { "+" };
    format!("{}{option} {}{plus}", not(of.invert), String::from_utf8_lossy(&of.name))
}

fn tcp_flags(mask: u8) -> String {
    let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
    let set: Vec<&str> = names.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, n)| *n).collect();
    match set.len() {
        0 => "NONE".into(),
        8 => "ALL".into(),
        _ => set.join(","),
    }
}

fn with_mask(value: u32, mask: u32) -> String {
    if mask == u32::MAX { format!("{value:#x}") } else { format!("{value:#x}/{mask:#x}") }
}

fn address_types(mask: u16) -> String {
    let names = [
        "UNSPEC",
        "UNICAST",
        "LOCAL",
        "BROADCAST",
        "ANYCAST",
        "MULTICAST",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "THROW",
        "NAT",
        "XRESOLVE",
    ];
    let set: Vec<&str> = names.iter().enumerate().filter(|(bit, _)| mask & 1 << bit != 0).map(|(_, n)| *n).collect();
    set.join(",")
}

fn r#match(found: &XtMatch, family: Option<Family>) -> String {
    match found {
        XtMatch::Header(header) => {
            let XtHeader { src, dst, iif, oif, proto, proto_invert, fragment } = &**header;
            let mut words = String::new();
            for (option, address) in [("-s", src), ("-d", dst)] {
                if address.mask != 0 || address.invert {
                    add(&mut words, &format!("{}{option} {}", not(address.invert), masked(address)));
                }
            }
            for (option, name) in [("-i", iif), ("-o", oif)] {
                if let Some(name) = name {
                    add(&mut words, &interface(option, name));
                }
            }
            if *proto != 0 {
                let name = protocol(*proto).map_or_else(|| proto.to_string(), str::to_owned);
                add(&mut words, &format!("{}-p {name}", not(*proto_invert)));
            }
            if let Some(later) = fragment {
                add(&mut words, if *later { "-f" } else { "! -f" });
            }
            words
        }
        XtMatch::Tcp { sports, dports, invert_sports, invert_dports, flags_mask, flags_set, invert_flags, option } => {
            let mut words = "-m tcp".to_owned();
            ports(&mut words, "--sport", *sports, *invert_sports);
            ports(&mut words, "--dport", *dports, *invert_dports);
            if *flags_mask != 0 || *invert_flags {
                let (mask, set) = (tcp_flags(*flags_mask), tcp_flags(*flags_set));
                add(&mut words, &format!("{}--tcp-flags {mask} {set}", not(*invert_flags)));
            }
            if let Some((option, inverted)) = option {
                add(&mut words, &format!("{}--tcp-option {option}", not(*inverted)));
            }
            words
        }
        XtMatch::Udp { sports, dports, invert_sports, invert_dports } => {
            let mut words = "-m udp".to_owned();
            ports(&mut words, "--sport", *sports, *invert_sports);
            ports(&mut words, "--dport", *dports, *invert_dports);
            words
        }
        XtMatch::Multiport { which, ports, invert } => {
            let option = match which {
                MultiportWhich::Source => "--sports",
                MultiportWhich::Destination => "--dports",
                MultiportWhich::Either => "--ports",
            };
            let list: Vec<String> = ports.iter().map(|p| range(*p, ':')).collect();
            format!("-m multiport {}{option} {}", not(*invert), list.join(","))
        }
        XtMatch::Conntrack(asked) => conntrack(asked),
        XtMatch::Iprange(sides) => {
            let mut words = "-m iprange".to_owned();
            for (option, side) in [("--src-range", &sides.src), ("--dst-range", &sides.dst)] {
                if let Some((first, last, inverted)) = side {
                    let family = if *last > u128::from(u32::MAX) { Family::Ipv6 } else { Family::Ipv4 };
                    let (first, last) = (family.address(*first), family.address(*last));
                    add(&mut words, &format!("{}{option} {first}-{last}", not(*inverted)));
                }
            }
            words
        }
        XtMatch::Addrtype { source, dest, invert_source, invert_dest, iif, oif } => {
            let mut words = "-m addrtype".to_owned();
            for (option, mask, inverted) in [("--src-type", source, invert_source), ("--dst-type", dest, invert_dest)] {
                if *mask != 0 {
                    add(&mut words, &format!("{}{option} {}", not(*inverted), address_types(*mask)));
                }
            }
            add(&mut words, if *iif { "--limit-iface-in" } else { "" });
            add(&mut words, if *oif { "--limit-iface-out" } else { "" });
            words
        }
        XtMatch::Set { index, dirs, invert, extra } => {
            let sides: Vec<&str> = dirs.iter().map(|source| if *source { "src" } else { "dst" }).collect();
            let extra = if *extra { " <more conditions>" } else { "" };
            format!("-m set {}--match-set <set {index}> {}{extra}", not(*invert), sides.join(","))
        }
        XtMatch::Mac { address, invert } => {
            let octets: Vec<String> = address.iter().map(|b| format!("{b:02x}")).collect();
            format!("-m mac {}--mac-source {}", not(*invert), octets.join(":"))
        }
        XtMatch::Mark { mark, mask, invert } => format!("-m mark {}--mark {}", not(*invert), with_mask(*mark, *mask)),
        XtMatch::Connmark { mark, mask, invert } => {
            format!("-m connmark {}--mark {}", not(*invert), with_mask(*mark, *mask))
        }
        XtMatch::Comment(text) => {
            let plain = !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "_-,.@%/".contains(c));
            if plain { format!("-m comment --comment {text}") } else { format!("-m comment --comment \"{text}\"") }
        }
        XtMatch::Pkttype { kind, invert } => {
            let name = ["unicast", "broadcast", "multicast"].get(*kind as usize).copied().unwrap_or("<other>");
            format!("-m pkttype {}--pkt-type {name}", not(*invert))
        }
        XtMatch::Icmp { kind, codes, invert } => format!("-m icmp {}--icmp-type {}", not(*invert), icmp(*kind, *codes)),
        XtMatch::Icmp6 { kind, codes, invert } => {
            format!("-m icmp6 {}--icmpv6-type {}", not(*invert), icmp(*kind, *codes))
        }
        XtMatch::Length { min, max, invert } => {
            format!("-m length {}--length {}", not(*invert), range((*min, *max), ':'))
        }
        XtMatch::Ttl { mode, value } => {
            let name = if family == Some(Family::Ipv6) { "hl" } else { "ttl" };
            let (inverted, how) = match mode {
                0 => ("", "eq"),
                1 => ("! ", "eq"),
                2 => ("", "lt"),
                _ => ("", "gt"),
            };
            format!("-m {name} {inverted}--{name}-{how} {value}")
        }
        XtMatch::Tcpmss { min, max, invert } => format!("-m tcpmss {}--mss {}", not(*invert), range((*min, *max), ':')),
        XtMatch::Dscp { value, invert } => format!("-m dscp {}--dscp {value:#04x}", not(*invert)),
        XtMatch::Owner { text, .. } => format!("-m owner {text}"),
        XtMatch::Devgroup { iif, oif } => {
            let mut words = "-m devgroup".to_owned();
            for (option, group) in [("--src-group", iif), ("--dst-group", oif)] {
                if let Some(of) = group {
                    add(&mut words, &format!("{}{option} {}", not(of.invert), with_mask(of.group, of.mask)));
                }
            }
            words
        }
        XtMatch::Text { words, .. } => format!("-m string {words}"),
        XtMatch::U32 { tests, invert } => format!("-m u32 {}--u32 \"{}\"", not(*invert), u32_tests(tests)),
        XtMatch::Physdev { text } => format!("-m physdev {text}"),
        XtMatch::Rpfilter { flags } => {
            let mut words = "-m rpfilter".to_owned();
            for (bit, option) in [(1, "--loose"), (2, "--validmark"), (4, "--accept-local"), (8, "--invert")] {
                add(&mut words, if flags & bit != 0 { option } else { "" });
            }
            words
        }
        XtMatch::Socket { flags } => {
            let mut words = "-m socket".to_owned();
            for (bit, option) in [(1, "--transparent"), (2, "--nowildcard"), (4, "--restore-skmark")] {
                add(&mut words, if flags & bit != 0 { option } else { "" });
            }
            words
        }
        XtMatch::AbsentHeader { name, invert } => format!("{}-m {name} <options>", not(*invert)),
        XtMatch::Rate { name, text } | XtMatch::History { name, text } if text.is_empty() => {
            format!("-m {name} <options>")
        }
        XtMatch::Rate { name, text } | XtMatch::History { name, text } => format!("-m {name} {text}"),
        XtMatch::Time { text } => format!("-m time {text}"),
        XtMatch::Unknown { name } => format!("-m {name} <options>"),
    }
}

fn icmp(kind: u8, codes: (u8, u8)) -> String {
    match (kind, codes) {
        (255, _) => "any".into(),
        (kind, (0, 255)) => kind.to_string(),
        (kind, (code, _)) => format!("{kind}/{code}"),
    }
}

fn conntrack(asked: &Conntrack) -> String {
    let list = |bits: u16, names: &[(u16, &str)]| {
        let set: Vec<&str> = names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
        if set.is_empty() { "NONE".to_owned() } else { set.join(",") }
    };
    let mut words = "-m conntrack".to_owned();
    if let Some((bits, inverted)) = asked.state {
        let names = [
            (1, "INVALID"),
            (8, "NEW"),
            (4, "RELATED"),
            (2, "ESTABLISHED"),
            (256, "UNTRACKED"),
            (64, "SNAT"),
            (128, "DNAT"),
        ];
        add(&mut words, &format!("{}--ctstate {}", not(inverted), list(bits, &names)));
    }
    if let Some((proto, inverted)) = asked.proto {
        let name = u8::try_from(proto).ok().and_then(protocol).map_or_else(|| proto.to_string(), str::to_owned);
        add(&mut words, &format!("{}--ctproto {name}", not(inverted)));
    }
    let addresses = [
        ("--ctorigsrc", &asked.orig_src),
        ("--ctorigdst", &asked.orig_dst),
        ("--ctreplsrc", &asked.repl_src),
        ("--ctrepldst", &asked.repl_dst),
    ];
    for (option, address) in addresses {
        if let Some(address) = address {
            add(&mut words, &format!("{}{option} {}", not(address.invert), masked(address)));
        }
    }
    let sides = [
        ("--ctorigsrcport", asked.orig_src_port),
        ("--ctorigdstport", asked.orig_dst_port),
        ("--ctreplsrcport", asked.repl_src_port),
        ("--ctrepldstport", asked.repl_dst_port),
    ];
    for (option, side) in sides {
        if let Some((found, inverted)) = side {
            add(&mut words, &format!("{}{option} {}", not(inverted), range(found, ':')));
        }
    }
    if let Some((bits, inverted)) = asked.status {
        let names = [(1, "EXPECTED"), (2, "SEEN_REPLY"), (4, "ASSURED"), (8, "CONFIRMED")];
        add(&mut words, &format!("{}--ctstatus {}", not(inverted), list(bits, &names)));
    }
    if let Some((first, last, inverted)) = asked.expires {
        add(&mut words, &format!("{}--ctexpire {first}:{last}", not(inverted)));
    }
    if let Some((original, inverted)) = asked.direction {
        add(&mut words, if original != inverted { "--ctdir ORIGINAL" } else { "--ctdir REPLY" });
    }
    words
}

fn u32_tests(tests: &[U32Test]) -> String {
    let test = |test: &U32Test| {
        let mut words = format!("{:#x}", test.start);
        for (op, number) in &test.steps {
            let op = match op {
                U32Op::And => "&",
                U32Op::ShiftLeft => "<<",
                U32Op::ShiftRight => ">>",
                U32Op::At => "@",
            };
            words.push_str(&format!("{op}{number:#x}"));
        }
        let range = |&(first, last): &(u32, u32)| match first == last {
            true => format!("{first:#x}"),
            false => format!("{first:#x}:{last:#x}"),
        };
        let ranges: Vec<String> = test.ranges.iter().map(range).collect();
        format!("{words}={}", ranges.join(","))
    };
    tests.iter().map(test).collect::<Vec<_>>().join("&&")
}
