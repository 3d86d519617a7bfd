//! What is asked of all rules of a firewall at once.

use super::Rules;
use super::forms_tests::Hit::{Everybody, Nobody};
use super::forms_tests::{DROP, chain, v4};
use crate::facts::*;
use crate::judge::fixture::{self, nft};

/// nat's chains see the flows of connection tracking: of packets that nobody asked it to track they see nothing. The kernel's
/// callers of `nf_ct_netns_get`; it is enough that such a rule is there, in a chain that nobody calls.
#[test]
fn nat_sees_packets_where_some_rule_needs_connection_tracking() {
    let rate = |name: &str| Expr::XtMatch(XtMatch::Rate { name: name.into(), text: String::new() });
    let history = |name: &str| Expr::XtMatch(XtMatch::History { name: name.into(), text: String::new() });
    let absent = |name: &str| Expr::XtMatch(XtMatch::AbsentHeader { name: name.into(), invert: false });
    let strange = || XtMatch::Unknown { name: "strange".into() };
    let target = Expr::XtTarget;
    let ct = |notrack| XtTarget::Ct { notrack, zone: 0, helper: None };
    let fill = |expr| Expr::Dynset { set: "s".into(), key: 0, data: None, op: 0, negate: false, exprs: vec![expr] };
    let count = Expr::Connlimit { over: false, count: 9 };
    let nat = Nat {
        kind: NatKind::Masquerade,
        addr_min: None,
        addr_max: None,
        port_min: None,
        port_max: None,
        nfproto: 2,
        flags: 0,
    };
    let to = Box::new((0, 0));
    let connmark = XtTarget::Connmark { mode: ConnmarkMode::Set, ctmark: 1, ctmask: 1, nfmask: 1 };
    let need = [
        Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
        Expr::CtSet { sreg: 0, key: CtKey::Mark, dir: None },
        count.clone(),
        Expr::Nat(nat),
        Expr::Synproxy,
        Expr::FlowOffload { table: "f".into() },
        Expr::Objref { kind: 3, name: Some("helper".into()), by_map: None },
        fill(count),
        Expr::XtMatch(XtMatch::Conntrack(Box::default())),
        Expr::XtMatch(XtMatch::Connmark { mark: 1, mask: 1, invert: false }),
        rate("connbytes"),
        history("connlimit"),
        absent("helper"),
        Expr::XtMatch(strange()),
        target(connmark),
        target(XtTarget::Nat { kind: NatKind::Masquerade, addresses: None, ports: None, flags: 0 }),
        target(XtTarget::Netmap { to, kind: NatKind::Dnat }),
        target(XtTarget::Synproxy),
        target(ct(false)),
        target(XtTarget::Unknown { name: "STRANGE".into() }),
        Expr::Unknown { name: "strange".into() },
    ];
    let none = [
        Expr::Counter,
        Expr::Notrack,
        fill(Expr::Counter),
        rate("limit"),
        history("recent"),
        absent("hbh"),
        Expr::XtMatch(XtMatch::Comment("a".into())),
        target(ct(true)),
        target(XtTarget::Mark { mark: 1, mask: 1 }),
    ];
    let seen = |expr: &Expr| {
        let aside = fixture::filter(Hook::Input, Policy::Accept, vec![vec![expr.clone()]]);
        let aside = Chain { name: "aside".into(), base: None, ..aside };
        v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![DROP]]), aside])
    };
    for expr in &need {
        assert_eq!(seen(expr), Everybody, "{expr:?}");
    }
    for expr in &none {
        assert_eq!(seen(expr), Nobody, "{expr:?}");
    }
}

#[test]
fn rules_are_counted_over_all_chains_of_all_tables() {
    let of = |rules: usize| fixture::filter(Hook::Input, Policy::Accept, vec![vec![Expr::Counter]; rules]);
    let firewall = nft(vec![
        fixture::table(vec![of(2), of(0), of(3)], Vec::new()),
        Table { name: "other".into(), ..fixture::table(vec![of(1)], Vec::new()) },
    ]);
    assert_eq!(Rules::of(&firewall).count(), 6);
    assert_eq!(Rules::of(&Firewall::none()).count(), 0);
}
