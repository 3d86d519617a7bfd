//! What each thing that a packet meets at one hook makes of it.

use std::sync::Arc;

use super::flow::{Doubt, DoubtKind, Flow, Fork, Packet, Phase, Raised, Tracking, merge};
use super::hooked::{Hooked, Orders, Stop, does_something};
use super::hooks::Hooks;
use super::rules::Known;
use super::walk::{End, Fate, Walk};
use crate::facts::{AddrSet, ChainKind, Family, Hook};
use crate::judge::{Blame, Gate};

/// The kernel's own hooks that a packet has passed at the hook where it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Past {
    pub nat: bool,
    pub confirm: bool,
}

/// What came of one order of what is at a stop.
struct Way {
    passed: Vec<Fork>,
    ends: Vec<End>,
}

/// In all but their sources.
struct Outcome<'w> {
    packet: Option<&'w Packet>,
    fate: Option<Fate>,
    doubt: Option<DoubtKind>,
}

impl<'a> Hooks<'a> {
    pub fn pass(&self, walk: &mut Walk<'a>, hook: Hook, mut forks: Vec<Fork>, device: &str) -> Vec<Fork> {
        walk.past = Past::default();
        for stop in self.stops(hook, walk.path.family, device) {
            if forks.is_empty() {
                break;
            }
            forks = pass_stop(walk, hook, &stop, forks);
        }
        for fork in &mut forks {
            fork.packet.nat_done = false;
        }
        merge(&mut forks);
        forks
    }
}

fn pass_chain<'a>(walk: &mut Walk<'a>, hook: Hook, known: &'a Known<'a>, forks: Vec<Fork>) -> Vec<Fork> {
    let nat = known.chain.base.as_ref().is_some_and(|b| b.kind == ChainKind::Nat);
    let tracked = nat && walk.rules.tracked(walk.path.family);
    // nat looks only at the first packet of a flow, and only until it has decided.
    let skips = |f: &Fork| nat && (!tracked || f.packet.tracking != Tracking::New || f.packet.nat_done);
    let (skipped, seen): (Vec<Fork>, Vec<Fork>) = forks.into_iter().partition(skips);
    let mut passed = if seen.is_empty() { Vec::new() } else { walk.base(hook, known, seen) };
    passed.extend(skipped);
    merge(&mut passed);
    passed
}

fn pass_stop<'a>(walk: &mut Walk<'a>, hook: Hook, stop: &Stop<'a>, mut forks: Vec<Fork>) -> Vec<Fork> {
    match &stop.orders {
        Orders::One => stop.hooked.iter().fold(forks, |forks, hooked| meet(walk, hook, hooked, forks)),
        Orders::Several(orders) => pass_tie(walk, hook, stop, orders, forks),
        Orders::TooMany => {
            walk.leave_open(&mut forks, &raised(stop));
            forks
        }
    }
}

fn meet<'a>(walk: &mut Walk<'a>, hook: Hook, hooked: &Hooked<'a>, mut forks: Vec<Fork>) -> Vec<Fork> {
    match hooked {
        Hooked::Conntrack => forks.iter_mut().for_each(|f| track(&mut f.packet)),
        Hooked::Nat(stops) => {
            if matches!(hook, Hook::Prerouting | Hook::Postrouting) {
                forks.iter_mut().for_each(|f| rewrite(&mut f.packet));
            }
            forks = stops.iter().fold(forks, |forks, stop| pass_stop(walk, hook, stop, forks));
            walk.past.nat = true;
        }
        Hooked::Confirm => walk.past.confirm = true,
        Hooked::Chain(known) => forks = pass_chain(walk, hook, known, forks),
    }
    forks
}

