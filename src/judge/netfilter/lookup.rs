//! Lookups in the sets and maps of nf_tables.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::ops::Deref;

use super::bytes::{Byte, Regs};
use super::cond::Cond;
use super::flow::{Doubt, Packet};
use super::walk::Walk;
use crate::facts::{AddrSet, ElementKey, Expr, Family, Set, Table};

/// A set with what is worked out once for it, however many rules look into it.
pub struct Prepared<'a> {
    set: &'a Set,
    /// The elements as source addresses, for a set of plain addresses.
    addresses: OnceCell<Option<AddrSet>>,
    places: OnceCell<Places<'a>>,
}

/// Where the elements stand.
struct Places<'a> {
    /// Those of one value by their key; the places of all others.
    single: HashMap<&'a [u8], usize>,
    others: Vec<usize>,
    any: Option<usize>,
}

impl Deref for Prepared<'_> {
    type Target = Set;

    fn deref(&self) -> &Set {
        self.set
    }
}

impl<'a> Prepared<'a> {
    pub fn of(set: &'a Set) -> Prepared<'a> {
        Prepared { set, addresses: OnceCell::new(), places: OnceCell::new() }
    }

    /// The elements as source addresses, if they are that and nothing else: the length of the key tells the family.
    fn addresses(&self, family: Family) -> Option<&AddrSet> {
        let read = || {
            // A concatenation is compared field by field.
            if self.set.fields.len() > 1 {
                return None;
            }
            let ranges = self.set.elements.iter().map(|element| match &element.key {
                // Some elements match by rate or history only.
                _ if element.exprs.iter().any(decides) => None,
                ElementKey::One(key) => Some((wide(key), wide(key))),
                ElementKey::Range(from, to) => Some((wide(from), wide(to))),
                ElementKey::Any => None,
            });
            Some(AddrSet::of(family, ranges.collect::<Option<_>>()?))
        };
        self.addresses.get_or_init(read).as_ref()
    }

    fn places(&self) -> &Places<'a> {
        self.places.get_or_init(|| {
            let single = HashMap::with_capacity(self.set.elements.len());
            let mut places = Places { single, others: Vec::new(), any: None };
            for (place, element) in self.set.elements.iter().enumerate() {
                match &element.key {
                    ElementKey::One(key) => {
                        places.single.entry(key.as_slice()).or_insert(place);
                    }
                    ElementKey::Range(..) => places.others.push(place),
                    ElementKey::Any => places.any = Some(place),
                }
            }
            places
        })
    }
}

fn wide(bytes: &[u8]) -> u128 {
    bytes.iter().take(16).fold(0, |n, &b| n << 8 | u128::from(b))
}

/// Whether an expression of an element can keep it from matching.
fn decides(expr: &Expr) -> bool {
    matches!(expr, Expr::Limit { .. } | Expr::Quota { .. } | Expr::Connlimit { .. } | Expr::Unknown { .. })
}

impl<'a> Walk<'a> {
    /// Whether an element holds this key; None where that takes a closer look.
    pub fn holds(&self, packet: &Packet, table: &Table, set: &Prepared<'a>, key: &[u8]) -> Option<bool> {
        if is_touched(packet, table, set) {
            return None;
        }
        let places = set.places();
        match places.single.get(key).and_then(|place| set.elements.get(*place)) {
            Some(element) => (!element.exprs.iter().any(decides)).then_some(true),
            None => (places.others.is_empty() && places.any.is_none()).then_some(false),
        }
    }

    /// Whether the key is in the set.
    pub fn contains(&self, packet: &Packet, table: &Table, set: &Prepared<'a>, regs: &Regs, key: &[Byte]) -> Cond {
        if let Some(doubt) = touched(packet, table, set) {
            return Cond::Maybe(doubt);
        }
        if is_source(key, packet.family)
            && let Some(addresses) = set.addresses(packet.family)
        {
            return Cond::sources(addresses.clone());
        }
        self.hits(packet, set, regs, key).into_iter().fold(Cond::Never, |all, (cond, _)| all.or(cond))
    }

    /// The elements that the key may hit, each with the sources for which it does.
    pub fn find(
        &self,
        packet: &Packet,
        table: &Table,
        set: &Prepared<'a>,
        regs: &Regs,
        key: &[Byte],
    ) -> Result<Vec<(Cond, usize)>, Doubt> {
        match touched(packet, table, set) {
            Some(doubt) => Err(doubt),
            None => Ok(self.hits(packet, set, regs, key)),
        }
    }

    fn hits(&self, packet: &Packet, set: &Prepared<'a>, regs: &Regs, key: &[Byte]) -> Vec<(Cond, usize)> {
        let (family, places) = (packet.family, set.places());
        let mut out: Vec<(Cond, usize)> = Vec::new();
        let limited = |place: usize, cond: Cond| {
            let exprs = set.elements.get(place).map_or(&[][..], |e| &e.exprs);
            if exprs.iter().any(decides) { cond.and(Cond::Maybe(Doubt::conditional("limited by rate"))) } else { cond }
        };
        let known: Option<Vec<u8>> = key.iter().map(|b| if let Byte::Const(b) = b { Some(*b) } else { None }).collect();
        match known {
            Some(known) => {
                if let Some(&place) = places.single.get(known.as_slice()) {
                    return vec![(limited(place, Cond::Always), place)];
                }
            }
            None => {
                for (single, &place) in &places.single {
                    let cond = regs.equal(family, key, single);
                    if cond != Cond::Never {
                        out.push((limited(place, cond), place));
                    }
                }
                out.sort_by_key(|(_, place)| *place);
            }
        }
        for &place in &places.others {
            let Some(ElementKey::Range(from, to)) = set.elements.get(place).map(|e| &e.key) else { continue };
            let cond = if set.fields.len() < 2 {
                regs.between(family, key, from, to)
            } else {
                fields(regs, family, set, key, from, to)
            };
            if cond != Cond::Never {
                out.push((limited(place, cond), place));
            }
        }
        if let Some(place) = places.any {
            let missed = out.iter().fold(Cond::Never, |all, (cond, _)| all.or(cond.clone())).negated_if(true);
            if missed != Cond::Never {
                out.push((limited(place, missed), place));
            }
        }
        out
    }
}

/// A concatenation, field by field.
fn fields(regs: &Regs, family: Family, set: &Set, key: &[Byte], from: &[u8], to: &[u8]) -> Cond {
    let mut at = 0;
    let mut all = Cond::Always;
    for &len in &set.fields {
        let end = at + len;
        let (Some(key), Some(from), Some(to)) = (key.get(at..end), from.get(at..end), to.get(at..end)) else {
            return Cond::Maybe(Doubt::unknown("a concatenation whose fields do not fit its key"));
        };
        all = all.and(regs.between(family, key, from, to));
        if all == Cond::Never {
            break;
        }
        at += len.next_multiple_of(4);
    }
    all
}

fn is_touched(packet: &Packet, table: &Table, set: &Set) -> bool {
    packet.touched.iter().any(|(t, s)| *t == table.name && *s == set.name)
}

fn touched(packet: &Packet, table: &Table, set: &Set) -> Option<Doubt> {
    is_touched(packet, table, set)
        .then(|| Doubt::conditional(format!("set {} was changed by this connection's own packets", set.name)))
}

fn is_source(key: &[Byte], family: Family) -> bool {
    key.len() == family.bytes()
        && key.iter().enumerate().all(|(n, b)| *b == Byte::Source { at: n as u8, mask: 0xff, xor: 0 })
}
