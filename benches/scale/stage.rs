//! A small host in namespaces: an uplink, addresses, default routes, an sshd, and no rules.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ssh_rescue::facts::{Address, Family, Link, Net, Route, RouteKind, Seen};
use ssh_rescue::host::{Call, Host, Scratch, ScratchError};
use ssh_rescue::rehearse::layout::set_up;

const IFINDEX: u32 = 77;
const ARPHRD_NONE: u16 = 65534;
const RT_TABLE_MAIN: u32 = 254;

/// Runs `work` on a fresh small host.
pub fn on_a_host<T: Send>(work: impl FnOnce(&Host) -> T + Send) -> T {
    let inside = |host: &Host| {
        let layout = set_up(host, &net(), &[IFINDEX], &[])?;
        assert!(layout.missing.is_empty(), "{:?}", layout.missing);
        prepare(host);
        let mut sshd = host.spawn_bound("sshd", &["-D"]).map_err(ScratchError::Thread)?;
        while TcpStream::connect("127.0.0.1:22").is_err() {
            assert!(sshd.try_wait().is_ok_and(|ended| ended.is_none()), "sshd does not start");
            sleep(Duration::from_millis(10));
        }
        let result = work(host);
        let _ = (sshd.kill(), sshd.wait());
        Ok(result)
    };
    Host::live().scratch(Scratch::Host, inside).expect("make a scratch host (root is needed)")
}

/// The files that an sshd needs; /etc is the scratch host's own.
fn prepare(host: &Host) {
    let _ = fs::remove_dir_all("/etc/ssh/sshd_config.d");
    let key = "/etc/ssh/ssh_host_ed25519_key";
    let config = format!("Port 22\nUsePAM no\nHostKey {key}\n");
    fs::write("/etc/ssh/sshd_config", config).expect("write sshd's configuration");
    if !Path::new(key).exists() {
        tool(host, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", key], "");
    }
}

/// Runs a tool to prepare something; it must succeed.
pub fn tool(host: &Host, program: &str, args: &[&str], stdin: &str) {
    let deadline = Duration::from_secs(120);
    let output = host.run(&Call { stdin: stdin.as_bytes(), deadline, ..Call::new(program, args) });
    let output = output.expect("run a tool");
    assert!(output.ok(), "{program} {args:?}: {}", output.complaint());
}

fn net() -> Net {
    let link = Link {
        index: IFINDEX,
        name: "eth0".into(),
        kind: ARPHRD_NONE,
        up: true,
        loopback: false,
        arp: false,
        group: 0,
        mac: None,
        master: None,
        driver: None,
        xdp: false,
    };
    let address = |text: &str, prefix| Address {
        interface: IFINDEX,
        address: text.parse().expect("an address"),
        prefix,
        global: true,
        tentative: false,
    };
    let route = |family, destination: &str| Route {
        family,
        kind: RouteKind::Unicast,
        table: RT_TABLE_MAIN,
        destination: destination.parse().expect("a prefix"),
        interfaces: vec![IFINDEX],
        gateway: None,
        metric: 0,
    };
    Net {
        links: Seen::Present(vec![link]),
        addresses: Seen::Present(vec![address("192.0.2.10", 24), address("2001:db8:2::10", 64)]),
        routes: Seen::Present(vec![route(Family::Ipv4, "0.0.0.0/0"), route(Family::Ipv6, "::/0")]),
        policy_routing: false,
        rp_filter: vec![("eth0".into(), 0)],
    }
}
