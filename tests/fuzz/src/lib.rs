//! What the fuzz targets share: bytes as the kernel hands them out, and a small host around what was decoded.
//!
//! A target gives one input to the decoders and to what reads their answers next; that nothing panics, hangs or grows
//! without end is all that it holds.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path as FilePath;
use std::sync::Arc;

use ssh_rescue::decode::{legacy, nft};
use ssh_rescue::facts::*;
use ssh_rescue::judge::{Path, netfilter};
use ssh_rescue::policy::Policy;

/// `struct nlmsghdr`, and `struct nfgenmsg` behind it.
const HEADER: usize = 16;
/// Bytes of `struct ipt_getinfo`.
const INFO: usize = 84;

/// The messages of a stream, header included; the rest of it where a length does not fit.
pub fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(length) = bytes.first_chunk().map(|l| u32::from_ne_bytes(*l) as usize) {
        let length = if length < HEADER || length > bytes.len() { bytes.len() } else { length };
        all.push(bytes[..length].to_vec());
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The low byte of a message's kind: of nf_tables, what object it is about.
pub fn kind(message: &[u8]) -> u8 {
    message.get(4).copied().unwrap_or_default()
}

/// A netlink attribute.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = length.to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A dump of one rule, with this list of expressions, in a base chain of INPUT.
pub fn one_rule(family: TableFamily, expressions: &[u8]) -> RawNft {
    let message = |parts: &[Vec<u8>]| [vec![0; HEADER], vec![family.nfproto(), 0, 0, 0], parts.concat()].concat();
    let table = attribute(1, b"t\0");
    let hook = [attribute(1, &1u32.to_be_bytes()), attribute(2, &0u32.to_be_bytes())].concat();
    let chain = [table.clone(), attribute(3, b"c\0"), attribute(4, &hook), attribute(5, &1u32.to_be_bytes())];
    RawNft {
        tables: vec![message(&[table.clone()])],
        chains: vec![message(&chain)],
        rules: vec![message(&[table, attribute(2, b"c\0"), attribute(4, expressions)])],
        ..RawNft::default()
    }
}

/// Tells each rule in words, as a report does.
pub fn tell(tables: &[Table]) {
    for table in tables {
        for rule in table.chains.iter().flat_map(|c| c.rules.iter()) {
            let _ = (rule.words(&Language::of(table)), rule.to_string());
        }
    }
}

/// Decodes a dump, tells its rules and walks every source through them.
pub fn judge(raw: RawNft) {
    let tables = nft::tables(&raw);
    tell(&tables);
    let nft = Seen::Present(NftRules { generation: 1, tables, raw: Arc::new(raw) });
    walk(&Firewall { nft, ..no_rules() });
}

/// Decodes `struct ipt_getinfo` and the entries behind it, and does the same.
pub fn judge_legacy(family: Family, bytes: &[u8]) {
    let Some((info, entries)) = bytes.split_at_checked(INFO) else { return };
    let raw = RawLegacy { table: "filter".into(), info: info.to_vec(), entries: entries.to_vec() };
    let Some(table) = legacy::table(family, &raw, false) else { return };
    let tables = vec![table];
    tell(&tables);
    let rules = Seen::Present(LegacyRules { tables, raw: Arc::new(vec![raw]) });
    walk(&match family {
        Family::Ipv4 => Firewall { legacy4: rules, ..no_rules() },
        Family::Ipv6 => Firewall { legacy6: rules, ..no_rules() },
    });
}

fn walk(firewall: &Firewall) {
    let net = no_net();
    for address in [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let path = Path { family: Family::of(address), interface: "eth0".into(), ifindex: 2, address, port: 22 };
        let _ =
            netfilter::walk(firewall, &net, &path, &Policy::default().firewall.respect, &netfilter::Ports::default());
    }
}

fn no_rules() -> Firewall {
    Firewall {
        nft: Seen::Absent,
        legacy4: Seen::Absent,
        legacy6: Seen::Absent,
        ipsets: Seen::Absent,
        outside: Vec::new(),
    }
}

fn no_net() -> Net {
    Net {
        links: Seen::Absent,
        addresses: Seen::Absent,
        routes: Seen::Absent,
        policy_routing: false,
        rp_filter: Vec::new(),
    }
}

/// A host with nothing on it but these TCP wrappers and this sshd.
pub fn host(wrappers: Wrappers, test: Seen<ConfigTest>, settings: Seen<Settings>, units: Seen<Vec<Unit>>) -> Snapshot {
    let binary = Binary { path: "/usr/sbin/sshd".into(), needed: vec!["libwrap.so.0".into()], version: None };
    let process =
        Process { pid: 7, name: "sshd".into(), title: String::new(), exe: Some("/usr/sbin/sshd".into()), state: 'S' };
    let owner = SocketOwner {
        pid: 7,
        name: "sshd".into(),
        exe: Some("/usr/sbin/sshd".into()),
        unit: None,
        state: 'S',
        frozen: false,
        beside: None,
    };
    let listener = |address| Listener {
        address,
        port: 22,
        v6_only: true,
        interface: None,
        inode: 1,
        queued: 0,
        backlog: 128,
        waits: None,
        owners: Seen::Present(vec![owner.clone()]),
        greeting: None,
    };
    let bare = Snapshot::rules_alone(no_net(), no_rules());
    Snapshot {
        listeners: Seen::Present([IpAddr::from([0; 4]), IpAddr::from([0; 16])].map(listener).to_vec()),
        sshd: Sshd { binary: Seen::Present(binary), test, settings, units, processes: vec![process], ..bare.sshd },
        wrappers,
        ..bare
    }
}

/// No file of hosts_access(5).
pub fn no_wrappers() -> Wrappers {
    Wrappers { allow: Seen::Absent, deny: Seen::Absent, lists: Vec::new() }
}

/// A file of hosts_access(5).
pub fn text_file(path: &str, bytes: &[u8]) -> Seen<TextFile> {
    Seen::Present(TextFile { path: FilePath::new(path).into(), bytes: bytes.to_vec() })
}
