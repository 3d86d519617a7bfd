//! The accept rule of a mend, in the form of each back-end.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Accept, Traffic};
use crate::facts::{
    BitwiseOp, Bytes, CmpOp, Expr, Family, IfaceMatch, Masked, MetaKey, PayloadBase, Rule, TAG, TableFamily, Verdict,
    XtHeader, XtMatch, XtTarget, number,
};

const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// ND_NEIGHBOR_SOLICIT and ND_NEIGHBOR_ADVERT of netinet/icmp6.h.
const DISCOVERY: [u8; 2] = [135, 136];
/// What has been forwarded has less: the kernel itself takes no other (RFC 4861 7.1).
const ON_LINK: u8 = 255;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// What a rule does with the packets that it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    Accept,
    /// Accept this ICMPv6 type, from the link alone.
    Discovery(u8),
    /// Let this chain say first whether the source is barred.
    Jump(String),
}

impl Accept {
    /// The deeds of the rules that this stands for, in order: first the jumps, then the accept.
    pub fn deeds(&self) -> Vec<Deed> {
        match self.traffic {
            Traffic::Ssh => self.after.iter().cloned().map(Deed::Jump).chain([Deed::Accept]).collect(),
            Traffic::Neighbours => DISCOVERY.map(Deed::Discovery).into(),
        }
    }

    /// The family that the rule is limited to in a table of `table`'s family, where the table alone does not say it.
    fn guard(&self, table: TableFamily) -> Option<Family> {
        match table {
            TableFamily::Inet | TableFamily::Netdev => self.family.or(self.source.map(|s| Family::of(s.network()))),
            _ => None,
        }
    }

    /// The rule in nf_tables' expressions, in a table of this family (nft(8), linux/netfilter/nf_tables.h).
    pub fn nft(&self, table: TableFamily, deed: &Deed) -> Vec<Expr> {
        let mut exprs = Vec::new();
        if let Some(family) = self.guard(table) {
            let (key, data) = match (table, family) {
                (TableFamily::Netdev, Family::Ipv4) => (MetaKey::Protocol, ETH_P_IP.to_be_bytes().to_vec()),
                (TableFamily::Netdev, Family::Ipv6) => (MetaKey::Protocol, ETH_P_IPV6.to_be_bytes().to_vec()),
                (_, Family::Ipv4) => (MetaKey::Nfproto, vec![TableFamily::Ip.nfproto()]),
                (_, Family::Ipv6) => (MetaKey::Nfproto, vec![TableFamily::Ip6.nfproto()]),
            };
            exprs.extend([Expr::Meta { dreg: 0, key }, equal(&data)]);
        }
        if let Some(name) = &self.interface {
            let key = if self.answer { MetaKey::OifName } else { MetaKey::IifName };
            let mut padded = name.as_bytes().to_vec();
            padded.resize(16, 0);
            exprs.extend([Expr::Meta { dreg: 0, key }, equal(&padded)]);
        }
        let payload = |base, offset, len| Expr::Payload { dreg: 0, base, offset, len };
        let protocol = |number| [Expr::Meta { dreg: 0, key: MetaKey::L4Proto }, equal(&[number])];
        if let Deed::Discovery(kind) = deed {
            exprs.extend(protocol(ICMPV6));
            exprs.extend([payload(PayloadBase::Transport, 0, 1), equal(&[*kind])]);
            exprs.extend([payload(PayloadBase::Network, 7, 1), equal(&[ON_LINK])]);
            exprs.push(Expr::Verdict(Verdict::Accept));
            return exprs;
        }
        exprs.extend(protocol(TCP));
        if let Some(net) = self.source {
            exprs.extend(address(net, self.answer));
        }
        let offset = if self.answer { 0 } else { 2 };
        exprs.push(payload(PayloadBase::Transport, offset, 2));
        exprs.push(equal(&self.port.to_be_bytes()));
        exprs.push(Expr::Verdict(match deed {
            Deed::Accept | Deed::Discovery(_) => Verdict::Accept,
            Deed::Jump(chain) => Verdict::Jump(chain.clone()),
        }));
        exprs
    }

    /// The rule as x_tables has it, for the model of a legacy table.
    pub fn xt(&self, deed: &Deed) -> Vec<Expr> {
        let masked = self.source.map_or_else(Masked::default, |net| {
            let family = Family::of(net.network());
            let host_bits = u32::from(family.bits() - net.prefix_len());
            let host = if host_bits == 128 { u128::MAX } else { (1 << host_bits) - 1 };
            Masked { address: number(net.network()), mask: family.max() & !host, invert: false }
        });
        let iface = self.interface.as_ref().map(|name| IfaceMatch {
            name: name.as_bytes().to_vec(),
            exact: true,
            invert: false,
        });
        let (src, dst, iif, oif) = match self.answer {
            false => (masked, Masked::default(), iface, None),
            true => (Masked::default(), masked, None, iface),
        };
        let header = |proto| {
            Expr::XtMatch(XtMatch::Header(Box::new(XtHeader { src, dst, iif, oif, proto, ..XtHeader::default() })))
        };
        if let Deed::Discovery(kind) = *deed {
            return vec![
                header(ICMPV6),
                Expr::XtMatch(XtMatch::Icmp6 { kind, codes: (0, u8::MAX), invert: false }),
                Expr::XtMatch(XtMatch::Ttl { mode: 0, value: ON_LINK }),
                Expr::XtTarget(XtTarget::Accept),
            ];
        }
        let port = (self.port, self.port);
        let any = (0, u16::MAX);
        let (sports, dports) = if self.answer { (port, any) } else { (any, port) };
        vec![
            header(TCP),
            Expr::XtMatch(XtMatch::Tcp {
                sports,
                dports,
                invert_sports: false,
                invert_dports: false,
                flags_mask: 0,
                flags_set: 0,
                invert_flags: false,
                option: None,
            }),
            Expr::XtTarget(match deed {
                Deed::Accept | Deed::Discovery(_) => XtTarget::Accept,
                Deed::Jump(chain) => XtTarget::Jump(chain.clone()),
            }),
        ]
    }

