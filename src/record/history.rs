//! The repairs that this host has seen.

use std::io::ErrorKind;

use super::over::Read;
use super::{Entry, Moment, Phase, RecordError, StateDir};
use crate::host::{Host, NEW_SUFFIX};
use crate::plan::restraint::{Attempt, mended};

/// Every repair on record, the oldest first, and the records that cannot be read, each with the reason.
#[derive(Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub unreadable: Vec<(String, RecordError)>,
}

/// What restraint counts of a repair.
#[derive(Debug, Clone)]
pub struct Past {
    when: Moment,
    what: Vec<String>,
    who: Option<String>,
    undone: bool,
}

impl Past {
    /// `gap` ms before where its times put it.
    fn attempt(self, now: &Moment, gap: u64) -> Attempt {
        let Past { when, what, who, undone } = self;
        Attempt { at: when.on_line(now).saturating_sub(gap), what, who, undone }
    }
}

impl Entry {
    pub(super) fn past(&self) -> Past {
        let undone = self.phase == Phase::Undone;
        // The word of whoever undid it counts from when it was said.
        let when = match self.ended.filter(|_| undone) {
            Some(wall) => Moment { wall, uptime: self.finished.clone() },
            None => Moment { wall: self.started, uptime: self.began.clone() },
        };
        let who = self.trigger.as_ref().and_then(|t| t.who.clone());
        Past { when, what: mended(&self.plan.steps), who, undone }
    }

    /// The repair, which has just been made, as restraint counts it.
    pub fn attempt(&self, now: &Moment) -> Attempt {
        self.past().attempt(now, 0)
    }
}

/// The repairs on the line of [`Moment::on_line`]. Those of earlier boots that lie ahead of the clock, as where it begins in 1970,
/// were not all made at once: the last of them before this boot, and the others as long before it as they were.
fn placed(all: Vec<Past>, now: &Moment) -> Vec<Attempt> {
    let to_come = |past: &&Past| past.when.is_to_come(now);
    let last = all.iter().filter(to_come).map(|past| past.when.wall.as_millisecond()).max();
    let gap = |past: &Past| match (last, past.when.is_to_come(now)) {
        (Some(last), true) => last.abs_diff(past.when.wall.as_millisecond()),
        _ => 0,
    };
    all.into_iter().map(|past| (gap(&past), past)).map(|(gap, past)| past.attempt(now, gap)).collect()
}

/// Reads all records; none where nothing was ever repaired.
pub fn history(host: &Host, state: &StateDir) -> Result<History, RecordError> {
    let mut history = History::default();
    for id in ids(host, state)? {
        match Entry::load(host, state, &id) {
            Ok(entry) => history.entries.push(entry),
            Err(error) => history.unreadable.push((id, error)),
        }
    }
    Ok(history)
}

/// The repairs as restraint counts them, as far as their records can be read.
pub fn attempts(host: &Host, state: &StateDir) -> Result<Vec<Attempt>, RecordError> {
    let past = |id: &String| match state.read(host, id).ok()? {
        Read::Over(past) => Some(past),
        Read::Entry(entry) => Some(entry.past()),
    };
    Ok(placed(ids(host, state)?.iter().filter_map(past).collect(), &Moment::now(host)))
}

/// The ids of all records, sorted.
pub(super) fn ids(host: &Host, state: &StateDir) -> Result<Vec<String>, RecordError> {
    let id = |name: &str| name.strip_suffix(".json").filter(|id| !id.starts_with('.')).map(str::to_owned);
    let mut ids: Vec<String> = names(host, state)?.iter().filter_map(|name| id(name)).collect();
    ids.sort();
    Ok(ids)
}

/// The ids of records whose writing was cut short.
pub(super) fn half_written(host: &Host, state: &StateDir) -> Result<Vec<String>, RecordError> {
    let id = |name: &str| {
        let id = name.strip_prefix('.')?.strip_suffix(NEW_SUFFIX)?.strip_suffix(".json")?;
        state.file(id).is_ok().then(|| id.to_owned())
    };
    Ok(names(host, state)?.iter().filter_map(|name| id(name)).collect())
}

fn names(host: &Host, state: &StateDir) -> Result<Vec<String>, RecordError> {
    let path = state.repairs();
    match host.list(&path) {
        Ok(names) => Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(RecordError::List { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::moment::moment;
    use super::*;
    use crate::plan::restraint::{self, Leave};
    use crate::plan::{Plan, Step};
    use crate::policy::RestraintPolicy;

    const NOW: i64 = 1_795_000_000;
    const YEARS: i64 = 315_576_000;
    const POLICY: RestraintPolicy = RestraintPolicy { attempts: 3, per_seconds: 3600 };

    fn leave(made: &[Moment], undone: bool, now: &Moment) -> Leave {
        let past = |when: &Moment| Past { when: when.clone(), what: vec!["ssh.service".into()], who: None, undone };
        let history = restraint::History::new(placed(made.iter().map(past).collect(), now), 0);
        let step = Step::StartUnit { unit: "ssh.service".into(), reset_failed: false, unmask: false };
        let plan = Plan { id: "x".into(), steps: vec![step], declined: Vec::new() };
        history.leave(&POLICY, &plan, now.on_line(now))
    }

    #[test]
    fn a_clock_that_jumps_neither_closes_a_breaker_nor_keeps_it_open() {
        let made = [0, 60, 120].map(|s| moment("a", s * 1000, NOW + s as i64));
        for jump in [0, YEARS, -YEARS, -NOW] {
            let later = |seconds: u64| moment("a", seconds * 1000, NOW + seconds as i64 + jump);
            for undone in [false, true] {
                assert!(matches!(leave(&made, undone, &later(3_600)), Leave::Open(_)), "{jump}");
                assert_eq!(leave(&made, undone, &later(3_720)), Leave::Go, "{jump}");
            }
            assert!(matches!(leave(&made[..1], false, &later(1)), Leave::Wait { .. }), "{jump}");
            assert_eq!(leave(&made[..1], false, &later(7)), Leave::Go, "{jump}");
        }
    }

    #[test]
    fn repairs_of_earlier_boots_hold_nothing_back_for_longer_than_their_time() {
        let quarrel = [0, 60, 120].map(|s| moment("a", s * 1000, NOW + s as i64));
        let rare = [0, 1, 2].map(|day| moment("a", 5, NOW + day * 86_400));
        // By the clock, while it is believed.
        assert!(matches!(leave(&quarrel, false, &moment("b", 5_000, NOW + 3_600)), Leave::Open(_)));
        assert_eq!(leave(&quarrel, false, &moment("b", 5_000, NOW + 3_720)), Leave::Go);
        // It begins in 1970, and stays there.
        assert!(matches!(leave(&quarrel, false, &moment("b", 5_000, 20)), Leave::Open(_)));
        assert_eq!(leave(&quarrel, false, &moment("b", 3_600_000, 3_615)), Leave::Go);
        assert_eq!(leave(&rare, false, &moment("b", 7_000, 20)), Leave::Go);
    }
}
