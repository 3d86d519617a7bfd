//! Where systemd listens for sshd (`ssh.socket`): sshd's own ports and addresses do not count there.

use std::net::SocketAddr;

use serde_json::json;

use super::super::listener::serving;
use super::super::{Finding, Severity, paths};
use super::{finding, risk};
use crate::facts::{Snapshot, SocketUnit, Unit, escape};
use crate::policy::Policy;

/// The socket unit that listens for sshd, or will after the next boot.
pub fn in_charge(units: &[Unit]) -> Option<(&Unit, &SocketUnit)> {
    let starts = |u: &&Unit| u.loaded() && !u.masked() && (u.active() || u.unit_file_state.starts_with("enabled"));
    let mut sockets = units.iter().filter(starts).filter_map(|unit| Some((unit, unit.socket.as_ref()?)));
    sockets.next()
}

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let Some((unit, socket)) = snapshot.sshd.units.present().and_then(|units| in_charge(units)) else {
        return Vec::new();
    };
    let places = paths(policy, &snapshot.net).into_iter().map(|p| SocketAddr::new(p.address, p.port));
    let missing: Vec<String> = places.filter(|place| !socket.serves(*place)).map(|place| place.to_string()).collect();
    let mut out = Vec::new();
    if !missing.is_empty() {
        let serves = policy.ssh.ports.iter().all(|&port| serving(snapshot, port));
        let lines: Vec<String> = socket.lines.iter().map(line).collect();
        let lines = if lines.is_empty() { String::new() } else { format!(" ({})", lines.join("; ")) };
        let listen: Vec<String> = socket.listen.iter().map(|(_, address)| escape(address)).collect();
        let words = format!(
            "{} listens on {}{lines}, not on {}: sshd's own ports do not count there",
            escape(&unit.name),
            if listen.is_empty() { "nothing".to_owned() } else { listen.join(", ") },
            missing.join(", ")
        );
        let evidence = json!({"unit": unit.name, "listen": socket.listen, "missing": missing, "lines": socket.lines});
        out.push(finding("sshd.socket.listen", risk(serves), words, evidence));
    }
    out.extend(beside(snapshot, unit, socket));
    out
}

/// Where a socket and its service exclude each other and a boot is to start both, chance decides which one it is.
fn beside(snapshot: &Snapshot, unit: &Unit, socket: &SocketUnit) -> Option<Finding> {
    let enabled = |u: &&Unit| u.loaded() && u.unit_file_state.starts_with("enabled");
    let units = snapshot.sshd.units.present()?;
    let service = units.iter().filter(enabled).find(|u| socket.conflicts.contains(&u.name))?;
    enabled(&unit).then(|| {
        let (socket, service) = (escape(&unit.name), escape(&service.name));
        let words = format!("{socket} and {service} are both enabled and exclude each other: which one serves after a boot is not settled");
        finding("sshd.unit.both", Severity::Warning, words, json!({"socket": socket, "service": service}))
    })
}

fn line(line: &crate::facts::UnitLine) -> String {
    format!("{}, line {} `{}`", escape(&line.file.to_string_lossy()), line.line, escape(&line.text))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::{healthy, unit};
    use super::*;
    use crate::facts::{Seen, UnitLine};

    fn with(listen: &[&str], v6_only: bool) -> Snapshot {
        let socket = SocketUnit {
            listen: listen.iter().map(|address| ("Stream".to_owned(), (*address).to_owned())).collect(),
            v6_only,
            conflicts: vec!["ssh.service".to_owned()],
            lines: vec![UnitLine { file: "/etc/x.conf".into(), line: 3, text: "ListenStream=2222".into() }],
            ..SocketUnit::default()
        };
        let unit = Unit { socket: Some(socket), ..unit("ssh.socket", "active", "enabled") };
        let mut snapshot = healthy();
        snapshot.sshd.units = Seen::Present(vec![unit]);
        snapshot
    }

    fn seen(snapshot: &Snapshot) -> Vec<&'static str> {
        findings(&Policy::default(), snapshot).iter().map(|f| f.code).collect()
    }

    #[test]
    fn a_socket_serves_what_its_addresses_cover() {
        for (listen, v6_only, serves) in [
            (&["[::]:22"][..], false, true),
            (&["[::]:22"], true, false),
            (&["[::]:22", "0.0.0.0:22"], true, true),
            (&["192.0.2.10:22", "[2001:db8::10]:22"], false, true),
            (&["0.0.0.0:22"], false, false),
            (&["[::]:2222"], false, false),
            (&["/run/sshd.sock"], false, false),
            (&[], false, false),
        ] {
            let expected = if serves { vec![] } else { vec!["sshd.socket.listen"] };
            assert_eq!(seen(&with(listen, v6_only)), expected, "{listen:?} {v6_only}");
        }
    }

    #[test]
    fn file_and_line_are_named() {
        let [finding] = &findings(&Policy::default(), &with(&["[::]:2222"], false))[..] else { panic!("one finding") };
        assert!(finding.summary.contains("/etc/x.conf, line 3 `ListenStream=2222`"), "{}", finding.summary);
        assert!(finding.summary.contains("not on 192.0.2.10:22, [2001:db8::10]:22"), "{}", finding.summary);
    }

    #[test]
    fn a_socket_that_nobody_starts_does_not_count() {
        let mut snapshot = with(&["[::]:2222"], false);
        if let Seen::Present(units) = &mut snapshot.sshd.units {
            units[0].active_state = "inactive".into();
            units[0].unit_file_state = "disabled".into();
        }
        assert_eq!(seen(&snapshot), Vec::<&str>::new());
    }

    #[test]
    fn a_socket_counts_that_the_next_boot_starts_and_none_that_is_masked() {
        let with_state = |active: &str, file: &str| {
            let mut snapshot = with(&["[::]:2222"], false);
            let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("units") };
            (units[0].active_state, units[0].unit_file_state) = (active.into(), file.into());
            seen(&snapshot)
        };
        assert_eq!(with_state("inactive", "enabled"), ["sshd.socket.listen"]);
        assert_eq!(with_state("active", "disabled"), ["sshd.socket.listen"]);
        assert_eq!(with_state("active", "masked"), Vec::<&str>::new());
    }

    #[test]
    fn both_enabled_is_a_risk_where_they_exclude_each_other() {
        let mut snapshot = with(&["[::]:22"], false);
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("units") };
        units.push(unit("ssh.service", "inactive", "enabled"));
        assert_eq!(seen(&snapshot), ["sshd.unit.both"]);
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("units") };
        units[1].unit_file_state = "disabled".into();
        assert_eq!(seen(&snapshot), Vec::<&str>::new(), "a boot starts only one of them");
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("units") };
        units[1].unit_file_state = "enabled".into();
        units[0].socket.as_mut().expect("a socket").conflicts.clear();
        assert_eq!(seen(&snapshot), Vec::<&str>::new());
    }
}
