//! rtnetlink(7) -> links, addresses, routes, rules. Each function takes one message without its netlink header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::nlattr::Attributes;
use crate::facts::{Address, Family, Link, Route, RouteKind};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_POINTOPOINT: u32 = 0x10;
const IFF_NOARP: u32 = 0x80;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_GROUP: u16 = 27;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;
const RT_SCOPE_UNIVERSE: u8 = 0;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
pub const RTA_VIA: u16 = 18;
const RTM_F_CLONED: u32 = 0x200;

const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;
const FIB_RULE_INVERT: u32 = 2;

/// RTM_NEWLINK: `struct ifinfomsg`.
pub fn link(message: &[u8]) -> Option<Link> {
    let attributes = Attributes(message.get(16..)?);
    let flags = host_u32(message, 8)?;
    let info = attributes.nested(IFLA_LINKINFO);
    let xdp = attributes.nested(IFLA_XDP).and_then(|x| x.u8(IFLA_XDP_ATTACHED));
    Some(Link {
        index: host_u32(message, 4)?,
        name: attributes.text(IFLA_IFNAME)?,
        kind: u16::from_ne_bytes(*message.get(2..)?.first_chunk()?),
        up: flags & IFF_UP != 0,
        loopback: flags & IFF_LOOPBACK != 0,
        arp: flags & (IFF_LOOPBACK | IFF_POINTOPOINT | IFF_NOARP) == 0,
        group: attributes.host_u32(IFLA_GROUP).unwrap_or(0),
        mac: attributes.get(IFLA_ADDRESS).and_then(|a| a.try_into().ok()),
        master: attributes.host_u32(IFLA_MASTER),
        driver: info.and_then(|i| i.text(IFLA_INFO_KIND)),
        xdp: xdp.is_some_and(|attached| attached != 0),
    })
}

/// RTM_NEWADDR: `struct ifaddrmsg`.
pub fn address(message: &[u8]) -> Option<Address> {
    let attributes = Attributes(message.get(8..)?);
    let flags = attributes.host_u32(IFA_FLAGS).unwrap_or(u32::from(*message.get(2)?));
    // Of a link with a peer IFA_ADDRESS is the peer's.
    let own = attributes.get(IFA_LOCAL).or_else(|| attributes.get(IFA_ADDRESS))?;
    Some(Address {
        interface: host_u32(message, 4)?,
        address: ip(own)?,
        prefix: *message.get(1)?,
        global: *message.get(3)? == RT_SCOPE_UNIVERSE,
        tentative: flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) != 0,
    })
}

/// RTM_NEWROUTE: `struct rtmsg`. None for what is not of IP, and for entries of the cache.
pub fn route(message: &[u8]) -> Option<Route> {
    let attributes = Attributes(message.get(12..)?);
    let [family, prefix, _, _, table, _, _, kind] = *message.first_chunk()?;
    let (family, zero) = match family {
        AF_INET => (Family::Ipv4, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        AF_INET6 => (Family::Ipv6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        _ => return None,
    };
    if host_u32(message, 8)? & RTM_F_CLONED != 0 {
        return None;
    }
    let destination = attributes.get(RTA_DST).map_or(Some(zero), ip)?;
    let hops = attributes.get(RTA_MULTIPATH).map(Hops);
    let several = hops.into_iter().flatten();
    let hop = several.clone().next().map(|(_, attributes)| attributes);
    let gateway = |a: Attributes<'_>| match a.get(RTA_GATEWAY) {
        Some(address) => ip(address),
        // Two bytes of family come first.
        None => a.get(RTA_VIA).and_then(|via| ip(via.get(2..)?)),
    };
    let mut interfaces: Vec<u32> = attributes.host_u32(RTA_OIF).into_iter().collect();
    interfaces.extend(several.map(|(interface, _)| interface));
    Some(Route {
        family,
        kind: route_kind(kind),
        table: attributes.host_u32(RTA_TABLE).unwrap_or(u32::from(table)),
        destination: IpNet::new(destination, prefix).ok()?,
        interfaces,
        gateway: gateway(attributes).or_else(|| hop.and_then(gateway)),
        metric: attributes.host_u32(RTA_PRIORITY).unwrap_or(0),
    })
}

/// RTM_NEWRULE: `struct fib_rule_hdr`; None for rules of multicast routing. The table that the rule leads to, if it does, and whether it is one of those that the
/// kernel makes itself.
pub fn rule(message: &[u8]) -> Option<(Option<u32>, bool)> {
    const DEFAULTS: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];
    let attributes = Attributes(message.get(12..)?);
    let [family, destination, source, tos, table, _, _, action] = *message.first_chunk()?;
    if !matches!(family, AF_INET | AF_INET6) {
        return None;
    }
    let table = attributes.host_u32(FRA_TABLE).unwrap_or(u32::from(table));
    let to_table = (action == FR_ACT_TO_TBL).then_some(table);
    let plain = |(kind, value): (u16, &[u8])| match kind {
        FRA_PRIORITY | FRA_TABLE | FRA_PAD | FRA_PROTOCOL => true,
        FRA_SUPPRESS_PREFIXLEN => value.iter().all(|&b| b == 0xff),
        _ => false,
    };
    let default = DEFAULTS.contains(&(attributes.host_u32(FRA_PRIORITY).unwrap_or(0), table))
        && to_table.is_some()
        && (destination, source, tos) == (0, 0, 0)
        && host_u32(message, 8)? & FIB_RULE_INVERT == 0
        && attributes.into_iter().all(plain);
    Some((to_table, default))
}

/// RTM_NEWQDISC, RTM_NEWTFILTER: `struct tcmsg`. The interface, and the name of its kind.
pub fn traffic_control(message: &[u8]) -> Option<(u32, String)> {
    const TCA_KIND: u16 = 1;
    Some((host_u32(message, 4)?, Attributes(message.get(20..)?).text(TCA_KIND)?))
}

/// The `struct rtnexthop`s of a multipath route: interface and attributes.
#[derive(Clone)]
struct Hops<'a>(&'a [u8]);

impl<'a> Iterator for Hops<'a> {
    type Item = (u32, Attributes<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let hop = self.0.get(..length)?;
        let item = (host_u32(hop, 4)?, Attributes(hop.get(8..)?));
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(item)
    }
}

/// RTN_*
fn route_kind(kind: u8) -> RouteKind {
    match kind {
        1 => RouteKind::Unicast,
        2 => RouteKind::Local,
        3 => RouteKind::Broadcast,
        4 => RouteKind::Anycast,
        5 => RouteKind::Multicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        9 => RouteKind::Throw,
        _ => RouteKind::Other,
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

fn host_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}
