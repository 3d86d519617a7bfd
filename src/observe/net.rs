//! Links, addresses, routes.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use nix::libc;

use crate::decode::route;
use crate::facts::{Link, Net, Route, Seen};
use crate::host::{Host, Rtnl};

const RT_TABLE_DEFAULT: u32 = 253;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;

/// What the calling thread's network namespace has.
pub fn net(host: &Host) -> Net {
    let mut socket = Rtnl::open();
    let links = seen(read(&mut socket, libc::RTM_GETLINK, &link_request(), route::link), "links");
    let addresses = seen(read(&mut socket, libc::RTM_GETADDR, &[0; 8], route::address), "addresses");
    // A kernel without policy routing knows no rules.
    let rules = read(&mut socket, libc::RTM_GETRULE, &[0; 12], route::rule).unwrap_or_default();
    let tables: BTreeSet<u32> =
        rules.iter().filter_map(|(table, _)| *table).chain([RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL]).collect();
    let used = |message: &[u8]| route::route(message).filter(|r: &Route| tables.contains(&r.table));
    let routes = seen(read(&mut socket, libc::RTM_GETROUTE, &[0; 12], used), "routes");
    let rp_filter = rp_filters(host, links.present().map_or(&[][..], Vec::as_slice));
    Net { links, addresses, routes, policy_routing: rules.iter().any(|(_, default)| !default), rp_filter }
}

/// `struct ifinfomsg`, and IFLA_EXT_MASK with RTEXT_FILTER_SKIP_STATS.
fn link_request() -> Vec<u8> {
    const IFLA_EXT_MASK: u16 = 29;
    const RTEXT_FILTER_SKIP_STATS: u32 = 8;
    let mut request = vec![0; 16];
    request.extend(8u16.to_ne_bytes());
    request.extend(IFLA_EXT_MASK.to_ne_bytes());
    request.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
    request
}

fn read<T>(
    socket: &mut io::Result<Rtnl>,
    kind: u16,
    body: &[u8],
    decode: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    match socket {
        Ok(socket) => Ok(socket.dump(kind, body)?.iter().filter_map(|message| decode(message)).collect()),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}

fn seen<T>(read: io::Result<Vec<T>>, what: &str) -> Seen<Vec<T>> {
    match read {
        Ok(list) => Seen::Present(list),
        Err(error) => Seen::Unreadable(format!("read {what} over rtnetlink: {error}")),
    }
}

/// The kernel takes the larger one of `all` and the interface's own.
fn rp_filters(host: &Host, links: &[Link]) -> Vec<(String, u8)> {
    let value = |name: &str| -> Option<u8> {
        let path = Path::new("/proc/sys/net/ipv4/conf").join(name).join("rp_filter");
        String::from_utf8_lossy(&host.read(&path).ok()?).trim().parse().ok()
    };
    let all = value("all").unwrap_or(0);
    links.iter().filter_map(|link| Some((link.name.clone(), value(&link.name)?.max(all)))).collect()
}
