//! The policy: raw (serde) -> validated. What the people who own this host want.
//!
//! A mistake is shown with line, column and a caret, all of them at once. Without a file [`Policy::default`] holds.
#![forbid(unsafe_code)]

mod mistake;
mod parse;
mod raw;
mod show;
#[cfg(test)]
mod tests;

pub use mistake::Mistake;
pub use parse::{POLICY_LIMIT, duration, parse};

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Serialize;

/// What may be done about one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not looked at.
    Off,
    /// Looked at and reported.
    Report,
    Repair,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// The least: one accept, in the chain that drops.
    Insert,
    /// Save, then flush every rule and accept by default, as the vendor's article does.
    Flush,
    /// Save, then disable the firewall (ufw, firewalld, nftables.service, netfilter-persistent) and flush.
    Disable,
}

/// The names of the modes and strategies in a policy file.
const MODES: [(&str, Mode); 3] = [("off", Mode::Off), ("report", Mode::Report), ("repair", Mode::Repair)];
const STRATEGIES: [(&str, Strategy); 3] =
    [("insert", Strategy::Insert), ("flush", Strategy::Flush), ("disable", Strategy::Disable)];

/// A validated policy. Every field has the value that is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    pub ssh: SshPolicy,
    pub firewall: FirewallPolicy,
    pub wrappers: WrappersPolicy,
    pub sshd: SshdPolicy,
    pub disk: DiskPolicy,
    pub restraint: RestraintPolicy,
    pub control: ControlPolicy,
    pub report: ReportPolicy,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshPolicy {
    /// Never empty.
    pub ports: Vec<u16>,
    /// None: the default of "Intent" holds (somebody outside must be able to connect, in each family with a way out).
    pub sources: Option<Vec<IpNet>>,
    /// None: the interfaces with a default route.
    pub interfaces: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirewallPolicy {
    pub mode: Mode,
    pub strategy: Strategy,
    /// Mend also what the next boot loads.
    pub persist: bool,
    /// Globs over the names of chains, sets and tables whose per-source verdicts are meant.
    pub respect: Vec<String>,
    /// firewalld's panic mode: report, or lift it.
    pub panic: Mode,
    /// A full table of tracked connections: report it, or make it larger.
    pub conntrack: Mode,
    /// Go on without a rehearsal where the rules cannot be copied and the judge alone is certain.
    pub unrehearsed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrappersPolicy {
    pub mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshdPolicy {
    pub mode: Mode,
    /// A masked unit is somebody's word: only with this it is overruled.
    pub unmask: bool,
    /// Mend also what only the next start of sshd or the next boot needs, while sshd still serves.
    pub persist: bool,
    /// Where nothing else brings sshd up: one beside it, for logins by key alone, until the real one is back.
    pub emergency: bool,
    /// Modes on the way to people's keys that make sshd ignore them: report them, or take others' right to write away.
    pub logins: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DiskPolicy {
    /// Keep room in this program's own folder, for a repair while the disk is full.
    pub reserve: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestraintPolicy {
    /// Repairs of one kind within `per_seconds` after which it stops and says who is on the other side.
    pub attempts: u32,
    pub per_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlPolicy {
    pub group: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReportPolicy {
    pub console: bool,
    pub metrics: Option<PathBuf>,
}

impl Policy {
    /// Whether anything may be repaired at all.
    pub fn repairs(&self) -> bool {
        [self.firewall.mode, self.wrappers.mode, self.sshd.mode].contains(&Mode::Repair)
    }
}

/// Whether a name is one that the policy respects: `*` stands for any characters, `?` for one.
pub fn respects(globs: &[String], name: &str) -> bool {
    globs.iter().any(|g| glob(g.as_bytes(), name.as_bytes()))
}

fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match retry {
                Some((after, from)) => {
                    (p, n) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            ssh: SshPolicy { ports: vec![22], sources: None, interfaces: None },
            firewall: FirewallPolicy {
                mode: Mode::Repair,
                strategy: Strategy::Insert,
                persist: true,
                respect: vec!["f2b-*".into(), "crowdsec*".into()],
                panic: Mode::Report,
                conntrack: Mode::Report,
                unrehearsed: true,
            },
            wrappers: WrappersPolicy { mode: Mode::Repair },
            sshd: SshdPolicy {
                mode: Mode::Repair,
                unmask: false,
                persist: false,
                emergency: false,
                logins: Mode::Report,
            },
            disk: DiskPolicy { reserve: true },
            restraint: RestraintPolicy { attempts: 3, per_seconds: 3600 },
            control: ControlPolicy { group: None },
            report: ReportPolicy { console: false, metrics: None },
        }
    }
}
