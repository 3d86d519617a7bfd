//! What a load puts into a register. None: the load breaks the rule, which then does not match.

use super::bytes::{Byte, Var};
use super::flow::{Doubt, Packet, Phase, Tracking};
use super::route::{Routes, link};
use super::walk::Walk;
use crate::facts::{CtDir, CtKey, Family, FibResult, Hook, MetaKey, PayloadBase, TableFamily, fib_flags};

/// Bytes of a value, or why it is not known (with its length).
pub enum Loaded {
    Bytes(Vec<Byte>),
    /// As many bytes as the number says.
    Const([u8; 16], usize),
    /// A part of the packet's own headers, whose bytes [`byte`] gives.
    Header,
    Doubt(Doubt),
    Break,
}

fn constant(bytes: &[u8]) -> Loaded {
    let mut out = [0; 16];
    let len = bytes.len().min(out.len());
    out[..len].copy_from_slice(&bytes[..len]);
    Loaded::Const(out, len)
}

fn unknown(reason: &str) -> Loaded {
    Loaded::Doubt(Doubt::unknown(reason))
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const TCP: u8 = 6;
const ETHERNET: u16 = 1;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

pub fn tcp_flags(phase: Phase) -> u8 {
    match phase {
        Phase::Syn => SYN,
        Phase::SynAck => SYN | ACK,
        Phase::Ack => ACK,
        Phase::Solicit | Phase::Advertise => 0,
    }
}

fn var(var: Var, at: u8) -> Byte {
    Byte::Var { var, at, mask: 0xff, xor: 0 }
}

/// A number as the kernel keeps it: in the host's own order.
fn host_order(number: Var, width: u8) -> Loaded {
    let bytes: Vec<Byte> = (0..width).map(|at| var(number, at)).collect();
    Loaded::Bytes(if cfg!(target_endian = "little") { bytes.into_iter().rev().collect() } else { bytes })
}

fn source(at: usize) -> Byte {
    Byte::Source { at: at as u8, mask: 0xff, xor: 0 }
}

/// The host's end of the connection, `at` counted in its address.
fn server(packet: &Packet, at: usize) -> Byte {
    let bytes = packet.address.to_be_bytes();
    Byte::Const(bytes[16 - packet.family.bytes()..].get(at).copied().unwrap_or(0))
}

/// One byte of the network header; None where it is not known.
fn network(packet: &Packet, at: u32) -> Option<Byte> {
    let at = at as usize;
    let (src, dst) = if packet.inwards() { (true, false) } else { (false, true) };
    let address = |client: bool, at: usize| if client { source(at) } else { server(packet, at) };
    Some(match (packet.family, at) {
        (Family::Ipv4, 0) => Byte::Const(0x45),
        (Family::Ipv4, 1) => var(Var::TrafficClass, 0),
        (Family::Ipv4, 2 | 3) => var(Var::Length(Family::Ipv4), at as u8 - 2),
        // Clients set DF, and a handshake is never in fragments.
        (Family::Ipv4, 6) => Byte::Const(0x40),
        (Family::Ipv4, 7) => Byte::Const(0),
        (Family::Ipv4, 8) => var(Var::HopLimit, 0),
        (Family::Ipv4, 9) => Byte::Const(packet.protocol()),
        (Family::Ipv4, 12..16) => address(src, at - 12),
        (Family::Ipv4, 16..20) => address(dst, at - 16),
        // The version, and the first half of the traffic class.
        (Family::Ipv6, 0) => Byte::Var { var: Var::TrafficClass, at: 0, mask: 0x0f, xor: 0x60 },
        (Family::Ipv6, 4 | 5) => var(Var::PayloadLength, at as u8 - 4),
        (Family::Ipv6, 6) => Byte::Const(packet.protocol()),
        // Whoever forwards it takes one off (RFC 4861 7.1).
        (Family::Ipv6, 7) if packet.discovery().is_some() => Byte::Const(u8::MAX),
        (Family::Ipv6, 7) => var(Var::HopLimit, 0),
        (Family::Ipv6, 8..24) => address(src, at - 8),
        (Family::Ipv6, 24..40) => address(dst, at - 24),
        _ => return None,
    })
}

fn transport(packet: &Packet, at: u32) -> Option<Byte> {
    if let Some(kind) = packet.discovery() {
        return [kind, 0].get(at as usize).map(|byte| Byte::Const(*byte));
    }
    let [high, low] = packet.port.to_be_bytes();
    let client = |at: u8| var(Var::ClientPort, at);
    Some(match (packet.inwards(), at) {
        (true, 0 | 1) => client(at as u8),
        (true, 2) | (false, 0) => Byte::Const(high),
        (true, 3) | (false, 1) => Byte::Const(low),
        (false, 2 | 3) => client(at as u8 - 2),
        (_, 8..=11) if packet.phase == Phase::Syn => Byte::Const(0),
        (_, 14 | 15) => var(Var::Window, at as u8 - 14),
        (_, 13) => Byte::Const(tcp_flags(packet.phase)),
        // Checksum and urgent pointer: the latter is 0.
        (_, 18 | 19) => Byte::Const(0),
        _ => return None,
    })
}

/// One byte of the network or transport header; None where it is not known.
pub fn byte(packet: &Packet, base: PayloadBase, at: u32) -> Option<Byte> {
    if base == PayloadBase::Network { network(packet, at) } else { transport(packet, at) }
}

/// One byte counted from the IP header on: None beyond the TCP header, Some(None) where it is not known.
pub fn header(packet: &Packet, at: u32) -> Option<Option<Byte>> {
    const TCP_HEADER: u32 = 20;
    let ip = if packet.family == Family::Ipv4 { 20 } else { 40 };
    match at.checked_sub(ip) {
        None => Some(network(packet, at)),
        Some(at) if at < TCP_HEADER => Some(transport(packet, at)),
        Some(_) => None,
    }
}

impl Walk<'_> {
    pub fn payload(&self, packet: &Packet, hook: Hook, base: PayloadBase, offset: u32, len: u32) -> Loaded {
        match base {
            PayloadBase::Network | PayloadBase::Transport => {
                match (offset..offset.saturating_add(len.min(64))).all(|at| byte(packet, base, at).is_some()) {
                    true => Loaded::Header,
                    false => unknown("a field of the packet's headers that is not modelled"),
                }
            }
            PayloadBase::Link if !self.has_ethernet(packet, hook) => Loaded::Break,
            PayloadBase::Link if (offset, len) == (12, 2) => constant(&ethertype(packet.family).to_be_bytes()),
            PayloadBase::Link if (offset, len) == (0, 6) && packet.inwards() && packet.kind() == 0 => {
                let own = packet.iif.and_then(|i| link(self.net, i)).and_then(|l| l.mac);
                own.map_or_else(|| unknown("depends on the interface's link-layer address"), |mac| constant(&mac))
            }
            PayloadBase::Link => unknown("depends on the link-layer address of the last router"),
            PayloadBase::Inner | PayloadBase::Tunnel => unknown("matches on what the packet carries"),
        }
    }

    /// Whether the packet has an Ethernet header that rules can see here.
    pub fn has_ethernet(&self, packet: &Packet, hook: Hook) -> bool {
        let index = if packet.inwards() { packet.iif } else { packet.oif };
        let kind = index.and_then(|i| link(self.net, i)).map(|l| l.kind);
        (packet.inwards() || hook == Hook::Egress) && kind.unwrap_or(ETHERNET) == ETHERNET
    }

    /// The answer to a SYN is sent in the name of the listener's owner: only root may listen on a port below 1024.
    pub fn is_roots(&self) -> bool {
        self.path.port < 1024
    }

    /// IPS_*: seen-reply 2, assured 4, confirmed 8, dst-nat 32, and where there is nat: src-nat-done 128, dst-nat-done 256.
    pub fn status_bits(&self, packet: &Packet) -> u32 {
        let diverted = if packet.flow.diverted.is_some() { 0x20 } else { 0 };
        let new = packet.tracking == Tracking::New;
        let way = match packet.phase {
            _ if new => u32::from(self.past.confirm) * 8,
            Phase::Syn | Phase::Solicit | Phase::Advertise => 0,
            Phase::SynAck => 2 | 8,
            Phase::Ack => 2 | 4 | 8,
        };
        let done = match self.stack.first().map(|s| s.hook) {
            _ if !self.nat => 0,
            Some(Hook::Prerouting) if new => u32::from(self.past.nat) * 0x100,
            Some(Hook::Input) if new => 0x100 | (u32::from(self.past.nat) * 0x80),
            _ => 0x180,
        };
        diverted | way | done
    }

    pub fn meta(&self, packet: &Packet, hook: Hook, key: MetaKey) -> Loaded {
        let index = |index: Option<u32>| constant(&index.unwrap_or(0).to_ne_bytes());
        let name = |index: Option<u32>| {
            let name = index.map_or("", |i| self.interface_name(i));
            let mut padded = [0; 16];
            padded.iter_mut().zip(name.bytes()).for_each(|(slot, byte)| *slot = byte);
            Loaded::Const(padded, padded.len())
        };
        let of_link = |index: Option<u32>, field: fn(&crate::facts::Link) -> Loaded| {
            index.and_then(|i| link(self.net, i)).map_or(Loaded::Break, field)
        };
        let inside = matches!(hook, Hook::Input | Hook::Output | Hook::Postrouting | Hook::Egress);
        match key {
            MetaKey::Len if hook == Hook::Egress && self.has_ethernet(packet, hook) => {
                host_order(Var::FrameLength(packet.family), 4)
            }
            MetaKey::Len => host_order(Var::WideLength(packet.family), 4),
            MetaKey::Protocol => constant(&ethertype(packet.family).to_be_bytes()),
            MetaKey::Priority => unknown("depends on the packet's priority"),
            MetaKey::Mark => mark(packet.mark),
            // Only a VRF makes them differ from nothing.
            MetaKey::Sdif | MetaKey::SdifName if self.is_enslaved(packet) => unknown("depends on a VRF"),
            MetaKey::Sdif => index(None),
            MetaKey::SdifName => name(None),
            MetaKey::Iif => index(packet.iif),
            MetaKey::Oif => index(packet.oif),
            MetaKey::IifName => name(packet.iif),
            MetaKey::OifName => name(packet.oif),
            // That of the device that the packet is at: in OUTPUT it is at none yet.
            MetaKey::IifType => {
                let device = packet.iif.or(packet.oif.filter(|_| hook != Hook::Output));
                of_link(device, |l| constant(&l.kind.to_ne_bytes()))
            }
            MetaKey::OifType => of_link(packet.oif, |l| constant(&l.kind.to_ne_bytes())),
            MetaKey::IifGroup => of_link(packet.iif, |l| constant(&l.group.to_ne_bytes())),
            MetaKey::OifGroup => of_link(packet.oif, |l| constant(&l.group.to_ne_bytes())),
            MetaKey::IifKind => of_link(packet.iif, link_kind),
            MetaKey::OifKind => of_link(packet.oif, link_kind),
            // A packet that comes in has no socket before it is routed, and a SYN none after it.
            MetaKey::SkUid | MetaKey::SkGid | MetaKey::Cgroup
                if packet.inwards() && (packet.phase == Phase::Syn || hook != Hook::Input) =>
            {
                Loaded::Break
            }
            MetaKey::SkUid | MetaKey::SkGid if !packet.inwards() && self.is_roots() && packet.discovery().is_none() => {
                constant(&0u32.to_ne_bytes())
            }
            MetaKey::SkUid | MetaKey::SkGid | MetaKey::Cgroup => unknown("depends on the socket's owner"),
            MetaKey::Nftrace => constant(&[0]),
            MetaKey::RtClassid if !inside => Loaded::Break,
            MetaKey::RtClassid => unknown("depends on the route's realm"),
            MetaKey::Nfproto => match self.stack.last().map(|s| s.table.family) {
                Some(TableFamily::Netdev) => constant(&[TableFamily::Netdev.nfproto()]),
                _ => constant(&[if packet.family == Family::Ipv4 { 2 } else { 10 }]),
            },
            MetaKey::L4Proto => constant(&[packet.protocol()]),
            MetaKey::BriIifName | MetaKey::BriOifName => Loaded::Break,
            MetaKey::PktType => constant(&[packet.kind()]),
            MetaKey::Cpu => unknown("depends on the processor that takes the packet"),
            MetaKey::Prandom => Loaded::Doubt(Doubt::conditional("decided by chance")),
            MetaKey::Secpath => constant(&[0]),
            MetaKey::TimeNs | MetaKey::TimeDay | MetaKey::TimeHour => {
                Loaded::Doubt(Doubt::conditional("depends on the time of day"))
            }
            MetaKey::Other(_) => unknown("a packet property that is not modelled"),
        }
    }

    pub fn ct(&self, packet: &Packet, key: CtKey, dir: Option<CtDir>) -> Loaded {
        if key == CtKey::State {
            return constant(&state_bits(packet).to_ne_bytes());
        }
        if !packet.entry() {
            return Loaded::Break;
        }
        let client = || Loaded::Bytes((0..packet.family.bytes()).map(source).collect());
        let host = |address: u128| constant(&address.to_be_bytes()[16 - packet.family.bytes()..]);
        let client_port = || Loaded::Bytes(vec![var(Var::ClientPort, 0), var(Var::ClientPort, 1)]);
        let (address, port) = packet.flow.answers_from();
        let original = dir != Some(CtDir::Reply);
        match (key, packet.family) {
            (CtKey::Direction, _) => constant(&[u8::from(packet.phase == Phase::SynAck)]),
            (CtKey::Status, _) => constant(&self.status_bits(packet).to_ne_bytes()),
            (CtKey::Mark, _) => mark(packet.flow.mark),
            (CtKey::Secmark, _) => constant(&[0; 4]),
            (CtKey::L3Protocol, family) => constant(&[if family == Family::Ipv4 { 2 } else { 10 }]),
            (CtKey::Protocol, _) => constant(&[TCP]),
            (CtKey::Zone, _) => constant(&packet.flow.zone.to_ne_bytes()),
            (CtKey::Src | CtKey::SrcIp, Family::Ipv4) | (CtKey::Src | CtKey::SrcIp6, Family::Ipv6) if original => {
                client()
            }
            (CtKey::Dst | CtKey::DstIp, Family::Ipv4) | (CtKey::Dst | CtKey::DstIp6, Family::Ipv6) if original => {
                host(packet.flow.address)
            }
            (CtKey::Src | CtKey::SrcIp, Family::Ipv4) | (CtKey::Src | CtKey::SrcIp6, Family::Ipv6) => host(address),
            (CtKey::Dst | CtKey::DstIp, Family::Ipv4) | (CtKey::Dst | CtKey::DstIp6, Family::Ipv6) => client(),
            (CtKey::ProtoSrc, _) if original => client_port(),
            (CtKey::ProtoDst, _) if original => constant(&packet.flow.port.to_be_bytes()),
            (CtKey::ProtoSrc, _) => constant(&port.to_be_bytes()),
            (CtKey::ProtoDst, _) => client_port(),
            (CtKey::SrcIp | CtKey::DstIp, Family::Ipv6) | (CtKey::SrcIp6 | CtKey::DstIp6, Family::Ipv4) => {
                Loaded::Break
            }
            // It tells the helper of the connection that announced this one: nobody has.
            (CtKey::Helper, _) => Loaded::Break,
            (CtKey::Labels, _) => unknown("depends on conntrack labels"),
            (CtKey::Pkts | CtKey::Bytes | CtKey::Avgpkt | CtKey::Expiration, _) => {
                Loaded::Doubt(Doubt::conditional("depends on the flow's age or traffic"))
            }
            _ => unknown("a conntrack property that is not modelled"),
        }
    }

    /// The value is the same for each of these sets of sources.
    pub fn fib(
        &self,
        packet: &Packet,
        routes: &Routes,
        flags: u32,
        result: &FibResult,
    ) -> Vec<(crate::facts::AddrSet, Loaded)> {
        use crate::facts::AddrSet;
        let all = || AddrSet::full(packet.family);
        if !routes.known || self.net.policy_routing {
            return vec![(all(), unknown("depends on routes by rule"))];
        }
        let of_client = (flags & fib_flags::SADDR != 0) == packet.inwards();
        let device = match () {
            () if flags & fib_flags::IIF != 0 => packet.iif,
            () if flags & fib_flags::OIF != 0 => packet.oif,
            () => None,
        };
        match result {
            FibResult::AddrType if of_client => {
                let types = routes.source_types(packet.family);
                types.into_iter().map(|(kind, set)| (set, constant(&u32::from(kind).to_ne_bytes()))).collect()
            }
            FibResult::AddrType => {
                let kind = match device {
                    Some(index) if routes.is_own(packet.address) && !self.owns(index, packet.address) => 1,
                    _ => routes.address_type(packet.family, packet.address),
                };
                vec![(all(), constant(&u32::from(kind).to_ne_bytes()))]
            }
            FibResult::Oif | FibResult::OifName if of_client => {
                let value = |index: u32| self.fib_interface(index, flags, result);
                let mut left = all();
                let mut out = Vec::new();
                for (sources, interfaces) in routes.back() {
                    let taken = match device {
                        Some(device) => Some(device).filter(|d| interfaces.contains(d)),
                        None => interfaces.first().copied(),
                    };
                    let Some(taken) = taken else { continue };
                    left.subtract(sources);
                    out.push((sources.clone(), value(taken)));
                }
                out.push((left, value(0)));
                out
            }
            // A lookup of the host's own address gives no interface.
            FibResult::Oif | FibResult::OifName => vec![(all(), self.fib_interface(0, flags, result))],
            FibResult::Unknown(_) => vec![(all(), unknown("a fib lookup that is not modelled"))],
        }
    }

    fn fib_interface(&self, index: u32, flags: u32, result: &FibResult) -> Loaded {
        if flags & fib_flags::PRESENT != 0 {
            return constant(&[u8::from(index != 0)]);
        }
        match result {
            FibResult::OifName => {
                let mut name = if index == 0 { Vec::new() } else { self.interface_name(index).as_bytes().to_vec() };
                name.resize(16, 0);
                constant(&name)
            }
            _ => constant(&index.to_ne_bytes()),
        }
    }

    pub fn interface_name(&self, index: u32) -> &str {
        link(self.net, index).map_or(&self.path.interface, |l| &l.name)
    }

    fn is_enslaved(&self, packet: &Packet) -> bool {
        packet.iif.and_then(|i| link(self.net, i)).is_some_and(|l| l.master.is_some())
    }

    pub fn owns(&self, interface: u32, address: u128) -> bool {
        let addresses = self.net.addresses.present();
        addresses.into_iter().flatten().any(|a| a.interface == interface && crate::facts::number(a.address) == address)
    }
}

fn link_kind(link: &crate::facts::Link) -> Loaded {
    match &link.driver {
        Some(kind) => {
            let mut bytes = kind.clone().into_bytes();
            bytes.resize(16, 0);
            constant(&bytes)
        }
        None => Loaded::Break,
    }
}

fn mark(mark: Option<u32>) -> Loaded {
    mark.map_or_else(|| unknown("depends on a mark that is not known"), |m| constant(&m.to_ne_bytes()))
}

fn ethertype(family: Family) -> u16 {
    if family == Family::Ipv4 { ETH_P_IP } else { ETH_P_IPV6 }
}

/// NF_CT_STATE_* as nf_tables has them: invalid 1, established 2, related 4, new 8, untracked 64.
fn state_bits(packet: &Packet) -> u32 {
    match packet.tracking {
        Tracking::None => 1,
        Tracking::Established => 2,
        Tracking::New | Tracking::Template => 8,
        Tracking::Untracked => 64,
    }
}
