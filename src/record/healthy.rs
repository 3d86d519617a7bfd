//! The files with which sshd was last seen healthy, in a small ring: what a repair falls back on.

use serde::{Deserialize, Serialize};

use super::id::new_id;
use super::seal::{opened, sealed};
use super::{RecordError, StateDir, make_folder};
use crate::facts::{Snapshot, TextFile};
use crate::host::Host;
use crate::judge::listener::serving;
use crate::plan::Content;
use crate::policy::Policy;

/// Sets of files that are kept.
const KEPT: usize = 5;

#[derive(Debug, Serialize, Deserialize)]
struct Set {
    version: u32,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    path: std::path::PathBuf,
    content: Content,
}

/// Keeps sshd's files if it is healthy: its test passes and it serves every port of the policy. A set that is as the youngest
/// one is not written again.
pub fn keep_healthy(host: &Host, state: &StateDir, policy: &Policy, snapshot: &Snapshot) -> Result<(), RecordError> {
    let sshd = &snapshot.sshd;
    let passes = sshd.test.present().is_some_and(|test| test.passed);
    let whole = sshd.files.unreadable.is_none() && !sshd.files.config.is_empty();
    if !passes || !whole || !policy.ssh.ports.iter().all(|&port| serving(snapshot, port)) {
        return Ok(());
    }
    if kept_healthy(host, state).first() == Some(&sshd.files.config) {
        return Ok(());
    }
    let file = |f: &TextFile| File { path: f.path.clone(), content: f.bytes.clone().into() };
    let set = Set { version: 1, files: sshd.files.config.iter().map(file).collect() };
    let folder = state.healthy();
    make_folder(host, &folder)?;
    let id = new_id(&names(host, state));
    let form = |source| RecordError::Form { id: id.clone(), source };
    let text = sealed(serde_json::to_vec_pretty(&set).map_err(form)?);
    let path = folder.join(format!("{id}.json"));
    let what = "sshd's files".to_owned();
    host.replace(&path, &text, 0o600).map_err(|source| RecordError::Save { what, source })?;
    for old in names(host, state).into_iter().rev().skip(KEPT) {
        let what = "sshd's files".to_owned();
        host.delete(&folder.join(old)).map_err(|source| RecordError::Save { what, source })?;
    }
    Ok(())
}

/// The sets that were kept, the youngest first. One that cannot be read is as good as none.
pub fn kept_healthy(host: &Host, state: &StateDir) -> Vec<Vec<TextFile>> {
    let set = |name: String| {
        let bytes = host.read(&state.healthy().join(name)).ok()?;
        let set: Set = serde_json::from_slice(opened(&bytes)?).ok()?;
        let file = |f: File| TextFile { path: f.path, bytes: f.content.bytes().to_vec() };
        Some(set.files.into_iter().map(file).collect())
    };
    names(host, state).into_iter().rev().take(KEPT).filter_map(set).collect()
}

/// The oldest first.
fn names(host: &Host, state: &StateDir) -> Vec<String> {
    let names = host.list(&state.healthy()).unwrap_or_default().into_iter().filter_map(|name| name.into_string().ok());
    let mut names: Vec<String> = names.filter(|n| n.ends_with(".json") && !n.starts_with('.')).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{ConfigTest, Seen};
    use crate::judge::fixture::healthy;
    use std::path::Path;

    fn seen(text: &str) -> Snapshot {
        let mut snapshot = healthy();
        snapshot.sshd.files.config = vec![TextFile { path: "/etc/ssh/sshd_config".into(), bytes: text.into() }];
        snapshot
    }

    fn texts(folder: &Path) -> Vec<String> {
        let sets = kept_healthy(&Host::live(), &StateDir::at(folder, folder));
        sets.iter().map(|set| String::from_utf8(set[0].bytes.clone()).unwrap()).collect()
    }

    #[test]
    fn the_last_healthy_sets_are_kept_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state, policy) = (Host::live(), StateDir::at(folder.path(), folder.path()), Policy::default());
        let keep = |snapshot: &Snapshot| keep_healthy(&host, &state, &policy, snapshot).unwrap();
        keep(&seen("one"));
        keep(&seen("one"));
        assert_eq!(texts(folder.path()), ["one"]);
        let mut broken = seen("broken");
        broken.sshd.test = Seen::Present(ConfigTest { passed: false, status: 255, messages: Vec::new() });
        keep(&broken);
        keep(&Snapshot { listeners: Seen::Present(Vec::new()), ..seen("down") });
        assert_eq!(texts(folder.path()), ["one"]);
        for text in ["two", "three", "four", "five", "six"] {
            keep(&seen(text));
        }
        assert_eq!(texts(folder.path()), ["six", "five", "four", "three", "two"]);
    }

    #[test]
    fn a_set_is_the_youngest_although_the_clock_was_set_back() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state, policy) = (Host::live(), StateDir::at(folder.path(), folder.path()), Policy::default());
        keep_healthy(&host, &state, &policy, &seen("of 2099")).unwrap();
        let kept = state.healthy();
        std::fs::rename(kept.join(names(&host, &state).remove(0)), kept.join("20991231T235959-ffff.json")).unwrap();
        for _ in 0..2 * KEPT {
            keep_healthy(&host, &state, &policy, &seen("of now")).unwrap();
        }
        assert_eq!(texts(folder.path()), ["of now", "of 2099"]);
    }

    #[test]
    fn a_set_that_is_none_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        keep_healthy(&host, &state, &Policy::default(), &seen("good")).unwrap();
        let kept = state.healthy().join(names(&host, &state).remove(0));
        std::fs::write(state.healthy().join("99991231T000000-0000.json"), "{").unwrap();
        assert_eq!(texts(folder.path()), ["good"]);
        // One byte of what is to become sshd's configuration.
        let whole = std::fs::read_to_string(&kept).unwrap();
        std::fs::write(&kept, whole.replace("good", "goad")).unwrap();
        assert_eq!(texts(folder.path()), [""; 0]);
    }
}
