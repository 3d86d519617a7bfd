//! Which unit is started, restarted, or enabled, and which is left alone.

use super::*;
use crate::facts::SocketUnit;
use crate::judge::fixture::listener;

fn with_units(mut snapshot: Snapshot, units: Vec<Unit>) -> Snapshot {
    snapshot.sshd.units = Seen::Present(units);
    snapshot.sshd.settings = Seen::Present(everywhere());
    snapshot
}

fn lying() -> Snapshot {
    down(vec![file(MAIN, "")], &[])
}

fn plain(snapshot: Snapshot) -> Result<Vec<Step>, String> {
    planned(snapshot, &Policy::default(), &[])
}

fn persisting(snapshot: Snapshot) -> Result<Vec<Step>, String> {
    planned(snapshot, &parse("[sshd]\npersist = true\n").unwrap(), &[])
}

fn socket(active: &str, file: &str, listen: &str) -> Unit {
    let socket = SocketUnit {
        listen: vec![("Stream".to_owned(), listen.to_owned())],
        has_folder: true,
        ..SocketUnit::default()
    };
    Unit { socket: Some(socket), ..unit("ssh.socket", active, file) }
}

fn started(name: &str) -> Result<Vec<Step>, String> {
    Ok(vec![Step::StartUnit { unit: name.into(), reset_failed: false, unmask: false }])
}

#[test]
fn the_distributions_unit_is_started_in_whatever_order_systemd_names_them() {
    let service = || unit("ssh.service", "inactive", "enabled");
    let other = || unit("sshd.service", "inactive", "disabled");
    assert_eq!(plain(with_units(lying(), vec![other(), service()])), started("ssh.service"));
    // A socket that is not enabled is not in use.
    let unused = unit("ssh.socket", "inactive", "disabled");
    assert_eq!(plain(with_units(lying(), vec![unused, service()])), started("ssh.service"));
    let used = socket("inactive", "enabled", "[::]:22");
    assert_eq!(plain(with_units(lying(), vec![service(), used])), started("ssh.socket"));
}

/// systemd does not start a unit that it has given up (StartLimitBurst=) until it is reset.
#[test]
fn a_failure_is_reset_and_only_a_failure() {
    for (active, result, reset) in
        [("failed", "start-limit-hit", true), ("inactive", "success", false), ("activating", "exit-code", true)]
    {
        let service = Unit { result: result.into(), ..unit("ssh.service", active, "enabled") };
        let step = Step::StartUnit { unit: "ssh.service".into(), reset_failed: reset, unmask: false };
        assert_eq!(plain(with_units(lying(), vec![service])), Ok(vec![step]), "{active} {result}");
    }
}

#[test]
fn a_masked_unit_is_unmasked_by_the_policys_word_alone() {
    let masked = || Unit { load_state: "masked".into(), ..unit("ssh.service", "inactive", "masked") };
    let snapshot = with_units(lying(), vec![masked()]);
    assert!(plain(snapshot.clone()).unwrap_err().contains("sshd.unit.masked"));
    let step = Step::StartUnit { unit: "ssh.service".into(), reset_failed: false, unmask: true };
    assert_eq!(planned(snapshot, &parse("[sshd]\nunmask = true\n").unwrap(), &[]), Ok(vec![step]));
}

#[test]
fn the_next_boot_is_told_to_start_what_it_would_not_and_nothing_that_it_does() {
    let with = |units| persisting(with_units(healthy(), units));
    let service = |file| unit("ssh.service", "active", file);
    let enable = Ok(vec![Step::EnableUnit { unit: "ssh.service".into() }]);
    assert_eq!(with(vec![service("disabled")]), enable);
    assert_eq!(with(vec![service("disabled"), unit("sshd.service", "inactive", "disabled")]), enable);
    let nothing = Err("Healthy".to_owned());
    assert_eq!(with(vec![service("disabled"), unit("sshd.service", "inactive", "enabled")]), nothing);
    assert_eq!(with(vec![service("disabled"), unit("sshd.service", "inactive", "alias")]), nothing);
    // It has no [Install] section: there is nothing to enable.
    assert_eq!(with(vec![service("static")]), nothing);
}

#[test]
fn where_no_sshd_is_to_run_or_none_is_there_its_next_start_is_nobodys_business() {
    let change = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = with_units(healthy(), vec![unit("ssh.service", "active", "disabled")]);
        change(&mut snapshot);
        persisting(snapshot)
    };
    let nothing = Err("Healthy".to_owned());
    assert_eq!(change(&|snapshot| snapshot.sshd.not_to_be_run = true), nothing);
    assert_eq!(change(&|snapshot| snapshot.sshd.binary = Seen::Absent), nothing);
}

#[test]
fn a_disks_unit_is_enabled_where_it_can_be() {
    let at_rest = |file| {
        let snapshot = with_units(lying(), vec![unit("ssh.service", "inactive", file)]);
        plain(Snapshot { at_rest: true, ..snapshot })
    };
    assert_eq!(at_rest("disabled"), Ok(vec![Step::EnableUnit { unit: "ssh.service".into() }]));
    let none = at_rest("static").unwrap_err();
    assert!(none.contains("has no [Install] section"), "{none}");
}

