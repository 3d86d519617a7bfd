//! Modes and owners of sshd's files.

use serde_json::json;

use super::super::{Finding, Severity};
use super::finding;
use crate::facts::{HostKey, Snapshot, escape};

pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let files = &snapshot.sshd.files;
    let mut out = Vec::new();
    // Where sshd refuses to start, its own words say it.
    let starts = snapshot.sshd.test.present().is_some_and(|t| t.passed);
    if starts {
        out.extend(files.keys.iter().filter_map(|key| open_key(key, files.key_group)));
    }
    let open = files.tree.iter().filter(|p| p.mode & 0o022 != 0 || p.uid != 0);
    for file in open.filter(|p| !files.keys.iter().any(|k| k.path == p.path)) {
        let path = escape(&file.path.to_string_lossy());
        let words = format!("{path} can be written by others than root (mode {:04o}, owner {})", file.mode, file.uid);
        out.push(finding("sshd.files.mode", Severity::Warning, words, json!(file)));
    }
    out
}

fn open_key(key: &HostKey, group: Option<u32>) -> Option<Finding> {
    let file = key.file.present()?;
    let owned = file.owned;
    let shared = owned.mode & 0o077 == 0o040 && group == Some(owned.gid);
    if owned.uid == 0 && (owned.mode & 0o077 == 0 || shared) {
        return None;
    }
    let path = escape(&key.path.to_string_lossy());
    let words =
        format!("the host key {path} can be read by others ({owned}): sshd goes without it, or it is no secret");
    Some(finding("sshd.keys.mode", Severity::Warning, words, json!(key)))
}
