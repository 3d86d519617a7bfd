//! Masks, orders and registers: what is left of the source address, and whom it hits.

use super::*;

fn is(sreg: Reg, op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp { sreg, op, data: data.into() }
}

fn source(offset: u32, len: u32) -> Expr {
    Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12 + offset, len }
}

fn mask(mask: [u8; 4], xor: [u8; 4]) -> Expr {
    let op = BitwiseOp::MaskXor { mask: mask.as_slice().into(), xor: xor.as_slice().into() };
    Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op }
}

fn range(from: u128, to: u128) -> Hit {
    Hit::Some(AddrSet::range(Family::Ipv4, from, to))
}

#[test]
fn a_source_under_a_mask_is_ordered_by_what_the_mask_leaves() {
    let of = |bits: Expr, op, data: [u8; 4]| v4().hit(Hook::Input, vec![source(0, 4), bits, is(0, op, &data)]);
    let by_net = |op, data| of(mask([255, 0, 0, 0], [0; 4]), op, data);
    assert_eq!(by_net(CmpOp::Lt, [11, 0, 0, 0]), range(0, 0x0aff_ffff));
    assert_eq!(by_net(CmpOp::Gte, [10, 0, 0, 0]), range(0x0a00_0000, 0xffff_ffff));
    // None of 10.0.0.0/8 has a bit beyond its prefix then.
    assert_eq!(by_net(CmpOp::Gte, [10, 0, 0, 1]), range(0x0b00_0000, 0xffff_ffff));
    assert_eq!(by_net(CmpOp::Lte, [10, 0, 0, 1]), range(0, 0x0aff_ffff));
    let flipped = |op, data| of(mask([255, 0, 0, 0], [0, 0, 0, 1]), op, data);
    assert_eq!(flipped(CmpOp::Lte, [10, 0, 0, 0]), range(0, 0x09ff_ffff));
    assert_eq!(flipped(CmpOp::Gt, [10, 0, 0, 0]), range(0x0a00_0000, 0xffff_ffff));
    assert_eq!(flipped(CmpOp::Gte, [0, 0, 0, 2]), range(0x0100_0000, 0xffff_ffff));
    assert_eq!(flipped(CmpOp::Lte, [0, 0, 0, 0]), Nobody);
}

#[test]
fn nothing_is_beyond_the_last_address_and_before_the_first() {
    for family in Family::BOTH {
        let host = host(family);
        let (offset, width) = if family == Family::Ipv4 { (12, 4) } else { (8, 16) };
        let of = |len: usize, op, byte: u8| {
            let load = Expr::Payload { dreg: 0, base: PayloadBase::Network, offset, len: len as u32 };
            host.hit(Hook::Input, vec![load, is(0, op, &vec![byte; len])])
        };
        for len in [1, width] {
            let last = if len == 1 { family.max() - (family.max() >> 8) } else { family.max() };
            let some = Hit::Some(AddrSet::range(family, last, family.max()));
            assert_eq!(of(len, CmpOp::Gte, 255), some);
            assert_eq!(of(len, CmpOp::Gt, 255), Nobody);
            assert_eq!(of(len, CmpOp::Lte, 255), Everybody);
            assert_eq!(of(len, CmpOp::Gte, 0), Everybody);
            assert_eq!(of(len, CmpOp::Lt, 0), Nobody);
        }
    }
}

#[test]
fn a_source_of_which_the_bits_are_flipped_twice_is_as_it_was() {
    let twice = |second: [u8; 4]| {
        let flips = [mask([255; 4], [0xff; 4]), mask([255; 4], second)];
        let exprs = [source(0, 4)].into_iter().chain(flips).chain([is(0, CmpOp::Eq, &[10, 1, 2, 3])]);
        v4().hit(Hook::Input, exprs.collect())
    };
    assert_eq!(twice([0xff; 4]), range(0x0a01_0203, 0x0a01_0203));
    assert_eq!(twice([0xff, 0xff, 0xff, 0xf0]), range(0x0a01_020c, 0x0a01_020c));
}

