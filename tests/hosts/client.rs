//! The wire between a host and its clients: two network namespaces, each held by a thread, and what a client sees.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::gettid;
use ssh_rescue::facts::RouteKind;
use ssh_rescue::host::{Call, Dialled, Host, NewRoute, Rtnl, dial};
use ssh_rescue::rehearse::drill::Sight;

pub const HOST: [(&str, u8); 2] = [("192.0.2.10", 24), ("2001:db8:2::10", 64)];
const ROUTER: [(&str, u8); 2] = [("192.0.2.1", 24), ("2001:db8:2::1", 64)];

/// Who comes in, by IPv4 and by IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client([&'static str; 2]);

/// Anybody.
pub const SOMEBODY: Client = Client(["198.51.100.7", "2001:db8:100::7"]);
/// Whom a fail2ban bars.
pub const BANNED: Client = Client(["203.0.113.9", "2001:db8:bad::9"]);
/// Somebody in the office's own networks.
pub const OFFICE: Client = Client(["10.9.9.9", "fd00:9::9"]);

impl Client {
    pub fn addresses(self) -> [IpAddr; 2] {
        self.0.map(ip)
    }
}

/// How long a client waits for a connection, and for the banner: libwrap keeps a client that it bars for five seconds.
const CONNECT: Duration = Duration::from_millis(1200);
const BANNER: Duration = Duration::from_millis(6500);

/// What is done where the clients are.
type Errand = Box<dyn FnOnce() + Send>;

/// A wire with a host's namespace at one end, `eth0` of two families, and clients at the other.
pub struct Wire {
    errands: Sender<Errand>,
    /// The namespace that a host is to be booted in.
    pub namespace: PathBuf,
    /// Both threads end when what they wait for is gone.
    _release: Sender<()>,
    _threads: [JoinHandle<()>; 2],
}

impl Wire {
    pub fn lay() -> Wire {
        let (lend, borrowed) = channel();
        let (errands, sent) = channel();
        let clients = thread::spawn(move || clients(&lend, &sent));
        let far: OwnedFd = borrowed.recv().expect("the clients' namespace");
        let (tell, told) = channel();
        let (release, hold) = channel();
        let host = thread::spawn(move || near(&far, &tell, &hold));
        let namespace = told.recv().expect("the host's namespace");
        let wire = Wire { errands, namespace, _release: release, _threads: [clients, host] };
        // The clients' side sets its end up before its first errand.
        wire.there(|| ());
        wire
    }

    /// What SSH says to a client, by IPv4 and by IPv6.
    pub fn see(&self, from: Client) -> [Sight; 2] {
        self.ask(from, 22)
    }

    pub fn ask(&self, from: Client, port: u16) -> [Sight; 2] {
        self.there(move || {
            // A client that has been away must find the host anew.
            ip_tool(&["-6", "neigh", "flush", "dev", "uplink"]);
            // Both families at once: a lock-out of both costs one timeout.
            thread::scope(|scope| {
                [0, 1]
                    .map(|n| scope.spawn(move || visit(from.addresses()[n], SocketAddr::new(ip(HOST[n].0), port))))
                    .map(|t| t.join().expect("a client"))
            })
        })
    }

    /// Runs something in the clients' namespace, and gives what it gives.
    pub fn there<T: Send + 'static>(&self, errand: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = channel();
        let errand = Box::new(move || drop(tell.send(errand())));
        self.errands.send(errand).expect("the clients are there");
        told.recv().expect("the clients answer")
    }
}

fn enter() -> Rtnl {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
    let mut rtnl = Rtnl::open().expect("rtnetlink");
    rtnl.up(1).expect("set lo up");
    rtnl
}

/// The host's end. Lives until the wire is taken away.
fn near(far: &OwnedFd, tell: &Sender<PathBuf>, hold: &Receiver<()>) {
    let mut rtnl = enter();
    rtnl.add_veth("eth0", "uplink", far).expect("a veth pair");
    let index = if_nametoindex("eth0").expect("eth0");
    rtnl.up(index).expect("set eth0 up");
    for (address, prefix) in HOST {
        rtnl.add_address(index, ip(address), prefix).expect("an address of the host");
    }
    let everywhere: [IpNet; 2] = [Ipv4Net::default().into(), Ipv6Net::default().into()];
    for ((router, _), destination) in ROUTER.into_iter().zip(everywhere) {
        let gateway = Some(ip(router));
        let route = NewRoute { kind: RouteKind::Unicast, destination, interface: Some(index), gateway, metric: 0 };
        rtnl.add_route(&route).expect("a default route");
    }
    let path = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
    if tell.send(path.into()).is_ok() {
        let _ = hold.recv();
    }
}

/// The clients' end: lends its namespace, sets its end up when it is first needed, then runs each errand.
fn clients(lend: &Sender<OwnedFd>, errands: &Receiver<Errand>) {
    let mut rtnl = enter();
    let namespace = File::open("/proc/thread-self/ns/net").expect("the clients' namespace");
    lend.send(namespace.into()).expect("somebody waits for it");
    let Ok(first) = errands.recv() else { return };
    let index = if_nametoindex("uplink").expect("the clients' end of the wire");
    rtnl.up(index).expect("set it up");
    for (address, prefix) in ROUTER {
        rtnl.add_address(index, ip(address), prefix).expect("an address of the router");
    }
    for Client(pair) in [SOMEBODY, BANNED, OFFICE] {
        for (address, prefix) in pair.into_iter().zip([32, 128]) {
            rtnl.add_address(index, ip(address), prefix).expect("an address of a client");
        }
    }
    std::iter::once(first).chain(errands).for_each(|errand| errand());
}

fn visit(source: IpAddr, target: SocketAddr) -> Sight {
    match dial(source, target, CONNECT, BANNER).expect("a socket") {
        Dialled::Greeted(line) if line.starts_with(b"SSH-") => Sight::Banner,
        Dialled::Greeted(_) | Dialled::Closed => Sight::Closed,
        Dialled::TimedOut => Sight::TimedOut,
        Dialled::Silent => Sight::NoBanner,
        Dialled::Refused(_) => Sight::Refused,
    }
}

/// Runs ip(8) in the calling thread's namespace.
fn ip_tool(args: &[&str]) {
    let output = Host::live().run(&Call::new("ip", args)).expect("ip");
    assert!(output.ok(), "ip {args:?}: {}", output.complaint());
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
