//! Where paths start: at the root of this machine, or in the folder that a disk is mounted at. Nothing leads out of such a
//! folder: not `..`, not an absolute link, not a link of /proc.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::{Statvfs, fstatvfs};

use super::Host;

/// How often a path is looked up again that was renamed under the lookup.
const LOOKUPS: usize = 32;
/// Paths of a disk that are shown are names on the disk, so its own place must be known to cut it off.
const FDS: &str = "/proc/self/fd";

/// The folder that a disk is mounted at, held open: whatever takes its name, it stays this one.
#[derive(Debug)]
pub(super) struct Root {
    folder: OwnedFd,
    name: PathBuf,
}

impl Host {
    /// The files of a disk that is mounted at `folder`. What is run is this machine's all the same.
    ///
    /// Needs openat2(2), of Linux 5.6. The folder is held open until the process ends.
    pub fn disk(folder: &Path) -> io::Result<Host> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = Root { folder: open(folder, flags, Mode::empty())?, name: folder.canonicalize()? };
        let host = Host { watch: None, root: Some(Box::leak(Box::new(root))) };
        host.open(Path::new("/"), flags, Mode::empty())?;
        Ok(host)
    }

    /// The folder that the disk is mounted at. None: this machine itself.
    pub fn mounted_at(&self) -> Option<&Path> {
        self.root.map(|root| root.name.as_path())
    }

    /// Whether the folder of a disk is this machine's own root.
    pub fn is_this_machine(&self) -> io::Result<bool> {
        let (disk, own) = (self.metadata(Path::new("/"))?, std::fs::metadata("/")?);
        Ok((disk.dev(), disk.ino()) == (own.dev(), own.ino()))
    }

    /// The machine that this process runs on, whatever disk this is.
    pub fn here(&self) -> Host {
        Host { root: None, ..*self }
    }

    /// Opens a path of this host. Every other way to a file goes through here.
    pub(super) fn open(&self, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
        let Some(root) = self.root else { return open(path, flags, mode) };
        let how = OpenHow::new()
            .flags(flags)
            .mode(mode)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let look = || openat2(&root.folder, path, how);
        let again = |result: &Result<OwnedFd, Errno>| matches!(result, Err(Errno::EAGAIN));
        (1..LOOKUPS).map(|_| look()).find(|result| !again(result)).unwrap_or_else(look)
    }

    /// Opens an absolute path of this host on which there is no link at all. Folder by folder: openat2(2), which could do it
    /// in one call, does not exist under systemd's RestrictSUIDSGID=.
    pub(super) fn open_without_links(&self, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut at = match self.root {
            None => open("/", folder, Mode::empty())?,
            Some(root) => openat(&root.folder, ".", folder, Mode::empty())?,
        };
        let mut names = path.strip_prefix("/").map_err(|_| Errno::EINVAL)?.components().peekable();
        while let Some(name) = names.next() {
            let Component::Normal(name) = name else { return Err(Errno::EINVAL) };
            let flags = if names.peek().is_some() { folder } else { flags | OFlag::O_NOFOLLOW };
            at = openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }

    /// Opens what was found with O_PATH, whatever has its name by now.
    pub(super) fn reopen(&self, found: &impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
        match open(&of(found), flags & !OFlag::O_NOFOLLOW, Mode::empty()) {
            // No /proc here: by its name once more.
            Err(Errno::ENOENT | Errno::ENOTDIR) => self.open(path, flags, Mode::empty()),
            open => open,
        }
    }

    /// What is at the end of all links.
    pub fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        match self.root {
            None => std::fs::metadata(path),
            Some(_) => File::from(self.open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?).metadata(),
        }
    }

    /// What the name stands for, a link or not.
    pub fn symlink_metadata(&self, path: &Path) -> io::Result<Metadata> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match self.root {
            None => std::fs::symlink_metadata(path),
            Some(_) => File::from(self.open(path, flags, Mode::empty())?).metadata(),
        }
    }

    /// The file system that a path is on.
    pub fn file_system(&self, path: &Path) -> io::Result<Statvfs> {
        Ok(fstatvfs(&self.open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?)?)
    }

    pub fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }

    pub fn is_file(&self, path: &Path) -> bool {
        self.metadata(path).is_ok_and(|meta| meta.is_file())
    }

    /// The names in a folder, in no order.
    pub fn list(&self, folder: &Path) -> io::Result<Vec<OsString>> {
        let names = |path: &Path| std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect();
        if self.root.is_none() {
            return names(folder);
        }
        let open = self.open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        names(&of(&open))
    }

    /// The path of what is there, without links.
    pub fn real(&self, path: &Path) -> io::Result<PathBuf> {
        let Some(root) = self.root else { return path.canonicalize() };
        let found = self.open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let (found, root) = (std::fs::read_link(of(&found))?, std::fs::read_link(of(&root.folder))?);
        let inside = found.strip_prefix(root).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Path::new("/").join(inside))
    }

    /// Makes a folder and those above it that are missing, for their owner alone.
    pub fn make_folders(&self, path: &Path) -> io::Result<()> {
        let mut missing = Vec::new();
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        for folder in path.ancestors() {
            match self.open(folder, flags, Mode::empty()) {
                Err(Errno::ENOENT) => missing.push(folder),
                found => {
                    found?;
                    break;
                }
            }
        }
        for folder in missing.into_iter().rev() {
            let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { continue };
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let parent = self.open(parent, flags, Mode::empty())?;
            match mkdirat(&parent, name, Mode::S_IRWXU) {
                Err(Errno::EEXIST) => {}
                made => made?,
            }
        }
        Ok(())
    }

    /// Gives a file another name in its folder.
    pub fn rename_beside(&self, path: &Path, name: &str) -> io::Result<()> {
        let (Some(parent), Some(old)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        };
        let folder = self.open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        Ok(renameat(&folder, old, &folder, name)?)
    }
}

