//! A small host in a scratch namespace.

use std::net::IpAddr;

use ssh_rescue::facts::{Address, Family, Link, Net, Route, RouteKind, Seen};
use ssh_rescue::host::{Call, Host};
use ssh_rescue::rehearse::packet::{Flow, Protocol};

pub const IFINDEX: u32 = 77;
pub const ADDRESS4: &str = "192.0.2.10";
pub const ADDRESS6: &str = "2001:db8:2::10";

/// Says aloud that something is not tested. Where everything is required (`make test`), that is a failure.
pub fn skipped(test: &str, why: &str) {
    assert_ne!(std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref(), Ok("1"), "{test}: {why}");
    eprintln!("SKIPPED {test}: {why}");
}

/// Whether the kernel can be asked at all; says aloud when not.
pub fn root(test: &str) -> bool {
    let root = Host::live().privileged();
    if !root {
        skipped(test, "needs root for scratch namespaces");
    }
    root
}

/// `eth0` with number 77, an address of each family and default routes, and no neighbours (as a TUN device has none).
/// `kind` is ARPHRD_ETHER (1) or ARPHRD_NONE (65534).
pub fn net(kind: u16) -> Net {
    let mac = (kind == 1).then_some([2, 0, 0, 0, 0, 0x10]);
    let link = Link {
        index: IFINDEX,
        name: "eth0".into(),
        kind,
        up: true,
        loopback: false,
        arp: false,
        group: 0,
        mac,
        master: None,
        driver: None,
        xdp: false,
    };
    let address = |text: &str, prefix| Address {
        interface: IFINDEX,
        address: text.parse().unwrap(),
        prefix,
        global: true,
        tentative: false,
    };
    let route = |family, destination: &str| Route {
        family,
        kind: RouteKind::Unicast,
        table: 254,
        destination: destination.parse().unwrap(),
        interfaces: vec![IFINDEX],
        gateway: None,
        metric: 0,
    };
    Net {
        links: Seen::Present(vec![link]),
        addresses: Seen::Present(vec![address(ADDRESS4, 24), address(ADDRESS6, 64)]),
        routes: Seen::Present(vec![route(Family::Ipv4, "0.0.0.0/0"), route(Family::Ipv6, "::/0")]),
        policy_routing: false,
        rp_filter: vec![("eth0".into(), 0)],
    }
}

pub fn tcp(source: &str, source_port: u16, port: u16) -> Flow {
    let source: IpAddr = source.parse().unwrap();
    let target = if source.is_ipv4() { ADDRESS4 } else { ADDRESS6 };
    Flow { protocol: Protocol::Tcp, source, source_port, target: target.parse().unwrap(), port }
}

pub fn udp(source: &str, source_port: u16, port: u16) -> Flow {
    Flow { protocol: Protocol::Udp, ..tcp(source, source_port, port) }
}

/// A tool's call with its input, for a machine that has much else to do.
pub fn patient<'a>(program: &'a str, args: &'a [&'a str], stdin: &'a str) -> Call<'a> {
    Call { stdin: stdin.as_bytes(), deadline: std::time::Duration::from_secs(120), ..Call::new(program, args) }
}

/// Runs a tool in the calling thread's namespace; it must succeed.
pub fn tool(host: &Host, program: &str, args: &[&str], stdin: &str) {
    let output = host.run(&patient(program, args, stdin)).unwrap();
    assert!(output.ok(), "{program} {args:?}: {}", output.complaint());
}

/// A SYN of `source` from a fixed port to `target`.
pub fn probe_to(source: &str, target: &str, port: u16) -> Flow {
    let (source, target) = (source.parse().unwrap(), target.parse().unwrap());
    Flow { protocol: Protocol::Tcp, source, source_port: 40000, target, port }
}
