//! What rules that few load look at and change, form by form: nft(8), iptables-extensions(8), and the kernel's sources where
//! they are named.

use super::{Ports, Rules, walk};
use crate::facts::*;
use crate::judge::fixture::{self, healthy, ip};
use crate::judge::{Path, PathVerdict, Symptom};

const DROP: Expr = Expr::Verdict(Verdict::Drop);
const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);

/// Whom a rule matches that drops what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hit {
    Everybody,
    Nobody,
    Some(AddrSet),
    Conditional,
    Unknown,
}
use Hit::{Conditional, Everybody, Nobody, Unknown};

#[derive(Clone)]
struct Host {
    net: Net,
    path: Path,
}

/// With a second interface, to which the sources in 10.0.0.0/8 and 2001:db8:a::/48 are routed.
fn host(family: Family) -> Host {
    let mut net = healthy().net;
    let Seen::Present(links) = &mut net.links else { unreachable!() };
    let eth1 = Link { index: 3, name: "eth1".into(), ..links[0].clone() };
    links.push(eth1);
    let Seen::Present(routes) = &mut net.routes else { unreachable!() };
    for (at, destination) in [(0, "10.0.0.0/8"), (1, "2001:db8:a::/48")] {
        let destination = destination.parse().unwrap();
        routes.push(Route { destination, interfaces: vec![3], ..routes[at].clone() });
    }
    let address = ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    Host { net, path: Path { family, interface: "eth0".into(), ifindex: 2, address, port: 22 } }
}

fn v4() -> Host {
    host(Family::Ipv4)
}

fn behind_eth1() -> AddrSet {
    AddrSet::net("10.0.0.0/8".parse().unwrap())
}

/// Those whose answers leave by the interface by which they ask.
fn behind_eth0(family: Family) -> Hit {
    let others = if family == Family::Ipv4 { "10.0.0.0/8" } else { "2001:db8:a::/48" };
    Hit::Some(AddrSet::net(others.parse().unwrap()).complement())
}

/// The host's address is not on the interface by which it is asked.
fn asked_by_the_wrong_door(family: Family) -> Host {
    let mut host = host(family);
    let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
    addresses.iter_mut().for_each(|a| a.interface = 3);
    host
}

fn chain(hook: Hook, kind: ChainKind, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    let base = BaseChain { hook, kind, priority, policy: Policy::Accept, devices: Vec::new() };
    let chain = fixture::filter(hook, Policy::Accept, rules);
    Chain { name: format!("{hook:?} {priority}"), base: Some(base), ..chain }
}

impl Host {
    fn judged(&self, chains: Vec<Chain>) -> PathVerdict {
        let firewall = fixture::nft(vec![fixture::table(chains, Vec::new())]);
        walk(&firewall, &self.net, &self.path, &[], &Ports::default())
    }

    fn hit_of(&self, chains: Vec<Chain>) -> Hit {
        let judged = self.judged(chains);
        let full = |open: &[crate::judge::Open]| {
            let sets = open.iter().map(|o| &o.sources);
            AddrSet::all(self.path.family, sets).is_full()
        };
        match judged.blocked_sources() {
            all if all.is_full() => Everybody,
            _ if judged.admitted.is_full() => Nobody,
            _ if full(&judged.unknown) => Unknown,
            _ if full(&judged.conditional) => Conditional,
            some if judged.admitted == some.complement() => Hit::Some(some),
            _ => panic!("{judged:?}"),
        }
    }

    fn hit(&self, hook: Hook, mut exprs: Vec<Expr>) -> Hit {
        exprs.push(DROP);
        self.hit_of(vec![chain(hook, ChainKind::Filter, 0, vec![exprs])])
    }

    fn xt(&self, hook: Hook, found: XtMatch) -> Hit {
        self.hit(hook, vec![Expr::XtMatch(found)])
    }

    /// Whom what these rules leave reaches, if a rule of INPUT that comes after them drops what fits.
    fn then(&self, hook: Hook, rules: Vec<Vec<Expr>>, fits: Vec<Expr>) -> Hit {
        let last = [fits, vec![DROP]].concat();
        let first = chain(hook, ChainKind::Filter, -150, rules);
        self.hit_of(vec![first, chain(Hook::Input, ChainKind::Filter, 0, vec![last])])
    }
}

fn meta(key: MetaKey, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Meta { dreg: 0, key }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: value.to_vec() }]
}

fn meta_number(key: MetaKey, value: u32) -> Vec<Expr> {
    meta(key, &value.to_ne_bytes())
}

fn fib(flags: u32, result: FibResult, value: &[u8]) -> Vec<Expr> {
    vec![Expr::Fib { dreg: 0, flags, result }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: value.to_vec() }]
}

fn immediate(dreg: Reg, data: &[u8]) -> Expr {
    Expr::Immediate { dreg, data: data.to_vec() }
}

const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;

