//! One form of ruleset for nf_tables and for iptables-legacy.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bytes, Expr, Family, Seen, Verdict, XtMatch};

/// The firewall of a host: both back-ends, as the kernel gave them.
#[derive(Debug, Clone)]
pub struct Firewall {
    pub nft: Seen<NftRules>,
    /// iptables-legacy; `Absent` when the kernel has no such table (opening one would create it).
    pub legacy4: Seen<LegacyRules>,
    pub legacy6: Seen<LegacyRules>,
    pub ipsets: Seen<Vec<IpSet>>,
    /// What sits on the way but outside netfilter (XDP, tc, cgroup BPF, xfrm): named, not modelled.
    pub outside: Vec<Outside>,
}

/// One consistent generation of nf_tables.
#[derive(Debug, Clone)]
pub struct NftRules {
    /// NFTA_GEN_ID of the generation that was read.
    pub generation: u32,
    pub tables: Vec<Table>,
    /// The dump as it came, for a replay into a scratch namespace.
    pub raw: Arc<RawNft>,
}

/// Whole netlink messages (header included), each list in the order of the dump.
#[derive(Debug, Clone, Default)]
pub struct RawNft {
    pub tables: Vec<Vec<u8>>,
    pub chains: Vec<Vec<u8>>,
    pub sets: Vec<Vec<u8>>,
    pub elements: Vec<Vec<u8>>,
    pub objects: Vec<Vec<u8>>,
    pub flowtables: Vec<Vec<u8>>,
    pub rules: Vec<Vec<u8>>,
}

/// The legacy tables of one family that exist.
#[derive(Debug, Clone)]
pub struct LegacyRules {
    pub tables: Vec<Table>,
    /// For each table what IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES gave, for a replay.
    pub raw: Arc<Vec<RawLegacy>>,
}

#[derive(Debug, Clone)]
pub struct RawLegacy {
    pub table: String,
    /// `struct ipt_getinfo`
    pub info: Vec<u8>,
    /// The entry blob, `struct ipt_entry` after `struct ipt_entry`.
    pub entries: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    Nft,
    Legacy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFamily {
    Ip,
    Ip6,
    Inet,
    Arp,
    Bridge,
    Netdev,
}

impl TableFamily {
    /// NFPROTO_* of linux/netfilter.h.
    pub fn nfproto(self) -> u8 {
        match self {
            TableFamily::Inet => 1,
            TableFamily::Ip => 2,
            TableFamily::Arp => 3,
            TableFamily::Netdev => 5,
            TableFamily::Bridge => 7,
            TableFamily::Ip6 => 10,
        }
    }

    pub fn from_nfproto(value: u8) -> Option<TableFamily> {
        Some(match value {
            1 => TableFamily::Inet,
            2 => TableFamily::Ip,
            3 => TableFamily::Arp,
            5 => TableFamily::Netdev,
            7 => TableFamily::Bridge,
            10 => TableFamily::Ip6,
            _ => return None,
        })
    }

