//! Matches of x_tables (iptables-extensions(8)).

use super::bytes::Var;
use super::cond::Cond;
use super::flow::{Doubt, Packet, Phase, Tracking};
use super::load::tcp_flags;
use super::route::{
    RTN_ANYCAST, RTN_BLACKHOLE, RTN_LOCAL, RTN_MULTICAST, RTN_PROHIBIT, RTN_UNICAST, RTN_UNREACHABLE, RTN_UNSPEC, link,
};
use super::u32::u32_tests;
use super::walk::Walk;
use crate::facts::{
    AddrSet, Conntrack, Family, Grouped, Hook, IfaceMatch, Masked, MultiportWhich, Ports, XtHeader, XtMatch,
};

const TCP: u8 = 6;
/// XT_RPFILTER_*
const RPFILTER_LOOSE: u8 = 1;
const RPFILTER_INVERT: u8 = 8;
/// XT_SOCKET_TRANSPARENT
const SOCKET_TRANSPARENT: u8 = 1;

impl Walk<'_> {
    pub fn xt_match(&self, packet: &Packet, hook: Hook, m: &XtMatch) -> Cond {
        match m {
            XtMatch::Header(header) if !self.fits(packet, header) => Cond::Never,
            XtMatch::Header(header) => {
                of_client(packet.family, if packet.inwards() { &header.src } else { &header.dst })
            }
            XtMatch::Tcp { .. } | XtMatch::Multiport { .. } | XtMatch::Tcpmss { .. }
                if packet.discovery().is_some() =>
            {
                Cond::Never
            }
            XtMatch::Tcp {
                sports,
                dports,
                invert_sports,
                invert_dports,
                flags_mask,
                flags_set,
                invert_flags,
                option,
            } => {
                let flags = (tcp_flags(packet.phase) & flags_mask == *flags_set) != *invert_flags;
                if !flags {
                    return Cond::Never;
                }
                let option = match option {
                    Some(_) => Cond::Maybe(Doubt::unknown("depends on the client's TCP options")),
                    None => Cond::Always,
                };
                ports(packet, *sports, true)
                    .negated_if(*invert_sports)
                    .and(ports(packet, *dports, false).negated_if(*invert_dports))
                    .and(option)
            }
            XtMatch::Multiport { which, ports: all, invert } => {
                let any = |source: bool| all.iter().fold(Cond::Never, |c, p| c.or(ports(packet, *p, source)));
                let hit = match which {
                    MultiportWhich::Source => any(true),
                    MultiportWhich::Destination => any(false),
                    MultiportWhich::Either => any(true).or(any(false)),
                };
                hit.negated_if(*invert)
            }
            XtMatch::Conntrack(ct) => conntrack(packet, ct, self.status_bits(packet)),
            XtMatch::Iprange(sides) => {
                let (src, dst) = (sides.src, sides.dst);
                let (client, host) = if packet.inwards() { (src, dst) } else { (dst, src) };
                let host = host.is_none_or(|(a, b, invert)| (a..=b).contains(&packet.address) != invert);
                let client = client.map_or(Cond::Always, |(a, b, invert)| {
                    Cond::sources(AddrSet::range(packet.family, a, b)).negated_if(invert)
                });
                Cond::known(host).and(client)
            }
            XtMatch::Addrtype { source, dest, invert_source, invert_dest, iif, oif } => {
                let (client, host) = if packet.inwards() {
                    ((*source, *invert_source), (*dest, *invert_dest))
                } else {
                    ((*dest, *invert_dest), (*source, *invert_source))
                };
                let device = if *iif {
                    packet.iif
                } else if *oif {
                    packet.oif
                } else {
                    None
                };
                self.client_type(packet, client).and(self.host_type(packet, host, device))
            }
            XtMatch::Set { index, dirs, invert, extra } => match extra {
                true => Cond::Maybe(Doubt::unknown("a condition on an ipset's counters")),
                false => self.ipset(packet, *index, dirs).negated_if(*invert),
            },
            XtMatch::Mac { .. } if !self.has_ethernet(packet, hook) => Cond::Never,
            XtMatch::Mac { .. } => Cond::Maybe(Doubt::unknown("depends on the link-layer address of the last router")),
            XtMatch::Mark { mark, mask, invert } => marked(packet.mark, *mark, *mask, *invert),
            XtMatch::Connmark { mark, mask, invert } if packet.tracking == Tracking::Template => {
                marked(Some(0), *mark, *mask, *invert)
            }
            XtMatch::Connmark { .. } if !packet.entry() => Cond::Never,
            XtMatch::Connmark { mark, mask, invert } => marked(packet.flow.mark, *mark, *mask, *invert),
            XtMatch::Comment(_) => Cond::Always,
            XtMatch::Pkttype { kind, invert } => Cond::known((*kind == u32::from(packet.kind())) != *invert),
            XtMatch::Udp { .. } | XtMatch::Icmp { .. } => Cond::Never,
            XtMatch::Icmp6 { kind, codes, invert } => match packet.discovery() {
                Some(found) => Cond::known((found == *kind && codes.0 == 0) != *invert),
                None => Cond::Never,
            },
            XtMatch::Length { min, max, invert } => {
                Var::Length(packet.family).between((*min).into(), (*max).into()).negated_if(*invert)
            }
            XtMatch::Ttl { mode, value } => {
                let value = u32::from(*value);
                // A neighbour's question has the highest there is (RFC 4861 7.1).
                let within = |first: u32, last: u32| match packet.discovery() {
                    Some(_) => Cond::known((first..=last).contains(&u8::MAX.into())),
                    None => Var::HopLimit.between(first, last),
                };
                // IPT_TTL_EQ, NE, LT, GT
                match mode {
                    0 => within(value, value),
                    1 => within(value, value).negated_if(true),
                    2 => within(0, value.saturating_sub(1)),
                    _ => within(value + 1, u32::MAX),
                }
            }
            XtMatch::Tcpmss { invert, .. } if packet.phase == Phase::Ack => Cond::known(*invert),
            XtMatch::Tcpmss { .. } => Cond::Maybe(Doubt::conditional("depends on the client's MSS")),
            XtMatch::Dscp { .. } => Cond::Maybe(Var::TrafficClass.doubt()),
            XtMatch::Owner { .. } if packet.inwards() => Cond::Never,
            XtMatch::Owner { .. } if !self.is_roots() || packet.discovery().is_some() => {
                Cond::Maybe(Doubt::unknown("depends on the socket's owner"))
            }
            XtMatch::Owner { uid, gid, socket, .. } => {
                let root = |range: &Option<(u32, u32, bool)>| range.is_none_or(|(a, _, invert)| (a == 0) != invert);
                Cond::known(root(uid) && root(gid) && *socket != Some(false))
            }
            XtMatch::Devgroup { iif, oif } => {
                let of = |index: Option<u32>| index.and_then(|i| link(self.net, i)).map_or(0, |l| l.group);
                let group = |wanted: &Option<Grouped>, index| {
                    wanted.is_none_or(|w| ((of(index) ^ w.group) & w.mask == 0) != w.invert)
                };
                Cond::known(group(iif, packet.iif) && group(oif, packet.oif))
            }
            XtMatch::Text { length, from, .. } => {
                let longest = Var::Length(packet.family).most();
                if u32::from(*length) + u32::from(*from) > longest {
                    return Cond::Never;
                }
                Cond::Maybe(Doubt::unknown("match string is not modelled"))
            }
            XtMatch::U32 { tests, invert } => u32_tests(packet, tests).negated_if(*invert),
            XtMatch::Physdev { text } => self.physdev(packet, text),
            XtMatch::Rpfilter { flags } => self.rpfilter(packet, *flags),
            XtMatch::Socket { .. } if hook == Hook::Output => Cond::Never,
            // No sshd listens with IP_TRANSPARENT.
            XtMatch::Socket { flags } if flags & SOCKET_TRANSPARENT != 0 && packet.port == self.path.port => {
                Cond::Never
            }
            XtMatch::Socket { .. } => Cond::Maybe(Doubt::unknown("depends on an open socket")),
            XtMatch::AbsentHeader { invert, .. } => Cond::known(*invert),
            XtMatch::Rate { name, text } => {
                Cond::Maybe(Doubt::conditional(format!("depends on the rate ({name} {text})")))
            }
            // `--set` notes the source and always matches.
            XtMatch::History { name, text } if name == "recent" && text.starts_with("--set") => Cond::Always,
            XtMatch::History { name, text } => {
                Cond::Maybe(Doubt::conditional(format!("depends on what came before ({name} {text})")))
            }
            XtMatch::Time { text } => Cond::Maybe(Doubt::conditional(format!("depends on the time ({text})"))),
            XtMatch::Unknown { name } => Cond::Maybe(Doubt::unknown(format!("match {name} is not modelled"))),
        }
    }

    /// Whether a header's conditions hold that do not hang on the client.
    pub fn fits(&self, packet: &Packet, header: &XtHeader) -> bool {
        let XtHeader { src, dst, iif, oif, proto, proto_invert, fragment } = header;
        let host = if packet.inwards() { dst } else { src };
        (*proto == 0 || (*proto == packet.protocol()) != *proto_invert)
            // A handshake is never in fragments.
            && *fragment != Some(true)
            && holds(host, packet.address)
            && self.iface(iif.as_ref(), packet.iif)
            && self.iface(oif.as_ref(), packet.oif)
    }

    fn iface(&self, wanted: Option<&IfaceMatch>, index: Option<u32>) -> bool {
        let Some(wanted) = wanted else { return true };
        let name = index.map(|i| self.interface_name(i)).unwrap_or_default();
        let same = match wanted.exact {
            true => name.as_bytes() == wanted.name,
            false => name.as_bytes().starts_with(&wanted.name),
        };
        same != wanted.invert
    }

    fn client_type(&self, packet: &Packet, (mask, invert): (u16, bool)) -> Cond {
        if mask == 0 {
            return Cond::Always;
        }
        if !self.routes.known {
            return Cond::Maybe(Doubt::unknown("the routes could not be read"));
        }
        let set = match packet.family {
            Family::Ipv4 => {
                let mut set = AddrSet::empty(packet.family);
                for (kind, sources) in self.routes.source_types(packet.family) {
                    if mask & (1 << kind) != 0 {
                        set.union_with(&sources);
                    }
                }
                set
            }
            Family::Ipv6 => self.of_type6(mask, None),
        };
        Cond::sources(set).negated_if(invert)
    }

    fn host_type(&self, packet: &Packet, (mask, invert): (u16, bool), device: Option<u32>) -> Cond {
        if mask == 0 {
            return Cond::Always;
        }
        if packet.family == Family::Ipv6 {
            return Cond::known(self.of_type6(mask, device).contains_number(packet.address) != invert);
        }
        let kind = match device {
            Some(index) if self.routes.is_own(packet.address) && !self.owns(index, packet.address) => RTN_UNICAST,
            _ => self.routes.address_type(packet.family, packet.address),
        };
        Cond::known((mask & (1 << kind) != 0) != invert)
    }

    /// The IPv6 addresses that xt_addrtype takes to be of all the types in the mask (its `match_type6`): unlike in IPv4 a
    /// local address is unicast as well.
    fn of_type6(&self, mask: u16, device: Option<u32>) -> AddrSet {
        let family = Family::Ipv6;
        let of = |kind: u8| mask & (1 << kind) != 0;
        let multicast = AddrSet::range(family, 0xff << 120, u128::MAX);
        let mut set = AddrSet::full(family);
        if of(RTN_MULTICAST) {
            set = set.intersection(&multicast);
        }
        if of(RTN_UNICAST) {
            set.subtract(&multicast);
            set.remove(0, 0);
            // IPv4-mapped addresses.
            set.remove(0xffff << 32, 0xffff << 32 | 0xffff_ffff);
        }
        if of(RTN_UNSPEC) {
            set = set.intersection(&AddrSet::range(family, 0, 0));
        }
        let by_route = [RTN_LOCAL, RTN_ANYCAST, RTN_UNREACHABLE, RTN_PROHIBIT];
        if by_route.into_iter().any(of) {
            let mut routed = AddrSet::empty(family);
            if of(RTN_LOCAL) {
                let own = self.routes.own.ranges().filter(|(a, _)| device.is_none_or(|d| self.owns(d, *a)));
                own.for_each(|(a, b)| routed.insert(a, b));
            }
            if of(RTN_ANYCAST) {
                routed.union_with(&self.routes.anycast);
            }
            if of(RTN_UNREACHABLE) {
                let dead = |kind| [RTN_UNREACHABLE, RTN_BLACKHOLE, RTN_PROHIBIT].contains(&kind);
                let types = self.routes.source_types(family);
                types.iter().filter(|(kind, _)| dead(*kind)).for_each(|(_, sources)| routed.union_with(sources));
            }
            set = set.intersection(&routed);
        }
        set
    }

    /// A packet that has come through no bridge matches no `--physdev` but an inverted one.
    fn physdev(&self, packet: &Packet, text: &str) -> Cond {
        let index = packet.iif.or(packet.oif);
        let bridge = index.and_then(|i| link(self.net, i)).is_some_and(|l| l.driver.as_deref() == Some("bridge"));
        if bridge || text.contains('!') {
            return Cond::Maybe(Doubt::unknown("depends on the port of a bridge"));
        }
        Cond::Never
    }

    fn rpfilter(&self, packet: &Packet, flags: u8) -> Cond {
        if !self.routes.known || self.net.policy_routing {
            return Cond::Maybe(Doubt::unknown("depends on routes by rule"));
        }
        let mut good = AddrSet::empty(packet.family);
        for (sources, interfaces) in self.routes.back() {
            if flags & RPFILTER_LOOSE != 0 || packet.iif.is_some_and(|i| interfaces.contains(&i)) {
                good.union_with(sources);
            }
        }
        Cond::sources(good).negated_if(flags & RPFILTER_INVERT != 0)
    }
}

