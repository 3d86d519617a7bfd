//! A dump of nf_tables turned into the messages that make the same rules again (linux/netfilter/nf_tables.h). Pure.
//!
//! What a dump says and a new object must not is left out (handles, positions, use counts), what the kernel wants and does
//! not dump is put in (a set's transaction id, the compat header of rules with x_tables extensions).

use crate::facts::{RawNft, escape};
use crate::host::{Message, NETLINK_HEADER, NFNL_SUBSYS_NFTABLES};

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;
const NFT_MSG_NEWSET: u8 = 9;
const NFT_MSG_NEWSETELEM: u8 = 12;
const NFT_MSG_NEWOBJ: u8 = 18;
const NFT_MSG_NEWFLOWTABLE: u8 = 22;

pub(crate) const NFGENMSG: usize = 4;
pub(crate) const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const NFTA_TABLE_NAME: u16 = 1;
const NFTA_TABLE_FLAGS: u16 = 2;
const NFTA_TABLE_OWNER: u16 = 7;
const NFT_TABLE_F_DORMANT: u32 = 1;
const NFTA_SET_ID: u16 = 10;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_RULE_COMPAT: u16 = 5;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_RULE_COMPAT_PROTO: u16 = 1;
const NFTA_RULE_COMPAT_FLAGS: u16 = 2;
const NFT_RULE_COMPAT_F_INV: u32 = 2;

/// The attributes of each kind of object that are a dump's alone.
mod dumped {
    /// FLAGS (only dormant is kept), USE, HANDLE, OWNER.
    pub const TABLE: &[u16] = &[2, 3, 4, 7];
    /// HANDLE, USE, COUNTERS, FLAGS (an anonymous chain becomes a named one; offload asks hardware), ID.
    pub const CHAIN: &[u16] = &[2, 6, 8, 10, 11];
    /// ID, HANDLE, TYPE, COUNT.
    pub const SET: &[u16] = &[10, 16, 19, 20];
    /// USE, HANDLE.
    pub const OBJECT: &[u16] = &[5, 6];
    /// USE, HANDLE, FLAGS (offload asks hardware).
    pub const FLOWTABLE: &[u16] = &[4, 5, 7];
    /// HANDLE, COMPAT, POSITION, ID, POSITION_ID, CHAIN_ID.
    pub const RULE: &[u16] = &[3, 5, 6, 9, 10, 11];
}

/// The messages that make what `raw` shows, in an order in which each finds what it refers to.
pub fn messages(raw: &RawNft) -> Vec<Message> {
    let mut out = Vec::new();
    let mut add = |kind: u8, flags, body: Option<Vec<u8>>| {
        let kind = u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(kind);
        out.extend(body.map(|body| Message { kind, flags, body }));
    };
    for message in &raw.tables {
        add(NFT_MSG_NEWTABLE, NLM_F_CREATE, table(message));
    }
    for message in &raw.chains {
        add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, without(message, dumped::CHAIN));
    }
    for message in &raw.objects {
        add(NFT_MSG_NEWOBJ, NLM_F_CREATE, without(message, dumped::OBJECT));
    }
    for (place, message) in raw.sets.iter().enumerate() {
        let body = without(message, dumped::SET).map(|mut body| {
            attribute(&mut body, NFTA_SET_ID, &(place as u32 + 1).to_be_bytes());
            body
        });
        add(NFT_MSG_NEWSET, NLM_F_CREATE, body);
    }
    for message in &raw.elements {
        add(NFT_MSG_NEWSETELEM, NLM_F_CREATE, without(message, &[]).filter(|b| has_elements(b)));
    }
    for message in &raw.flowtables {
        add(NFT_MSG_NEWFLOWTABLE, NLM_F_CREATE, without(message, dumped::FLOWTABLE));
    }
    for message in &raw.rules {
        add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule(message));
    }
    out
}

