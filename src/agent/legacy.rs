//! Tables of iptables-legacy, which announce nothing: where there are some they are polled, and where audit is on it says
//! that somebody changed some, in some network namespace.

use std::time::Duration;

use tokio::time::Instant;

use super::changer::Changer;
use crate::decode::legacy::number;
use crate::facts::{Family, LegacyRules, Seen, Table};
use crate::host::Host;
use crate::observe::firewall::legacy_tables;

const EVERY: Duration = Duration::from_secs(1);
/// Large tables are polled more rarely: never more than this share of a core.
const SHARE: u32 = 200;
/// Among more suspects than these nobody looks for one.
const MOST: usize = 16;

/// A change that audit told of, by somebody of whom nobody knows any more in which network namespace it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub table: (Family, String),
    /// How many entries the table had until then.
    pub entries: u32,
    pub by: Option<Changer>,
}

/// This host's tables are other ones than at the last poll.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// By whom, if nobody else can have been it.
    pub by: Option<Changer>,
}

/// What the tables were at the last poll.
#[derive(Default)]
pub struct Legacy {
    tables: [Vec<Known>; 2],
    next: Option<Instant>,
    suspects: Vec<Suspect>,
    /// How soon the next poll may be.
    soonest: Option<Instant>,
}

/// A table, and of how many entries the kernel says it is.
#[derive(Clone, PartialEq)]
struct Known {
    table: Table,
    entries: u32,
}

impl Legacy {
    /// When to poll; None where there are no such tables. While somebody is `looking`, nobody is looked for.
    pub fn next(&self, looking: bool) -> Option<Instant> {
        let soonest = self.soonest.filter(|_| !looking && !self.suspects.is_empty());
        [self.next, soonest].into_iter().flatten().min()
    }

    /// Somebody changed a table, here or elsewhere: they are polled as soon as may be.
    pub fn suspect(&mut self, suspect: Suspect) {
        let known = |other: &Suspect| other.table == suspect.table && other.by == suspect.by;
        if self.suspects.len() < MOST && !self.suspects.iter().any(known) {
            self.suspects.push(suspect);
        }
    }

    /// The changes were the repair's own.
    pub fn acquit(&mut self) {
        self.suspects.clear();
    }

    /// Polls them.
    pub fn changed(&mut self, host: &Host) -> Option<Changed> {
        let begin = Instant::now();
        let now = Family::BOTH.map(|family| match legacy_tables(host, family) {
            Seen::Present(rules) => known(rules),
            _ => Vec::new(),
        });
        let any = now.iter().any(|tables| !tables.is_empty());
        let before = std::mem::replace(&mut self.tables, now);
        let suspects = std::mem::take(&mut self.suspects);
        let end = Instant::now();
        let cost = (end - begin) * SHARE;
        self.soonest = Some(end + cost);
        self.next = any.then(|| end + EVERY.max(cost));
        (before != self.tables).then(|| Changed { by: blame(&suspects, &before, &self.tables) })
    }
}

fn known(rules: LegacyRules) -> Vec<Known> {
    let numbers = rules.raw.iter().map(|raw| number(raw).unwrap_or_default());
    rules.tables.into_iter().zip(numbers).map(|(table, entries)| Known { table, entries }).collect()
}

/// Who alone can have made these changes: one process, and each of its changes began at what was known.
fn blame(suspects: &[Suspect], before: &[Vec<Known>; 2], after: &[Vec<Known>; 2]) -> Option<Changer> {
    if suspects.len() >= MOST {
        return None;
    }
    let mut by = None;
    for suspect in suspects {
        let of = |tables: &[Vec<Known>; 2]| {
            let of_family = Family::BOTH.iter().zip(tables).find(|(family, _)| **family == suspect.table.0)?.1;
            of_family.iter().find(|known| known.table.name == suspect.table.1).cloned()
        };
        let (old, new) = (of(before), of(after));
        if old == new {
            continue;
        }
        let fits = old.map_or(0, |known| known.entries) == suspect.entries;
        let alone = by.is_none_or(|by: &Changer| Some(by) == suspect.by.as_ref());
        by = Some(suspect.by.as_ref().filter(|_| fits && alone)?);
    }
    by.cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Backend, TableFamily};

    fn table(name: &str, entries: u32) -> Known {
        let table = Table {
            backend: Backend::Legacy,
            family: TableFamily::Ip,
            name: name.to_owned(),
            dormant: false,
            owner: None,
            chains: Vec::new(),
            sets: Vec::new().into(),
        };
        Known { table, entries }
    }

    fn suspect(name: &str, entries: u32, by: &str) -> Suspect {
        let by = (!by.is_empty()).then(|| Changer::of(7, by, |_| None));
        Suspect { table: (Family::Ipv4, name.to_owned()), entries, by }
    }

    fn blamed(suspects: &[Suspect]) -> Option<String> {
        let before = [vec![table("filter", 4), table("nat", 5)], vec![table("mangle", 4)]];
        let after = [vec![table("filter", 6), table("nat", 5), table("raw", 4)], vec![table("mangle", 4)]];
        blame(suspects, &before, &after).map(|by| by.name)
    }

    #[test]
    fn only_who_alone_can_have_done_it_is_blamed() {
        let (ufw, other) = (suspect("filter", 4, "ufw"), |entries| suspect("filter", entries, "other"));
        assert_eq!(blamed(&[]), None);
        assert_eq!(blamed(std::slice::from_ref(&ufw)).as_deref(), Some("ufw"));
        // A table that was not there before.
        assert_eq!(blamed(&[suspect("raw", 0, "ufw"), ufw.clone()]).as_deref(), Some("ufw"));
        // Of a table that did not change, here: of another namespace.
        assert_eq!(blamed(&[suspect("nat", 5, "other"), ufw.clone()]).as_deref(), Some("ufw"));
        assert_eq!(blamed(&[suspect("mangle", 4, "other")]), None);
        // It began elsewhere.
        assert_eq!(blamed(&[other(5)]), None);
        // It may have been either.
        assert_eq!(blamed(&[ufw.clone(), other(5)]), None);
        assert_eq!(blamed(&[ufw.clone(), other(4)]), None);
        assert_eq!(blamed(&[ufw.clone(), suspect("filter", 4, "")]), None);
        assert_eq!(blamed(&[suspect("filter", 4, ""), ufw.clone()]), None);
        assert_eq!(blamed(&vec![ufw; MOST]), None);
    }

    #[tokio::test]
    async fn a_suspect_is_looked_for_soon_and_while_nobody_looks() {
        let mut legacy = Legacy { soonest: Some(Instant::now()), ..Legacy::default() };
        assert_eq!(legacy.next(false), None);
        for name in ["ufw", "ufw", "other"] {
            legacy.suspect(suspect("filter", 4, name));
        }
        assert_eq!(legacy.suspects.len(), 2);
        assert_eq!(legacy.next(false), legacy.soonest);
        assert_eq!(legacy.next(true), None);
        legacy.acquit();
        assert_eq!(legacy.next(false), None);
    }
}
