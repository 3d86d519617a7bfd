//! The thread that walks the road. Whatever it waits for, the socket does not wait with it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::healing::healing;
use crate::chain;
use crate::facts::{Listener, Seen, Snapshot};
use crate::host::{Call, Host};
use crate::judge::Judgement;
use crate::pass::{self, Ask, Outcome, Report};
use crate::plan::restraint::{History, Leave};
use crate::plan::settle::Patience;
use crate::plan::{Decision, Plan, Step, annotate};
use crate::policy::{Policy, RestraintPolicy};
use crate::record::{
    Hold, LOCK_WAIT, RecordError, Recovered, StateDir, Trigger, UndoError, Undone, attempts, history, keep_healthy,
    keep_reserve, on_line, recover, undo,
};

/// After a repair that came to nothing the host is looked at again; each time it is four times as long.
const FAILED: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// How often it is seen to that the reserve for a full disk is whole.
const RESERVE: Duration = Duration::from_secs(60);

/// What repairs without the agent's sandbox, and how long it may take.
const REPAIR_UNIT: &str = "ssh-rescue-repair.service";
const HELP: Duration = Duration::from_secs(60);
/// When to look at what listens since.
const AFTER_UNIT: Duration = Duration::from_millis(50);

/// What is to be done.
pub enum Job {
    /// Take back what an earlier run left in the middle.
    Recover,
    /// Look, and mend what has to be mended, as far as restraint lets.
    Look(Look),
    /// Somebody asks for a repair.
    Repair {
        policy: Arc<Policy>,
        dry_run: bool,
        trigger: Trigger,
    },
    Check {
        policy: Arc<Policy>,
    },
    Undo {
        id: String,
    },
    /// Put a hold in force, or end the one that is.
    Hold(Option<Hold>),
    /// The policy is another, or an operator says so: what was given up is tried again.
    Forgive,
}

pub struct Look {
    pub policy: Arc<Policy>,
    /// Nothing is repaired by a policy that has been replaced by one with a mistake.
    pub report_only: bool,
    /// Who or what had changed something.
    pub trigger: Option<Trigger>,
    /// firewalld has just changed its rules.
    pub reload: bool,
}

/// What came of a job, in the order of the jobs.
pub enum Done {
    /// A repair that was asked for has come to this stage of the road; more is to come.
    Stage(&'static str),
    Recovered(Result<Vec<Recovered>, String>),
    Looked(Box<Looked>),
    Repaired(Box<Result<Report, String>>),
    Checked(Box<(Judgement, Decision)>),
    Undone(Result<Undone, UndoError>),
    /// Whether there had been a hold.
    Held(Result<bool, RecordError>),
    Forgiven,
}

pub struct Looked {
    pub judgement: Judgement,
    pub report: Option<Report>,
    pub trigger: Option<Trigger>,
    /// Look again after this time, whatever happens.
    pub again: Option<Duration>,
    pub waiting: Option<String>,
    pub stopped: Option<String>,
    pub error: Option<String>,
    /// The processes that hold the sockets which clients come to.
    pub listeners: Vec<i32>,
    /// Whether firewalld runs here.
    pub firewalld: bool,
}

/// Starts the thread, in the namespaces of the caller; it ends when the sender of jobs is gone.
pub fn start(host: Host, state: StateDir, seed: u64, done: UnboundedSender<Done>) -> std::io::Result<Sender<Job>> {
    let (jobs, taken) = channel();
    let worker = Worker {
        host,
        state,
        seed,
        began: Instant::now(),
        patience: Patience::default(),
        history: History::default(),
        failures: 0,
        left: Vec::new(),
        reserve: None,
    };
    thread::Builder::new().name("road".into()).spawn(move || worker.work(&taken, &done))?;
    Ok(jobs)
}

struct Worker {
    host: Host,
    state: StateDir,
    seed: u64,
    began: Instant,
    patience: Patience,
    history: History,
    /// Repairs in a row that came to nothing.
    failures: u32,
    /// When the unit was started because nothing could be tried here.
    left: Vec<Instant>,
    /// When the reserve for a full disk was looked at.
    reserve: Option<Instant>,
}

impl Worker {
    fn work(mut self, jobs: &Receiver<Job>, done: &UnboundedSender<Done>) {
        self.history.forgive(self.state.forgiven(&self.host));
        self.remember();
        while let Ok(job) = jobs.recv() {
            let what = match job {
                Job::Recover => Done::Recovered(self.recover()),
                Job::Look(look) => Done::Looked(Box::new(self.look(look))),
                Job::Check { policy } => Done::Checked(Box::new(pass::check(&self.host, &policy))),
                Job::Repair { policy, dry_run, trigger } => {
                    Done::Repaired(Box::new(self.repair(&policy, dry_run, trigger, done)))
                }
                Job::Undo { id } => {
                    let undone = undo(&self.host, &self.state, &id);
                    self.remember();
                    Done::Undone(undone)
                }
                Job::Hold(hold) => Done::Held(self.hold(hold)),
                Job::Forgive => {
                    self.forgive();
                    Done::Forgiven
                }
            };
            if done.send(what).is_err() {
                return;
            }
        }
    }

