//! The packet's own numbers, of which nothing but the bounds is known.

use super::*;
use PayloadBase::{Network, Transport};

fn payload(base: PayloadBase, offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg: 0, base, offset, len }
}

fn is(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp { sreg: 0, op, data: data.into() }
}

/// Within its bounds it depends on the packet, and beyond them it is decided: `hit` says whom a comparison with a number hits.
fn lies_between(least: u32, most: u32, ceiling: u32, hit: impl Fn(CmpOp, u32) -> Hit) {
    for (op, number, due) in [
        (CmpOp::Gte, least, Everybody),
        (CmpOp::Gt, least, Conditional),
        (CmpOp::Lt, least, Nobody),
        (CmpOp::Lte, least, Conditional),
        (CmpOp::Lte, most, Everybody),
        (CmpOp::Lt, most, Conditional),
        (CmpOp::Gt, most, Nobody),
        (CmpOp::Gte, most, Conditional),
        (CmpOp::Eq, least, Conditional),
        (CmpOp::Neq, most, Conditional),
        (CmpOp::Eq, least.midpoint(most), Conditional),
    ] {
        assert_eq!(hit(op, number), due, "{op:?} {number}");
    }
    for beyond in [least.checked_sub(1), Some(most + 1).filter(|n| *n <= ceiling)].into_iter().flatten() {
        assert_eq!(hit(CmpOp::Eq, beyond), Nobody, "{beyond}");
        assert_eq!(hit(CmpOp::Neq, beyond), Everybody, "{beyond}");
    }
}

#[test]
fn a_number_of_a_header_is_decided_beyond_its_bounds_alone() {
    let (four, six) = (v4(), host(Family::Ipv6));
    for (host, hook, load, width, least, most) in [
        // DSCP and ECN, the total length, TTL.
        (&four, Hook::Input, payload(Network, 1, 1), 1, 0, 255),
        (&four, Hook::Input, payload(Network, 2, 2), 2, 40, 64),
        (&four, Hook::Input, payload(Network, 8, 1), 1, 1, 255),
        // The length of what comes after IPv6's header, and the hop limit.
        (&six, Hook::Input, payload(Network, 4, 2), 2, 20, 44),
        (&six, Hook::Input, payload(Network, 7, 1), 1, 1, 255),
        // The client's port, and TCP's window.
        (&four, Hook::Input, payload(Transport, 0, 2), 2, 32768, 60999),
        (&four, Hook::Output, payload(Transport, 2, 2), 2, 32768, 60999),
        (&four, Hook::Input, payload(Transport, 14, 2), 2, 1, 65535),
        (&four, Hook::Output, payload(Transport, 14, 2), 2, 1, 65535),
    ] {
        let of = |op, number: u32| host.hit(hook, vec![load.clone(), is(op, &number.to_be_bytes()[4 - width..])]);
        lies_between(least, most, (1 << (8 * width)) - 1, of);
    }
}

/// Whom a rule of the device that the answer leaves by hits.
fn at_egress(host: &Host, exprs: Vec<Expr>) -> Hit {
    let mut chain = chain(Hook::Egress, ChainKind::Filter, 0, vec![[exprs, vec![DROP]].concat()]);
    chain.base.as_mut().unwrap().devices.extend(["eth0".into(), "eth1".into()]);
    let table = Table { family: TableFamily::Netdev, ..fixture::table(vec![chain], Vec::new()) };
    host.told(&walk(&fixture::nft(vec![table]), &host.net, &host.path, &[], &Ports::default()))
}

/// linux/if_ether.h: ETH_HLEN is 14. `skb->len` counts the header only where it has been put on: on the way out by the device.
#[test]
fn the_length_of_a_packet_counts_the_ethernet_header_with_which_it_leaves() {
    let length = |op, number: u32| match op {
        // nft compares in the order of the host where it can.
        CmpOp::Eq | CmpOp::Neq => vec![Expr::Meta { dreg: 0, key: MetaKey::Len }, is(op, &number.to_ne_bytes())],
        _ => {
            let to_network = Expr::Byteorder { sreg: 0, dreg: 0, len: 4, size: 4, to_host: false };
            vec![Expr::Meta { dreg: 0, key: MetaKey::Len }, to_network, is(op, &number.to_be_bytes())]
        }
    };
    for (family, least, most) in [(Family::Ipv4, 40, 64), (Family::Ipv6, 60, 84)] {
        let host = host(family);
        for hook in [Hook::Input, Hook::Output] {
            lies_between(least, most, u32::MAX, |op, number| host.hit(hook, length(op, number)));
        }
        lies_between(14 + least, 14 + most, u32::MAX, |op, number| at_egress(&host, length(op, number)));
        let mut tunnel = host.clone();
        let Seen::Present(links) = &mut tunnel.net.links else { unreachable!() };
        links.iter_mut().for_each(|link| link.kind = 65534);
        lies_between(least, most, u32::MAX, |op, number| at_egress(&tunnel, length(op, number)));
    }
}

