//! What to ask the kernel before and after a plan: sources at every edge, this port and others. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::packet::{Flow, Protocol};
use crate::facts::{AddrSet, Expr, Family, Firewall, PayloadBase, XtMatch, number};
use crate::judge::{PathGates, PathVerdict};
use crate::plan::{TableInserts, Traffic};

/// What a plan grants: connections to `port` of these sources by this interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    pub family: Family,
    /// None: everybody.
    pub source: Option<IpNet>,
    pub port: u16,
    /// None: by any.
    pub interface: Option<String>,
}

impl Grant {
    fn covers(&self, source: IpAddr, interface: &str, protocol: Protocol, port: u16) -> bool {
        protocol == Protocol::Tcp
            && port == self.port
            && Family::of(source) == self.family
            && self.source.is_none_or(|net| net.contains(&source))
            && self.interface.as_deref().is_none_or(|name| name == interface)
    }
}

/// What the inserts of a plan grant, whichever side of the connection they are on.
pub fn grants(inserts: &[TableInserts]) -> Vec<Grant> {
    let mut grants: Vec<Grant> = Vec::new();
    for table in inserts {
        for accept in table.inserts.iter().map(|i| &i.accept).filter(|a| a.traffic == Traffic::Ssh) {
            let families = Family::BOTH.into_iter().filter(|f| {
                table.family.sees(*f)
                    && accept.family.is_none_or(|a| a == *f)
                    && accept.source.is_none_or(|s| Family::of(s.network()) == *f)
            });
            for family in families {
                let interface = accept.interface.clone();
                let grant = Grant { family, source: accept.source, port: accept.port, interface };
                if !grants.contains(&grant) {
                    grants.push(grant);
                }
            }
        }
    }
    grants
}

/// One question.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Index of the path that it comes in by.
    pub path: usize,
    pub flow: Flow,
    /// The plan opens this to the source: it must be open afterwards.
    pub must_open: bool,
    /// It may be open afterwards where it was not before.
    pub may_open: bool,
}

/// Most edges of one set that are asked for.
const EDGES: usize = 24;
const RANDOM: usize = 6;
/// Ports besides those of the policy.
const PORTS: [u16; 6] = [1, 80, 443, 2222, 3306, 65535];
/// Most ports that are taken from the rules.
const NAMED: usize = 16;
const UDP_PORTS: [u16; 3] = [53, 123, 33434];
/// Most paths that are asked by.
const PATHS: usize = 8;

/// The ports to listen on: TCP and UDP.
pub fn ports(gates: &[PathGates], firewall: &Firewall) -> (Vec<u16>, Vec<u16>) {
    let policy: BTreeSet<u16> = gates.iter().map(|g| g.whole.path.port).collect();
    let mut tcp = policy.clone();
    tcp.extend(PORTS);
    tcp.extend(named_ports(firewall).into_iter().take(NAMED));
    let mut udp = policy;
    udp.extend(UDP_PORTS);
    (tcp.into_iter().collect(), udp.into_iter().collect())
}

/// The questions, the most telling ones first. `expected`: what the judge makes of the rules with the plan in them, path by
/// path: whom it lets in must get in, and nobody else may who did not before.
pub fn questions(
    gates: &[PathGates],
    firewall: &Firewall,
    grants: &[Grant],
    expected: &[PathVerdict],
    reserved: &[IpAddr],
) -> Vec<Question> {
    let (tcp, udp) = ports(gates, firewall);
    let mut questions = Vec::new();
    for (index, gate) in gates.iter().enumerate().take(PATHS) {
        let path = &gate.whole.path;
        let granted: Vec<&Grant> = grants.iter().filter(|g| g.family == path.family).collect();
        let Some(expected) = expected.get(index) else { break };
        let surely = &expected.admitted;
        let perhaps = surely.union(&unsure(expected));
        let sources = sources(gate, &granted, reserved);
        let mut ask = |protocol, source: IpAddr, port| {
            let covered = granted.iter().any(|g| g.covers(source, &path.interface, protocol, port));
            let may_open = covered && perhaps.contains(source);
            let must_open = covered && surely.contains(source) && port == path.port;
            let flow = Flow { protocol, source, source_port: 0, target: path.address, port };
            questions.push(Question { path: index, flow, must_open, may_open });
        };
        for &source in &sources {
            ask(Protocol::Tcp, source, path.port);
        }
        // Those that the plan lets in and a few that it does not, to every other door.
        let step = sources.len().div_ceil(6).max(1);
        for &source in sources.iter().step_by(step) {
            tcp.iter().filter(|p| **p != path.port).for_each(|&port| ask(Protocol::Tcp, source, port));
            udp.iter().for_each(|&port| ask(Protocol::Udp, source, port));
        }
    }
    questions
}

