//! What connection tracking knows, and what rules find of it.

use super::*;

const NEW: u32 = 8;
/// IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
const CONFIRMED: u32 = 2 | 4 | 8;
/// IPS_SRC_NAT_DONE, IPS_DST_NAT_DONE
const NAT_DONE: u32 = 128 | 256;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

fn is(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp { sreg: 0, op, data: data.into() }
}

fn flags(set: u8) -> Vec<Expr> {
    vec![Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 13, len: 1 }, is(CmpOp::Eq, &[set])]
}

fn ct(key: CtKey, dir: Option<CtDir>, data: &[u8]) -> Vec<Expr> {
    vec![Expr::Ct { dreg: 0, key, dir }, is(CmpOp::Eq, data)]
}

fn state(bits: u32) -> Vec<Expr> {
    ct(CtKey::State, None, &bits.to_ne_bytes())
}

/// Of the bits in the mask these are set.
fn status(mask: u32, set: u32) -> Vec<Expr> {
    let op = BitwiseOp::MaskXor { mask: mask.to_ne_bytes().as_slice().into(), xor: vec![0; 4].into() };
    let load = Expr::Ct { dreg: 0, key: CtKey::Status, dir: None };
    vec![load, Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op }, is(CmpOp::Eq, &set.to_ne_bytes())]
}

fn drops(found: Vec<Vec<Expr>>) -> Vec<Expr> {
    [found.concat(), vec![DROP]].concat()
}

fn raw(rules: Vec<Vec<Expr>>) -> Chain {
    chain(Hook::Prerouting, ChainKind::Filter, -300, rules)
}

fn nat() -> Chain {
    chain(Hook::Prerouting, ChainKind::Nat, -100, Vec::new())
}

fn xt_ct(zone: u16, notrack: bool) -> Vec<Expr> {
    vec![Expr::XtTarget(XtTarget::Ct { notrack, zone, helper: None })]
}

fn drops_xt(found: XtMatch) -> Vec<Expr> {
    vec![Expr::XtMatch(found), DROP]
}

fn of_state(bits: u16) -> XtMatch {
    XtMatch::Conntrack(Box::new(Conntrack { state: Some((bits, false)), ..Conntrack::default() }))
}

/// nf_conntrack_proto_tcp.c (nf_conntrack_tcp_loose): an ACK without an entry begins one, of which nothing is confirmed yet.
#[test]
fn a_flow_that_an_ack_begins_is_not_confirmed() {
    let untracked = raw(vec![[flags(SYN), vec![Expr::Notrack]].concat()]);
    for (set, due) in [(0, Everybody), (CONFIRMED, Nobody)] {
        let input = chain(Hook::Input, ChainKind::Filter, 0, vec![drops(vec![flags(ACK), status(CONFIRMED, set)])]);
        assert_eq!(v4().hit_of(vec![untracked.clone(), input.clone()]), due, "picked up, {set}");
        let usual = if set == 0 { Nobody } else { Everybody };
        assert_eq!(v4().hit_of(vec![input]), usual, "established, {set}");
    }
}

#[test]
fn an_established_flow_has_passed_both_kinds_of_nat_wherever_its_packet_is() {
    for (hook, priority) in
        [(Hook::Prerouting, -150), (Hook::Prerouting, -50), (Hook::Input, 50), (Hook::Input, 150), (Hook::Output, 0)]
    {
        let found = if hook == Hook::Output { Vec::new() } else { flags(ACK) };
        for (done, due) in [(NAT_DONE, Everybody), (0, Nobody), (256, Nobody)] {
            let rule = drops(vec![found.clone(), status(NAT_DONE, done)]);
            let filter = chain(hook, ChainKind::Filter, priority, vec![rule]);
            assert_eq!(v4().hit_of(vec![nat(), filter]), due, "{hook:?} {priority} {done}");
        }
    }
}

