//! What rules that few load look at and change, form by form: nft(8), iptables-extensions(8), and the kernel's sources where
//! they are named.

mod bits;
mod deeds;
mod devices;
mod discovery;
mod flows;
mod forks;
mod ipsets;
mod keys;
mod loads;
mod matches;
mod numbers;
mod objects;
mod sets;

use super::{Ports, Rules, walk};
use crate::facts::*;
use crate::judge::fixture::{self, healthy, ip};
use crate::judge::{Path, PathVerdict, Symptom};

pub(super) const DROP: Expr = Expr::Verdict(Verdict::Drop);
pub(super) const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);

/// Whom a rule matches that drops what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hit {
    Everybody,
    Nobody,
    Some(AddrSet),
    Conditional,
    Unknown,
}
use Hit::{Conditional, Everybody, Nobody, Unknown};

#[derive(Clone)]
pub(super) struct Host {
    pub net: Net,
    pub path: Path,
}

/// With a second interface, to which the sources in 10.0.0.0/8 and 2001:db8:a::/48 are routed.
pub(super) fn host(family: Family) -> Host {
    let mut net = healthy().net;
    let Seen::Present(links) = &mut net.links else { unreachable!() };
    let eth1 = Link { index: 3, name: "eth1".into(), ..links[0].clone() };
    links.push(eth1);
    let Seen::Present(routes) = &mut net.routes else { unreachable!() };
    for (at, destination) in [(0, "10.0.0.0/8"), (1, "2001:db8:a::/48")] {
        let destination = destination.parse().unwrap();
        routes.push(Route { destination, interfaces: vec![3], ..routes[at].clone() });
    }
    let address = ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    Host { net, path: Path { family, interface: "eth0".into(), ifindex: 2, address, port: 22 } }
}

pub(super) fn v4() -> Host {
    host(Family::Ipv4)
}

pub(super) fn behind_eth1() -> AddrSet {
    AddrSet::net("10.0.0.0/8".parse().unwrap())
}

/// Those whose answers leave by the interface by which they ask.
fn behind_eth0(family: Family) -> Hit {
    let others = if family == Family::Ipv4 { "10.0.0.0/8" } else { "2001:db8:a::/48" };
    Hit::Some(AddrSet::net(others.parse().unwrap()).complement())
}

/// The host's address is not on the interface by which it is asked.
fn asked_by_the_wrong_door(family: Family) -> Host {
    let mut host = host(family);
    let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
    addresses.iter_mut().for_each(|a| a.interface = 3);
    host
}

pub(super) fn chain(hook: Hook, kind: ChainKind, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    let base = BaseChain { hook, kind, priority, policy: Policy::Accept, devices: Vec::new() };
    let chain = fixture::filter(hook, Policy::Accept, rules);
    Chain { name: format!("{hook:?} {priority}"), base: Some(base), ..chain }
}

impl Host {
    pub(super) fn judged(&self, chains: Vec<Chain>) -> PathVerdict {
        let firewall = fixture::nft(vec![fixture::table(chains, Vec::new())]);
        walk(&firewall, &self.net, &self.path, &[], &Ports::default())
    }

    pub(super) fn hit_of(&self, chains: Vec<Chain>) -> Hit {
        self.told(&self.judged(chains))
    }

    fn told(&self, judged: &PathVerdict) -> Hit {
        let full = |open: &[crate::judge::Open]| {
            let sets = open.iter().map(|o| &o.sources);
            AddrSet::all(self.path.family, sets).is_full()
        };
        match judged.blocked_sources() {
            all if all.is_full() => Everybody,
            _ if judged.admitted.is_full() => Nobody,
            _ if full(&judged.unknown) => Unknown,
            _ if full(&judged.conditional) => Conditional,
            some if judged.admitted == some.complement() => Hit::Some(some),
            _ => panic!("{judged:?}"),
        }
    }

    pub(super) fn hit(&self, hook: Hook, mut exprs: Vec<Expr>) -> Hit {
        exprs.push(DROP);
        self.hit_of(vec![chain(hook, ChainKind::Filter, 0, vec![exprs])])
    }

    pub(super) fn xt(&self, hook: Hook, found: XtMatch) -> Hit {
        self.hit(hook, vec![Expr::XtMatch(found)])
    }

    /// Whom what these rules leave reaches, if a rule of INPUT that comes after them drops what fits.
    fn then(&self, hook: Hook, rules: Vec<Vec<Expr>>, fits: Vec<Expr>) -> Hit {
        let last = [fits, vec![DROP]].concat();
        let first = chain(hook, ChainKind::Filter, -150, rules);
        self.hit_of(vec![first, chain(Hook::Input, ChainKind::Filter, 0, vec![last])])
    }
}

pub(super) fn meta(key: MetaKey, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Meta { dreg: 0, key }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: value.into() }]
}

pub(super) fn meta_number(key: MetaKey, value: u32) -> Vec<Expr> {
    meta(key, &value.to_ne_bytes())
}

fn fib(flags: u32, result: FibResult, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Fib { dreg: 0, flags, result }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: value.into() }]
}

pub(super) fn immediate(dreg: Reg, data: &[u8]) -> Expr {
    Expr::Immediate { dreg, data: data.into() }
}

const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
