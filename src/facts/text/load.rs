//! What an expression loads into a register, in nft's words.

use super::value::{Kind, protocol};
use crate::facts::{CtDir, CtKey, Family, FibResult, MetaKey, PayloadBase, fib_flags};

/// What the rule has asked for so far: the layers whose names the next load may use.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layers {
    pub network: Option<Family>,
    pub transport: Option<u8>,
}

pub fn meta(key: MetaKey) -> (String, Kind) {
    let (name, kind) = match key {
        MetaKey::Len => ("meta length", Kind::Host),
        MetaKey::Protocol => ("meta protocol", Kind::EtherType),
        MetaKey::Priority => ("meta priority", Kind::Mark),
        MetaKey::Mark => ("meta mark", Kind::Mark),
        MetaKey::Iif => ("iif", Kind::Host),
        MetaKey::Oif => ("oif", Kind::Host),
        MetaKey::IifName => ("iifname", Kind::IfName),
        MetaKey::OifName => ("oifname", Kind::IfName),
        MetaKey::IifType => ("iiftype", Kind::Host),
        MetaKey::OifType => ("oiftype", Kind::Host),
        MetaKey::SkUid => ("meta skuid", Kind::Host),
        MetaKey::SkGid => ("meta skgid", Kind::Host),
        MetaKey::Nftrace => ("meta nftrace", Kind::Number),
        MetaKey::RtClassid => ("meta rtclassid", Kind::Host),
        MetaKey::Nfproto => ("meta nfproto", Kind::Nfproto),
        MetaKey::L4Proto => ("meta l4proto", Kind::Protocol),
        MetaKey::BriIifName => ("meta ibrname", Kind::IfName),
        MetaKey::BriOifName => ("meta obrname", Kind::IfName),
        MetaKey::PktType => ("meta pkttype", Kind::PktType),
        MetaKey::Cpu => ("meta cpu", Kind::Host),
        MetaKey::IifGroup => ("iifgroup", Kind::Host),
        MetaKey::OifGroup => ("oifgroup", Kind::Host),
        MetaKey::Cgroup => ("meta cgroup", Kind::Host),
        MetaKey::Prandom => ("meta random", Kind::Host),
        MetaKey::Secpath => ("meta ipsec", Kind::Presence),
        MetaKey::IifKind => ("meta iifkind", Kind::IfName),
        MetaKey::OifKind => ("meta oifkind", Kind::IfName),
        MetaKey::TimeNs => ("meta time", Kind::Host),
        MetaKey::TimeDay => ("meta day", Kind::Number),
        MetaKey::TimeHour => ("meta hour", Kind::Host),
        MetaKey::Sdif => ("meta sdif", Kind::Host),
        MetaKey::SdifName => ("meta sdifname", Kind::IfName),
        MetaKey::Other(number) => return (format!("<meta {number}>"), Kind::Raw),
    };
    (name.to_owned(), kind)
}

pub fn ct(key: CtKey, dir: Option<CtDir>, network: Option<Family>) -> (String, Kind) {
    let (name, kind) = match key {
        CtKey::State => ("state", Kind::CtState),
        CtKey::Direction => ("direction", Kind::Direction),
        CtKey::Status => ("status", Kind::CtStatus),
        CtKey::Mark => ("mark", Kind::Mark),
        CtKey::Secmark => ("secmark", Kind::Mark),
        CtKey::Expiration => ("expiration", Kind::Host),
        CtKey::Helper => ("helper", Kind::IfName),
        CtKey::L3Protocol => ("l3proto", Kind::Nfproto),
        CtKey::Src => ("saddr", network.map_or(Kind::Raw, Kind::Address)),
        CtKey::Dst => ("daddr", network.map_or(Kind::Raw, Kind::Address)),
        CtKey::Protocol => ("protocol", Kind::Protocol),
        CtKey::ProtoSrc => ("proto-src", Kind::Port),
        CtKey::ProtoDst => ("proto-dst", Kind::Port),
        CtKey::Labels => ("label", Kind::Raw),
        CtKey::Pkts => ("packets", Kind::Host),
        CtKey::Bytes => ("bytes", Kind::Host),
        CtKey::Avgpkt => ("avgpkt", Kind::Host),
        CtKey::Zone => ("zone", Kind::Host),
        CtKey::Eventmask => ("event", Kind::Host),
        CtKey::SrcIp => ("ip saddr", Kind::Address(Family::Ipv4)),
        CtKey::DstIp => ("ip daddr", Kind::Address(Family::Ipv4)),
        CtKey::SrcIp6 => ("ip6 saddr", Kind::Address(Family::Ipv6)),
        CtKey::DstIp6 => ("ip6 daddr", Kind::Address(Family::Ipv6)),
        CtKey::Id => ("id", Kind::Host),
        CtKey::Other(number) => return (format!("<ct {number}>"), Kind::Raw),
    };
    let dir = match dir {
        Some(CtDir::Original) => "original ",
        Some(CtDir::Reply) => "reply ",
        None => "",
    };
    (format!("ct {dir}{name}"), kind)
}

/// Which layer's guard the words make superfluous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implied {
    Nothing,
    Network,
    Transport,
}

