//! sshd: its program, configuration and units.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Family, Seen, TextFile};

#[derive(Debug, Clone)]
pub struct Sshd {
    pub binary: Seen<Binary>,
    /// What `sshd -t` said.
    pub test: Seen<ConfigTest>,
    /// What `sshd -T` printed, where the test passed.
    pub settings: Seen<Settings>,
    /// Whether systemd runs this host, and the units that it knows: `ssh.service`, `sshd.service`, `ssh.socket`, `sshd.socket`.
    pub units: Seen<Vec<Unit>>,
    /// Processes whose program is sshd and that listen or did (not the per-connection children).
    pub processes: Vec<Process>,
    /// The file `/etc/ssh/sshd_not_to_be_run` is there.
    pub not_to_be_run: bool,
    /// SELinux, where it is on and enforcing.
    pub selinux: Option<Selinux>,
    pub privsep_dir: Seen<PathMode>,
    pub files: SshdFiles,
    pub logins: Logins,
    /// Whom it has shut out lately, by its own log. Absent where nobody asks: no penalties, or a policy that names no sources.
    pub shut_out: Seen<Vec<ShutOut>>,
    /// Why its unit did not come up when it was started a moment ago.
    pub start_failed: Option<String>,
    /// One that stood still was let go on a moment ago, and took no client all the same.
    pub let_go_in_vain: bool,
    /// Answers to the planner's questions, in their order.
    pub trials: Vec<Trial>,
}

/// A source whose connections sshd drops for what came of earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShutOut {
    pub source: IpAddr,
    /// How many connections were dropped.
    pub times: usize,
    /// sshd's word for why, of the last one.
    pub why: String,
}

