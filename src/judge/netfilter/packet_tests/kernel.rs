//! Chains of rules over one packet, as the kernel runs them.

use super::draw::Draw;
use super::packet::{Step, Whole};
use crate::facts::*;

/// What a rule does.
enum Deed {
    Verdict(Verdict),
    Refuse,
    Next,
}

fn holds(set: &Set, key: &[u8]) -> Option<usize> {
    let within = |from: &[u8], to: &[u8]| {
        let fields = if set.fields.is_empty() { vec![set.key_len] } else { set.fields.clone() };
        let mut at = 0;
        fields.iter().all(|len| {
            let field = at..at + len;
            at += len.next_multiple_of(4);
            (&from[field.clone()]..=&to[field.clone()]).contains(&&key[field])
        })
    };
    let hit = set.elements.iter().position(|element| match &element.key {
        ElementKey::One(own) => **own == *key,
        ElementKey::Range(from, to) => within(from, to),
        ElementKey::Any => false,
    });
    hit.or_else(|| set.elements.iter().position(|element| element.key == ElementKey::Any))
}

fn rule(table: &Table, rule: &Rule, packet: &mut Whole) -> Deed {
    let mut regs = [0u8; 64];
    let put = |regs: &mut [u8; 64], reg: Reg, bytes: &[u8]| {
        let at = usize::from(reg);
        regs[at..at + bytes.len().next_multiple_of(4)].fill(0);
        regs[at..at + bytes.len()].copy_from_slice(bytes);
    };
    for expr in &rule.exprs {
        let holds = match expr {
            Expr::Meta { dreg, key } => packet.meta(*key).map(|b| put(&mut regs, *dreg, &b)).is_some(),
            Expr::Ct { dreg, key, dir } => packet.ct(*key, *dir).map(|b| put(&mut regs, *dreg, &b)).is_some(),
            Expr::Payload { dreg, base, offset, len } => {
                put(&mut regs, *dreg, &packet.payload(*base, *offset, *len));
                true
            }
            Expr::Immediate { dreg, data } => {
                put(&mut regs, *dreg, data);
                true
            }
            Expr::Bitwise { sreg, dreg, len, op: BitwiseOp::MaskXor { mask, xor } } => {
                let at = usize::from(*sreg);
                let from = regs[at..at + *len as usize].to_vec();
                let made: Vec<u8> = from.iter().zip(mask.iter().zip(xor)).map(|(b, (m, x))| b & m ^ x).collect();
                put(&mut regs, *dreg, &made);
                true
            }
            Expr::Byteorder { sreg, dreg, len, size, .. } => {
                let at = usize::from(*sreg);
                let mut made = regs[at..at + *len as usize].to_vec();
                made.chunks_mut(*size as usize).for_each(<[u8]>::reverse);
                put(&mut regs, *dreg, &made);
                true
            }
            Expr::Cmp { sreg, op, data } => {
                let own = &regs[usize::from(*sreg)..usize::from(*sreg) + data.len()];
                match op {
                    CmpOp::Eq => *own == **data,
                    CmpOp::Neq => *own != **data,
                    CmpOp::Lt => own < data.as_slice(),
                    CmpOp::Lte => own <= data.as_slice(),
                    CmpOp::Gt => own > data.as_slice(),
                    CmpOp::Gte => own >= data.as_slice(),
                }
            }
            Expr::Range { sreg, negate, from, to } => {
                let own = &regs[usize::from(*sreg)..usize::from(*sreg) + from.len()];
                (from.as_slice()..=to.as_slice()).contains(&own) != *negate
            }
            Expr::Lookup { set, sreg, dreg, negate } => {
                let set = table.set(set).expect("a set");
                let hit = holds(set, &regs[usize::from(*sreg)..usize::from(*sreg) + set.key_len]);
                match (dreg, hit.and_then(|hit| set.elements[hit].data.clone())) {
                    (None, _) => hit.is_some() != *negate,
                    (Some(None), Some(ElementData::Verdict(verdict))) => return Deed::Verdict(verdict),
                    (Some(Some(dreg)), Some(ElementData::Bytes(data))) => {
                        put(&mut regs, *dreg, &data);
                        true
                    }
                    _ => false,
                }
            }
            Expr::MetaSet { sreg, .. } => {
                let at = usize::from(*sreg);
                packet.mark = u32::from_ne_bytes(regs[at..at + 4].try_into().expect("four bytes"));
                true
            }
            Expr::CtSet { sreg, .. } => {
                let at = usize::from(*sreg);
                packet.flow_mark = u32::from_ne_bytes(regs[at..at + 4].try_into().expect("four bytes"));
                true
            }
            Expr::XtMatch(found) => packet.xt(found),
            Expr::XtTarget(XtTarget::Mark { mark, mask }) => {
                packet.mark = packet.mark & !mask ^ mark;
                true
            }
            Expr::XtTarget(XtTarget::Connmark { mode, ctmark, ctmask, nfmask }) => {
                let (mark, flow) = (packet.mark, packet.flow_mark);
                match mode {
                    ConnmarkMode::Set => packet.flow_mark = flow & !ctmask ^ ctmark,
                    ConnmarkMode::Save => packet.flow_mark = flow & !ctmask ^ mark & nfmask,
                    ConnmarkMode::Restore => packet.mark = mark & !nfmask ^ flow & ctmask,
                }
                true
            }
            Expr::XtTarget(XtTarget::Accept) => return Deed::Verdict(Verdict::Accept),
            Expr::XtTarget(XtTarget::Drop) => return Deed::Verdict(Verdict::Drop),
            Expr::XtTarget(XtTarget::Return) => return Deed::Verdict(Verdict::Return),
            Expr::XtTarget(XtTarget::Jump(chain)) => return Deed::Verdict(Verdict::Jump(chain.clone())),
            Expr::XtTarget(XtTarget::Reject(_)) | Expr::Reject(_) => return Deed::Refuse,
            Expr::Verdict(Verdict::Continue) | Expr::Counter | Expr::Log { .. } => true,
            Expr::Verdict(verdict) => return Deed::Verdict(verdict.clone()),
            other => unreachable!("{other:?}"),
        };
        if !holds {
            return Deed::Next;
        }
    }
    Deed::Next
}

