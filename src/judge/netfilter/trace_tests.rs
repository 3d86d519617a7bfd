//! What `explain` tells of a packet's way.

use super::forms_tests::{ACCEPT, DROP, chain, v4};
use super::{Met, Ports, named, trace};
use crate::facts::*;
use crate::judge::fixture::{self, ip, nft};

fn called(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), base: None, ..fixture::filter(Hook::Input, Policy::Accept, rules) }
}

/// What the client 10.0.0.1 meets with its first packet.
fn met(firewall: &Firewall) -> Vec<Met> {
    let host = v4();
    let (met, _) = trace(firewall, &host.net, &host.path, &[], &Ports::default(), ip("10.0.0.1"));
    met.into_iter().take_while(|met| met.packet == "syn").collect()
}

/// Chain, how deep, rule, what it does, and whether it is met is in doubt.
fn lines(met: &[Met]) -> Vec<(&str, usize, Option<usize>, &str, bool)> {
    met.iter().map(|m| (m.chain.as_str(), m.depth, m.position, m.deed.as_str(), m.maybe)).collect()
}

#[test]
fn a_way_is_told_rule_by_rule_and_call_by_call() {
    let jump = |name: &str| Expr::Verdict(Verdict::Jump(name.into()));
    let base = chain(Hook::Input, ChainKind::Filter, 0, vec![vec![Expr::Counter], vec![jump("a")]]);
    let rules = vec![called("a", vec![vec![jump("b")], vec![ACCEPT]]), called("b", vec![vec![Expr::Counter]])];
    let firewall = nft(vec![fixture::table([vec![base], rules].concat(), Vec::new())]);
    let told = met(&firewall);
    let name = "Input 0";
    let due = [
        (name, 0, Some(1), "goes on", false),
        (name, 0, Some(2), "jump a", false),
        ("a", 1, Some(1), "jump b", false),
        ("b", 2, Some(1), "goes on", false),
        ("a", 1, Some(2), "accept", false),
    ];
    assert_eq!(lines(&told), due);
    assert!(told.iter().all(|m| m.table == "inet t" && m.hook == Some(Hook::Input)), "{told:?}");
}

#[test]
fn what_may_be_met_is_told_apart_from_what_surely_is() {
    let limit = Expr::Limit { over: false, text: "3/minute".into() };
    let miss =
        vec![Expr::Meta { dreg: 0, key: MetaKey::Mark }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![1; 4].into() }];
    let rules = vec![vec![limit.clone(), Expr::Counter], miss, vec![Expr::Counter], vec![limit, ACCEPT], vec![DROP]];
    let told = met(&nft(vec![fixture::table(vec![chain(Hook::Input, ChainKind::Filter, 0, rules)], Vec::new())]));
    let name = "Input 0";
    let due = [
        (name, 0, Some(1), "goes on", true),
        (name, 0, Some(3), "goes on", false),
        (name, 0, Some(4), "accept", true),
        (name, 0, Some(5), "drop", true),
    ];
    assert_eq!(lines(&told), due);
}

#[test]
fn a_table_of_legacy_is_named_as_one() {
    let table = fixture::table(Vec::new(), Vec::new());
    assert_eq!(named(&table), "inet t");
    let legacy = Table { backend: Backend::Legacy, family: TableFamily::Ip, name: "filter".into(), ..table };
    assert_eq!(named(&legacy), "ip filter (iptables-legacy)");
}