/// The name by which the process knows what it has open.
pub(super) fn of(open: &impl AsFd) -> PathBuf {
    Path::new(FDS).join(open.as_fd().as_raw_fd().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// A disk in a folder, and a file beside it that no path of the disk may reach.
    fn disk() -> Option<(tempfile::TempDir, Host)> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        std::fs::create_dir_all(folder.path().join("disk/etc/ssh")).unwrap();
        std::fs::write(folder.path().join("outside"), "of the rescuer").unwrap();
        match Host::disk(&folder.path().join("disk")) {
            Ok(host) => Some((folder, host)),
            Err(error) if error.raw_os_error() == Some(nix::libc::ENOSYS) => {
                eprintln!("SKIPPED: this kernel has no openat2(2)");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn no_link_leads_out_of_a_disk() {
        let Some((folder, host)) = disk() else { return };
        let outside = folder.path().join("outside");
        let etc = folder.path().join("disk/etc");
        symlink(&outside, etc.join("absolute")).unwrap();
        symlink("../../outside", etc.join("relative")).unwrap();
        symlink("../../../../../../../../etc/passwd", etc.join("up")).unwrap();
        symlink("/etc", etc.join("folder")).unwrap();
        symlink("/proc/self/root/etc/passwd", etc.join("magic")).unwrap();
        for name in ["absolute", "relative", "up", "folder/passwd", "magic", "../../outside"] {
            let path = Path::new("/etc").join(name);
            assert!(host.read(&path).unwrap_err().is_not_found(), "{name}");
            assert!(host.metadata(&path).is_err() && host.real(&path).is_err(), "{name}");
        }
        for name in ["absolute", "relative", "up", "magic"] {
            let refused = host.replace(&Path::new("/etc").join(name), b"x", 0o600);
            assert!(refused.is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "of the rescuer");
        assert_eq!(host.list(Path::new("/etc/folder")).unwrap().len(), 6);
    }

    #[test]
    fn an_absolute_link_leads_to_where_it_would_on_the_running_disk() {
        let Some((folder, host)) = disk() else { return };
        let inside = folder.path().join("disk/etc");
        std::fs::write(inside.join("ssh/real"), "one").unwrap();
        symlink("/etc/ssh/real", inside.join("link")).unwrap();
        let link = Path::new("/etc/link");
        assert_eq!(host.read(link).unwrap(), b"one");
        assert_eq!(host.real(link).unwrap(), Path::new("/etc/ssh/real"));
        host.replace(link, b"two", 0o600).unwrap();
        assert_eq!(std::fs::read(inside.join("ssh/real")).unwrap(), b"two");
        assert!(host.symlink_metadata(link).unwrap().is_symlink());
        host.delete(Path::new("/etc/ssh/real")).unwrap();
        assert!(!inside.join("ssh/real").exists());
    }

    #[test]
    fn folders_are_made_on_the_disk() {
        let Some((folder, host)) = disk() else { return };
        symlink("/srv", folder.path().join("disk/var")).unwrap();
        std::fs::create_dir(folder.path().join("disk/srv")).unwrap();
        host.make_folders(Path::new("/var/lib/ssh-rescue/repairs")).unwrap();
        let made = folder.path().join("disk/srv/lib/ssh-rescue/repairs").metadata().unwrap();
        assert_eq!(made.mode() & 0o7777, 0o700);
        host.make_folders(Path::new("/var/lib/ssh-rescue/repairs")).unwrap();
        host.replace(Path::new("/var/lib/ssh-rescue/repairs/a"), b"x", 0o600).unwrap();
        host.rename_beside(Path::new("/var/lib/ssh-rescue/repairs/a"), "b").unwrap();
        assert_eq!(host.list(Path::new("/srv/lib/ssh-rescue/repairs")).unwrap(), ["b"]);
        assert_eq!(host.mounted_at(), Some(folder.path().join("disk").canonicalize().unwrap().as_path()));
        assert_eq!(host.here().mounted_at(), None);
    }
}
