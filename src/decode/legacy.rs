//! Tables of iptables-legacy (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h).

use std::collections::HashMap;
use std::sync::Arc;

use super::nlattr::until_nul;
use super::xt::{self, Extension, Fields};
use crate::facts::{
    Backend, BaseChain, Chain, ChainKind, Expr, Family, Hook, IfaceMatch, Masked, Policy, RawLegacy, Rule, Table,
    TableFamily, XtHeader, XtMatch, XtTarget,
};

/// `struct ipt_getinfo` after the table's name.
const VALID_HOOKS: usize = 32;
const HOOK_ENTRY: usize = 36;
const UNDERFLOW: usize = 56;
const NUM_ENTRIES: usize = 76;

/// `struct xt_entry_match` and `struct xt_entry_target`: size, name, revision, then the data.
const EXTENSION_NAME: usize = 2;
const EXTENSION_REVISION: usize = 31;
const EXTENSION_DATA: usize = 32;
/// `struct xt_error_target`
const ERROR_NAME: usize = 30;

const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

/// Places in `struct ipt_entry` and `struct ip6t_entry`.
struct Layout {
    family: Family,
    /// Interface names and their masks, 16 bytes each: in, out, mask of in, mask of out.
    interfaces: usize,
    proto: usize,
    flags: usize,
    inverse: usize,
    goto: u8,
    target_offset: usize,
    matches: usize,
}

const IPV4: Layout = Layout {
    family: Family::Ipv4,
    interfaces: 16,
    proto: 80,
    flags: 82,
    inverse: 83,
    goto: 2,
    target_offset: 88,
    matches: 112,
};

const IPV6: Layout = Layout {
    family: Family::Ipv6,
    interfaces: 64,
    proto: 128,
    flags: 131,
    inverse: 132,
    goto: 4,
    target_offset: 140,
    matches: 168,
};

/// How many entries the kernel says a table has, those that name chains and end it included.
pub fn number(raw: &RawLegacy) -> Option<u32> {
    Fields(&raw.info).u32(NUM_ENTRIES)
}

/// Decodes a table; None where it is not one. `raw_first`: the raw table was loaded with `raw_before_defrag`.
pub fn table(family: Family, raw: &RawLegacy, raw_first: bool) -> Option<Table> {
    let layout = if family == Family::Ipv4 { &IPV4 } else { &IPV6 };
    let entries = entries(layout, &raw.entries)?;
    let info = Fields(&raw.info);
    // By the place of a base chain's first entry: its hook, and the place of the entry that is its policy.
    let mut heads: HashMap<usize, (Hook, usize)> = HashMap::new();
    let hooks = info.u32(VALID_HOOKS)?;
    for (number, hook) in HOOKS.into_iter().enumerate().filter(|(number, _)| hooks & 1 << number != 0) {
        let start = info.u32(HOOK_ENTRY + 4 * number)? as usize;
        heads.insert(start, (hook, info.u32(UNDERFLOW + 4 * number)? as usize));
    }
    // A user chain stands behind the ERROR entry that names it; the last such entry ends the table.
    let mut names: HashMap<usize, &[u8]> = HashMap::new();
    for entry in entries.iter().filter(|e| e.target.name == b"ERROR") {
        names.insert(entry.end, until_nul(entry.target.info.get(..ERROR_NAME).unwrap_or(entry.target.info)));
    }
    let mut chains: Vec<Chain> = Vec::new();
    let mut current: Option<(Chain, Option<usize>)> = None;
    let mut ended = |chain: Option<(Chain, Option<usize>)>| {
        if let Some((mut chain, _)) = chain {
            if chain.base.is_none() {
                // The RETURN at the end of every user chain.
                Arc::make_mut(&mut chain.rules).pop();
            }
            chains.push(chain);
        }
    };
    for entry in &entries {
        if entry.target.name == b"ERROR" {
            ended(current.take());
            if entry.end < raw.entries.len()
                && let Some(name) = names.get(&entry.end)
            {
                let name = String::from_utf8_lossy(name).into_owned();
                current = Some((Chain { name, base: None, rules: Arc::default() }, None));
            }
            continue;
        }
        if let Some((hook, underflow)) = heads.remove(&entry.start) {
            ended(current.take());
            let base = base(&raw.table, hook, raw_first);
            current = Some((
                Chain { name: hook.iptables_name().into(), base: Some(base), rules: Arc::default() },
                Some(underflow),
            ));
        }
        let Some((chain, underflow)) = &mut current else { continue };
        if *underflow == Some(entry.start) {
            if let Some(base) = &mut chain.base {
                base.policy = if verdict(entry) == Some(DROP) { Policy::Drop } else { Policy::Accept };
            }
            ended(current.take());
            continue;
        }
        Arc::make_mut(&mut chain.rules).push(rule(layout, entry, &names));
    }
    ended(current);
    Some(Table {
        backend: Backend::Legacy,
        family: if family == Family::Ipv4 { TableFamily::Ip } else { TableFamily::Ip6 },
        name: raw.table.clone(),
        dormant: false,
        owner: None,
        chains,
        sets: Arc::default(),
    })
}

