//! What the policy asks for, and how far each gate and the whole way give it.

use crate::facts::{AddrSet, Family, Seen, Snapshot};
use crate::policy::Policy;

use super::{Gate, PathGates, PathVerdict};

/// How one gate, or the whole way, stands to one demand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    Met,
    /// These must get in and do not.
    Lacking {
        wanted: AddrSet,
    },
    /// Nobody gets in, and nobody can know whom to let in: the other family is restricted to some.
    LeftAlone,
    /// Whether these get in is not known.
    Unknown {
        sources: AddrSet,
    },
}

/// One thing that must be possible, and who stands in its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    pub family: Family,
    pub port: u16,
    /// None: by any of the uplinks.
    pub interface: Option<String>,
    /// None: somebody outside; else exactly these.
    pub sources: Option<AddrSet>,
    /// Indices of the paths that serve it.
    pub paths: Vec<usize>,
    pub whole: Standing,
    pub firewall: Standing,
    pub listener: Standing,
    pub wrappers: Standing,
}

impl Demand {
    pub fn at(&self, gate: Gate) -> &Standing {
        match gate {
            Gate::Listener => &self.listener,
            Gate::Wrappers => &self.wrappers,
            _ => &self.firewall,
        }
    }
}

/// All demands of a policy on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    pub demands: Vec<Demand>,
    /// For each family the sources that count as "somebody outside".
    pub outside: [AddrSet; 2],
}

impl Intent {
    pub fn of(policy: &Policy, snapshot: &Snapshot, gates: &[PathGates]) -> Intent {
        let outside = Family::BOTH.map(|family| outside(family, snapshot));
        let mut demands: Vec<Demand> = Vec::new();
        for (index, gate) in gates.iter().enumerate() {
            let path = &gate.whole.path;
            let named = policy.ssh.interfaces.is_some() || policy.ssh.sources.is_some();
            let interface = named.then(|| path.interface.clone());
            let sources = policy.ssh.sources.as_ref().map(|nets| AddrSet::nets(path.family, nets));
            if sources.as_ref().is_some_and(AddrSet::is_empty) {
                continue;
            }
            let same = |d: &&mut Demand| d.family == path.family && d.port == path.port && d.interface == interface;
            match demands.iter_mut().find(same) {
                Some(demand) => demand.paths.push(index),
                None => demands.push(Demand {
                    family: path.family,
                    port: path.port,
                    interface,
                    sources,
                    paths: vec![index],
                    whole: Standing::Met,
                    firewall: Standing::Met,
                    listener: Standing::Met,
                    wrappers: Standing::Met,
                }),
            }
        }
        let mut intent = Intent { demands, outside };
        intent.stand(gates);
        intent
    }

    pub fn outside(&self, family: Family) -> &AddrSet {
        &self.outside[usize::from(family == Family::Ipv6)]
    }

    fn stand(&mut self, gates: &[PathGates]) {
        type Part = fn(&PathGates) -> &PathVerdict;
        type Place = fn(&mut Demand) -> &mut Standing;
        let parts: [(Part, Place); 4] = [
            (|g| &g.whole, |d| &mut d.whole),
            (|g| &g.firewall, |d| &mut d.firewall),
            (|g| &g.listener, |d| &mut d.listener),
            (|g| &g.wrappers, |d| &mut d.wrappers),
        ];
        for (part, place) in parts {
            let admissions: Vec<Admission> = self
                .demands
                .iter()
                .map(|d| {
                    let verdicts: Vec<&PathVerdict> = d.paths.iter().map(|&i| part(&gates[i])).collect();
                    Admission::of(&verdicts, self.outside(d.family))
                })
                .collect();
            for index in 0..self.demands.len() {
                let demand = &self.demands[index];
                let restricted_elsewhere = || {
                    self.demands.iter().zip(&admissions).any(|(other, admission)| {
                        other.family != demand.family && other.port == demand.port && admission.is_restricted()
                    })
                };
                let standing = admissions[index].standing(demand.sources.as_ref(), restricted_elsewhere);
                *place(&mut self.demands[index]) = standing;
            }
        }
    }
}