/// xt_TTL.h: IPT_TTL_EQ 0, NE 1, LT 2, GT 3.
#[test]
fn no_packet_that_arrives_has_a_ttl_of_0() {
    for (mode, value, due) in [
        (0, 0, Nobody),
        (0, 1, Conditional),
        (0, 255, Conditional),
        (1, 0, Everybody),
        (1, 64, Conditional),
        (1, 255, Conditional),
        (2, 0, Nobody),
        (2, 1, Nobody),
        (2, 2, Conditional),
        (3, 0, Everybody),
        (3, 1, Conditional),
        (3, 254, Conditional),
        (3, 255, Nobody),
    ] {
        assert_eq!(v4().xt(Hook::Input, XtMatch::Ttl { mode, value }), due, "{mode} {value}");
    }
}

/// Two bytes of one load: the TTL, and the protocol after it.
#[test]
fn where_a_number_is_at_its_bound_what_comes_after_it_decides() {
    let of = |op, ttl, protocol| v4().hit(Hook::Input, vec![payload(Network, 8, 2), is(op, &[ttl, protocol])]);
    assert_eq!(of(CmpOp::Gte, 1, 6), Everybody);
    assert_eq!(of(CmpOp::Gte, 1, 7), Conditional, "not with a TTL of 1");
    assert_eq!(of(CmpOp::Gte, 0, 7), Everybody);
    assert_eq!(of(CmpOp::Lte, 255, 6), Everybody);
    assert_eq!(of(CmpOp::Lte, 255, 5), Conditional, "not with a TTL of 255");
    assert_eq!(of(CmpOp::Lte, 0, 7), Nobody);
    assert_eq!(of(CmpOp::Lte, 1, 5), Nobody);
    assert_eq!(of(CmpOp::Gte, 255, 7), Nobody);
    // The source comes after it where the protocol and the checksum are left out.
    let source = Expr::Payload { dreg: 4, base: Network, offset: 12, len: 4 };
    let apart = Expr::Payload { dreg: 0, base: Network, offset: 8, len: 1 };
    let both = [1, 0, 0, 0, 10, 0, 0, 0];
    let judged = v4().judged(vec![chain(
        Hook::Input,
        ChainKind::Filter,
        0,
        vec![vec![apart, source, is(CmpOp::Lt, &both), DROP]],
    )]);
    let below_ten = AddrSet::range(Family::Ipv4, 0, 0x09ff_ffff);
    assert_eq!(judged.admitted, below_ten.complement());
    assert_eq!(judged.conditional[0].sources, below_ten);
}

