//! Expressions of nf_tables rules (linux/netfilter/nf_tables.h, NFTA_EXPR_*).

use super::nlattr::{Attributes, until_nul};
use super::xt;
use crate::facts::{
    BitwiseOp, Bytes, CmpOp, CtDir, CtKey, Expr, Family, FibResult, MetaKey, Nat, NatKind, PayloadBase, Reg,
    RejectWith, Verdict,
};

const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;
const NFTA_VERDICT_CODE: u16 = 1;
const NFTA_VERDICT_CHAIN: u16 = 2;

/// Every expression of a list, each as one [`Expr`]: what cannot be decoded is there by its name. `family` is that of the
/// addresses in x_tables extensions.
pub fn expressions(family: Option<Family>, list: &[u8]) -> Vec<Expr> {
    Attributes(list).map(|(_, one)| expression(family, one)).collect()
}

/// One expression: name and data.
pub fn expression(family: Option<Family>, one: &[u8]) -> Expr {
    let attributes = Attributes(one);
    let name = attributes.get(NFTA_EXPR_NAME).map(until_nul).unwrap_or_default();
    let data = attributes.nested(NFTA_EXPR_DATA).unwrap_or(Attributes(&[]));
    let unknown = |why: &str| Expr::Unknown { name: format!("{}{why}", String::from_utf8_lossy(name)) };
    match decode(family, name, data) {
        Some(Some(expr)) => expr,
        Some(None) => unknown(""),
        None => unknown(" (malformed)"),
    }
}

