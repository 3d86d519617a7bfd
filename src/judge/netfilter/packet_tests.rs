//! Rules of many forms against packets with every byte in its place: what the walk says of a set of sources must be so for
//! each of them. The rules are read here as the kernel reads them, byte by byte (nft_do_chain, nft_cmp, nft_bitwise, nft_range,
//! nft_payload, xt_tcpudp, xt_multiport, xt_iprange, xt_u32), and nothing of the walk is used for it.

use std::ops::RangeInclusive;

use proptest::prelude::*;

use super::{Ports, walk};
use crate::facts::*;
use crate::judge::{Path, PathVerdict, fixture};

const PORT: u16 = 22;
const TCP: u8 = 6;

/// Numbers that a test is made of.
struct Draw(std::vec::IntoIter<u16>);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % n
    }

    fn chance(&mut self) -> bool {
        self.below(2) == 1
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    fn within(&mut self, range: RangeInclusive<u16>) -> u16 {
        range.start() + self.below(usize::from(range.end() - range.start()) + 1) as u16
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Syn,
    Answer,
    Ack,
}

/// One packet, and what the kernel keeps about it.
#[derive(Debug, Clone)]
struct Whole {
    step: Step,
    family: Family,
    /// Network and transport header.
    network: Vec<u8>,
    transport: [u8; 20],
    length: u32,
    client: Vec<u8>,
    client_port: u16,
    mark: u32,
    flow_mark: u32,
}

fn path(family: Family) -> Path {
    let address = fixture::ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    Path { family, interface: "eth0".into(), ifindex: 2, address, port: PORT }
}

fn bytes(family: Family, address: u128) -> Vec<u8> {
    address.to_be_bytes()[16 - family.bytes()..].to_vec()
}

fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, &b| n << 8 | u128::from(b))
}

impl Whole {
    fn new(family: Family, step: Step, source: u128, client_port: u16, draw: &mut Draw) -> Whole {
        let client = bytes(family, source);
        let server = bytes(family, number(path(family).address));
        let (tcp, header) = (20 + draw.within(0..=24), if family == Family::Ipv4 { 20 } else { 40 });
        let inwards = step != Step::Answer;
        let mut network: Vec<u8> = (0..header).map(|_| draw.byte()).collect();
        let mut transport = [0; 20].map(|_: u8| draw.byte());
        let (src, dst) = if inwards { (&client, &server) } else { (&server, &client) };
        let hops = draw.within(1..=255) as u8;
        match family {
            Family::Ipv4 => {
                network[0] = 0x45;
                network[2..4].copy_from_slice(&(header + tcp).to_be_bytes());
                (network[6], network[7]) = (0x40, 0);
                (network[8], network[9]) = (hops, TCP);
            }
            Family::Ipv6 => {
                network[0] = 0x60 | network[0] >> 4;
                network[4..6].copy_from_slice(&tcp.to_be_bytes());
                (network[6], network[7]) = (TCP, hops);
            }
        }
        let (at, width) = (if family == Family::Ipv4 { 12 } else { 8 }, family.bytes());
        network[at..at + width].copy_from_slice(src);
        network[at + width..at + 2 * width].copy_from_slice(dst);
        let (sport, dport) = if inwards { (client_port, PORT) } else { (PORT, client_port) };
        transport[..2].copy_from_slice(&sport.to_be_bytes());
        transport[2..4].copy_from_slice(&dport.to_be_bytes());
        if step == Step::Syn {
            transport[8..12].fill(0);
        }
        transport[13] = match step {
            Step::Syn => 0x02,
            Step::Answer => 0x12,
            Step::Ack => 0x10,
        };
        transport[14..16].copy_from_slice(&draw.within(1..=u16::MAX).to_be_bytes());
        (transport[18], transport[19]) = (0, 0);
        let length = u32::from(header + tcp);
        Whole { step, family, network, transport, length, client, client_port, mark: 0, flow_mark: 0 }
    }

