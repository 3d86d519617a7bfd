//! A saved ruleset, loaded into a scratch namespace by its own tool: the kernel is the parser.

mod text;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use thiserror::Error;

use super::layout::{Layout, set_up};
use crate::facts::{Address, Family, Link, Net, Route, RouteKind, Seen, escape};
use crate::host::{Call, FileError, Host, Output, RunError, Scratch, ScratchError};
use text::disowned_json;
pub(super) use text::{devices, disowned};

/// No saved ruleset is larger: fifty thousand rules are some 5 MB.
const LIMIT: u64 = 64 << 20;
/// Addresses of this host where nobody says one (RFC 5737, RFC 3849).
const EXAMPLES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10))];

/// The address of this host where nobody says one.
pub fn example(family: Family) -> IpAddr {
    EXAMPLES[usize::from(family == Family::Ipv6)]
}

/// Stands for the standard input in place of a file's name.
const STDIN: &str = "-";

/// Whose format a saved ruleset is in, and where its rules live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SavedBackend {
    Nft,
    IptablesNft,
    IptablesLegacy,
    Ip6tablesNft,
    Ip6tablesLegacy,
}

impl SavedBackend {
    pub const ALL: [SavedBackend; 5] = [
        SavedBackend::Nft,
        SavedBackend::IptablesNft,
        SavedBackend::IptablesLegacy,
        SavedBackend::Ip6tablesNft,
        SavedBackend::Ip6tablesLegacy,
    ];

    /// The one family that iptables' rules speak of.
    fn family(self) -> Option<Family> {
        match self {
            SavedBackend::Nft => None,
            SavedBackend::IptablesNft | SavedBackend::IptablesLegacy => Some(Family::Ipv4),
            SavedBackend::Ip6tablesNft | SavedBackend::Ip6tablesLegacy => Some(Family::Ipv6),
        }
    }

    fn name(self) -> &'static str {
        match self {
            SavedBackend::Nft => "nft",
            SavedBackend::IptablesNft => "iptables-nft",
            SavedBackend::IptablesLegacy => "iptables-legacy",
            SavedBackend::Ip6tablesNft => "ip6tables-nft",
            SavedBackend::Ip6tablesLegacy => "ip6tables-legacy",
        }
    }
}

impl fmt::Display for SavedBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SavedBackend {
    type Err = String;

    fn from_str(text: &str) -> Result<SavedBackend, String> {
        SavedBackend::ALL
            .into_iter()
            .find(|b| b.name() == text)
            .ok_or_else(|| format!("expected one of {}", SavedBackend::ALL.map(SavedBackend::name).join(", ")))
    }
}

/// The interface that clients come in by.
#[derive(Debug, Clone)]
pub struct Place {
    pub interface: String,
    pub ifindex: u32,
    /// The local addresses; of either family. None: one of each family that the ruleset speaks of, of those that are kept
    /// for documentation.
    pub to: Vec<IpAddr>,
}

/// A saved ruleset and the place that it is to be judged for.
#[derive(Debug, Clone)]
pub struct Saved {
    /// Its name; `-` is the standard input.
    pub file: PathBuf,
    pub text: String,
    pub backend: SavedBackend,
    pub place: Place,
}

#[derive(Debug, Error)]
pub enum RulesetError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{0} is not text")]
    NotText(PathBuf),
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    #[error("load {file} as a ruleset of {backend}")]
    Run {
        file: PathBuf,
        backend: SavedBackend,
        #[source]
        source: RunError,
    },
    #[error("load {file} as a ruleset of {backend}: {complaint}")]
    Refused { file: PathBuf, backend: SavedBackend, complaint: String },
    #[error("rules of {backend} say nothing about {to}")]
    OtherFamily { backend: SavedBackend, to: IpAddr },
    #[error("the ruleset names ipset {set}, and {expected} is not there to make it from")]
    SetMissing { set: String, expected: PathBuf },
}

impl Saved {
    /// Reads a ruleset. Without a back-end its text tells whose it is.
    pub fn open(
        host: &Host,
        file: &Path,
        backend: Option<SavedBackend>,
        mut place: Place,
    ) -> Result<Saved, RulesetError> {
        let from_stdin = file == Path::new(STDIN);
        let bytes = if from_stdin { host.read_input(LIMIT)? } else { host.read_up_to(file, LIMIT)? };
        let text = String::from_utf8(bytes).map_err(|_| RulesetError::NotText(file.to_owned()))?;
        let mut families = place.to.iter().map(|&to| Family::of(to));
        let to = families.next().filter(|first| families.all(|f| f == *first));
        let backend = backend.unwrap_or_else(|| SavedBackend::guess(&text, file, to));
        let served = |to: &IpAddr| backend.family().is_none_or(|family| family == Family::of(*to));
        if let Some(&to) = place.to.iter().find(|to| !served(to)) {
            return Err(RulesetError::OtherFamily { backend, to });
        }
        if place.to.is_empty() {
            place.to = EXAMPLES.into_iter().filter(served).collect();
        }
        // The tools are run in the root folder.
        let file = if from_stdin { file.to_owned() } else { std::path::absolute(file).unwrap_or(file.to_owned()) };
        Ok(Saved { file, text, backend, place })
    }

    /// The network that the ruleset is judged in.
    pub fn net(&self) -> Net {
        net(&[(self.place.ifindex, self.place.interface.as_str())], &self.place.to)
    }
}

