//! Possibilities that are kept apart, and who is blamed for what comes of them.

use super::super::act::NESTED;
use super::*;

fn limit(text: &str) -> Expr {
    Expr::Limit { over: false, text: text.into() }
}

fn mark(mark: u32, mask: u32) -> Expr {
    Expr::XtTarget(XtTarget::Mark { mark, mask })
}

/// The source lies in this net.
fn from(net: &str) -> Expr {
    let (first, last) = AddrSet::net(net.parse().unwrap()).ranges().next().unwrap();
    of_range(first, last)
}

fn of_range(first: u128, last: u128) -> Expr {
    Expr::XtMatch(XtMatch::Iprange(Box::new(Iprange { src: Some((first, last, false)), dst: None })))
}

fn jump(chain: &str) -> Expr {
    Expr::Verdict(Verdict::Jump(chain.into()))
}

fn input(rules: Vec<Vec<Expr>>) -> Chain {
    chain(Hook::Input, ChainKind::Filter, 0, rules)
}

fn called(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), base: None, ..input(rules) }
}

fn respecting(names: &[&str], chains: Vec<Chain>, sets: Vec<Set>) -> PathVerdict {
    let respect: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let (host, firewall) = (v4(), fixture::nft(vec![fixture::table(chains, sets)]));
    walk(&firewall, &host.net, &host.path, &respect, &Ports::default())
}

#[test]
fn rules_may_leave_256_possibilities_open_and_no_more() {
    let of = |bits: u32| {
        let mut rules: Vec<_> = (0..bits).map(|bit| vec![limit("1/second"), mark(1 << bit, 1 << bit)]).collect();
        rules.push([meta_number(MetaKey::Mark, (1 << bits) - 1), vec![DROP]].concat());
        v4().judged(vec![input(rules)])
    };
    let few = of(8);
    assert!(few.conditional[0].sources.is_full() && few.unknown.is_empty());
    let many = of(9);
    assert!(many.unknown[0].sources.is_full());
    assert_eq!(many.unknown[0].reason, "the rules leave too many possibilities open");
}

#[test]
fn a_program_that_decides_on_a_condition_is_no_less_in_doubt() {
    assert_eq!(v4().hit_of(vec![input(vec![vec![limit("1/second"), Expr::Queue]])]), Unknown);
}

#[test]
fn a_chain_that_is_called_on_a_condition_keeps_its_own_possibilities_apart() {
    // The mark is 1 where the first rule does not hold, and 0 again where it does.
    let marks = called("marks", vec![vec![limit("2/second"), mark(1, 1)], vec![mark(1, 0)]]);
    let calls = vec![limit("1/second"), jump("marks")];
    let drops = [meta_number(MetaKey::Mark, 1), vec![DROP]].concat();
    assert_eq!(v4().hit_of(vec![input(vec![calls, drops]), marks]), Conditional);
}

#[test]
fn a_condition_that_makes_no_difference_is_not_named() {
    let rules = vec![vec![limit("1/second"), mark(0, 0)], vec![limit("2/second"), DROP]];
    let judged = v4().judged(vec![input(rules)]);
    assert!(judged.conditional[0].sources.is_full());
    assert_eq!(judged.conditional[0].reason, "limited by rate (2/second)");
}

#[test]
fn sources_that_come_to_a_rule_with_different_marks_are_blocked_by_it_as_one() {
    let rules = vec![vec![from("10.0.0.0/9"), mark(1, 1)], vec![from("10.0.0.0/8"), DROP]];
    let judged = v4().judged(vec![input(rules)]);
    let blocked: Vec<_> = judged.blocked.iter().map(|b| (b.by.position, b.sources.clone())).collect();
    assert_eq!(blocked, [(Some(2), AddrSet::net("10.0.0.0/8".parse().unwrap()))]);
}

#[test]
fn a_rule_of_a_called_chain_is_blamed_with_the_way_there_whoever_was_blamed_before() {
    let banned = called("banned", vec![vec![from("10.0.0.0/8"), DROP]]);
    let base = input(vec![vec![from("172.16.0.0/12"), DROP], vec![jump("banned")]]);
    let judged = respecting(&["banned"], vec![base, banned], Vec::new());
    let told = |b: &crate::judge::Blocked| {
        let via: Vec<_> = b.by.way().iter().map(|at| at.index).collect();
        (b.by.place.to_string(), via, b.by.respected)
    };
    let blocked: Vec<_> = judged.blocked.iter().map(told).collect();
    let due = [("inet t Input 0".to_owned(), vec![], false), ("inet t banned".to_owned(), vec![Some(1)], true)];
    assert_eq!(blocked, due);
}