    fn inwards(&self) -> bool {
        self.step != Step::Answer
    }

    fn address(&self, source: bool) -> u128 {
        let (at, width) = (if self.family == Family::Ipv4 { 12 } else { 8 }, self.family.bytes());
        let at = if source { at } else { at + width };
        wide(&self.network[at..at + width])
    }

    fn port(&self, source: bool) -> u16 {
        let at = if source { 0 } else { 2 };
        u16::from_be_bytes([self.transport[at], self.transport[at + 1]])
    }

    fn name(&self, there: bool) -> Vec<u8> {
        let mut name = if there { b"eth0".to_vec() } else { Vec::new() };
        name.resize(16, 0);
        name
    }

    fn protocol(&self) -> u8 {
        if self.family == Family::Ipv4 { 2 } else { 10 }
    }

    fn meta(&self, key: MetaKey) -> Option<Vec<u8>> {
        let (inwards, index) = (self.inwards(), |there: bool| if there { 2u32 } else { 0 });
        Some(match key {
            MetaKey::Len => self.length.to_ne_bytes().to_vec(),
            MetaKey::Protocol => vec![
                if self.family == Family::Ipv4 { 0x08 } else { 0x86 },
                [0, 0xdd][usize::from(self.family == Family::Ipv6)],
            ],
            MetaKey::Mark => self.mark.to_ne_bytes().to_vec(),
            MetaKey::Iif => index(inwards).to_ne_bytes().to_vec(),
            MetaKey::Oif => index(!inwards).to_ne_bytes().to_vec(),
            MetaKey::IifName => self.name(inwards),
            MetaKey::OifName => self.name(!inwards),
            MetaKey::Nfproto => vec![self.protocol()],
            MetaKey::L4Proto => vec![TCP],
            MetaKey::PktType => vec![0],
            MetaKey::IifGroup if inwards => vec![0; 4],
            MetaKey::OifGroup if !inwards => vec![0; 4],
            MetaKey::IifGroup | MetaKey::OifGroup => return None,
            _ => unreachable!("{key:?}"),
        })
    }

    fn ct(&self, key: CtKey, dir: Option<CtDir>) -> Option<Vec<u8>> {
        let server = bytes(self.family, number(path(self.family).address));
        let reply = dir == Some(CtDir::Reply);
        Some(match key {
            CtKey::State => u32::to_ne_bytes(if self.step == Step::Syn { 8 } else { 2 }).to_vec(),
            CtKey::Direction => vec![u8::from(self.step == Step::Answer)],
            CtKey::Status => self.status().to_ne_bytes().to_vec(),
            CtKey::Mark => self.flow_mark.to_ne_bytes().to_vec(),
            CtKey::Secmark => vec![0; 4],
            CtKey::L3Protocol => vec![self.protocol()],
            CtKey::Protocol => vec![TCP],
            CtKey::Zone => vec![0; 2],
            CtKey::Src => {
                if reply {
                    server
                } else {
                    self.client.clone()
                }
            }
            CtKey::Dst => {
                if reply {
                    self.client.clone()
                } else {
                    server
                }
            }
            CtKey::SrcIp | CtKey::DstIp if self.family == Family::Ipv6 => return None,
            CtKey::SrcIp6 | CtKey::DstIp6 if self.family == Family::Ipv4 => return None,
            CtKey::SrcIp | CtKey::SrcIp6 => return self.ct(CtKey::Src, dir),
            CtKey::DstIp | CtKey::DstIp6 => return self.ct(CtKey::Dst, dir),
            CtKey::ProtoSrc => if reply { PORT } else { self.client_port }.to_be_bytes().to_vec(),
            CtKey::ProtoDst => if reply { self.client_port } else { PORT }.to_be_bytes().to_vec(),
            CtKey::Helper => return None,
            _ => unreachable!("{key:?}"),
        })
    }

