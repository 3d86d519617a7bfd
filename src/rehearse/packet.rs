//! First packets as a client sends them, and what a host answers (RFC 791, 8200, 9293, 768, 792, 4443). Pure.

use std::net::IpAddr;

use crate::facts::Family;

/// EtherTypes.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// Who asks whom: source and destination with their ports. Both addresses are of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flow {
    pub protocol: Protocol,
    pub source: IpAddr,
    pub source_port: u16,
    pub target: IpAddr,
    pub port: u16,
}

impl Flow {
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    pub fn ethertype(&self) -> u16 {
        match self.family() {
            Family::Ipv4 => ETHERTYPE_IPV4,
            Family::Ipv6 => ETHERTYPE_IPV6,
        }
    }

    /// The first packet of the flow: a SYN with the options that Linux sends, or a UDP datagram of four bytes.
    pub fn first_packet(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::Tcp => self.packet(6, syn(self), 16),
            Protocol::Udp => self.packet(17, datagram(self), 6),
        }
    }

    /// The client's ACK of a SYN-ACK with this sequence number, which ends the handshake.
    pub fn last_packet(&self, server: u32) -> Vec<u8> {
        self.packet(6, ack(self, server), 16)
    }

    fn packet(&self, number: u8, mut segment: Vec<u8>, checksum_at: usize) -> Vec<u8> {
        let sum = checksum(pseudo_header(self, number, segment.len()), &segment);
        // RFC 768: zero means that there is none.
        let sum = if sum == 0 && self.protocol == Protocol::Udp { 0xffff } else { sum };
        segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut packet = match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let length = (20 + segment.len()) as u16;
                let mut header = vec![0x45, 0];
                header.extend(length.to_be_bytes());
                // Identification; don't fragment; 60 hops left.
                header.extend(self.source_port.to_be_bytes());
                header.extend([0x40, 0, 60, number, 0, 0]);
                header.extend(source.octets());
                header.extend(target.octets());
                let sum = checksum(0, &header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (source, target) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend((segment.len() as u16).to_be_bytes());
                header.extend([number, 60]);
                header.extend(octets(source));
                header.extend(octets(target));
                header
            }
        };
        packet.extend(segment);
        packet
    }
}

/// The client's first sequence number.
fn sequence(flow: &Flow) -> u32 {
    0x0102_0304u32.wrapping_mul(u32::from(flow.source_port) | 1)
}

fn ack(flow: &Flow, server: u32) -> Vec<u8> {
    let mut segment = Vec::with_capacity(20);
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.port.to_be_bytes());
    segment.extend(sequence(flow).wrapping_add(1).to_be_bytes());
    segment.extend(server.wrapping_add(1).to_be_bytes());
    // Five words of header, ACK, window, checksum and urgent pointer.
    segment.extend([0x50, 0x10, 0xfa, 0xf0, 0, 0, 0, 0]);
    segment
}

fn syn(flow: &Flow) -> Vec<u8> {
    let mut segment = Vec::with_capacity(40);
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.port.to_be_bytes());
    segment.extend(sequence(flow).to_be_bytes());
    segment.extend(0u32.to_be_bytes());
    // Ten words of header, SYN, window, checksum and urgent pointer.
    segment.extend([0xa0, 0x02, 0xfa, 0xf0, 0, 0, 0, 0]);
    // MSS 1460, SACK permitted, timestamps, no-operation, window scale 7.
    segment.extend([2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
    segment
}

fn datagram(flow: &Flow) -> Vec<u8> {
    let mut segment = Vec::with_capacity(12);
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend(flow.port.to_be_bytes());
    segment.extend(12u16.to_be_bytes());
    segment.extend([0, 0]);
    segment.extend(flow.source_port.to_be_bytes());
    segment.extend([0, 0]);
    segment
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn pseudo_header(flow: &Flow, number: u8, length: usize) -> u64 {
    add(0, &octets(flow.source)) + add(0, &octets(flow.target)) + u64::from(number) + length as u64
}

fn add(sum: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        sum + u64::from(u16::from_be_bytes([pair[0], low]))
    })
}

/// RFC 1071, starting from `sum`.
fn checksum(sum: u64, bytes: &[u8]) -> u16 {
    let mut sum = add(sum, bytes);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet that left the host, as far as it answers a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// SYN and ACK, with the MSS option's value and the sequence number.
    SynAck {
        mss: Option<u16>,
        sequence: u32,
    },
    Reset,
    /// An ICMP or ICMPv6 error with its type and code.
    Icmp {
        kind: u8,
        code: u8,
    },
}

