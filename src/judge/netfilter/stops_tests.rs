//! Which chains a packet meets at a hook, and in what order.

use super::forms_tests::Hit::{Everybody, Nobody};
use super::forms_tests::{ACCEPT, DROP, Hit, behind_eth1, chain, host, meta_number, v4};
use super::{Met, Ports, trace, walk};
use crate::facts::*;
use crate::judge::fixture::{self, ip, nft};
use crate::judge::{PathVerdict, Symptom};
use std::sync::Arc;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const TIE: &str = "chains have the same priority, and it is not known which comes first";

fn load(base: PayloadBase, offset: u32, data: &[u8]) -> Vec<Expr> {
    let load = Expr::Payload { dreg: 0, base, offset, len: data.len() as u32 };
    vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }]
}

/// A rule for the sources whose first byte this is.
fn from(first: u8, then: Expr) -> Vec<Expr> {
    [load(PayloadBase::Network, 12, &[first]), vec![then]].concat()
}

fn flags(flags: u8, then: Expr) -> Vec<Expr> {
    [load(PayloadBase::Transport, 13, &[flags]), vec![then]].concat()
}

fn marks() -> Expr {
    Expr::XtTarget(XtTarget::Mark { mark: 1, mask: u32::MAX })
}

fn drops_marked() -> Vec<Expr> {
    [meta_number(MetaKey::Mark, 1), vec![DROP]].concat()
}

fn input(rules: Vec<Vec<Expr>>) -> Chain {
    fixture::filter(Hook::Input, Policy::Accept, rules)
}

fn net(text: &str) -> AddrSet {
    AddrSet::net(text.parse().unwrap())
}

/// A table of iptables-legacy, and tables of nf_tables, each with one of the chains.
fn both(legacy: Option<Chain>, others: Vec<Chain>) -> Firewall {
    let tables = others.into_iter().map(|chain| fixture::table(vec![chain], Vec::new())).collect();
    let own = |chain| {
        let table = fixture::table(vec![chain], Vec::new());
        Table { backend: Backend::Legacy, family: TableFamily::Ip, name: "filter".into(), ..table }
    };
    let legacy4 = legacy
        .map_or(Seen::Absent, |chain| Seen::Present(LegacyRules { tables: vec![own(chain)], raw: Arc::default() }));
    Firewall { legacy4, ..nft(tables) }
}

fn judged(firewall: &Firewall) -> PathVerdict {
    let host = v4();
    walk(firewall, &host.net, &host.path, &[], &Ports { ssh: vec![22, 2222], ..Ports::default() })
}

fn blocked(judged: &PathVerdict) -> Vec<(String, Backend, Symptom)> {
    let told = |b: &crate::judge::Blocked| (b.sources.to_string(), b.by.rule_ref.as_ref().unwrap().backend, b.symptom);
    assert!(judged.unknown.is_empty() && judged.conditional.is_empty(), "{judged:?}");
    judged.blocked.iter().map(told).collect()
}

fn open(judged: &PathVerdict) -> Vec<(AddrSet, &str)> {
    assert!(judged.blocked.is_empty() && judged.conditional.is_empty(), "{judged:?}");
    judged.unknown.iter().map(|o| (o.sources.clone(), o.reason.as_str())).collect()
}

#[test]
fn of_chains_of_one_table_with_one_priority_the_later_comes_first() {
    let of = |chains| judged(&nft(vec![fixture::table(chains, Vec::new())]));
    let (first, second) = (input(vec![from(10, marks())]), input(vec![drops_marked()]));
    assert!(of(vec![first.clone(), second.clone()]).admitted.is_full());
    assert_eq!(blocked(&of(vec![second, first])), [("10.0.0.0/8".into(), Backend::Nft, Symptom::TimedOut)]);
}

#[test]
fn of_chains_of_two_tables_it_is_not_known_which_comes_first() {
    let (first, second) = (input(vec![from(10, marks())]), input(vec![drops_marked()]));
    for chains in [vec![first.clone(), second.clone()], vec![second, first]] {
        let judged = judged(&both(None, chains));
        assert_eq!(open(&judged), [(net("10.0.0.0/8"), TIE)]);
        assert_eq!(judged.admitted, net("10.0.0.0/8").complement());
    }
}