/// The part of a dump that belongs to no process: an owned table is made by its owner, and by nobody else.
pub fn unowned(raw: &RawNft) -> RawNft {
    let table = |message: &[u8], name| {
        let attributes = message.get(NETLINK_HEADER + NFGENMSG..)?;
        Some((*message.get(NETLINK_HEADER)?, find(attributes, name)?.to_vec()))
    };
    let is_owned = |message: &&Vec<u8>| {
        message.get(NETLINK_HEADER + NFGENMSG..).is_some_and(|a| find(a, NFTA_TABLE_OWNER).is_some())
    };
    let owned: Vec<_> = raw.tables.iter().filter(is_owned).filter_map(|m| table(m, NFTA_TABLE_NAME)).collect();
    let rest = |list: &[Vec<u8>]| {
        // The table's name is attribute 1 of all of them.
        let free = |m: &&Vec<u8>| table(m, NFTA_TABLE_NAME).is_none_or(|name| !owned.contains(&name));
        list.iter().filter(free).cloned().collect()
    };
    RawNft {
        tables: rest(&raw.tables),
        chains: rest(&raw.chains),
        sets: rest(&raw.sets),
        elements: rest(&raw.elements),
        objects: rest(&raw.objects),
        flowtables: rest(&raw.flowtables),
        rules: rest(&raw.rules),
    }
}

/// What a message makes, for a person: `rule in t input`.
pub fn words(message: &Message) -> String {
    let what = match message.kind as u8 {
        NFT_MSG_NEWTABLE => "table",
        NFT_MSG_NEWCHAIN => "chain in",
        NFT_MSG_NEWRULE => "rule in",
        NFT_MSG_NEWSET => "set in",
        NFT_MSG_NEWSETELEM => "elements in",
        NFT_MSG_NEWOBJ => "object in",
        _ => "flowtable in",
    };
    // The table is attribute 1 of all of them; the chain or set is 2, a chain's own name 3.
    let name = if message.kind as u8 == NFT_MSG_NEWCHAIN { 3 } else { 2 };
    let attributes = message.body.get(NFGENMSG..).unwrap_or_default();
    let text =
        |kind| find(attributes, kind).map(|v| escape(&String::from_utf8_lossy(v.strip_suffix(&[0]).unwrap_or(v))));
    let mut out = format!("{what} {}", text(1).unwrap_or_default());
    if message.kind as u8 != NFT_MSG_NEWTABLE {
        out.push(' ');
        out.push_str(&text(name).unwrap_or_default());
    }
    out
}

fn table(message: &[u8]) -> Option<Vec<u8>> {
    let mut body = without(message, dumped::TABLE)?;
    let flags = number(message.get(NETLINK_HEADER + NFGENMSG..)?, NFTA_TABLE_FLAGS).unwrap_or(0);
    attribute(&mut body, NFTA_TABLE_FLAGS, &(flags & NFT_TABLE_F_DORMANT).to_be_bytes());
    Some(body)
}

fn rule(message: &[u8]) -> Option<Vec<u8>> {
    let mut left_out = dumped::RULE.to_vec();
    left_out.push(NFTA_RULE_EXPRESSIONS);
    let mut body = without(message, &left_out)?;
    let Some(list) = find(message.get(NETLINK_HEADER + NFGENMSG..)?, NFTA_RULE_EXPRESSIONS) else { return Some(body) };
    attribute(&mut body, NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, &expressions(list));
    if let Some((protocol, inverted)) = compat(list) {
        let mut nested = Vec::new();
        attribute(&mut nested, NFTA_RULE_COMPAT_PROTO, &u32::from(protocol).to_be_bytes());
        let flags = if inverted { NFT_RULE_COMPAT_F_INV } else { 0 };
        attribute(&mut nested, NFTA_RULE_COMPAT_FLAGS, &flags.to_be_bytes());
        attribute(&mut body, NFTA_RULE_COMPAT | NLA_F_NESTED, &nested);
    }
    Some(body)
}

