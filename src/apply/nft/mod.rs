//! Rules written to and taken from nf_tables by netlink batches that the kernel refuses when somebody was faster
//! (linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h).

mod encode;

use thiserror::Error;

use crate::facts::{Expr, TableFamily, escape};
use crate::host::{Message, NETLINK_HEADER, NFNL_SUBSYS_NFTABLES, Netlink, NetlinkError};
use crate::plan::{TableInserts, accept::tag};
use crate::rehearse::replay::{Attributes, NFGENMSG, NLA_F_NESTED, attribute, find};
use encode::{comment, expression};

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFT_MSG_GETTABLE: u8 = 1;
const NFT_MSG_DELTABLE: u8 = 2;
const NFT_MSG_GETCHAIN: u8 = 4;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_DELRULE: u8 = 8;
const NFT_MSG_GETGEN: u8 = 16;

const NFTA_GEN_ID: u16 = 1;
const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_OWNER: u16 = 7;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const NFTA_RULE_TABLE: u16 = 1;
const NFTA_RULE_CHAIN: u16 = 2;
const NFTA_RULE_HANDLE: u16 = 3;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_POSITION: u16 = 6;
const NFTA_RULE_USERDATA: u16 = 7;
const NFTA_RULE_ID: u16 = 9;
const NFTA_RULE_POSITION_ID: u16 = 10;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
/// `enum nftnl_udata_rule_types` of libnftnl: type, length with the final NUL, text.
const UDATA_COMMENT: u8 = 0;

#[derive(Debug, Error)]
pub enum NftError {
    #[error("talk to nf_tables about {what}")]
    Netlink {
        what: String,
        #[source]
        source: NetlinkError,
    },
    #[error("{place} has {length} rules, and the insert is meant for place {index}")]
    Place { place: String, length: usize, index: usize },
    #[error("a rule with {0} cannot be written")]
    Expression(String),
    #[error("the kernel does not say which generation its rules are of")]
    Generation,
}

impl NftError {
    /// Whether somebody else changed the rules since they were read.
    pub fn is_overtaken(&self) -> bool {
        matches!(self, NftError::Netlink { source: NetlinkError::Overtaken, .. } | NftError::Place { .. })
    }
}

/// A rule that stands in a chain.
struct Standing {
    handle: u64,
    tagged: bool,
}

/// The rule beside which a new one is put: one that stands, or one of the same batch.
#[derive(Clone, Copy)]
enum Beside {
    Handle(u64),
    Id(u32),
}

/// The generation of the calling thread's nf_tables (NFTA_GEN_ID).
pub fn generation() -> Result<u32, NftError> {
    let mut netlink = open("the generation")?;
    read_generation(&mut netlink)
}

/// Whether the table is one that `iptables` or `ip6tables` keeps: see [`crate::facts::Table::is_iptables`].
pub fn kept_by_iptables(family: TableFamily, table: &str) -> Result<bool, NftError> {
    let known = matches!(table, "raw" | "mangle" | "nat" | "filter" | "security");
    if !known || !matches!(family, TableFamily::Ip | TableFamily::Ip6) {
        return Ok(false);
    }
    let mut netlink = open(table)?;
    let body = vec![family.nfproto(), 0, 0, 0];
    let chains = dump(&mut netlink, NFT_MSG_GETCHAIN, body, table)?;
    let own = |chain: &&Vec<u8>| text(attributes(chain), NFTA_CHAIN_TABLE) == table.as_bytes();
    Ok(chains.iter().filter(own).all(|chain| {
        let attributes = attributes(chain);
        let Some(hook) = find(attributes, NFTA_CHAIN_HOOK) else { return true };
        let name: &[u8] = match number(hook, NFTA_HOOK_HOOKNUM) {
            Some(0) => b"PREROUTING",
            Some(1) => b"INPUT",
            Some(2) => b"FORWARD",
            Some(3) => b"OUTPUT",
            Some(4) => b"POSTROUTING",
            _ => return false,
        };
        text(attributes, NFTA_CHAIN_NAME) == name
    }))
}

