//! Who may own firewall rules: ufw, firewalld.

use std::collections::HashMap;
use std::path::Path;

use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::decode::ufw::yes;
use crate::facts::{Firewalld, Seen, Ufw, Zone};
use crate::host::{BusError, DEADLINE, Host};

const NAME: &str = "org.fedoraproject.FirewallD1";
const OBJECT: &str = "/org/fedoraproject/FirewallD1";
const CONFIG: &str = "/org/fedoraproject/FirewallD1/config";
/// `zone -> { interfaces: […], sources: […] }`
type ActiveZones = HashMap<String, HashMap<String, Vec<String>>>;
type Dict = HashMap<String, OwnedValue>;

/// Absent where ufw is not installed.
pub fn ufw(host: &Host) -> Seen<Ufw> {
    let enabled =
        host.see(Path::new("/etc/ufw/ufw.conf")).map(|bytes| yes(&String::from_utf8_lossy(&bytes), "ENABLED"));
    let ipv6 = host.see(Path::new("/etc/default/ufw")).map(|bytes| yes(&String::from_utf8_lossy(&bytes), "IPV6"));
    match (enabled, ipv6) {
        (Seen::Present(enabled), Seen::Present(ipv6)) => {
            Seen::Present(Ufw { enabled, ipv6, command: host.which("ufw").is_some() })
        }
        (Seen::Present(enabled), Seen::Absent) => {
            Seen::Present(Ufw { enabled, ipv6: false, command: host.which("ufw").is_some() })
        }
        (Seen::Absent, _) => Seen::Absent,
        (Seen::Unreadable(why), _) | (_, Seen::Unreadable(why)) => Seen::Unreadable(why),
    }
}

/// Absent where no firewalld runs; it is never started by asking.
pub fn firewalld(host: &Host) -> Seen<Firewalld> {
    match host.system_bus(DEADLINE, ask) {
        Ok(Some(firewalld)) => Seen::Present(firewalld),
        Ok(None) | Err(BusError::Missing) => Seen::Absent,
        Err(error) => Seen::Unreadable(format!("firewalld: {}", crate::chain(&error))),
    }
}

async fn ask(bus: &Connection) -> Result<Option<Firewalld>, BusError> {
    let name = zbus::names::BusName::try_from(NAME).map_err(zbus::Error::from)?;
    if !zbus::fdo::DBusProxy::new(bus).await?.name_has_owner(name).await? {
        return Ok(None);
    }
    let own = |method| bus.call_method(Some(NAME), OBJECT, Some(NAME), method, &());
    let properties = Some("org.freedesktop.DBus.Properties");
    let all: Dict = bus.call_method(Some(NAME), OBJECT, properties, "GetAll", &NAME).await?.body().deserialize()?;
    let text = |key: &str| all.get(key).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default().to_owned();
    let default_zone: String = own("getDefaultZone").await?.body().deserialize()?;
    let panic: bool = own("queryPanicMode").await?.body().deserialize()?;
    let active = Some("org.fedoraproject.FirewallD1.zone");
    let active: ActiveZones =
        bus.call_method(Some(NAME), OBJECT, active, "getActiveZones", &()).await?.body().deserialize()?;
    let policies = Some("org.fedoraproject.FirewallD1.policies");
    let lockdown = bus.call_method(Some(NAME), OBJECT, policies, "queryLockdown", &()).await;
    let lockdown = lockdown.is_ok_and(|answer| answer.body().deserialize().unwrap_or(false));

    let mut names: Vec<&String> = active.keys().collect();
    if !active.contains_key(&default_zone) {
        names.push(&default_zone);
    }
    names.sort_unstable();
    let mut zones = Vec::new();
    for name in names {
        zones.push(zone(bus, name).await?);
    }
    Ok(Some(Firewalld {
        version: text("version"),
        state: text("state"),
        panic,
        lockdown,
        interface_zones: members(&active, "interfaces"),
        source_zones: members(&active, "sources"),
        default_zone,
        zones,
    }))
}

fn members(active: &ActiveZones, kind: &str) -> Vec<(String, String)> {
    let each = active.iter().flat_map(|(zone, parts)| {
        parts.get(kind).into_iter().flatten().map(move |member| (member.clone(), zone.clone()))
    });
    let mut all: Vec<_> = each.collect();
    all.sort_unstable();
    all
}

async fn zone(bus: &Connection, name: &str) -> Result<Zone, BusError> {
    let interface = Some("org.fedoraproject.FirewallD1.zone");
    let answer = bus.call_method(Some(NAME), OBJECT, interface, "getZoneSettings2", &name).await?;
    let runtime: Dict = answer.body().deserialize()?;
    let config = Some("org.fedoraproject.FirewallD1.config");
    let answer = bus.call_method(Some(NAME), CONFIG, config, "getZoneByName", &name).await;
    // A zone may exist at runtime alone.
    let permanent: Dict = match answer {
        Ok(answer) => {
            let path: OwnedObjectPath = answer.body().deserialize()?;
            let interface = Some("org.fedoraproject.FirewallD1.config.zone");
            bus.call_method(Some(NAME), path, interface, "getSettings2", &()).await?.body().deserialize()?
        }
        Err(zbus::Error::MethodError(..)) => Dict::new(),
        Err(error) => return Err(error.into()),
    };
    let target = runtime.get("target").and_then(|v| <&str>::try_from(v).ok());
    Ok(Zone {
        name: name.to_owned(),
        target: target.unwrap_or("default").to_owned(),
        services: strings(&runtime, "services"),
        ports: ports(&runtime),
        rich_rules: strings(&runtime, "rules_str"),
        permanent_services: strings(&permanent, "services"),
        permanent_ports: ports(&permanent),
        permanent_rich_rules: strings(&permanent, "rules_str"),
        permanent_target: permanent.get("target").and_then(|v| <&str>::try_from(v).ok()).map(str::to_owned),
    })
}

fn strings(settings: &Dict, key: &str) -> Vec<String> {
    let value = settings.get(key).and_then(|v| v.try_clone().ok());
    value.and_then(|v| Vec::<String>::try_from(v).ok()).unwrap_or_default()
}

/// `22/tcp` of firewalld's pairs of port and protocol.
fn ports(settings: &Dict) -> Vec<String> {
    let value = settings.get("ports").and_then(|v| v.try_clone().ok());
    let pairs = value.and_then(|v| Vec::<(String, String)>::try_from(v).ok()).unwrap_or_default();
    pairs.into_iter().map(|(port, protocol)| format!("{port}/{protocol}")).collect()
}
