//! What the kernel has hooked at one hook, and the orders that it may have.

use super::hooks::Hooks;
use super::rules::Known;
use crate::facts::{Backend, Chain, ChainKind, Family, Hook, Policy};

/// NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC and NF_IP_PRI_CONNTRACK_CONFIRM of linux/netfilter_ipv4.h.
const CONNTRACK: i32 = -200;
const NAT_DST: i32 = -100;
const NAT_SRC: i32 = 100;
const CONFIRM: i32 = i32::MAX;

/// What of one priority is looked at, and the orders of it that are walked, before it is given up: nobody has as much.
const AT_ONE_PRIORITY: usize = 256;
const ORDERS: usize = 32;
const STEPS: usize = 1000;

/// What the kernel has hooked, each by itself.
pub enum Hooked<'a> {
    Conntrack,
    /// nat's own hook: it rewrites what belongs to a flow that it knows, and asks its chains about the first packet of one.
    Nat(Vec<Stop<'a>>),
    /// Where conntrack confirms a new flow.
    Confirm,
    Chain(&'a Known<'a>),
}

/// What is hooked at one priority.
pub struct Stop<'a> {
    pub hooked: Vec<Hooked<'a>>,
    pub orders: Orders,
}

/// The orders that what is hooked may have, by its places.
pub enum Orders {
    /// As it stands, or in no other that makes a difference.
    One,
    /// As it stands, and in others.
    Several(Vec<Vec<usize>>),
    TooMany,
}

