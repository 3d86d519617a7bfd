//! Listening sockets as sock_diag(7) reports them (linux/inet_diag.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::facts::{Family, Listener, Seen};

/// Kind of a request for, and of each answer of, one address family.
pub const SOCK_DIAG_BY_FAMILY: u16 = 20;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u32 = 10;
const INET_DIAG_SKV6ONLY: u16 = 11;
/// Bytes of `struct inet_diag_req_v2`, and of `struct inet_diag_msg`.
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// Where `struct inet_diag_sockid` stands in an answer.
const SOURCE_PORT: usize = 4;
const SOURCE: usize = 8;
const INTERFACE: usize = 40;
const RQUEUE: usize = 56;
const WQUEUE: usize = 60;
const INODE: usize = 68;

/// The body of a request for all listening TCP sockets of a family.
pub fn request(family: Family) -> Vec<u8> {
    let number = match family {
        Family::Ipv4 => AF_INET,
        Family::Ipv6 => AF_INET6,
    };
    let mut body = vec![number, IPPROTO_TCP, 0, 0];
    body.extend((1u32 << TCP_LISTEN).to_ne_bytes());
    body.resize(REQUEST, 0);
    body
}

/// A listener from the body of one answer, without its owners. None for what is no `struct inet_diag_msg`.
pub fn listener(body: &[u8]) -> Option<Listener> {
    let fixed: &[u8; ANSWER] = body.first_chunk()?;
    let address = match *fixed.first()? {
        AF_INET => IpAddr::V4(Ipv4Addr::from(*fixed.get(SOURCE..)?.first_chunk::<4>()?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(*fixed.get(SOURCE..)?.first_chunk::<16>()?)),
        _ => return None,
    };
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
        owners: Seen::Absent,
        greeting: None,
    })
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
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = listener(&bytes);
        }
    }
}
