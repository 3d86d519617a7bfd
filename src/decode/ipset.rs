//! ipsets (linux/netfilter/ipset/ip_set.h) from the answers to IPSET_CMD_LIST.

use super::nlattr::Attributes;
use crate::facts::{Family, IpSet, IpSetMember};

/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADERS: usize = 20;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const IPSET_ATTR_PROTOCOL: u16 = 1;
const IPSET_ATTR_SETNAME: u16 = 2;
const IPSET_ATTR_TYPENAME: u16 = 3;
const IPSET_ATTR_FAMILY: u16 = 5;
const IPSET_ATTR_DATA: u16 = 7;
const IPSET_ATTR_ADT: u16 = 8;
const IPSET_ATTR_INDEX: u16 = 11;

const IPSET_ATTR_IP: u16 = 1;
const IPSET_ATTR_IP_TO: u16 = 2;
const IPSET_ATTR_CIDR: u16 = 3;
const IPSET_ATTR_PORT: u16 = 4;
const IPSET_ATTR_PORT_TO: u16 = 5;
const IPSET_ATTR_TIMEOUT: u16 = 6;
const IPSET_ATTR_PROTO: u16 = 7;
const IPSET_ATTR_CADT_FLAGS: u16 = 8;
const IPSET_ATTR_MARK: u16 = 10;
const IPSET_ATTR_MARKMASK: u16 = 11;
const IPSET_ATTR_BITMASK: u16 = 12;
const IPSET_ATTR_ETHER: u16 = 17;
const IPSET_ATTR_NAME: u16 = 18;
/// Of a set's own data, where the types below 17 to 20 mean other things than in a member's.
const IPSET_ATTR_NETMASK: u16 = 20;
const IPSET_ATTR_IP2: u16 = 20;
const IPSET_ATTR_CIDR2: u16 = 21;
const IPSET_ATTR_IP2_TO: u16 = 22;
const IPSET_ATTR_IFACE: u16 = 23;

const IPSET_FLAG_PHYSDEV: u32 = 2;
const IPSET_FLAG_NOMATCH: u32 = 4;
const IPSET_FLAG_IFACE_WILDCARD: u32 = 1 << 7;

/// The protocol that tells a set's number with it.
const IPSET_PROTOCOL: u8 = 7;

/// The body of a request of IPSET_CMD_LIST for all sets.
pub fn list_request() -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0];
    body.extend(5u16.to_ne_bytes());
    body.extend(IPSET_ATTR_PROTOCOL.to_ne_bytes());
    body.extend([IPSET_PROTOCOL, 0, 0, 0]);
    body
}

/// A set is told in one message or in several, of which only the first has its type. None where one has no number.
pub fn sets(messages: &[Vec<u8>]) -> Option<Vec<IpSet>> {
    let mut sets: Vec<(IpSet, Shape)> = Vec::new();
    for message in messages {
        let attributes = Attributes(message.get(HEADERS..).unwrap_or_default());
        let Some(name) = attributes.text(IPSET_ATTR_SETNAME) else { continue };
        if let Some(type_name) = attributes.text(IPSET_ATTR_TYPENAME) {
            let index = u16::from_be_bytes(*attributes.get(IPSET_ATTR_INDEX)?.first_chunk()?);
            let shape = shape(&type_name, attributes.nested(IPSET_ATTR_DATA).unwrap_or(Attributes(&[])));
            let set = IpSet {
                name: name.clone(),
                index,
                type_name,
                family: match attributes.u8(IPSET_ATTR_FAMILY) {
                    Some(AF_INET) => Some(Family::Ipv4),
                    Some(AF_INET6) => Some(Family::Ipv6),
                    _ => None,
                },
                members: Vec::new(),
                opaque: shape.opaque.clone(),
            };
            sets.push((set, shape));
        }
        let Some((set, shape)) = sets.last_mut().filter(|(set, _)| set.name == name) else { continue };
        for (_, data) in attributes.nested(IPSET_ATTR_ADT).into_iter().flatten() {
            match member(shape, Attributes(data)) {
                Ok(member) => set.members.push(member),
                Err(why) => drop(set.opaque.get_or_insert_with(|| why.to_owned())),
            }
        }
    }
    Some(sets.into_iter().map(|(set, _)| set).collect())
}

/// What a member of the set is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Address,
    Address2,
    Port,
    Interface,
    Mark,
    Mac,
    Set,
}

struct Shape {
    parts: Vec<Part>,
    /// The length of the prefix to which addresses are cut before they are looked for.
    netmask: Option<u8>,
    opaque: Option<String>,
}