/// nft_payload.c: what is loaded is filled up with zeros to a whole register of four bytes.
#[test]
fn a_load_clears_the_rest_of_its_register_and_no_other() {
    let port = |dreg| Expr::Payload { dreg, base: PayloadBase::Transport, offset: 2, len: 2 };
    let before = immediate(0, &[9; 8]);
    let holds = |data: &[u8]| v4().hit(Hook::Input, vec![before.clone(), port(0), is(0, CmpOp::Eq, data)]);
    assert_eq!(holds(&[0, 22, 0, 0, 9, 9, 9, 9]), Everybody);
    assert_eq!(holds(&[0, 22, 9, 9, 9, 9, 9, 9]), Nobody);
    let whole = vec![before, immediate(0, &[1; 4]), is(0, CmpOp::Eq, &[1, 1, 1, 1, 9, 9, 9, 9])];
    assert_eq!(v4().hit(Hook::Input, whole), Everybody);
    let beyond = |op| vec![immediate(60, &[7; 4]), is(60, op, &[7, 7, 7, 7, 0, 0, 0, 0])];
    assert_eq!(v4().hit(Hook::Input, beyond(CmpOp::Eq)), Nobody, "there is no register beyond the last");
}

#[test]
fn what_is_made_of_a_value_that_is_not_known_is_in_doubt_for_the_same_reason() {
    let left = Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op: BitwiseOp::ShiftLeft(1) };
    let of = |load: Expr| {
        let rule = vec![load, left.clone(), is(0, CmpOp::Eq, &[2, 0, 0, 0]), DROP];
        v4().judged(vec![chain(Hook::Input, ChainKind::Filter, 0, vec![rule])])
    };
    let chance = of(Expr::Meta { dreg: 0, key: MetaKey::Prandom });
    assert!(chance.conditional[0].sources.is_full());
    assert_eq!(chance.conditional[0].reason, "decided by chance");
    let length = of(Expr::Meta { dreg: 0, key: MetaKey::Len });
    assert!(length.conditional[0].sources.is_full());
    assert_eq!(length.conditional[0].reason, "depends on the packet's length");
    let client = of(source(0, 4));
    assert!(client.unknown[0].sources.is_full());
    assert_eq!(client.unknown[0].reason, "depends on the source address in a way that is not modelled");
}

#[test]
fn what_a_mask_leaves_nothing_of_is_known_whatever_it_was() {
    for load in [Expr::Meta { dreg: 0, key: MetaKey::Priority }, source(0, 4)] {
        let of = |bits, op| v4().hit(Hook::Input, vec![load.clone(), bits, is(0, op, &[0, 0, 0, 1])]);
        assert_eq!(of(mask([0; 4], [0, 0, 0, 1]), CmpOp::Eq), Everybody);
        assert_eq!(of(mask([0; 4], [0; 4]), CmpOp::Gte), Nobody);
    }
    let priority = Expr::Meta { dreg: 0, key: MetaKey::Priority };
    assert_eq!(v4().hit(Hook::Input, vec![priority, mask([0, 0, 0, 1], [0; 4]), is(0, CmpOp::Eq, &[0; 4])]), Unknown);
}

/// ip_tables.c: `(saddr & smsk) != src` is no match, so that an address outside of its own mask is nobody's.
#[test]
fn nobody_has_an_address_with_bits_outside_of_its_mask() {
    for (mask, address) in [(0, 5), (0xff00_0000, 0x0a00_0001)] {
        for (invert, due) in [(false, Nobody), (true, Everybody)] {
            let header = XtHeader { src: Masked { address, mask, invert }, ..XtHeader::default() };
            assert_eq!(v4().xt(Hook::Input, XtMatch::Header(Box::new(header))), due, "{mask:x} {invert}");
        }
    }
}

/// nft_exthdr.c: without the header a load of it breaks the rule, and a question whether it is there says no.
#[test]
fn no_extension_header_is_loaded_where_there_is_none() {
    let of = |presence, op| {
        let load = Expr::Exthdr { dreg: Some(0), op: 0, kind: 44, offset: 0, len: 1, presence };
        v4().hit(Hook::Input, vec![load, is(0, op, &[0])])
    };
    assert_eq!(of(false, CmpOp::Eq), Nobody);
    assert_eq!(of(false, CmpOp::Neq), Nobody);
    assert_eq!(of(true, CmpOp::Eq), Everybody);
    assert_eq!(of(true, CmpOp::Neq), Nobody);
}
