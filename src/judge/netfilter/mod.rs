//! What netfilter and the routes do to a handshake, for every source at once.
//!
//! The packet is walked through every base chain of every table of both back-ends, as the kernel does; only the source
//! address stays a set. A rule that some sources match splits the walk; what cannot be decided (rates, history, things that
//! are not modelled) is walked both ways, and a source is open only where the two ways end differently.

mod act;
mod bytes;
mod calls;
mod cond;
mod digest;
#[cfg(test)]
mod ends_tests;
mod first;
#[cfg(test)]
mod first_tests;
mod flow;
#[cfg(test)]
mod flow_tests;
#[cfg(test)]
mod forms_tests;
mod glance;
#[cfg(test)]
mod glance_tests;
mod hooked;
mod hooks;
#[cfg(test)]
mod hooks_tests;
mod ipset;
mod load;
mod lookup;
mod neighbours;
#[cfg(test)]
mod neighbours_tests;
#[cfg(test)]
mod packet_tests;
mod route;
#[cfg(test)]
mod route_tests;
mod rules;
#[cfg(test)]
mod rules_tests;
mod scan;
mod stops;
#[cfg(test)]
mod stops_tests;
#[cfg(test)]
mod tests;
mod trace;
#[cfg(test)]
mod trace_tests;
mod u32;
#[cfg(test)]
mod u32_tests;
mod walk;
mod xt;

use std::collections::HashMap;
use std::sync::Arc;

pub use hooks::Ports;
pub use neighbours::{Neighbours, asker, has_neighbours, trace_neighbour};
pub use rules::Rules;
pub use trace::{Met, named};

use super::{Blame, First, Gate, Open, Path, PathVerdict, Symptom};
use crate::facts::{AddrSet, Firewall, Net};
use flow::DoubtKind;
use hooks::Hooks;
use walk::{End, Fate, Walk};

/// The fate of every source on the path, by the rules and routes alone. `respect`: globs over names whose verdicts on single
/// sources are meant. `ports`: who listens where, for connections that nat leads elsewhere.
pub fn walk(firewall: &Firewall, net: &Net, path: &Path, respect: &[String], ports: &Ports) -> PathVerdict {
    Rules::of(firewall).walk(net, path, respect, ports)
}

/// As [`walk`], but only as far as the end of INPUT.
pub fn walk_inbound(firewall: &Firewall, net: &Net, path: &Path) -> PathVerdict {
    let rules = Rules::of(firewall);
    let mut walk = Walk::new(&rules, net, path, &[]);
    Hooks::new(&rules).handshake(&mut walk, AddrSet::full(path.family), &Ports::default(), true);
    verdict(path, &AddrSet::full(path.family), walk.ended())
}

/// The way of one source, step by step, and what became of it.
pub fn trace(
    firewall: &Firewall,
    net: &Net,
    path: &Path,
    respect: &[String],
    ports: &Ports,
    source: std::net::IpAddr,
) -> (Vec<Met>, PathVerdict) {
    let rules = Rules::of(firewall);
    let mut walk = Walk::new(&rules, net, path, respect);
    walk.trace = Some(Vec::new());
    let source = AddrSet::single(source);
    Hooks::new(&rules).handshake(&mut walk, source.clone(), ports, false);
    (walk.trace.take().unwrap_or_default(), verdict(path, &source, walk.ended()))
}

impl<'a> Rules<'a> {
    /// As [`walk`], of rules that are judged on several paths.
    pub fn walk(&'a self, net: &'a Net, path: &'a Path, respect: &'a [String], ports: &Ports) -> PathVerdict {
        let mut walk = Walk::new(self, net, path, respect);
        Hooks::new(self).handshake(&mut walk, AddrSet::full(path.family), ports, false);
        let mut out = verdict(path, &AddrSet::full(path.family), walk.ended());
        if !out.conditional.is_empty() {
            self.first_connections(net, path, ports, &mut out);
        }
        out
    }

    /// What becomes of a first connection of those whose fate depends on rates and on what came before.
    fn first_connections(&'a self, net: &'a Net, path: &'a Path, ports: &Ports, out: &mut PathVerdict) {
        let mut sources = AddrSet::empty(path.family);
        out.conditional.iter().for_each(|open| sources.union_with(&open.sources));
        let mut walk = Walk::new(self, net, path, &[]);
        walk.first = true;
        Hooks::new(self).handshake(&mut walk, sources.clone(), ports, false);
        let found = verdict(path, &sources, walk.ended());
        let blocked = found.blocked_sources();
        for open in &mut out.conditional {
            open.first = First::among(&open.sources, &found.admitted, &blocked);
        }
    }
}

