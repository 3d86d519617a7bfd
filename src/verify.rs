//! Whether a repair helped: the host is looked at and judged afresh, and what did not help is taken back.
#![forbid(unsafe_code)]

use std::thread::sleep;
use std::time::Duration;

use thiserror::Error;

use crate::apply::{Applied, StepError};
use crate::facts::{AddrSet, Family, Snapshot};
use crate::host::{Host, Watcher};
use crate::judge::resources::CONNTRACK_FULL;
use crate::judge::{Demand, Finding, Gate, Intent, Judgement, PathVerdict, Severity, Standing, judge};
use crate::observe::observe;
use crate::plan::{Plan, Step, insert, is_of_wrappers, mends};
use crate::policy::Policy;
use crate::record::{Phase, RecordError, StateDir, roll_back};

/// What a plan is for, worked out before it is applied: by this it is measured afterwards.
#[derive(Debug, Clone)]
pub struct Aim {
    before: Judgement,
    demands: Vec<Demand>,
    /// Demands that the plan's rules bring about on the model: all of them must be met.
    promised: Vec<(Gate, Key)>,
    /// Gates that the plan works on in a way that the model does not show: there something must get better.
    tried: Vec<Gate>,
    /// What only the next start or a login lacks, or a table that is full, by code and account: it must be gone.
    lacks: Vec<(&'static str, Option<String>)>,
    /// How much the next boot would bar, where the plan is about that: there must be less of it.
    at_boot: Option<usize>,
    /// Whether every source may be let in: by policy, or because the whole firewall is to go.
    anybody: bool,
    /// Whether the judge expects the rules alone to open the firewall for all whom it lacks.
    suffices: bool,
}

/// Family, port and interface: what makes two demands of two looks the same.
type Key = (Family, u16, Option<String>);

/// What came of a look after the repair.
#[must_use]
#[derive(Debug)]
pub enum Verified {
    Confirmed {
        snapshot: Box<Snapshot>,
        judgement: Box<Judgement>,
    },
    /// It did not help, and nothing of it is left. `judgement` is what it had led to.
    RolledBack {
        judgement: Box<Judgement>,
        why: String,
    },
}

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("the repair did not help ({why}), and cannot be taken back")]
    Left {
        why: String,
        #[source]
        source: StepError,
    },
    #[error("the outcome of the repair is not on record")]
    Record(#[from] RecordError),
}

impl Aim {
    pub fn of(policy: &Policy, snapshot: &Snapshot, before: &Judgement, plan: &Plan) -> Aim {
        let demands = Intent::of(policy, snapshot, &before.gates).demands;
        let mut model = snapshot.clone();
        let inserts: Vec<_> = plan.steps.iter().flat_map(|s| s.inserts(&snapshot.firewall)).collect();
        plan.steps.iter().for_each(|step| step.take_away(&mut model.firewall));
        let whole = inserts.iter().all(|at| insert(&mut model.firewall, &plan.id, at));
        let modelled = !inserts.is_empty() || plan.steps.iter().any(|s| matches!(s, Step::Unban { .. }));
        let expected = Intent::of(policy, &model, &judge(policy, &model).gates).demands;
        let open = |key: &Key| find(&expected, key).is_some_and(|d| d.firewall == Standing::Met);
        let lacking = || demands.iter().filter(|d| matches!(d.firewall, Standing::Lacking { .. })).map(key);
        let promised = lacking().filter(|key| modelled && open(key)).map(|key| (Gate::Firewall, key));
        let mut tried: Vec<Gate> = plan.steps.iter().filter_map(works_on).collect();
        if snapshot.at_rest && plan.steps.iter().any(|s| matches!(s, Step::Persist { .. })) {
            tried.push(Gate::Firewall);
        }
        tried.dedup();
        let asked = |f: &&Finding| f.severity == Severity::Warning || f.code == CONNTRACK_FULL;
        let mended = |f: &&Finding| plan.steps.iter().any(|step| mends(step, f));
        let mended: Vec<_> = before.findings.iter().filter(asked).filter(mended).collect();
        let at_boot = mended.iter().any(|f| f.code.starts_with("boot.")).then(|| barred_at_boot(before));
        let lacks = |f: &&Finding| f.code.starts_with("sshd.") || f.code == CONNTRACK_FULL;
        let lacks = mended.into_iter().filter(lacks).map(lack).collect();
        let flushes = plan.steps.iter().any(|s| matches!(s, Step::Flush | Step::Disable { .. }));
        Aim {
            promised: promised.collect(),
            suffices: whole && lacking().all(|key| open(&key)),
            tried,
            lacks,
            at_boot,
            anybody: policy.ssh.sources.is_none() || flushes,
            before: before.clone(),
            demands,
        }
    }

