//! Trying a plan on a copy of the rules, in a scratch network namespace, before it touches the host.
//!
//! The live rules of both back-ends are cloned, the kernel is asked with real first packets, the plan is applied to the
//! copy, and the kernel is asked again: those whom the plan lets in must get in, and nobody else who did not before.
#![forbid(unsafe_code)]

pub mod boot;
pub mod clone;
pub mod drill;
pub mod layout;
pub mod packet;
pub mod probe;
pub mod replay;
pub mod ruleset;
pub mod sample;
pub mod sshd;

use std::error::Error;
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use crate::facts::Snapshot;
use crate::host::{Host, Scratch, ScratchError};
use crate::judge::{self, Judgement, PathGates, PathVerdict};
use crate::plan::{Plan, Step, TableInserts, Traffic};
use crate::policy::Policy;

use clone::{CloneError, IpsetsAsText};
use layout::Layout;
use probe::{Answer, Listeners, ask};
use sample::{Question, questions};

/// A plan that the real kernel has passed on a copy, or of which it is said why it could not be tried. Made only by
/// [`rehearse`]; `apply` takes nothing else.
#[must_use]
#[derive(Debug)]
pub struct Rehearsed {
    plan: Plan,
    evidence: Evidence,
}

impl Rehearsed {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    pub fn into_parts(self) -> (Plan, Evidence) {
        (self.plan, self.evidence)
    }
}

/// What was tried, and what not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Evidence {
    /// Why nothing could be tried; the judge alone is certain then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrehearsed: Option<String>,
    /// What of the host is not in the copy as it is.
    pub missing: Vec<String>,
    /// Steps that were not tried, and why.
    pub untried: Vec<String>,
    /// What sshd said to its files as the plan leaves them, on a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sshd: Option<String>,
    /// First packets that were sent.
    pub probes: usize,
    pub milliseconds: u64,
}

