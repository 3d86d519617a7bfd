//! What the next boot loads: the texts of enabled units, and the rules that they make.

use std::io;
use std::path::{Path, PathBuf};

use super::firewalld;
use crate::decode::ufw::{self, UfwFiles};
use crate::decode::unit_file::exec_start;
use crate::facts::{Boot, Family, LoadTool, Loader, Maker, Net, Seen};
use crate::host::Host;
use crate::rehearse::boot::load;

/// Where systemd looks for units, the first wins (systemd.unit(5)).
const UNITS: [&str; 6] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator",
];
/// Targets that every boot reaches.
const TARGETS: [&str; 9] =
    ["sysinit", "basic", "sockets", "network-pre", "network", "network-online", "multi-user", "graphical", "default"];
const PLUGINS: &str = "/usr/share/netfilter-persistent/plugins.d";

/// Each with the file in which `no` to a key keeps it from starting.
const MAKERS: [(Maker, &str, &str); 3] = [
    (shorewall("shorewall.service", "/etc/shorewall/rules"), "/etc/shorewall/shorewall.conf", "STARTUP_ENABLED"),
    (shorewall("shorewall6.service", "/etc/shorewall6/rules"), "/etc/shorewall6/shorewall6.conf", "STARTUP_ENABLED"),
    (FERM, "/etc/default/ferm", "ENABLED"),
];
const FERM: Maker = Maker {
    unit: "ferm.service",
    file: "/etc/ferm/ferm.conf",
    accept: "domain (ip ip6) chain INPUT proto tcp dport PORT ACCEPT;",
};

const fn shorewall(unit: &'static str, file: &'static str) -> Maker {
    Maker { unit, file, accept: "ACCEPT net $FW tcp PORT" }
}

pub fn boot(host: &Host, net: &Net) -> Boot {
    let firewalld = enabled(host, firewalld::UNIT);
    let makers = makers(host);
    let (loaders, firewall) = match loaders(host, net) {
        // They change or replace what others load.
        _ if !makers.is_empty() => (Vec::new(), Seen::Absent),
        Ok(loaders) if loaders.is_empty() => (loaders, Seen::Absent),
        Ok(loaders) => {
            let firewall = match (conflict(&loaders, firewalld), host.privileged()) {
                (Some(why), _) => Seen::Unreadable(why),
                (None, false) => Seen::Unreadable("root is needed to load its rules in a scratch namespace".into()),
                (None, true) => load(host, net, &loaders).map_or_else(Seen::Unreadable, Seen::Present),
            };
            (loaders, firewall)
        }
        Err(why) => (Vec::new(), Seen::Unreadable(why)),
    };
    Boot { loaders, firewalld, makers, firewall, rp_filter: super::sysctl::rp_filter(host, net) }
}

fn makers(host: &Host) -> Vec<Maker> {
    let starts = |(maker, file, key): &(Maker, &str, &str)| {
        let off = |text: Vec<u8>| {
            ufw::value(&String::from_utf8_lossy(&text), key).is_some_and(|value| value.eq_ignore_ascii_case("no"))
        };
        enabled(host, maker.unit) && host.see(Path::new(file)).map(off).present() != Some(&true)
    };
    MAKERS.into_iter().filter(starts).map(|(maker, ..)| maker).collect()
}

/// What is loaded side by side must not depend on who comes first.
fn conflict(loaders: &[Loader], firewalld: bool) -> Option<String> {
    let first = loaders.first()?;
    let flushes = |l: &Loader| match l.tool {
        LoadTool::Nft => l.text.lines().any(|line| line.trim_start().starts_with("flush ruleset")),
        LoadTool::Restore(_) => true,
        LoadTool::Add(_) | LoadTool::Ufw(_) | LoadTool::Firewalld { .. } => false,
    };
    let other = loaders.iter().find(|l| service(&l.unit) != service(&first.unit));
    let (one, two) = match other {
        Some(other) if loaders.iter().any(flushes) => (&first.unit, other.unit.as_str()),
        None if firewalld && flushes(first) => (&first.unit, "firewalld.service"),
        _ => return None,
    };
    Some(format!("{one} and {two} are both enabled, and which of them has the last word is not known"))
}

