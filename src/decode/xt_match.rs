//! The matches.

use super::xt::{Extension, Fields};
use super::xt_words;
use crate::facts::{Conntrack, Family, Grouped, Iprange, MultiportWhich, Ports, U32Op, U32Test, XtMatch};

/// Decodes a match; `family` is that of the rule's packets.
pub fn r#match(family: Option<Family>, extension: &Extension<'_>) -> XtMatch {
    decode(family, extension).unwrap_or_else(|| XtMatch::Unknown { name: extension.name() })
}

fn decode(family: Option<Family>, extension: &Extension<'_>) -> Option<XtMatch> {
    let info = Fields(extension.info);
    let revision = extension.revision;
    Some(match (extension.name, revision) {
        (b"tcp", 0) => tcp(info)?,
        (b"udp", 0) => {
            let inverse = info.u8(8)?;
            XtMatch::Udp {
                sports: (info.u16(0)?, info.u16(2)?),
                dports: (info.u16(4)?, info.u16(6)?),
                invert_sports: inverse & 1 != 0,
                invert_dports: inverse & 2 != 0,
            }
        }
        (b"multiport", 0 | 1) => multiport(info, revision)?,
        (b"conntrack", 1..=3) => XtMatch::Conntrack(Box::new(conntrack(family, info, revision)?)),
        (b"state", 0) => {
            const XT_STATE_UNTRACKED: u32 = 64;
            const XT_CONNTRACK_STATE_UNTRACKED: u16 = 256;
            let mask = info.u32(0)?;
            let untracked = if mask & XT_STATE_UNTRACKED != 0 { XT_CONNTRACK_STATE_UNTRACKED } else { 0 };
            let state = (mask & !XT_STATE_UNTRACKED) as u16 | untracked;
            XtMatch::Conntrack(Box::new(Conntrack { state: Some((state, false)), ..Conntrack::default() }))
        }
        (b"iprange", 1) => {
            let flags = info.u8(64)?;
            let range = |bit: u8, at| -> Option<Option<(u128, u128, bool)>> {
                if flags & bit == 0 {
                    return Some(None);
                }
                Some(Some((info.address(at, family)?, info.address(at + 16, family)?, flags & bit << 4 != 0)))
            };
            XtMatch::Iprange(Box::new(Iprange { src: range(1, 0)?, dst: range(2, 32)? }))
        }
        (b"addrtype", 0) => XtMatch::Addrtype {
            source: info.u16(0)?,
            dest: info.u16(2)?,
            invert_source: info.u32(4)? != 0,
            invert_dest: info.u32(8)? != 0,
            iif: false,
            oif: false,
        },
        (b"addrtype", 1) => {
            let flags = info.u32(4)?;
            XtMatch::Addrtype {
                source: info.u16(0)?,
                dest: info.u16(2)?,
                invert_source: flags & 1 != 0,
                invert_dest: flags & 2 != 0,
                iif: flags & 4 != 0,
                oif: flags & 8 != 0,
            }
        }
        (b"set", 0..=4) => set(info, revision)?,
        (b"mac", 0) => XtMatch::Mac { address: info.bytes(0)?, invert: info.u32(8)? != 0 },
        (b"mark", 1) => XtMatch::Mark { mark: info.u32(0)?, mask: info.u32(4)?, invert: info.flag(8)? },
        (b"connmark", 1) => XtMatch::Connmark { mark: info.u32(0)?, mask: info.u32(4)?, invert: info.flag(8)? },
        (b"comment", 0) => XtMatch::Comment(info.text(0, info.0.len())?),
        (b"pkttype", 0) => XtMatch::Pkttype { kind: info.u32(0)?, invert: info.u32(4)? != 0 },
        (b"icmp", 0) => {
            XtMatch::Icmp { kind: info.u8(0)?, codes: (info.u8(1)?, info.u8(2)?), invert: info.u8(3)? & 1 != 0 }
        }
        (b"icmp6", 0) => {
            XtMatch::Icmp6 { kind: info.u8(0)?, codes: (info.u8(1)?, info.u8(2)?), invert: info.u8(3)? & 1 != 0 }
        }
        (b"length", 0) => XtMatch::Length { min: info.u16(0)?, max: info.u16(2)?, invert: info.flag(4)? },
        (b"ttl" | b"hl", 0) => XtMatch::Ttl { mode: info.u8(0)?, value: info.u8(1)? },
        (b"tcpmss", 0) => XtMatch::Tcpmss { min: info.u16(0)?, max: info.u16(2)?, invert: info.flag(4)? },
        (b"dscp", 0) => XtMatch::Dscp { value: info.u8(0)?, invert: info.flag(1)? },
        // The six bits of the DSCP.
        (b"tos", 1) if info.u8(0)? == 0xfc => XtMatch::Dscp { value: info.u8(1)? >> 2, invert: info.flag(2)? },
        (b"owner", 1) => owner(info)?,
        (b"devgroup", 0) => {
            let flags = info.u32(0)?;
            let group = |bit: u32, at| -> Option<Option<Grouped>> {
                if flags & bit == 0 {
                    return Some(None);
                }
                let (group, mask) = (info.u32(at)?, info.u32(at + 4)?);
                Some(Some(Grouped { group, mask, invert: flags & bit << 1 != 0 }))
            };
            XtMatch::Devgroup { iif: group(1, 4)?, oif: group(4, 12)? }
        }
        // What is inverted or is sought without regard to case is sought all the same.
        (b"string", 1) if info.u8(149)? & 1 == 0 => {
            XtMatch::Text { words: xt_words::text(info)?, length: info.u8(148)?, from: info.u16(0)? }
        }
        (b"u32", 0) => u32_tests(info)?,
        (b"physdev", 0) => XtMatch::Physdev { text: xt_words::physdev(info)? },
        (b"rpfilter", 0) => XtMatch::Rpfilter { flags: info.u8(0)? },
        (b"socket", 0) => XtMatch::Socket { flags: 0 },
        (b"socket", 1..=3) => XtMatch::Socket { flags: info.u8(0)? },
        // Each of them fails on a packet without its header, whatever else it asks for.
        (b"frag" | b"rt" | b"hbh" | b"dst" | b"mh" | b"srh" | b"ah" | b"esp" | b"ipcomp", _) => {
            XtMatch::AbsentHeader { name: extension.name(), invert: false }
        }
        // No packet of a connection that a helper announced, and none that IPsec took in.
        (b"helper", 0) => XtMatch::AbsentHeader { name: extension.name(), invert: info.u32(0)? != 0 },
        (b"policy", 0) => {
            const XT_POLICY_MATCH_NONE: u16 = 4;
            XtMatch::AbsentHeader { name: extension.name(), invert: info.u16(304)? & XT_POLICY_MATCH_NONE != 0 }
        }
        (b"limit", 0) => rate(extension, xt_words::limit(info)?),
        (b"hashlimit", 1..=3) => rate(extension, xt_words::hashlimit(info, revision)?),
        (b"statistic", 0) => rate(extension, xt_words::statistic(info)?),
        (b"quota", 0) => rate(extension, format!("--quota {}", info.u64(8)?)),
        (b"connbytes" | b"rateest", _) => rate(extension, String::new()),
        (b"recent", 0 | 1) => history(extension, xt_words::recent(family, info)?),
        (b"connlimit", 0 | 1) => history(extension, xt_words::connlimit(family, info)?),
        (b"time", 0) => XtMatch::Time { text: xt_words::time(info)? },
        _ => return None,
    })
}

