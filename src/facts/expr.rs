//! The expressions of an nf_tables rule (linux/netfilter/nf_tables.h), and a rule's verdicts.
//!
//! A legacy rule uses the same list: its matches and its target are `Expr::XtMatch` and `Expr::XtTarget`.

use smallvec::SmallVec;

use super::{XtMatch, XtTarget};

/// An offset in bytes into the 64 bytes of nf_tables' data registers, always a multiple of 4.
///
/// NFT_REG_1..4 are 0, 16, 32, 48; NFT_REG32_00..15 are 0, 4, … 60: both name the same bytes.
pub type Reg = u8;

/// The bytes of a constant: mostly an address at most, which is kept in place. nf_tables has up to 64 (NFT_DATA_VALUE_MAXLEN).
pub type Bytes = SmallVec<[u8; 16]>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    /// NFT_CONTINUE / no verdict: the next rule.
    Continue,
    /// NFT_BREAK: this rule does not match; the next rule.
    Break,
    Return,
    Jump(String),
    Goto(String),
    Queue,
    Stolen,
    /// A verdict code that this program does not know.
    Unknown(i32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CmpOp {
    Eq,
    Neq,
    Lt,
    Lte,
    Gt,
    Gte,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    Link,
    Network,
    Transport,
    Inner,
    Tunnel,
}

/// NFT_META_*; `Other` carries the number of a key that is not modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    Len,
    Protocol,
    Priority,
    Mark,
    Iif,
    Oif,
    IifName,
    OifName,
    IifType,
    OifType,
    SkUid,
    SkGid,
    Nftrace,
    RtClassid,
    Nfproto,
    L4Proto,
    BriIifName,
    BriOifName,
    PktType,
    Cpu,
    IifGroup,
    OifGroup,
    Cgroup,
    Prandom,
    Secpath,
    IifKind,
    OifKind,
    TimeNs,
    TimeDay,
    TimeHour,
    Sdif,
    SdifName,
    Other(u32),
}

/// NFT_CT_*
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtKey {
    State,
    Direction,
    Status,
    Mark,
    Secmark,
    Expiration,
    Helper,
    L3Protocol,
    Src,
    Dst,
    Protocol,
    ProtoSrc,
    ProtoDst,
    Labels,
    Pkts,
    Bytes,
    Avgpkt,
    Zone,
    Eventmask,
    SrcIp,
    DstIp,
    SrcIp6,
    DstIp6,
    Id,
    Other(u32),
}

