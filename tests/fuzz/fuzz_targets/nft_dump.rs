//! A dump of nf_tables: messages of tables, chains, rules, sets and elements in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::nft;
use ssh_rescue::facts::RawNft;
use ssh_rescue_fuzz::{judge, kind, messages};

const NEWTABLE: u8 = 0;
const NEWCHAIN: u8 = 3;
const NEWRULE: u8 = 6;
const NEWSET: u8 = 9;
const NEWSETELEM: u8 = 12;

fuzz_target!(|bytes: &[u8]| {
    let mut raw = RawNft::default();
    for message in messages(bytes) {
        let _ = (nft::generation(&message), nft::ask_for_elements(&message));
        match kind(&message) {
            NEWTABLE => raw.tables.push(message),
            NEWCHAIN => raw.chains.push(message),
            NEWRULE => raw.rules.push(message),
            NEWSET => raw.sets.push(message),
            NEWSETELEM => raw.elements.push(message),
            _ => {}
        }
    }
    judge(raw);
});