/// None: an attribute is missing or out of its range. Some(None): not an expression that is known.
fn decode(family: Option<Family>, name: &[u8], data: Attributes<'_>) -> Option<Option<Expr>> {
    let flag = |kind, bit: u32| data.u32(kind).unwrap_or(0) & bit != 0;
    let expr = match name {
        b"immediate" => immediate(data)?,
        b"cmp" => Expr::Cmp { sreg: reg(data, 1)?, op: cmp_op(data.u32(2)?)?, data: value(data, 3)? },
        b"range" => {
            Expr::Range { sreg: reg(data, 1)?, negate: data.u32(2)? == 1, from: value(data, 3)?, to: value(data, 4)? }
        }
        b"payload" => payload(data)?,
        b"meta" => {
            let key = meta_key(data.u32(2)?);
            match optional(data, 1)? {
                Some(dreg) => Expr::Meta { dreg, key },
                None => Expr::MetaSet { sreg: reg(data, 3)?, key },
            }
        }
        b"ct" => {
            let key = ct_key(data.u32(2)?);
            let dir = data.u8(3).map(|d| if d == 0 { CtDir::Original } else { CtDir::Reply });
            match optional(data, 1)? {
                Some(dreg) => Expr::Ct { dreg, key, dir },
                None => Expr::CtSet { sreg: reg(data, 4)?, key, dir },
            }
        }
        b"notrack" => Expr::Notrack,
        b"bitwise" => bitwise(data)?,
        b"byteorder" => Expr::Byteorder {
            sreg: reg(data, 1)?,
            dreg: reg(data, 2)?,
            to_host: data.u32(3)? == 0,
            len: data.u32(4)?,
            size: data.u32(5)?,
        },
        b"lookup" => Expr::Lookup {
            set: data.text(1)?,
            sreg: reg(data, 2)?,
            dreg: match data.u32(3) {
                None => None,
                // The verdict register: a verdict map.
                Some(0) => Some(None),
                Some(number) => Some(Some(register(number)?)),
            },
            negate: flag(5, 1),
        },
        b"dynset" => dynset(family, data)?,
        b"objref" => Expr::Objref {
            kind: data.u32(1).unwrap_or(0),
            name: data.text(2),
            by_map: match data.text(4) {
                Some(set) => Some((set, reg(data, 3)?)),
                None => None,
            },
        },
        b"fib" => Expr::Fib {
            dreg: reg(data, 1)?,
            flags: data.u32(3).unwrap_or(0),
            result: match data.u32(2)? {
                1 => FibResult::Oif,
                2 => FibResult::OifName,
                3 => FibResult::AddrType,
                other => FibResult::Unknown(other),
            },
        },
        b"limit" => Expr::Limit { over: flag(5, 1), text: rate(data)? },
        b"quota" => Expr::Quota { over: flag(2, 1), bytes: data.u64(1)?, consumed: data.u64(4).unwrap_or(0) },
        b"connlimit" => Expr::Connlimit { over: flag(2, 1), count: data.u32(1)? },
        b"numgen" => Expr::Numgen {
            dreg: reg(data, 1)?,
            modulus: data.u32(2)?,
            random: data.u32(3)? == 1,
            offset: data.u32(4).unwrap_or(0),
        },
        b"hash" => Expr::Hash {
            dreg: reg(data, 2)?,
            modulus: data.u32(4)?,
            offset: data.u32(6).unwrap_or(0),
            symmetric: data.u32(7) == Some(1),
        },
        b"rt" => Expr::Rt { dreg: reg(data, 1)?, key: data.u32(2)? },
        b"socket" => Expr::Socket { key: data.u32(1)?, dreg: reg(data, 2)?, level: data.u32(3).unwrap_or(0) },
        b"osf" => Expr::Osf { dreg: reg(data, 1)? },
        b"tproxy" => {
            Expr::Tproxy { family: data.u32(1).unwrap_or(0) as u8, addr: optional(data, 2)?, port: optional(data, 3)? }
        }
        b"nat" => nat(data)?,
        b"masq" => rewrite(NatKind::Masquerade, data, 1, [2, 3])?,
        b"redir" => rewrite(NatKind::Redirect, data, 3, [1, 2])?,
        b"reject" => Expr::Reject(match data.u32(1)? {
            // ICMP and, for either family, ICMPX.
            0 | 2 => RejectWith::Icmp(data.u8(2)?),
            1 => RejectWith::TcpReset,
            other => RejectWith::Other(other),
        }),
        b"queue" => Expr::Queue,
        b"log" => Expr::Log { prefix: data.text(2).unwrap_or_default() },
        b"counter" => Expr::Counter,
        b"last" => Expr::Last,
        b"dup" => Expr::Dup,
        b"fwd" => Expr::Fwd,
        b"synproxy" => Expr::Synproxy,
        b"flow_offload" => Expr::FlowOffload { table: data.text(1)? },
        b"exthdr" => Expr::Exthdr {
            dreg: optional(data, 1)?,
            kind: data.u8(2).unwrap_or(0),
            offset: data.u32(3).unwrap_or(0),
            len: data.u32(4).unwrap_or(0),
            presence: flag(5, 1),
            op: data.u32(6).unwrap_or(0),
        },
        b"xfrm" => Expr::Xfrm { dreg: reg(data, 1)? },
        b"tunnel" => Expr::Tunnel { dreg: reg(data, 2)? },
        b"match" => Expr::XtMatch(xt::r#match(family, &extension(data)?)),
        b"target" => Expr::XtTarget(xt::target(family, &extension(data)?)),
        _ => return Some(None),
    };
    Some(Some(expr))
}

fn extension(data: Attributes<'_>) -> Option<xt::Extension<'_>> {
    Some(xt::Extension {
        name: data.get(1).map(until_nul)?,
        revision: data.u32(2)? as u8,
        info: data.get(3).unwrap_or_default(),
    })
}

/// Bytes 0 to 60 of the registers.
fn register(number: u32) -> Option<Reg> {
    const NFT_REG_1: u32 = 1;
    const NFT_REG_4: u32 = 4;
    const NFT_REG32_00: u32 = 8;
    const NFT_REG32_15: u32 = 23;
    match number {
        NFT_REG_1..=NFT_REG_4 => Some((number - NFT_REG_1) as Reg * 16),
        NFT_REG32_00..=NFT_REG32_15 => Some((number - NFT_REG32_00) as Reg * 4),
        _ => None,
    }
}

fn reg(data: Attributes<'_>, kind: u16) -> Option<Reg> {
    register(data.u32(kind)?)
}

/// Some(None) where there is none; None where it is not a register.
fn optional(data: Attributes<'_>, kind: u16) -> Option<Option<Reg>> {
    match data.u32(kind) {
        None => Some(None),
        Some(number) => register(number).map(Some),
    }
}

fn value(data: Attributes<'_>, kind: u16) -> Option<Bytes> {
    data_bytes(data.get(kind)?)
}

/// The bytes of an NFTA_DATA_VALUE.
pub fn data_bytes(data: &[u8]) -> Option<Bytes> {
    Attributes(data).get(NFTA_DATA_VALUE).map(Bytes::from_slice)
}

/// The verdict of an NFTA_DATA_VERDICT.
pub fn verdict(data: &[u8]) -> Option<Verdict> {
    let attributes = Attributes(data).nested(NFTA_DATA_VERDICT)?;
    let code = attributes.u32(NFTA_VERDICT_CODE)? as i32;
    let chain = || attributes.text(NFTA_VERDICT_CHAIN);
    Some(match code {
        -1 => Verdict::Continue,
        -2 => Verdict::Break,
        -3 => chain().map_or(Verdict::Unknown(code), Verdict::Jump),
        -4 => chain().map_or(Verdict::Unknown(code), Verdict::Goto),
        -5 => Verdict::Return,
        // NF_* of linux/netfilter.h; above the low byte stand an errno or a queue.
        0.. => match code & 0xff {
            0 => Verdict::Drop,
            1 => Verdict::Accept,
            2 => Verdict::Stolen,
            3 => Verdict::Queue,
            _ => Verdict::Unknown(code),
        },
        _ => Verdict::Unknown(code),
    })
}

fn immediate(data: Attributes<'_>) -> Option<Expr> {
    let content = data.get(2)?;
    match verdict(content) {
        Some(verdict) => Some(Expr::Verdict(verdict)),
        None => Some(Expr::Immediate { dreg: reg(data, 1)?, data: data_bytes(content)? }),
    }
}

fn payload(data: Attributes<'_>) -> Option<Expr> {
    let base = match data.u32(2)? {
        0 => PayloadBase::Link,
        1 => PayloadBase::Network,
        2 => PayloadBase::Transport,
        3 => PayloadBase::Inner,
        4 => PayloadBase::Tunnel,
        _ => return None,
    };
    let (offset, len) = (data.u32(3)?, data.u32(4)?);
    Some(match optional(data, 1)? {
        Some(dreg) => Expr::Payload { dreg, base, offset, len },
        None => Expr::PayloadSet { sreg: reg(data, 5)?, base, offset, len },
    })
}

fn bitwise(data: Attributes<'_>) -> Option<Expr> {
    let shift = || value(data, 7)?.first_chunk().map(|b| u32::from_ne_bytes(*b));
    // NFTA_BITWISE_SREG2, where the second operand is a register.
    let second = |op| Some(BitwiseOp::Register { op, reg: reg(data, 8)? });
    let op = match data.u32(6).unwrap_or(0) {
        0 => BitwiseOp::MaskXor { mask: value(data, 4)?, xor: value(data, 5)? },
        1 => BitwiseOp::ShiftLeft(shift()?),
        2 => BitwiseOp::ShiftRight(shift()?),
        3 => second('&')?,
        4 => second('|')?,
        5 => second('^')?,
        _ => return None,
    };
    Some(Expr::Bitwise { sreg: reg(data, 1)?, dreg: reg(data, 2)?, len: data.u32(3)?, op })
}

fn dynset(family: Option<Family>, data: Attributes<'_>) -> Option<Expr> {
    const NFT_DYNSET_F_INV: u32 = 1;
    let exprs = match data.get(10) {
        Some(list) => expressions(family, list),
        None => data.get(7).map(|one| expression(family, one)).into_iter().collect(),
    };
    Some(Expr::Dynset {
        set: data.text(1)?,
        key: reg(data, 4)?,
        data: optional(data, 5)?,
        op: data.u32(3)?,
        negate: data.u32(9).unwrap_or(0) & NFT_DYNSET_F_INV != 0,
        exprs,
    })
}

fn nat(data: Attributes<'_>) -> Option<Expr> {
    Some(Expr::Nat(Nat {
        kind: if data.u32(1)? == 0 { NatKind::Snat } else { NatKind::Dnat },
        nfproto: data.u32(2).unwrap_or(0) as u8,
        addr_min: optional(data, 3)?,
        addr_max: optional(data, 4)?,
        port_min: optional(data, 5)?,
        port_max: optional(data, 6)?,
        flags: data.u32(7).unwrap_or(0),
    }))
}

/// masq and redir: the types of the flags and of the two port registers differ.
fn rewrite(kind: NatKind, data: Attributes<'_>, flags: u16, ports: [u16; 2]) -> Option<Expr> {
    Some(Expr::Nat(Nat {
        kind,
        addr_min: None,
        addr_max: None,
        port_min: optional(data, ports[0])?,
        port_max: optional(data, ports[1])?,
        nfproto: 0,
        flags: data.u32(flags).unwrap_or(0),
    }))
}

/// A rate as nft writes it.
fn rate(data: Attributes<'_>) -> Option<String> {
    let (rate, seconds, burst) = (data.u64(1)?, data.u64(2)?, data.u32(3).unwrap_or(0));
    let unit = match seconds {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        86_400 => "day",
        604_800 => "week",
        _ => return Some(format!("{rate} in {seconds} seconds")),
    };
    let (what, of) = if data.u32(4) == Some(1) { (" bytes", "bytes") } else { ("", "packets") };
    Some(format!("{rate}{what}/{unit} burst {burst} {of}"))
}

fn cmp_op(number: u32) -> Option<CmpOp> {
    let ops = [CmpOp::Eq, CmpOp::Neq, CmpOp::Lt, CmpOp::Lte, CmpOp::Gt, CmpOp::Gte];
    ops.get(number as usize).copied()
}

fn meta_key(number: u32) -> MetaKey {
    use MetaKey::*;
    match number {
        0 => Len,
        1 => Protocol,
        2 => Priority,
        3 => Mark,
        4 => Iif,
        5 => Oif,
        6 => IifName,
        7 => OifName,
        8 => IifType,
        9 => OifType,
        10 => SkUid,
        11 => SkGid,
        12 => Nftrace,
        13 => RtClassid,
        15 => Nfproto,
        16 => L4Proto,
        17 => BriIifName,
        18 => BriOifName,
        19 => PktType,
        20 => Cpu,
        21 => IifGroup,
        22 => OifGroup,
        23 => Cgroup,
        24 => Prandom,
        25 => Secpath,
        26 => IifKind,
        27 => OifKind,
        30 => TimeNs,
        31 => TimeDay,
        32 => TimeHour,
        33 => Sdif,
        34 => SdifName,
        other => Other(other),
    }
}

fn ct_key(number: u32) -> CtKey {
    use CtKey::*;
    let keys = [
        State, Direction, Status, Mark, Secmark, Expiration, Helper, L3Protocol, Src, Dst, Protocol, ProtoSrc,
        ProtoDst, Labels, Pkts, Bytes, Avgpkt, Zone, Eventmask, SrcIp, DstIp, SrcIp6, DstIp6, Id,
    ];
    keys.get(number as usize).copied().unwrap_or(Other(number))
}
