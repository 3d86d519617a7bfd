//! The links, addresses and routes of a host, set up again in a scratch namespace.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use nix::libc;

use crate::decode::route;
use crate::facts::{Net, RouteKind, Seen};
use crate::host::{Host, Layer, NewRoute, Rtnl, ScratchError, Tun};

/// ARPHRD_ETHER of linux/if_arp.h.
const ARPHRD_ETHER: u16 = 1;
/// More links than this are not set up: a host with thousands of containers has thousands of veths.
const LINKS: usize = 64;

/// One interface of the layout that clients come in by.
#[derive(Debug)]
pub struct Uplink {
    pub name: String,
    pub tun: Tun,
    pub layer: Layer,
    /// The host's own, for Ethernet.
    pub mac: [u8; 6],
}

/// The devices of a scratch namespace; they go with it.
#[derive(Debug, Default)]
pub struct Layout {
    pub uplinks: Vec<Uplink>,
    /// Kept open: a device goes when its last descriptor does.
    others: Vec<Tun>,
    /// Addresses that the kernel does not answer at yet.
    settling: Vec<IpAddr>,
    /// Addresses that sources must not have: the host's own and those that a network keeps for itself.
    pub reserved: Vec<IpAddr>,
    /// What could not be set up as it is on the host.
    pub missing: Vec<String>,
}

impl Drop for Layout {
    /// The kernel takes some 20 ms to be sure that nobody uses a device any more; nobody has to wait for that.
    fn drop(&mut self) {
        let devices = (std::mem::take(&mut self.uplinks), std::mem::take(&mut self.others));
        // Where no thread can be had the devices are closed here.
        let _ = std::thread::Builder::new().name("closing".into()).spawn(move || drop(devices));
    }
}

/// Sets up `net` in the calling thread's namespace, with clients behind `uplinks` (interface numbers), and a bare device
/// for each further name that rules are bound to.
pub fn set_up(host: &Host, net: &Net, uplinks: &[u32], devices: &[String]) -> Result<Layout, ScratchError> {
    let mut layout = Layout::default();
    for (path, value) in QUIET {
        // A kernel without IPv6 has no such file, and nothing to be kept quiet.
        let _ = host.write_sysctl(Path::new(path), value);
    }
    let mut rtnl = Rtnl::open().map_err(ScratchError::device("open rtnetlink"))?;
    rtnl.up(1).map_err(ScratchError::device("set lo up"))?;
    links(net, uplinks, devices, &mut rtnl, &mut layout)?;
    addresses(net, &mut rtnl, &mut layout);
    settle(&mut rtnl, &mut layout);
    routes(net, &mut rtnl, &mut layout);
    for (name, value) in &net.rp_filter {
        if layout.uplinks.iter().any(|u| u.name == *name) && is_plain(name) {
            let path = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
            if host.write_sysctl(Path::new(&path), &value.to_string()).is_err() {
                layout.missing.push(format!("rp_filter of {name}"));
            }
        }
    }
    Ok(layout)
}

