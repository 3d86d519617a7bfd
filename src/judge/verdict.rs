//! The types of a judgement.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::details::Details;

use crate::facts::{AddrSet, Family, Hook, RuleRef, Words};

/// Monitoring-plugin convention for the exit code: 0, 1, 2, 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Reachable,
    AtRisk,
    Blocked,
    Unknown,
}

/// What a client's `ssh` would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Symptom {
    None,
    /// No answer at all: "Connection timed out".
    TimedOut,
    /// A reset or an ICMP error: "Connection refused", "No route to host".
    Refused,
    /// Connected, then closed before the banner: "kex_exchange_identification: Connection closed".
    Closed,
    /// Connected, and nothing comes.
    NoBanner,
    Unknown,
}

/// The places of a connection's way, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gate {
    Route,
    Firewall,
    Listener,
    Wrappers,
    Sshd,
}

/// One way in: a family, an interface, a local address and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Path {
    pub family: Family,
    pub interface: String,
    #[serde(skip)]
    pub ifindex: u32,
    pub address: IpAddr,
    pub port: u16,
}

/// Who or what decides about a set of sources.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blame {
    pub gate: Gate,
    /// `ip filter INPUT`, `/etc/hosts.deny`, `port 22`
    #[serde(rename = "where")]
    pub place: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// The rule, line or process in its own words; `policy drop` for a chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Words>,
    /// From 1: the rule's place in its chain, the line in its file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    /// Whether it is neighbour discovery that it keeps from getting through.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub neighbours: bool,
    /// Whether the verdict stands in a chain, set or table that the policy respects (a ban by fail2ban).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub respected: bool,
    /// The rule in the snapshot, and for a rule in a chain that was jumped to, the way there: the base chain's rule first.
    #[serde(skip)]
    pub rule_ref: Option<RuleRef>,
    #[serde(skip)]
    pub via: Option<Arc<Calls>>,
}

/// The rule that calls a chain, and those that lead to it: chains that are called from one place share them.
#[derive(Debug, PartialEq, Eq)]
pub struct Calls {
    pub before: Option<Arc<Calls>>,
    pub at: RuleRef,
}

impl Blame {
    /// A gate as a whole, without a rule.
    pub fn gate(gate: Gate, place: &str) -> Blame {
        Blame {
            gate,
            place: place.into(),
            hook: None,
            rule: None,
            position: None,
            neighbours: false,
            respected: false,
            rule_ref: None,
            via: None,
        }
    }

    /// The rules that lead to its chain, the base chain's first.
    pub fn way(&self) -> Vec<&RuleRef> {
        let calls = std::iter::successors(self.via.as_deref(), |call| call.before.as_deref());
        let mut way: Vec<&RuleRef> = calls.map(|call| &call.at).collect();
        way.reverse();
        way
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    pub sources: AddrSet,
    pub symptom: Symptom,
    pub by: Arc<Blame>,
}

/// Sources whose fate depends on rate, history or time (conditional), or on what is not modelled (unknown).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Open {
    pub sources: AddrSet,
    /// `at most 6 connections in 30 s (recent)`, `match bpf is not modelled`
    pub reason: String,
    pub by: Arc<Blame>,
    /// Of conditional ones: what becomes of the first connection of a client that was not seen lately, while no limit is
    /// used up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<First>,
}

/// Sources of which it is in doubt whether whoever sends their packets on finds the host on its link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubtful {
    /// It is about what is not modelled, and not about rates or who asks.
    pub unknown: bool,
    pub open: Open,
}

/// Those of the sources whose first connection is surely let in, and surely blocked. Of the others nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct First {
    pub admitted: AddrSet,
    pub blocked: AddrSet,
}

impl First {
    /// None where nothing is sure.
    pub fn among(sources: &AddrSet, admitted: &AddrSet, blocked: &AddrSet) -> Option<First> {
        let first = First { admitted: admitted.intersection(sources), blocked: blocked.intersection(sources) };
        (!first.admitted.is_empty() || !first.blocked.is_empty()).then_some(first)
    }
}

impl Open {
    pub fn new(sources: AddrSet, reason: String, by: impl Into<Arc<Blame>>) -> Open {
        Open { sources, reason, by: by.into(), first: None }
    }

    /// What becomes of a first connection, as far as that is sure.
    pub fn first_words(&self) -> Option<String> {
        let First { admitted, blocked } = self.first.as_ref()?;
        Some(match () {
            () if *admitted == self.sources => "a first connection gets in".to_owned(),
            () if *blocked == self.sources => "a first connection is blocked (port knocking?)".to_owned(),
            () if blocked.is_empty() => format!("a first connection gets in from {admitted}"),
            () if admitted.is_empty() => format!("a first connection is blocked from {blocked}"),
            () => format!("a first connection gets in from {admitted}, and is blocked from {blocked}"),
        })
    }

    /// The part of it that these sources are.
    fn part(&self, sources: &AddrSet) -> Open {
        let sources = self.sources.intersection(sources);
        let first = self.first.as_ref().and_then(|f| First::among(&sources, &f.admitted, &f.blocked));
        Open { sources, first, reason: self.reason.clone(), by: self.by.clone() }
    }

