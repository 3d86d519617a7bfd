//! Rules told at a glance: most do not match, for they are about other ports, protocols, interfaces, sources or the other family.
//!
//! What the tests of a chain look at is the same in most rules, and is loaded once for a packet. A rule of which the tests do not
//! tell all is looked at as a whole.

use std::cell::RefCell;
use std::rc::Rc;

use super::bytes::Byte;
use super::cond::Cond;
use super::digest::{Digest, Load, Source, Test, WIDTH, beyond};
use super::flow::{Fork, Packet};
use super::load::{Loaded, byte};
use super::walk::{Site, Walk};
use crate::facts::{AddrSet, CmpOp, Family, PayloadBase, XtMatch};

/// What is there in a packet.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// As many bytes as the second number says, the same for every client: the first of them on top, and zeros below.
    Same(u128, u8),
    /// The first bytes of the client's address, and how many of their bits count.
    Client { len: u8, bits: u8 },
    /// The load breaks the rule.
    Breaks,
    /// It takes a closer look.
    Open,
}

/// What the tests see in one packet.
pub struct View {
    pub packet: Packet,
    values: RefCell<Vec<Value>>,
}

pub enum Glance {
    /// It does not match.
    Misses,
    /// For these sources of the fork (None: all) it matches as far as this expression, which does something.
    Holds(Option<AddrSet>, usize),
    /// The tests do not tell.
    Closer,
}

impl<'a> Walk<'a> {
    /// What the tests see in the packets of these forks.
    pub fn views(&mut self, forks: &[Fork]) -> Vec<Rc<View>> {
        let view = |fork: &Fork| match self.views.iter().find(|view| view.packet == fork.packet) {
            Some(known) => known.clone(),
            None => {
                let new = Rc::new(View { packet: fork.packet.clone(), values: RefCell::default() });
                self.views.push(new.clone());
                new
            }
        };
        forks.iter().map(view).collect()
    }

    /// What the tests of the rule where the walk stands tell.
    pub fn glance(&self, site: &Site<'a>, digest: &Digest<'a>, index: usize, fork: &Fork, view: &View) -> Glance {
        let packet = &fork.packet;
        let (tests, deed) = digest.rule(index);
        let mut values = view.values.borrow_mut();
        let mut all = true;
        // The sources that are left, as far as tests speak of the client.
        let mut part: Option<(u128, u128)> = None;
        for test in tests {
            let told = match test {
                Test::Xt(found) => self.xt_at_a_glance(packet, site, found),
                Test::Is { source, .. } | Test::Between { source, .. } | Test::In { source, .. } => {
                    match (self.value(&mut values, site, packet, usize::from(*source)), test) {
                        (Value::Breaks, _) => Some(false),
                        (Value::Same(value, have), Test::Is { op, len, data, .. }) if have >= *len => {
                            Some(compares(value & !beyond(*len), *op, data.number()))
                        }
                        (Value::Same(value, have), Test::Between { negate, len, from, to, .. }) if have >= *len => {
                            let first = ((value & !beyond(*len)) >> 64) as u64;
                            Some((*from..=*to).contains(&first) != *negate)
                        }
                        (Value::Same(value, have), Test::In { set, negate, .. }) => {
                            let set = self.rules.set_at(*set as usize).filter(|set| usize::from(have) >= set.key_len);
                            let bytes = value.to_be_bytes();
                            let holds = set.and_then(|s| self.holds(packet, site.table, s, bytes.get(..s.key_len)?));
                            holds.map(|holds| holds != *negate)
                        }
                        (Value::Client { len: have, bits }, Test::Is { op: CmpOp::Eq, len, data, .. })
                            if have >= *len =>
                        {
                            match clients(packet.family, data.number(), *len, bits) {
                                Some((first, last)) => {
                                    let (a, b) = part.unwrap_or((0, packet.family.max()));
                                    part = Some((a.max(first), b.min(last)));
                                    Some(a.max(first) <= b.min(last))
                                }
                                None => Some(false),
                            }
                        }
                        _ => None,
                    }
                }
            };
            match told {
                Some(true) => {}
                Some(false) => return Glance::Misses,
                None => all = false,
            }
        }
        let full = (0, packet.family.max());
        let hit = part.filter(|part| *part != full);
        let hit = hit.map(|(a, b)| fork.sources.intersection(&AddrSet::range(packet.family, a, b)));
        match (hit, deed) {
            (Some(hit), _) if hit.is_empty() => Glance::Misses,
            (hit, Some(at)) if all => Glance::Holds(hit, usize::from(at)),
            _ => Glance::Closer,
        }
    }

