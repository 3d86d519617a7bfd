//! What sits on a packet's way and is not netfilter: detected, not modelled.

use std::path::Path;

use nix::libc;

use crate::decode::route;
use crate::facts::{Link, Outside};
use crate::host::{Host, Rtnl};

/// `enum` of linux/pkt_sched.h: the places to which filters of a link are bound.
const TC_H_INGRESS: u32 = 0xffff_fff2;
const TC_H_EGRESS: u32 = 0xffff_fff3;
const TC_H_INGRESS_QDISC: u32 = 0xffff_0000;

/// XDP programs, filters of traffic control and IPsec policies in the calling thread's network namespace.
pub fn outside(host: &Host) -> Vec<Outside> {
    let mut found = Vec::new();
    if let Ok(mut socket) = Rtnl::open() {
        let links = socket.dump(libc::RTM_GETLINK, &[0; 16]).unwrap_or_default();
        let links: Vec<Link> = links.iter().filter_map(|m| route::link(m)).collect();
        let programs = links.iter().filter(|link| link.xdp);
        found.extend(programs.map(|link| Outside {
            kind: "xdp",
            place: link.name.clone(),
            detail: "a program sees every packet before netfilter".to_owned(),
        }));
        filters(&mut socket, &links, &mut found);
    }
    found.extend(policies(host));
    found
}

fn filters(socket: &mut Rtnl, links: &[Link], found: &mut Vec<Outside>) {
    let qdiscs = socket.dump(libc::RTM_GETQDISC, &tc_request(0, 0)).unwrap_or_default();
    for (interface, kind) in qdiscs.iter().filter_map(|m| route::traffic_control(m)) {
        let places: &[(&str, u32)] = match kind.as_str() {
            "clsact" => &[("tc-ingress", TC_H_INGRESS), ("tc-egress", TC_H_EGRESS)],
            "ingress" => &[("tc-ingress", TC_H_INGRESS_QDISC)],
            _ => continue,
        };
        let link = links.iter().find(|link| link.index == interface);
        for (kind, parent) in places {
            let filters = socket.dump(libc::RTM_GETTFILTER, &tc_request(interface, *parent)).unwrap_or_default();
            let mut names: Vec<String> =
                filters.iter().filter_map(|m| route::traffic_control(m)).map(|(_, name)| name).collect();
            names.dedup();
            if !names.is_empty() {
                let place = link.map_or_else(|| interface.to_string(), |link| link.name.clone());
                found.push(Outside { kind, place, detail: format!("filters of kind {}", names.join(", ")) });
            }
        }
    }
}

/// `struct tcmsg`
fn tc_request(interface: u32, parent: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(interface.to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    body.extend(parent.to_ne_bytes());
    body.extend(0u32.to_ne_bytes());
    body
}

/// Asking would load the kernel's module where it is not there, and without it there are no policies.
fn policies(host: &Host) -> Option<Outside> {
    const NETLINK_XFRM: &[u8] = b"6";
    const XFRM_MSG_GETPOLICY: u16 = 0x15;
    const XFRM_USERPOLICY_ID: [u8; 64] = [0; 64];
    let sockets = host.read(Path::new("/proc/thread-self/net/netlink")).ok()?;
    let mut rows = sockets.split(|&b| b == b'\n').map(|row| row.split(|&b| b == b' ').filter(|word| !word.is_empty()));
    // Protocol and port; the kernel's own sockets have port 0.
    if !rows.any(|mut row| row.nth(1) == Some(NETLINK_XFRM) && row.next() == Some(b"0")) {
        return None;
    }
    let found = |detail| Some(Outside { kind: "xfrm", place: "IPsec policies".to_owned(), detail });
    match Rtnl::open_xfrm().and_then(|mut socket| socket.dump(XFRM_MSG_GETPOLICY, &XFRM_USERPOLICY_ID)) {
        Ok(policies) if policies.is_empty() => None,
        Ok(policies) => found(format!("{} of them", policies.len())),
        // Without rights nobody knows.
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => None,
        Err(error) => found(format!("could not be read: {error}")),
    }
}