/// That the order is not known.
fn raised(stop: &Stop<'_>) -> Arc<Raised> {
    let own = stop.hooked.iter().find_map(|hooked| match hooked {
        Hooked::Conntrack | Hooked::Confirm => Some("a chain has the same priority as connection tracking"),
        Hooked::Nat(_) => Some("a chain has the same priority as nat"),
        Hooked::Chain(_) => None,
    });
    let why = own.unwrap_or("chains have the same priority");
    let chains = stop.hooked.iter().filter_map(|hooked| match hooked {
        Hooked::Chain(known) if does_something(known.chain) => Some(known.named().place.clone()),
        _ => None,
    });
    let by = Blame::gate(Gate::Firewall, chains.into_iter().next().as_deref().unwrap_or_default());
    Arc::new(Raised { doubt: Doubt::unknown(format!("{why}, and it is not known which comes first")), by: by.into() })
}

/// Walks what is at a stop in every order that it may have. Where it matters, what becomes of the sources is in doubt.
fn pass_tie<'a>(
    walk: &mut Walk<'a>,
    hook: Hook,
    stop: &Stop<'a>,
    orders: &[Vec<usize>],
    forks: Vec<Fork>,
) -> Vec<Fork> {
    let before = std::mem::take(&mut walk.ends);
    let told = walk.trace.as_ref().map_or(0, Vec::len);
    let past = walk.past;
    let mut ways = Vec::new();
    for (number, order) in orders.iter().enumerate() {
        walk.past = past;
        // One order is told.
        let trace = if number > 0 { walk.trace.take() } else { None };
        let order = order.iter().filter_map(|place| stop.hooked.get(*place));
        let passed = order.fold(forks.clone(), |forks, hooked| meet(walk, hook, hooked, forks));
        ways.push(Way { passed, ends: std::mem::take(&mut walk.ends) });
        walk.trace = trace.or(walk.trace.take());
    }
    walk.ends = before;
    let family = walk.path.family;
    let mut differing = AddrSet::empty(family);
    if let Some((first, rest)) = ways.split_first() {
        rest.iter().for_each(|way| differing.union_with(&first.differs(way, family)));
    }
    if differing.is_empty() {
        ways.truncate(1);
    } else if let Some(trace) = &mut walk.trace {
        trace.iter_mut().skip(told).for_each(|met| met.maybe = true);
    }
    let raised = raised(stop);
    let mut passed = Vec::new();
    for (place, way) in ways.into_iter().enumerate() {
        for fork in way.passed {
            let mut doubtful = fork.with(fork.sources.intersection(&differing));
            doubtful.doubt(&raised);
            passed.push(doubtful);
            if place == 0 {
                passed.push(fork.with(fork.sources.minus(&differing)));
            }
        }
        for mut end in way.ends {
            let doubtful = end.sources.intersection(&differing);
            if !doubtful.is_empty() {
                let mut doubts = end.doubts.clone();
                if !doubts.contains(&raised) {
                    doubts.push(raised.clone());
                }
                walk.ends.push(End { sources: doubtful, fate: end.fate, doubts, by: end.by.clone() });
            }
            if place == 0 {
                end.sources.subtract(&differing);
                walk.ends.push(end);
            }
        }
    }
    merge(&mut passed);
    passed
}

impl Way {
    /// Sources with another outcome on the other way.
    fn differs(&self, other: &Way, family: Family) -> AddrSet {
        let (own, others) = (self.outcomes(family), other.outcomes(family));
        let mut differing = AddrSet::empty(family);
        for (these, those) in [(&own, &others), (&others, &own)] {
            for (outcome, sources) in these {
                match those.iter().find(|(same, _)| same.is(outcome)) {
                    Some((_, same)) => differing.union_with(&sources.minus(same)),
                    None => differing.union_with(sources),
                }
            }
        }
        differing
    }