#[derive(Debug, Clone)]
pub struct Selinux {
    /// What this host's own list (semanage(8)) says of TCP ports; the policy itself is not read.
    pub local: Seen<Vec<PortType>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortType {
    pub first: u16,
    pub last: u16,
    pub kind: String,
}

/// What sshd reads when it starts.
#[derive(Debug, Clone, Default)]
pub struct SshdFiles {
    /// The main file first, then those that it includes, in the order in which sshd comes to them. Empty without a main file.
    pub config: Vec<TextFile>,
    /// Why one of them could not be read.
    pub unreadable: Option<String>,
    /// The main file as the distribution ships it.
    pub shipped: Option<TextFile>,
    /// The files with which sshd was seen healthy, the youngest set first.
    pub kept: Vec<Vec<TextFile>>,
    /// The host keys that the configuration names, or else the default set.
    pub keys: Vec<HostKey>,
    /// The id of the group `ssh_keys`, which reads host keys on RHEL and its like.
    pub key_group: Option<u32>,
    /// The id of the group that sshd's unprivileged user belongs to: `sshd`, else `nogroup`.
    pub user_group: Option<u32>,
    /// /etc/ssh and what is in it, two levels deep.
    pub tree: Vec<PathMode>,
}

/// Who may log in once a connection is there.
#[derive(Debug, Clone, Default)]
pub struct Logins {
    /// The file that keeps everybody but root out.
    pub nologin: Option<PathBuf>,
    /// root and people's accounts that have a shell.
    pub accounts: Vec<Account>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Account {
    pub name: String,
    pub uid: u32,
    pub groups: Vec<String>,
    /// The files of its keys and the folders above them up to its home, as far as they are there.
    pub way: Vec<PathMode>,
    /// There are some, and none of their files has a second name, which might be anybody's.
    #[serde(skip)]
    pub has_keys: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostKey {
    pub path: PathBuf,
    /// As ssh-keygen(1) names it: `rsa`, `ecdsa`, `ed25519`.
    pub kind: String,
    pub file: Seen<KeyFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyFile {
    #[serde(flatten)]
    pub owned: Owned,
    pub size: u64,
    /// It begins as a private key does.
    pub is_key: bool,
}

/// Mode and owner of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Owned {
    /// The same without the right of group and others to write.
    pub fn without_writers(self) -> Owned {
        Owned { mode: self.mode & !0o022, ..self }
    }
}

impl fmt::Display for Owned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode {:04o}, owner {}:{}", self.mode, self.uid, self.gid)
    }
}

/// What sshd says on a copy of its files on which the first steps of a plan were made.
#[derive(Debug, Clone)]
pub struct Trial {
    pub test: Seen<ConfigTest>,
    pub settings: Seen<Settings>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Binary {
    pub path: PathBuf,
    /// DT_NEEDED of sshd and of sshd-session, as far as they exist.
    pub needed: Vec<String>,
    /// `OpenSSH_9.2p1`; looked for only on a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

impl Binary {
    /// Whether TCP wrappers apply: this sshd links libwrap.
    pub fn links_libwrap(&self) -> bool {
        self.needed.iter().any(|n| n.starts_with("libwrap.so"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigTest {
    pub passed: bool,
    pub status: i32,
    /// What it wrote to standard error: hostile text, one string a line, at most 50 lines.
    pub messages: Vec<String>,
}

/// The part of `sshd -T` that says where it listens and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    pub ports: Vec<u16>,
    /// Each `ListenAddress` with its port.
    pub listen: Vec<(IpAddr, u16)>,
    /// `any`, `inet` or `inet6`
    pub address_family: String,
    pub max_startups: String,
    /// Sources whose connections came to nothing are shut out for a time (PerSourcePenalties, since OpenSSH 9.8).
    pub penalties: bool,
    /// Those that never are: PerSourcePenaltyExemptList.
    pub exempt: Vec<IpNet>,
    pub use_dns: bool,
    pub allow_users: Vec<String>,
    pub deny_users: Vec<String>,
    pub allow_groups: Vec<String>,
    pub deny_groups: Vec<String>,
    pub host_keys: Vec<String>,
    /// Patterns of the files of a user's keys.
    pub authorized_keys: Vec<String>,
    pub strict_modes: bool,
}

impl Settings {
    /// Whether sshd, so configured, takes connections to the address. `sshd -T` names every address, wildcards too.
    pub fn serves(&self, address: IpAddr, port: u16) -> bool {
        let fits = |(own, on): &(IpAddr, u16)| {
            *on == port && Family::of(*own) == Family::of(address) && (own.is_unspecified() || *own == address)
        };
        match self.listen.is_empty() {
            true => self.ports.contains(&port),
            false => self.listen.iter().any(fits),
        }
    }
}

/// A unit as systemd's D-Bus gives it (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unit {
    pub name: String,
    /// loaded, not-found, masked, error, bad-setting
    pub load_state: String,
    /// active, reloading, inactive, failed, activating, deactivating
    pub active_state: String,
    pub sub_state: String,
    /// enabled, disabled, static, masked, …
    pub unit_file_state: String,
    /// success, exit-code, signal, start-limit-hit, …
    pub result: String,
    pub main_pid: u32,
    pub fragment_path: String,
    /// Whom systemd ends when it stops a service: control-group, mixed, process, none. Empty where it does not say.
    #[serde(skip)]
    pub kill_mode: String,
    /// Of a socket unit, as far as systemd says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<SocketUnit>,
}

/// Where a socket unit listens, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct SocketUnit {
    /// The kind (`Stream`, …) and address (`0.0.0.0:22`, `[::]:22`, `/run/…`) of each socket.
    pub listen: Vec<(String, String)>,
    /// A socket of `[::]` takes no IPv4.
    pub v6_only: bool,
    /// It hands each connection to a service of its own.
    pub accepts: bool,
    /// The units that do not run beside it.
    pub conflicts: Vec<String>,
    /// The lines of its unit file and drop-ins that say where.
    pub lines: Vec<UnitLine>,
    /// The folder of its drop-ins is there: `/etc/systemd/system/NAME.socket.d`.
    pub has_folder: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitLine {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    pub text: String,
}

impl SocketUnit {
    /// The internet addresses that it listens on.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let streams = self.listen.iter().filter(|(kind, _)| kind == "Stream");
        streams.filter_map(|(_, address)| address.parse().ok()).collect()
    }

    pub fn serves(&self, place: SocketAddr) -> bool {
        self.addresses().iter().any(|on| {
            let same = on.is_ipv4() == place.is_ipv4();
            let wide = on.ip().is_unspecified() && (same || (on.is_ipv6() && !self.v6_only));
            on.port() == place.port() && (wide || on.ip() == place.ip())
        })
    }
}

impl Unit {
    pub fn masked(&self) -> bool {
        self.load_state == "masked" || self.unit_file_state.starts_with("masked")
    }

    pub fn loaded(&self) -> bool {
        self.load_state == "loaded"
    }

    pub fn active(&self) -> bool {
        matches!(self.active_state.as_str(), "active" | "reloading")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Process {
    pub pid: i32,
    pub name: String,
    pub exe: Option<String>,
    pub state: char,
    /// Its command line, which it may have set itself.
    pub title: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathMode {
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}
