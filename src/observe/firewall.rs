//! The firewall of the calling thread's network namespace: both back-ends, from the kernel.

use std::path::Path;

use nix::libc;

use super::outside::outside;
use crate::decode::{ipset, legacy, nft};
use crate::facts::{Expr, Family, Firewall, IpSet, LegacyRules, NftRules, RawNft, Seen, XtMatch, XtTarget};
use crate::host::{Host, Message, NFNL_SUBSYS_IPSET, NFNL_SUBSYS_NFTABLES, Netlink, NetlinkError, read_legacy};

const NFT_MSG_GETTABLE: u8 = 1;
const NFT_MSG_GETCHAIN: u8 = 4;
const NFT_MSG_GETRULE: u8 = 7;
const NFT_MSG_GETSET: u8 = 10;
const NFT_MSG_GETSETELEM: u8 = 13;
const NFT_MSG_GETGEN: u8 = 16;
const NFT_MSG_GETOBJ: u8 = 19;
const NFT_MSG_GETFLOWTABLE: u8 = 23;

/// `struct nfgenmsg` for all families.
const ALL_FAMILIES: [u8; 4] = [0; 4];

/// How often a ruleset that changes while it is read is read again.
const ATTEMPTS: usize = 8;

pub fn firewall(host: &Host) -> Firewall {
    let mut firewall = Firewall {
        nft: nf_tables(),
        legacy4: legacy_tables(host, Family::Ipv4),
        legacy6: legacy_tables(host, Family::Ipv6),
        ipsets: Seen::Absent,
        outside: outside(host),
    };
    firewall.ipsets = ipsets(refer_to_ipsets(&firewall));
    firewall
}

fn refer_to_ipsets(firewall: &Firewall) -> bool {
    let rules = firewall.tables().flat_map(|t| &t.chains).flat_map(|c| c.rules.iter());
    let mut exprs = rules.flat_map(|r| &r.exprs);
    exprs.any(|e| matches!(e, Expr::XtMatch(XtMatch::Set { .. }) | Expr::XtTarget(XtTarget::Set { .. })))
}

/// Asking loads the kernel's module: not done where it is not there and no rule needs it.
fn ipsets(referred_to: bool) -> Seen<Vec<IpSet>> {
    const IPSET_CMD_LIST: u16 = 7;
    if !referred_to && !Path::new("/sys/module/ip_set").exists() {
        return Seen::Absent;
    }
    let request =
        Message { kind: u16::from(NFNL_SUBSYS_IPSET) << 8 | IPSET_CMD_LIST, flags: 0, body: ipset::list_request() };
    let mut overtaken = Ok(Vec::new());
    for _ in 0..ATTEMPTS {
        overtaken = Netlink::netfilter().and_then(|mut netlink| netlink.dump(&request));
        if !matches!(overtaken, Err(NetlinkError::Interrupted)) {
            break;
        }
    }
    match overtaken {
        Ok(messages) => match ipset::sets(&messages) {
            Some(sets) => Seen::Present(sets),
            None => Seen::Unreadable("read the ipsets: this kernel does not tell their numbers".into()),
        },
        Err(error) => match error_number(&error) {
            Some(libc::EPROTONOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP) if !referred_to => Seen::Absent,
            _ => unreadable("the ipsets", &error),
        },
    }
}

fn nf_tables() -> Seen<NftRules> {
    let mut netlink = match open() {
        Ok(Some(netlink)) => netlink,
        Ok(None) => return Seen::Absent,
        Err(error) => return unreadable("nf_tables", &error),
    };
    for _ in 0..ATTEMPTS {
        match one_generation(&mut netlink) {
            Ok(Some(rules)) => return Seen::Present(rules),
            Ok(None) | Err(NetlinkError::Interrupted) => {}
            Err(error) => match error_number(&error) {
                // A set was deleted before its elements were asked for.
                Some(libc::ENOENT) => {}
                _ => return unreadable("nf_tables", &error),
            },
        }
    }
    Seen::Unreadable("read nf_tables: the rules change all the time".into())
}

/// None where the kernel has no nf_tables.
fn open() -> Result<Option<Netlink>, NetlinkError> {
    let asked = Netlink::netfilter().and_then(|mut netlink| generation(&mut netlink).map(|_| netlink));
    match asked {
        Ok(netlink) => Ok(Some(netlink)),
        Err(error) => match error_number(&error) {
            Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EINVAL | libc::EOPNOTSUPP) => Ok(None),
            _ => Err(error),
        },
    }
}

fn error_number(error: &NetlinkError) -> Option<i32> {
    match error {
        NetlinkError::Io { source, .. } | NetlinkError::Refused { source, .. } => source.raw_os_error(),
        _ => None,
    }
}

