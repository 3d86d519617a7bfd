//! What is told of a first connection, kind by kind; the kernel is asked about each in `tests/kernel/lines_first.rs`.

use super::{Ports, walk};
use crate::facts::*;
use crate::judge::fixture::{self, filter, healthy, nft, table};
use crate::judge::{Blame, Gate, Open, Path, PathVerdict, Symptom};

const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);
const DROP: Expr = Expr::Verdict(Verdict::Drop);

/// The rules in a chain on the input hook that drops what is left.
fn judged(rules: Vec<Vec<Expr>>, sets: Vec<Set>) -> PathVerdict {
    judged_of(vec![filter(Hook::Input, Policy::Drop, rules)], sets)
}

fn judged_of(chains: Vec<Chain>, sets: Vec<Set>) -> PathVerdict {
    let snapshot = healthy();
    let table = table(chains, sets);
    let path = Path {
        family: Family::Ipv4,
        interface: "eth0".into(),
        ifindex: 2,
        address: "192.0.2.10".parse().unwrap(),
        port: 22,
    };
    walk(&nft(vec![table]), &snapshot.net, &path, &[], &Ports::default())
}

/// Whether the first connection of everybody gets in.
fn first(judged: &PathVerdict) -> Option<bool> {
    let [open] = &judged.conditional[..] else { panic!("{judged:?}") };
    assert!(open.sources.is_full(), "{judged:?}");
    let first = open.first.as_ref()?;
    assert!(first.admitted.is_full() != first.blocked.is_full(), "{judged:?}");
    Some(first.admitted.is_full())
}

fn of(rules: Vec<Vec<Expr>>) -> Option<bool> {
    first(&judged(after_established(rules), Vec::new()))
}

/// After a rule that lets everything through but the SYN.
fn after_established(mut rules: Vec<Vec<Expr>>) -> Vec<Vec<Expr>> {
    const ESTABLISHED: u32 = 2;
    let state = Expr::Ct { dreg: 0, key: CtKey::State, dir: None };
    let is = Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: ESTABLISHED.to_ne_bytes().as_slice().into() };
    rules.insert(0, vec![state, is, ACCEPT]);
    rules
}

fn rate(name: &str, text: &str) -> Expr {
    Expr::XtMatch(XtMatch::Rate { name: name.into(), text: text.into() })
}

fn history(name: &str, text: &str) -> Expr {
    Expr::XtMatch(XtMatch::History { name: name.into(), text: text.into() })
}

fn recent(words: &str) -> Expr {
    history("recent", &format!("{words} --name s --rsource"))
}

fn limit(over: bool, text: &str) -> Expr {
    Expr::Limit { over, text: text.into() }
}

