//! Units, over systemd's D-Bus (org.freedesktop.systemd1(5)).

mod standstill;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use zbus::Connection;
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

use super::{StepError, tool};
use crate::decode::systemctl_show;
use crate::facts::escape;
use crate::host::{BusError, Host, Output};
pub use standstill::{freeze_again, invocation, restart, thaw};

const NAME: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Where systemd makes the links of units that are enabled.
const UNIT_FILES: &str = "/etc/systemd/system";
/// How long systemd may take to answer, and how long a job may run.
const DEADLINE: Duration = Duration::from_secs(15);
const JOB: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What a unit is at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    pub active: bool,
    pub masked: bool,
    pub enabled: bool,
    /// active, failed, inactive, …; with the sub-state
    pub words: String,
}

impl State {
    /// It has failed, and is to be started again after a while (RestartSec=, 42 s on RHEL): older systemds let a start wait
    /// for that.
    fn waits(&self) -> bool {
        self.words.ends_with("(auto-restart)")
    }

    /// It is on its way up or down, whoever asked for that.
    fn is_changing(&self) -> bool {
        ["activating", "deactivating"].iter().any(|word| self.words.starts_with(word))
    }
}

pub fn state(host: &Host, unit: &str) -> Result<State, StepError> {
    if !has_bus(host) {
        return shown(host, unit);
    }
    talk(host, async |bus| {
        let path = load(bus, unit).await?;
        now(bus, &path).await
    })
}

/// Starts the unit, and waits until it runs or has failed. sshd's configuration is tested first where `sshd` is given.
pub fn start(host: &Host, unit: &str, reset_failed: bool, unmask: bool, sshd: Option<&Path>) -> Result<(), StepError> {
    if let Some(sshd) = sshd {
        test(host, sshd)?;
    }
    let state = if has_bus(host) {
        start_by_bus(host, unit, reset_failed, unmask)?
    } else {
        if unmask {
            systemctl(host, &["unmask", unit])?;
        }
        let before = shown(host, unit)?;
        if before.waits() {
            systemctl(host, &["stop", unit])?;
        }
        if reset_failed {
            let _ = systemctl(host, &["reset-failed", unit]);
        }
        if let Err(error) = systemctl(host, &["start", unit]) {
            if before.waits() || !before.is_changing() {
                return Err(error);
            }
            let _ = systemctl(host, &["reset-failed", unit]);
            systemctl(host, &["start", unit])?;
        }
        shown(host, unit)?
    };
    match state.active {
        true => Ok(()),
        false => Err(StepError::Unit { unit: escape(unit), state: escape(&state.words) }),
    }
}

fn start_by_bus(host: &Host, unit: &str, reset_failed: bool, unmask: bool) -> Result<State, StepError> {
    talk(host, async |bus| {
        if unmask {
            // A mask of /run and one of /etc are two files.
            for runtime in [false, true] {
                manage(bus, "UnmaskUnitFiles", &([unit].as_slice(), runtime)).await?;
            }
            manage(bus, "Reload", &()).await?;
        }
        let path = load(bus, unit).await?;
        let before = now(bus, &path).await?;
        if before.waits() {
            manage(bus, "StopUnit", &(unit, "replace")).await?;
            settled(bus, &path).await?;
        }
        if reset_failed {
            // A unit that systemd has not in memory has not failed either.
            let _ = manage(bus, "ResetFailedUnit", &unit).await;
        }
        manage(bus, "StartUnit", &(unit, "replace")).await?;
        let state = settled(bus, &path).await?;
        // A start that had begun before what the repair has mended may fail by what it met.
        if state.active || before.waits() || !before.is_changing() {
            return Ok(state);
        }
        let _ = manage(bus, "ResetFailedUnit", &unit).await;
        manage(bus, "StartUnit", &(unit, "replace")).await?;
        settled(bus, &path).await
    })
}

/// Brings a unit back to where it was before [`start`].
pub fn put_back(host: &Host, unit: &str, active: bool, masked: bool) -> Result<(), StepError> {
    if !has_bus(host) {
        let verbs = [("stop", !active), ("mask", masked)].into_iter().filter(|(_, wanted)| *wanted);
        return verbs.map(|(verb, _)| verb).try_for_each(|verb| systemctl(host, &[verb, unit]).map(drop));
    }
    // The service that a client has started by it has its sockets.
    let services = if unit.ends_with(".socket") && !active { socket(host, unit)?.1 } else { Vec::new() };
    talk(host, async |bus| {
        let path = load(bus, unit).await?;
        let words = now(bus, &path).await?.words;
        // Also one that is still on its way up.
        if !active && !words.starts_with("inactive") && !words.starts_with("failed") {
            close(bus, unit, &services).await?;
        }
        if masked {
            manage(bus, "MaskUnitFiles", &([unit].as_slice(), false, true)).await?;
            manage(bus, "Reload", &()).await?;
        }
        Ok(())
    })
}

