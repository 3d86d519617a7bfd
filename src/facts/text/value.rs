//! Bytes of a register as the value that they stand for.

use crate::facts::Family;

/// What the bytes of a register mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Address(Family),
    Port,
    Protocol,
    Nfproto,
    IfName,
    /// A number in the host's order, shown in decimal.
    Host,
    /// The same, in hexadecimal.
    Mark,
    CtState,
    CtStatus,
    Direction,
    EtherType,
    Mac,
    IcmpType(Family),
    TcpFlags,
    PktType,
    AddrType,
    /// There, or not there.
    Presence,
    /// A big-endian number.
    Number,
    Raw,
}

const CT_STATE: [(u64, &str); 5] = [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
const CT_STATUS: [(u64, &str); 7] =
    [(1, "expected"), (2, "seen-reply"), (4, "assured"), (8, "confirmed"), (16, "snat"), (32, "dnat"), (512, "dying")];
const TCP_FLAGS: [(u64, &str); 8] =
    [(1, "fin"), (2, "syn"), (4, "rst"), (8, "psh"), (16, "ack"), (32, "urg"), (64, "ecn"), (128, "cwr")];

impl Kind {
    fn flags(self) -> Option<&'static [(u64, &'static str)]> {
        match self {
            Kind::CtState => Some(&CT_STATE),
            Kind::CtStatus => Some(&CT_STATUS),
            Kind::TcpFlags => Some(&TCP_FLAGS),
            _ => None,
        }
    }

    fn host_order(self) -> bool {
        matches!(self, Kind::Host | Kind::Mark | Kind::CtState | Kind::CtStatus | Kind::AddrType | Kind::Presence)
    }

    /// Whether its bytes stand in a register with the lightest first.
    pub fn little_endian(self, swapped: bool) -> bool {
        (self.host_order() && !swapped) && cfg!(target_endian = "little")
    }

    /// `swapped`: a number of the host's order that was made big-endian.
    pub fn show(self, bytes: &[u8], swapped: bool) -> String {
        let n = number(bytes, self.host_order() && !swapped);
        let named = |names: &[(u64, &str)]| names.iter().find(|(value, _)| Some(*value) == n).map(|n| n.1.to_owned());
        let plain = || n.map_or_else(|| hex(bytes), |n| n.to_string());
        let known = match self {
            Kind::Address(family) => address(family, bytes),
            Kind::Port | Kind::Host | Kind::Number => n.map(|n| n.to_string()),
            Kind::Protocol => n.and_then(|n| protocol(u8::try_from(n).ok()?)).map(str::to_owned),
            Kind::Nfproto => named(&[(2, "ipv4"), (10, "ipv6")]),
            Kind::IfName => Some(interface(bytes)),
            Kind::Mark => n.map(|n| format!("{n:#010x}")),
            Kind::CtState | Kind::CtStatus | Kind::TcpFlags => n.and_then(|n| flag_names(self, n)),
            Kind::Direction => named(&[(0, "original"), (1, "reply")]),
            Kind::EtherType => named(&[(0x0800, "ip"), (0x0806, "arp"), (0x8100, "vlan"), (0x86dd, "ip6")]),
            Kind::Mac => {
                let octets: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
                (bytes.len() == 6).then(|| octets.join(":"))
            }
            Kind::IcmpType(Family::Ipv4) => named(&[
                (0, "echo-reply"),
                (3, "destination-unreachable"),
                (5, "redirect"),
                (8, "echo-request"),
                (11, "time-exceeded"),
                (12, "parameter-problem"),
            ]),
            Kind::IcmpType(Family::Ipv6) => named(&[
                (1, "destination-unreachable"),
                (2, "packet-too-big"),
                (3, "time-exceeded"),
                (4, "parameter-problem"),
                (128, "echo-request"),
                (129, "echo-reply"),
                (133, "nd-router-solicit"),
                (134, "nd-router-advert"),
                (135, "nd-neighbor-solicit"),
                (136, "nd-neighbor-advert"),
            ]),
            Kind::PktType => named(&[(0, "host"), (1, "broadcast"), (2, "multicast"), (3, "other")]),
            Kind::AddrType => named(&[
                (1, "unicast"),
                (2, "local"),
                (3, "broadcast"),
                (4, "anycast"),
                (5, "multicast"),
                (6, "blackhole"),
                (7, "unreachable"),
                (8, "prohibit"),
            ]),
            Kind::Presence => Some(if n == Some(0) { "missing" } else { "exists" }.to_owned()),
            Kind::Raw => Some(hex(bytes)),
        };
        known.unwrap_or_else(plain)
    }

    /// Both ends included; a prefix where it is one.
    pub fn show_range(self, first: &[u8], last: &[u8], swapped: bool) -> String {
        if first == last {
            return self.show(first, swapped);
        }
        if let (Kind::Address(_), Some(length)) = (self, prefix_of_range(first, last)) {
            return format!("{}/{length}", self.show(first, swapped));
        }
        format!("{}-{}", self.show(first, swapped), self.show(last, swapped))
    }

    /// The names of the flags in a mask.
    pub fn show_mask(self, mask: &[u8], swapped: bool) -> Option<String> {
        self.flags()?;
        flag_names(self, number(mask, self.host_order() && !swapped)?)
    }
}