fn unreadable<T>(what: &str, error: &NetlinkError) -> Seen<T> {
    match error_number(error) {
        Some(libc::EPERM | libc::EACCES) => Seen::Unreadable(format!("read {what}: root is needed")),
        _ => Seen::Unreadable(format!("read {what}: {}", crate::chain(error))),
    }
}

/// None where somebody changed the rules in between.
fn one_generation(netlink: &mut Netlink) -> Result<Option<NftRules>, NetlinkError> {
    let before = generation(netlink)?;
    let raw = read_all(netlink)?;
    if generation(netlink)? != before {
        return Ok(None);
    }
    Ok(Some(NftRules { generation: before, tables: nft::tables(&raw), raw: raw.into() }))
}

fn message(kind: u8, body: &[u8]) -> Message {
    Message { kind: u16::from(NFNL_SUBSYS_NFTABLES) << 8 | u16::from(kind), flags: 0, body: body.to_vec() }
}

fn generation(netlink: &mut Netlink) -> Result<u32, NetlinkError> {
    let answer = netlink.request(&message(NFT_MSG_GETGEN, &ALL_FAMILIES))?;
    answer.iter().find_map(|m| nft::generation(m)).ok_or(NetlinkError::Silent)
}

fn read_all(netlink: &mut Netlink) -> Result<RawNft, NetlinkError> {
    let tables = netlink.dump(&message(NFT_MSG_GETTABLE, &ALL_FAMILIES))?;
    if tables.is_empty() {
        return Ok(RawNft::default());
    }
    let sets = netlink.dump(&message(NFT_MSG_GETSET, &ALL_FAMILIES))?;
    let mut elements = Vec::new();
    for body in sets.iter().filter_map(|set| nft::ask_for_elements(set)) {
        elements.extend(netlink.dump(&message(NFT_MSG_GETSETELEM, &body))?);
    }
    Ok(RawNft {
        chains: netlink.dump(&message(NFT_MSG_GETCHAIN, &ALL_FAMILIES))?,
        rules: netlink.dump(&message(NFT_MSG_GETRULE, &ALL_FAMILIES))?,
        objects: optional(netlink.dump(&message(NFT_MSG_GETOBJ, &ALL_FAMILIES)))?,
        flowtables: optional(netlink.dump(&message(NFT_MSG_GETFLOWTABLE, &ALL_FAMILIES)))?,
        tables,
        sets,
        elements,
    })
}

/// A kernel that is older than such objects has none.
fn optional(dump: Result<Vec<Vec<u8>>, NetlinkError>) -> Result<Vec<Vec<u8>>, NetlinkError> {
    match dump {
        Err(NetlinkError::Refused { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(Vec::new()),
        other => other,
    }
}

/// Only the tables that the kernel lists: asking for another one makes it.
pub fn legacy_tables(host: &Host, family: Family) -> Seen<LegacyRules> {
    // The thread's own, which may be in a scratch namespace.
    let (names, module) = match family {
        Family::Ipv4 => ("/proc/thread-self/net/ip_tables_names", "iptable_raw"),
        Family::Ipv6 => ("/proc/thread-self/net/ip6_tables_names", "ip6table_raw"),
    };
    let names = match host.see(Path::new(names)) {
        Seen::Present(names) => names,
        Seen::Absent => return Seen::Absent,
        // The kernel lets nobody but root read it.
        Seen::Unreadable(_) if !host.privileged() => return Seen::Unreadable(format!("read {names}: root is needed")),
        Seen::Unreadable(why) => return Seen::Unreadable(why),
    };
    let (mut tables, mut raw) = (Vec::new(), Vec::new());
    for name in String::from_utf8_lossy(&names).lines() {
        let read = match read_legacy(family, name) {
            Ok(read) => read,
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                return Seen::Unreadable(format!("read the legacy table {name}: root is needed"));
            }
            Err(error) => return Seen::Unreadable(format!("read the legacy table {name}: {error}")),
        };
        let Some(table) = legacy::table(family, &read, name == "raw" && before_defrag(host, module)) else {
            return Seen::Unreadable(format!("read the legacy table {name}: its entries make no sense"));
        };
        tables.push(table);
        raw.push(read);
    }
    if tables.is_empty() { Seen::Absent } else { Seen::Present(LegacyRules { tables, raw: raw.into() }) }
}

/// Whether the raw table was hooked before defragmentation, which is an option of its module.
fn before_defrag(host: &Host, module: &str) -> bool {
    let path = Path::new("/sys/module").join(module).join("parameters/raw_before_defrag");
    host.read(&path).is_ok_and(|value| value.starts_with(b"Y") || value.starts_with(b"1"))
}
