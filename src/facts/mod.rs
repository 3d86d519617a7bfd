//! The vocabulary of a host: facts only, no opinions.
//!
//! Everything that `observe` reads ends up in a [`Snapshot`]; everything that `judge` and `plan` know, they know from it.
//! Nothing here reads a file, starts a process or opens a socket.

mod addr;
mod boot;
mod escape;
mod expr;
mod net;
mod place;
mod ranges;
mod ruleset;
mod service;
mod text;
mod xt;

pub use addr::{AddrSet, Family, number};
pub use boot::*;
pub use escape::escape;
pub use expr::*;
pub use net::*;
pub use place::*;
pub use ruleset::*;
pub use service::*;
pub use text::{Language, Words};
pub use xt::*;

use std::path::PathBuf;

use serde::Serialize;

/// One thing that was looked for.
///
/// `Unreadable` carries a lower-case fragment that says what failed and why (`open /etc/hosts.deny: permission denied`);
/// it is never folded into `Absent`: what could not be read is not known to be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen<T> {
    Present(T),
    Absent,
    Unreadable(String),
}

impl<T> Seen<T> {
    pub fn present(&self) -> Option<&T> {
        match self {
            Seen::Present(value) => Some(value),
            _ => None,
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, Seen::Absent)
    }

    /// The reason why the thing could not be read, if it could not.
    pub fn unreadable(&self) -> Option<&str> {
        match self {
            Seen::Unreadable(why) => Some(why),
            _ => None,
        }
    }

    pub fn as_ref(&self) -> Seen<&T> {
        match self {
            Seen::Present(value) => Seen::Present(value),
            Seen::Absent => Seen::Absent,
            Seen::Unreadable(why) => Seen::Unreadable(why.clone()),
        }
    }

    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Present(value) => Seen::Present(f(value)),
            Seen::Absent => Seen::Absent,
            Seen::Unreadable(why) => Seen::Unreadable(why),
        }
    }
}

/// All that was seen of one host in one look.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Whether the look was made with root's rights; without them much of it is `Unreadable`.
    pub privileged: bool,
    pub net: Net,
    pub firewall: Firewall,
    pub owners: Owners,
    pub listeners: Seen<Vec<Listener>>,
    pub sshd: Sshd,
    pub wrappers: Wrappers,
    pub resources: Resources,
    pub boot: Boot,
    /// These are the files of a disk that does not run: everything is as its next boot would have it.
    pub at_rest: bool,
    /// When the files of this look were last changed (RFC 3339, UTC), as far as that is known.
    pub written: Vec<(PathBuf, String)>,
}

impl Snapshot {
    /// This host with the rules of the next boot. None where nothing loads any, or where they are not known.
    pub fn booted(&self) -> Option<Snapshot> {
        let firewall = self.boot.firewall.present()?.clone();
        Some(Snapshot { firewall, boot: Boot::nothing(), ..self.clone() })
    }

    /// A host of which nothing is known but its rules and its network: one whose ruleset was saved.
    pub fn rules_alone(net: Net, firewall: Firewall) -> Snapshot {
        Snapshot {
            privileged: true,
            net,
            firewall,
            owners: Owners {
                ufw: Seen::Absent,
                firewalld: Seen::Absent,
                fail2ban_running: false,
                docker_running: false,
            },
            listeners: Seen::Absent,
            sshd: Sshd {
                binary: Seen::Absent,
                test: Seen::Absent,
                settings: Seen::Absent,
                units: Seen::Absent,
                processes: Vec::new(),
                not_to_be_run: false,
                shut_out: Seen::Absent,
                selinux: None,
                privsep_dir: Seen::Absent,
                files: SshdFiles::default(),
                logins: Logins::default(),
                start_failed: None,
                let_go_in_vain: false,
                trials: Vec::new(),
            },
            wrappers: Wrappers { allow: Seen::Absent, deny: Seen::Absent, lists: Vec::new() },
            resources: Resources {
                disks: Vec::new(),
                memory_total: 0,
                memory_available: 0,
                boot_time: 0,
                conntrack: None,
                package_manager: None,
                reserve: None,
            },
            boot: Boot::nothing(),
            at_rest: false,
            written: Vec::new(),
        }
    }
}
