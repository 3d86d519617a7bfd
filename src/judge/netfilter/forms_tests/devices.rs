//! What rules ask of the interfaces.

use super::*;

/// nft_meta.c: `iiftype` is asked of the device that the packet is at, and in OUTPUT it is at none yet.
#[test]
fn the_type_of_the_device_is_known_once_the_packet_is_at_one() {
    const ETHERNET: u16 = 1;
    for (hook, due) in [(Hook::Input, Everybody), (Hook::Output, Nobody), (Hook::Postrouting, Everybody)] {
        assert_eq!(v4().hit(hook, meta(MetaKey::IifType, &ETHERNET.to_ne_bytes())), due, "{hook:?}");
        assert_eq!(v4().hit(hook, meta(MetaKey::IifType, &65534u16.to_ne_bytes())), Nobody, "{hook:?}");
    }
}

#[test]
fn an_address_of_another_interface_is_not_made_local_by_the_second_one_of_this() {
    for family in Family::BOTH {
        let mut host = asked_by_the_wrong_door(family);
        let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
        let other = ip(if family == Family::Ipv4 { "192.0.2.9" } else { "2001:db8::9" });
        let own = addresses.iter().find(|a| a.address == host.path.address).unwrap().clone();
        addresses.push(Address { interface: 2, address: other, ..own });
        let is = |kind: u32| {
            let flags = fib_flags::DADDR | fib_flags::IIF;
            host.hit(Hook::Prerouting, fib(flags, FibResult::AddrType, &kind.to_ne_bytes()))
        };
        assert_eq!(is(RTN_UNICAST), Everybody);
        assert_eq!(is(RTN_LOCAL), Nobody);
    }
}

/// The address that the packet is sent to is the interface's own; by whom it was sent on is not known, nor to whom it is.
#[test]
fn the_link_layer_address_of_the_next_router_is_not_known() {
    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    let mut host = v4();
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links.iter_mut().for_each(|link| link.mac = Some(OWN));
    let of = |hook, offset, family| {
        let load = Expr::Payload { dreg: 0, base: PayloadBase::Link, offset, len: 6 };
        let rule = vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: OWN.to_vec().into() }, DROP];
        let mut chain = chain(hook, ChainKind::Filter, 0, vec![rule]);
        if family == TableFamily::Netdev {
            chain.base.as_mut().unwrap().devices.extend(["eth0".into(), "eth1".into()]);
        }
        let table = Table { family, ..fixture::table(vec![chain], Vec::new()) };
        host.told(&walk(&fixture::nft(vec![table]), &host.net, &host.path, &[], &Ports::default()))
    };
    assert_eq!(of(Hook::Input, 0, TableFamily::Inet), Everybody);
    assert_eq!(of(Hook::Input, 6, TableFamily::Inet), Unknown);
    assert_eq!(of(Hook::Egress, 0, TableFamily::Netdev), Unknown);
    assert_eq!(of(Hook::Egress, 6, TableFamily::Netdev), Unknown);
}

#[test]
fn the_type_of_a_source_is_told_by_the_routes() {
    let is = |kind: u32| v4().hit(Hook::Input, fib(fib_flags::SADDR, FibResult::AddrType, &kind.to_ne_bytes()));
    assert_eq!(is(RTN_LOCAL), Hit::Some(AddrSet::single(v4().path.address)));
    let multicast = AddrSet::net("224.0.0.0/4".parse().unwrap());
    const RTN_MULTICAST: u32 = 5;
    assert_eq!(is(RTN_MULTICAST), Hit::Some(multicast));
}
