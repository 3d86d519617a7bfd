//! Somebody who waits for the end of this process: another process, which is there when this one has been killed.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::setsid;
use zbus::zvariant::{Fd, Value};

use super::Host;

/// How long a watcher may take until it is there, and until it is gone.
const COMING: Duration = Duration::from_secs(5);
const GOING: Duration = Duration::from_secs(1);
/// What is said on the line between the two: whether the watcher is there; it is; it is not needed any more.
const ASKED: u8 = b'a';
const HERE: u8 = b'h';
const OVER: u8 = b'o';

/// A process that acts if this one lets go of the line without a word, as the kernel does for one that is killed.
#[must_use]
#[derive(Debug)]
pub struct Watcher {
    line: UnixStream,
    /// Where it is not systemd's.
    child: Option<Child>,
}

impl Host {
    /// Starts a watcher, and waits until it is there; None where this host is not watched over ([`Host::watched`]).
    ///
    /// systemd starts it where it can: it is then in no group, session or unit of this process, and outlives them all.
    pub fn watcher(&self) -> io::Result<Option<Watcher>> {
        let Some(arguments) = self.watch else { return Ok(None) };
        match self.by_systemd(arguments) {
            Ok(watcher) => Ok(Some(watcher)),
            Err(_) => by_itself(arguments).map(Some),
        }
    }

    fn by_systemd(&self, arguments: &[&str]) -> io::Result<Watcher> {
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(io::Error::new(ErrorKind::NotFound, "systemd does not run"));
        }
        let program = std::env::current_exe()?.into_os_string().into_string();
        let program = program.map_err(|_| io::Error::new(ErrorKind::InvalidInput, "this program has no name"))?;
        let (line, theirs) = UnixStream::pair()?;
        let chance = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let unit = format!("ssh-rescue-watch-{}-{:08x}.service", std::process::id(), chance as u32);
        let command: Vec<&str> = std::iter::once(&*program).chain(arguments.iter().copied()).collect();
        let properties: Vec<(&str, Value<'_>)> = vec![
            ("Description", "Undoes a repair of ssh-rescue that does not come to its end".into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("StandardInputFileDescriptor", Value::Fd(Fd::from(OwnedFd::from(theirs)))),
            ("ExecStart", Value::new(vec![(program.as_str(), command, false)])),
        ];
        let others: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
        let started = self.systemd(COMING, async |bus| {
            let manager = "org.freedesktop.systemd1";
            let body = (unit.as_str(), "fail", properties, others);
            let object = "/org/freedesktop/systemd1";
            let interface = Some("org.freedesktop.systemd1.Manager");
            Ok(bus.call_method(Some(manager), object, interface, "StartTransientUnit", &body).await?)
        });
        started.map_err(io::Error::other)?;
        Watcher { line, child: None }.here()
    }
}

/// In a session of its own, without this process's terminal, output and environment.
fn by_itself(arguments: &[&str]) -> io::Result<Watcher> {
    let (line, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    command.args(arguments).env_clear().env("LC_ALL", "C").current_dir("/");
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: setsid(2) is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(|| setsid().map(drop).map_err(io::Error::from)) };
    let child = command.spawn()?;
    // Its end of the line must not stay open here.
    drop(command);
    Watcher { line, child: Some(child) }.here()
}

impl Watcher {
    fn here(mut self) -> io::Result<Watcher> {
        self.line.write_all(&[ASKED])?;
        self.line.set_read_timeout(Some(COMING))?;
        match byte(&mut self.line)? {
            Some(HERE) => Ok(self),
            _ => Err(io::Error::new(ErrorKind::UnexpectedEof, "the watcher went away")),
        }
    }

    /// Nothing is to be undone any more.
    pub fn dismiss(mut self) {
        // A watcher that was killed hears nothing, and does no harm either.
        let _ = self.line.write_all(&[OVER]);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.line.shutdown(Shutdown::Both);
        let Some(child) = &mut self.child else { return };
        // One that has something to undo waits for the lock, which this process may hold.
        let end = Instant::now() + GOING;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
    }
}

/// The watcher's own part, on its standard input: says that it is there once it is asked, and waits. Gives whether the other side
/// has let go without a word.
pub fn keep_watch() -> io::Result<bool> {
    let mut line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Who was not told that it runs does not ask, and may wait for its end.
    line.set_read_timeout(Some(COMING))?;
    if !matches!(byte(&mut line), Ok(Some(ASKED))) {
        return Ok(false);
    }
    line.set_read_timeout(None)?;
    line.write_all(&[HERE])?;
    Ok(byte(&mut line)? != Some(OVER))
}

/// The next byte; None at the end.
fn byte(line: &mut UnixStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match line.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(byte.first().copied()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
