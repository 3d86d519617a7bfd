//! Matches and targets of x_tables (linux/netfilter/xt_*.h, linux/netfilter_ipv4/ip_tables.h), whichever back-end carries them.

use super::{NatKind, RejectWith};

/// A range of ports, both ends included.
pub type Ports = (u16, u16);

/// An address and its mask as numbers of the rule's family (32 or 128 bits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Masked {
    pub address: u128,
    pub mask: u128,
    pub invert: bool,
}

/// An interface name with the number of bytes that count (a trailing `+` in iptables shortens it); 0 bytes match all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IfaceMatch {
    pub name: Vec<u8>,
    /// Whether the name must match as a whole or only as a prefix.
    pub exact: bool,
    pub invert: bool,
}

/// The fixed header of a legacy entry (`struct ipt_ip`, `struct ip6t_ip6`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct XtHeader {
    pub src: Masked,
    pub dst: Masked,
    pub iif: Option<IfaceMatch>,
    pub oif: Option<IfaceMatch>,
    /// 0 means any (where the entry does not ask for a protocol).
    pub proto: u8,
    pub proto_invert: bool,
    /// IPT_F_FRAG: second and further fragments only (`invert`: only heads and whole packets).
    pub fragment: Option<bool>,
}

/// xt_iprange: the first and the last address of a side, and whether it must be another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Iprange {
    pub src: Option<(u128, u128, bool)>,
    pub dst: Option<(u128, u128, bool)>,
}

