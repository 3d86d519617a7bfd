//! Replacing files of the host: the old one or the new one is there at every moment, never half of either.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat, renameat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, geteuid, symlinkat, unlinkat};
use thiserror::Error;

use super::Host;

/// Ends the name of the file that a replacement is first written to; a dot stands before.
pub const NEW_SUFFIX: &str = ".ssh-rescue-new";
/// XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h.
const XATTR_MAX: usize = 65536;
/// FS_IMMUTABLE_FL of linux/fs.h.
const IMMUTABLE: libc::c_long = 0x10;

#[derive(Debug, Error)]
pub enum ReplaceError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is immutable (chattr +i)")]
    Immutable { path: PathBuf },
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
    #[error("{path} is not written: {folder} is not root's alone")]
    Folder { path: PathBuf, folder: PathBuf },
    #[error("{path} is not a symbolic link")]
    NotLink { path: PathBuf },
    #[error("{path} is a link that is not root's")]
    Link { path: PathBuf },
    #[error("{path} names no file in a folder")]
    Name { path: PathBuf },
}

impl Host {
    /// Replaces a file's content, or makes the file with `mode` where there is none. Mode, owner and extended attributes
    /// (SELinux label, ACL) of the old file are kept. A link that is root's is followed; the file that it leads to is replaced.
    ///
    /// When this gives an error, the old file is still there, unchanged.
    pub fn replace(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), ReplaceError> {
        let place = Place::of(self, path)?;
        let old = place.old()?;
        let result = place.write(content, mode, old.as_ref()).and_then(|()| place.swap());
        if result.is_err() {
            place.discard();
        }
        result
    }

    /// Puts a file that others read in place, whole, into a folder that may be another's: no link on the way is followed.
    /// After a loss of power it may be gone.
    pub fn publish(&self, folder: &Path, name: &str, content: &[u8]) -> Result<(), ReplaceError> {
        let path = folder.join(name);
        let failed = |action| {
            let path = path.clone();
            move |source: Errno| ReplaceError::Io { action, path, source: source.into() }
        };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let folder = self.open_without_links(folder, flags).map_err(failed("open the folder of"))?;
        let new = format!(".{name}{NEW_SUFFIX}");
        let _ = unlinkat(&folder, new.as_str(), UnlinkatFlags::NoRemoveDir);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(&folder, new.as_str(), flags, Mode::from_bits_truncate(0o644)).map_err(failed("make a new"))?;
        let mut file = File::from(file);
        fchmod(&file, Mode::from_bits_truncate(0o644)).map_err(failed("set the mode of"))?;
        let written = file.write_all(content);
        written.map_err(|source| ReplaceError::Io { action: "write a new", path: path.clone(), source })?;
        renameat(&folder, new.as_str(), &folder, name).map_err(failed("replace"))
    }

    /// Deletes a file; one that is not there is no error.
    pub fn delete(&self, path: &Path) -> Result<(), ReplaceError> {
        let place = match Place::of(self, path) {
            Err(ReplaceError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
            place => place?,
        };
        match unlinkat(&place.folder, place.name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) => fsync(&place.folder).map_err(place.failed("sync the folder of")),
            Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(place.refused("delete", error)),
        }
    }

    /// Deletes a symbolic link, and not what it leads to.
    pub fn delete_link(&self, path: &Path) -> Result<(), ReplaceError> {
        let place = Place::named(self, path.to_owned())?;
        let stat = fstatat(&place.folder, place.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        match SFlag::from_bits_truncate(stat.map_err(place.failed("stat"))?.st_mode) & SFlag::S_IFMT == SFlag::S_IFLNK {
            true => unlinkat(&place.folder, place.name.as_c_str(), UnlinkatFlags::NoRemoveDir)
                .map_err(|error| place.refused("delete", error)),
            false => Err(ReplaceError::NotLink { path: place.path }),
        }
    }

    /// Makes a symbolic link where there is nothing.
    pub fn make_link(&self, path: &Path, target: &Path) -> Result<(), ReplaceError> {
        let place = Place::named(self, path.to_owned())?;
        symlinkat(target, &place.folder, place.name.as_c_str())
            .map_err(|error| place.refused("make the link", error))?;
        fsync(&place.folder).map_err(place.failed("sync the folder of"))
    }

    /// Where a symbolic link leads; None where there is none.
    pub fn link_target(&self, path: &Path) -> Result<Option<PathBuf>, ReplaceError> {
        let place = Place::named(self, path.to_owned())?;
        match readlinkat(&place.folder, place.name.as_c_str()) {
            Ok(target) => Ok(Some(PathBuf::from(target))),
            Err(Errno::ENOENT | Errno::EINVAL) => Ok(None),
            Err(error) => Err(place.failed("read the link")(error)),
        }
    }

    /// Deletes what a replacement of `path` left behind that was killed in the middle.
    pub fn sweep(&self, path: &Path) {
        if let Ok(place) = Place::of(self, path) {
            place.discard();
        }
    }
}

/// A name in an open folder that nobody but root can change.
struct Place {
    path: PathBuf,
    folder: OwnedFd,
    name: CString,
    new: CString,
}

impl Place {
    fn of(host: &Host, path: &Path) -> Result<Place, ReplaceError> {
        let io = |action| move |source| ReplaceError::Io { action, path: path.to_owned(), source };
        let path = match host.symlink_metadata(path) {
            Ok(meta) if meta.file_type().is_symlink() => {
                if meta.uid() != 0 && meta.uid() != geteuid().as_raw() {
                    return Err(ReplaceError::Link { path: path.to_owned() });
                }
                host.real(path).map_err(io("follow"))?
            }
            _ => path.to_owned(),
        };
        Place::named(host, path)
    }

