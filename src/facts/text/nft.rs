//! A walk over a rule's expressions that puts loads and tests together again.

use super::load::{self, Implied, Layers};
use super::statement::{Field, element, object, plain, symbol};
use super::value::{Kind, hex, number, prefix_of_mask};
use super::{Language, Piece};
use crate::facts::{BitwiseOp, Bytes, CmpOp, Element, Expr, Family, Nat, NatKind, Reg, RejectWith, Rule};

/// Elements of an anonymous set that are shown.
const SHOWN: usize = 12;
const NFT_SET_ANONYMOUS: u32 = 1;

/// What stands in a register.
#[derive(Debug, Clone)]
struct Operand {
    text: String,
    kind: Kind,
    len: usize,
    mask: Option<Bytes>,
    /// Made big-endian.
    swapped: bool,
    /// The bytes of an immediate: what they mean is their user's to say.
    constant: Option<Bytes>,
}

impl Operand {
    fn new((text, kind): (String, Kind), len: usize) -> Operand {
        Operand { text, kind, len, mask: None, swapped: false, constant: None }
    }
}

struct Walk<'a> {
    language: &'a Language,
    iptables: bool,
    /// By the register's number, a byte offset over four.
    registers: [Option<Operand>; 16],
    layers: Layers,
    /// The places of the tests that set `layers`.
    guards: (Option<usize>, Option<usize>),
    pieces: Vec<Option<Piece<'a>>>,
}

pub fn pieces<'a>(rule: &'a Rule, language: &'a Language, iptables: bool) -> Vec<Piece<'a>> {
    let network = language.family;
    let mut walk = Walk {
        language,
        iptables,
        registers: Default::default(),
        layers: Layers { network, transport: None },
        guards: (None, None),
        pieces: Vec::new(),
    };
    for expr in &rule.exprs {
        walk.step(expr);
    }
    walk.pieces.into_iter().flatten().collect()
}

