//! The two files of hosts_access(5), and the lists that they name.

use std::path::{Path, PathBuf};

use crate::decode::hosts_access::{files, files_of_list, table};
use crate::facts::{Seen, TextFile, Wrappers};
use crate::host::Host;

/// Lists that are read at most.
const LISTS: usize = 64;

pub fn wrappers(host: &Host) -> Wrappers {
    let (allow, deny) = (file(host, "/etc/hosts.allow"), file(host, "/etc/hosts.deny"));
    let mut lists: Vec<(PathBuf, Seen<Vec<u8>>)> = Vec::new();
    let tables = [&allow, &deny].into_iter().filter_map(Seen::present);
    let mut wanted: Vec<PathBuf> = tables.flat_map(|f| files(&table(&f.bytes))).collect();
    while let Some(path) = wanted.pop()
        && lists.len() < LISTS
    {
        if lists.iter().any(|(known, _)| *known == path) {
            continue;
        }
        let content = host.see(&path);
        wanted.extend(content.present().into_iter().flat_map(|bytes| files_of_list(bytes)));
        lists.push((path, content));
    }
    Wrappers { allow, deny, lists }
}

fn file(host: &Host, path: &str) -> Seen<TextFile> {
    host.see(Path::new(path)).map(|bytes| TextFile { path: PathBuf::from(path), bytes })
}