/// Inserts the rules in one batch. With `generation` the batch is bound to it; without, to the one that is there now. A chain
/// that has rules of this repair already is left as it is.
pub fn insert(generation: Option<u32>, id: &str, at: &TableInserts) -> Result<(), NftError> {
    const TRIES: usize = 5;
    let mut tried = 0;
    loop {
        tried += 1;
        match insert_once(generation, id, at) {
            Err(error) if error.is_overtaken() && generation.is_none() && tried < TRIES => {}
            result => return result,
        }
    }
}

fn insert_once(generation: Option<u32>, id: &str, at: &TableInserts) -> Result<(), NftError> {
    let what = format!("{} {}", at.family, escape(&at.table));
    let mut netlink = open(&what)?;
    let bound = match generation {
        Some(generation) => generation,
        None => read_generation(&mut netlink)?,
    };
    let mut chains: Vec<(&str, Vec<Beside>)> = Vec::new();
    let mut messages = Vec::new();
    for insert in &at.inserts {
        let place = match chains.iter().position(|(name, _)| *name == insert.chain) {
            Some(place) => place,
            None => {
                let standing = rules(&mut netlink, at.family, &at.table, Some(&insert.chain), id)?;
                if standing.iter().any(|rule| rule.tagged) {
                    continue;
                }
                chains.push((&insert.chain, standing.iter().map(|rule| Beside::Handle(rule.handle)).collect()));
                chains.len() - 1
            }
        };
        let Some((_, chain)) = chains.get_mut(place) else { continue };
        if insert.index > chain.len() {
            let place = format!("{what} {}", escape(&insert.chain));
            return Err(NftError::Place { place, length: chain.len(), index: insert.index });
        }
        for (offset, deed) in insert.accept.deeds().iter().enumerate() {
            let index = insert.index + offset;
            let new = messages.len() as u32 + 1;
            let (flags, beside) = where_to(chain, index);
            let exprs = insert.accept.nft(at.family, deed);
            messages.push(new_rule(at, &insert.chain, id, new, flags, beside, &exprs)?);
            chain.insert(index, Beside::Id(new));
        }
    }
    netlink.batch(Some(bound), &messages).map_err(|source| NftError::Netlink { what, source })
}

/// Deletes every rule of repair `id` from a table, in one batch; gives their number. A table that is gone has none.
pub fn remove(id: &str, family: TableFamily, table: &str) -> Result<usize, NftError> {
    const TRIES: usize = 5;
    let what = format!("{family} {}", escape(table));
    let mut tried = 0;
    loop {
        tried += 1;
        let mut netlink = open(&what)?;
        let bound = read_generation(&mut netlink)?;
        let mut messages = Vec::new();
        for rule in rule_messages(&mut netlink, family, table, None)? {
            let attributes = attributes(&rule);
            let Some(handle) = find(attributes, NFTA_RULE_HANDLE).filter(|_| is_tagged(attributes, id)) else {
                continue;
            };
            let mut body = vec![family.nfproto(), 0, 0, 0];
            attribute(&mut body, NFTA_RULE_TABLE, &named(table));
            attribute(&mut body, NFTA_RULE_CHAIN, find(attributes, NFTA_RULE_CHAIN).unwrap_or_default());
            attribute(&mut body, NFTA_RULE_HANDLE, handle);
            messages.push(Message { kind: kind(NFT_MSG_DELRULE), flags: 0, body });
        }
        match netlink.batch(Some(bound), &messages) {
            Ok(()) => return Ok(messages.len()),
            Err(NetlinkError::Overtaken) if tried < TRIES => {}
            Err(source) => return Err(NftError::Netlink { what, source }),
        }
    }
}