/// nft_fib_ipv4.c: with a device, a local address of another device is unicast.
#[test]
fn the_type_of_the_hosts_address_is_local_on_its_own_interface_alone() {
    use fib_flags::{DADDR, IIF, OIF, SADDR};
    let is = |flags, kind: u32| fib(flags, FibResult::AddrType, &kind.to_ne_bytes());
    for family in Family::BOTH {
        let (own, other) = (host(family), asked_by_the_wrong_door(family));
        for flags in [DADDR, DADDR | IIF] {
            assert_eq!(own.hit(Hook::Prerouting, is(flags, RTN_LOCAL)), Everybody, "{flags}");
            assert_eq!(own.hit(Hook::Prerouting, is(flags, RTN_UNICAST)), Nobody, "{flags}");
        }
        assert_eq!(other.hit(Hook::Prerouting, is(DADDR, RTN_LOCAL)), Everybody);
        assert_eq!(other.hit(Hook::Prerouting, is(DADDR | IIF, RTN_UNICAST)), Everybody);
        // The answer leaves by eth0, in the name of an address of eth1.
        assert_eq!(other.hit(Hook::Postrouting, is(SADDR | OIF, RTN_UNICAST)), behind_eth0(family));
        assert_eq!(other.hit(Hook::Postrouting, is(SADDR, RTN_LOCAL)), Everybody);
        assert_eq!(own.hit(Hook::Postrouting, is(SADDR | OIF, RTN_LOCAL)), behind_eth0(family));
    }
}

#[test]
fn the_way_back_to_a_source_is_by_the_interface_of_its_route() {
    use fib_flags::{DADDR, IIF, OIF, PRESENT, SADDR};
    let host = v4();
    let hit = |hook, flags, result, value: &[u8]| host.hit(hook, fib(flags, result, value));
    let index = |n: u32| n.to_ne_bytes();
    let name = |text: &str| {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    };
    let (eth1, rest) = (Hit::Some(behind_eth1()), Hit::Some(behind_eth1().complement()));
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF | PRESENT, FibResult::Oif, &[0]), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF | PRESENT, FibResult::Oif, &[1]), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | PRESENT, FibResult::Oif, &[1]), Everybody);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::Oif, &index(3)), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::Oif, &index(2)), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF, FibResult::Oif, &index(0)), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::OifName, &name("eth1")), eth1);
    assert_eq!(hit(Hook::Prerouting, SADDR, FibResult::OifName, &name("eth0")), rest);
    assert_eq!(hit(Hook::Prerouting, SADDR | IIF, FibResult::OifName, &name("")), eth1);
    assert_eq!(hit(Hook::Output, DADDR, FibResult::Oif, &index(3)), eth1);
    assert_eq!(hit(Hook::Postrouting, DADDR | OIF | PRESENT, FibResult::Oif, &[1]), Everybody);
    // A lookup of a local address gives no interface.
    assert_eq!(hit(Hook::Prerouting, DADDR | PRESENT, FibResult::Oif, &[0]), Everybody);
    assert_eq!(hit(Hook::Prerouting, DADDR, FibResult::Oif, &index(0)), Everybody);
}

#[test]
fn routes_by_rule_and_routes_that_were_not_read_decide_nothing() {
    let (mut by_rule, mut unread) = (v4(), v4());
    by_rule.net.policy_routing = true;
    unread.net.routes = Seen::Absent;
    for host in [by_rule, unread] {
        let found = fib(fib_flags::SADDR | fib_flags::IIF | fib_flags::PRESENT, FibResult::Oif, &[0]);
        assert_eq!(host.hit(Hook::Prerouting, found), Unknown);
        assert_eq!(host.xt(Hook::Prerouting, XtMatch::Rpfilter { flags: 0 }), Unknown);
    }
}

/// xt_rpfilter: 1 loose, 8 inverted.
#[test]
fn rpfilter_takes_any_interface_where_it_is_loose() {
    let hit = |flags| v4().xt(Hook::Prerouting, XtMatch::Rpfilter { flags });
    assert_eq!(hit(0), Hit::Some(behind_eth1().complement()));
    assert_eq!(hit(8), Hit::Some(behind_eth1()));
    assert_eq!(hit(1), Everybody);
    assert_eq!(hit(9), Nobody);
}

