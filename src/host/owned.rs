//! Mode and owner of files and folders, by an open descriptor: what is looked at is what is changed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::{Call, Host, ReplaceError};
use crate::facts::Owned;

impl Host {
    /// None if there is nothing. Links are not followed.
    pub fn owned(&self, path: &Path) -> Result<Option<Owned>, ReplaceError> {
        match opened(self, path) {
            Ok((_, owned)) => Ok(Some(owned)),
            Err(ReplaceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Only of a regular file that has no second name, or of a folder.
    pub fn set_owned(&self, path: &Path, new: Owned) -> Result<(), ReplaceError> {
        let (file, old) = opened(self, path)?;
        let failed = |action| move |source: nix::Error| io_error(action, path)(source.into());
        // In this order: a new owner's file is never as open as the old one's.
        let strict = Mode::from_bits_truncate(new.mode & 0o700);
        fchmod(&file, strict).map_err(failed("set the mode of"))?;
        // A sandbox may forbid even what changes nothing.
        if (old.uid, old.gid) != (new.uid, new.gid) {
            fchown(&file, Some(Uid::from_raw(new.uid)), Some(Gid::from_raw(new.gid)))
                .map_err(failed("set the owner of"))?;
        }
        fchmod(&file, Mode::from_bits_truncate(new.mode)).map_err(failed("set the mode of"))
    }

    /// Sets the mode of a folder or file that is just as it was `seen`; false where it is not, or where there is nothing, or a
    /// link or second name. Not even on the way to it is a link followed: the folders may be an unprivileged user's.
    pub fn change_mode(&self, path: &Path, seen: Owned, mode: u32) -> Result<bool, ReplaceError> {
        let failed = |action| move |source: nix::Error| io_error(action, path)(source.into());
        let found = match self.open_without_links(path, FOUND) {
            Err(Errno::ELOOP | Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            found => found.map_err(failed("open"))?,
        };
        match reopened(self, &found, path) {
            Ok((file, now)) if now == seen => {
                fchmod(&file, Mode::from_bits_truncate(mode)).map_err(failed("set the mode of"))?;
                Ok(true)
            }
            Ok(_) | Err(ReplaceError::NotRegular { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Makes a folder and those above it that are missing.
    pub fn make_folder(&self, path: &Path, owned: Owned) -> Result<(), ReplaceError> {
        let (parent, name) = parts(path)?;
        if !self.exists(parent) {
            self.make_folder(parent, Owned { mode: 0o755, ..owned })?;
        }
        let failed = |source: nix::Error| io_error("make the folder", path)(source.into());
        let folder = self.open(parent, FOLDER, Mode::empty()).map_err(failed)?;
        mkdirat(&folder, name, Mode::from_bits_truncate(owned.mode & 0o700)).map_err(failed)?;
        self.set_owned(path, owned)
    }

    /// Deletes an empty folder; one that is not there is no error.
    pub fn remove_folder(&self, path: &Path) -> Result<(), ReplaceError> {
        let (parent, name) = parts(path)?;
        let removed = self
            .open(parent, FOLDER, Mode::empty())
            .and_then(|folder| unlinkat(&folder, name, UnlinkatFlags::RemoveDir));
        match removed {
            Err(error) if error != Errno::ENOENT => Err(io_error("delete the folder", path)(error.into())),
            _ => Ok(()),
        }
    }

    /// Gives a new file the SELinux label that the policy has for its path (restorecon(8)), where SELinux is on.
    pub fn relabel(&self, path: &Path) {
        if self.mounted_at().is_none() && Path::new("/sys/fs/selinux/enforce").exists() {
            let _ = self.run(&Call::new("restorecon", &[&path.to_string_lossy()]));
        }
    }
}

/// To make or delete something in it.
const FOLDER: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// To look at whatever is there without opening it.
const FOUND: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn parts(path: &Path) -> Result<(&Path, &OsStr), ReplaceError> {
    path.parent().zip(path.file_name()).ok_or_else(|| ReplaceError::Name { path: path.to_owned() })
}

fn opened(host: &Host, path: &Path) -> Result<(OwnedFd, Owned), ReplaceError> {
    let found = host.open(path, FOUND, Mode::empty()).map_err(|source| io_error("open", path)(source.into()))?;
    reopened(host, &found, path)
}

fn reopened(host: &Host, found: &OwnedFd, path: &Path) -> Result<(OwnedFd, Owned), ReplaceError> {
    let stat = plain(found, path)?;
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let file = host.reopen(found, path, flags).map_err(|source| io_error("open", path)(source.into()))?;
    match plain(&file, path)? {
        now if (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino) => {
            Ok((file, Owned { mode: now.st_mode & 0o7777, uid: now.st_uid, gid: now.st_gid }))
        }
        _ => Err(ReplaceError::NotRegular { path: path.to_owned() }),
    }
}

/// A folder, or a regular file that has no second name.
fn plain(file: &OwnedFd, path: &Path) -> Result<FileStat, ReplaceError> {
    let stat = fstat(file).map_err(|source| io_error("stat", path)(source.into()))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    match kind == SFlag::S_IFDIR || (kind == SFlag::S_IFREG && stat.st_nlink == 1) {
        true => Ok(stat),
        false => Err(ReplaceError::NotRegular { path: path.to_owned() }),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReplaceError {
    let path = path.to_owned();
    move |source| ReplaceError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn mode_and_owner_are_set_and_links_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (host, path) = (Host::live(), folder.path().join("key"));
        assert_eq!(host.owned(&path).unwrap(), None);
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).unwrap();
        let old = host.owned(&path).unwrap().unwrap();
        assert_eq!(old.mode, 0o666);
        host.set_owned(&path, Owned { mode: 0o600, ..old }).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(host.set_owned(&link, old).is_err());
        std::fs::hard_link(&path, folder.path().join("second")).unwrap();
        assert!(host.set_owned(&path, old).is_err());
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
    }

    #[test]
    fn a_mode_is_changed_only_of_what_was_seen_and_through_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let (host, home) = (Host::live(), top.join("home"));
        std::fs::create_dir(&home).unwrap();
        let keys = home.join("keys");
        std::fs::write(&keys, "x").unwrap();
        std::fs::set_permissions(&keys, PermissionsExt::from_mode(0o666)).unwrap();
        let seen = host.owned(&keys).unwrap().unwrap();
        let mode = || keys.metadata().unwrap().mode() & 0o7777;
        assert!(!host.change_mode(&keys, Owned { uid: seen.uid + 1, ..seen }, 0o644).unwrap());
        assert!(!host.change_mode(&keys, Owned { mode: 0o664, ..seen }, 0o644).unwrap());
        symlink(&home, top.join("link")).unwrap();
        symlink(&keys, home.join("link")).unwrap();
        for path in [top.join("link/keys"), home.join("link"), home.join("none"), keys.join("x")] {
            assert!(!host.change_mode(&path, seen, 0o644).unwrap(), "{}", path.display());
        }
        nix::unistd::mkfifo(&home.join("fifo"), Mode::from_bits_truncate(0o666)).unwrap();
        assert!(!host.change_mode(&home.join("fifo"), seen, 0o644).unwrap());
        assert_eq!(mode(), 0o666);
        assert!(host.change_mode(&keys, seen, 0o644).unwrap());
        assert_eq!(mode(), 0o644);
        std::fs::hard_link(&keys, home.join("second")).unwrap();
        assert!(!host.change_mode(&keys, seen.without_writers(), 0o666).unwrap());
        assert_eq!(mode(), 0o644);
    }

    #[test]
    fn a_folder_is_made_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (host, path) = (Host::live(), folder.path().join("run/sshd"));
        let owner = std::fs::metadata(folder.path()).unwrap();
        let owned = Owned { mode: 0o755, uid: owner.uid(), gid: owner.gid() };
        host.make_folder(&path, owned).unwrap();
        assert_eq!(host.owned(&path).unwrap(), Some(owned));
        host.remove_folder(&path).unwrap();
        host.remove_folder(&path).unwrap();
        assert!(!path.exists());
    }
}