    fn named(host: &Host, path: PathBuf) -> Result<Place, ReplaceError> {
        let io = |action| {
            let path = path.clone();
            move |source| ReplaceError::Io { action, path, source }
        };
        let unnamed = || ReplaceError::Name { path: path.clone() };
        let (parent, name) = (path.parent().ok_or_else(unnamed)?, path.file_name().ok_or_else(unnamed)?);
        let parent = host.real(parent).map_err(io("find the folder of"))?;
        let path = parent.join(name);
        for (depth, folder) in parent.ancestors().enumerate() {
            own_alone(host, &path, folder, depth == 0)?;
        }
        let failed = |action| {
            let path = path.clone();
            move |source: Errno| ReplaceError::Io { action, path, source: source.into() }
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let folder = host.open(&parent, flags, Mode::empty()).map_err(failed("open the folder of"))?;
        let mut new = b".".to_vec();
        new.extend(name.as_bytes());
        new.extend(NEW_SUFFIX.as_bytes());
        let name = CString::new(name.as_bytes()).map_err(|_| unnamed())?;
        let new = CString::new(new).map_err(|_| unnamed())?;
        Ok(Place { path, folder, name, new })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> ReplaceError {
        let path = self.path.clone();
        move |source| ReplaceError::Io { action, path, source: source.into() }
    }

    /// As [`Place::failed`]; names the one reason for EPERM that people look for last.
    fn refused(&self, action: &'static str, source: Errno) -> ReplaceError {
        let file = || {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&self.folder, self.name.as_c_str(), flags, Mode::empty())
        };
        match source == Errno::EPERM && (immutable(&self.folder) || file().is_ok_and(|file| immutable(&file))) {
            true => ReplaceError::Immutable { path: self.path.clone() },
            false => self.failed(action)(source),
        }
    }

    /// The file that is there, opened; None if there is none.
    fn old(&self) -> Result<Option<(OwnedFd, FileStat)>, ReplaceError> {
        match fstatat(&self.folder, self.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG => {}
            Ok(_) => return Err(ReplaceError::NotRegular { path: self.path.clone() }),
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(self.failed("stat")(error)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&self.folder, self.name.as_c_str(), flags, Mode::empty()).map_err(self.failed("open"))?;
        let stat = fstat(&file).map_err(self.failed("stat"))?;
        match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG {
            true => Ok(Some((file, stat))),
            false => Err(ReplaceError::NotRegular { path: self.path.clone() }),
        }
    }

    fn write(&self, content: &[u8], mode: u32, old: Option<&(OwnedFd, FileStat)>) -> Result<(), ReplaceError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let make = || openat(&self.folder, self.new.as_c_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let new = match make() {
            Err(Errno::EEXIST) => {
                self.discard();
                make()
            }
            made => made,
        };
        let mut file = File::from(new.map_err(|error| self.refused("make a new", error))?);
        let io = |action| move |source| ReplaceError::Io { action, path: self.path.clone(), source };
        file.write_all(content).map_err(io("write a new"))?;
        let mode = match old {
            Some((old, stat)) => {
                let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                let new = fstat(&file).map_err(self.failed("stat the new"))?;
                // A sandbox may forbid even what changes nothing.
                if (new.st_uid, new.st_gid) != (stat.st_uid, stat.st_gid) {
                    fchown(&file, Some(owner), Some(group)).map_err(self.failed("keep the owner of"))?;
                }
                copy_attributes(old, &file).map_err(io("keep the attributes of"))?;
                stat.st_mode & 0o7777
            }
            None => mode,
        };
        fchmod(&file, Mode::from_bits_truncate(mode)).map_err(self.failed("keep the mode of"))?;
        file.sync_all().map_err(io("sync the new"))
    }

    fn swap(&self) -> Result<(), ReplaceError> {
        renameat(&self.folder, self.new.as_c_str(), &self.folder, self.name.as_c_str())
            .map_err(|error| self.refused("replace", error))?;
        // The new file is in place now; if this fails, a loss of power alone can bring back the old one.
        let _ = fsync(&self.folder);
        Ok(())
    }

    fn discard(&self) {
        let _ = unlinkat(&self.folder, self.new.as_c_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// Whether nobody but root (or who runs this) can put something else in the place of what is in `folder`. Above the last one
/// a sticky folder that is everybody's does: what is in it cannot be moved by others.
fn own_alone(host: &Host, path: &Path, folder: &Path, last: bool) -> Result<(), ReplaceError> {
    let meta = host.symlink_metadata(folder).map_err(|source| ReplaceError::Io {
        action: "stat the folder of",
        path: path.to_owned(),
        source,
    })?;
    let owned = meta.uid() == 0 || meta.uid() == geteuid().as_raw();
    let shared = meta.mode() & 0o022 != 0;
    let sticky = meta.mode() & 0o1000 != 0 && !last;
    match owned && (!shared || sticky) {
        true => Ok(()),
        false => Err(ReplaceError::Folder { path: path.to_owned(), folder: folder.to_owned() }),
    }
}

/// Copies every extended attribute but the ones that are a digest of the content.
fn copy_attributes(from: &OwnedFd, to: &File) -> io::Result<()> {
    let mut names = vec![0u8; XATTR_MAX];
    // SAFETY: the buffer is as long as said.
    let got = unsafe { libc::flistxattr(from.as_raw_fd(), names.as_mut_ptr().cast(), names.len()) };
    names.truncate(known(got)?);
    let mut value = vec![0u8; XATTR_MAX];
    for name in names.split_inclusive(|b| *b == 0).filter_map(|n| CStr::from_bytes_with_nul(n).ok()) {
        if matches!(name.to_bytes(), b"security.ima" | b"security.evm") {
            continue;
        }
        // SAFETY: `name` ends with a NUL, and the buffer is as long as said.
        let got = unsafe { libc::fgetxattr(from.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        let length = known(got)?;
        // SAFETY: `name` ends with a NUL, and no more is read of the buffer than was written to it.
        let set = unsafe { libc::fsetxattr(to.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), length, 0) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The length that a call gave; a file system without attributes has none.
fn known(got: isize) -> io::Result<usize> {
    match usize::try_from(got) {
        Ok(length) => Ok(length),
        Err(_) if Errno::last() == Errno::ENOTSUP => Ok(0),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

mod ioctl {
    nix::ioctl_read!(
        /// FS_IOC_GETFLAGS of linux/fs.h.
        get_file_flags,
        b'f',
        1,
        nix::libc::c_long
    );
}

fn immutable(file: &OwnedFd) -> bool {
    let mut value: libc::c_long = 0;
    // SAFETY: the kernel writes at most a long to where the pointer points.
    let got = unsafe { ioctl::get_file_flags(file.as_raw_fd(), &mut value) };
    got.is_ok() && value & IMMUTABLE != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        folder
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_keeps_its_mode_and_a_new_one_gets_the_one_asked_for() {
        let folder = folder();
        let path = folder.path().join("a");
        let host = Host::live();
        host.replace(&path, b"one", 0o640).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();
        std::fs::write(folder.path().join(".a.ssh-rescue-new"), b"left by one that was killed").unwrap();
        host.replace(&path, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o604);
        assert_eq!(names(folder.path()), ["a"]);
        host.delete(&path).unwrap();
        host.delete(&path).unwrap();
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_link_is_followed_and_stays_a_link() {
        let folder = folder();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::write(&real, b"one").unwrap();
        symlink("real", &link).unwrap();
        Host::live().replace(&link, b"two", 0o600).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&real).unwrap(), b"two");
    }

    #[test]
    fn what_is_published_is_whole_and_follows_no_link() {
        let folder = folder();
        let host = Host::live();
        for text in [&b"one"[..], b"longer", b"x"] {
            host.publish(folder.path(), "status", text).unwrap();
            assert_eq!(std::fs::read(folder.path().join("status")).unwrap(), text);
        }
        assert_eq!(folder.path().join("status").metadata().unwrap().mode() & 0o7777, 0o644);
        assert_eq!(names(folder.path()), ["status"]);
        symlink(folder.path(), folder.path().join("link")).unwrap();
        assert!(host.publish(&folder.path().join("link"), "status", b"").is_err());
    }

    #[test]
    fn what_others_can_change_is_not_written_to() {
        let folder = folder();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o1777)).unwrap();
        std::fs::write(open.join("a"), b"one").unwrap();
        let host = Host::live();
        let refused = host.replace(&open.join("a"), b"two", 0o600);
        assert!(matches!(refused, Err(ReplaceError::Folder { .. })), "{refused:?}");
        symlink(open.join("a"), folder.path().join("link")).unwrap();
        let refused = host.replace(&folder.path().join("link"), b"two", 0o600);
        assert!(matches!(refused, Err(ReplaceError::Folder { .. })), "{refused:?}");
        assert_eq!(std::fs::read(open.join("a")).unwrap(), b"one");
        let refused = host.replace(&open, b"two", 0o600);
        assert!(matches!(refused, Err(ReplaceError::NotRegular { .. })), "{refused:?}");
    }
}