/// The expressions as a new rule may have them. An `exthdr` that writes or takes away a TCP option is dumped with attributes
/// that the kernel does not take back (net/netfilter/nft_exthdr.c).
fn expressions(list: &[u8]) -> Vec<u8> {
    const DREG: u16 = 1;
    const SREG: u16 = 7;
    /// OFFSET, LEN, FLAGS.
    const TAKEN_AWAY: &[u16] = &[3, 4, 5];
    const WRITTEN: &[u16] = &[5];
    let mut out = Vec::with_capacity(list.len());
    for (kind, expression) in Attributes(list) {
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        let name = find(expression, NFTA_EXPR_NAME).unwrap_or_default();
        if !name.starts_with(b"exthdr") || find(data, DREG).is_some() {
            attribute(&mut out, kind, expression);
            continue;
        }
        let left_out = if find(data, SREG).is_some() { WRITTEN } else { TAKEN_AWAY };
        let mut kept = Vec::new();
        for (kind, value) in Attributes(data).filter(|(kind, _)| !left_out.contains(&(kind & NLA_TYPE_MASK))) {
            attribute(&mut kept, kind, value);
        }
        let mut made = Vec::new();
        attribute(&mut made, NFTA_EXPR_NAME, name);
        attribute(&mut made, NFTA_EXPR_DATA | NLA_F_NESTED, &kept);
        attribute(&mut out, kind, &made);
    }
    out
}

/// For a rule with x_tables extensions the protocol that it asks for (0: any), and whether it asks for any other.
fn compat(expressions: &[u8]) -> Option<(u8, bool)> {
    let mut extension = false;
    let mut protocol = (0, false);
    let mut loaded = None;
    for (_, expression) in Attributes(expressions) {
        let name = find(expression, NFTA_EXPR_NAME).unwrap_or_default();
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match name.strip_suffix(&[0]).unwrap_or(name) {
            b"match" | b"target" => extension = true,
            b"meta" | b"payload" => loaded = protocol_register(data, name.starts_with(b"meta")),
            b"cmp" => {
                if let (Some(register), Some((source, negated, value))) = (loaded, comparison(data))
                    && register == source
                    && value.len() == 1
                {
                    protocol = (value[0], negated);
                }
                loaded = None;
            }
            _ => {}
        }
    }
    extension.then_some(protocol)
}

/// The register into which a `meta` or `payload` expression loads the packet's protocol, if it does.
fn protocol_register(data: &[u8], meta: bool) -> Option<u32> {
    const NFT_META_L4PROTO: u32 = 16;
    const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
    // NFTA_META_DREG and NFTA_PAYLOAD_DREG are both 1.
    let register = number(data, 1)?;
    let loads = if meta {
        number(data, 2)? == NFT_META_L4PROTO
    } else {
        // The protocol of the IPv4 header, the next header of IPv6.
        number(data, 2)? == NFT_PAYLOAD_NETWORK_HEADER && matches!(number(data, 3)?, 9 | 6) && number(data, 4)? == 1
    };
    loads.then_some(register)
}

/// A `cmp` for equality: register, negated, value.
fn comparison(data: &[u8]) -> Option<(u32, bool, &[u8])> {
    let negated = match number(data, 2)? {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some((number(data, 1)?, negated, find(find(data, 3)?, 1)?))
}

fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind)?.first_chunk().map(|b| u32::from_be_bytes(*b))
}

pub(crate) fn find(attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(attributes).find(|(kind, _)| kind & NLA_TYPE_MASK == wanted).map(|(_, value)| value)
}

/// The message's body without the attributes named.
fn without(message: &[u8], left_out: &[u16]) -> Option<Vec<u8>> {
    let mut body = message.get(NETLINK_HEADER..NETLINK_HEADER + NFGENMSG)?.to_vec();
    // The resource id of a dump is its generation; in a batch it must be 0.
    body[2] = 0;
    body[3] = 0;
    for (kind, value) in Attributes(message.get(NETLINK_HEADER + NFGENMSG..)?) {
        if !left_out.contains(&(kind & NLA_TYPE_MASK)) {
            attribute(&mut body, kind, value);
        }
    }
    Some(body)
}

fn has_elements(body: &[u8]) -> bool {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    find(body.get(NFGENMSG..).unwrap_or_default(), NFTA_SET_ELEM_LIST_ELEMENTS).is_some_and(|list| !list.is_empty())
}