/// Reads a packet that left the host: which flow it answers (as the client sent it), and how. None for anything else.
pub fn reply(packet: &[u8]) -> Option<(Flow, Reply)> {
    let ip = Ip::parse(packet)?;
    match ip.number {
        6 => {
            let flow = turned(&ip, Protocol::Tcp)?;
            let flags = *ip.payload.get(13)?;
            if flags & 0x04 != 0 {
                return Some((flow, Reply::Reset));
            }
            let sequence = u32::from_be_bytes(ip.payload.get(4..8)?.try_into().ok()?);
            (flags & 0x12 == 0x12).then(|| (flow, Reply::SynAck { mss: mss(ip.payload), sequence }))
        }
        // Destination unreachable and time exceeded carry the packet that they are about.
        1 if matches!(ip.payload.first()?, 3 | 11) => error(&ip),
        58 if matches!(ip.payload.first()?, 1..=4) => error(&ip),
        _ => None,
    }
}

fn error(ip: &Ip<'_>) -> Option<(Flow, Reply)> {
    let (kind, code) = (*ip.payload.first()?, *ip.payload.get(1)?);
    let about = Ip::parse(ip.payload.get(8..)?)?;
    let protocol = match about.number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return None,
    };
    let flow = Flow {
        protocol,
        source: about.source,
        source_port: port(about.payload, 0)?,
        target: about.target,
        port: port(about.payload, 2)?,
    };
    Some((flow, Reply::Icmp { kind, code }))
}

fn turned(ip: &Ip<'_>, protocol: Protocol) -> Option<Flow> {
    Some(Flow {
        protocol,
        source: ip.target,
        source_port: port(ip.payload, 2)?,
        target: ip.source,
        port: port(ip.payload, 0)?,
    })
}

fn port(segment: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(segment.get(at..at + 2)?.try_into().ok()?))
}

fn mss(segment: &[u8]) -> Option<u16> {
    let length = usize::from(segment.get(12)? >> 4) * 4;
    let mut options = segment.get(20..length)?;
    loop {
        match options {
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [1, rest @ ..] => options = rest,
            [0, ..] | [] | [_] => return None,
            [_, size, ..] => options = options.get(usize::from(*size).max(2)..)?,
        }
    }
}

struct Ip<'a> {
    source: IpAddr,
    target: IpAddr,
    number: u8,
    payload: &'a [u8],
}

impl Ip<'_> {
    fn parse(packet: &[u8]) -> Option<Ip<'_>> {
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet[0] & 15) * 4;
                let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
                let target: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
                Some(Ip {
                    source: source.into(),
                    target: target.into(),
                    number: *packet.get(9)?,
                    payload: packet.get(header.max(20)..)?,
                })
            }
            6 => {
                let source: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
                let target: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
                Some(Ip {
                    source: source.into(),
                    target: target.into(),
                    number: *packet.get(6)?,
                    payload: packet.get(40..)?,
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow(source: &str, target: &str, protocol: Protocol) -> Flow {
        let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
        Flow { protocol, source, source_port: 40000, target, port: 22 }
    }

    #[test]
    fn checksums_add_up_to_all_ones() {
        for (source, target) in [("198.51.100.7", "192.0.2.10"), ("2001:db8::7", "2001:db8:1::10")] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let flow = flow(source, target, protocol);
                let packet = flow.first_packet();
                let ip = Ip::parse(&packet).unwrap();
                assert_eq!((ip.source, ip.target), (flow.source, flow.target));
                assert_eq!(checksum(pseudo_header(&flow, ip.number, ip.payload.len()), ip.payload), 0);
                if flow.family() == Family::Ipv4 {
                    assert_eq!(checksum(0, &packet[..20]), 0);
                }
            }
        }
    }

    #[test]
    fn an_icmp_error_names_the_flow_that_it_is_about() {
        let flow = flow("198.51.100.7", "192.0.2.10", Protocol::Udp);
        let mut packet =
            vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0, 192, 0, 2, 10, 198, 51, 100, 7, 3, 13, 0, 0, 0, 0, 0, 0];
        packet.extend(flow.first_packet());
        assert_eq!(reply(&packet), Some((flow, Reply::Icmp { kind: 3, code: 13 })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..120), first in 0usize..3) {
            let mut bytes = bytes;
            if let Some(head) = bytes.first_mut() {
                *head = [0x45, 0x60, *head][first];
            }
            let _ = reply(&bytes);
        }
    }
}
