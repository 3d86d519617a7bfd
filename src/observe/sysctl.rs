//! What the next boot sets of the kernel's variables, by the files of sysctl.d(5).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::decode::sysctl::{Setting, last_word, settings};
use crate::facts::{AtBoot, Net};
use crate::host::Host;

/// Of files of one name the first one counts.
const FOLDERS: [&str; 5] =
    ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d"];

/// Reverse path filtering of each link, and of `all`.
pub fn rp_filter(host: &Host, net: &Net) -> Vec<AtBoot> {
    let files = files(host);
    let set: Vec<(&PathBuf, &Setting)> =
        files.iter().flat_map(|(path, settings)| settings.iter().map(move |setting| (path, setting))).collect();
    let names = net.links.present().into_iter().flatten().map(|link| link.name.as_str());
    let of = |name: &str| {
        let found = last_word(set.iter().map(|(_, setting)| *setting), &format!("net/ipv4/conf/{name}/rp_filter"))?;
        let file = set.iter().find(|(_, setting)| std::ptr::eq(*setting, found)).map(|(path, _)| (*path).clone())?;
        let value = found.value.as_deref()?.parse().ok()?;
        Some(AtBoot { interface: name.to_owned(), value, file, line: found.line })
    };
    names.chain(["all"]).filter_map(of).collect()
}

/// In the order of their names.
fn files(host: &Host) -> Vec<(PathBuf, Vec<Setting>)> {
    let mut paths: BTreeMap<String, PathBuf> = BTreeMap::new();
    for folder in FOLDERS.map(Path::new) {
        let names = host.list(folder).unwrap_or_default();
        for name in names.into_iter().filter_map(|name| name.into_string().ok()).filter(|name| name.ends_with(".conf"))
        {
            paths.entry(name.clone()).or_insert_with(|| folder.join(name));
        }
    }
    let read = |path: PathBuf| {
        let text = host.read(&path).unwrap_or_default();
        (path, settings(&text))
    };
    paths.into_values().map(read).collect()
}