/// The units of iptables load one family each, and are one service.
fn service(unit: &str) -> &str {
    unit.strip_prefix("ip6tables").map_or(unit, |_| "iptables.service")
}

fn loaders(host: &Host, net: &Net) -> Result<Vec<Loader>, String> {
    let mut out = Vec::new();
    if enabled(host, "nftables.service") {
        out.extend(by_command(host, "nftables.service", LoadTool::Nft)?);
    }
    if enabled(host, "netfilter-persistent.service") {
        out.extend(netfilter_persistent(host)?);
    }
    for (unit, family) in [("iptables.service", Family::Ipv4), ("ip6tables.service", Family::Ipv6)] {
        if enabled(host, unit) {
            out.extend(by_command(host, unit, LoadTool::Restore(family))?);
        }
    }
    if enabled(host, "ufw.service") {
        out.extend(ufw(host)?);
    }
    // One that can run is asked for its zones.
    if host.mounted_at().is_some() && enabled(host, firewalld::UNIT) {
        out.extend(firewalld::loaders(host, net)?);
    }
    Ok(out)
}

/// Whether a boot starts the unit, as `systemctl enable` has linked it.
pub fn enabled(host: &Host, unit: &str) -> bool {
    let there = |path: PathBuf| host.symlink_metadata(&path).is_ok();
    let Some(file) = unit_file(host, unit) else { return false };
    // A link to /dev/null, or an empty file: masked.
    if !host.metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return false;
    }
    UNITS.iter().any(|dir| {
        let wanted = |kind: &str| {
            TARGETS.iter().any(|target| there(Path::new(dir).join(format!("{target}.target.{kind}")).join(unit)))
        };
        wanted("wants") || wanted("requires")
    })
}

/// Where the unit is described, or masked.
pub fn unit_file(host: &Host, unit: &str) -> Option<PathBuf> {
    UNITS.iter().map(|dir| Path::new(dir).join(unit)).find(|path| host.symlink_metadata(path).is_ok())
}

/// What the unit's own command loads.
fn by_command(host: &Host, unit: &str, tool: LoadTool) -> Result<Option<Loader>, String> {
    let files: Vec<Vec<u8>> = unit_files(host, unit)?.into_iter().map(|(_, text)| text).collect();
    let commands = exec_start(&files);
    let unknown = || format!("{unit} is enabled, and what it loads is not known");
    let [command] = commands.as_slice() else { return Err(unknown()) };
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let file = match (tool, program, words.get(1..).unwrap_or_default()) {
        (LoadTool::Nft, "nft", ["-f", file]) => file,
        (LoadTool::Restore(Family::Ipv4), "iptables.init", ["start"]) => "/etc/sysconfig/iptables",
        (LoadTool::Restore(Family::Ipv6), "ip6tables.init", ["start"]) => "/etc/sysconfig/ip6tables",
        (LoadTool::Restore(_), "iptables-restore" | "ip6tables-restore", [.., file]) => file,
        _ => return Err(unknown()),
    };
    if !file.starts_with('/') || file.contains(['%', '$', '"', '\'']) {
        return Err(unknown());
    }
    loader(host, unit, tool, file)
}

