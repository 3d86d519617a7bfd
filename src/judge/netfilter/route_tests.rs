//! How the routes sort addresses.

use super::route::*;
use crate::facts::*;
use crate::judge::fixture::{self, healthy, ip};

const MAIN: u32 = 254;
const LOCAL: u32 = 255;

/// The healthy host with these routes, too.
fn with(more: &[(u32, RouteKind, &str, Option<&str>)]) -> Net {
    let mut net = healthy().net;
    let Seen::Present(routes) = &mut net.routes else { unreachable!() };
    for (table, kind, destination, gateway) in more {
        let destination: ipnet::IpNet = destination.parse().unwrap();
        let (family, gateway) = (Family::of(destination.network()), gateway.map(ip));
        routes.push(Route { family, kind: *kind, table: *table, destination, gateway, ..routes[0].clone() });
    }
    net
}

/// As the type of a source, which is looked up among sets of them.
fn source_type(routes: &Routes, address: &str) -> u8 {
    let address = ip(address);
    let types = routes.source_types(Family::of(address));
    let mut found = types.iter().filter(|(_, set)| set.contains(address)).map(|(kind, _)| *kind);
    let kind = found.next().unwrap();
    assert_eq!(found.next(), None, "{address} has one type");
    kind
}

/// `inet_dev_addr_type` and nft_fib_ipv6.c.
#[test]
fn an_address_has_the_type_that_the_kernel_gives_it() {
    let net =
        with(&[(LOCAL, RouteKind::Local, "127.0.0.0/8", None), (LOCAL, RouteKind::Broadcast, "192.0.2.255/32", None)]);
    for (address, due) in [
        (fixture::V4, RTN_LOCAL),
        ("127.0.0.1", RTN_LOCAL),
        ("192.0.2.255", RTN_BROADCAST),
        ("192.0.2.254", RTN_UNICAST),
        ("0.0.0.0", RTN_BROADCAST),
        ("0.0.0.1", RTN_UNICAST),
        ("0.255.255.255", RTN_UNICAST),
        ("223.255.255.255", RTN_UNICAST),
        ("224.0.0.0", RTN_MULTICAST),
        ("239.255.255.255", RTN_MULTICAST),
        ("240.0.0.0", RTN_UNICAST),
        ("255.255.255.254", RTN_UNICAST),
        ("255.255.255.255", RTN_BROADCAST),
        (fixture::V6, RTN_LOCAL),
        ("2001:db8::11", RTN_UNICAST),
        ("fe80::1", RTN_UNICAST),
        ("ff02::1", RTN_MULTICAST),
        ("ff0e::1", RTN_MULTICAST),
    ] {
        let family = Family::of(ip(address));
        let routes = Routes::of(&net, family);
        assert_eq!(routes.address_type(family, number(ip(address))), due, "{address}");
        assert_eq!(source_type(&routes, address), due, "{address} as a source");
    }
}

/// RFC 4291 2.6.1, RFC 6164: of a link between two routers both addresses are theirs.
#[test]
fn the_first_address_of_an_ipv6_prefix_on_a_link_is_any_of_its_routers() {
    let net = with(&[
        (MAIN, RouteKind::Unicast, "2001:db8:1::/64", None),
        (MAIN, RouteKind::Unicast, "2001:db8:2::/64", Some("fe80::1")),
        (MAIN, RouteKind::Unicast, "2001:db8:3::/126", None),
        (MAIN, RouteKind::Unicast, "2001:db8:4::/127", None),
        (LOCAL, RouteKind::Anycast, "2001:db8:5::5/128", None),
        (MAIN, RouteKind::Unicast, "198.51.100.0/24", None),
    ]);
    for (address, due) in [
        ("2001:db8:1::", RTN_ANYCAST),
        ("2001:db8:1::1", RTN_UNICAST),
        ("2001:db8:2::", RTN_UNICAST),
        ("2001:db8:3::", RTN_ANYCAST),
        ("2001:db8:4::", RTN_UNICAST),
        ("2001:db8:5::5", RTN_ANYCAST),
        ("2001:db8:5::6", RTN_UNICAST),
        ("198.51.100.0", RTN_UNICAST),
    ] {
        assert_eq!(source_type(&Routes::of(&net, Family::of(ip(address))), address), due, "{address}");
    }
}

/// A redirect leads to an address that others can reach, if there is one.
#[test]
fn the_first_address_of_an_interface_is_its_first_global_one_of_the_family() {
    let of = |address: &str, interface, global| Address {
        interface,
        address: ip(address),
        prefix: 64,
        global,
        tentative: false,
    };
    let addresses = vec![
        of("192.0.2.9", 3, true),
        of("169.254.0.1", 2, false),
        of("fe80::5", 2, false),
        of("2001:db8::10", 2, true),
        of("192.0.2.10", 2, true),
        of("192.0.2.11", 2, true),
        of("fe80::6", 3, false),
    ];
    let net = Net { addresses: Seen::Present(addresses), ..healthy().net };
    let first =
        |interface, family: Family| first_address(&net, interface, family).map(|n| family.address(n).to_string());
    assert_eq!(first(2, Family::Ipv4).as_deref(), Some("192.0.2.10"));
    assert_eq!(first(2, Family::Ipv6).as_deref(), Some("2001:db8::10"));
    assert_eq!(first(3, Family::Ipv4).as_deref(), Some("192.0.2.9"));
    assert_eq!(first(3, Family::Ipv6).as_deref(), Some("fe80::6"));
    assert_eq!(first(4, Family::Ipv4), None);
}
