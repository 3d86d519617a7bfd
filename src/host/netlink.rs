//! Netlink to nf_tables and its neighbours (netlink(7), linux/netfilter/nfnetlink.h): whole messages in and out, undecoded.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt, sockopt,
};
use thiserror::Error;

pub const NFNL_SUBSYS_IPSET: u8 = 6;
pub const NFNL_SUBSYS_NFTABLES: u8 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_BATCH_GENID: u16 = 1;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Bytes of `struct nlmsghdr`.
pub const NETLINK_HEADER: usize = 16;
/// Largest message that is read; the kernel fills at most 64 KiB of a dump at once.
const BUFFER: usize = 256 << 10;
/// A batch is one datagram: fifty thousand rules are some 30 MiB.
const SEND_BUFFER: usize = 256 << 20;
const RECEIVE_BUFFER: usize = 16 << 20;
pub(super) const ANSWER: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum NetlinkError {
    #[error("{action} netlink")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the kernel does not answer on netlink")]
    Silent,
    #[error("the kernel's answer was changed while it was read")]
    Interrupted,
    /// The generation that the batch was bound to is gone: somebody else changed the rules.
    #[error("the rules were changed by somebody else in the meantime")]
    Overtaken,
    #[error("the kernel refuses message {index}")]
    Refused {
        /// Of the batch's messages, from 0; of a single request 0.
        index: usize,
        #[source]
        source: io::Error,
    },
}

/// One message of a batch or a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Subsystem in the high byte, message in the low one.
    pub kind: u16,
    /// Besides NLM_F_REQUEST.
    pub flags: u16,
    /// All that follows `struct nlmsghdr`.
    pub body: Vec<u8>,
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    /// One datagram of the kernel's.
    buffer: Vec<u8>,
}

impl Netlink {
    pub fn netfilter() -> Result<Netlink, NetlinkError> {
        Netlink::open(SockProtocol::NetlinkNetFilter)
    }

    /// A NETLINK_SOCK_DIAG socket (sock_diag(7)).
    pub fn sock_diag() -> Result<Netlink, NetlinkError> {
        Netlink::open(SockProtocol::NetlinkSockDiag)
    }

