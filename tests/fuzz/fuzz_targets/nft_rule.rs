//! The list of expressions of one rule; the first byte says in a table of which family.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::facts::TableFamily;
use ssh_rescue_fuzz::{judge, one_rule};

const FAMILIES: [TableFamily; 3] = [TableFamily::Inet, TableFamily::Ip, TableFamily::Ip6];

fuzz_target!(|bytes: &[u8]| {
    let Some((family, expressions)) = bytes.split_first() else { return };
    judge(one_rule(FAMILIES[usize::from(*family) % FAMILIES.len()], expressions));
});