    /// The one family of IP whose packets such a table sees, if it is one.
    pub fn ip(self) -> Option<Family> {
        match self {
            TableFamily::Ip => Some(Family::Ipv4),
            TableFamily::Ip6 => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Whether a packet of `family` passes the chains of such a table.
    pub fn sees(self, family: Family) -> bool {
        match self {
            TableFamily::Ip => family == Family::Ipv4,
            TableFamily::Ip6 => family == Family::Ipv6,
            TableFamily::Inet | TableFamily::Netdev => true,
            TableFamily::Arp | TableFamily::Bridge => false,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
            TableFamily::Inet => "inet",
            TableFamily::Arp => "arp",
            TableFamily::Bridge => "bridge",
            TableFamily::Netdev => "netdev",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub backend: Backend,
    pub family: TableFamily,
    pub name: String,
    /// NFT_TABLE_F_DORMANT: its base chains are not hooked.
    pub dormant: bool,
    /// NFT_TABLE_F_OWNER: the netlink port of the process that alone may write to it.
    pub owner: Option<u32>,
    pub chains: Vec<Chain>,
    /// As they are read, in the order of their names: there may be one for every rule. Shared with whoever is to put rules into
    /// words later.
    pub sets: Arc<Vec<Set>>,
}

impl Table {
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|c| c.name == name)
    }

    pub fn set(&self, name: &str) -> Option<&Set> {
        Set::named(&self.sets, name)
    }

    /// Whether it is a table that the `iptables` or `ip6tables` command (of either back-end) keeps: one of the five known
    /// names in family ip or ip6, and every base chain named and hooked as that command does it.
    pub fn is_iptables(&self) -> bool {
        if self.backend == Backend::Legacy {
            return true;
        }
        let known = matches!(self.name.as_str(), "raw" | "mangle" | "nat" | "filter" | "security");
        let own_family = matches!(self.family, TableFamily::Ip | TableFamily::Ip6);
        known
            && own_family
            && self.chains.iter().all(|c| c.base.as_ref().is_none_or(|b| c.name == b.hook.iptables_name()))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub base: Option<BaseChain>,
    /// Shared with whoever is to put them into words later.
    pub rules: Arc<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseChain {
    pub hook: Hook,
    pub kind: ChainKind,
    /// Chains of one hook are passed in ascending order of it.
    pub priority: i32,
    pub policy: Policy,
    /// For ingress and egress: the devices that it is bound to. A trailing `*` is the kernel's wildcard.
    pub devices: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl Hook {
    /// The name that iptables gives to the chain of this hook.
    pub fn iptables_name(self) -> &'static str {
        match self {
            Hook::Ingress => "INGRESS",
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
            Hook::Egress => "EGRESS",
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Ingress => "ingress",
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Egress => "egress",
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    Filter,
    /// Sees only the first packet of a flow.
    Nat,
    Route,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Accept,
    Drop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// NFTA_RULE_HANDLE; legacy rules have none.
    pub handle: Option<u64>,
    pub comment: Option<String>,
    pub exprs: Vec<Expr>,
}

/// The tag in a rule's comment by which a mend is found again: `ssh-rescue:ID`.
pub const TAG: &str = "ssh-rescue";

impl Rule {
    /// Whether a mend has put it there.
    pub fn is_mend(&self) -> bool {
        let tagged = |text: &str| text.strip_prefix(TAG).is_some_and(|rest| rest.starts_with(':'));
        self.comment.as_deref().is_some_and(tagged)
            || self.exprs.iter().any(|e| matches!(e, Expr::XtMatch(XtMatch::Comment(text)) if tagged(text)))
    }

    /// The names of the sets and maps that it looks into.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.exprs.iter().filter_map(|e| match e {
            Expr::Lookup { set, .. } => Some(set.as_str()),
            _ => None,
        })
    }
}

/// A set or map of an nf_tables table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// NFT_SET_* flags of linux/netfilter/nf_tables.h.
    pub flags: u32,
    /// Bytes of a key in registers (concatenations: every field padded to 4).
    pub key_len: usize,
    /// The lengths in bytes of a concatenation's fields, as NFTA_SET_DESC_CONCAT gives them; empty for a single field.
    pub fields: Vec<usize>,
    /// Bytes of the data of a map; 0 for a set and for a verdict map.
    pub data_len: usize,
    pub is_map: bool,
    /// NFT_OBJECT_*: what the named objects are that a map leads to.
    pub object: Option<u32>,
    pub is_interval: bool,
    pub has_timeout: bool,
    pub elements: Vec<Element>,
    /// Expressions that every element carries or that apply on update (limit, counter, …).
    pub exprs: Vec<Expr>,
}

impl Set {
    /// The set of this name among those of a table.
    pub fn named<'s>(sets: &'s [Set], name: &str) -> Option<&'s Set> {
        match sets.binary_search_by(|set| set.name.as_str().cmp(name)) {
            Ok(index) => sets.get(index),
            Err(_) => sets.iter().find(|s| s.name == name),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    pub key: ElementKey,
    pub data: Option<ElementData>,
    /// Stateful expressions of the element (limit, quota, connlimit, counter, last).
    pub exprs: Vec<Expr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementKey {
    One(Bytes),
    /// Inclusive at both ends; a concatenation is compared field by field.
    Range(Bytes, Bytes),
    /// NFT_SET_ELEM_CATCHALL
    Any,
}

impl ElementKey {
    /// The key, or the lower end of the range.
    pub fn first(&self) -> Option<&[u8]> {
        match self {
            ElementKey::One(key) | ElementKey::Range(key, _) => Some(key),
            ElementKey::Any => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementData {
    Bytes(Bytes),
    Verdict(Verdict),
    /// A named stateful object.
    Object(String),
}

/// An ipset of the kernel (ipset(8)), as used by `-m set` and `-j SET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpSet {
    pub name: String,
    /// IPSET_ATTR_INDEX: what an xt match refers to.
    pub index: u16,
    /// `hash:net`, `hash:ip,port`, `bitmap:ip`, `list:set`, …
    pub type_name: String,
    /// None where the type holds both or neither (list:set, hash:mac).
    pub family: Option<Family>,
    pub members: Vec<IpSetMember>,
    /// Why the members are not fully understood, if they are not.
    pub opaque: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IpSetMember {
    /// First and last address, both included.
    pub address: Option<(u128, u128)>,
    pub address2: Option<(u128, u128)>,
    pub proto: Option<u8>,
    pub port: Option<(u16, u16)>,
    pub interface: Option<String>,
    pub mark: Option<u32>,
    pub mac: Option<[u8; 6]>,
    /// Of a list:set: the name of the member set.
    pub set: Option<String>,
    pub nomatch: bool,
    pub has_timeout: bool,
}

/// Something on a packet's way that is not netfilter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// `xdp`, `tc-ingress`, `tc-egress`, `xfrm`, `cgroup-bpf`
    pub kind: &'static str,
    /// The interface, policy or cgroup that it is bound to.
    pub place: String,
    pub detail: String,
}

/// Where a rule stands: enough to find it again in a [`Firewall`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RuleRef {
    pub backend: Backend,
    pub family: TableFamily,
    pub table: Arc<str>,
    pub chain: Arc<str>,
    /// Index from 0; None means the chain's policy.
    pub index: Option<usize>,
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)?;
        if self.backend == Backend::Legacy { f.write_str(" (iptables-legacy)") } else { Ok(()) }
    }
}

impl Firewall {
    /// No rules at all.
    pub fn none() -> Firewall {
        Firewall {
            nft: Seen::Absent,
            legacy4: Seen::Absent,
            legacy6: Seen::Absent,
            ipsets: Seen::Absent,
            outside: Vec::new(),
        }
    }

    /// Every table of both back-ends that could be read, with the back-end's own order.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        let nft = self.nft.present().into_iter().flat_map(|r| &r.tables);
        let legacy = [&self.legacy4, &self.legacy6];
        nft.chain(legacy.into_iter().filter_map(|s| s.present()).flat_map(|r| &r.tables))
    }

    /// The rules without those that mends have put there.
    pub fn without_mends(&self) -> Firewall {
        let mut out = self.clone();
        let nft = match &mut out.nft {
            Seen::Present(rules) => rules.tables.as_mut_slice(),
            _ => &mut [],
        };
        let legacy = [&mut out.legacy4, &mut out.legacy6].into_iter().filter_map(|seen| match seen {
            Seen::Present(rules) => Some(&mut rules.tables),
            _ => None,
        });
        for chain in nft.iter_mut().chain(legacy.flatten()).flat_map(|table| &mut table.chains) {
            Arc::make_mut(&mut chain.rules).retain(|rule| !rule.is_mend());
        }
        out
    }

    pub fn table(&self, backend: Backend, family: TableFamily, name: &str) -> Option<&Table> {
        self.tables().find(|t| t.backend == backend && t.family == family && t.name == name)
    }

    pub fn table_mut(&mut self, backend: Backend, family: TableFamily, name: &str) -> Option<&mut Table> {
        let tables = match (backend, family) {
            (Backend::Nft, _) => match &mut self.nft {
                Seen::Present(rules) => &mut rules.tables,
                _ => return None,
            },
            (Backend::Legacy, family) => {
                let seen = if family == TableFamily::Ip6 { &mut self.legacy6 } else { &mut self.legacy4 };
                match seen {
                    Seen::Present(rules) => &mut rules.tables,
                    _ => return None,
                }
            }
        };
        tables.iter_mut().find(|t| t.family == family && t.name == name)
    }

    pub fn chain(&self, at: &RuleRef) -> Option<&Chain> {
        self.table(at.backend, at.family, &at.table)?.chain(&at.chain)
    }

    pub fn rule(&self, at: &RuleRef) -> Option<&Rule> {
        self.chain(at)?.rules.get(at.index?)
    }
}