    /// Takes these sources out of it, and gives those that were in it.
    fn give(&mut self, sources: &AddrSet) -> AddrSet {
        let given = self.sources.intersection(sources);
        if !given.is_empty() {
            self.sources.subtract(&given);
            self.first = self.first.take().and_then(|f| First::among(&self.sources, &f.admitted, &f.blocked));
        }
        given
    }

    /// It is not sure any more that a first connection of these gets in.
    fn unsettle(&mut self, sources: &AddrSet) {
        self.first =
            self.first.take().and_then(|f| First::among(&self.sources, &f.admitted.minus(sources), &f.blocked));
    }
}

/// The fate of every source address on one path: the four parts are disjoint and cover the family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathVerdict {
    #[serde(flatten)]
    pub path: Path,
    pub admitted: AddrSet,
    pub blocked: Vec<Blocked>,
    pub conditional: Vec<Open>,
    pub unknown: Vec<Open>,
}

impl PathVerdict {
    /// A path on which nothing has been decided yet: everybody is admitted.
    pub fn open(path: Path) -> PathVerdict {
        let admitted = AddrSet::full(path.family);
        PathVerdict { path, admitted, blocked: Vec::new(), conditional: Vec::new(), unknown: Vec::new() }
    }

    /// Sources that are surely admitted or admitted on a condition (a rate limit is no lock-out).
    pub fn reachable(&self) -> AddrSet {
        let mut set = self.admitted.clone();
        for open in &self.conditional {
            set.union_with(&open.sources);
        }
        set
    }

    pub fn blocked_sources(&self) -> AddrSet {
        AddrSet::all(self.path.family, self.blocked.iter().map(|b| &b.sources))
    }

    pub fn unknown_sources(&self) -> AddrSet {
        let mut set = AddrSet::empty(self.path.family);
        for open in &self.unknown {
            set.union_with(&open.sources);
        }
        set
    }

    /// Blocks `sources` as far as they were admitted or open until here: what an earlier gate blocked stays its own.
    pub fn block(&mut self, sources: &AddrSet, symptom: Symptom, by: impl Into<Arc<Blame>>) {
        let taken = self.take(sources);
        if !taken.is_empty() {
            self.blocked.push(Blocked { sources: taken, symptom, by: by.into() });
        }
    }

    /// Of `sources` those that were admitted until here become unknown.
    pub fn doubt(&mut self, sources: &AddrSet, reason: String, by: impl Into<Arc<Blame>>) {
        for open in &mut self.conditional {
            open.unsettle(sources);
        }
        let taken = self.admitted.intersection(sources);
        if taken.is_empty() {
            return;
        }
        self.admitted.subtract(&taken);
        self.unknown.push(Open::new(taken, reason, by));
    }

    /// The next gate on the way: what it blocks or leaves open is taken from what got this far.
    pub fn then(&mut self, next: &PathVerdict) {
        for b in &next.blocked {
            self.block(&b.sources, b.symptom, b.by.clone());
        }
        for open in &next.conditional {
            self.conditional.iter_mut().for_each(|before| before.unsettle(&open.sources));
            let taken = open.part(&self.admitted);
            if !taken.sources.is_empty() {
                self.admitted.subtract(&taken.sources);
                self.conditional.push(taken);
            }
        }
        for open in &next.unknown {
            self.doubt(&open.sources, open.reason.clone(), open.by.clone());
            self.doubt_conditional(open);
        }
    }

    fn doubt_conditional(&mut self, next: &Open) {
        let mut taken = AddrSet::empty(self.path.family);
        for open in &mut self.conditional {
            taken.union_with(&open.give(&next.sources));
        }
        self.conditional.retain(|o| !o.sources.is_empty());
        if !taken.is_empty() {
            self.unknown.push(Open::new(taken, next.reason.clone(), next.by.clone()));
        }
    }

    fn take(&mut self, sources: &AddrSet) -> AddrSet {
        let mut taken = self.admitted.intersection(sources);
        self.admitted.subtract(&taken);
        for open in self.conditional.iter_mut().chain(&mut self.unknown) {
            taken.union_with(&open.give(sources));
        }
        self.conditional.retain(|o| !o.sources.is_empty());
        self.unknown.retain(|o| !o.sources.is_empty());
        taken
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Info,
    Warning,
    Critical,
}

/// One thing worth saying, with a stable code (docs: `docs/findings.md`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// `firewall.input.drop`, `wrappers.deny`, `sshd.unit.failed`, …
    pub code: &'static str,
    pub severity: Severity,
    /// One sentence, host text escaped.
    pub summary: String,
    pub evidence: Details,
    pub mendable: bool,
    /// What `repair` would do, in words; filled in by the planner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// What a client would see, and why.
#[must_use]
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub symptom: Symptom,
    /// One sentence: "connection timed out, because …".
    pub sentence: String,
    /// Written down are the whole paths.
    #[serde(rename = "paths")]
    pub gates: Vec<PathGates>,
    pub findings: Vec<Finding>,
}

/// One path, with every gate judged as if it stood alone, and all of them together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PathGates {
    pub whole: PathVerdict,
    /// Routes and netfilter.
    #[serde(skip)]
    pub firewall: PathVerdict,
    #[serde(skip)]
    pub listener: PathVerdict,
    #[serde(skip)]
    pub wrappers: PathVerdict,
    /// Where neighbour discovery is in doubt. It decides nothing.
    #[serde(skip)]
    pub neighbours: Vec<Doubtful>,
}
