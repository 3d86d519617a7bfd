//! Listening sockets over sock_diag(7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::decode::sock_diag;
use crate::facts::{Family, Listener, Seen};
use crate::host::{Dialled, Message, NETLINK_HEADER, Netlink, NetlinkError, dial};

/// How long a program may take to greet.
const GREETING: Duration = Duration::from_secs(1);

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

/// What the program behind a listener says to a connection. sshd itself is never asked: it counts clients that do not log in
/// against them (PerSourcePenalties of sshd_config(5)).
pub fn greeting(listener: &Listener) -> Option<String> {
    let stranger = match &listener.owners {
        Seen::Present(owners) => !owners.is_empty() && !owners.iter().any(|o| o.is_ssh_server() || o.pid == 1),
        _ => false,
    };
    if !stranger {
        return None;
    }
    let own: IpAddr = match listener.address {
        IpAddr::V4(any) if any.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(any) if any.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        own => own,
    };
    match dial(own, SocketAddr::new(own, listener.port), GREETING, GREETING) {
        Ok(Dialled::Greeted(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}
