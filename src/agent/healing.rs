//! What may be about to heal by itself: a package manager at work, a boot that has not finished.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use procfs::Current;

use crate::host::{BusError, Call, Host};
use crate::plan::settle::Healing;

/// dpkg's and apt's, rpm's and dnf's.
const LOCKS: [&str; 4] =
    ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock", "/usr/lib/sysimage/rpm/.rpm.lock"];
/// ufw's, as long as it is at work.
const UFW: &str = "/run/ufw.lock";
/// After this much uptime no boot is waited for.
const BOOT: Duration = Duration::from_secs(300);
const ANSWER: Duration = Duration::from_secs(1);

/// What a repair would rather wait for: `starts` one that starts a service; `reload` says that firewalld has just changed its
/// rules.
pub fn healing(host: &Host, starts: bool, reload: bool) -> Option<Healing> {
    if booting(host) {
        return Some(Healing::Boot);
    }
    if locked(Path::new(UFW)) {
        return Some(Healing::Ufw);
    }
    if starts && LOCKS.iter().any(|path| locked(Path::new(path))) {
        return Some(Healing::Upgrade);
    }
    reload.then_some(Healing::Reload)
}

/// Whether another process holds a POSIX lock on the file, as package managers do.
fn locked(path: &Path) -> bool {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let Ok(file) = open else { return false };
    let mut lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != libc::F_UNLCK as i16
}

fn booting(host: &Host) -> bool {
    if procfs::Uptime::current().map_or(true, |up| up.uptime_duration() > BOOT) {
        return false;
    }
    let cloud_init =
        Path::new("/run/cloud-init/enabled").exists() && !Path::new("/run/cloud-init/result.json").exists();
    cloud_init || starting(host)
}

/// Whether systemd has not finished the boot; where it cannot be asked, it is not waited for.
fn starting(host: &Host) -> bool {
    if !Path::new("/run/systemd/system").exists() {
        return false;
    }
    let state = host.systemd(ANSWER, async |bus| {
        let properties = Some("org.freedesktop.DBus.Properties");
        let manager = ("org.freedesktop.systemd1.Manager", "SystemState");
        let answer = bus
            .call_method(Some("org.freedesktop.systemd1"), "/org/freedesktop/systemd1", properties, "Get", &manager)
            .await?;
        let value: zbus::zvariant::OwnedValue = answer.body().deserialize()?;
        Ok::<_, BusError>(<&str>::try_from(&value).unwrap_or_default().to_owned())
    });
    match state {
        Ok(state) => matches!(state.as_str(), "initializing" | "starting"),
        // systemctl(1) has a way of its own to systemd.
        Err(_) => host
            .run(&Call { deadline: ANSWER, ..Call::new("systemctl", &["is-system-running"]) })
            .is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"initializing" | b"starting")),
    }
}
