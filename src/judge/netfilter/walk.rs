//! Walking forks of a packet through chains and rules.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::bytes::Regs;
use super::calls::{Call, Calling};
use super::digest::Digest;
use super::flow::{Doubt, Fork, Phase, Raised, merge};
use super::glance::{Glance, View};
use super::lookup::Prepared;
use super::route::Routes;
use super::rules::{Known, Rules};
use super::scan::{Eval, Scan};
use super::stops::Past;
use super::trace::Met;
use crate::facts::{AddrSet, Chain, Hook, Net, Policy as ChainPolicy, Rule, RuleRef, Table};
use crate::judge::{Blame, Path, Symptom};

/// Rules that one walk looks at, over all forks, before it gives up: jumps may multiply without end. To it comes
/// [`BUDGET_PER_RULE`] for each rule that there is.
const BUDGET: u64 = 500_000;
const BUDGET_PER_RULE: u64 = 64;
/// How deep chains may call each other. nf_tables allows 16; iptables-legacy as many as there are chains, and nobody that many.
const DEPTH: usize = 64;
static EMPTY: Regs = Regs::new();
/// Possibilities that are kept apart.
const FORKS: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Admitted,
    Blocked(Symptom),
}

/// What became of some sources. With doubts it is one of several possibilities.
#[derive(Debug)]
pub struct End {
    pub sources: AddrSet,
    pub fate: Fate,
    pub doubts: Vec<Arc<Raised>>,
    pub by: Option<Arc<Blame>>,
}

/// Where the walk stands: a rule of a chain, or (without an index) the chain's policy.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub hook: Hook,
    pub table: &'a Table,
    pub chain: &'a Chain,
    pub index: Option<usize>,
    pub known: &'a Known<'a>,
    /// The place of its call among those of the walk, once somebody is blamed in it.
    pub call: Option<usize>,
}

#[cfg(test)]
impl<'a> Site<'a> {
    pub fn of(hook: Hook, known: &'a Known<'a>) -> Site<'a> {
        Site { hook, table: known.table, chain: known.chain, index: None, known, call: None }
    }
}

impl Site<'_> {
    pub fn rule_ref(&self) -> RuleRef {
        RuleRef { index: self.index, ..self.known.named().at.clone() }
    }
}

pub struct Walk<'a> {
    pub path: &'a Path,
    pub net: &'a Net,
    pub rules: &'a Rules<'a>,
    pub routes: Routes,
    pub respect: &'a [String],
    pub stack: Vec<Site<'a>>,
    pub ends: Vec<End>,
    /// Kept only where somebody wants to see the way.
    pub trace: Option<Vec<Met>>,
    /// Whether rates and what came before are taken as a first connection finds them.
    pub first: bool,
    /// Whether there is nat for packets of the path's family.
    pub nat: bool,
    pub past: Past,
    /// The packets that have come through the base chain, as its tests see them.
    pub views: Vec<Rc<View>>,
    /// How deep it is in what rules do.
    pub nested: usize,
    budget: u64,
    pub calls: Vec<Call>,
    pub called: HashMap<Calling, usize>,
}

/// Where forks go that do not reach the next rule.
pub struct Out<'o> {
    /// Accepted by the base chain.
    pub accepted: &'o mut Vec<Fork>,
    /// Out of this chain, to the rule after the one that called it.
    pub returned: &'o mut Vec<Fork>,
    /// To the next rule, in another state.
    pub next: &'o mut Vec<Fork>,
}

