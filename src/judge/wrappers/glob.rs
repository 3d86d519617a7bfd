//! Wildcard patterns over the text of addresses, as sets (`match_pattern_ylo` of libwrap).

use std::collections::HashMap;
use std::rc::Rc;

use crate::facts::{AddrSet, Family};

/// More separate intervals than this are not listed.
const PIECES: usize = 1 << 12;
/// Characters of `255.255.255.255`.
const LONGEST: usize = 15;

/// Whether a pattern with `*` and `?` matches a text, whatever the case of its letters.
///
/// Not quite a shell's: of two or more stars at the end one must find a character.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let pattern = normal(pattern);
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p + 1, t));
                p += 1;
            }
            Some(c) if *c == b'?' || c.eq_ignore_ascii_case(byte) => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, at)) = back else { return false };
                back = Some((star, at + 1));
                (p, t) = (star, at + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|c| *c == b'*')
}

/// The IPv4 addresses whose text (`192.0.2.1`) the pattern matches. None where they lie in too many pieces.
pub fn ipv4(pattern: &[u8]) -> Option<AddrSet> {
    let pattern = normal(pattern);
    if pattern.iter().filter(|b| **b != b'*').count() > LONGEST {
        return Some(AddrSet::empty(Family::Ipv4));
    }
    let mut walk = Walk::of(&pattern);
    let start = walk.closed(1);
    let spans = walk.from(0, start)?;
    Some(AddrSet::of(Family::Ipv4, spans.iter().map(|&(first, last)| (first.into(), last.into())).collect()))
}

/// Runs of stars as one; a run of several at the end as `?*`.
fn normal(pattern: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(pattern.len() + 1);
    for byte in pattern {
        if *byte != b'*' || out.last() != Some(&b'*') {
            out.push(*byte);
        }
    }
    if pattern.ends_with(b"**") {
        out.insert(out.len().saturating_sub(1), b'?');
    }
    out
}

/// First and last number of each interval, in order.
type Spans = Rc<Vec<(u32, u32)>>;

/// The pattern as an automaton: bit N of a state is set where its first N characters have been matched. The normal form of a
/// pattern that can match an address has at most 31 characters.
struct Walk {
    /// The places of stars.
    stars: u32,
    /// For each digit, and behind them for the dot, the places that it matches by itself.
    takes: [u32; 11],
    /// All of it has been matched.
    whole: u32,
    seen: HashMap<(u8, u32), Spans>,
}

const DOT: usize = 10;

impl Walk {
    fn of(pattern: &[u8]) -> Walk {
        let places = |matched: &dyn Fn(u8) -> bool| {
            let all = pattern.iter().enumerate().take(31);
            all.filter(|(_, byte)| matched(**byte)).fold(0, |places, (index, _)| places | 1 << index)
        };
        let mut takes = [0; 11];
        for (slot, own) in takes.iter_mut().zip(b"0123456789.") {
            *slot = places(&|byte| byte == b'?' || byte == *own);
        }
        Walk { stars: places(&|byte| byte == b'*'), takes, whole: 1 << pattern.len().min(31), seen: HashMap::new() }
    }

    /// Adds the states behind stars, which match nothing as well; no star stands behind another.
    fn closed(&self, states: u32) -> u32 {
        states | (states & self.stars) << 1
    }

    fn step(&self, states: u32, character: usize) -> u32 {
        let takes = self.takes.get(character).copied().unwrap_or_default();
        self.closed((states & self.stars) | (states & takes) << 1)
    }

    /// A number of an address, and the dot behind it if there is one.
    fn number(&self, mut states: u32, value: u32, dot: bool) -> u32 {
        for (least, unit) in [(100, 100), (10, 10), (0, 1)] {
            if value >= least {
                states = self.step(states, (value / unit % 10) as usize);
            }
        }
        if dot { self.step(states, DOT) } else { states }
    }

