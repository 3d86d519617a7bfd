//! Making a rehearsed plan true on the live host: intent and undo are journaled before each step, and a step that fails takes
//! back those before it.
#![forbid(unsafe_code)]

pub mod conntrack;
pub mod emergency;
pub mod fail2ban;
pub mod files;
pub mod firewalld;
pub mod flush;
pub mod iptables;
pub mod links;
pub mod nft;
pub mod process;
pub mod sshd;
mod step;
pub mod ufw;
pub mod units;

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::facts::{Backend, Family, Snapshot};
use crate::host::{BusError, Call, FileError, Host, Output, ReplaceError, RunError, Watcher};
use crate::plan::restraint::Attempt;
use crate::plan::{Plan, Step, TableInserts};
use crate::record::{Entry, Moment, Phase, RecordError, StateDir, Trigger, free_reserve, roll_back};
use crate::rehearse::{BoxedError, Rehearsed};

use iptables::IptablesError;
use nft::NftError;
use step::Work;

/// What one step of a plan can die of.
#[derive(Debug, Error)]
pub enum StepError {
    #[error(transparent)]
    Nft(#[from] NftError),
    #[error(transparent)]
    Iptables(#[from] IptablesError),
    #[error(transparent)]
    Replace(#[from] ReplaceError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("{tool} refuses: {complaint}")]
    Refused { tool: String, complaint: String },
    #[error("talk to {whom}")]
    Bus {
        whom: String,
        #[source]
        source: BusError,
    },
    #[error("read the legacy table {table} of {family}")]
    Legacy {
        family: Family,
        table: String,
        #[source]
        source: io::Error,
    },
    #[error("{unit} does not come up: it is {state}")]
    Unit { unit: String, state: String },
    #[error("its host must run for it to be taken back")]
    Running,
    #[error("{what} cannot be done on a disk that does not run")]
    AtRest { what: String },
    #[error("read the kernel's id of this boot")]
    Boot(#[source] io::Error),
    #[error("send a signal to process {pid}")]
    Signal {
        pid: i32,
        #[source]
        source: io::Error,
    },
    #[error("somebody has changed {what} since")]
    Changed { what: String },
}

impl StepError {
    /// Whether the host is not any more as the plan was made for.
    fn is_moved(&self) -> bool {
        match self {
            StepError::Nft(error) | StepError::Iptables(IptablesError::Nft(error)) => error.is_overtaken(),
            StepError::Changed { .. } => true,
            _ => false,
        }
    }
}

#[derive(Debug, Error)]
pub enum ApplyError {
    /// Look again: nothing of the plan is left on the host.
    #[error("the host was changed by somebody else since it was looked at")]
    Moved(#[source] StepError),
    #[error("nothing is changed, because the host cannot be looked at once more")]
    Look(#[source] StepError),
    #[error("nothing is changed, because it could not be recorded")]
    Record(#[from] RecordError),
    #[error("nothing is changed, because nobody could be set to undo it if this process is ended")]
    Watch(#[source] io::Error),
    #[error("{step} failed, and what came before is taken back")]
    Step {
        step: String,
        #[source]
        source: StepError,
    },
    #[error("{step} failed, and what came before cannot be taken back ({left})")]
    Left {
        step: String,
        left: String,
        #[source]
        source: StepError,
    },
}

/// A plan whose steps are made and recorded; not yet seen to help. Made only by [`apply`], for `verify`.
#[must_use]
#[derive(Debug)]
pub struct Applied {
    pub(crate) entry: Entry,
    /// Undoes it if this process ends before it is confirmed.
    pub(crate) watcher: Option<Watcher>,
}

impl Applied {
    pub fn plan(&self) -> &Plan {
        &self.entry.plan
    }

    /// Who or what had made it necessary; on record when the repair is confirmed or taken back.
    pub fn triggered(&mut self, trigger: Option<Trigger>) {
        self.entry.trigger = trigger;
    }

    /// The repair as restraint counts it.
    pub fn attempt(&self, host: &Host) -> Attempt {
        self.entry.attempt(&Moment::now(host))
    }
}

/// Makes the plan true. `before` is what a client sees now, for the record; `watcher` undoes it if this process is ended. On
/// an error nothing of the plan is left on the host, unless the error says so.
pub fn apply(
    host: &Host,
    state: &StateDir,
    rehearsed: Rehearsed,
    snapshot: &Snapshot,
    before: &str,
    watcher: io::Result<Option<Watcher>>,
) -> Result<Applied, ApplyError> {
    let (plan, evidence) = rehearsed.into_parts();
    let mut work = Work::new(host, state, snapshot, &plan);
    let unseen =
        |source: StepError| if source.is_moved() { ApplyError::Moved(source) } else { ApplyError::Look(source) };
    work.look(&plan).map_err(unseen)?;
    let watcher = watcher.map_err(ApplyError::Watch)?;
    let evidence = serde_json::to_value(evidence).unwrap_or_default();
    let mut entry = Entry::new(plan, before, evidence);
    if entry.plan.steps.iter().any(|step| matches!(step, Step::FreeReserve { .. })) {
        // Where that fails, the record says what is left to be said.
        let _ = free_reserve(host, state);
    }
    entry.begin(host, state)?;
    for index in 0..entry.plan.steps.len() {
        let Err(source) = work.make(&mut entry, index) else { continue };
        let step = entry.plan.steps.get(index).map(step::words).unwrap_or_default();
        return Err(give_up(host, state, entry, step, source));
    }
    entry.phase = Phase::Applied;
    match entry.save(host, state) {
        Ok(()) => Ok(Applied { entry, watcher }),
        Err(error) => Err(give_up(host, state, entry, "the record".into(), error.into())),
    }
}

/// Takes back the steps that were begun. If even that cannot be recorded, the next pass finds the intent and does it again.
fn give_up(host: &Host, state: &StateDir, mut entry: Entry, step: String, source: StepError) -> ApplyError {
    let why = format!("{step}: {}", crate::chain(&source));
    match roll_back(host, state, &entry) {
        Ok(()) => {
            let _ = entry.end(host, state, Phase::RolledBack, Some(why));
            if source.is_moved() { ApplyError::Moved(source) } else { ApplyError::Step { step, source } }
        }
        Err(error) => {
            let left = crate::chain(&error);
            let _ = entry.end(host, state, Phase::Failed, Some(format!("{why}; left: {left}")));
            ApplyError::Left { step, left, source }
        }
    }
}

/// Writes the accept rules of repair `id` into one table of the calling thread's network namespace: all of them or none.
/// The one function that does so, in a rehearsal as on the live host.
pub fn insert(host: &Host, id: &str, at: &TableInserts) -> Result<(), BoxedError> {
    if at.inserts.is_empty() {
        return Ok(());
    }
    match at.backend {
        Backend::Nft if !nft::kept_by_iptables(at.family, &at.table)? => Ok(nft::insert(None, id, at)?),
        _ => Ok(insert_by_tool(host, id, at)?),
    }
}

/// By iptables, or beside it where no iptables command can read the table as it is.
fn insert_by_tool(host: &Host, id: &str, at: &TableInserts) -> Result<(), StepError> {
    match iptables::insert(host, id, at) {
        Err(error) if error.is_foreign() && at.backend == Backend::Nft => Ok(nft::insert(None, id, at)?),
        result => Ok(result?),
    }
}

/// Runs a tool of the host, which must succeed.
fn tool(host: &Host, program: &str, args: &[&str], stdin: &[u8], deadline: Duration) -> Result<Output, StepError> {
    let output = host.run(&Call { stdin, deadline, ..Call::new(program, args) })?;
    match output.ok() {
        true => Ok(output),
        false => Err(StepError::Refused { tool: program.to_owned(), complaint: output.complaint() }),
    }
}
