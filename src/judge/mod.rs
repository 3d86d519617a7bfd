//! What a client would see, per path and per set of sources, and why.
//!
//! Pure: a policy and a snapshot in, a [`Judgement`] out.
#![forbid(unsafe_code)]

mod verdict;

pub use verdict::*;
