//! The command line: one file a verb, the report for people and for machines.
#![forbid(unsafe_code)]

mod agent;
mod ask;
mod check;
mod disk;
mod drill;
mod explain;
mod history;
mod hold;
mod policy;
mod policy_file;
mod repair;
mod report;
mod ruleset;
mod screen;
mod status;
mod undo;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};
use thiserror::Error;

use crate::agent::AgentError;
use crate::host::{Host, LockError, ReplaceError};
use crate::judge::AdmittedError;
use crate::observe::outwait;
use crate::pass::PassError;
use crate::policy::{Mistake, Mode, Policy};
use crate::record::{RecordError, UndoError};
use crate::rehearse::drill::DrillError;
use crate::rehearse::ruleset::RulesetError;
use ask::AskError;
use policy_file::{PolicyFileError, Source};
use screen::{Screen, clean};

/// The version of the JSON that every verb prints.
const VERSION: u32 = 1;

/// Keeps SSH reachable on the host that it runs on.
#[derive(Debug, Parser)]
#[command(name = "ssh-rescue", version, max_term_width = 100)]
#[command(after_help = "Exit status: 0 reachable, 1 at risk, 2 blocked, 3 unknown or the verb itself failed.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON for machines
    #[arg(long, global = true)]
    json: bool,
    /// The policy file [default: /etc/ssh-rescue/policy.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    policy: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say what a client sees, and why; changes nothing
    Check(check::Check),
    /// Draw the way of one client's packets: each hook, chain and rule that they meet, and where they end
    Explain(explain::Explain),
    /// Let in again whom the policy names, by the least change, proven first
    Repair(repair::Repair),
    /// Say what the agent knows, without a look
    Status,
    /// Repair nothing for a while, whatever happens
    Hold(hold::Hold),
    /// End a hold, and try again what was given up
    Release(hold::Release),
    /// Watch over this host and repair it by itself; the service runs this
    Agent,
    /// List what was repaired on this host
    History(history::History),
    /// Take a repair back
    Undo(undo::Undo),
    /// Check, show or write the policy
    Policy(policy::PolicyVerb),
    /// Lock scratch hosts out in many ways and rescue them; the live host is not touched
    Drill(drill::Drill),
    /// Undo a repair whose process is gone before it is confirmed; `repair` itself starts it
    #[command(hide = true)]
    Watch,
}

/// What every verb gets.
struct Context {
    host: Host,
    screen: Screen,
    json: bool,
    policy: Option<PathBuf>,
}

/// How a verb ends: the exit status of a monitoring plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

