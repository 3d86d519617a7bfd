//! `ssh-rescue policy check|show|init`

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::policy_file::{PATH, Source};
use super::screen::clean;
use super::{CliError, Context, Status};
use crate::judge::admitted;
use crate::pass::look;
use crate::policy::Policy;

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
    /// Write a policy that asks for what is admitted now
    Init(Init),
}

#[derive(Debug, Args)]
struct Init {
    /// Print it, and write no file
    #[arg(long)]
    print: bool,
}

impl PolicyVerb {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        match &self.verb {
            Verb::Check => check(context),
            Verb::Show => show(context),
            Verb::Init(init) => init.run(context),
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

impl Init {
    /// Judges this host as if there were no policy, and writes down whom it admits.
    fn run(&self, context: &Context) -> Result<Status, CliError> {
        let path = context.policy.clone().unwrap_or_else(|| PathBuf::from(PATH));
        if !self.print && path.symlink_metadata().is_ok() {
            return Err(CliError::Exists(path));
        }
        let mut policy = Policy::default();
        let (mut snapshot, mut judgement) = look(&context.host, &policy);
        let served = snapshot.sshd.settings.present().map(|s| s.ports.clone()).unwrap_or_default();
        if !served.is_empty() && served != policy.ssh.ports {
            policy.ssh.ports = served;
            (snapshot, judgement) = look(&context.host, &policy);
        }
        let text = admitted(&policy, &snapshot, &judgement)?.to_toml();
        let text =
            format!("# Who must be able to connect to this host by SSH: as it was when this was written.\n\n{text}");
        if self.print {
            super::screen::print(&text).map_err(CliError::Print)?;
            return Ok(Status::Ok);
        }
        write(context, &path, &text)?;
        if context.json {
            context.machine(&json!({"file": path}))?;
        } else {
            context.people(&format!("{} is written.\n", clean(&path.to_string_lossy())))?;
        }
        Ok(Status::Ok)
    }
}

fn write(context: &Context, path: &Path, text: &str) -> Result<(), CliError> {
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(CliError::Folder)?;
    }
    Ok(context.host.replace(path, text.as_bytes(), 0o644)?)
}

fn file(source: &Source) -> Option<String> {
    match source {
        Source::Default => None,
        Source::File(path) => Some(path.to_string_lossy().into_owned()),
    }
}
