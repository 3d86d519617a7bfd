//! The part of a rule that only looks: loads, comparisons, matches.

use super::bytes::{Byte, Regs};
use super::cond::Cond;
use super::first::remembers;
use super::flow::{Doubt, Fork};
use super::load::{Loaded, byte};
use super::walk::Walk;
use crate::facts::{AddrSet, BitwiseOp, CtKey, Expr, Hook, MetaKey, Reg, Rule, Verdict, XtTarget};

/// How far a rule has come to hold.
#[derive(Debug, Clone)]
pub struct Eval {
    /// The fork's sources for which it holds; None: all.
    pub hit: Option<AddrSet>,
    pub doubts: Vec<Doubt>,
    pub regs: Regs,
}

pub enum Scan {
    /// It does not match.
    Miss,
    /// It matches, and does nothing that a verdict depends on.
    Idle,
    /// It matches as far as this expression, which does something.
    Effect(usize),
    /// It goes on differently for disjoint sources.
    Split(Vec<(usize, Eval)>),
}

enum Step {
    Next,
    Miss,
    Effect,
    Split(Vec<Eval>),
}

const NFT_OBJECT_QUOTA: u32 = 2;
const NFT_OBJECT_LIMIT: u32 = 4;
const NFT_OBJECT_CONNLIMIT: u32 = 5;
const NFT_OBJECT_SYNPROXY: u32 = 10;
/// NFT_RT_XFRM
const RT_XFRM: u32 = 4;
/// NFT_SOCKET_TRANSPARENT
const SOCKET_TRANSPARENT: u32 = 0;
/// NFT_EXTHDR_OP_TCPOPT
const TCP_OPTION: u32 = 1;

impl<'a> Walk<'a> {
    pub fn scan(&self, fork: &Fork, rule: &'a Rule, start: usize, eval: &mut Eval) -> Scan {
        for (at, expr) in rule.exprs.iter().enumerate().skip(start) {
            if self.first && remembers(expr, &rule.exprs[at + 1..]) {
                return Scan::Effect(at);
            }
            match self.look(fork, expr, eval) {
                Step::Next => {}
                Step::Miss => return Scan::Miss,
                Step::Effect => return Scan::Effect(at),
                Step::Split(list) => return Scan::Split(list.into_iter().map(|e| (at + 1, e)).collect()),
            }
        }
        Scan::Idle
    }

    /// Why the expression alone cannot be decided.
    pub fn why(&self, fork: &Fork, expr: &'a Expr) -> Option<Doubt> {
        let mut eval = Eval { hit: None, doubts: Vec::new(), regs: Regs::new() };
        self.look(fork, expr, &mut eval);
        eval.doubts.pop()
    }

