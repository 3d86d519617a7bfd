//! What rules change, lead elsewhere, or refuse.

use super::*;

#[test]
fn what_decides_nothing_raises_no_doubt() {
    let limit = Expr::Limit { over: false, text: "3/minute".into() };
    let nothing = [
        Expr::Counter,
        Expr::Last,
        Expr::Dup,
        Expr::Log { prefix: String::new() },
        Expr::FlowOffload { table: "f".into() },
        Expr::MetaSet { sreg: 0, key: MetaKey::Priority },
        Expr::CtSet { sreg: 0, key: CtKey::Labels, dir: None },
        Expr::Objref { kind: 1, name: Some("c".into()), by_map: None },
        Expr::XtTarget(XtTarget::Continue),
        Expr::XtTarget(XtTarget::Harmless { name: "TOS".into() }),
        Expr::Verdict(Verdict::Continue),
    ];
    for expr in nothing {
        let rules = vec![vec![limit.clone(), expr.clone()]];
        assert_eq!(v4().hit_of(vec![chain(Hook::Input, ChainKind::Filter, 0, rules)]), Nobody, "{expr:?}");
        assert_eq!(v4().hit(Hook::Input, vec![expr.clone()]), Everybody, "{expr:?}");
    }
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Verdict(Verdict::Break)]), Nobody);
    let marks = vec![limit, immediate(0, &[1, 0, 0, 0]), Expr::MetaSet { sreg: 0, key: MetaKey::Mark }];
    assert_eq!(v4().then(Hook::Input, vec![marks], meta(MetaKey::Mark, &[1, 0, 0, 0])), Conditional);
}

fn set_payload(base: PayloadBase, offset: u32, data: &[u8]) -> Vec<Expr> {
    vec![immediate(0, data), Expr::PayloadSet { sreg: 0, base, offset, len: data.len() as u32 }]
}

#[test]
fn a_statement_that_rewrites_what_no_rule_knows_by_is_harmless() {
    use PayloadBase::{Network, Transport};
    let left = |host: &Host, hook, base, offset, data: &[u8]| {
        host.hit_of(vec![chain(hook, ChainKind::Filter, 0, vec![set_payload(base, offset, data)])])
    };
    let mut host = v4();
    host.path.port = 2222;
    let own = [192, 0, 2, 10];
    for (offset, data, due) in [
        (1, &[0u8][..], Nobody),
        (8, &[64][..], Nobody),
        (10, &[0, 0][..], Nobody),
        (8, &[0; 4][..], Nobody),
        (10, &[0; 3][..], Unknown),
        (12, &[10, 0, 0, 1][..], Unknown),
        (15, &[1][..], Unknown),
        (16, &own[..], Nobody),
        (16, &[192, 0][..], Unknown),
        (17, &[0; 4][..], Unknown),
        (19, &[10][..], Unknown),
        // To nobody here.
        (16, &[198, 51, 100, 7][..], Everybody),
    ] {
        assert_eq!(left(&host, Hook::Prerouting, Network, offset, data), due, "network {offset} {data:?}");
    }
    for (offset, data, due) in [
        (0, &[0x90, 0][..], Unknown),
        (1, &[0][..], Unknown),
        (2, &[0x08, 0xae][..], Nobody),
        (2, &[0x08][..], Unknown),
        (2, &[0; 4][..], Unknown),
        (3, &[0xae][..], Unknown),
        (4, &[0; 4][..], Nobody),
        (12, &[0x50][..], Nobody),
        (12, &[0x50, 0][..], Unknown),
        (13, &[0x10][..], Unknown),
        (14, &[1, 0][..], Nobody),
        // Nobody listens there.
        (2, &[0x08, 0xaf][..], Everybody),
    ] {
        assert_eq!(left(&host, Hook::Prerouting, Transport, offset, data), due, "transport {offset} {data:?}");
    }
    // Outwards the host's end is the other one.
    assert_eq!(left(&host, Hook::Output, Network, 12, &own), Nobody);
    assert_eq!(left(&host, Hook::Output, Network, 12, &[192, 0, 2, 11]), Everybody);
    assert_eq!(left(&host, Hook::Output, Network, 16, &own), Unknown);
    assert_eq!(left(&host, Hook::Output, Transport, 0, &[0x08, 0xae]), Nobody);
    assert_eq!(left(&host, Hook::Output, Transport, 0, &[0x08, 0xaf]), Everybody);
    assert_eq!(left(&host, Hook::Output, Transport, 2, &[0x08, 0xae]), Unknown);
    let six = self::host(Family::Ipv6);
    let own = number(six.path.address).to_be_bytes();
    for (offset, data, due) in [
        (0, &[0x60][..], Nobody),
        (4, &[0, 20, 6, 64][..], Nobody),
        (7, &[64, 0x20][..], Unknown),
        (8, &own[..], Unknown),
        (24, &own[..], Nobody),
        (39, &[0x10][..], Unknown),
    ] {
        assert_eq!(left(&six, Hook::Prerouting, Network, offset, data), due, "IPv6 {offset} {data:?}");
    }
}

