//! What sshd needs to start: host keys, modes, folders, its user.

use std::path::Path;
use std::time::Duration;

use super::{StepError, files, tool};
use crate::facts::Owned;
use crate::host::{Call, Host};
use crate::plan::{Content, NewKey, Step};
use crate::record::{MadeKey, Replaced};
use crate::rehearse::BoxedError;

/// How long ssh-keygen may look for primes on a small machine.
const KEYGEN: Duration = Duration::from_secs(60);
const USERADD: Duration = Duration::from_secs(10);
/// What the package says of its user, where it does (sysusers.d(5)): Fedora and RHEL; Arch and SUSE.
const SYSUSERS: [&str; 2] = ["/usr/lib/sysusers.d/openssh-server.conf", "/usr/lib/sysusers.d/sshd.conf"];

/// A key pair that is not in its place yet.
pub struct Pair {
    key: NewKey,
    private: Vec<u8>,
    public: Vec<u8>,
}

/// Makes the pairs where nobody sees them.
pub fn pairs(host: &Host, keys: &[NewKey]) -> Result<Vec<Pair>, StepError> {
    keys.iter().map(|key| pair(host, key)).collect()
}

/// sshd takes any kind in any place, and the primes of RSA would be looked for twice.
fn trial_pairs(host: &Host, keys: &[NewKey]) -> Result<Vec<Pair>, StepError> {
    let quick = |key: &NewKey| NewKey { kind: "ed25519".into(), ..key.clone() };
    keys.iter().map(|key| pair(host, &quick(key))).collect()
}

fn pair(host: &Host, key: &NewKey) -> Result<Pair, StepError> {
    let io = |source| crate::host::FileError::Io { action: "make a folder in", path: "/run".into(), source };
    let folder = tempfile::Builder::new().prefix(".ssh-rescue-keys").tempdir_in("/run").map_err(io)?;
    let path = folder.path().join("key");
    let text = path.to_string_lossy();
    tool(host, "ssh-keygen", &["-q", "-t", &key.kind, "-N", "", "-f", &text], &[], KEYGEN)?;
    // Of this machine, whatever disk the key is for.
    let here = host.here();
    let (private, public) = (here.read(&path)?, here.read(&public(&path))?);
    Ok(Pair { key: key.clone(), private, public })
}

/// What will take the pairs back.
pub fn before(host: &Host, pairs: &[Pair]) -> Result<Vec<MadeKey>, StepError> {
    let made = |pair: &Pair| {
        let path = &pair.key.path;
        let old = files::now(host, path)?.zip(host.owned(path)?);
        let public = public(path);
        let public = Replaced { old: files::now(host, &public)?, path: public, new: Some(pair.public.clone().into()) };
        Ok(MadeKey { path: path.clone(), old, public })
    };
    pairs.iter().map(made).collect()
}

pub fn install(host: &Host, pairs: &[Pair]) -> Result<(), StepError> {
    for pair in pairs {
        let path = &pair.key.path;
        // A replaced file would keep its mode, and that may let others read the key.
        host.delete(path)?;
        host.replace(path, &pair.private, 0o600)?;
        host.set_owned(path, pair.key.owned)?;
        host.replace(&public(path), &pair.public, 0o644)?;
        host.relabel(path);
        host.relabel(&public(path));
    }
    Ok(())
}

pub fn take_keys_back(host: &Host, keys: &[MadeKey]) -> Result<(), StepError> {
    for key in keys {
        host.delete(&key.path)?;
        if let Some((old, owned)) = &key.old {
            host.replace(&key.path, old.bytes(), 0o600)?;
            host.set_owned(&key.path, *owned)?;
        }
        files::put_back(host, &key.public)?;
    }
    Ok(())
}

/// The public half beside a key.
pub fn public(path: &Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// Makes the user, as its package says it or as Debian's does it.
pub fn make_user(host: &Host, name: &str, home: &Path, group: Option<u32>) -> Result<(), StepError> {
    for file in SYSUSERS.iter().filter(|path| host.exists(Path::new(path))) {
        let _ = host.run(&Call::new("systemd-sysusers", &[file]));
    }
    if is_user(host, name)? {
        return Ok(());
    }
    let home = home.to_string_lossy();
    let gid = group.map(|g| g.to_string());
    let mut args = vec!["--system", "--no-create-home", "--home-dir", &home, "--shell", "/usr/sbin/nologin"];
    match &gid {
        Some(gid) => args.extend(["--gid", gid]),
        None => args.push("--user-group"),
    }
    args.push(name);
    tool(host, "useradd", &args, &[], USERADD).map(drop)
}

pub fn take_user_back(host: &Host, name: &str) -> Result<(), StepError> {
    match is_user(host, name)? {
        true => tool(host, "userdel", &[name], &[], USERADD).map(drop),
        false => Ok(()),
    }
}

fn is_user(host: &Host, name: &str) -> Result<bool, StepError> {
    let bytes = host.read(Path::new("/etc/passwd"))?;
    Ok(String::from_utf8_lossy(&bytes).lines().any(|l| l.split(':').next() == Some(name)))
}

/// Sets mode and owner back, unless somebody has set them since.
pub fn put_mode_back(host: &Host, path: &Path, old: Owned, new: Owned) -> Result<(), StepError> {
    match host.owned(path)? {
        Some(now) if now == new => Ok(host.set_owned(path, old)?),
        _ => Ok(()),
    }
}

/// One step on the files of the calling thread's mount namespace, unrecorded: for a trial.
pub fn change(host: &Host, step: &Step) -> Result<(), BoxedError> {
    let changed: Result<(), StepError> = match step {
        Step::WriteFile { path, content, .. } => {
            files::before(host, path, content).and_then(|file| files::write(host, &file))
        }
        Step::MakeKeys { keys } => trial_pairs(host, keys).and_then(|pairs| install(host, &pairs)),
        Step::SetMode { path, owned } => Ok(host.set_owned(path, *owned)?),
        Step::MakeFolder { path, owned } => Ok(host.make_folder(path, *owned)?),
        Step::MakeUser { name, home, group } => make_user(host, name, home, *group),
        _ => Ok(()),
    };
    Ok(changed?)
}

impl Pair {
    /// Whether the path still holds what a plan was made for: no key.
    pub fn is_wanted(&self, host: &Host) -> Result<bool, StepError> {
        let key = |content: Content| content.bytes().starts_with(b"-----BEGIN ");
        Ok(!files::now(host, &self.key.path)?.is_some_and(key))
    }
}
