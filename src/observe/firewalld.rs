//! What a disk's firewalld makes of its permanent files. Each zone becomes a table of its own, which passes on what is another
//! zone's; what is not modelled is said.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::decode::firewalld::{What, Zone, is_of_host, rules, service, zone};
use crate::decode::ufw;
use crate::decode::unit_file::values;
use crate::facts::{Family, LoadTool, Loader, Net, Seen, escape, zone_table};
use crate::host::Host;

pub const UNIT: &str = "firewalld.service";
const OWN: &str = "/etc/firewalld";
const VENDOR: &str = "/usr/lib/firewalld";
const CONNECTIONS: [(&str, &str); 2] =
    [("/etc/NetworkManager/system-connections", ".nmconnection"), ("/etc/sysconfig/network-scripts", "")];
/// Files of one kind.
const FILES: usize = 512;
/// How deep services include each other.
const DEPTH: usize = 8;

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
    let about = |why: String| format!("{}: {why}", escape(&loader.file.to_string_lossy()));
    let zone = zone(&loader.text).map_err(about)?;
    let rules = rules(&zone, |name| opened(host, name, 0)).map_err(about)?;
    Ok([loader.head.as_str(), &rules, &loader.tail].concat())
}

/// What a service opens of TCP, and those that come with it.
fn opened(host: &Host, name: &str, depth: usize) -> Result<Vec<What>, String> {
    let none = || format!("there is no service {}", escape(name));
    if !is_plain(name) || depth > DEPTH {
        return Err(none());
    }
    let own = text(host, &format!("{OWN}/services/{name}.xml"))?;
    let found = match own {
        Some(own) => own,
        None => text(host, &format!("{VENDOR}/services/{name}.xml"))?.ok_or_else(none)?,
    };
    let mut found = service(&found).map_err(|why| format!("service {name}: {why}"))?;
    for other in &found.includes {
        found.tcp.extend(opened(host, other, depth + 1)?);
    }
    Ok(found.tcp)
}

fn zones(host: &Host) -> Result<BTreeMap<String, Found>, String> {
    let mut out = BTreeMap::new();
    for (folder, own) in [(VENDOR, false), (OWN, true)] {
        let folder = Path::new(folder).join("zones");
        for file in host.list(&folder).unwrap_or_default().into_iter().take(FILES) {
            let path = folder.join(file);
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
        for file in host.list(&Path::new(folder).join("policies")).unwrap_or_default() {
            let own = folder == OWN;
            let path = Path::new(folder).join("policies").join(&file);
            let Some(text) = text(host, &path.to_string_lossy())? else { continue };
            let about = |why: &str| format!("{} {why}", escape(&path.to_string_lossy()));
            match file == NEIGHBOURS && !own {
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
                "zone {zone} is that of interface {}, and whether clients come in by it is not known (ssh.interfaces says it)",
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
        for file in host.list(Path::new(folder)).unwrap_or_default().into_iter().take(FILES) {
            let path = Path::new(folder).join(&file).to_string_lossy().into_owned();
            if !path.ends_with(end) || (end.is_empty() && !file.to_string_lossy().starts_with("ifcfg-")) {
                continue;
            }
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

fn text(host: &Host, file: &str) -> Result<Option<String>, String> {
    match host.see(Path::new(file)) {
        Seen::Present(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| format!("{} is not text", escape(file))),
        Seen::Absent => Ok(None),
        Seen::Unreadable(why) => Err(why),
    }
}
