//! Who is blamed for what becomes of a fork, and by which calls the walk has come there.

use std::sync::Arc;

use super::walk::{Site, Walk};
use crate::facts::{Chain, Hook, Rule, Words};
use crate::judge::{Blame, Calls, Gate};
use crate::policy::respects;

/// A chain as it is met on one way: by a hook, or by a rule that calls it.
pub struct Call {
    /// The rules that lead there; a hook needs none.
    via: Option<Arc<Calls>>,
    /// Whether one of the chains, or the table, is one that the policy respects.
    respected: bool,
    /// The blames that have been made, in order: a rule may end the way of many forks.
    blames: Vec<(Blamed, Arc<Blame>)>,
}

/// The index of a rule, and whether the verdict is about single sources.
type Blamed = (Option<usize>, bool);

/// The call in which that stands, if any, the index of the rule there, and the chain that it calls; of a base chain the hook.
pub type Calling = (Option<(usize, Option<usize>)>, *const Chain, Hook);

impl<'a> Walk<'a> {
    /// Who the walk stands at. `everybody`: the verdict is not about single sources, so that no ban is meant.
    pub fn blame(&mut self, everybody: bool) -> Arc<Blame> {
        let (Some(call), Some(site)) = (self.standing(), self.stack.last().copied()) else {
            return Arc::new(Blame::gate(Gate::Route, ""));
        };
        let blamed = (site.index, everybody);
        let made = self.calls.get(call).map(|call| call.blames.as_slice()).unwrap_or_default();
        // Mostly it comes after all others.
        let place = match made.last() {
            Some((last, _)) if *last >= blamed => made.binary_search_by_key(&blamed, |(made, _)| *made),
            _ => Err(made.len()),
        };
        if let Some((_, known)) = place.ok().and_then(|at| made.get(at)) {
            return known.clone();
        }
        let by = Arc::new(self.new_blame(&site, call, everybody));
        if let (Err(at), Some(call)) = (place, self.calls.get_mut(call)) {
            call.blames.insert(at, (blamed, by.clone()));
        }
        by
    }

    fn new_blame(&self, site: &Site<'a>, call: usize, everybody: bool) -> Blame {
        let named = site.known.named();
        let rules = &site.chain.rules;
        let rule = site.index.and_then(|index| Some((index, rules.get(index)?)));
        let respects = |name: &str| respects(self.respect, name);
        let by_set =
            |(index, rule): (usize, &Rule)| site.known.digest(self.rules).has_sets(index) && rule.sets().any(respects);
        let call = self.calls.get(call);
        Blame {
            gate: Gate::Firewall,
            place: named.place.clone(),
            hook: Some(site.hook),
            rule: Some(match rule {
                Some((index, _)) => Words::of(rules, index, &named.language),
                None => "policy drop".to_owned().into(),
            }),
            position: site.index.map(|i| i + 1),
            neighbours: false,
            respected: !everybody && (call.is_some_and(|call| call.respected) || rule.is_some_and(by_set)),
            rule_ref: Some(site.rule_ref()),
            via: call.and_then(|call| call.via.clone()),
        }
    }

    /// The place of the call in which the walk stands.
    fn standing(&mut self) -> Option<usize> {
        let mut caller: Option<(usize, Option<usize>)> = None;
        for depth in 0..self.stack.len() {
            let site = *self.stack.get(depth)?;
            let call = match site.call {
                Some(call) => call,
                None => {
                    let calling = (caller, std::ptr::from_ref(site.chain), site.hook);
                    let call = match self.called.get(&calling) {
                        Some(known) => *known,
                        None => {
                            let caller = caller.and_then(|(call, _)| self.calls.get(call));
                            self.calls.push(self.new_call(&site, caller, depth));
                            self.called.insert(calling, self.calls.len() - 1);
                            self.calls.len() - 1
                        }
                    };
                    self.stack.get_mut(depth)?.call = Some(call);
                    call
                }
            };
            caller = Some((call, site.index));
        }
        caller.map(|(call, _)| call)
    }

    fn new_call(&self, site: &Site<'a>, caller: Option<&Call>, depth: usize) -> Call {
        let around = match caller {
            Some(caller) => caller.respected,
            None => respects(self.respect, &site.table.name),
        };
        let respected = around || respects(self.respect, &site.chain.name);
        let calling = depth.checked_sub(1).and_then(|depth| self.stack.get(depth)).map(Site::rule_ref);
        let via = calling.map(|at| Arc::new(Calls { before: caller.and_then(|caller| caller.via.clone()), at }));
        Call { via, respected, blames: Vec::new() }
    }
}
