//! Matches and targets of x_tables (linux/netfilter/xt_*.h, ipt_*.h, ip6t_*.h): one decoder for both back-ends.
//!
//! An extension, a revision or a size that is not known becomes `Unknown` with the extension's name.

pub use super::xt_match::r#match;
pub use super::xt_target::target;

use super::nlattr::text;
use crate::facts::{Family, Masked};

/// A match or a target as the kernel gives it: name, revision, and the structure of both.
#[derive(Debug, Clone, Copy)]
pub struct Extension<'a> {
    pub name: &'a [u8],
    pub revision: u8,
    pub info: &'a [u8],
}

impl Extension<'_> {
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name).into_owned()
    }
}

/// A C structure of the kernel's: numbers in the host's order unless they are called `be`.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    pub fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    pub fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_ne_bytes)
    }

    pub fn be16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    pub fn u32(self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_ne_bytes)
    }

    pub fn u64(self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_ne_bytes)
    }

    /// A flag that stands for "inverted" or the like.
    pub fn flag(self, at: usize) -> Option<bool> {
        self.u8(at).map(|b| b != 0)
    }

    pub fn text(self, at: usize, length: usize) -> Option<String> {
        self.0.get(at..at.checked_add(length)?).map(text)
    }

    /// A `union nf_inet_addr` or an address of the family's own width.
    pub fn address(self, at: usize, family: Option<Family>) -> Option<u128> {
        Some(match family? {
            Family::Ipv4 => u32::from_be_bytes(self.bytes(at)?).into(),
            Family::Ipv6 => u128::from_be_bytes(self.bytes(at)?),
        })
    }

    /// Two `union nf_inet_addr`, one after the other: address and mask.
    pub fn masked(self, at: usize, family: Option<Family>, invert: bool) -> Option<Masked> {
        Some(Masked { address: self.address(at, family)?, mask: self.address(at + 16, family)?, invert })
    }
}
