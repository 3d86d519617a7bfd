//! What a disk's firewalld makes of its permanent files. Each zone becomes a table of its own, which passes on what is another
//! zone's; what is not modelled is said.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::decode::firewalld::{What, Zone, is_of_host, rules, service, zone};
use crate::decode::ufw;
use crate::decode::unit_file::values;
use crate::facts::{Family, LoadTool, Loader, Net, escape, zone_table};
use crate::host::Host;

pub const UNIT: &str = "firewalld.service";
const OWN: &str = "/etc/firewalld";
const VENDOR: &str = "/usr/lib/firewalld";
const CONNECTIONS: [(&str, &str); 2] =
    [("/etc/NetworkManager/system-connections", ".nmconnection"), ("/etc/sysconfig/network-scripts", "")];
/// Files of one folder, bytes of a file, and sources of all zones: a disk may mean harm.
const FILES: usize = 128;
const BYTES: u64 = 256 << 10;
const SOURCES: usize = 1024;

/// A zone's file, and what it says.
struct Found {
    own: bool,
    text: String,
    zone: Result<Zone, String>,
}

/// One for each zone that something comes into.
pub fn loaders(host: &Host, net: &Net) -> Result<Vec<Loader>, String> {
    let default = text(host, &format!("{OWN}/firewalld.conf"))?
        .and_then(|conf| ufw::value(&conf, "DefaultZone"))
        .unwrap_or_else(|| "public".into());
    if text(host, &format!("{OWN}/direct.xml"))?
        .is_some_and(|text| text.contains("<rule") || text.contains("<passthrough"))
    {
        return Err(format!("{OWN}/direct.xml has rules, which are not modelled"));
    }
    let neighbours = policies(host)?;
    let zones = zones(host)?;
    let ways = Ways::of(host, net, &zones, &default)?;
    let mut out = Vec::new();
    for name in ways.zones() {
        let found = zones.get(name).ok_or_else(|| format!("firewalld has no zone {}", escape(name)))?;
        let table = format!("table inet {} {{\nchain filter_IN_{name} {{\n", zone_table(name));
        let input = "}\nchain filter_INPUT {\ntype filter hook input priority 10; policy accept;\n\
                     ct state { established, related } accept\niifname \"lo\" accept\n";
        let neighbours = if neighbours {
            "icmpv6 type { nd-neighbor-advert, nd-neighbor-solicit, nd-router-advert, nd-redirect } accept\n"
        } else {
            ""
        };
        out.push(Loader {
            unit: UNIT.into(),
            tool: LoadTool::Firewalld { own: found.own },
            file: PathBuf::from(format!("{OWN}/zones/{name}.xml")),
            text: found.text.clone(),
            head: table,
            tail: format!("{input}{neighbours}{}}}\n}}\n", ways.lead(name)),
        });
    }
    // What cannot be said of one zone is known before anything is loaded.
    out.iter().try_for_each(|loader| whole(host, loader).map(drop))?;
    Ok(out)
}

/// What nft(8) loads for a zone, whose text may have been changed.
pub fn whole(host: &Host, loader: &Loader) -> Result<String, String> {
    let about = |why: String| format!("{}: {}", escape(&loader.file.to_string_lossy()), escape(&why));
    let zone = zone(&loader.text).map_err(about)?;
    let rules = rules(&zone, |name| opened(host, name)).map_err(about)?;
    Ok([loader.head.as_str(), &rules, &loader.tail].concat())
}

/// What a service opens of TCP, and those that come with it, each once however they include each other.
fn opened(host: &Host, name: &str) -> Result<Vec<What>, String> {
    let mut out = Vec::new();
    let mut known = BTreeSet::from([name.to_owned()]);
    let mut next = vec![name.to_owned()];
    while let Some(name) = next.pop() {
        let none = || format!("there is no service {name}");
        if !is_plain(&name) {
            return Err(none());
        }
        let own = text(host, &format!("{OWN}/services/{name}.xml"))?;
        let found = match own {
            Some(own) => own,
            None => text(host, &format!("{VENDOR}/services/{name}.xml"))?.ok_or_else(none)?,
        };
        let found = service(&found).map_err(|why| format!("service {name}: {why}"))?;
        out.extend(found.tcp);
        next.extend(found.includes.into_iter().filter(|other| known.insert(other.clone())));
        if known.len() > FILES {
            return Err(format!("a service takes in more than {FILES} others"));
        }
    }
    Ok(out)
}

fn zones(host: &Host) -> Result<BTreeMap<String, Found>, String> {
    let mut out = BTreeMap::new();
    for (folder, own) in [(VENDOR, false), (OWN, true)] {
        let folder = Path::new(folder).join("zones");
        for path in files(host, &folder)? {
            if host.metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                return Err(format!("{} is a zone in parts, which is not modelled", escape(&path.to_string_lossy())));
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if path.extension().is_none_or(|end| end != "xml") || !is_plain(&name) {
                continue;
            }
            let Some(text) = text(host, &path.to_string_lossy())? else { continue };
            let zone = zone(&text);
            out.insert(name, Found { own, text, zone });
        }
    }
    Ok(out)
}