#[test]
fn a_masked_number_is_decided_where_no_bit_of_it_is_left_or_none_can_be_so() {
    let mask = |mask: u8, xor: u8| {
        let op = BitwiseOp::MaskXor { mask: vec![mask].into(), xor: vec![xor].into() };
        Expr::Bitwise { sreg: 0, dreg: 0, len: 1, op }
    };
    let ttl = |bits: &[(u8, u8)], op, number| {
        let bits = bits.iter().map(|&(and, xor)| mask(and, xor));
        v4().hit(Hook::Input, [payload(Network, 8, 1)].into_iter().chain(bits).chain([is(op, &[number])]).collect())
    };
    assert_eq!(ttl(&[(0xf0, 0)], CmpOp::Eq, 0x40), Conditional);
    assert_eq!(ttl(&[(0xf0, 0)], CmpOp::Eq, 0x41), Nobody);
    assert_eq!(ttl(&[(0xf0, 0)], CmpOp::Neq, 0x41), Everybody);
    assert_eq!(ttl(&[(0xf0, 1)], CmpOp::Eq, 0x41), Conditional);
    assert_eq!(ttl(&[(0xf0, 1)], CmpOp::Eq, 0x40), Nobody);
    // Flipped twice it is as it was.
    assert_eq!(ttl(&[(0xff, 0xff), (0xff, 0xff)], CmpOp::Gte, 1), Everybody);
    assert_eq!(ttl(&[(0xff, 0xff), (0xff, 0xff)], CmpOp::Eq, 0), Nobody);
    assert_eq!(ttl(&[(0xf0, 0x0f), (0x0f, 0)], CmpOp::Eq, 0x0f), Everybody);
    assert_eq!(ttl(&[(0xf0, 0x0f), (0x0f, 1)], CmpOp::Eq, 0x0e), Everybody);
    assert_eq!(ttl(&[(0xff, 0x0f), (0xf0, 0)], CmpOp::Eq, 0x40), Conditional);
    assert_eq!(ttl(&[(0xff, 0x0f), (0xf0, 0)], CmpOp::Eq, 0x4f), Nobody);
    assert_eq!(ttl(&[(0xf0, 0), (0x3f, 0)], CmpOp::Eq, 0x30), Conditional);
    assert_eq!(ttl(&[(0xf0, 0), (0x3f, 0)], CmpOp::Eq, 0x40), Nobody);
    let long = BitwiseOp::MaskXor { mask: vec![0xff, 0xf0].into(), xor: vec![0, 0].into() };
    let long = Expr::Bitwise { sreg: 0, dreg: 0, len: 2, op: long };
    let of =
        |number: [u8; 2]| v4().hit(Hook::Input, vec![payload(Network, 2, 2), long.clone(), is(CmpOp::Eq, &number)]);
    assert_eq!(of([0, 0x30]), Conditional);
    assert_eq!(of([0, 0x31]), Nobody);
    // `ip6 version`
    let version = |number: u8| {
        let exprs = vec![payload(Network, 0, 1), mask(0xf0, 0), is(CmpOp::Eq, &[number << 4])];
        host(Family::Ipv6).hit(Hook::Input, exprs)
    };
    assert_eq!(version(6), Everybody);
    assert_eq!(version(4), Nobody);
    let class = vec![payload(Network, 0, 1), is(CmpOp::Eq, &[0x60])];
    assert_eq!(host(Family::Ipv6).hit(Hook::Input, class), Conditional);
}

/// A handshake's packets have no IP options and come whole: clients set DF.
#[test]
fn what_every_packet_of_a_handshake_has_in_its_ip_header_is_decided() {
    for (offset, own, other) in [(0, 0x45, 0x46), (6, 0x40, 0x20), (7, 0, 1), (9, 6, 17)] {
        let of = |byte| v4().hit(Hook::Input, vec![payload(Network, offset, 1), is(CmpOp::Eq, &[byte])]);
        assert_eq!((of(own), of(other)), (Everybody, Nobody), "{offset}");
    }
}

/// Nothing is acknowledged yet; what the client's later packets acknowledge is the kernel's choice.
#[test]
fn a_syn_acknowledges_nothing() {
    let of = |hook, flags: u8, number: u32| {
        let acknowledges = [payload(Transport, 8, 4), is(CmpOp::Eq, &number.to_be_bytes())];
        let flags = [payload(Transport, 13, 1), is(CmpOp::Eq, &[flags])];
        v4().hit(hook, flags.into_iter().chain(acknowledges).collect())
    };
    assert_eq!(of(Hook::Input, 0x02, 0), Everybody);
    assert_eq!(of(Hook::Input, 0x02, 1), Nobody);
    assert_eq!(of(Hook::Input, 0x10, 0), Unknown);
    assert_eq!(of(Hook::Output, 0x12, 0), Unknown);
}

/// xt_u32 matches nothing beyond the packet's end, and whether options follow the 20 bytes of TCP's header is the client's choice.
#[test]
fn u32_knows_nothing_beyond_the_fixed_part_of_the_tcp_header() {
    let of = |host: &Host, start| {
        let test = U32Test { start, steps: Vec::new(), ranges: vec![(0, u32::MAX)] };
        host.xt(Hook::Input, XtMatch::U32 { tests: vec![test], invert: false })
    };
    for (family, end) in [(Family::Ipv4, 40), (Family::Ipv6, 60)] {
        let host = host(family);
        assert_eq!(of(&host, end - 4), Everybody);
        for beyond in [end - 3, end - 1, end, end + 20] {
            assert_eq!(of(&host, beyond), Unknown, "{beyond}");
        }
    }
}
