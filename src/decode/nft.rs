//! Dumps of nf_tables (linux/netfilter/nf_tables.h) -> tables, chains, rules, sets.

use std::collections::HashMap;
use std::sync::Arc;

use super::nft_expr::expressions;
use super::nft_set::{Elements, set};
use super::nlattr::{Attributes, text};
use crate::facts::{
    Backend, BaseChain, Chain, ChainKind, Expr, Family, Hook, Policy, RawNft, Rule, Table, TableFamily, XtMatch,
};

/// `struct nlmsghdr`, then `struct nfgenmsg`.
const NETLINK_HEADER: usize = 16;
const NFGENMSG: usize = 4;

const NFTA_GEN_ID: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;
const NFTA_GEN_PROC_NAME: u16 = 3;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
const NFT_TABLE_F_DORMANT: u32 = 1;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_CHAIN_POLICY: u16 = 5;
const NFTA_CHAIN_TYPE: u16 = 7;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_HOOK_PRIORITY: u16 = 2;
const NFTA_HOOK_DEV: u16 = 3;
const NFTA_HOOK_DEVS: u16 = 4;
const NFTA_DEVICE_PREFIX: u16 = 2;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_SET_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;

/// The generation that an NFT_MSG_NEWGEN message names.
pub fn generation(message: &[u8]) -> Option<u32> {
    body(message)?.1.u32(NFTA_GEN_ID)
}

/// Who made a change: the process and its name, as an NFT_MSG_NEWGEN message tells them; None of any other message.
pub fn changer(message: &[u8]) -> Option<(u32, String)> {
    const NEWGEN: u16 = 10 << 8 | 15;
    if message.get(4..6)? != NEWGEN.to_ne_bytes() {
        return None;
    }
    let attributes = body(message)?.1;
    Some((attributes.u32(NFTA_GEN_PROC_PID)?, attributes.text(NFTA_GEN_PROC_NAME)?))
}

/// What asks for the elements of the set that an NFT_MSG_NEWSET message shows: the body of an NFT_MSG_GETSETELEM.
pub fn ask_for_elements(set: &[u8]) -> Option<Vec<u8>> {
    let (family, attributes) = body(set)?;
    let mut out = vec![family, 0, 0, 0];
    // Table and name of a set have the same types as those of an element list.
    for wanted in [NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET] {
        let value = attributes.get(wanted)?;
        out.extend(u16::try_from(4 + value.len()).ok()?.to_ne_bytes());
        out.extend(wanted.to_ne_bytes());
        out.extend(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    Some(out)
}

/// The tables of a dump, in its order. Objects that name a table or chain which is not in the dump are left out: a
/// consistent dump has none.
pub fn tables(raw: &RawNft) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut known = HashMap::new();
    for (family, attributes) in raw.tables.iter().filter_map(|m| body(m)) {
        let (Some(name), Some(table_family)) = (attributes.get(NFTA_TABLE_NAME), TableFamily::from_nfproto(family))
        else {
            continue;
        };
        known.insert((family, name), tables.len());
        tables.push(Table {
            backend: Backend::Nft,
            family: table_family,
            name: text(name),
            dormant: attributes.u32(NFTA_TABLE_FLAGS).unwrap_or(0) & NFT_TABLE_F_DORMANT != 0,
            owner: attributes.u32(NFTA_TABLE_OWNER),
            chains: Vec::new(),
            sets: Arc::default(),
        });
    }
    add_chains(raw, &mut tables, &known);
    add_sets(raw, &mut tables, &known);
    for table in &mut tables {
        Arc::make_mut(&mut table.sets).sort_by(|a, b| a.name.cmp(&b.name));
    }
    tables
}

type Known<'a> = HashMap<(u8, &'a [u8]), usize>;

fn add_chains(raw: &RawNft, tables: &mut [Table], known: &Known<'_>) {
    let mut places = HashMap::new();
    for (family, attributes) in raw.chains.iter().filter_map(|m| body(m)) {
        let (Some(table), Some(name)) = (attributes.get(NFTA_CHAIN_TABLE), attributes.get(NFTA_CHAIN_NAME)) else {
            continue;
        };
        let Some(&index) = known.get(&(family, table)) else { continue };
        let Some(found) = tables.get_mut(index) else { continue };
        places.insert((family, table, name), (index, found.chains.len()));
        found.chains.push(Chain { name: text(name), base: base(found.family, attributes), rules: Arc::default() });
    }
    // Rules come chain by chain: the place is looked up once a chain.
    let mut last = None;
    for (family, attributes) in raw.rules.iter().filter_map(|m| body(m)) {
        let (Some(table), Some(chain)) = (attributes.get(NFTA_RULE_TABLE), attributes.get(NFTA_RULE_CHAIN)) else {
            continue;
        };
        let key = (family, table, chain);
        let place = match last {
            Some((same, place)) if same == key => place,
            _ => match places.get(&key) {
                Some(&place) => place,
                None => continue,
            },
        };
        last = Some((key, place));
        if let Some(table) = tables.get_mut(place.0) {
            let family = table.family.ip();
            if let Some(chain) = table.chains.get_mut(place.1) {
                Arc::make_mut(&mut chain.rules).push(rule(family, attributes));
            }
        }
    }
}

