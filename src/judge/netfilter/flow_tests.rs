//! Forks of the walk that have come to the same are one again.

use super::forms_tests::{chain, immediate, v4};
use crate::facts::*;
use crate::judge::fixture::{self, nft};

/// More than the walk would keep apart.
const MANY: u8 = 255;

fn client(last: u8) -> Vec<u8> {
    vec![10, 0, last / 128, last]
}

fn source() -> Expr {
    Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 }
}

fn called(rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: "called".into(), base: None, ..fixture::filter(Hook::Input, Policy::Accept, rules) }
}

fn admits_all(rules: Vec<Vec<Expr>>, called: Chain, sets: Vec<Set>) -> bool {
    let base = chain(Hook::Input, ChainKind::Filter, 0, rules);
    let (host, table) = (v4(), fixture::table(vec![base, called], sets));
    super::walk(&nft(vec![table]), &host.net, &host.path, &[], &super::Ports::default()).admitted.is_full()
}

#[test]
fn clients_that_come_back_from_a_call_as_they_were_go_on_with_all_others() {
    let call = Expr::Verdict(Verdict::Jump("called".into()));
    let of = |last| vec![source(), Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: client(last).into() }, call.clone()];
    let twice = (0..MANY).chain(0..MANY).map(of).collect();
    assert!(admits_all(twice, called(vec![vec![Expr::Counter]]), Vec::new()));
}

#[test]
fn clients_that_a_map_sends_to_the_same_rules_come_back_together() {
    let element = |n: u16| Element {
        key: ElementKey::One([&[10, 0], &n.to_be_bytes()[..]].concat().into()),
        data: Some(ElementData::Verdict(Verdict::Jump("called".into()))),
        exprs: Vec::new(),
    };
    let map = Set { is_map: true, ..fixture::set("m", 4, (0..2 * u16::from(MANY)).map(element).collect()) };
    let marks = vec![immediate(0, &[1, 0, 0, 0]), Expr::MetaSet { sreg: 0, key: MetaKey::Mark }];
    let look = vec![source(), Expr::Lookup { set: "m".into(), sreg: 0, dreg: Some(None), negate: false }];
    assert!(admits_all(vec![look], called(vec![marks]), vec![map]));
}
