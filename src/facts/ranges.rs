//! Intervals by their first number: a single one is kept in place, for most sets are one.

use std::collections::BTreeMap;

type Range = (u128, u128);

/// First and last, both included. Who inserts keeps them disjoint.
#[derive(Debug, Clone)]
pub enum Ranges {
    One(Option<Range>),
    Many(BTreeMap<u128, u128>),
}

impl Ranges {
    pub fn new() -> Ranges {
        Ranges::One(None)
    }

    fn parts(&self) -> (Option<Range>, Option<&BTreeMap<u128, u128>>) {
        match self {
            Ranges::One(one) => (*one, None),
            Ranges::Many(many) => (None, Some(many)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Range> + '_ {
        let (one, many) = self.parts();
        one.into_iter().chain(many.into_iter().flatten().map(|(&a, &b)| (a, b)))
    }

    /// Those that begin from `start` to `end`, both included.
    pub fn starting(&self, start: u128, end: u128) -> impl Iterator<Item = Range> + '_ {
        let (one, many) = self.parts();
        let one = one.filter(|(a, _)| (start..=end).contains(a));
        one.into_iter().chain(many.into_iter().flat_map(move |m| m.range(start..=end)).map(|(&a, &b)| (a, b)))
    }

    /// The last one that begins at `n` or before it.
    pub fn before(&self, n: u128) -> Option<Range> {
        match self {
            Ranges::One(one) => one.filter(|(a, _)| *a <= n),
            Ranges::Many(many) => many.range(..=n).next_back().map(|(&a, &b)| (a, b)),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Ranges::One(one) => usize::from(one.is_some()),
            Ranges::Many(many) => many.len(),
        }
    }

    /// One that begins at the same number is replaced.
    pub fn insert(&mut self, first: u128, last: u128) {
        match self {
            Ranges::One(Some((a, b))) if *a != first => {
                *self = Ranges::Many(BTreeMap::from([(*a, *b), (first, last)]));
            }
            Ranges::One(one) => *one = Some((first, last)),
            Ranges::Many(many) => drop(many.insert(first, last)),
        }
    }

    pub fn remove(&mut self, first: u128) {
        match self {
            Ranges::One(one) => *one = one.filter(|(a, _)| *a != first),
            Ranges::Many(many) => drop(many.remove(&first)),
        }
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