/// nf_hook_entries_grow: of equal priority the hook that was registered later comes first, here before nat's own.
#[test]
fn a_chain_of_nats_own_priority_that_was_made_after_it_sees_the_flow_before_nat() {
    for (hook, priority, before) in [(Hook::Prerouting, -100, 0), (Hook::Input, 100, 256)] {
        for (done, due) in [(before, Everybody), (NAT_DONE, Nobody)] {
            let rule = drops(vec![state(NEW), status(NAT_DONE, done)]);
            let filter = chain(hook, ChainKind::Filter, priority, vec![rule]);
            assert_eq!(v4().hit_of(vec![nat(), filter]), due, "{hook:?} {done}");
        }
    }
}

#[test]
fn each_direction_of_a_flow_has_the_clients_port_at_its_own_end() {
    let of = |key, dir, op, number: u16| {
        v4().hit(Hook::Input, vec![Expr::Ct { dreg: 0, key, dir: Some(dir) }, is(op, &number.to_be_bytes())])
    };
    for (clients, hosts, dir) in
        [(CtKey::ProtoSrc, CtKey::ProtoDst, CtDir::Original), (CtKey::ProtoDst, CtKey::ProtoSrc, CtDir::Reply)]
    {
        assert_eq!(of(clients, dir, CmpOp::Gte, 32768), Everybody, "{dir:?}");
        assert_eq!(of(clients, dir, CmpOp::Lte, 60999), Everybody, "{dir:?}");
        assert_eq!(of(clients, dir, CmpOp::Eq, 40000), Conditional, "{dir:?}");
        assert_eq!(of(clients, dir, CmpOp::Eq, 22), Nobody, "{dir:?}");
        assert_eq!(of(hosts, dir, CmpOp::Eq, 22), Everybody, "{dir:?}");
        assert_eq!(of(hosts, dir, CmpOp::Neq, 22), Nobody, "{dir:?}");
    }
}

/// nft_ct_set_eval does nothing where the packet has no entry.
#[test]
fn a_flow_is_marked_once_there_is_one() {
    let sets = |load: Expr| vec![load, Expr::CtSet { sreg: 0, key: CtKey::Mark, dir: None }];
    let five = || sets(immediate(0, &5u32.to_ne_bytes()));
    let is = |mark: u32| ct(CtKey::Mark, None, &mark.to_ne_bytes());
    assert_eq!(v4().then(Hook::Prerouting, vec![five()], is(5)), Everybody);
    assert_eq!(v4().then(Hook::Prerouting, vec![five()], is(0)), Nobody);
    let priority = Expr::Meta { dreg: 0, key: MetaKey::Priority };
    assert_eq!(v4().then(Hook::Prerouting, vec![sets(priority)], is(5)), Unknown);
    for (mark, due) in [(0, Everybody), (5, Nobody)] {
        let input = chain(Hook::Input, ChainKind::Filter, 0, vec![drops(vec![is(mark)])]);
        assert_eq!(v4().hit_of(vec![raw(vec![five()]), input]), due, "{mark}");
    }
}

/// xt_conntrack.c: one of the bits asked for is enough.
#[test]
fn the_status_is_that_of_the_flow_when_the_packet_comes() {
    const SEEN_REPLY: u16 = 2;
    const EXPECTED: u16 = 1;
    let of = |set: u8, wanted, invert| {
        let found = Conntrack { status: Some((wanted, invert)), ..Conntrack::default() };
        v4().hit(Hook::Input, [flags(set), vec![Expr::XtMatch(XtMatch::Conntrack(Box::new(found)))]].concat())
    };
    for (invert, holds, misses) in [(false, Everybody, Nobody), (true, Nobody, Everybody)] {
        assert_eq!(of(SYN, SEEN_REPLY, invert), misses);
        assert_eq!(of(ACK, SEEN_REPLY, invert), holds);
        assert_eq!(of(ACK, SEEN_REPLY | EXPECTED, invert), holds);
        assert_eq!(of(ACK, EXPECTED, invert), misses);
    }
}

