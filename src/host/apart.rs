//! A small root in memory, for programs of this machine that are to read another's files: a disk's own programs, libraries
//! and settings of libraries are not in it, and nothing that could be run is.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::{Host, ScratchError};
use crate::facts::Owned;

/// Where the root is made; the thread sees it as `/`.
const ROOT: &str = "/run";
/// Folders of this machine's programs and what they link.
const PROGRAMS: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];
/// What sshd and ssh-keygen open.
const DEVICES: [&str; 3] = ["dev/null", "dev/urandom", "dev/random"];
/// Folders that sshd locks its unprivileged child into, of the names that distributions build in; those below /usr are there.
const EMPTY: [&str; 4] = ["run/sshd", "var/empty", "var/empty/sshd", "var/lib/sshd"];

/// A file as it is to lie in the small root.
#[derive(Debug, Clone)]
pub struct Copied {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub owned: Owned,
}

impl Host {
    /// Runs `work` on a thread of its own whose root holds these files and this machine's programs, without a network. Its
    /// paths are those of the files.
    pub fn apart<T: Send>(
        &self,
        files: &[Copied],
        work: impl FnOnce(&Host) -> Result<T, ScratchError> + Send,
    ) -> Result<T, ScratchError> {
        thread::scope(|scope| {
            let inside = move || {
                enter()?;
                files.iter().try_for_each(lay).map_err(ScratchError::device("copy the files of a disk"))?;
                work(&self.here())
            };
            let thread = thread::Builder::new()
                .name("apart".into())
                .spawn_scoped(scope, inside)
                .map_err(ScratchError::Thread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

fn enter() -> Result<(), ScratchError> {
    let none: Option<&str> = None;
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| ScratchError::Mount { action, path, source }
    };
    // A mount namespace of its own is also a root of its own.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)
        .map_err(|error| ScratchError::Namespace("network and mount namespaces", error))?;
    let root = Path::new(ROOT);
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(failed("detach the mounts below", Path::new("/")))?;
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("apart"), root, Some("tmpfs"), guarded, Some("size=64m,mode=0755"))
        .map_err(failed("mount an empty", root))?;
    let made = |path: &Path| ScratchError::device(format!("make {}", path.display()));
    for name in PROGRAMS {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        let Ok(found) = from.symlink_metadata() else { continue };
        if found.is_symlink() {
            let target = std::fs::read_link(&from).map_err(made(&from))?;
            symlink(target, &to).map_err(made(&to))?;
            continue;
        }
        std::fs::create_dir(&to).map_err(made(&to))?;
        mount(Some(&from), &to, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).map_err(failed("mount", &to))?;
        let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &to, none, again, none).map_err(failed("make read-only", &to))?;
    }
    for name in ["dev", "etc", "tmp", "var", "var/lib", "run"].into_iter().chain(EMPTY) {
        let folder = root.join(name);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder).map_err(made(&folder))?;
    }
    for name in DEVICES {
        let (from, to) = (Path::new("/").join(name), root.join(name));
        File::create(&to).map_err(made(&to))?;
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none).map_err(failed("mount", &to))?;
    }
    // Where the libraries of this machine are; without it those in unusual places are not found.
    let cache = Path::new("etc/ld.so.cache");
    let _ = std::fs::copy(Path::new("/").join(cache), root.join(cache));
    nix::unistd::chroot(root).map_err(failed("enter", root))?;
    nix::unistd::chdir("/").map_err(failed("enter", root))
}

fn lay(file: &Copied) -> io::Result<()> {
    if let Some(folder) = file.path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let mut copy = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.path)?;
    copy.write_all(&file.bytes)?;
    chown(&file.path, Some(file.owned.uid), Some(file.owned.gid))?;
    std::fs::set_permissions(&file.path, PermissionsExt::from_mode(file.owned.mode))
}
