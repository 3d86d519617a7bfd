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
