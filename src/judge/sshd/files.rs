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

#[cfg(test)]
mod tests {
    use super::super::super::fixture::healthy;
    use super::*;
    use crate::facts::{KeyFile, Owned, PathMode, Seen};

    fn codes(change: impl FnOnce(&mut crate::facts::SshdFiles)) -> Vec<&'static str> {
        let mut snapshot = healthy();
        change(&mut snapshot.sshd.files);
        findings(&snapshot).iter().map(|f| f.code).collect()
    }

    #[test]
    fn files_of_sshd_that_others_can_write_to_are_named() {
        let file =
            |mode, uid| codes(|f| f.tree = vec![PathMode { path: "/etc/ssh/sshd_config".into(), mode, uid, gid: 0 }]);
        assert_eq!(file(0o644, 0), [""; 0]);
        assert_eq!(file(0o664, 0), ["sshd.files.mode"]);
        assert_eq!(file(0o644, 1000), ["sshd.files.mode"]);
    }

    #[test]
    fn a_host_key_among_sshds_files_is_named_once_and_as_a_key() {
        let owned = Owned { mode: 0o666, uid: 0, gid: 0 };
        let open = |path: &str| PathMode { path: path.into(), mode: 0o666, uid: 0, gid: 0 };
        let mut snapshot = healthy();
        snapshot.sshd.files.tree = vec![open("/etc/ssh/k"), open("/etc/ssh/moduli")];
        let file = Seen::Present(KeyFile { owned, size: 400, is_key: true });
        snapshot.sshd.files.keys = vec![HostKey { path: "/etc/ssh/k".into(), kind: "rsa".into(), file }];
        let told = |f: &Finding| format!("{} {}", f.code, f.evidence["path"].as_str().unwrap_or_default());
        let told: Vec<String> = findings(&snapshot).iter().map(told).collect();
        assert_eq!(told, ["sshd.keys.mode /etc/ssh/k", "sshd.files.mode /etc/ssh/moduli"]);
    }

    #[test]
    fn a_host_key_that_others_can_read_is_named_but_for_the_group_that_may() {
        let key = |mode, uid, gid| {
            codes(|f| {
                f.key_group = Some(998);
                let file = KeyFile { owned: Owned { mode, uid, gid }, size: 400, is_key: true };
                f.keys = vec![HostKey { path: "/etc/ssh/k".into(), kind: "rsa".into(), file: Seen::Present(file) }];
            })
        };
        assert_eq!(key(0o600, 0, 0), [""; 0]);
        assert_eq!(key(0o640, 0, 998), [""; 0]);
        assert_eq!(key(0o640, 0, 0), ["sshd.keys.mode"]);
        assert_eq!(key(0o644, 0, 998), ["sshd.keys.mode"]);
        assert_eq!(key(0o600, 7, 0), ["sshd.keys.mode"]);
    }
}