struct Entry<'a> {
    /// Its place in the blob, and that of the one behind it.
    start: usize,
    end: usize,
    bytes: &'a [u8],
    matches: &'a [u8],
    target: Extension<'a>,
}

/// None where an entry is out of its bounds.
fn entries<'a>(layout: &Layout, blob: &'a [u8]) -> Option<Vec<Entry<'a>>> {
    let mut out = Vec::new();
    let mut start = 0;
    while start < blob.len() {
        let head = Fields(blob.get(start..)?);
        let target_offset = usize::from(head.u16(layout.target_offset)?);
        let next_offset = usize::from(head.u16(layout.target_offset + 2)?);
        let bytes = head.0.get(..next_offset)?;
        let (target, _) = extension(bytes.get(target_offset..)?)?;
        let matches = bytes.get(layout.matches..target_offset)?;
        out.push(Entry { start, end: start + next_offset, bytes, matches, target });
        start += next_offset;
    }
    Some(out)
}

/// A match or a target, and its size.
fn extension(bytes: &[u8]) -> Option<(Extension<'_>, usize)> {
    let size = usize::from(Fields(bytes).u16(0)?);
    let extension = Extension {
        name: until_nul(bytes.get(EXTENSION_NAME..EXTENSION_REVISION)?),
        revision: *bytes.get(EXTENSION_REVISION)?,
        info: bytes.get(EXTENSION_DATA..size)?,
    };
    Some((extension, size))
}

fn base(table: &str, hook: Hook, raw_first: bool) -> BaseChain {
    const RAW_BEFORE_DEFRAG: i32 = -450;
    let (kind, priority) = match (table, hook) {
        ("raw", _) if raw_first => (ChainKind::Filter, RAW_BEFORE_DEFRAG),
        ("raw", _) => (ChainKind::Filter, -300),
        ("mangle", Hook::Output) => (ChainKind::Route, -150),
        ("mangle", _) => (ChainKind::Filter, -150),
        ("nat", Hook::Prerouting | Hook::Output) => (ChainKind::Nat, -100),
        ("nat", _) => (ChainKind::Nat, 100),
        ("security", _) => (ChainKind::Filter, 50),
        _ => (ChainKind::Filter, 0),
    };
    BaseChain { hook, kind, priority, policy: Policy::Accept, devices: Vec::new() }
}

fn rule(layout: &Layout, entry: &Entry<'_>, names: &HashMap<usize, &[u8]>) -> Rule {
    let family = Some(layout.family);
    let malformed = |what: &str| Expr::Unknown { name: format!("{what} (malformed)") };
    let header = header(layout, Fields(entry.bytes)).map_or_else(|| malformed("header"), Expr::XtMatch);
    let mut exprs = vec![header];
    let mut comment = None;
    let mut rest = entry.matches;
    while !rest.is_empty() {
        // A match smaller than its own header would never end the list.
        let Some((found, size)) = extension(rest).filter(|(_, size)| *size >= EXTENSION_DATA) else {
            exprs.push(malformed("match"));
            break;
        };
        let decoded = xt::r#match(family, &found);
        if let XtMatch::Comment(text) = &decoded {
            comment.get_or_insert_with(|| text.clone());
        }
        exprs.push(Expr::XtMatch(decoded));
        rest = rest.get(size..).unwrap_or_default();
    }
    let target = match entry.target.name {
        b"" => standard(layout, entry, names),
        _ => xt::target(family, &entry.target),
    };
    exprs.push(Expr::XtTarget(target));
    Rule { handle: None, comment, exprs }
}

