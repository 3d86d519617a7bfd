//! Whether sshd can run, does run, and will run after the next boot.

mod config;
mod files;
pub mod logins;
mod penalties;
mod selinux;
pub mod socket;

use serde_json::json;

use super::listener::serving;
use super::{Finding, Severity};
use crate::facts::{Process, Seen, Snapshot, SocketOwner, Unit, escape};
use crate::policy::{Mode, Policy};

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if policy.sshd.mode == Mode::Off {
        return Vec::new();
    }
    let sshd = &snapshot.sshd;
    let serves = policy.ssh.ports.iter().all(|&port| serving(snapshot, port));
    let mut out = Vec::new();
    if sshd.binary.is_absent() && !serves {
        out.push(critical("sshd.binary.missing", "no sshd is installed on this host".to_owned(), json!({})));
        return out;
    }
    if sshd.not_to_be_run {
        let words = "/etc/ssh/sshd_not_to_be_run is there: somebody wants no sshd on this host".to_owned();
        out.push(finding("sshd.not-to-be-run", risk(serves), words, json!({"path": "/etc/ssh/sshd_not_to_be_run"})));
    }
    out.extend(config::test(snapshot, serves));
    out.extend(config::listens(policy, snapshot));
    out.extend(socket::findings(policy, snapshot));
    out.extend(selinux::findings(policy, snapshot));
    out.extend(files::findings(snapshot));
    out.extend(logins::findings(snapshot));
    out.extend(penalties::findings(policy, snapshot));
    match &sshd.units {
        Seen::Present(units) => out.extend(unit_findings(snapshot, units, serves)),
        Seen::Absent | Seen::Unreadable(_) => {}
    }
    if snapshot.privileged {
        out.extend(unreadable(snapshot));
    }
    out.extend(replaced(policy, snapshot));
    let stopped = sshd.processes.iter().filter(|p| matches!(p.state, 'T' | 't'));
    out.extend(stopped.filter(|_| !serves).map(stopped_process));
    out
}

fn unreadable(snapshot: &Snapshot) -> impl Iterator<Item = Finding> {
    let sshd = &snapshot.sshd;
    let parts = [
        ("sshd.binary.unreadable", sshd.binary.unreadable()),
        ("sshd.config.unreadable", sshd.test.unreadable()),
        ("sshd.unit.unreadable", sshd.units.unreadable()),
    ];
    parts.into_iter().filter_map(|(code, why)| {
        let words = format!("it cannot be seen whether sshd will start again: {}", escape(why?));
        Some(finding(code, Severity::Warning, words, json!({})))
    })
}

/// Critical where nobody can be served now, else a matter of the next start.
fn risk(serves: bool) -> Severity {
    if serves { Severity::Warning } else { Severity::Critical }
}

fn unit_findings(snapshot: &Snapshot, units: &[Unit], serves: bool) -> Vec<Finding> {
    let mut out = Vec::new();
    // A masked socket beside a service is the usual way to turn socket activation off; a masked alias is nothing.
    let service = units.iter().any(|u| !is_socket(u) && u.loaded() && !u.masked());
    let masked = units.iter().find(|u| u.masked() && !is_socket(u) && !service);
    if let Some(unit) = masked {
        let words = format!("{} is masked: somebody wants it not to be started", escape(&unit.name));
        out.push(finding("sshd.unit.masked", risk(serves), words, json!(unit)));
    }
    let loaded: Vec<&Unit> = units.iter().filter(|u| u.loaded() && !u.masked()).collect();
    let any_active = loaded.iter().any(|u| u.active());
    // On a disk nothing runs.
    for unit in loaded.iter().filter(|_| !snapshot.at_rest) {
        out.extend(down(unit, any_active, serves));
    }
    let starts = |u: &&Unit| u.unit_file_state.starts_with("enabled") || u.unit_file_state == "alias";
    let disabled = || loaded.iter().filter(|u| u.unit_file_state == "disabled");
    if masked.is_none()
        && !loaded.iter().copied().any(|u| starts(&u))
        && let Some(unit) = disabled().find(|u| u.active()).or_else(|| disabled().next())
    {
        let words = format!("{} is disabled: it will not be started by the next boot", escape(&unit.name));
        let severity = if snapshot.at_rest { risk(serves) } else { Severity::Warning };
        out.push(finding("sshd.unit.disabled", severity, words, json!(unit)));
    }
    out
}

