//! The record of one repair: what was meant, what takes it back, and how it ended.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seal::{opened, sealed};
use super::{RecordError, StateDir, Uptime, make_folder};
use crate::facts::{Backend, Owned, TableFamily};
use crate::host::{FILE_LIMIT, Host};
use crate::plan::{Content, Plan};

/// No ruleset that a kernel takes is larger as text.
const KEPT_LIMIT: u64 = 1 << 30;

/// How far a repair got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its steps are being made.
    Intent,
    /// Its steps are made, and not yet seen to help.
    Applied,
    Confirmed,
    /// It did not help, or was cut short, and was taken back by itself.
    RolledBack,
    /// Somebody asked for it to be taken back.
    Undone,
    /// It was cut short, and could not be taken back whole: `note` says why.
    Failed,
}

impl Phase {
    /// Whether it is neither confirmed nor taken back.
    pub fn is_unfinished(self) -> bool {
        matches!(self, Phase::Intent | Phase::Applied)
    }

    /// Whether nothing of it is left on the host.
    pub fn is_taken_back(self) -> bool {
        matches!(self, Phase::RolledBack | Phase::Undone)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub version: u32,
    pub id: String,
    pub phase: Phase,
    pub started: Timestamp,
    /// The same by the clock that nobody sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Uptime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Uptime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// What a client saw before, and after.
    pub before: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// How often it was tried in vain to take it back once it had failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u8,
    pub plan: Plan,
    /// The steps that were begun, in their order.
    pub steps: Vec<StepEntry>,
    /// What the rehearsal showed.
    pub evidence: Value,
}

/// What had made a repair necessary, or who asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `changed by nft (pid 812)`
    pub what: String,
    /// The program or person, where it is known: `nft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
}

/// One step that was begun: recorded before it touches the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEntry {
    pub undo: Undo,
    pub done: bool,
}

/// What takes a step back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Undo {
    /// Delete the rules with the repair's tag.
    Rules {
        backend: Backend,
        family: TableFamily,
        table: String,
    },
    /// Put ufw's own files back and reload; where somebody changed them since, `ufw delete` of each rule.
    Ufw {
        files: Vec<Replaced>,
        rules: Vec<Vec<String>>,
    },
    /// Put back whole tables as they were saved.
    Tables {
        tables: Vec<Saved>,
    },
    Firewalld {
        zone: String,
        runtime: Vec<Opening>,
        permanent: Vec<Opening>,
    },
    FirewalldPanic,
    /// Let fail2ban ban these again.
    Bans {
        jail: String,
        addresses: Vec<IpAddr>,
    },
    File(Replaced),
    Keys {
        keys: Vec<MadeKey>,
    },
    /// Mode and owner before.
    Mode {
        path: PathBuf,
        old: Owned,
        new: Owned,
    },
    /// The mode before of what only its owner may write to since.
    Writers {
        path: PathBuf,
        seen: Owned,
    },
    /// A folder that was made.
    Folder {
        path: PathBuf,
    },
    /// A user that was made.
    User {
        name: String,
    },
    /// The unit has read its configuration: once that is put back, it must read it again.
    Reload {
        unit: String,
    },
    /// A socket unit and its services before systemd read their files again; once those are put back, it must again.
    Socket {
        unit: String,
        active: bool,
        /// Services of it that ran.
        services: Vec<String>,
        /// It was restarted.
        restart: bool,
    },
    /// The process, started at that tick of that boot, was stopped before it was let go on.
    Continued {
        pid: i32,
        started: u64,
        boot: String,
    },
    /// The size of the table of tracked connections in that boot, before and after.
    Conntrack {
        old: u64,
        new: u64,
        boot: String,
    },
    /// The unit was frozen in that run of it before it was thawed.
    Thawed {
        unit: String,
        run: String,
    },
    /// The unit was restarted because its process took no connections: nothing brings that one back.
    Restarted {
        unit: String,
    },
    /// An emergency sshd was started.
    Emergency,
    /// The unit was not started by a boot.
    Enabled {
        unit: String,
    },
    /// Links that were made on a disk so that its boot starts a unit.
    Links {
        links: Vec<Link>,
    },
    /// The unit's state before.
    Unit {
        unit: String,
        active: bool,
        masked: bool,
    },
    /// Put back the rulesets saved beside this record.
    Rulesets {
        legacy: Vec<Saved>,
    },
    /// Enable and start what was enabled and running before.
    Services {
        enabled: Vec<String>,
        active: Vec<String>,
        ufw: bool,
    },
}

