//! Steps of a plan, each with what undoes it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::TableInserts;
use crate::facts::{Backend, Family, Owned, TableFamily};

/// What an inserted rule lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    #[default]
    Ssh,
    /// By which those on the link find the host, and it finds them, by IPv6: without it no SSH gets there.
    Neighbours,
}

/// Which packets an inserted rule accepts. Nothing wider than the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    #[serde(default)]
    pub traffic: Traffic,
    /// None in a chain of one family means that family; in `inet` tables both.
    pub family: Option<Family>,
    /// None: everybody.
    pub source: Option<IpNet>,
    pub port: u16,
    /// The interface that the packet comes in by (or leaves by, for an answer); None in chains that cannot tell.
    pub interface: Option<String>,
    /// false: the SYN (`dport`, `saddr`, `iifname`); true: the answer (`sport`, `daddr`, `oifname`).
    pub answer: bool,
    /// Sources that stay barred: the rule jumps to these chains first, or the accept leaves them out.
    pub after: Vec<String>,
}

/// One rule to insert before the rule that now stands at `index` of the chain (`index` == length: at the end).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Insert {
    pub chain: String,
    pub index: usize,
    pub accept: Accept,
}

/// One commit on one back-end, or one act on one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// Give the room back that is kept for a full disk, before the repair is written down.
    FreeReserve {
        bytes: u64,
        disk: PathBuf,
    },
    /// One netlink batch, bound to `generation`: the kernel refuses it when somebody was faster.
    Nft {
        generation: u32,
        family: TableFamily,
        table: String,
        inserts: Vec<Insert>,
    },
    /// One `iptables-restore --noflush` of the back-end that the table lives in.
    Iptables {
        backend: Backend,
        family: Family,
        table: String,
        inserts: Vec<Insert>,
    },
    /// `ufw prepend allow …` for each source (None: everybody).
    UfwAllow {
        port: u16,
        interface: Option<String>,
        sources: Vec<Option<IpNet>>,
        model: Vec<TableInserts>,
    },
    /// ufw's chains stand without the jumps to them (somebody flushed): delete them and let ufw build anew.
    UfwRebuild {
        families: Vec<Family>,
    },
    /// firewalld over D-Bus, runtime and permanent: the port (everybody) or a rich rule per source, in the zone.
    FirewalldAllow {
        zone: String,
        port: u16,
        sources: Vec<Option<IpNet>>,
        permanent: bool,
        model: Vec<TableInserts>,
    },
    FirewalldPanicOff,
    /// Let fail2ban lift a jail's bans of these addresses, which the policy names.
    Unban {
        jail: String,
        addresses: Vec<IpAddr>,
    },
    /// Replace a file's content; the old content is kept for undo. `reason` goes to the report.
    WriteFile {
        path: PathBuf,
        #[serde(with = "content")]
        content: Vec<u8>,
        reason: String,
    },
    /// The same of a file that the next boot loads rules from. `model` is what the change comes down to in those rules.
    Persist {
        path: PathBuf,
        #[serde(with = "content")]
        content: Vec<u8>,
        reason: String,
        model: Vec<TableInserts>,
    },
    /// Make host keys (ssh-keygen(1)); what lies in their place is no key, and kept for undo.
    MakeKeys {
        keys: Vec<NewKey>,
    },
    SetMode {
        path: PathBuf,
        owned: Owned,
    },
    /// Take from group and others the right to write to a file or folder on the way to an account's keys.
    KeepWritersOut {
        account: String,
        /// Without links.
        path: PathBuf,
        seen: Owned,
    },
    MakeFolder {
        path: PathBuf,
        owned: Owned,
    },
    /// The user that sshd's unprivileged child runs as (useradd(8)).
    MakeUser {
        name: String,
        home: PathBuf,
        /// None: a group of its own.
        group: Option<u32>,
    },
    /// Make room for more tracked connections (nf_conntrack_max), until the next boot.
    RaiseConntrack {
        from: u64,
        to: u64,
    },
    /// Let a process go on that is stopped (SIGCONT).
    ContinueProcess {
        pid: i32,
        name: String,
    },
    /// Let a service go on that is frozen (systemd's ThawUnit).
    ThawUnit {
        unit: String,
    },
    /// Restart the service of a process that takes no connections, after `sshd -t`; its sessions live on. The process is
    /// killed where it does not end by itself.
    RestartUnit {
        unit: String,
        pid: i32,
        name: String,
    },
    /// Let a running daemon read its configuration again, after `sshd -t`; its sessions live on.
    ReloadUnit {
        unit: String,
    },
    /// Let systemd read its units again; `restart`: and listen where the socket unit says so now. A service that has the old
    /// sockets is ended for that: its sessions live on, and the next client starts it again.
    ListenBySocket {
        unit: String,
        restart: bool,
    },
    /// Start the distribution's sshd beside the real one, in a transient unit that ends when that one starts. Its keys are
    /// these; without any, fresh ones.
    EmergencySshd {
        config: String,
        keys: Vec<PathBuf>,
    },
    /// Let the next boot start a unit.
    EnableUnit {
        unit: String,
    },
    /// Start a unit; `reset_failed` first where systemd has given it up; `unmask` only by policy.
    StartUnit {
        unit: String,
        reset_failed: bool,
        unmask: bool,
    },
    /// Strategy `flush`: save, then flush every rule of both back-ends and accept by default.
    Flush,
    /// Strategy `disable`: stop and disable these services (ufw is told `ufw disable`), then flush.
    Disable {
        services: Vec<String>,
        ufw: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    pub path: PathBuf,
    /// As ssh-keygen(1) names it.
    pub kind: String,
    pub owned: Owned,
}

