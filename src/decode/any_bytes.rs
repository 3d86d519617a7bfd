//! Whatever bytes come, the decoders and the words for what they give end without a panic.

use std::sync::Arc;

use proptest::prelude::*;

use super::xt::Extension;
use super::{ipset, legacy, nft, route, xt};
use crate::facts::{Backend, Expr, Family, Language, RawLegacy, RawNft, Rule, Table, TableFamily};

const EXPRESSIONS: [&str; 38] = [
    "immediate",
    "cmp",
    "range",
    "payload",
    "meta",
    "ct",
    "notrack",
    "bitwise",
    "byteorder",
    "lookup",
    "dynset",
    "objref",
    "fib",
    "limit",
    "quota",
    "connlimit",
    "numgen",
    "hash",
    "rt",
    "socket",
    "osf",
    "tproxy",
    "nat",
    "masq",
    "redir",
    "reject",
    "queue",
    "log",
    "counter",
    "last",
    "dup",
    "fwd",
    "synproxy",
    "flow_offload",
    "exthdr",
    "xfrm",
    "match",
    "target",
];
const MATCHES: [&str; 40] = [
    "tcp",
    "udp",
    "multiport",
    "conntrack",
    "state",
    "iprange",
    "addrtype",
    "set",
    "mac",
    "mark",
    "connmark",
    "comment",
    "pkttype",
    "icmp",
    "icmp6",
    "length",
    "ttl",
    "hl",
    "tcpmss",
    "dscp",
    "tos",
    "owner",
    "physdev",
    "rpfilter",
    "socket",
    "frag",
    "helper",
    "policy",
    "limit",
    "hashlimit",
    "statistic",
    "quota",
    "connbytes",
    "recent",
    "connlimit",
    "time",
    "string",
    "u32",
    "bpf",
    "geoip",
];
const TARGETS: [&str; 18] = [
    "REJECT",
    "LOG",
    "NFLOG",
    "MARK",
    "CONNMARK",
    "NOTRACK",
    "CT",
    "SNAT",
    "DNAT",
    "MASQUERADE",
    "REDIRECT",
    "NETMAP",
    "TPROXY",
    "SYNPROXY",
    "NFQUEUE",
    "SET",
    "TCPMSS",
    "ERROR",
];

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut out = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Attributes of small types: small numbers, names, bytes, and attributes again.
fn attributes() -> impl Strategy<Value = Vec<u8>> {
    let number = (1u16..13, 0u32..30).prop_map(|(kind, n)| attribute(kind, &n.to_be_bytes()));
    let wide = (1u16..13, any::<u64>()).prop_map(|(kind, n)| attribute(kind, &n.to_be_bytes()));
    let names = prop::sample::select(vec!["t\0", "c\0", "s\0", "eth0\0"]);
    let name = (1u16..13, names).prop_map(|(kind, name)| attribute(kind, name.as_bytes()));
    let bytes = prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| attribute(1, &b));
    let leaf = prop::collection::vec(prop_oneof![number, wide, name, bytes], 0..8).prop_map(|parts| parts.concat());
    leaf.prop_recursive(4, 40, 6, |inner| {
        let nested = (1u16..19, inner).prop_map(|(kind, value)| attribute(kind, &value));
        prop::collection::vec(nested, 0..6).prop_map(|parts| parts.concat())
    })
}

/// An expression of a known name, and data that may or may not be its own.
fn expression() -> impl Strategy<Value = Vec<u8>> {
    let names = EXPRESSIONS.iter().chain(&MATCHES).copied().collect::<Vec<_>>();
    (prop::sample::select(names), prop::collection::vec(attributes(), 0..4)).prop_map(|(name, data)| {
        let name = attribute(1, format!("{name}\0").as_bytes());
        attribute(1, &[name, attribute(2, &data.concat())].concat())
    })
}

fn message(body: &[u8]) -> Vec<u8> {
    [vec![0; 16], vec![2, 0, 0, 0], body.to_vec()].concat()
}

/// A table, a chain, sets and a rule that belong together, filled with what comes.
fn dump() -> impl Strategy<Value = RawNft> {
    let rules = prop::collection::vec(expression(), 0..12);
    (attributes(), attributes(), attributes(), rules, prop::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(chain, set, elements, rule, user)| {
            let table = attribute(1, b"t\0");
            let rule = attribute(4, &rule.concat());
            RawNft {
                tables: vec![message(&table)],
                chains: vec![message(&[table.clone(), attribute(3, b"c\0"), chain].concat())],
                sets: vec![message(&[table.clone(), attribute(2, b"s\0"), set].concat())],
                elements: vec![message(&[table.clone(), attribute(2, b"s\0"), attribute(3, &elements)].concat())],
                rules: vec![message(&[table, attribute(2, b"c\0"), rule, attribute(7, &user)].concat())],
                ..RawNft::default()
            }
        },
    )
}