/// One that marks among five that only drop: 6! orders come to 2^5.
#[test]
fn nor_of_chains_of_a_device_which_may_have_been_given_it_later() {
    let on_eth0 = |rule| {
        let mut chain = chain(Hook::Ingress, ChainKind::Filter, 0, vec![rule]);
        chain.base.as_mut().unwrap().devices = vec!["eth0".to_owned()];
        chain
    };
    let chains = vec![on_eth0(from(10, marks())), on_eth0(drops_marked())];
    let judged = judged(&nft(vec![Table { family: TableFamily::Netdev, ..fixture::table(chains, Vec::new()) }]));
    assert_eq!(open(&judged), [(net("10.0.0.0/8"), TIE)]);
}

#[test]
fn orders_that_come_to_the_same_are_walked_once() {
    let plain = |first| input(vec![from(first, DROP)]);
    let tables = |count, more: Vec<Chain>| (0..count).map(|n| plain(20 + n)).chain(more).collect::<Vec<_>>();
    let dropped = judged(&both(Some(plain(10)), tables(200, Vec::new())));
    assert!(dropped.unknown.is_empty() && !dropped.admitted.intersects(&net("10.0.0.0/8")), "{dropped:?}");
    assert_eq!(dropped.blocked.len(), 201);
    let marking = || vec![input(vec![from(10, marks()), drops_marked()])];
    assert!(judged(&both(None, tables(5, marking()))).unknown.is_empty());
    let too_many = judged(&both(None, tables(6, marking())));
    assert_eq!(open(&too_many), [(AddrSet::full(Family::Ipv4), TIE)]);
    // Of one table the order is known, however many there are.
    let one = fixture::table(tables(200, [marking(), marking()].concat()), Vec::new());
    assert_eq!(judged(&nft(vec![one])).blocked.len(), 201);
}

#[test]
fn doubts_may_be_raised_and_limits_drawn_on_in_any_order() {
    let limit = || Expr::Limit { over: true, text: "1/second burst 5 packets".into() };
    let limited = || input(vec![[flags(SYN, limit()), vec![DROP]].concat()]);
    let table = |name: &str| Table { name: name.into(), ..fixture::table(vec![limited()], Vec::new()) };
    let judged = judged(&nft(vec![table("a"), table("b")]));
    assert!(judged.unknown.is_empty(), "{judged:?}");
    let [open] = &judged.conditional[..] else { panic!("{judged:?}") };
    assert!(open.sources.is_full() && open.first.as_ref().unwrap().admitted.is_full(), "{judged:?}");
}

#[test]
fn who_of_several_leads_a_flow_to_the_same_place_does_not_matter() {
    let led = |to| fixture::table(vec![nat_on(Hook::Prerouting, vec![redirect(Some((to, to)))])], Vec::new());
    assert!(judged(&nft(vec![led(2222), led(2222)])).admitted.is_full());
    // Nobody listens on 2223.
    assert_eq!(open(&judged(&nft(vec![led(2222), led(2223)]))), [(AddrSet::full(Family::Ipv4), TIE)]);
}

#[test]
fn where_the_order_of_legacy_and_nf_tables_decides_it_is_not_known_what_becomes_of_whom_it_concerns() {
    let (marking, dropping) = (input(vec![from(10, marks())]), input(vec![drops_marked()]));
    for (legacy, other) in [(&marking, &dropping), (&dropping, &marking)] {
        let judged = judged(&both(Some(legacy.clone()), vec![other.clone()]));
        assert_eq!(open(&judged), [(net("10.0.0.0/8"), TIE)]);
        let [open] = &judged.unknown[..] else { panic!("{judged:?}") };
        assert!(judged.blocked.is_empty() && judged.admitted == net("10.0.0.0/8").complement(), "{judged:?}");
        assert_eq!(&*open.by.place, "ip filter c (iptables-legacy)");
    }
}

#[test]
fn where_the_order_decides_nothing_there_is_no_doubt() {
    let drops = |first| input(vec![from(first, DROP)]);
    let apart = judged(&both(Some(drops(10)), vec![drops(11)]));
    let due = [
        ("10.0.0.0/8".into(), Backend::Legacy, Symptom::TimedOut),
        ("11.0.0.0/8".into(), Backend::Nft, Symptom::TimedOut),
    ];
    assert_eq!(blocked(&apart), due);
    assert_eq!(apart.admitted, net("10.0.0.0/7").complement());
    assert!(judged(&both(Some(input(vec![vec![Expr::Counter]])), vec![drops(10)])).unknown.is_empty());
    // Legacy has nothing to say, and the order of the others is known.
    let (first, second) = (input(vec![from(10, marks())]), input(vec![drops_marked()]));
    let legacy4 = both(Some(input(Vec::new())), Vec::new()).legacy4;
    let known = Firewall { legacy4, ..nft(vec![fixture::table(vec![first, second], Vec::new())]) };
    assert!(judged(&known).admitted.is_full());
}

