//! Exact sets of addresses of one family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize, Serializer};

use super::ranges::Ranges;

/// An address family of IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    pub const BOTH: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// Width of an address in bits.
    pub fn bits(self) -> u8 {
        match self {
            Family::Ipv4 => 32,
            Family::Ipv6 => 128,
        }
    }

    /// Width of an address in bytes.
    pub fn bytes(self) -> usize {
        usize::from(self.bits()) / 8
    }

    /// The highest address as a number.
    pub fn max(self) -> u128 {
        match self {
            Family::Ipv4 => u128::from(u32::MAX),
            Family::Ipv6 => u128::MAX,
        }
    }

    pub fn address(self, number: u128) -> IpAddr {
        match self {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(number as u32)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(number)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        })
    }
}

/// An address as a number: big-endian, 32 or 128 bits.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

/// A set of addresses of one family, kept as disjoint, non-adjacent, inclusive intervals.
///
/// `insert` and `remove` cost the logarithm of the number of intervals plus those they touch, and sets that came of each other
/// share what they have in common: a walk over fifty thousand rules that each take one address out, or call a chain for a part
/// of the set, stays linear.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AddrSet {
    family: Family,
    ranges: Ranges,
}

impl AddrSet {
    pub fn empty(family: Family) -> AddrSet {
        AddrSet { family, ranges: Ranges::new() }
    }

    pub fn full(family: Family) -> AddrSet {
        AddrSet::range(family, 0, family.max())
    }

    /// The addresses from `first` to `last`, both included; empty where `first > last`.
    pub fn range(family: Family, first: u128, last: u128) -> AddrSet {
        AddrSet { family, ranges: Ranges::one(first, last.min(family.max())) }
    }

