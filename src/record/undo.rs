//! Taking a repair back: its steps in reverse order, each only as far as it is still there.

use std::time::Duration;

use thiserror::Error;

use super::reserve::make_room;
use super::{Entry, Phase, RecordError, StateDir, StepEntry, Undo};
use crate::apply::{
    StepError, conntrack, emergency, fail2ban, files, firewalld, flush, iptables, links, process, sshd, ufw, units,
};
use crate::host::{Host, LockError};

/// How long another pass is waited for.
pub(crate) const LOCK_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
pub enum UndoError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("repair {id} is not taken back")]
    Step {
        id: String,
        #[source]
        source: StepError,
    },
}

/// What came of an undo.
#[must_use]
#[derive(Debug)]
pub enum Undone {
    TakenBack(Box<Entry>),
    /// Nothing of it was left on the host.
    Already(Phase),
}

/// Takes repair `id` back, in reverse order. If somebody has changed since what it changed, nothing is touched, and the error
/// says what.
pub fn undo(host: &Host, state: &StateDir, id: &str) -> Result<Undone, UndoError> {
    // Before the lock, which writes to the host: a wrong id changes nothing.
    Entry::load(host, state, id)?;
    let _lock = host.lock(state.run(), LOCK_WAIT)?;
    let mut entry = Entry::load(host, state, id)?;
    if entry.phase.is_taken_back() {
        return Ok(Undone::Already(entry.phase));
    }
    let failed = |source| UndoError::Step { id: entry.id.clone(), source };
    for step in entry.steps.iter().rev() {
        lies_here(host, step).and_then(|()| unchanged(host, step)).map_err(failed)?;
    }
    make_room(host, state);
    for step in backwards(&entry) {
        take_back(host, state, &entry.id, step).map_err(failed)?;
    }
    entry.end(host, state, Phase::Undone, None)?;
    Ok(Undone::TakenBack(Box::new(entry)))
}

/// Takes back all of a repair that can be, and gives the first error. For repairs that did not come to their end.
pub(crate) fn roll_back(host: &Host, state: &StateDir, entry: &Entry) -> Result<(), StepError> {
    let mut first = Ok(());
    for step in backwards(entry) {
        let result = lies_here(host, step)
            .and_then(|()| unchanged(host, step))
            .and_then(|()| take_back(host, state, &entry.id, step));
        if first.is_ok() {
            first = result;
        }
    }
    first
}

/// The steps from the last to the first; a daemon is told to read its files again when they are back.
fn backwards(entry: &Entry) -> impl Iterator<Item = &StepEntry> {
    let (reloads, others): (Vec<_>, Vec<_>) =
        entry.steps.iter().rev().partition(|step| matches!(step.undo, Undo::Reload { .. } | Undo::Socket { .. }));
    others.into_iter().chain(reloads)
}

/// What a step has left on a disk that does not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnDisk {
    /// Files, and nothing else: they are taken back as on a running host.
    Files,
    /// It was of the kernel and the processes of a boot that is over.
    Gone,
    /// It takes the running host to take it back.
    Running,
}

fn on_disk(undo: &Undo) -> OnDisk {
    match undo {
        Undo::File(_)
        | Undo::Keys { .. }
        | Undo::Mode { .. }
        | Undo::Writers { .. }
        | Undo::Folder { .. }
        | Undo::Links { .. } => OnDisk::Files,
        Undo::Rules { .. }
        | Undo::Tables { .. }
        | Undo::FirewalldPanic
        | Undo::Reload { .. }
        | Undo::Socket { .. }
        | Undo::Continued { .. }
        | Undo::Thawed { .. }
        | Undo::Conntrack { .. }
        | Undo::Restarted { .. }
        | Undo::Emergency
        | Undo::Unit { masked: false, .. }
        | Undo::Rulesets { .. } => OnDisk::Gone,
        Undo::Firewalld { permanent, .. } if permanent.is_empty() => OnDisk::Gone,
        Undo::Firewalld { .. }
        | Undo::Ufw { .. }
        | Undo::Bans { .. }
        | Undo::User { .. }
        | Undo::Enabled { .. }
        | Undo::Unit { .. }
        | Undo::Services { .. } => OnDisk::Running,
    }
}

