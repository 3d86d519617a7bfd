//! The repairs that this host has seen.

use std::io::ErrorKind;

use super::over::Read;
use super::{Entry, Phase, RecordError, StateDir};
use crate::host::{Host, NEW_SUFFIX};
use crate::plan::restraint::{Attempt, mended};

/// Every repair on record, the oldest first, and the records that cannot be read, each with the reason.
#[derive(Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub unreadable: Vec<(String, RecordError)>,
}

impl Entry {
    pub fn attempt(&self) -> Attempt {
        let undone = self.phase == Phase::Undone;
        // The word of whoever undid it counts from when it was said.
        let at = self.ended.filter(|_| undone).unwrap_or(self.started);
        Attempt {
            at: u64::try_from(at.as_millisecond()).unwrap_or(0),
            what: mended(&self.plan.steps),
            who: self.trigger.as_ref().and_then(|t| t.who.clone()),
            undone,
        }
    }
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
    let attempt = |id: &String| match state.read(host, id).ok()? {
        Read::Over(attempt) => Some(attempt),
        Read::Entry(entry) => Some(entry.attempt()),
    };
    Ok(ids(host, state)?.iter().filter_map(attempt).collect())
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