    /// All addresses of these sets of the family.
    pub fn all<'a>(family: Family, sets: impl IntoIterator<Item = &'a AddrSet>) -> AddrSet {
        let ranges = sets.into_iter().inspect(|set| debug_assert_eq!(set.family, family)).flat_map(AddrSet::ranges);
        AddrSet::of(family, ranges.collect())
    }

    /// The addresses of these intervals, in no order; of one whose ends are the wrong way round none.
    pub fn of(family: Family, mut ranges: Vec<(u128, u128)>) -> AddrSet {
        ranges.iter_mut().for_each(|(_, last)| *last = family.max().min(*last));
        ranges.retain(|(first, last)| first <= last);
        AddrSet { family, ranges: Ranges::all(ranges) }
    }

    /// The addresses of which the part under the mask is `value`; None where they lie in too many pieces to write down.
    pub fn masked(family: Family, value: u128, mask: u128) -> Option<AddrSet> {
        const PIECES: u32 = 12;
        let width = family.max();
        let (value, mask) = (value & width, mask & width);
        if value & !mask != 0 {
            return Some(AddrSet::empty(family));
        }
        let low = if mask == 0 { width } else { (1u128 << mask.trailing_zeros()) - 1 };
        let free = width & !mask & !low;
        if free.count_ones() > PIECES {
            return None;
        }
        let mut pieces = Vec::with_capacity(1 << free.count_ones());
        let mut chosen = 0u128;
        loop {
            let first = value | chosen;
            pieces.push((first, first | low));
            // The next subset of the free bits.
            chosen = chosen.wrapping_sub(free) & free;
            if chosen == 0 {
                return Some(AddrSet::of(family, pieces));
            }
        }
    }

    pub fn single(address: IpAddr) -> AddrSet {
        let n = number(address);
        AddrSet::range(Family::of(address), n, n)
    }

    pub fn net(net: IpNet) -> AddrSet {
        AddrSet::range(Family::of(net.network()), number(net.network()), number(net.broadcast()))
    }

    /// Those of `nets` that are of this family.
    pub fn nets<'a>(family: Family, nets: impl IntoIterator<Item = &'a IpNet>) -> AddrSet {
        let own = nets.into_iter().filter(|net| Family::of(net.network()) == family);
        AddrSet::of(family, own.map(|net| (number(net.network()), number(net.broadcast()))).collect())
    }

    pub fn family(&self) -> Family {
        self.family
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.len() == 0
    }

    pub fn is_full(&self) -> bool {
        self.ranges.before(0) == Some((0, self.family.max()))
    }

    /// Number of disjoint intervals.
    pub fn pieces(&self) -> usize {
        self.ranges.len()
    }

    pub fn ranges(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.ranges.iter()
    }

    /// Number of addresses; saturates at `u128::MAX` for the whole of IPv6.
    pub fn count(&self) -> u128 {
        self.ranges().fold(0u128, |sum, (a, b)| sum.saturating_add((b - a).saturating_add(1)))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family && self.contains_number(number(address))
    }

    pub fn contains_number(&self, n: u128) -> bool {
        self.ranges.before(n).is_some_and(|(_, last)| n <= last)
    }

    /// Any one address of the set: the lowest.
    pub fn any(&self) -> Option<IpAddr> {
        self.ranges().next().map(|(n, _)| self.family.address(n))
    }

    pub fn insert(&mut self, first: u128, last: u128) {
        if first <= last {
            self.ranges.insert(first, last.min(self.family.max()));
        }
    }

    pub fn remove(&mut self, first: u128, last: u128) {
        if first <= last {
            self.ranges.remove(first, last);
        }
    }

    pub fn union_with(&mut self, other: &AddrSet) {
        debug_assert_eq!(self.family, other.family);
        self.ranges.unite(&other.ranges);
    }

    /// As [`AddrSet::union_with`], of a set that nobody needs any more.
    pub fn absorb(&mut self, other: AddrSet) {
        if self.is_empty() { *self = other } else { self.union_with(&other) }
    }

    pub fn subtract(&mut self, other: &AddrSet) {
        debug_assert_eq!(self.family, other.family);
        self.ranges.without(&other.ranges);
    }

    #[must_use]
    pub fn union(&self, other: &AddrSet) -> AddrSet {
        let mut set = self.clone();
        set.union_with(other);
        set
    }

    #[must_use]
    pub fn minus(&self, other: &AddrSet) -> AddrSet {
        let mut set = self.clone();
        set.subtract(other);
        set
    }

    #[must_use]
    pub fn intersection(&self, other: &AddrSet) -> AddrSet {
        debug_assert_eq!(self.family, other.family);
        AddrSet { family: self.family, ranges: self.ranges.intersection(&other.ranges) }
    }

    #[must_use]
    pub fn complement(&self) -> AddrSet {
        AddrSet::full(self.family).minus(self)
    }

    pub fn intersects(&self, other: &AddrSet) -> bool {
        !self.intersection(other).is_empty()
    }

    pub fn is_subset(&self, of: &AddrSet) -> bool {
        self.minus(of).is_empty()
    }

    /// The set as prefixes, in order. An interval over IPv6 may need up to 254 of them.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let mut out = Vec::new();
        for (a, b) in self.ranges() {
            match self.family {
                Family::Ipv4 => out.extend(
                    ipnet::Ipv4Subnets::new(Ipv4Addr::from(a as u32), Ipv4Addr::from(b as u32), 0)
                        .map(|n: Ipv4Net| IpNet::V4(n)),
                ),
                Family::Ipv6 => out.extend(
                    ipnet::Ipv6Subnets::new(Ipv6Addr::from(a), Ipv6Addr::from(b), 0).map(|n: Ipv6Net| IpNet::V6(n)),
                ),
            }
        }
        out
    }

    /// Each interval as text: a prefix where it is one, else `first-last`.
    pub fn words(&self) -> Vec<String> {
        self.intervals().map(|interval| interval.to_string()).collect()
    }

    fn intervals(&self) -> impl Iterator<Item = Interval> + '_ {
        self.ranges().map(|(first, last)| Interval { family: self.family, first, last })
    }
}

/// An interval as text.
struct Interval {
    family: Family,
    first: u128,
    last: u128,
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.last - self.first;
        let aligned = size & size.wrapping_add(1) == 0 && self.first & size == 0;
        let length = size.leading_zeros() - (128 - u32::from(self.family.bits()));
        let (first, last) = (self.family.address(self.first), self.family.address(self.last));
        match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                // A set may hold a hundred thousand of these.
                let mut text = Digits::default();
                text.address(first);
                match aligned {
                    true if size == 0 => {}
                    true => {
                        text.push(b'/');
                        text.number(length as u8);
                    }
                    false => {
                        text.push(b'-');
                        text.address(last);
                    }
                }
                f.write_str(text.as_str())
            }
            _ if !aligned => write!(f, "{first}-{last}"),
            _ if size == 0 => write!(f, "{first}"),
            _ => write!(f, "{first}/{length}"),
        }
    }
}

/// Room for two IPv4 addresses as text.
#[derive(Default)]
struct Digits {
    bytes: [u8; 32],
    len: usize,
}

impl Digits {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    fn number(&mut self, n: u8) {
        if n > 99 {
            self.push(b'0' + n / 100);
        }
        if n > 9 {
            self.push(b'0' + n / 10 % 10);
        }
        self.push(b'0' + n % 10);
    }

    fn address(&mut self, address: Ipv4Addr) {
        for (n, part) in address.octets().into_iter().enumerate() {
            if n > 0 {
                self.push(b'.');
            }
            self.number(part);
        }
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for AddrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nobody");
        }
        if self.is_full() {
            return f.write_str("everybody");
        }
        const SHOWN: usize = 6;
        for (n, interval) in self.intervals().take(SHOWN).enumerate() {
            write!(f, "{}{interval}", if n == 0 { "" } else { ", " })?;
        }
        if self.pieces() > SHOWN {
            write!(f, " and {} more", self.pieces() - SHOWN)?;
        }
        Ok(())
    }
}

