//! Random rulesets, and sources near every boundary that they name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ssh_rescue::facts::{Family, Net, Route, RouteKind, Seen};

use super::common::net;
use super::generate_iptables;
use super::generate_nft;

/// splitmix64: the same seed gives the same rulesets everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.roll() % n as u64) as usize
    }

    /// True in `percent` of 100 rolls.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub fn wide(&mut self) -> u128 {
        u128::from(self.roll()) << 64 | u128::from(self.roll())
    }
}

/// The addresses that one case is about.
#[derive(Debug)]
pub struct World {
    pub family: Family,
    /// First and last of each block that rules may name.
    pub blocks: Vec<(u128, u128)>,
}

impl World {
    fn new(dice: &mut Dice, family: Family) -> World {
        let count = 3 + dice.below(4);
        let blocks = (0..count).map(|_| block(dice, family)).collect();
        World { family, blocks }
    }

    pub fn any(&self, dice: &mut Dice) -> (u128, u128) {
        self.blocks[dice.below(self.blocks.len())]
    }

    pub fn text(&self, number: u128) -> String {
        self.family.address(number).to_string()
    }

    /// A block as a prefix, if it is one.
    pub fn prefix(&self, (first, last): (u128, u128)) -> Option<String> {
        let size = last - first;
        (size & (size + 1) == 0 && first & size == 0)
            .then(|| format!("{}/{}", self.text(first), u32::from(self.family.bits()) - size.count_ones()))
    }

    /// A block as nft writes it: an address, a prefix or a range.
    pub fn words(&self, block: (u128, u128)) -> String {
        match block {
            (a, b) if a == b => self.text(a),
            block => self.prefix(block).unwrap_or_else(|| format!("{}-{}", self.text(block.0), self.text(block.1))),
        }
    }

    /// Sources at and beside the edges of every block, inside them, and anywhere.
    fn sources(&self, dice: &mut Dice) -> Vec<IpAddr> {
        let mut numbers = Vec::new();
        for &(first, last) in &self.blocks {
            numbers.extend([first.wrapping_sub(1), first, first + 1, last.wrapping_sub(1), last, last + 1]);
            numbers.push(first + dice.wide() % (last - first + 1));
        }
        for _ in 0..8 {
            numbers.push(block(dice, self.family).0);
        }
        let mut sources: Vec<_> =
            numbers.into_iter().map(|n| self.family.address(n)).filter(|a| is_client(*a)).collect();
        sources.sort();
        sources.dedup();
        sources
    }
}

/// A block of addresses that clients may have: one address, a prefix, or a range.
fn block(dice: &mut Dice, family: Family) -> (u128, u128) {
    let bits = u32::from(family.bits());
    let base = match family {
        Family::Ipv4 => (u128::from(1 + dice.roll() % 222) << 24) | (dice.wide() & 0x00ff_ffff),
        Family::Ipv6 => (0x2000u128 | u128::from(dice.roll() % 0x1000)) << 112 | (dice.wide() >> 16),
    };
    match dice.below(4) {
        0 => (base, base),
        1 | 2 => {
            let shortest = if family == Family::Ipv4 { 6 } else { 12 };
            let host = bits - (shortest + dice.below((bits - shortest) as usize) as u32);
            let mask = (1u128 << host) - 1;
            (base & !mask, base | mask)
        }
        _ => (base, base + u128::from(dice.roll() % 5000)),
    }
}

/// Whether a packet from this source is a client's: no martian, none of the host's own network.
fn is_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let own = Ipv4Addr::new(192, 0, 2, 0);
            let [first, ..] = a.octets();
            (1..224).contains(&first) && first != 127 && u32::from(a) >> 8 != u32::from(own) >> 8
        }
        IpAddr::V6(a) => {
            let own = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0);
            let first = a.segments()[0];
            (0x2000..0x4000).contains(&first) && u128::from(a) >> 64 != u128::from(own) >> 64
        }
    }
}

/// Rules as one tool takes them, line by line, so that a difference can be cut down.
#[derive(Debug, Clone)]
pub struct Script {
    /// `nft`, `ipset` or `[ip|ip6]tables-[nft|legacy]-restore`
    pub tool: String,
    pub lines: Vec<String>,
}

#[derive(Debug)]
pub struct Case {
    pub family: Family,
    pub net: Net,
    pub scripts: Vec<Script>,
    pub sources: Vec<IpAddr>,
}

pub fn case(seed: u64) -> Case {
    let mut dice = Dice::new(seed);
    let family = if dice.chance(60) { Family::Ipv4 } else { Family::Ipv6 };
    let world = World::new(&mut dice, family);
    let net = surroundings(&mut dice, &world);
    let tools: &[&str] = match dice.below(20) {
        0..9 => &["native"],
        9..13 => &["nft"],
        13..16 => &["legacy"],
        16 | 17 => &["legacy", "native"],
        18 => &["legacy", "nft"],
        _ => &["nft", "native"],
    };
    let sets = *tools != ["native"] && dice.chance(50);
    let mut scripts = Vec::new();
    if sets {
        scripts.push(generate_iptables::sets(&mut dice, &world));
    }
    for tool in tools {
        scripts.push(match *tool {
            "native" => generate_nft::script(&mut dice, &world),
            backend => generate_iptables::script(&mut dice, &world, backend, sets),
        });
    }
    let sources = world.sources(&mut dice);
    Case { family, net, scripts, sources }
}

/// The host's links and routes: sometimes Ethernet, sometimes with routes that lead nowhere and a look at the way back.
fn surroundings(dice: &mut Dice, world: &World) -> Net {
    const ARPHRD_NONE: u16 = 65534;
    const ARPHRD_ETHER: u16 = 1;
    let mut net = net(if dice.chance(15) { ARPHRD_ETHER } else { ARPHRD_NONE });
    if dice.chance(15) {
        let kinds = [RouteKind::Blackhole, RouteKind::Unreachable, RouteKind::Prohibit, RouteKind::Throw];
        let destination = world.prefix(world.any(dice)).and_then(|p| p.parse().ok());
        if let (Some(destination), Seen::Present(routes)) = (destination, &mut net.routes) {
            routes.push(Route {
                family: world.family,
                kind: kinds[dice.below(4)],
                table: 254,
                destination,
                interfaces: Vec::new(),
                gateway: None,
                metric: 0,
            });
        }
        net.rp_filter = vec![("eth0".into(), dice.below(3) as u8)];
    }
    net
}
