//! Where systemd listens for sshd: added to, in a drop-in of our own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use super::{Attempt, No};
use crate::facts::{Owned, SocketUnit, escape};
use crate::judge::in_charge;
use crate::plan::Step;
use crate::plan::accept::tag;

const UNIT_FILES: &str = "/etc/systemd/system";
/// Last in the folder: a line of another drop-in may take away what stands before it.
const OWN: &str = "zz-ssh-rescue.conf";
const FOLDER: Owned = Owned { mode: 0o755, uid: 0, gid: 0 };

impl Attempt<'_> {
    /// Lets the socket unit that is in charge listen where the paths need it. false: none is, or it does not lack anything.
    /// `now`: not only at its next start.
    pub(super) fn listen_by_socket(&mut self, paths: &[usize], now: bool) -> Result<bool, No> {
        let units = self.snapshot.sshd.units.present();
        let Some((unit, socket)) = units.and_then(|units| in_charge(units)) else { return Ok(false) };
        let gates = paths.iter().filter_map(|&i| self.judgement.gates.get(i)).map(|g| &g.whole.path);
        let mut wanted: Vec<SocketAddr> = gates.map(|p| SocketAddr::new(p.address, p.port)).collect();
        wanted.retain(|place| !socket.serves(*place));
        let name = unit.name.clone();
        if wanted.is_empty() {
            // It is to listen there and does not: systemd has read its files and kept the old sockets.
            if now && unit.active() && !self.snapshot.at_rest {
                self.steps.push(Step::ListenBySocket { unit: name, restart: true });
                return Ok(true);
            }
            return Ok(false);
        }
        let single = |on: &SocketAddr| !on.ip().is_unspecified();
        if self.snapshot.at_rest && socket.addresses().iter().any(single) {
            let why = format!(
                "{} listens on addresses that are named, and which others the disk's host has is not known",
                escape(&name)
            );
            return Err(("sshd.socket.listen", why));
        }
        let lines = added(socket, &wanted).ok_or_else(|| {
            let why = format!("what {} listens on besides cannot be said again in a drop-in", escape(&name));
            ("sshd.socket.listen", why)
        })?;
        let folder = Path::new(UNIT_FILES).join(format!("{name}.d"));
        let content = format!("# {}: where clients come in\n[Socket]\n{}\n", tag(self.id), lines.join("\n"));
        let reason = format!("{name} does not listen where clients come in: add {}", lines.join(", "));
        if !socket.has_folder {
            self.steps.push(Step::MakeFolder { path: folder.clone(), owned: FOLDER });
        }
        self.steps.push(Step::WriteFile { path: folder.join(OWN), content: content.into(), reason });
        if self.snapshot.at_rest {
            return Ok(false);
        }
        self.steps.push(Step::ListenBySocket { unit: name, restart: now });
        Ok(true)
    }
}

/// The lines of the drop-in. Beside single addresses of a port only single ones are added. One socket of `[::]` may take both
/// families and leaves no room for one of `0.0.0.0`: then all have to be named anew, after an empty line.
fn added(socket: &SocketUnit, wanted: &[SocketAddr]) -> Option<Vec<String>> {
    let old = socket.addresses();
    let mut kept = old.clone();
    let mut new: Vec<SocketAddr> = Vec::new();
    let mut ports: Vec<u16> = wanted.iter().map(SocketAddr::port).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut single = false;
    for port in ports {
        let asked = wanted.iter().filter(|place| place.port() == port);
        if old.iter().any(|on| on.port() == port && !on.ip().is_unspecified()) {
            new.extend(asked);
            single = true;
            continue;
        }
        let all: Vec<&SocketAddr> = old.iter().filter(|on| on.port() == port).chain(asked).collect();
        let (v4, v6) = (all.iter().any(|a| a.is_ipv4()), all.iter().any(|a| a.is_ipv6()));
        kept.retain(|on| on.port() != port);
        if v6 {
            new.push(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
        }
        if v4 && (socket.v6_only || !v6) {
            new.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port));
        }
    }
    let line = |address: &SocketAddr| format!("ListenStream={address}");
    let mut lines = Vec::new();
    if kept.len() < old.len() {
        lines.push("ListenStream=".to_owned());
        for (kind, address) in &socket.listen {
            match address.parse::<SocketAddr>() {
                Ok(address) if kind == "Stream" => lines.extend(kept.contains(&address).then(|| line(&address))),
                // A path may hold what systemd would expand.
                _ if matches!(kind.as_str(), "Stream" | "Datagram" | "SequentialPacket" | "FIFO") => {
                    lines.push(format!("Listen{kind}={}", address.replace('%', "%%")));
                }
                _ => return None,
            }
        }
    }
    lines.extend(new.iter().map(line));
    if single {
        // At boot the address may come later than the socket.
        lines.push("FreeBind=yes".to_owned());
    }
    Some(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(listen: &[(&str, &str)], v6_only: bool, wanted: &[&str]) -> Option<Vec<String>> {
        let listen = listen.iter().map(|(kind, address)| ((*kind).to_owned(), (*address).to_owned())).collect();
        let wanted: Vec<SocketAddr> = wanted.iter().map(|place| place.parse().expect("an address")).collect();
        added(&SocketUnit { listen, v6_only, ..SocketUnit::default() }, &wanted)
    }

    #[test]
    fn a_port_is_added_and_nothing_taken_away() {
        let both = ["192.0.2.10:22", "[2001:db8::10]:22"];
        let other = [("Stream", "[::]:2222")];
        assert_eq!(lines(&other, false, &both).unwrap(), ["ListenStream=[::]:22"]);
        assert_eq!(lines(&other, true, &both).unwrap(), ["ListenStream=[::]:22", "ListenStream=0.0.0.0:22"]);
        assert_eq!(lines(&other, false, &both[..1]).unwrap(), ["ListenStream=0.0.0.0:22"]);
    }

    #[test]
    fn a_socket_that_would_leave_no_room_is_named_anew() {
        let narrow = [
            ("Stream", "0.0.0.0:22"),
            ("Stream", "[::]:2222"),
            ("Stream", "/run/a%b"),
            ("FIFO", "/run/f"),
            ("Datagram", "[::]:2222"),
        ];
        let anew = [
            "ListenStream=",
            "ListenStream=[::]:2222",
            "ListenStream=/run/a%%b",
            "ListenFIFO=/run/f",
            "ListenDatagram=[::]:2222",
        ];
        let got = lines(&narrow, false, &["[2001:db8::10]:22"]).unwrap();
        assert_eq!(got, [&anew[..], &["ListenStream=[::]:22"]].concat());
    }

    #[test]
    fn beside_a_single_address_only_single_ones_are_added() {
        let one = [("Stream", "10.0.0.9:22"), ("Stream", "[::]:2222")];
        let both = ["192.0.2.10:22", "[2001:db8::10]:22"];
        let expected = ["ListenStream=192.0.2.10:22", "ListenStream=[2001:db8::10]:22", "FreeBind=yes"];
        assert_eq!(lines(&one, false, &both).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_named_anew_is_left_alone() {
        assert_eq!(lines(&[("Stream", "0.0.0.0:22"), ("Netlink", "audit 1")], false, &["[2001:db8::10]:22"]), None);
    }
}