/// Sources whose fate depends on more than the rules, or is not known.
fn unsure(verdict: &PathVerdict) -> AddrSet {
    let mut set = verdict.unknown_sources();
    for open in &verdict.conditional {
        set.union_with(&open.sources);
    }
    set
}

fn sources(gate: &PathGates, grants: &[&Grant], reserved: &[IpAddr]) -> Vec<IpAddr> {
    let family = gate.whole.path.family;
    let mut numbers = BTreeSet::new();
    let mut edges = |set: &AddrSet| {
        for (first, last) in set.ranges().take(EDGES / 2) {
            let outer = [first.wrapping_sub(1), last.wrapping_add(1)];
            numbers.extend(outer.into_iter().chain([first, first + (last - first) / 2, last]));
        }
    };
    for grant in grants {
        edges(&grant.source.map_or_else(|| AddrSet::full(family), AddrSet::net));
    }
    for blocked in gate.firewall.blocked.iter().take(EDGES) {
        edges(&blocked.sources);
    }
    for open in gate.firewall.unknown.iter().chain(&gate.firewall.conditional).take(EDGES / 2) {
        edges(&open.sources);
    }
    edges(&gate.firewall.admitted);
    // Spread over the whole space, the same each time: a rehearsal can be repeated.
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..RANDOM {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wide = u128::from(seed) << 64 | u128::from(seed.rotate_left(29));
        numbers.insert(match family {
            Family::Ipv4 => wide >> 96,
            // 2000::/3
            Family::Ipv6 => 1 << 125 | wide >> 3,
        });
    }
    let plausible = |a: &IpAddr| is_client(*a) && !reserved.contains(a);
    numbers.into_iter().filter(|n| *n <= family.max()).map(|n| family.address(n)).filter(plausible).collect()
}

/// Whether the kernel takes packets from such a source at all (RFC 1122 3.2.1.3, RFC 4291 2.7).
fn is_client(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => {
            let first = a.octets()[0];
            first != 0 && first != 127 && first < 224
        }
        IpAddr::V6(a) => {
            let mapped_or_less = number(address) >> 48 == 0;
            !mapped_or_less && !a.is_multicast() && !a.is_unicast_link_local()
        }
    }
}

/// Destination ports that rules name.
fn named_ports(firewall: &Firewall) -> BTreeSet<u16> {
    let mut ports = BTreeSet::new();
    for rule in firewall.tables().flat_map(|t| &t.chains).flat_map(|c| c.rules.iter()) {
        let mut loaded = false;
        for expr in &rule.exprs {
            match expr {
                Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, .. } => loaded = true,
                Expr::Cmp { data, .. } if loaded => {
                    ports.extend(data.first_chunk().map(|b| u16::from_be_bytes(*b)));
                    loaded = false;
                }
                Expr::Range { from, .. } if loaded => {
                    ports.extend(from.first_chunk().map(|b| u16::from_be_bytes(*b)));
                    loaded = false;
                }
                Expr::XtMatch(XtMatch::Tcp { dports, .. }) if *dports != (0, u16::MAX) => {
                    ports.insert(dports.0);
                }
                Expr::XtMatch(XtMatch::Multiport { ports: list, .. }) => ports.extend(list.iter().map(|p| p.0)),
                _ => {}
            }
        }
    }
    ports.remove(&0);
    ports
}
