//! The one seam to the machine: read, replace, run with a deadline, talk netlink. The only room with `unsafe`.

mod apart;
mod bus;
mod dial;
mod file;
mod hear;
mod legacy;
mod listen;
mod lock;
mod netlink;
mod netns;
mod owned;
mod peer;
mod ready;
mod replace;
mod reserve;
mod root;
mod rtnl;
mod run;
mod stage;
mod tun;
mod watch;
mod watcher;

pub use apart::*;
pub use bus::*;
pub use dial::*;
pub use file::*;
pub use hear::*;
pub use legacy::*;
pub use listen::*;
pub use lock::*;
pub use netlink::*;
pub use netns::*;
pub use peer::*;
pub use ready::*;
pub use replace::*;
pub use rtnl::*;
pub use run::*;
pub use tun::*;
pub use watch::*;
pub use watcher::*;

/// The machine that this process runs on, or a disk that is mounted on it. Passed down from `main`, so that a signature shows
/// what may touch the host.
#[derive(Debug, Clone, Copy)]
pub struct Host {
    /// With which arguments this program, started again, is a watcher.
    watch: Option<&'static [&'static str]>,
    /// None: paths start at the root of this machine.
    root: Option<&'static root::Root>,
}

impl Host {
    pub fn live() -> Host {
        Host { watch: None, root: None }
    }

    /// As [`Host::live`]; this program, started again with `arguments`, watches over what is changed ([`keep_watch`]).
    pub fn watched(arguments: &'static [&'static str]) -> Host {
        Host { watch: Some(arguments), root: None }
    }

    /// Whether this process has root's rights.
    pub fn privileged(&self) -> bool {
        nix::unistd::geteuid().is_root()
    }
}
