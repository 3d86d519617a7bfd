//! The expressions of a mend and its comment as attributes of a rule (linux/netfilter/nf_tables.h).

use super::{NFTA_EXPR_DATA, NFTA_EXPR_NAME, NftError, UDATA_COMMENT, named};
use crate::facts::{BitwiseOp, CmpOp, Expr, MetaKey, PayloadBase, Reg, Verdict};
use crate::rehearse::replay::{NLA_F_NESTED, attribute};

const NFTA_DATA_VALUE: u16 = 1;
const NFTA_DATA_VERDICT: u16 = 2;

/// A comment as `nft` keeps it in a rule's user data.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(254)];
    let mut tlv = vec![UDATA_COMMENT, text.len() as u8 + 1];
    tlv.extend(text);
    tlv.push(0);
    tlv
}

/// The content of one list element: the expression's name and its attributes.
pub(super) fn expression(expr: &Expr) -> Result<Vec<u8>, NftError> {
    let mut data = Vec::new();
    let mut put = |kind: u16, value: u32| attribute(&mut data, kind, &value.to_be_bytes());
    let name = match expr {
        Expr::Meta { dreg, key } => {
            put(1, register(*dreg));
            put(2, meta(*key).ok_or_else(|| NftError::Expression(format!("{key:?}")))?);
            "meta"
        }
        Expr::Cmp { sreg, op: CmpOp::Eq, data: value } => {
            const NFT_CMP_EQ: u32 = 0;
            put(1, register(*sreg));
            put(2, NFT_CMP_EQ);
            attribute(&mut data, 3 | NLA_F_NESTED, &datum(value));
            "cmp"
        }
        Expr::Payload { dreg, base, offset, len } => {
            put(1, register(*dreg));
            put(
                2,
                match base {
                    PayloadBase::Link => 0,
                    PayloadBase::Network => 1,
                    PayloadBase::Transport => 2,
                    PayloadBase::Inner => 3,
                    PayloadBase::Tunnel => 4,
                },
            );
            put(3, *offset);
            put(4, *len);
            "payload"
        }
        Expr::Bitwise { sreg, dreg, len, op: BitwiseOp::MaskXor { mask, xor } } => {
            put(1, register(*sreg));
            put(2, register(*dreg));
            put(3, *len);
            attribute(&mut data, 4 | NLA_F_NESTED, &datum(mask));
            attribute(&mut data, 5 | NLA_F_NESTED, &datum(xor));
            "bitwise"
        }
        Expr::Verdict(verdict) => {
            const NF_ACCEPT: i32 = 1;
            const NFT_JUMP: i32 = -3;
            const NFT_REG_VERDICT: u32 = 0;
            let (code, chain) = match verdict {
                Verdict::Accept => (NF_ACCEPT, None),
                Verdict::Jump(chain) => (NFT_JUMP, Some(chain)),
                other => return Err(NftError::Expression(format!("{other:?}"))),
            };
            put(1, NFT_REG_VERDICT);
            let mut inner = Vec::new();
            attribute(&mut inner, 1, &code.to_be_bytes());
            if let Some(chain) = chain {
                attribute(&mut inner, 2, &named(chain));
            }
            let mut outer = Vec::new();
            attribute(&mut outer, NFTA_DATA_VERDICT | NLA_F_NESTED, &inner);
            attribute(&mut data, 2 | NLA_F_NESTED, &outer);
            "immediate"
        }
        other => return Err(NftError::Expression(format!("{other:?}"))),
    };
    let mut out = Vec::new();
    attribute(&mut out, NFTA_EXPR_NAME, &named(name));
    attribute(&mut out, NFTA_EXPR_DATA | NLA_F_NESTED, &data);
    Ok(out)
}

fn datum(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    attribute(&mut out, NFTA_DATA_VALUE, value);
    out
}

/// NFT_REG_1 to 4 where the offset is that of one, so that `nft` lists the rule as its own; else NFT_REG32_00 to 15.
fn register(offset: Reg) -> u32 {
    let offset = u32::from(offset);
    if offset.is_multiple_of(16) { 1 + offset / 16 } else { 8 + offset / 4 }
}

/// NFT_META_* of the keys that a mend uses.
fn meta(key: MetaKey) -> Option<u32> {
    Some(match key {
        MetaKey::Protocol => 1,
        MetaKey::IifName => 6,
        MetaKey::OifName => 7,
        MetaKey::Nfproto => 15,
        MetaKey::L4Proto => 16,
        _ => return None,
    })
}