fn down(unit: &Unit, any_active: bool, serves: bool) -> Option<Finding> {
    let name = escape(&unit.name);
    let severity = risk(serves || any_active);
    if unit.active_state == "failed" {
        let words = match unit.result.as_str() {
            "start-limit-hit" => format!("{name} failed too often, and systemd has given it up"),
            result => format!("{name} has failed ({})", escape(result)),
        };
        return Some(finding("sshd.unit.failed", severity, words, json!(unit)));
    }
    if unit.sub_state == "auto-restart" {
        let words = format!("{name} fails again and again ({}), and systemd starts it again", escape(&unit.result));
        return Some(finding("sshd.unit.failed", severity, words, json!(unit)));
    }
    if is_socket(unit) || any_active {
        return None;
    }
    let words = format!("{name} is not running ({}, {})", escape(&unit.active_state), escape(&unit.sub_state));
    Some(finding("sshd.unit.inactive", severity, words, json!(unit)))
}

fn is_socket(unit: &Unit) -> bool {
    unit.name.ends_with(".socket")
}

/// Servers whose program is not the installed one any more: until they are restarted they may fail to hand a client on to
/// programs of another version.
fn replaced(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let listeners = snapshot.listeners.present().into_iter().flatten().filter(|l| policy.ssh.ports.contains(&l.port));
    let owners = listeners.filter_map(|l| l.owners.present()).flatten().filter(|o| o.is_ssh_server());
    let gone = |o: &&SocketOwner| o.exe.as_deref().is_some_and(|e| e.ends_with(" (deleted)"));
    let mut servers: Vec<&SocketOwner> = owners.filter(gone).collect();
    servers.sort_unstable_by_key(|o| o.pid);
    servers.dedup_by_key(|o| o.pid);
    let told = |o: &SocketOwner| {
        let words = format!(
            "{} (pid {}) runs a program that was replaced or deleted since: restart it, or new clients may be turned away",
            escape(&o.name),
            o.pid
        );
        finding("sshd.process.replaced", Severity::Warning, words, json!(o))
    };
    servers.into_iter().map(told).collect()
}

fn stopped_process(process: &Process) -> Finding {
    let words = format!("{} (pid {}) is stopped (SIGSTOP)", escape(&process.name), process.pid);
    critical("sshd.process.stopped", words, json!(process))
}

