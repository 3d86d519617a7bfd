//! Disjoint intervals in order. A single one is kept in place, for most sets are one. Many are kept in blocks that copies share:
//! what a rule takes out of a set of fifty thousand, and what comes back to it, costs a pointer a block.

mod block;

use block::{BLOCK, Block, Cursor, after, join, share, splice};

pub use block::Range;

#[derive(Debug, Clone)]
pub enum Ranges {
    One(Option<Range>),
    Many { blocks: Vec<Block>, len: usize },
}

impl Ranges {
    pub fn new() -> Ranges {
        Ranges::One(None)
    }

    /// The one from `first` to `last`.
    pub fn one(first: u128, last: u128) -> Ranges {
        Ranges::One((first <= last).then_some((first, last)))
    }

    /// All of these, which may overlap, in no order.
    pub fn all(mut ranges: Vec<Range>) -> Ranges {
        // Mostly they are a few runs that are in order, of which this sort makes use.
        ranges.sort();
        let mut blocks = Vec::new();
        let mut run: Vec<Range> = Vec::new();
        for (first, last) in ranges {
            match run.last_mut() {
                Some((_, end)) if end.saturating_add(1) >= first => *end = last.max(*end),
                _ => {
                    if run.len() == BLOCK {
                        blocks.extend(Block::of(std::mem::replace(&mut run, Vec::with_capacity(BLOCK))));
                    }
                    run.push((first, last));
                }
            }
        }
        blocks.extend(Block::of(run));
        Ranges::of(blocks)
    }

    fn of(blocks: Vec<Block>) -> Ranges {
        let len = blocks.iter().map(|b| b.ranges.len()).sum();
        match blocks.as_slice() {
            [] => Ranges::One(None),
            [only] if len == 1 => Ranges::One(only.ranges.first().copied()),
            _ => Ranges::Many { blocks, len },
        }
    }