/// Puts the ends together: sure ones as they are, doubtful ones as far as all their possibilities agree.
fn verdict(path: &Path, sources: &AddrSet, ends: Vec<End>) -> PathVerdict {
    let empty = || AddrSet::empty(path.family);
    let mut out = PathVerdict { admitted: empty(), ..PathVerdict::open(path.clone()) };
    let lost = || {
        let sure = ends.iter().filter(|e| e.doubts.is_empty());
        sources.minus(&AddrSet::all(path.family, sure.map(|end| &end.sources)))
    };
    // Without doubts every source has one end, and the numbers of them tell whether one is lost.
    let ended = ends.iter().fold(0u128, |sum, end| sum.wrapping_add(end.sources.count()));
    // The parts of the whole of IPv6 are 2^128.
    let due = sources.count();
    let counted = ended == due || (due == u128::MAX && ended == 0);
    let all = counted && ends.iter().all(|end| end.doubts.is_empty());
    debug_assert!(!all || lost().is_empty());
    let left = if all { empty() } else { lost() };
    let mut blocked = Blocks::default();
    let mut doubtful = Vec::new();
    for end in ends {
        if !end.doubts.is_empty() {
            doubtful.push(end);
            continue;
        }
        match (end.fate, end.by) {
            (Fate::Blocked(symptom), Some(by)) => blocked.add(end.sources, symptom, by),
            _ => out.admitted.absorb(end.sources),
        }
    }
    let (mut may, mut may_not, mut unknown) = (empty(), empty(), empty());
    for end in &doubtful {
        match end.fate {
            Fate::Admitted => may.union_with(&end.sources),
            Fate::Blocked(_) => may_not.union_with(&end.sources),
        }
        if end.doubts.iter().any(|d| d.doubt.kind == DoubtKind::Unknown) {
            unknown.union_with(&end.sources);
        }
    }
    let open = may.intersection(&may_not);
    out.admitted.union_with(&may.minus(&open).intersection(&left));
    let mut open = open.intersection(&left);
    let mut named = empty();
    let mut symptoms: HashMap<Symptom, AddrSet> = HashMap::new();
    for end in &doubtful {
        if let Fate::Blocked(symptom) = end.fate {
            symptoms.entry(symptom).or_insert_with(empty).union_with(&end.sources);
        }
    }
    for end in doubtful {
        let agreed = end.sources.intersection(&left).minus(&may);
        if let (Fate::Blocked(symptom), false, Some(by)) = (end.fate, agreed.is_empty(), end.by) {
            // Of several rules that all block the same sources the first is named.
            let mut fresh = agreed.minus(&named);
            named.union_with(&fresh);
            for (_, others) in symptoms.iter().filter(|(s, _)| **s != symptom) {
                let mixed = fresh.intersection(others);
                fresh.subtract(&mixed);
                blocked.add(mixed, Symptom::Unknown, by.clone());
            }
            blocked.add(fresh, symptom, by);
        }
        for kind in [DoubtKind::Unknown, DoubtKind::Conditional] {
            let Some(raised) = end.doubts.iter().find(|d| d.doubt.kind == kind) else { continue };
            let mut part = end.sources.intersection(&open);
            if kind == DoubtKind::Conditional {
                part.subtract(&unknown);
            }
            if part.is_empty() {
                continue;
            }
            open.subtract(&part);
            let entry = Open::new(part, raised.doubt.reason.to_string(), raised.by.clone());
            let list = if kind == DoubtKind::Unknown { &mut out.unknown } else { &mut out.conditional };
            match list.iter_mut().find(|o| o.reason == entry.reason && o.by == entry.by) {
                Some(same) => same.sources.union_with(&entry.sources),
                None => list.push(entry),
            }
        }
    }
    let left = left.minus(&may).minus(&may_not);
    if !left.is_empty() {
        let by = Blame::gate(Gate::Firewall, "netfilter");
        out.unknown.push(Open::new(left, "the walk lost these sources".to_owned(), by));
    }
    out.blocked = blocked.finish();
    out
}

#[derive(Default)]
struct Blocks {
    list: Vec<(AddrSet, Symptom, Arc<Blame>)>,
    /// By the blame's own place: a walk makes one for each rule.
    index: HashMap<(Symptom, *const Blame), usize>,
}

impl Blocks {
    fn add(&mut self, sources: AddrSet, symptom: Symptom, by: Arc<Blame>) {
        if sources.is_empty() {
            return;
        }
        // Nobody else is blocked by what nobody else holds.
        if by.rule_ref.is_some() && Arc::strong_count(&by) == 1 {
            self.list.push((sources, symptom, by));
            return;
        }
        let key = (symptom, Arc::as_ptr(&by));
        // Routes and what could not be read are blamed anew for each fork.
        let same = || self.list.iter().position(|(_, s, b)| *s == symptom && b.rule_ref.is_none() && *b == by);
        let known = self.index.get(&key).copied().or_else(|| if by.rule_ref.is_none() { same() } else { None });
        match known {
            Some(at) => self.list[at].0.absorb(sources),
            None => {
                self.index.insert(key, self.list.len());
                self.list.push((sources, symptom, by));
            }
        }
    }

    fn finish(self) -> Vec<super::Blocked> {
        let blocked = |(sources, symptom, by)| super::Blocked { sources, symptom, by };
        self.list.into_iter().map(blocked).collect()
    }
}