/// nf_nat_core.c: the first packet of a flow gets IPS_DST_NAT_DONE (256) at PREROUTING's nat (-100), and IPS_SRC_NAT_DONE (128)
/// at INPUT's (100).
#[test]
fn the_status_of_a_new_flow_tells_which_nat_it_has_passed() {
    const IPS_NAT_DONE: u32 = 128 | 256;
    let status = |wanted: u32| {
        let mask = (IPS_NAT_DONE).to_ne_bytes().to_vec();
        vec![
            Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: 8u32.to_ne_bytes().to_vec() },
            Expr::Ct { dreg: 0, key: CtKey::Status, dir: None },
            Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op: BitwiseOp::MaskXor { mask, xor: vec![0; 4] } },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: wanted.to_ne_bytes().to_vec() },
            DROP,
        ]
    };
    let places =
        [(Hook::Prerouting, -150, 0), (Hook::Prerouting, -50, 256), (Hook::Input, 50, 256), (Hook::Input, 150, 384)];
    for (hook, priority, passed) in places {
        for wanted in [0, 128, 256, 384] {
            let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, Vec::new());
            let filter = chain(hook, ChainKind::Filter, priority, vec![status(wanted)]);
            let due = if wanted == passed { Everybody } else { Nobody };
            assert_eq!(v4().hit_of(vec![nat, filter]), due, "{hook:?} {priority} {wanted}");
        }
        let filter = chain(hook, ChainKind::Filter, priority, vec![status(0)]);
        assert_eq!(v4().hit_of(vec![filter]), Everybody, "without nat");
    }
}

#[test]
fn only_what_comes_in_by_ethernet_has_an_ethernet_header() {
    let payload = |offset, data: &[u8]| {
        let len = data.len() as u32;
        let load = Expr::Payload { dreg: 0, base: PayloadBase::Link, offset, len };
        vec![load, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.to_vec() }]
    };
    let mut host = v4();
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x08, 0x00])), Everybody);
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x86, 0xdd])), Nobody);
    assert_eq!(host.hit(Hook::Output, payload(12, &[0x08, 0x00])), Nobody);
    assert_eq!(host.hit(Hook::Input, payload(0, &[2, 0, 0, 0, 0, 1])), Unknown);
    let mac = XtMatch::Mac { address: [2, 0, 0, 0, 0, 9], invert: false };
    assert_eq!(host.xt(Hook::Input, mac.clone()), Unknown);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].mac = Some([2, 0, 0, 0, 0, 1]);
    let tunnel = 65534;
    assert_eq!(host.hit(Hook::Input, payload(0, &[2, 0, 0, 0, 0, 1])), Everybody);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].kind = tunnel;
    assert_eq!(host.hit(Hook::Input, payload(12, &[0x08, 0x00])), Nobody);
    assert_eq!(host.xt(Hook::Input, mac), Nobody);
}

/// Only root may listen on a port below 1024, and no SYN that comes in has a socket.
#[test]
fn the_owner_of_the_answer_is_root_below_port_1024() {
    let owner = |uid, socket| XtMatch::Owner { text: String::new(), uid, gid: None, socket };
    let at = |port| Host { path: Path { port, ..v4().path }, ..v4() };
    for port in [22, 1023] {
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkUid, 0)), Everybody);
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkGid, 1000)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, false)), None)), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, true)), None)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((1000, 2000, false)), None)), Nobody);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((1000, 2000, true)), None)), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(None, Some(true))), Everybody);
        assert_eq!(at(port).xt(Hook::Output, owner(None, Some(false))), Nobody);
    }
    for port in [1024, 2222] {
        assert_eq!(at(port).hit(Hook::Output, meta_number(MetaKey::SkUid, 0)), Unknown);
        assert_eq!(at(port).xt(Hook::Output, owner(Some((0, 0, false)), None)), Unknown);
    }
    assert_eq!(v4().xt(Hook::Input, owner(Some((0, 0, false)), None)), Nobody);
    assert_eq!(v4().hit(Hook::Prerouting, meta_number(MetaKey::SkUid, 0)), Nobody);
    // The ACK has the socket of the connection once it is in INPUT.
    assert_eq!(v4().hit(Hook::Input, meta_number(MetaKey::SkUid, 0)), Unknown);
}

#[test]
fn a_route_is_looked_at_only_once_there_is_one() {
    let realm = meta_number(MetaKey::RtClassid, 7);
    let rt = |key| vec![Expr::Rt { dreg: 0, key }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![0] }];
    assert_eq!(v4().hit(Hook::Prerouting, realm.clone()), Nobody);
    assert_eq!(v4().hit(Hook::Input, realm), Unknown);
    // NFT_RT_NEXTHOP4 1, NFT_RT_XFRM 4: no IPsec.
    for (key, inside) in [(1, Unknown), (4, Everybody)] {
        assert_eq!(v4().hit(Hook::Prerouting, rt(key)), Nobody);
        assert_eq!(v4().hit(Hook::Input, rt(key)), inside);
    }
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Xfrm { dreg: 0 }]), Nobody);
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Tunnel { dreg: 0 }]), Nobody);
}

#[test]
fn a_port_of_a_vrf_has_a_device_that_is_not_known() {
    let mut host = v4();
    assert_eq!(host.hit(Hook::Input, meta_number(MetaKey::Sdif, 0)), Everybody);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].master = Some(9);
    assert_eq!(host.hit(Hook::Input, meta_number(MetaKey::Sdif, 0)), Unknown);
    assert_eq!(host.hit(Hook::Input, meta(MetaKey::SdifName, &[0; 16])), Unknown);
}

