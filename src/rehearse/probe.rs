//! Asking the kernel: first packets in, what comes back.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use super::layout::Uplink;
use super::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Flow, Protocol, Reply, reply};
use crate::host::{Layer, Listen, RING, listen_tcp, pin};

/// What a client sees of its first packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// A connection with the listener on this port (not the one asked for, where the firewall leads it elsewhere); a datagram
    /// that arrived.
    Open(u16),
    /// The listener on this port sent its SYN-ACK, and the client's ACK of it was lost.
    HalfOpen(u16),
    /// A reset.
    Reset,
    /// An ICMP or ICMPv6 error: type and code.
    Icmp(u8, u8),
    /// Nothing.
    Silent,
}

impl Answer {
    pub fn is_open(self) -> bool {
        matches!(self, Answer::Open(_))
    }

    /// A fragment: `no answer`.
    pub fn words(self) -> String {
        match self {
            Answer::Open(port) => format!("answered by port {port}"),
            Answer::HalfOpen(port) => format!("answered by port {port}, which does not hear the client any more"),
            Answer::Reset => "a reset".to_owned(),
            Answer::Icmp(kind, code) => format!("icmp {kind}/{code}"),
            Answer::Silent => "no answer".to_owned(),
        }
    }
}

/// Listeners on every port that is asked about, so that what is not open is the firewall's doing.
#[derive(Debug)]
pub struct Listeners {
    tcp: Vec<(u16, Listen)>,
    udp: Vec<(u16, UdpSocket)>,
}

/// The MSS that the first listener announces; each further one announces one more, by which a SYN-ACK tells whose it is.
const FIRST_MSS: u16 = 600;
/// As many as stay below the MSS of the smallest link (1280 bytes for IPv6).
const LISTENERS: usize = 500;

impl Listeners {
    /// Listens on these ports of every address, both families, in the calling thread's namespace.
    pub fn open(tcp: &[u16], udp: &[u16]) -> io::Result<Listeners> {
        let mut listeners = Listeners { tcp: Vec::new(), udp: Vec::new() };
        for (place, &port) in tcp.iter().take(LISTENERS).enumerate() {
            listeners.tcp.push((port, listen_tcp(port, FIRST_MSS + place as u16)?));
        }
        for &port in udp {
            let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
            for address in any {
                // Where the IPv6 socket takes IPv4 as well, the second one finds the port in use.
                if let Ok(socket) = UdpSocket::bind(SocketAddr::new(address, port)) {
                    socket.set_nonblocking(true)?;
                    listeners.udp.push((port, socket));
                }
            }
        }
        Ok(listeners)
    }

    fn owner(&self, mss: Option<u16>, asked: u16) -> u16 {
        let place = mss.and_then(|m| m.checked_sub(FIRST_MSS)).map(usize::from);
        place.and_then(|p| self.tcp.get(p)).map_or(asked, |(port, _)| *port)
    }

    /// Marks the flows as open whose handshake has come to its end.
    fn connections(&self, answers: &mut HashMap<Flow, Answer>) -> io::Result<()> {
        for (port, listen) in &self.tcp {
            while let Some(peer) = listen.established()? {
                for (flow, answer) in answers.iter_mut() {
                    let same = flow.source == peer.ip() && flow.source_port == peer.port();
                    if same && *answer == Answer::HalfOpen(*port) {
                        *answer = Answer::Open(*port);
                    }
                }
            }
        }
        Ok(())
    }

    fn datagrams(&self, answers: &mut HashMap<Flow, Answer>) -> io::Result<()> {
        let mut buffer = [0u8; 64];
        for (port, socket) in &self.udp {
            loop {
                let (got, from) = match socket.recv_from(&mut buffer) {
                    Ok(got) => got,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                };
                let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                // The flow as it was sent, whatever the firewall made of its addresses: the payload begins with its port.
                let Some(&[high, low]) = buffer.get(..got).and_then(|b| b.first_chunk::<2>()) else { continue };
                let source_port = u16::from_be_bytes([high, low]);
                for (flow, answer) in answers.iter_mut() {
                    if flow.protocol == Protocol::Udp && flow.source_port == source_port && flow.source == from.ip() {
                        *answer = Answer::Open(*port);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Sends the first packet of each flow by `uplink`, ends the handshakes that are answered, and says what came of each, in the
/// order of `flows`.
///
/// A flow must differ from those asked before in this namespace (a new source port is enough): connection tracking
/// remembers.
pub fn ask(uplink: &mut Uplink, listeners: &Listeners, flows: &[Flow]) -> io::Result<Vec<Answer>> {
    pin()?;
    let mut all = Vec::with_capacity(flows.len());
    for batch in flows.chunks(RING / 2) {
        let mut answers: HashMap<Flow, Answer> = batch.iter().map(|f| (*f, Answer::Silent)).collect();
        for flow in batch {
            uplink.tun.send(flow.ethertype(), &framed(uplink, flow.first_packet()))?;
        }
        uplink.tun.fence()?;
        let mut answered = false;
        while let Some(frame) = uplink.tun.receive()? {
            let Some((flow, answer)) = unframed(uplink.layer, &frame).and_then(reply) else { continue };
            let Some(slot) = answers.get_mut(&flow).filter(|slot| **slot == Answer::Silent) else { continue };
            *slot = match answer {
                Reply::SynAck { mss, sequence } => {
                    let ack = flow.last_packet(sequence);
                    uplink.tun.send(flow.ethertype(), &framed(uplink, ack))?;
                    answered = true;
                    Answer::HalfOpen(listeners.owner(mss, flow.port))
                }
                Reply::Reset => Answer::Reset,
                Reply::Icmp { kind, code } => Answer::Icmp(kind, code),
            };
        }
        if answered {
            uplink.tun.fence()?;
            listeners.connections(&mut answers)?;
        }
        if batch.iter().any(|f| f.protocol == Protocol::Udp) {
            listeners.datagrams(&mut answers)?;
        }
        all.extend(batch.iter().map(|f| answers.get(f).copied().unwrap_or(Answer::Silent)));
    }
    Ok(all)
}

/// A locally administered address, as a router's.
const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

fn framed(uplink: &Uplink, packet: Vec<u8>) -> Vec<u8> {
    let six = packet.first().is_some_and(|b| b >> 4 == 6);
    match uplink.layer {
        Layer::Ip => packet,
        Layer::Ethernet => {
            let mut frame = Vec::with_capacity(14 + packet.len());
            frame.extend(uplink.mac);
            frame.extend(ROUTER);
            frame.extend((if six { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 }).to_be_bytes());
            frame.extend(packet);
            frame
        }
    }
}

fn unframed(layer: Layer, frame: &[u8]) -> Option<&[u8]> {
    match layer {
        Layer::Ip => Some(frame),
        Layer::Ethernet => {
            let protocol = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
            matches!(protocol, ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then(|| frame.get(14..))?
        }
    }
}