    /// The repairs on record, also those of others, count.
    fn remember(&mut self) {
        let attempts = attempts(&self.host, &self.state).unwrap_or_default();
        self.history.replace(attempts, self.seed);
    }

    fn recover(&mut self) -> Result<Vec<Recovered>, String> {
        if !self.host.exists(self.state.path()) {
            return Ok(Vec::new());
        }
        let lock = self.host.lock(self.state.run(), LOCK_WAIT).map_err(|e| chain(&e))?;
        let recovered = recover(&self.host, &self.state).map_err(|e| chain(&e));
        drop(lock);
        self.remember();
        recovered
    }

    fn look(&mut self, look: Look) -> Looked {
        let Look { policy, report_only, trigger, reload } = look;
        let (mut snapshot, judgement) = pass::look(&self.host, &policy);
        let owners = snapshot.listeners.present().into_iter().flatten().filter_map(|l| l.owners.present());
        let listeners = owners.flatten().map(|o| o.pid).filter(|pid| *pid > 1).collect();
        let decision = pass::consider(&self.host, &self.state, &policy, &mut snapshot, &judgement, "look");
        let sockets = snapshot.listeners.present().into_iter().flatten();
        let undecided = sockets.filter_map(Listener::undecided).min();
        let mut looked = Looked {
            judgement,
            report: None,
            trigger,
            again: undecided.map(|left| Duration::from_millis(left.into())),
            waiting: None,
            stopped: None,
            error: None,
            listeners,
            firewalld: snapshot.owners.firewalld.present().is_some(),
        };
        let stay = report_only || !matches!(self.state.hold(&self.host), Ok(None));
        let beyond = is_beyond_sandbox(&snapshot);
        let Decision::Repair(plan) = &decision else {
            if decision == Decision::Healthy {
                // What a later repair may fall back on; that it could not be kept is no reason to fail.
                let _ = keep_healthy(&self.host, &self.state, &policy, &snapshot);
            }
            if !stay {
                self.keep_reserve(&policy);
            }
            let left = beyond && !stay;
            if left && self.waits(&mut looked, true, reload) {
                return looked;
            }
            if left && !self.leave_to_unit(&mut looked, &policy) {
                self.stop(&mut looked, &policy.restraint);
            }
            self.patience.well();
            return looked;
        };
        if stay {
            annotate(&mut looked.judgement, &decision);
            return looked;
        }
        let starts = plan.steps.iter().any(|step| matches!(step, Step::StartUnit { .. } | Step::RestartUnit { .. }));
        if self.waits(&mut looked, starts || beyond, reload) {
            return looked;
        }
        // Others may have repaired, or undone, since.
        self.remember();
        let now = on_line(&self.host);
        let until = |at: u64| Some(Duration::from_millis(at.saturating_sub(now).max(1)));
        match self.history.leave(&policy.restraint, plan, now) {
            Leave::Go => {}
            Leave::Wait { until: at } => {
                looked.again = until(at);
                looked.waiting = Some("the same was mended a moment ago".to_owned());
                return looked;
            }
            Leave::Open(breaker) => {
                looked.again = until(breaker.until);
                looked.stopped = Some(breaker.words(now));
                return looked;
            }
        }
        // A plan that was made without sshd's word may be another than the unit's.
        if beyond && self.leave_to_unit(&mut looked, &policy) {
            self.patience.well();
            return looked;
        }
        let ask =
            Ask { dry_run: false, trigger: looked.trigger.clone(), history: Some(self.history.clone()), told: &|_| {} };
        match pass::walk(&self.host, &self.state, &policy, (snapshot, looked.judgement.clone()), ask) {
            Ok(mut report) => {
                let failed = |report: &Report| matches!(report.outcome, Outcome::Blocked | Outcome::RolledBack);
                // What a sandbox forbids is left to a unit that may do it.
                let outside = report.plan.iter().flat_map(|p| &p.steps).any(Step::leaves_sandbox);
                if failed(&report) && outside && !may_change_owners() {
                    let by_unit = self.by_unit(&policy, &report.before);
                    if by_unit.outcome == Outcome::Repaired {
                        report = by_unit;
                        looked.again = Some(AFTER_UNIT);
                    }
                }
                let failed = failed(&report);
                self.failures = if failed { self.failures + 1 } else { 0 };
                if failed {
                    let pause = FAILED.saturating_mul(4u32.saturating_pow(self.failures - 1));
                    looked.again = Some(pause.min(LONGEST_PAUSE));
                }
                looked.judgement = report.after.clone().unwrap_or_else(|| report.before.clone());
                looked.report = Some(report);
            }
            Err(error) => looked.error = Some(chain(&error)),
        }
        self.patience.well();
        looked
    }

    fn keep_reserve(&mut self, policy: &Policy) {
        if self.reserve.is_none_or(|at| at.elapsed() >= RESERVE) {
            self.reserve = Some(Instant::now());
            // That it could not be kept is no reason to fail.
            let _ = keep_reserve(&self.host, &self.state, policy.disk.reserve && policy.repairs());
        }
    }

