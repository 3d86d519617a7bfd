//! nf_tables' data registers with bytes that may belong to the source address.

use super::cond::Cond;
use super::flow::Doubt;
use crate::facts::{AddrSet, CmpOp, Family, Reg};

/// A number of the packet that is not known but for its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// The client's port: Linux's ephemeral range (net.ipv4.ip_local_port_range).
    ClientPort,
    /// Total length in bytes of a packet of the handshake: two headers, at most 24 bytes of TCP options (RFC 9293,
    /// RFC 7323: MSS, SACK permitted, timestamps and window scale need 20).
    Length(Family),
    /// The same as IPv6's header has it, without that header.
    PayloadLength,
    /// `meta length`: as [`Var::Length`], four bytes.
    WideLength(Family),
    /// The same of an Ethernet frame that leaves: its header is there already.
    FrameLength(Family),
    /// TCP's window, which nobody opens a connection with closed.
    Window,
    /// TTL or hop limit.
    HopLimit,
    /// DSCP and ECN.
    TrafficClass,
}

impl Var {
    fn bounds(self) -> (u32, u32) {
        match self {
            Var::ClientPort => CLIENT_PORTS,
            Var::WideLength(family) => Var::Length(family).bounds(),
            Var::FrameLength(family) => {
                let (least, most) = Var::Length(family).bounds();
                (ETH_HLEN + least, ETH_HLEN + most)
            }
            Var::Length(Family::Ipv4) => (40, 64),
            Var::Length(Family::Ipv6) => (60, 84),
            Var::PayloadLength => (20, 44),
            Var::Window => (1, 0xffff),
            Var::HopLimit => (1, 255),
            Var::TrafficClass => (0, 255),
        }
    }

    /// The highest that it may be.
    pub fn most(self) -> u32 {
        self.bounds().1
    }

    fn width(self) -> usize {
        match self {
            Var::WideLength(_) | Var::FrameLength(_) => 4,
            Var::ClientPort | Var::Length(_) | Var::PayloadLength | Var::Window => 2,
            Var::HopLimit | Var::TrafficClass => 1,
        }
    }

    pub fn doubt(self) -> Doubt {
        Doubt::conditional(match self {
            Var::ClientPort => "depends on the client's source port",
            Var::Length(_) | Var::WideLength(_) | Var::FrameLength(_) | Var::PayloadLength => {
                "depends on the packet's length"
            }
            Var::Window => "depends on the client's TCP window",
            Var::HopLimit => "depends on the packet's TTL",
            Var::TrafficClass => "depends on the packet's DSCP",
        })
    }

    /// Whether the number lies between `first` and `last`.
    pub fn between(self, first: u32, last: u32) -> Cond {
        let (low, high) = self.bounds();
        match () {
            () if first <= low && high <= last => Cond::Always,
            () if last < low || high < first || last < first => Cond::Never,
            () => Cond::Maybe(self.doubt()),
        }
    }
}

/// linux/if_ether.h
const ETH_HLEN: u32 = 14;
/// net.ipv4.ip_local_port_range as every Linux has it.
pub const CLIENT_PORTS: (u32, u32) = (32768, 60999);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Byte {
    Const(u8),
    /// `(byte `at` of the source address & mask) ^ xor`
    Source {
        at: u8,
        mask: u8,
        xor: u8,
    },
    /// The same of a number.
    Var {
        var: Var,
        at: u8,
        mask: u8,
        xor: u8,
    },
    /// Not known; the index of the reason.
    Doubt(u16),
}

impl Byte {
    #[must_use]
    pub fn masked(self, and: u8, flip: u8) -> Byte {
        match self {
            Byte::Const(b) => Byte::Const((b & and) ^ flip),
            Byte::Doubt(_) if and == 0 => Byte::Const(flip),
            // No bit is left of what is not known.
            Byte::Source { mask, xor, .. } | Byte::Var { mask, xor, .. } if mask & and == 0 => {
                Byte::Const((xor & and) ^ flip)
            }
            Byte::Source { at, mask, xor } => Byte::Source { at, mask: mask & and, xor: (xor & and) ^ flip },
            Byte::Var { var, at, mask, xor } => Byte::Var { var, at, mask: mask & and, xor: (xor & and) ^ flip },
            Byte::Doubt(reason) => Byte::Doubt(reason),
        }
    }
}

pub const REGISTERS: usize = 64;

/// The registers of one rule. Loads pad with zeros to four bytes.
#[derive(Debug, Clone)]
pub struct Regs {
    bytes: [Byte; REGISTERS],
    reasons: Vec<Doubt>,
}

