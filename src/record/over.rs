//! Repairs on record that are over: their files are read once, and again only where they are others by then.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, PoisonError};

use super::history::Past;
use super::{Entry, Phase, RecordError, StateDir};
use crate::host::Host;

/// One writing of a file: each makes a new inode, and whatever changes it in place sets its ctime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writing {
    inode: u64,
    changed: (i64, i64),
    size: u64,
}

/// Shared by the copies of a [`StateDir`], so that a pass of an agent which has repaired a thousand times reads no thousand
/// files.
#[derive(Debug, Clone, Default)]
pub struct Over(Arc<Mutex<HashMap<String, (Writing, Past)>>>);

/// A record as far as a pass needs it.
pub enum Read {
    /// It is over, and was so when it was read before.
    Over(Past),
    Entry(Box<Entry>),
}

impl StateDir {
    /// The record, from its file unless that is known.
    pub(super) fn read(&self, host: &Host, id: &str) -> Result<Read, RecordError> {
        // Before the file is read: if it is replaced in between, the next look finds another.
        let writing = self.writing(host, id);
        let known = self.over.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        match (writing, known) {
            (Some(now), Some((then, past))) if now == then => return Ok(Read::Over(past)),
            _ => {}
        }
        let entry = Entry::load(host, self, id)?;
        if let (Some(writing), true) = (writing, entry.phase == Phase::Confirmed || entry.phase.is_taken_back()) {
            let mut known = self.over.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.insert(id.to_owned(), (writing, entry.past()));
        }
        Ok(Read::Entry(Box::new(entry)))
    }

    fn writing(&self, host: &Host, id: &str) -> Option<Writing> {
        let meta = host.symlink_metadata(&self.file(id).ok()?).ok()?;
        Some(Writing { inode: meta.ino(), changed: (meta.ctime(), meta.ctime_nsec()), size: meta.size() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::restraint::Attempt;
    use crate::record::{attempts, recover};
    use serde_json::Value;

    fn entry(id: &str, phase: Phase) -> Entry {
        let plan = Plan { id: id.to_owned(), steps: Vec::new(), declined: Vec::new() };
        Entry { phase, ..Entry::new(plan, "before", Value::Null) }
    }

    #[test]
    fn a_record_that_is_over_is_read_again_where_its_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        let is_over = |id: &str| matches!(state.read(&host, id).unwrap(), Read::Over(_));
        entry("a", Phase::Confirmed).save(&host, &state).unwrap();
        entry("b", Phase::Intent).save(&host, &state).unwrap();
        assert_eq!([is_over("a"), is_over("a"), is_over("b"), is_over("b")], [false, true, false, false]);
        // Another process undoes it: that is a word, which counts.
        entry("a", Phase::Undone).save(&host, &state.clone()).unwrap();
        let undone = |attempts: Vec<Attempt>| attempts.iter().filter(|a| a.undone).count();
        assert_eq!(undone(attempts(&host, &state).unwrap()), 1);
        assert_eq!(undone(attempts(&host, &state).unwrap()), 1);
        // What is damaged in place is noticed, and what was cut short is taken back.
        let file = folder.path().join("repairs/a.json");
        let text = std::fs::read_to_string(&file).unwrap().replace("before", "befor3");
        std::fs::write(&file, text).unwrap();
        let mut recovered: Vec<String> = recover(&host, &state).unwrap().into_iter().map(|r| r.id).collect();
        recovered.sort();
        assert_eq!(recovered, ["a", "b"]);
        assert_eq!(recover(&host, &state).unwrap(), []);
    }
}
