//! The daemon: what wakes a pass, and the control socket.
//!
//! ```text
//! kernel, files, D-Bus --wake--> core --job--> worker (the road) --done--> core --status--> socket, journal, systemd
//!                                 ^
//! socket --------request----------+
//! ```
//!
//! One thread runs the events and the socket and never waits for the host; another one, the worker's, walks the road. At rest
//! nothing runs but the sweep, and where iptables-legacy has tables, a cheap poll of them.
#![forbid(unsafe_code)]

mod audit;
mod bus;
mod changer;
mod core;
mod healing;
mod journal;
mod legacy;
mod notify;
mod socket;
mod status;
mod tell;
mod wake;
mod worker;

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::unbounded_channel;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep_until};

use crate::host::{Host, passed};
use crate::judge::Judgement;
use crate::pass::Report;
use crate::plan::Decision;
use crate::policy::Policy;
use crate::record::StateDir;

use self::core::Core;

pub use socket::{INTERFACE, Interface, SOCKET};
pub use status::Status;

/// The file in the folder of the socket that everybody may read.
pub const STATUS_FILE: &str = "status.json";
/// Open files: as many as the socket takes connections, and some for the passes.
const FILES: u64 = 4096;

/// What the daemon is started with. It knows nothing of the command line.
pub struct Setup {
    pub host: Host,
    pub state: StateDir,
    pub policy_file: PathBuf,
    /// Reads the policy: it and where it is from, or what is wrong with the file, in as many lines as that takes.
    pub load: Box<dyn Fn() -> Result<(Policy, String), String>>,
    pub faces: Faces,
}

/// How results are written for people, plain or with colours.
#[derive(Clone, Copy)]
pub struct Faces {
    pub check: fn(&Judgement, &Decision, bool) -> String,
    pub repair: fn(&Report, bool, bool) -> String,
}

#[derive(Debug, Error)]
pub enum AgentError {
    #[error("start the runtime of the agent")]
    Runtime(#[source] io::Error),
    #[error("listen at {path}")]
    Listen {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another agent listens at {0}")]
    Another(PathBuf),
    #[error("start the thread that walks the road")]
    Thread(#[source] io::Error),
    #[error("watch the host's files")]
    Watch(#[source] io::Error),
    #[error("listen to signals")]
    Signals(#[source] io::Error),
}

/// Runs until it is told to end (SIGTERM, SIGINT).
pub fn run(setup: Setup) -> Result<(), AgentError> {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer, the socket takes fewer connections at once.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.max(FILES.min(hard)), hard);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Runtime)?;
    let local = LocalSet::new();
    let ended = runtime.block_on(local.run_until(live(setup)));
    // A pass that is at work ends with the process; what it had begun is taken back at the next start.
    runtime.shutdown_background();
    ended
}

async fn live(setup: Setup) -> Result<(), AgentError> {
    let signals = |kind| signal(kind).map_err(AgentError::Signals);
    let (mut hangup, mut terminate) = (signals(SignalKind::hangup())?, signals(SignalKind::terminate())?);
    let mut interrupt = signals(SignalKind::interrupt())?;
    let (wakes, mut woken) = unbounded_channel();
    let (done, mut results) = unbounded_channel();
    let (requests, mut asked) = unbounded_channel();
    let mut files = wake::Files::new(&setup.policy_file).map_err(AgentError::Watch)?;
    let passed = passed();
    let listener = socket::listener(passed.listener, setup.state.run())?;
    let mut core = Core::new(setup, wakes.clone(), done)?;
    wake::hear(&wakes, passed.audit);
    let access = Rc::new(socket::Access::new(core.policy(), core.status(), core.faces()));
    spawn_local(socket::serve(listener, access, core.state(), requests));
    core.begin();
    loop {
        tokio::select! {
            Some(wake) = woken.recv() => core.woken(wake),
            wake = files.changed() => {
                // A folder that was just made is watched before what is in it is read.
                files.again();
                core.woken(wake);
            }
            Some(result) = results.recv() => {
                core.done(result);
                files.again();
            }
            Some(request) = asked.recv() => core.asked(request),
            () = sleep_until(core.next()) => core.tick(Instant::now()),
            _ = hangup.recv() => core.reload(),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    core.end();
    Ok(())
}
