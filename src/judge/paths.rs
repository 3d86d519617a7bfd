//! Which ways in there are.

use crate::facts::{Address, Family, Link, Net, Seen};
use crate::policy::Policy;

use super::Path;

/// The paths that the policy asks for: each port, on each global address of each uplink, in both families.
///
/// Uplinks are the policy's interfaces, else those with a default route of the family.
pub fn paths(policy: &Policy, net: &Net) -> Vec<Path> {
    let (Seen::Present(links), Seen::Present(addresses)) = (&net.links, &net.addresses) else { return Vec::new() };
    let mut paths = Vec::new();
    for family in Family::BOTH {
        for link in links.iter().filter(|l| is_uplink(policy, net, family, l)) {
            for address in addresses.iter().filter(|a| is_way_in(a, link, family)) {
                for &port in &policy.ssh.ports {
                    paths.push(Path {
                        family,
                        interface: link.name.clone(),
                        ifindex: link.index,
                        address: address.address,
                        port,
                    });
                }
            }
        }
    }
    paths
}

fn is_uplink(policy: &Policy, net: &Net, family: Family, link: &Link) -> bool {
    if link.loopback || !link.up {
        return false;
    }
    match (&policy.ssh.interfaces, &net.routes) {
        (Some(names), _) => names.contains(&link.name),
        (None, Seen::Present(routes)) => {
            routes.iter().any(|r| r.family == family && r.is_default() && r.interfaces.contains(&link.index))
        }
        (None, _) => false,
    }
}

fn is_way_in(address: &Address, link: &Link, family: Family) -> bool {
    address.interface == link.index
        && Family::of(address.address) == family
        && address.global
        && !address.tentative
        && !address.address.is_loopback()
}
