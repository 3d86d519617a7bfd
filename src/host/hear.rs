//! What the kernel tells everybody: netlink's multicast groups.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};

use super::netlink::split;

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h, as a bit.
const NFTABLES: u32 = 1 << 6;
/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE and _IPV6_RULE of linux/rtnetlink.h.
const NETWORK: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
/// Largest datagram that is read.
const BUFFER: usize = 64 << 10;
/// A ruleset that is loaded at once announces each of its rules.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket that hears some groups, in the network namespace of the thread that opened it. It never blocks.
#[derive(Debug)]
pub struct Hearing {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// The messages of one datagram.
    Messages(Vec<Vec<u8>>),
    /// The kernel said more than the socket could take: what, nobody knows.
    Lost,
    /// Nothing waits.
    Nothing,
}

impl Hearing {
    /// Changes of nf_tables.
    pub fn rules() -> io::Result<Hearing> {
        Hearing::open(SockProtocol::NetlinkNetFilter, NFTABLES)
    }

    /// Changes of links, addresses, routes and routing rules.
    pub fn network() -> io::Result<Hearing> {
        Hearing::open(SockProtocol::NetlinkRoute, NETWORK)
    }

    fn open(protocol: SockProtocol, groups: u32) -> io::Result<Hearing> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        // Without CAP_NET_ADMIN the default size must do; what is lost then is heard of as lost.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Hearing { socket, buffer: vec![0; BUFFER] })
    }

    pub fn hear(&mut self) -> io::Result<Heard> {
        match socket::recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
            Ok(got) => Ok(Heard::Messages(split(self.buffer.get(..got).unwrap_or_default()))),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Heard::Nothing),
            Err(Errno::ENOBUFS) => Ok(Heard::Lost),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsRawFd for Hearing {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Hearing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
