//! Host keys, the folder and the user of sshd's unprivileged child.

use std::path::{Path, PathBuf};

use super::{Attempt, No};
use crate::facts::{ConfigTest, HostKey, KeyFile, Owned, Seen, escape};
use crate::plan::{NewKey, Step};

const ROOT: u32 = 0;
/// What `sshd -t` says of its folder, before and after the path (sshd.c).
const MISSING: &str = "Missing privilege separation directory: ";
const OPEN: &str = " must be owned by root and not group or world-writable";

impl Attempt<'_> {
    /// Adds what the message is about; false if it is about none of these.
    pub(super) fn remedy_surroundings(&mut self, test: &ConfigTest) -> Result<bool, No> {
        let said = |words: &str| test.messages.iter().find(|m| m.contains(words));
        if said("no hostkeys available").is_some() {
            return self.keys().map(|()| true);
        }
        if self.snapshot.at_rest && said("Privilege separation user ").is_some() {
            let why = "the user sshd is missing, and none is made on a disk: the package of sshd makes it";
            return Err(("sshd.user.missing", why.to_owned()));
        }
        if let Some(path) = said(OPEN).and_then(|m| m.split(OPEN).next()) {
            let owned = Owned { mode: 0o755, uid: ROOT, gid: ROOT };
            return self.once(Step::SetMode { path: folder(path)?, owned });
        }
        if let Some(path) = said(MISSING).and_then(|m| m.split(MISSING).nth(1)) {
            let mode = if path.starts_with("/run/") || path.starts_with("/var/run/") { 0o755 } else { 0o711 };
            return self.once(Step::MakeFolder { path: folder(path)?, owned: Owned { mode, uid: ROOT, gid: ROOT } });
        }
        if let Some(name) = said("Privilege separation user ").and_then(|m| m.split(' ').nth(3)) {
            if name != "sshd" {
                return Err(("sshd.user.missing", format!("the user {} is not one that is known", escape(name))));
            }
            let home = PathBuf::from("/run/sshd");
            return self.once(Step::MakeUser {
                name: name.to_owned(),
                home,
                group: self.snapshot.sshd.files.user_group,
            });
        }
        Ok(false)
    }

    fn once(&mut self, step: Step) -> Result<bool, No> {
        if self.steps.contains(&step) {
            let words = step.words().join("; ");
            return Err(("sshd.config.invalid", format!("to {words} does not help")));
        }
        self.steps.push(step);
        Ok(true)
    }

    /// Keys that are there are made readable; where none is, those that sshd looks for are made.
    fn keys(&mut self) -> Result<(), No> {
        let files = &self.snapshot.sshd.files;
        let strict = Owned { mode: 0o600, uid: ROOT, gid: ROOT };
        // RHEL and its like: ssh-keysign reads the keys as this group.
        let shared = files.key_group.map(|gid| Owned { mode: 0o640, uid: ROOT, gid });
        let tried = |path: &Path| {
            self.steps.iter().any(|s| matches!(s, Step::SetMode { path: of, owned } if of == path && *owned == strict))
        };
        let first = |path: &Path| match shared {
            Some(shared) if !self.steps.iter().any(|s| matches!(s, Step::SetMode { path: of, .. } if of == path)) => {
                shared
            }
            _ => strict,
        };
        let open: Vec<Step> = files
            .keys
            .iter()
            .filter(|key| key.file.present().is_some_and(|f| f.is_key && f.owned != strict) && !tried(&key.path))
            .map(|key| Step::SetMode { path: key.path.clone(), owned: first(&key.path) })
            .collect();
        if !open.is_empty() {
            self.steps.retain(|old| !open.iter().any(|new| same_path(old, new)));
            self.steps.extend(open);
            return Ok(());
        }
        let made = |shared| {
            let wanted = files.keys.iter().filter(|key| is_no_key(key));
            Step::MakeKeys { keys: wanted.map(|key| new_key(key, shared)).collect() }
        };
        let (shared, alone) = (made(shared), made(None));
        let has = |step: &Step| self.steps.contains(step);
        // The group may be there, and this sshd takes no key that it can read.
        let step = match alone == (Step::MakeKeys { keys: Vec::new() }) || has(&alone) {
            true => None,
            false if has(&shared) => Some(alone),
            false => Some(shared),
        };
        let Some(step) = step else {
            let why = files.keys.iter().find_map(|k| k.file.unreadable()).map(|why| format!(": {}", escape(why)));
            let words =
                format!("sshd loads no host key, and those that are there are left alone{}", why.unwrap_or_default());
            return Err(("sshd.keys.missing", words));
        };
        self.steps.retain(|old| !matches!(old, Step::MakeKeys { .. }));
        self.steps.push(step);
        Ok(())
    }
}

/// Nothing is there, or something that no sshd takes for a key.
fn is_no_key(key: &HostKey) -> bool {
    match &key.file {
        Seen::Absent => true,
        Seen::Present(KeyFile { is_key, .. }) => !is_key,
        Seen::Unreadable(_) => false,
    }
}

fn new_key(key: &HostKey, shared: Option<Owned>) -> NewKey {
    let owned = shared.unwrap_or(Owned { mode: 0o600, uid: ROOT, gid: ROOT });
    NewKey { path: key.path.clone(), kind: key.kind.clone(), owned }
}

fn same_path(a: &Step, b: &Step) -> bool {
    matches!((a, b), (Step::SetMode { path: a, .. }, Step::SetMode { path: b, .. }) if a == b)
}

/// A folder that sshd names, if it is one of those that it is built with.
fn folder(path: &str) -> Result<PathBuf, No> {
    const KNOWN: [&str; 6] =
        ["/run/sshd", "/var/run/sshd", "/usr/share/empty.sshd", "/var/empty/sshd", "/var/lib/sshd", "/var/empty"];
    match KNOWN.contains(&path) {
        true => Ok(PathBuf::from(path)),
        false => Err(("sshd.privsep.missing", format!("the folder {} is not one that is known", escape(path)))),
    }
}
