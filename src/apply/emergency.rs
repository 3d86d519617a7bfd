//! The emergency sshd: a transient unit that ends when the real one starts.

use std::path::{Path, PathBuf};

use super::{StepError, sshd, tool, units};
use crate::facts::{Owned, escape};
use crate::host::{Call, DEADLINE, Host};
use crate::plan::NewKey;

pub const UNIT: &str = "ssh-rescue-emergency.service";
/// Its configuration, and its keys where the host has none.
const FOLDER: &str = "/run/ssh-rescue-emergency";
const OWN: Owned = Owned { mode: 0o700, uid: 0, gid: 0 };

/// Starts it: with the host's own keys, or fresh ones in /run, and only on a configuration that `sshd -t` takes.
pub fn start(host: &Host, sshd: &Path, config: &str, keys: &[PathBuf]) -> Result<(), StepError> {
    let folder = Path::new(FOLDER);
    if host.owned(folder)?.is_none() {
        host.make_folder(folder, OWN)?;
    }
    let mut text = config.to_owned();
    let mut keys = keys.to_vec();
    if keys.is_empty() {
        let path = folder.join("ssh_host_ed25519_key");
        let key = NewKey { path: path.clone(), kind: "ed25519".into(), owned: Owned { mode: 0o600, ..OWN } };
        sshd::install(host, &sshd::pairs(host, &[key])?)?;
        keys.push(path);
    }
    for key in keys {
        text.push_str(&format!("HostKey {}\n", key.display()));
    }
    let path = folder.join("sshd_config");
    host.replace(&path, text.as_bytes(), 0o600)?;
    let (sshd, path) = (sshd.to_string_lossy(), path.to_string_lossy());
    match tool(host, &sshd, &["-t", "-f", &path], &[], DEADLINE) {
        Err(StepError::Refused { complaint, .. })
            if complaint.starts_with("Missing privilege separation directory: /run/sshd") => {}
        result => drop(result?),
    }
    let unit = format!("--unit={UNIT}");
    let run = [
        "--quiet",
        "--collect",
        &unit,
        "--description=an emergency sshd, until the real one is back",
        "--service-type=exec",
        "--property=Conflicts=ssh.service sshd.service ssh.socket sshd.socket",
        "--property=Before=ssh.service sshd.service ssh.socket sshd.socket",
        "--property=RuntimeDirectory=sshd",
        "--property=RuntimeDirectoryMode=0755",
        "--property=RuntimeDirectoryPreserve=yes",
        "--property=KillMode=process",
        "--",
        &sshd,
        "-D",
        "-f",
        &path,
    ];
    tool(host, "systemd-run", &run, &[], DEADLINE)?;
    let state = units::state(host, UNIT)?;
    match state.active {
        true => Ok(()),
        false => Err(StepError::Unit { unit: UNIT.into(), state: escape(&state.words) }),
    }
}

/// Stops it; its sessions live on (KillMode=process).
pub fn stop(host: &Host) -> Result<(), StepError> {
    // One that is not there any more is stopped.
    let _ = host.run(&Call::new("systemctl", &["stop", UNIT]));
    for name in ["sshd_config", "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"] {
        host.delete(&Path::new(FOLDER).join(name))?;
    }
    Ok(host.remove_folder(Path::new(FOLDER))?)
}
