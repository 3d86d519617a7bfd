//! What was done to this host and how it is taken back: one file a repair, written before the host is touched.
#![forbid(unsafe_code)]

mod forgiven;
mod healthy;
mod history;
mod hold;
mod id;
mod ledger;
mod moment;
mod over;
mod recover;
mod reserve;
mod seal;
mod undo;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::host::{FileError, Host, ReplaceError};

use over::Over;

pub use healthy::{keep_healthy, kept_healthy};
pub use history::{History, attempts, history};
pub use hold::{Hold, REASON_LIMIT};
pub use ledger::{Entry, Link, MadeKey, Opening, Phase, Replaced, Saved, StepEntry, Trigger, Undo};
pub use moment::{Moment, Uptime, on_line};
pub use recover::{Recovered, is_unfinished, recover};
pub use reserve::{free_reserve, keep_reserve, reserve};
pub(crate) use undo::{LOCK_WAIT, roll_back};
pub use undo::{UndoError, Undone, undo};

/// Where this program keeps what it did (root's alone), and where it keeps its lock.
#[derive(Debug, Clone)]
pub struct StateDir {
    state: PathBuf,
    run: PathBuf,
    over: Over,
}

impl Default for StateDir {
    fn default() -> StateDir {
        StateDir::at("/var/lib/ssh-rescue", "/run/ssh-rescue")
    }
}

#[derive(Debug, Error)]
pub enum RecordError {
    #[error("make {path}")]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("free what is kept in {path}")]
    Free {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("list {path}")]
    List {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("write the record of repair {id}")]
    Write {
        id: String,
        #[source]
        source: ReplaceError,
    },
    #[error("save {what}")]
    Save {
        what: String,
        #[source]
        source: ReplaceError,
    },
    #[error("read the record of repair {id}")]
    Read {
        id: String,
        #[source]
        source: FileError,
    },
    #[error("the record of repair {id} is no record of this program")]
    Form {
        id: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("the record of repair {id} is damaged")]
    Damaged { id: String },
    #[error("the hold on record is damaged; `ssh-rescue release` ends it")]
    DamagedHold,
    /// What cannot be read again must not be begun.
    #[error("the record of repair {id} would be larger than {} bytes", crate::host::FILE_LIMIT)]
    TooLarge { id: String },
    #[error("the hold on record is no hold of this program; `ssh-rescue release` ends it")]
    Hold(#[source] serde_json::Error),
    #[error("there is a repair {0} on record already")]
    Taken(String),
    #[error("there is no repair `{0}`; `ssh-rescue history` lists them")]
    NoSuch(String),
}

impl RecordError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, RecordError::Read { source, .. } if source.is_not_found())
    }
}

impl StateDir {
    /// Where a host keeps it. A disk keeps it where it will look for it itself when it runs; its /run is of no use, so the
    /// lock is there too.
    pub fn of(host: &Host) -> StateDir {
        let live = StateDir::default();
        match host.mounted_at() {
            None => live,
            Some(_) => StateDir { run: live.state.clone(), ..live },
        }
    }

    pub fn at(state: impl Into<PathBuf>, run: impl Into<PathBuf>) -> StateDir {
        StateDir { state: state.into(), run: run.into(), over: Over::default() }
    }

    pub fn path(&self) -> &Path {
        &self.state
    }

    /// Where the lock is.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// One JSON file for each repair.
    fn repairs(&self) -> PathBuf {
        self.state.join("repairs")
    }

    /// sshd's files of when it was healthy.
    fn healthy(&self) -> PathBuf {
        self.state.join("sshd")
    }

    /// Room for a full disk.
    fn reserve(&self) -> PathBuf {
        self.state.join("reserve")
    }

    /// The rulesets that were saved before a repair took them away.
    fn rulesets(&self, id: &str) -> PathBuf {
        self.state.join("rulesets").join(id)
    }

    fn file(&self, id: &str) -> Result<PathBuf, RecordError> {
        let plain = !id.is_empty() && id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        match plain {
            true => Ok(self.repairs().join(format!("{id}.json"))),
            false => Err(RecordError::NoSuch(crate::facts::escape(id))),
        }
    }
}

/// Makes a folder and those above it, for their owner alone.
fn make_folder(host: &Host, path: &Path) -> Result<(), RecordError> {
    host.make_folders(path).map_err(|source| RecordError::Make { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_a_file_and_nothing_else() {
        let state = StateDir::at("/s", "/r");
        let id = state.new_id(&Host::live());
        assert_eq!(state.file(&id).unwrap(), Path::new("/s/repairs").join(format!("{id}.json")));
        assert_eq!((id.len(), &id[8..9], &id[15..16]), (20, "T", "-"));
        for wrong in ["", "..", "../x", "a/b", "a.b", "a\n"] {
            assert!(matches!(state.file(wrong), Err(RecordError::NoSuch(_))), "{wrong:?}");
        }
    }
}
