//! `--ruleset`: a saved ruleset in the place of this host's own.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::screen::clean;
use super::{CliError, Context};
use crate::facts::{Family, Snapshot};
use crate::judge::Path;
use crate::observe::{firewall::firewall, net::net};
use crate::policy::Policy;
use crate::rehearse::ruleset::{Place, Saved, SavedBackend, load};

/// Where clients come in; the same words for a saved ruleset and for this host.
#[derive(Debug, Clone, Args)]
pub struct Way {
    /// The interface that clients come in by [for a ruleset: eth0; for this host: those that the policy names, or that
    /// have a default route]
    #[arg(long, value_name = "NAME", value_parser = interface)]
    pub interface: Option<String>,
    /// The local address that clients connect to; may be given again [for a ruleset: 192.0.2.10 and 2001:db8::10; for this
    /// host: its global addresses]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub to: Vec<IpAddr>,
    /// The port that clients connect to [default: the policy's]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, Args)]
pub struct Ruleset {
    /// Judge a saved ruleset instead of this host: what `iptables-save`, `ip6tables-save` or `nft list ruleset` printed,
    /// /etc/iptables/rules.v4, /etc/nftables.conf; `-` reads it from the standard input. It is loaded into a scratch
    /// namespace by its own tool and read back; this host's rules are not touched. Only the rules are judged, and needs root
    #[arg(long = "ruleset", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The tool that loads it: iptables-nft, iptables-legacy, ip6tables-nft, ip6tables-legacy or nft [default: by its form;
    /// the report says which]
    #[arg(long, value_name = "BACKEND", requires = "file", value_parser = backend)]
    pub backend: Option<SavedBackend>,
    /// The number of the interface [default: 2]
    #[arg(long, value_name = "N", requires = "file", value_parser = clap::value_parser!(u32).range(2..=i64::from(i32::MAX)))]
    pub ifindex: Option<u32>,
}

/// What a report says about the ruleset that it is about.
#[derive(Debug, Clone, Serialize)]
pub struct About {
    pub file: String,
    pub backend: String,
    pub interface: String,
    pub ifindex: u32,
}

/// A ruleset as the kernel has read it.
pub struct Loaded {
    pub about: About,
    pub snapshot: Snapshot,
    pub paths: Vec<Path>,
}

impl Way {
    /// The policy with the port and the interface of this way, where they are named.
    pub fn narrow(&self, mut policy: Policy) -> Policy {
        if let Some(port) = self.port {
            policy.ssh.ports = vec![port];
        }
        if let Some(interface) = &self.interface {
            policy.ssh.interfaces = Some(vec![interface.clone()]);
        }
        policy
    }
}

impl About {
    pub fn words(&self) -> String {
        format!(
            "The rules of {} alone, as {} loads them, for {} with number {}.",
            clean(&self.file),
            self.backend,
            clean(&self.interface),
            self.ifindex
        )
    }
}

impl Ruleset {
    /// Loads the ruleset, if one is named, for the way and the ports of the policy.
    pub fn load(&self, context: &Context, policy: &Policy, way: &Way) -> Result<Option<Loaded>, CliError> {
        let Some(file) = &self.file else { return Ok(None) };
        if !context.host.privileged() {
            return Err(CliError::Root("a scratch namespace for a ruleset"));
        }
        let interface = way.interface.clone().unwrap_or_else(|| "eth0".to_owned());
        let place = Place { interface, ifindex: self.ifindex.unwrap_or(2), to: way.to.clone() };
        let saved = Saved::open(&context.host, file, self.backend, place)?;
        let snapshot = load(&context.host, &saved, |host, _| Snapshot::rules_alone(net(host), firewall(host)))?;
        let Saved { file, backend, place, .. } = saved;
        let path = |address: IpAddr, port| Path {
            family: Family::of(address),
            interface: place.interface.clone(),
            ifindex: place.ifindex,
            address,
            port,
        };
        let ports = &policy.ssh.ports;
        let paths = place.to.iter().flat_map(|&to| ports.iter().map(move |&port| (to, port)));
        let paths = paths.map(|(to, port)| path(to, port)).collect();
        let about = About {
            file: file.to_string_lossy().into_owned(),
            backend: backend.to_string(),
            interface: place.interface.clone(),
            ifindex: place.ifindex,
        };
        Ok(Some(Loaded { about, snapshot, paths }))
    }
}

/// A name that the kernel takes (`dev_valid_name` of net/core/dev.c), and that is not the loopback interface's.
fn interface(text: &str) -> Result<String, String> {
    let good = !text.is_empty()
        && text.len() < 16
        && !matches!(text, "." | ".." | "lo")
        && !text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control());
    if good { Ok(text.to_owned()) } else { Err("expected the name of an interface, at most 15 bytes".to_owned()) }
}

pub fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "expected an IPv4 or IPv6 address".to_owned())?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_loopback() || address.is_multicast() || address.is_unspecified() || mapped {
        return Err("expected an address at which clients outside can reach a host".to_owned());
    }
    Ok(address)
}

fn backend(text: &str) -> Result<SavedBackend, String> {
    text.parse()
}
