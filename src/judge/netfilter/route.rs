//! Which way leads back to a source: the host's routes as a partition of the address space.

use crate::facts::{AddrSet, Family, Link, Net, Route, RouteKind, Seen, number};

/// The routing tables in the order of the kernel's default rules (`ip rule`).
const LOCAL: u32 = 255;
const TABLES: [u32; 3] = [LOCAL, 254, 253];

/// Addresses that the routes treat alike.
#[derive(Debug, Clone)]
pub struct Reach {
    pub sources: AddrSet,
    pub kind: RouteKind,
    /// The interfaces that lead there; the first is taken.
    pub interfaces: Vec<u32>,
}

#[derive(Debug)]
pub struct Routes {
    /// Disjoint; what none of them holds has no route.
    pub reaches: Vec<Reach>,
    pub unreachable: AddrSet,
    /// None where the routes are not known.
    pub known: bool,
    /// The host's own addresses.
    pub own: AddrSet,
    pub broadcast: AddrSet,
    pub anycast: AddrSet,
}

impl Routes {
    pub fn of(net: &Net, family: Family) -> Routes {
        let mut own = AddrSet::empty(family);
        for address in net.addresses.present().into_iter().flatten().filter(|a| Family::of(a.address) == family) {
            own.union_with(&AddrSet::single(address.address));
        }
        let mut routes = Routes {
            reaches: Vec::new(),
            unreachable: AddrSet::full(family),
            known: matches!(net.routes, Seen::Present(_)),
            own,
            broadcast: AddrSet::empty(family),
            anycast: AddrSet::empty(family),
        };
        let Seen::Present(all) = &net.routes else { return routes };
        for table in TABLES {
            let mut here: Vec<&Route> = all.iter().filter(|r| r.family == family && r.table == table).collect();
            here.sort_by_key(|r| (std::cmp::Reverse(r.destination.prefix_len()), r.metric));
            let mut left = routes.unreachable.clone();
            for route in here {
                let sources = left.intersection(&AddrSet::net(route.destination));
                if sources.is_empty() {
                    continue;
                }
                left.subtract(&sources);
                if route.kind == RouteKind::Throw {
                    continue;
                }
                match route.kind {
                    RouteKind::Local => routes.own.union_with(&sources),
                    RouteKind::Broadcast => routes.broadcast.union_with(&sources),
                    RouteKind::Anycast => routes.anycast.union_with(&sources),
                    RouteKind::Unicast if has_routers(route) => {
                        let routers = AddrSet::single(route.destination.network());
                        routes.anycast.union_with(&sources.intersection(&routers));
                    }
                    _ => {}
                }
                routes.unreachable.subtract(&sources);
                routes.reaches.push(Reach { sources, kind: route.kind, interfaces: route.interfaces.clone() });
            }
        }
        routes
    }

    pub fn is_own(&self, address: u128) -> bool {
        self.own.contains_number(address)
    }

    /// RTN_* of a known address, as `inet_dev_addr_type` and its IPv6 kin say: only the local table counts.
    pub fn address_type(&self, family: Family, address: u128) -> u8 {
        match family {
            _ if self.is_own(address) => RTN_LOCAL,
            Family::Ipv4 if self.broadcast.contains_number(address) => RTN_BROADCAST,
            // Since Linux 5.3 the rest of 0.0.0.0/8 is as any other (`ipv4_is_zeronet`).
            Family::Ipv4 if address == 0 || address == u128::from(u32::MAX) => RTN_BROADCAST,
            Family::Ipv4 if address >> 28 == 0xe => RTN_MULTICAST,
            Family::Ipv6 if address >> 120 == 0xff => RTN_MULTICAST,
            _ => RTN_UNICAST,
        }
    }

    /// The sources of each RTN_* type; the rest is unicast.
    pub fn source_types(&self, family: Family) -> Vec<(u8, AddrSet)> {
        let mut left = AddrSet::full(family);
        let mut out = Vec::new();
        let mut take = |kind: u8, set: AddrSet| {
            let part = left.intersection(&set);
            left.subtract(&part);
            out.push((kind, part));
        };
        take(RTN_LOCAL, self.own.clone());
        match family {
            Family::Ipv4 => {
                let mut broadcast = self.broadcast.clone();
                broadcast.insert(0, 0);
                broadcast.insert(u128::from(u32::MAX), u128::from(u32::MAX));
                take(RTN_BROADCAST, broadcast);
                take(RTN_MULTICAST, AddrSet::range(family, 0xe000_0000, 0xefff_ffff));
                take(RTN_ANYCAST, self.anycast.clone());
            }
            Family::Ipv6 => {
                take(RTN_MULTICAST, AddrSet::range(family, 0xff << 120, u128::MAX));
                take(RTN_BLACKHOLE, self.of_kind(RouteKind::Blackhole, family));
                take(RTN_PROHIBIT, self.of_kind(RouteKind::Prohibit, family));
                take(RTN_UNREACHABLE, self.unreachable.union(&self.of_kind(RouteKind::Unreachable, family)));
                take(RTN_ANYCAST, self.anycast.clone());
            }
        }
        take(RTN_UNICAST, AddrSet::full(family));
        out.retain(|(_, set)| !set.is_empty());
        out
    }

    fn of_kind(&self, kind: RouteKind, family: Family) -> AddrSet {
        let mut all = AddrSet::empty(family);
        self.reaches.iter().filter(|r| r.kind == kind).for_each(|r| all.union_with(&r.sources));
        all
    }

    /// The sources to which an ordinary route leads, by the interface that is taken.
    pub fn back(&self) -> impl Iterator<Item = (&AddrSet, &[u32])> {
        self.reaches.iter().filter(|r| r.kind == RouteKind::Unicast).map(|r| (&r.sources, r.interfaces.as_slice()))
    }

    /// The sources whose way back leads out by `interface` (of several next hops any one suffices).
    pub fn by_interface(&self, family: Family, interface: u32) -> AddrSet {
        let mut set = AddrSet::empty(family);
        for (sources, interfaces) in self.back() {
            if interfaces.contains(&interface) {
                set.union_with(sources);
            }
        }
        set
    }
}

/// Whether the address of the net stands for any of its routers (RFC 4291 2.6.1, the kernel's `ipv6_anycast_destination`).
fn has_routers(route: &Route) -> bool {
    route.family == Family::Ipv6 && route.gateway.is_none() && route.destination.prefix_len() < 127
}

/// RTN_* of linux/rtnetlink.h.
pub const RTN_UNSPEC: u8 = 0;
pub const RTN_UNICAST: u8 = 1;
pub const RTN_LOCAL: u8 = 2;
pub const RTN_BROADCAST: u8 = 3;
pub const RTN_ANYCAST: u8 = 4;
pub const RTN_MULTICAST: u8 = 5;
pub const RTN_BLACKHOLE: u8 = 6;
pub const RTN_UNREACHABLE: u8 = 7;
pub const RTN_PROHIBIT: u8 = 8;

/// The address that `redirect` leads to: the interface's first one.
pub fn first_address(net: &Net, interface: u32, family: Family) -> Option<u128> {
    let addresses = net.addresses.present()?;
    let of_interface = || addresses.iter().filter(|a| a.interface == interface && Family::of(a.address) == family);
    of_interface().find(|a| a.global).or_else(|| of_interface().next()).map(|a| number(a.address))
}

pub fn link(net: &Net, index: u32) -> Option<&Link> {
    net.links.present()?.iter().find(|l| l.index == index)
}