    fn open(protocol: SockProtocol) -> Result<Netlink, NetlinkError> {
        let io = |action| move |e| NetlinkError::Io { action, source: io::Error::from(e) };
        let socket = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            protocol,
        )
        .map_err(io("open"))?;
        socket::bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(io("bind"))?;
        // Without CAP_NET_ADMIN the default sizes must do.
        let _ = setsockopt(&socket, sockopt::SndBufForce, &SEND_BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
        Ok(Netlink { socket, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// Every message of a dump, whole, header included.
    pub fn dump(&mut self, request: &Message) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.ask(request, NLM_F_DUMP)
    }

    /// The answer to a request that is not a dump: every message of it, whole, header included.
    pub fn request(&mut self, request: &Message) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.ask(request, NLM_F_ACK)
    }

    /// A dump ends with NLMSG_DONE, any other answer with its acknowledgement.
    fn ask(&mut self, request: &Message, flags: u16) -> Result<Vec<Vec<u8>>, NetlinkError> {
        self.sequence += 1;
        let bytes = framed(request, request.flags | flags, self.sequence);
        self.send(&bytes)?;
        let mut messages = Vec::new();
        loop {
            for message in self.receive()? {
                let header = Header::of(&message);
                if header.sequence != self.sequence {
                    continue;
                }
                if header.flags & NLM_F_DUMP_INTR != 0 {
                    return Err(NetlinkError::Interrupted);
                }
                match i32::from(header.kind) {
                    libc::NLMSG_DONE => return Ok(messages),
                    libc::NLMSG_ERROR => return refused(0, &message).map(|()| messages),
                    _ => messages.push(message),
                }
            }
        }
    }

    /// Commits all messages or none. With `generation` the kernel refuses the batch if the rules are not of that generation
    /// any more.
    pub fn batch(&mut self, generation: Option<u32>, messages: &[Message]) -> Result<(), NetlinkError> {
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        let begin = self.sequence + 1;
        let mut bytes = Vec::new();
        let mut add = |message: &Message, flags, sequence: &mut u32| {
            *sequence += 1;
            bytes.extend(framed(message, flags, *sequence));
        };
        add(&bound(NFNL_MSG_BATCH_BEGIN, generation), 0, &mut self.sequence);
        for (index, message) in messages.iter().enumerate() {
            let ack = if index == last { NLM_F_ACK } else { 0 };
            add(message, message.flags | ack, &mut self.sequence);
        }
        let end = self.sequence;
        add(&bound(NFNL_MSG_BATCH_END, None), 0, &mut self.sequence);
        self.send(&bytes)?;
        let mut first = Ok(());
        loop {
            for message in self.receive()? {
                let header = Header::of(&message);
                let about = header.sequence;
                if i32::from(header.kind) != libc::NLMSG_ERROR || !(begin..=end + 1).contains(&about) {
                    continue;
                }
                let index = (about - begin).saturating_sub(1) as usize;
                let answer = refused(index, &message);
                if about == begin
                    && let Err(NetlinkError::Refused { source, .. }) = &answer
                {
                    let overtaken = source.raw_os_error() == Some(ERESTART);
                    return if overtaken { Err(NetlinkError::Overtaken) } else { answer };
                }
                if first.is_ok() {
                    first = answer;
                }
                if about == end {
                    return first;
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let sent = socket::send(self.socket.as_raw_fd(), bytes, MsgFlags::empty());
        sent.map(drop).map_err(|e| NetlinkError::Io { action: "write to", source: e.into() })
    }

    /// The messages of one datagram.
    fn receive(&mut self) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let io = |e: nix::Error| NetlinkError::Io { action: "read from", source: e.into() };
        let mut wait = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut wait, PollTimeout::try_from(ANSWER).unwrap_or(PollTimeout::MAX)).map_err(io)?;
        if ready == 0 {
            return Err(NetlinkError::Silent);
        }
        let got = socket::recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()).map_err(io)?;
        Ok(split(self.buffer.get(..got).unwrap_or_default()))
    }
}

/// `ERESTART` of the kernel's own numbers, which libc does not name on every platform.
const ERESTART: i32 = 85;

/// The begin or end of a batch.
fn bound(kind: u16, generation: Option<u32>) -> Message {
    let [high, low] = u16::from(NFNL_SUBSYS_NFTABLES).to_be_bytes();
    let mut body = vec![0, 0, high, low];
    if let Some(generation) = generation {
        body.extend(8u16.to_ne_bytes());
        body.extend(NFNL_BATCH_GENID.to_ne_bytes());
        body.extend(generation.to_be_bytes());
    }
    Message { kind, flags: 0, body }
}

fn framed(message: &Message, flags: u16, sequence: u32) -> Vec<u8> {
    let length = NETLINK_HEADER + message.body.len();
    let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(message.kind.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend(&message.body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl Header {
    /// Of a message that [`split`] gave, which is never shorter than a header.
    fn of(message: &[u8]) -> Header {
        let at = |range: std::ops::Range<usize>| message.get(range).unwrap_or_default();
        Header {
            kind: u16::from_ne_bytes(at(4..6).try_into().unwrap_or_default()),
            flags: u16::from_ne_bytes(at(6..8).try_into().unwrap_or_default()),
            sequence: u32::from_ne_bytes(at(8..12).try_into().unwrap_or_default()),
        }
    }
}

/// The messages of a datagram; what does not fit into it is left out.
pub(super) fn split(datagram: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut rest = datagram;
    while let Some(length) = rest.first_chunk().map(|l| u32::from_ne_bytes(*l) as usize) {
        let Some(message) = rest.get(..length).filter(|m| m.len() >= NETLINK_HEADER) else { break };
        messages.push(message.to_vec());
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// The error that an NLMSG_ERROR message carries; 0 is success.
fn refused(index: usize, message: &[u8]) -> Result<(), NetlinkError> {
    let code = message.get(NETLINK_HEADER..NETLINK_HEADER + 4).and_then(|b| b.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        code => {
            let number = code.unwrap_or(-libc::EPROTO).saturating_neg();
            Err(NetlinkError::Refused { index, source: io::Error::from_raw_os_error(number) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_are_split_as_they_were_framed() {
        let one = Message { kind: 0x0a00, flags: 4, body: vec![1, 2, 3] };
        let two = Message { kind: 3, flags: 0, body: vec![0; 8] };
        let bytes = [framed(&one, 4, 7), framed(&two, 0, 8)].concat();
        let split = split(&bytes);
        assert_eq!(split.iter().map(|m| m.len()).collect::<Vec<_>>(), [19, 24]);
        let header = Header::of(&split[0]);
        assert_eq!((header.kind, header.flags, header.sequence), (0x0a00, 5, 7));
    }

    proptest! {
        #[test]
        fn any_datagram_is_split_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in split(&bytes) {
                let _ = refused(0, &message);
            }
        }
    }
}
