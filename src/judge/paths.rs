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

#[cfg(test)]
mod tests {
    use super::super::fixture::healthy;
    use super::*;
    use crate::facts::Route;

    fn interfaces(policy: &Policy, net: &Net) -> Vec<(Family, u32)> {
        paths(policy, net).iter().map(|p| (p.family, p.ifindex)).collect()
    }

    /// `eth0` (2) with both default routes, `eth1` (3) with an address of each family and these routes.
    fn net(routes: &[(Family, &str)], change: impl Fn(&mut Link)) -> Net {
        let mut net = healthy().net;
        let (Seen::Present(links), Seen::Present(addresses), Seen::Present(all)) =
            (&mut net.links, &mut net.addresses, &mut net.routes)
        else {
            panic!("a network")
        };
        let mut link = Link { index: 3, name: "eth1".into(), ..links[0].clone() };
        change(&mut link);
        links.push(link);
        let second: Vec<Address> = addresses.iter().map(|a| Address { interface: 3, ..a.clone() }).collect();
        addresses.extend(second);
        for (family, destination) in routes {
            let destination = destination.parse().expect("a network");
            let route = Route { family: *family, destination, interfaces: vec![3], ..all[0].clone() };
            all.push(route);
        }
        net
    }

    #[test]
    fn an_uplink_has_a_default_route_of_the_family_or_is_named() {
        let (four, six) = ((Family::Ipv4, 2), (Family::Ipv6, 2));
        let (also4, also6) = ((Family::Ipv4, 3), (Family::Ipv6, 3));
        let of = |routes: &[(Family, &str)]| interfaces(&Policy::default(), &net(routes, |_| {}));
        assert_eq!(of(&[]), [four, six]);
        assert_eq!(of(&[(Family::Ipv4, "10.0.0.0/8")]), [four, six]);
        assert_eq!(of(&[(Family::Ipv4, "0.0.0.0/0")]), [four, also4, six]);
        assert_eq!(of(&[(Family::Ipv6, "::/0")]), [four, six, also6]);
        let mut named = Policy::default();
        named.ssh.interfaces = Some(vec!["eth1".into()]);
        assert_eq!(interfaces(&named, &net(&[], |_| {})), [also4, also6]);
        for change in [|link: &mut Link| link.up = false, |link: &mut Link| link.loopback = true] {
            assert_eq!(interfaces(&named, &net(&[], change)), []);
            assert_eq!(interfaces(&Policy::default(), &net(&[(Family::Ipv4, "0.0.0.0/0")], change)), [four, six]);
        }
    }
}