#[test]
fn nat_to_one_place_leads_there_and_to_several_is_open() {
    let own = [192, 0, 2, 10];
    let nat = |nfproto, max: [u8; 4], ports: (u16, u16)| {
        let exprs = vec![
            immediate(0, &own),
            immediate(4, &max),
            immediate(8, &ports.0.to_be_bytes()),
            immediate(12, &ports.1.to_be_bytes()),
            Expr::Nat(Nat {
                kind: NatKind::Dnat,
                addr_min: Some(0),
                addr_max: Some(4),
                port_min: Some(8),
                port_max: Some(12),
                nfproto,
                flags: 0,
            }),
        ];
        v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![exprs])])
    };
    assert_eq!(nat(2, own, (22, 22)), Nobody);
    assert_eq!(nat(2, own, (8022, 8022)), Everybody);
    assert_eq!(nat(2, own, (22, 23)), Unknown);
    assert_eq!(nat(2, [192, 0, 2, 11], (22, 22)), Unknown);
    // What is meant for IPv6 passes by.
    assert_eq!(nat(10, own, (8022, 8022)), Nobody);
    let legacy =
        |target| v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![Expr::XtTarget(target)]])]);
    let to = |a: u128, b: u128, ports| XtTarget::Nat {
        kind: NatKind::Dnat,
        addresses: Some(Box::new((a, b))),
        ports: Some(ports),
        flags: 0,
    };
    let here = 0xc000_020a;
    assert_eq!(legacy(to(here, here, (22, 22))), Nobody);
    assert_eq!(legacy(to(here, here + 1, (22, 22))), Unknown);
    assert_eq!(legacy(to(here, here, (22, 23))), Unknown);
    // NETMAP keeps the bits outside the mask.
    let netmap = |address| XtTarget::Netmap { to: Box::new((address, 0xffff_ff00)), kind: NatKind::Dnat };
    assert_eq!(legacy(netmap(0xc000_0200)), Nobody);
    assert_eq!(legacy(netmap(0xcb00_7100)), Everybody);
}

/// nf_nat_redirect.c: IPv4 takes the interface's first address.
#[test]
fn redirect_leads_to_the_first_address_of_the_interface() {
    for family in Family::BOTH {
        let mut host = host(family);
        let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
        let own = addresses.iter().find(|a| a.address == host.path.address).unwrap().clone();
        let first = ip(if family == Family::Ipv4 { "192.0.2.9" } else { "2001:db8::9" });
        addresses.insert(0, Address { address: first, ..own });
        let redirect =
            Expr::XtTarget(XtTarget::Nat { kind: NatKind::Redirect, addresses: None, ports: None, flags: 0 });
        let is_first = Masked { address: number(first), mask: family.max(), invert: false };
        let header = XtHeader { dst: is_first, ..XtHeader::default() };
        let drop = vec![Expr::XtMatch(XtMatch::Header(Box::new(header))), DROP];
        let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![redirect]]);
        let filter = chain(Hook::Input, ChainKind::Filter, 0, vec![drop]);
        // Of several IPv6 addresses the one asked for is as good.
        assert_eq!(host.hit_of(vec![nat, filter]), if family == Family::Ipv4 { Everybody } else { Nobody });
    }
}