    /// The intervals of what follows after `octet` octets, as numbers of the remaining bits.
    fn from(&mut self, octet: u8, states: u32) -> Option<Spans> {
        if let Some(known) = self.seen.get(&(octet, states)) {
            return Some(known.clone());
        }
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        let below = 24 - 8 * u32::from(octet);
        let add = |ranges: &mut Vec<(u32, u32)>, first: u32, last: u32| match ranges.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => ranges.push((first, last)),
        };
        for value in 0..=255u32 {
            let next = self.number(states, value, octet < 3);
            if next == 0 {
                continue;
            }
            if octet == 3 {
                if next & self.whole != 0 {
                    add(&mut ranges, value, value);
                }
                continue;
            }
            for &(first, last) in self.from(octet + 1, next)?.iter() {
                add(&mut ranges, value << below | first, value << below | last);
            }
            // Not later: a tail like `.7` would come to sixteen million.
            if ranges.len() > PIECES {
                return None;
            }
        }
        let ranges = Rc::new(ranges);
        self.seen.insert((octet, states), ranges.clone());
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `match_pattern_ylo`, word by word.
    fn ylo(s: &[u8], p: &[u8]) -> bool {
        let (mut s, mut p) = (s, p);
        while let Some(&c) = p.first() {
            if c == b'*' {
                p = &p[1..];
                let Some(&next) = p.first() else { return true };
                if next == b'?' || next == b'*' {
                    return (0..s.len()).any(|i| ylo(&s[i..], p));
                }
                return (0..s.len()).any(|i| s[i].eq_ignore_ascii_case(&next) && ylo(&s[i + 1..], &p[1..]));
            }
            let Some(&first) = s.first() else { return false };
            if c != b'?' && !c.eq_ignore_ascii_case(&first) {
                return false;
            }
            (s, p) = (&s[1..], &p[1..]);
        }
        s.is_empty()
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_in_libwrap(pattern in "[a1.?*]{0,9}", text in "[aA1.]{0,9}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), ylo(text.as_bytes(), pattern.as_bytes()));
        }

        #[test]
        fn a_set_holds_what_the_pattern_matches(pattern in "[0-9.?*]{0,12}", near in any::<u32>(), small in 0u32..3000) {
            if let Some(set) = ipv4(pattern.as_bytes()) {
                for number in [near, small, near & 0xffff_0000 | small] {
                    let text = std::net::Ipv4Addr::from(number).to_string();
                    prop_assert_eq!(set.contains_number(u128::from(number)), ylo(text.as_bytes(), pattern.as_bytes()), "{}", text);
                }
            }
        }
    }

    #[test]
    fn patterns_with_too_many_matches_are_given_up_before_they_are_listed() {
        for tail in 0..=255 {
            assert!(ipv4(format!("*.{tail}").as_bytes()).is_none(), "*.{tail}");
        }
    }

    #[test]
    fn usual_patterns_are_networks() {
        assert_eq!(ipv4(b"192.168.*").unwrap().words(), ["192.168.0.0/16"]);
        assert_eq!(ipv4(b"10.0.0.?").unwrap().words(), ["10.0.0.0-10.0.0.9"]);
        assert_eq!(ipv4(b"1?.*").unwrap().words(), ["10.0.0.0-19.255.255.255"]);
        assert!(ipv4(b"*").unwrap().is_full());
        assert!(ipv4(b"*.example.com").unwrap().is_empty());
        assert!(ipv4(b"*.7").is_none());
    }

    #[test]
    fn a_pattern_as_long_as_the_longest_address_matches_and_a_longer_one_does_not() {
        assert_eq!(
            ipv4(b"25?.255.255.255").unwrap().words(),
            [
                "250.255.255.255",
                "251.255.255.255",
                "252.255.255.255",
                "253.255.255.255",
                "254.255.255.255",
                "255.255.255.255"
            ]
        );
        // With a star beside each character, as long as one can be.
        let starred = "255.255.255.255".chars().fold("*".to_owned(), |all, c| format!("{all}{c}*"));
        assert_eq!(ipv4(starred.as_bytes()).unwrap().words(), ["255.255.255.255"]);
        assert!(ipv4(format!("{starred}5").as_bytes()).unwrap().is_empty());
    }
}
