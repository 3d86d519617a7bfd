//! What most rulesets are made of is told at a glance: whether it is right the walk itself asserts, and here, that it is told.

use super::Rules;
use super::flow::{Flow, Fork, Packet, Phase, Tracking};
use super::glance::Glance;
use super::walk::{Site, Walk};
use crate::facts::*;
use crate::judge::{Path, fixture};

#[derive(Debug, PartialEq)]
enum Told {
    Misses,
    /// For how many sources, and up to which expression.
    Holds(Option<u128>, usize),
    Closer,
}
use Told::{Closer, Holds, Misses};

const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);

/// Of the SYN of a handshake, in INPUT.
fn told_of(family: Family, exprs: Vec<Expr>) -> Told {
    let keys = |keys: &[u16]| {
        let element = |port: &u16| Element {
            key: ElementKey::One(port.to_be_bytes().as_slice().into()),
            data: None,
            exprs: vec![],
        };
        keys.iter().map(element).collect()
    };
    let range = ElementKey::Range(vec![0, 20].into(), vec![0, 23].into());
    let interval = vec![Element { key: range, data: None, exprs: vec![] }];
    let sets = vec![
        fixture::set("http", 2, keys(&[80, 443])),
        fixture::set("range", 2, interval),
        fixture::set("ssh", 2, keys(&[22, 2222])),
    ];
    let own = if family == Family::Ipv4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let chain = fixture::filter(Hook::Input, Policy::Accept, vec![vec![Expr::Counter], exprs]);
    let firewall = fixture::nft(vec![Table { family: own, ..fixture::table(vec![chain], sets) }]);
    let (rules, net) = (Rules::of(&firewall), fixture::healthy().net);
    let address = fixture::ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    let path = Path { family, interface: "eth0".into(), ifindex: 2, address, port: 22 };
    let mut walk = Walk::new(&rules, &net, &path, &[]);
    let (address, port) = (number(address), 22);
    let flow = Flow { tracked: true, answered: false, zone: 0, mark: Some(0), address, port, diverted: None };
    let packet = Packet {
        phase: Phase::Syn,
        family,
        address,
        port,
        rewritten: None,
        served: None,
        iif: Some(2),
        oif: None,
        mark: Some(0),
        tracking: Tracking::New,
        zone: 0,
        flow,
        nat_done: false,
        touched: Vec::new(),
        notes: Vec::new(),
    };
    let known = &rules.chains[0];
    let site = Site::of(Hook::Input, known);
    walk.stack.push(site);
    let fork = Fork { sources: AddrSet::full(family), packet, doubts: Vec::new() };
    let views = walk.views(std::slice::from_ref(&fork));
    match walk.glance(&site, known.digest(&rules), 1, &fork, &views[0]) {
        Glance::Misses => Misses,
        Glance::Holds(hit, at) => Holds(hit.map(|hit| hit.count()), at),
        Glance::Closer => Closer,
    }
}

fn told(exprs: Vec<Expr>) -> Told {
    told_of(Family::Ipv4, [exprs, vec![ACCEPT]].concat())
}

fn is(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp { sreg: 0, op, data: data.into() }
}

fn meta(key: MetaKey, data: &[u8]) -> Vec<Expr> {
    vec![Expr::Meta { dreg: 0, key }, is(CmpOp::Eq, data)]
}

fn network(offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg: 0, base: PayloadBase::Network, offset, len }
}

fn dport() -> Expr {
    Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 }
}

fn mask(mask: &[u8], xor: &[u8]) -> Expr {
    let op = BitwiseOp::MaskXor { mask: mask.into(), xor: xor.into() };
    Expr::Bitwise { sreg: 0, dreg: 0, len: mask.len() as u32, op }
}

fn within(set: &str, negate: bool) -> Vec<Expr> {
    vec![dport(), Expr::Lookup { set: set.into(), sreg: 0, dreg: None, negate }]
}