/// nft_meta.c: the protocol family of the hook, NFPROTO_NETDEV (5) at ingress.
#[test]
fn at_ingress_the_family_is_that_of_devices() {
    for (family, due) in [(5, Everybody), (2, Nobody)] {
        let rule = [meta(MetaKey::Nfproto, &[family]), vec![DROP]].concat();
        let mut chain = chain(Hook::Ingress, ChainKind::Filter, 0, vec![rule]);
        chain.base.as_mut().unwrap().devices.push("eth0".into());
        let table = Table { family: TableFamily::Netdev, ..fixture::table(vec![chain], Vec::new()) };
        let judged = walk(&fixture::nft(vec![table]), &v4().net, &v4().path, &[], &Ports::default());
        assert_eq!(judged.blocked_sources().is_full(), due == Everybody, "{family}");
        assert_eq!(judged.admitted.is_full(), due == Nobody, "{family}");
    }
}

#[test]
fn a_key_that_is_not_modelled_leaves_all_of_its_register_open() {
    assert_eq!(v4().hit(Hook::Input, meta(MetaKey::Other(99), &[1; 16])), Unknown);
    let age = |key| vec![Expr::Ct { dreg: 0, key, dir: None }, Expr::Cmp { sreg: 0, op: CmpOp::Gt, data: vec![1; 8] }];
    for key in [CtKey::Bytes, CtKey::Pkts, CtKey::Avgpkt, CtKey::Expiration] {
        assert_eq!(v4().hit(Hook::Input, age(key)), Conditional, "{key:?}");
    }
    assert_eq!(v4().hit(Hook::Input, age(CtKey::Labels)), Unknown);
}

#[test]
fn registers_are_put_together_bit_by_bit() {
    let of = |op, made: u32| {
        let exprs = vec![
            immediate(0, &6u32.to_ne_bytes()),
            immediate(4, &3u32.to_ne_bytes()),
            Expr::Bitwise { sreg: 0, dreg: 8, len: 4, op },
            Expr::Cmp { sreg: 8, op: CmpOp::Eq, data: made.to_ne_bytes().to_vec() },
        ];
        assert_eq!(v4().hit(Hook::Input, exprs), Everybody, "{made}");
    };
    of(BitwiseOp::Register { op: '&', reg: 4 }, 2);
    of(BitwiseOp::Register { op: '|', reg: 4 }, 7);
    of(BitwiseOp::Register { op: '^', reg: 4 }, 5);
    of(BitwiseOp::ShiftLeft(3), 48);
    of(BitwiseOp::ShiftRight(1), 3);
}

#[test]
fn what_decides_nothing_raises_no_doubt() {
    let limit = Expr::Limit { over: false, text: "3/minute".into() };
    let nothing = [
        Expr::Counter,
        Expr::Last,
        Expr::Dup,
        Expr::Log { prefix: String::new() },
        Expr::FlowOffload { table: "f".into() },
        Expr::MetaSet { sreg: 0, key: MetaKey::Priority },
        Expr::CtSet { sreg: 0, key: CtKey::Labels, dir: None },
        Expr::Objref { kind: 1, name: Some("c".into()), by_map: None },
        Expr::XtTarget(XtTarget::Continue),
        Expr::XtTarget(XtTarget::Harmless { name: "TOS".into() }),
        Expr::Verdict(Verdict::Continue),
    ];
    for expr in nothing {
        let rules = vec![vec![limit.clone(), expr.clone()]];
        assert_eq!(v4().hit_of(vec![chain(Hook::Input, ChainKind::Filter, 0, rules)]), Nobody, "{expr:?}");
        assert_eq!(v4().hit(Hook::Input, vec![expr.clone()]), Everybody, "{expr:?}");
    }
    assert_eq!(v4().hit(Hook::Input, vec![Expr::Verdict(Verdict::Break)]), Nobody);
    let marks = vec![limit, immediate(0, &[1, 0, 0, 0]), Expr::MetaSet { sreg: 0, key: MetaKey::Mark }];
    assert_eq!(v4().then(Hook::Input, vec![marks], meta(MetaKey::Mark, &[1, 0, 0, 0])), Conditional);
}

#[test]
fn of_two_doubts_the_one_about_what_is_not_modelled_is_told() {
    let tcp = XtMatch::Tcp {
        sports: (40000, 41000),
        dports: (0, u16::MAX),
        invert_sports: false,
        invert_dports: false,
        flags_mask: 0,
        flags_set: 0,
        invert_flags: false,
        option: Some((8, false)),
    };
    assert_eq!(v4().xt(Hook::Input, tcp), Unknown);
}

