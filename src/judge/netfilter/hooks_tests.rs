//! What holds of a packet between the hooks, and what is left of it for the next one.

use super::forms_tests::Hit::{Conditional, Everybody, Nobody, Unknown};
use super::forms_tests::{DROP, Hit, Host, behind_eth1, chain, host, immediate, meta, meta_number, v4};
use super::{Ports, walk};
use crate::facts::*;
use crate::judge::fixture::{self, ip};
use crate::judge::{Gate, PathVerdict, Symptom, judge};
use crate::plan::{Decision, plan, words};

const RAW: i32 = -300;

fn filter(hook: Hook, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    chain(hook, ChainKind::Filter, priority, rules)
}

fn state(bits: u32) -> Vec<Expr> {
    let data = bits.to_ne_bytes().to_vec();
    vec![
        Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() },
        DROP,
    ]
}

/// Bits of `ct state`.
const INVALID: u32 = 1;
const NEW: u32 = 8;
const UNTRACKED: u32 = 64;

fn transport(offset: u32, data: &[u8]) -> Vec<Expr> {
    let load = Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset, len: data.len() as u32 };
    vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }]
}

/// The flags of TCP, exactly.
fn flags(flags: u8) -> Vec<Expr> {
    transport(13, &[flags])
}
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[test]
fn the_reverse_path_filter_drops_only_by_routes_that_are_known() {
    let filtered = |host: &mut Host, how: u8| {
        host.net.rp_filter = vec![("eth1".into(), 1), ("eth0".into(), how)];
        host.hit_of(Vec::new())
    };
    assert_eq!(filtered(&mut v4(), 1), Hit::Some(behind_eth1()));
    assert_eq!(filtered(&mut v4(), 2), Nobody);
    assert_eq!(filtered(&mut v4(), 0), Nobody);
    assert_eq!(filtered(&mut host(Family::Ipv6), 1), Nobody);
    let mut by_rule = v4();
    by_rule.net.policy_routing = true;
    assert_eq!(filtered(&mut by_rule, 1), Nobody);
    let mut unread = v4();
    unread.net.routes = Seen::Absent;
    assert_eq!(filtered(&mut unread, 1), Nobody);
}

#[test]
fn nat_to_another_address_of_the_host_stays_here_and_to_a_foreign_one_goes_away() {
    let mut host = v4();
    let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
    let second = Address { address: ip("192.0.2.11"), ..addresses[0].clone() };
    addresses.push(second);
    let to = |address: &str| {
        let address = number(ip(address));
        let addresses = Some(Box::new((address, address)));
        let dnat = Expr::XtTarget(XtTarget::Nat { kind: NatKind::Dnat, addresses, ports: None, flags: 0 });
        host.hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![dnat]])])
    };
    assert_eq!(to("192.0.2.11"), Nobody);
    assert_eq!(to("192.0.2.12"), Everybody);
}

#[test]
fn a_packet_begins_without_the_mark_and_the_tracking_of_the_one_before() {
    let marks = vec![immediate(0, &[1, 0, 0, 0]), Expr::MetaSet { sreg: 0, key: MetaKey::Mark }];
    let marked = [meta_number(MetaKey::Mark, 1), vec![DROP]].concat();
    let of = |set, asked, priority| {
        v4().hit_of(vec![filter(set, RAW, vec![marks.clone()]), filter(asked, priority, vec![marked.clone()])])
    };
    assert_eq!(of(Hook::Output, Hook::Postrouting, 0), Everybody);
    assert_eq!(of(Hook::Output, Hook::Prerouting, RAW), Nobody);
    assert_eq!(of(Hook::Input, Hook::Output, RAW), Nobody);
    // Before conntrack's own hook nothing is known of a packet, whatever flow it is of.
    let raw = |bits| v4().hit_of(vec![filter(Hook::Output, RAW, vec![state(bits)])]);
    assert_eq!(raw(INVALID), Everybody);
    assert_eq!(raw(NEW), Nobody);
    let notrack = filter(Hook::Prerouting, RAW, vec![vec![Expr::Notrack]]);
    let answer = |bits| v4().hit_of(vec![notrack.clone(), filter(Hook::Output, 0, vec![state(bits)])]);
    assert_eq!(answer(UNTRACKED), Nobody);
    assert_eq!(answer(INVALID), Everybody);
}

fn rewritten(mut exprs: Vec<Expr>, offset: u32, port: u16) -> Vec<Expr> {
    let set = Expr::PayloadSet { sreg: 4, base: PayloadBase::Transport, offset, len: 2 };
    exprs.extend([immediate(4, &port.to_be_bytes()), set]);
    exprs
}

