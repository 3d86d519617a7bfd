//! The repairs that this host has seen.

use std::io::ErrorKind;

use super::{Entry, Phase, RecordError, StateDir};
use crate::host::{Host, NEW_SUFFIX};
use crate::plan::restraint::{Attempt, mended};

/// Every repair on record, the oldest first, and the records that cannot be read, each with the reason.
#[derive(Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub unreadable: Vec<(String, RecordError)>,
}

impl History {
    /// The repairs as restraint counts them.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.entries.iter().map(Entry::attempt).collect()
    }
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
pub fn history(state: &StateDir) -> Result<History, RecordError> {
    let host = Host::live();
    let mut history = History::default();
    for id in ids(state)? {
        match Entry::load(&host, state, &id) {
            Ok(entry) => history.entries.push(entry),
            Err(error) => history.unreadable.push((id, error)),
        }
    }
    Ok(history)
}

/// The ids of all records, sorted.
pub(super) fn ids(state: &StateDir) -> Result<Vec<String>, RecordError> {
    let id = |name: &str| name.strip_suffix(".json").filter(|id| !id.starts_with('.')).map(str::to_owned);
    let mut ids: Vec<String> = names(state)?.iter().filter_map(|name| id(name)).collect();
    ids.sort();
    Ok(ids)
}

/// The ids of records whose writing was cut short.
pub(super) fn half_written(state: &StateDir) -> Result<Vec<String>, RecordError> {
    let id = |name: &str| {
        let id = name.strip_prefix('.')?.strip_suffix(NEW_SUFFIX)?.strip_suffix(".json")?;
        state.file(id).is_ok().then(|| id.to_owned())
    };
    Ok(names(state)?.iter().filter_map(|name| id(name)).collect())
}

fn names(state: &StateDir) -> Result<Vec<String>, RecordError> {
    let path = state.repairs();
    let listed = |source| RecordError::List { path: path.clone(), source };
    let folder = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder.map_err(listed)?,
    };
    let mut names = Vec::new();
    for entry in folder {
        names.extend(entry.map_err(listed)?.file_name().into_string().ok());
    }
    Ok(names)
}
