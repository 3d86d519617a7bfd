//! The control socket: Varlink (<https://varlink.org>) on a unix socket. Who is at the other end is known by number.

mod access;
mod answer;
mod idl;
mod live;
mod serve;
mod wire;

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as Probe};
use std::path::Path;

use tokio::net::UnixListener;

use super::AgentError;
pub use access::Access;
pub use answer::{Asked, Request};
pub use idl::Interface;
pub use serve::serve;

/// The name of the socket in `/run/ssh-rescue`: that of its interface.
pub const SOCKET: &str = "io.ssh-rescue.Agent";
/// The interface file.
pub const INTERFACE: &str = include_str!("../io.ssh-rescue.Agent.varlink");

/// The socket that systemd hands over, or one of one's own in `folder`.
pub fn listener(passed: Option<StdListener>, folder: &Path) -> Result<UnixListener, AgentError> {
    let path = folder.join(SOCKET);
    let failed = |source| AgentError::Listen { path: path.clone(), source };
    if let Some(passed) = passed {
        passed.set_nonblocking(true).map_err(failed)?;
        return UnixListener::from_std(passed).map_err(failed);
    }
    own_folder(folder).map_err(failed)?;
    if Probe::connect(&path).is_ok() {
        return Err(AgentError::Another(path));
    }
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o666)).map_err(failed)?;
    Ok(listener)
}

/// The folder, which everybody may enter and root alone may change.
fn own_folder(folder: &Path) -> io::Result<()> {
    match std::fs::DirBuilder::new().mode(0o755).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = folder.symlink_metadata()?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other("the folder is not root's"));
    }
    std::fs::set_permissions(folder, Permissions::from_mode(0o755))
}
