//! A healthy host for the tests of the judges: one uplink, both families, sshd on port 22 under systemd.

use std::net::IpAddr;
use std::sync::Arc;

use crate::facts::*;

pub const V4: &str = "192.0.2.10";
pub const V6: &str = "2001:db8::10";

pub fn healthy() -> Snapshot {
    let net = Net {
        links: Seen::Present(vec![Link {
            index: 2,
            name: "eth0".into(),
            kind: 1,
            up: true,
            loopback: false,
            arp: false,
            group: 0,
            mac: None,
            master: None,
            driver: None,
            xdp: false,
        }]),
        addresses: Seen::Present(vec![address(V4, 24), address(V6, 64)]),
        routes: Seen::Present(vec![default_route("0.0.0.0/0"), default_route("::/0")]),
        policy_routing: false,
        rp_filter: Vec::new(),
    };
    let firewall = Firewall::none();
    let bare = Snapshot::rules_alone(net, firewall);
    Snapshot {
        listeners: Seen::Present(vec![listener("0.0.0.0", 22), listener("::", 22)]),
        sshd: Sshd {
            binary: Seen::Present(Binary {
                path: "/usr/sbin/sshd".into(),
                needed: vec!["libwrap.so.0".into()],
                version: None,
            }),
            test: Seen::Present(ConfigTest { passed: true, status: 0, messages: Vec::new() }),
            settings: Seen::Present(Settings { ports: vec![22], ..Settings::default() }),
            units: Seen::Present(vec![
                unit("ssh.service", "active", "enabled"),
                unit("ssh.socket", "inactive", "disabled"),
            ]),
            ..bare.sshd
        },
        resources: Resources { memory_total: 1 << 30, memory_available: 1 << 29, ..bare.resources },
        ..bare
    }
}

/// `table inet t`
pub fn table(chains: Vec<Chain>, sets: Vec<Set>) -> Table {
    Table {
        backend: Backend::Nft,
        family: TableFamily::Inet,
        name: "t".into(),
        dormant: false,
        owner: None,
        chains,
        sets: sets.into(),
    }
}

/// A filter chain on a hook, named `c`.
pub fn filter(hook: Hook, policy: Policy, rules: Vec<Vec<Expr>>) -> Chain {
    let base = BaseChain { hook, kind: ChainKind::Filter, priority: 0, policy, devices: Vec::new() };
    let rules: Vec<Rule> = rules.into_iter().map(|exprs| Rule { handle: None, comment: None, exprs }).collect();
    Chain { name: "c".into(), base: Some(base), rules: rules.into() }
}

/// A set of single elements.
pub fn set(name: &str, key_len: usize, elements: Vec<Element>) -> Set {
    Set {
        name: name.into(),
        flags: 0,
        key_len,
        fields: Vec::new(),
        data_len: 0,
        is_map: false,
        object: None,
        is_interval: false,
        has_timeout: false,
        elements,
        exprs: Vec::new(),
    }
}

/// These tables of nf_tables, and no other rules.
pub fn nft(tables: Vec<Table>) -> Firewall {
    Firewall { nft: Seen::Present(NftRules { generation: 1, tables, raw: Arc::default() }), ..Firewall::none() }
}

pub fn address(text: &str, prefix: u8) -> Address {
    Address { interface: 2, address: ip(text), prefix, global: true, tentative: false }
}

fn default_route(net: &str) -> Route {
    let destination: ipnet::IpNet = net.parse().expect("a network");
    Route {
        family: Family::of(destination.network()),
        kind: RouteKind::Unicast,
        table: 254,
        destination,
        interfaces: vec![2],
        gateway: None,
        metric: 0,
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn listener(address: &str, port: u16) -> Listener {
    Listener {
        address: ip(address),
        port,
        v6_only: address == "::",
        interface: None,
        inode: 7,
        queued: 0,
        backlog: 128,
        waits: None,
        owners: Seen::Present(vec![owner(612, "sshd", "/usr/sbin/sshd")]),
        greeting: None,
    }
}

pub fn owner(pid: i32, name: &str, exe: &str) -> SocketOwner {
    SocketOwner { pid, name: name.into(), exe: Some(exe.into()), unit: None, state: 'S', frozen: false, beside: None }
}

pub fn unit(name: &str, active: &str, file: &str) -> Unit {
    Unit {
        name: name.into(),
        load_state: "loaded".into(),
        active_state: active.into(),
        sub_state: "dead".into(),
        unit_file_state: file.into(),
        result: "success".into(),
        main_pid: 0,
        fragment_path: String::new(),
        kill_mode: String::new(),
        socket: None,
    }
}
