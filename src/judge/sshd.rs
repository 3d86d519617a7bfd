//! Whether sshd can run, does run, and will run after the next boot.

use serde_json::json;

use super::listener::serving;
use super::{Finding, Severity};
use crate::facts::{ConfigTest, Process, Seen, Settings, Snapshot, Unit, escape};
use crate::policy::{Mode, Policy};

/// What `sshd -t` says, and the code that it stands for (sshd.c, servconf.c, authfile.c of OpenSSH).
const COMPLAINTS: [(&str, &str); 6] = [
    ("no hostkeys available", "sshd.keys.missing"),
    ("UNPROTECTED PRIVATE KEY FILE", "sshd.keys.mode"),
    ("Missing privilege separation directory", "sshd.privsep.missing"),
    ("must be owned by root and not group or world-writable", "sshd.privsep.mode"),
    ("Privilege separation user", "sshd.user.missing"),
    ("", "sshd.config.invalid"),
];

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
    if let Seen::Present(test) = &sshd.test {
        out.extend(config(test, &sshd.units, serves));
    }
    if let Seen::Present(settings) = &sshd.settings {
        out.extend(ports(policy, snapshot, settings));
    }
    match &sshd.units {
        Seen::Present(units) => out.extend(unit_findings(units, serves)),
        Seen::Absent | Seen::Unreadable(_) => {}
    }
    let stopped = sshd.processes.iter().filter(|p| matches!(p.state, 'T' | 't'));
    out.extend(stopped.filter(|_| !serves).map(stopped_process));
    out
}

/// Critical where nobody can be served now, else a matter of the next start.
fn risk(serves: bool) -> Severity {
    if serves { Severity::Warning } else { Severity::Critical }
}

fn config(test: &ConfigTest, units: &Seen<Vec<Unit>>, serves: bool) -> Option<Finding> {
    if test.passed {
        return None;
    }
    let said = |words: &str| test.messages.iter().find(|m| m.contains(words));
    let (code, line) = COMPLAINTS.iter().find_map(|(words, code)| said(words).map(|line| (*code, line.as_str())))?;
    // systemd makes this folder when it starts the unit (RuntimeDirectory=sshd), so that it is missing where sshd does not run.
    let made_at_start = code == "sshd.privsep.missing" && units.present().is_some_and(|u| u.iter().any(Unit::loaded));
    let severity = if made_at_start { Severity::Info } else { risk(serves) };
    let then = match (serves, made_at_start) {
        (_, true) => "its unit makes it at the next start",
        (true, _) => "the running one serves on, but the next start will fail",
        (false, _) => "it cannot start",
    };
    let words = format!("`sshd -t` fails ({}): {then}", escape(line));
    Some(finding(code, severity, words, json!({"status": test.status, "messages": test.messages})))
}

/// Ports that the policy names and that sshd's configuration does not have.
fn ports(policy: &Policy, snapshot: &Snapshot, settings: &Settings) -> Vec<Finding> {
    let sockets = snapshot.sshd.units.present();
    if sockets.is_some_and(|units| units.iter().any(|u| u.name.ends_with(".socket") && u.active())) {
        // systemd listens, on the ports of the socket unit: sshd's own do not count.
        return Vec::new();
    }
    let configured = |port: u16| match settings.listen.is_empty() {
        true => settings.ports.contains(&port),
        false => settings.listen.iter().any(|(_, p)| *p == port),
    };
    let lacking = policy.ssh.ports.iter().filter(|&&port| !configured(port));
    lacking
        .map(|&port| {
            let words = format!("sshd is configured for port {}, not for {port}", list(settings));
            let evidence = json!({"port": port, "configured": settings.ports, "listen": settings.listen});
            finding("sshd.config.port", risk(serving(snapshot, port)), words, evidence)
        })
        .collect()
}

fn list(settings: &Settings) -> String {
    let mut ports: Vec<u16> = settings.listen.iter().map(|(_, p)| *p).chain(settings.ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

fn unit_findings(units: &[Unit], serves: bool) -> Vec<Finding> {
    let mut out = Vec::new();
    let known: Vec<&Unit> = units.iter().filter(|u| u.loaded() || u.masked()).collect();
    let any_active = known.iter().any(|u| u.active() && !u.masked());
    for unit in &known {
        let name = escape(&unit.name);
        let socket = unit.name.ends_with(".socket");
        if unit.masked() {
            // A masked socket beside a service that is there is the usual way to turn socket activation off.
            if socket {
                continue;
            }
            let words = format!("{name} is masked: somebody wants it not to be started");
            out.push(finding("sshd.unit.masked", risk(serves), words, json!(unit)));
        } else if unit.active_state == "failed" {
            let words = match unit.result.as_str() {
                "start-limit-hit" => format!("{name} failed too often, and systemd has given it up"),
                result => format!("{name} has failed ({})", escape(result)),
            };
            out.push(finding("sshd.unit.failed", risk(serves || any_active), words, json!(unit)));
        } else if !socket && !any_active && !unit.active() {
            let words = format!("{name} is not running ({}, {})", escape(&unit.active_state), escape(&unit.sub_state));
            out.push(finding("sshd.unit.inactive", risk(serves), words, json!(unit)));
        }
    }
    let starts = |u: &&&Unit| u.unit_file_state.starts_with("enabled") || u.unit_file_state == "alias";
    let disabled: Vec<&&Unit> = known.iter().filter(|u| u.unit_file_state == "disabled").collect();
    if known.iter().find(starts).is_none()
        && let Some(unit) = disabled.iter().find(|u| u.active()).or(disabled.first())
    {
        let words = format!("{} is disabled: it will not be started by the next boot", escape(&unit.name));
        out.push(finding("sshd.unit.disabled", Severity::Warning, words, json!(unit)));
    }
    out
}

fn stopped_process(process: &Process) -> Finding {
    let words = format!("{} (pid {}) is stopped (SIGSTOP)", escape(&process.name), process.pid);
    critical("sshd.process.stopped", words, json!(process))
}

fn critical(code: &'static str, summary: String, evidence: serde_json::Value) -> Finding {
    finding(code, Severity::Critical, summary, evidence)
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence, mendable: false, mend: None }
}