#[test]
fn what_is_the_same_for_every_client_is_told_at_a_glance() {
    let tcp = meta(MetaKey::L4Proto, &[6]);
    assert_eq!(told(tcp.clone()), Holds(None, 2));
    assert_eq!(told(meta(MetaKey::L4Proto, &[17])), Misses);
    assert_eq!(told([tcp.clone(), vec![dport(), is(CmpOp::Eq, &[0, 22])]].concat()), Holds(None, 4));
    assert_eq!(told([tcp.clone(), vec![dport(), is(CmpOp::Eq, &[0, 80])]].concat()), Misses);
    assert_eq!(told([tcp, vec![Expr::Counter, Expr::Log { prefix: String::new() }]].concat()), Holds(None, 4));
    let state = Expr::Ct { dreg: 0, key: CtKey::State, dir: None };
    let new = |bits: u32| vec![state.clone(), mask(&bits.to_ne_bytes(), &[0; 4]), is(CmpOp::Neq, &[0; 4])];
    assert_eq!(told(new(8)), Holds(None, 3));
    assert_eq!(told(new(2)), Misses);
    let mut name = b"eth0".to_vec();
    name.resize(16, 0);
    assert_eq!(told(meta(MetaKey::IifName, &name)), Holds(None, 2));
    assert_eq!(told(meta(MetaKey::IifName, b"eth")), Holds(None, 2));
    assert_eq!(told(vec![network(16, 4), is(CmpOp::Eq, &[192, 0, 2, 10])]), Holds(None, 2));
    assert_eq!(
        told(vec![network(16, 4), mask(&[255, 255, 255, 0], &[0; 4]), is(CmpOp::Eq, &[192, 0, 2, 0])]),
        Holds(None, 3)
    );
    // A conntrack entry without a helper breaks the rule.
    let helper = Expr::Ct { dreg: 0, key: CtKey::Helper, dir: None };
    assert_eq!(told(vec![helper.clone(), is(CmpOp::Neq, &[0; 16])]), Misses);
    assert_eq!(told(vec![helper, mask(&[0xff; 16], &[1; 16]), is(CmpOp::Neq, &[0; 16])]), Misses);
    let range = |negate| Expr::Range { sreg: 0, negate, from: vec![0, 20].into(), to: vec![0, 22].into() };
    assert_eq!(told(vec![dport(), range(false)]), Holds(None, 2));
    assert_eq!(told(vec![dport(), range(true)]), Misses);
    assert_eq!(told(within("ssh", false)), Holds(None, 2));
    assert_eq!(told(within("ssh", true)), Misses);
    assert_eq!(told(within("http", false)), Misses);
    assert_eq!(told(within("http", true)), Holds(None, 2));
    for deed in [Expr::Reject(RejectWith::TcpReset), Expr::XtTarget(XtTarget::Drop)] {
        assert_eq!(told_of(Family::Ipv4, vec![deed]), Holds(None, 0));
    }
}

#[test]
fn a_source_or_a_prefix_is_told_at_a_glance() {
    let source = vec![network(12, 4), is(CmpOp::Eq, &[10, 1, 2, 3])];
    assert_eq!(told(source), Holds(Some(1), 2));
    assert_eq!(told(vec![network(12, 1), is(CmpOp::Eq, &[10])]), Holds(Some(1 << 24), 2));
    assert_eq!(
        told(vec![network(12, 4), mask(&[255, 240, 0, 0], &[0; 4]), is(CmpOp::Eq, &[172, 16, 0, 0])]),
        Holds(Some(1 << 20), 3)
    );
    // Outside of its own mask: nobody.
    assert_eq!(told(vec![network(12, 4), mask(&[255, 240, 0, 0], &[0; 4]), is(CmpOp::Eq, &[172, 1, 0, 0])]), Misses);
    // Two of them that no source is in.
    let two = vec![network(12, 1), is(CmpOp::Eq, &[10]), network(12, 1), is(CmpOp::Eq, &[11])];
    assert_eq!(told(two), Misses);
    let six = vec![network(8, 16), is(CmpOp::Eq, &[0x20; 16]), ACCEPT];
    assert_eq!(told_of(Family::Ipv6, six), Holds(Some(1), 2));
}

