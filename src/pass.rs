//! The road as one function: observe, judge, plan, rehearse, apply, verify, record.
#![forbid(unsafe_code)]

use std::io;
use std::panic::resume_unwind;
use std::thread;

use serde::Serialize;
use thiserror::Error;

use crate::apply::sshd::change;
use crate::apply::{ApplyError, apply, insert};
use crate::chain;
use crate::facts::Snapshot;
use crate::host::{Host, LockError, Watcher};
use crate::judge::{Judgement, Verdict, judge};
use crate::observe::observe;
use crate::plan::restraint::History;
use crate::plan::{Decision, Declined, Plan, Step, annotate, plan, question};
use crate::policy::Policy;
use crate::record::{
    LOCK_WAIT, RecordError, Recovered, StateDir, Trigger, keep_healthy, kept_healthy, on_line, recover, reserve,
};
use crate::rehearse::{self, Evidence, rehearse};
use crate::verify::{Aim, Verified, verify};

/// How often it looks again where somebody was faster, or where one mend shows the next thing to be mended.
const ROUNDS: usize = 3;

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

/// Who asks for a repair, and how far it may go.
pub struct Ask<'a> {
    /// Stop before anything is written.
    pub dry_run: bool,
    /// Who or what had made it necessary, for the record.
    pub trigger: Option<Trigger>,
    /// The repairs that hold it back; None: a person asks, who knows what they want.
    pub history: Option<History>,
    /// Gets the name of each stage of the road as it begins.
    pub told: &'a dyn Fn(&'static str),
}

impl Ask<'_> {
    pub fn operator(dry_run: bool) -> Ask<'static> {
        Ask { dry_run, trigger: None, history: None, told: &|_| {} }
    }
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

/// What a client sees, why, and what `repair` would do. Reads only.
pub fn check(host: &Host, policy: &Policy) -> (Judgement, Decision) {
    let (mut snapshot, mut judgement) = look(host, policy);
    let decision = consider(host, &StateDir::default(), policy, &mut snapshot, &judgement, "check");
    annotate(&mut judgement, &decision);
    (judgement, decision)
}

/// The first half of the road: what there is, and what a client sees.
pub fn look(host: &Host, policy: &Policy) -> (Snapshot, Judgement) {
    let snapshot = observe(host, policy);
    let judgement = judge(policy, &snapshot);
    (snapshot, judgement)
}

/// The plan, once sshd has said on a copy what the planner asks.
pub fn consider(
    host: &Host,
    state: &StateDir,
    policy: &Policy,
    snapshot: &mut Snapshot,
    judgement: &Judgement,
    id: &str,
) -> Decision {
    snapshot.resources.reserve = reserve(host, state);
    if snapshot.sshd.test.present().is_some_and(|test| !test.passed) {
        snapshot.sshd.files.kept = kept_healthy(host, state);
    }
    while let Some(steps) = question(policy, snapshot, judgement, id) {
        let answer = rehearse::sshd::ask(host, snapshot, &steps, &change);
        snapshot.sshd.trials.push(answer);
    }
    plan(policy, snapshot, judgement, id)
}

/// A plan is not carried out while the host is on hold, nor where restraint says no.
fn allow(host: &Host, state: &StateDir, policy: &Policy, ask: &Ask<'_>, decision: Decision) -> Decision {
    if !matches!(decision, Decision::Repair(_)) {
        return decision;
    }
    let held = match state.hold(host) {
        Ok(hold) => hold.map(|hold| hold.words()),
        Err(error) => Some(chain(&error)),
    };
    if let Some(why) = held {
        return Decision::Refuse(vec![Declined { code: "hold".to_owned(), why }]);
    }
    match &ask.history {
        Some(history) => history.restrain(&policy.restraint, decision, on_line(host)),
        None => decision,
    }
}

/// Walks the road until the policy is met or nothing more can be done; a dry run stops before anything is written.
pub fn repair(host: &Host, state: &StateDir, policy: &Policy, dry_run: bool) -> Result<Report, PassError> {
    if !host.privileged() {
        return Err(PassError::Root);
    }
    let ask = Ask::operator(dry_run);
    walk(host, state, policy, look(host, policy), ask)
}

