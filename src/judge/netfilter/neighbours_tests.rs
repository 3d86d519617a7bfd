//! What rules see of a neighbour's question and of the answer to it.

use super::forms_tests::{ACCEPT, DROP, Host, chain, host, meta};
use super::{Rules, asker, trace_neighbour};
use crate::facts::*;
use crate::judge::fixture::{self, ip, nft};

/// The address that asks for the host's own, and for all whose last three bytes are the same (RFC 4291 2.7.1).
const SOLICITED: &str = "ff02::1:ff00:10";
const NEIGHBOUR: &str = "2001:db8::77";

fn on_a_link() -> Host {
    let mut host = host(Family::Ipv6);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links.iter_mut().for_each(|link| link.arp = true);
    host
}

fn firewall(hook: Hook, rules: Vec<Vec<Expr>>) -> Firewall {
    nft(vec![fixture::table(vec![chain(hook, ChainKind::Filter, 0, rules)], Vec::new())])
}

/// Whether neither way to ask is answered.
fn lost(hook: Hook, rules: Vec<Vec<Expr>>) -> bool {
    let (host, firewall) = (on_a_link(), firewall(hook, rules));
    Rules::of(&firewall).neighbours(&host.net, &host.path).lost.is_some()
}

fn to(address: &str, then: &[Expr]) -> Vec<Expr> {
    let data = number(ip(address)).to_be_bytes().to_vec();
    let load = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 24, len: 16 };
    [&[load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }], then].concat()
}

#[test]
fn a_question_is_sent_to_many_or_to_the_host_alone() {
    // PACKET_HOST and PACKET_MULTICAST
    let of_kind = |kind: u8| [meta(MetaKey::PktType, &[kind]), vec![DROP]].concat();
    let (alone, many) = (to(fixture::V6, &[DROP]), to(SOLICITED, &[DROP]));
    assert!(lost(Hook::Input, vec![alone.clone(), many.clone()]));
    assert!(!lost(Hook::Input, vec![alone.clone()]));
    assert!(!lost(Hook::Input, vec![many.clone()]));
    assert!(lost(Hook::Input, vec![alone.clone(), of_kind(2)]));
    assert!(lost(Hook::Input, vec![many.clone(), of_kind(0)]));
    assert!(!lost(Hook::Input, vec![alone, of_kind(0)]));
    assert!(!lost(Hook::Input, vec![many, of_kind(2)]));
    assert!(lost(Hook::Output, vec![of_kind(0)]), "the answer is sent to one");
}

#[test]
fn the_answer_leaves_by_the_link_and_comes_from_none() {
    let mut name = b"eth0".to_vec();
    name.resize(16, 0);
    let by = |hook, key| lost(hook, vec![[meta(key, &name), vec![DROP]].concat()]);
    assert!(by(Hook::Input, MetaKey::IifName));
    assert!(!by(Hook::Input, MetaKey::OifName));
    assert!(!by(Hook::Output, MetaKey::IifName));
    assert!(by(Hook::Output, MetaKey::OifName));
}

/// The way that leads further is told; if none does, that of the question to many, which comes first.
#[test]
fn of_the_two_ways_to_ask_the_one_that_leads_further_is_told() {
    let told = |rules: Vec<Vec<Expr>>| {
        let (host, firewall) = (on_a_link(), firewall(Hook::Input, rules));
        let (met, verdict) = trace_neighbour(&firewall, &host.net, &host.path, ip(NEIGHBOUR)).unwrap();
        (met.last().unwrap().position, verdict.admitted.contains(ip(NEIGHBOUR)))
    };
    let slowly = [Expr::Limit { over: false, text: "5/second".into() }, ACCEPT];
    assert_eq!(told(vec![to(SOLICITED, &[DROP]), to(fixture::V6, &[ACCEPT])]), (Some(2), true));
    assert_eq!(told(vec![to(SOLICITED, &[ACCEPT]), to(fixture::V6, &[DROP])]), (Some(1), true));
    assert_eq!(told(vec![to(SOLICITED, &[ACCEPT]), to(fixture::V6, &[ACCEPT])]), (Some(1), true));
    assert_eq!(told(vec![to(SOLICITED, &[DROP]), to(fixture::V6, &[DROP])]), (Some(1), false));
    let doubtful = vec![to(SOLICITED, &[DROP]), to(fixture::V6, &slowly), vec![DROP]];
    assert_eq!(told(doubtful), (Some(3), false));
    let doubtful = vec![to(fixture::V6, &[DROP]), to(SOLICITED, &slowly), vec![Expr::Counter], vec![DROP]];
    assert_eq!(told(doubtful), (Some(4), false));
}

/// RFC 4291 2.5.6: fe80::/10.
#[test]
fn whoever_is_on_the_link_asks_itself_and_a_router_for_all_others() {
    let host = on_a_link();
    let asks_itself = |source: &str| asker(&host.net, &host.path, ip(source)) == ip(source);
    for source in ["fe80::", "fe80::5", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff", NEIGHBOUR] {
        assert!(asks_itself(source), "{source}");
    }
    for source in ["fe7f::1", "fec0::", "fec0::1", "2001:db8:0:1::77", "ff02::1"] {
        assert!(!asks_itself(source), "{source}");
    }
    assert_eq!(asker(&host.net, &host.path, ip("2001:db8:ffff::1")), ip("fe80::1"));
}
