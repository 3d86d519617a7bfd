//! Sockets that are handed over at the start, and who is at the other end of one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::sys::socket::{getsockopt, sockopt};

/// The first descriptor that is handed over (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// More than these have no meaning here.
const MOST: u32 = 16;
/// More supplementary groups than NGROUPS_MAX nobody has.
const GROUPS: usize = 65536;

/// Who had connected, as the kernel noted it then; as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    pub pid: i32,
    pub uid: u32,
    /// The group and the supplementary groups.
    pub groups: Vec<u32>,
}

impl Peer {
    /// Of a connected unix(7) socket: SO_PEERCRED and SO_PEERGROUPS.
    pub fn of(socket: impl AsFd) -> io::Result<Peer> {
        let peer = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
        let mut groups = vec![0u32; 64];
        loop {
            let mut length = (groups.len() * size_of::<u32>()) as libc::socklen_t;
            let raw = socket.as_fd().as_raw_fd();
            // SAFETY: the kernel writes at most `length` bytes, which is as long as the buffer, and then the length to `length`.
            let got = unsafe {
                libc::getsockopt(raw, libc::SOL_SOCKET, libc::SO_PEERGROUPS, groups.as_mut_ptr().cast(), &mut length)
            };
            let told = length as usize / size_of::<u32>();
            match Errno::result(got) {
                Ok(_) => {
                    groups.truncate(told);
                    break;
                }
                Err(Errno::ERANGE) if told > groups.len() && told <= GROUPS => groups.resize(told, 0),
                Err(error) => return Err(error.into()),
            }
        }
        groups.push(peer.gid());
        Ok(Peer { pid: peer.pid(), uid: peer.uid(), groups })
    }
}

/// Sockets that systemd hands over (sd_listen_fds(3)); each is known by what it is.
#[derive(Debug, Default)]
pub struct Passed {
    /// The control socket.
    pub listener: Option<UnixListener>,
    /// A netlink(7) socket of audit's.
    pub audit: Option<OwnedFd>,
}

/// What systemd hands over, if it does. To be called once.
pub fn passed() -> Passed {
    let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let mut passed = Passed::default();
    if number("LISTEN_PID") != Some(std::process::id()) {
        return passed;
    }
    for raw in (FIRST..).take(number("LISTEN_FDS").map_or(0, |count| count.min(MOST) as usize)) {
        // SAFETY: systemd hands this descriptor over to this process (LISTEN_PID), and nobody else in it takes it; one that
        // cannot be set is none.
        let socket = unsafe {
            if libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) < 0 {
                continue;
            }
            OwnedFd::from_raw_fd(raw)
        };
        if is_audit(&socket) {
            passed.audit = Some(socket);
        } else {
            let listener = UnixListener::from(socket);
            passed.listener = passed.listener.or_else(|| listener.local_addr().ok().map(|_| listener));
        }
    }
    passed
}

fn is_audit(socket: &OwnedFd) -> bool {
    let option = |name| {
        let mut value: libc::c_int = 0;
        let mut length = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which is what `value` has, and then the length to `length`.
        let got = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, value, &mut length)
        };
        (got == 0).then_some(value)
    };
    option(libc::SO_DOMAIN) == Some(libc::AF_NETLINK) && option(libc::SO_PROTOCOL) == Some(libc::NETLINK_AUDIT)
}

/// A descriptor of a process that becomes readable when it ends (pidfd_open(2)).
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is ours alone.
    unsafe {
        let got = libc::syscall(libc::SYS_pidfd_open, pid, libc::PIDFD_NONBLOCK);
        let raw = i32::try_from(Errno::result(got)?).map_err(io::Error::other)?;
        Ok(OwnedFd::from_raw_fd(raw))
    }
}

/// Kills the process of a descriptor.
pub fn end(process: &OwnedFd) -> io::Result<()> {
    signal(process, Signal::SIGKILL)
}

/// Sends the process of a descriptor a signal (pidfd_send_signal(2)).
pub fn signal(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open, and without a siginfo_t the kernel makes one.
    let sent =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as libc::c_int, nothing, 0) };
    Ok(Errno::result(sent).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_known_by_number() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!((peer.uid, peer.pid), (nix::unistd::geteuid().as_raw(), std::process::id() as i32));
        assert!(peer.groups.contains(&nix::unistd::getegid().as_raw()));
    }

    #[test]
    fn a_socket_of_audits_is_known_by_what_it_is() {
        use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
        let open = |protocol| socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        assert!(!is_audit(&open(SockProtocol::NetlinkRoute).unwrap()));
        // A kernel without audit has none.
        if let Ok(audit) = open(SockProtocol::NetlinkAudit) {
            assert!(is_audit(&audit));
        }
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(!is_audit(&one.into()));
    }

    #[test]
    fn a_process_that_is_not_there_has_no_descriptor() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        pidfd(pid).unwrap();
        child.wait().unwrap();
        assert_eq!(pidfd(pid).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
