//! xt_u32: arithmetic on what stands in the packet, as far as its bits are known.

use super::bytes::Byte;
use super::cond::Cond;
use super::flow::{Doubt, Packet};
use super::load::header;
use crate::facts::{U32Op, U32Test};

/// A number of which only the bits in `known` are known; the others are 0 in `value`.
#[derive(Debug, Clone, Copy)]
struct Partly {
    value: u32,
    known: u32,
}

/// Whether every test holds.
pub fn u32_tests(packet: &Packet, tests: &[U32Test]) -> Cond {
    let open = || Cond::Maybe(Doubt::unknown("match u32 looks at what is not known of the packet"));
    let mut all = Cond::Always;
    for one in tests {
        match test(packet, one) {
            Some(true) => {}
            Some(false) => return Cond::Never,
            None => all = open(),
        }
    }
    all
}

fn test(packet: &Packet, test: &U32Test) -> Option<bool> {
    let mut at = 0u32;
    let mut number = load(packet, test.start)?;
    for (op, operand) in &test.steps {
        match op {
            U32Op::And => {
                number = Partly { value: number.value & operand, known: number.known | !operand };
            }
            U32Op::ShiftLeft => {
                let shift = |n: u32| n.checked_shl(*operand).unwrap_or(0);
                number = Partly { value: shift(number.value), known: !shift(!number.known) };
            }
            U32Op::ShiftRight => {
                let shift = |n: u32| n.checked_shr(*operand).unwrap_or(0);
                number = Partly { value: shift(number.value), known: !shift(!number.known) };
            }
            U32Op::At => {
                at = at.checked_add(number.whole()?)?;
                number = load(packet, at.checked_add(*operand)?)?;
            }
        }
    }
    let (least, most) = (number.value, number.value | !number.known);
    let holds = |&(first, last): &(u32, u32)| match () {
        () if first <= least && most <= last => Some(true),
        () if most < first || last < least => Some(false),
        () => None,
    };
    let found: Vec<Option<bool>> = test.ranges.iter().map(holds).collect();
    if found.contains(&Some(true)) {
        return Some(true);
    }
    if found.contains(&None) { None } else { Some(false) }
}

impl Partly {
    fn whole(self) -> Option<u32> {
        (self.known == u32::MAX).then_some(self.value)
    }
}

/// Four bytes of the packet, counted from its IP header; None where the packet may be shorter.
fn load(packet: &Packet, at: u32) -> Option<Partly> {
    let (mut value, mut known) = ([0; 4], [0; 4]);
    for (offset, (value, known)) in (0..).zip(value.iter_mut().zip(&mut known)) {
        (*value, *known) = match header(packet, at.checked_add(offset)?)? {
            Some(Byte::Const(byte)) => (byte, 0xff),
            Some(Byte::Source { mask, xor, .. } | Byte::Var { mask, xor, .. }) => (xor & !mask, !mask),
            _ => (0, 0),
        };
    }
    Some(Partly { value: u32::from_be_bytes(value), known: u32::from_be_bytes(known) })
}
