//! Taking back what a pass left behind that was ended in the middle.

use super::history::{half_written, ids};
use super::over::Read;
use super::reserve::make_room;
use super::undo::roll_back;
use super::{Entry, Phase, RecordError, StateDir, Undo};
use crate::facts::escape;
use crate::host::Host;

/// How often it is tried to take back what could not be taken back before: what stood in the way may have been a lock, a full
/// disk or a service that was down.
const TRIES: u8 = 3;

/// One repair that was found cut short.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Recovered {
    pub id: String,
    /// `taken back: …`, or why not.
    pub note: String,
}

/// Whether there may be something for [`recover`] to take back.
pub fn is_unfinished(host: &Host, state: &StateDir) -> Result<bool, RecordError> {
    let ended = |id: &String| Entry::load(host, state, id).is_ok_and(|entry| !entry.phase.is_unfinished());
    Ok(!ids(host, state)?.iter().all(ended))
}

/// Takes back every repair that was begun and neither confirmed nor taken back, the youngest first; and what is left of the
/// youngest of all, if that failed before: nothing has been built on it. A record that cannot be
/// understood is set aside. The caller holds the lock.
pub fn recover(host: &Host, state: &StateDir) -> Result<Vec<Recovered>, RecordError> {
    let mut recovered = Vec::new();
    for id in half_written(host, state)? {
        host.sweep(&state.file(&id)?);
    }
    for (age, id) in ids(host, state)?.into_iter().rev().enumerate() {
        let is_left = |entry: &Entry| age == 0 && entry.phase == Phase::Failed && entry.tries < TRIES;
        match state.read(host, &id) {
            Ok(Read::Entry(entry)) if entry.phase.is_unfinished() || is_left(&entry) => {
                recovered.push(cut_short(host, state, *entry));
            }
            Ok(_) => {}
            Err(error @ (RecordError::Form { .. } | RecordError::Damaged { .. })) => {
                recovered.push(set_aside(host, state, &id, &error))
            }
            Err(error) => recovered.push(Recovered { id: escape(&id), note: crate::chain(&error) }),
        }
    }
    Ok(recovered)
}

fn cut_short(host: &Host, state: &StateDir, mut entry: Entry) -> Recovered {
    make_room(host, state);
    for step in &entry.steps {
        for path in files(&step.undo) {
            host.sweep(path);
        }
    }
    let (phase, note) = match roll_back(host, state, &entry) {
        Ok(()) => (Phase::RolledBack, "it was cut short and has been taken back".to_owned()),
        Err(error) => (Phase::Failed, format!("it was cut short and cannot be taken back: {}", crate::chain(&error))),
    };
    if phase == Phase::Failed {
        entry.tries += 1;
    }
    let id = entry.id.clone();
    let note = match entry.end(host, state, phase, Some(note.clone())) {
        Ok(()) => note,
        Err(error) => format!("{note} ({})", crate::chain(&error)),
    };
    Recovered { id, note }
}

fn files(undo: &Undo) -> Vec<&std::path::Path> {
    match undo {
        Undo::File(file) => vec![&file.path],
        Undo::Keys { keys } => keys.iter().flat_map(|k| [k.path.as_path(), k.public.path.as_path()]).collect(),
        Undo::Ufw { files, .. } => files.iter().map(|f| f.path.as_path()).collect(),
        _ => Vec::new(),
    }
}

/// Out of the way, and not deleted: a person may still read it.
fn set_aside(host: &Host, state: &StateDir, id: &str, error: &RecordError) -> Recovered {
    let why = crate::chain(error);
    let aside = format!("{id}.unreadable");
    let note = match host.rename_beside(&state.repairs().join(format!("{id}.json")), &aside) {
        Ok(()) => format!("{why}; set aside as {}", escape(&aside)),
        Err(failed) => format!("{why}; it cannot be set aside: {failed}"),
    };
    Recovered { id: escape(id), note }
}