fn marked(have: Option<u32>, mark: u32, mask: u32, invert: bool) -> Cond {
    match have {
        Some(have) => Cond::known((have & mask == mark) != invert),
        None => Cond::Maybe(Doubt::unknown("depends on a mark that is not known")),
    }
}

fn holds(masked: &Masked, address: u128) -> bool {
    (address & masked.mask == masked.address) != masked.invert
}

fn of_client(family: Family, masked: &Masked) -> Cond {
    if masked.mask == 0 && masked.address == 0 {
        return Cond::known(!masked.invert);
    }
    match AddrSet::masked(family, masked.address, masked.mask) {
        Some(set) => Cond::sources(set).negated_if(masked.invert),
        None => Cond::Maybe(Doubt::unknown("a mask over the source address with too many holes")),
    }
}

/// Whether the packet's source (or destination) port is in the range.
fn ports(packet: &Packet, (first, last): Ports, source: bool) -> Cond {
    if source == packet.inwards() {
        Var::ClientPort.between(first.into(), last.into())
    } else {
        Cond::known((first..=last).contains(&packet.port))
    }
}

/// xt_conntrack's `conntrack_mt`.
fn conntrack(packet: &Packet, ct: &Conntrack, status: u32) -> Cond {
    if let Some((wanted, invert)) = ct.state {
        let nat = if packet.entry() && packet.flow.diverted.is_some() { 128 } else { 0 };
        let bits = nat
            | match packet.tracking {
                Tracking::None => 1,
                Tracking::Established => 2,
                Tracking::New | Tracking::Template => 8,
                Tracking::Untracked => 256,
            };
        if (bits & wanted != 0) == invert {
            return Cond::Never;
        }
    }
    if packet.tracking == Tracking::Template {
        let of_state = Conntrack { state: ct.state, ..Conntrack::default() };
        let why = "asks for the entry of a packet before it is tracked";
        return if *ct == of_state { Cond::Always } else { Cond::Maybe(Doubt::unknown(why)) };
    }
    if !packet.entry() {
        return Cond::known(ct.state.is_some());
    }
    let answers = packet.flow.answers_from();
    let client = |masked: &Option<Masked>| masked.as_ref().map_or(Cond::Always, |m| of_client(packet.family, m));
    let asked = |masked: &Option<Masked>| Cond::known(masked.as_ref().is_none_or(|m| holds(m, packet.flow.address)));
    let here = |masked: &Option<Masked>| Cond::known(masked.as_ref().is_none_or(|m| holds(m, answers.0)));
    let port = |wanted: &Option<(Ports, bool)>, port: u16| {
        Cond::known(wanted.is_none_or(|((a, b), invert)| (a..=b).contains(&port) != invert))
    };
    let client_port = |wanted: &Option<(Ports, bool)>| {
        wanted.map_or(Cond::Always, |((a, b), invert)| Var::ClientPort.between(a.into(), b.into()).negated_if(invert))
    };
    let known = [
        ct.direction.is_none_or(|(original, invert)| ((packet.phase != Phase::SynAck) == original) != invert),
        ct.proto.is_none_or(|(proto, invert)| (proto == u16::from(TCP)) != invert),
        ct.status.is_none_or(|(wanted, invert)| (u32::from(wanted) & status != 0) != invert),
    ];
    let expires = ct.expires.map_or(Cond::Always, |_| Cond::Maybe(Doubt::conditional("depends on the flow's age")));
    [
        Cond::known(known.iter().all(|k| *k)),
        client(&ct.orig_src),
        asked(&ct.orig_dst),
        here(&ct.repl_src),
        client(&ct.repl_dst),
        client_port(&ct.orig_src_port),
        port(&ct.orig_dst_port, packet.flow.port),
        port(&ct.repl_src_port, answers.1),
        client_port(&ct.repl_dst_port),
        expires,
    ]
    .into_iter()
    .fold(Cond::Always, Cond::and)
}
