//! Sets and maps of nf_tables and their elements.

use super::nft_expr::{data_bytes, expression, expressions, verdict};
use super::nlattr::Attributes;
use crate::facts::{Bytes, Element, ElementData, ElementKey, Expr, Family, Set};

const NFT_SET_INTERVAL: u32 = 0x4;
const NFT_SET_MAP: u32 = 0x8;
const NFT_SET_TIMEOUT: u32 = 0x10;
const NFT_SET_OBJECT: u32 = 0x40;
const NFTA_SET_FLAGS: u16 = 3;
const NFTA_SET_KEY_LEN: u16 = 5;
const NFTA_SET_DATA_TYPE: u16 = 6;
const NFTA_SET_DATA_LEN: u16 = 7;
const NFTA_SET_DESC: u16 = 9;
const NFTA_SET_OBJ_TYPE: u16 = 15;
const NFTA_SET_EXPR: u16 = 17;
const NFTA_SET_EXPRESSIONS: u16 = 18;
const NFTA_SET_DESC_CONCAT: u16 = 2;
const NFTA_SET_FIELD_LEN: u16 = 1;
const NFT_DATA_VERDICT: u32 = 0xffff_ff00;

const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_SET_ELEM_FLAGS: u16 = 3;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFTA_SET_ELEM_EXPR: u16 = 7;
const NFTA_SET_ELEM_OBJREF: u16 = 9;
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_SET_ELEM_EXPRESSIONS: u16 = 11;
const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
const NFT_SET_ELEM_CATCHALL: u32 = 2;

