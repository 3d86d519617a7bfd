//! TCP wrappers, the owners of rules, and the host's resources.

use std::path::PathBuf;

use serde::Serialize;

use super::Seen;

/// The two files of hosts_access(5), as bytes: the judge parses them as libwrap does.
#[derive(Debug, Clone)]
pub struct Wrappers {
    pub allow: Seen<TextFile>,
    pub deny: Seen<TextFile>,
    /// The files that `/file` patterns of the two name.
    pub lists: Vec<(PathBuf, Seen<Vec<u8>>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextFile {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
}

/// Who may own rules.
#[derive(Debug, Clone)]
pub struct Owners {
    pub ufw: Seen<Ufw>,
    pub firewalld: Seen<Firewalld>,
    pub fail2ban_running: bool,
    pub docker_running: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ufw {
    /// ENABLED= of /etc/ufw/ufw.conf
    pub enabled: bool,
    /// IPV6= of /etc/default/ufw
    pub ipv6: bool,
    /// Whether the `ufw` command is there to be spoken to.
    pub command: bool,
}

/// A running firewalld, as its D-Bus answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Firewalld {
    pub version: String,
    /// `RUNNING`, `INIT`, `FAILED`
    pub state: String,
    pub panic: bool,
    pub lockdown: bool,
    pub default_zone: String,
    /// interface -> zone, runtime
    pub interface_zones: Vec<(String, String)>,
    /// source (address, prefix, MAC or ipset:NAME) -> zone, runtime
    pub source_zones: Vec<(String, String)>,
    pub zones: Vec<Zone>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Zone {
    pub name: String,
    /// default, ACCEPT, DROP, %%REJECT%%
    pub target: String,
    /// Runtime and permanent services and ports, `22/tcp`.
    pub services: Vec<String>,
    pub ports: Vec<String>,
    pub rich_rules: Vec<String>,
    pub permanent_services: Vec<String>,
    pub permanent_ports: Vec<String>,
    pub permanent_rich_rules: Vec<String>,
    /// None where the zone has no permanent form.
    pub permanent_target: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Resources {
    pub disks: Vec<Disk>,
    /// Bytes.
    pub memory_total: u64,
    pub memory_available: u64,
    /// Seconds since the epoch; 0 if unknown.
    pub boot_time: u64,
    pub conntrack: Option<ConntrackTable>,
    /// A package manager holds its lock (dpkg, rpm): the process's pid if known.
    pub package_manager: Option<String>,
    /// Room that this program keeps for a full disk; looked for when there is something to be mended.
    pub reserve: Option<Reserve>,
}

/// The table of tracked connections (Documentation/networking/nf_conntrack-sysctl.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ConntrackTable {
    /// nf_conntrack_count: of this network namespace.
    pub count: u64,
    /// nf_conntrack_max: of each.
    pub max: u64,
    /// The kernel lets root write nf_conntrack_max from the first network namespace alone.
    pub raisable: bool,
}

/// nf_conntrack_max
pub const CONNTRACK_MAX: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

/// What can be given back, and how full the disk is that it is on.
#[derive(Debug, Clone, Serialize)]
pub struct Reserve {
    pub bytes: u64,
    pub disk: Disk,
}

#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    pub mount_point: PathBuf,
    /// Its number: one disk may be mounted in two places.
    #[serde(skip)]
    pub device: u64,
    pub total: u64,
    pub available: u64,
    pub inodes_total: u64,
    pub inodes_free: u64,
    pub read_only: bool,
}
