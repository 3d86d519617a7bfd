//! One pass at a time.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::Mode;
use thiserror::Error;

use super::Host;
use super::peer::{end, pidfd};

#[derive(Debug, Error)]
pub enum LockError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is not root's")]
    Owner { path: PathBuf },
    #[error("another pass is at work ({holder} holds {path})")]
    Held { path: PathBuf, holder: String },
}

thread_local! {
    static HELD: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// The descriptor of the lock that the calling thread holds. The tools that it runs get it too: what a killed pass has
/// started, and its children, may write for a moment longer, and until then nobody else may.
pub(super) fn held() -> Option<RawFd> {
    HELD.get()
}

/// A pass that is stopped (SIGSTOP) in the middle gets this long to go on by itself.
const STOPPED: Duration = Duration::from_secs(1);

/// Held until it is dropped or its process and the tools that it runs end, however they end.
#[must_use]
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        HELD.set(None);
        // Where even that fails, the end of the process does it.
        let _ = flock(&self.file, libc::LOCK_UN);
    }
}

impl Host {
    /// Takes the lock `folder/lock`, waiting at most as long as `wait`; makes the folder (0700) where it is not there.
    ///
    /// A holder that runs this program and is stopped would stand in the way for ever: it is ended, and what it had begun is
    /// taken back as after any kill.
    pub fn lock(&self, folder: &Path, wait: Duration) -> Result<Lock, LockError> {
        let path = folder.join("lock");
        let io = |action| {
            let path = path.clone();
            move |source| LockError::Io { action, path, source }
        };
        self.make_folders(folder).map_err(io("make the folder of"))?;
        let owner = self.symlink_metadata(folder).map_err(io("stat the folder of"))?;
        if !owner.is_dir() || owner.uid() != nix::unistd::geteuid().as_raw() || owner.mode() & 0o022 != 0 {
            return Err(LockError::Owner { path: folder.to_owned() });
        }
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = self.open(&path, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let mut file = File::from(file.map_err(|error| io("open")(error.into()))?);
        let begin = Instant::now();
        let end = begin + wait;
        loop {
            match flock(&file, libc::LOCK_EX | libc::LOCK_NB) {
                Ok(()) => {
                    // Who holds it is told to the one who waits; nothing depends on it.
                    let _ = file.set_len(0);
                    let _ = file.rewind();
                    let _ = writeln!(file, "{}", std::process::id());
                    HELD.set(Some(file.as_raw_fd()));
                    return Ok(Lock { file });
                }
                Err(Errno::EWOULDBLOCK) if Instant::now() < end => {}
                Err(Errno::EWOULDBLOCK) => return Err(LockError::Held { path, holder: holder(file) }),
                Err(error) => return Err(io("lock")(error.into())),
            }
            if begin.elapsed() > STOPPED {
                end_stopped(&mut file);
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// flock(2). The safe wrapper of nix panics where an unlock fails.
fn flock(file: &File, operation: libc::c_int) -> Result<(), Errno> {
    // SAFETY: no pointers, and the descriptor is open.
    Errno::result(unsafe { libc::flock(file.as_raw_fd(), operation) }).map(drop)
}

/// Ends the holder of the lock if it runs this program and is stopped.
fn end_stopped(file: &mut File) {
    let Some(pid) = told(file) else { return };
    // The descriptor is of one process, whoever has its number later.
    let Ok(process) = pidfd(pid) else { return };
    let program = |path: &str| std::fs::metadata(path).map(|m| (m.dev(), m.ino())).ok();
    let same = program("/proc/self/exe").is_some_and(|own| program(&format!("/proc/{pid}/exe")) == Some(own));
    let stat = procfs::process::Process::new(pid).and_then(|p| p.stat());
    if same && stat.is_ok_and(|stat| stat.state == 'T') {
        let _ = end(&process);
    }
}

/// The process that the lock names.
fn told(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Who holds a lock on a file that others lock too, as the kernel lists it.
pub fn lock_holder(path: &Path) -> String {
    let inode = path.metadata().ok().map(|meta| meta.ino());
    let locks = procfs::locks().unwrap_or_default();
    let held = locks.into_iter().find(|lock| Some(lock.inode) == inode && matches!(lock.kind, procfs::LockKind::Write));
    named(held.and_then(|lock| lock.pid))
}

fn holder(mut file: File) -> String {
    named(told(&mut file))
}

fn named(pid: Option<i32>) -> String {
    match pid {
        Some(pid) => {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            format!("process {pid} {}", crate::facts::escape(name.trim())).trim_end().to_owned()
        }
        None => "an unknown process".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("run");
        let host = Host::live();
        let first = host.lock(&place, Duration::ZERO).unwrap();
        assert_eq!(place.metadata().unwrap().mode() & 0o7777, 0o700);
        let second = host.lock(&place, Duration::from_millis(50)).unwrap_err().to_string();
        assert!(second.contains(&format!("process {}", std::process::id())), "{second}");
        drop(first);
        let _again = host.lock(&place, Duration::ZERO).unwrap();
    }
}