#[test]
fn matches_of_x_tables_hold_as_their_manual_says() {
    let input = |found| v4().xt(Hook::Input, found);
    let history = |name: &str, text: &str| XtMatch::History { name: name.into(), text: text.into() };
    assert_eq!(input(history("recent", "--set --name s --rsource")), Everybody);
    assert_eq!(input(history("recent", "--update --name s --rsource")), Conditional);
    assert_eq!(input(history("connlimit", "--set")), Conditional);
    for invert in [false, true] {
        let name = "hbh".to_owned();
        let due = if invert { Everybody } else { Nobody };
        assert_eq!(input(XtMatch::AbsentHeader { name, invert }), due);
    }
    // A packet of the handshake has 64 bytes at most.
    let text = |length, from| XtMatch::Text { words: String::new(), length, from };
    assert_eq!(input(text(4, 60)), Unknown);
    assert_eq!(input(text(4, 61)), Nobody);
    assert_eq!(input(text(65, 0)), Nobody);
    let physdev = |text: &str| XtMatch::Physdev { text: text.into() };
    assert_eq!(input(physdev("--physdev-in eth3")), Nobody);
    assert_eq!(input(physdev("! --physdev-in eth3")), Unknown);
    let mut bridge = v4();
    let Seen::Present(links) = &mut bridge.net.links else { unreachable!() };
    links[0].driver = Some("bridge".into());
    assert_eq!(bridge.xt(Hook::Input, physdev("--physdev-in eth3")), Unknown);
    // XT_SOCKET_TRANSPARENT is 1.
    assert_eq!(input(XtMatch::Socket { flags: 0 }), Unknown);
    assert_eq!(input(XtMatch::Socket { flags: 1 }), Nobody);
    assert_eq!(v4().xt(Hook::Output, XtMatch::Socket { flags: 0 }), Nobody);
}

/// xt_devgroup.c: `(group ^ device's) & mask`.
#[test]
fn a_group_of_devices_is_told_by_the_bits_of_its_mask() {
    let mut host = v4();
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].group = 5;
    let of = |group, mask, invert| XtMatch::Devgroup { iif: Some(Grouped { group, mask, invert }), oif: None };
    assert_eq!(host.xt(Hook::Input, of(5, u32::MAX, false)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(4, u32::MAX, false)), Nobody);
    assert_eq!(host.xt(Hook::Input, of(4, u32::MAX, true)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(0x15, 0xf, false)), Everybody);
    assert_eq!(host.xt(Hook::Input, of(0x15, 0xf, true)), Nobody);
    let leaves = Grouped { group: 5, mask: 0xff, invert: false };
    assert_eq!(
        host.xt(Hook::Postrouting, XtMatch::Devgroup { iif: None, oif: Some(leaves) }),
        behind_eth0(Family::Ipv4)
    );
}

#[test]
fn tcpmss_holds_for_no_packet_without_the_option() {
    for (invert, due) in [(false, Nobody), (true, Everybody)] {
        let mss = Expr::XtMatch(XtMatch::Tcpmss { min: 0, max: 1460, invert });
        let ct = Conntrack { state: Some((2, false)), ..Conntrack::default() };
        let established = Expr::XtMatch(XtMatch::Conntrack(Box::new(ct)));
        assert_eq!(v4().hit(Hook::Input, vec![established, mss.clone()]), due);
        // The SYN may have it or not.
        assert_eq!(v4().hit(Hook::Input, vec![mss]), if invert { Everybody } else { Conditional });
    }
}

fn addrtype(source: u32, dest: u32, iif: bool) -> XtMatch {
    let of = |kind: u32| if kind == 0 { 0 } else { 1 << kind };
    XtMatch::Addrtype { source: of(source), dest: of(dest), invert_source: false, invert_dest: false, iif, oif: false }
}

/// xt_addrtype.c: `match_type` in IPv4, `match_type6` in IPv6, where a local address is unicast as well.
#[test]
fn the_types_of_addresses_are_those_of_their_family() {
    for family in Family::BOTH {
        let (own, other) = (host(family), asked_by_the_wrong_door(family));
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_LOCAL, false)), Everybody);
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_LOCAL, true)), Everybody);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_LOCAL, false)), Everybody);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_LOCAL, true)), Nobody);
        let unicast = if family == Family::Ipv4 { Nobody } else { Everybody };
        assert_eq!(own.xt(Hook::Input, addrtype(0, RTN_UNICAST, false)), unicast);
        assert_eq!(other.xt(Hook::Input, addrtype(0, RTN_UNICAST, true)), Everybody);
        let local = Hit::Some(AddrSet::single(own.path.address));
        assert_eq!(own.xt(Hook::Input, addrtype(RTN_LOCAL, 0, false)), local);
        let XtMatch::Addrtype { source, dest, .. } = addrtype(0, RTN_LOCAL, false) else { unreachable!() };
        let inverted =
            XtMatch::Addrtype { source, dest, invert_source: false, invert_dest: true, iif: false, oif: false };
        assert_eq!(own.xt(Hook::Input, inverted), Nobody);
    }
    // `__ipv6_addr_type`: neither multicast nor :: nor an IPv4-mapped address is unicast.
    let mut unicast = AddrSet::full(Family::Ipv6);
    for net in ["ff00::/8", "::/128", "::ffff:0:0/96"] {
        unicast.subtract(&AddrSet::net(net.parse().unwrap()));
    }
    assert_eq!(host(Family::Ipv6).xt(Hook::Input, addrtype(RTN_UNICAST, 0, false)), Hit::Some(unicast));
}

