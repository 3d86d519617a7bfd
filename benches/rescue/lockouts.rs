//! The lock-outs that are timed.

use std::time::{Duration, SystemTime};

use super::booted::Booted;

pub struct Lockout {
    pub name: &'static str,
    /// Run by sh(1) on the host.
    make: &'static str,
    /// What an agent should need: median and 99th percentile, in milliseconds.
    pub goal: Option<(u64, u64)>,
}

pub const LOCKOUTS: &[Lockout] = &[
    Lockout {
        name: "nf_tables",
        make: "nft 'table inet fw { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }'",
        goal: Some((120, 300)),
    },
    Lockout { name: "iptables-nft", make: "iptables-nft -I INPUT -p tcp --dport 22 -j DROP", goal: Some((120, 300)) },
    Lockout {
        name: "iptables-legacy",
        make: "iptables-legacy -I INPUT -p tcp --dport 22 -j DROP",
        goal: Some((1500, 1500)),
    },
    Lockout { name: "TCP wrappers", make: "echo ALL: ALL >/etc/hosts.deny", goal: Some((120, 300)) },
    Lockout { name: "sshd killed", make: "kill -KILL \"$(cat /run/sshd.pid)\"", goal: None },
];

/// systemd would start a killed sshd itself, and it is not systemd that is timed.
pub fn prepare(host: &Booted) {
    host.sh("mkdir -p /run/systemd/system/ssh.service.d
         printf '[Service]\nRestart=no\n' >/run/systemd/system/ssh.service.d/no-restart.conf
         systemctl daemon-reload");
    reset(host);
}

impl Lockout {
    /// Locks out, and gives when that was done.
    pub fn make(&self, host: &Booted) -> SystemTime {
        let said = host.sh(&format!("{}\ndate +%s%N", self.make));
        let nanoseconds = said.trim().parse().unwrap_or_else(|e| panic!("date: {e}: {said}"));
        SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds)
    }
}

/// The host as it was.
pub fn reset(host: &Booted) {
    host.sh("nft flush ruleset
         if grep -qs . /proc/net/ip_tables_names; then iptables-legacy -F; fi
         : >/etc/hosts.allow
         : >/etc/hosts.deny
         systemctl -q is-active ssh || { systemctl reset-failed ssh; systemctl start ssh; }");
}