fn tell(tables: &[Table]) -> usize {
    let rules = tables.iter().flat_map(|t| t.chains.iter().flat_map(move |c| c.rules.iter().map(move |r| (t, r))));
    rules.map(|(table, rule)| rule.words(&Language::of(table)).len() + rule.to_string().len()).sum()
}

/// A rule of one x_tables expression, told for a table of each family.
fn tell_one(expr: Expr) {
    let rule = Rule { handle: None, comment: None, exprs: vec![expr] };
    for family in [TableFamily::Ip, TableFamily::Ip6, TableFamily::Inet] {
        let (backend, name) = (Backend::Nft, "t".to_owned());
        let table =
            Table { backend, family, name, dormant: false, owner: None, chains: Vec::new(), sets: Arc::default() };
        let _ = rule.words(&Language::of(&table));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn dumps_of_nf_tables(raw in dump()) {
        let tables = nft::tables(&raw);
        prop_assert_eq!(tables.len(), 1);
        // No rule and no expression is ever left out.
        let rules = &tables[0].chains[0].rules;
        prop_assert_eq!(rules.len(), 1);
        tell(&tables);
    }

    #[test]
    fn messages(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let one = vec![bytes.clone()];
        let raw = RawNft {
            tables: one.clone(), chains: one.clone(), sets: one.clone(), elements: one.clone(), rules: one.clone(),
            ..RawNft::default()
        };
        tell(&nft::tables(&raw));
        let _ = (nft::generation(&bytes), nft::ask_for_elements(&bytes), ipset::sets(&one));
        let _ = (route::link(&bytes), route::address(&bytes), route::route(&bytes), route::rule(&bytes));
        let _ = route::traffic_control(&bytes);
    }

    #[test]
    fn ipsets(body in attributes(), type_name in "(hash|bitmap|list):(ip|net|port|iface|mac|set|mark)(,(ip|net|port))?") {
        let head = [attribute(2, b"s\0"), attribute(3, type_name.as_bytes()), attribute(11, &[0, 1])].concat();
        let _ = ipset::sets(&[message(&[head, attribute(8, &body)].concat())]);
    }

    #[test]
    fn matches_and_targets(
        name in prop::sample::select(MATCHES.iter().chain(&TARGETS).copied().collect::<Vec<_>>()),
        revision in 0u8..6,
        info in prop::collection::vec(any::<u8>(), 0..350),
        family in prop::sample::select(vec![None, Some(Family::Ipv4), Some(Family::Ipv6)]),
    ) {
        let extension = Extension { name: name.as_bytes(), revision, info: &info };
        tell_one(Expr::XtMatch(xt::r#match(family, &extension)));
        tell_one(Expr::XtTarget(xt::target(family, &extension)));
    }

    #[test]
    fn legacy_blobs(
        info in prop::collection::vec(any::<u8>(), 0..90),
        entries in prop::collection::vec(legacy_entry(), 0..6),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut entries = entries.concat();
        for (at, byte) in noise {
            if !entries.is_empty() {
                let at = at.index(entries.len());
                entries[at] = byte;
            }
        }
        let raw = RawLegacy { table: "filter".into(), info, entries };
        for family in Family::BOTH {
            if let Some(table) = legacy::table(family, &raw, false) {
                tell(&[table]);
            }
        }
    }
}

/// An entry of IPv4 whose sizes fit.
fn legacy_entry() -> impl Strategy<Value = Vec<u8>> {
    let extension = |names: &'static [&'static str]| {
        (prop::sample::select(names.to_vec()), 0u8..3, prop::collection::vec(any::<u8>(), 0..64)).prop_map(
            |(name, revision, info)| {
                let mut out = ((32 + info.len()) as u16).to_ne_bytes().to_vec();
                out.extend(name.as_bytes());
                out.resize(31, 0);
                out.push(revision);
                out.extend(info);
                out
            },
        )
    };
    let matches = prop::collection::vec(extension(&MATCHES), 0..3);
    (prop::collection::vec(any::<u8>(), 84), matches, extension(&TARGETS)).prop_map(|(ip, matches, target)| {
        let matches = matches.concat();
        let mut out = ip;
        out.extend([0; 4]);
        out.extend(((112 + matches.len()) as u16).to_ne_bytes());
        out.extend(((112 + matches.len() + target.len()) as u16).to_ne_bytes());
        out.resize(112, 0);
        out.extend(matches);
        out.extend(target);
        out
    })
}
