//! The drill: a scratch host is locked out in many ways, one after the other, and rescued by this very program.

mod live;
mod lockouts;
mod stage;
pub mod table;

pub use live::{Drill, apart, drill};
pub use lockouts::{LOCKOUTS, Lockout};
pub use stage::{Sight, Stage};

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use crate::host::{Call, Host, RunError, ScratchError};

#[derive(Debug, Error)]
pub enum DrillError {
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error("the client's side of the scratch host ended")]
    Client,
    #[error("write {path} on the scratch host")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Run(RunError),
    #[error("{program} on the scratch host: {complaint}")]
    Tool { program: String, complaint: String },
    #[error("iptables on the scratch host: {0}")]
    Iptables(String),
    #[error("{0}")]
    Sshd(String),
    #[error("start the part of the drill that runs apart from the live host")]
    Apart(#[source] io::Error),
    #[error("the part of the drill that runs apart from the live host ended too early ({0})")]
    Ended(String),
    #[error("{0} is not there")]
    Program(&'static str),
    #[error("the mend was not rehearsed: {0}")]
    Unrehearsed(String),
    #[error("the report of the repair is not understood")]
    Report(#[source] serde_json::Error),
}

/// One lock-out, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Row {
    pub lockout: String,
    /// By IPv4 and by IPv6.
    pub before: [Sight; 2],
    /// The cause, as `repair` names it.
    pub cause: String,
    /// The mend, in its words.
    pub mend: Vec<String>,
    pub outcome: String,
    pub after: [Sight; 2],
    /// Of the repair alone.
    pub milliseconds: u64,
    /// What kept the drill itself from going on.
    pub error: Option<String>,
}

impl Row {
    /// The client was locked out and gets a banner now, in both families.
    pub fn rescued(&self) -> bool {
        self.error.is_none() && self.before != [Sight::Banner; 2] && self.after == [Sight::Banner; 2]
    }
}

/// Longest that a repair may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Locks a fresh scratch host out and rescues it. To be called where this process is apart from the live host
/// ([`Host::spawn_apart`]).
pub fn practise(host: &Host, lockout: &Lockout) -> Row {
    let mut row = Row {
        lockout: lockout.name.to_owned(),
        before: [Sight::Banner; 2],
        cause: String::new(),
        mend: Vec::new(),
        outcome: String::new(),
        after: [Sight::Banner; 2],
        milliseconds: 0,
        error: None,
    };
    let result = Stage::build(host, |stage| {
        (lockout.apply)(stage)?;
        row.before = stage.see()?;
        let start = Instant::now();
        let report = repair(stage)?;
        row.milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        row.cause = text(&report, &["before", "sentence"]);
        row.outcome = text(&report, &["outcome"]);
        row.mend = mends(&report);
        row.after = stage.see()?;
        match text(&report, &["evidence", "unrehearsed"]) {
            why if why.is_empty() => Ok(()),
            why => Err(DrillError::Unrehearsed(why)),
        }
    });
    row.error = result.err().map(|e| crate::chain(&e));
    row
}

/// The whole road, as a user walks it: this program's own `repair`.
fn repair(stage: &Stage<'_>) -> Result<Value, DrillError> {
    let program = std::env::current_exe().map_err(|_| DrillError::Program("this program's file"))?;
    let program = program.to_string_lossy();
    let call = Call { deadline: DEADLINE, ..Call::new(&program, &["repair", "--json"]) };
    let output = stage.host.run(&call).map_err(DrillError::Run)?;
    serde_json::from_slice(&output.stdout).map_err(|source| {
        if output.stdout.is_empty() {
            DrillError::Tool { program: "ssh-rescue repair".to_owned(), complaint: output.complaint() }
        } else {
            DrillError::Report(source)
        }
    })
}

fn text(report: &Value, path: &[&str]) -> String {
    let found = path.iter().try_fold(report, |value, key| value.get(key));
    found.and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What `repair` says that it did: the mend of each finding.
fn mends(report: &Value) -> Vec<String> {
    let findings = report.get("before").and_then(|b| b.get("findings")).and_then(Value::as_array);
    let mut mends: Vec<String> = Vec::new();
    for mend in findings.into_iter().flatten().filter_map(|f| f.get("mend")).filter_map(Value::as_str) {
        if !mends.iter().any(|m| m == mend) {
            mends.push(mend.to_owned());
        }
    }
    mends
}