/// The second half of the road, from what a look has just shown.
pub fn walk(
    host: &Host,
    state: &StateDir,
    policy: &Policy,
    (mut snapshot, mut now): (Snapshot, Judgement),
    mut ask: Ask<'_>,
) -> Result<Report, PassError> {
    let dry_run = ask.dry_run;
    let decide = |ask: &Ask<'_>, snapshot: &mut Snapshot, now: &Judgement, id: &str| {
        allow(host, state, policy, ask, consider(host, state, policy, snapshot, now, id))
    };
    let id = state.new_id(host);
    (ask.told)("plan");
    let mut decision = decide(&ask, &mut snapshot, &now, &id);
    // Where there is nothing to mend and nothing on record, not even a lock is written.
    let idle = !matches!(decision, Decision::Repair(_)) && !host.exists(state.path());
    let _lock = if dry_run || idle { None } else { Some(host.lock(state.run(), LOCK_WAIT)?) };
    let recovered = if dry_run || idle { Vec::new() } else { recover(host, state).map_err(PassError::Recover)? };
    if !recovered.is_empty() {
        (snapshot, now) = look(host, policy);
        decision = decide(&ask, &mut snapshot, &now, &id);
    }
    let mut before = now.clone();
    annotate(&mut before, &decision);
    let mut report = Report::new(before, recovered);
    for _ in 0..ROUNDS {
        let plan = match decision {
            Decision::Healthy => {
                if !dry_run && !idle && !snapshot.at_rest {
                    // What a later repair may fall back on; that it could not be kept is no reason to fail.
                    let _ = keep_healthy(host, state, policy, &snapshot);
                }
                return Ok(report.end(Outcome::Healthy));
            }
            Decision::Refuse(declined) => return Ok(report.refused(declined)),
            Decision::Repair(plan) => plan,
        };
        let id = plan.id.clone();
        let aim = Aim::of(policy, &snapshot, &now, &plan);
        let starts = plan.steps.iter().any(|step| matches!(step, Step::StartUnit { .. } | Step::RestartUnit { .. }));
        let lets_go =
            plan.steps.iter().any(|step| matches!(step, Step::ContinueProcess { .. } | Step::ThawUnit { .. }));
        let unbans = plan.steps.iter().any(|step| matches!(step, Step::Unban { .. }));
        // Where fail2ban does not do it, an accept before its rules lets them in.
        let past_fail2ban = || {
            let (mut snapshot, now) = look(host, policy);
            snapshot.owners.fail2ban_running = false;
            (snapshot, now)
        };
        // What does not go on is restarted.
        let past_standstill = || {
            let (mut snapshot, now) = look(host, policy);
            snapshot.sshd.let_go_in_vain = true;
            (snapshot, now)
        };
        report.planned(&plan);
        (ask.told)("rehearse");
        let trial = || rehearse(host, &snapshot, plan, policy, &now, aim.suffices(), &insert);
        let (rehearsed, watcher) = if dry_run { (trial(), Ok(None)) } else { watched(host, trial) };
        let rehearsed = match rehearsed {
            Ok(rehearsed) => rehearsed,
            Err(error) => {
                watcher.into_iter().flatten().for_each(Watcher::dismiss);
                return Ok(report.failed(Outcome::Blocked, chain(&error)));
            }
        };
        report.evidence = Some(rehearsed.evidence().clone());
        if dry_run {
            return Ok(report.end(Outcome::Refused));
        }
        (ask.told)("apply");
        let mut applied = match apply(host, state, rehearsed, &snapshot, &now.sentence, watcher) {
            Ok(applied) => applied,
            Err(moved @ ApplyError::Moved(_)) => {
                report.error = Some(chain(&moved));
                (snapshot, now) = look(host, policy);
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
                continue;
            }
            // Where the unit does not come up, the policy may know another way.
            Err(error) if policy.sshd.emergency && starts && snapshot.sshd.start_failed.is_none() => {
                report.error = Some(chain(&error));
                (snapshot, now) = look(host, policy);
                snapshot.sshd.start_failed = report.error.clone();
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
                continue;
            }
            Err(error) if lets_go => {
                report.error = Some(chain(&error));
                (snapshot, now) = past_standstill();
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
                continue;
            }
            Err(error) if unbans => {
                report.error = Some(chain(&error));
                (snapshot, now) = past_fail2ban();
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
                continue;
            }
            Err(error) => return Ok(report.failed(Outcome::Blocked, chain(&error))),
        };
        applied.triggered(ask.trigger.clone());
        if let Some(history) = &mut ask.history {
            history.add(applied.attempt(host));
        }
        (ask.told)("verify");
        match verify(host, policy, state, applied, &aim) {
            Ok(Verified::Confirmed { snapshot: seen, judgement }) => {
                report.repaired(id, &judgement);
                (snapshot, now) = (*seen, *judgement);
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
            }
            Ok(Verified::RolledBack { why, .. }) if lets_go => {
                report.error = Some(why);
                (snapshot, now) = past_standstill();
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
            }
            Ok(Verified::RolledBack { why, .. }) if unbans => {
                report.error = Some(why);
                (snapshot, now) = past_fail2ban();
                decision = decide(&ask, &mut snapshot, &now, &state.new_id(host));
            }
            Ok(Verified::RolledBack { why, .. }) => return Ok(report.failed(Outcome::RolledBack, why)),
            Err(error) => return Ok(report.failed(Outcome::Blocked, chain(&error))),
        }
    }
    Ok(report.end(Outcome::Blocked))
}

