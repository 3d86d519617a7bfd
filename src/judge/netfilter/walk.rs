//! Walking forks of a packet through chains and rules.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::bytes::Regs;
use super::first::Shared;
use super::flow::{Doubt, Fork, Phase, Raised, merge};
use super::lookup::Prepared;
use super::route::Routes;
use super::scan::{Eval, Scan};
use super::trace::Met;
use crate::facts::{
    AddrSet, Chain, ChainKind, Expr, Hook, IpSet, Net, Policy as ChainPolicy, Rule, RuleRef, Seen, Set, Table, XtMatch,
    XtTarget,
};
use crate::judge::{Blame, Gate, Path, Symptom};
use crate::policy::respects;

/// Rules that one walk looks at, over all forks, before it gives up: jumps may multiply without end. To it comes
/// [`BUDGET_PER_RULE`] for each rule that there is.
const BUDGET: u64 = 500_000;
const BUDGET_PER_RULE: u64 = 64;
/// How deep chains may call each other. nf_tables allows 16; iptables-legacy as many as there are chains, and nobody that many.
const DEPTH: usize = 64;
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
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    pub hook: Hook,
    pub table: &'a Table,
    pub chain: &'a Chain,
    pub index: Option<usize>,
}

impl Site<'_> {
    fn rule_ref(&self) -> RuleRef {
        RuleRef {
            backend: self.table.backend,
            family: self.table.family,
            table: self.table.name.clone(),
            chain: self.chain.name.clone(),
            index: self.index,
        }
    }
}