fn shape(type_name: &str, data: Attributes<'_>) -> Shape {
    let (method, fields) = type_name.split_once(':').unwrap_or((type_name, ""));
    let mut parts = Vec::new();
    let mut known = matches!(method, "hash" | "bitmap" | "list");
    for field in fields.split(',') {
        parts.push(match field {
            "ip" | "net" if parts.contains(&Part::Address) => Part::Address2,
            "ip" | "net" => Part::Address,
            "port" => Part::Port,
            "iface" => Part::Interface,
            "mark" => Part::Mark,
            "mac" => Part::Mac,
            "set" => Part::Set,
            _ => {
                known = false;
                continue;
            }
        });
    }
    let netmask = data.u8(IPSET_ATTR_NETMASK);
    let opaque = if !known {
        Some(format!("sets of type {type_name} are not understood"))
    } else if data.get(IPSET_ATTR_BITMASK).is_some() {
        Some("it compares addresses under a bit mask".to_owned())
    } else if netmask.is_some() && parts.contains(&Part::Address2) {
        Some("it cuts two addresses to a prefix".to_owned())
    } else if data.u32(IPSET_ATTR_MARKMASK).is_some_and(|mask| mask != u32::MAX) {
        Some("it compares marks under a mask".to_owned())
    } else {
        None
    };
    Shape { parts, netmask, opaque }
}

fn member(shape: &Shape, data: Attributes<'_>) -> Result<IpSetMember, &'static str> {
    const INCOMPLETE: &str = "a member is incomplete";
    let flags = data.u32(IPSET_ATTR_CADT_FLAGS).unwrap_or(0);
    let mut member = IpSetMember {
        nomatch: flags & IPSET_FLAG_NOMATCH != 0,
        has_timeout: data.u32(IPSET_ATTR_TIMEOUT).is_some_and(|seconds| seconds != 0),
        ..IpSetMember::default()
    };
    for part in &shape.parts {
        match part {
            Part::Address => {
                let types = [IPSET_ATTR_IP, IPSET_ATTR_CIDR, IPSET_ATTR_IP_TO];
                member.address = Some(addresses(data, types, shape.netmask).ok_or(INCOMPLETE)?);
            }
            Part::Address2 => {
                let types = [IPSET_ATTR_IP2, IPSET_ATTR_CIDR2, IPSET_ATTR_IP2_TO];
                member.address2 = Some(addresses(data, types, None).ok_or(INCOMPLETE)?);
            }
            Part::Port => {
                let first = be16(data, IPSET_ATTR_PORT).ok_or(INCOMPLETE)?;
                member.port = Some((first, be16(data, IPSET_ATTR_PORT_TO).unwrap_or(first)));
                member.proto = data.u8(IPSET_ATTR_PROTO);
            }
            Part::Interface if flags & (IPSET_FLAG_PHYSDEV | IPSET_FLAG_IFACE_WILDCARD) != 0 => {
                return Err("it names ports of bridges or prefixes of interfaces");
            }
            Part::Interface => member.interface = Some(data.text(IPSET_ATTR_IFACE).ok_or(INCOMPLETE)?),
            Part::Mark => member.mark = Some(data.u32(IPSET_ATTR_MARK).ok_or(INCOMPLETE)?),
            // In bitmap:ip,mac it may be left open: the first packet fills it in.
            Part::Mac => {
                let mac = data.get(IPSET_ATTR_ETHER).and_then(|m| m.first_chunk());
                member.mac = Some(*mac.ok_or("a member waits for its hardware address")?);
            }
            Part::Set => member.set = Some(data.text(IPSET_ATTR_NAME).ok_or(INCOMPLETE)?),
        }
    }
    Ok(member)
}

fn be16(data: Attributes<'_>, kind: u16) -> Option<u16> {
    data.get(kind)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// First and last address of a single one, a prefix or a range.
fn addresses(data: Attributes<'_>, [ip, cidr, to]: [u16; 3], netmask: Option<u8>) -> Option<(u128, u128)> {
    let (first, family) = address(data.nested(ip)?)?;
    if let Some(last) = data.nested(to) {
        return Some((first, address(last)?.0));
    }
    let length = data.u8(cidr).or(netmask).unwrap_or(family.bits()).min(family.bits());
    let hosts = family.max().checked_shr(length.into()).unwrap_or(0);
    Some((first & !hosts, first | hosts))
}

fn address(nested: Attributes<'_>) -> Option<(u128, Family)> {
    const IPSET_ATTR_IPADDR_IPV4: u16 = 1;
    const IPSET_ATTR_IPADDR_IPV6: u16 = 2;
    match nested.get(IPSET_ATTR_IPADDR_IPV4) {
        Some(bytes) => Some((u32::from_be_bytes(*bytes.first_chunk()?).into(), Family::Ipv4)),
        None => {
            let bytes = nested.get(IPSET_ATTR_IPADDR_IPV6)?.first_chunk()?;
            Some((u128::from_be_bytes(*bytes), Family::Ipv6))
        }
    }
}
