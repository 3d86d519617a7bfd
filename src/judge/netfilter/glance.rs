//! Rules that do not match, told at a glance: most are about other ports, protocols, interfaces, or the other family.

use super::bytes::Byte;
use super::cond::Cond;
use super::flow::Packet;
use super::load::{Loaded, byte};
use super::scan::is_neutral;
use super::walk::{Site, Walk};
use crate::facts::{BitwiseOp, CmpOp, Expr, PayloadBase, Reg, Rule, XtMatch};

/// Bytes that are the same for every source, in the register that they were loaded into.
#[derive(Clone, Copy)]
struct Held {
    reg: Reg,
    bytes: [u8; WIDTH],
    len: usize,
}

const WIDTH: usize = 16;

impl Held {
    fn of(&self, reg: Reg, len: usize) -> Option<&[u8]> {
        self.bytes[..self.len].get(..len).filter(|_| self.reg == reg)
    }
}

impl<'a> Walk<'a> {
    /// Whether a condition that every source fails keeps the rule from matching; all that stands before it only looks.
    /// False says nothing.
    pub fn surely_misses(&self, site: &Site<'a>, packet: &Packet, rule: &'a Rule) -> bool {
        let mut held: Option<Held> = None;
        for expr in &rule.exprs {
            let known = |reg: Reg, len: usize| held.as_ref().and_then(|h| h.of(reg, len));
            match expr {
                Expr::Meta { dreg, key } => match self.meta(packet, site.hook, *key) {
                    Loaded::Break => return true,
                    loaded => held = constant(*dreg, &loaded),
                },
                Expr::Ct { dreg, key, dir } => match self.ct(packet, *key, *dir) {
                    Loaded::Break => return true,
                    loaded => held = constant(*dreg, &loaded),
                },
                Expr::Payload { dreg, base, offset, len } => held = field(packet, *dreg, *base, *offset, *len),
                Expr::Bitwise { sreg, dreg, len, op: BitwiseOp::MaskXor { mask, xor } } => {
                    held = held.filter(|h| h.reg == *sreg && sreg == dreg && h.len == *len as usize).map(|mut h| {
                        for (n, byte) in h.bytes[..h.len].iter_mut().enumerate() {
                            *byte = (*byte & mask.get(n).unwrap_or(&0xff)) ^ xor.get(n).unwrap_or(&0);
                        }
                        h
                    });
                }
                Expr::Cmp { sreg, op, data } => {
                    if known(*sreg, data.len()).is_some_and(|bytes| !compares(bytes, *op, data)) {
                        return true;
                    }
                }
                Expr::Range { sreg, negate, from, to } => {
                    let inside = |bytes| from.as_slice() <= bytes && bytes <= to.as_slice();
                    if from.len() == to.len() && known(*sreg, from.len()).is_some_and(|b| inside(b) == *negate) {
                        return true;
                    }
                }
                Expr::Lookup { set, sreg, dreg: None, negate: false } => {
                    if let Some(set) = self.set(set)
                        && known(*sreg, set.key_len).is_some_and(|key| self.lacks(packet, site.table, set, key))
                    {
                        return true;
                    }
                }
                Expr::Lookup { dreg: None, .. } => {}
                Expr::XtMatch(found) if self.xt_surely_misses(packet, site, found) => return true,
                Expr::XtMatch(found) if only_looks(found) => {}
                expr if is_neutral(expr) => {}
                _ => return false,
            }
        }
        false
    }

    fn xt_surely_misses(&self, packet: &Packet, site: &Site<'_>, found: &XtMatch) -> bool {
        match found {
            XtMatch::Header { .. } => !self.fits(packet, found),
            _ => is_fixed(found) && self.xt_match(packet, site.hook, found) == Cond::Never,
        }
    }
}

/// Matches that have to do with neither sources nor what came before.
fn is_fixed(found: &XtMatch) -> bool {
    matches!(
        found,
        XtMatch::Tcp { .. }
            | XtMatch::Udp { .. }
            | XtMatch::Multiport { .. }
            | XtMatch::Conntrack(_)
            | XtMatch::Icmp { .. }
            | XtMatch::Icmp6 { .. }
            | XtMatch::Mark { .. }
            | XtMatch::Pkttype { .. }
            | XtMatch::Comment(_)
    )
}

fn only_looks(found: &XtMatch) -> bool {
    is_fixed(found) || matches!(found, XtMatch::Header { .. } | XtMatch::Iprange { .. })
}

fn constant(reg: Reg, loaded: &Loaded) -> Option<Held> {
    match loaded {
        Loaded::Const(bytes, len) => Some(Held { reg, bytes: *bytes, len: *len }),
        _ => None,
    }
}

fn field(packet: &Packet, reg: Reg, base: PayloadBase, offset: u32, len: u32) -> Option<Held> {
    if !matches!(base, PayloadBase::Network | PayloadBase::Transport) || len as usize > WIDTH {
        return None;
    }
    let mut held = Held { reg, bytes: [0; WIDTH], len: len as usize };
    for (at, slot) in (offset..offset.checked_add(len)?).zip(&mut held.bytes) {
        let Some(Byte::Const(byte)) = byte(packet, base, at) else { return None };
        *slot = byte;
    }
    Some(held)
}

/// As memcmp does.
fn compares(bytes: &[u8], op: CmpOp, data: &[u8]) -> bool {
    match op {
        CmpOp::Eq => bytes == data,
        CmpOp::Neq => bytes != data,
        CmpOp::Lt => bytes < data,
        CmpOp::Lte => bytes <= data,
        CmpOp::Gt => bytes > data,
        CmpOp::Gte => bytes >= data,
    }
}