    fn value(&self, values: &mut Vec<Value>, site: &Site<'a>, packet: &Packet, place: usize) -> Value {
        if let Some(known) = values.get(place) {
            return *known;
        }
        let sources = self.rules.sources.borrow();
        values.extend(sources.iter().skip(values.len()).map(|source| self.look_at(site, packet, source)));
        values.get(place).copied().unwrap_or(Value::Open)
    }

    fn look_at(&self, site: &Site<'a>, packet: &Packet, source: &Source) -> Value {
        let value = match source.load {
            Load::Meta(key) => loaded(self.meta(packet, site.hook, key)),
            Load::Ct(key, dir) => loaded(self.ct(packet, key, dir)),
            Load::Payload(base, offset, len) => field(packet, base, offset, len),
        };
        match (value, source.bits) {
            (value, None) => value,
            (Value::Same(value, len), Some(bits)) if len == bits.len => {
                Value::Same((value & bits.mask ^ bits.xor) & !beyond(len), len)
            }
            (Value::Client { len, .. }, Some(bits)) if len == bits.len => {
                let mask = bits.mask & !beyond(len);
                let prefix = mask.leading_ones() == mask.count_ones();
                let flips = bits.xor & !beyond(len) != 0;
                if prefix && !flips { Value::Client { len, bits: mask.leading_ones() as u8 } } else { Value::Open }
            }
            (Value::Breaks, _) => Value::Breaks,
            _ => Value::Open,
        }
    }

    fn xt_at_a_glance(&self, packet: &Packet, site: &Site<'_>, found: &XtMatch) -> Option<bool> {
        match found {
            XtMatch::Header(header) => (!self.fits(packet, header)).then_some(false),
            _ => match self.xt_match(packet, site.hook, found) {
                Cond::Always => Some(true),
                Cond::Never => Some(false),
                _ => None,
            },
        }
    }
}

fn loaded(loaded: Loaded) -> Value {
    match loaded {
        Loaded::Const(bytes, len) => Value::Same(u128::from_be_bytes(bytes) & !beyond(len as u8), len as u8),
        Loaded::Break => Value::Breaks,
        _ => Value::Open,
    }
}

fn field(packet: &Packet, base: PayloadBase, offset: u32, len: u8) -> Value {
    if !matches!(base, PayloadBase::Network | PayloadBase::Transport) {
        return Value::Open;
    }
    let mut same = [0; WIDTH];
    let (mut constant, mut client) = (true, true);
    for (at, slot) in (0..len).zip(&mut same) {
        match offset.checked_add(at.into()).and_then(|offset| byte(packet, base, offset)) {
            Some(Byte::Const(byte)) => (*slot, client) = (byte, false),
            Some(Byte::Source { at: own, mask: 0xff, xor: 0 }) if own == at => constant = false,
            _ => return Value::Open,
        }
    }
    match () {
        () if constant => Value::Same(u128::from_be_bytes(same), len),
        () if client => Value::Client { len, bits: 8 * len },
        () => Value::Open,
    }
}

/// The addresses of which the first `bits` are those of `data`, and the further ones of its `len` bytes zero; None: there are
/// none.
fn clients(family: Family, data: u128, len: u8, bits: u8) -> Option<(u128, u128)> {
    let bits = u32::from(bits).min(8 * u32::from(len));
    let first = data >> (u128::BITS - u32::from(family.bits()));
    let low = family.max().checked_shr(bits).unwrap_or(0);
    (first & low == 0).then_some((first, first | low))
}

fn compares(number: u128, op: CmpOp, with: u128) -> bool {
    match op {
        CmpOp::Eq => number == with,
        CmpOp::Neq => number != with,
        CmpOp::Lt => number < with,
        CmpOp::Lte => number <= with,
        CmpOp::Gt => number > with,
        CmpOp::Gte => number >= with,
    }
}
