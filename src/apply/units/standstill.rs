//! Units whose process stands still: frozen, or hung.

use std::path::Path;
use std::thread::sleep as pause;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{
    DEADLINE, POLL, bus_error, has_bus, job, load, manage, now, property, shown, state, systemctl, talk, test,
};
use crate::apply::StepError;
use crate::apply::process::Doomed;
use crate::facts::escape;
use crate::host::Host;

/// How long a process that takes no connections has to end by itself, and how long its restart may take in all. systemd would wait
/// for a minute and a half.
const GRACE: Duration = Duration::from_secs(5);
const RESTART: Duration = Duration::from_secs(20);

/// Restarts a service whose main process takes no connections, after sshd's configuration was tested. It is one job of systemd's,
/// which comes to its end also without this program.
pub fn restart(host: &Host, unit: &str, old: &Doomed, sshd: Option<&Path>) -> Result<(), StepError> {
    if let Some(sshd) = sshd {
        test(host, sshd)?;
    }
    let begin = Instant::now();
    // Some time before systemd itself would do so.
    let kill = |words: &str| {
        if words.starts_with("deactivating") && begin.elapsed() >= GRACE {
            // That it could not be told is seen by the unit, which does not come up.
            let _ = old.kill();
        }
    };
    let state = match has_bus(host) {
        true => {
            let all = host.systemd(RESTART + DEADLINE, async |bus| {
                manage(bus, "RestartUnit", &(unit, "replace")).await?;
                let path = load(bus, unit).await?;
                loop {
                    let job = job(bus, &path).await?;
                    let state = now(bus, &path).await?;
                    if (!job && !state.is_changing()) || begin.elapsed() >= RESTART {
                        return Ok(state);
                    }
                    kill(&state.words);
                    sleep(POLL).await;
                }
            });
            all.map_err(bus_error)?
        }
        false => {
            systemctl(host, &["--no-block", "restart", unit])?;
            loop {
                let jobs = systemctl(host, &["list-jobs", "--no-legend", "--no-pager", unit])?;
                let state = shown(host, unit)?;
                if (jobs.stdout.trim_ascii().is_empty() && !state.is_changing()) || begin.elapsed() >= RESTART {
                    break state;
                }
                kill(&state.words);
                pause(POLL);
            }
        }
    };
    match state.active {
        true => Ok(()),
        false => Err(StepError::Unit { unit: escape(unit), state: escape(&state.words) }),
    }
}

/// What systemd calls this run of a unit; no other, before or after, has the same name.
pub fn invocation(host: &Host, unit: &str) -> Result<String, StepError> {
    talk(host, async |bus| {
        let path = load(bus, unit).await?;
        let id: Vec<u8> = property(bus, &path, "InvocationID").await?.try_into()?;
        Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
    })
}

/// Lets a frozen unit go on. Only D-Bus leads there: systemctl(1) has no way of its own to the freezer.
pub fn thaw(host: &Host, unit: &str) -> Result<(), StepError> {
    freezer(host, "ThawUnit", unit)
}

/// Freezes a unit again, if it is still the run of it that was thawed.
pub fn freeze_again(host: &Host, unit: &str, run: &str) -> Result<(), StepError> {
    match invocation(host, unit)? == run && state(host, unit)?.active {
        true => freezer(host, "FreezeUnit", unit),
        false => Ok(()),
    }
}

fn freezer(host: &Host, method: &str, unit: &str) -> Result<(), StepError> {
    talk(host, async |bus| manage(bus, method, &unit).await.map(drop))
}
