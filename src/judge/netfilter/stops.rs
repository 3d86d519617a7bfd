//! What a packet meets at one hook, and what each makes of it.

use std::sync::Arc;

use super::flow::{Doubt, Fork, Packet, Phase, Raised, Tracking, merge};
use super::hooks::Hooks;
use super::rules::Known;
use super::walk::{End, Fate, Walk};
use crate::facts::{AddrSet, Backend, Chain, ChainKind, Family, Hook, Policy};
use crate::judge::{Blame, Gate};

/// NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h.
const CONNTRACK: i32 = -200;
pub const NAT_DST: i32 = -100;
pub const NAT_SRC: i32 = 100;

enum Stop<'a> {
    Conntrack,
    /// nat's own hook: it rewrites what belongs to a flow that it knows.
    Rewrite,
    Chain(&'a Known<'a>),
    /// A chain of iptables-legacy and those of nf_tables at the same priority, in their order.
    Tie(&'a Known<'a>, Vec<&'a Known<'a>>),
}

/// What came of one order of the chains of a tie.
struct Way {
    passed: Vec<Fork>,
    ends: Vec<End>,
}

/// In all but their sources.
type Outcome<'w> = (Option<&'w Packet>, Option<Fate>, &'w [Arc<Raised>]);

impl<'a> Hooks<'a> {
    /// What a packet meets at one hook, in order. Of equal priority the one that was registered later comes first: of the
    /// chains of nf_tables that is known, and of a chain of iptables-legacy it is not.
    fn stops(&self, hook: Hook, family: Family, device: &str) -> Vec<Stop<'a>> {
        let mut chains: Vec<((i32, i64), &'a Known<'a>)> = Vec::new();
        let nat = match hook {
            Hook::Prerouting | Hook::Output => NAT_DST,
            _ => NAT_SRC,
        };
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
            // All nat chains run inside nat's one hook, in the order of their own priorities.
            let place = match base.kind {
                ChainKind::Nat => (nat, i64::from(base.priority)),
                _ => (base.priority, i64::MIN),
            };
            chains.push((place, known));
        }
        chains.sort_by_key(|(place, _)| *place);
        let mut own = Vec::new();
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            own.push((CONNTRACK, Stop::Conntrack));
        }
        if matches!(hook, Hook::Prerouting | Hook::Postrouting) {
            own.push((nat, Stop::Rewrite));
        }
        own.sort_by_key(|(priority, _)| *priority);
        let mut own = own.into_iter().peekable();
        let mut stops = Vec::new();
        for equal in chains.chunk_by(|(one, _), (other, _)| one == other) {
            let Some(((priority, _), _)) = equal.first() else { continue };
            while let Some((_, stop)) = own.next_if(|(own, _)| own <= priority) {
                stops.push(stop);
            }
            let mut equal: Vec<_> = equal.iter().map(|(_, known)| *known).collect();
            let legacy = equal.iter().position(|k| k.table.backend == Backend::Legacy && does_something(k.chain));
            match legacy {
                Some(at) if equal.iter().filter(|k| does_something(k.chain)).count() > 1 => {
                    let legacy = equal.remove(at);
                    stops.push(Stop::Tie(legacy, equal));
                }
                _ => stops.extend(equal.into_iter().map(Stop::Chain)),
            }
        }
        stops.extend(own.map(|(_, stop)| stop));
        stops
    }

    pub fn pass(&self, walk: &mut Walk<'a>, hook: Hook, mut forks: Vec<Fork>, device: &str) -> Vec<Fork> {
        for stop in self.stops(hook, walk.path.family, device) {
            if forks.is_empty() {
                break;
            }
            match stop {
                Stop::Conntrack => forks.iter_mut().for_each(|f| track(&mut f.packet)),
                Stop::Rewrite => forks.iter_mut().for_each(|f| rewrite(&mut f.packet)),
                Stop::Chain(known) => forks = pass_chain(walk, hook, known, forks),
                Stop::Tie(legacy, others) => forks = pass_tie(walk, hook, legacy, &others, forks),
            }
        }
        for fork in &mut forks {
            fork.packet.nat_done = false;
        }
        merge(&mut forks);
        forks
    }
}

pub fn does_something(chain: &Chain) -> bool {
    !chain.rules.is_empty() || chain.base.as_ref().is_some_and(|b| b.policy == Policy::Drop)
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

/// Walks the chains in every order that they may have. Where it matters, what becomes of the sources is in doubt.
fn pass_tie<'a>(
    walk: &mut Walk<'a>,
    hook: Hook,
    legacy: &'a Known<'a>,
    others: &[&'a Known<'a>],
    forks: Vec<Fork>,
) -> Vec<Fork> {
    let before = std::mem::take(&mut walk.ends);
    let told = walk.trace.as_ref().map_or(0, Vec::len);
    let mut ways = Vec::new();
    for place in 0..=others.len() {
        let mut order = others.to_vec();
        order.insert(place, legacy);
        // One order is told.
        let trace = if place > 0 { walk.trace.take() } else { None };
        let passed = order.into_iter().fold(forks.clone(), |forks, known| pass_chain(walk, hook, known, forks));
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
    let why = "chains of iptables-legacy and nf_tables have the same priority, and the kernel does not tell which comes first";
    let by = Blame::gate(Gate::Firewall, &legacy.named().place);
    let raised = Arc::new(Raised { doubt: Doubt::unknown(why), by: by.into() });
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
                match those.iter().find(|(same, _)| same == outcome) {
                    Some((_, same)) => differing.union_with(&sources.minus(same)),
                    None => differing.union_with(sources),
                }
            }
        }
        differing
    }

    fn outcomes(&self, family: Family) -> Vec<(Outcome<'_>, AddrSet)> {
        let mut all: Vec<(Outcome<'_>, Vec<&AddrSet>)> = Vec::new();
        let passed = self.passed.iter().map(|f| ((Some(&f.packet), None, f.doubts.as_slice()), &f.sources));
        let ended = self.ends.iter().map(|e| ((None, Some(e.fate), e.doubts.as_slice()), &e.sources));
        for (outcome, sources) in passed.chain(ended) {
            match all.iter_mut().find(|(same, _)| *same == outcome) {
                Some((_, list)) => list.push(sources),
                None => all.push((outcome, vec![sources])),
            }
        }
        all.into_iter().map(|(outcome, list)| (outcome, AddrSet::all(family, list))).collect()
    }
}

fn is_device(pattern: &str, device: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => device.starts_with(prefix),
        None => pattern == device,
    }
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
