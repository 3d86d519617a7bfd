//! Changes of files: inotify(7).

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// Watches folders, and single files. It never blocks.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    paths: HashMap<WatchDescriptor, PathBuf>,
}

/// What has changed.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// Each once, in the order in which it first changed.
    Paths(Vec<PathBuf>),
    /// More than the kernel kept: what, nobody knows.
    Lost,
}

impl Watch {
    pub fn new() -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watch { inotify, paths: HashMap::new() })
    }

    /// Watches what is in a folder, and the folder; gives whether it is there. To be called again now and then: another folder
    /// may have taken its place.
    pub fn folder(&mut self, path: &Path) -> io::Result<bool> {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        self.add(path, flags)
    }

    /// Watches for a file to be closed, written to or not; gives whether it is there.
    pub fn closed(&mut self, path: &Path) -> io::Result<bool> {
        self.add(path, AddWatchFlags::IN_CLOSE)
    }

    fn add(&mut self, path: &Path, flags: AddWatchFlags) -> io::Result<bool> {
        match self.inotify.add_watch(path, flags) {
            Ok(watch) => {
                self.paths.insert(watch, path.to_owned());
                Ok(true)
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What has changed since the last call.
    pub fn changed(&mut self) -> io::Result<Changed> {
        let mut paths: Vec<PathBuf> = Vec::new();
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Changed::Paths(paths)),
                Err(error) => return Err(error.into()),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    return Ok(Changed::Lost);
                }
                let Some(folder) = self.paths.get(&event.wd) else { continue };
                let path = event.name.as_ref().map_or_else(|| folder.clone(), |name| folder.join(name));
                if event.mask.contains(AddWatchFlags::IN_IGNORED) {
                    self.paths.remove(&event.wd);
                }
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        }
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_replaced_or_closed_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let mut watch = Watch::new().unwrap();
        assert!(!watch.folder(&folder.path().join("nothing")).unwrap());
        assert!(watch.folder(folder.path()).unwrap());
        assert_eq!(watch.changed().unwrap(), Changed::Paths(vec![]));
        std::fs::write(&file, "one").unwrap();
        assert_eq!(watch.changed().unwrap(), Changed::Paths(vec![file.clone()]));
        std::fs::write(folder.path().join("new"), "two").unwrap();
        watch.changed().unwrap();
        std::fs::rename(folder.path().join("new"), &file).unwrap();
        assert_eq!(watch.changed().unwrap(), Changed::Paths(vec![folder.path().join("new"), file.clone()]));
        let lock = tempfile::NamedTempFile::new().unwrap();
        assert!(watch.closed(lock.path()).unwrap());
        drop(std::fs::File::open(lock.path()).unwrap());
        assert_eq!(watch.changed().unwrap(), Changed::Paths(vec![lock.path().to_owned()]));
    }
}
