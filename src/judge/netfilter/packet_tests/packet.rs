//! A packet of a handshake with every byte in its place, and what the kernel finds in it.

use super::draw::Draw;
use crate::facts::*;
use crate::judge::{Path, fixture};

pub const PORT: u16 = 22;
pub const TCP: u8 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Syn,
    Answer,
    Ack,
}

/// One packet, and what the kernel keeps about it.
#[derive(Debug, Clone)]
pub struct Whole {
    pub step: Step,
    pub family: Family,
    /// Network and transport header.
    pub network: Vec<u8>,
    pub transport: [u8; 20],
    pub length: u32,
    pub client: Vec<u8>,
    pub client_port: u16,
    pub mark: u32,
    pub flow_mark: u32,
}

pub fn path(family: Family) -> Path {
    let address = fixture::ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    Path { family, interface: "eth0".into(), ifindex: 2, address, port: PORT }
}

pub fn bytes(family: Family, address: u128) -> Vec<u8> {
    address.to_be_bytes()[16 - family.bytes()..].to_vec()
}

pub fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, &b| n << 8 | u128::from(b))
}

impl Whole {
    pub fn new(family: Family, step: Step, source: u128, client_port: u16, draw: &mut Draw) -> Whole {
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

    pub fn inwards(&self) -> bool {
        self.step != Step::Answer
    }

    pub fn address(&self, source: bool) -> u128 {
        let (at, width) = (if self.family == Family::Ipv4 { 12 } else { 8 }, self.family.bytes());
        let at = if source { at } else { at + width };
        wide(&self.network[at..at + width])
    }

    pub fn port(&self, source: bool) -> u16 {
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

    pub fn meta(&self, key: MetaKey) -> Option<Vec<u8>> {
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

    pub fn ct(&self, key: CtKey, dir: Option<CtDir>) -> Option<Vec<u8>> {
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

    pub fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Vec<u8> {
        let header: &[u8] = if base == PayloadBase::Network { &self.network } else { &self.transport };
        header[offset as usize..(offset + len) as usize].to_vec()
    }

    pub fn four_bytes(&self, at: u32) -> Option<u32> {
        let all = [&self.network[..], &self.transport[..]].concat();
        let at = at as usize;
        Some(u32::from_be_bytes(all.get(at..at + 4)?.try_into().ok()?))
    }

    pub fn xt(&self, found: &XtMatch) -> bool {
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