/// Whom a gate admits, over all the paths that serve one demand.
struct Admission {
    reach: AddrSet,
    unknown: AddrSet,
    /// Those whom the rules let in, but for neighbour discovery, which they drop.
    deaf: AddrSet,
    /// Single addresses that are meant to be barred.
    banned: AddrSet,
    /// Those to whom no route leads back.
    unroutable: AddrSet,
    outside: AddrSet,
}

impl Admission {
    fn of(verdicts: &[&PathVerdict], outside: &AddrSet) -> Admission {
        let empty = AddrSet::empty(outside.family());
        let mut all = Admission {
            reach: empty.clone(),
            unknown: empty.clone(),
            deaf: empty.clone(),
            banned: empty.clone(),
            unroutable: empty,
            outside: outside.clone(),
        };
        for verdict in verdicts {
            all.reach.union_with(&verdict.reachable());
            all.unknown.union_with(&verdict.unknown_sources());
            for blocked in &verdict.blocked {
                if blocked.by.neighbours {
                    all.deaf.union_with(&blocked.sources);
                }
                if blocked.by.respected {
                    all.banned.union_with(&blocked.sources);
                } else if blocked.by.gate == Gate::Route {
                    all.unroutable.union_with(&blocked.sources);
                }
            }
        }
        all.unknown.subtract(&all.reach);
        all.deaf = all.deaf.intersection(outside).minus(&all.reach);
        all
    }

    /// Some are let in, and not everybody.
    fn is_restricted(&self) -> bool {
        (self.reach.intersects(&self.outside) || !self.deaf.is_empty()) && !self.barred().is_empty()
    }

    /// Outside sources that nobody lets in and nobody has barred by name.
    fn barred(&self) -> AddrSet {
        self.outside.minus(&self.reach).minus(&self.deaf).minus(&self.banned).minus(&self.unroutable)
    }

    fn standing(&self, sources: Option<&AddrSet>, restricted_elsewhere: impl Fn() -> bool) -> Standing {
        // Beside fifty thousand bans it takes time to say who lacks.
        if sources.is_none() && self.reach.intersects(&self.outside) {
            return Standing::Met;
        }
        let wanted = sources.unwrap_or(&self.outside);
        let mut lacking = wanted.minus(&self.reach);
        // Whoever lists everybody has named nobody whom a ban should not touch.
        if sources.is_some() && self.outside.is_subset(wanted) {
            lacking.subtract(&self.banned);
        }
        let unknown = lacking.intersection(&self.unknown);
        let surely = lacking.minus(&unknown);
        match sources {
            Some(_) if !surely.is_empty() => Standing::Lacking { wanted: surely },
            Some(_) if !unknown.is_empty() => Standing::Unknown { sources: unknown },
            Some(_) => Standing::Met,
            None if !unknown.is_empty() => Standing::Unknown { sources: unknown },
            // Whom the rules let in is plain: a restriction stays one.
            None if !self.deaf.is_empty() => Standing::Lacking { wanted: self.deaf.clone() },
            None if restricted_elsewhere() => Standing::LeftAlone,
            None => Standing::Lacking { wanted: surely },
        }
    }
}

/// Addresses that a client outside may have: not this host's own, not loopback, link-local, multicast or reserved (RFC 6890).
fn outside(family: Family, snapshot: &Snapshot) -> AddrSet {
    let never: &[&str] = match family {
        Family::Ipv4 => &["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"],
        Family::Ipv6 => &["::/127", "::ffff:0:0/96", "100::/64", "fe80::/10", "ff00::/8"],
    };
    let mut set = AddrSet::full(family);
    for net in never.iter().filter_map(|text| text.parse().ok()) {
        set.subtract(&AddrSet::net(net));
    }
    if let Seen::Present(addresses) = &snapshot.net.addresses {
        for own in addresses.iter().filter(|a| Family::of(a.address) == family) {
            set.subtract(&AddrSet::single(own.address));
        }
    }
    set
}
