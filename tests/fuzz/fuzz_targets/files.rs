//! Texts of the host that no target of their own reads: sshd's log, units, sysctl.d, ufw's files, SELinux's ports, and what
//! brings interfaces up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::{firewalld, interfaces, selinux_ports, sshd_log, sysctl, ufw, unit_file};
use ssh_rescue::facts::Family;

fuzz_target!(|bytes: &[u8]| {
    let settings = sysctl::settings(bytes);
    for key in ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/eth0.7/rp_filter"] {
        let last = sysctl::last_word(settings.iter(), key);
        assert!(last.is_none_or(|last| last.value.is_some()), "{last:?}");
    }
    let _ = (selinux_ports::ports(bytes), sshd_log::shut_out(bytes));
    for names in [interfaces::ifupdown(bytes), interfaces::networkd(bytes), interfaces::netplan(bytes)] {
        assert!(names.iter().all(|name| bytes.len() >= name.len()), "{names:?}");
    }
    let text = String::from_utf8_lossy(bytes);
    if let Ok(zone) = firewalld::zone(&text) {
        let _ = firewalld::rules(&zone, |_| firewalld::service(&text).map(|service| service.tcp));
    }
    // A unit file and its drop-in.
    let (main, more) = bytes.split_at(bytes.len() / 2);
    let files = [main.to_vec(), more.to_vec()];
    let _ = (unit_file::exec_start(&files), unit_file::listens(&files));
    let _ = unit_file::values(&files, "Install", "WantedBy");
    let text = text.into_owned();
    let _ = (ufw::value(&text, "ENABLED"), ufw::yes(&text, "IPV6"));
    let files = ufw::UfwFiles { defaults: text.clone(), before: text.clone(), after: text };
    for family in Family::BOTH {
        let _ = ufw::start(&files, family);
    }
});
