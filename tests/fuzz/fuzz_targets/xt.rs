//! A match or a target of x_tables: which of them, revision and family in a byte each, name up to a NUL, then its data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::facts::TableFamily;
use ssh_rescue_fuzz::{attribute, judge, one_rule};

const FAMILIES: [TableFamily; 3] = [TableFamily::Ip, TableFamily::Ip6, TableFamily::Inet];

fuzz_target!(|bytes: &[u8]| {
    let [what, revision, family, rest @ ..] = bytes else { return };
    let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
    let (name, info) = rest.split_at(end);
    let kind: &[u8] = if what & 1 == 0 { b"match\0" } else { b"target\0" };
    let data = [
        attribute(1, &[name, b"\0"].concat()),
        attribute(2, &u32::from(*revision).to_be_bytes()),
        attribute(3, info.get(1..).unwrap_or_default()),
    ];
    let expression = [attribute(1, kind), attribute(2, &data.concat())].concat();
    let family = FAMILIES[usize::from(*family) % FAMILIES.len()];
    judge(one_rule(family, &attribute(1, &expression)));
});