    fn look(&self, fork: &Fork, expr: &'a Expr, eval: &mut Eval) -> Step {
        let packet = &fork.packet;
        let Some(site) = self.stack.last() else { return Step::Miss };
        match expr {
            Expr::Immediate { dreg, data } => {
                eval.regs.put_const(*dreg, data);
                Step::Next
            }
            Expr::Cmp { sreg, op, data } => {
                let cond = eval.regs.compare(packet.family, *sreg, *op, data);
                narrow(fork, eval, cond)
            }
            Expr::Range { sreg, negate, from, to } => {
                let bytes = eval.regs.get(*sreg, from.len());
                let cond = eval.regs.between(packet.family, bytes, from, to).negated_if(*negate);
                narrow(fork, eval, cond)
            }
            Expr::Payload { dreg, base, offset, len } => match self.payload(packet, site.hook, *base, *offset, *len) {
                Loaded::Header => {
                    let known = |at| byte(packet, *base, at);
                    eval.regs.put(*dreg, (*offset..offset.saturating_add((*len).min(64))).filter_map(known));
                    Step::Next
                }
                loaded => load(eval, *dreg, loaded, *len as usize),
            },
            Expr::Meta { dreg, key } => load(eval, *dreg, self.meta(packet, site.hook, *key), width(*key)),
            Expr::Ct { dreg, key, dir } => load(eval, *dreg, self.ct(packet, *key, *dir), 16),
            Expr::Bitwise { sreg, dreg, len, op } => {
                bitwise(&mut eval.regs, *sreg, *dreg, *len as usize, op);
                Step::Next
            }
            Expr::Byteorder { sreg, dreg, len, size, .. } => {
                let mut bytes = eval.regs.get(*sreg, *len as usize).to_vec();
                bytes.chunks_mut((*size).clamp(1, 8) as usize).for_each(<[Byte]>::reverse);
                eval.regs.put(*dreg, bytes);
                Step::Next
            }
            Expr::Lookup { set, sreg, dreg: None, negate } => {
                let cond = match self.set(set) {
                    Some(found) => {
                        let key = eval.regs.get(*sreg, found.key_len);
                        self.contains(packet, site.table, found, &eval.regs, key).negated_if(*negate)
                    }
                    None => Cond::Maybe(Doubt::unknown(format!("set {set} could not be read"))),
                };
                narrow(fork, eval, cond)
            }
            Expr::Lookup { set, sreg, dreg: Some(Some(dreg)), .. } => self.map(fork, eval, set, *sreg, *dreg),
            Expr::Fib { dreg, flags, result } => {
                let values = self.fib(packet, &self.routes, *flags, result);
                self.split(fork, eval, *dreg, values)
            }
            Expr::Limit { over, text } => {
                let over = if *over { "over " } else { "" };
                doubt(eval, Doubt::conditional(format!("limited by rate ({over}{text})")))
            }
            Expr::Quota { .. } => doubt(eval, Doubt::conditional("limited by a quota")),
            Expr::Connlimit { count, .. } => {
                doubt(eval, Doubt::conditional(format!("depends on the number of connections ({count})")))
            }
            Expr::Numgen { dreg, modulus: 1, offset, .. } | Expr::Hash { dreg, modulus: 1, offset, .. } => {
                eval.regs.put_const(*dreg, &offset.to_ne_bytes());
                Step::Next
            }
            Expr::Numgen { dreg, .. } => {
                eval.regs.put_doubt(*dreg, 4, Doubt::conditional("decided by chance or by turns"));
                Step::Next
            }
            Expr::Hash { dreg, .. } => {
                eval.regs.put_doubt(*dreg, 4, Doubt::unknown("depends on a hash"));
                Step::Next
            }
            // Before the routing decision there is no route to look at.
            Expr::Rt { .. } if matches!(site.hook, Hook::Ingress | Hook::Prerouting) => Step::Miss,
            Expr::Rt { dreg, key: RT_XFRM } => {
                eval.regs.put_const(*dreg, &[0]);
                Step::Next
            }
            Expr::Rt { dreg, .. } => {
                eval.regs.put_doubt(*dreg, 16, Doubt::unknown("depends on the route's properties"));
                Step::Next
            }
            // No sshd listens with IP_TRANSPARENT; who listens elsewhere is not known.
            Expr::Socket { dreg, key: SOCKET_TRANSPARENT, .. } if packet.port == self.path.port => {
                eval.regs.put_const(*dreg, &[0]);
                Step::Next
            }
            Expr::Socket { dreg, .. } => {
                eval.regs.put_doubt(*dreg, 8, Doubt::unknown("depends on an open socket"));
                Step::Next
            }
            Expr::Osf { dreg } => {
                eval.regs.put_doubt(*dreg, 16, Doubt::unknown("depends on the client's operating system"));
                Step::Next
            }
            // No packet here has come through a tunnel or through IPsec.
            Expr::Xfrm { .. } | Expr::Tunnel { .. } => Step::Miss,
            Expr::Exthdr { dreg, op, presence, len, .. } => match dreg {
                None => Step::Next,
                Some(dreg) if *op == TCP_OPTION => {
                    let len = if *presence { 1 } else { *len as usize };
                    eval.regs.put_doubt(*dreg, len, Doubt::unknown("depends on the client's TCP options"));
                    Step::Next
                }
                Some(dreg) if *presence => {
                    eval.regs.put_const(*dreg, &[0]);
                    Step::Next
                }
                Some(_) => Step::Miss,
            },
            Expr::Objref { by_map: Some((map, key)), .. } => self.object(fork, eval, map, *key),
            Expr::Objref { kind: NFT_OBJECT_QUOTA | NFT_OBJECT_LIMIT | NFT_OBJECT_CONNLIMIT, .. } => {
                doubt(eval, Doubt::conditional("limited by a named object"))
            }
            Expr::XtMatch(m) => {
                let cond = self.xt_match(packet, site.hook, m);
                narrow(fork, eval, cond)
            }
            Expr::Unknown { name } => doubt(eval, Doubt::unknown(format!("{name} is not modelled"))),
            _ if is_neutral(expr) => Step::Next,
            Expr::Verdict(Verdict::Break) => Step::Miss,
            _ => Step::Effect,
        }
    }