    fn parts(&self) -> (Option<Range>, &[Block]) {
        match self {
            Ranges::One(one) => (*one, &[]),
            Ranges::Many { blocks, .. } => (None, blocks),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        let (one, blocks) = self.parts();
        one.into_iter().chain(blocks.iter().flat_map(|b| b.ranges.iter().copied()))
    }

    pub fn len(&self) -> usize {
        match self {
            Ranges::One(one) => usize::from(one.is_some()),
            Ranges::Many { len, .. } => *len,
        }
    }

    /// The last one that begins at `n` or before it.
    pub fn before(&self, n: u128) -> Option<Range> {
        match self {
            Ranges::One(one) => one.filter(|(first, _)| *first <= n),
            Ranges::Many { blocks, .. } => {
                let (block, at) = after(blocks, n);
                let own = at.checked_sub(1).and_then(|at| blocks.get(block)?.ranges.get(at));
                own.or_else(|| blocks.get(block.checked_sub(1)?)?.ranges.last()).copied()
            }
        }
    }

    pub fn insert(&mut self, first: u128, last: u128) {
        if let Ranges::One(None) = self {
            *self = Ranges::one(first, last);
            return;
        }
        let (mut from, mut to) = (first, last);
        if let Some((a, b)) = self.before(first).filter(|(_, b)| b.saturating_add(1) >= first) {
            if last <= b {
                return;
            }
            (from, to) = (a, last.max(b));
        }
        let reach = last.saturating_add(1);
        if let Some((_, b)) = self.before(reach) {
            to = to.max(b);
        }
        self.replace(from, reach, &[(from, to)]);
    }

    pub fn remove(&mut self, first: u128, last: u128) {
        if !self.remove_within(first, last) {
            self.remove_any(first, last);
        }
    }

    /// Takes it out of the one interval that holds all of it, as a ban does; false where there is none.
    fn remove_within(&mut self, first: u128, last: u128) -> bool {
        let Ranges::Many { blocks, len } = self else { return false };
        let (block, after) = after(blocks, first);
        let Some(at) = after.checked_sub(1) else { return false };
        let own = blocks.get(block).and_then(|b| b.ranges.get(at)).copied();
        let Some((a, b)) = own.filter(|(_, b)| last <= *b) else { return false };
        let (below, above) = ((a < first).then(|| (a, first - 1)), (last < b).then(|| (last + 1, b)));
        let left: &[Range] = match (below, above) {
            (Some(below), Some(above)) => &[below, above],
            (Some(one), None) | (None, Some(one)) => &[one],
            // A block may be left without any.
            (None, None) => return false,
        };
        *len = *len + left.len() - splice(blocks, (block, at), (block, after), left);
        true
    }

    fn remove_any(&mut self, first: u128, last: u128) {
        let Some(upper) = self.before(last).filter(|(_, b)| *b >= first) else { return };
        let lower = self.before(first).filter(|(a, b)| *a < first && *b >= first);
        let below = lower.map(|(a, _)| (a, first - 1));
        let above = (upper.1 > last).then(|| (last + 1, upper.1));
        let from = lower.map_or(first, |(a, _)| a);
        match (below, above) {
            (Some(below), Some(above)) => self.replace(from, last, &[below, above]),
            (Some(one), None) | (None, Some(one)) => self.replace(from, last, &[one]),
            (None, None) => self.replace(from, last, &[]),
        }
    }

    /// Puts others in the place of those that begin from `from` to `to`.
    fn replace(&mut self, from: u128, to: u128, with: &[Range]) {
        match self {
            Ranges::One(one) => {
                let kept = one.filter(|(first, _)| !(from..=to).contains(first));
                let mut all: Vec<Range> = kept.into_iter().chain(with.iter().copied()).collect();
                all.sort_unstable();
                *self = Ranges::of(Block::of(all).into_iter().collect());
            }
            Ranges::Many { blocks, len } => {
                let (begin, end) = (from.checked_sub(1).map_or((0, 0), |n| after(blocks, n)), after(blocks, to));
                *len = *len + with.len() - splice(blocks, begin, end, with);
                if *len < 2 {
                    *self = Ranges::of(std::mem::take(blocks));
                }
            }
        }
    }

    pub fn intersection(&self, other: &Ranges) -> Ranges {
        let (few, many) = if self.len() <= other.len() { (self, other) } else { (other, self) };
        if let Ranges::One(one) = few {
            let Some((first, last)) = *one else { return Ranges::new() };
            let alone = match many.before(last).filter(|(_, b)| *b >= first) {
                None => Some(None),
                Some((a, b)) if a <= first => Some(Some((first, last.min(b)))),
                Some((a, b)) => many.before(a - 1).is_none_or(|(_, b)| b < first).then_some(Some((a, last.min(b)))),
            };
            if let Some(one) = alone {
                return Ranges::One(one);
            }
        }
        // A few are looked up; of two that are alike in size both are gone through.
        if few.len() >= BLOCK && few.len() >= many.len() / 8 {
            return few.meet(many);
        }
        let mut out = Vec::new();
        few.iter().for_each(|(first, last)| many.give_within(first, last, &mut out));
        Ranges::of(out)
    }

    fn meet(&self, other: &Ranges) -> Ranges {
        let (mut own, mut others) = (Cursor::of(self.parts().1), Cursor::of(other.parts().1));
        let mut out = Vec::new();
        while let (Some((a, b)), Some((c, d))) = (own.next(), others.next()) {
            if own.give_shared(&mut others, &mut out) {
                continue;
            }
            if a.max(c) <= b.min(d) {
                join(&mut out, &[(a.max(c), b.min(d))]);
            }
            if b < d { own.step() } else { others.step() }
        }
        Ranges::of(out)
    }

    /// Gives the part from `first` to `last`.
    fn give_within(&self, first: u128, last: u128, out: &mut Vec<Block>) {
        let clip = |(a, b): Range| (a.max(first), b.min(last));
        let (one, blocks) = self.parts();
        one.map(clip).filter(|(a, b)| a <= b).into_iter().for_each(|one| join(out, &[one]));
        // Of an interval that begins further down only a part belongs to it.
        let lower = self.before(first).filter(|(a, b)| *a < first && *b >= first && one.is_none());
        lower.map(clip).into_iter().for_each(|head| join(out, &[head]));
        let mut at = first.checked_sub(1).map_or((0, 0), |n| after(blocks, n));
        let end = after(blocks, last);
        while at < end {
            let Some(block) = blocks.get(at.0) else { break };
            match if at.0 == end.0 { end.1 } else { block.ranges.len() } {
                upto if at.1 == 0 && upto == block.ranges.len() && block.last() <= last => share(out, block),
                upto => {
                    let own = block.ranges.get(at.1..upto).unwrap_or_default();
                    if let Some((tail, whole)) = own.split_last() {
                        join(out, whole);
                        join(out, &[clip(*tail)]);
                    }
                }
            }
            at = (at.0 + 1, 0);
        }
    }

    /// Adds all of `other`.
    pub fn unite(&mut self, other: &Ranges) {
        if self.len() == 0 {
            self.clone_from(other);
        } else if other.len() < BLOCK {
            other.iter().for_each(|(first, last)| self.insert(first, last));
        } else if self.len() < BLOCK {
            let few = std::mem::replace(self, other.clone());
            few.iter().for_each(|(first, last)| self.insert(first, last));
        } else {
            let (mut low, mut high) = (Cursor::of(self.parts().1), Cursor::of(other.parts().1));
            let mut out = Vec::new();
            while let Some((first, _)) = high.next() {
                low.give_upto(first, &mut out);
                std::mem::swap(&mut low, &mut high);
            }
            low.give_upto(u128::MAX, &mut out);
            *self = Ranges::of(out);
        }
    }

    /// Takes away all of `other`.
    pub fn without(&mut self, other: &Ranges) {
        if other.len() < BLOCK {
            other.iter().for_each(|(first, last)| self.remove(first, last));
            return;
        }
        if let Ranges::One(one) = self {
            let blocks: Vec<Block> = one.and_then(|one| Block::of(vec![one])).into_iter().collect();
            *self = Ranges::Many { len: blocks.len(), blocks };
        }
        let (mut own, mut taken) = (Cursor::of(self.parts().1), Cursor::of(other.parts().1));
        let mut out = Vec::new();
        let mut rest: Option<Range> = None;
        loop {
            if rest.is_none() {
                if own.skip_shared(&mut taken) || own.give_untouched(&taken, &mut out) {
                    continue;
                }
                rest = own.next();
                own.step();
            }
            let Some((a, b)) = rest else { break };
            match taken.next() {
                Some((_, d)) if d < a => taken.step(),
                Some((c, d)) if c <= b => {
                    if a < c {
                        join(&mut out, &[(a, c - 1)]);
                    }
                    rest = (d < b).then(|| (d + 1, b));
                    if d <= b {
                        taken.step();
                    }
                }
                _ => {
                    join(&mut out, &[(a, b)]);
                    rest = None;
                }
            }
        }
        *self = Ranges::of(out);
    }
}

impl PartialEq for Ranges {
    fn eq(&self, other: &Ranges) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Ranges {}

impl std::hash::Hash for Ranges {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|range| range.hash(state));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPACE: u128 = 400;

