//! A table of ip6tables-legacy: `struct ipt_getinfo`, then the entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::facts::Family;
use ssh_rescue_fuzz::judge_legacy;

fuzz_target!(|bytes: &[u8]| judge_legacy(Family::Ipv6, bytes));
