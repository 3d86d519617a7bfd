//! `ssh-rescue policy check|show|init`

use clap::{Args, Subcommand};
use serde_json::json;

use super::policy_file::Source;
use super::screen::clean;
use super::{CliError, Context, Status};

#[derive(Debug, Args)]
pub struct PolicyVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether the policy file is right, and every mistake in it
    Check,
    /// Print the policy that is in force, every key of it
    Show,
}

impl PolicyVerb {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        match self.verb {
            Verb::Check => check(context),
            Verb::Show => show(context),
        }
    }
}

fn check(context: &Context) -> Result<Status, CliError> {
    let (_, source) = match context.policy() {
        Err(CliError::Mistakes { mistakes, .. }) if context.json => {
            context.machine(&json!({"valid": false, "mistakes": mistakes}))?;
            return Ok(Status::Unknown);
        }
        policy => policy?,
    };
    match (&source, context.json) {
        (source, true) => context.machine(&json!({"valid": true, "mistakes": [], "file": file(source)}))?,
        (Source::Default, _) => context.people("There is no policy file: the default is in force.\n")?,
        (Source::File(path), _) => context.people(&format!("{} is right.\n", clean(&path.to_string_lossy())))?,
    }
    Ok(Status::Ok)
}

fn show(context: &Context) -> Result<Status, CliError> {
    let (policy, source) = context.policy()?;
    if context.json {
        context.machine(&json!({"file": file(&source), "policy": policy}))?;
    } else {
        let whence = match &source {
            Source::Default => "# The default: there is no policy file.".to_owned(),
            Source::File(path) => format!("# {}", clean(&path.to_string_lossy())),
        };
        // As it is and not fitted to the screen: this is a policy file itself.
        super::screen::print(&format!("{whence}\n\n{}", policy.to_toml())).map_err(CliError::Print)?;
    }
    Ok(Status::Ok)
}

fn file(source: &Source) -> Option<String> {
    match source {
        Source::Default => None,
        Source::File(path) => Some(path.to_string_lossy().into_owned()),
    }
}