/// A network of which only these interfaces and local addresses are known: each interface with all the addresses and default
/// routes, and lo.
pub fn net(uplinks: &[(u32, &str)], to: &[IpAddr]) -> Net {
    let link = |index, name: &str, kind, loopback| Link {
        index,
        name: name.into(),
        kind,
        up: true,
        loopback,
        arp: !loopback,
        group: 0,
        mac: None,
        master: None,
        driver: None,
        xdp: false,
    };
    const ARPHRD_LOOPBACK: u16 = 772;
    const ARPHRD_NONE: u16 = 0xfffe;
    let address =
        |interface, address: IpAddr, prefix, global| Address { interface, address, prefix, global, tentative: false };
    let mut links = vec![link(1, "lo", ARPHRD_LOOPBACK, true)];
    let mut addresses =
        vec![address(1, Ipv4Addr::LOCALHOST.into(), 8, false), address(1, Ipv6Addr::LOCALHOST.into(), 128, false)];
    for (index, name) in uplinks {
        links.push(link(*index, name, ARPHRD_NONE, false));
        addresses.extend(to.iter().map(|&to| address(*index, to, if to.is_ipv4() { 24 } else { 64 }, true)));
    }
    let route = |destination: IpNet| Route {
        family: Family::of(destination.network()),
        kind: RouteKind::Unicast,
        table: 254,
        destination,
        interfaces: uplinks.iter().map(|(index, _)| *index).collect(),
        gateway: None,
        metric: 0,
    };
    let everywhere = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    let served = |net: &IpNet| to.iter().any(|&to| Family::of(to) == Family::of(net.network()));
    let routes = everywhere.into_iter().filter(served).map(route).collect();
    Net {
        links: Seen::Present(links),
        addresses: Seen::Present(addresses),
        routes: Seen::Present(routes),
        policy_routing: false,
        rp_filter: uplinks.iter().map(|(_, name)| ((*name).to_owned(), 0)).collect(),
    }
}

/// Loads the ruleset and runs `inside` where it is loaded.
pub fn load<T: Send>(
    host: &Host,
    saved: &Saved,
    inside: impl FnOnce(&Host, &mut Layout) -> T + Send,
) -> Result<T, RulesetError> {
    let backend = saved.backend;
    let sets = ipsets(host, saved)?;
    let devices = if backend == SavedBackend::Nft { devices(&saved.text) } else { Vec::new() };
    host.scratch(Scratch::Network, |host| {
        let mut layout = set_up(host, &saved.net(), &[saved.place.ifindex], &devices)?;
        if let Some(sets) = &sets
            && let Err(error) = restore(host, saved, "ipset", &["restore"], sets.as_bytes())
        {
            return Ok(Err(error));
        }
        Ok(load_here(host, saved).map(|()| inside(host, &mut layout)))
    })?
}

fn load_here(host: &Host, saved: &Saved) -> Result<(), RulesetError> {
    let text = saved.text.as_str();
    if saved.backend != SavedBackend::Nft {
        return restore(host, saved, &format!("{}-restore", saved.backend), &[], text.as_bytes());
    }
    if text.trim_start().starts_with('{') {
        return restore(host, saved, "nft", &["-j", "-f", "-"], disowned_json(text).as_bytes());
    }
    let disowned = disowned(text);
    let includes = text.lines().any(|l| l.trim_start().starts_with("include"));
    let named = saved.file != Path::new(STDIN) && !saved.file.starts_with("/run");
    // Relative includes are looked for beside the file; what nft reads from its standard input has no place.
    if includes && named && disowned == text {
        return restore(host, saved, "nft", &["-f", &saved.file.to_string_lossy()], &[]);
    }
    restore(host, saved, "nft", &["-f", "-"], disowned.as_bytes())
}

fn restore(host: &Host, saved: &Saved, tool: &str, args: &[&str], stdin: &[u8]) -> Result<(), RulesetError> {
    let (file, backend) = (saved.file.clone(), saved.backend);
    let call = Call { stdin, deadline: std::time::Duration::from_secs(60), ..Call::new(tool, args) };
    match host.run(&call) {
        Err(source) => Err(RulesetError::Run { file, backend, source }),
        Ok(output) if output.ok() => Ok(()),
        Ok(output) => Err(RulesetError::Refused { complaint: complaint(&output, &file), file, backend }),
    }
}

/// The first thing that the tool has to say: where, what, and the line itself.
fn complaint(output: &Output, file: &Path) -> String {
    const LINES: usize = 3;
    let text = String::from_utf8_lossy(&output.stderr).replace("/dev/stdin", &file.to_string_lossy());
    let pointer = |l: &str| l.chars().all(|c| matches!(c, '^' | '~' | ' '));
    let says = text.lines().map(str::trim).filter(|l| !pointer(l) && !l.starts_with("Try `"));
    escape(&says.take(LINES).collect::<Vec<_>>().join("; ").replace(":; ", ": "))
}

/// The `ipset save` that lies beside the ruleset (`NAME.ipset-save`, `ipset.conf` or `ipsets`), if the ruleset names sets.
fn ipsets(host: &Host, saved: &Saved) -> Result<Option<String>, RulesetError> {
    if saved.backend == SavedBackend::Nft {
        return Ok(None);
    }
    let mut words = saved.text.split_whitespace();
    let Some(set) = words.by_ref().find(|w| *w == "--match-set").and_then(|_| words.next()) else { return Ok(None) };
    let expected = saved.file.with_extension("ipset-save");
    let folder = saved.file.parent().unwrap_or(Path::new("/"));
    for path in [expected.clone(), folder.join("ipset.conf"), folder.join("ipsets")] {
        match host.read(&path) {
            Ok(bytes) => return String::from_utf8(bytes).map(Some).map_err(|_| RulesetError::NotText(path)),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RulesetError::SetMissing { set: escape(set), expected })
}