fn set_payload(base: PayloadBase, offset: u32, data: &[u8]) -> Vec<Expr> {
    vec![immediate(0, data), Expr::PayloadSet { sreg: 0, base, offset, len: data.len() as u32 }]
}

#[test]
fn a_statement_that_rewrites_what_no_rule_knows_by_is_harmless() {
    use PayloadBase::{Network, Transport};
    let left = |host: &Host, hook, base, offset, data: &[u8]| {
        host.hit_of(vec![chain(hook, ChainKind::Filter, 0, vec![set_payload(base, offset, data)])])
    };
    let mut host = v4();
    host.path.port = 2222;
    let own = [192, 0, 2, 10];
    for (offset, data, due) in [
        (1, &[0u8][..], Nobody),
        (8, &[64][..], Nobody),
        (10, &[0, 0][..], Nobody),
        (8, &[0; 4][..], Nobody),
        (10, &[0; 3][..], Unknown),
        (12, &[10, 0, 0, 1][..], Unknown),
        (15, &[1][..], Unknown),
        (16, &own[..], Nobody),
        (16, &[192, 0][..], Unknown),
        (17, &[0; 4][..], Unknown),
        (19, &[10][..], Unknown),
        // To nobody here.
        (16, &[198, 51, 100, 7][..], Everybody),
    ] {
        assert_eq!(left(&host, Hook::Prerouting, Network, offset, data), due, "network {offset} {data:?}");
    }
    for (offset, data, due) in [
        (0, &[0x90, 0][..], Unknown),
        (1, &[0][..], Unknown),
        (2, &[0x08, 0xae][..], Nobody),
        (2, &[0x08][..], Unknown),
        (2, &[0; 4][..], Unknown),
        (3, &[0xae][..], Unknown),
        (4, &[0; 4][..], Nobody),
        (12, &[0x50][..], Nobody),
        (12, &[0x50, 0][..], Unknown),
        (13, &[0x10][..], Unknown),
        (14, &[1, 0][..], Nobody),
        // Nobody listens there.
        (2, &[0x08, 0xaf][..], Everybody),
    ] {
        assert_eq!(left(&host, Hook::Prerouting, Transport, offset, data), due, "transport {offset} {data:?}");
    }
    // Outwards the host's end is the other one.
    assert_eq!(left(&host, Hook::Output, Network, 12, &own), Nobody);
    assert_eq!(left(&host, Hook::Output, Network, 12, &[192, 0, 2, 11]), Everybody);
    assert_eq!(left(&host, Hook::Output, Network, 16, &own), Unknown);
    assert_eq!(left(&host, Hook::Output, Transport, 0, &[0x08, 0xae]), Nobody);
    assert_eq!(left(&host, Hook::Output, Transport, 0, &[0x08, 0xaf]), Everybody);
    assert_eq!(left(&host, Hook::Output, Transport, 2, &[0x08, 0xae]), Unknown);
    let six = self::host(Family::Ipv6);
    let own = number(six.path.address).to_be_bytes();
    for (offset, data, due) in [
        (0, &[0x60][..], Nobody),
        (4, &[0, 20, 6, 64][..], Nobody),
        (7, &[64, 0x20][..], Unknown),
        (8, &own[..], Unknown),
        (24, &own[..], Nobody),
        (39, &[0x10][..], Unknown),
    ] {
        assert_eq!(left(&six, Hook::Prerouting, Network, offset, data), due, "IPv6 {offset} {data:?}");
    }
}

#[test]
fn nat_to_one_place_leads_there_and_to_several_is_open() {
    let own = [192, 0, 2, 10];
    let nat = |nfproto, max: [u8; 4], ports: (u16, u16)| {
        let exprs = vec![
            immediate(0, &own),
            immediate(4, &max),
            immediate(8, &ports.0.to_be_bytes()),
            immediate(12, &ports.1.to_be_bytes()),
            Expr::Nat(Nat {
                kind: NatKind::Dnat,
                addr_min: Some(0),
                addr_max: Some(4),
                port_min: Some(8),
                port_max: Some(12),
                nfproto,
                flags: 0,
            }),
        ];
        v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![exprs])])
    };
    assert_eq!(nat(2, own, (22, 22)), Nobody);
    assert_eq!(nat(2, own, (8022, 8022)), Everybody);
    assert_eq!(nat(2, own, (22, 23)), Unknown);
    assert_eq!(nat(2, [192, 0, 2, 11], (22, 22)), Unknown);
    // What is meant for IPv6 passes by.
    assert_eq!(nat(10, own, (8022, 8022)), Nobody);
    let legacy =
        |target| v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![Expr::XtTarget(target)]])]);
    let to = |a: u128, b: u128, ports| XtTarget::Nat {
        kind: NatKind::Dnat,
        addresses: Some(Box::new((a, b))),
        ports: Some(ports),
        flags: 0,
    };
    let here = 0xc000_020a;
    assert_eq!(legacy(to(here, here, (22, 22))), Nobody);
    assert_eq!(legacy(to(here, here + 1, (22, 22))), Unknown);
    assert_eq!(legacy(to(here, here, (22, 23))), Unknown);
    // NETMAP keeps the bits outside the mask.
    let netmap = |address| XtTarget::Netmap { to: Box::new((address, 0xffff_ff00)), kind: NatKind::Dnat };
    assert_eq!(legacy(netmap(0xc000_0200)), Nobody);
    assert_eq!(legacy(netmap(0xcb00_7100)), Everybody);
}

