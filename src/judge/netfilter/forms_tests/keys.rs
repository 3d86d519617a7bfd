//! What a rule loads, and what it is compared with.

use super::*;

/// nft_fib_ipv4.c: with a device, a local address of another device is unicast.
#[test]
fn the_type_of_the_hosts_address_is_local_on_its_own_interface_alone() {
    use fib_flags::{DADDR, IIF, OIF, SADDR};
    let is = |flags, kind: u32| fib(flags, FibResult::AddrType, &kind.to_ne_bytes());
    for family in Family::BOTH {
        let (own, other) = (host(family), asked_by_the_wrong_door(family));
        for flags in [DADDR, DADDR | IIF] {
            assert_eq!(own.hit(Hook::Prerouting, is(flags, RTN_LOCAL)), Everybody, "{flags}");
            assert_eq!(own.hit(Hook::Prerouting, is(flags, RTN_UNICAST)), Nobody, "{flags}");
        }
        assert_eq!(other.hit(Hook::Prerouting, is(DADDR, RTN_LOCAL)), Everybody);
        assert_eq!(other.hit(Hook::Prerouting, is(DADDR | IIF, RTN_UNICAST)), Everybody);
        // The answer leaves by eth0, in the name of an address of eth1.
        assert_eq!(other.hit(Hook::Postrouting, is(SADDR | OIF, RTN_UNICAST)), behind_eth0(family));
        assert_eq!(other.hit(Hook::Postrouting, is(SADDR, RTN_LOCAL)), Everybody);
        assert_eq!(own.hit(Hook::Postrouting, is(SADDR | OIF, RTN_LOCAL)), behind_eth0(family));
    }
}

#[test]
fn the_way_back_to_a_source_is_by_the_interface_of_its_route() {
    use fib_flags::{DADDR, IIF, OIF, PRESENT, SADDR};
    let host = v4();
    let hit = |hook, flags, result, value: &[u8]| host.hit(hook, fib(flags, result, value));
    let index = |n: u32| n.to_ne_bytes();
    let name = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    };
    let (eth1, rest) = (Hit::Some(behind_eth1()), Hit::Some(behind_eth1().complement()));
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF | PRESENT, FibResult::Oif, &[0]), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF | PRESENT, FibResult::Oif, &[1]), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | PRESENT, FibResult::Oif, &[1]), Everybody);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::Oif, &index(3)), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::Oif, &index(2)), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF, FibResult::Oif, &index(0)), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::OifName, &name("eth1")), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::OifName, &name("eth0")), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF, FibResult::OifName, &name("")), eth1);
    assert_eq!(hit(Hook::Output, DADDR, FibResult::Oif, &index(3)), eth1);
    assert_eq!(hit(Hook::Postrouting, DADDR | OIF | PRESENT, FibResult::Oif, &[1]), Everybody);
    // A lookup of a local address gives no interface.
    assert_eq!(hit(Hook::Prerouting, DADDR | PRESENT, FibResult::Oif, &[0]), Everybody);
    assert_eq!(hit(Hook::Prerouting, DADDR, FibResult::Oif, &index(0)), Everybody);
}

#[test]
fn routes_by_rule_and_routes_that_were_not_read_decide_nothing() {
    let (mut by_rule, mut unread) = (v4(), v4());
    by_rule.net.policy_routing = true;
    unread.net.routes = Seen::Absent;
    for host in [by_rule, unread] {
        let found = fib(fib_flags::SADDR | fib_flags::IIF | fib_flags::PRESENT, FibResult::Oif, &[0]);
        assert_eq!(host.hit(Hook::Prerouting, found), Unknown);
        assert_eq!(host.xt(Hook::Prerouting, XtMatch::Rpfilter { flags: 0 }), Unknown);
    }
}

