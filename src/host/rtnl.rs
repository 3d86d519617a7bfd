//! rtnetlink (rtnetlink(7)): reading what there is, and setting up links, addresses and routes in scratch namespaces.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use ipnet::IpNet;
use nix::libc;
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use super::netlink::ANSWER;
use crate::decode::route::RTA_VIA;
use crate::facts::{Family, RouteKind};

/// A request socket of NETLINK_ROUTE, in the namespace of the thread that opened it.
#[derive(Debug)]
pub struct Rtnl {
    socket: OwnedFd,
    sequence: u32,
}

/// A route to add.
#[derive(Debug, Clone, Copy)]
pub struct NewRoute {
    pub kind: RouteKind,
    pub destination: IpNet,
    pub interface: Option<u32>,
    pub gateway: Option<IpAddr>,
    pub metric: u32,
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
const IFA_F_NODAD: u8 = 2;
const RTNH_F_ONLINK: u32 = 4;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const VETH_INFO_PEER: u16 = 1;

impl Rtnl {
    pub fn open() -> io::Result<Rtnl> {
        let socket =
            socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Rtnl::of(socket)
    }

    /// A socket of NETLINK_XFRM, which speaks the same way; for [`Rtnl::dump`] only.
    pub fn open_xfrm() -> io::Result<Rtnl> {
        // SAFETY: no pointers; the descriptor is ours alone.
        let socket = unsafe {
            let socket = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_XFRM);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(socket)
        };
        Rtnl::of(socket)
    }

    /// The kernel answers at once; an answer that was lost is not waited for.
    fn of(socket: OwnedFd) -> io::Result<Rtnl> {
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER.as_secs() as i64))?;
        Ok(Rtnl { socket, sequence: 0 })
    }

    /// Sets a link up.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        self.request(libc::RTM_NEWLINK, 0, &link_header(index, up, up))
    }

    /// Adds an address with its prefix; IPv6 without duplicate address detection.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let octets = octets(address);
        let mut body = vec![family(Family::of(address)), prefix, IFA_F_NODAD, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, libc::IFA_LOCAL, &octets);
        attribute(&mut body, libc::IFA_ADDRESS, &octets);
        self.request(libc::RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &body)
    }

    /// Adds a route to the main table. A gateway is taken as being on the link.
    pub fn add_route(&mut self, route: &NewRoute) -> io::Result<()> {
        let destination = route.destination.network();
        let scope = match (route.gateway, route.interface) {
            (None, Some(_)) if Family::of(destination) == Family::Ipv4 => libc::RT_SCOPE_LINK,
            _ => libc::RT_SCOPE_UNIVERSE,
        };
        let kind = match route.kind {
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Prohibit => libc::RTN_PROHIBIT,
            RouteKind::Throw => libc::RTN_THROW,
            _ => libc::RTN_UNICAST,
        };
        let prefix = route.destination.prefix_len();
        let family = family(Family::of(destination));
        let mut body = vec![family, prefix, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, scope, kind];
        let onlink = if route.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
        body.extend(onlink.to_ne_bytes());
        if prefix > 0 {
            attribute(&mut body, libc::RTA_DST, &octets(destination));
        }
        if let Some(gateway) = route.gateway {
            // A gateway of the other family (RFC 5549) is RTA_VIA.
            if Family::of(gateway) == Family::of(destination) {
                attribute(&mut body, libc::RTA_GATEWAY, &octets(gateway));
            } else {
                let mut via = u16::from(self::family(Family::of(gateway))).to_ne_bytes().to_vec();
                via.extend(octets(gateway));
                attribute(&mut body, RTA_VIA, &via);
            }
        }
        if let Some(interface) = route.interface {
            attribute(&mut body, libc::RTA_OIF, &interface.to_ne_bytes());
        }
        attribute(&mut body, libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
        self.request(libc::RTM_NEWROUTE, NLM_F_CREATE, &body)
    }

    /// Makes a pair of veth links: `name` here, `peer` in the network namespace that `namespace` is open on.
    pub fn add_veth(&mut self, name: &str, peer: &str, namespace: impl AsFd) -> io::Result<()> {
        let mut other = link_header(0, 0, 0);
        attribute(&mut other, libc::IFLA_IFNAME, &c_string(peer));
        attribute(&mut other, libc::IFLA_NET_NS_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes());
        let mut data = Vec::new();
        attribute(&mut data, VETH_INFO_PEER, &other);
        let mut info = Vec::new();
        attribute(&mut info, libc::IFLA_INFO_KIND, b"veth");
        attribute(&mut info, libc::IFLA_INFO_DATA, &data);
        let mut body = link_header(0, 0, 0);
        attribute(&mut body, libc::IFLA_IFNAME, &c_string(name));
        attribute(&mut body, libc::IFLA_LINKINFO, &info);
        self.request(libc::RTM_NEWLINK, NLM_F_CREATE, &body)
    }

    /// Every message of a dump (`RTM_GET*`) without its netlink header; asked for again where it changed while it was read.
    pub fn dump(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            self.send(kind, NLM_F_DUMP, body)?;
            if let Some(messages) = self.answer()? {
                return Ok(messages);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "it changes all the time"))
    }

    /// None where the dump is not of one moment.
    fn answer(&mut self) -> io::Result<Option<Vec<Vec<u8>>>> {
        let mut messages = Vec::new();
        let mut whole = true;
        let mut buffer = vec![0u8; DATAGRAM];
        loop {
            let got = socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in Messages(buffer.get(..got).unwrap_or_default()).filter(|m| m.sequence == self.sequence) {
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(whole.then_some(messages)),
                    libc::NLMSG_ERROR => {
                        let code = message.body.first_chunk().map_or(-libc::EPROTO, |b| i32::from_ne_bytes(*b));
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    _ => messages.push(message.body.to_vec()),
                }
            }
        }
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let length = u32::try_from(16 + body.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        socket::send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).map(drop).map_err(io::Error::from)
    }

    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.send(kind, NLM_F_ACK | flags, body)?;
        let mut answer = [0u8; 8192];
        loop {
            let got = socket::recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            match acknowledged(&answer[..got.min(answer.len())], self.sequence) {
                Some(0) => return Ok(()),
                Some(error) => return Err(io::Error::from_raw_os_error(error)),
                None => {}
            }
        }
    }
}

/// The largest piece of a dump; the kernel fills 32 KiB at once.
const DATAGRAM: usize = 256 << 10;

/// A message of a datagram.
struct Received<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Received<'a>;

    fn next(&mut self) -> Option<Received<'a>> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let message = self.0.get(..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Received {
            kind: u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(message.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?),
            body: message.get(16..)?,
        })
    }
}

/// The error number of the NLMSG_ERROR message that answers `sequence`, 0 for success; None where there is none.
fn acknowledged(message: &[u8], sequence: u32) -> Option<i32> {
    let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
    let number = u32::from_ne_bytes(message.get(8..12)?.try_into().ok()?);
    let error = i32::from_ne_bytes(message.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR && number == sequence).then(|| error.saturating_neg())
}

fn link_header(index: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut header = vec![0, 0, 0, 0];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = 4 + value.len() as u16;
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn c_string(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(family: Family) -> u8 {
    match family {
        Family::Ipv4 => libc::AF_INET as u8,
        Family::Ipv6 => libc::AF_INET6 as u8,
    }
}