    fn outcomes<'w>(&'w self, family: Family) -> Vec<(Outcome<'w>, AddrSet)> {
        let mut all: Vec<(Outcome<'w>, Vec<&AddrSet>)> = Vec::new();
        // Whichever rules have raised the doubts.
        let worst = |doubts: &[Arc<Raised>]| doubts.iter().map(|raised| raised.doubt.kind).max();
        let passed =
            |f: &'w Fork| (Outcome { packet: Some(&f.packet), fate: None, doubt: worst(&f.doubts) }, &f.sources);
        let ended = |e: &'w End| (Outcome { packet: None, fate: Some(e.fate), doubt: worst(&e.doubts) }, &e.sources);
        let (passed, ended) = (self.passed.iter().map(passed), self.ends.iter().map(ended));
        for (outcome, sources) in passed.chain(ended) {
            match all.iter_mut().find(|(same, _)| same.is(&outcome)) {
                Some((_, list)) => list.push(sources),
                None => all.push((outcome, vec![sources])),
            }
        }
        all.into_iter().map(|(outcome, list)| (outcome, AddrSet::all(family, list))).collect()
    }
}

impl Outcome<'_> {
    fn is(&self, other: &Outcome<'_>) -> bool {
        let packets = match (self.packet, other.packet) {
            (Some(one), Some(other)) => alike(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        packets && self.fate == other.fate && self.doubt == other.doubt
    }
}

/// Whether the packets fare alike from here on, whoever has made them what they are, and whatever was remembered first.
fn alike(one: &Packet, other: &Packet) -> bool {
    let led = |p: &Packet| p.flow.diverted.as_ref().map(|to| (to.address, to.port));
    let bare = |p: &Packet| {
        let flow = Flow { diverted: None, ..p.flow.clone() };
        Packet { flow, rewritten: None, touched: Vec::new(), notes: Vec::new(), ..p.clone() }
    };
    let rewritten = one.rewritten.is_some() == other.rewritten.is_some();
    let remembered = same(&one.touched, &other.touched) && same(&one.notes, &other.notes);
    rewritten && led(one) == led(other) && remembered && bare(one) == bare(other)
}

/// In whatever order.
fn same<T: PartialEq>(these: &[T], those: &[T]) -> bool {
    these.len() == those.len() && these.iter().all(|one| those.contains(one))
}

/// conntrack's own hook.
fn track(packet: &mut Packet) {
    // Nor are the messages of neighbour discovery tracked (nf_conntrack_icmpv6).
    if packet.tracking == Tracking::Untracked || packet.discovery().is_some() {
        packet.tracking = Tracking::Untracked;
        return;
    }
    // An entry is found by the packet's own addresses and ports, in its zone.
    let of_entry = match packet.phase {
        Phase::SynAck => packet.flow.answers_from(),
        _ => (packet.flow.address, packet.flow.port),
    };
    let known = packet.flow.tracked && packet.flow.zone == packet.zone && packet.server() == of_entry;
    packet.tracking = match packet.phase {
        Phase::Syn => {
            packet.flow.tracked = true;
            packet.flow.zone = packet.zone;
            Tracking::New
        }
        Phase::SynAck if known => {
            packet.flow.answered = true;
            Tracking::Established
        }
        _ if known && packet.flow.answered => Tracking::Established,
        // The entry has seen no answer yet: the ACK is none that it waits for (nf_conntrack_proto_tcp).
        Phase::Ack if known => Tracking::None,
        // A SYN-ACK without an entry is invalid; an ACK is picked up (nf_conntrack_tcp_loose).
        Phase::SynAck => Tracking::None,
        Phase::Ack | Phase::Solicit | Phase::Advertise => Tracking::New,
    };
    if packet.tracking == Tracking::New {
        (packet.flow.address, packet.flow.port) = packet.server();
    }
}

/// nat's own hook, for the packets of a flow that it has led elsewhere.
fn rewrite(packet: &mut Packet) {
    if packet.tracking != Tracking::Established {
        return;
    }
    match (packet.phase, &packet.flow.diverted) {
        (Phase::Ack, Some(to)) => (packet.address, packet.port) = (to.address, to.port),
        (Phase::SynAck, Some(_)) => (packet.address, packet.port) = (packet.flow.address, packet.flow.port),
        _ => {}
    }
}