    /// The rule in the words of iptables(8), without `-I CHAIN N`; typed values only, nothing that a host has said but names.
    pub fn iptables(&self, id: &str, deed: &Deed) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        let mut put = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        if let Some(net) = self.source {
            put(if self.answer { "-d" } else { "-s" }, net.to_string());
        }
        if let Some(name) = &self.interface {
            put(if self.answer { "-o" } else { "-i" }, name.clone());
        }
        if let Deed::Discovery(kind) = deed {
            for (flag, value) in [("-p", "ipv6-icmp"), ("-m", "icmp6")] {
                put(flag, value.to_owned());
            }
            put("--icmpv6-type", kind.to_string());
            put("-m", "hl".to_owned());
            put("--hl-eq", ON_LINK.to_string());
        } else {
            put("-p", "tcp".to_owned());
            put("-m", "tcp".to_owned());
            put(if self.answer { "--sport" } else { "--dport" }, self.port.to_string());
        }
        put("-m", "comment".to_owned());
        put("--comment", tag(id));
        put(
            "-j",
            match deed {
                Deed::Accept | Deed::Discovery(_) => "ACCEPT".to_owned(),
                Deed::Jump(chain) => chain.clone(),
            },
        );
        words
    }

    /// The rule in the words of nft(8), in a table of this family. None where a name cannot be written down.
    pub fn nft_words(&self, table: TableFamily, id: &str, deed: &Deed) -> Option<String> {
        let mut words: Vec<String> = Vec::new();
        match (self.source, self.guard(table), table) {
            (Some(_), ..) | (None, None, _) => {}
            (None, Some(Family::Ipv4), TableFamily::Netdev) => words.push("meta protocol ip".into()),
            (None, Some(Family::Ipv6), TableFamily::Netdev) => words.push("meta protocol ip6".into()),
            (None, Some(family), _) => words.push(format!("meta nfproto {family}")),
        }
        if let Some(name) = &self.interface {
            let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:@".contains(&b));
            let key = if self.answer { "oifname" } else { "iifname" };
            words.push(plain.then(|| format!("{key} \"{name}\""))?);
        }
        if let Some(net) = self.source {
            let header = if net.network().is_ipv4() { "ip" } else { "ip6" };
            words.push(format!("{header} {} {net}", if self.answer { "daddr" } else { "saddr" }));
        }
        match deed {
            Deed::Discovery(kind) => words.push(format!("icmpv6 type {kind} ip6 hoplimit {ON_LINK}")),
            _ => words.push(format!("tcp {} {}", if self.answer { "sport" } else { "dport" }, self.port)),
        }
        words.push(format!("accept comment \"{}\"", tag(id)));
        self.after.is_empty().then(|| words.join(" "))
    }

    /// For people: `tcp port 22 from 198.51.100.0/24 by eth0`.
    pub fn words(&self) -> String {
        let mut text = match self.answer {
            _ if self.traffic == Traffic::Neighbours => "neighbour discovery".to_owned(),
            false => format!("tcp to port {}", self.port),
            true => format!("answers from tcp port {}", self.port),
        };
        if let Some(net) = self.source {
            text.push_str(if self.answer { " to " } else { " from " });
            text.push_str(&net.to_string());
        }
        if let Some(name) = &self.interface {
            text.push_str(" by ");
            text.push_str(&crate::facts::escape(name));
        }
        for chain in &self.after {
            text.push_str(&format!(", after what {} bars", crate::facts::escape(chain)));
        }
        text
    }
}

/// The comment of every rule of one repair.
pub fn tag(id: &str) -> String {
    format!("{TAG}:{id}")
}

fn equal(data: &[u8]) -> Expr {
    Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }
}

fn address(net: IpNet, answer: bool) -> Vec<Expr> {
    let (offset, bytes): (_, Bytes) = match (net.network(), answer) {
        (IpAddr::V4(a), false) => (12, a.octets().as_slice().into()),
        (IpAddr::V4(a), true) => (16, a.octets().as_slice().into()),
        (IpAddr::V6(a), false) => (8, a.octets().as_slice().into()),
        (IpAddr::V6(a), true) => (24, a.octets().as_slice().into()),
    };
    let len = bytes.len() as u32;
    let mut exprs = vec![Expr::Payload { dreg: 0, base: PayloadBase::Network, offset, len }];
    if usize::from(net.prefix_len()) < bytes.len() * 8 {
        let mask = match net.netmask() {
            IpAddr::V4(m) => m.octets().as_slice().into(),
            IpAddr::V6(m) => m.octets().as_slice().into(),
        };
        let xor = Bytes::from_elem(0, bytes.len());
        exprs.push(Expr::Bitwise { sreg: 0, dreg: 0, len, op: BitwiseOp::MaskXor { mask, xor } });
    }
    exprs.push(equal(&bytes));
    exprs
}

/// The rules of one insert, for the model of a ruleset.
pub fn rules(accept: &Accept, id: &str, table: TableFamily, legacy: bool) -> Vec<Rule> {
    let rule = |deed: &Deed| Rule {
        handle: None,
        comment: Some(tag(id)),
        exprs: if legacy { accept.xt(deed) } else { accept.nft(table, deed) },
    };
    accept.deeds().iter().map(rule).collect()
}
