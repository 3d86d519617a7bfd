//! The hooks in the order in which the three packets of a handshake meet them.

use std::sync::Arc;

use super::flow::{Doubt, Flow, Fork, Packet, Phase, Raised, Tracking, merge};
use super::rules::{Known, Rules};
use super::walk::{End, Fate, Walk};
use crate::facts::{AddrSet, ChainKind, Family, Hook, RouteKind, Table, TableFamily, number};
use crate::judge::{Blame, Gate, Path, Symptom};

/// NF_IP_PRI_CONNTRACK, NF_IP_PRI_NAT_DST and NF_IP_PRI_NAT_SRC of linux/netfilter_ipv4.h.
const CONNTRACK: i32 = -200;
pub const NAT_DST: i32 = -100;
pub const NAT_SRC: i32 = 100;

/// Who else listens: where a diverted connection ends.
#[derive(Debug, Clone, Default)]
pub struct Ports {
    /// Ports on which sshd itself listens.
    pub ssh: Vec<u16>,
    /// Ports on which another program does.
    pub others: Vec<u16>,
    /// Who listens is not known: on a port that is in neither list somebody may.
    pub unseen: bool,
}

enum Stop<'a> {
    Conntrack,
    /// nat's own hook: it rewrites what belongs to a flow that it knows.
    Rewrite,
    Chain(&'a Known<'a>),
}

pub struct Hooks<'a> {
    rules: &'a Rules<'a>,
}