fn critical(code: &'static str, summary: String, evidence: serde_json::Value) -> Finding {
    finding(code, Severity::Critical, summary, evidence)
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence: evidence.into(), mendable: false, mend: None }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{healthy, listener, owner, unit};
    use super::*;
    use crate::facts::{ConfigTest, Settings};

    fn seen(snapshot: &Snapshot) -> Vec<(&'static str, Severity)> {
        findings(&Policy::default(), snapshot).iter().map(|f| (f.code, f.severity)).collect()
    }

    fn down() -> Snapshot {
        Snapshot { listeners: Seen::Present(Vec::new()), ..healthy() }
    }

    fn with_units(mut snapshot: Snapshot, units: Vec<Unit>) -> Snapshot {
        snapshot.sshd.units = Seen::Present(units);
        snapshot
    }

    #[test]
    fn a_healthy_host_has_nothing_to_say() {
        assert_eq!(seen(&healthy()), []);
    }

    #[test]
    fn a_service_that_is_not_running_is_named() {
        let inactive = vec![unit("ssh.service", "inactive", "enabled"), unit("ssh.socket", "inactive", "disabled")];
        assert_eq!(seen(&with_units(down(), inactive)), [("sshd.unit.inactive", Severity::Critical)]);
        let failed = Unit { result: "exit-code".into(), ..unit("ssh.service", "failed", "enabled") };
        assert_eq!(seen(&with_units(down(), vec![failed])), [("sshd.unit.failed", Severity::Critical)]);
        let again = Unit { sub_state: "auto-restart".into(), ..unit("ssh.service", "activating", "enabled") };
        assert_eq!(seen(&with_units(down(), vec![again])), [("sshd.unit.failed", Severity::Critical)]);
    }

    #[test]
    fn a_unit_that_failed_is_no_emergency_while_sshd_serves_by_another() {
        let failed = || Unit { result: "exit-code".into(), ..unit("sshd.service", "failed", "enabled") };
        let failure = |snapshot| {
            let found = seen(&snapshot);
            found.into_iter().find(|(code, _)| *code == "sshd.unit.failed").expect("a finding").1
        };
        assert_eq!(failure(with_units(healthy(), vec![failed()])), Severity::Warning);
        let beside = vec![failed(), unit("ssh.socket", "active", "enabled")];
        assert_eq!(failure(with_units(down(), beside)), Severity::Warning);
        assert_eq!(failure(with_units(down(), vec![failed()])), Severity::Critical);
    }

    #[test]
    fn a_unit_that_is_not_there_is_neither_masked_nor_stopped() {
        let gone = || Unit { load_state: "not-found".into(), ..unit("sshd.service", "inactive", "") };
        let socket = unit("ssh.socket", "active", "enabled");
        assert_eq!(seen(&with_units(healthy(), vec![socket, gone()])), []);
        assert_eq!(seen(&with_units(down(), vec![gone()])), []);
    }

    #[test]
    fn a_stopped_process_is_named_only_where_nobody_serves() {
        let with_stopped = |mut snapshot: Snapshot| {
            let (name, exe, title) = ("sshd".to_owned(), None, String::new());
            snapshot.sshd.processes = vec![Process { pid: 612, name, exe, state: 'T', title }];
            seen(&with_units(snapshot, Vec::new()))
        };
        assert_eq!(with_stopped(down()), [("sshd.process.stopped", Severity::Critical)]);
        // A session that somebody has stopped keeps nobody out.
        assert_eq!(with_stopped(healthy()), []);
    }

    #[test]
    fn a_mask_is_somebodys_word() {
        let masked = Unit { load_state: "masked".into(), ..unit("ssh.service", "inactive", "masked") };
        let socket = unit("ssh.socket", "inactive", "disabled");
        assert_eq!(seen(&with_units(down(), vec![masked.clone(), socket])), [("sshd.unit.masked", Severity::Critical)]);
        let alias = Unit { name: "sshd.service".into(), ..masked };
        let beside = vec![unit("ssh.service", "active", "enabled"), alias];
        assert_eq!(seen(&with_units(healthy(), beside)), []);
    }

    #[test]
    fn a_masked_socket_beside_a_service_is_usual() {
        let socket = Unit { load_state: "masked".into(), ..unit("ssh.socket", "inactive", "masked") };
        assert_eq!(seen(&with_units(healthy(), vec![unit("ssh.service", "active", "enabled"), socket])), []);
    }

    #[test]
    fn what_the_next_boot_does_not_start_is_a_risk() {
        let disabled = vec![unit("ssh.service", "active", "disabled"), unit("ssh.socket", "inactive", "disabled")];
        assert_eq!(seen(&with_units(healthy(), disabled)), [("sshd.unit.disabled", Severity::Warning)]);
        let by_socket = vec![unit("ssh.service", "active", "disabled"), unit("ssh.socket", "active", "enabled")];
        assert_eq!(seen(&with_units(healthy(), by_socket)), []);
    }

    #[test]
    fn a_configuration_that_fails_is_a_risk_while_sshd_runs_and_critical_when_not() {
        let test = |said: &str, mut snapshot: Snapshot| {
            snapshot.sshd.test =
                Seen::Present(ConfigTest { passed: false, status: 255, messages: vec!["noise".into(), said.into()] });
            let all = seen(&snapshot);
            all.into_iter().find(|(code, _)| !code.starts_with("sshd.unit")).expect("a finding")
        };
        let bad = "/etc/ssh/sshd_config: line 3: Bad configuration option: Bogus";
        assert_eq!(test(bad, healthy()), ("sshd.config.invalid", Severity::Warning));
        assert_eq!(test(bad, down()), ("sshd.config.invalid", Severity::Critical));
        let keys = "sshd: no hostkeys available -- exiting.";
        assert_eq!(test(keys, down()), ("sshd.keys.missing", Severity::Critical));
        let open = "Permissions 0644 for '/etc/ssh/ssh_host_rsa_key' are too open.";
        assert_eq!(test(open, healthy()), ("sshd.keys.mode", Severity::Warning));
        let folder = "Missing privilege separation directory: /run/sshd";
        assert_eq!(test(folder, down()), ("sshd.privsep.missing", Severity::Info));
        let mut bare = down();
        bare.sshd.units = Seen::Absent;
        assert_eq!(test(folder, bare), ("sshd.privsep.missing", Severity::Critical));
        let mode = "/run/sshd must be owned by root and not group or world-writable.";
        assert_eq!(test(mode, healthy()), ("sshd.privsep.mode", Severity::Warning));
        assert_eq!(test("Privilege separation user sshd does not exist", down()).0, "sshd.user.missing");
    }

    #[test]
    fn a_port_that_sshd_is_not_configured_for_is_named() {
        let mut snapshot = down();
        snapshot.sshd.settings = Seen::Present(Settings { ports: vec![2222], ..Settings::default() });
        assert!(seen(&snapshot).contains(&("sshd.config.port", Severity::Critical)));
        let by_address =
            Settings { ports: vec![22], listen: vec![("192.0.2.10".parse().unwrap(), 2222)], ..Settings::default() };
        snapshot.sshd.settings = Seen::Present(by_address);
        assert!(seen(&snapshot).contains(&("sshd.config.port", Severity::Critical)));
        // Under socket activation the unit says where.
        let snapshot = with_units(snapshot, vec![unit("ssh.socket", "active", "enabled")]);
        assert_eq!(seen(&snapshot), []);
    }

    #[test]
    fn a_family_that_sshd_is_not_configured_for_is_named_for_each_port_by_itself() {
        let missing = |ports: &[u16], listen: &[&str]| {
            let mut policy = Policy::default();
            policy.ssh.ports = ports.to_vec();
            let mut snapshot = healthy();
            let places = listen.iter().map(|place| place.parse::<std::net::SocketAddr>().expect("a place"));
            let listen = places.map(|place| (place.ip(), place.port())).collect();
            snapshot.sshd.settings = Seen::Present(Settings { ports: ports.to_vec(), listen, ..Settings::default() });
            let found = findings(&policy, &snapshot).into_iter().filter(|f| f.code == "sshd.config.listen");
            let told =
                |f: Finding| format!("{} {}", f.evidence["family"].as_str().unwrap_or("none"), f.evidence["port"]);
            found.map(told).collect::<Vec<_>>()
        };
        assert_eq!(missing(&[22], &["0.0.0.0:22"]), ["ipv6 22"]);
        assert_eq!(missing(&[22], &["192.0.2.10:22", "[2001:db8::10]:22"]), [""; 0]);
        assert_eq!(missing(&[22, 2222], &["0.0.0.0:22", "[::]:2222"]), ["ipv6 22", "ipv4 2222"]);
    }

    #[test]
    fn the_line_that_sshd_does_not_take_is_in_the_evidence() {
        let said = "/etc/ssh/sshd_config: line 2: Bad configuration option: Bogus".to_owned();
        let mut snapshot = healthy();
        let text = "Port 22\n  Bogus yes\n";
        snapshot.sshd.files.config =
            vec![crate::facts::TextFile { path: "/etc/ssh/sshd_config".into(), bytes: text.into() }];
        snapshot.sshd.test = Seen::Present(ConfigTest { passed: false, status: 255, messages: vec![said] });
        let [finding] = &findings(&Policy::default(), &snapshot)[..] else { panic!("one finding") };
        let line = json!({"file": "/etc/ssh/sshd_config", "line": 2, "text": "Bogus yes", "what": "Bad configuration option: Bogus"});
        assert_eq!(finding.evidence["lines"], json!([line]));
    }

    #[test]
    fn a_switch_and_a_missing_program_are_named() {
        let mut snapshot = healthy();
        snapshot.sshd.not_to_be_run = true;
        assert_eq!(seen(&snapshot), [("sshd.not-to-be-run", Severity::Warning)]);
        let mut snapshot = down();
        snapshot.sshd.binary = Seen::Absent;
        assert_eq!(seen(&snapshot), [("sshd.binary.missing", Severity::Critical)]);
    }

    #[test]
    fn a_server_whose_program_was_replaced_is_named_once() {
        let held = |address, exe| {
            let owners = Seen::Present(vec![owner(612, "sshd", exe)]);
            crate::facts::Listener { owners, ..listener(address, 22) }
        };
        let mut snapshot = healthy();
        let gone = "/usr/sbin/sshd (deleted)";
        snapshot.listeners = Seen::Present(vec![held("0.0.0.0", gone), held("::", gone)]);
        assert_eq!(seen(&snapshot), [("sshd.process.replaced", Severity::Warning)]);
        // What it was before it was restarted may have sessions still, and listens no more.
        snapshot.listeners = Seen::Present(vec![held("0.0.0.0", "/usr/sbin/sshd"), held("::", "/usr/sbin/sshd")]);
        let old = Process { pid: 99, name: "sshd".into(), exe: Some(gone.into()), state: 'S', title: String::new() };
        snapshot.sshd.processes = vec![old];
        assert_eq!(seen(&snapshot), []);
    }

    #[test]
    fn a_tool_that_does_not_answer_is_named() {
        let mut snapshot = healthy();
        snapshot.sshd.test = Seen::Unreadable("/usr/sbin/sshd did not end within 5 s and was ended".into());
        snapshot.sshd.units = Seen::Unreadable("D-Bus did not answer within 5 s".into());
        let expected = [("sshd.config.unreadable", Severity::Warning), ("sshd.unit.unreadable", Severity::Warning)];
        assert_eq!(seen(&snapshot), expected);
        snapshot.privileged = false;
        assert_eq!(seen(&snapshot), []);
    }

    #[test]
    fn a_place_that_is_off_is_not_looked_at() {
        let mut policy = Policy::default();
        policy.sshd.mode = Mode::Off;
        assert!(findings(&policy, &with_units(down(), vec![unit("ssh.service", "inactive", "enabled")])).is_empty());
    }
}
