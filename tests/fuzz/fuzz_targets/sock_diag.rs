//! Answers of sock_diag(7).
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::sock_diag;
use ssh_rescue_fuzz::messages;

fuzz_target!(|bytes: &[u8]| {
    for message in messages(bytes) {
        let _ = message.get(16..).and_then(sock_diag::listener);
        let _ = message.get(16..).and_then(|body| sock_diag::waiting(body, 22));
    }
});