/// nf_nat_redirect.c: IPv4 takes the interface's first address.
#[test]
fn redirect_leads_to_the_first_address_of_the_interface() {
    for family in Family::BOTH {
        let mut host = host(family);
        let Seen::Present(addresses) = &mut host.net.addresses else { unreachable!() };
        let own = addresses.iter().find(|a| a.address == host.path.address).unwrap().clone();
        let first = ip(if family == Family::Ipv4 { "192.0.2.9" } else { "2001:db8::9" });
        addresses.insert(0, Address { address: first, ..own });
        let redirect =
            Expr::XtTarget(XtTarget::Nat { kind: NatKind::Redirect, addresses: None, ports: None, flags: 0 });
        let is_first = Masked { address: number(first), mask: family.max(), invert: false };
        let header = XtHeader { dst: is_first, ..XtHeader::default() };
        let drop = vec![Expr::XtMatch(XtMatch::Header(Box::new(header))), DROP];
        let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![redirect]]);
        let filter = chain(Hook::Input, ChainKind::Filter, 0, vec![drop]);
        // Of several IPv6 addresses the one asked for is as good.
        assert_eq!(host.hit_of(vec![nat, filter]), if family == Family::Ipv4 { Everybody } else { Nobody });
    }
}

#[test]
fn marks_of_a_packet_before_it_is_tracked_are_its_own() {
    let raw = |targets: Vec<XtTarget>, fits: u32| {
        let rules: Vec<_> = targets.into_iter().map(|target| vec![Expr::XtTarget(target)]).collect();
        let last = [meta_number(MetaKey::Mark, fits), vec![DROP]].concat();
        v4().hit_of(vec![
            chain(Hook::Prerouting, ChainKind::Filter, -300, rules),
            chain(Hook::Prerouting, ChainKind::Filter, -150, vec![last]),
        ])
    };
    let mark = |mark| XtTarget::Mark { mark, mask: u32::MAX };
    let zone = XtTarget::Ct { notrack: false, zone: 1, helper: None };
    let connmark = |mode, nfmask| XtTarget::Connmark { mode, ctmark: 1, ctmask: u32::MAX, nfmask };
    // Nothing is restored from a template, but the bits of the mask are cleared.
    assert_eq!(raw(vec![mark(0xff), zone.clone(), connmark(ConnmarkMode::Restore, 0x0f)], 0xf0), Everybody);
    assert_eq!(raw(vec![zone, connmark(ConnmarkMode::Set, u32::MAX)], 1), Unknown);
    let notrack = XtTarget::Ct { notrack: true, zone: 0, helper: None };
    let restored =
        vec![notrack, mark(5), connmark(ConnmarkMode::Set, u32::MAX), connmark(ConnmarkMode::Restore, u32::MAX)];
    assert_eq!(raw(restored, 5), Everybody);
}

#[test]
fn what_a_program_or_a_zone_of_one_way_decides_is_open() {
    let in_raw = |exprs: Vec<Expr>| v4().hit_of(vec![chain(Hook::Prerouting, ChainKind::Filter, -300, vec![exprs])]);
    assert_eq!(in_raw(vec![Expr::Queue]), Unknown);
    let zone = |dir| vec![immediate(0, &[1, 0]), Expr::CtSet { sreg: 0, key: CtKey::Zone, dir }];
    assert_eq!(in_raw(zone(Some(CtDir::Original))), Unknown);
    let add = |expr| Expr::Dynset { set: "s".into(), key: 0, data: None, op: 0, negate: false, exprs: vec![expr] };
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Counter)]), Everybody);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Last)]), Everybody);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Queue)]), Unknown);
    assert_eq!(v4().hit(Hook::Input, vec![add(Expr::Limit { over: false, text: String::new() })]), Conditional);
}

