//! Listening sockets over sock_diag(7).

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::processes::Processes;
use crate::decode::sock_diag;
use crate::facts::{Family, Listener, Seen, Waiting};
use crate::host::{Dialled, Message, NETLINK_HEADER, Netlink, NetlinkError, dial};

/// How long a program may take to greet.
const GREETING: Duration = Duration::from_secs(1);
/// A program that has not had the processor for long, as after a pause of the whole machine, takes what waits within this time.
const CATCH_UP: Duration = Duration::from_secs(1);
/// How often somebody who waits for a program to take a connection looks.
const POLL: Duration = Duration::from_millis(250);

/// Who listens on these ports and how they fare, and all else that the walk for it has found.
pub fn with_owners(ports: &[u16]) -> (Seen<Vec<Listener>>, Processes) {
    match owned(ports) {
        Ok((mut sockets, processes)) => {
            sockets.iter_mut().for_each(|socket| socket.greeting = greeting(socket));
            (Seen::Present(sockets), processes)
        }
        Err(error) => (Seen::Unreadable(crate::chain(&error)), Processes::walk(&HashSet::new())),
    }
}

fn owned(ports: &[u16]) -> Result<(Vec<Listener>, Processes), NetlinkError> {
    let mut sockets = listeners(ports)?;
    let inodes: HashSet<u64> = sockets.iter().map(|l| l.inode).collect();
    let processes = Processes::walk(&inodes);
    sockets.iter_mut().for_each(|socket| socket.owners = processes.owners(socket.inode));
    // What cannot be told is no sign of anything.
    let _ = queues(&mut sockets);
    Ok((sockets, processes))
}

/// Waits as long as a connection to sshd waits that is not old enough to say that sshd takes none. `told` gets the seconds
/// that it takes at most, if anything is waited for.
pub fn outwait(ports: &[u16], told: impl FnOnce(u64)) {
    let patience = Duration::from_millis(Listener::PATIENCE.into());
    let left = || {
        // Where that is not known, there is nothing to wait for.
        let (listeners, _) = owned(ports).unwrap_or_default();
        listeners.iter().filter_map(Listener::undecided).min().unwrap_or(0)
    };
    let (begin, first) = (Instant::now(), left());
    if first == 0 {
        return;
    }
    told(u64::from(first).div_ceil(1000));
    while begin.elapsed() < patience && left() > 0 {
        sleep(POLL);
    }
}

/// Says of each listener how long the connection has waited that its program is to take next.
fn queues(listeners: &mut [Listener]) -> Result<(), NetlinkError> {
    let is_old = |waiting: &Waiting| waiting.age >= Listener::PATIENCE;
    let mut seen = waiting(listeners)?;
    if seen.iter().any(is_old) {
        sleep(CATCH_UP);
        let later = waiting(listeners)?;
        // A program takes them in the order in which they came.
        seen.retain(|old| later.iter().any(|new| new.cookie == old.cookie));
    }
    for waiting in seen {
        let fits = |l: &&mut Listener| l.takes(&waiting);
        let mut fitting: Vec<&mut Listener> = listeners.iter_mut().filter(fits).collect();
        let best = fitting.iter().map(|l| l.rank(Family::of(waiting.local))).max();
        fitting.retain(|l| Some(l.rank(Family::of(waiting.local))) == best);
        // Of several that share the port nobody knows whose it is.
        if let [listener] = &mut fitting[..] {
            listener.waits = listener.waits.max(Some(waiting.age));
        }
    }
    Ok(())
}

/// The connections that no program has taken yet. Where no queue has any, nothing is asked.
fn waiting(listeners: &[Listener]) -> Result<Vec<Waiting>, NetlinkError> {
    let queued = listeners.iter().filter(|l| l.queued > 0);
    let places: HashSet<(Family, u16)> = queued.map(|l| (Family::of(l.address), l.port)).collect();
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = Netlink::sock_diag()?;
    let mut all = Vec::new();
    for (family, port) in places {
        let body = sock_diag::connections(family, port);
        let answers = socket.dump(&Message { kind: sock_diag::SOCK_DIAG_BY_FAMILY, flags: 0, body })?;
        all.extend(answers.iter().filter_map(|a| sock_diag::waiting(a.get(NETLINK_HEADER..)?, port)));
    }
    Ok(all)
}

/// The listeners on these ports, without their owners.
fn listeners(ports: &[u16]) -> Result<Vec<Listener>, NetlinkError> {
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
fn greeting(listener: &Listener) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn waits(port: u16) -> Option<u32> {
        let (all, _) = owned(&[port]).unwrap();
        let [only] = &all[..] else { panic!("{all:?}") };
        only.waits
    }

    #[test]
    fn a_connection_that_is_not_taken_is_seen_to_wait() {
        // The second one takes IPv4, too.
        for address in ["127.0.0.1:0", "[::]:0"] {
            let socket = TcpListener::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            assert_eq!(waits(port), None, "nobody has come");
            let clients = [(); 2].map(|()| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
            sleep(Duration::from_millis(20));
            let first = waits(port).unwrap();
            sleep(Duration::from_millis(20));
            assert!(waits(port).unwrap() > first, "it grows older");
            // Who has given up still waits to be taken.
            drop(clients);
            assert!(waits(port).is_some());
            drop([(); 2].map(|()| socket.accept().unwrap()));
            assert_eq!(waits(port), None, "both were taken");
        }
    }
}