fn flag_names(kind: Kind, n: u64) -> Option<String> {
    let known = kind.flags()?;
    let names: Vec<&str> = known.iter().filter(|(bit, _)| n & bit != 0).map(|(_, name)| *name).collect();
    let all = known.iter().fold(0, |mask, (bit, _)| mask | bit);
    (n & !all == 0 && !names.is_empty()).then(|| names.join(","))
}

pub fn protocol(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        2 => "igmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        47 => "gre",
        50 => "esp",
        51 => "ah",
        58 => "ipv6-icmp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// Up to eight bytes as a number.
pub fn number(bytes: &[u8], host_order: bool) -> Option<u64> {
    if bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    let join = |n: u64, b: &u8| n << 8 | u64::from(*b);
    let little = host_order && cfg!(target_endian = "little");
    Some(if little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, b| text + &format!("{b:02x}"))
}

/// An address, or the leading bytes of a prefix.
fn address(family: Family, bytes: &[u8]) -> Option<String> {
    let width = family.bytes();
    if bytes.is_empty() || bytes.len() > width {
        return None;
    }
    let padded = bytes.iter().chain(std::iter::repeat(&0)).take(width);
    let address = family.address(padded.fold(0u128, |n, b| n << 8 | u128::from(*b)));
    Some(if bytes.len() < width { format!("{address}/{}", bytes.len() * 8) } else { address.to_string() })
}

/// A name of an interface: padded with NUL, or a prefix of names.
fn interface(bytes: &[u8]) -> String {
    let name = bytes.split(|&b| b == 0).next().unwrap_or_default();
    let star = if name.len() == bytes.len() && bytes.len() < 16 { "*" } else { "" };
    format!("\"{}{star}\"", String::from_utf8_lossy(name))
}

/// The length of a mask of leading ones.
pub fn prefix_of_mask(mask: &[u8]) -> Option<u32> {
    let ones: u32 = mask.iter().map(|b| b.count_ones()).sum();
    let leading = mask.iter().try_fold(0, |sum, b| match b {
        0xff => Ok(sum + 8),
        other => Err(sum + other.leading_ones()),
    });
    let leading = leading.unwrap_or_else(|sum| sum);
    (leading == ones).then_some(ones)
}

fn prefix_of_range(first: &[u8], last: &[u8]) -> Option<u32> {
    let mask: Vec<u8> = first.iter().zip(last).map(|(a, b)| !(a ^ b)).collect();
    let aligned = first.iter().zip(&mask).all(|(a, m)| a & !m == 0);
    let filled = last.iter().zip(&mask).all(|(b, m)| b | m == 0xff);
    prefix_of_mask(&mask).filter(|_| aligned && filled)
}