#[test]
fn what_refuses_the_last_packet_closes_the_connection_or_leaves_it_silent() {
    const ESTABLISHED: u32 = 2;
    let symptom = |with, state: u32| {
        let rule = vec![
            Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: state.to_ne_bytes().to_vec() },
            Expr::Reject(with),
        ];
        let judged = v4().judged(vec![chain(Hook::Input, ChainKind::Filter, 0, vec![rule, vec![ACCEPT]])]);
        assert!(judged.blocked_sources().is_full());
        judged.blocked[0].symptom
    };
    assert_eq!(symptom(RejectWith::TcpReset, 8), Symptom::Refused);
    assert_eq!(symptom(RejectWith::TcpReset, ESTABLISHED), Symptom::Closed);
    assert_eq!(symptom(RejectWith::Icmp(3), ESTABLISHED), Symptom::NoBanner);
}

/// RFC 4861 7.1: a neighbour's question has a hop limit of 255; it is no TCP, and is not tracked.
#[test]
fn matches_on_a_neighbours_question_know_what_is_in_it() {
    let mut host = host(Family::Ipv6);
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].arp = true;
    let lost = |hook, exprs: Vec<Expr>| {
        let rule = [exprs, vec![DROP]].concat();
        let chain = chain(hook, ChainKind::Filter, 0, vec![rule]);
        let firewall = fixture::nft(vec![fixture::table(vec![chain], Vec::new())]);
        let found = Rules::of(&firewall).neighbours(&host.net, &host.path);
        assert!(found.lost.is_none() || found.doubtful.is_empty());
        match (found.lost.is_some(), found.doubtful.iter().any(|d| d.unknown)) {
            (true, _) => Everybody,
            (false, true) => Unknown,
            (false, false) => Nobody,
        }
    };
    let input = |found| lost(Hook::Input, vec![Expr::XtMatch(found)]);
    // IPT_TTL_EQ 0, NE 1, LT 2, GT 3
    for (mode, value, due) in [
        (0, 255, Everybody),
        (0, 64, Nobody),
        (1, 255, Nobody),
        (1, 64, Everybody),
        (2, 255, Nobody),
        (2, 64, Nobody),
        (3, 254, Everybody),
        (3, 255, Nobody),
    ] {
        assert_eq!(input(XtMatch::Ttl { mode, value }), due, "{mode} {value}");
    }
    let multiport = XtMatch::Multiport { which: MultiportWhich::Source, ports: vec![(22, 22)], invert: true };
    assert_eq!(input(multiport), Nobody);
    assert_eq!(input(XtMatch::Tcpmss { min: 0, max: 1, invert: true }), Nobody);
    let hops = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 7, len: 1 };
    let is = |data: u8| Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![data] };
    assert_eq!(lost(Hook::Input, vec![hops.clone(), is(255)]), Everybody);
    assert_eq!(lost(Hook::Input, vec![hops, is(64)]), Nobody);
    let next = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 6, len: 1 };
    assert_eq!(lost(Hook::Input, vec![next, is(58)]), Everybody);
    let owner = XtMatch::Owner { text: String::new(), uid: Some((0, 0, false)), gid: None, socket: None };
    assert_eq!(lost(Hook::Output, vec![Expr::XtMatch(owner)]), Unknown);
    assert_eq!(lost(Hook::Output, meta_number(MetaKey::SkUid, 0)), Unknown);
}

/// xt_mark.c and xt_connmark.c: `(old & ~mask) ^ new`, so that bits outside the mask are flipped.
#[test]
fn marks_are_set_saved_and_restored_by_their_masks() {
    let of = |targets: &[XtTarget], fits: Vec<Expr>| {
        let rules = targets.iter().map(|target| vec![Expr::XtTarget(target.clone())]).collect();
        v4().then(Hook::Input, rules, fits)
    };
    let mark = |mark, mask| XtTarget::Mark { mark, mask };
    let connmark = |mode, ctmark, ctmask, nfmask| XtTarget::Connmark { mode, ctmark, ctmask, nfmask };
    let is = |value| meta_number(MetaKey::Mark, value);
    let flow = |value: u32| {
        let data = value.to_ne_bytes().to_vec();
        vec![Expr::Ct { dreg: 0, key: CtKey::Mark, dir: None }, Expr::Cmp { sreg: 0, op: CmpOp::Eq, data }]
    };
    let all = u32::MAX;
    assert_eq!(of(&[mark(0b1111, all), mark(0b0110, 0b0011)], is(0b1010)), Everybody);
    let own = connmark(ConnmarkMode::Set, 0b1111, all, 0);
    assert_eq!(of(&[own.clone(), connmark(ConnmarkMode::Set, 0b0110, 0b0011, 0)], flow(0b1010)), Everybody);
    let save = connmark(ConnmarkMode::Save, 0, 0b0011, 0b0111);
    assert_eq!(of(&[own.clone(), mark(0b1_0110, all), save], flow(0b1010)), Everybody);
    let restore = connmark(ConnmarkMode::Restore, 0, 0b0110, 0b0011);
    assert_eq!(of(&[own, mark(0b1111, all), restore], is(0b1010)), Everybody);
}