    /// IPS_SEEN_REPLY 2, IPS_ASSURED 4, IPS_CONFIRMED 8.
    fn status(&self) -> u32 {
        match self.step {
            Step::Syn => 0,
            Step::Answer => 2 | 8,
            Step::Ack => 2 | 4 | 8,
        }
    }

    fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Vec<u8> {
        let header: &[u8] = if base == PayloadBase::Network { &self.network } else { &self.transport };
        header[offset as usize..(offset + len) as usize].to_vec()
    }

    fn four_bytes(&self, at: u32) -> Option<u32> {
        let all = [&self.network[..], &self.transport[..]].concat();
        let at = at as usize;
        Some(u32::from_be_bytes(all.get(at..at + 4)?.try_into().ok()?))
    }

    fn xt(&self, found: &XtMatch) -> bool {
        let masked = |m: &Masked, own: u128| (own & m.mask == m.address) != m.invert;
        let within = |(a, b): (u16, u16), port: u16| (a..=b).contains(&port);
        match found {
            XtMatch::Header(header) => {
                let iface = |wanted: &Option<IfaceMatch>, there: bool| {
                    wanted.as_ref().is_none_or(|w| {
                        let name: &[u8] = if there { b"eth0" } else { b"" };
                        (if w.exact { name == w.name } else { name.starts_with(&w.name) }) != w.invert
                    })
                };
                masked(&header.src, self.address(true))
                    && masked(&header.dst, self.address(false))
                    && iface(&header.iif, self.inwards())
                    && iface(&header.oif, !self.inwards())
                    && (header.proto == 0 || (header.proto == TCP) != header.proto_invert)
                    && header.fragment != Some(true)
            }
            XtMatch::Tcp {
                sports, dports, invert_sports, invert_dports, flags_mask, flags_set, invert_flags, ..
            } => {
                within(*sports, self.port(true)) != *invert_sports
                    && within(*dports, self.port(false)) != *invert_dports
                    && (self.transport[13] & flags_mask == *flags_set) != *invert_flags
            }
            XtMatch::Multiport { which, ports, invert } => {
                let any = |source| ports.iter().any(|p| within(*p, self.port(source)));
                let hit = match which {
                    MultiportWhich::Source => any(true),
                    MultiportWhich::Destination => any(false),
                    MultiportWhich::Either => any(true) || any(false),
                };
                hit != *invert
            }
            XtMatch::Iprange(sides) => {
                let side = |side: Option<(u128, u128, bool)>, own: u128| {
                    side.is_none_or(|(a, b, invert)| (a..=b).contains(&own) != invert)
                };
                side(sides.src, self.address(true)) && side(sides.dst, self.address(false))
            }
            XtMatch::Mark { mark, mask, invert } => (self.mark & mask == *mark) != *invert,
            XtMatch::Connmark { mark, mask, invert } => (self.flow_mark & mask == *mark) != *invert,
            XtMatch::Pkttype { kind, invert } => (*kind == 0) != *invert,
            XtMatch::Length { min, max, invert } => {
                (u32::from(*min)..=u32::from(*max)).contains(&self.length) != *invert
            }
            XtMatch::Ttl { mode, value } => {
                let own = self.network[if self.family == Family::Ipv4 { 8 } else { 7 }];
                match mode {
                    0 => own == *value,
                    1 => own != *value,
                    2 => own < *value,
                    _ => own > *value,
                }
            }
            XtMatch::U32 { tests, invert } => tests.iter().all(|test| self.u32_test(test)) != *invert,
            XtMatch::Conntrack(ct) => self.conntrack(ct),
            XtMatch::Comment(_) => true,
            other => unreachable!("{other:?}"),
        }
    }

