//! Connecting as a client does, from an address of one's own.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, getsockopt, setsockopt, sockopt,
};

/// What came of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialled {
    /// The first bytes that the server sent, at most 255.
    Greeted(Vec<u8>),
    TimedOut,
    /// Reset, or an ICMP error.
    Refused(Errno),
    /// Connected, and ended before a byte came.
    Closed,
    /// Connected, and nothing came in time.
    Silent,
}

/// Connects from `source` to `target`, and waits for the server's first line.
pub fn dial(source: IpAddr, target: SocketAddr, connect: Duration, greeting: Duration) -> io::Result<Dialled> {
    let socket = open(source)?;
    let started = match to(&socket, target) {
        Ok(()) | Err(Errno::EINPROGRESS) => wait(&socket, connect)?,
        Err(refused) => return Ok(Dialled::Refused(refused)),
    };
    if !started {
        return Ok(Dialled::TimedOut);
    }
    match getsockopt(&socket, sockopt::SocketError)? {
        0 => {}
        error => {
            return Ok(match Errno::from_raw(error) {
                Errno::ETIMEDOUT => Dialled::TimedOut,
                refused => Dialled::Refused(refused),
            });
        }
    }
    let mut stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    let end = Instant::now() + greeting;
    let mut bytes = Vec::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(if bytes.is_empty() { Dialled::Silent } else { Dialled::Greeted(bytes) });
        }
        stream.set_read_timeout(Some(left))?;
        let mut more = [0u8; 255];
        match stream.read(&mut more) {
            Ok(0) | Err(_) if bytes.is_empty() && Instant::now() < end => return Ok(Dialled::Closed),
            Ok(0) | Err(_) => {}
            Ok(got) => bytes.extend(more.get(..got).unwrap_or_default()),
        }
        if bytes.contains(&b'\n') || bytes.len() >= 255 {
            return Ok(Dialled::Greeted(bytes));
        }
    }
}

fn open(source: IpAddr) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket::socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    match source {
        IpAddr::V4(a) => socket::bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(a, 0)))?,
        IpAddr::V6(a) => socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(a, 0, 0, 0)))?,
    }
    Ok(socket)
}

fn to(socket: &OwnedFd, target: SocketAddr) -> Result<(), Errno> {
    match target {
        SocketAddr::V4(a) => socket::connect(socket.as_raw_fd(), &SockaddrIn::from(a)),
        SocketAddr::V6(a) => socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(a)),
    }
}

fn wait(socket: &OwnedFd, deadline: Duration) -> io::Result<bool> {
    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    Ok(poll(&mut wait, PollTimeout::try_from(deadline).unwrap_or(PollTimeout::MAX))? > 0)
}
