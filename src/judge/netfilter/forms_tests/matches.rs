//! Matches of x_tables.

use super::*;

/// xt_rpfilter: 1 loose, 8 inverted.
#[test]
fn rpfilter_takes_any_interface_where_it_is_loose() {
    let hit = |flags| v4().xt(Hook::Prerouting, XtMatch::Rpfilter { flags });
    assert_eq!(hit(0), Hit::Some(behind_eth1().complement()));
    assert_eq!(hit(8), Hit::Some(behind_eth1()));
    assert_eq!(hit(1), Everybody);
    assert_eq!(hit(9), Nobody);
}

#[test]
fn matches_of_x_tables_hold_as_their_manual_says() {
    let input = |found| v4().xt(Hook::Input, found);
    let history = |name: &str, text: &str| XtMatch::History { name: name.into(), text: text.into() };
    assert_eq!(input(history("recent", "--set --name s --rsource")), Everybody);
    assert_eq!(input(history("recent", "--update --name s --rsource")), Conditional);
    assert_eq!(input(history("connlimit", "--set")), Conditional);
    for invert in [false, true] {
        let name = "hbh".to_owned();
        let due = if invert { Everybody } else { Nobody };
        assert_eq!(input(XtMatch::AbsentHeader { name, invert }), due);
    }
    // A packet of the handshake has 64 bytes at most.
    let text = |length, from| XtMatch::Text { words: String::new(), length, from };
    assert_eq!(input(text(4, 60)), Unknown);
    assert_eq!(input(text(4, 61)), Nobody);
    assert_eq!(input(text(65, 0)), Nobody);
    let physdev = |text: &str| XtMatch::Physdev { text: text.into() };
    assert_eq!(input(physdev("--physdev-in eth3")), Nobody);
    assert_eq!(input(physdev("! --physdev-in eth3")), Unknown);
    let mut bridge = v4();
    let Seen::Present(links) = &mut bridge.net.links else { unreachable!() };
    links[0].driver = Some("bridge".into());
    assert_eq!(bridge.xt(Hook::Input, physdev("--physdev-in eth3")), Unknown);
    // XT_SOCKET_TRANSPARENT is 1.
    assert_eq!(input(XtMatch::Socket { flags: 0 }), Unknown);
    assert_eq!(input(XtMatch::Socket { flags: 1 }), Nobody);
    assert_eq!(v4().xt(Hook::Output, XtMatch::Socket { flags: 0 }), Nobody);
}

/// xt_devgroup.c: `(group ^ device's) & mask`.
#[test]
fn a_group_of_devices_is_told_by_the_bits_of_its_mask() {
    let mut host = v4();
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].group = 5;
    let of = |group, mask, invert| XtMatch::Devgroup { iif: Some(Grouped { group, mask, invert }), oif: None };
    assert_eq!(host.xt(Hook::Input, of(5, u32::MAX, false)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(4, u32::MAX, false)), Nobody);
    assert_eq!(host.xt(Hook::Input, of(4, u32::MAX, true)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(0x15, 0xf, false)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(0x15, 0xf, true)), Nobody);
    let leaves = Grouped { group: 5, mask: 0xff, invert: false };
    assert_eq!(
        host.xt(Hook::Postrouting, XtMatch::Devgroup { iif: None, oif: Some(leaves) }),
        behind_eth0(Family::Ipv4)
    );
}

#[test]
fn tcpmss_holds_for_no_packet_without_the_option() {
    for (invert, due) in [(false, Nobody), (true, Everybody)] {
        let mss = Expr::XtMatch(XtMatch::Tcpmss { min: 0, max: 1460, invert });
        let ct = Conntrack { state: Some((2, false)), ..Conntrack::default() };
        let established = Expr::XtMatch(XtMatch::Conntrack(Box::new(ct)));
        assert_eq!(v4().hit(Hook::Input, vec![established, mss.clone()]), due);
        // The SYN may have it or not.
        assert_eq!(v4().hit(Hook::Input, vec![mss]), if invert { Everybody } else { Conditional });
    }
}

fn addrtype(source: u32, dest: u32, iif: bool) -> XtMatch {
    let of = |kind: u32| if kind == 0 { 0 } else { 1 << kind };
    XtMatch::Addrtype { source: of(source), dest: of(dest), invert_source: false, invert_dest: false, iif, oif: false }
}

/// xt_addrtype.c: `match_type` in IPv4, `match_type6` in IPv6, where a local address is unicast as well.
#[test]
fn the_types_of_addresses_are_those_of_their_family() {
    for family in Family::BOTH {
        let (own, other) = (host(family), asked_by_the_wrong_door(family));
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_LOCAL, false)), Everybody);
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_LOCAL, true)), Everybody);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_LOCAL, false)), Everybody);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_LOCAL, true)), Nobody);
        let unicast = if family == Family::Ipv4 { Nobody } else { Everybody };
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_UNICAST, false)), unicast);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_UNICAST, true)), Everybody);
        let local = Hit::Some(AddrSet::single(own.path.address));
        assert_eq!(own.xt(Hook::Input, addrtype(RTN_LOCAL, 0, false)), local);
        let XtMatch::Addrtype { source, dest, .. } = addrtype(0, RTN_LOCAL, false) else { unreachable!() };
        let inverted =
            XtMatch::Addrtype { source, dest, invert_source: false, invert_dest: true, iif: false, oif: false };
        assert_eq!(own.xt(Hook::Input, inverted), Nobody);
    }
    // `__ipv6_addr_type`: neither multicast nor :: nor an IPv4-mapped address is unicast.
    let mut unicast = AddrSet::full(Family::Ipv6);
    for net in ["ff00::/8", "::/128", "::ffff:0:0/96"] {
        unicast.subtract(&AddrSet::net(net.parse().unwrap()));
    }
    assert_eq!(host(Family::Ipv6).xt(Hook::Input, addrtype(RTN_UNICAST, 0, false)), Hit::Some(unicast));
}
