//! Statements and set elements in nft's words.

use super::value::Kind;
use crate::facts::{CmpOp, Element, ElementData, ElementKey, Expr, Verdict};

/// Kind, bytes and byte order of a key's field.
pub type Field = (Kind, usize, bool);

pub fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Continue => "continue".into(),
        Verdict::Break => "break".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Queue => "queue".into(),
        Verdict::Stolen => "stolen".into(),
        Verdict::Unknown(code) => format!("<verdict {code}>"),
    }
}

/// Expressions that need no register.
pub fn plain(expr: &Expr) -> String {
    let over = |over: bool| if over { "over " } else { "" };
    match expr {
        Expr::Notrack => "notrack".into(),
        Expr::Limit { over: inverted, text } => format!("limit rate {}{text}", over(*inverted)),
        Expr::Quota { over: inverted, bytes, .. } => format!("quota {}{bytes} bytes", over(*inverted)),
        Expr::Connlimit { over: inverted, count } => format!("ct count {}{count}", over(*inverted)),
        Expr::Queue => "queue".into(),
        Expr::Log { prefix } if prefix.is_empty() => "log".into(),
        Expr::Log { prefix } => format!("log prefix \"{prefix}\""),
        Expr::Counter => "counter".into(),
        Expr::Last => "last".into(),
        Expr::Dup => "dup".into(),
        Expr::Fwd => "fwd".into(),
        Expr::Synproxy => "synproxy".into(),
        Expr::FlowOffload { table } => format!("flow add @{table}"),
        Expr::Verdict(found) => verdict(found),
        Expr::Unknown { name } => format!("<{name}>"),
        other => format!("<{}>", format!("{other:?}").split([' ', '(']).next().unwrap_or_default().to_lowercase()),
    }
}

/// NFT_OBJECT_*
pub fn object(kind: u32) -> &'static str {
    match kind {
        1 => "counter",
        2 => "quota",
        3 => "ct helper set",
        4 => "limit",
        5 => "ct count",
        7 => "ct timeout set",
        8 => "meta secmark set",
        9 => "ct expectation set",
        10 => "synproxy",
        _ => "<object>",
    }
}

pub fn symbol(op: CmpOp) -> &'static str {
    match op {
        CmpOp::Eq => "",
        CmpOp::Neq => "!=",
        CmpOp::Lt => "<",
        CmpOp::Lte => "<=",
        CmpOp::Gt => ">",
        CmpOp::Gte => ">=",
    }
}

/// An element, with what a map gives for it.
pub fn element(element: &Element, fields: &[Field]) -> String {
    let key = match &element.key {
        ElementKey::One(key) => key_words(key, key, fields),
        ElementKey::Range(first, last) => key_words(first, last, fields),
        ElementKey::Any => "*".to_owned(),
    };
    match &element.data {
        None => key,
        Some(ElementData::Verdict(found)) => format!("{key} : {}", verdict(found)),
        Some(ElementData::Object(name)) => format!("{key} : \"{name}\""),
        Some(ElementData::Bytes(bytes)) => format!("{key} : {}", Kind::Raw.show(bytes, false)),
    }
}

/// Each field of a concatenation is padded to four bytes. An interval over numbers of the host's order is kept big-endian.
fn key_words(first: &[u8], last: &[u8], fields: &[Field]) -> String {
    let mut words = Vec::new();
    let mut at = 0;
    for (kind, len, swapped) in fields {
        let end = at + len;
        let part = |key: &[u8]| key.get(at..end.min(key.len())).unwrap_or_default().to_vec();
        words.push(kind.show_range(&part(first), &part(last), *swapped));
        at += len.next_multiple_of(4);
    }
    if words.is_empty() { Kind::Raw.show_range(first, last, false) } else { words.join(" . ") }
}
