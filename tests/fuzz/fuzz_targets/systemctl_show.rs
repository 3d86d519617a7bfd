//! What `systemctl show` prints.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::systemctl_show;
use ssh_rescue::facts::Seen;
use ssh_rescue::judge::{listener, sshd};
use ssh_rescue::policy::Policy;
use ssh_rescue_fuzz::{host, no_wrappers};

fuzz_target!(|bytes: &[u8]| {
    let units = systemctl_show::units(bytes);
    let mut host = host(no_wrappers(), Seen::Absent, Seen::Absent, Seen::Present(units));
    host.listeners = Seen::Present(Vec::new());
    let policy = Policy::default();
    let _ = (sshd::findings(&policy, &host), listener::findings(&policy, &host));
});
