//! What a client would see, per path and per set of sources, and why.
//!
//! Pure: a policy and a snapshot in, a [`Judgement`] out. The gates stand in the order in which a connection meets them.
#![forbid(unsafe_code)]

pub mod blame;
mod intent;
pub mod listener;
pub mod netfilter;
mod paths;
pub mod resources;
pub mod sshd;
mod verdict;
pub mod wrappers;

pub use intent::*;
pub use paths::paths;
pub use verdict::*;
