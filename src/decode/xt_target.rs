//! The targets.

use super::xt::{Extension, Fields};
use crate::facts::{ConnmarkMode, Family, NatKind, RejectWith, XtTarget};

/// Decodes a target; `family` is that of the rule's packets. The standard verdicts of legacy tables are not among them.
pub fn target(family: Option<Family>, extension: &Extension<'_>) -> XtTarget {
    decode(family, extension).unwrap_or_else(|| XtTarget::Unknown { name: extension.name() })
}

fn decode(family: Option<Family>, extension: &Extension<'_>) -> Option<XtTarget> {
    let info = Fields(extension.info);
    let revision = extension.revision;
    Some(match (extension.name, revision) {
        (b"REJECT", 0) => XtTarget::Reject(reject(family?, info.u32(0)?)),
        (b"LOG", 0) => XtTarget::Log { name: extension.name(), prefix: info.text(2, 30)? },
        (b"NFLOG", 0) => XtTarget::Log { name: extension.name(), prefix: info.text(12, 64)? },
        (b"MARK", 2) => XtTarget::Mark { mark: info.u32(0)?, mask: info.u32(4)? },
        (b"CONNMARK", 1) => connmark(info, info.u8(12)?)?,
        // With a shift it computes what is not modelled.
        (b"CONNMARK", 2) if info.u8(13)? == 0 => connmark(info, info.u8(14)?)?,
        (b"NOTRACK", 0) => XtTarget::Ct { notrack: true, zone: 0, helper: None },
        (b"CT", 0..=2) => {
            const XT_CT_NOTRACK: u16 = 1;
            // A zone of one direction, or by the mark.
            const XT_CT_ZONE_DIRECTED: u16 = 0x1c;
            if info.u16(0)? & XT_CT_ZONE_DIRECTED != 0 {
                return None;
            }
            XtTarget::Ct {
                notrack: info.u16(0)? & XT_CT_NOTRACK != 0,
                zone: info.u16(2)?,
                helper: info.text(12, 16).filter(|name| !name.is_empty()),
            }
        }
        (b"SNAT", 0..=2) => nat(NatKind::Snat, range(family, info, revision)?),
        (b"DNAT", 0..=2) => nat(NatKind::Dnat, range(family, info, revision)?),
        (b"MASQUERADE", 0) => nat(NatKind::Masquerade, range(family, info, 0)?),
        (b"REDIRECT", 0) => nat(NatKind::Redirect, range(family, info, 0)?),
        (b"NETMAP", 0) => {
            let range = range(family, info, 0)?;
            let mask = family?.max() & !(range.first ^ range.last);
            // Which side it rewrites is the hook's to say.
            XtTarget::Netmap { to: Box::new((range.first & mask, mask)), kind: NatKind::Dnat }
        }
        (b"TPROXY", 0) => XtTarget::Tproxy { mask: info.u32(0)?, mark: info.u32(4)?, port: info.be16(12)? },
        (b"TPROXY", 1) => XtTarget::Tproxy { mask: info.u32(0)?, mark: info.u32(4)?, port: info.be16(24)? },
        (b"SYNPROXY", 0) => XtTarget::Synproxy,
        (b"NFQUEUE", 0 | 1) => XtTarget::Nfqueue { number: info.u16(0)?, bypass: false },
        (b"NFQUEUE", 2 | 3) => XtTarget::Nfqueue { number: info.u16(0)?, bypass: info.u16(4)? & 1 != 0 },
        (b"SET", _) => XtTarget::Set { sets: changed_sets(info, revision)? },
        (name, _) if HARMLESS.contains(&name) => XtTarget::Harmless { name: extension.name() },
        _ => return None,
    })
}

/// Targets that let the packet go on and change nothing that a verdict here looks at.
const HARMLESS: [&[u8]; 17] = [
    b"TCPMSS",
    b"TCPOPTSTRIP",
    b"DSCP",
    b"TOS",
    b"ECN",
    b"CLASSIFY",
    b"CHECKSUM",
    b"TTL",
    b"HL",
    b"AUDIT",
    b"TRACE",
    b"LED",
    b"SECMARK",
    b"CONNSECMARK",
    b"RATEEST",
    b"IDLETIMER",
    b"TEE",
];

/// ICMP codes of IPT_* (ipt_REJECT.h) and IP6T_* (ip6t_REJECT.h).
fn reject(family: Family, with: u32) -> RejectWith {
    match (family, with) {
        (Family::Ipv4, 0..=3) => RejectWith::Icmp(with as u8),
        (Family::Ipv4, 5) => RejectWith::Icmp(9),
        (Family::Ipv4, 6) => RejectWith::Icmp(10),
        (Family::Ipv4, 7) => RejectWith::TcpReset,
        (Family::Ipv4, 8) => RejectWith::Icmp(13),
        (Family::Ipv6, 0..=4) => RejectWith::Icmp(with as u8),
        (Family::Ipv6, 6) => RejectWith::TcpReset,
        (Family::Ipv6, 7) => RejectWith::Icmp(5),
        (Family::Ipv6, 8) => RejectWith::Icmp(6),
        (_, other) => RejectWith::Other(other),
    }
}

/// The sets that it adds to, deletes from, and (revision 3) maps by.
fn changed_sets(info: Fields<'_>, revision: u8) -> Option<Vec<u16>> {
    const IPSET_INVALID_ID: u16 = u16::MAX;
    let places: &[usize] = match revision {
        0 => &[0, 32],
        1 | 2 => &[0, 4],
        _ => &[0, 4, 8],
    };
    let sets = places.iter().map(|&at| info.u16(at)).collect::<Option<Vec<u16>>>()?;
    Some(sets.into_iter().filter(|&set| set != IPSET_INVALID_ID).collect())
}

fn connmark(info: Fields<'_>, mode: u8) -> Option<XtTarget> {
    Some(XtTarget::Connmark {
        mode: match mode {
            0 => ConnmarkMode::Set,
            1 => ConnmarkMode::Save,
            2 => ConnmarkMode::Restore,
            _ => return None,
        },
        ctmark: info.u32(0)?,
        ctmask: info.u32(4)?,
        nfmask: info.u32(8)?,
    })
}

struct Range {
    flags: u32,
    first: u128,
    last: u128,
    ports: (u16, u16),
}

/// `struct nf_nat_ipv4_multi_range_compat` of the first revisions for IPv4, else `struct nf_nat_range`.
fn range(family: Option<Family>, info: Fields<'_>, revision: u8) -> Option<Range> {
    let (flags, first, last, ports) = match (family?, revision) {
        (Family::Ipv4, 0) => (4, 8, 12, 16),
        _ => (0, 4, 20, 36),
    };
    Some(Range {
        flags: info.u32(flags)?,
        first: info.address(first, family)?,
        last: info.address(last, family)?,
        ports: (info.be16(ports)?, info.be16(ports + 2)?),
    })
}

fn nat(kind: NatKind, range: Range) -> XtTarget {
    const NF_NAT_RANGE_MAP_IPS: u32 = 1;
    const NF_NAT_RANGE_PROTO_SPECIFIED: u32 = 2;
    XtTarget::Nat {
        kind,
        addresses: (range.flags & NF_NAT_RANGE_MAP_IPS != 0).then(|| Box::new((range.first, range.last))),
        ports: (range.flags & NF_NAT_RANGE_PROTO_SPECIFIED != 0).then_some(range.ports),
        flags: range.flags,
    }
}