    /// A named object that is found by a key: without one the rule does not match.
    fn object(&self, fork: &Fork, eval: &mut Eval, map: &str, key: Reg) -> Step {
        let (Some(found), Some(table)) = (self.set(map), self.stack.last().map(|s| s.table)) else {
            return doubt(eval, Doubt::unknown(format!("map {map} could not be read")));
        };
        match found.object {
            Some(NFT_OBJECT_QUOTA | NFT_OBJECT_LIMIT | NFT_OBJECT_CONNLIMIT) => {
                doubt(eval, Doubt::conditional("limited by a named object"));
            }
            Some(NFT_OBJECT_SYNPROXY) | None => {
                doubt(eval, Doubt::unknown(format!("objects of map {map} are not modelled")));
            }
            Some(_) => {}
        }
        let key = eval.regs.get(key, found.key_len);
        let cond = self.contains(&fork.packet, table, found, &eval.regs, key);
        narrow(fork, eval, cond)
    }

    /// A map's data by the sources that have it.
    fn map(&self, fork: &Fork, eval: &mut Eval, set: &str, sreg: Reg, dreg: Reg) -> Step {
        let Some(found) = self.set(set) else {
            return doubt(eval, Doubt::unknown(format!("map {set} could not be read")));
        };
        let Some(table) = self.stack.last().map(|s| s.table) else { return Step::Miss };
        let family = fork.packet.family;
        let key = eval.regs.get(sreg, found.key_len);
        let hits = match self.find(&fork.packet, table, found, &eval.regs, key) {
            Ok(hits) => hits,
            Err(why) => {
                eval.regs.put_doubt(dreg, found.data_len, why.clone());
                return doubt(eval, why);
            }
        };
        let mut values = Vec::new();
        for (cond, place) in hits {
            let data = found.elements.get(place).and_then(|e| e.data.as_ref());
            let sources = match cond {
                Cond::Always => AddrSet::full(family),
                Cond::Sources(sources) => sources,
                Cond::Never => continue,
                Cond::Maybe(why) | Cond::Part { doubt: why, .. } => {
                    eval.regs.put_doubt(dreg, found.data_len, why.clone());
                    return doubt(eval, why);
                }
            };
            let loaded = match data {
                Some(crate::facts::ElementData::Bytes(bytes)) => {
                    Loaded::Bytes(bytes.iter().map(|&b| Byte::Const(b)).collect())
                }
                _ => Loaded::Doubt(Doubt::unknown(format!("data of map {set}"))),
            };
            values.push((sources, loaded));
        }
        self.split(fork, eval, dreg, values)
    }

    /// Goes on with each value for its own sources; a source without a value misses.
    fn split(&self, fork: &Fork, eval: &mut Eval, dreg: Reg, values: Vec<(AddrSet, Loaded)>) -> Step {
        let mut out = Vec::new();
        for (sources, loaded) in values {
            if sources.is_full() {
                return load(eval, dreg, loaded, 16);
            }
            let mut part = eval.clone();
            let cond = Cond::sources(sources);
            if matches!(narrow(fork, &mut part, cond), Step::Next)
                && matches!(load(&mut part, dreg, loaded, 16), Step::Next)
            {
                out.push(part);
            }
        }
        if out.is_empty() { Step::Miss } else { Step::Split(out) }
    }
}

