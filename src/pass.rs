//! The road as one function: observe, judge, plan, rehearse, apply, verify, record.
#![forbid(unsafe_code)]

use serde::Serialize;
use thiserror::Error;

use crate::facts::Snapshot;
use crate::host::{Host, LockError};
use crate::judge::{Judgement, judge};
use crate::observe::observe;
use crate::plan::{Declined, Plan};
use crate::policy::Policy;
use crate::record::{RecordError, Recovered};
use crate::rehearse::Evidence;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The policy is met, and nothing was changed.
    Healthy,
    Repaired,
    /// The policy is not met, and the plan is to leave it so, or only to say what would be done.
    Refused,
    /// What was tried failed, and nothing of it is left unless `error` says so; or what was repaired is not all.
    Blocked,
    Unknown,
    /// What was done did not help and was taken back.
    RolledBack,
}

/// One repair of a pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Round {
    pub id: String,
    pub plan: Plan,
    pub evidence: Evidence,
}

#[must_use]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub outcome: Outcome,
    pub before: Judgement,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Judgement>,
    /// The last plan that was made, with what its rehearsal showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    pub declined: Vec<Declined>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// By which `undo` takes the repair back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Repairs of this pass before the last one, each with an id of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Round>,
    /// What an earlier pass that was ended in the middle had left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recovered: Vec<Recovered>,
}

#[derive(Debug, Error)]
pub enum PassError {
    #[error("a repair needs root")]
    Root,
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error("look for repairs that were cut short")]
    Recover(#[source] RecordError),
}

/// What a client sees, and why. Reads only.
pub fn check(host: &Host, policy: &Policy) -> (Snapshot, Judgement) {
    let snapshot = observe(host, policy);
    let judgement = judge(policy, &snapshot);
    (snapshot, judgement)
}