    pub fn suffices(&self) -> bool {
        self.suffices
    }

    /// Why the look after the repair does not show what the plan was for; None if it does.
    fn missed(&self, policy: &Policy, snapshot: &Snapshot, after: &Judgement) -> Option<String> {
        let now = Intent::of(policy, snapshot, &after.gates).demands;
        let at = |demands: &[Demand], key: &Key, gate| find(demands, key).map(|d| d.at(gate).clone());
        for (gate, key) in &self.promised {
            if at(&now, key, *gate) != Some(Standing::Met) {
                return Some(format!("port {} by {} is still shut", key.1, key.0));
            }
        }
        for gate in &self.tried {
            let lacked = self.demands.iter().filter(|d| *d.at(*gate) != Standing::Met);
            let better =
                |d: &Demand| at(&now, &key(d), *gate).is_some_and(|standing| is_better(d.at(*gate), &standing));
            let mut lacked = lacked.peekable();
            if lacked.peek().is_some() && !lacked.any(better) {
                return Some(format!("{} is as before", name(*gate)));
            }
        }
        if let Some(left) = after.findings.iter().find(|f| self.lacks.contains(&lack(f))) {
            return Some(format!("{} is as before: {}", left.code, left.summary));
        }
        if self.at_boot.is_some_and(|barred| barred_at_boot(after) >= barred) {
            return Some("what the next boot bars is as before".to_owned());
        }
        for demand in self.demands.iter().filter(|d| d.whole == Standing::Met) {
            if find(&now, &key(demand)).is_none_or(|d| d.whole != Standing::Met) {
                return Some(format!("port {} by {} was open and is not any more", demand.port, demand.family));
            }
        }
        if self.anybody { None } else { self.admitted(policy, after) }
    }

    /// Whom the firewall or the wrappers let in now, did not before, and the policy does not name.
    fn admitted(&self, policy: &Policy, after: &Judgement) -> Option<String> {
        let named = policy.ssh.sources.iter().flatten();
        for gates in &after.gates {
            let path = &gates.whole.path;
            let Some(old) = self.before.gates.iter().find(|g| g.whole.path == *path) else { continue };
            let allowed = AddrSet::nets(path.family, named.clone());
            for (old, now) in [(&old.firewall, &gates.firewall), (&old.wrappers, &gates.wrappers)] {
                let new = let_in(now).minus(&let_in(old)).minus(&allowed);
                if !new.is_empty() {
                    return Some(format!("it also lets in {new}"));
                }
            }
        }
        None
    }
}

