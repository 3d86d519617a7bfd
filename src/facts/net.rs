//! Links, addresses, routes and listeners.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Family, Seen};

#[derive(Debug, Clone)]
pub struct Net {
    pub links: Seen<Vec<Link>>,
    pub addresses: Seen<Vec<Address>>,
    /// The routes of the tables that the host's rules use (main and local at least).
    pub routes: Seen<Vec<Route>>,
    /// Whether `ip rule` has more than the three default rules of a family: routes alone do not tell then.
    pub policy_routing: bool,
    /// net.ipv4.conf.*.rp_filter as in force per interface (the maximum of `all` and its own): 0 off, 1 strict, 2 loose.
    pub rp_filter: Vec<(String, u8)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// ARPHRD_*
    pub kind: u16,
    pub up: bool,
    pub loopback: bool,
    /// Neighbours on it must be asked for their link-layer addresses: neither IFF_NOARP nor IFF_POINTOPOINT.
    pub arp: bool,
    pub group: u32,
    pub mac: Option<[u8; 6]>,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// `veth`, `bridge`, `tun`, … as rtnetlink names it.
    pub driver: Option<String>,
    /// An XDP program is attached.
    pub xdp: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Address {
    pub interface: u32,
    pub address: IpAddr,
    pub prefix: u8,
    /// RT_SCOPE_UNIVERSE
    pub global: bool,
    /// IPv6 duplicate address detection has not ended, or found a duplicate.
    pub tentative: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    Unicast,
    Local,
    Broadcast,
    Anycast,
    Multicast,
    Blackhole,
    Unreachable,
    Prohibit,
    Throw,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    pub family: Family,
    pub kind: RouteKind,
    pub table: u32,
    pub destination: IpNet,
    /// Interfaces that it leads out by (several with multipath).
    pub interfaces: Vec<u32>,
    pub gateway: Option<IpAddr>,
    /// Lower wins among equal prefixes.
    pub metric: u32,
}

impl Route {
    pub fn is_default(&self) -> bool {
        self.kind == RouteKind::Unicast && self.destination.prefix_len() == 0
    }
}

/// A socket in state LISTEN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The wildcard address of the family for a socket bound to all.
    pub address: IpAddr,
    pub port: u16,
    /// A socket bound to `::` that does not take IPv4 (IPV6_V6ONLY). False for IPv4 sockets.
    pub v6_only: bool,
    /// SO_BINDTODEVICE
    pub interface: Option<u32>,
    pub inode: u64,
    /// Connections that wait to be accepted, and how many may.
    pub queued: u32,
    pub backlog: u32,
    /// How long the one of them has waited that came first, in milliseconds, as far as the kernel tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<u32>,
    pub owners: Seen<Vec<SocketOwner>>,
    /// What the program said first to a connection from this host, at most 255 bytes; asked only of one that is no SSH server
    /// by its name.
    pub greeting: Option<String>,
}

/// A connection that is made, and that the program behind its listener has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub port: u16,
    /// The kernel's own name of the connection, which no other has in the same boot.
    pub cookie: u64,
    pub local: IpAddr,
    pub interface: Option<u32>,
    /// Since it was made, in milliseconds.
    pub age: u32,
}

impl Listener {
    /// A program that lets a connection wait for so long, in milliseconds, takes none: three clients, one after the other, would
    /// have given up after ten seconds each.
    pub const PATIENCE: u32 = 30_000;
    /// A program that is well takes a connection sooner, in milliseconds.
    const PROMPT: u32 = 2_000;

    /// How long, in milliseconds, until it is known that an SSH server takes no connections, if it does not take the one that
    /// has waited for longer than usual by then.
    pub fn undecided(&self) -> Option<u32> {
        let is_server = |o: &SocketOwner| o.is_ssh_server() || o.pid == 1;
        let doubtful = self.waits.filter(|waits| (Self::PROMPT..Self::PATIENCE).contains(waits))?;
        self.owners.present()?.iter().any(is_server).then(|| Self::PATIENCE - doubtful)
    }

    /// Whether the connection may be one of this socket's.
    pub fn takes(&self, waiting: &Waiting) -> bool {
        self.port == waiting.port
            && self.serves(Family::of(waiting.local), waiting.local)
            && self.interface.is_none_or(|own| Some(own) == waiting.interface)
    }

    /// The kernel's order of preference among sockets that all fit (`compute_score` of net/ipv4/inet_hashtables.c).
    pub fn rank(&self, family: Family) -> (bool, bool, bool) {
        (self.interface.is_some(), !self.address.is_unspecified(), Family::of(self.address) == family)
    }

    /// Whether a connection of `family` to `local` on its port would be given to this socket.
    pub fn serves(&self, family: Family, local: IpAddr) -> bool {
        match (self.address, family) {
            (IpAddr::V6(a), Family::Ipv4) if a.is_unspecified() => !self.v6_only,
            (a, f) if Family::of(a) == f => a.is_unspecified() || a == local,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocketOwner {
    pub pid: i32,
    /// The kernel's name of the process (comm).
    pub name: String,
    /// /proc/PID/exe; may end in ` (deleted)`.
    pub exe: Option<String>,
    /// The systemd unit by its cgroup.
    pub unit: Option<String>,
    /// One letter as in /proc/PID/stat: `T` is stopped.
    pub state: char,
    /// Its control group is frozen (cgroups(7)), or one above it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub frozen: bool,
    /// How many other processes are in its control group; None where that is not known.
    #[serde(skip)]
    pub beside: Option<usize>,
}

impl SocketOwner {
    /// Whether the program is an SSH server by its name.
    pub fn is_ssh_server(&self) -> bool {
        const SERVERS: [&str; 4] = ["sshd", "sshd-session", "dropbear", "tinysshd"];
        let exe = self.exe.as_deref().map(|e| e.trim_end_matches(" (deleted)"));
        let program = exe.and_then(|e| e.rsplit('/').next());
        SERVERS.contains(&program.unwrap_or(&self.name))
    }
}