#[test]
fn a_limit_has_something_left_as_often_as_its_burst_says() {
    assert_eq!(of(vec![vec![limit(false, "1/hour burst 2 packets"), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![limit(false, "1/hour burst 0 packets"), ACCEPT]]), Some(true), "the kernel's own burst");
    assert_eq!(of(vec![vec![limit(false, "1/hour burst 1 packets"), ACCEPT]]), Some(true));
    let every = judged(vec![vec![limit(false, "1/hour burst 9 packets"), ACCEPT]], Vec::new());
    assert_eq!(first(&every), None, "every packet of the session draws on it");
    assert_eq!(of(vec![vec![limit(false, "9 bytes/second burst 9 bytes"), ACCEPT]]), None);
    assert_eq!(of(vec![vec![limit(true, "1/hour burst 2 packets"), DROP], vec![ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![rate("limit", "--limit 1/hour"), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![rate("limit", "--limit 1/hour --limit-burst 1"), ACCEPT]]), Some(true));
    let hash = |words: &str| rate("hashlimit", &format!("{words} --hashlimit-mode srcip --hashlimit-name h"));
    assert_eq!(of(vec![vec![hash("--hashlimit-upto 1/hour"), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![hash("--hashlimit-above 1/hour"), DROP], vec![ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![hash("--hashlimit-upto <bytes>"), ACCEPT]]), None);
    let shared =
        vec![vec![hash("--hashlimit-upto 1/hour"), Expr::Counter], vec![hash("--hashlimit-upto 1/hour"), ACCEPT]];
    assert_eq!(of(shared), None);
}

#[test]
fn a_list_holds_what_this_connection_has_noted_and_nothing_else() {
    assert_eq!(of(vec![vec![recent("--rcheck --seconds 9"), ACCEPT]]), Some(false), "nobody has knocked");
    assert_eq!(of(vec![vec![recent("! --rcheck"), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![recent("--remove"), DROP], vec![ACCEPT]]), Some(true));
    let guard = |hits: u32| {
        vec![vec![recent("--set")], vec![recent(&format!("--update --hitcount {hits}")), DROP], vec![ACCEPT]]
    };
    assert_eq!(of(guard(1)), Some(false));
    assert_eq!(of(guard(2)), Some(true));
    assert_eq!(first(&judged(guard(2), Vec::new())), None, "every packet of the session is a hit");
    assert_eq!(of(vec![vec![recent("! --set"), ACCEPT], vec![recent("--rcheck"), DROP], vec![ACCEPT]]), Some(false));
    assert_eq!(of(vec![vec![recent("--rcheck --mask 255.255.0.0"), DROP], vec![ACCEPT]]), None);
    assert_eq!(of(vec![vec![recent("--set")], vec![recent("--rcheck --rttl"), DROP], vec![ACCEPT]]), None);
    assert_eq!(of(vec![vec![history("recent", "--rcheck --name s --rdest"), DROP], vec![ACCEPT]]), None);
}

#[test]
fn a_list_that_holds_something_unknown_stays_unknown() {
    let blurred = vec![vec![recent("--set --mask 255.255.0.0")], vec![recent("--rcheck"), DROP], vec![ACCEPT]];
    assert_eq!(of(blurred), None);
    let by_chance =
        vec![vec![rate("statistic", "--mode random"), recent("--set")], vec![recent("--rcheck"), DROP], vec![ACCEPT]];
    assert_eq!(of(by_chance), None);
}

#[test]
fn a_first_connection_is_the_only_one() {
    let count = |over, count| Expr::Connlimit { over, count };
    assert_eq!(of(vec![vec![count(false, 1), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![count(false, 0), ACCEPT]]), Some(false));
    assert_eq!(of(vec![vec![count(true, 1), DROP], vec![ACCEPT]]), Some(true));
    let xt = |words: &str| history("connlimit", &format!("{words} --connlimit-mask 32 --connlimit-saddr"));
    assert_eq!(of(vec![vec![xt("--connlimit-above 0"), DROP], vec![ACCEPT]]), Some(false));
    assert_eq!(of(vec![vec![xt("--connlimit-upto 1"), ACCEPT]]), Some(true));
}

#[test]
fn a_quota_is_as_far_used_as_the_kernel_says() {
    let quota = |over, consumed| Expr::Quota { over, bytes: 1 << 20, consumed };
    assert_eq!(of(vec![vec![quota(false, 0), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![quota(false, 1 << 20), ACCEPT]]), Some(false));
    assert_eq!(of(vec![vec![quota(true, 1 << 20), DROP], vec![ACCEPT]]), Some(false));
    assert_eq!(of(vec![vec![quota(false, (1 << 20) - 9), ACCEPT]]), None, "it ends somewhere in the handshake");
    assert_eq!(of(vec![vec![rate("quota", "--quota 1000000"), ACCEPT]]), None);
}

#[test]
fn chance_and_time_stay_open() {
    assert_eq!(of(vec![vec![rate("statistic", "--mode random"), ACCEPT]]), None);
    assert_eq!(of(vec![vec![Expr::XtMatch(XtMatch::Time { text: "--weekdays Mon".into() }), ACCEPT]]), None);
    let turns = Expr::Numgen { dreg: 0, modulus: 2, offset: 0, random: false };
    assert_eq!(of(vec![vec![turns, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![0; 4].into() }, ACCEPT]]), None);
}

#[test]
fn an_element_that_a_rule_makes_has_its_limit_whole() {
    let set = |exprs: Vec<Expr>| {
        let element = Element { key: ElementKey::One(vec![10, 0, 0, 1].into()), data: None, exprs };
        fixture::set("m", 4, vec![element])
    };
    let update = |negate, exprs: Vec<Expr>| Expr::Dynset { set: "m".into(), key: 0, data: None, op: 1, negate, exprs };
    let over = || limit(true, "1/hour burst 2 packets");
    let guard = |negate| vec![vec![update(negate, vec![over(), Expr::Counter]), DROP], vec![ACCEPT]];
    assert_eq!(first(&judged(after_established(guard(false)), vec![set(vec![over()])])), Some(true));
    assert_eq!(first(&judged(after_established(guard(true)), vec![set(vec![over()])])), None);
    assert_eq!(
        first(&judged(after_established(guard(false)), vec![set(vec![limit(false, "1/hour burst 2 packets")])])),
        None,
        "another's element"
    );
    let mut twice = guard(false);
    twice.insert(0, vec![update(false, vec![limit(false, "1/hour burst 9 packets")]), Expr::Counter]);
    assert_eq!(
        first(&judged(after_established(twice), vec![set(vec![over()])])),
        None,
        "another rule makes elements, too"
    );
    let counted = vec![vec![update(false, vec![Expr::Connlimit { over: true, count: 1 }]), DROP], vec![ACCEPT]];
    assert_eq!(
        first(&judged(after_established(counted), vec![Set { elements: Vec::new(), ..set(Vec::new()) }])),
        Some(true)
    );
}

#[test]
fn the_gates_behind_take_from_what_a_first_connection_gets() {
    let limited = vec![vec![limit(false, "1/hour burst 2 packets"), ACCEPT]];
    let mut whole = judged(after_established(limited), Vec::new());
    let by = || Blame::gate(Gate::Wrappers, "/etc/hosts.deny");
    let net = |text: &str| AddrSet::net(text.parse().unwrap());
    let mut next = PathVerdict::open(whole.path.clone());
    next.block(&net("10.0.0.0/8"), Symptom::Closed, by());
    next.admitted.subtract(&net("11.0.0.0/8"));
    next.conditional.push(Open::new(net("11.0.0.0/8"), "a name".into(), by()));
    next.doubt(&net("12.0.0.0/8"), "a file".into(), by());
    whole.then(&next);
    let [open] = &whole.conditional[..] else { panic!("{whole:?}") };
    let gone = net("10.0.0.0/8").union(&net("12.0.0.0/8"));
    assert_eq!(open.sources, gone.complement());
    let first = open.first.as_ref().unwrap();
    assert_eq!(first.admitted, open.sources.minus(&net("11.0.0.0/8")));
    assert!(first.blocked.is_empty());
}

/// With a chain `called`, which rules call.
fn of_calls(rules: Vec<Vec<Expr>>, called: Vec<Vec<Expr>>) -> Option<bool> {
    let base = filter(Hook::Input, Policy::Drop, after_established(rules));
    let called = Chain { name: "called".into(), base: None, ..filter(Hook::Input, Policy::Accept, called) };
    first(&judged_of(vec![base, called], Vec::new()))
}

/// xt_limit's own burst is 5.
#[test]
fn a_limit_that_the_same_packet_meets_again_is_drawn_on_again() {
    let call = || vec![Expr::Verdict(Verdict::Jump("called".into()))];
    let calls = |times: usize, text: &str| {
        let rules = [vec![call(); times], vec![vec![ACCEPT]]].concat();
        of_calls(rules, vec![vec![rate("limit", text), Expr::Verdict(Verdict::Return)], vec![DROP]])
    };
    assert_eq!(calls(5, "--limit 1/hour"), Some(true));
    assert_eq!(calls(6, "--limit 1/hour"), None);
    assert_eq!(calls(2, "--limit 1/hour --limit-burst 2"), Some(true));
    assert_eq!(calls(2, "--limit 1/hour --limit-burst 1"), None);
}

#[test]
fn what_rules_remember_is_followed_up_to_a_bound() {
    let limit = || rate("limit", "--limit 1/hour");
    let nothing = || Expr::XtTarget(XtTarget::Mark { mark: 0, mask: 0 });
    let after = |many: usize, rule: Vec<Expr>| of([vec![rule; many], vec![vec![limit(), ACCEPT]]].concat());
    assert_eq!(after(255, vec![limit(), nothing()]), Some(true));
    assert_eq!(after(256, vec![limit(), nothing()]), None);
    // Limits that decide nothing are not followed.
    assert_eq!(after(300, vec![limit(), Expr::Counter]), Some(true));
    assert_eq!(after(300, vec![self::limit(false, "1/hour burst 2 packets"), Expr::Counter]), Some(true));
}

#[test]
fn a_list_into_which_no_rule_looks_may_grow_with_every_packet() {
    let limited = vec![rate("limit", "--limit 1/hour"), ACCEPT];
    let mut rules = after_established(vec![limited]);
    rules.insert(0, vec![recent("--set"), Expr::Counter]);
    assert_eq!(first(&judged(rules.clone(), Vec::new())), Some(true));
    // One that looks is in another chain, but it looks into the same list.
    let aside = Chain {
        name: "aside".into(),
        base: None,
        ..filter(Hook::Input, Policy::Accept, vec![vec![recent("--rcheck")]])
    };
    let looked = judged_of(vec![filter(Hook::Input, Policy::Drop, rules), aside], Vec::new());
    assert_eq!(first(&looked), None);
}

/// xt_recent.c, `recent_mt`.
#[test]
fn a_client_is_removed_from_a_list_and_not_found_in_it_then() {
    let after_set = |rules: Vec<Vec<Expr>>| of([vec![vec![recent("--set")]], rules, vec![vec![ACCEPT]]].concat());
    assert_eq!(after_set(vec![vec![recent("--rcheck"), DROP]]), Some(false));
    assert_eq!(after_set(vec![vec![recent("--remove"), DROP]]), Some(false));
    assert_eq!(after_set(vec![vec![recent("! --remove"), DROP], vec![recent("--rcheck"), DROP]]), Some(true));
}

#[test]
fn a_client_that_is_found_is_noted_again_by_an_update_and_by_no_mere_look() {
    let after = |look: &str, hits: u32| {
        let drops = vec![recent(&format!("--rcheck --hitcount {hits}")), DROP];
        of(vec![vec![recent("--set")], vec![recent(look)], drops, vec![ACCEPT]])
    };
    assert_eq!(after("--update", 2), Some(false));
    assert_eq!(after("--update", 3), Some(true));
    assert_eq!(after("--rcheck", 2), Some(true));
    // It matches where the client has come less often, and notes it then.
    assert_eq!(after("! --update --hitcount 2", 2), Some(false));
    assert_eq!(after("! --update --hitcount 1", 2), Some(true));
}

#[test]
fn setting_the_servers_own_address_matches_and_tells_nothing_of_the_client() {
    let own = |words: &str| history("recent", &format!("{words} --name s --rdest"));
    let limit = || rate("limit", "--limit 1/hour");
    assert_eq!(of(vec![vec![limit(), own("--set"), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![own("! --set"), DROP], vec![limit(), ACCEPT]]), Some(true));
    assert_eq!(of(vec![vec![own("--set")], vec![recent("--rcheck"), DROP], vec![limit(), ACCEPT]]), Some(true));
}

#[test]
fn an_element_that_another_rule_looks_up_is_drawn_on_by_that_one_too() {
    let over = limit(true, "1/hour burst 2 packets");
    let element = || fixture::set("m", 4, Vec::new());
    let source = || Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 };
    let update = Expr::Dynset { set: "m".into(), key: 0, data: None, op: 1, negate: false, exprs: vec![over] };
    let guard = || vec![vec![source(), update.clone(), DROP], vec![ACCEPT]];
    let look = |set: &str| vec![source(), Expr::Lookup { set: set.into(), sreg: 0, dreg: None, negate: false }];
    let with = |rule: Vec<Expr>| {
        let rules = [vec![rule], guard()].concat();
        first(&judged(after_established(rules), vec![element(), fixture::set("n", 4, Vec::new())]))
    };
    assert_eq!(with(look("n")), Some(true));
    assert_eq!(with(look("m")), None);
}

#[test]
fn a_quota_holds_for_the_handshake_where_more_is_left_than_that_can_have() {
    const HANDSHAKE: u64 = 1 << 16;
    let left = |bytes: u64| of(vec![vec![Expr::Quota { over: false, bytes: 9 + bytes, consumed: 9 }, ACCEPT]]);
    assert_eq!(left(HANDSHAKE), None);
    assert_eq!(left(HANDSHAKE + 1), Some(true));
}
