//! Listening sockets over sock_diag(7).

use crate::decode::sock_diag;
use crate::facts::{Family, Listener};
use crate::host::{Message, NETLINK_HEADER, Netlink, NetlinkError};

/// The listeners on these ports, without their owners.
pub fn listeners(ports: &[u16]) -> Result<Vec<Listener>, NetlinkError> {
    let mut socket = Netlink::sock_diag()?;
    let mut all = Vec::new();
    for family in Family::BOTH {
        let request = Message { kind: sock_diag::SOCK_DIAG_BY_FAMILY, flags: 0, body: sock_diag::request(family) };
        let answers = socket.dump(&request)?;
        let decoded = answers.iter().filter_map(|a| sock_diag::listener(a.get(NETLINK_HEADER..)?));
        all.extend(decoded.filter(|l| ports.contains(&l.port)));
    }
    Ok(all)
}