fn with_ssh_on_2222(chains: Vec<Chain>) -> PathVerdict {
    let (host, ports) = (v4(), Ports { ssh: vec![22, 2222], ..Ports::default() });
    walk(&fixture::nft(vec![fixture::table(chains, Vec::new())]), &host.net, &host.path, &[], &ports)
}

#[test]
fn an_answer_from_elsewhere_is_blamed_on_the_rule_that_led_the_question_there() {
    let there = rewritten(transport(2, &[0, 22]), 2, 2222);
    let judged = with_ssh_on_2222(vec![filter(Hook::Prerouting, -310, vec![vec![Expr::Counter], there.clone()])]);
    let [blocked] = &judged.blocked[..] else { panic!("{judged:?}") };
    assert!(blocked.sources.is_full() && blocked.symptom == Symptom::TimedOut, "{judged:?}");
    assert_eq!((&*blocked.by.place, blocked.by.position), ("inet t Prerouting -310", Some(2)));
    let back = filter(Hook::Output, 0, vec![rewritten(transport(0, &2222u16.to_be_bytes()), 0, 22)]);
    assert!(with_ssh_on_2222(vec![filter(Hook::Prerouting, -310, vec![there]), back]).admitted.is_full());
}

#[test]
fn a_question_that_is_led_to_another_port_of_sshd_is_kept_from_that() {
    let listener = fixture::listener;
    let listeners = vec![listener("0.0.0.0", 22), listener("::", 22), listener("0.0.0.0", 2222), listener("::", 2222)];
    let there = filter(Hook::Prerouting, -310, vec![vec![Expr::Counter], rewritten(transport(2, &[0, 22]), 2, 2222)]);
    let firewall = fixture::nft(vec![fixture::table(vec![there], Vec::new())]);
    let mut snapshot = Snapshot { firewall, listeners: Seen::Present(listeners), ..fixture::healthy() };
    snapshot.sshd.settings = Seen::Present(Settings { ports: vec![22, 2222], ..Settings::default() });
    let policy = crate::policy::Policy::default();
    let judgement = judge(&policy, &snapshot);
    assert_eq!(judgement.verdict, crate::judge::Verdict::Blocked, "{}", judgement.sentence);
    let Decision::Repair(plan) = plan(&policy, &snapshot, &judgement, "x") else { panic!("no plan") };
    assert_eq!(words(&plan.steps), ["accept tcp to port 22 by eth0 before rule 2 of inet t Prerouting -310"]);
}

#[test]
fn whoever_puts_the_answer_back_is_not_blamed_for_the_packet_that_goes_astray_then() {
    let there = filter(Hook::Prerouting, -310, vec![rewritten(flags(SYN), 2, 2222)]);
    let back = filter(Hook::Output, 0, vec![rewritten(transport(0, &2222u16.to_be_bytes()), 0, 22)]);
    let judged = with_ssh_on_2222(vec![there, back]);
    let [blocked] = &judged.blocked[..] else { panic!("{judged:?}") };
    assert!(blocked.sources.is_full() && blocked.symptom == Symptom::NoBanner, "{judged:?}");
    assert_eq!((blocked.by.gate, &blocked.by.rule_ref), (Gate::Firewall, &None));
}

/// nf_conntrack_proto_tcp.c, with nf_conntrack_tcp_loose as it is by default.
#[test]
fn tracking_follows_what_it_has_seen_of_a_handshake() {
    let untracked = |hook, which: u8| filter(hook, RAW, vec![[flags(which), vec![Expr::Notrack]].concat()]);
    let of = |first: Chain, hook, which: u8, bits| {
        v4().hit_of(vec![first, filter(hook, 0, vec![[flags(which), state(bits)].concat()])])
    };
    // An answer to what was not tracked belongs to nothing; what the client sends then is taken for a new flow.
    let of_syn = |hook, which, bits| of(untracked(Hook::Prerouting, SYN), hook, which, bits);
    assert_eq!(of_syn(Hook::Output, SYN | ACK, INVALID), Everybody);
    assert_eq!(of_syn(Hook::Input, ACK, INVALID), Nobody);
    assert_eq!(of_syn(Hook::Input, ACK, NEW), Everybody);
    // Where the answer was not seen the client's next packet is none that the flow waits for.
    let of_answer = |bits| of(untracked(Hook::Output, SYN | ACK), Hook::Input, ACK, bits);
    assert_eq!(of_answer(INVALID), Everybody);
    assert_eq!(of_answer(NEW), Nobody);
    // Nor is an answer in another zone one to what was asked.
    let zone = vec![immediate(0, &[3, 0]), Expr::CtSet { sreg: 0, key: CtKey::Zone, dir: None }];
    let zoned = || filter(Hook::Output, RAW, vec![zone.clone()]);
    assert_eq!(of(zoned(), Hook::Output, SYN | ACK, INVALID), Everybody);
    assert_eq!(of(zoned(), Hook::Input, ACK, INVALID), Everybody);
    // A zone is that of the packet for which it was set, and not its flow's.
    let asked = || filter(Hook::Prerouting, RAW, vec![zone.clone()]);
    assert_eq!(of(asked(), Hook::Output, SYN | ACK, INVALID), Everybody);
    let both = filter(Hook::Input, 0, vec![[flags(ACK), state(INVALID)].concat()]);
    assert_eq!(v4().hit_of(vec![asked(), zoned(), both]), Nobody);
}