/// Whether the one policy that comes with firewalld lets neighbours find each other by IPv6; any other is not modelled.
fn policies(host: &Host) -> Result<bool, String> {
    const NEIGHBOURS: &str = "allow-host-ipv6.xml";
    let mut found = false;
    for folder in [OWN, VENDOR] {
        for path in files(host, &Path::new(folder).join("policies"))? {
            let vendors = folder == VENDOR && path.ends_with(NEIGHBOURS);
            let Some(text) = text(host, &path.to_string_lossy())? else { continue };
            let about = |why: &str| format!("{} {}", escape(&path.to_string_lossy()), escape(why));
            match vendors {
                true => found = true,
                false if !is_of_host(&text).map_err(|why| about(&format!("is not read: {why}")))? => {}
                false => return Err(about("is not modelled")),
            }
        }
    }
    Ok(found)
}

/// Which zone a packet comes into: by its source, else by its interface, else the default one.
struct Ways {
    sources: Vec<(IpNet, String)>,
    interfaces: Vec<(String, String)>,
    default: String,
}

impl Ways {
    fn of(host: &Host, net: &Net, zones: &BTreeMap<String, Found>, default: &str) -> Result<Ways, String> {
        let mut sources: Vec<(IpNet, String)> = Vec::new();
        let mut interfaces: Vec<(String, String)> = Vec::new();
        for (name, found) in zones {
            let Ok(zone) = &found.zone else { continue };
            if zone.other_sources {
                return Err(format!(
                    "zone {name} of firewalld takes sources that are no addresses, which is not modelled"
                ));
            }
            sources.extend(zone.sources.iter().map(|net| (*net, name.clone())));
            interfaces.extend(zone.interfaces.iter().map(|interface| (interface.clone(), name.clone())));
        }
        interfaces.extend(connections(host)?);
        interfaces.sort();
        interfaces.dedup();
        if sources.len() > SOURCES {
            return Err(format!("firewalld's zones take more than {SOURCES} sources"));
        }
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let (mut nets, mut names) = (sources.iter().enumerate(), interfaces.windows(2));
        let both =
            nets.any(|(n, (net, zone))| sources[..n].iter().any(|(other, of)| of != zone && overlap(net, other)));
        if both || names.any(|pair| pair[0].0 == pair[1].0) {
            return Err("two zones of firewalld want the same source or interface".into());
        }
        let links: Vec<&str> = net.links.present().into_iter().flatten().map(|link| link.name.as_str()).collect();
        let elsewhere = |(name, _): &&(String, String)| !links.contains(&name.as_str()) && name.starts_with(['e', 'w']);
        if let Some((name, zone)) = interfaces.iter().find(elsewhere) {
            return Err(format!(
                "zone {} is that of interface {}, and whether clients come in by it is not known (ssh.interfaces says it)",
                escape(zone),
                escape(name)
            ));
        }
        let plain = |name: &str| name.len() <= 15 && is_plain(name);
        if !is_plain(default) || !interfaces.iter().all(|(name, _)| plain(name)) {
            return Err("firewalld's zones have names that are none".into());
        }
        Ok(Ways { sources, interfaces, default: default.to_owned() })
    }

    fn zones(&self) -> Vec<&str> {
        let named = self.sources.iter().map(|(_, zone)| zone).chain(self.interfaces.iter().map(|(_, zone)| zone));
        let mut all: Vec<&str> = named.chain([&self.default]).map(String::as_str).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The lines that lead into a zone's chain.
    fn lead(&self, zone: &str) -> String {
        let mut out = String::new();
        let mut way = |which: String, to: &str| {
            let deed = if to == zone { format!("goto filter_IN_{zone}") } else { "accept".to_owned() };
            out.push_str(&format!("{which}{deed}\n"));
        };
        for (net, to) in &self.sources {
            let family = if Family::of(net.addr()) == Family::Ipv4 { "ip" } else { "ip6" };
            way(format!("{family} saddr {net} "), to);
        }
        for (interface, to) in &self.interfaces {
            way(format!("iifname \"{interface}\" "), to);
        }
        way(String::new(), &self.default);
        out
    }
}

/// The interfaces that NetworkManager puts into zones.
fn connections(host: &Host) -> Result<Vec<(String, String)>, String> {
    let mut out = Vec::new();
    for (folder, end) in CONNECTIONS {
        for path in files(host, Path::new(folder))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if !name.ends_with(end) || (end.is_empty() && !name.starts_with("ifcfg-")) {
                continue;
            }
            let path = path.to_string_lossy();
            let Some(text) = text(host, &path)? else { continue };
            let of = |key: &str| values(&[text.clone().into_bytes()], "connection", key).pop();
            let (zone, interface) = match end {
                "" => (ufw::value(&text, "ZONE"), ufw::value(&text, "DEVICE")),
                _ => (of("zone"), of("interface-name")),
            };
            match (zone.filter(|zone| !zone.is_empty()), interface) {
                (None, _) => {}
                (Some(zone), Some(interface)) => out.push((interface, zone)),
                (Some(_), None) => {
                    return Err(format!("{} has a zone, and of which interface is not said", escape(&path)));
                }
            }
        }
    }
    Ok(out)
}

/// Names that can stand in a ruleset, and in a path.
fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
}

/// The files of a folder, which need not be there.
fn files(host: &Host, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let about = |why: &dyn std::fmt::Display| format!("list {}: {why}", escape(&folder.to_string_lossy()));
    match host.list(folder) {
        Ok(names) if names.len() > FILES => Err(about(&format!("more than {FILES} files"))),
        Ok(names) => Ok(names.into_iter().map(|name| folder.join(name)).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(about(&error)),
    }
}

fn text(host: &Host, file: &str) -> Result<Option<String>, String> {
    match host.read_up_to(Path::new(file), BYTES) {
        Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| format!("{} is not text", escape(file))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(crate::chain(&error)),
    }
}