impl<'a> Hooks<'a> {
    pub fn new(rules: &'a Rules<'a>) -> Hooks<'a> {
        Hooks { rules }
    }

    /// What a packet meets at one hook, in order. Of equal priority the one that was registered later comes first.
    fn stops(&self, hook: Hook, family: Family, device: &str) -> Vec<Stop<'a>> {
        let mut stops: Vec<(i32, usize, usize, Stop<'a>)> = Vec::new();
        let nat = match hook {
            Hook::Prerouting | Hook::Output => NAT_DST,
            _ => NAT_SRC,
        };
        if matches!(hook, Hook::Prerouting | Hook::Output) {
            stops.push((CONNTRACK, 0, 0, Stop::Conntrack));
        }
        if matches!(hook, Hook::Prerouting | Hook::Postrouting) {
            stops.push((nat, 0, 0, Stop::Rewrite));
        }
        let mut order = 0usize;
        for known in &self.rules.chains {
            let table = known.table;
            let Some(base) = known.chain.base.as_ref().filter(|b| b.hook == hook) else { continue };
            if table.dormant || !table.family.sees(family) {
                continue;
            }
            order += 1;
            let of_device = matches!(hook, Hook::Ingress | Hook::Egress) || table.family == TableFamily::Netdev;
            if of_device && !base.devices.iter().any(|d| is_device(d, device)) {
                continue;
            }
            // All nat chains run inside nat's one hook, in the order of their own priorities.
            let (priority, inner) = match base.kind {
                ChainKind::Nat => (nat, 1),
                _ => (base.priority, 0),
            };
            let sub = if inner == 1 { (i64::from(base.priority) + (1 << 32)) as usize } else { 0 };
            stops.push((priority, sub, usize::MAX - order, Stop::Chain(known)));
        }
        stops.sort_by_key(|(priority, sub, order, _)| (*priority, *sub, *order));
        stops.into_iter().map(|(.., stop)| stop).collect()
    }

    fn pass(&self, walk: &mut Walk<'a>, hook: Hook, mut forks: Vec<Fork>, device: &str) -> Vec<Fork> {
        for stop in self.stops(hook, walk.path.family, device) {
            if forks.is_empty() {
                break;
            }
            match stop {
                Stop::Conntrack => forks.iter_mut().for_each(|f| track(&mut f.packet)),
                Stop::Rewrite => forks.iter_mut().for_each(|f| rewrite(&mut f.packet)),
                Stop::Chain(known) => {
                    let nat = known.chain.base.as_ref().is_some_and(|b| b.kind == ChainKind::Nat);
                    let tracked = nat && walk.rules.tracked(walk.path.family);
                    // nat looks only at the first packet of a flow, and only until it has decided.
                    let skips = |f: &Fork| nat && (!tracked || f.packet.tracking != Tracking::New || f.packet.nat_done);
                    let (skipped, seen): (Vec<Fork>, Vec<Fork>) = forks.into_iter().partition(skips);
                    forks = if seen.is_empty() { Vec::new() } else { walk.base(hook, known, seen) };
                    forks.extend(skipped);
                    merge(&mut forks);
                }
            }
        }
        for fork in &mut forks {
            fork.packet.nat_done = false;
        }
        merge(&mut forks);
        forks
    }

    /// Walks the handshake. `inbound_only`: what comes through INPUT is admitted, wherever it goes then.
    pub fn handshake(&self, walk: &mut Walk<'a>, sources: AddrSet, ports: &Ports, inbound_only: bool) {
        let path = walk.path;
        let device = path.interface.clone();
        let packet = first(path, Phase::Syn, number(path.address));
        let mut forks = vec![Fork { sources, packet, doubts: Vec::new() }];
        self.bridge(walk, &mut forks);
        forks = self.pass(walk, Hook::Ingress, forks, &device);
        forks = self.pass(walk, Hook::Prerouting, forks, &device);
        route_in(walk, &mut forks);
        forks = self.pass(walk, Hook::Input, forks, &device);
        if inbound_only {
            return admit(walk, forks);
        }
        deliver(walk, &mut forks, ports);

        for fork in &mut forks {
            fork.packet = Packet {
                phase: Phase::SynAck,
                iif: None,
                oif: None,
                mark: Some(0),
                tracking: Tracking::None,
                zone: 0,
                ..fork.packet.clone()
            };
        }
        route_out(walk, &mut forks);
        forks = self.pass(walk, Hook::Output, forks, &device);
        forks = self.pass(walk, Hook::Postrouting, forks, &device);
        let mut sent = Vec::new();
        for fork in forks {
            let out = fork.packet.oif.map_or_else(|| device.clone(), |i| walk.interface_name(i).to_owned());
            sent.extend(self.pass(walk, Hook::Egress, vec![fork], &out));
        }

        for fork in &mut sent {
            let flow = &fork.packet.flow;
            fork.packet = Packet {
                phase: Phase::Ack,
                address: flow.address,
                port: flow.port,
                iif: Some(path.ifindex),
                oif: None,
                mark: Some(0),
                tracking: Tracking::None,
                zone: 0,
                ..fork.packet.clone()
            };
        }
        merge(&mut sent);
        for hook in [Hook::Ingress, Hook::Prerouting, Hook::Input] {
            sent = self.pass(walk, hook, sent, &device);
        }
        admit(walk, sent);
    }

    /// A neighbour asks at the address `asked` for the link-layer address of the path's own, and is told (RFC 4861 7.2).
    pub fn discovery(&self, walk: &mut Walk<'a>, neighbours: AddrSet, asked: u128) {
        let path = walk.path;
        let packet = first(path, Phase::Solicit, asked);
        let mut forks = vec![Fork { sources: neighbours, packet, doubts: Vec::new() }];
        self.bridge(walk, &mut forks);
        for hook in [Hook::Ingress, Hook::Prerouting, Hook::Input] {
            forks = self.pass(walk, hook, forks, &path.interface);
        }
        for fork in &mut forks {
            let answer = first(path, Phase::Advertise, number(path.address));
            fork.packet = Packet { iif: None, oif: Some(path.ifindex), ..answer };
        }
        for hook in [Hook::Output, Hook::Postrouting, Hook::Egress] {
            forks = self.pass(walk, hook, forks, &path.interface);
        }
        admit(walk, forks);
    }

    /// Frames that come in by a bridge's port pass tables of family bridge, which are not modelled.
    fn bridge(&self, walk: &mut Walk<'a>, forks: &mut [Fork]) {
        let link = super::route::link(walk.net, walk.path.ifindex);
        if link.and_then(|l| l.driver.as_deref()) != Some("bridge") {
            return;
        }
        let hooked = |t: &&&Table| {
            t.family == TableFamily::Bridge
                && t.chains.iter().any(|c| {
                    c.base.is_some()
                        && !(c.rules.is_empty()
                            && c.base.as_ref().is_some_and(|b| b.policy == crate::facts::Policy::Accept))
                })
        };
        let Some(table) = self.rules.tables.iter().find(hooked) else { return };
        let doubt = Doubt::unknown("rules of family bridge are not modelled");
        let by = Blame::gate(Gate::Firewall, &format!("{} {}", table.family, table.name));
        let raised = Arc::new(Raised { doubt, by: by.into() });
        for fork in forks {
            fork.doubt(&raised);
            let by = Some(raised.by.clone());
            let doubts = fork.doubts.clone();
            walk.ends.push(End { sources: fork.sources.clone(), fate: Fate::Blocked(Symptom::TimedOut), doubts, by });
        }
    }
}

