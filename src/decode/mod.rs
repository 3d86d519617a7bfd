//! Bytes or text -> facts: total decoders, no I/O, each a fuzz target.
#![forbid(unsafe_code)]

pub mod sock_diag;
pub mod sshd_settings;
