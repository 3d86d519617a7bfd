//! What the kernel tells everybody: netlink's multicast groups.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};

use super::netlink::split;
use crate::decode::audit::NETFILTER_CFG;

/// NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h, as a bit.
const NFTABLES: u32 = 1 << 6;
/// RTNLGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE and _IPV6_RULE of linux/rtnetlink.h.
const NETWORK: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18;
/// AUDIT_NLGRP_READLOG of linux/audit.h, as a bit.
const READLOG: u32 = 1;
/// Largest datagram that is read.
const BUFFER: usize = 64 << 10;
/// A ruleset that is loaded at once announces each of its rules.
const RECEIVE_BUFFER: usize = 4 << 20;
/// More messages than this no socket holds that was just handed over.
const LEFT: usize = 1 << 16;

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

    /// Audit's records of changed rules, of every network namespace: from a socket that was handed over. What it holds
    /// already is skipped.
    pub fn audit(passed: OwnedFd) -> io::Result<Hearing> {
        let flags = fcntl(&passed, FcntlArg::F_GETFL)?;
        fcntl(&passed, FcntlArg::F_SETFL(OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK))?;
        only(&passed, NETFILTER_CFG)?;
        let mut hearing = Hearing::around(passed);
        // What came before the filter may be of any kind.
        for _ in 0..LEFT {
            if hearing.hear()? == Heard::Nothing {
                break;
            }
        }
        Ok(hearing)
    }

    /// The same from a socket of one's own: CAP_AUDIT_READ, and a kernel with audit.
    pub fn own_audit() -> io::Result<Hearing> {
        let socket = netlink(SockProtocol::NetlinkAudit)?;
        only(&socket, NETFILTER_CFG)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READLOG))?;
        Ok(Hearing::around(socket))
    }

    fn open(protocol: SockProtocol, groups: u32) -> io::Result<Hearing> {
        let hearing = Hearing::around(netlink(protocol)?);
        socket::bind(hearing.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(hearing)
    }

    fn around(socket: OwnedFd) -> Hearing {
        // Without CAP_NET_ADMIN the default size must do; what is lost then is heard of as lost.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Hearing { socket, buffer: vec![0; BUFFER] }
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

fn netlink(protocol: SockProtocol) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?)
}

/// From here on the socket takes messages of this kind alone, by a filter in the kernel (socket(7), SO_ATTACH_FILTER): a
/// host may audit thousands of system calls a second, and none of them wakes anybody.
fn only(socket: &OwnedFd, kind: u16) -> io::Result<()> {
    let code = |bits: u32| u16::try_from(bits).map_err(io::Error::other);
    let step = |bits: u32, jf: u8, k: u32| Ok::<_, io::Error>(libc::sock_filter { code: code(bits)?, jt: 0, jf, k });
    // The kind is the second member of `struct nlmsghdr`; a load takes it in the network's order.
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 4)?,
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, u32::from(kind.to_be()))?,
        step(libc::BPF_RET | libc::BPF_K, 0, u32::MAX)?,
        step(libc::BPF_RET | libc::BPF_K, 0, 0)?,
    ];
    let length = u16::try_from(filter.len()).map_err(io::Error::other)?;
    let program = libc::sock_fprog { len: length, filter: filter.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of_val(&program)).map_err(io::Error::other)?;
    // SAFETY: the kernel copies `size` bytes of the program and the `len` steps that it points to; both outlive the call.
    let set = unsafe {
        let program = (&raw const program).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, size)
    };
    Errno::result(set)?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    fn message(kind: u16) -> Vec<u8> {
        [&16u32.to_ne_bytes(), &kind.to_ne_bytes()[..], &[0; 10]].concat()
    }

    /// The filter is the same on any kind of socket.
    #[test]
    fn of_audits_records_only_those_of_rules_are_taken() {
        let (kernel, agent) = UnixDatagram::pair().unwrap();
        // Before the filter is there: nobody looks at it.
        for kind in [1300, NETFILTER_CFG] {
            kernel.send(&message(kind)).unwrap();
        }
        let mut hearing = Hearing::audit(agent.into()).unwrap();
        assert_eq!(hearing.hear().unwrap(), Heard::Nothing);
        for kind in [1300, NETFILTER_CFG, NETFILTER_CFG.swap_bytes(), 1320] {
            kernel.send(&message(kind)).unwrap();
        }
        kernel.send(&[0; 5]).unwrap();
        assert_eq!(hearing.hear().unwrap(), Heard::Messages(vec![message(NETFILTER_CFG)]));
        assert_eq!(hearing.hear().unwrap(), Heard::Nothing);
    }
}