fn rate(extension: &Extension<'_>, text: String) -> XtMatch {
    XtMatch::Rate { name: extension.name(), text }
}

fn history(extension: &Extension<'_>, text: String) -> XtMatch {
    XtMatch::History { name: extension.name(), text }
}

/// `struct xt_owner_match_info`.
fn owner(info: Fields<'_>) -> Option<XtMatch> {
    let (asked, inverse) = (info.u8(16)?, info.u8(17)?);
    let range = |bit: u8, at| -> Option<Option<(u32, u32, bool)>> {
        if asked & bit == 0 {
            return Some(None);
        }
        Some(Some((info.u32(at)?, info.u32(at + 4)?, inverse & bit != 0)))
    };
    Some(XtMatch::Owner {
        text: xt_words::owner(info)?,
        uid: range(1, 0)?,
        gid: range(2, 8)?,
        socket: (asked & 4 != 0).then_some(inverse & 4 == 0),
    })
}

/// `struct xt_u32`: eleven tests of eleven locations and eleven ranges, then the numbers of what counts of each.
fn u32_tests(info: Fields<'_>) -> Option<XtMatch> {
    const SIZE: usize = 11;
    const TEST: usize = 180;
    let count = |at| -> Option<usize> { Some(usize::from(info.u8(at)?).min(SIZE)) };
    let test = |number: usize| -> Option<U32Test> {
        let at = number * TEST;
        let step = |n: usize| -> Option<(U32Op, u32)> {
            let op = match info.u8(at + 8 * n + 4)? {
                0 => U32Op::And,
                1 => U32Op::ShiftLeft,
                2 => U32Op::ShiftRight,
                3 => U32Op::At,
                _ => return None,
            };
            Some((op, info.u32(at + 8 * n)?))
        };
        let range = |n: usize| Some((info.u32(at + 88 + 8 * n)?, info.u32(at + 92 + 8 * n)?));
        Some(U32Test {
            start: info.u32(at)?,
            steps: (1..count(at + 176)?).map(step).collect::<Option<_>>()?,
            ranges: (0..count(at + 177)?).map(range).collect::<Option<_>>()?,
        })
    };
    let tests = (0..count(SIZE * TEST)?).map(test).collect::<Option<_>>()?;
    Some(XtMatch::U32 { tests, invert: info.flag(SIZE * TEST + 1)? })
}