#[test]
fn a_route_that_leads_nowhere_is_named_by_its_kind() {
    for (kind, due) in [
        (RouteKind::Blackhole, "a blackhole route leads back to the source"),
        (RouteKind::Unreachable, "an unreachable route leads back to the source"),
        (RouteKind::Prohibit, "a prohibit route leads back to the source"),
    ] {
        let mut host = v4();
        let Seen::Present(routes) = &mut host.net.routes else { unreachable!() };
        let destination = "198.51.100.0/24".parse().unwrap();
        routes.push(Route { kind, destination, ..routes[0].clone() });
        let judged = host.judged(Vec::new());
        let [blocked] = &judged.blocked[..] else { panic!("{judged:?}") };
        assert_eq!(blocked.sources, AddrSet::net(destination));
        assert_eq!((blocked.by.gate, &*blocked.by.place), (Gate::Route, "the routes"));
        assert_eq!(blocked.by.rule.as_ref().unwrap().to_string(), due);
    }
}

fn bridge(driver: Option<&str>, table: Table) -> Hit {
    let mut host = v4();
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].driver = driver.map(str::to_owned);
    let judged = walk(&fixture::nft(vec![table]), &host.net, &host.path, &[], &Ports::default());
    match () {
        () if judged.admitted.is_full() => Nobody,
        () => {
            let [open] = &judged.unknown[..] else { panic!("{judged:?}") };
            assert!(open.sources.is_full() && &*open.by.place == "bridge t", "{judged:?}");
            assert_eq!(open.reason, "rules of family bridge are not modelled");
            Unknown
        }
    }
}

#[test]
fn rules_for_a_bridges_frames_leave_open_what_comes_in_by_it() {
    let of = |chain: Chain| Table { family: TableFamily::Bridge, ..fixture::table(vec![chain], Vec::new()) };
    let counts = || fixture::filter(Hook::Prerouting, Policy::Accept, vec![vec![Expr::Counter]]);
    let empty = |policy| fixture::filter(Hook::Input, policy, Vec::new());
    assert_eq!(bridge(Some("bridge"), of(counts())), Unknown);
    assert_eq!(bridge(Some("bridge"), of(empty(Policy::Drop))), Unknown);
    assert_eq!(bridge(Some("bridge"), of(empty(Policy::Accept))), Nobody);
    // Neither is met: one is called by nobody, and the other's table sleeps.
    assert_eq!(bridge(Some("bridge"), of(Chain { base: None, ..counts() })), Nobody);
    assert_eq!(bridge(Some("bridge"), Table { dormant: true, ..of(counts()) }), Nobody);
    assert_eq!(bridge(Some("bridge"), fixture::table(vec![counts()], Vec::new())), Nobody);
    assert_eq!(bridge(Some("veth"), of(counts())), Nobody);
    assert_eq!(bridge(None, of(counts())), Nobody);
}

/// What is asked for on the way out has no interface on the way in, and the other way round.
#[test]
fn an_interface_is_known_on_its_own_way_alone() {
    let mut name = b"eth0".to_vec();
    name.resize(16, 0);
    let named = |hook, key| v4().hit(hook, meta(key, &name));
    assert_eq!(named(Hook::Input, MetaKey::IifName), Everybody);
    assert_eq!(named(Hook::Output, MetaKey::IifName), Nobody);
    assert_eq!(named(Hook::Input, MetaKey::OifName), Nobody);
    assert_eq!(named(Hook::Postrouting, MetaKey::OifName), Hit::Some(behind_eth1().complement()));
    let limit = Expr::Limit { over: false, text: "3/minute".into() };
    assert_eq!(v4().hit(Hook::Input, [vec![limit], meta(MetaKey::IifName, &name)].concat()), Conditional);
}
