//! The repairs that this host has seen.

use std::io::ErrorKind;

use super::{Entry, RecordError, StateDir};
use crate::host::Host;

/// Every repair on record, the oldest first, and the records that cannot be read, each with the reason.
#[derive(Debug, Default)]
pub struct History {
    pub entries: Vec<Entry>,
    pub unreadable: Vec<(String, RecordError)>,
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
    let path = state.repairs();
    let listed = |source| RecordError::List { path: path.clone(), source };
    let folder = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        folder => folder.map_err(listed)?,
    };
    let mut ids = Vec::new();
    for entry in folder {
        let name = entry.map_err(listed)?.file_name();
        // A file that is still being written begins with a dot.
        if let Some(id) = name.to_str().and_then(|n| n.strip_suffix(".json")).filter(|id| !id.starts_with('.')) {
            ids.push(id.to_owned());
        }
    }
    ids.sort();
    Ok(ids)
}
