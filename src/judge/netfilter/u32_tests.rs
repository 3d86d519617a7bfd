//! xt_u32 on a packet of which some bits are known and others not.

use super::forms_tests::Hit::{Everybody, Nobody, Unknown};
use super::forms_tests::{Hit, host, v4};
use crate::facts::U32Op::{And, At, ShiftLeft, ShiftRight};
use crate::facts::*;

fn of(family: Family, start: u32, steps: &[(U32Op, u32)], range: (u32, u32)) -> Hit {
    let tests = vec![U32Test { start, steps: steps.to_vec(), ranges: vec![range] }];
    host(family).xt(Hook::Input, XtMatch::U32 { tests, invert: false })
}

fn ipv4(start: u32, steps: &[(U32Op, u32)], range: (u32, u32)) -> Hit {
    of(Family::Ipv4, start, steps, range)
}

/// The first byte of the packet is 0x45; the type of service is the client's choice, the length known by its bounds alone.
#[test]
fn a_number_that_is_known_in_part_lies_surely_where_all_that_it_can_be_lies() {
    let first = |range| ipv4(0, &[], range);
    assert_eq!(first((0x4500_0000, 0x45ff_ffff)), Everybody);
    assert_eq!(first((0x4500_0001, 0x45ff_ffff)), Unknown);
    assert_eq!(first((0x4500_0000, 0x45ff_fffe)), Unknown);
    assert_eq!(first((0, 0x44ff_ffff)), Nobody);
    assert_eq!(first((0x4600_0000, u32::MAX)), Nobody);
    assert_eq!(first((0, 0x4500_0000)), Unknown);
    assert_eq!(first((0x45ff_ffff, u32::MAX)), Unknown);
    let either = |ranges: Vec<(u32, u32)>| {
        let tests = vec![U32Test { start: 0, steps: Vec::new(), ranges }];
        v4().xt(Hook::Input, XtMatch::U32 { tests, invert: true })
    };
    assert_eq!(either(vec![(0, 1), (0x4500_0000, 0x4600_0000)]), Nobody);
    assert_eq!(either(vec![(0, 1), (0x4600_0000, u32::MAX)]), Everybody);
    assert_eq!(either(vec![(0, 1), (0, 0x4500_0000)]), Unknown);
}

#[test]
fn steps_leave_known_what_they_make_known() {
    let is = |number| (number, number);
    assert_eq!(ipv4(0, &[(And, 0xff00_0000)], is(0x4500_0000)), Everybody);
    assert_eq!(ipv4(0, &[(And, 0xff00_0000)], is(0x4400_0000)), Nobody);
    assert_eq!(ipv4(0, &[(And, 0xff00_0001)], is(0x4500_0000)), Unknown);
    assert_eq!(ipv4(0, &[(ShiftRight, 24)], is(0x45)), Everybody);
    assert_eq!(ipv4(0, &[(ShiftRight, 23)], is(0x8a)), Unknown);
    // What is shifted in is 0; what was not known is not, wherever it comes to stand.
    assert_eq!(ipv4(0, &[(ShiftLeft, 8)], is(0)), Unknown);
    assert_eq!(ipv4(0, &[(ShiftLeft, 8), (And, 0xff)], is(0)), Everybody);
    assert_eq!(ipv4(0, &[(ShiftLeft, 4), (ShiftRight, 28)], is(5)), Everybody);
    // The ports: the client's own, and 22.
    assert_eq!(ipv4(20, &[(And, 0xffff)], is(22)), Everybody);
    assert_eq!(ipv4(20, &[(ShiftLeft, 16)], is(22 << 16)), Everybody);
    assert_eq!(ipv4(20, &[(ShiftRight, 16)], is(40000)), Unknown);
    // By the length of the IP header to what comes after it, and back.
    let to_tcp = [(ShiftRight, 22), (And, 0x3c), (At, 0), (And, 0xffff)];
    assert_eq!(ipv4(0, &to_tcp, is(22)), Everybody);
    assert_eq!(ipv4(0, &to_tcp, is(23)), Nobody);
    assert_eq!(ipv4(0, &[(At, 0)], is(22)), Unknown, "an offset that is not known");
}

#[test]
fn a_byte_of_which_half_is_known_is_known_by_half() {
    // The version, and the first half of the traffic class.
    let six = |steps: &[(U32Op, u32)], range| of(Family::Ipv6, 0, steps, range);
    assert_eq!(six(&[(ShiftRight, 28)], (6, 6)), Everybody);
    assert_eq!(six(&[(ShiftRight, 28)], (4, 4)), Nobody);
    assert_eq!(six(&[], (0x6000_0000, 0x6fff_ffff)), Everybody);
    assert_eq!(six(&[(ShiftRight, 24)], (0x60, 0x60)), Unknown);
}