    /// Whether what is ill may heal by itself, and is waited for. `starts`: a service would be started.
    fn waits(&mut self, looked: &mut Looked, starts: bool, reload: bool) -> bool {
        let elapsed = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let healing = healing(&self.host, starts, reload);
        let Some(again) = self.patience.ill(elapsed, healing) else { return false };
        looked.again = Some(Duration::from_millis(again - elapsed));
        looked.waiting = healing.map(|h| h.words().to_owned());
        true
    }

    /// Leaves to the unit what cannot even be tried in this sandbox, no more often than restraint lets anything be mended.
    /// False: it has been left to it often enough.
    fn leave_to_unit(&mut self, looked: &mut Looked, policy: &Policy) -> bool {
        self.left.retain(|at| at.elapsed() < Duration::from_secs(policy.restraint.per_seconds));
        if self.left.len() >= policy.restraint.attempts as usize {
            return false;
        }
        self.left.push(Instant::now());
        let report = self.by_unit(policy, &looked.judgement);
        looked.judgement = report.after.clone().unwrap_or_else(|| report.before.clone());
        looked.report = Some(report);
        looked.again = Some(AFTER_UNIT);
        true
    }

    /// Nothing is left to the unit until the first time that it was is long enough ago.
    fn stop(&self, looked: &mut Looked, restraint: &RestraintPolicy) {
        let RestraintPolicy { attempts, per_seconds } = restraint;
        looked.stopped = Some(format!(
            "{REPAIR_UNIT}, which may do more than the agent, was started {attempts} times within {per_seconds} s"
        ));
        let left = |at: &Instant| Duration::from_secs(*per_seconds).saturating_sub(at.elapsed());
        looked.again = self.left.first().map(left);
    }

    /// What the unit makes of the host.
    fn by_unit(&self, policy: &Policy, before: &Judgement) -> Report {
        let known = self.last_on_record();
        self.start_unit();
        let (_, after) = pass::look(&self.host, policy);
        let made = self.last_on_record().filter(|last| Some(last) != known.as_ref());
        Report::of_another(before.clone(), after, made)
    }

    /// Waits until the unit has ended.
    fn start_unit(&self) {
        let _ = self.host.run(&Call { deadline: HELP, ..Call::new("systemctl", &["start", REPAIR_UNIT]) });
    }

    fn repair(
        &mut self,
        policy: &Policy,
        dry_run: bool,
        trigger: Trigger,
        done: &UnboundedSender<Done>,
    ) -> Result<Report, String> {
        let told = |stage| drop(done.send(Done::Stage(stage)));
        told("observe");
        let (mut snapshot, judgement) = pass::look(&self.host, policy);
        // For what sshd says to it on a copy; the road plans by itself.
        let _ = pass::consider(&self.host, &self.state, policy, &mut snapshot, &judgement, "look");
        let beyond = is_beyond_sandbox(&snapshot);
        if beyond && dry_run {
            return Err(
                "it is beyond the agent's sandbox; root can try it: `ssh-rescue repair --dry-run --alone`".into()
            );
        }
        let mut seen = (snapshot, judgement);
        if beyond && matches!(self.state.hold(&self.host), Ok(None)) {
            let report = self.by_unit(policy, &seen.1);
            if report.outcome == Outcome::Repaired {
                self.forgive();
                return Ok(report);
            }
            seen = pass::look(&self.host, policy);
        }
        let ask = Ask { dry_run, trigger: Some(trigger), history: None, told: &told };
        let report = pass::walk(&self.host, &self.state, policy, seen, ask).map_err(|e| chain(&e));
        if !dry_run {
            self.forgive();
        }
        report
    }

    /// The id and plan of the youngest repair.
    fn last_on_record(&self) -> Option<(String, Plan)> {
        let entry = history(&self.host, &self.state).ok()?.entries.pop()?;
        Some((entry.id, entry.plan))
    }

    fn hold(&mut self, hold: Option<Hold>) -> Result<bool, RecordError> {
        let Some(hold) = hold else {
            self.forgive();
            return self.state.release(&self.host);
        };
        self.state.put_on_hold(&self.host, &hold)?;
        Ok(true)
    }

    fn forgive(&mut self) {
        self.history.forgive(on_line(&self.host));
        if self.host.exists(self.state.path()) {
            // Where that cannot be kept, the next start is stricter.
            let _ = self.state.forgive(&self.host);
        }
        self.left.clear();
        self.patience.well();
    }
}

/// Whether sshd could not be asked on a copy, for want of rights that ssh-rescue-repair.service has.
fn is_beyond_sandbox(snapshot: &Snapshot) -> bool {
    let untried = snapshot.sshd.trials.last().is_some_and(|t| matches!(t.test, Seen::Unreadable(_)));
    untried && !may_change_owners()
}

/// Whether this process has CAP_CHOWN.
fn may_change_owners() -> bool {
    procfs::process::Process::myself().and_then(|me| me.status()).is_ok_and(|status| status.capeff & 1 == 1)
}