#[test]
fn a_ban_is_respected_by_the_name_of_the_set_that_holds_the_banned() {
    let load = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 };
    for (name, respected) in [("f2b-sshd", true), ("other", false)] {
        let key = ElementKey::One(vec![10, 0, 0, 1].into());
        let set = fixture::set(name, 4, vec![Element { key, data: None, exprs: Vec::new() }]);
        let within = Expr::Lookup { set: name.into(), sreg: 0, dreg: None, negate: false };
        let judged = respecting(&["f2b-*"], vec![input(vec![vec![load.clone(), within, DROP]])], vec![set]);
        assert_eq!(judged.blocked[0].by.respected, respected, "{name}");
    }
    let plain = vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![10, 0, 0, 1].into() }, DROP];
    assert!(!respecting(&["f2b-*"], vec![input(vec![plain])], Vec::new()).blocked[0].by.respected);
}

#[test]
fn more_than_a_quarter_of_all_addresses_is_no_ban() {
    let quarter = Family::Ipv4.max() / 4;
    for (last, respected) in [(quarter - 1, true), (quarter, false)] {
        let judged = respecting(&["t"], vec![input(vec![vec![of_range(0, last), DROP]])], Vec::new());
        assert_eq!(judged.blocked[0].by.respected, respected, "{last}");
    }
}

/// Chains that call each other thrice, each the next one, 16 deep as nf_tables allows it: 43 million rules.
#[test]
fn rules_that_are_met_too_often_are_given_up() {
    let call = |at: usize| vec![jump(&format!("c{}", at + 1))];
    let mut chains = vec![input(vec![call(0)])];
    chains.extend((1..16).map(|at| called(&format!("c{at}"), vec![call(at), call(at), call(at)])));
    chains.push(called("c16", vec![vec![Expr::Counter]]));
    let judged = v4().judged(chains);
    assert!(judged.unknown[0].sources.is_full());
    assert_eq!(judged.unknown[0].reason, "the rules call each other too often");
}

/// A limit before a log alone is drawn on and nothing comes of it: there may be more of them than a walk remembers.
#[test]
fn rules_that_do_nothing_at_a_rate_do_not_count_among_what_is_remembered_of_a_first_connection() {
    let state = Expr::Ct { dreg: 0, key: CtKey::State, dir: None };
    let established =
        vec![state, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: 2u32.to_ne_bytes().as_slice().into() }, ACCEPT];
    let burst = || limit("1/hour burst 2 packets");
    for nothing in [
        vec![],
        vec![Expr::Log { prefix: String::new() }],
        vec![Expr::Verdict(Verdict::Continue)],
        vec![Expr::MetaSet { sreg: 0, key: MetaKey::Priority }],
        vec![Expr::CtSet { sreg: 0, key: CtKey::Labels, dir: None }],
        vec![Expr::XtTarget(XtTarget::Log { name: "LOG".into(), prefix: String::new() })],
    ] {
        let mut rules = vec![established.clone()];
        rules.extend((0..300).map(|_| [vec![burst()], nothing.clone()].concat()));
        rules.extend([vec![burst(), ACCEPT], vec![DROP]]);
        let judged = v4().judged(vec![input(rules)]);
        let first = judged.conditional[0].first.as_ref();
        assert!(first.is_some_and(|first| first.admitted.is_full()), "{nothing:?}");
    }
}

/// nf_tables takes 128 expressions in a rule, and 16 chains of which each calls the next; iptables-legacy any number of chains.
#[test]
fn what_rules_do_within_each_other_is_followed_as_far_as_a_stack_reaches() {
    // Unoptimised, the same takes almost ten times as much of a stack.
    let thread = std::thread::Builder::new().stack_size(4 << 20).spawn(nested);
    thread.unwrap().join().unwrap();
}

fn nested() {
    let of = |depth: usize, marks: usize| {
        let mark = || Expr::MetaSet { sreg: 0, key: MetaKey::Mark };
        let rule = |next: Expr| {
            let value = std::iter::once(Expr::Immediate { dreg: 0, data: vec![1; 4].into() });
            value.chain((0..marks).map(|_| mark())).chain([next]).collect::<Vec<Expr>>()
        };
        let name = |at: usize| format!("c{at}");
        let chains = (1..=depth).map(|at| match at == depth {
            true => called(&name(at), vec![vec![from("10.0.0.0/8"), DROP]]),
            false => called(&name(at), vec![rule(jump(&name(at + 1)))]),
        });
        respecting(&[], [input(vec![rule(jump(&name(1)))])].into_iter().chain(chains).collect(), Vec::new())
    };
    let ten = AddrSet::net("10.0.0.0/8".parse().unwrap());
    // The last thing done is the drop, within all before it.
    for (depth, marks) in [(1, NESTED - 2), (16, 3), (39, 1), (63, 0)] {
        let judged = of(depth, marks);
        assert_eq!((judged.blocked_sources(), judged.unknown.len()), (ten.clone(), 0), "{depth} {marks}");
    }
    for (depth, marks) in [(1, NESTED - 1), (1, 1000), (16, 126), (63, 126)] {
        let judged = of(depth, marks);
        assert_eq!(judged.unknown[0].reason, "the rules do too much within each other", "{depth} {marks}");
        assert!(judged.blocked_sources().is_empty(), "{depth} {marks}");
    }
    assert_eq!(of(64, 0).unknown[0].reason, "the rules call each other too deeply");
}
