//! Which interface clients come in by, as far as a disk's own files tell.

use std::path::Path;

use crate::decode::interfaces::{ifupdown, netplan, networkd};
use crate::host::Host;

/// Where no file names one.
const DEFAULT: &str = "eth0";
/// Files that are read of one folder.
const FILES: usize = 64;

type Decoder = fn(&[u8]) -> Vec<String>;

const FOLDERS: [(&str, &str, Decoder); 4] = [
    ("/etc/network/interfaces.d", "", ifupdown),
    ("/etc/netplan", ".yaml", netplan),
    ("/etc/systemd/network", ".network", networkd),
    ("/etc/sysconfig/network-scripts", "", |_| Vec::new()),
];

/// The names that the files bring up, or else one that is as good as any.
pub fn interfaces(host: &Host) -> Vec<String> {
    let mut names = host.read(Path::new("/etc/network/interfaces")).map(|text| ifupdown(&text)).unwrap_or_default();
    for (folder, end, decode) in FOLDERS {
        let mut files = host.list(Path::new(folder)).unwrap_or_default();
        files.sort();
        for file in files.iter().filter(|name| name.to_string_lossy().ends_with(end)).take(FILES) {
            // RHEL's files have the name in their own.
            names.extend(file.to_string_lossy().strip_prefix("ifcfg-").filter(|name| *name != "lo").map(str::to_owned));
            names.extend(host.read(&Path::new(folder).join(file)).map(|text| decode(&text)).unwrap_or_default());
        }
    }
    names.sort();
    names.dedup();
    if names.is_empty() {
        names.push(DEFAULT.to_owned());
    }
    names
}