/// A file before and after; None where there was none. `new` is not known while a tool is still writing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub path: PathBuf,
    pub old: Option<Content>,
    pub new: Option<Content>,
}

/// A host key that was made. The private half stays out of the record: the public one tells whether it is still ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeKey {
    pub path: PathBuf,
    /// What lay in its place, and whose it was.
    pub old: Option<(Content, Owned)>,
    pub public: Replaced,
}

/// A table in the words of iptables-save.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    pub backend: Backend,
    pub family: TableFamily,
    pub text: String,
}

/// A symbolic link that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub path: PathBuf,
    pub target: PathBuf,
}

/// What firewalld was asked to let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opening {
    Port(u16),
    Rich(String),
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(tries: &u8) -> bool {
    *tries == 0
}

impl Entry {
    pub fn new(plan: Plan, before: &str, evidence: Value) -> Entry {
        Entry {
            version: 1,
            id: plan.id.clone(),
            phase: Phase::Intent,
            started: Timestamp::now(),
            began: None,
            ended: None,
            finished: None,
            trigger: None,
            before: before.to_owned(),
            after: None,
            note: None,
            tries: 0,
            plan,
            steps: Vec::new(),
            evidence,
        }
    }

    /// Writes the record of a repair that begins. Another's, of the same id, is not written over: a clock may have jumped.
    pub fn begin(&mut self, host: &Host, state: &StateDir) -> Result<(), RecordError> {
        self.began = Uptime::now(host);
        match host.exists(&state.file(&self.id)?) {
            true => Err(RecordError::Taken(self.id.clone())),
            false => self.save(host, state),
        }
    }

    /// Writes the record; when this returns it is on the disk.
    pub fn save(&self, host: &Host, state: &StateDir) -> Result<(), RecordError> {
        let path = state.file(&self.id)?;
        make_folder(host, &state.repairs())?;
        let form = |source| RecordError::Form { id: self.id.clone(), source };
        let text = sealed(serde_json::to_vec_pretty(self).map_err(form)?);
        if text.len() as u64 > FILE_LIMIT {
            return Err(RecordError::TooLarge { id: self.id.clone() });
        }
        host.replace(&path, &text, 0o600).map_err(|source| RecordError::Write { id: self.id.clone(), source })
    }

    /// Ends the repair and writes the record.
    pub fn end(
        &mut self,
        host: &Host,
        state: &StateDir,
        phase: Phase,
        note: Option<String>,
    ) -> Result<(), RecordError> {
        self.phase = phase;
        self.ended = Some(Timestamp::now());
        self.finished = Uptime::now(host);
        self.note = note.or(self.note.take());
        self.save(host, state)
    }

    pub fn load(host: &Host, state: &StateDir, id: &str) -> Result<Entry, RecordError> {
        let path = state.file(id)?;
        let bytes = host.read(&path).map_err(|source| match source.is_not_found() {
            true => RecordError::NoSuch(id.to_owned()),
            false => RecordError::Read { id: id.to_owned(), source },
        })?;
        let text = opened(&bytes).ok_or_else(|| RecordError::Damaged { id: id.to_owned() })?;
        serde_json::from_slice(text).map_err(|source| RecordError::Form { id: id.to_owned(), source })
    }
}

impl StateDir {
    /// Keeps a file beside the record of repair `id`.
    pub(crate) fn keep(&self, host: &Host, id: &str, name: &str, content: &[u8]) -> Result<(), RecordError> {
        let folder = self.rulesets(id);
        make_folder(host, &folder)?;
        let path = folder.join(name);
        let content = sealed(content.to_vec());
        host.replace(&path, &content, 0o600).map_err(|source| RecordError::Save { what: show(&path), source })
    }

    pub(crate) fn kept(&self, host: &Host, id: &str, name: &str) -> Result<Vec<u8>, RecordError> {
        // It may be larger than any file that is not this program's own.
        let bytes = host
            .read_up_to(&self.rulesets(id).join(name), KEPT_LIMIT)
            .map_err(|source| RecordError::Read { id: id.to_owned(), source })?;
        opened(&bytes).map(<[u8]>::to_vec).ok_or_else(|| RecordError::Damaged { id: id.to_owned() })
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
