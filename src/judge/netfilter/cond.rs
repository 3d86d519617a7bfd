//! For which sources a match holds.

use super::flow::Doubt;
use crate::facts::{AddrSet, Family};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cond {
    Always,
    Never,
    Sources(AddrSet),
    Maybe(Doubt),
    /// For some sources surely, for others perhaps; the two are disjoint.
    Part {
        yes: AddrSet,
        maybe: AddrSet,
        doubt: Doubt,
    },
}

impl Cond {
    pub fn known(holds: bool) -> Cond {
        if holds { Cond::Always } else { Cond::Never }
    }

    pub fn sources(set: AddrSet) -> Cond {
        match () {
            () if set.is_empty() => Cond::Never,
            () if set.is_full() => Cond::Always,
            () => Cond::Sources(set),
        }
    }

    fn part(yes: AddrSet, maybe: AddrSet, doubt: Doubt) -> Cond {
        if maybe.is_empty() {
            return Cond::sources(yes);
        }
        if maybe.is_full() { Cond::Maybe(doubt) } else { Cond::Part { yes, maybe, doubt } }
    }

    /// The sources for which it holds surely, and those for which it may hold.
    fn parts(self, family: Family) -> (AddrSet, AddrSet, Option<Doubt>) {
        let none = || AddrSet::empty(family);
        match self {
            Cond::Always => (AddrSet::full(family), none(), None),
            Cond::Never => (none(), none(), None),
            Cond::Sources(yes) => (yes, none(), None),
            Cond::Maybe(doubt) => (none(), AddrSet::full(family), Some(doubt)),
            Cond::Part { yes, maybe, doubt } => (yes, maybe, Some(doubt)),
        }
    }

    #[must_use]
    pub fn negated_if(self, negate: bool) -> Cond {
        if !negate {
            return self;
        }
        match self {
            Cond::Always => Cond::Never,
            Cond::Never => Cond::Always,
            Cond::Sources(set) => Cond::sources(set.complement()),
            Cond::Maybe(doubt) => Cond::Maybe(doubt),
            Cond::Part { yes, maybe, doubt } => {
                let no = yes.union(&maybe).complement();
                Cond::part(no, maybe, doubt)
            }
        }
    }

    #[must_use]
    pub fn and(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Never, _) | (_, Cond::Never) => Cond::Never,
            (Cond::Always, cond) | (cond, Cond::Always) => cond,
            (Cond::Sources(a), Cond::Sources(b)) => Cond::sources(a.intersection(&b)),
            (Cond::Maybe(a), Cond::Maybe(b)) => Cond::Maybe(worse(a, b)),
            (a, b) => {
                let family = family_of(&a).or(family_of(&b)).unwrap_or(Family::Ipv4);
                let (ya, ma, da) = a.parts(family);
                let (yb, mb, db) = b.parts(family);
                let yes = ya.intersection(&yb);
                let maybe = ya.union(&ma).intersection(&yb.union(&mb)).minus(&yes);
                match (da, db) {
                    (Some(a), Some(b)) => Cond::part(yes, maybe, worse(a, b)),
                    (Some(d), None) | (None, Some(d)) => Cond::part(yes, maybe, d),
                    (None, None) => Cond::sources(yes),
                }
            }
        }
    }

    #[must_use]
    pub fn or(self, other: Cond) -> Cond {
        match (self, other) {
            (Cond::Always, _) | (_, Cond::Always) => Cond::Always,
            (Cond::Never, cond) | (cond, Cond::Never) => cond,
            (Cond::Sources(mut a), Cond::Sources(b)) => {
                a.union_with(&b);
                Cond::sources(a)
            }
            (a, b) => a.negated_if(true).and(b.negated_if(true)).negated_if(true),
        }
    }
}

fn family_of(cond: &Cond) -> Option<Family> {
    match cond {
        Cond::Sources(set) | Cond::Part { yes: set, .. } => Some(set.family()),
        _ => None,
    }
}

fn worse(a: Doubt, b: Doubt) -> Doubt {
    if b.kind > a.kind { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn truth(cond: &Cond, n: u128) -> Option<bool> {
        match cond {
            Cond::Always => Some(true),
            Cond::Never => Some(false),
            Cond::Sources(s) => Some(s.contains_number(n)),
            Cond::Maybe(_) => None,
            Cond::Part { yes, maybe, .. } => {
                if maybe.contains_number(n) {
                    None
                } else {
                    Some(yes.contains_number(n))
                }
            }
        }
    }

    fn any_cond() -> impl Strategy<Value = Cond> {
        let range = |(a, b): (u8, u8)| AddrSet::range(Family::Ipv4, u128::from(a.min(b)), u128::from(a.max(b)));
        let doubt = || Doubt::unknown("x");
        prop_oneof![
            Just(Cond::Always),
            Just(Cond::Never),
            Just(Cond::Maybe(doubt())),
            any::<(u8, u8)>().prop_map(move |r| Cond::sources(range(r))),
            (any::<(u8, u8)>(), any::<(u8, u8)>()).prop_map(move |(a, b)| Cond::part(
                range(a),
                range(b).minus(&range(a)),
                doubt()
            )),
        ]
    }

    #[test]
    fn who_is_nobody_or_everybody_is_said_in_one_way() {
        for family in Family::BOTH {
            assert_eq!(Cond::sources(AddrSet::empty(family)), Cond::Never);
            assert_eq!(Cond::sources(AddrSet::full(family)), Cond::Always);
            assert_eq!(Cond::part(AddrSet::empty(family), AddrSet::empty(family), Doubt::unknown("x")), Cond::Never);
        }
    }

    #[test]
    fn of_two_doubts_the_worse_is_told_and_of_equal_ones_the_first() {
        let both = |a: Doubt, b: Doubt| Cond::Maybe(a).and(Cond::Maybe(b));
        let (rate, time, queue) = (Doubt::conditional("rate"), Doubt::conditional("time"), Doubt::unknown("queue"));
        assert_eq!(both(rate.clone(), time.clone()), Cond::Maybe(rate.clone()));
        assert_eq!(both(time, queue.clone()), Cond::Maybe(queue.clone()));
        assert_eq!(both(queue.clone(), rate), Cond::Maybe(queue));
    }

    proptest! {
        #[test]
        fn the_three_operations_are_those_of_three_valued_logic(a in any_cond(), b in any_cond(), n in 0u128..300) {
            let (x, y) = (truth(&a, n), truth(&b, n));
            let and = match (x, y) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            };
            let or = match (x, y) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            };
            prop_assert_eq!(truth(&a.clone().negated_if(true), n), x.map(|v| !v));
            prop_assert_eq!(truth(&a.clone().and(b.clone()), n), and);
            prop_assert_eq!(truth(&a.or(b), n), or);
        }
    }
}