impl<'a> Hooks<'a> {
    /// What a packet meets at one hook, in order.
    pub fn stops(&self, hook: Hook, family: Family, device: &str) -> Vec<Stop<'a>> {
        let (mut hooked, mut of_nat) = (Vec::new(), Vec::new());
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            hooked.push((CONNTRACK, Hooked::Conntrack));
        }
        // The latest first.
        for known in self.rules.chains.iter().rev() {
            let table = known.table;
            let Some(base) = known.chain.base.as_ref().filter(|b| b.hook == hook) else { continue };
            if table.dormant || !table.family.sees(family) {
                continue;
            }
            let of_device = matches!(hook, Hook::Ingress | Hook::Egress);
            if of_device && !base.devices.iter().any(|d| is_device(d, device)) {
                continue;
            }
            let list = if base.kind == ChainKind::Nat { &mut of_nat } else { &mut hooked };
            list.push((base.priority, Hooked::Chain(known)));
        }
        if self.rules.nat(family) {
            let place = match hook {
                Hook::Prerouting | Hook::Output => Some(NAT_DST),
                Hook::Input | Hook::Postrouting => Some(NAT_SRC),
                _ => None,
            };
            hooked.extend(place.map(|place| (place, Hooked::Nat(self.by_priority(of_nat, family)))));
        }
        if matches!(hook, Hook::Input | Hook::Postrouting) {
            hooked.push((CONFIRM, Hooked::Confirm));
        }
        self.by_priority(hooked, family)
    }

    fn by_priority(&self, mut hooked: Vec<(i32, Hooked<'a>)>, family: Family) -> Vec<Stop<'a>> {
        hooked.sort_by_key(|(priority, _)| *priority);
        let mut stops: Vec<(i32, Vec<Hooked<'a>>)> = Vec::new();
        for (priority, one) in hooked {
            match stops.last_mut().filter(|(same, _)| *same == priority) {
                Some((_, list)) => list.push(one),
                None => stops.push((priority, vec![one])),
            }
        }
        let stop = |(_, hooked): (i32, Vec<Hooked<'a>>)| Stop { orders: self.orders(&hooked, family), hooked };
        stops.into_iter().map(stop).collect()
    }

    /// The orders that what has the same priority may have. They stand in one of them.
    fn orders(&self, hooked: &[Hooked<'a>], family: Family) -> Orders {
        if hooked.is_sorted_by(|one, next| self.precedes(one, next)) {
            return Orders::One;
        }
        if hooked.len() > AT_ONE_PRIORITY {
            return Orders::TooMany;
        }
        let all = || hooked.iter().enumerate();
        let matters = |one: &Hooked<'a>, other: &Hooked<'a>| !self.commute(one, other, family);
        let open = |(at, one)| all().skip(at + 1).any(|(_, other)| matters(one, other) && !self.precedes(one, other));
        if !all().any(open) {
            return Orders::One;
        }
        let bound = |(at, one): &(usize, &Hooked<'a>)| all().any(|(place, other)| place != *at && matters(one, other));
        let (bound, free): (Vec<_>, Vec<_>) = all().partition(bound);
        let mut found = Vec::new();
        let mut steps = STEPS;
        if bound.len() > ORDERS || !self.extend(&bound, family, &mut Vec::new(), &mut found, &mut steps) {
            return Orders::TooMany;
        }
        let free: Vec<usize> = free.into_iter().map(|(at, _)| at).collect();
        let others = found.into_iter().skip(1).map(|order| [free.clone(), order].concat());
        Orders::Several(std::iter::once((0..hooked.len()).collect()).chain(others).collect())
    }

    /// Finds the orders that begin as `order` does, of those that come to the same only the first. False: there are too many.
    fn extend<'b>(
        &self,
        bound: &[(usize, &'b Hooked<'a>)],
        family: Family,
        order: &mut Vec<(usize, &'b Hooked<'a>)>,
        found: &mut Vec<Vec<usize>>,
        steps: &mut usize,
    ) -> bool {
        let Some(left) = steps.checked_sub(1) else { return false };
        *steps = left;
        if order.len() == bound.len() {
            found.push(order.iter().map(|(at, _)| *at).collect());
            return found.len() <= ORDERS;
        }
        let is_in = |order: &[(usize, _)], at| order.iter().any(|(place, _)| *place == at);
        for (at, one) in bound {
            let late = |(place, other): &(usize, &Hooked<'a>)| {
                place != at && !is_in(order, *place) && self.precedes(other, one)
            };
            if is_in(order, *at) || bound.iter().any(late) {
                continue;
            }
            let mut passing = order.iter().rev().take_while(|(_, other)| self.commute(one, other, family));
            if passing.any(|(place, _)| place > at) {
                continue;
            }
            order.push((*at, *one));
            let all = self.extend(bound, family, order, found, steps);
            order.pop();
            if !all {
                return false;
            }
        }
        true
    }

    /// Whether it is known that of two of the same priority this one comes first. The kernel puts the one that was registered
    /// later first (nf_hook_entries_grow). Chains of one table are registered in the order in which they are listed. Those of
    /// several tables in any: a chain may be added to a table that has been there for long, as a device to a chain. nat's own
    /// hook is registered with the first chain of nat, on whichever hook, and stays while there is one: so it outlives a ruleset
    /// that is replaced by another at once.
    fn precedes(&self, one: &Hooked<'a>, other: &Hooked<'a>) -> bool {
        match (one, other) {
            (Hooked::Chain(one), Hooked::Chain(other)) => {
                let same = one.table.backend == Backend::Nft && std::ptr::eq(one.table, other.table);
                let of_devices = one.chain.base.as_ref().is_some_and(|b| !b.devices.is_empty());
                same && !of_devices && std::ptr::from_ref(one.chain) > std::ptr::from_ref(other.chain)
            }
            (Hooked::Chain(one), Hooked::Nat(_)) => {
                let is_nat = |c: &Chain| c.base.as_ref().is_some_and(|b| b.kind == ChainKind::Nat);
                let earlier = one.table.chains.iter().take_while(|chain| !std::ptr::eq(*chain, one.chain));
                one.table.backend == Backend::Nft && earlier.into_iter().any(is_nat)
            }
            _ => false,
        }
    }

    /// Whether it comes to the same in which order a packet meets the two.
    fn commute(&self, one: &Hooked<'a>, other: &Hooked<'a>, family: Family) -> bool {
        let idle = |hooked: &Hooked<'a>| match hooked {
            Hooked::Chain(known) => !does_something(known.chain),
            Hooked::Conntrack => !self.rules.tracked(family),
            Hooked::Nat(_) | Hooked::Confirm => false,
        };
        match (one, other) {
            (one, other) if idle(one) || idle(other) => true,
            (Hooked::Chain(one), Hooked::Chain(other)) => one.is_plain() && other.is_plain(),
            _ => false,
        }
    }
}

pub fn does_something(chain: &Chain) -> bool {
    !chain.rules.is_empty() || chain.base.as_ref().is_some_and(|b| b.policy == Policy::Drop)
}

fn is_device(pattern: &str, device: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => device.starts_with(prefix),
        None => pattern == device,
    }
}