#[test]
fn the_rest_takes_a_closer_look() {
    assert_eq!(told(vec![network(12, 4), is(CmpOp::Neq, &[10, 1, 2, 3])]), Closer);
    assert_eq!(told(vec![network(12, 4), mask(&[255, 0, 255, 0], &[0; 4]), is(CmpOp::Eq, &[10, 0, 2, 0])]), Closer);
    assert_eq!(told(vec![network(12, 4), mask(&[255; 4], &[1; 4]), is(CmpOp::Eq, &[10, 0, 2, 0])]), Closer);
    assert_eq!(told(within("range", false)), Closer);
    assert_eq!(told(within("gone", false)), Closer);
    assert_eq!(told(vec![network(12, 8), is(CmpOp::Neq, &[0; 8])]), Closer);
    assert_eq!(told(vec![network(0, 20), is(CmpOp::Eq, &[0; 20])]), Closer);
    assert_eq!(told(vec![Expr::Limit { over: false, text: "3/minute".into() }]), Closer);
    // What was loaded before is in another register.
    let apart = Expr::Meta { dreg: 16, key: MetaKey::Mark };
    assert_eq!(told([vec![dport(), apart], vec![is(CmpOp::Eq, &[0, 22])]].concat()), Closer);
    let mixed = vec![network(12, 8), is(CmpOp::Eq, &[10, 0, 0, 1, 192, 0, 2, 10])];
    assert_eq!(told(mixed), Closer);
    // A load that nobody tests may still break the rule.
    assert_eq!(told(vec![Expr::Meta { dreg: 0, key: MetaKey::IifGroup }]), Closer);
    let helper = Expr::Ct { dreg: 0, key: CtKey::Helper, dir: None };
    assert_eq!(told([vec![helper], meta(MetaKey::L4Proto, &[6])].concat()), Closer);
    assert_eq!(told(vec![Expr::Verdict(Verdict::Break)]), Closer);
}

/// What is in the registers is what was loaded last, with zeros up to four bytes, and what was there before.
#[test]
fn registers_that_the_last_load_does_not_fill_take_a_closer_look() {
    let before = Expr::Meta { dreg: 4, key: MetaKey::Iif };
    let two: [u8; 4] = 2u32.to_ne_bytes();
    let after = |load: Expr, test: Expr| told(vec![before.clone(), load, test]);
    let protocol = Expr::Meta { dreg: 0, key: MetaKey::L4Proto };
    let both = [[6, 0, 0, 0], two].concat();
    assert_eq!(after(protocol.clone(), is(CmpOp::Eq, &both)), Closer);
    assert_eq!(
        after(protocol, Expr::Range { sreg: 0, negate: false, from: both.clone().into(), to: both.into() }),
        Closer
    );
    assert_eq!(after(network(12, 4), is(CmpOp::Eq, &[[10, 1, 2, 3], two].concat())), Closer);
    // A mask over fewer bytes than there are, or more.
    assert_eq!(told(vec![network(16, 4), mask(&[255; 2], &[0; 2]), is(CmpOp::Eq, &[192, 0, 0, 0])]), Closer);
    assert_eq!(told(vec![network(12, 4), mask(&[255; 2], &[0; 2]), is(CmpOp::Eq, &[10, 1, 0, 0])]), Closer);
    assert_eq!(told(vec![dport(), mask(&[255; 4], &[0; 4]), is(CmpOp::Eq, &[0, 22])]), Closer);
    let into_another = BitwiseOp::MaskXor { mask: vec![255; 2].into(), xor: vec![0; 2].into() };
    let masked = Expr::Bitwise { sreg: 0, dreg: 4, len: 2, op: into_another };
    let elsewhere = Expr::Cmp { sreg: 4, op: CmpOp::Eq, data: vec![0, 22].into() };
    assert_eq!(told(vec![dport(), masked, elsewhere]), Closer);
    // What is too long to be looked at takes the place of what was there.
    let long = network(0, 20);
    assert_eq!(told(vec![dport(), long.clone(), is(CmpOp::Eq, &[0, 22])]), Closer);
    assert_eq!(told(vec![dport(), is(CmpOp::Eq, &[0, 22]), long]), Closer);
    let ends_differ = Expr::Range { sreg: 0, negate: false, from: vec![0, 20].into(), to: vec![1].into() };
    assert_eq!(told(vec![dport(), ends_differ]), Closer);
    let six = |len| vec![network(8, len), is(CmpOp::Eq, &[0x20; 16]), ACCEPT];
    assert_eq!(told_of(Family::Ipv6, six(16)), Holds(Some(1), 2));
    assert_eq!(told_of(Family::Ipv6, six(20)), Closer);
}

