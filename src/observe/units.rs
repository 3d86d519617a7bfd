//! The units that run sshd, as systemd's D-Bus knows them (org.freedesktop.systemd1(5)).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use crate::decode::{systemctl_show, unit_file};
use crate::facts::{Seen, SocketUnit, Unit, UnitLine};
use crate::host::{BusError, Call, DEADLINE, Host};

const UNITS: [&str; 4] = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
const SYSTEMD: &str = "org.freedesktop.systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Where a machine's own drop-ins are.
pub const DROP_INS: &str = "/etc/systemd/system";

/// Absent where systemd does not run the host. A unit that is known under two names stands once, under its own.
pub fn units(host: &Host) -> Seen<Vec<Unit>> {
    if !Path::new("/run/systemd/system").exists() {
        return Seen::Absent;
    }
    match host.systemd(DEADLINE, ask) {
        Ok(units) => {
            Seen::Present(units.into_iter().map(|(unit, drop_ins)| with_lines(host, unit, drop_ins)).collect())
        }
        // A small host may have no dbus-daemon: systemctl(1) has a way of its own to systemd.
        Err(BusError::Missing) => shown(host),
        Err(error) => Seen::Unreadable(crate::chain(&error)),
    }
}

fn shown(host: &Host) -> Seen<Vec<Unit>> {
    let properties = "--property=Id,LoadState,ActiveState,SubState,UnitFileState,Result,MainPID,FragmentPath,KillMode";
    let mut args = vec!["show", "--no-pager", properties];
    args.extend(UNITS);
    match host.run(&Call::new("systemctl", &args)) {
        Ok(output) if output.ok() => Seen::Present(systemctl_show::units(&output.stdout)),
        Ok(output) => Seen::Unreadable(format!("systemctl show: {}", output.complaint())),
        Err(error) => Seen::Unreadable(crate::chain(&error)),
    }
}

/// The lines of a socket unit's files that say where it listens.
fn with_lines(host: &Host, mut unit: Unit, drop_ins: Vec<String>) -> Unit {
    let Some(socket) = &mut unit.socket else { return unit };
    let files: Vec<String> = std::iter::once(unit.fragment_path.clone()).chain(drop_ins).collect();
    // What cannot be read has no line; where systemd listens is known all the same.
    let texts: Vec<Vec<u8>> = files.iter().map(|f| host.read(Path::new(f)).unwrap_or_default()).collect();
    let line = |found: unit_file::Assignment| UnitLine {
        file: files.get(found.file).map(PathBuf::from).unwrap_or_default(),
        line: found.line,
        text: format!("{}={}", found.key, found.value),
    };
    socket.lines = unit_file::listens(&texts).into_iter().map(line).collect();
    socket.has_folder = host.exists(&Path::new(DROP_INS).join(format!("{}.d", unit.name)));
    unit
}

/// Each unit, with the paths of its drop-ins. All are asked for at once.
async fn ask(bus: &Connection) -> Result<Vec<(Unit, Vec<String>)>, BusError> {
    let [service, other, socket, other_socket] = UNITS;
    let all = tokio::try_join!(unit(bus, service), unit(bus, other), unit(bus, socket), unit(bus, other_socket))?;
    let mut units: Vec<(Unit, Vec<String>)> = Vec::new();
    for unit in <[_; 4]>::from(all) {
        if !units.iter().any(|(known, _)| known.name == unit.0.name) {
            units.push(unit);
        }
    }
    Ok(units)
}

async fn unit(bus: &Connection, name: &str) -> Result<(Unit, Vec<String>), BusError> {
    let manager = Some("org.freedesktop.systemd1.Manager");
    let answer = bus.call_method(Some(SYSTEMD), "/org/freedesktop/systemd1", manager, "LoadUnit", &name).await?;
    let path: OwnedObjectPath = answer.body().deserialize()?;
    let kind = if name.ends_with(".socket") { "Socket" } else { "Service" };
    let (all, own) = tokio::try_join!(properties(bus, &path, "Unit"), properties(bus, &path, kind))?;
    let text = |key: &str| text(&all, key);
    let unit = Unit {
        name: text("Id"),
        load_state: text("LoadState"),
        active_state: text("ActiveState"),
        sub_state: text("SubState"),
        unit_file_state: text("UnitFileState"),
        result: self::text(&own, "Result"),
        main_pid: own.get("MainPID").and_then(|v| u32::try_from(v).ok()).unwrap_or(0),
        fragment_path: text("FragmentPath"),
        kill_mode: self::text(&own, "KillMode"),
        socket: name.ends_with(".socket").then(|| socket(&all, &own)),
    };
    Ok((unit, list(&all, "DropInPaths")))
}

fn socket(unit: &HashMap<String, OwnedValue>, own: &HashMap<String, OwnedValue>) -> SocketUnit {
    let listen = own.get("Listen").and_then(|v| v.try_clone().ok()?.try_into().ok());
    SocketUnit {
        listen: listen.unwrap_or_default(),
        v6_only: text(own, "BindIPv6Only") == "ipv6-only",
        accepts: own.get("Accept").and_then(|v| bool::try_from(v).ok()).unwrap_or(false),
        conflicts: list(unit, "Conflicts"),
        ..SocketUnit::default()
    }
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

fn list(properties: &HashMap<String, OwnedValue>, key: &str) -> Vec<String> {
    properties.get(key).and_then(|v| v.try_clone().ok()?.try_into().ok()).unwrap_or_default()
}