impl<'a> Walk<'a> {
    pub fn new(rules: &'a Rules<'a>, net: &'a Net, path: &'a Path, respect: &'a [String]) -> Walk<'a> {
        Walk {
            path,
            net,
            rules,
            routes: Routes::of(net, path.family),
            respect,
            stack: Vec::new(),
            ends: Vec::new(),
            trace: None,
            first: false,
            nat: rules.nat(path.family),
            past: Past::default(),
            views: Vec::new(),
            nested: 0,
            budget: BUDGET + rules.count() as u64 * BUDGET_PER_RULE,
            calls: Vec::new(),
            called: HashMap::new(),
        }
    }

    /// What became of everybody.
    pub fn ended(self) -> Vec<End> {
        self.ends
    }

    pub fn set(&self, name: &str) -> Option<&'a Prepared<'a>> {
        self.rules.set(self.stack.last()?.table, name)
    }

    /// The forks that a base chain lets pass.
    pub fn base(&mut self, hook: Hook, known: &'a Known<'a>, forks: Vec<Fork>) -> Vec<Fork> {
        let mut accepted = Vec::new();
        let chain = known.chain;
        self.views.clear();
        self.stack.push(Site { hook, table: known.table, chain, index: None, known, call: None });
        let returned = self.chain(forks, &mut accepted);
        if let Some(site) = self.stack.last_mut() {
            site.index = None;
        }
        let policy = chain.base.as_ref().map_or(ChainPolicy::Accept, |b| b.policy);
        for fork in returned {
            self.note(&fork, None, if policy == ChainPolicy::Drop { "drop" } else { "accept" });
            match policy {
                ChainPolicy::Accept => accepted.push(fork),
                ChainPolicy::Drop => self.end(fork, None),
            }
        }
        self.stack.pop();
        merge(&mut accepted);
        accepted
    }

    /// Walks the chain on top of the stack and gives the forks that run off its end or return.
    fn chain(&mut self, mut current: Vec<Fork>, accepted: &mut Vec<Fork>) -> Vec<Fork> {
        let Some(known) = self.stack.last().map(|s| s.known) else { return current };
        let digest = known.digest(self.rules);
        let mut returned = Vec::new();
        let mut next = Vec::new();
        let mut views = self.views(&current);
        for (index, rule) in known.chain.rules.iter().enumerate() {
            if let Some(site) = self.stack.last_mut() {
                site.index = Some(index);
            }
            for (fork, view) in current.iter_mut().zip(&views) {
                let mut out = Out { accepted, returned: &mut returned, next: &mut next };
                self.rule(fork, view, digest, index, rule, &mut out);
            }
            if !next.is_empty() || current.iter().any(|f| f.sources.is_empty()) {
                current.append(&mut next);
                merge(&mut current);
                views = self.views(&current);
            }
            if current.len() > FORKS {
                self.give_up(&mut current, "the rules leave too many possibilities open");
            }
            if current.is_empty() {
                break;
            }
        }
        if returned.is_empty() {
            returned = current;
        } else {
            returned.append(&mut current);
        }
        merge(&mut returned);
        returned
    }

    /// Meets a rule. What it does not stop stays in `fork`.
    fn rule(
        &mut self,
        fork: &mut Fork,
        view: &View,
        digest: &Digest<'a>,
        index: usize,
        rule: &'a Rule,
        out: &mut Out<'_>,
    ) {
        let Some(site) = self.stack.last().copied() else { return };
        if !self.can_afford(fork) {
            return;
        }
        let glance = self.glance(&site, digest, index, fork, view);
        debug_assert!(self.is_right(&glance, fork, rule), "{rule:?}");
        match glance {
            Glance::Misses => {}
            // What does something right after such tests looks into no register.
            Glance::Holds(hit, at) => self.effect(fork, rule, at, hit, Vec::new(), &EMPTY, out),
            Glance::Closer => self.look_from(fork, rule, 0, Regs::new(), Vec::new(), out),
        }
    }

    /// Goes on with a rule from one of its expressions on. What the rule does not stop stays in `fork`.
    pub fn rule_from(
        &mut self,
        fork: &mut Fork,
        rule: &'a Rule,
        start: usize,
        regs: Regs,
        doubts: Vec<Doubt>,
        out: &mut Out<'_>,
    ) {
        if self.can_afford(fork) {
            self.look_from(fork, rule, start, regs, doubts, out);
        }
    }

    /// Whether one more rule may be looked at; else the fork's way ends here.
    fn can_afford(&mut self, fork: &mut Fork) -> bool {
        let left = self.budget.checked_sub(1);
        match left {
            Some(left) => self.budget = left,
            None => {
                let sources = take(fork);
                let mut all = vec![fork.with(sources)];
                self.give_up(&mut all, "the rules call each other too often");
            }
        }
        left.is_some()
    }

    /// What a glance tells, held against the rule as a whole.
    fn is_right(&self, glance: &Glance, fork: &Fork, rule: &'a Rule) -> bool {
        let eval = || Eval { hit: None, doubts: Vec::new(), regs: Regs::new() };
        match glance {
            Glance::Closer => true,
            Glance::Holds(hit, at) => {
                let mut whole = eval();
                matches!(self.scan(fork, rule, 0, &mut whole), Scan::Effect(found) if found == *at)
                    && (whole.hit == *hit && whole.doubts.is_empty())
            }
            Glance::Misses => {
                let mut open = vec![(0, eval())];
                while let Some((at, mut eval)) = open.pop() {
                    match self.scan(fork, rule, at, &mut eval) {
                        Scan::Miss => {}
                        Scan::Split(list) => open.extend(list),
                        Scan::Idle | Scan::Effect(_) => return false,
                    }
                }
                true
            }
        }
    }

    fn look_from(
        &mut self,
        fork: &mut Fork,
        rule: &'a Rule,
        start: usize,
        regs: Regs,
        doubts: Vec<Doubt>,
        out: &mut Out<'_>,
    ) {
        let mut first = Eval { hit: None, doubts, regs };
        let mut more = Vec::new();
        match self.scan(fork, rule, start, &mut first) {
            Scan::Miss => return,
            Scan::Idle => return self.note_idle(fork, &first),
            Scan::Effect(at) => return self.effect(fork, rule, at, first.hit, first.doubts, &first.regs, out),
            Scan::Split(list) => more.extend(list),
        }
        // What splits are disjoint sets of sources.
        while let Some((at, mut eval)) = more.pop() {
            match self.scan(fork, rule, at, &mut eval) {
                Scan::Miss => {}
                Scan::Idle => self.note_idle(fork, &eval),
                Scan::Effect(at) => self.effect(fork, rule, at, eval.hit, eval.doubts, &eval.regs, out),
                Scan::Split(list) => more.extend(list),
            }
        }
    }

    /// The rule holds for the sources up to the expression `at`, which does something.
    #[allow(clippy::too_many_arguments)]
    fn effect(
        &mut self,
        fork: &mut Fork,
        rule: &'a Rule,
        at: usize,
        hit: Option<AddrSet>,
        doubts: Vec<Doubt>,
        regs: &Regs,
        out: &mut Out<'_>,
    ) {
        let sources = match hit {
            None => take(fork),
            Some(hit) => {
                fork.sources.subtract(&hit);
                hit
            }
        };
        let mut matched = fork.with(sources);
        if doubts.is_empty() {
            for kept in self.act(matched, rule, at, regs, out) {
                if kept.same_state(fork) {
                    fork.sources.absorb(kept.sources);
                } else {
                    out.next.push(kept);
                }
            }
            return;
        }
        let by = self.blame(true);
        for doubt in doubts {
            matched.doubt(&Arc::new(Raised { doubt, by: by.clone() }));
        }
        let missed = matched.clone();
        let before = (self.ends.len(), out.accepted.len(), out.returned.len());
        let mut kept = self.act(matched, rule, at, regs, out);
        let unmoved = before == (self.ends.len(), out.accepted.len(), out.returned.len());
        // Whether it matched or not, the next rule sees the same packet: no doubt comes of it.
        if unmoved && kept.len() == 1 && kept[0].packet == fork.packet && kept[0].sources == missed.sources {
            fork.sources.absorb(missed.sources);
            return;
        }
        out.next.append(&mut kept);
        out.next.push(missed);
    }

    /// Goes into another chain of the same table; what comes back has run off its end.
    pub fn call(&mut self, name: &str, fork: Fork, accepted: &mut Vec<Fork>) -> Vec<Fork> {
        let Some(site) = self.stack.last().copied() else { return vec![fork] };
        let named = site.index.and_then(|index| site.known.digest(self.rules).callee(index));
        let named = named.and_then(|place| self.rules.chains.get(place)).filter(|known| known.chain.name == name);
        // A verdict may also come out of a map.
        let mapped = || self.rules.chains.get(self.rules.place_of_chain(site.table, name)?);
        let Some(known) = named.or_else(mapped) else {
            self.give_up(&mut vec![fork], &format!("chain {name} is not there"));
            return Vec::new();
        };
        if self.stack.len() >= DEPTH {
            self.give_up(&mut vec![fork], "the rules call each other too deeply");
            return Vec::new();
        }
        self.stack.push(Site { chain: known.chain, index: None, known, call: None, ..site });
        let returned = self.chain(vec![fork], accepted);
        self.stack.pop();
        returned
    }

    /// What becomes of these is not known.
    pub fn give_up(&mut self, forks: &mut Vec<Fork>, why: &str) {
        let raised = Arc::new(Raised { doubt: Doubt::unknown(why), by: self.blame(true) });
        self.leave_open(forks, &raised);
    }

    pub fn leave_open(&mut self, forks: &mut Vec<Fork>, raised: &Arc<Raised>) {
        for mut fork in forks.drain(..) {
            fork.doubt(raised);
            self.note(&fork, None, "not modelled");
            self.ends.push(End {
                sources: fork.sources.clone(),
                fate: Fate::Admitted,
                doubts: fork.doubts.clone(),
                by: None,
            });
            let by = Some(raised.by.clone());
            self.ends.push(End {
                sources: fork.sources,
                fate: Fate::Blocked(Symptom::Unknown),
                doubts: fork.doubts,
                by,
            });
        }
    }

    /// The rule or policy that the walk stands at ends the fork's way. `symptom`: None for a silent drop.
    pub fn end(&mut self, fork: Fork, symptom: Option<Symptom>) {
        if fork.sources.is_empty() {
            return;
        }
        let symptom = symptom.unwrap_or(match fork.packet.phase {
            Phase::Ack => Symptom::NoBanner,
            _ => Symptom::TimedOut,
        });
        let by = self.blame(is_wide(&fork.sources));
        self.ends.push(End { sources: fork.sources, fate: Fate::Blocked(symptom), doubts: fork.doubts, by: Some(by) });
    }
}

/// More than a ban of some addresses would be.
fn is_wide(sources: &AddrSet) -> bool {
    sources.count() > sources.family().max() / 4
}

fn take(fork: &mut Fork) -> AddrSet {
    let empty = AddrSet::empty(fork.sources.family());
    std::mem::replace(&mut fork.sources, empty)
}