impl Regs {
    pub const fn new() -> Regs {
        Regs { bytes: [Byte::Const(0); REGISTERS], reasons: Vec::new() }
    }

    pub fn get(&self, reg: Reg, len: usize) -> &[Byte] {
        let start = usize::from(reg).min(REGISTERS);
        &self.bytes[start..start.saturating_add(len).min(REGISTERS)]
    }

    pub fn put(&mut self, reg: Reg, bytes: impl IntoIterator<Item = Byte>) {
        let mut at = usize::from(reg);
        for byte in bytes {
            // A length is the host's word, and there is nothing beyond the registers.
            let Some(slot) = self.bytes.get_mut(at) else { return };
            *slot = byte;
            at += 1;
        }
        while !at.is_multiple_of(4) {
            if let Some(slot) = self.bytes.get_mut(at) {
                *slot = Byte::Const(0);
            }
            at += 1;
        }
    }

    pub fn put_const(&mut self, reg: Reg, bytes: &[u8]) {
        self.put(reg, bytes.iter().map(|&b| Byte::Const(b)));
    }

    pub fn put_doubt(&mut self, reg: Reg, len: usize, doubt: Doubt) {
        let index = self.reasons.len().min(usize::from(u16::MAX)) as u16;
        self.reasons.push(doubt);
        self.put(reg, std::iter::repeat_n(Byte::Doubt(index), len));
    }

    /// The bytes, if all are known.
    pub fn known(&self, reg: Reg, len: usize) -> Option<Vec<u8>> {
        self.get(reg, len).iter().map(|b| if let Byte::Const(b) = b { Some(*b) } else { None }).collect()
    }

    /// Why the bytes are not known; a part of the source address is a reason, too.
    pub fn why(&self, reg: Reg, len: usize) -> Doubt {
        let reason = self.get(reg, len).iter().find_map(|b| match b {
            Byte::Doubt(index) => self.reasons.get(usize::from(*index)).cloned(),
            Byte::Var { var, .. } => Some(var.doubt()),
            _ => None,
        });
        reason.unwrap_or_else(|| Doubt::unknown("depends on the source address in a way that is not modelled"))
    }

    pub fn compare(&self, family: Family, reg: Reg, op: CmpOp, data: &[u8]) -> Cond {
        let bytes = self.get(reg, data.len());
        match op {
            CmpOp::Eq => self.equal(family, bytes, data),
            CmpOp::Neq => self.equal(family, bytes, data).negated_if(true),
            CmpOp::Gte => self.at_least(family, bytes, data),
            CmpOp::Lt => self.at_least(family, bytes, data).negated_if(true),
            CmpOp::Lte => self.at_most(family, bytes, data),
            CmpOp::Gt => self.at_most(family, bytes, data).negated_if(true),
        }
    }

    /// Both ends included, compared as memcmp does.
    pub fn between(&self, family: Family, bytes: &[Byte], from: &[u8], to: &[u8]) -> Cond {
        self.at_least(family, bytes, from).and(self.at_most(family, bytes, to))
    }

    pub fn equal(&self, family: Family, bytes: &[Byte], data: &[u8]) -> Cond {
        if bytes.len() < data.len() {
            return Cond::Never;
        }
        let (mut value, mut mask) = (0u128, 0u128);
        let mut doubt: Option<Doubt> = None;
        let mut vars = Cond::Always;
        for (place, (byte, &want)) in bytes.iter().zip(data).enumerate() {
            match *byte {
                Byte::Const(b) if b == want => {}
                Byte::Const(_) => return Cond::Never,
                Byte::Source { at, mask: m, xor } => {
                    let wanted = want ^ xor;
                    if wanted & !m != 0 {
                        return Cond::Never;
                    }
                    let shift = 8 * (family.bytes().saturating_sub(1 + usize::from(at)));
                    value |= u128::from(wanted) << shift;
                    mask |= u128::from(m) << shift;
                }
                Byte::Var { mask, xor, .. } if (want ^ xor) & !mask != 0 => return Cond::Never,
                Byte::Var { .. } => vars = vars.and(variable_equal(bytes, data, place)),
                Byte::Doubt(index) => doubt = self.reasons.get(usize::from(index)).cloned().or(doubt),
            }
        }
        let sources = match (mask, AddrSet::masked(family, value, mask)) {
            (0, _) => Cond::Always,
            (_, Some(set)) => Cond::sources(set),
            (_, None) => Cond::Maybe(Doubt::unknown("a mask over the source address with too many holes")),
        };
        sources.and(vars).and(doubt.map_or(Cond::Always, Cond::Maybe))
    }