    fn u32_test(&self, test: &U32Test) -> bool {
        let Some(mut value) = self.four_bytes(test.start) else { return false };
        let mut at = 0u32;
        for (op, operand) in &test.steps {
            match op {
                U32Op::And => value &= operand,
                U32Op::ShiftLeft => value <<= operand,
                U32Op::ShiftRight => value >>= operand,
                U32Op::At => {
                    at += value;
                    let Some(found) = self.four_bytes(at + operand) else { return false };
                    value = found;
                }
            }
        }
        test.ranges.iter().any(|(a, b)| (a..=b).contains(&&value))
    }

    fn conntrack(&self, ct: &Conntrack) -> bool {
        let server = number(path(self.family).address);
        let masked = |m: &Option<Masked>, own: u128| m.is_none_or(|m| (own & m.mask == m.address) != m.invert);
        let port = |wanted: &Option<((u16, u16), bool)>, own: u16| {
            wanted.is_none_or(|((a, b), invert)| (a..=b).contains(&own) != invert)
        };
        let state: u16 = if self.step == Step::Syn { 8 } else { 2 };
        ct.state.is_none_or(|(wanted, invert)| (state & wanted != 0) != invert)
            && ct.status.is_none_or(|(wanted, invert)| (self.status() & u32::from(wanted) != 0) != invert)
            && ct.direction.is_none_or(|(original, invert)| (self.inwards() == original) != invert)
            && ct.proto.is_none_or(|(proto, invert)| (proto == u16::from(TCP)) != invert)
            && masked(&ct.orig_src, wide(&self.client))
            && masked(&ct.orig_dst, server)
            && masked(&ct.repl_src, server)
            && masked(&ct.repl_dst, wide(&self.client))
            && port(&ct.orig_src_port, self.client_port)
            && port(&ct.orig_dst_port, PORT)
            && port(&ct.repl_src_port, PORT)
            && port(&ct.repl_dst_port, self.client_port)
    }
}

/// What a rule does.
enum Deed {
    Verdict(Verdict),
    Refuse,
    Next,
}

fn holds(set: &Set, key: &[u8]) -> Option<usize> {
    let within = |from: &[u8], to: &[u8]| {
        let fields = if set.fields.is_empty() { vec![set.key_len] } else { set.fields.clone() };
        let mut at = 0;
        fields.iter().all(|len| {
            let field = at..at + len;
            at += len.next_multiple_of(4);
            (&from[field.clone()]..=&to[field.clone()]).contains(&&key[field])
        })
    };
    let hit = set.elements.iter().position(|element| match &element.key {
        ElementKey::One(own) => own == key,
        ElementKey::Range(from, to) => within(from, to),
        ElementKey::Any => false,
    });
    hit.or_else(|| set.elements.iter().position(|element| element.key == ElementKey::Any))
}

