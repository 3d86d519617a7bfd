//! Bytes or text -> facts: total decoders, no I/O, each a fuzz target.
#![forbid(unsafe_code)]

#[cfg(test)]
mod any_bytes;
pub mod audit;
pub mod firewalld;
pub mod hosts_access;
pub mod interfaces;
pub mod ipset;
pub mod legacy;
pub mod nft;
mod nft_expr;
mod nft_set;
mod nlattr;
pub mod route;
pub mod selinux_ports;
pub mod sock_diag;
pub mod sshd_config;
pub mod sshd_log;
pub mod sshd_settings;
pub mod sysctl;
pub mod systemctl_show;
pub mod ufw;
pub mod unit_file;
mod xt;
mod xt_match;
mod xt_target;
mod xt_words;