/// Stops a unit and keeps it from being started at boot.
pub fn disable(host: &Host, unit: &str) -> Result<(), StepError> {
    talk(host, async |bus| {
        let path = load(bus, unit).await?;
        manage(bus, "StopUnit", &(unit, "replace")).await?;
        settled(bus, &path).await?;
        manage(bus, "DisableUnitFiles", &([unit].as_slice(), false)).await?;
        manage(bus, "Reload", &()).await.map(drop)
    })
}

/// Lets the next boot start a unit.
pub fn enable(host: &Host, unit: &str) -> Result<(), StepError> {
    let names = talk(host, async |bus| {
        let path = load(bus, unit).await?;
        let runs = now(bus, &path).await?.active;
        let answer = manage(bus, "EnableUnitFiles", &([unit].as_slice(), false, true)).await?;
        let (_, changes): (bool, Vec<(String, String, String)>) = answer.body().deserialize()?;
        if runs { clashing(bus, &path, changes).await } else { Ok(Vec::new()) }
    })?;
    names.iter().try_for_each(|name| host.delete_link(name))?;
    talk(host, async |bus| manage(bus, "Reload", &()).await.map(drop))
}

/// Aliases of a running unit, just made, that systemd has in memory as units of their own which it had not found. At the
/// next reload such a one's state would become the unit's: before version 259 systemd then takes a service that runs for a
/// dead one, and cannot restart it any more (its issues 14141 and 38817).
async fn clashing(
    bus: &Connection,
    unit: &OwnedObjectPath,
    changes: Vec<(String, String, String)>,
) -> Result<Vec<PathBuf>, BusError> {
    let made = changes.into_iter().filter(|(kind, ..)| kind == "symlink").map(|(_, path, _)| PathBuf::from(path));
    let mut names = Vec::new();
    for link in made.filter(|link| link.parent() == Some(Path::new(UNIT_FILES))) {
        let name = link.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // A name that it has not in memory is an error.
        let Ok(answer) = manage(bus, "GetUnit", &name).await else { continue };
        if answer.body().deserialize::<OwnedObjectPath>()? != *unit {
            names.push(link);
        }
    }
    Ok(names)
}

/// Whether the next boot starts the unit; it is neither started nor stopped now.
pub fn set_enabled(host: &Host, unit: &str, enabled: bool) -> Result<(), StepError> {
    match (has_bus(host), enabled) {
        (false, _) => systemctl(host, &[if enabled { "enable" } else { "disable" }, unit]).map(drop),
        (true, true) => enable(host, unit),
        (true, false) => talk(host, async |bus| {
            manage(bus, "DisableUnitFiles", &([unit].as_slice(), false)).await?;
            manage(bus, "Reload", &()).await.map(drop)
        }),
    }
}

/// Whether a socket unit listens, and its service if that runs; those of single connections (`ssh@…`) are somebody's session.
pub fn socket(host: &Host, unit: &str) -> Result<(bool, Vec<String>), StepError> {
    talk(host, async |bus| {
        let path = load(bus, unit).await?;
        let triggers: Vec<String> = property(bus, &path, "Triggers").await?.try_into()?;
        let mut services = Vec::new();
        for service in triggers.into_iter().filter(|name| !name.contains('@')) {
            let path = load(bus, &service).await?;
            if now(bus, &path).await?.active {
                services.push(service);
            }
        }
        Ok((now(bus, &path).await?.active, services))
    })
}

/// Lets systemd read its units again, and a socket unit listen where they say. It closes its sockets first: a client that
/// comes while its service ends would start that again.
pub fn listen(host: &Host, unit: &str, services: &[String], restart: bool) -> Result<(), StepError> {
    let state = talk(host, async |bus| {
        manage(bus, "Reload", &()).await?;
        let path = load(bus, unit).await?;
        if !restart {
            return Ok(None);
        }
        close(bus, unit, services).await?;
        // A unit that systemd has not in memory has not failed either.
        let _ = manage(bus, "ResetFailedUnit", &unit).await;
        manage(bus, "StartUnit", &(unit, "replace")).await?;
        settled(bus, &path).await.map(Some)
    })?;
    match state {
        Some(state) if !state.active => Err(StepError::Unit { unit: escape(unit), state: escape(&state.words) }),
        _ => Ok(()),
    }
}

/// After their files were put back: a socket unit and its services as they were.
pub fn listen_back(
    host: &Host,
    unit: &str,
    active: bool,
    services: &[String],
    restarted: bool,
) -> Result<(), StepError> {
    let (_, now) = socket(host, unit)?;
    talk(host, async |bus| {
        manage(bus, "Reload", &()).await?;
        if !restarted {
            return Ok(());
        }
        close(bus, unit, &now).await?;
        for name in active.then_some(unit).into_iter().chain(services.iter().map(String::as_str)) {
            manage(bus, "StartUnit", &(name, "replace")).await?;
            let path = load(bus, name).await?;
            settled(bus, &path).await?;
        }
        Ok(())
    })
}

async fn close(bus: &Connection, unit: &str, services: &[String]) -> Result<(), BusError> {
    for name in std::iter::once(unit).chain(services.iter().map(String::as_str)) {
        let path = load(bus, name).await?;
        manage(bus, "StopUnit", &(name, "replace")).await?;
        settled(bus, &path).await?;
    }
    Ok(())
}