/// The unit file and its drop-ins, by the order of their names (systemd.unit(5)).
pub fn unit_files(host: &Host, unit: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, String> {
    let read = |path: &Path| Ok::<_, String>((path.to_owned(), host.read(path).map_err(|e| crate::chain(&e))?));
    let main = UNITS.iter().map(|dir| Path::new(dir).join(unit)).find(|path| host.is_file(path));
    let mut files: Vec<(PathBuf, Vec<u8>)> = main.iter().map(|path| read(path)).collect::<Result<_, _>>()?;
    let mut named: Vec<(std::ffi::OsString, PathBuf)> = Vec::new();
    for dir in UNITS.iter().map(|dir| Path::new(dir).join(format!("{unit}.d"))) {
        let entries = match host.list(&dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(format!("list {}: {error}", dir.display())),
        };
        for path in
            entries.into_iter().map(|name| dir.join(name)).filter(|p| p.extension().is_some_and(|e| e == "conf"))
        {
            let name = path.file_name().unwrap_or_default().to_owned();
            if !named.iter().any(|(known, _)| *known == name) {
                named.push((name, path));
            }
        }
    }
    named.sort();
    for (_, path) in named.iter().filter(|(_, path)| host.is_file(path)) {
        files.push(read(path)?);
    }
    Ok(files)
}

/// None where the file is not there: nothing is loaded then.
fn loader(host: &Host, unit: &str, tool: LoadTool, file: &str) -> Result<Option<Loader>, String> {
    let Some(text) = text(host, file)? else { return Ok(None) };
    Ok(Some(Loader { head: String::new(), tail: String::new(), unit: unit.to_owned(), tool, file: file.into(), text }))
}

fn text(host: &Host, file: &str) -> Result<Option<String>, String> {
    match host.see(Path::new(file)) {
        Seen::Present(bytes) => {
            String::from_utf8(bytes).map(Some).map_err(|_| format!("{file} is loaded at boot, and is not text"))
        }
        Seen::Absent => Ok(None),
        Seen::Unreadable(why) => Err(why),
    }
}

/// Debian's iptables-persistent: a plugin for each family.
fn netfilter_persistent(host: &Host) -> Result<Vec<Loader>, String> {
    const UNIT: &str = "netfilter-persistent.service";
    let options = text(host, "/etc/default/netfilter-persistent")?.unwrap_or_default();
    let families = [
        ("15-ip4tables", "IPTABLES_RESTORE_NOFLUSH", "/etc/iptables/rules.v4", Family::Ipv4),
        ("25-ip6tables", "IP6TABLES_RESTORE_NOFLUSH", "/etc/iptables/rules.v6", Family::Ipv6),
    ];
    let mut out = Vec::new();
    for (plugin, option, file, family) in families {
        if host.exists(&Path::new(PLUGINS).join(plugin)) {
            let add = ufw::value(&options, option).is_some_and(|v| v == "yes");
            let tool = if add { LoadTool::Add(family) } else { LoadTool::Restore(family) };
            out.extend(loader(host, UNIT, tool, file)?);
        }
    }
    Ok(out)
}

fn ufw(host: &Host) -> Result<Vec<Loader>, String> {
    const UNIT: &str = "ufw.service";
    let wanted = |file: &str| {
        text(host, file)?.ok_or_else(|| format!("{UNIT} is enabled, and {file}, which it loads, is not there"))
    };
    if !text(host, "/etc/ufw/ufw.conf")?.is_some_and(|conf| ufw::yes(&conf, "ENABLED")) {
        return Ok(Vec::new());
    }
    let defaults = wanted("/etc/default/ufw")?;
    if ufw::yes(&defaults, "MANAGE_BUILTINS") {
        return Err("ufw takes the built-in chains for itself (MANAGE_BUILTINS), which is not modelled".into());
    }
    let mut out = Vec::new();
    for (family, six) in [(Family::Ipv4, ""), (Family::Ipv6, "6")] {
        let tool = LoadTool::Ufw(family);
        if family == Family::Ipv6 && !ufw::yes(&defaults, "IPV6") {
            let (file, head) = (PathBuf::from("/etc/default/ufw"), ufw::SHUT.to_owned());
            out.push(Loader { unit: UNIT.into(), tool, file, text: String::new(), head, tail: String::new() });
            continue;
        }
        let files = UfwFiles {
            defaults: defaults.clone(),
            before: wanted(&format!("/etc/ufw/before{six}.rules"))?,
            after: wanted(&format!("/etc/ufw/after{six}.rules"))?,
        };
        let file = format!("/etc/ufw/user{six}.rules");
        let parts = ufw::start(&files, family);
        let (head, tail) = parts.ok_or("/etc/default/ufw has a policy that ufw does not know")?;
        out.push(Loader { unit: UNIT.into(), tool, text: wanted(&file)?, file: file.into(), head, tail });
    }
    Ok(out)
}