    fn at_least(&self, family: Family, bytes: &[Byte], data: &[u8]) -> Cond {
        self.ordered(family, bytes, data, std::cmp::Ordering::Greater)
    }

    fn at_most(&self, family: Family, bytes: &[Byte], data: &[u8]) -> Cond {
        self.ordered(family, bytes, data, std::cmp::Ordering::Less)
    }

    /// Whether the bytes are equal to `data` or beyond it in the direction `beyond`.
    fn ordered(&self, family: Family, bytes: &[Byte], data: &[u8], beyond: std::cmp::Ordering) -> Cond {
        let len = data.len().min(bytes.len());
        let mut place = 0;
        while place < len {
            match bytes[place] {
                Byte::Const(b) if b == data[place] => place += 1,
                Byte::Const(b) => return Cond::known(b.cmp(&data[place]) == beyond),
                Byte::Source { at: 0, mask: 0xff, xor: 0 } => {
                    let run = source_run(&bytes[place..len]);
                    let wanted = data[place..place + run].iter().fold(0u128, |n, &b| n << 8 | u128::from(b));
                    let low = 8 * (family.bytes() - run) as u32;
                    let shift = |n: u128| n.checked_shl(low).unwrap_or(0);
                    let (first, last) = (shift(wanted), shift(wanted) | (shift(1).wrapping_sub(1) & family.max()));
                    let last = if low == 0 { first } else { last };
                    let further = match beyond {
                        std::cmp::Ordering::Greater if last < family.max() => {
                            AddrSet::range(family, last + 1, family.max())
                        }
                        std::cmp::Ordering::Less if first > 0 => AddrSet::range(family, 0, first - 1),
                        _ => AddrSet::empty(family),
                    };
                    let rest = self.ordered(family, &bytes[place + run..len], &data[place + run..len], beyond);
                    let same = Cond::sources(AddrSet::range(family, first, last)).and(rest);
                    return Cond::sources(further).or(same);
                }
                Byte::Var { var, .. } if is_whole(var, bytes[place..len].iter()) => {
                    let after = place + var.width();
                    let wanted = number(data[place..after].iter());
                    let reaches = |beyond_by: u32| match beyond {
                        std::cmp::Ordering::Greater => var.between(wanted.saturating_add(beyond_by), u32::MAX),
                        _ if wanted < beyond_by => Cond::Never,
                        _ => var.between(0, wanted - beyond_by),
                    };
                    // Where the number is the one wanted, what comes after it decides.
                    let rest = self.ordered(family, &bytes[after..len], &data[after..len], beyond);
                    return reaches(1).or(reaches(0).and(rest));
                }
                Byte::Doubt(index) => {
                    let reason = self.reasons.get(usize::from(index)).cloned();
                    return Cond::Maybe(reason.unwrap_or_else(|| Doubt::unknown("a value that is not known")));
                }
                Byte::Var { var, .. } => return Cond::Maybe(var.doubt()),
                Byte::Source { .. } => {
                    return Cond::Maybe(Doubt::unknown("a range over a part of the source address"));
                }
            }
        }
        Cond::Always
    }
}

/// How many bytes from the first on are the source address's own, in order.
fn source_run(bytes: &[Byte]) -> usize {
    let own = |(n, b): &(usize, &Byte)| **b == Byte::Source { at: *n as u8, mask: 0xff, xor: 0 };
    bytes.iter().enumerate().take_while(own).count()
}

/// Whether the first bytes are all of the number's own, in order.
fn is_whole<'b>(var: Var, mut bytes: impl Iterator<Item = &'b Byte>) -> bool {
    (0..var.width()).all(|n| bytes.next() == Some(&Byte::Var { var, at: n as u8, mask: 0xff, xor: 0 }))
}

fn number<'b>(bytes: impl Iterator<Item = &'b u8>) -> u32 {
    bytes.fold(0, |n, &b| n << 8 | u32::from(b))
}

/// The byte at `place` belongs to a number: at its first byte the number is decided, and none of the others can say more.
fn variable_equal(bytes: &[Byte], data: &[u8], place: usize) -> Cond {
    let Some(&Byte::Var { var, .. }) = bytes.get(place) else { return Cond::Always };
    let all = place..place + var.width();
    let (Some(own), Some(wanted)) = (bytes.get(all.clone()), data.get(all)) else { return Cond::Maybe(var.doubt()) };
    let wanted = match () {
        () if is_whole(var, own.iter()) => number(wanted.iter()),
        // As the host keeps it.
        () if is_whole(var, own.iter().rev()) => number(wanted.iter().rev()),
        () => return Cond::Maybe(var.doubt()),
    };
    var.between(wanted, wanted)
}
