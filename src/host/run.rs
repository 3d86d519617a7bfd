//! Running the host's own tools: no shell, a deadline, bounded output, the whole process group ended.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::resume_unwind;

use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use thiserror::Error;

use super::Host;
use super::lock::held;
use super::netns::scratch_xtables_lock;
use super::peer::pidfd;
use super::stage::{bound, handed};

/// How long a tool of the host may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How much a tool may print on one stream.
pub const OUTPUT_LIMIT: usize = 64 << 20;

/// Between two looks at a tool whose end is not told.
const PAUSE: Duration = Duration::from_millis(2);

const SEARCH: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

/// One call of a tool.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// A bare name, looked up in the system's own folders and never in `PATH`, or an absolute path.
    pub program: &'a str,
    pub args: &'a [&'a str],
    pub stdin: &'a [u8],
    pub deadline: Duration,
}

impl<'a> Call<'a> {
    pub fn new(program: &'a str, args: &'a [&'a str]) -> Call<'a> {
        Call { program, args, stdin: &[], deadline: DEADLINE }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit status, or 128 + signal.
    pub status: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Output {
    pub fn ok(&self) -> bool {
        self.status == 0
    }

    /// The last lines of standard error for a message, escaped, at most 300 characters.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let mut lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty()).rev().take(3).collect();
        lines.reverse();
        let joined = lines.join("; ");
        joined
            .chars()
            .take(300)
            .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
            .collect()
    }
}

#[derive(Debug, Error)]
pub enum RunError {
    #[error("{program} is not installed")]
    Missing { program: String },
    #[error("start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not end within {seconds} s and was ended", seconds = deadline.as_secs_f32())]
    Deadline { program: String, deadline: Duration },
    #[error("{program} printed more than {OUTPUT_LIMIT} bytes")]
    Output { program: String },
    #[error("wait for {program}")]
    Wait {
        program: String,
        #[source]
        source: io::Error,
    },
}

impl Host {
    /// The absolute path of a tool, from the system's own folders.
    pub fn which(&self, program: &str) -> Option<String> {
        if program.starts_with('/') {
            return std::path::Path::new(program).exists().then(|| program.to_owned());
        }
        SEARCH.iter().map(|dir| format!("{dir}/{program}")).find(|p| std::path::Path::new(p).is_file())
    }

    /// Runs a tool to its end, in a process group of its own, with an environment of its own (`LC_ALL=C`, a fixed `PATH`).
    pub fn run(&self, call: &Call<'_>) -> Result<Output, RunError> {
        let program = call.program.to_owned();
        let path = self.which(call.program).ok_or_else(|| RunError::Missing { program: program.clone() })?;
        let mut command = Command::new(path);
        command
            .args(call.args)
            .env_clear()
            .env("PATH", SEARCH.join(":"))
            .env("LC_ALL", "C")
            .env("LANG", "C")
            .current_dir("/")
            .process_group(0)
            .stdin(input(call.stdin).map_err(|source| RunError::Start { program: program.clone(), source })?)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let lock = scratch_xtables_lock();
        if let Some(lock) = lock {
            command.env("XTABLES_LOCKFILE", format!("/proc/self/fd/{lock}"));
        }
        // A tool that outlives this process would still be writing while the next pass takes back what it did.
        let mut child = handed(handed(bound(&mut command), held()), lock)
            .spawn()
            .map_err(|source| RunError::Start { program: program.clone(), source })?;
        let group = Pid::from_raw(child.id() as i32);
        let waited = Pipes::serve(&mut child).and_then(|pipes| Ok((pipes, wait(&mut child, call.deadline)?)));
        // Also what it left behind in the background: it would hold the pipes open for ever.
        let _ = killpg(group, Signal::SIGKILL);
        let failed = |source| RunError::Wait { program: program.clone(), source };
        let (pipes, status) = match waited {
            Ok((pipes, Some(status))) => (pipes, status),
            Ok((_, None)) => {
                let _ = child.wait();
                return Err(RunError::Deadline { program, deadline: call.deadline });
            }
            Err(source) => {
                let _ = child.wait();
                return Err(failed(source));
            }
        };
        // What could not be read to its end must not be taken for the whole.
        let (stdout, stderr) = pipes.ended().map_err(failed)?;
        if stdout.len() > OUTPUT_LIMIT || stderr.len() > OUTPUT_LIMIT {
            return Err(RunError::Output { program });
        }
        Ok(Output { status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), stdout, stderr })
    }
}

/// What a tool reads: no pipe, for which it could wait.
fn input(bytes: &[u8]) -> io::Result<Stdio> {
    let mut file = File::from(memory_file(c"stdin")?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

/// A file in memory, that nobody else can open and nobody has to take away.
pub(super) fn memory_file(name: &CStr) -> Result<OwnedFd, Errno> {
    // Since Linux 6.3; where vm.memfd_noexec is 2 there are no others.
    const MFD_NOEXEC_SEAL: u32 = 8;
    let plain = MFdFlags::MFD_CLOEXEC;
    match memfd_create(name, plain | MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL)) {
        Err(Errno::EINVAL) => memfd_create(name, plain),
        made => made,
    }
}

/// A thread for each of a tool's pipes.
struct Pipes {
    stdout: JoinHandle<io::Result<Vec<u8>>>,
    stderr: JoinHandle<io::Result<Vec<u8>>>,
}

impl Pipes {
    fn serve(child: &mut Child) -> io::Result<Pipes> {
        let thread = || thread::Builder::new().name("pipe".into());
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        Ok(Pipes { stdout: thread().spawn(move || drain(stdout))?, stderr: thread().spawn(move || drain(stderr))? })
    }

    fn ended(self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let read = |thread: JoinHandle<io::Result<Vec<u8>>>| thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        Ok((read(self.stdout)?, read(self.stderr)?))
    }
}

fn drain(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(OUTPUT_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn wait(child: &mut Child, deadline: Duration) -> io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + deadline;
    // Where the kernel gives none (before 5.3), or where no descriptor is left, it is looked after again and again.
    let ended = pidfd(child.id() as i32).ok();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        match &ended {
            Some(ended) => {
                let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
                match poll(&mut [PollFd::new(ended.as_fd(), PollFlags::POLLIN)], left) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            None => thread::sleep(PAUSE.min(left)),
        }
    }
}