/// The NFTA_SET_ELEM_LIST_ELEMENTS of each message of one set's dump.
pub struct Elements<'a>(pub &'a [&'a [u8]]);

pub fn set(family: Option<Family>, name: String, attributes: Attributes<'_>, elements: Elements<'_>) -> Set {
    let flags = attributes.u32(NFTA_SET_FLAGS).unwrap_or(0);
    let key_len = attributes.u32(NFTA_SET_KEY_LEN).unwrap_or(0) as usize;
    let fields = attributes.nested(NFTA_SET_DESC).and_then(|d| d.nested(NFTA_SET_DESC_CONCAT));
    let fields: Vec<usize> = fields
        .into_iter()
        .flatten()
        .filter_map(|(_, field)| Attributes(field).u32(NFTA_SET_FIELD_LEN))
        .map(|length| length as usize)
        .collect();
    let verdicts = attributes.u32(NFTA_SET_DATA_TYPE) == Some(NFT_DATA_VERDICT);
    let exprs = match attributes.get(NFTA_SET_EXPRESSIONS) {
        Some(list) => expressions(family, list),
        None => attributes.get(NFTA_SET_EXPR).map(|one| expression(family, one)).into_iter().collect(),
    };
    let is_interval = flags & NFT_SET_INTERVAL != 0;
    let read = elements.0.iter().flat_map(|list| Attributes(list)).filter_map(|(_, e)| element(family, e));
    Set {
        name,
        flags,
        key_len,
        data_len: if verdicts { 0 } else { attributes.u32(NFTA_SET_DATA_LEN).unwrap_or(0) as usize },
        object: attributes.u32(NFTA_SET_OBJ_TYPE),
        is_map: flags & (NFT_SET_MAP | NFT_SET_OBJECT) != 0,
        is_interval,
        has_timeout: flags & NFT_SET_TIMEOUT != 0,
        elements: if is_interval && fields.is_empty() { intervals(read) } else { read.map(Raw::plain).collect() },
        fields,
        exprs,
    }
}

/// An element as it is dumped: intervals are two of them, the second one marked as an end, which is not included.
struct Raw {
    key: Bytes,
    key_end: Option<Bytes>,
    flags: u32,
    data: Option<ElementData>,
    exprs: Vec<Expr>,
}

impl Raw {
    fn is_end(&self) -> bool {
        self.flags & NFT_SET_ELEM_INTERVAL_END != 0
    }

    fn plain(self) -> Element {
        let key = match self.key_end {
            _ if self.flags & NFT_SET_ELEM_CATCHALL != 0 => ElementKey::Any,
            Some(end) if end != self.key => ElementKey::Range(self.key, end),
            _ => ElementKey::One(self.key),
        };
        Element { key, data: self.data, exprs: self.exprs }
    }
}

/// None for what has expired.
fn element(family: Option<Family>, value: &[u8]) -> Option<Raw> {
    let attributes = Attributes(value);
    if attributes.u64(NFTA_SET_ELEM_EXPIRATION) == Some(0) {
        return None;
    }
    let exprs = match attributes.get(NFTA_SET_ELEM_EXPRESSIONS) {
        Some(list) => expressions(family, list),
        None => attributes.get(NFTA_SET_ELEM_EXPR).map(|one| expression(family, one)).into_iter().collect(),
    };
    let data = match attributes.text(NFTA_SET_ELEM_OBJREF) {
        Some(object) => Some(ElementData::Object(object)),
        None => attributes.get(NFTA_SET_ELEM_DATA).and_then(|data| match verdict(data) {
            Some(verdict) => Some(ElementData::Verdict(verdict)),
            None => data_bytes(data).map(ElementData::Bytes),
        }),
    };
    Some(Raw {
        key: attributes.get(NFTA_SET_ELEM_KEY).and_then(data_bytes).unwrap_or_default(),
        key_end: attributes.get(NFTA_SET_ELEM_KEY_END).and_then(data_bytes),
        flags: attributes.u32(NFTA_SET_ELEM_FLAGS).unwrap_or(0),
        data,
        exprs,
    })
}

/// Starts and ends, dumped in any order, put together. The keys are big-endian: nft swaps those of the host's order. A
/// start that no end follows runs up to the next start, the last one up to the highest key.
fn intervals(elements: impl Iterator<Item = Raw>) -> Vec<Element> {
    let (mut out, mut bounds) = (Vec::new(), Vec::new());
    for element in elements {
        if element.flags & NFT_SET_ELEM_CATCHALL != 0 || element.key_end.is_some() {
            out.push(element.plain());
        } else {
            bounds.push(element);
        }
    }
    // Where an interval ends at the start of the next one, the end comes first.
    bounds.sort_by(|a, b| a.key.cmp(&b.key).then(b.is_end().cmp(&a.is_end())));
    let mut bounds = bounds.into_iter().peekable();
    while let Some(start) = bounds.next() {
        if start.is_end() {
            continue;
        }
        let last = match bounds.peek() {
            Some(next) => predecessor(&next.key),
            None => Some(Bytes::from_elem(0xff, start.key.len())),
        };
        if let Some(last) = last.filter(|last| *last >= start.key) {
            out.push(Raw { key_end: Some(last), ..start }.plain());
        }
    }
    out
}

/// The big-endian number before; None before zero.
fn predecessor(key: &[u8]) -> Option<Bytes> {
    let mut out = Bytes::from_slice(key);
    for byte in out.iter_mut().rev() {
        let (less, borrow) = byte.overflowing_sub(1);
        *byte = less;
        if !borrow {
            return Some(out);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(key: u8, end: bool) -> Raw {
        Raw { key: vec![0, key].into(), key_end: None, flags: u32::from(end), data: None, exprs: Vec::new() }
    }

    fn ranges(bounds: Vec<Raw>) -> Vec<(u8, u16)> {
        let range = |e: Element| match e.key {
            ElementKey::Range(a, b) => (a[1], u16::from_be_bytes([b[0], b[1]])),
            ElementKey::One(a) => (a[1], a[1].into()),
            ElementKey::Any => panic!("catch-all"),
        };
        intervals(bounds.into_iter()).into_iter().map(range).collect()
    }

    #[test]
    fn starts_and_ends_in_any_order_become_inclusive_ranges() {
        let descending = vec![bound(40, false), bound(20, true), bound(20, false), bound(21, true), bound(10, false)];
        assert_eq!(ranges(descending), [(10, 19), (20, 20), (40, 0xffff)]);
        assert_eq!(ranges(vec![bound(0, true), bound(5, false), bound(9, true)]), [(5, 8)]);
    }
}