const DROP: i32 = -1;

/// The verdict of a standard target: below zero a verdict of netfilter's, else the place of the entry to go on with.
fn verdict(entry: &Entry<'_>) -> Option<i32> {
    let number = Fields(entry.target.info).bytes(0).map(i32::from_ne_bytes);
    number.filter(|_| entry.target.name.is_empty())
}

fn standard(layout: &Layout, entry: &Entry<'_>, names: &HashMap<usize, &[u8]>) -> XtTarget {
    let unknown = || XtTarget::Unknown { name: "jump (malformed)".into() };
    let Some(verdict) = verdict(entry) else { return unknown() };
    match verdict {
        DROP => XtTarget::Drop,
        -2 => XtTarget::Accept,
        -4 => XtTarget::Queue,
        -5 => XtTarget::Return,
        _ => match usize::try_from(verdict) {
            Ok(place) if place == entry.end => XtTarget::Continue,
            Ok(place) => match names.get(&place) {
                Some(name) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    let goto = Fields(entry.bytes).u8(layout.flags).is_some_and(|flags| flags & layout.goto != 0);
                    if goto { XtTarget::Goto(name) } else { XtTarget::Jump(name) }
                }
                None => unknown(),
            },
            Err(_) => unknown(),
        },
    }
}

/// `struct ipt_ip`, `struct ip6t_ip6`.
fn header(layout: &Layout, fields: Fields<'_>) -> Option<XtMatch> {
    const INV_VIA_IN: u8 = 1;
    const INV_VIA_OUT: u8 = 2;
    const INV_SRCIP: u8 = 8;
    const INV_DSTIP: u8 = 0x10;
    const INV_FRAG: u8 = 0x20;
    const INV_PROTO: u8 = 0x40;
    const IPT_F_FRAG: u8 = 1;
    const IP6T_F_PROTO: u8 = 1;
    let (flags, inverse) = (fields.u8(layout.flags)?, fields.u8(layout.inverse)?);
    let address = |index: usize| fields.address(index * layout.family.bytes(), Some(layout.family));
    let masked = |index, invert| -> Option<Masked> {
        Some(Masked { address: address(index)?, mask: address(index + 2)?, invert })
    };
    let v4 = layout.family == Family::Ipv4;
    // In IPv6 protocol 0 is that of the hop-by-hop header, and a flag says whether it is asked for.
    let proto = if v4 || flags & IP6T_F_PROTO != 0 { fields.u16(layout.proto)? } else { 0 };
    Some(XtMatch::Header(Box::new(XtHeader {
        src: masked(0, inverse & INV_SRCIP != 0)?,
        dst: masked(1, inverse & INV_DSTIP != 0)?,
        iif: interface(fields, layout.interfaces, inverse & INV_VIA_IN != 0)?,
        oif: interface(fields, layout.interfaces + 16, inverse & INV_VIA_OUT != 0)?,
        proto: u8::try_from(proto).ok()?,
        proto_invert: inverse & INV_PROTO != 0,
        fragment: (v4 && flags & IPT_F_FRAG != 0).then_some(inverse & INV_FRAG == 0),
    })))
}

/// The name at `at`, of which the bytes count that the mask, 32 bytes on, has set. Some(None) where it matches all.
fn interface(fields: Fields<'_>, at: usize, invert: bool) -> Option<Option<IfaceMatch>> {
    let (name, mask): ([u8; 16], [u8; 16]) = (fields.bytes(at)?, fields.bytes(at + 32)?);
    let counted = mask.iter().take_while(|&&b| b != 0).count();
    let name = name.get(..counted)?;
    let exact = name.contains(&0);
    let name = until_nul(name);
    let any = name.is_empty() && !exact && !invert;
    Some((!any).then(|| IfaceMatch { name: name.to_vec(), exact, invert }))
}
