//! What rules find in a neighbour's question, and in its answer.

use super::*;

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Whom a rule keeps from finding the host that drops what it matches.
fn lost(hook: Hook, exprs: Vec<Expr>) -> Hit {
    let mut host = host(Family::Ipv6);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    (links[0].arp, links[0].mac) = (true, Some(OWN));
    let chain = chain(hook, ChainKind::Filter, 0, vec![[exprs, vec![DROP]].concat()]);
    let firewall = fixture::nft(vec![fixture::table(vec![chain], Vec::new())]);
    let found = Rules::of(&firewall).neighbours(&host.net, &host.path);
    assert!(found.lost.is_none() || found.doubtful.is_empty());
    match (found.lost.is_some(), found.doubtful.iter().any(|d| d.unknown)) {
        (true, _) => Everybody,
        (false, true) => Unknown,
        (false, false) => Nobody,
    }
}

/// RFC 4861 7.1: a neighbour's question has a hop limit of 255; it is no TCP, and is not tracked.
#[test]
fn matches_on_a_neighbours_question_know_what_is_in_it() {
    let input = |found| lost(Hook::Input, vec![Expr::XtMatch(found)]);
    // IPT_TTL_EQ 0, NE 1, LT 2, GT 3
    for (mode, value, due) in [
        (0, 255, Everybody),
        (0, 64, Nobody),
        (1, 255, Nobody),
        (1, 64, Everybody),
        (2, 255, Nobody),
        (2, 64, Nobody),
        (3, 254, Everybody),
        (3, 255, Nobody),
    ] {
        assert_eq!(input(XtMatch::Ttl { mode, value }), due, "{mode} {value}");
    }
    let multiport = XtMatch::Multiport { which: MultiportWhich::Source, ports: vec![(22, 22)], invert: true };
    assert_eq!(input(multiport), Nobody);
    assert_eq!(input(XtMatch::Tcpmss { min: 0, max: 1, invert: true }), Nobody);
    let hops = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 7, len: 1 };
    let is = |data: u8| Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![data].into() };
    assert_eq!(lost(Hook::Input, vec![hops.clone(), is(255)]), Everybody);
    assert_eq!(lost(Hook::Input, vec![hops, is(64)]), Nobody);
    let next = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 6, len: 1 };
    assert_eq!(lost(Hook::Input, vec![next, is(58)]), Everybody);
    let owner = XtMatch::Owner { text: String::new(), uid: Some((0, 0, false)), gid: None, socket: None };
    assert_eq!(lost(Hook::Output, vec![Expr::XtMatch(owner)]), Unknown);
    assert_eq!(lost(Hook::Output, meta_number(MetaKey::SkUid, 0)), Unknown);
}

/// xt_icmp6: the type, and a range of codes; both messages have the code 0 (RFC 4861 4.3 and 4.4).
#[test]
fn a_neighbours_question_and_the_answer_to_it_have_a_type_of_their_own() {
    let icmp6 = |hook, kind, codes, invert| lost(hook, vec![Expr::XtMatch(XtMatch::Icmp6 { kind, codes, invert })]);
    for (hook, own, other) in [(Hook::Input, 135, 136), (Hook::Output, 136, 135)] {
        assert_eq!(icmp6(hook, own, (0, 255), false), Everybody);
        assert_eq!(icmp6(hook, own, (0, 255), true), Nobody);
        assert_eq!(icmp6(hook, own, (1, 255), false), Nobody);
        assert_eq!(icmp6(hook, own, (1, 255), true), Everybody);
        assert_eq!(icmp6(hook, other, (0, 255), false), Nobody);
        assert_eq!(icmp6(hook, other, (0, 255), true), Everybody);
    }
}

/// The first question goes to a multicast address of the link (RFC 2464 7), a later one to the interface's own.
#[test]
fn not_every_question_is_sent_to_the_interfaces_own_link_layer_address() {
    let load = Expr::Payload { dreg: 0, base: PayloadBase::Link, offset: 0, len: 6 };
    let to = |op| lost(Hook::Input, vec![load.clone(), Expr::Cmp { sreg: 0, op, data: OWN.to_vec().into() }]);
    assert_eq!(to(CmpOp::Eq), Unknown);
    assert_eq!(to(CmpOp::Neq), Nobody, "one that has found it before is answered");
}
