//! Rules told at a glance: most do not match, for they are about other ports, protocols, interfaces, sources or the other family.
//!
//! A chain's rules are read once into short tests that lie side by side. What the tests look at is the same in most rules, and is
//! loaded once for a packet. A rule of which the tests do not tell all is looked at as a whole.

use std::cell::RefCell;
use std::rc::Rc;

use super::bytes::Byte;
use super::cond::Cond;
use super::flow::{Fork, Packet};
use super::load::{Loaded, byte};
use super::rules::{Known, Rules};
use super::scan::is_neutral;
use super::walk::{Site, Walk};
use crate::facts::{
    AddrSet, BitwiseOp, CmpOp, CtDir, CtKey, Expr, Family, Masked, MetaKey, PayloadBase, Reg, Rule, Set, Verdict,
    XtMatch,
};

/// Most bytes that a test looks at.
const WIDTH: usize = 16;
/// Most different things that tests look at; rules about more are looked at as a whole.
const SOURCES: usize = 255;
const TCP: u8 = 6;

/// What a test looks at: what a rule loads, and the bits that it keeps and flips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    load: Load,
    bits: Option<Bits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Meta(MetaKey),
    Ct(CtKey, Option<CtDir>),
    Payload(PayloadBase, u32, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits {
    mask: [u8; WIDTH],
    xor: [u8; WIDTH],
    len: u8,
}

/// What is there in a packet.
#[derive(Debug, Clone, Copy)]
enum Value {
    /// As many bytes as the number says, the same for every client.
    Same([u8; WIDTH], u8),
    /// The first bytes of the client's address, and how many of their bits count.
    Client { len: u8, bits: u8 },
    /// The load breaks the rule.
    Breaks,
    /// It takes a closer look.
    Open,
}

/// A condition without which a rule does not match. `source`: the place of what it looks at.
#[derive(Debug, Clone, Copy)]
enum Test<'a> {
    Is { source: u8, op: CmpOp, len: u8, data: [u8; WIDTH] },
    Between { source: u8, negate: bool, len: u8, from: [u8; WIDTH / 2], to: [u8; WIDTH / 2] },
    In { source: u8, set: &'a Set },
    Xt(&'a XtMatch),
}

/// The rules of a chain as tests.
#[derive(Debug)]
pub struct Digest<'a> {
    tests: Vec<Test<'a>>,
    rules: Vec<Digested>,
}

#[derive(Debug, Clone, Copy)]
struct Digested {
    /// Where its tests begin; they end where those of the next rule begin.
    tests: u32,
    /// The expression that does something, if the tests are all that stands before it.
    deed: Option<u16>,
    /// It looks into sets, whose names count as places of a ban.
    sets: bool,
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

impl<'a> Digest<'a> {
    pub fn of(known: &Known<'a>, rules: &Rules<'a>) -> Digest<'a> {
        let mut digest = Digest { tests: Vec::new(), rules: Vec::with_capacity(known.chain.rules.len() + 1) };
        let mut sources = rules.sources.borrow_mut();
        let mut slow = Vec::new();
        for rule in known.chain.rules.iter() {
            let tests = digest.tests.len() as u32;
            let mut reader = Reader {
                known,
                rules,
                sources: &mut sources,
                tests: &mut digest.tests,
                slow: &mut slow,
                held: None,
                tested: true,
                all: true,
            };
            let deed = reader.read(rule);
            digest.tests.append(&mut slow);
            digest.rules.push(Digested { tests, deed, sets: rule.sets().next().is_some() });
        }
        digest.rules.push(Digested { tests: digest.tests.len() as u32, deed: None, sets: false });
        digest
    }

    /// Whether the rule looks into sets.
    pub fn has_sets(&self, index: usize) -> bool {
        self.rules.get(index).is_some_and(|rule| rule.sets)
    }

    fn rule(&self, index: usize) -> (&[Test<'a>], Option<u16>) {
        match self.rules.get(index..index + 2) {
            Some([rule, next]) => {
                (self.tests.get(rule.tests as usize..next.tests as usize).unwrap_or_default(), rule.deed)
            }
            _ => (&[], None),
        }
    }
}

/// Reads one rule.
struct Reader<'r, 'a> {
    known: &'r Known<'a>,
    rules: &'r Rules<'a>,
    sources: &'r mut Vec<Source>,
    tests: &'r mut Vec<Test<'a>>,
    /// Those that take longer: they come after the others.
    slow: &'r mut Vec<Test<'a>>,
    /// The register that was loaded last, and the place of what is in it.
    held: Option<(Reg, u8)>,
    /// Whether that has been tested: a load that breaks the rule is seen by its test alone.
    tested: bool,
    /// Whether the tests tell all so far.
    all: bool,
}

impl<'a> Reader<'_, 'a> {
    /// Adds the rule's tests as far as nothing but looks stands before them, and gives the expression that does something, if
    /// the tests tell all that stands before that.
    fn read(&mut self, rule: &'a Rule) -> Option<u16> {
        for (at, expr) in rule.exprs.iter().enumerate() {
            match expr {
                Expr::Meta { dreg, key } => self.load(*dreg, Load::Meta(*key)),
                Expr::Ct { dreg, key, dir } => self.load(*dreg, Load::Ct(*key, *dir)),
                Expr::Payload { dreg, base, offset, len } => match u8::try_from(*len) {
                    Ok(len) if usize::from(len) <= WIDTH => self.load(*dreg, Load::Payload(*base, *offset, len)),
                    _ => self.lose(),
                },
                Expr::Bitwise { sreg, dreg, len, op: BitwiseOp::MaskXor { mask, xor } } => {
                    self.mask(*sreg, *dreg, *len as usize, mask, xor);
                }
                Expr::Cmp { sreg, op, data } => match (self.at(*sreg), padded(data)) {
                    (Some(source), Some((data, len))) => self.test(Test::Is { source, op: *op, len, data }),
                    _ => self.all = false,
                },
                Expr::Range { sreg, negate, from, to } => match (self.at(*sreg), padded(from), padded(to)) {
                    (Some(source), Some((from, len)), Some((to, other))) if len == other => {
                        self.test(Test::Between { source, negate: *negate, len, from, to });
                    }
                    _ => self.all = false,
                },
                Expr::Lookup { set, sreg, dreg: None, negate } => {
                    let found = self.rules.set(self.known.table, set);
                    if let (Some(source), Some(set), false) = (self.at(*sreg), found, *negate) {
                        self.test(Test::In { source, set });
                    }
                    self.all = false;
                }
                Expr::XtMatch(XtMatch::Comment(_)) => {}
                Expr::XtMatch(found) if is_fixed(found) => self.fixed(found),
                Expr::XtMatch(found @ XtMatch::Header { src, dst, iif, oif, proto, proto_invert, fragment }) => {
                    let rest = iif.is_some() || oif.is_some() || fragment.is_some();
                    if *proto != 0 {
                        let op = if *proto_invert { CmpOp::Neq } else { CmpOp::Eq };
                        self.protocol(op, *proto);
                    }
                    if rest | !self.address(src, true) | !self.address(dst, false) {
                        self.slow.push(Test::Xt(found));
                        self.all = false;
                    }
                }
                Expr::XtMatch(XtMatch::Iprange { .. }) => self.all = false,
                // One that is found by a key may miss, and of what it limits doubts remain.
                Expr::Objref { .. } if is_neutral(expr) => self.all = false,
                expr if is_neutral(expr) => {}
                // No register says what these do.
                Expr::Verdict(Verdict::Break) => return None,
                Expr::Verdict(_) | Expr::Reject(_) | Expr::XtTarget(_) => {
                    return u16::try_from(at).ok().filter(|_| self.all && self.tested);
                }
                _ => return None,
            }
        }
        None
    }

    fn place(&mut self, source: Source) -> Option<u8> {
        let known = self.sources.iter().position(|known| *known == source);
        let place = known.or_else(|| {
            let fits = self.sources.len() < SOURCES;
            fits.then(|| self.sources.push(source)).map(|()| self.sources.len() - 1)
        });
        place.and_then(|place| u8::try_from(place).ok())
    }

    fn load(&mut self, reg: Reg, load: Load) {
        self.lose_untested();
        let place = self.place(Source { load, bits: None });
        self.held = place.map(|place| (reg, place));
        self.all &= place.is_some();
        self.tested = false;
    }

    /// Something is loaded that no test can look at.
    fn lose(&mut self) {
        self.held = None;
        self.all = false;
    }

    fn lose_untested(&mut self) {
        self.all &= self.tested;
    }

    /// What the register holds, if it was loaded last.
    fn at(&self, reg: Reg) -> Option<u8> {
        self.held.filter(|(own, _)| *own == reg).map(|(_, place)| place)
    }

    fn mask(&mut self, sreg: Reg, dreg: Reg, len: usize, mask: &[u8], xor: &[u8]) {
        let bare = self.at(sreg).filter(|_| sreg == dreg && len <= WIDTH);
        let bare = bare.and_then(|place| self.sources.get(usize::from(place)).copied()).filter(|s| s.bits.is_none());
        let Some(Source { load, .. }) = bare else { return self.lose() };
        let mut bits = Bits { mask: [0xff; WIDTH], xor: [0; WIDTH], len: len as u8 };
        bits.mask.iter_mut().zip(mask).for_each(|(own, mask)| *own = *mask);
        bits.xor.iter_mut().zip(xor).for_each(|(own, xor)| *own = *xor);
        match self.place(Source { load, bits: Some(bits) }) {
            Some(place) => self.held = Some((dreg, place)),
            None => self.lose(),
        }
    }

    fn test(&mut self, test: Test<'a>) {
        self.tests.push(test);
        self.tested = true;
    }

    fn is(&mut self, load: Load, bits: Option<Bits>, op: CmpOp, bytes: &[u8]) -> bool {
        let place = self.place(Source { load, bits });
        let (Some(source), Some((data, len))) = (place, padded(bytes)) else { return false };
        self.tests.push(Test::Is { source, op, len, data });
        true
    }

    fn protocol(&mut self, op: CmpOp, number: u8) {
        self.all &= self.is(Load::Meta(MetaKey::L4Proto), None, op, &[number]);
    }

    /// The source or destination of a legacy entry. False: the tests do not tell all of it.
    fn address(&mut self, wanted: &Masked, source: bool) -> bool {
        if (wanted.address, wanted.mask, wanted.invert) == (0, 0, false) {
            return true;
        }
        let Some(family) = self.known.table.family.ip().filter(|_| !wanted.invert) else { return false };
        let width = family.bytes();
        let offset = match (family, source) {
            (Family::Ipv4, true) => 12,
            (Family::Ipv4, false) => 16,
            (Family::Ipv6, true) => 8,
            (Family::Ipv6, false) => 24,
        };
        let own = |number: u128| number.to_be_bytes();
        let bits = (wanted.mask != family.max()).then(|| {
            let mut bits = Bits { mask: [0xff; WIDTH], xor: [0; WIDTH], len: width as u8 };
            bits.mask.iter_mut().zip(&own(wanted.mask)[WIDTH - width..]).for_each(|(own, mask)| *own = *mask);
            bits
        });
        let load = Load::Payload(PayloadBase::Network, offset, width as u8);
        self.is(load, bits, CmpOp::Eq, &own(wanted.address)[WIDTH - width..])
    }

    fn fixed(&mut self, found: &'a XtMatch) {
        match found {
            XtMatch::Tcp {
                sports: (0, u16::MAX),
                dports: (from, to),
                invert_sports: false,
                invert_dports: false,
                flags_mask: 0,
                flags_set: 0,
                invert_flags: false,
                option: None,
            } => {
                self.protocol(CmpOp::Eq, TCP);
                if (*from, *to) != (0, u16::MAX) {
                    let load = Load::Payload(PayloadBase::Transport, 2, 2);
                    let place = self.place(Source { load, bits: None });
                    match (place, padded(&from.to_be_bytes()), padded(&to.to_be_bytes())) {
                        (Some(source), Some((from, len)), Some((to, _))) => {
                            self.tests.push(Test::Between { source, negate: false, len, from, to });
                        }
                        _ => self.all = false,
                    }
                }
            }
            _ => self.slow.push(Test::Xt(found)),
        }
    }
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
                        (Value::Same(bytes, have), Test::Is { op, len, data, .. }) if have >= *len => {
                            Some(compares(number(&bytes, *len), *op, number(data, *len)))
                        }
                        (Value::Same(bytes, have), Test::Between { negate, len, from, to, .. }) if have >= *len => {
                            let range = number(from, *len)..=number(to, *len);
                            Some(range.contains(&number(&bytes, *len)) != *negate)
                        }
                        (Value::Same(bytes, have), Test::In { set, .. }) if usize::from(have) >= set.key_len => {
                            let lacks = self.lacks(packet, site.table, set, &bytes[..set.key_len]);
                            lacks.then_some(false)
                        }
                        (Value::Client { len: have, bits }, Test::Is { op: CmpOp::Eq, len, data, .. })
                            if have >= *len =>
                        {
                            match clients(packet.family, &data[..usize::from(*len)], bits) {
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
            (Value::Same(mut bytes, len), Some(bits)) if len == bits.len => {
                for (byte, (mask, xor)) in bytes.iter_mut().zip(bits.mask.iter().zip(&bits.xor)) {
                    *byte = (*byte & mask) ^ xor;
                }
                Value::Same(bytes, len)
            }
            (Value::Client { len, .. }, Some(bits)) if len == bits.len => {
                let beyond = u128::MAX.checked_shr(8 * u32::from(len)).unwrap_or(0);
                let mask = u128::from_be_bytes(bits.mask) & !beyond;
                let prefix = mask.leading_ones() == mask.count_ones();
                let flips = u128::from_be_bytes(bits.xor) & !beyond != 0;
                if prefix && !flips { Value::Client { len, bits: mask.leading_ones() as u8 } } else { Value::Open }
            }
            (Value::Breaks, _) => Value::Breaks,
            _ => Value::Open,
        }
    }

    fn xt_at_a_glance(&self, packet: &Packet, site: &Site<'_>, found: &XtMatch) -> Option<bool> {
        match found {
            XtMatch::Header { .. } => (!self.fits(packet, found)).then_some(false),
            _ => match self.xt_match(packet, site.hook, found) {
                Cond::Always => Some(true),
                Cond::Never => Some(false),
                _ => None,
            },
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
    )
}

fn padded<const N: usize>(bytes: &[u8]) -> Option<([u8; N], u8)> {
    let mut out = [0; N];
    out.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some((out, bytes.len() as u8))
}

fn loaded(loaded: Loaded) -> Value {
    match loaded {
        Loaded::Const(bytes, len) => Value::Same(bytes, len as u8),
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
        () if constant => Value::Same(same, len),
        () if client => Value::Client { len, bits: 8 * len },
        () => Value::Open,
    }
}

/// The addresses of which the first `bits` are those of `data`, and the further ones of `data`'s bytes zero; None: there are none.
fn clients(family: Family, data: &[u8], bits: u8) -> Option<(u128, u128)> {
    let width = 8 * data.len() as u32;
    let bits = u32::from(bits).min(width);
    let value = data.iter().fold(0u128, |n, &b| n << 8 | u128::from(b));
    let first = value.checked_shl(u32::from(family.bits()) - width).unwrap_or(0);
    let low = family.max().checked_shr(bits).unwrap_or(0);
    (first & low == 0).then_some((first, first | low))
}

/// The first bytes as a number: of the same count of bytes they compare as memcmp does it.
fn number<const N: usize>(bytes: &[u8; N], len: u8) -> u128 {
    let mut wide = [0; WIDTH];
    wide[WIDTH - N..].copy_from_slice(bytes);
    u128::from_be_bytes(wide).checked_shr(8 * (N as u32).saturating_sub(len.into())).unwrap_or(0)
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