impl<'a> Walk<'a> {
    fn step(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Immediate { dreg, data } => {
                let mut operand = Operand::new((hex(data), Kind::Raw), data.len());
                operand.constant = Some(data.clone());
                self.set(*dreg, operand);
            }
            Expr::Payload { dreg, base, offset, len } => {
                let (text, kind, implied) = load::payload(*base, *offset, *len, self.layers);
                self.drop_guard(implied);
                self.set(*dreg, Operand::new((text, kind), *len as usize));
            }
            Expr::Meta { dreg, key } => {
                let loaded = load::meta(*key);
                let len = if loaded.1 == Kind::IfName { 16 } else { 4 };
                self.set(*dreg, Operand::new(loaded, len));
            }
            Expr::Ct { dreg, key, dir } => {
                let loaded = load::ct(*key, *dir, self.layers.network);
                let len = match loaded.1 {
                    Kind::Address(family) => family.bytes(),
                    Kind::IfName | Kind::Raw => 16,
                    _ => 4,
                };
                self.set(*dreg, Operand::new(loaded, len));
            }
            Expr::Fib { dreg, flags, result } => self.set(*dreg, Operand::new(load::fib(*flags, result.clone()), 4)),
            Expr::Exthdr { dreg: Some(dreg), op, kind, offset, len, presence } => {
                self.set(*dreg, Operand::new(load::exthdr(*op, *kind, *offset, *len, *presence), *len as usize));
            }
            Expr::Exthdr { dreg: None, op, kind, offset, len, .. } => {
                let (text, _) = load::exthdr(*op, *kind, *offset, *len, false);
                self.say(format!("{text} set or reset"));
            }
            Expr::Numgen { dreg, modulus, offset, random } => {
                let how = if *random { "random" } else { "inc" };
                self.set(*dreg, Operand::new((format!("numgen {how} mod {modulus}{}", plus(*offset)), Kind::Host), 4));
            }
            Expr::Hash { dreg, modulus, offset, symmetric } => {
                let name = if *symmetric { "symhash" } else { "jhash <fields>" };
                self.set(*dreg, Operand::new((format!("{name} mod {modulus}{}", plus(*offset)), Kind::Host), 4));
            }
            Expr::Rt { dreg, key } => {
                let names = ["rt classid", "rt ip nexthop", "rt ip6 nexthop", "rt mtu", "rt ipsec"];
                let name = names.get(*key as usize).copied().unwrap_or("<rt>");
                self.set(*dreg, Operand::new((name.into(), Kind::Raw), 4));
            }
            Expr::Socket { dreg, key, .. } => {
                let names = ["transparent", "mark", "wildcard", "cgroupv2"];
                let name = names.get(*key as usize).copied().unwrap_or("<key>");
                self.set(*dreg, Operand::new((format!("socket {name}"), Kind::Host), 4));
            }
            Expr::Osf { dreg } => self.set(*dreg, Operand::new(("osf name".into(), Kind::IfName), 16)),
            Expr::Xfrm { dreg } => self.set(*dreg, Operand::new(("<ipsec>".into(), Kind::Raw), 4)),
            Expr::Tunnel { dreg } => self.set(*dreg, Operand::new(("<tunnel>".into(), Kind::Raw), 4)),
            Expr::Bitwise { sreg, dreg, op, .. } => self.bitwise(*sreg, *dreg, op),
            Expr::Byteorder { sreg, dreg, .. } => {
                let mut operand = self.get(*sreg);
                operand.swapped = !operand.swapped;
                self.set(*dreg, operand);
            }
            Expr::Cmp { sreg, op, data } => self.compare(*sreg, *op, data),
            Expr::Range { sreg, negate, from, to } => {
                let operand = self.get(*sreg);
                let op = if *negate { "!=" } else { "" };
                let right = operand.kind.show_range(from, to, operand.swapped);
                self.test(operand.text, op, right);
            }
            Expr::Lookup { set, sreg, dreg, negate } => self.lookup(set, *sreg, *dreg, *negate),
            _ => self.statement(expr),
        }
    }

    fn statement(&mut self, expr: &'a Expr) {
        if self.iptables && matches!(expr, Expr::Verdict(_) | Expr::Counter | Expr::Nat(_) | Expr::Reject(_))
            || matches!(expr, Expr::XtMatch(_) | Expr::XtTarget(_))
        {
            self.pieces.push(Some(Piece::Expr(expr)));
            return;
        }
        let words = match expr {
            Expr::MetaSet { sreg, key } => {
                let (text, kind) = load::meta(*key);
                format!("{text} set {}", self.value(*sreg, kind))
            }
            Expr::CtSet { sreg, key, dir } => {
                let (text, kind) = load::ct(*key, *dir, self.layers.network);
                format!("{text} set {}", self.value(*sreg, kind))
            }
            Expr::PayloadSet { sreg, base, offset, len } => {
                let (text, kind, implied) = load::payload(*base, *offset, *len, self.layers);
                self.drop_guard(implied);
                format!("{text} set {}", self.value(*sreg, kind))
            }
            Expr::Dynset { set, key, op, exprs, .. } => {
                let name = ["add", "update", "delete"].get(*op as usize).copied().unwrap_or("<change>");
                let mut inside = vec![self.left(*key).0];
                inside.extend(exprs.iter().map(plain));
                format!("{name} @{set} {{ {} }}", inside.join(" "))
            }
            Expr::Objref { kind, name: Some(name), .. } => format!("{} name \"{name}\"", object(*kind)),
            Expr::Objref { kind, by_map: Some((set, key)), .. } => {
                format!("{} name {} map @{set}", object(*kind), self.left(*key).0)
            }
            Expr::Objref { kind, .. } => object(*kind).to_owned(),
            Expr::Nat(nat) => self.nat(nat),
            Expr::Reject(RejectWith::TcpReset) => "reject with tcp reset".to_owned(),
            Expr::Reject(_) => "reject".to_owned(),
            Expr::Tproxy { addr, port, .. } => format!("tproxy to {}", self.endpoint(*addr, None, *port, None)),
            other => plain(other),
        };
        self.say(words);
    }

    fn bitwise(&mut self, sreg: Reg, dreg: Reg, op: &BitwiseOp) {
        let mut operand = self.get(sreg);
        match op {
            BitwiseOp::MaskXor { mask, xor } if xor.iter().all(|&b| b == 0) && operand.mask.is_none() => {
                operand.mask = Some(mask.clone());
            }
            BitwiseOp::MaskXor { mask, xor } => operand.text = mask_xor(&operand, mask, xor),
            BitwiseOp::ShiftLeft(bits) => operand.text = format!("{} << {bits}", unmasked(&operand)),
            BitwiseOp::ShiftRight(bits) => operand.text = format!("{} >> {bits}", unmasked(&operand)),
            BitwiseOp::Register { op, reg } => {
                operand.text = format!("{} {op} {}", operand.text, self.value(*reg, operand.kind));
            }
        }
        operand.constant = None;
        self.set(dreg, operand);
    }

    fn compare(&mut self, sreg: Reg, op: CmpOp, data: &[u8]) {
        let operand = self.get(sreg);
        let zero = data.iter().all(|&b| b == 0);
        let Operand { text, kind, swapped, .. } = operand;
        let shown = kind.show(data, swapped);
        if let Some(mask) = &operand.mask {
            let names = kind.show_mask(mask, swapped);
            match (kind, names, op) {
                (_, Some(names), CmpOp::Neq) if zero => return self.test(text, "", names),
                (_, Some(names), CmpOp::Eq) if zero => return self.test(text, "!", names),
                (Kind::Address(_), ..) if prefix_of_mask(mask).is_some() => {
                    let length = prefix_of_mask(mask).unwrap_or(0);
                    return self.test(text, symbol(op), format!("{shown}/{length}"));
                }
                (_, names, _) => {
                    let mask =
                        names.map_or_else(|| kind.show(mask, swapped), |n| format!("({})", n.replace(',', " | ")));
                    let op = if op == CmpOp::Eq { "==" } else { symbol(op) };
                    return self.test(format!("{text} & {mask}"), op, shown);
                }
            }
        }
        if op == CmpOp::Eq {
            self.note_layer(kind, data);
        }
        self.test(text, symbol(op), shown);
    }

    /// What a test for equality says about the packet's layers.
    fn note_layer(&mut self, kind: Kind, data: &[u8]) {
        let at = Some(self.pieces.len());
        let family = match (kind, number(data, false)) {
            (Kind::Nfproto, Some(2)) | (Kind::EtherType, Some(0x0800)) => Some(Family::Ipv4),
            (Kind::Nfproto, Some(10)) | (Kind::EtherType, Some(0x86dd)) => Some(Family::Ipv6),
            (Kind::Protocol, Some(n)) => {
                self.layers.transport = u8::try_from(n).ok();
                self.guards.1 = at;
                None
            }
            _ => None,
        };
        if family.is_some() {
            self.layers.network = family;
            self.guards.0 = at;
        }
    }

    /// nft leaves out the test of a layer that the next field's name says; iptables writes its `-p`.
    fn drop_guard(&mut self, implied: Implied) {
        let guard = match implied {
            Implied::Nothing => None,
            Implied::Network => self.guards.0.take(),
            Implied::Transport if self.iptables => None,
            Implied::Transport => self.guards.1.take(),
        };
        if let Some(piece) = guard.and_then(|at| self.pieces.get_mut(at)) {
            *piece = None;
        }
    }

    fn lookup(&mut self, set: &str, sreg: Reg, dreg: Option<Option<Reg>>, negate: bool) {
        let (left, fields) = self.left(sreg);
        let right = self.set_words(set, &fields);
        match dreg {
            None => self.test(left, if negate { "!=" } else { "" }, right),
            Some(None) => self.say(format!("{left} vmap {right}")),
            Some(Some(dreg)) => self.set(dreg, Operand::new((format!("{left} map {right}"), Kind::Raw), 16)),
        }
    }

    /// What stands at `sreg`: one field, or those of a concatenation that follow each other.
    fn left(&mut self, sreg: Reg) -> (String, Vec<Field>) {
        let (mut texts, mut fields) = (Vec::new(), Vec::new());
        let mut slot = usize::from(sreg) / 4;
        while let Some(operand) = self.registers.get_mut(slot).and_then(Option::take) {
            slot += operand.len.div_ceil(4).max(1);
            fields.push((operand.kind, operand.len, operand.swapped));
            texts.push(unmasked(&operand));
        }
        if texts.is_empty() { ("<register>".into(), fields) } else { (texts.join(" . "), fields) }
    }

    fn set_words(&self, name: &str, fields: &[Field]) -> String {
        let known = self.language.set(name).filter(|s| s.flags & NFT_SET_ANONYMOUS != 0);
        let Some(set) = known else { return format!("@{name}") };
        let mut elements: Vec<&Element> = set.elements.iter().collect();
        let reversed = fields.first().is_some_and(|(kind, _, swapped)| kind.little_endian(*swapped));
        elements.sort_by_cached_key(|e| e.key.first().map(|key| in_order(key, reversed)));
        let mut words: Vec<String> = elements.into_iter().take(SHOWN).map(|e| element(e, fields)).collect();
        if set.elements.len() > SHOWN {
            words.push(format!("… {} more", set.elements.len() - SHOWN));
        }
        format!("{{ {} }}", words.join(", "))
    }

    fn nat(&mut self, nat: &Nat) -> String {
        let name = match nat.kind {
            NatKind::Snat => "snat",
            NatKind::Dnat => "dnat",
            NatKind::Masquerade => "masquerade",
            NatKind::Redirect => "redirect",
        };
        let to = self.endpoint(nat.addr_min, nat.addr_max, nat.port_min, nat.port_max);
        let to = if to.is_empty() { to } else { format!(" to {to}") };
        let flags: Vec<&str> = [(4, "random"), (16, "fully-random"), (8, "persistent")]
            .iter()
            .filter_map(|(bit, flag)| (nat.flags & bit != 0).then_some(*flag))
            .collect();
        format!("{name}{to}{}{}", if flags.is_empty() { "" } else { " " }, flags.join(","))
    }

    fn endpoint(&self, first: Option<Reg>, last: Option<Reg>, port: Option<Reg>, port_last: Option<Reg>) -> String {
        let address = |reg| {
            let constant = self.peek(reg).and_then(|o| o.constant.as_ref());
            let family = if constant.is_some_and(|c| c.len() == 4) { Family::Ipv4 } else { Family::Ipv6 };
            self.value(reg, Kind::Address(family))
        };
        let range = |a: String, b: Option<String>| match b {
            Some(b) if b != a => format!("{a}-{b}"),
            _ => a,
        };
        let addresses = first.map(|reg| range(address(reg), last.map(address)));
        let ports = port.map(|reg| range(self.value(reg, Kind::Port), port_last.map(|r| self.value(r, Kind::Port))));
        match (addresses, ports) {
            (Some(a), Some(p)) if a.contains(':') => format!("[{a}]:{p}"),
            (Some(a), Some(p)) => format!("{a}:{p}"),
            (Some(a), None) => a,
            (None, Some(p)) => format!(":{p}"),
            (None, None) => String::new(),
        }
    }

    fn peek(&self, reg: Reg) -> Option<&Operand> {
        self.registers.get(usize::from(reg) / 4)?.as_ref()
    }

    fn get(&self, reg: Reg) -> Operand {
        self.peek(reg).cloned().unwrap_or_else(|| Operand::new(("<register>".into(), Kind::Raw), 4))
    }

    fn set(&mut self, reg: Reg, operand: Operand) {
        if let Some(slot) = self.registers.get_mut(usize::from(reg) / 4) {
            *slot = Some(operand);
        }
    }

    /// What a register holds, where its user says what it means.
    fn value(&self, reg: Reg, kind: Kind) -> String {
        match self.peek(reg) {
            Some(Operand { constant: Some(bytes), .. }) => kind.show(bytes, false),
            Some(operand) => unmasked(operand),
            None => "<register>".to_owned(),
        }
    }

    fn test(&mut self, left: String, op: &'static str, right: String) {
        self.pieces.push(Some(Piece::Test { left, op, right }));
    }

    fn say(&mut self, words: String) {
        self.pieces.push(Some(Piece::Statement(words)));
    }
}