#[test]
fn whoever_is_dropped_in_any_order_is_blocked_by_the_chain_that_is_told_first() {
    let legacy = input(vec![from(10, DROP), from(12, marks())]);
    let judged = judged(&both(Some(legacy), vec![input(vec![from(10, DROP), drops_marked()])]));
    let [open] = &judged.unknown[..] else { panic!("{judged:?}") };
    assert_eq!(open.sources, net("12.0.0.0/8"));
    let [blocked] = &judged.blocked[..] else { panic!("{judged:?}") };
    assert_eq!(blocked.sources, net("10.0.0.0/8"));
    assert_eq!(blocked.by.rule_ref.as_ref().unwrap().backend, Backend::Legacy);
}

#[test]
fn whether_it_is_refused_or_dropped_depends_on_the_order_too() {
    let refuses = input(vec![from(10, Expr::Reject(RejectWith::TcpReset))]);
    let symptom = |legacy: Chain| {
        let judged = judged(&both(Some(legacy), vec![refuses.clone()]));
        let of = |symptom| judged.blocked.iter().filter(|b| b.symptom == symptom).map(|b| &b.sources).collect();
        let of = |symptom| AddrSet::all(Family::Ipv4, Vec::<&AddrSet>::from_iter::<Vec<_>>(of(symptom)));
        (of(Symptom::Unknown), of(Symptom::TimedOut), of(Symptom::Refused))
    };
    let (ten, none) = (net("10.0.0.0/8"), AddrSet::empty(Family::Ipv4));
    assert_eq!(symptom(input(vec![from(10, DROP)])), (ten.clone(), none.clone(), none.clone()));
    let policy = fixture::filter(Hook::Input, Policy::Drop, Vec::new());
    assert_eq!(symptom(policy), (ten.clone(), ten.complement(), none.clone()));
    assert_eq!(symptom(input(vec![from(10, ACCEPT)])), (none.clone(), none, ten));
}

/// What the client 10.0.0.1 meets with its first packet.
fn met(firewall: &Firewall) -> Vec<(String, Option<usize>, bool)> {
    let host = v4();
    let (met, _) = trace(firewall, &host.net, &host.path, &[], &Ports::default(), ip("10.0.0.1"));
    let told = |m: Met| (m.table, m.position, m.maybe);
    let mut told: Vec<_> = met.into_iter().filter(|m| m.packet == "syn").map(told).collect();
    // What changes something is told at that, and at its end.
    told.dedup();
    told
}

#[test]
fn one_order_is_told_and_in_doubt_where_another_would_end_elsewhere() {
    let raw = chain(Hook::Prerouting, ChainKind::Filter, -300, vec![vec![Expr::Counter]]);
    let counts = || input(vec![vec![Expr::Counter]]);
    let due = |legacy: usize, maybe: bool| {
        let (nft, own) = ("inet t".to_owned(), "ip filter (iptables-legacy)".to_owned());
        vec![
            (nft.clone(), Some(1), false),
            (nft.clone(), None, false),
            (own.clone(), Some(legacy), maybe),
            (own, None, maybe),
            (nft.clone(), Some(1), maybe),
            (nft, None, maybe),
        ]
    };
    assert_eq!(met(&both(Some(counts()), vec![raw.clone(), counts()])), due(1, false));
    let told = met(&both(Some(input(vec![from(10, marks())])), vec![raw, input(vec![drops_marked()])]));
    let mut due = due(1, true);
    due.pop();
    assert_eq!(told, due);
}

#[test]
fn connection_tracking_comes_between_raw_and_mangle() {
    const NEW: u32 = 8;
    let state = Expr::Ct { dreg: 0, key: CtKey::State, dir: None };
    let new = vec![state, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: NEW.to_ne_bytes().as_slice().into() }, DROP];
    let at = |priority| {
        let raw = chain(Hook::Prerouting, ChainKind::Filter, -310, vec![vec![Expr::Counter]]);
        v4().hit_of(vec![raw, chain(Hook::Prerouting, ChainKind::Filter, priority, vec![new.clone()])])
    };
    assert_eq!(at(-300), Nobody);
    assert_eq!(at(-150), Everybody);
}

fn redirect(ports: Option<(u16, u16)>) -> Vec<Expr> {
    vec![Expr::XtTarget(XtTarget::Nat { kind: NatKind::Redirect, addresses: None, ports, flags: 0 })]
}

