//! Sets of nf_tables, and what their elements say beside their keys.

use super::*;

const DPORT: Expr = Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 };
const SSH: [u8; 2] = [0, 22];

fn element(key: &[u8], exprs: &[Expr]) -> Element {
    Element { key: ElementKey::One(key.to_vec().into()), data: None, exprs: exprs.to_vec() }
}

fn source(len: u32) -> Expr {
    Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len }
}

fn within(set: &str) -> Expr {
    Expr::Lookup { set: set.into(), sreg: 0, dreg: None, negate: false }
}

fn judged(host: &Host, chains: Vec<Chain>, sets: Vec<Set>) -> PathVerdict {
    let firewall = fixture::nft(vec![fixture::table(chains, sets)]);
    walk(&firewall, &host.net, &host.path, &[], &Ports::default())
}

fn drops(load: Expr, set: &str) -> Vec<Chain> {
    vec![chain(Hook::Input, ChainKind::Filter, 0, vec![vec![load, within(set), DROP]])]
}

#[test]
fn an_element_with_a_limit_of_its_own_holds_on_a_condition_and_one_that_counts_surely() {
    let limit = Expr::Limit { over: false, text: "3/minute burst 5 packets".into() };
    let one = |n: u8| AddrSet::single(ip(&format!("10.0.0.{n}")));
    let elements =
        vec![element(&[10, 0, 0, 1], std::slice::from_ref(&limit)), element(&[10, 0, 0, 2], &[Expr::Counter])];
    let found = judged(&v4(), drops(source(4), "s"), vec![fixture::set("s", 4, elements)]);
    assert_eq!(found.conditional[0].sources, one(1));
    assert_eq!(found.blocked_sources(), one(2));
    assert_eq!(found.admitted, one(1).union(&one(2)).complement());
    for (exprs, due) in [(vec![limit], Conditional), (vec![Expr::Counter, Expr::Last], Everybody)] {
        let set = fixture::set("s", 2, vec![element(&SSH, &exprs)]);
        assert_eq!(v4().told(&judged(&v4(), drops(DPORT, "s"), vec![set])), due);
    }
}

#[test]
fn a_set_of_prefixes_is_looked_up_by_as_many_bytes_of_the_source() {
    let set = fixture::set("s", 2, vec![element(&[10, 1], &[])]);
    let hit = v4().told(&judged(&v4(), drops(source(2), "s"), vec![set]));
    assert_eq!(hit, Hit::Some(AddrSet::net("10.1.0.0/16".parse().unwrap())));
}

/// nft_pipapo: each field lies in a range of its own, whatever is in the registers.
#[test]
fn a_concatenation_is_compared_field_by_field_where_the_key_is_a_source() {
    let host = host(Family::Ipv6);
    let load = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 8, len: 16 };
    let eight = |first: u8, rest: u8| [vec![first], vec![rest; 7]].concat();
    let halves = |low: (u8, u8)| {
        let from = [eight(0x20, 0), eight(low.0, low.0)].concat();
        let to = [eight(0x20, 0xff), eight(low.1, low.1)].concat();
        let key = ElementKey::Range(from.into(), to.into());
        let set = fixture::set("s", 16, vec![Element { key, data: None, exprs: Vec::new() }]);
        let set = Set { fields: vec![8, 8], is_interval: true, ..set };
        judged(&host, drops(load.clone(), "s"), vec![set])
    };
    let net = AddrSet::net("2000::/8".parse().unwrap());
    // Of all whose first half lies in the range the second half would have to be zero.
    let found = halves((0, 0));
    assert!(found.blocked.is_empty(), "{found:?}");
    assert_eq!(found.unknown[0].sources, net);
    assert_eq!(found.admitted, net.complement());
}

#[test]
fn a_set_that_the_connection_has_been_added_to_may_hold_it() {
    let add = |set: &str| {
        let add = Expr::Dynset { set: set.into(), key: 0, data: None, op: 0, negate: false, exprs: Vec::new() };
        vec![DPORT, add]
    };
    let sets = || vec![fixture::set("o", 2, vec![element(&SSH, &[])]), fixture::set("s", 2, vec![])];
    let after = |looked: &str| {
        let rules = vec![add("s"), vec![DPORT, within(looked), DROP]];
        judged(&v4(), vec![chain(Hook::Input, ChainKind::Filter, 0, rules)], sets())
    };
    let own = after("s");
    assert_eq!(v4().told(&own), Conditional);
    assert_eq!(own.conditional[0].reason, "set s was changed by this connection's own packets");
    assert_eq!(v4().told(&after("o")), Everybody, "another set");
    let adds = chain(Hook::Input, ChainKind::Filter, -1, vec![add("s")]);
    let host = v4();
    let mut other = fixture::table(drops(DPORT, "s"), vec![fixture::set("s", 2, vec![element(&SSH, &[])])]);
    other.name = "u".into();
    let firewall = fixture::nft(vec![fixture::table(vec![adds], sets()), other]);
    let found = walk(&firewall, &host.net, &host.path, &[], &Ports::default());
    assert_eq!(host.told(&found), Everybody, "a set of the same name in another table");
}