/// Where systemd listens, lines of sshd_config change nothing: the unit's drop-in is written, and sshd is asked nothing.
#[test]
fn where_systemd_listens_its_unit_is_mended_and_not_sshds_configuration() {
    for (active, file, restart) in
        [("active", "disabled", true), ("active", "enabled", true), ("inactive", "enabled", true)]
    {
        let mut snapshot = with_units(lying(), vec![socket(active, file, "[::]:2222")]);
        snapshot.sshd.settings = Seen::Present(settings(&["0.0.0.0:2222", "[::]:2222"]));
        let steps = plain(snapshot).unwrap();
        let [Step::WriteFile { path, content, .. }, Step::ListenBySocket { restart: now, .. }] = &steps[..] else {
            panic!("{active} {file}: {steps:?}")
        };
        assert!(path.starts_with("/etc/systemd/system/ssh.socket.d"), "{path:?}");
        assert!(String::from_utf8_lossy(content).ends_with("\nListenStream=[::]:22\n"), "{content:?}");
        assert_eq!(*now, restart);
    }
}

#[test]
fn a_socket_that_has_its_old_sockets_still_is_restarted_and_one_that_serves_is_not() {
    let running = || socket("active", "enabled", "[::]:22");
    let restart = Step::ListenBySocket { unit: "ssh.socket".into(), restart: true };
    assert_eq!(plain(with_units(lying(), vec![running()])), Ok(vec![restart]));
    assert_eq!(persisting(with_units(healthy(), vec![running()])), Err("Healthy".to_owned()));
    // On a disk, active means that the boot will start it.
    let disk = Snapshot { at_rest: true, ..with_units(lying(), vec![running()]) };
    let refusal = plain(disk).unwrap_err();
    assert!(refusal.starts_with("Refuse"), "{refusal}");
}

#[test]
fn beside_named_addresses_of_a_socket_one_is_added_but_on_a_disk() {
    let snapshot = |listen: &str| with_units(lying(), vec![socket("active", "enabled", listen)]);
    let disk = |listen: &str| plain(Snapshot { at_rest: true, ..snapshot(listen) });
    let running = plain(snapshot("203.0.113.5:22")).unwrap();
    assert!(written(&running)[0].1.contains("\nListenStream=192.0.2.10:22\n"), "{running:?}");
    let refusal = disk("203.0.113.5:22").unwrap_err();
    assert!(refusal.contains("sshd.socket.listen") && refusal.contains("is not known"), "{refusal}");
    let steps = disk("[::]:2222").unwrap();
    assert!(written(&steps)[0].1.ends_with("\nListenStream=[::]:22\n"), "{steps:?}");
}

fn stopped(port: u16, pid: i32, name: &str) -> crate::facts::Listener {
    let server = SocketOwner { state: 'T', ..owner(pid, name, "/usr/sbin/sshd") };
    crate::facts::Listener { owners: Seen::Present(vec![server]), ..listener("::", port) }
}

#[test]
fn only_those_that_stand_still_where_clients_come_in_are_let_go_on() {
    let mut four = stopped(22, 613, "sshd");
    four.address = "0.0.0.0".parse().unwrap();
    let mut snapshot = healthy();
    snapshot.listeners = Seen::Present(vec![four, stopped(22, 612, "sshd"), stopped(2222, 700, "sshd")]);
    let go = |pid| Step::ContinueProcess { pid, name: "sshd".into() };
    assert_eq!(plain(snapshot), Ok(vec![go(613), go(612)]), "each of them, and not the one of another port");
}

#[test]
fn a_service_that_systemd_is_ending_is_not_restarted() {
    for active in ["deactivating", "inactive", "failed"] {
        let mut snapshot = wedged();
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("no units") };
        units[0].active_state = active.into();
        let refusal = plain(snapshot).unwrap_err();
        assert!(refusal.contains("no unit of sshd's runs sshd (pid 612)"), "{active}: {refusal}");
    }
}

#[test]
fn a_stranger_on_the_port_is_named_and_systemd_is_none() {
    let held = |pid, name: &str, units: Vec<Unit>| {
        let mut snapshot = with_units(wedged(), units);
        owners(&mut snapshot).for_each(|o| *o = owner(pid, name, "/usr/sbin/x"));
        plain(snapshot).unwrap_err()
    };
    let stranger = held(77, "nginx", vec![unit("ssh.service", "inactive", "enabled")]);
    assert!(stranger.contains("sshd.listener.stranger") && stranger.contains("nginx (pid 77)"), "{stranger}");
    let systemd = held(1, "systemd", vec![socket("active", "enabled", "[::]:22")]);
    assert!(systemd.contains("systemd holds the socket, and has started no sshd"), "{systemd}");
}
