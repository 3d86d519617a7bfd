//! A chain's rules, read once into short tests that lie side by side.

use super::rules::{Known, Rules};
use super::scan::is_neutral;
use crate::facts::{
    BitwiseOp, CmpOp, CtDir, CtKey, Expr, Family, Masked, MetaKey, PayloadBase, Reg, Rule, Verdict, XtHeader, XtMatch,
    XtTarget,
};

/// Most bytes that a test looks at.
pub const WIDTH: usize = 16;
/// Most different things that tests look at; rules about more are looked at as a whole.
const SOURCES: usize = 255;
const TCP: u8 = 6;

/// What a test looks at: what a rule loads, and the bits that it keeps and flips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    pub load: Load,
    pub bits: Option<Bits>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    Meta(MetaKey),
    Ct(CtKey, Option<CtDir>),
    Payload(PayloadBase, u32, u8),
}

/// Of the first `len` bytes, which are on top; those beyond are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bits {
    pub mask: u128,
    pub xor: u128,
    pub len: u8,
}

/// Up to [`WIDTH`] bytes as a number, the first of them on top and zeros below: of the same count of bytes, numbers compare as
/// memcmp does it. In two halves, with which a test is shorter than with a `u128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wide {
    high: u64,
    low: u64,
}

impl Wide {
    pub fn number(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }
}

/// A condition without which a rule does not match. `source`: the place of what it looks at; `set`: of the set.
#[derive(Debug, Clone, Copy)]
pub enum Test<'a> {
    Is {
        source: u8,
        op: CmpOp,
        len: u8,
        data: Wide,
    },
    /// Of up to half of [`WIDTH`] bytes, the first of them on top.
    Between {
        source: u8,
        negate: bool,
        len: u8,
        from: u64,
        to: u64,
    },
    In {
        source: u8,
        negate: bool,
        set: u32,
    },
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
    /// The place of the chain that it calls, if it names one.
    callee: Option<u32>,
}

impl<'a> Digest<'a> {
    pub fn of(known: &Known<'a>, rules: &Rules<'a>) -> Digest<'a> {
        let rules_of = known.chain.rules.len();
        let mut digest = Digest { tests: Vec::with_capacity(rules_of * 4), rules: Vec::with_capacity(rules_of + 1) };
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
            let callee = rule.exprs.last().and_then(callee).and_then(|name| rules.place_of_chain(known.table, name));
            let callee = callee.and_then(|place| u32::try_from(place).ok());
            digest.rules.push(Digested { tests, deed, sets: rule.sets().next().is_some(), callee });
        }
        digest.rules.push(Digested { tests: digest.tests.len() as u32, deed: None, sets: false, callee: None });
        digest
    }

    /// Whether the rule looks into sets.
    pub fn has_sets(&self, index: usize) -> bool {
        self.rules.get(index).is_some_and(|rule| rule.sets)
    }

    /// The chain that the rule calls, by its place, if it names one.
    pub fn callee(&self, index: usize) -> Option<usize> {
        self.rules.get(index)?.callee.map(|place| place as usize)
    }

    /// The tests of a rule, and the expression that does something if they tell all that stands before it.
    pub fn rule(&self, index: usize) -> (&[Test<'a>], Option<u16>) {
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
                Expr::Cmp { sreg, op, data } => match (self.at(*sreg), wide(data)) {
                    (Some(source), Some((data, len))) => self.test(Test::Is { source, op: *op, len, data }),
                    _ => self.all = false,
                },
                Expr::Range { sreg, negate, from, to } => match (self.at(*sreg), half(from), half(to)) {
                    (Some(source), Some((from, len)), Some((to, other))) if len == other => {
                        self.test(Test::Between { source, negate: *negate, len, from, to });
                    }
                    _ => self.all = false,
                },
                Expr::Lookup { set, sreg, dreg: None, negate } => {
                    let place = self.rules.place_of_set(self.known.table, set);
                    match (self.at(*sreg), place.and_then(|place| u32::try_from(place).ok())) {
                        (Some(source), Some(set)) => self.test(Test::In { source, negate: *negate, set }),
                        _ => self.all = false,
                    }
                }
                Expr::XtMatch(XtMatch::Comment(_)) => {}
                Expr::XtMatch(found) if is_fixed(found) => self.fixed(found),
                Expr::XtMatch(found @ XtMatch::Header(header)) => {
                    let XtHeader { src, dst, iif, oif, proto, proto_invert, fragment } = &**header;
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
                Expr::XtMatch(XtMatch::Iprange(_)) => self.all = false,
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
        let (Some(own), Some((xor, _))) = (wide(mask), wide(xor)) else { return self.lose() };
        let bits = Bits { mask: own.0.number() | beyond(own.1), xor: xor.number(), len: len as u8 };
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
        let (Some(source), Some((data, len))) = (place, wide(bytes)) else { return false };
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
        let len = width as u8;
        let mask = wanted.mask << (u128::BITS - u32::from(family.bits())) | beyond(len);
        let bits = (wanted.mask != family.max()).then_some(Bits { mask, xor: 0, len });
        let load = Load::Payload(PayloadBase::Network, offset, len);
        self.is(load, bits, CmpOp::Eq, &wanted.address.to_be_bytes()[WIDTH - width..])
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
                    match (place, half(&from.to_be_bytes()), half(&to.to_be_bytes())) {
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

/// The chain that an expression calls.
fn callee(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Verdict(Verdict::Jump(name) | Verdict::Goto(name)) => Some(name),
        Expr::XtTarget(XtTarget::Jump(name) | XtTarget::Goto(name)) => Some(name),
        _ => None,
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

/// The number of these bytes, and how many they are; None where they are more than it holds.
fn wide(bytes: &[u8]) -> Option<(Wide, u8)> {
    match bytes.split_at_checked(WIDTH / 2) {
        Some((high, low)) => Some((Wide { high: half(high)?.0, low: half(low)?.0 }, bytes.len() as u8)),
        None => half(bytes).map(|(high, len)| (Wide { high, low: 0 }, len)),
    }
}

fn half(bytes: &[u8]) -> Option<(u64, u8)> {
    let free = (WIDTH / 2).checked_sub(bytes.len())? as u32;
    // Byte by byte: mostly there are one to four, and a copy of them takes longer.
    let number = bytes.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
    Some((number.checked_shl(8 * free).unwrap_or(0), bytes.len() as u8))
}

/// All but the first `len` bytes of a number.
pub fn beyond(len: u8) -> u128 {
    u128::MAX.checked_shr(8 * u32::from(len)).unwrap_or(0)
}
