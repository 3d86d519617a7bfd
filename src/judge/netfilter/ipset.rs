//! ipsets as `-m set` looks into them (ipset(8)).

use super::bytes::Var;
use super::cond::Cond;
use super::flow::{Doubt, Packet};
use super::walk::Walk;
use crate::facts::{AddrSet, Family, Hook, IpSet, IpSetMember, Seen};

/// list:set cannot hold lists, but what is read from a host is not trusted to obey that.
const DEPTH: usize = 4;

impl Walk<'_> {
    /// Whether the packet is in the set with this number; `dirs`: for each dimension true = source.
    pub fn ipset(&self, packet: &Packet, index: u16, dirs: &[bool]) -> Cond {
        let Seen::Present(sets) = self.rules.ipsets else {
            return Cond::Maybe(Doubt::unknown("ipsets could not be read"));
        };
        match sets.iter().find(|s| s.index == index) {
            Some(set) => self.in_ipset(packet, set, dirs, DEPTH),
            None => Cond::Maybe(Doubt::unknown(format!("ipset number {index} is not there"))),
        }
    }

    fn in_ipset(&self, packet: &Packet, set: &IpSet, dirs: &[bool], depth: usize) -> Cond {
        if let Some(why) = &set.opaque {
            return Cond::Maybe(Doubt::unknown(format!("ipset {}: {why}", set.name)));
        }
        if packet.touched.contains(&touched(set.index)) {
            return Cond::Maybe(Doubt::conditional(format!(
                "ipset {} was changed by this connection's own packets",
                set.name
            )));
        }
        if set.family.is_some_and(|f| f != packet.family) {
            return Cond::Never;
        }
        if set.type_name == "list:set" {
            return self.in_list(packet, set, dirs, depth);
        }
        // Who asks for fewer dimensions than the set has finds nothing.
        if dirs.len() < set.type_name.split(',').count() {
            return Cond::Never;
        }
        let plain = matches!(set.type_name.as_str(), "hash:ip" | "hash:net" | "bitmap:ip");
        if plain && self.is_client(packet, dirs, 0) {
            let mut members = self.rules.members.borrow_mut();
            let known = members.entry((set.index, packet.family)).or_insert_with(|| addresses(set, packet.family));
            return Cond::sources(known.clone());
        }
        if set.members.iter().any(|m| m.nomatch) {
            return self.most_specific(packet, set, dirs);
        }
        set.members.iter().fold(Cond::Never, |all, member| match &all {
            Cond::Always => all,
            _ => all.or(self.member(packet, set, member, dirs)),
        })
    }

    fn in_list(&self, packet: &Packet, list: &IpSet, dirs: &[bool], depth: usize) -> Cond {
        let Seen::Present(sets) = self.rules.ipsets else { return Cond::Never };
        let mut all = Cond::Never;
        for name in list.members.iter().filter_map(|m| m.set.as_deref()) {
            let Some(set) = sets.iter().find(|s| s.name == name) else { continue };
            let inside = match depth {
                0 => Cond::Maybe(Doubt::unknown("ipset lists within lists")),
                depth => self.in_ipset(packet, set, dirs, depth - 1),
            };
            all = all.or(inside);
        }
        all
    }

    /// With `nomatch` the narrowest member that matches decides.
    fn most_specific(&self, packet: &Packet, set: &IpSet, dirs: &[bool]) -> Cond {
        let width = |range: Option<(u128, u128)>| range.map_or(0, |(a, b)| b - a);
        let mut members: Vec<&IpSetMember> = set.members.iter().collect();
        members.sort_by_key(|m| (width(m.address), width(m.address2)));
        let (mut yes, mut decided) = (Cond::Never, Cond::Never);
        for member in members {
            let here = self.member(packet, set, member, dirs).and(decided.clone().negated_if(true));
            if !member.nomatch {
                yes = yes.or(here.clone());
            }
            decided = decided.or(here);
        }
        yes
    }

    fn member(&self, packet: &Packet, set: &IpSet, member: &IpSetMember, dirs: &[bool]) -> Cond {
        let Some((_, fields)) = set.type_name.split_once(':') else { return Cond::Never };
        let mut all = Cond::Always;
        let mut addresses = [member.address, member.address2].into_iter();
        for (dimension, field) in fields.split(',').enumerate() {
            let client = self.is_client(packet, dirs, dimension);
            let here = match field {
                "ip" | "net" => match addresses.next().flatten() {
                    Some((from, to)) if client => Cond::sources(AddrSet::range(packet.family, from, to)),
                    Some((from, to)) => Cond::known((from..=to).contains(&packet.address)),
                    None => Cond::Always,
                },
                "port" => {
                    let (from, to) = member.port.unwrap_or((0, u16::MAX));
                    let proto = Cond::known(member.proto.is_none_or(|p| p == packet.protocol() || p == 0));
                    proto.and(match client {
                        true => Var::ClientPort.between(from.into(), to.into()),
                        false => Cond::known((from..=to).contains(&packet.port)),
                    })
                }
                "iface" => {
                    let source = dirs.get(dimension).copied().unwrap_or(true);
                    let index = if source { packet.iif } else { packet.oif };
                    let name = index.map(|i| self.interface_name(i));
                    Cond::known(member.interface.is_some() && member.interface.as_deref() == name)
                }
                "mark" => match packet.mark {
                    Some(mark) => Cond::known(member.mark.is_none_or(|m| m == mark)),
                    None => Cond::Maybe(Doubt::unknown("depends on a mark that is not known")),
                },
                // Ethernet alone has such an address, and only the packet that comes in.
                "mac" if !self.has_ethernet(packet, Hook::Input) => Cond::Never,
                "mac" => Cond::Maybe(Doubt::unknown("depends on the link-layer address of the last router")),
                other => Cond::Maybe(Doubt::unknown(format!("ipset field {other} is not modelled"))),
            };
            all = all.and(here);
            if all == Cond::Never {
                break;
            }
        }
        all
    }

    /// Whether a dimension is about the client's end of the connection.
    fn is_client(&self, packet: &Packet, dirs: &[bool], dimension: usize) -> bool {
        dirs.get(dimension).copied().unwrap_or(true) == packet.inwards()
    }
}

/// How a set that `-j SET` has changed is noted among a packet's touched sets: no table has this name.
pub fn touched(index: u16) -> (String, String) {
    (String::new(), index.to_string())
}

/// The addresses of a set of plain addresses or nets, with `nomatch`: the narrowest net that holds an address decides.
fn addresses(set: &IpSet, family: Family) -> AddrSet {
    let mut members: Vec<_> =
        set.members.iter().filter_map(|m| m.address.map(|(a, b)| (b - a, a, b, m.nomatch))).collect();
    if members.iter().all(|m| !m.3) {
        return AddrSet::of(family, members.iter().map(|&(_, a, b, _)| (a, b)).collect());
    }
    let mut all = AddrSet::empty(family);
    // From the widest to the narrowest: each overrules those before it.
    members.sort_by_key(|m| std::cmp::Reverse(m.0));
    for (_, a, b, nomatch) in members {
        if nomatch { all.remove(a, b) } else { all.insert(a, b) }
    }
    all
}
