//! A process that stands still: to let it go on, and to stop it again; to end it where it does not do so by itself.

use std::io;
use std::os::fd::OwnedFd;

use nix::libc::ESRCH;
use nix::sys::signal::Signal;
use procfs::process::Process;
use procfs::sys::kernel::random::boot_id;

use super::StepError;
use crate::host::{end, pidfd, signal};
use crate::record::Undo;

/// A process that was seen stopped. Its descriptor is of no other, whoever has its number later.
pub struct Stopped {
    process: OwnedFd,
    pid: i32,
    started: u64,
    boot: String,
}

/// A process that is to end. Its descriptor is of no other.
pub struct Doomed {
    process: OwnedFd,
    pid: i32,
}

/// The process of this number, if it still has the name and nobody debugs it.
pub fn doomed(pid: i32, name: &str) -> Result<Doomed, StepError> {
    let changed = || StepError::Changed { what: format!("process {pid}") };
    let process = open(pid).map_err(|source| StepError::Signal { pid, source })?.ok_or_else(changed)?;
    let stat = Process::new(pid).and_then(|p| p.stat()).map_err(|_| changed())?;
    match stat.state != 't' && stat.comm == name {
        true => Ok(Doomed { process, pid }),
        false => Err(changed()),
    }
}

impl Doomed {
    /// SIGKILL.
    pub fn kill(&self) -> Result<(), StepError> {
        match end(&self.process) {
            Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(()),
            sent => sent.map_err(|source| StepError::Signal { pid: self.pid, source }),
        }
    }
}

/// The process of this number, if it still has the name and is stopped.
pub fn stopped(pid: i32, name: &str) -> Result<Stopped, StepError> {
    let changed = || StepError::Changed { what: format!("process {pid}") };
    let failed = |source| StepError::Signal { pid, source };
    let process = open(pid).map_err(failed)?.ok_or_else(changed)?;
    let stat = Process::new(pid).and_then(|p| p.stat()).map_err(|_| changed())?;
    if stat.state != 'T' || stat.comm != name {
        return Err(changed());
    }
    let boot = boot_id().map_err(|error| failed(io::Error::other(error)))?;
    Ok(Stopped { process, pid, started: stat.starttime, boot })
}

impl Stopped {
    pub fn undo(&self) -> Undo {
        Undo::Continued { pid: self.pid, started: self.started, boot: self.boot.clone() }
    }

    /// SIGCONT.
    pub fn proceed(&self) -> Result<(), StepError> {
        signal(&self.process, Signal::SIGCONT).map_err(|source| StepError::Signal { pid: self.pid, source })
    }
}

/// Stops the process again, if it is still the one that [`stopped`] saw.
pub fn stop_again(pid: i32, started: u64, boot: &str) -> Result<(), StepError> {
    let failed = |source| StepError::Signal { pid, source };
    if boot_id().map_err(|error| failed(io::Error::other(error)))? != boot {
        return Ok(());
    }
    let Some(process) = open(pid).map_err(failed)? else { return Ok(()) };
    let same = Process::new(pid).and_then(|p| p.stat()).is_ok_and(|stat| stat.starttime == started);
    if !same {
        return Ok(());
    }
    match signal(&process, Signal::SIGSTOP) {
        Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(()),
        sent => sent.map_err(failed),
    }
}

/// None: it has ended.
fn open(pid: i32) -> io::Result<Option<OwnedFd>> {
    match pidfd(pid) {
        Ok(process) => Ok(Some(process)),
        Err(error) if error.raw_os_error() == Some(ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_process_goes_on_and_is_stopped_again_and_another_is_left_alone() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = child.id() as i32;
        let stat = || Process::new(pid).unwrap().stat().unwrap();
        let until = |is: fn(char) -> bool| {
            while !is(stat().state) {
                sleep(Duration::from_millis(5));
            }
        };
        while stat().comm != "sleep" {
            sleep(Duration::from_millis(5));
        }
        let refused = |name| matches!(stopped(pid, name), Err(StepError::Changed { .. }));
        assert!(refused("sleep"), "it runs");
        signal(&pidfd(pid).unwrap(), Signal::SIGSTOP).unwrap();
        until(|state| state == 'T');
        assert!(refused("sshd"), "it has another name");
        let process = stopped(pid, "sleep").unwrap();
        let Undo::Continued { started, boot, .. } = process.undo() else { panic!("{:?}", process.undo()) };
        process.proceed().unwrap();
        until(|state| state != 'T');
        stop_again(pid, started + 1, &boot).unwrap();
        stop_again(pid, started, "another boot").unwrap();
        assert_ne!(stat().state, 'T');
        stop_again(pid, started, &boot).unwrap();
        until(|state| state == 'T');
        let named = |name| doomed(pid, name);
        assert!(matches!(named("sshd"), Err(StepError::Changed { .. })), "it has another name");
        let process_to_end = named("sleep").unwrap();
        // A stopped process ends by this, too.
        process_to_end.kill().unwrap();
        child.wait().unwrap();
        process_to_end.kill().unwrap();
        assert!(matches!(named("sleep"), Err(StepError::Changed { .. })), "it has ended");
        stop_again(pid, started, &boot).unwrap();
        assert!(process.proceed().is_err());
    }
}