/// nf_ct_tmpl_alloc: x_tables reads the template as it reads an entry, and nf_tables nothing but its state.
#[test]
fn a_template_is_new_and_bears_no_mark() {
    let connmark = |mark, invert| XtMatch::Connmark { mark, mask: u32::MAX, invert };
    let in_zone = |found| v4().hit_of(vec![raw(vec![xt_ct(1, false), drops_xt(found)])]);
    assert_eq!(in_zone(connmark(0, false)), Everybody);
    assert_eq!(in_zone(connmark(0, true)), Nobody);
    assert_eq!(in_zone(connmark(1, false)), Nobody);
    assert_eq!(in_zone(connmark(1, true)), Everybody);
    assert_eq!(in_zone(of_state(8)), Everybody);
    assert_eq!(in_zone(of_state(1)), Nobody);
    let more = Conntrack { state: Some((8, false)), proto: Some((6, false)), ..Conntrack::default() };
    assert_eq!(in_zone(XtMatch::Conntrack(Box::new(more))), Unknown);
    // Without one there is nothing to read, whether it is to be so or not.
    let before = |found| v4().hit_of(vec![raw(vec![drops_xt(found)])]);
    for (mark, invert) in [(0, false), (0, true), (1, false), (1, true)] {
        assert_eq!(before(connmark(mark, invert)), Nobody, "{mark} {invert}");
    }
    assert_eq!(before(of_state(1)), Everybody);
}

/// nft_ct_set_zone_eval does nothing where the packet has an entry.
#[test]
fn a_zone_is_chosen_before_the_packet_is_tracked() {
    let zone = vec![immediate(0, &1u16.to_ne_bytes()), Expr::CtSet { sreg: 0, key: CtKey::Zone, dir: None }];
    let in_raw = |found| v4().hit_of(vec![raw(vec![zone.clone(), drops(vec![found])])]);
    assert_eq!(in_raw(state(NEW)), Everybody);
    assert_eq!(in_raw(state(1)), Nobody);
    let original = ct(CtKey::Direction, None, &[0]);
    assert_eq!(v4().then(Hook::Prerouting, vec![zone], original), Everybody, "it was tracked already");
}

/// xt_CT.c: a packet that has been seen before, untracked for one, is left as it is.
#[test]
fn what_is_not_to_be_tracked_gets_no_zone_by_the_ct_target() {
    const UNTRACKED: u16 = 256;
    let rules = |found| vec![xt_ct(0, true), xt_ct(1, false), drops_xt(found)];
    assert_eq!(v4().hit_of(vec![raw(rules(of_state(UNTRACKED)))]), Everybody);
    assert_eq!(v4().hit_of(vec![raw(rules(of_state(8)))]), Nobody);
}

#[test]
fn the_state_dnat_is_that_of_a_tracked_packet_that_nat_has_led_elsewhere() {
    const DNAT: u16 = 128;
    let ports = Ports { ssh: vec![8022], ..Ports::default() };
    let led = XtTarget::Nat { kind: NatKind::Dnat, addresses: None, ports: Some((8022, 8022)), flags: 0 };
    let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![Expr::XtTarget(led)]]);
    let of = |with_nat: bool, hook, priority| {
        let filter = chain(hook, ChainKind::Filter, priority, vec![drops_xt(of_state(DNAT))]);
        let chains = if with_nat { vec![nat.clone(), filter] } else { vec![filter] };
        let (host, firewall) = (v4(), fixture::nft(vec![fixture::table(chains, Vec::new())]));
        host.told(&walk(&firewall, &host.net, &host.path, &[], &ports))
    };
    assert_eq!(of(true, Hook::Input, 0), Everybody);
    assert_eq!(of(false, Hook::Input, 0), Nobody);
    assert_eq!(of(true, Hook::Prerouting, -300), Nobody, "the ACK is not tracked there yet");
}

#[test]
fn the_rule_that_rewrites_the_port_is_blamed_for_it() {
    let rewrites = |port: u16| {
        let set = Expr::PayloadSet { sreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 };
        vec![immediate(0, &port.to_be_bytes()), set]
    };
    let rules = vec![vec![Expr::Counter], rewrites(8022)];
    let judged = v4().judged(vec![chain(Hook::Prerouting, ChainKind::Filter, -300, rules)]);
    assert!(judged.blocked_sources().is_full());
    let by = &judged.blocked[0].by;
    assert_eq!((by.position, by.rule_ref.as_ref().and_then(|at| at.index)), (Some(2), Some(1)));
}