/// Runs `trial` while a watcher comes up, which takes as long.
fn watched<T>(host: &Host, trial: impl FnOnce() -> T) -> (T, io::Result<Option<Watcher>>) {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, || host.watcher()) {
        Ok(coming) => (trial(), coming.join().unwrap_or_else(|panic| resume_unwind(panic))),
        Err(_) => (trial(), host.watcher()),
    })
}

impl Report {
    fn new(before: Judgement, recovered: Vec<Recovered>) -> Report {
        Report {
            outcome: Outcome::Unknown,
            before,
            after: None,
            plan: None,
            declined: Vec::new(),
            evidence: None,
            id: None,
            error: None,
            earlier: Vec::new(),
            recovered,
        }
    }

    /// A plan takes the place of the one before it; that one, if it was applied, is remembered.
    fn planned(&mut self, plan: &Plan) {
        if let (Some(id), Some(plan), Some(evidence)) = (self.id.take(), self.plan.take(), self.evidence.take()) {
            self.earlier.push(Round { id, plan, evidence });
        }
        self.declined = plan.declined.clone();
        self.plan = Some(plan.clone());
        self.evidence = None;
    }

    fn repaired(&mut self, id: String, judgement: &Judgement) {
        self.id = Some(id);
        self.after = Some(judgement.clone());
        self.error = None;
    }

    fn refused(mut self, declined: Vec<Declined>) -> Report {
        self.declined = declined;
        self.end(Outcome::Refused)
    }

    fn failed(mut self, outcome: Outcome, error: String) -> Report {
        self.error = Some(error);
        self.end(outcome)
    }

    /// Of a road that another process has walked: what was seen before and after, and the repair that it made, if any.
    pub fn of_another(before: Judgement, after: Judgement, made: Option<(String, Plan)>) -> Report {
        let mut report = Report::new(before, Vec::new());
        let Some((id, plan)) = made else { return report.end(Outcome::Refused) };
        report.planned(&plan);
        report.repaired(id, &after);
        report.end(Outcome::Blocked)
    }

    /// `outcome` is how the last round ended; what was repaired before it, and what is not known, changes the whole.
    fn end(mut self, outcome: Outcome) -> Report {
        let met = |judgement: &Judgement| matches!(judgement.verdict, Verdict::Reachable | Verdict::AtRisk);
        let unknown = self.before.verdict == Verdict::Unknown;
        self.outcome = match (&self.after, outcome) {
            (Some(after), Outcome::Healthy | Outcome::Refused) if met(after) => Outcome::Repaired,
            (Some(_), Outcome::Healthy) => Outcome::Repaired,
            (Some(_), Outcome::Refused) => Outcome::Blocked,
            (Some(after), Outcome::Blocked) if met(after) => Outcome::Repaired,
            (None, Outcome::Refused) if unknown && self.plan.is_none() => Outcome::Unknown,
            (_, outcome) => outcome,
        };
        self
    }
}