fn add_sets(raw: &RawNft, tables: &mut [Table], known: &Known<'_>) {
    let mut elements: HashMap<_, Vec<&[u8]>> = HashMap::new();
    for (family, attributes) in raw.elements.iter().filter_map(|m| body(m)) {
        let table = attributes.get(NFTA_SET_ELEM_LIST_TABLE);
        let set = attributes.get(NFTA_SET_ELEM_LIST_SET);
        if let (Some(table), Some(set), Some(list)) = (table, set, attributes.get(NFTA_SET_ELEM_LIST_ELEMENTS)) {
            elements.entry((family, table, set)).or_default().push(list);
        }
    }
    for (family, attributes) in raw.sets.iter().filter_map(|m| body(m)) {
        let (Some(table), Some(name)) = (attributes.get(NFTA_SET_TABLE), attributes.get(NFTA_SET_ELEM_LIST_SET)) else {
            continue;
        };
        let Some(found) = known.get(&(family, table)).and_then(|&i| tables.get_mut(i)) else { continue };
        let lists = elements.get(&(family, table, name)).map_or(&[][..], Vec::as_slice);
        let family = found.family.ip();
        Arc::make_mut(&mut found.sets).push(set(family, text(name), attributes, Elements(lists)));
    }
}

/// Family and attributes of a message.
fn body(message: &[u8]) -> Option<(u8, Attributes<'_>)> {
    let family = *message.get(NETLINK_HEADER)?;
    Some((family, Attributes(message.get(NETLINK_HEADER + NFGENMSG..)?)))
}

fn base(family: TableFamily, attributes: Attributes<'_>) -> Option<BaseChain> {
    let at = attributes.nested(NFTA_CHAIN_HOOK)?;
    let number = at.u32(NFTA_HOOK_HOOKNUM)?;
    Some(BaseChain {
        hook: hook(family, number)?,
        kind: match attributes.get(NFTA_CHAIN_TYPE) {
            Some(name) if name.starts_with(b"nat") => ChainKind::Nat,
            Some(name) if name.starts_with(b"route") => ChainKind::Route,
            _ => ChainKind::Filter,
        },
        priority: at.u32(NFTA_HOOK_PRIORITY)? as i32,
        policy: if attributes.u32(NFTA_CHAIN_POLICY) == Some(0) { Policy::Drop } else { Policy::Accept },
        devices: devices(at),
    })
}

/// NF_INET_*, NF_ARP_* and NF_NETDEV_* of linux/netfilter.h.
fn hook(family: TableFamily, number: u32) -> Option<Hook> {
    let hooks: &[Hook] = match family {
        TableFamily::Netdev => &[Hook::Ingress, Hook::Egress],
        TableFamily::Arp => &[Hook::Input, Hook::Output, Hook::Forward],
        _ => &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting, Hook::Ingress],
    };
    hooks.get(number as usize).copied()
}

fn devices(hook: Attributes<'_>) -> Vec<String> {
    match hook.nested(NFTA_HOOK_DEVS) {
        Some(list) => list.map(device).collect(),
        None => hook.text(NFTA_HOOK_DEV).into_iter().collect(),
    }
}

/// A prefix of names has an attribute of its own, or (Linux 6.16) no NUL at its end.
fn device((kind, value): (u16, &[u8])) -> String {
    let prefix = kind == NFTA_DEVICE_PREFIX || !value.contains(&0);
    let name = text(value);
    if prefix { name + "*" } else { name }
}

fn rule(family: Option<Family>, attributes: Attributes<'_>) -> Rule {
    let mut exprs = attributes.get(NFTA_RULE_EXPRESSIONS).map(|list| expressions(family, list)).unwrap_or_default();
    let written = attributes.get(NFTA_RULE_USERDATA).and_then(user_comment);
    exprs.shrink_to_fit();
    let comment = written.or_else(|| {
        exprs.iter().find_map(|e| match e {
            Expr::XtMatch(XtMatch::Comment(text)) => Some(text.clone()),
            _ => None,
        })
    });
    Rule { handle: attributes.u64(NFTA_RULE_HANDLE), comment, exprs }
}

/// The comment in a rule's user data: type and length of a byte each, then the value (libnftnl, NFTNL_UDATA_RULE_COMMENT).
fn user_comment(mut data: &[u8]) -> Option<String> {
    while let [kind, length, rest @ ..] = data {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return Some(text(value));
        }
        data = rest.get(usize::from(*length)..)?;
    }
    None
}
