//! What the real kernel does, in scratch namespaces. Needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN) and the tools of nftables and
//! iptables; without root every test says so and passes.

mod agent;
mod apply;
mod asked;
mod boot;
mod clone;
mod common;
mod corpus;
mod decode;
mod disk;
mod disk_apart;
mod drill;
mod explain;
mod faces;
mod generate;
mod generate_iptables;
mod generate_nft;
mod generated;
mod killed;
mod lines;
mod lines_nft;
mod lines_xt;
mod mend;
mod oracle;
mod owners;
mod pass;
mod record;
mod rehearsal;
mod saved;
mod scratch;
mod sshd;
mod torn;
mod traced;
mod tracer;
mod varlink;
mod verified;