/// What to do, in order. Made only by [`crate::plan::plan`].
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The repair's id: sorts by time; the tag of its rules is `ssh-rescue:ID`.
    pub id: String,
    pub steps: Vec<Step>,
    pub declined: Vec<Declined>,
}

/// Something that is wrong and that this plan leaves as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// The finding's code.
    pub code: String,
    /// A fragment that fits "not mended, because …".
    pub why: String,
}

/// What the planner makes of a judgement.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The policy is met: nothing may be changed.
    Healthy,
    /// The policy is not met, and nothing can or may be done about it.
    Refuse(Vec<Declined>),
    Repair(Plan),
}

impl Step {
    /// Whether it changes files alone, and so can be made on a disk that does not run.
    pub fn is_of_files(&self) -> bool {
        matches!(
            self,
            Step::FreeReserve { .. }
                | Step::WriteFile { .. }
                | Step::Persist { .. }
                | Step::MakeKeys { .. }
                | Step::SetMode { .. }
                | Step::KeepWritersOut { .. }
                | Step::MakeFolder { .. }
                | Step::EnableUnit { .. }
        )
    }

    /// Whether it may take what the agent's sandbox does not give: to give a file to another user or group, to write to homes or
    /// to settings of the kernel.
    pub fn leaves_sandbox(&self) -> bool {
        matches!(
            self,
            Step::WriteFile { .. }
                | Step::MakeKeys { .. }
                | Step::SetMode { .. }
                | Step::KeepWritersOut { .. }
                | Step::MakeFolder { .. }
                | Step::MakeUser { .. }
                | Step::RaiseConntrack { .. }
        )
    }
}

/// A file's bytes; in a report or a record they are text where they can be.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

impl Content {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Text(text) => text.as_bytes(),
            Content::Bytes(bytes) => bytes,
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        String::from_utf8(bytes).map_or_else(|error| Content::Bytes(error.into_bytes()), Content::Text)
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}

mod content {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Content;

    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Content::from(bytes.to_vec()).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        Content::deserialize(deserializer).map(|content| match content {
            Content::Text(text) => text.into_bytes(),
            Content::Bytes(bytes) => bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_of_a_file_comes_back_as_it_was() {
        for content in [b"sshd: ALL\n".to_vec(), b"\xff\x00".to_vec(), Vec::new()] {
            let step = Step::WriteFile { path: "/etc/hosts.allow".into(), content, reason: String::new() };
            let text = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Step>(&text).unwrap(), step, "{text}");
        }
    }

    /// A record is printed in logs, and a file of the host may hold secrets.
    #[test]
    fn what_a_file_held_is_not_in_a_log() {
        assert_eq!(format!("{:?}", Content::from(b"secret".to_vec())), "6 bytes");
        assert_eq!(format!("{:?}", Content::from(b"\xff\xfe".to_vec())), "2 bytes");
    }

    /// On a disk nothing runs that could be asked; and of a daemon in its sandbox, no more is asked than it can give.
    #[test]
    fn steps_that_ask_programs_need_a_host_that_runs_and_no_way_out_of_the_sandbox() {
        let unit = || "ssh.service".to_owned();
        let owned = Owned { mode: 0o755, uid: 0, gid: 0 };
        for asks in [
            Step::StartUnit { unit: unit(), reset_failed: false, unmask: false },
            Step::ReloadUnit { unit: unit() },
            Step::Unban { jail: "sshd".into(), addresses: Vec::new() },
            Step::Nft { generation: 1, family: TableFamily::Inet, table: "t".into(), inserts: Vec::new() },
            Step::Flush,
        ] {
            assert!(!asks.is_of_files() && !asks.leaves_sandbox(), "{asks:?}");
        }
        for writes in [
            Step::WriteFile { path: "/etc/ssh/sshd_config".into(), content: Vec::new(), reason: String::new() },
            Step::MakeFolder { path: "/run/sshd".into(), owned },
            Step::KeepWritersOut { account: "alice".into(), path: "/home/alice".into(), seen: owned },
        ] {
            assert!(writes.is_of_files() && writes.leaves_sandbox(), "{writes:?}");
        }
        // useradd(8) runs on the host; systemd's own links are within reach of the sandbox.
        let user = Step::MakeUser { name: "sshd".into(), home: "/run/sshd".into(), group: None };
        assert!(!user.is_of_files() && user.leaves_sandbox());
        let raise = Step::RaiseConntrack { from: 1, to: 2 };
        assert!(!raise.is_of_files() && raise.leaves_sandbox());
        let enabling = Step::EnableUnit { unit: unit() };
        assert!(enabling.is_of_files() && !enabling.leaves_sandbox());
    }
}