/// The first packet of a way in, to this address.
fn first(path: &Path, phase: Phase, address: u128) -> Packet {
    Packet {
        phase,
        family: path.family,
        address,
        port: path.port,
        iif: Some(path.ifindex),
        oif: None,
        mark: Some(0),
        tracking: Tracking::None,
        zone: 0,
        flow: Flow {
            tracked: false,
            answered: false,
            zone: 0,
            mark: Some(0),
            address,
            port: path.port,
            diverted: None,
        },
        nat_done: false,
        touched: Vec::new(),
        notes: Vec::new(),
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
    let known = packet.flow.tracked && packet.flow.zone == packet.zone;
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

fn admit(walk: &mut Walk<'_>, forks: Vec<Fork>) {
    for fork in forks {
        walk.ends.push(End { sources: fork.sources, fate: Fate::Admitted, doubts: fork.doubts, by: None });
    }
}

fn block(walk: &mut Walk<'_>, fork: Fork, symptom: Symptom, by: Blame) {
    if fork.sources.is_empty() {
        return;
    }
    walk.ends.push(End {
        sources: fork.sources,
        fate: Fate::Blocked(symptom),
        doubts: fork.doubts,
        by: Some(Arc::new(by)),
    });
}

/// The routing decision inwards: packets for others leave, and the reverse path is looked at (IPv4 only).
fn route_in(walk: &mut Walk<'_>, forks: &mut Vec<Fork>) {
    let path = walk.path;
    let strict = walk.net.rp_filter.iter().find(|(name, _)| *name == path.interface).map_or(0, |(_, v)| *v);
    let bad = match (path.family, strict) {
        (Family::Ipv4, 1..) if walk.routes.known && !walk.net.policy_routing => {
            let mut good = walk.routes.own.clone();
            if strict == 1 {
                good.union_with(&walk.routes.by_interface(path.family, path.ifindex));
            } else {
                walk.routes.back().for_each(|(sources, _)| good.union_with(sources));
            }
            good.complement()
        }
        _ => AddrSet::empty(path.family),
    };
    let asked = number(path.address);
    let mut inside = Vec::new();
    for mut fork in forks.drain(..) {
        let dropped = fork.sources.intersection(&bad);
        if !dropped.is_empty() {
            fork.sources.subtract(&dropped);
            let mut by = Blame::gate(Gate::Route, &format!("rp_filter of {}", path.interface));
            by.rule = Some("the way back to the source leads elsewhere".to_owned().into());
            block(walk, fork.with(dropped), Symptom::TimedOut, by);
        }
        let address = fork.packet.address;
        match &fork.packet.flow.diverted {
            Some(to) if address != asked && !walk.routes.is_own(address) => {
                let by = (*to.by).clone();
                block(walk, fork, Symptom::Unknown, by);
            }
            _ => inside.push(fork),
        }
    }
    merge(&mut inside);
    *forks = inside;
}

/// What nat has led to another port reaches whoever listens there.
fn deliver(walk: &mut Walk<'_>, forks: &mut Vec<Fork>, ports: &Ports) {
    let asked = walk.path.port;
    let mut here = Vec::new();
    for fork in forks.drain(..) {
        let port = fork.packet.port;
        if port == asked || ports.ssh.contains(&port) {
            here.push(fork);
            continue;
        }
        let by = match &fork.packet.flow.diverted {
            Some(to) => (*to.by).clone(),
            None => Blame::gate(Gate::Firewall, &format!("a rule that rewrites the port to {port}")),
        };
        if ports.unseen {
            let why = format!("it is led to port {port}, and who listens there is not known");
            let mut open = fork;
            open.doubt(&Arc::new(Raised { doubt: Doubt::unknown(why), by: by.clone().into() }));
            block(walk, open.clone(), Symptom::Unknown, by);
            here.push(open);
            continue;
        }
        let symptom = if ports.others.contains(&port) { Symptom::Unknown } else { Symptom::Refused };
        block(walk, fork, symptom, by);
    }
    *forks = here;
}

/// The way back: the interface by which the answer leaves, and the sources to which none leads.
fn route_out(walk: &mut Walk<'_>, forks: &mut Vec<Fork>) {
    let path = walk.path;
    if !walk.routes.known || walk.net.policy_routing {
        forks.iter_mut().for_each(|f| f.packet.oif = Some(path.ifindex));
        return;
    }
    let mut ways: Vec<(AddrSet, u32)> = Vec::new();
    let mut lost: Vec<(AddrSet, &'static str)> = vec![(walk.routes.unreachable.clone(), "no route")];
    for reach in &walk.routes.reaches {
        let name = match reach.kind {
            RouteKind::Blackhole => "a blackhole route",
            RouteKind::Unreachable => "an unreachable route",
            RouteKind::Prohibit => "a prohibit route",
            _ => {
                let same = reach.interfaces.contains(&path.ifindex);
                let taken = if same { path.ifindex } else { reach.interfaces.first().copied().unwrap_or(path.ifindex) };
                match ways.iter_mut().find(|(_, way)| *way == taken) {
                    Some((sources, _)) => sources.union_with(&reach.sources),
                    None => ways.push((reach.sources.clone(), taken)),
                }
                continue;
            }
        };
        lost.push((reach.sources.clone(), name));
    }
    let mut out = Vec::new();
    for fork in forks.drain(..) {
        for (sources, name) in &lost {
            let mut by = Blame::gate(Gate::Route, "the routes");
            by.rule = Some(format!("{name} leads back to the source").into());
            block(walk, fork.with(fork.sources.intersection(sources)), Symptom::TimedOut, by);
        }
        for (sources, interface) in &ways {
            let mut way = fork.with(fork.sources.intersection(sources));
            way.packet.oif = Some(*interface);
            out.push(way);
        }
    }
    merge(&mut out);
    *forks = out;
}
