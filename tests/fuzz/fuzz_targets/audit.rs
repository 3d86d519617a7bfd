//! A record of audit's: the first byte says whether a header as the kernel's is put before it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::audit::{NETFILTER_CFG, rules_changed};

fuzz_target!(|bytes: &[u8]| {
    let Some((framed, text)) = bytes.split_first() else { return };
    match framed % 2 {
        0 => drop(rules_changed(text)),
        _ => drop(rules_changed(&[&[0; 4], &NETFILTER_CFG.to_ne_bytes()[..], &[0; 10], text].concat())),
    }
});
