//! SELinux, as far as files say it.

use std::path::Path;

use crate::decode::selinux_ports::ports;
use crate::facts::{Seen, Selinux};
use crate::host::Host;

/// None where it is off or permissive.
pub fn selinux(host: &Host) -> Option<Selinux> {
    let enforce = host.read(Path::new("/sys/fs/selinux/enforce")).ok()?;
    enforce.starts_with(b"1").then(|| Selinux { local: local(host) })
}

/// The policy's store lies in /var/lib, and did in /etc.
fn local(host: &Host) -> Seen<Vec<crate::facts::PortType>> {
    let config = host.read(Path::new("/etc/selinux/config")).unwrap_or_default();
    let config = String::from_utf8_lossy(&config);
    let kind = config.lines().find_map(|line| line.trim().strip_prefix("SELINUXTYPE=")).unwrap_or("targeted").trim();
    // It names a folder.
    if kind.is_empty() || kind.contains(['/', '.']) {
        return Seen::Unreadable("/etc/selinux/config names no policy".to_owned());
    }
    let files =
        [format!("/var/lib/selinux/{kind}/active/ports.local"), format!("/etc/selinux/{kind}/active/ports.local")];
    let mut seen = files.iter().map(|file| host.see(Path::new(file)));
    let found = seen.find(|seen| !seen.is_absent()).unwrap_or(Seen::Absent);
    found.map(|text| ports(&text))
}