fn rule(table: &Table, rule: &Rule, packet: &mut Whole) -> Deed {
    let mut regs = [0u8; 64];
    let put = |regs: &mut [u8; 64], reg: Reg, bytes: &[u8]| {
        let at = usize::from(reg);
        regs[at..at + bytes.len().next_multiple_of(4)].fill(0);
        regs[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for expr in &rule.exprs {
        let holds = match expr {
            Expr::Meta { dreg, key } => packet.meta(*key).map(|b| put(&mut regs, *dreg, &b)).is_some(),
            Expr::Ct { dreg, key, dir } => packet.ct(*key, *dir).map(|b| put(&mut regs, *dreg, &b)).is_some(),
            Expr::Payload { dreg, base, offset, len } => {
                put(&mut regs, *dreg, &packet.payload(*base, *offset, *len));
                true
            }
            Expr::Immediate { dreg, data } => {
                put(&mut regs, *dreg, data);
                true
            }
            Expr::Bitwise { sreg, dreg, len, op: BitwiseOp::MaskXor { mask, xor } } => {
                let at = usize::from(*sreg);
                let from = regs[at..at + *len as usize].to_vec();
                let made: Vec<u8> = from.iter().zip(mask.iter().zip(xor)).map(|(b, (m, x))| b & m ^ x).collect();
                put(&mut regs, *dreg, &made);
                true
            }
            Expr::Byteorder { sreg, dreg, len, size, .. } => {
                let at = usize::from(*sreg);
                let mut made = regs[at..at + *len as usize].to_vec();
                made.chunks_mut(*size as usize).for_each(<[u8]>::reverse);
                put(&mut regs, *dreg, &made);
                true
            }
            Expr::Cmp { sreg, op, data } => {
                let own = &regs[usize::from(*sreg)..usize::from(*sreg) + data.len()];
                match op {
                    CmpOp::Eq => own == data,
                    CmpOp::Neq => own != data,
                    CmpOp::Lt => own < data.as_slice(),
                    CmpOp::Lte => own <= data.as_slice(),
                    CmpOp::Gt => own > data.as_slice(),
                    CmpOp::Gte => own >= data.as_slice(),
                }
            }
            Expr::Range { sreg, negate, from, to } => {
                let own = &regs[usize::from(*sreg)..usize::from(*sreg) + from.len()];
                (from.as_slice()..=to.as_slice()).contains(&own) != *negate
            }
            Expr::Lookup { set, sreg, dreg, negate } => {
                let set = table.set(set).expect("a set");
                let hit = holds(set, &regs[usize::from(*sreg)..usize::from(*sreg) + set.key_len]);
                match (dreg, hit.and_then(|hit| set.elements[hit].data.clone())) {
                    (None, _) => hit.is_some() != *negate,
                    (Some(None), Some(ElementData::Verdict(verdict))) => return Deed::Verdict(verdict),
                    (Some(Some(dreg)), Some(ElementData::Bytes(data))) => {
                        put(&mut regs, *dreg, &data);
                        true
                    }
                    _ => false,
                }
            }
            Expr::MetaSet { sreg, .. } => {
                let at = usize::from(*sreg);
                packet.mark = u32::from_ne_bytes(regs[at..at + 4].try_into().expect("four bytes"));
                true
            }
            Expr::CtSet { sreg, .. } => {
                let at = usize::from(*sreg);
                packet.flow_mark = u32::from_ne_bytes(regs[at..at + 4].try_into().expect("four bytes"));
                true
            }
            Expr::XtMatch(found) => packet.xt(found),
            Expr::XtTarget(XtTarget::Mark { mark, mask }) => {
                packet.mark = packet.mark & !mask ^ mark;
                true
            }
            Expr::XtTarget(XtTarget::Connmark { mode, ctmark, ctmask, nfmask }) => {
                let (mark, flow) = (packet.mark, packet.flow_mark);
                match mode {
                    ConnmarkMode::Set => packet.flow_mark = flow & !ctmask ^ ctmark,
                    ConnmarkMode::Save => packet.flow_mark = flow & !ctmask ^ mark & nfmask,
                    ConnmarkMode::Restore => packet.mark = mark & !nfmask ^ flow & ctmask,
                }
                true
            }
            Expr::XtTarget(XtTarget::Accept) => return Deed::Verdict(Verdict::Accept),
            Expr::XtTarget(XtTarget::Drop) => return Deed::Verdict(Verdict::Drop),
            Expr::XtTarget(XtTarget::Return) => return Deed::Verdict(Verdict::Return),
            Expr::XtTarget(XtTarget::Jump(chain)) => return Deed::Verdict(Verdict::Jump(chain.clone())),
            Expr::XtTarget(XtTarget::Reject(_)) | Expr::Reject(_) => return Deed::Refuse,
            Expr::Verdict(Verdict::Continue) | Expr::Counter | Expr::Log { .. } => true,
            Expr::Verdict(verdict) => return Deed::Verdict(verdict.clone()),
            other => unreachable!("{other:?}"),
        };
        if !holds {
            return Deed::Next;
        }
    }
    Deed::Next
}

/// Whether the packet passes; None: the chain says nothing.
fn chain(table: &Table, name: &str, packet: &mut Whole) -> Option<bool> {
    for one in table.chain(name).expect("a chain").rules.iter() {
        match rule(table, one, packet) {
            Deed::Next | Deed::Verdict(Verdict::Continue | Verdict::Break) => {}
            Deed::Refuse | Deed::Verdict(Verdict::Drop) => return Some(false),
            Deed::Verdict(Verdict::Accept) => return Some(true),
            Deed::Verdict(Verdict::Return) => return None,
            Deed::Verdict(Verdict::Goto(called)) => return chain(table, &called, packet),
            Deed::Verdict(Verdict::Jump(called)) => {
                if let Some(told) = chain(table, &called, packet) {
                    return Some(told);
                }
            }
            Deed::Verdict(other) => unreachable!("{other:?}"),
        }
    }
    None
}

/// Whether the handshake of one client, as `draw` makes it, passes the base chain.
fn passes(firewall: &Firewall, family: Family, source: u128, draw: &mut Draw) -> bool {
    let Seen::Present(nft) = &firewall.nft else { unreachable!() };
    let table = &nft.tables[0];
    let base = table.chains[0].base.as_ref().expect("a base chain");
    let (port, mut flow_mark) = (draw.within(32768..=60999), 0);
    [Step::Syn, Step::Answer, Step::Ack].into_iter().all(|step| {
        let mut packet = Whole::new(family, step, source, port, draw);
        packet.flow_mark = flow_mark;
        if packet.inwards() != (base.hook != Hook::Output) {
            return true;
        }
        let told = chain(table, &table.chains[0].name, &mut packet);
        flow_mark = packet.flow_mark;
        told.unwrap_or(base.policy == Policy::Accept)
    })
}

/// What rules are made of.
struct Maker<'d> {
    draw: &'d mut Draw,
    family: Family,
    /// A packet that many rules shall match.
    like: Whole,
    /// Whether rules look at the client's address alone, and at what is the same for every client.
    decidable: bool,
    sets: Vec<Set>,
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
            exprs.push(Expr::Bitwise { sreg: reg, dreg, len: own.len() as u32, op: BitwiseOp::MaskXor { mask, xor } });
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
                exprs.push(Expr::Cmp { sreg, op, data });
            }
            3 => {
                let other = self.near(&own[..short]);
                let (from, to) = (data.clone().min(other.clone()), data.max(other));
                exprs.push(Expr::Range { sreg, negate, from, to });
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
                1..=4 => ElementKey::One(a),
                _ => ElementKey::Range(a.clone().min(b.clone()), a.max(b)),
            };
            let data = map.then(|| ElementData::Bytes(vec![self.draw.below(2) as u8, 0, 0, 0]));
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
        let range = ElementKey::Range([address.0, ports.0].concat(), [address.1, ports.1].concat());
        let elements = [ElementKey::One(key(self)), range].map(|key| Element { key, data: None, exprs: Vec::new() });
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
                exprs.push(Expr::Immediate { dreg: 4, data: number(self.draw).to_ne_bytes().to_vec() });
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

    fn chain(&mut self, name: &str, base: Option<BaseChain>, called: &[&str]) -> Chain {
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

const SOURCES4: [u128; 6] = [0x0a00_0000, 0x0a00_0001, 0x0aff_ffff, 0xc000_024d, 0xc633_6401, 0x0800_0001];
const SOURCES6: [u128; 4] =
    [0x2001_0db8 << 96 | 0x77, 0x2001_0db8_00ff << 80 | 1, 0x2a00 << 112, 0xfe80 << 112 | 0x1234_5678];

/// One table of rules, and a source of which many of them speak.
fn rules(family: Family, decidable: bool, draw: &mut Draw) -> (Firewall, u128) {
    let source = draw.of(if family == Family::Ipv4 { &SOURCES4[..] } else { &SOURCES6[..] });
    let hook = draw.of(&[Hook::Input, Hook::Input, Hook::Input, Hook::Prerouting, Hook::Output]);
    let step = if hook == Hook::Output { Step::Answer } else { draw.of(&[Step::Syn, Step::Syn, Step::Ack]) };
    let port = draw.within(32768..=60999);
    let like = Whole::new(family, step, source, port, draw);
    let own = if family == Family::Ipv4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let of = draw.of(&[TableFamily::Inet, own]);
    let policy = draw.of(&[Policy::Accept, Policy::Drop]);
    let mut maker = Maker { draw, family, like, decidable, sets: Vec::new() };
    let base = BaseChain { hook, kind: ChainKind::Filter, priority: 0, policy, devices: Vec::new() };
    let chains =
        vec![maker.chain("in", Some(base), &["a", "b"]), maker.chain("a", None, &["b"]), maker.chain("b", None, &[])];
    let table = Table { family: of, ..fixture::table(chains, maker.sets) };
    (fixture::nft(vec![table]), source)
}

/// The parts of the address space as the verdict has them.
fn parts(judged: &PathVerdict) -> Vec<AddrSet> {
    let mut parts = vec![judged.admitted.clone()];
    parts.extend(judged.blocked.iter().map(|b| b.sources.clone()));
    parts.extend(judged.conditional.iter().chain(&judged.unknown).map(|open| open.sources.clone()));
    parts
}

fn check(family: Family, decidable: bool, numbers: Vec<u16>) -> Result<(), TestCaseError> {
    let draw = &mut Draw(numbers.into_iter());
    let (firewall, source) = rules(family, decidable, draw);
    let (net, path) = (fixture::healthy().net, path(family));
    let judged = walk(&firewall, &net, &path, &[], &Ports::default());
    let parts = parts(&judged);
    let mut left = AddrSet::full(family);
    for part in &parts {
        prop_assert!(part.is_subset(&left), "two ends of the same sources: {judged:?}");
        left.subtract(part);
    }
    prop_assert!(left.is_empty(), "no end of {left:?}");
    if decidable {
        prop_assert!(judged.conditional.is_empty(), "{:?} of {firewall:?}", judged.conditional);
        let holes = |reason: &str| reason.contains("too many holes") || reason.contains("part of the source address");
        prop_assert!(judged.unknown.iter().all(|o| holes(&o.reason)), "{:?} of {firewall:?}", judged.unknown);
    }
    let blocked = judged.blocked_sources();
    let mut sources: Vec<u128> = vec![source, source + 1, source.wrapping_sub(1) & family.max(), 0, family.max()];
    sources.extend(if family == Family::Ipv4 { &SOURCES4[..] } else { &SOURCES6[..] });
    sources.extend(
        parts.iter().flat_map(|part| part.ranges().take(6)).take(20).flat_map(|(a, b)| [a, b, a + (b - a) / 2]),
    );
    for source in sources {
        let passes = passes(&firewall, family, source, draw);
        let told = (judged.admitted.contains_number(source), blocked.contains_number(source));
        prop_assert!(told != (!passes, passes), "{} {passes}, {told:?}: {firewall:?}", family.address(source));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn what_is_the_same_for_every_client_is_decided_as_the_kernel_decides_it_for_each_source(
        four in any::<bool>(),
        numbers in prop::collection::vec(any::<u16>(), 1200),
    ) {
        check(if four { Family::Ipv4 } else { Family::Ipv6 }, true, numbers)?;
    }

    #[test]
    fn what_is_said_surely_holds_for_every_packet_that_a_client_may_send(
        four in any::<bool>(),
        numbers in prop::collection::vec(any::<u16>(), 1200),
    ) {
        check(if four { Family::Ipv4 } else { Family::Ipv6 }, false, numbers)?;
    }
}
