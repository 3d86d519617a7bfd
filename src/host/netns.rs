//! Scratch namespaces: a network (and, where tools are run in it, a mount) namespace that lives as long as one thread.
//!
//! Nothing has to be cleaned up: the kernel takes the namespace away with its thread and the thread with its process, also
//! when the process is killed. Children that [`Host::run`] starts from that thread are in the namespace too.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

use super::Host;
use super::run::memory_file;
use super::stage::{changes_apart, own_files};

/// What of the host a scratch namespace has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scratch {
    /// Links, addresses, routes, rules: everything of the network. iptables-legacy takes a lock of the namespace's own there:
    /// a rehearsal must neither wait for the live host's (`/run/xtables.lock`) nor hold it.
    Network,
    /// A host to be locked out: also an /etc, /run and /var/lib of its own.
    Host,
    /// The live network, beside an /etc and a /run whose changes nobody else sees.
    Files,
}

#[derive(Debug, Error)]
pub enum ScratchError {
    #[error("start a thread")]
    Thread(#[source] io::Error),
    #[error("make {0} of one's own")]
    Namespace(&'static str, #[source] Errno),
    #[error("make a lock for the tools of the scratch namespace")]
    Lock(#[source] Errno),
    #[error("{action} {path} in the scratch namespace")]
    Mount {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: Errno,
    },
    #[error("{action} in the scratch namespace")]
    Device {
        action: String,
        #[source]
        source: io::Error,
    },
}

impl ScratchError {
    pub(crate) fn device(action: impl Into<String>) -> impl FnOnce(io::Error) -> ScratchError {
        let action = action.into();
        move |source| ScratchError::Device { action, source }
    }
}

impl Host {
    /// Runs `work` on a thread of its own in a scratch namespace and gives back what it gives.
    ///
    /// `/proc/net` and `/proc/self` still show the process's first thread: what is to be read of the scratch namespace is
    /// at `/proc/thread-self/net`. `/proc/sys/net` is the reading thread's own.
    pub fn scratch<T: Send>(
        &self,
        kind: Scratch,
        work: impl FnOnce(&Host) -> Result<T, ScratchError> + Send,
    ) -> Result<T, ScratchError> {
        thread::scope(|scope| {
            let inside = move || {
                enter(kind)?;
                let lock = (kind == Scratch::Network)
                    .then(|| memory_file(c"xtables.lock"))
                    .transpose()
                    .map_err(ScratchError::Lock)?;
                XTABLES_LOCK.set(lock.as_ref().map(AsRawFd::as_raw_fd));
                work(self)
            };
            let thread = thread::Builder::new()
                .name("scratch".into())
                .spawn_scoped(scope, inside)
                .map_err(ScratchError::Thread)?;
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }
}

fn enter(kind: Scratch) -> Result<(), ScratchError> {
    let (flags, what) = match kind {
        Scratch::Network => (CloneFlags::CLONE_NEWNET, "a network namespace"),
        Scratch::Host => (CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS, "network and mount namespaces"),
        Scratch::Files => (CloneFlags::CLONE_NEWNS, "a mount namespace"),
    };
    unshare(flags).map_err(|error| ScratchError::Namespace(what, error))?;
    match kind {
        Scratch::Network => Ok(()),
        Scratch::Host => own_files(),
        Scratch::Files => changes_apart(),
    }
}

thread_local! {
    static XTABLES_LOCK: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// The descriptor of the file that iptables-legacy locks in the calling thread's scratch network namespace.
pub(super) fn scratch_xtables_lock() -> Option<RawFd> {
    XTABLES_LOCK.get()
}