// Large ones are boxed: rules are lists of these, and most of them are small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XtMatch {
    Header(Box<XtHeader>),
    Tcp {
        sports: Ports,
        dports: Ports,
        invert_sports: bool,
        invert_dports: bool,
        flags_mask: u8,
        flags_set: u8,
        invert_flags: bool,
        option: Option<(u8, bool)>,
    },
    Udp {
        sports: Ports,
        dports: Ports,
        invert_sports: bool,
        invert_dports: bool,
    },
    Multiport {
        which: MultiportWhich,
        ports: Vec<Ports>,
        invert: bool,
    },
    /// xt_conntrack (and xt_state, which sets only `state`).
    Conntrack(Box<Conntrack>),
    Iprange(Box<Iprange>),
    /// RTN_* masks of xt_addrtype; `iif`/`oif`: limited to the interface.
    Addrtype {
        source: u16,
        dest: u16,
        invert_source: bool,
        invert_dest: bool,
        iif: bool,
        oif: bool,
    },
    /// `dirs`: for each dimension true = source (IPSET_DIM_*_SRC).
    Set {
        index: u16,
        dirs: Vec<bool>,
        invert: bool,
        /** packets/bytes conditions or --return-nomatch */
        extra: bool,
    },
    Mac {
        address: [u8; 6],
        invert: bool,
    },
    Mark {
        mark: u32,
        mask: u32,
        invert: bool,
    },
    Connmark {
        mark: u32,
        mask: u32,
        invert: bool,
    },
    Comment(String),
    /// PACKET_* of linux/if_packet.h: 0 host, 1 broadcast, 2 multicast.
    Pkttype {
        kind: u32,
        invert: bool,
    },
    Icmp {
        kind: u8,
        codes: (u8, u8),
        invert: bool,
    },
    Icmp6 {
        kind: u8,
        codes: (u8, u8),
        invert: bool,
    },
    Length {
        min: u16,
        max: u16,
        invert: bool,
    },
    Ttl {
        mode: u8,
        value: u8,
    },
    Tcpmss {
        min: u16,
        max: u16,
        invert: bool,
    },
    Dscp {
        value: u8,
        invert: bool,
    },
    /// Ranges of numbers, both ends included, and whether they are inverted.
    Owner {
        text: String,
        uid: Option<(u32, u32, bool)>,
        gid: Option<(u32, u32, bool)>,
        /// `--socket-exists`: false where it is inverted.
        socket: Option<bool>,
    },
    /// Group and mask of the interface that the packet came in by and of that by which it leaves.
    Devgroup {
        iif: Option<Grouped>,
        oif: Option<Grouped>,
    },
    /// xt_string: a text of `length` bytes, sought from the byte `from` of the packet on.
    Text {
        words: String,
        length: u8,
        from: u16,
    },
    U32 {
        tests: Vec<U32Test>,
        invert: bool,
    },
    Physdev {
        text: String,
    },
    /// flags: 1 loose, 2 validmark, 4 accept-local, 8 invert
    Rpfilter {
        flags: u8,
    },
    Socket {
        flags: u8,
    },
    /// IPv6 extension headers and such, which a plain TCP SYN does not carry.
    AbsentHeader {
        name: String,
        invert: bool,
    },
    /// Depends on the rate: limit, hashlimit, statistic, quota, connbytes, rateest.
    Rate {
        name: String,
        text: String,
    },
    /// Depends on what came before: recent (with its mode in words), connlimit.
    History {
        name: String,
        text: String,
    },
    /// xt_time
    Time {
        text: String,
    },
    /// Any other, by its name (string, u32, bpf, geoip, …).
    Unknown {
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultiportWhich {
    Source,
    Destination,
    Either,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouped {
    pub group: u32,
    pub mask: u32,
    pub invert: bool,
}

/// One test of xt_u32: a number of the packet, and the ranges in one of which it must lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct U32Test {
    /// Where the first four bytes stand.
    pub start: u32,
    pub steps: Vec<(U32Op, u32)>,
    pub ranges: Vec<(u32, u32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum U32Op {
    And,
    ShiftLeft,
    ShiftRight,
    /// The number found is an offset: goes on with the four bytes there.
    At,
}

/// Bits of `state`: XT_CONNTRACK_STATE_*: INVALID 1, ESTABLISHED 2, RELATED 4, NEW 8, SNAT 64, DNAT 128, UNTRACKED 256.
/// The decoder maps xt_state's and each revision's own bits to these.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conntrack {
    pub state: Option<(u16, bool)>,
    /// IPS_* bits of the entry.
    pub status: Option<(u16, bool)>,
    /// true = original
    pub direction: Option<(bool, bool)>,
    pub proto: Option<(u16, bool)>,
    pub orig_src: Option<Masked>,
    pub orig_dst: Option<Masked>,
    pub repl_src: Option<Masked>,
    pub repl_dst: Option<Masked>,
    pub orig_src_port: Option<(Ports, bool)>,
    pub orig_dst_port: Option<(Ports, bool)>,
    pub repl_src_port: Option<(Ports, bool)>,
    pub repl_dst_port: Option<(Ports, bool)>,
    pub expires: Option<(u32, u32, bool)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum XtTarget {
    Accept,
    Drop,
    Return,
    Queue,
    Jump(String),
    Goto(String),
    /// No target, or one that does not decide: the next rule.
    Continue,
    Reject(RejectWith),
    Log {
        name: String,
        prefix: String,
    },
    /// `(mark & !mask) ^ mark`, as xt_MARK revision 2.
    Mark {
        mark: u32,
        mask: u32,
    },
    Connmark {
        mode: ConnmarkMode,
        ctmark: u32,
        ctmask: u32,
        nfmask: u32,
    },
    /// `-j CT`/`-j NOTRACK`.
    Ct {
        notrack: bool,
        zone: u16,
        helper: Option<String>,
    },
    Nat {
        kind: NatKind,
        addresses: Option<Box<(u128, u128)>>,
        ports: Option<Ports>,
        flags: u32,
    },
    /// Address and mask.
    Netmap {
        to: Box<(u128, u128)>,
        kind: NatKind,
    },
    Tproxy {
        mark: u32,
        mask: u32,
        port: u16,
    },
    Synproxy,
    Nfqueue {
        number: u16,
        bypass: bool,
    },
    /// `-j SET`: adds to or deletes from the ipsets with these numbers.
    Set {
        sets: Vec<u16>,
    },
    /// Changes what no verdict here looks at (TCPMSS, DSCP, TOS, CLASSIFY, CHECKSUM, TTL, HL, AUDIT, TRACE, LED, SECMARK, CONNSECMARK, RATEEST, IDLETIMER).
    Harmless {
        name: String,
    },
    Unknown {
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnmarkMode {
    Set,
    Save,
    Restore,
}