#[derive(Debug, Error)]
pub enum RehearsalError {
    #[error("make a scratch copy of the host")]
    Scratch(#[from] ScratchError),
    #[error("copy the rules")]
    Clone(#[from] CloneError),
    #[error("ask the kernel")]
    Probe(#[source] io::Error),
    #[error("apply the plan to the copy ({family} {table})")]
    Apply {
        family: crate::facts::TableFamily,
        table: String,
        #[source]
        source: BoxedError,
    },
    #[error("on a copy sshd does not take its files as the plan leaves them: {0}")]
    Sshd(String),
    #[error("on a copy the plan does not let {source_address} in to port {port}: {answer}")]
    StillShut { source_address: IpAddr, port: u16, answer: String },
    #[error("load what the next boot loads: {0}")]
    Boot(String),
    #[error("on a copy {file} comes to other rules than it should")]
    Otherwise { file: String },
    #[error("on a copy the plan also lets {source_address} in to {protocol} port {port}, which was closed to it")]
    Opened { source_address: IpAddr, protocol: &'static str, port: u16 },
}

pub type BoxedError = Box<dyn Error + Send + Sync>;

/// How inserts are made: the same function by which `apply` makes them, called in the scratch namespace.
pub type Insert<'a> = &'a (dyn Fn(&Host, &str, &TableInserts) -> Result<(), BoxedError> + Sync);

/// Tries `plan` on a copy of the host's rules. `suffices`: the judge is certain that the plan is enough, which counts where
/// no copy can be made and the policy allows to go on without one.
pub fn rehearse(
    host: &Host,
    snapshot: &Snapshot,
    plan: Plan,
    policy: &Policy,
    judgement: &Judgement,
    suffices: bool,
    insert: Insert<'_>,
) -> Result<Rehearsed, RehearsalError> {
    let start = Instant::now();
    let inserts: Vec<TableInserts> = plan.steps.iter().flat_map(|s| s.inserts(&snapshot.firewall)).collect();
    let untried = plan.steps.iter().filter_map(untried).collect();
    let mut evidence = Evidence { untried, sshd: sshd::passed(snapshot, &plan.steps)?, ..Evidence::default() };
    if !inserts.is_empty() {
        let mut model = snapshot.clone();
        for at in &inserts {
            crate::plan::insert(&mut model.firewall, &plan.id, at);
        }
        let expected = |gate: &PathGates| judge::rules(policy, &model, gate.whole.path.clone());
        let expected: Vec<PathVerdict> = judgement.gates.iter().map(expected).collect();
        let trial = Trial { host, snapshot, gates: &judgement.gates, id: &plan.id, inserts: &inserts, insert };
        match trial.run(&expected) {
            Ok((missing, probes)) => {
                evidence.missing = missing;
                evidence.probes = probes;
            }
            Err(error) if error.is_no_verdict() && suffices && policy.firewall.unrehearsed => {
                evidence.unrehearsed = Some(crate::chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
    if plan.steps.iter().any(|s| matches!(s, Step::Persist { .. })) {
        evidence.probes += boot::try_out(host, snapshot, &plan, policy)?;
    }
    evidence.milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Rehearsed { plan, evidence })
}

impl RehearsalError {
    /// Whether it says that nothing could be tried, and not that the trial failed.
    fn is_no_verdict(&self) -> bool {
        matches!(self, RehearsalError::Scratch(_) | RehearsalError::Clone(_) | RehearsalError::Probe(_))
    }
}

fn untried(step: &Step) -> Option<String> {
    let what = match step {
        Step::UfwAllow { .. } | Step::FirewalldAllow { .. } => {
            return Some("the rules that the owner's tool will write were tried, not the tool".to_owned());
        }
        Step::Nft { inserts, .. } | Step::Iptables { inserts, .. }
            if inserts.iter().any(|i| i.accept.traffic == Traffic::Neighbours) =>
        {
            "neighbour discovery, as a copy has no neighbours"
        }
        Step::UfwRebuild { .. } => "ufw builds its rules anew",
        Step::Unban { .. } => "fail2ban lifts its bans",
        Step::FirewalldPanicOff => "firewalld lifts its panic mode",
        Step::Flush | Step::Disable { .. } => "every rule is taken away",
        _ => return None,
    };
    Some(format!("not tried: {what}"))
}

struct Trial<'a> {
    host: &'a Host,
    snapshot: &'a Snapshot,
    gates: &'a [PathGates],
    id: &'a str,
    inserts: &'a [TableInserts],
    insert: Insert<'a>,
}

impl Trial<'_> {
    /// What is missing in the copy, and how many packets were sent.
    fn run(&self, expected: &[PathVerdict]) -> Result<(Vec<String>, usize), RehearsalError> {
        let sets = clone::ipsets(self.host, &self.snapshot.firewall)?;
        let grants = sample::grants(self.inserts);
        let (missing, asked, before, after) = self.on_a_copy(&sets, |copy| {
            let asked = questions(self.gates, &self.snapshot.firewall, &grants, expected, &copy.layout.reserved);
            let before = copy.ask(&asked, 0)?;
            self.apply(copy.host)?;
            let after = copy.ask(&asked, 1)?;
            Ok((copy.layout.missing.clone(), asked, before, after))
        })?;
        let mended = |doubtful: &[Question]| {
            self.on_a_copy(&sets, |copy| {
                self.apply(copy.host)?;
                copy.ask(doubtful, 0)
            })
        };
        let as_it_is = |doubtful: &[Question]| self.on_a_copy(&sets, |copy| copy.ask(doubtful, 0));
        let probes = compare(&asked, &before, &after, mended, as_it_is)?;
        Ok((missing, probes))
    }

    /// Runs `work` beside a fresh copy of the rules.
    fn on_a_copy<T: Send>(
        &self,
        sets: &IpsetsAsText,
        work: impl FnOnce(&mut Copy<'_>) -> Result<T, RehearsalError> + Send,
    ) -> Result<T, RehearsalError> {
        let firewall = &self.snapshot.firewall;
        let mut uplinks: Vec<u32> = self.gates.iter().map(|g| g.whole.path.ifindex).collect();
        uplinks.dedup();
        let inside = |host: &Host| {
            let layout = layout::set_up(host, &self.snapshot.net, &uplinks, &clone::devices(firewall))?;
            let copied = clone::firewall(host, firewall, sets).map_err(RehearsalError::Clone);
            Ok(copied.and_then(|()| {
                let (tcp, udp) = sample::ports(self.gates, firewall);
                let listeners = Listeners::open(&tcp, &udp).map_err(RehearsalError::Probe)?;
                work(&mut Copy { host, layout, listeners, gates: self.gates })
            }))
        };
        self.host.scratch(Scratch::Network, inside)?
    }

    fn apply(&self, host: &Host) -> Result<(), RehearsalError> {
        for table in self.inserts {
            (self.insert)(host, self.id, table).map_err(|source| RehearsalError::Apply {
                family: table.family,
                table: crate::facts::escape(&table.table),
                source,
            })?;
        }
        Ok(())
    }
}

/// Whether the answers are those that the plan is for; gives how many packets were sent. Rates and histories are used up by
/// asking: what is doubtful is asked again, alone, on a fresh copy with the plan and on one without.
fn compare(
    asked: &[Question],
    before: &[Answer],
    after: &[Answer],
    mended: impl FnOnce(&[Question]) -> Result<Vec<Answer>, RehearsalError>,
    as_it_is: impl FnOnce(&[Question]) -> Result<Vec<Answer>, RehearsalError>,
) -> Result<usize, RehearsalError> {
    let doubtful = |wrong: &dyn Fn(&Question, Answer, Answer) -> bool| {
        let all = asked.iter().zip(before.iter().zip(after));
        all.filter(|(q, (b, a))| wrong(q, **b, **a)).map(|(q, _)| *q).collect::<Vec<Question>>()
    };
    let shut = doubtful(&|q, _, after| q.must_open && after != Answer::Open(q.flow.port));
    let opened = doubtful(&|q, before, after| !q.may_open && !before.is_open() && after.is_open());
    if !shut.is_empty() {
        let again = mended(&shut)?;
        if let Some((question, answer)) = shut.iter().zip(again).find(|(q, a)| *a != Answer::Open(q.flow.port)) {
            let (source_address, port) = (question.flow.source, question.flow.port);
            return Err(RehearsalError::StillShut { source_address, port, answer: answer.words() });
        }
    }
    if !opened.is_empty() {
        let again = as_it_is(&opened)?;
        if let Some((question, _)) = opened.iter().zip(again).find(|(_, answer)| !answer.is_open()) {
            return Err(RehearsalError::Opened {
                source_address: question.flow.source,
                protocol: question.flow.protocol.name(),
                port: question.flow.port,
            });
        }
    }
    Ok(asked.len() * 2 + shut.len() + opened.len())
}

/// A copy of the rules, with clients before it.
struct Copy<'a> {
    host: &'a Host,
    layout: Layout,
    listeners: Listeners,
    gates: &'a [PathGates],
}

impl Copy<'_> {
    /// Asks each question; `round` keeps the flows of one asking apart from those of another.
    fn ask(&mut self, questions: &[Question], round: u16) -> Result<Vec<Answer>, RehearsalError> {
        const EPHEMERAL: u16 = 32768;
        const ROUND: u16 = 14000;
        let mut answers = vec![Answer::Silent; questions.len()];
        for uplink in &mut self.layout.uplinks {
            let name = uplink.name.clone();
            let gates = self.gates;
            let by = |q: &Question| gates.get(q.path).is_some_and(|g| g.whole.path.interface == name);
            let mine: Vec<usize> = (0..questions.len()).filter(|&i| by(&questions[i])).collect();
            let flows: Vec<_> = mine
                .iter()
                .map(|&i| {
                    let mut flow = questions[i].flow;
                    flow.source_port = EPHEMERAL + round * ROUND + (i % usize::from(ROUND)) as u16;
                    flow
                })
                .collect();
            let got = ask(uplink, &self.listeners, &flows).map_err(RehearsalError::Probe)?;
            for (index, answer) in mine.into_iter().zip(got) {
                answers[index] = answer;
            }
        }
        Ok(answers)
    }
}
