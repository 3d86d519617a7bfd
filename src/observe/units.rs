//! The units that run sshd, as systemd's D-Bus knows them (org.freedesktop.systemd1(5)).

use std::collections::HashMap;
use std::path::Path;

use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::decode::systemctl_show;
use crate::facts::{Seen, Unit};
use crate::host::{BusError, Call, DEADLINE, Host};

const UNITS: [&str; 4] = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
const SYSTEMD: &str = "org.freedesktop.systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Absent where systemd does not run the host. A unit that is known under two names stands once, under its own.
pub fn units(host: &Host) -> Seen<Vec<Unit>> {
    if !Path::new("/run/systemd/system").exists() {
        return Seen::Absent;
    }
    match host.systemd(DEADLINE, ask) {
        Ok(units) => Seen::Present(units),
        // A small host may have no dbus-daemon: systemctl(1) has a way of its own to systemd.
        Err(BusError::Missing) => shown(host),
        Err(error) => Seen::Unreadable(crate::chain(&error)),
    }
}

fn shown(host: &Host) -> Seen<Vec<Unit>> {
    let properties = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID,FragmentPath";
    let mut args = vec!["show", "--no-pager", properties];
    args.extend(UNITS);
    match host.run(&Call::new("systemctl", &args)) {
        Ok(output) if output.ok() => Seen::Present(systemctl_show::units(&output.stdout)),
        Ok(output) => Seen::Unreadable(format!("systemctl show: {}", output.complaint())),
        Err(error) => Seen::Unreadable(crate::chain(&error)),
    }
}

async fn ask(bus: &Connection) -> Result<Vec<Unit>, BusError> {
    let mut units: Vec<Unit> = Vec::new();
    for name in UNITS {
        let manager = Some("org.freedesktop.systemd1.Manager");
        let answer = bus.call_method(Some(SYSTEMD), "/org/freedesktop/systemd1", manager, "LoadUnit", &name).await?;
        let path: OwnedObjectPath = answer.body().deserialize()?;
        let all = properties(bus, &path, "Unit").await?;
        let text = |key: &str| text(&all, key);
        let id = text("Id");
        if units.iter().any(|u| u.name == id) {
            continue;
        }
        let own = match name.ends_with(".socket") {
            true => properties(bus, &path, "Socket").await?,
            false => properties(bus, &path, "Service").await?,
        };
        units.push(Unit {
            name: id,
            load_state: text("LoadState"),
            active_state: text("ActiveState"),
            sub_state: text("SubState"),
            unit_file_state: text("UnitFileState"),
            result: self::text(&own, "Result"),
            main_pid: own.get("MainPID").and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
            fragment_path: text("FragmentPath"),
        });
    }
    Ok(units)
}

async fn properties(
    bus: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
) -> Result<HashMap<String, OwnedValue>, BusError> {
    let interface = format!("{SYSTEMD}.{interface}");
    let answer = bus.call_method(Some(SYSTEMD), path, Some(PROPERTIES), "GetAll", &interface).await?;
    Ok(answer.body().deserialize()?)
}

fn text(properties: &HashMap<String, OwnedValue>, key: &str) -> String {
    properties.get(key).and_then(|v| <&str>::try_from(v).ok()).unwrap_or_default().to_owned()
}
