//! The files of hosts_access(5): hosts.allow, a NUL, hosts.deny, a NUL, a list that both may name. Decoded, and judged for
//! every source and for single clients.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ssh_rescue::decode::hosts_access::{files, table};
use ssh_rescue::facts::{Seen, Wrappers};
use ssh_rescue::judge::{Path, PathVerdict, wrappers};
use ssh_rescue::policy::Policy;
use ssh_rescue_fuzz::{host, text_file};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |&b| b == 0);
    let mut part = || parts.next().unwrap_or_default();
    let (allow, deny, list) = (part(), part(), part());
    let named = [allow, deny].into_iter().flat_map(|text| files(&table(text)));
    let lists = named.map(|path| (path, Seen::Present(list.to_vec()))).collect();
    let files =
        Wrappers { allow: text_file("/etc/hosts.allow", allow), deny: text_file("/etc/hosts.deny", deny), lists };
    for client in ["10.0.0.1", "203.0.113.9", "2001:db8::1", "::ffff:10.0.0.1"] {
        let _ = wrappers::dry_run(&files, client.parse().expect("an address"));
    }
    let host = host(files, Seen::Absent, Seen::Absent, Seen::Absent);
    let _ = wrappers::findings(&Policy::default(), &host);
    for address in ["192.0.2.10", "2001:db8:2::10"] {
        let address = address.parse().expect("an address");
        let family = ssh_rescue::facts::Family::of(address);
        let mut verdict = PathVerdict::open(Path { family, interface: "eth0".into(), ifindex: 2, address, port: 22 });
        wrappers::wrappers(&mut verdict, &host);
    }
});
