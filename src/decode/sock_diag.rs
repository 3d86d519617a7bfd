//! Listening sockets as sock_diag(7) reports them (linux/inet_diag.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::facts::{Family, Listener, Seen, Waiting};

/// Kind of a request for, and of each answer of, one address family.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `tcp_states.h`
const TCP_ESTABLISHED: u32 = 1;
const TCP_CLOSE_WAIT: u32 = 8;
const TCP_LISTEN: u32 = 10;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// `tcpi_last_data_sent` in `struct tcp_info` (linux/tcp.h).
const LAST_DATA_SENT: usize = 44;
/// Bytes of `struct inet_diag_req_v2`, and of `struct inet_diag_msg`.
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// Where `struct inet_diag_sockid` stands in an answer.
const SOURCE_PORT: usize = 4;
const SOURCE: usize = 8;
const INTERFACE: usize = 40;
const COOKIE: usize = 44;
const RQUEUE: usize = 56;
const WQUEUE: usize = 60;
const INODE: usize = 68;

/// The body of a request for all listening TCP sockets of a family.
pub fn request(family: Family) -> Vec<u8> {
    of_sockets(family, 0, 1 << TCP_LISTEN, 0)
}

/// The body of a request for the connections of a family to a port of this host, with what TCP knows of each.
pub fn connections(family: Family, port: u16) -> Vec<u8> {
    of_sockets(family, 1 << (INET_DIAG_INFO - 1), (1 << TCP_ESTABLISHED) | (1 << TCP_CLOSE_WAIT), port)
}

/// `struct inet_diag_req_v2`
fn of_sockets(family: Family, extensions: u8, states: u32, port: u16) -> Vec<u8> {
    let number = match family {
        Family::Ipv4 => AF_INET,
        Family::Ipv6 => AF_INET6,
    };
    let mut body = vec![number, IPPROTO_TCP, extensions, 0];
    body.extend(states.to_ne_bytes());
    body.extend(port.to_be_bytes());
    body.resize(REQUEST, 0);
    body
}

/// A listener from the body of one answer, without its owners. None for what is no `struct inet_diag_msg`.
pub fn listener(body: &[u8]) -> Option<Listener> {
    let fixed: &[u8; ANSWER] = body.first_chunk()?;
    let address = source(fixed)?;
    let interface = word(fixed, INTERFACE)?;
    Some(Listener {
        address,
        port: u16::from_be_bytes(*fixed.get(SOURCE_PORT..)?.first_chunk()?),
        v6_only: address.is_ipv6()
            && attribute(body.get(ANSWER..)?, INET_DIAG_SKV6ONLY).is_some_and(|v| v.first() == Some(&1)),
        interface: (interface != 0).then_some(interface),
        inode: u64::from(word(fixed, INODE)?),
        queued: word(fixed, RQUEUE)?,
        backlog: word(fixed, WQUEUE)?,
        waits: None,
        owners: Seen::Absent,
        greeting: None,
    })
}

/// A connection that no program has taken yet, from the body of one answer to [`connections`]: its socket has no inode. One
/// that was made and on which nothing was sent has sent its last data when it was made (`tcp_create_openreq_child` of
/// net/ipv4/tcp_minisocks.c), and nobody can send on one that is not taken. So its age is known without having seen it before.
pub fn waiting(body: &[u8], port: u16) -> Option<Waiting> {
    let fixed: &[u8; ANSWER] = body.first_chunk()?;
    if word(fixed, INODE)? != 0 {
        return None;
    }
    let info = attribute(body.get(ANSWER..)?, INET_DIAG_INFO)?;
    let interface = word(fixed, INTERFACE)?;
    Some(Waiting {
        port,
        cookie: u64::from_ne_bytes(*fixed.get(COOKIE..)?.first_chunk()?),
        // A socket of IPv6 may take IPv4, too.
        local: source(fixed)?.to_canonical(),
        interface: (interface != 0).then_some(interface),
        age: word(info, LAST_DATA_SENT)?,
    })
}

fn source(fixed: &[u8; ANSWER]) -> Option<IpAddr> {
    match *fixed.first()? {
        AF_INET => Some(IpAddr::V4(Ipv4Addr::from(*fixed.get(SOURCE..)?.first_chunk::<4>()?))),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(*fixed.get(SOURCE..)?.first_chunk::<16>()?))),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn attribute(mut rest: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let this = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        if this == kind {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An answer of Linux 6.1 on x86-64 for sshd on [::]:22, as strace shows it.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![AF_INET6, 10, 0, 0, 0, 22, 0, 0];
        bytes.resize(ANSWER, 0);
        bytes[INTERFACE..INTERFACE + 4].copy_from_slice(&3u32.to_ne_bytes());
        bytes[RQUEUE..RQUEUE + 4].copy_from_slice(&2u32.to_ne_bytes());
        bytes[WQUEUE..WQUEUE + 4].copy_from_slice(&128u32.to_ne_bytes());
        bytes[INODE..INODE + 4].copy_from_slice(&4711u32.to_ne_bytes());
        for (kind, value) in [(8u16, 0u8), (INET_DIAG_SKV6ONLY, 1)] {
            bytes.extend(5u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([value, 0, 0, 0]);
        }
        bytes
    }

    #[test]
    fn an_answer_gives_a_listener() {
        let seen = listener(&answer()).expect("a listener");
        assert_eq!((seen.address, seen.port, seen.v6_only), (Ipv6Addr::UNSPECIFIED.into(), 22, true));
        assert_eq!((seen.interface, seen.inode, seen.queued, seen.backlog), (Some(3), 4711, 2, 128));
    }

    #[test]
    fn a_short_answer_gives_nothing() {
        assert_eq!(listener(&answer()[..ANSWER - 1]), None);
        assert_eq!(waiting(&connection(0)[..ANSWER + 40], 22), None);
    }

    /// An answer of Linux 6.18 for a connection to [::ffff:127.0.0.1]:22 that was made 4528 ms ago.
    fn connection(inode: u32) -> Vec<u8> {
        let mut bytes = vec![AF_INET6, 1, 0, 0, 0, 22, 0xea, 0x8a];
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1]);
        bytes.resize(ANSWER, 0);
        bytes[COOKIE..COOKIE + 8].copy_from_slice(&0x10ecu64.to_ne_bytes());
        bytes[INODE..INODE + 4].copy_from_slice(&inode.to_ne_bytes());
        bytes.extend([(4u16 + 60).to_ne_bytes(), INET_DIAG_INFO.to_ne_bytes()].concat());
        let mut info = [0; 60];
        info[LAST_DATA_SENT..LAST_DATA_SENT + 4].copy_from_slice(&4528u32.to_ne_bytes());
        bytes.extend(info);
        bytes
    }

    #[test]
    fn a_connection_that_nobody_has_taken_has_an_age() {
        let local = Ipv4Addr::LOCALHOST.into();
        assert_eq!(
            waiting(&connection(0), 22),
            Some(Waiting { port: 22, cookie: 0x10ec, local, interface: None, age: 4528 })
        );
        assert_eq!(waiting(&connection(526_275), 22), None, "it was taken");
    }

    #[test]
    fn a_request_names_the_port_and_the_states() {
        let body = connections(Family::Ipv6, 22);
        assert_eq!(body[..4], [AF_INET6, IPPROTO_TCP, 2, 0]);
        assert_eq!(body[4..8], 0x102u32.to_ne_bytes());
        assert_eq!((&body[8..10], body.len()), (&[0, 22][..], REQUEST));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (listener(&bytes), waiting(&bytes, 22));
        }
    }
}
