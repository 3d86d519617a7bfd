//! A unit enabled on a disk whose systemd does not run: the links that `systemctl enable` makes for its `[Install]` section
//! (systemd.unit(5)).

use std::path::Path;

use super::StepError;
use crate::decode::unit_file::values;
use crate::facts::{Owned, escape};
use crate::host::Host;
use crate::observe::boot::{unit_file, unit_files};
use crate::record::Link;

const FOLDER: &str = "/etc/systemd/system";

/// The links that are not there yet, for WantedBy= and RequiredBy=. Names that only add to it (Alias=, Also=) are not needed
/// to start it.
pub fn wanted(host: &Host, unit: &str) -> Result<Vec<Link>, StepError> {
    let missing = || StepError::Changed { what: escape(unit) };
    let target = unit_file(host, unit).ok_or_else(missing)?;
    let files = unit_files(host, unit).map_err(|_| missing())?;
    let files: Vec<Vec<u8>> = files.into_iter().map(|(_, text)| text).collect();
    let mut links = Vec::new();
    for (key, kind) in [("WantedBy", "wants"), ("RequiredBy", "requires")] {
        let values = values(&files, "Install", key);
        for by in values.iter().flat_map(|value| value.split_whitespace()).filter(|name| is_plain(name)) {
            let path = Path::new(FOLDER).join(format!("{by}.{kind}")).join(unit);
            if host.symlink_metadata(&path).is_err() {
                links.push(Link { path, target: target.clone() });
            }
        }
    }
    match links.is_empty() {
        true => Err(missing()),
        false => Ok(links),
    }
}

/// A unit's name and not a path.
fn is_plain(name: &str) -> bool {
    !name.starts_with('.') && name.bytes().all(|b| b.is_ascii_alphanumeric() || b":-_.@".contains(&b))
}

pub fn make(host: &Host, links: &[Link]) -> Result<(), StepError> {
    for link in links {
        if let Some(folder) = link.path.parent().filter(|folder| !host.exists(folder)) {
            host.make_folder(folder, Owned { mode: 0o755, uid: 0, gid: 0 })?;
        }
        host.make_link(&link.path, &link.target)?;
    }
    Ok(())
}

/// Deletes those that are as they were made.
pub fn take_back(host: &Host, links: &[Link]) -> Result<(), StepError> {
    for Link { path, target } in links {
        if host.exists(path.parent().unwrap_or(path)) && host.link_target(path)?.as_ref() == Some(target) {
            host.delete_link(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    #[test]
    fn a_unit_is_enabled_by_links_and_they_are_taken_back() {
        if !Host::live().privileged() {
            eprintln!("SKIPPED: needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let units = folder.path().join("usr/lib/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::create_dir_all(folder.path().join("etc/systemd/system")).unwrap();
        let text = "[Install]\nWantedBy=multi-user.target ../../../evil\nAlias=sshd.service\n";
        std::fs::write(units.join("ssh.service"), text).unwrap();
        let host = Host::disk(folder.path()).unwrap();
        let links = wanted(&host, "ssh.service").unwrap();
        let link = PathBuf::from("/etc/systemd/system/multi-user.target.wants/ssh.service");
        let target = PathBuf::from("/usr/lib/systemd/system/ssh.service");
        assert_eq!(links, [Link { path: link.clone(), target: target.clone() }]);
        make(&host, &links).unwrap();
        assert_eq!(host.link_target(&link).unwrap(), Some(target));
        assert!(matches!(wanted(&host, "ssh.service"), Err(StepError::Changed { .. })));
        take_back(&host, &links).unwrap();
        take_back(&host, &links).unwrap();
        assert_eq!(host.link_target(&link).unwrap(), None);
    }
}