/// nf_nat_core.c: one hook for all of nat at a place of its own.
#[test]
fn the_chains_of_nat_come_at_its_own_place_whatever_their_priorities() {
    let asked_for_22 = [load(PayloadBase::Transport, 2, &[0, 22]), vec![DROP]].concat();
    let of = |nat, priority| {
        let chains = vec![
            chain(Hook::Prerouting, ChainKind::Filter, priority, vec![asked_for_22.clone()]),
            chain(Hook::Prerouting, ChainKind::Nat, nat, vec![redirect(Some((2222, 2222)))]),
        ];
        let judged = judged(&nft(vec![fixture::table(chains, Vec::new())]));
        if judged.admitted.is_full() { Nobody } else { Hit::Some(judged.blocked_sources()) }
    };
    for nat in [-150, -100, 50] {
        assert_eq!(of(nat, 0), Nobody, "{nat}");
        assert_eq!(of(nat, -120), Hit::Some(AddrSet::full(Family::Ipv4)), "{nat}");
    }
}

fn asked_for_22() -> Chain {
    chain(
        Hook::Prerouting,
        ChainKind::Filter,
        -100,
        vec![[load(PayloadBase::Transport, 2, &[0, 22]), vec![DROP]].concat()],
    )
}

fn nat_on(hook: Hook, rules: Vec<Vec<Expr>>) -> Chain {
    chain(hook, ChainKind::Nat, if hook == Hook::Prerouting { -100 } else { 100 }, rules)
}

fn of_family(family: TableFamily, chains: Vec<Chain>) -> Table {
    Table { family, ..fixture::table(chains, Vec::new()) }
}

#[test]
fn a_chain_of_nats_priority_comes_before_nat_where_a_chain_of_nat_is_older_and_else_it_is_not_known() {
    const OPEN: &str = "a chain has the same priority as nat, and it is not known which comes first";
    let led = || nat_on(Hook::Prerouting, vec![redirect(Some((2222, 2222)))]);
    let all = AddrSet::full(Family::Ipv4);
    let one = |chains| judged(&nft(vec![of_family(TableFamily::Ip, chains)]));
    assert_eq!(one(vec![led(), asked_for_22()]).blocked_sources(), all);
    assert_eq!(one(vec![nat_on(Hook::Postrouting, Vec::new()), asked_for_22(), led()]).blocked_sources(), all);
    assert_eq!(open(&one(vec![asked_for_22(), led()])), [(all.clone(), OPEN)]);
    let two = |older| judged(&nft(vec![older, of_family(TableFamily::Inet, vec![asked_for_22(), led()])]));
    assert_eq!(open(&two(of_family(TableFamily::Ip, vec![led()]))), [(all.clone(), OPEN)]);
    assert_eq!(open(&two(of_family(TableFamily::Ip6, vec![led()]))), [(all, OPEN)]);
    // Whom it drops in either order.
    let ten = chain(Hook::Prerouting, ChainKind::Filter, -100, vec![from(10, DROP)]);
    let dropped = one(vec![ten, led()]);
    assert_eq!(blocked(&dropped), [("10.0.0.0/8".into(), Backend::Nft, Symptom::TimedOut)]);
    // Without nat there is nothing of nat.
    assert_eq!(one(vec![asked_for_22()]).blocked_sources(), AddrSet::full(Family::Ipv4));
}

/// nat rewrites what belongs to a flow where it leads its first packet elsewhere.
#[test]
fn nat_puts_back_an_answers_port_at_its_own_place() {
    let led = || nat_on(Hook::Prerouting, vec![redirect(Some((2222, 2222)))]);
    let answers = || {
        let from_2222 = [load(PayloadBase::Transport, 0, &[0x08, 0xae]), vec![DROP]].concat();
        chain(Hook::Postrouting, ChainKind::Filter, 100, vec![from_2222])
    };
    let of = |chains| judged(&nft(vec![fixture::table(chains, Vec::new())]));
    let all = AddrSet::full(Family::Ipv4);
    assert_eq!(of(vec![led(), answers()]).blocked_sources(), all);
    assert_eq!(of(vec![answers(), led()]).unknown[0].sources, all);
    let later = Chain { base: answers().base.map(|b| BaseChain { priority: 101, ..b }), ..answers() };
    assert!(of(vec![led(), later]).admitted.is_full());
}