/// IP_CT_DIR_*
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CtDir {
    Original,
    Reply,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BitwiseOp {
    /// `(value & mask) ^ xor`
    MaskXor {
        mask: Bytes,
        xor: Bytes,
    },
    ShiftLeft(u32),
    ShiftRight(u32),
    /// With a second register: and, or, xor (NFT_BITWISE_AND/OR/XOR).
    Register {
        op: char,
        reg: Reg,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FibResult {
    Oif,
    OifName,
    AddrType,
    Unknown(u32),
}

/// NFTA_FIB_F_*
pub mod fib_flags {
    pub const SADDR: u32 = 1;
    pub const DADDR: u32 = 2;
    pub const MARK: u32 = 4;
    pub const IIF: u32 = 8;
    pub const OIF: u32 = 16;
    pub const PRESENT: u32 = 32;
}

/// How a packet is refused: what the client sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectWith {
    TcpReset,
    /// ICMP or ICMPv6 destination unreachable with this code of its family (for `icmpx`: the code as nf_tables gives it).
    Icmp(u8),
    /// Any other (icmp echo of xt_REJECT, …).
    Other(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    Snat,
    Dnat,
    Masquerade,
    Redirect,
}

/// What a nat expression or target does. Registers only in nf_tables; a legacy target carries its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nat {
    pub kind: NatKind,
    /// Registers of the address range.
    pub addr_min: Option<Reg>,
    pub addr_max: Option<Reg>,
    pub port_min: Option<Reg>,
    pub port_max: Option<Reg>,
    /// NFPROTO of the address (nf_tables in inet tables), 0 if not given.
    pub nfproto: u8,
    /// NF_NAT_RANGE_* flags.
    pub flags: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr {
    /// Immediate data to a register.
    Immediate {
        dreg: Reg,
        data: Bytes,
    },
    /// Immediate verdict.
    Verdict(Verdict),
    Cmp {
        sreg: Reg,
        op: CmpOp,
        data: Bytes,
    },
    Range {
        sreg: Reg,
        negate: bool,
        from: Bytes,
        to: Bytes,
    },
    Payload {
        dreg: Reg,
        base: PayloadBase,
        offset: u32,
        len: u32,
    },
    PayloadSet {
        sreg: Reg,
        base: PayloadBase,
        offset: u32,
        len: u32,
    },
    Meta {
        dreg: Reg,
        key: MetaKey,
    },
    MetaSet {
        sreg: Reg,
        key: MetaKey,
    },
    Ct {
        dreg: Reg,
        key: CtKey,
        dir: Option<CtDir>,
    },
    CtSet {
        sreg: Reg,
        key: CtKey,
        dir: Option<CtDir>,
    },
    Notrack,
    Bitwise {
        sreg: Reg,
        dreg: Reg,
        len: u32,
        op: BitwiseOp,
    },
    /// `size` is 2, 4 or 8; the same for ntoh and hton on a little-endian host.
    Byteorder {
        sreg: Reg,
        dreg: Reg,
        len: u32,
        size: u32,
        to_host: bool,
    },
    /// `dreg` None: a set; Some(None): a verdict map; Some(Some(reg)): a data map.
    Lookup {
        set: String,
        sreg: Reg,
        dreg: Option<Option<Reg>>,
        negate: bool,
    },
    /// add/update/delete of a set from the packet path.
    Dynset {
        set: String,
        key: Reg,
        data: Option<Reg>,
        op: u32,
        negate: bool,
        exprs: Vec<Expr>,
    },
    /// A named counter, quota, limit, ct helper, … `by_map`: set name and key register.
    Objref {
        kind: u32,
        name: Option<String>,
        by_map: Option<(String, Reg)>,
    },
    Fib {
        dreg: Reg,
        flags: u32,
        result: FibResult,
    },
    Limit {
        over: bool,
        text: String,
    },
    Quota {
        over: bool,
        bytes: u64,
        consumed: u64,
    },
    Connlimit {
        over: bool,
        count: u32,
    },
    Numgen {
        dreg: Reg,
        modulus: u32,
        offset: u32,
        random: bool,
    },
    /// jhash or symhash.
    Hash {
        dreg: Reg,
        modulus: u32,
        offset: u32,
        symmetric: bool,
    },
    Rt {
        dreg: Reg,
        key: u32,
    },
    Socket {
        dreg: Reg,
        key: u32,
        level: u32,
    },
    Osf {
        dreg: Reg,
    },
    Tproxy {
        family: u8,
        addr: Option<Reg>,
        port: Option<Reg>,
    },
    Nat(Nat),
    Reject(RejectWith),
    Queue,
    Log {
        prefix: String,
    },
    Counter,
    Last,
    Dup,
    Fwd,
    Synproxy,
    FlowOffload {
        table: String,
    },
    /// TCP option, IPv6 extension header, IP option, SCTP chunk. `op` is NFT_EXTHDR_OP_*; `presence` = NFT_EXTHDR_F_PRESENT.
    Exthdr {
        dreg: Option<Reg>,
        op: u32,
        kind: u8,
        offset: u32,
        len: u32,
        presence: bool,
    },
    Xfrm {
        dreg: Reg,
    },
    Tunnel {
        dreg: Reg,
    },
    XtMatch(XtMatch),
    XtTarget(XtTarget),
    /// An expression that is not modelled, by its kernel name, or one that could not be decoded, with the reason.
    Unknown {
        name: String,
    },
}