/// Keeps of the evaluation what the condition holds for.
fn narrow(fork: &Fork, eval: &mut Eval, cond: Cond) -> Step {
    let within = |eval: &Eval, set: &AddrSet| eval.hit.as_ref().unwrap_or(&fork.sources).intersection(set);
    match cond {
        Cond::Always => Step::Next,
        Cond::Never => Step::Miss,
        Cond::Maybe(why) => doubt(eval, why),
        Cond::Sources(set) => {
            let hit = within(eval, &set);
            if hit.is_empty() {
                return Step::Miss;
            }
            eval.hit = Some(hit);
            Step::Next
        }
        Cond::Part { yes, maybe, doubt: why } => {
            let surely = Eval { hit: Some(within(eval, &yes)), ..eval.clone() };
            let mut perhaps = Eval { hit: Some(within(eval, &maybe)), ..eval.clone() };
            perhaps.doubts.push(why);
            let parts = [surely, perhaps].into_iter().filter(|e| e.hit.as_ref().is_some_and(|h| !h.is_empty()));
            let parts: Vec<Eval> = parts.collect();
            if parts.is_empty() { Step::Miss } else { Step::Split(parts) }
        }
    }
}

fn doubt(eval: &mut Eval, why: Doubt) -> Step {
    if !eval.doubts.contains(&why) {
        eval.doubts.push(why);
    }
    Step::Next
}

/// How many bytes of the registers a key takes that is not known.
fn width(key: MetaKey) -> usize {
    use MetaKey::*;
    match key {
        TimeNs => 8,
        IifName | OifName | BriIifName | BriOifName | IifKind | OifKind | SdifName | Other(_) => 16,
        _ => 4,
    }
}

fn load(eval: &mut Eval, dreg: Reg, loaded: Loaded, len: usize) -> Step {
    match loaded {
        Loaded::Bytes(bytes) => eval.regs.put(dreg, bytes),
        Loaded::Const(bytes, len) => eval.regs.put_const(dreg, &bytes[..len]),
        Loaded::Doubt(why) => eval.regs.put_doubt(dreg, len, why),
        Loaded::Header | Loaded::Break => return Step::Miss,
    }
    Step::Next
}

fn bitwise(regs: &mut Regs, sreg: Reg, dreg: Reg, len: usize, op: &BitwiseOp) {
    let bytes = regs.get(sreg, len).to_vec();
    let shifted = |shift: &dyn Fn(u32) -> u32| {
        let known: Option<[u8; 4]> = regs.known(sreg, len).and_then(|b| b.try_into().ok());
        known.map(|b| shift(u32::from_ne_bytes(b)).to_ne_bytes())
    };
    let result = match op {
        BitwiseOp::MaskXor { mask, xor } => {
            let pair = |n: usize| (mask.get(n).copied().unwrap_or(0xff), xor.get(n).copied().unwrap_or(0));
            let out: Vec<Byte> = bytes.iter().enumerate().map(|(n, b)| b.masked(pair(n).0, pair(n).1)).collect();
            return regs.put(dreg, out);
        }
        BitwiseOp::ShiftLeft(by) => shifted(&|n| n.checked_shl(*by).unwrap_or(0)),
        BitwiseOp::ShiftRight(by) => shifted(&|n| n.checked_shr(*by).unwrap_or(0)),
        BitwiseOp::Register { op, reg } => {
            let other = regs.known(*reg, len).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(u32::from_ne_bytes);
            other.and_then(|other| {
                shifted(&|n| match op {
                    '&' => n & other,
                    '|' => n | other,
                    _ => n ^ other,
                })
            })
        }
    };
    match result {
        Some(known) => regs.put_const(dreg, &known),
        None => {
            let why = regs.why(sreg, len);
            regs.put_doubt(dreg, len, why);
        }
    }
}

/// Expressions that decide nothing and change nothing that a verdict depends on.
pub fn is_neutral(expr: &Expr) -> bool {
    match expr {
        Expr::Verdict(verdict) => *verdict == Verdict::Continue,
        Expr::MetaSet { key, .. } => *key != MetaKey::Mark,
        Expr::CtSet { key, .. } => !matches!(key, CtKey::Mark | CtKey::Zone),
        Expr::Objref { kind, .. } => *kind != NFT_OBJECT_SYNPROXY,
        Expr::Log { .. } | Expr::Counter | Expr::Last | Expr::Dup | Expr::FlowOffload { .. } => true,
        Expr::XtTarget(target) => {
            matches!(target, XtTarget::Continue | XtTarget::Log { .. } | XtTarget::Harmless { .. })
        }
        _ => false,
    }
}
