//! A dump of ipsets.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::ipset;
use ssh_rescue_fuzz::messages;

fuzz_target!(|bytes: &[u8]| {
    let _ = ipset::sets(&messages(bytes));
});