/// A field of a header; without a name `@base,bits,bits`.
pub fn payload(base: PayloadBase, offset: u32, len: u32, layers: Layers) -> (String, Kind, Implied) {
    let named = match base {
        PayloadBase::Network => network(offset, len, layers.network).map(|(n, k)| (n, k, Implied::Network)),
        PayloadBase::Transport => transport(offset, len, layers.transport),
        PayloadBase::Link => match (offset, len) {
            (0, 6) => Some(("ether daddr".to_owned(), Kind::Mac, Implied::Nothing)),
            (6, 6) => Some(("ether saddr".to_owned(), Kind::Mac, Implied::Nothing)),
            (12, 2) => Some(("ether type".to_owned(), Kind::EtherType, Implied::Nothing)),
            _ => None,
        },
        PayloadBase::Inner | PayloadBase::Tunnel => None,
    };
    named.unwrap_or_else(|| {
        let base = match base {
            PayloadBase::Link => "ll",
            PayloadBase::Network => "nh",
            PayloadBase::Transport => "th",
            PayloadBase::Inner => "ih",
            PayloadBase::Tunnel => "tun",
        };
        let (bit, bits) = (u64::from(offset) * 8, u64::from(len) * 8);
        (format!("@{base},{bit},{bits}"), Kind::Raw, Implied::Nothing)
    })
}

/// In tables of one family nothing says which; the places of the fields do.
fn network(offset: u32, len: u32, family: Option<Family>) -> Option<(String, Kind)> {
    let v4 = |name: &str, kind| Some((format!("ip {name}"), kind));
    let v6 = |name: &str, kind| Some((format!("ip6 {name}"), kind));
    let address4 = Kind::Address(Family::Ipv4);
    let address6 = Kind::Address(Family::Ipv6);
    match (family, offset, len) {
        (Some(Family::Ipv6), 6, 1) => v6("nexthdr", Kind::Protocol),
        (Some(Family::Ipv6), 7, 1) => v6("hoplimit", Kind::Number),
        (Some(Family::Ipv6), 4, 2) => v6("length", Kind::Number),
        (Some(Family::Ipv6), 8, 1..=16) | (None, 8, 3..=16) => v6("saddr", address6),
        (Some(Family::Ipv6), 24, 1..=16) | (None, 24, 1..=16) => v6("daddr", address6),
        (Some(Family::Ipv6), ..) => None,
        (_, 12, 1..=4) => v4("saddr", address4),
        (_, 16, 1..=4) => v4("daddr", address4),
        (_, 1, 1) => v4("dscp", Kind::Raw),
        (_, 2, 2) => v4("length", Kind::Number),
        (_, 4, 2) => v4("id", Kind::Number),
        (_, 6, 2) => v4("frag-off", Kind::Raw),
        (_, 8, 1) => v4("ttl", Kind::Number),
        (_, 9, 1) => v4("protocol", Kind::Protocol),
        _ => None,
    }
}

fn transport(offset: u32, len: u32, proto: Option<u8>) -> Option<(String, Kind, Implied)> {
    const PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    let name = proto.and_then(protocol);
    let (field, kind) = match (proto, offset, len) {
        (Some(p), 0, 2) if PORTS.contains(&p) => ("sport", Kind::Port),
        (Some(p), 2, 2) if PORTS.contains(&p) => ("dport", Kind::Port),
        (None, 0, 2) => return Some(("th sport".to_owned(), Kind::Port, Implied::Nothing)),
        (None, 2, 2) => return Some(("th dport".to_owned(), Kind::Port, Implied::Nothing)),
        (Some(6), 4, 4) => ("sequence", Kind::Number),
        (Some(6), 8, 4) => ("ackseq", Kind::Number),
        (Some(6), 13, 1) => ("flags", Kind::TcpFlags),
        (Some(6), 14, 2) => ("window", Kind::Number),
        (Some(1), 0, 1) => ("type", Kind::IcmpType(Family::Ipv4)),
        (Some(58), 0, 1) => ("type", Kind::IcmpType(Family::Ipv6)),
        (Some(1 | 58), 1, 1) => ("code", Kind::Number),
        _ => return None,
    };
    let name = if proto == Some(58) { "icmpv6" } else { name? };
    Some((format!("{name} {field}"), kind, Implied::Transport))
}

pub fn fib(flags: u32, result: FibResult) -> (String, Kind) {
    let names = [
        (fib_flags::SADDR, "saddr"),
        (fib_flags::DADDR, "daddr"),
        (fib_flags::MARK, "mark"),
        (fib_flags::IIF, "iif"),
        (fib_flags::OIF, "oif"),
    ];
    let inputs: Vec<&str> = names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    let (name, kind) = match result {
        FibResult::Oif => ("oif", Kind::Host),
        FibResult::OifName => ("oifname", Kind::IfName),
        FibResult::AddrType => ("type", Kind::AddrType),
        FibResult::Unknown(_) => ("<unknown>", Kind::Raw),
    };
    let kind = if flags & fib_flags::PRESENT != 0 { Kind::Presence } else { kind };
    (format!("fib {} {name}", inputs.join(" . ")), kind)
}

/// NFT_EXTHDR_OP_*: IPv6 extension header, TCP option, IP option, SCTP chunk.
pub fn exthdr(op: u32, kind: u8, offset: u32, len: u32, presence: bool) -> (String, Kind) {
    let of = match op {
        0 => "exthdr",
        1 => "tcp option",
        2 => "ip option",
        3 => "sctp chunk",
        _ => "dccp option",
    };
    let name = match (op, kind) {
        (0, 0) => "hbh".to_owned(),
        (0, 43) => "rt".to_owned(),
        (0, 44) => "frag".to_owned(),
        (0, 60) => "dst".to_owned(),
        (1, 2) => "maxseg".to_owned(),
        (1, 3) => "window".to_owned(),
        (1, 4) => "sack-perm".to_owned(),
        (1, 8) => "timestamp".to_owned(),
        _ => kind.to_string(),
    };
    match (presence, op, kind, offset) {
        (true, ..) => (format!("{of} {name}"), Kind::Presence),
        (_, 1, 2, 2) => (format!("{of} {name} size"), Kind::Number),
        _ => (format!("{of} {name} @{},{}", u64::from(offset) * 8, u64::from(len) * 8), Kind::Raw),
    }
}