/// Lets a running unit read its configuration again. sshd's is tested first where `sshd` is given.
pub fn reload(host: &Host, unit: &str, sshd: Option<&Path>) -> Result<(), StepError> {
    if let Some(sshd) = sshd {
        test(host, sshd)?;
    }
    let state = match has_bus(host) {
        false => {
            systemctl(host, &["reload", unit])?;
            shown(host, unit)?
        }
        true => talk(host, async |bus| {
            manage(bus, "ReloadUnit", &(unit, "replace")).await?;
            let path = load(bus, unit).await?;
            settled(bus, &path).await
        })?,
    };
    match state.active {
        true => Ok(()),
        false => Err(StepError::Unit { unit: escape(unit), state: escape(&state.words) }),
    }
}

/// After its configuration was put back: a unit that runs reads it again, one that has died of the other is started.
pub fn reload_back(host: &Host, unit: &str) -> Result<(), StepError> {
    match state(host, unit)?.active {
        true => reload(host, unit, None),
        false => start(host, unit, true, false, None),
    }
}

/// A running sshd on a broken configuration is a dead one.
fn test(host: &Host, sshd: &Path) -> Result<(), StepError> {
    let sshd = sshd.to_string_lossy();
    match tool(host, &sshd, &["-t"], &[], crate::host::DEADLINE) {
        // Its unit makes this folder.
        Err(StepError::Refused { complaint, .. })
            if complaint.starts_with("Missing privilege separation directory") =>
        {
            Ok(())
        }
        result => result.map(drop),
    }
}

/// A small host may have no dbus-daemon: systemctl(1) has a way of its own to systemd.
fn has_bus(host: &Host) -> bool {
    !matches!(host.systemd(DEADLINE, async |_| Ok(())), Err(BusError::Missing))
}

fn systemctl(host: &Host, args: &[&str]) -> Result<Output, StepError> {
    tool(host, "systemctl", args, &[], JOB)
}

fn shown(host: &Host, unit: &str) -> Result<State, StepError> {
    let output = systemctl(host, &["show", "--property=Id,LoadState,ActiveState,SubState,UnitFileState", unit])?;
    let units = systemctl_show::units(&output.stdout);
    let unit = units.first().ok_or_else(|| StepError::Unit { unit: escape(unit), state: "not known".into() })?;
    Ok(State {
        active: unit.active(),
        masked: unit.masked(),
        enabled: unit.unit_file_state.starts_with("enabled"),
        words: format!("{} ({})", unit.active_state, unit.sub_state),
    })
}

fn talk<T>(host: &Host, talk: impl AsyncFnOnce(&Connection) -> Result<T, BusError>) -> Result<T, StepError> {
    host.systemd(DEADLINE, talk).map_err(bus_error)
}

fn bus_error(source: BusError) -> StepError {
    StepError::Bus { whom: "systemd".into(), source }
}

async fn manage<B>(bus: &Connection, method: &str, body: &B) -> Result<zbus::Message, BusError>
where
    B: serde::Serialize + zbus::zvariant::DynamicType,
{
    Ok(bus.call_method(Some(NAME), OBJECT, Some(MANAGER), method, body).await?)
}

async fn load(bus: &Connection, unit: &str) -> Result<OwnedObjectPath, BusError> {
    Ok(manage(bus, "LoadUnit", &unit).await?.body().deserialize()?)
}

async fn property(bus: &Connection, path: &OwnedObjectPath, name: &str) -> Result<OwnedValue, BusError> {
    let answer = bus.call_method(Some(NAME), path, Some(PROPERTIES), "Get", &(UNIT, name)).await?;
    Ok(answer.body().deserialize()?)
}

async fn now(bus: &Connection, path: &OwnedObjectPath) -> Result<State, BusError> {
    let text = async |name: &str| -> Result<String, BusError> {
        Ok(<&str>::try_from(&property(bus, path, name).await?).unwrap_or_default().to_owned())
    };
    let (load, active, sub) = (text("LoadState").await?, text("ActiveState").await?, text("SubState").await?);
    let file = text("UnitFileState").await?;
    Ok(State {
        active: matches!(active.as_str(), "active" | "reloading"),
        masked: load == "masked" || file.starts_with("masked"),
        enabled: file.starts_with("enabled"),
        words: format!("{active} ({sub})"),
    })
}

/// Whether a job is at work on a unit.
async fn job(bus: &Connection, path: &OwnedObjectPath) -> Result<bool, BusError> {
    let job: (u32, OwnedObjectPath) = property(bus, path, "Job").await?.try_into()?;
    Ok(job.0 != 0)
}

/// The unit's state when no job is at work on it any more, or when the time is up.
async fn settled(bus: &Connection, path: &OwnedObjectPath) -> Result<State, BusError> {
    let end = Instant::now() + JOB;
    loop {
        let job = job(bus, path).await?;
        let state = now(bus, path).await?;
        if (!job && !state.is_changing()) || Instant::now() >= end {
            return Ok(state);
        }
        sleep(POLL).await;
    }
}
