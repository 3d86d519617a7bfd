//! `ssh-rescue agent`

use std::path::Path;

use super::policy_file::{self, Source};
use super::screen::clean;
use super::{CliError, Context, Status, check, repair};
use crate::agent::{self, Faces, Setup};
use crate::record::StateDir;

pub fn run(context: &Context) -> Result<Status, CliError> {
    if !context.host.privileged() {
        return Err(CliError::Root("the agent"));
    }
    let (host, named) = (context.host, context.policy.clone());
    let policy_file = named.clone().unwrap_or_else(|| Path::new(policy_file::PATH).to_owned());
    let load = move || match policy_file::load(&host, named.as_deref()) {
        Ok((policy, Source::Default)) => Ok((policy, "built-in".to_owned())),
        Ok((policy, Source::File(path))) => Ok((policy, clean(&path.to_string_lossy()))),
        Err(CliError::Mistakes { shown, .. }) => Err(shown.trim_end().to_owned()),
        Err(error) => Err(clean(&crate::chain(&error))),
    };
    let faces = Faces { check: check::words, repair: repair::words };
    agent::run(Setup { host, state: StateDir::default(), policy_file, load: Box::new(load), faces })?;
    Ok(Status::Ok)
}