impl fmt::Debug for AddrSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{{{self}}}", self.family)
    }
}

impl Serialize for AddrSet {
    /// A list of prefixes and `first-last` ranges.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.intervals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A set over 0..64 as a bit mask, the model that the intervals are held against.
    fn model(set: &AddrSet) -> u64 {
        (0..64).filter(|&n| set.contains_number(n)).fold(0, |m, n| m | 1 << n)
    }

    fn bits(first: u128, last: u128) -> u64 {
        (0..64).filter(|&n| first <= n && n <= last).fold(0, |m, n| m | 1 << n)
    }

    fn build(ops: &[(bool, u128, u128)]) -> (AddrSet, u64) {
        let mut set = AddrSet::empty(Family::Ipv4);
        let mut mask = 0;
        for &(add, a, b) in ops {
            if add {
                set.insert(a, b);
                mask |= bits(a, b);
            } else {
                set.remove(a, b);
                mask &= !bits(a, b);
            }
        }
        (set, mask)
    }

    fn operations() -> impl Strategy<Value = Vec<(bool, u128, u128)>> {
        prop::collection::vec((any::<bool>(), 0u128..64, 0u128..64), 0..20)
    }

    proptest! {
        #[test]
        fn a_masked_set_holds_what_its_bits_say(value in any::<u32>(), keep in 0u32..=32, holes in 0u128..256, n in any::<u32>()) {
            let mask = u128::from(u32::MAX.checked_shl(32 - keep).unwrap_or(0)) & !(holes << 20);
            let value = u128::from(value) & mask;
            let near = (u128::from(n) & !mask) | value;
            let set = AddrSet::masked(Family::Ipv4, value, mask).unwrap();
            prop_assert!(set.contains_number(near));
            prop_assert_eq!(set.contains_number(u128::from(n)), u128::from(n) & mask == value);
        }

        #[test]
        fn sets_agree_with_a_bit_mask(x in operations(), y in operations()) {
            let (a, ma) = build(&x);
            let (b, mb) = build(&y);
            prop_assert_eq!(model(&a), ma);
            prop_assert_eq!(model(&a.union(&b)), ma | mb);
            prop_assert_eq!(model(&a.minus(&b)), ma & !mb);
            prop_assert_eq!(model(&a.intersection(&b)), ma & mb);
            prop_assert_eq!(model(&a.complement()), !ma);
            prop_assert_eq!(a.is_subset(&b), ma & !mb == 0);
            prop_assert_eq!(a.count(), u128::from(ma.count_ones()));
            let pieces: Vec<_> = a.ranges().collect();
            for pair in pieces.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "adjacent or overlapping: {:?}", pieces);
            }
        }
    }

    #[test]
    fn the_edges_of_ipv6_hold() {
        let mut set = AddrSet::full(Family::Ipv6);
        assert!(set.is_full());
        set.remove(u128::MAX, u128::MAX);
        assert!(!set.contains_number(u128::MAX) && set.contains_number(u128::MAX - 1));
        set.insert(u128::MAX, u128::MAX);
        assert!(set.is_full());
        assert_eq!(set.words(), ["::/0"]);
        assert!(set.complement().is_empty());
    }

    proptest! {
        #[test]
        fn addresses_are_written_as_everywhere(a in any::<u32>(), b in any::<u32>(), length in 0u8..32) {
            let (first, last) = (a.min(b), a.max(b));
            let (one, other) = (Ipv4Addr::from(first), Ipv4Addr::from(last));
            let words = |first: u32, last: u32| AddrSet::range(Family::Ipv4, first.into(), last.into()).words();
            prop_assert_eq!(words(first, first), [one.to_string()]);
            let net = Ipv4Net::new(one, length).unwrap().trunc();
            prop_assert_eq!(words(net.network().into(), net.broadcast().into()), [net.to_string()]);
            if first % 2 == 1 && first < last {
                prop_assert_eq!(words(first, last), [format!("{one}-{other}")]);
            }
        }
    }

    #[test]
    fn words_are_prefixes_where_they_can_be() {
        let mut set = AddrSet::net("10.0.0.0/8".parse().unwrap());
        set.insert(number("192.0.2.7".parse().unwrap()), number("192.0.2.9".parse().unwrap()));
        set.insert(0, 0);
        assert_eq!(set.words(), ["0.0.0.0", "10.0.0.0/8", "192.0.2.7-192.0.2.9"]);
        assert_eq!(AddrSet::full(Family::Ipv4).words(), ["0.0.0.0/0"]);
    }
}