pub struct Walk<'a> {
    pub path: &'a Path,
    pub net: &'a Net,
    pub ipsets: &'a Seen<Vec<IpSet>>,
    pub routes: Routes,
    pub respect: &'a [String],
    pub sets: RefCell<HashMap<*const Set, Rc<Prepared<'a>>>>,
    pub addresses: RefCell<HashMap<u16, Rc<AddrSet>>>,
    pub stack: Vec<Site<'a>>,
    /// Whether any rule for packets of this family needs connection tracking: else the kernel does none.
    pub tracked: bool,
    /// Whether there is nat for them.
    pub nat: bool,
    pub ends: Vec<End>,
    /// Kept only where somebody wants to see the way.
    pub trace: Option<Vec<Met>>,
    /// Whether rates and what came before are taken as a first connection finds them.
    pub first: bool,
    pub shared: OnceCell<Shared<'a>>,
    chains: HashMap<(*const Table, &'a str), &'a Chain>,
    named_sets: HashMap<(*const Table, &'a str), &'a Set>,
    budget: u64,
    /// Those that have been made, by where the walk stood: a rule may end the way of many forks.
    pub blames: HashMap<Standing, Arc<Blame>>,
}

/// The base chain's hook, the rules from there to where the walk stands, and whether the verdict is about single sources.
type Standing = (Hook, Vec<Step>, bool);
type Step = (*const Chain, Option<usize>);

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
    pub fn new(
        tables: impl Iterator<Item = &'a Table>,
        net: &'a Net,
        ipsets: &'a Seen<Vec<IpSet>>,
        path: &'a Path,
        respect: &'a [String],
    ) -> Walk<'a> {
        let (mut chains, mut named_sets) = (HashMap::new(), HashMap::new());
        let mut budget = BUDGET;
        let (mut tracked, mut nat) = (false, false);
        for table in tables {
            let key = std::ptr::from_ref(table);
            budget += table.chains.iter().map(|c| c.rules.len() as u64).sum::<u64>() * BUDGET_PER_RULE;
            if table.family.sees(path.family) {
                tracked |= table.chains.iter().flat_map(|c| &c.rules).flat_map(|r| &r.exprs).any(needs_tracking);
                nat |= table.chains.iter().filter_map(|c| c.base.as_ref()).any(|b| b.kind == ChainKind::Nat);
            }
            chains.extend(table.chains.iter().map(|c| ((key, c.name.as_str()), c)));
            named_sets.extend(table.sets.iter().map(|s| ((key, s.name.as_str()), s)));
        }
        Walk {
            path,
            net,
            ipsets,
            routes: Routes::of(net, path.family),
            respect,
            sets: RefCell::default(),
            addresses: RefCell::default(),
            stack: Vec::new(),
            tracked,
            nat,
            ends: Vec::new(),
            trace: None,
            first: false,
            shared: OnceCell::new(),
            chains,
            named_sets,
            budget,
            blames: HashMap::new(),
        }
    }

    /// What became of everybody.
    pub fn ended(self) -> Vec<End> {
        self.ends
    }

    /// The expressions of all rules.
    pub fn exprs(&self) -> impl Iterator<Item = &'a Expr> {
        self.chains.values().flat_map(|c| &c.rules).flat_map(|r| &r.exprs)
    }

    pub fn set(&self, name: &str) -> Option<&'a Set> {
        let site = self.stack.last()?;
        self.named_sets.get(&(std::ptr::from_ref(site.table), name)).copied()
    }

    /// The forks that a base chain lets pass.
    pub fn base(&mut self, hook: Hook, table: &'a Table, chain: &'a Chain, forks: Vec<Fork>) -> Vec<Fork> {
        let mut accepted = Vec::new();
        self.stack.push(Site { hook, table, chain, index: None });
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
        let Some(chain) = self.stack.last().map(|s| s.chain) else { return current };
        let mut returned = Vec::new();
        let mut next = Vec::new();
        for (index, rule) in chain.rules.iter().enumerate() {
            if let Some(site) = self.stack.last_mut() {
                site.index = Some(index);
            }
            for fork in &mut current {
                let mut out = Out { accepted, returned: &mut returned, next: &mut next };
                self.rule_from(fork, rule, 0, Regs::new(), Vec::new(), &mut out);
            }
            if !next.is_empty() || current.iter().any(|f| f.sources.is_empty()) {
                current.append(&mut next);
                merge(&mut current);
            }
            if current.len() > FORKS {
                self.give_up(&mut current, "the rules leave too many possibilities open");
            }
            if current.is_empty() {
                break;
            }
        }
        returned.append(&mut current);
        merge(&mut returned);
        returned
    }

    /// Looks at the rule from one of its expressions on. What the rule does not stop stays in `fork`.
    pub fn rule_from(
        &mut self,
        fork: &mut Fork,
        rule: &'a Rule,
        start: usize,
        regs: Regs,
        doubts: Vec<Doubt>,
        out: &mut Out<'_>,
    ) {
        match self.budget.checked_sub(1) {
            Some(left) => self.budget = left,
            None => {
                let sources = take(fork);
                let mut all = vec![fork.with(sources)];
                self.give_up(&mut all, "the rules call each other too often");
                return;
            }
        }
        let site = self.stack.last().copied();
        let mut first = Eval { hit: None, doubts, regs };
        if start == 0 && site.is_some_and(|site| self.surely_misses(&site, &fork.packet, rule)) {
            debug_assert!(matches!(self.scan(fork, rule, 0, &mut first), Scan::Miss), "{rule:?}");
            return;
        }
        let mut more = Vec::new();
        match self.scan(fork, rule, start, &mut first) {
            Scan::Miss => return,
            Scan::Idle => return self.note_idle(fork, &first),
            Scan::Effect(at) => return self.effect(fork, rule, at, first, out),
            Scan::Split(list) => more.extend(list),
        }
        // What splits are disjoint sets of sources.
        while let Some((at, mut eval)) = more.pop() {
            match self.scan(fork, rule, at, &mut eval) {
                Scan::Miss => {}
                Scan::Idle => self.note_idle(fork, &eval),
                Scan::Effect(at) => self.effect(fork, rule, at, eval, out),
                Scan::Split(list) => more.extend(list),
            }
        }
    }

    /// The rule holds for the evaluation's sources up to the expression `at`, which does something.
    fn effect(&mut self, fork: &mut Fork, rule: &'a Rule, at: usize, eval: Eval, out: &mut Out<'_>) {
        let sources = match eval.hit {
            None => take(fork),
            Some(hit) => {
                fork.sources.subtract(&hit);
                hit
            }
        };
        let mut matched = fork.with(sources);
        if eval.doubts.is_empty() {
            for kept in self.act(matched, rule, at, eval.regs, out) {
                if kept.same_state(fork) {
                    fork.sources.union_with(&kept.sources);
                } else {
                    out.next.push(kept);
                }
            }
            return;
        }
        let by = self.known_blame(true);
        for doubt in eval.doubts {
            matched.doubt(&Arc::new(Raised { doubt, by: by.clone() }));
        }
        let missed = matched.clone();
        let before = (self.ends.len(), out.accepted.len(), out.returned.len());
        let mut kept = self.act(matched, rule, at, eval.regs, out);
        let unmoved = before == (self.ends.len(), out.accepted.len(), out.returned.len());
        // Whether it matched or not, the next rule sees the same packet: no doubt comes of it.
        if unmoved && kept.len() == 1 && kept[0].packet == fork.packet && kept[0].sources == missed.sources {
            fork.sources.union_with(&missed.sources);
            return;
        }
        out.next.append(&mut kept);
        out.next.push(missed);
    }

    /// Goes into another chain of the same table; what comes back has run off its end.
    pub fn call(&mut self, name: &str, fork: Fork, accepted: &mut Vec<Fork>) -> Vec<Fork> {
        let Some(site) = self.stack.last().copied() else { return vec![fork] };
        let Some(&chain) = self.chains.get(&(std::ptr::from_ref(site.table), name)) else {
            self.give_up(&mut vec![fork], &format!("chain {name} is not there"));
            return Vec::new();
        };
        if self.stack.len() >= DEPTH {
            self.give_up(&mut vec![fork], "the rules call each other too deeply");
            return Vec::new();
        }
        self.stack.push(Site { chain, index: None, ..site });
        let returned = self.chain(vec![fork], accepted);
        self.stack.pop();
        returned
    }

    /// What becomes of these is not known.
    pub fn give_up(&mut self, forks: &mut Vec<Fork>, why: &str) {
        let raised = Arc::new(Raised { doubt: Doubt::unknown(why), by: self.known_blame(true) });
        for mut fork in forks.drain(..) {
            fork.doubt(&raised);
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
        let by = self.known_blame(is_wide(&fork.sources));
        self.ends.push(End { sources: fork.sources, fate: Fate::Blocked(symptom), doubts: fork.doubts, by: Some(by) });
    }

    pub fn known_blame(&mut self, everybody: bool) -> Arc<Blame> {
        let Some(site) = self.stack.last() else { return Arc::new(self.blame(Gate::Route, everybody)) };
        let way = self.stack.iter().map(|s| (std::ptr::from_ref(s.chain), s.index)).collect();
        let standing = (site.hook, way, everybody);
        if let Some(known) = self.blames.get(&standing) {
            return known.clone();
        }
        let by = Arc::new(self.blame(Gate::Firewall, everybody));
        self.blames.insert(standing, by.clone());
        by
    }

    /// Who the walk stands at. `everybody`: the verdict is not about single sources, so that no ban is meant.
    pub fn blame(&self, gate: Gate, everybody: bool) -> Blame {
        let Some(site) = self.stack.last() else { return Blame::gate(gate, "") };
        let rule = site.index.and_then(|i| site.chain.rules.get(i));
        let names = self.stack.iter().map(|s| s.chain.name.as_str()).chain([site.table.name.as_str()]);
        let sets = rule.into_iter().flat_map(Rule::sets);
        let mut names = names.chain(sets);
        let place = site.rule_ref();
        Blame {
            gate,
            place: place.to_string(),
            hook: Some(site.hook),
            rule: Some(match rule {
                Some(rule) => rule.words(Some(site.table)),
                None => "policy drop".to_owned(),
            }),
            position: site.index.map(|i| i + 1),
            neighbours: false,
            respected: !everybody && names.any(|n| respects(self.respect, n)),
            rule_ref: Some(place),
            via: self.stack[..self.stack.len() - 1].iter().map(Site::rule_ref).collect(),
        }
    }
}

/// Expressions that make the kernel track connections (its callers of `nf_ct_netns_get`).
fn needs_tracking(expr: &Expr) -> bool {
    match expr {
        Expr::Ct { .. } | Expr::CtSet { .. } | Expr::Connlimit { .. } | Expr::Nat(_) => true,
        Expr::Synproxy | Expr::FlowOffload { .. } | Expr::Objref { .. } => true,
        Expr::Dynset { exprs, .. } => exprs.iter().any(needs_tracking),
        Expr::XtMatch(found) => match found {
            XtMatch::Conntrack(_) | XtMatch::Connmark { .. } => true,
            XtMatch::Rate { name, .. } | XtMatch::History { name, .. } => name.starts_with("conn"),
            XtMatch::AbsentHeader { name, .. } => name == "helper",
            XtMatch::Unknown { .. } => true,
            _ => false,
        },
        Expr::XtTarget(found) => match found {
            XtTarget::Connmark { .. } | XtTarget::Nat { .. } | XtTarget::Netmap { .. } | XtTarget::Synproxy => true,
            XtTarget::Ct { notrack, .. } => !notrack,
            XtTarget::Unknown { .. } => true,
            _ => false,
        },
        Expr::Unknown { .. } => true,
        _ => false,
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
