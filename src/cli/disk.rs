//! `--root`: a disk that is mounted elsewhere, in the place of this host.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::screen::clean;
use super::{CliError, Context, policy_file};
use crate::host::Host;
use crate::judge::Judgement;
use crate::policy::Policy;

#[derive(Debug, Clone, Args)]
pub struct Disk {
    /// The files of a disk that is mounted at this folder, instead of this host: what its next boot would bring about. No
    /// program of it is run, and nothing of it leads out of the folder. Its policy is the one that lies on it
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// What a report says about the disk that it is about.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    root: String,
    interfaces: Vec<String>,
}

impl Disk {
    /// The host or the disk that a verb is about.
    pub fn host(&self, context: &Context) -> Result<Host, CliError> {
        let Some(root) = &self.root else { return Ok(context.host) };
        let failed = |source| CliError::Disk { root: root.clone(), source };
        let host = Host::disk(root).map_err(failed)?;
        match host.is_this_machine().map_err(failed)? {
            true => Err(CliError::Running),
            false => Ok(host),
        }
    }

    /// The policy that is in force there.
    pub fn policy(&self, context: &Context, host: &Host) -> Result<Policy, CliError> {
        policy_file::load(host, context.policy.as_deref()).map(|(policy, _)| policy)
    }
}

impl About {
    /// None where it is about this host.
    pub fn of(host: &Host, judgement: &Judgement) -> Option<About> {
        let root = host.mounted_at()?.to_string_lossy().into_owned();
        let mut interfaces: Vec<String> = judgement.gates.iter().map(|g| g.whole.path.interface.clone()).collect();
        interfaces.sort();
        interfaces.dedup();
        Some(About { root, interfaces })
    }

    /// The command that takes a repair back, but for its id.
    pub fn undo(&self) -> String {
        format!("ssh-rescue undo --root {}", clean(&self.root))
    }

    pub fn words(&self) -> String {
        format!(
            "The files of {} alone: no host runs them. Clients are taken to come in by {}, to addresses that are examples where \
             sshd names none.",
            clean(&self.root),
            clean(&self.interfaces.join(", "))
        )
    }
}
