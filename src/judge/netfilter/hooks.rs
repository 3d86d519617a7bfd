//! The hooks in the order in which the three packets of a handshake meet them.

use std::sync::Arc;

use super::flow::{Doubt, Flow, Fork, Packet, Phase, Raised, Tracking, merge};
use super::hooked::does_something;
use super::rules::Rules;
use super::walk::{End, Fate, Walk};
use crate::facts::{AddrSet, Chain, Family, Hook, RouteKind, Table, TableFamily, number};
use crate::judge::{Blame, Gate, Path, Symptom};

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

pub struct Hooks<'a> {
    pub rules: &'a Rules<'a>,
}

impl<'a> Hooks<'a> {
    pub fn new(rules: &'a Rules<'a>) -> Hooks<'a> {
        Hooks { rules }
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

        let asked = (number(path.address), path.port);
        lose(walk, &mut sent, Symptom::TimedOut, |packet| packet.server() != asked);
        for fork in &mut sent {
            fork.packet = Packet {
                phase: Phase::Ack,
                rewritten: None,
                iif: Some(path.ifindex),
                oif: None,
                mark: Some(0),
                tracking: Tracking::None,
                zone: 0,
                ..fork.packet.clone()
            };
        }
        merge(&mut sent);
        sent = self.pass(walk, Hook::Ingress, sent, &device);
        sent = self.pass(walk, Hook::Prerouting, sent, &device);
        // The kernel looks for the connection before INPUT (net.ipv4.tcp_early_demux), and where it finds none once more after it.
        let astray = |packet: &Packet| Some(packet.server()) != packet.served;
        let (late, early) = sent.into_iter().partition(|fork| astray(&fork.packet));
        let mut late: Vec<Fork> = self.pass(walk, Hook::Input, late, &device);
        lose(walk, &mut late, Symptom::NoBanner, astray);
        let early = self.pass(walk, Hook::Input, early, &device);
        admit(walk, late);
        admit(walk, early);
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
            let base = |c: &Chain| c.base.is_some() && does_something(c);
            t.family == TableFamily::Bridge && !t.dormant && t.chains.iter().any(base)
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
        rewritten: None,
        served: None,
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

fn admit(walk: &mut Walk<'_>, forks: Vec<Fork>) {
    for fork in forks {
        walk.ends.push(End { sources: fork.sources, fate: Fate::Admitted, doubts: fork.doubts, by: None });
    }
}

fn block(walk: &mut Walk<'_>, fork: Fork, symptom: Symptom, by: impl Into<Arc<Blame>>) {
    if fork.sources.is_empty() {
        return;
    }
    walk.ends.push(End {
        sources: fork.sources,
        fate: Fate::Blocked(symptom),
        doubts: fork.doubts,
        by: Some(by.into()),
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
        match fork.packet.led_by().cloned() {
            Some(by) if address != asked && !walk.routes.is_own(address) => {
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
        let by = led_by(&fork.packet);
        if ports.unseen {
            let why = format!("it is led to port {port}, and who listens there is not known");
            let mut open = fork;
            open.doubt(&Arc::new(Raised { doubt: Doubt::unknown(why), by: by.clone() }));
            block(walk, open.clone(), Symptom::Unknown, by);
            here.push(open);
            continue;
        }
        let symptom = if ports.others.contains(&port) { Symptom::Unknown } else { Symptom::Refused };
        block(walk, fork, symptom, by);
    }
    for fork in &mut here {
        fork.packet.served = Some(fork.packet.server());
    }
    *forks = here;
}

/// Who has led the packet to where it is now.
fn led_by(packet: &Packet) -> Arc<Blame> {
    let by = packet.led_by().cloned();
    by.unwrap_or_else(|| Blame::gate(Gate::Firewall, "a rule that rewrites its port").into())
}

/// Packets that a rule has made into those of no connection: neither end knows them.
fn lose(walk: &mut Walk<'_>, forks: &mut Vec<Fork>, symptom: Symptom, is_lost: impl Fn(&Packet) -> bool) {
    let (lost, kept) = forks.drain(..).partition(|fork| is_lost(&fork.packet));
    *forks = kept;
    for fork in lost as Vec<Fork> {
        // Where nat leads the flow as well, it is not nat that has lost it.
        let by = fork.packet.rewritten.clone().unwrap_or_else(|| led_by(&fork.packet));
        block(walk, fork, symptom, by);
    }
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