/// Whether the packet passes; None: the chain says nothing.
fn chain(table: &Table, name: &str, packet: &mut Whole) -> Option<bool> {
    for one in table.chain(name).expect("a chain").rules.iter() {
        match rule(table, one, packet) {
            Deed::Next | Deed::Verdict(Verdict::Continue | Verdict::Break) => {}
            Deed::Refuse | Deed::Verdict(Verdict::Drop) => return Some(false),
            Deed::Verdict(Verdict::Accept) => return Some(true),
            Deed::Verdict(Verdict::Return) => return None,
            Deed::Verdict(Verdict::Goto(called)) => return chain(table, &called, packet),
            Deed::Verdict(Verdict::Jump(called)) => {
                if let Some(told) = chain(table, &called, packet) {
                    return Some(told);
                }
            }
            Deed::Verdict(other) => unreachable!("{other:?}"),
        }
    }
    None
}

/// Whether the handshake of one client, as `draw` makes it, passes the base chain.
pub fn passes(firewall: &Firewall, family: Family, source: u128, draw: &mut Draw) -> bool {
    let Seen::Present(nft) = &firewall.nft else { unreachable!() };
    let table = &nft.tables[0];
    let base = table.chains[0].base.as_ref().expect("a base chain");
    let (port, mut flow_mark) = (draw.within(32768..=60999), 0);
    [Step::Syn, Step::Answer, Step::Ack].into_iter().all(|step| {
        let mut packet = Whole::new(family, step, source, port, draw);
        packet.flow_mark = flow_mark;
        if packet.inwards() != (base.hook != Hook::Output) {
            return true;
        }
        let told = chain(table, &table.chains[0].name, &mut packet);
        flow_mark = packet.flow_mark;
        told.unwrap_or(base.policy == Policy::Accept)
    })
}