#[test]
fn a_chain_at_connection_trackings_own_place_comes_before_or_after_it() {
    const OPEN: &str = "a chain has the same priority as connection tracking, and it is not known which comes first";
    const NEW: u32 = 8;
    const CONFIRMED: u32 = 8;
    let is = |key, bits: u32| {
        let load = Expr::Ct { dreg: 0, key, dir: None };
        vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: bits.to_ne_bytes().as_slice().into() }]
    };
    let first = [from(10, Expr::Counter), is(CtKey::State, NEW)].concat();
    for (hook, priority, found) in
        [(Hook::Prerouting, -200, Vec::new()), (Hook::Input, i32::MAX, is(CtKey::Status, CONFIRMED))]
    {
        let rule = [first.clone(), found, vec![DROP]].concat();
        let judged =
            judged(&nft(vec![fixture::table(vec![chain(hook, ChainKind::Filter, priority, vec![rule])], Vec::new())]));
        assert_eq!(open(&judged), [(net("10.0.0.0/8"), OPEN)], "{hook:?}");
    }
}

#[test]
fn nat_is_asked_once_about_a_flow() {
    let nat = |priority, rule| chain(Hook::Prerouting, ChainKind::Nat, priority, vec![rule]);
    // So that there is tracking.
    let tracked = || {
        let state = Expr::Ct { dreg: 0, key: CtKey::State, dir: None };
        chain(Hook::Input, ChainKind::Filter, 0, vec![vec![state]])
    };
    assert_eq!(v4().hit_of(vec![tracked(), nat(-100, flags(SYN, DROP))]), Everybody);
    assert_eq!(v4().hit_of(vec![tracked(), nat(-100, flags(ACK, DROP))]), Nobody);
    // The first that decides has decided.
    assert_eq!(v4().hit_of(vec![nat(-100, redirect(None)), nat(-90, vec![DROP])]), Nobody);
    assert_eq!(v4().hit_of(vec![nat(-100, redirect(None)), nat(-110, vec![DROP])]), Everybody);
}

#[test]
fn a_chain_of_a_device_sees_what_passes_that_device() {
    let of = |hook, family, devices: &[&str]| {
        let mut chain = fixture::filter(hook, Policy::Drop, Vec::new());
        chain.base.as_mut().unwrap().devices = devices.iter().map(|d| (*d).to_owned()).collect();
        let host = host(Family::Ipv4);
        let firewall = nft(vec![Table { family, ..fixture::table(vec![chain], Vec::new()) }]);
        walk(&firewall, &host.net, &host.path, &[], &Ports::default()).blocked_sources()
    };
    let (all, none) = (AddrSet::full(Family::Ipv4), AddrSet::empty(Family::Ipv4));
    for family in [TableFamily::Inet, TableFamily::Netdev] {
        let ingress = |devices: &[&str]| of(Hook::Ingress, family, devices);
        assert_eq!(ingress(&["eth0"]), all);
        assert_eq!(ingress(&["eth1"]), none);
        assert_eq!(ingress(&["eth1", "eth0"]), all);
        assert_eq!(ingress(&["et*"]), all);
        assert_eq!(ingress(&["lo*"]), none);
        assert_eq!(ingress(&["eth"]), none);
        assert_eq!(ingress(&[]), none);
    }
    let egress = |devices: &[&str]| of(Hook::Egress, TableFamily::Netdev, devices);
    assert_eq!(egress(&["eth1"]), behind_eth1());
    assert_eq!(egress(&["eth0"]), behind_eth1().complement());
}

/// The packet is the same whichever of two has made it so, or was the first to remember it.
#[test]
fn orders_that_differ_only_in_who_did_it_come_to_the_same() {
    let port = |to: u16| {
        let data = to.to_be_bytes().as_slice().into();
        let set = Expr::PayloadSet { sreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 };
        vec![Expr::Immediate { dreg: 0, data }, set]
    };
    let add = || {
        let add = Expr::Dynset { set: "m".into(), key: 0, data: None, op: 0, negate: false, exprs: Vec::new() };
        vec![Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 }, add]
    };
    let two = |one: Chain, other: Chain| {
        let named = |name: &str, chain| Table { name: name.into(), ..fixture::table(vec![chain], Vec::new()) };
        judged(&nft(vec![named("a", one), named("b", other)]))
    };
    let open = |judged: PathVerdict| judged.unknown.len() + judged.conditional.len();
    let led = |to| nat_on(Hook::Prerouting, vec![redirect(Some((to, to)))]);
    let (input, adds) = (|to| input(vec![port(to)]), || input(vec![add()]));
    assert_eq!(open(two(input(2222), input(2222))), 0);
    assert_eq!(open(two(adds(), adds())), 0);
    assert_eq!(open(two(led(2222), led(2222))), 0);
    assert!(two(led(2222), led(2222)).admitted.is_full());
    // Of nat the first counts, and on the other port nobody listens.
    assert_eq!(open(two(led(2222), led(2223))), 1);
}
