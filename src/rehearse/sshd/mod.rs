//! sshd asked on a copy: the steps are made on an /etc and a /run whose changes nobody else sees, and the host's own sshd
//! tests them there.

pub mod disk;

use std::path::Path;

use nix::errno::Errno;

use super::{BoxedError, RehearsalError};
use crate::facts::{ConfigTest, Seen, Settings, Snapshot, Trial, escape};
use crate::host::{Host, Scratch, ScratchError};
use crate::observe::sshd::{make_run_sshd, test};
use crate::plan::Step;

/// How steps are made: the same function by which `apply` makes them, called in the scratch namespace.
pub type Change<'a> = &'a (dyn Fn(&Host, &Step) -> Result<(), BoxedError> + Sync);

/// What sshd says when `steps` are made.
pub fn ask(host: &Host, snapshot: &Snapshot, steps: &[Step], change: Change<'_>) -> Trial {
    if snapshot.at_rest {
        return disk::ask(host, &snapshot.sshd, steps, change);
    }
    let inside = |host: &Host| {
        let made = steps.iter().try_for_each(|step| change(host, step));
        make_run_sshd().map_err(ScratchError::device("make /run/sshd"))?;
        Ok(made.map(|()| match snapshot.sshd.binary.present().map(|b| b.path.as_path()) {
            Some(sshd) => test(host, &sshd.to_string_lossy()),
            None => (Seen::Absent, Seen::Absent),
        }))
    };
    answered(host.scratch(Scratch::Files, inside))
}

/// Why a step could not be made, or what sshd said after all of them.
type Answer = Result<(Seen<ConfigTest>, Seen<Settings>), BoxedError>;

fn answered(answer: Result<Answer, ScratchError>) -> Trial {
    let answer = match answer {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(crate::chain(error.as_ref())),
        // So it is for the agent, whose sandbox gives no right to mount.
        Err(error @ ScratchError::Namespace(_, Errno::EPERM)) => {
            let who = "`ssh-rescue repair` by root, and ssh-rescue-repair.service, may try it on a copy of its files";
            Err(format!("{who} ({})", crate::chain(&error)))
        }
        Err(error) => Err(crate::chain(&error)),
    };
    match answer {
        Ok((test, settings)) => Trial { test, settings },
        Err(why) => Trial { test: Seen::Unreadable(why.clone()), settings: Seen::Unreadable(why) },
    }
}

/// That sshd takes its files as the steps leave them: the last answer was about them. None where they touch no file of it.
pub fn passed(snapshot: &Snapshot, steps: &[Step]) -> Result<Option<String>, RehearsalError> {
    if !steps.iter().any(|step| is_of_sshd(snapshot, step)) {
        return Ok(None);
    }
    let refused = |test: &ConfigTest| test.messages.first().map(|m| escape(m)).unwrap_or_default();
    match snapshot.sshd.trials.last().map(|trial| &trial.test) {
        Some(Seen::Present(test)) if test.passed => Ok(Some("`sshd -t` passes on a copy".to_owned())),
        Some(Seen::Present(test)) => Err(RehearsalError::Sshd(refused(test))),
        Some(Seen::Unreadable(why)) => Err(RehearsalError::Sshd(escape(why))),
        Some(Seen::Absent) | None => Err(RehearsalError::Sshd("it was not asked".to_owned())),
    }
}

/// Its own folder, and what its configuration includes from elsewhere.
fn is_of_sshd(snapshot: &Snapshot, step: &Step) -> bool {
    let config = &snapshot.sshd.files.config;
    match step {
        Step::WriteFile { path, .. } => {
            path.starts_with(Path::new("/etc/ssh")) || config.iter().any(|file| file.path == *path)
        }
        Step::MakeFolder { path, .. } => !path.starts_with(Path::new("/etc/systemd")),
        Step::MakeKeys { .. } | Step::SetMode { .. } | Step::MakeUser { .. } => true,
        _ => false,
    }
}
