//! The two files of hosts_access(5).

use std::path::{Path, PathBuf};

use crate::facts::{Seen, TextFile, Wrappers};
use crate::host::Host;

pub fn wrappers(host: &Host) -> Wrappers {
    Wrappers { allow: file(host, "/etc/hosts.allow"), deny: file(host, "/etc/hosts.deny"), lists: Vec::new() }
}

fn file(host: &Host, path: &str) -> Seen<TextFile> {
    host.see(Path::new(path)).map(|bytes| TextFile { path: PathBuf::from(path), bytes })
}