/// Whether this program can take the step back where it runs: nothing of another host's may reach this one's kernel.
fn lies_here(host: &Host, step: &StepEntry) -> Result<(), StepError> {
    match host.mounted_at().is_some() && on_disk(&step.undo) == OnDisk::Running {
        true => Err(StepError::Running),
        false => Ok(()),
    }
}

fn is_gone(host: &Host, step: &StepEntry) -> bool {
    host.mounted_at().is_some() && on_disk(&step.undo) == OnDisk::Gone
}

/// Refuses if somebody else has changed what the step changed.
fn unchanged(host: &Host, step: &StepEntry) -> Result<(), StepError> {
    if is_gone(host, step) {
        return Ok(());
    }
    match &step.undo {
        Undo::File(file) => files::unchanged(host, file),
        Undo::Keys { keys } => keys.iter().try_for_each(|key| files::unchanged(host, &key.public)),
        Undo::Rulesets { .. } if step.done => flush::unchanged(),
        // Rules are found by their tag, and what is not there any more is taken back.
        _ => Ok(()),
    }
}

fn take_back(host: &Host, state: &StateDir, id: &str, step: &StepEntry) -> Result<(), StepError> {
    if is_gone(host, step) {
        return Ok(());
    }
    match &step.undo {
        Undo::Rules { backend, family, table } => {
            iptables::remove(host, id, *backend, *family, table)?;
            Ok(())
        }
        Undo::Ufw { files, rules } => ufw::put_back(host, files, rules),
        Undo::Tables { tables } => Ok(tables.iter().try_for_each(|table| iptables::put_back(host, table))?),
        Undo::Firewalld { zone, runtime, permanent } => firewalld::close(host, zone, runtime, permanent),
        Undo::Bans { jail, addresses } => fail2ban::ban(host, jail, addresses),
        Undo::FirewalldPanic => firewalld::panic(host, true),
        Undo::File(file) => files::put_back(host, file),
        Undo::Keys { keys } => sshd::take_keys_back(host, keys),
        Undo::Mode { path, old, new } => sshd::put_mode_back(host, path, *old, *new),
        // What is not as it was left is its owner's own doing by now.
        Undo::Writers { path, seen } => {
            host.change_mode(path, seen.without_writers(), seen.mode).map(drop).map_err(Into::into)
        }
        Undo::Folder { path } => Ok(host.remove_folder(path)?),
        Undo::User { name } => sshd::take_user_back(host, name),
        Undo::Reload { unit } => units::reload_back(host, unit),
        Undo::Socket { unit, active, services, restart } => units::listen_back(host, unit, *active, services, *restart),
        Undo::Continued { pid, started, boot } => process::stop_again(*pid, *started, boot),
        Undo::Thawed { unit, run } => units::freeze_again(host, unit, run),
        Undo::Conntrack { old, new, boot } => conntrack::put_back(host, *old, *new, boot),
        Undo::Restarted { .. } => Ok(()),
        Undo::Emergency => emergency::stop(host),
        Undo::Enabled { unit } => units::set_enabled(host, unit, false),
        Undo::Links { links } => links::take_back(host, links),
        Undo::Unit { unit, active, masked } => units::put_back(host, unit, *active, *masked),
        // nf_tables is flushed first and in one commit: where rules are left, nothing was flushed yet.
        Undo::Rulesets { .. } if !step.done && flush::unchanged().is_err() => Ok(()),
        Undo::Rulesets { legacy } => flush::put_back(host, state, id, legacy),
        Undo::Services { enabled, active, ufw } => flush::enable(host, enabled, active, *ufw),
    }
}
