//! What `sshd -T` prints, a NUL, what `sshd -t` complains about, a NUL, and a configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::{sshd_config, sshd_settings};
use ssh_rescue::facts::{ConfigTest, Seen};
use ssh_rescue::judge::{listener, sshd};
use ssh_rescue::policy::Policy;
use ssh_rescue_fuzz::{host, no_wrappers};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |&b| b == 0);
    let settings = sshd_settings::settings(parts.next().unwrap_or_default());
    let complaints = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let messages: Vec<String> = complaints.lines().take(50).map(str::to_owned).collect();
    messages.iter().for_each(|m| drop(sshd_config::complaint(m)));
    for line in sshd_config::lines(parts.next().unwrap_or_default()) {
        let named = sshd_config::includes(&line);
        let _ = named.iter().map(|path| sshd_config::key_kind(path)).count();
    }
    let test = ConfigTest { passed: messages.is_empty(), status: 255, messages };
    let host = host(no_wrappers(), Seen::Present(test), Seen::Present(settings), Seen::Absent);
    let policy = Policy::default();
    let _ = (sshd::findings(&policy, &host), listener::findings(&policy, &host));
});
