//! Trying a plan on a copy of the rules, in a scratch network namespace, before it touches the host.
#![forbid(unsafe_code)]

pub mod clone;
pub mod drill;
pub mod layout;
pub mod packet;
pub mod probe;
pub mod replay;
pub mod ruleset;
