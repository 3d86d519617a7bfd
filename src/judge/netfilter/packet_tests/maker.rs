//! Rules of many forms, many of which match.

use super::draw::Draw;
use super::packet::{PORT, TCP, Whole, bytes, wide};
use crate::facts::*;
use crate::judge::fixture;

/// What rules are made of.
pub struct Maker<'d> {
    pub draw: &'d mut Draw,
    pub family: Family,
    /// A packet that many rules shall match.
    pub like: Whole,
    /// Whether rules look at the client's address alone, and at what is the same for every client.
    pub decidable: bool,
    pub sets: Vec<Set>,
}

impl Maker<'_> {
    /// A value near the packet's own.
    fn near(&mut self, own: &[u8]) -> Vec<u8> {
        let max = u128::MAX.checked_shr(128 - 8 * own.len() as u32).unwrap_or(0);
        let value = wide(own);
        let made = match self.draw.below(8) {
            0..=2 => value,
            3 => value.saturating_add(1).min(max),
            4 => value.saturating_sub(1),
            5 => self.draw.of(&[0, max]),
            6 => value ^ (1u128.checked_shl(self.draw.below(8 * own.len()) as u32).unwrap_or(0)),
            _ => u128::from(self.draw.byte()),
        };
        made.to_be_bytes()[16 - own.len()..].to_vec()
    }

    fn near_number(&mut self, own: u32) -> u32 {
        wide(&self.near(&own.to_be_bytes())) as u32
    }

    fn near_port(&mut self, source: bool) -> (u16, u16) {
        let own = self.like.port(source).to_be_bytes();
        let pair = |bytes: Vec<u8>| wide(&bytes) as u16;
        let (a, b) = (pair(self.near(&own)), pair(self.near(&own)));
        (a.min(b), a.max(b))
    }

    fn near_address(&mut self, source: bool) -> u128 {
        let own = bytes(self.family, self.like.address(source));
        wide(&self.near(&own))
    }

    fn prefix(&mut self, source: bool) -> Masked {
        let max = self.family.max();
        let mask = max & !max.checked_shr(self.draw.below(usize::from(self.family.bits()) + 1) as u32).unwrap_or(0);
        let mask = if self.draw.below(6) == 0 { mask ^ (mask >> 3) & 0xff00 } else { mask };
        let stray = u128::from(self.draw.below(8) == 0);
        Masked { address: self.near_address(source) & mask | stray, mask, invert: self.draw.chance() }
    }

    /// A load into the register, and the value that the packet has there.
    fn load(&mut self, dreg: Reg) -> (Expr, Option<Vec<u8>>) {
        use PayloadBase::{Network, Transport};
        let (address, width) = (if self.family == Family::Ipv4 { 12 } else { 8 }, self.family.bytes() as u32);
        let draw = &mut *self.draw;
        let part = |draw: &mut Draw, at: u32| {
            let first = if draw.below(4) == 0 { draw.below(width as usize) as u32 } else { 0 };
            let len = if draw.chance() { width - first } else { 1 + draw.below((width - first) as usize) as u32 };
            (at + first, len)
        };
        let (base, offset, len) = match draw.below(if self.decidable { 11 } else { 16 }) {
            0..=3 => {
                let (offset, len) = part(draw, address);
                (Network, offset, len)
            }
            4 => {
                let (offset, len) = part(draw, address + width);
                (Network, offset, len)
            }
            5 => (Network, if self.family == Family::Ipv4 { 9 } else { 6 }, 1),
            6 => draw.of(&[
                (Transport, 13, 1),
                (Transport, 18, 2),
                (Transport, if self.like.inwards() { 2 } else { 0 }, 2),
            ]),
            7..=8 => {
                let keys = [
                    MetaKey::Protocol,
                    MetaKey::Mark,
                    MetaKey::Iif,
                    MetaKey::Oif,
                    MetaKey::IifName,
                    MetaKey::OifName,
                    MetaKey::Nfproto,
                    MetaKey::L4Proto,
                    MetaKey::PktType,
                    MetaKey::IifGroup,
                    MetaKey::OifGroup,
                ];
                let key = draw.of(&keys);
                return (Expr::Meta { dreg, key }, self.like.meta(key));
            }
            9..=10 => {
                let keys = [
                    CtKey::State,
                    CtKey::Direction,
                    CtKey::Status,
                    CtKey::Mark,
                    CtKey::Secmark,
                    CtKey::L3Protocol,
                    CtKey::Protocol,
                    CtKey::Zone,
                    CtKey::Src,
                    CtKey::Dst,
                    CtKey::SrcIp,
                    CtKey::DstIp,
                    CtKey::SrcIp6,
                    CtKey::DstIp6,
                    CtKey::ProtoSrc,
                    CtKey::ProtoDst,
                    CtKey::Helper,
                ];
                let dir = draw.of(&[None, Some(CtDir::Original), Some(CtDir::Reply)]);
                let mut key = draw.of(&keys);
                if self.decidable && (key, dir == Some(CtDir::Reply)) == (CtKey::ProtoSrc, false) {
                    key = CtKey::ProtoDst;
                }
                if self.decidable && (key, dir == Some(CtDir::Reply)) == (CtKey::ProtoDst, true) {
                    key = CtKey::ProtoSrc;
                }
                return (Expr::Ct { dreg, key, dir }, self.like.ct(key, dir));
            }
            11 => (Transport, draw.of(&[0, 2]), draw.of(&[1, 2])),
            12 => (Transport, 0, 4),
            13 => draw.of(&[(Transport, 14, 2), (Transport, 14, 1), (Transport, 15, 1)]),
            14 => match self.family {
                Family::Ipv4 => draw.of(&[
                    (Network, 0, 1),
                    (Network, 1, 1),
                    (Network, 2, 2),
                    (Network, 8, 1),
                    (Network, 8, 2),
                    (Network, 6, 2),
                    (Network, 3, 1),
                ]),
                Family::Ipv6 => {
                    draw.of(&[(Network, 0, 1), (Network, 4, 2), (Network, 5, 1), (Network, 7, 1), (Network, 6, 2)])
                }
            },
            _ => return (Expr::Meta { dreg, key: MetaKey::Len }, self.like.meta(MetaKey::Len)),
        };
        (Expr::Payload { dreg, base, offset, len }, Some(self.like.payload(base, offset, len)))
    }

    /// A load and one test of it.
    fn look(&mut self, exprs: &mut Vec<Expr>) {
        let reg = self.draw.of(&[0, 16, 8]);
        let (load, own) = self.load(reg);
        let host_order = matches!(load, Expr::Meta { key: MetaKey::Len, .. });
        exprs.push(load);
        // What the packet does not have is compared with nothing in particular.
        let mut own = own.unwrap_or_else(|| vec![0; 4]);
        if host_order && self.draw.below(4) != 0 {
            exprs.push(Expr::Byteorder { sreg: reg, dreg: reg, len: 4, size: 4, to_host: false });
            own.reverse();
        }
        if self.draw.below(3) == 0 {
            let prefix = self.draw.below(8 * own.len() + 1);
            let whole = self.draw.below(3) != 0;
            let mask: Vec<u8> = (0..own.len())
                .map(|at| {
                    if whole {
                        0xffu8.checked_shl(8 - (prefix.saturating_sub(8 * at)).min(8) as u32).unwrap_or(0)
                    } else {
                        self.draw.of(&[0xff, 0xf0, 0x0f, 0, 0xfe])
                    }
                })
                .collect();
            let flip = self.draw.below(4) == 0;
            let xor: Vec<u8> = (0..own.len()).map(|_| if flip { self.draw.byte() } else { 0 }).collect();
            own = own.iter().zip(mask.iter().zip(&xor)).map(|(b, (m, x))| b & m ^ x).collect();
            let dreg = self.draw.of(&[reg, reg, reg, 32]);
            exprs.push(Expr::Bitwise {
                sreg: reg,
                dreg,
                len: own.len() as u32,
                op: BitwiseOp::MaskXor { mask: mask.into(), xor: xor.into() },
            });
            return self.test(dreg, &own, exprs);
        }
        self.test(reg, &own, exprs);
    }

    fn test(&mut self, sreg: Reg, own: &[u8], exprs: &mut Vec<Expr>) {
        let negate = self.draw.chance();
        let short = if self.draw.below(6) == 0 { 1 + self.draw.below(own.len()) } else { own.len() };
        let data = self.near(&own[..short]);
        match self.draw.below(6) {
            0..=2 => {
                let op =
                    self.draw.of(&[CmpOp::Eq, CmpOp::Eq, CmpOp::Neq, CmpOp::Lt, CmpOp::Lte, CmpOp::Gt, CmpOp::Gte]);
                exprs.push(Expr::Cmp { sreg, op, data: data.into() });
            }
            3 => {
                let other = self.near(&own[..short]);
                let (from, to) = (data.clone().min(other.clone()), data.max(other));
                exprs.push(Expr::Range { sreg, negate, from: from.into(), to: to.into() });
            }
            4 => {
                let set = self.set(own.len(), false, own);
                exprs.push(Expr::Lookup { set, sreg, dreg: None, negate });
            }
            _ => {
                let set = self.set(own.len(), true, own);
                let one = self.draw.of(&self
                    .sets
                    .iter()
                    .filter(|s| s.name == set)
                    .flat_map(|s| &s.elements)
                    .filter_map(|e| e.data.clone())
                    .collect::<Vec<_>>());
                exprs.push(Expr::Lookup { set, sreg, dreg: Some(Some(48)), negate: false });
                let ElementData::Bytes(data) = one else { return };
                exprs.push(Expr::Cmp { sreg: 48, op: self.draw.of(&[CmpOp::Eq, CmpOp::Neq]), data });
            }
        }
    }

    /// Adds a set (or a map) with keys near the value, and gives its name.
    fn set(&mut self, key_len: usize, map: bool, own: &[u8]) -> String {
        let name = format!("s{:02}", self.sets.len());
        let mut elements: Vec<Element> = Vec::new();
        for _ in 0..1 + self.draw.below(4) {
            let (a, b) = (self.near(own), self.near(own));
            let key = match self.draw.below(if map { 5 } else { 9 }) {
                0 => ElementKey::Any,
                1..=4 => ElementKey::One(a.into()),
                _ => ElementKey::Range(a.clone().min(b.clone()).into(), a.max(b).into()),
            };
            let data = map.then(|| ElementData::Bytes(vec![self.draw.below(2) as u8, 0, 0, 0].into()));
            if elements.iter().all(|e| e.key != key) {
                elements.push(Element { key, data, exprs: Vec::new() });
            }
        }
        let set = Set { is_map: map, data_len: if map { 4 } else { 0 }, ..fixture::set(&name, key_len, elements) };
        self.sets.push(set);
        name
    }

    /// Address and port in one key.
    fn concatenation(&mut self, exprs: &mut Vec<Expr>) {
        let (at, width) = (if self.family == Family::Ipv4 { 12 } else { 8 }, self.family.bytes());
        let port = if self.like.inwards() { 2 } else { 0 };
        let at = if self.like.inwards() { at } else { at + width as u32 };
        exprs.push(Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: at, len: width as u32 });
        exprs.push(Expr::Payload { dreg: width as Reg, base: PayloadBase::Transport, offset: port, len: 2 });
        let own = (bytes(self.family, wide(&self.like.client)), PORT.to_be_bytes());
        let key = |maker: &mut Self| [maker.near(&own.0), maker.near(&own.1), vec![0; 2]].concat();
        let name = format!("s{:02}", self.sets.len());
        let (a, b) = (key(self), key(self));
        let field = |range: std::ops::Range<usize>| {
            let (a, b) = (a[range.clone()].to_vec(), b[range].to_vec());
            (a.clone().min(b.clone()), a.max(b))
        };
        let (address, ports) = (field(0..width), field(width..width + 4));
        let range = ElementKey::Range([address.0, ports.0].concat().into(), [address.1, ports.1].concat().into());
        let elements =
            [ElementKey::One(key(self).into()), range].map(|key| Element { key, data: None, exprs: Vec::new() });
        self.sets.push(Set { fields: vec![width, 2], ..fixture::set(&name, width + 4, elements.into()) });
        exprs.push(Expr::Lookup { set: name, sreg: 0, dreg: None, negate: self.draw.chance() });
    }

    fn iface(&mut self) -> Option<IfaceMatch> {
        let names: [&[u8]; 4] = [b"eth0", b"eth", b"et", b"lo"];
        let name = self.draw.of(&names).to_vec();
        (self.draw.below(4) == 0).then(|| IfaceMatch { name, exact: self.draw.chance(), invert: self.draw.chance() })
    }

    fn legacy(&mut self, exprs: &mut Vec<Expr>) {
        let invert = self.draw.chance();
        let server = self.like.inwards();
        let found = match self.draw.below(if self.decidable { 9 } else { 13 }) {
            0..=2 => {
                let any = Masked::default();
                let src = if self.draw.chance() { self.prefix(true) } else { any };
                let dst = if self.draw.below(3) == 0 { self.prefix(false) } else { any };
                let (iif, oif) = (self.iface(), self.iface());
                let proto = self.draw.of(&[0, TCP, TCP, 17]);
                let fragment = self.draw.of(&[None, None, None, Some(false), Some(true)]);
                let proto_invert = proto != 0 && self.draw.below(4) == 0;
                XtMatch::Header(Box::new(XtHeader { src, dst, iif, oif, proto, proto_invert, fragment }))
            }
            3 => {
                let all = (0, u16::MAX);
                let (sports, dports) = (self.near_port(true), self.near_port(false));
                let flags = self.draw.chance();
                XtMatch::Tcp {
                    sports: if self.decidable == server { all } else { sports },
                    dports: if self.decidable && !server { all } else { dports },
                    invert_sports: !self.decidable && self.draw.chance(),
                    invert_dports: server && self.draw.below(3) == 0,
                    flags_mask: if flags { 0x17 } else { 0 },
                    flags_set: if flags { self.draw.of(&[0x02, 0x12, 0x10]) } else { 0 },
                    invert_flags: flags && self.draw.chance(),
                    option: None,
                }
            }
            4 => {
                let which = match (self.decidable, server) {
                    (true, true) => MultiportWhich::Destination,
                    (true, false) => MultiportWhich::Source,
                    _ => self.draw.of(&[MultiportWhich::Source, MultiportWhich::Destination, MultiportWhich::Either]),
                };
                let ports = (0..1 + self.draw.below(3))
                    .map(|n| self.near_port(n == 2 || which == MultiportWhich::Source))
                    .collect();
                XtMatch::Multiport { which, ports, invert }
            }
            5 => {
                let side = |maker: &mut Self, source| {
                    let (a, b) = (maker.near_address(source), maker.near_address(source));
                    maker.draw.chance().then(|| (a.min(b), a.max(b), maker.draw.chance()))
                };
                XtMatch::Iprange(Box::new(Iprange { src: side(self, true), dst: side(self, false) }))
            }
            6 => {
                let mask = self.draw.of(&[u32::MAX, 0xf, 0xff00, 5]);
                let mark = self.draw.of(&[0, 1, 5, 0xa, 0xff00]);
                self.draw.of(&[XtMatch::Mark { mark, mask, invert }, XtMatch::Connmark { mark, mask, invert }])
            }
            7 => XtMatch::Pkttype { kind: self.draw.below(3) as u32, invert },
            8 => XtMatch::Conntrack(Box::new(self.conntrack())),
            9 => {
                let own = self.like.length;
                let (a, b) = (self.near_number(own) as u16, self.near_number(own) as u16);
                let (min, max) = self.draw.of(&[(a.min(b), a.max(b)), (40, 64), (60, 84), (41, 84), (0, 59), (65, 99)]);
                XtMatch::Length { min, max, invert }
            }
            10 => XtMatch::Ttl { mode: self.draw.below(4) as u8, value: self.draw.of(&[0, 1, 2, 64, 254, 255]) },
            11 => {
                let near = self.like.client_port;
                let port = self.draw.of(&[
                    (0, 32767),
                    (1024, u16::MAX),
                    (32768, 60999),
                    (32769, 60999),
                    (32768, 60998),
                    (near, near),
                    (61000, u16::MAX),
                ]);
                let all = (0, u16::MAX);
                let (sports, dports) = if server { (port, all) } else { (all, port) };
                XtMatch::Tcp {
                    sports,
                    dports,
                    invert_sports: server && invert,
                    invert_dports: !server && invert,
                    flags_mask: 0,
                    flags_set: 0,
                    invert_flags: false,
                    option: None,
                }
            }
            _ => XtMatch::U32 { tests: (0..1 + self.draw.below(2)).map(|_| self.u32_test()).collect(), invert },
        };
        exprs.push(Expr::XtMatch(found));
    }

    fn conntrack(&mut self) -> Conntrack {
        let mut ct = Conntrack::default();
        let invert = self.draw.chance();
        for _ in 0..1 + self.draw.below(2) {
            let at = self.like.inwards();
            let (mine, theirs) = (self.prefix(!at), self.prefix(at));
            let port = self.draw.of(&[(22, 22), (20, 23), (23, 80), (0, 21)]);
            match self.draw.below(10) {
                0 => ct.state = Some((self.draw.of(&[8, 2, 10, 1, 6]), invert)),
                1 => ct.status = Some((self.draw.of(&[2, 4, 8, 32, 6]), invert)),
                2 => ct.direction = Some((self.draw.chance(), invert)),
                3 => ct.proto = Some((self.draw.of(&[6, 17]), invert)),
                4 => ct.orig_src = Some(theirs),
                5 => ct.orig_dst = Some(mine),
                6 => ct.repl_src = Some(mine),
                7 => ct.repl_dst = Some(theirs),
                8 => ct.orig_dst_port = Some((port, invert)),
                _ => ct.repl_src_port = Some((port, invert)),
            }
        }
        if !self.decidable && self.draw.below(4) == 0 {
            let near = self.like.client_port;
            let port = self.draw.of(&[(32768, 60999), (0, 32767), (near, 60999), (61000, 65535)]);
            ct.orig_src_port = Some((port, invert));
            ct.repl_dst_port = self.draw.chance().then_some((port, invert));
        }
        ct
    }

    fn u32_test(&mut self) -> U32Test {
        let four = self.family == Family::Ipv4;
        // `--u32 "0>>22&0x3C@12>>…"` finds the TCP header by the length of IPv4's.
        let (start, steps) = match self.draw.below(7) {
            0 if four => (0, vec![(U32Op::ShiftRight, 22), (U32Op::And, 0x3c), (U32Op::At, 0)]),
            1 if four => (0, vec![(U32Op::ShiftRight, 22), (U32Op::And, 0x3c), (U32Op::At, 12)]),
            2 => (6, vec![(U32Op::And, 0xff)]),
            3 => (if four { 12 } else { 8 }, vec![(U32Op::And, 0xffff_ff00)]),
            4 => (if four { 16 } else { 24 }, vec![]),
            5 => (
                if four { 32 } else { 52 },
                vec![(U32Op::ShiftRight, 16), (U32Op::And, self.draw.of(&[0xff, 0x3f, 0x10]))],
            ),
            _ => {
                (self.draw.below(20) as u32, vec![(U32Op::ShiftLeft, self.draw.below(32) as u32), (U32Op::And, 0xff00)])
            }
        };
        let mut test = U32Test { start, steps, ranges: Vec::new() };
        let own = {
            let mut value = self.like.four_bytes(test.start).unwrap_or(0);
            for (op, operand) in &test.steps {
                match op {
                    U32Op::And => value &= operand,
                    U32Op::ShiftLeft => value <<= operand,
                    U32Op::ShiftRight => value >>= operand,
                    U32Op::At => value = self.like.four_bytes(value + operand).unwrap_or(0),
                }
            }
            value
        };
        for _ in 0..1 + self.draw.below(2) {
            let (a, b) = (self.near_number(own), self.near_number(own));
            test.ranges.push((a.min(b), a.max(b)));
        }
        test
    }

    /// What the rule does in a chain from which these may be called.
    fn deed(&mut self, called: &[&str], exprs: &mut Vec<Expr>) {
        let number = |draw: &mut Draw| draw.of(&[0u32, 1, 5, 0xa, 0xff00, u32::MAX]);
        let verdict = match self.draw.below(14) {
            0..=2 => Verdict::Accept,
            3..=5 => Verdict::Drop,
            6 => Verdict::Return,
            7 if !called.is_empty() => Verdict::Jump(self.draw.of(called).to_owned()),
            8 if !called.is_empty() => Verdict::Goto(self.draw.of(called).to_owned()),
            9 => {
                let reject = RejectWith::Icmp(3);
                let deed = [
                    Expr::Reject(reject),
                    Expr::XtTarget(XtTarget::Reject(reject)),
                    Expr::XtTarget(XtTarget::Drop),
                    Expr::XtTarget(XtTarget::Accept),
                    Expr::XtTarget(XtTarget::Return),
                ];
                return exprs.push(self.draw.of(&deed));
            }
            10 => {
                exprs.push(Expr::Immediate { dreg: 4, data: number(self.draw).to_ne_bytes().as_slice().into() });
                let set = [
                    Expr::MetaSet { sreg: 4, key: MetaKey::Mark },
                    Expr::CtSet { sreg: 4, key: CtKey::Mark, dir: None },
                ];
                return exprs.push(self.draw.of(&set));
            }
            11 => {
                let (mark, mask) = (number(self.draw), number(self.draw));
                return exprs.push(Expr::XtTarget(XtTarget::Mark { mark, mask }));
            }
            12 => {
                let mode = self.draw.of(&[ConnmarkMode::Set, ConnmarkMode::Save, ConnmarkMode::Restore]);
                let (ctmark, ctmask, nfmask) = (number(self.draw), number(self.draw), number(self.draw));
                return exprs.push(Expr::XtTarget(XtTarget::Connmark { mode, ctmark, ctmask, nfmask }));
            }
            _ => return self.verdict_map(exprs),
        };
        exprs.push(Expr::Verdict(verdict));
    }

    fn verdict_map(&mut self, exprs: &mut Vec<Expr>) {
        let (load, own) = self.load(0);
        let Some(own) = own else { return };
        exprs.push(load);
        let name = self.set(own.len(), true, &own);
        for element in self.sets.iter_mut().filter(|set| set.name == name).flat_map(|set| &mut set.elements) {
            let verdict = self.draw.of(&[Verdict::Accept, Verdict::Drop, Verdict::Return, Verdict::Continue]);
            element.data = Some(ElementData::Verdict(verdict));
        }
        exprs.push(Expr::Lookup { set: name, sreg: 0, dreg: Some(None), negate: false });
    }

    pub fn chain(&mut self, name: &str, base: Option<BaseChain>, called: &[&str]) -> Chain {
        let rules: Vec<Rule> = (0..1 + self.draw.below(5))
            .map(|_| {
                let mut exprs = Vec::new();
                for _ in 0..self.draw.below(3) {
                    match self.draw.below(8) {
                        0..=3 => self.look(&mut exprs),
                        4 => self.concatenation(&mut exprs),
                        _ => self.legacy(&mut exprs),
                    }
                    if self.draw.below(4) == 0 {
                        exprs.push(self.draw.of(&[Expr::Counter, Expr::Log { prefix: "x".into() }]));
                    }
                }
                self.deed(called, &mut exprs);
                Rule { handle: None, comment: None, exprs }
            })
            .collect();
        Chain { name: name.into(), base, rules: rules.into() }
    }
}
