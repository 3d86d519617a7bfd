//! Scratch namespaces: a network (and, where tools are run in it, a mount) namespace that lives as long as one thread.
//!
//! Nothing has to be cleaned up: the kernel takes the namespace away with its thread and the thread with its process, also
//! when the process is killed. Children that [`Host::run`] starts from that thread are in the namespace too.

use std::io;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use thiserror::Error;

use super::Host;
use super::stage::{changes_apart, own_files};

/// What of the host a scratch namespace has for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scratch {
    /// Links, addresses, routes, rules: everything of the network.
    Network,
    /// The same, and an empty `/run`: the host's own tools take their locks (`/run/xtables.lock`) there, and a rehearsal
    /// must neither wait for the live host's nor hold it.
    NetworkAndRun,
    /// A host to be locked out: also an /etc, /run and /var/lib of its own.
    Host,
    /// The live network, beside an /etc and a /run whose changes nobody else sees.
    Files,
}

#[derive(Debug, Error)]
pub enum ScratchError {
    #[error("start a thread")]
    Thread(#[source] io::Error),
    #[error("make a network namespace of one's own")]
    Namespace(#[source] Errno),
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
    let flags = match kind {
        Scratch::Network => CloneFlags::CLONE_NEWNET,
        Scratch::NetworkAndRun | Scratch::Host => CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS,
        Scratch::Files => CloneFlags::CLONE_NEWNS,
    };
    unshare(flags).map_err(ScratchError::Namespace)?;
    if kind == Scratch::Host {
        return own_files();
    }
    if kind == Scratch::Files {
        return changes_apart();
    }
    if kind == Scratch::NetworkAndRun {
        let none: Option<&str> = None;
        let failed =
            |action, path: &'static str| move |source| ScratchError::Mount { action, path: path.into(), source };
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
            .map_err(failed("detach the mounts below", "/"))?;
        let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("scratch"), "/run", Some("tmpfs"), guarded, Some("size=1m,mode=0755"))
            .map_err(failed("mount an empty", "/run"))?;
    }
    Ok(())
}
