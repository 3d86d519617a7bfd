//! Named objects, and what hands a packet to somebody else.

use super::*;

/// NFT_OBJECT_*
const COUNTER: u32 = 1;
const QUOTA: u32 = 2;
const LIMIT: u32 = 4;
const CONNLIMIT: u32 = 5;
const SYNPROXY: u32 = 10;

fn object(kind: u32) -> Expr {
    Expr::Objref { kind, name: Some("o".into()), by_map: None }
}

#[test]
fn a_named_object_that_limits_is_a_condition_and_one_that_counts_is_none() {
    for (kind, due) in [(COUNTER, Everybody), (QUOTA, Conditional), (LIMIT, Conditional), (CONNLIMIT, Conditional)] {
        assert_eq!(v4().hit(Hook::Input, vec![object(kind)]), due, "{kind}");
    }
}

/// nft_objref_map_eval: without an object for its key the rule does not match.
#[test]
fn an_object_that_is_found_by_a_key_is_there_for_its_own_keys_alone() {
    let of = |kind, key: [u8; 2]| {
        let element = Element { key: ElementKey::One(key.to_vec().into()), data: None, exprs: Vec::new() };
        let map = Set { is_map: true, object: kind, ..fixture::set("m", 2, vec![element]) };
        let dport = Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 };
        let found = |name: &str| Expr::Objref { kind: 0, name: None, by_map: Some((name.into(), 0)) };
        let judged = |name| {
            let chain = chain(Hook::Input, ChainKind::Filter, 0, vec![vec![dport.clone(), found(name), DROP]]);
            let firewall = fixture::nft(vec![fixture::table(vec![chain], vec![map.clone()])]);
            v4().told(&walk(&firewall, &v4().net, &v4().path, &[], &Ports::default()))
        };
        assert_eq!(judged("gone"), Unknown);
        judged("m")
    };
    let (ssh, http) = ([0, 22], [0, 80]);
    assert_eq!((of(Some(COUNTER), ssh), of(Some(COUNTER), http)), (Everybody, Nobody));
    for kind in [QUOTA, LIMIT, CONNLIMIT] {
        assert_eq!((of(Some(kind), ssh), of(Some(kind), http)), (Conditional, Nobody), "{kind}");
    }
    assert_eq!((of(Some(SYNPROXY), ssh), of(None, ssh)), (Unknown, Unknown));
}

#[test]
fn what_hands_the_packet_to_another_does_not_let_it_in() {
    let at = |hook, expr| v4().hit_of(vec![chain(hook, ChainKind::Filter, -150, vec![vec![expr]])]);
    let tproxy = Expr::Tproxy { family: 2, addr: None, port: None };
    assert_eq!(at(Hook::Prerouting, tproxy), Unknown);
    assert_eq!(at(Hook::Prerouting, Expr::XtTarget(XtTarget::Tproxy { mark: 0, mask: 0, port: 8022 })), Unknown);
    for synproxy in [Expr::Synproxy, object(SYNPROXY), Expr::XtTarget(XtTarget::Synproxy)] {
        assert_eq!(at(Hook::Input, synproxy), Unknown);
    }
    let mut ingress = chain(Hook::Ingress, ChainKind::Filter, 0, vec![vec![Expr::Fwd]]);
    ingress.base.as_mut().unwrap().devices.push("eth0".into());
    let table = Table { family: TableFamily::Netdev, ..fixture::table(vec![ingress], Vec::new()) };
    let judged = walk(&fixture::nft(vec![table]), &v4().net, &v4().path, &[], &Ports::default());
    assert!(judged.blocked_sources().is_full());
    assert_eq!(judged.blocked[0].symptom, Symptom::TimedOut);
}
