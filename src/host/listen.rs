//! Listening sockets and kernel settings of a scratch namespace.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, setsockopt, sockopt};

use super::Host;

/// A socket that listens.
#[derive(Debug)]
pub struct Listen {
    listener: TcpListener,
}

impl Listen {
    /// The peer of the next connection that has been established, which is reset at once; None where none waits.
    pub fn established(&self) -> io::Result<Option<SocketAddr>> {
        match self.listener.accept() {
            Ok((stream, peer)) => {
                // Without a FIN nothing is left that the kernel would send again and again to a client that is not there.
                setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
                Ok(Some(SocketAddr::new(peer.ip().to_canonical(), peer.port())))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Connections that may wait to be accepted: as many as are asked for at once.
const BACKLOG: i32 = 4096;

/// Listens on a TCP port of every address, both families where the kernel has both, in the calling thread's namespace.
/// `mss` is what its SYN-ACKs announce.
pub fn listen_tcp(port: u16, mss: u16) -> io::Result<Listen> {
    let six = open(AddressFamily::Inet6, mss).and_then(|socket| {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        let any = SockaddrIn6::from(std::net::SocketAddrV6::new(std::net::Ipv6Addr::UNSPECIFIED, port, 0, 0));
        socket::bind(socket.as_raw_fd(), &any)?;
        Ok(socket)
    });
    let socket = match six {
        Ok(socket) => socket,
        Err(_) => {
            let socket = open(AddressFamily::Inet, mss)?;
            socket::bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
            socket
        }
    };
    // SAFETY: the descriptor is open. nix takes no more than SOMAXCONN, which is 128 with musl, whatever the kernel allows.
    Errno::result(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(Listen { listener: TcpListener::from(socket) })
}

fn open(family: AddressFamily, mss: u16) -> io::Result<OwnedFd> {
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::TcpMaxSeg, &u32::from(mss))?;
    Ok(socket)
}

impl Host {
    /// Writes a setting below `/proc/sys/net`, which is that of the calling thread's network namespace. For scratch
    /// namespaces only.
    pub(crate) fn write_sysctl(&self, path: &Path, value: &str) -> io::Result<()> {
        let open = |path: &Path| OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(path);
        let mut file = match open(path) {
            // In a sandbox that shows /proc/sys read-only: the scratch namespace's own settings are no part of that.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                let proc = own_proc()?;
                let below = path.strip_prefix("/proc").map_err(io::Error::other)?;
                open(&Path::new(&format!("/proc/self/fd/{}", proc.as_raw_fd())).join(below))?
            }
            opened => opened?,
        };
        file.write_all(value.as_bytes())
    }
}

/// A proc file system that is mounted nowhere (fsopen(2), fsmount(2)), gone when it is closed.
fn own_proc() -> io::Result<OwnedFd> {
    // SAFETY: the strings end with a NUL, and each descriptor is ours alone.
    unsafe {
        let owned = |got: libc::c_long| -> io::Result<OwnedFd> {
            let raw = i32::try_from(Errno::result(got)?).map_err(io::Error::other)?;
            Ok(OwnedFd::from_raw_fd(raw))
        };
        let context = owned(libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), FSOPEN_CLOEXEC))?;
        let none = std::ptr::null::<libc::c_void>();
        let made = libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, none, none, 0);
        Errno::result(made)?;
        owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0))
    }
}

/// Of linux/mount.h.
const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;