/// Looks at the host afresh. What did not help is taken back at once.
pub fn verify(
    host: &Host,
    policy: &Policy,
    state: &StateDir,
    applied: Applied,
    aim: &Aim,
) -> Result<Verified, VerifyError> {
    let Applied { mut entry, watcher } = applied;
    // A daemon that has just been started may need a moment until it listens.
    let starts =
        entry.plan.steps.iter().any(|s| !matches!(s, Step::EnableUnit { .. }) && works_on(s) == Some(Gate::Listener));
    let mut pauses = [100, 400, 1500].map(Duration::from_millis).into_iter().filter(|_| starts);
    let (snapshot, judgement, missed) = loop {
        let snapshot = observe(host, policy);
        let judgement = judge(policy, &snapshot);
        let missed = aim.missed(policy, &snapshot, &judgement);
        match pauses.next() {
            Some(pause) if missed.is_some() || !is_served(policy, &snapshot, &judgement) => sleep(pause),
            _ => break (snapshot, judgement, missed),
        }
    };
    let Some(why) = missed else {
        entry.after = Some(judgement.sentence.clone());
        entry.end(host, state, Phase::Confirmed, None)?;
        watcher.into_iter().for_each(Watcher::dismiss);
        return Ok(Verified::Confirmed { snapshot: Box::new(snapshot), judgement: Box::new(judgement) });
    };
    match roll_back(host, state, &entry) {
        Ok(()) => {
            entry.end(host, state, Phase::RolledBack, Some(why.clone()))?;
            Ok(Verified::RolledBack { judgement: Box::new(judgement), why })
        }
        Err(source) => {
            let note = format!("{why}; left: {}", crate::chain(&source));
            let _ = entry.end(host, state, Phase::Failed, Some(note));
            Err(VerifyError::Left { why, source })
        }
    }
}

/// Whether somebody listens wherever it is asked for: a daemon takes its addresses one after the other.
fn is_served(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement) -> bool {
    let demands = Intent::of(policy, snapshot, &judgement.gates).demands;
    demands.iter().all(|d| !matches!(d.listener, Standing::Lacking { .. }))
}

fn key(demand: &Demand) -> Key {
    (demand.family, demand.port, demand.interface.clone())
}

fn find<'a>(demands: &'a [Demand], wanted: &Key) -> Option<&'a Demand> {
    demands.iter().find(|d| key(d) == *wanted)
}

fn lack(finding: &Finding) -> (&'static str, Option<String>) {
    (finding.code, finding.evidence.get("account").and_then(|account| account.as_str()).map(str::to_owned))
}

fn barred_at_boot(judgement: &Judgement) -> usize {
    judgement.findings.iter().filter(|f| f.code.starts_with("boot.firewall")).count()
}

/// The gate that a step works on in a way that the model of the rules does not show.
fn works_on(step: &Step) -> Option<Gate> {
    match step {
        Step::Nft { .. }
        | Step::Iptables { .. }
        | Step::UfwAllow { .. }
        | Step::FirewalldAllow { .. }
        | Step::Unban { .. } => None,
        // Of the next boot: no client sees anything of it now.
        Step::Persist { .. } | Step::FreeReserve { .. } | Step::KeepWritersOut { .. } | Step::RaiseConntrack { .. } => {
            None
        }
        Step::UfwRebuild { .. } | Step::FirewalldPanicOff | Step::Flush | Step::Disable { .. } => Some(Gate::Firewall),
        Step::WriteFile { path, .. } => Some(if is_of_wrappers(path) { Gate::Wrappers } else { Gate::Listener }),
        Step::StartUnit { .. }
        | Step::ReloadUnit { .. }
        | Step::ContinueProcess { .. }
        | Step::ThawUnit { .. }
        | Step::RestartUnit { .. }
        | Step::EnableUnit { .. }
        | Step::EmergencySshd { .. }
        | Step::ListenBySocket { .. }
        | Step::MakeKeys { .. }
        | Step::SetMode { .. }
        | Step::MakeFolder { .. }
        | Step::MakeUser { .. } => Some(Gate::Listener),
    }
}

fn name(gate: Gate) -> &'static str {
    match gate {
        Gate::Wrappers => "what the TCP wrappers bar",
        Gate::Listener | Gate::Sshd => "who listens",
        Gate::Firewall | Gate::Route => "what the firewall bars",
    }
}

fn is_better(before: &Standing, after: &Standing) -> bool {
    match (before, after) {
        (Standing::Met, _) => false,
        (_, Standing::Met) => true,
        (Standing::Lacking { wanted: before }, Standing::Lacking { wanted: after }) => {
            after.is_subset(before) && after != before
        }
        _ => false,
    }
}

fn let_in(verdict: &PathVerdict) -> AddrSet {
    verdict.reachable().union(&verdict.unknown_sources())
}