#[derive(Debug, Error)]
enum CliError {
    #[error(transparent)]
    PolicyFile(#[from] PolicyFileError),
    /// The mistakes in a policy as they are shown.
    #[error("the policy has {} {}", mistakes.len(), if mistakes.len() == 1 { "mistake" } else { "mistakes" })]
    Mistakes { mistakes: Vec<Mistake>, shown: String },
    #[error("{0} needs root")]
    Root(&'static str),
    #[error(transparent)]
    Pass(#[from] PassError),
    #[error(transparent)]
    Admitted(#[from] AdmittedError),
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("open the disk at {root}")]
    Disk {
        root: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("that is the root of this host, which runs: leave --root out")]
    Running,
    #[error("no clock reaches so far")]
    Long,
    #[error("{} is there already: it is not written over", clean(&.0.to_string_lossy()))]
    Exists(PathBuf),
    #[error("write the policy")]
    Write(#[from] ReplaceError),
    #[error("make the folder of the policy")]
    Folder(#[source] io::Error),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Undo(#[from] UndoError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("watch over a repair")]
    Watch(#[source] io::Error),
    #[error(transparent)]
    Drill(#[from] DrillError),
    #[error(transparent)]
    Explain(#[from] explain::ExplainError),
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("print the report")]
    Print(#[source] io::Error),
    #[error("print the report")]
    Json(#[from] serde_json::Error),
}

/// What the command line takes: for the man pages and the completions.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command().disable_help_subcommand(true)
}

/// Does what the arguments (the program's name first) ask for.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            // 2 would say that SSH is blocked.
            return if error.use_stderr() { Status::Unknown.into() } else { Status::Ok.into() };
        }
    };
    let context =
        Context { host: Host::watched(&["watch"]), screen: Screen::of_stdout(), json: cli.json, policy: cli.policy };
    match cli.verb.run(&context) {
        Ok(status) => status.into(),
        Err(error) => {
            context.fail(&error);
            Status::Unknown.into()
        }
    }
}

impl Verb {
    fn run(&self, context: &Context) -> Result<Status, CliError> {
        match self {
            Verb::Check(verb) => verb.run(context),
            Verb::Explain(verb) => verb.run(context),
            Verb::Repair(verb) => verb.run(context),
            Verb::Status => status::run(context),
            Verb::Hold(verb) => verb.run(context),
            Verb::Release(verb) => verb.run(context),
            Verb::Agent => agent::run(context),
            Verb::History(verb) => verb.run(context),
            Verb::Undo(verb) => verb.run(context),
            Verb::Policy(verb) => verb.run(context),
            Verb::Drill(verb) => verb.run(context),
            Verb::Watch => watch::run(context),
        }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status as u8)
    }
}

impl Context {
    /// The policy that is in force, and where it comes from.
    fn policy(&self) -> Result<(Policy, Source), CliError> {
        policy_file::load(&self.host, self.policy.as_deref())
    }

    /// Prints one JSON document: `version`, and the members of `body`.
    fn machine(&self, body: &impl Serialize) -> Result<(), CliError> {
        #[derive(Serialize)]
        struct Versioned<'a, T> {
            version: u32,
            #[serde(flatten)]
            body: &'a T,
        }
        let mut text = screen::ascii_json(&serde_json::to_string_pretty(&Versioned { version: VERSION, body })?);
        text.push('\n');
        screen::print(&text).map_err(CliError::Print)
    }

    /// Prints what the agent answered: its report, or its words.
    fn told(&self, answer: &Value) -> Result<Status, CliError> {
        let report = answer.get("report").unwrap_or(&Value::Null);
        match self.json {
            true => self.machine(report)?,
            false => self.people(answer.get("text").and_then(Value::as_str).unwrap_or_default())?,
        }
        let now = report.get("after").or(report.get("before")).unwrap_or(report);
        Ok(Status::of_word(now.get("verdict").and_then(Value::as_str).unwrap_or_default()))
    }

    /// Waits, and says so, where it is not known yet whether sshd takes a connection that waits for it.
    fn outwait(&self, host: &Host, policy: &Policy) {
        if host.mounted_at().is_some() || policy.sshd.mode == Mode::Off {
            return;
        }
        outwait(&policy.ssh.ports, |seconds| {
            let words = format!(
                "ssh-rescue: a connection waits for sshd; whether it is taken is known in {seconds} s at most\n"
            );
            // Who cannot be told waits all the same.
            let _ = io::stderr().write_all(Screen::of_stderr().fit(&words).as_bytes());
        });
    }

    fn people(&self, text: &str) -> Result<(), CliError> {
        screen::print(&self.screen.fit(text)).map_err(CliError::Print)
    }

    fn fail(&self, error: &CliError) {
        let mut text = format!("ssh-rescue: {}\n", clean(&crate::chain(error)));
        if let CliError::Mistakes { shown, .. } = error {
            text = format!("{shown}\n{text}");
        }
        if !self.host.privileged() {
            text.push_str("ssh-rescue: this was tried without root; root may be needed\n");
        }
        // Where even that fails, the exit status still says it.
        let _ = io::stderr().write_all(Screen::of_stderr().fit(&text).as_bytes());
        if self.json {
            let _ = self.machine(&json!({"error": crate::chain(error)}));
        }
    }
}