/// nf_nat_core.c: the first packet of a flow gets IPS_DST_NAT_DONE (256) at PREROUTING's nat (-100), and IPS_SRC_NAT_DONE (128)
/// at INPUT's (100).
#[test]
fn the_status_of_a_new_flow_tells_which_nat_it_has_passed() {
    const IPS_NAT_DONE: u32 = 128 | 256;
    let status = |wanted: u32| {
        let mask = (IPS_NAT_DONE).to_ne_bytes().to_vec();
        vec![
            Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: 8u32.to_ne_bytes().as_slice().into() },
            Expr::Ct { dreg: 0, key: CtKey::Status, dir: None },
            Expr::Bitwise {
                sreg: 0,
                dreg: 0,
                len: 4,
                op: BitwiseOp::MaskXor { mask: mask.into(), xor: vec![0; 4].into() },
            },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: wanted.to_ne_bytes().as_slice().into() },
            DROP,
        ]
    };
    let places =
        [(Hook::Prerouting, -150, 0), (Hook::Prerouting, -50, 256), (Hook::Input, 50, 256), (Hook::Input, 150, 384)];
    for (hook, priority, passed) in places {
        for wanted in [0, 128, 256, 384] {
            let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, Vec::new());
            let filter = chain(hook, ChainKind::Filter, priority, vec![status(wanted)]);
            let due = if wanted == passed { Everybody } else { Nobody };
            assert_eq!(v4().hit_of(vec![nat, filter]), due, "{hook:?} {priority} {wanted}");
        }
        let filter = chain(hook, ChainKind::Filter, priority, vec![status(0)]);
        assert_eq!(v4().hit_of(vec![filter]), Everybody, "without nat");
    }
}

#[test]
fn only_what_comes_in_by_ethernet_has_an_ethernet_header() {
    let payload = |offset, data: &[u8]| {
        let len = data.len() as u32;
        let load = Expr::Payload { dreg: 0, base: PayloadBase::Link, offset, len };
        vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }]
    };
    let mut host = v4();
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x08, 0x00])), Everybody);
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x86, 0xdd])), Nobody);
    assert_eq!(host.hit(Hook::Output, payload(12, &[0x08, 0x00])), Nobody);
    assert_eq!(host.hit(Hook::Input, payload(0, &[2, 0, 0, 0, 0, 1])), Unknown);
    let mac = XtMatch::Mac { address: [2, 0, 0, 0, 0, 9], invert: false };
    assert_eq!(host.xt(Hook::Input, mac.clone()), Unknown);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].mac = Some([2, 0, 0, 0, 0, 1]);
    let tunnel = 65534;
    assert_eq!(host.hit(Hook::Input, payload(0, &[2, 0, 0, 0, 0, 1])), Everybody);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].kind = tunnel;
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x08, 0x00])), Nobody);
    assert_eq!(host.xt(Hook::Input, mac), Nobody);
}

/// Only root may listen on a port below 1024, and no SYN that comes in has a socket.
#[test]
fn the_owner_of_the_answer_is_root_below_port_1024() {
    let owner = |uid, socket| XtMatch::Owner { text: String::new(), uid, gid: None, socket };
    let at = |port| Host { path: Path { port, ..v4().path }, ..v4() };
    for port in [22, 1023] {
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkUid, 0)), Everybody);
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkGid, 1000)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, false)), None)), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, true)), None)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((1000, 2000, false)), None)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((1000, 2000, true)), None)), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(None, Some(true))), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(None, Some(false))), Nobody);
    }
    for port in [1024, 2222] {
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkUid, 0)), Unknown);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, false)), None)), Unknown);
    }
    assert_eq!(v4().xt(Hook::Input, owner(Some((0, 0, false)), None)), Nobody);
    assert_eq!(v4().hit(Hook::Prerouting, meta_number(MetaKey::SkUid, 0)), Nobody);
    // The ACK has the socket of the connection once it is in INPUT.
    assert_eq!(v4().hit(Hook::Input, meta_number(MetaKey::SkUid, 0)), Unknown);
    let syn = Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 13, len: 1 };
    let is_syn = vec![syn, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![0x02].into() }];
    assert_eq!(v4().hit(Hook::Input, [is_syn, meta_number(MetaKey::SkUid, 0)].concat()), Nobody);
}