fn tcp(info: Fields<'_>) -> Option<XtMatch> {
    let (option, inverse) = (info.u8(8)?, info.u8(11)?);
    Some(XtMatch::Tcp {
        sports: (info.u16(0)?, info.u16(2)?),
        dports: (info.u16(4)?, info.u16(6)?),
        flags_mask: info.u8(9)?,
        flags_set: info.u8(10)?,
        invert_sports: inverse & 1 != 0,
        invert_dports: inverse & 2 != 0,
        invert_flags: inverse & 4 != 0,
        option: (option != 0).then_some((option, inverse & 8 != 0)),
    })
}

fn multiport(info: Fields<'_>, revision: u8) -> Option<XtMatch> {
    const XT_MULTI_PORTS: usize = 15;
    let count = usize::from(info.u8(1)?).min(XT_MULTI_PORTS);
    let port = |index: usize| info.u16(2 + 2 * index);
    let starts_range = |index: usize| revision == 1 && info.u8(32 + index).is_some_and(|flag| flag != 0);
    let mut ports: Vec<Ports> = Vec::with_capacity(count);
    let mut index = 0;
    while index < count {
        let first = port(index)?;
        let last = if starts_range(index) && index + 1 < count {
            index += 1;
            port(index)?
        } else {
            first
        };
        ports.push((first, last));
        index += 1;
    }
    Some(XtMatch::Multiport {
        which: match info.u8(0)? {
            0 => MultiportWhich::Source,
            1 => MultiportWhich::Destination,
            2 => MultiportWhich::Either,
            _ => return None,
        },
        ports,
        invert: revision == 1 && info.flag(47)?,
    })
}

fn conntrack(family: Option<Family>, info: Fields<'_>, revision: u8) -> Option<Conntrack> {
    let (asked, inverse) = (info.u16(146)?, info.u16(148)?);
    let wants = |bit: u16| asked & 1 << bit != 0;
    let inverted = |bit: u16| inverse & 1 << bit != 0;
    // Revision 1 keeps states and status in a byte each.
    let (state, status) = match revision {
        1 => (info.u8(150)?.into(), info.u8(151)?.into()),
        _ => (info.u16(150)?, info.u16(152)?),
    };
    let address = |bit, at| match wants(bit) {
        true => info.masked(at, family, inverted(bit)).map(Some),
        false => Some(None),
    };
    // Up to revision 2 one port in network order, since then a range in the host's.
    let ports = |bit: u16, index: usize| -> Option<Option<(Ports, bool)>> {
        if !wants(bit) {
            return Some(None);
        }
        let range = match revision {
            3 => (info.u16(138 + 2 * index)?, info.u16(154 + 2 * index)?),
            _ => (info.be16(138 + 2 * index)?, info.be16(138 + 2 * index)?),
        };
        Some(Some((range, inverted(bit))))
    };
    Some(Conntrack {
        state: wants(0).then_some((state, inverted(0))),
        proto: if wants(1) { Some((info.u16(136)?, inverted(1))) } else { None },
        orig_src: address(2, 0)?,
        orig_dst: address(3, 32)?,
        repl_src: address(4, 64)?,
        repl_dst: address(5, 96)?,
        status: wants(6).then_some((status, inverted(6))),
        expires: if wants(7) { Some((info.u32(128)?, info.u32(132)?, inverted(7))) } else { None },
        orig_src_port: ports(8, 0)?,
        orig_dst_port: ports(9, 1)?,
        repl_src_port: ports(10, 2)?,
        repl_dst_port: ports(11, 3)?,
        // The kernel asks for the original direction; `--ctdir REPLY` is that, inverted.
        direction: wants(12).then_some((true, inverted(12))),
    })
}

fn set(info: Fields<'_>, revision: u8) -> Option<XtMatch> {
    const IPSET_DIM_MAX: u8 = 6;
    const IPSET_INV_MATCH: u8 = 1;
    const IPSET_RETURN_NOMATCH: u8 = 1 << 7;
    // Revision 0 keeps dimensions and flags behind six numbers.
    let (dimensions, flags) = if revision == 0 { (info.u8(28)?, info.u8(29)?) } else { (info.u8(2)?, info.u8(3)?) };
    // Conditions on packets and bytes: the operators of the two.
    let counters = match revision {
        0..=2 => false,
        3 => info.flag(8)? || info.flag(24)?,
        _ => info.flag(16)? || info.flag(32)?,
    };
    Some(XtMatch::Set {
        index: info.u16(0)?,
        dirs: (1..=dimensions.min(IPSET_DIM_MAX)).map(|dimension| flags & 1 << dimension != 0).collect(),
        invert: flags & IPSET_INV_MATCH != 0,
        extra: counters || flags & IPSET_RETURN_NOMATCH != 0,
    })
}
