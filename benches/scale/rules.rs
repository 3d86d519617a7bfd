//! Rulesets of any size, in the shapes that hosts have.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

use ssh_rescue::host::Host;

use super::stage::tool;

/// How many addresses the large sets have.
pub const ELEMENTS: u32 = 100_000;
/// Chains that call each other, one in the other: nf_tables allows 16.
const DEPTH: usize = 15;
/// Rules of a chain that calls another.
const CHAIN: usize = 10;

/// A kind of ruleset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One nf_tables chain of rules about single sources, nets and ports.
    Flat,
    /// A chain that drops single sources, each by a rule of its own.
    Bans,
    /// Chains that call chains, 15 deep.
    Jumps,
    /// A set of [`ELEMENTS`] addresses that are dropped, beside flat rules.
    Sets,
    IptablesNft,
    IptablesLegacy,
}

impl Shape {
    pub const ALL: [Shape; 6] =
        [Shape::Flat, Shape::Bans, Shape::Jumps, Shape::Sets, Shape::IptablesNft, Shape::IptablesLegacy];

    pub fn name(self) -> &'static str {
        match self {
            Shape::Flat => "nft, flat",
            Shape::Bans => "nft, a ban a rule",
            Shape::Jumps => "nft, 15 chains deep",
            Shape::Sets => "nft, a set of 100,000",
            Shape::IptablesNft => "iptables-nft",
            Shape::IptablesLegacy => "iptables-legacy",
        }
    }

    /// The tool of iptables that lists these rules, if one can.
    pub fn save(self) -> Option<&'static str> {
        match self {
            Shape::IptablesNft => Some("iptables-nft-save"),
            Shape::IptablesLegacy => Some("iptables-legacy-save"),
            _ => None,
        }
    }

    pub fn is_nf_tables(self) -> bool {
        self != Shape::IptablesLegacy
    }

    /// Loads `count` rules in the calling thread's namespace.
    pub fn load(self, host: &Host, count: usize) {
        match self {
            Shape::Flat => nft(host, "", &lines(count, nft_rule)),
            Shape::Bans => nft(host, "", &lines(count, |n| format!("ip saddr {} drop", source(n)))),
            Shape::Sets => nft(host, &set(), &lines(count, nft_rule).replacen("ip", "ip saddr @banned drop\nip", 1)),
            Shape::Jumps => tool(host, "nft", &["-f", "-"], &jumps(count)),
            Shape::IptablesNft => tool(host, "iptables-nft-restore", &[], &iptables(count)),
            Shape::IptablesLegacy => tool(host, "iptables-legacy-restore", &[], &iptables(count)),
        }
    }
}

fn lines(count: usize, rule: impl Fn(usize) -> String) -> String {
    (0..count).map(|n| rule(n) + "\n").collect()
}

/// Sources that are apart from each other.
fn source(n: usize) -> Ipv4Addr {
    Ipv4Addr::from(0x0b00_0000 + 7 * n as u32)
}

fn source6(n: usize) -> Ipv6Addr {
    Ipv6Addr::from(0x2a00_u128 << 112 | (n as u128) << 64 | 1)
}

/// Every fourth rule is about port 22 or IPv6; none lets everybody in or keeps everybody out.
fn nft_rule(n: usize) -> String {
    match n % 4 {
        0 => format!("ip saddr {}/32 tcp dport 22 drop", source(n)),
        1 => format!("ip saddr {}/24 tcp dport {} accept", source(256 * (n % 60_000)), 1000 + n % 60_000),
        2 if n % 20 == 2 => format!("ip6 saddr {} tcp dport {{ 22, 2222 }} drop", source6(n)),
        2 => format!("ip6 saddr {} tcp dport 22 drop", source6(n)),
        _ => format!("ip protocol tcp tcp dport {} ct state new counter accept", 1000 + n % 60_000),
    }
}

fn nft(host: &Host, before: &str, rules: &str) {
    let text = format!("table inet t {{\n{before}chain in {{\ntype filter hook input priority 0\n{rules}}}\n}}\n");
    tool(host, "nft", &["-f", "-"], &text);
}

fn set() -> String {
    let elements: Vec<String> = (0..ELEMENTS).map(|n| Ipv4Addr::from(0xc000_0000 + 3 * n).to_string()).collect();
    format!("set banned {{\ntype ipv4_addr\nflags interval\nelements = {{ {} }}\n}}\n", elements.join(", "))
}

/// Chains of [`CHAIN`] rules, each of which calls the next one, [`DEPTH`] of them a jump of the base chain.
fn jumps(count: usize) -> String {
    let groups = count.div_ceil(DEPTH * CHAIN);
    let (mut chains, mut base) = (String::new(), String::new());
    for group in 0..groups {
        for level in (1..DEPTH).rev() {
            let rules = lines(CHAIN - 1, |n| nft_rule((group * DEPTH + level) * CHAIN + n));
            let call = if level + 1 < DEPTH { format!("jump c{group}-{}\n", level + 1) } else { String::new() };
            let _ = writeln!(chains, "chain c{group}-{level} {{\n{rules}{call}}}");
        }
        let _ = writeln!(base, "{}ip saddr 0.0.0.0/1 jump c{group}-1", lines(CHAIN - 1, |n| nft_rule(group * 150 + n)));
    }
    format!("table inet t {{\n{chains}chain in {{\ntype filter hook input priority 0\n{base}}}\n}}\n")
}

fn iptables(count: usize) -> String {
    let rules = lines(count, |n| match n % 3 {
        0 => format!("-A INPUT -s {}/32 -p tcp -m tcp --dport 22 -j DROP", source(n)),
        1 => format!("-A INPUT -p tcp -m multiport --dports 80,443,{} -j ACCEPT", 1000 + n % 60_000),
        _ => {
            let net = source(256 * (n % 60_000));
            format!(
                "-A INPUT -s {net}/24 -p tcp -m conntrack --ctstate NEW -m tcp --dport {} -j ACCEPT",
                1000 + n % 60_000
            )
        }
    });
    format!("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n{rules}COMMIT\n")
}