pub(crate) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    // A value that came in an attribute fits into one again, and those made here are small.
    body.extend(((4 + value.len()) as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Type (with its flag bits) and value of each attribute; ends at the first that does not fit.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(self.0.get(2..4)?.try_into().ok()?);
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        attribute(&mut out, kind, &parts.concat());
        out
    }

    fn plain(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        attribute(&mut out, kind, value);
        out
    }

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        nested(1, &[plain(1, format!("{name}\0").as_bytes()), nested(2, data)])
    }

    fn message(parts: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; NETLINK_HEADER], vec![2, 0, 0x12, 0x34], parts.concat()].concat()
    }

    fn protocol_is(value: u8, op: u32) -> [Vec<u8>; 2] {
        [
            expression("meta", &[plain(1, &8u32.to_be_bytes()), plain(2, &16u32.to_be_bytes())]),
            expression(
                "cmp",
                &[plain(1, &8u32.to_be_bytes()), plain(2, &op.to_be_bytes()), nested(3, &[plain(1, &[value])])],
            ),
        ]
    }

    #[test]
    fn a_rule_with_an_extension_gets_the_protocol_that_it_asks_for() {
        for (op, inverted) in [(0, false), (1, true)] {
            let [load, cmp] = protocol_is(6, op);
            let list = [load, cmp, expression("match", &[plain(1, b"tcp\0")])].concat();
            assert_eq!(compat(&list), Some((6, inverted)));
        }
        let [load, cmp] = protocol_is(6, 0);
        assert_eq!(compat(&[load, cmp].concat()), None, "native expressions need none");
        assert_eq!(compat(&expression("target", &[])), Some((0, false)));
    }

    #[test]
    fn a_rule_loses_its_handle_and_position() {
        let raw = RawNft {
            rules: vec![message(&[plain(1, b"t\0"), plain(3, &[0; 8]), plain(6, &[0; 8]), plain(7, b"kept")])],
            ..RawNft::default()
        };
        let made = messages(&raw);
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].body, [vec![2, 0, 0, 0], plain(1, b"t\0"), plain(7, b"kept")].concat());
    }

    #[test]
    fn every_set_gets_an_id_of_its_own() {
        let raw =
            RawNft { sets: vec![message(&[plain(2, b"a\0")]), message(&[plain(2, b"b\0")])], ..RawNft::default() };
        let ids: Vec<_> = messages(&raw).iter().map(|m| number(&m.body[4..], NFTA_SET_ID)).collect();
        assert_eq!(ids, [Some(1), Some(2)]);
    }

    #[test]
    fn a_table_keeps_dormant_and_loses_its_owner() {
        let raw = RawNft {
            tables: vec![message(&[plain(1, b"t\0"), plain(2, &3u32.to_be_bytes()), plain(7, &[0, 0, 0, 9])])],
            ..RawNft::default()
        };
        let made = messages(&raw);
        assert_eq!(number(&made[0].body[4..], 2), Some(1));
        assert_eq!(find(&made[0].body[4..], 7), None);
    }

    #[test]
    fn an_owned_table_is_left_to_its_owner() {
        let name = |name: &[u8]| message(&[plain(1, name)]);
        let raw = RawNft {
            tables: vec![message(&[plain(1, b"t\0"), plain(7, &[0, 0, 0, 9])]), name(b"u\0")],
            rules: vec![name(b"t\0"), name(b"u\0")],
            ..RawNft::default()
        };
        let rest = unowned(&raw);
        assert_eq!((rest.tables, rest.rules), (vec![name(b"u\0")], vec![name(b"u\0")]));
    }

    proptest! {
        #[test]
        fn any_dump_is_turned_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let one = vec![bytes];
            let raw = RawNft {
                tables: one.clone(), chains: one.clone(), sets: one.clone(), elements: one.clone(),
                objects: one.clone(), flowtables: one.clone(), rules: one,
            };
            let _ = messages(&raw);
        }
    }
}