/// Nothing answers by itself or less than asked: every SYN gets its SYN-ACK whatever the backlog, every refusal its ICMP.
const QUIET: [(&str, &str); 9] = [
    ("/proc/sys/net/ipv4/conf/all/rp_filter", "0"),
    ("/proc/sys/net/ipv4/conf/default/rp_filter", "0"),
    ("/proc/sys/net/ipv4/tcp_syncookies", "1"),
    ("/proc/sys/net/ipv4/icmp_ratelimit", "0"),
    ("/proc/sys/net/ipv4/icmp_ratemask", "0"),
    ("/proc/sys/net/ipv6/icmp/ratelimit", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_dad", "0"),
    ("/proc/sys/net/ipv6/conf/default/router_solicitations", "0"),
    ("/proc/sys/net/ipv6/conf/default/accept_ra", "0"),
];

fn links(
    net: &Net,
    uplinks: &[u32],
    devices: &[String],
    rtnl: &mut Rtnl,
    layout: &mut Layout,
) -> Result<(), ScratchError> {
    let none = Vec::new();
    let links = net.links.present().unwrap_or(&none);
    let addressed = |index| match &net.addresses {
        Seen::Present(all) => all.iter().any(|a| a.interface == index),
        _ => false,
    };
    // Those that matter first: where there are too many, the rest is left out.
    let mut order: Vec<_> = links.iter().filter(|l| !l.loopback).collect();
    order.sort_by_key(|l| (!uplinks.contains(&l.index), !devices.contains(&l.name), !addressed(l.index), l.index));
    for (place, link) in order.iter().enumerate() {
        if place >= LINKS.max(uplinks.len()) {
            layout.missing.push(format!("{} more links", order.len() - place));
            break;
        }
        let layer = if link.kind == ARPHRD_ETHER { Layer::Ethernet } else { Layer::Ip };
        let tun = Tun::create(&link.name, Some(link.index), layer, link.mac)
            .map_err(ScratchError::device(format!("make the device {}", link.name)))?;
        rtnl.up(link.index).map_err(ScratchError::device(format!("set {} up", link.name)))?;
        if uplinks.contains(&link.index) {
            layout.uplinks.push(Uplink { name: link.name.clone(), tun, layer, mac: link.mac.unwrap_or_default() });
        } else {
            layout.others.push(tun);
        }
    }
    for name in devices.iter().filter(|name| links.iter().all(|l| l.name != **name)) {
        match Tun::create(name, None, Layer::Ip, None) {
            Ok(tun) => layout.others.push(tun),
            Err(error) => layout.missing.push(format!("device {name}: {error}")),
        }
    }
    Ok(())
}

fn addresses(net: &Net, rtnl: &mut Rtnl, layout: &mut Layout) {
    let mut nets: Vec<_> = net.addresses.present().into_iter().flatten().collect();
    // The kernel makes the first address of a prefix the primary one: keep the order of the host's dump.
    nets.sort_by_key(|a| a.interface);
    for address in nets {
        layout.reserved.push(address.address);
        if let Ok(net) = IpNet::new(address.address, address.prefix) {
            layout.reserved.extend([net.network(), net.broadcast()]);
        }
        let made = layout.uplinks.iter().map(|u| &u.tun).chain(&layout.others).any(|t| t.index() == address.interface);
        if !made {
            continue;
        }
        let exists = |e: &io::Error| e.raw_os_error() == Some(nix::libc::EEXIST);
        match rtnl.add_address(address.interface, address.address, address.prefix) {
            Err(error) if !exists(&error) => layout.missing.push(format!("address {}: {error}", address.address)),
            Ok(()) if address.address.is_ipv6() => layout.settling.push(address.address),
            _ => {}
        }
    }
}

/// Waits until the kernel takes packets for the IPv6 addresses: a worker of its own makes the local routes to them, a moment
/// after it has said that they are there. A first packet before that would be lost.
fn settle(rtnl: &mut Rtnl, layout: &mut Layout) {
    const RT_TABLE_LOCAL: u32 = 255;
    const PATIENCE: Duration = Duration::from_secs(2);
    let end = Instant::now() + PATIENCE;
    while !layout.settling.is_empty() {
        let routes = rtnl.dump(libc::RTM_GETROUTE, &[0; 12]).unwrap_or_default();
        let local = routes.iter().filter_map(|r| route::route(r)).filter(|r| r.table == RT_TABLE_LOCAL);
        let ready: Vec<IpNet> = local.map(|r| r.destination).collect();
        layout.settling.retain(|address| !ready.contains(&IpNet::from(*address)));
        if layout.settling.is_empty() || Instant::now() >= end {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let late = layout.settling.drain(..).map(|address| format!("address {address}: the kernel is slow to take it"));
    layout.missing.extend(late);
}

fn routes(net: &Net, rtnl: &mut Rtnl, layout: &mut Layout) {
    if net.policy_routing {
        layout.missing.push("policy routing rules".into());
    }
    const RT_TABLE_MAIN: u32 = 254;
    let mut routes: Vec<_> = net.routes.present().into_iter().flatten().filter(|r| r.table == RT_TABLE_MAIN).collect();
    // A gateway must be reachable by a link route before it is used, even where it is taken as on the link.
    routes.sort_by_key(|r| r.gateway.is_some());
    for route in routes {
        let lost = match route.kind {
            RouteKind::Unicast => route.interfaces.is_empty(),
            RouteKind::Blackhole | RouteKind::Unreachable | RouteKind::Prohibit | RouteKind::Throw => false,
            _ => continue,
        };
        if lost {
            continue;
        }
        let interface = if route.kind == RouteKind::Unicast { route.interfaces.first().copied() } else { None };
        let new = NewRoute {
            kind: route.kind,
            destination: route.destination,
            interface,
            gateway: route.gateway.filter(|_| interface.is_some()),
            metric: route.metric,
        };
        match rtnl.add_route(&new) {
            Err(error) if error.raw_os_error() != Some(nix::libc::EEXIST) => {
                let known = interface.is_none_or(|i| {
                    layout.uplinks.iter().map(|u| &u.tun).chain(&layout.others).any(|t| t.index() == i)
                });
                if known {
                    layout.missing.push(format!("route {}: {error}", route.destination));
                }
            }
            _ => {}
        }
    }
}

/// Whether a link's name can stand in a path (the kernel forbids `/`, and `.` and `..` as names).
fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}
