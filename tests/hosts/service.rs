//! The agent as a package installs it: its units, and what it says of itself.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::booted::Booted;

/// Longer than any rescue takes; only a failure waits for it.
const LONG: Duration = Duration::from_secs(20);

const UNITS: [(&str, &str); 6] = [
    ("/etc/systemd/system/ssh-rescue.service", include_str!("../../systemd/ssh-rescue.service")),
    ("/etc/systemd/system/ssh-rescue.socket", include_str!("../../systemd/ssh-rescue.socket")),
    ("/etc/systemd/system/ssh-rescue-audit.socket", include_str!("../../systemd/ssh-rescue-audit.socket")),
    ("/etc/systemd/system/ssh-rescue-repair.service", include_str!("../../systemd/ssh-rescue-repair.service")),
    ("/etc/tmpfiles.d/ssh-rescue.conf", include_str!("../../systemd/tmpfiles.d.conf")),
    ("/etc/sysusers.d/ssh-rescue.conf", include_str!("../../systemd/sysusers.d.conf")),
];

/// Installs and starts the service as a package does, on a host on which all is well.
pub fn install(host: &Booted) -> Result<(), String> {
    start(host)?;
    wait("the first look", || status(host)["status"]["verdict"] == "reachable")
        .map_err(|e| format!("{e}: {}\n{}", status(host), journal(host)))
}

/// The same on any host.
pub fn start(host: &Booted) -> Result<(), String> {
    host.sh("mkdir -p /etc/tmpfiles.d /etc/sysusers.d");
    for (path, text) in UNITS {
        fs::write(host.path(path), text).map_err(|e| format!("{path}: {e}"))?;
    }
    host.sh("systemd-sysusers; systemd-tmpfiles --create ssh-rescue.conf; systemctl daemon-reload");
    host.run("systemctl enable --now --quiet ssh-rescue.socket ssh-rescue.service");
    Ok(())
}

pub fn status(host: &Booted) -> serde_json::Value {
    let output = host.run("ssh-rescue --json status");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

pub fn wait(what: &str, mut done: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + LONG;
    while !done() {
        if Instant::now() > end {
            return Err(format!("{what} does not come"));
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}

pub fn journal(host: &Booted) -> String {
    host.sh("systemctl --no-pager status ssh-rescue.service 2>&1; journalctl --no-pager -q -o cat -u ssh-rescue.service -u ssh-rescue-repair.service -n 30 2>&1 || true")
}
