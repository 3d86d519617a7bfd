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
    for family in Family::BOTH {
        let outside = intent.outside(family);
        let ways = ways(&judgement.gates, family);
        if ways.is_empty() {
            continue;
        }
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
    if sources.is_empty() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Seen, TextFile};
    use crate::judge::fixture::{address, healthy};
    use crate::judge::judge;

    /// The policy of a host whose wrappers admit this way.
    fn of(allow: &str, deny: &str) -> Result<Policy, AdmittedError> {
        let file = |path: &str, text: &str| Seen::Present(TextFile { path: path.into(), bytes: text.into() });
        let mut snapshot = healthy();
        snapshot.wrappers.allow = file("/etc/hosts.allow", allow);
        snapshot.wrappers.deny = file("/etc/hosts.deny", deny);
        let policy = Policy::default();
        admitted(&policy, &snapshot, &judge(&policy, &snapshot))
    }

    fn sources(policy: &Policy) -> Vec<String> {
        policy.ssh.sources.iter().flatten().map(ToString::to_string).collect()
    }

    #[test]
    fn where_everybody_gets_in_the_default_holds() {
        assert_eq!(of("", ""), Ok(Policy::default()));
        assert_eq!(of("", "ALL: 203.0.113.9\n"), Ok(Policy::default()), "a ban is no restriction");
    }

    #[test]
    fn a_restriction_is_written_down_for_each_family() {
        let both = of("sshd: 10.0.0.0/8 [2001:db8:1::]/48\n", "ALL: ALL\n").unwrap();
        assert_eq!(sources(&both), ["10.0.0.0/8", "2001:db8:1::/48"]);
        let one = of("sshd: 198.51.100.0/24\n", "ALL: ALL\n").unwrap();
        assert_eq!(sources(&one), ["198.51.100.0/24"]);
        let mixed = of("sshd: [2001:db8:1::]/48\n", "ALL: [::]/0\n").unwrap();
        assert_eq!(sources(&mixed), ["0.0.0.0/0", "2001:db8:1::/48"]);
        assert_eq!(crate::policy::parse(&mixed.to_toml()).unwrap(), mixed, "what is written is read again");
    }

    /// What `policy init` writes must not undo what it was written under.
    #[test]
    fn a_ban_stays_one_where_everybody_is_listed_and_not_where_the_banned_are_named() {
        let judged = |sources: &[&str]| {
            let mut snapshot = healthy();
            let bytes = b"ALL: 203.0.113.9\n".to_vec();
            snapshot.wrappers.deny = Seen::Present(TextFile { path: "/etc/hosts.deny".into(), bytes });
            let mut policy = Policy::default();
            policy.ssh.sources = Some(sources.iter().map(|net| net.parse().unwrap()).collect());
            judge(&policy, &snapshot).verdict
        };
        assert_eq!(judged(&["0.0.0.0/0", "2001:db8:1::/48"]), crate::judge::Verdict::Reachable);
        assert_eq!(judged(&["203.0.113.0/24"]), crate::judge::Verdict::Blocked);
    }

    #[test]
    fn what_cannot_be_written_down_is_said() {
        assert_eq!(of("", "ALL: ALL\n"), Err(AdmittedError::Nobody));
        let many: String = (0..100).map(|n| format!("sshd: 10.{n}.0.0/17\n")).collect();
        assert_eq!(of(&many, "ALL: ALL\n"), Err(AdmittedError::Many(100)));
        let most: String = (0..NETWORKS).map(|n| format!("sshd: 10.{n}.0.0/17\n")).collect();
        assert_eq!(of(&most, "ALL: ALL\n").map(|policy| sources(&policy).len()), Ok(NETWORKS));
    }

    #[test]
    fn those_get_in_by_an_interface_whom_one_of_its_addresses_lets_in() {
        let mut snapshot = healthy();
        if let Seen::Present(addresses) = &mut snapshot.net.addresses {
            addresses.push(address("192.0.2.11", 24));
        }
        let file = |text: &str| Seen::Present(TextFile { path: "/etc/hosts.allow".into(), bytes: text.into() });
        snapshot.wrappers.allow = file("sshd@192.0.2.10: 10.0.0.0/8\nsshd@192.0.2.11: 172.16.0.0/12\n");
        snapshot.wrappers.deny = file("ALL: ALL\n");
        let policy = Policy::default();
        let now = admitted(&policy, &snapshot, &judge(&policy, &snapshot)).unwrap();
        assert_eq!(sources(&now), ["10.0.0.0/8", "172.16.0.0/12"]);
    }
}