/// The tables of the calling thread's namespace, but for those that a process owns.
pub fn tables() -> Result<Vec<(TableFamily, String)>, NftError> {
    let mut netlink = open("its tables")?;
    let messages = dump(&mut netlink, NFT_MSG_GETTABLE, vec![0, 0, 0, 0], "its tables")?;
    let table = |message: &Vec<u8>| {
        let family = TableFamily::from_nfproto(*message.get(NETLINK_HEADER)?)?;
        Some((family, String::from_utf8_lossy(text(attributes(message), NFTA_TABLE_NAME)).into_owned()))
    };
    let free = |message: &&Vec<u8>| find(attributes(message), NFTA_TABLE_OWNER).is_none();
    Ok(messages.iter().filter(free).filter_map(table).collect())
}

/// Takes away every table, and puts in their place what `messages` make: all in one commit. Tables that a process owns stay.
pub fn replace(messages: &[Message]) -> Result<(), NftError> {
    let mut all = vec![Message { kind: kind(NFT_MSG_DELTABLE), flags: 0, body: vec![0, 0, 0, 0] }];
    all.extend_from_slice(messages);
    let what = "all of its rules".to_owned();
    open(&what)?.batch(None, &all).map_err(|source| NftError::Netlink { what, source })
}

/// How many rules of repair `id` the table has.
pub fn count(id: &str, family: TableFamily, table: &str) -> Result<usize, NftError> {
    let mut netlink = open(table)?;
    Ok(rules(&mut netlink, family, table, None, id)?.iter().filter(|rule| rule.tagged).count())
}

/// The flags and the neighbour with which a new rule comes to stand at `index`. Ids of rules of the same batch are the last
/// resort: kernels before 5.1 do not know them.
fn where_to(chain: &[Beside], index: usize) -> (u16, Option<Beside>) {
    let before = index.checked_sub(1).and_then(|i| chain.get(i)).copied();
    match (chain.get(index).copied(), before) {
        (Some(Beside::Handle(next)), _) => (NLM_F_CREATE, Some(Beside::Handle(next))),
        (_, None) => (NLM_F_CREATE, None),
        (None, _) => (NLM_F_CREATE | NLM_F_APPEND, None),
        (Some(_), Some(Beside::Handle(before))) => (NLM_F_CREATE | NLM_F_APPEND, Some(Beside::Handle(before))),
        (Some(next), _) => (NLM_F_CREATE, Some(next)),
    }
}

fn new_rule(
    at: &TableInserts,
    chain: &str,
    id: &str,
    new: u32,
    flags: u16,
    beside: Option<Beside>,
    exprs: &[Expr],
) -> Result<Message, NftError> {
    let mut body = vec![at.family.nfproto(), 0, 0, 0];
    attribute(&mut body, NFTA_RULE_TABLE, &named(&at.table));
    attribute(&mut body, NFTA_RULE_CHAIN, &named(chain));
    match beside {
        Some(Beside::Handle(handle)) => attribute(&mut body, NFTA_RULE_POSITION, &handle.to_be_bytes()),
        Some(Beside::Id(id)) => attribute(&mut body, NFTA_RULE_POSITION_ID, &id.to_be_bytes()),
        None => {}
    }
    attribute(&mut body, NFTA_RULE_ID, &new.to_be_bytes());
    let mut list = Vec::new();
    for expr in exprs {
        attribute(&mut list, NFTA_LIST_ELEM | NLA_F_NESTED, &expression(expr)?);
    }
    attribute(&mut body, NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, &list);
    attribute(&mut body, NFTA_RULE_USERDATA, &comment(&tag(id)));
    Ok(Message { kind: kind(NFT_MSG_NEWRULE), flags, body })
}

fn rules(
    netlink: &mut Netlink,
    family: TableFamily,
    table: &str,
    chain: Option<&str>,
    id: &str,
) -> Result<Vec<Standing>, NftError> {
    let standing = |message: &Vec<u8>| {
        let attributes = attributes(message);
        let handle = find(attributes, NFTA_RULE_HANDLE)?.first_chunk().map(|b| u64::from_be_bytes(*b))?;
        Some(Standing { handle, tagged: is_tagged(attributes, id) })
    };
    Ok(rule_messages(netlink, family, table, chain)?.iter().filter_map(standing).collect())
}

