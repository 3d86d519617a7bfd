//! Whose rules they are: a mend speaks to the owner.

use ipnet::IpNet;

use super::firewall::jumps_to;
use super::{Accept, Insert, Step, TableInserts, Traffic};
use crate::facts::{Backend, Family, RuleRef, Snapshot, Table, TableFamily, escape};
use crate::judge::PathVerdict;
use crate::policy::Policy;

/// A tool that keeps rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tool {
    Ufw,
    /// ufw's chains stand, and nothing leads to them any more.
    UfwFlushed,
    Firewalld {
        zone: String,
    },
}

pub enum Owner {
    /// Plain rules: whoever has root's rights may write there.
    Nobody,
    Tool(Tool),
    /// Somebody who alone may write there, and cannot be spoken to.
    Foreign(String),
}

/// What to ask of the owner.
pub struct Opening {
    pub steps: Vec<Step>,
    /// What to say when asking has not helped.
    pub in_vain: String,
}

const UFW: [(&str, &str); 2] = [("ufw-", "ufw-user-input"), ("ufw6-", "ufw6-user-input")];

/// The owner of the rule at the end of `way`, which leads there from a base chain.
pub fn owner(snapshot: &Snapshot, way: &[&RuleRef], interface: &str) -> Owner {
    let Some(table) = way.first().and_then(|at| snapshot.firewall.table(at.backend, at.family, &at.table)) else {
        return Owner::Nobody;
    };
    if let Some(firewalld) = snapshot.owners.firewalld.present()
        && is_firewalld(table)
    {
        let of_interface = firewalld.interface_zones.iter().find(|(name, _)| name == interface);
        let zone = of_interface.map_or(&firewalld.default_zone, |(_, zone)| zone);
        return Owner::Tool(Tool::Firewalld { zone: zone.clone() });
    }
    if let Some(port) = table.owner {
        return Owner::Foreign(format!(
            "table {} {} belongs to a process (netlink port {port}) that alone may write to it",
            table.family,
            escape(&table.name)
        ));
    }
    let ufw = snapshot.owners.ufw.present().is_some_and(|u| u.enabled && u.command);
    if ufw && table.is_iptables() && table.name == "filter" && &*way[0].chain == "INPUT" {
        let (prefix, _) = UFW[usize::from(table.family == TableFamily::Ip6)];
        let through_ufw = way.iter().any(|at| at.chain.starts_with(prefix));
        let by_policy = way.len() == 1 && way[0].index.is_none();
        let input = table.chain("INPUT").map_or(&[][..], |c| &c.rules);
        let hooked = jumps_to(input, prefix);
        let built = table.chains.iter().any(|c| c.name.starts_with(prefix));
        match (through_ufw || by_policy, hooked, built) {
            (true, true, _) => return Owner::Tool(Tool::Ufw),
            (true, false, true) => return Owner::Tool(Tool::UfwFlushed),
            _ => {}
        }
    }
    Owner::Nobody
}

/// firewalld's own table, or the chains that it keeps in the tables of iptables.
fn is_firewalld(table: &Table) -> bool {
    table.name == "firewalld"
        || table.name == "firewalld_policy_drop"
        || (table.is_iptables() && table.chains.iter().any(|c| c.name == "INPUT_ZONES"))
}

pub fn opening(
    snapshot: &Snapshot,
    tool: &Tool,
    verdict: &PathVerdict,
    sources: Vec<Option<IpNet>>,
    policy: &Policy,
) -> Opening {
    let port = verdict.path.port;
    let accepts = |index: usize, chain: &str, family: Option<Family>, sources: &[Option<IpNet>]| -> Vec<Insert> {
        let accept = |source: &Option<IpNet>| Insert {
            chain: chain.to_owned(),
            index,
            accept: Accept {
                traffic: Traffic::Ssh,
                family,
                source: *source,
                port,
                interface: None,
                answer: false,
                after: Vec::new(),
            },
        };
        sources.iter().map(accept).collect()
    };
    match tool {
        Tool::Ufw | Tool::UfwFlushed => {
            let interface = policy.ssh.interfaces.is_some().then(|| verdict.path.interface.clone());
            let tables = snapshot.firewall.tables().filter(|t| t.is_iptables() && t.name == "filter");
            let mut model = Vec::new();
            for table in tables {
                let six = table.family == TableFamily::Ip6;
                let (_, chain) = UFW[usize::from(six)];
                let fitting: Vec<Option<IpNet>> =
                    sources.iter().filter(|s| s.is_none_or(|n| n.network().is_ipv6() == six)).copied().collect();
                if table.chain(chain).is_some() && !fitting.is_empty() {
                    let inserts = accepts(0, chain, None, &fitting);
                    model.push(TableInserts {
                        backend: table.backend,
                        family: table.family,
                        table: table.name.clone(),
                        inserts,
                    });
                }
            }
            let mut steps = Vec::new();
            if *tool == Tool::UfwFlushed {
                steps.push(Step::UfwRebuild { families: flushed(snapshot) });
                model.clear();
            }
            steps.push(Step::UfwAllow { port, interface, sources, model });
            Opening { steps, in_vain: "what ufw is asked to allow is still dropped by its own rules".to_owned() }
        }
        Tool::Firewalld { zone } => {
            let mut model = Vec::new();
            for table in snapshot.firewall.tables().filter(|t| is_firewalld(t)) {
                let names = [format!("filter_IN_{zone}_allow"), format!("IN_{zone}_allow")];
                let Some(chain) = names.iter().find(|n| table.chain(n).is_some()) else { continue };
                let of = match table.family {
                    TableFamily::Ip => Some(Family::Ipv4),
                    TableFamily::Ip6 => Some(Family::Ipv6),
                    _ => None,
                };
                let fits = |s: &&Option<IpNet>| s.zip(of).is_none_or(|(n, f)| Family::of(n.network()) == f);
                let fitting: Vec<Option<IpNet>> = sources.iter().filter(fits).copied().collect();
                if !fitting.is_empty() && (table.backend == Backend::Nft || of.is_some()) {
                    let inserts = accepts(0, chain, None, &fitting);
                    model.push(TableInserts {
                        backend: table.backend,
                        family: table.family,
                        table: table.name.clone(),
                        inserts,
                    });
                }
            }
            let step =
                Step::FirewalldAllow { zone: zone.clone(), port, sources, permanent: policy.firewall.persist, model };
            let in_vain =
                format!("what firewalld's zone {} is asked to allow is still dropped by its rules", escape(zone));
            Opening { steps: vec![step], in_vain }
        }
    }
}

/// The families in which ufw's chains stand unused.
fn flushed(snapshot: &Snapshot) -> Vec<Family> {
    Family::BOTH
        .into_iter()
        .filter(|family| {
            let of = super::ip_table(*family);
            let (prefix, _) = UFW[usize::from(*family == Family::Ipv6)];
            let mut tables =
                snapshot.firewall.tables().filter(|t| t.is_iptables() && t.family == of && t.name == "filter");
            tables.any(|t| {
                let input = t.chain("INPUT").map_or(&[][..], |c| &c.rules);
                t.chains.iter().any(|c| c.name.starts_with(prefix)) && !jumps_to(input, prefix)
            })
        })
        .collect()
}