#[test]
fn marks_of_a_packet_before_it_is_tracked_are_its_own() {
    let raw = |targets: Vec<XtTarget>, fits: u32| {
        let rules: Vec<_> = targets.into_iter().map(|target| vec![Expr::XtTarget(target)]).collect();
        let last = [meta_number(MetaKey::Mark, fits), vec![DROP]].concat();
        v4().hit_of(vec![
            chain(Hook::Prerouting, ChainKind::Filter, -300, rules),
            chain(Hook::Prerouting, ChainKind::Filter, -150, vec![last]),
        ])
    };
    let mark = |mark| XtTarget::Mark { mark, mask: u32::MAX };
    let zone = XtTarget::Ct { notrack: false, zone: 1, helper: None };
    let connmark = |mode, nfmask| XtTarget::Connmark { mode, ctmark: 1, ctmask: u32::MAX, nfmask };
    // Nothing is restored from a template, but the bits of the mask are cleared.
    assert_eq!(raw(vec![mark(0xff), zone.clone(), connmark(ConnmarkMode::Restore, 0x0f)], 0xf0), Everybody);
    assert_eq!(raw(vec![zone, connmark(ConnmarkMode::Set, u32::MAX)], 1), Unknown);
    let notrack = XtTarget::Ct { notrack: true, zone: 0, helper: None };
    let restored =
        vec![notrack, mark(5), connmark(ConnmarkMode::Set, u32::MAX), connmark(ConnmarkMode::Restore, u32::MAX)];
    assert_eq!(raw(restored, 5), Everybody);
}

#[test]
fn what_a_program_or_a_zone_of_one_way_decides_is_open() {
    let in_raw = |exprs: Vec<Expr>| v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Filter, -300, vec![exprs])]);
    assert_eq!(in_raw(vec![Expr::Queue]), Unknown);
    let zone = |dir| vec![immediate(0, &[1, 0]), Expr::CtSet { sreg: 0, key: CtKey::Zone, dir }];
    assert_eq!(in_raw(zone(Some(CtDir::Original))), Unknown);
    let add = |expr| Expr::Dynset { set: "s".into(), key: 0, data: None, op: 0, negate: false, exprs: vec![expr] };
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Counter)]), Everybody);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Last)]), Everybody);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Queue)]), Unknown);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Limit { over: false, text: String::new() })]), Conditional);
}

#[test]
fn what_refuses_the_last_packet_closes_the_connection_or_leaves_it_silent() {
    const ESTABLISHED: u32 = 2;
    let symptom = |with, state: u32| {
        let rule = vec![
            Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: state.to_ne_bytes().as_slice().into() },
            Expr::Reject(with),
        ];
        let judged = v4().judged(vec![chain(Hook::Input, ChainKind::Filter, 0, vec![rule, vec![ACCEPT]])]);
        assert!(judged.blocked_sources().is_full());
        judged.blocked[0].symptom
    };
    assert_eq!(symptom(RejectWith::TcpReset, 8), Symptom::Refused);
    assert_eq!(symptom(RejectWith::TcpReset, ESTABLISHED), Symptom::Closed);
    assert_eq!(symptom(RejectWith::Icmp(3), ESTABLISHED), Symptom::NoBanner);
}

/// xt_mark.c and xt_connmark.c: `(old & ~mask) ^ new`, so that bits outside the mask are flipped.
#[test]
fn marks_are_set_saved_and_restored_by_their_masks() {
    let of = |targets: &[XtTarget], fits: Vec<Expr>| {
        let rules = targets.iter().map(|target| vec![Expr::XtTarget(target.clone())]).collect();
        v4().then(Hook::Input, rules, fits)
    };
    let mark = |mark, mask| XtTarget::Mark { mark, mask };
    let connmark = |mode, ctmark, ctmask, nfmask| XtTarget::Connmark { mode, ctmark, ctmask, nfmask };
    let is = |value| meta_number(MetaKey::Mark, value);
    let flow = |value: u32| {
        let data = value.to_ne_bytes().to_vec();
        vec![Expr::Ct { dreg: 0, key: CtKey::Mark, dir: None }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }]
    };
    let all = u32::MAX;
    assert_eq!(of(&[mark(0b1111, all), mark(0b0110, 0b0011)], is(0b1010)), Everybody);
    let own = connmark(ConnmarkMode::Set, 0b1111, all, 0);
    assert_eq!(of(&[own.clone(), connmark(ConnmarkMode::Set, 0b0110, 0b0011, 0)], flow(0b1010)), Everybody);
    let save = connmark(ConnmarkMode::Save, 0, 0b0011, 0b0111);
    assert_eq!(of(&[own.clone(), mark(0b1_0110, all), save], flow(0b1010)), Everybody);
    let restore = connmark(ConnmarkMode::Restore, 0, 0b0110, 0b0011);
    assert_eq!(of(&[own, mark(0b1111, all), restore], is(0b1010)), Everybody);
}