/// The rules of a table, or of one of its chains, in their order; none where there is no such table.
fn rule_messages(
    netlink: &mut Netlink,
    family: TableFamily,
    table: &str,
    chain: Option<&str>,
) -> Result<Vec<Vec<u8>>, NftError> {
    let mut body = vec![family.nfproto(), 0, 0, 0];
    attribute(&mut body, NFTA_RULE_TABLE, &named(table));
    if let Some(chain) = chain {
        attribute(&mut body, NFTA_RULE_CHAIN, &named(chain));
    }
    let mut messages = dump(netlink, NFT_MSG_GETRULE, body, table)?;
    // Kernels before 4.13 dump more than was asked for.
    messages.retain(|message| {
        let attributes = attributes(message);
        text(attributes, NFTA_RULE_TABLE) == table.as_bytes()
            && chain.is_none_or(|chain| text(attributes, NFTA_RULE_CHAIN) == chain.as_bytes())
    });
    Ok(messages)
}

/// Whether a rule carries the tag: as nft's comment, or in the `comment` match of iptables.
fn is_tagged(attributes: &[u8], id: &str) -> bool {
    let tag = tag(id);
    let mut userdata = find(attributes, NFTA_RULE_USERDATA).unwrap_or_default();
    while let [kind, length, rest @ ..] = userdata {
        let length = usize::from(*length);
        let value = rest.get(..length).unwrap_or_default();
        if *kind == UDATA_COMMENT && value.strip_suffix(&[0]).unwrap_or(value) == tag.as_bytes() {
            return true;
        }
        userdata = rest.get(length..).unwrap_or_default();
    }
    let list = find(attributes, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    Attributes(list).any(|(_, expression)| {
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        // NFTA_MATCH_NAME, NFTA_MATCH_INFO: `struct xt_comment_info`, text up to a NUL.
        let info = find(data, 3).unwrap_or_default();
        text(expression, NFTA_EXPR_NAME) == b"match"
            && text(data, 1) == b"comment"
            && info.split(|b| *b == 0).next() == Some(tag.as_bytes())
    })
}

fn open(what: &str) -> Result<Netlink, NftError> {
    Netlink::netfilter().map_err(|source| NftError::Netlink { what: escape(what), source })
}

fn read_generation(netlink: &mut Netlink) -> Result<u32, NftError> {
    // This one is no dump: the kernel answers once, and the acknowledgement ends the wait.
    const NLM_F_ACK: u16 = 4;
    let request = Message { kind: kind(NFT_MSG_GETGEN), flags: NLM_F_ACK, body: vec![0, 0, 0, 0] };
    let answer =
        netlink.dump(&request).map_err(|source| NftError::Netlink { what: "its generation".into(), source })?;
    answer.first().and_then(|message| number(attributes(message), NFTA_GEN_ID)).ok_or(NftError::Generation)
}

fn dump(netlink: &mut Netlink, message: u8, body: Vec<u8>, what: &str) -> Result<Vec<Vec<u8>>, NftError> {
    const TRIES: usize = 5;
    let request = Message { kind: kind(message), flags: 0, body };
    let mut tried = 0;
    loop {
        tried += 1;
        match netlink.dump(&request) {
            Err(NetlinkError::Interrupted) if tried < TRIES => {}
            Err(NetlinkError::Refused { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            result => return result.map_err(|source| NftError::Netlink { what: escape(what), source }),
        }
    }
}

fn kind(message: u8) -> u16 {
    u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(message)
}

fn attributes(message: &[u8]) -> &[u8] {
    message.get(NETLINK_HEADER + NFGENMSG..).unwrap_or_default()
}

/// An attribute's text without its final NUL.
fn text(attributes: &[u8], kind: u16) -> &[u8] {
    let value = find(attributes, kind).unwrap_or_default();
    value.strip_suffix(&[0]).unwrap_or(value)
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

fn named(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}