/// The text with its mask, where nothing is compared with it.
fn unmasked(operand: &Operand) -> String {
    match &operand.mask {
        Some(mask) => format!("{} & {}", operand.text, operand.kind.show(mask, operand.swapped)),
        None => operand.text.clone(),
    }
}

fn plus(offset: u32) -> String {
    if offset == 0 { String::new() } else { format!(" offset {offset}") }
}

/// `(x & mask) ^ xor`; where the mask leaves out what is turned on, it is an `or`.
fn mask_xor(operand: &Operand, mask: &[u8], xor: &[u8]) -> String {
    let show = |bytes: &[u8]| operand.kind.show(bytes, operand.swapped);
    let (text, set) = (&operand.text, show(xor));
    let bits = || mask.iter().zip(xor);
    if bits().all(|(m, x)| *m == !x) {
        format!("{text} | {set}")
    } else if mask.iter().all(|&m| m == 0xff) {
        format!("{text} ^ {set}")
    } else {
        let op = if bits().all(|(m, x)| m & x == 0) { '|' } else { '^' };
        format!("{text} & {} {op} {set}", show(mask))
    }
}

/// The bytes of a key, the weightiest first.
fn in_order(key: &[u8], reversed: bool) -> Vec<u8> {
    if reversed { key.iter().rev().copied().collect() } else { key.to_vec() }
}