#[test]
fn a_named_object_takes_a_closer_look_at_what_it_limits() {
    // NFT_OBJECT_COUNTER 1, QUOTA 2, SYNPROXY 10
    let object = |kind| Expr::Objref { kind, name: Some("o".into()), by_map: None };
    let http = || [dport(), is(CmpOp::Eq, &[0, 80])];
    for kind in [1, 2, 10] {
        assert_eq!(told(vec![object(kind)]), Closer, "{kind}");
    }
    assert_eq!(told([vec![object(2)], http().to_vec()].concat()), Misses);
    // It has answered in the server's place before the port is looked at.
    assert_eq!(told([vec![object(10)], http().to_vec()].concat()), Closer);
}

#[test]
fn matches_of_x_tables_are_told_at_a_glance() {
    let any = Masked::default();
    let header = |src: Masked, proto, proto_invert, iif: Option<&str>| {
        let iif = iif.map(|name| IfaceMatch { name: name.into(), exact: true, invert: false });
        let header = XtHeader { src, proto, proto_invert, iif, ..XtHeader::default() };
        Expr::XtMatch(XtMatch::Header(Box::new(header)))
    };
    let tcp = |dports| {
        Expr::XtMatch(XtMatch::Tcp {
            sports: (0, u16::MAX),
            dports,
            invert_sports: false,
            invert_dports: false,
            flags_mask: 0,
            flags_set: 0,
            invert_flags: false,
            option: None,
        })
    };
    assert_eq!(told(vec![header(any, 6, false, None), tcp((22, 22))]), Holds(None, 2));
    assert_eq!(told(vec![header(any, 6, false, None), tcp((80, 443))]), Misses);
    assert_eq!(told(vec![header(any, 6, true, None)]), Misses);
    assert_eq!(told(vec![header(any, 17, false, None)]), Misses);
    assert_eq!(told(vec![header(any, 0, false, Some("eth1"))]), Misses);
    assert_eq!(told(vec![header(any, 0, false, Some("eth0"))]), Closer);
    let net = Masked { address: 0x0a00_0000, mask: 0xff00_0000, invert: false };
    assert_eq!(told(vec![header(net, 6, false, None), tcp((0, u16::MAX))]), Holds(Some(1 << 24), 2));
    assert_eq!(told(vec![header(Masked { invert: true, ..net }, 0, false, None)]), Closer);
    let xt = |found| told(vec![Expr::XtMatch(found)]);
    let ct = |state| XtMatch::Conntrack(Box::new(Conntrack { state: Some((state, false)), ..Conntrack::default() }));
    assert_eq!(xt(ct(8)), Holds(None, 1));
    assert_eq!(xt(ct(2)), Misses);
    assert_eq!(xt(XtMatch::Mark { mark: 0, mask: 1, invert: false }), Holds(None, 1));
    assert_eq!(xt(XtMatch::Comment(String::new())), Holds(None, 1));
    assert_eq!(xt(XtMatch::Udp { sports: (0, 9), dports: (0, 9), invert_sports: false, invert_dports: false }), Misses);
    let ports = |which| XtMatch::Multiport { which, ports: vec![(22, 22), (40000, 40001)], invert: false };
    assert_eq!(xt(ports(MultiportWhich::Destination)), Holds(None, 1));
    assert_eq!(xt(ports(MultiportWhich::Source)), Closer);
    let iprange = Iprange { src: Some((1, 2, false)), dst: None };
    let iprange = Expr::XtMatch(XtMatch::Iprange(Box::new(iprange)));
    assert_eq!(told(vec![iprange.clone()]), Closer);
    // The protocol does not tell of whom the range speaks, and another port tells that it misses.
    assert_eq!(told(vec![iprange.clone(), header(any, 6, false, None)]), Closer);
    assert_eq!(told(vec![iprange, header(any, 6, false, None), tcp((80, 80))]), Misses);
}