#[test]
fn a_route_is_looked_at_only_once_there_is_one() {
    let realm = meta_number(MetaKey::RtClassid, 7);
    let rt = |key| vec![Expr::Rt { dreg: 0, key }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![0].into() }];
    assert_eq!(v4().hit(Hook::Prerouting, realm.clone()), Nobody);
    assert_eq!(v4().hit(Hook::Input, realm), Unknown);
    // NFT_RT_NEXTHOP4 1, NFT_RT_XFRM 4: no IPsec.
    for (key, inside) in [(1, Unknown), (4, Everybody)] {
        assert_eq!(v4().hit(Hook::Prerouting, rt(key)), Nobody);
        assert_eq!(v4().hit(Hook::Input, rt(key)), inside);
    }
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Xfrm { dreg: 0 }]), Nobody);
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Tunnel { dreg: 0 }]), Nobody);
}

#[test]
fn a_port_of_a_vrf_has_a_device_that_is_not_known() {
    let mut host = v4();
    assert_eq!(host.hit(Hook::Input, meta_number(MetaKey::Sdif, 0)), Everybody);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].master = Some(9);
    assert_eq!(host.hit(Hook::Input, meta_number(MetaKey::Sdif, 0)), Unknown);
    assert_eq!(host.hit(Hook::Input, meta(MetaKey::SdifName, &[0; 16])), Unknown);
}

/// nft_meta.c: the protocol family of the hook, NFPROTO_NETDEV (5) at ingress.
#[test]
fn at_ingress_the_family_is_that_of_devices() {
    for (family, due) in [(5, Everybody), (2, Nobody)] {
        let rule = [meta(MetaKey::Nfproto, &[family]), vec![DROP]].concat();
        let mut chain = chain(Hook::Ingress, ChainKind::Filter, 0, vec![rule]);
        chain.base.as_mut().unwrap().devices.push("eth0".into());
        let table = Table { family: TableFamily::Netdev, ..fixture::table(vec![chain], Vec::new()) };
        let judged = walk(&fixture::nft(vec![table]), &v4().net, &v4().path, &[], &Ports::default());
        assert_eq!(judged.blocked_sources().is_full(), due == Everybody, "{family}");
        assert_eq!(judged.admitted.is_full(), due == Nobody, "{family}");
    }
}

#[test]
fn a_key_that_is_not_modelled_leaves_all_of_its_register_open() {
    assert_eq!(v4().hit(Hook::Input, meta(MetaKey::Other(99), &[1; 16])), Unknown);
    let age =
        |key| vec![Expr::Ct { dreg: 0, key, dir: None }, Expr::Cmp { sreg: 0, op: CmpOp::Gt, data: vec![1; 8].into() }];
    for key in [CtKey::Bytes, CtKey::Pkts, CtKey::Avgpkt, CtKey::Expiration] {
        assert_eq!(v4().hit(Hook::Input, age(key)), Conditional, "{key:?}");
    }
    assert_eq!(v4().hit(Hook::Input, age(CtKey::Labels)), Unknown);
}

#[test]
fn registers_are_put_together_bit_by_bit() {
    let of = |op, made: u32| {
        let exprs = vec![
            immediate(0, &6u32.to_ne_bytes()),
            immediate(4, &3u32.to_ne_bytes()),
            Expr::Bitwise { sreg: 0, dreg: 8, len: 4, op },
            Expr::Cmp { sreg: 8, op: CmpOp::Eq, data: made.to_ne_bytes().as_slice().into() },
        ];
        assert_eq!(v4().hit(Hook::Input, exprs), Everybody, "{made}");
    };
    of(BitwiseOp::Register { op: '&', reg: 4 }, 2);
    of(BitwiseOp::Register { op: '|', reg: 4 }, 7);
    of(BitwiseOp::Register { op: '^', reg: 4 }, 5);
    of(BitwiseOp::ShiftLeft(3), 48);
    of(BitwiseOp::ShiftRight(1), 3);
}

#[test]
fn of_two_doubts_the_one_about_what_is_not_modelled_is_told() {
    let tcp = XtMatch::Tcp {
        sports: (40000, 41000),
        dports: (0, u16::MAX),
        invert_sports: false,
        invert_dports: false,
        flags_mask: 0,
        flags_set: 0,
        invert_flags: false,
        option: Some((8, false)),
    };
    assert_eq!(v4().xt(Hook::Input, tcp), Unknown);
}
