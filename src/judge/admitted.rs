//! A policy that asks for what is admitted now.

use ipnet::IpNet;
use thiserror::Error;

use super::{Intent, Judgement, PathGates, PathVerdict};
use crate::facts::{AddrSet, Family, Snapshot};
use crate::policy::Policy;

/// Networks that a policy may list: more than these nobody reads.
const NETWORKS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdmittedError {
    #[error("nobody gets in now: a policy of that would ask for nothing (repair first, or write `sources` by hand)")]
    Nobody,
    #[error(
        "those who get in now are {0} networks, more than the {NETWORKS} that a policy should list: write `sources` by hand"
    )]
    Many(usize),
    #[error("it is not known whether {0} get in: write `sources` by hand")]
    Unknown(String),
}

/// `policy` with the sources and interfaces that are admitted now. Bans in chains that the policy respects do not count: those
/// who are banned are admitted otherwise.
pub fn admitted(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement) -> Result<Policy, AdmittedError> {
    let intent = Intent::of(policy, snapshot, &judgement.gates);
    let mut names: Vec<String> = Vec::new();
    let mut sources: Vec<IpNet> = Vec::new();
    let mut everybody = true;
    let mut families = 0;
    for family in Family::BOTH {
        let outside = intent.outside(family);
        let ways = ways(&judgement.gates, family);
        if ways.is_empty() {
            continue;
        }
        families += 1;
        let mut common: Option<AddrSet> = None;
        for (name, reach, unknown) in ways {
            let unknown = unknown.minus(&reach).intersection(outside);
            if !unknown.is_empty() {
                return Err(AdmittedError::Unknown(unknown.to_string()));
            }
            if !reach.intersects(outside) {
                continue;
            }
            if !names.contains(&name) {
                names.push(name);
            }
            common = Some(common.map_or_else(|| reach.clone(), |c| c.intersection(&reach)));
        }
        let common = common.unwrap_or_else(|| AddrSet::empty(family)).intersection(outside);
        if common == *outside {
            sources.extend(AddrSet::full(family).prefixes());
        } else {
            everybody = false;
            sources.extend(common.prefixes());
        }
    }
    if sources.is_empty() || families == 0 {
        return Err(AdmittedError::Nobody);
    }
    if sources.len() > NETWORKS {
        return Err(AdmittedError::Many(sources.len()));
    }
    let mut policy = policy.clone();
    let every = judgement.gates.iter().all(|g| names.contains(&g.whole.path.interface));
    policy.ssh.interfaces = (!every).then_some(names);
    policy.ssh.sources = (!everybody).then_some(sources);
    Ok(policy)
}

/// For each interface who gets in by one of its addresses, and of whom it is not known.
fn ways(gates: &[PathGates], family: Family) -> Vec<(String, AddrSet, AddrSet)> {
    let mut ways: Vec<(String, AddrSet, AddrSet)> = Vec::new();
    for PathGates { whole, .. } in gates.iter().filter(|g| g.whole.path.family == family) {
        let (reach, unknown) = (but_for_bans(whole), whole.unknown_sources());
        match ways.iter_mut().find(|(name, ..)| *name == whole.path.interface) {
            Some((_, all, open)) => {
                all.union_with(&reach);
                open.union_with(&unknown);
            }
            None => ways.push((whole.path.interface.clone(), reach, unknown)),
        }
    }
    ways
}

fn but_for_bans(verdict: &PathVerdict) -> AddrSet {
    let mut reach = verdict.reachable();
    // A ban says nothing where nobody gets in anyway.
    if !reach.is_empty() {
        let bans = verdict.blocked.iter().filter(|b| b.by.respected);
        bans.for_each(|b| reach.union_with(&b.sources));
    }
    reach
}
