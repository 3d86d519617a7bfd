//! A policy: what is right is shown and read again as the same, what is wrong is shown with its place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::policy::parse;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match parse(text) {
        Ok(policy) => assert_eq!(parse(&policy.to_toml()).as_ref(), Ok(&policy), "{text:?}"),
        Err(mistakes) => {
            assert!(!mistakes.is_empty(), "{text:?}");
            mistakes.iter().for_each(|m| drop(m.show("policy.toml")));
        }
    }
});