    fn build(parts: &[(u128, u128)]) -> Ranges {
        let mut out = Ranges::new();
        parts.iter().for_each(|(first, size)| out.insert(*first, first + size));
        out
    }

    fn parts(most: usize) -> impl Strategy<Value = Vec<(u128, u128)>> {
        prop::collection::vec((0..SPACE, 0u128..9), 0..most)
    }

    fn holds(ranges: &Ranges, n: u128) -> bool {
        ranges.iter().any(|(first, last)| (first..=last).contains(&n))
    }

    fn in_order(ranges: &Ranges) -> bool {
        let all: Vec<Range> = ranges.iter().collect();
        let (one, blocks) = ranges.parts();
        let kept = all.len() == ranges.len() && (one.is_none() || blocks.is_empty());
        let fit = blocks.iter().all(|b| (1..=BLOCK).contains(&b.ranges.len()) && b.first == b.ranges[0].0);
        kept && fit && all.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0)
    }

    proptest! {
        #[test]
        fn all_at_once_is_one_after_the_other(parts in parts(60)) {
            let all = Ranges::all(parts.iter().map(|(first, size)| (*first, first + size)).collect());
            prop_assert!(in_order(&all));
            prop_assert_eq!(all, build(&parts));
        }

        /// A rule takes a part out of a set, something happens to the part, and it comes back.
        #[test]
        fn a_part_that_leaves_and_comes_back_is_exact(
            whole in parts(60), condition in parts(12), bans in parts(12), other in parts(60)
        ) {
            let (whole, condition, bans, other) = (build(&whole), build(&condition), build(&bans), build(&other));
            let hit = whole.intersection(&condition);
            let mut rest = whole.clone();
            rest.without(&hit);
            let mut left = hit.clone();
            left.without(&bans);
            let mut back = rest.clone();
            back.unite(&left);
            let mut joined = other.clone();
            joined.unite(&back);
            let mut parted = back.clone();
            parted.without(&other);
            for ranges in [&whole, &hit, &rest, &left, &back, &joined, &parted] {
                prop_assert!(in_order(ranges), "{:?}", ranges);
            }
            for n in 0..SPACE + 10 {
                let (w, c, b, o) = (holds(&whole, n), holds(&condition, n), holds(&bans, n), holds(&other, n));
                let expected = w && !(c && b);
                prop_assert_eq!(holds(&hit, n), w && c);
                prop_assert_eq!(holds(&rest, n), w && !c);
                prop_assert_eq!(holds(&back, n), expected);
                prop_assert_eq!(holds(&joined, n), expected || o);
                prop_assert_eq!(holds(&parted, n), expected && !o);
                prop_assert_eq!(back.before(n), back.iter().take_while(|(first, _)| *first <= n).last());
            }
        }
    }
}
