//! What each step is said to mend, over every code that has to do with a step.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;
use crate::facts::{Backend, Family, Owned, TableFamily};
use crate::judge::Severity;

const CODES: [&str; 27] = [
    "firewall.input.drop",
    "firewall.panic",
    "route.blackhole",
    "wrappers.deny",
    "wrappers.line.broken",
    "sshd.listener.none",
    "sshd.listener.address",
    "sshd.listener.stopped",
    "sshd.listener.frozen",
    "sshd.listener.wedged",
    "sshd.process.stopped",
    "sshd.unit.failed",
    "sshd.unit.disabled",
    "sshd.socket.listen",
    "sshd.config.invalid",
    "sshd.config.port",
    "sshd.keys.missing",
    "sshd.keys.mode",
    "sshd.logins.mode",
    "sshd.privsep.missing",
    "sshd.privsep.mode",
    "sshd.user.missing",
    "boot.firewall.drop",
    "boot.firewalld.lost",
    "resources.disk.full",
    "resources.disk.inodes",
    "resources.conntrack.full",
];

fn finding(code: &'static str, severity: Severity, evidence: Value) -> Finding {
    Finding { code, severity, summary: String::new(), evidence: evidence.into(), mendable: false, mend: None }
}

/// The evidence that all these steps are about, and evidence that none of them is about.
fn evidence(ours: bool) -> Value {
    match ours {
        true => json!({ "file": "/etc/nftables.conf", "unit": "ufw.service", "mount_point": "/var", "account": "admin",
            "zone": "public", "name": "ssh.service", "by": { "where": "inet filter input" } }),
        false => json!({ "file": "/etc/other", "unit": "other.service", "mount_point": "/home", "account": "other",
            "zone": "other", "name": "other.service", "by": { "where": "filter other input" } }),
    }
}

/// The codes that a step mends: with `!` only where it is critical, with `?` only with evidence of the very thing.
fn mended_by(step: &Step) -> String {
    let mut all = Vec::new();
    for code in CODES {
        let asked = |severity, ours| mends(step, &finding(code, severity, evidence(ours)));
        let critical = if asked(Severity::Warning, true) { "" } else { "!" };
        match (asked(Severity::Critical, true), asked(Severity::Critical, false)) {
            (true, true) => all.push(format!("{code}{critical}")),
            (true, false) => all.push(format!("{code}{critical}?")),
            (false, other) => assert!(!other, "{code} is mended on the evidence of something else"),
        }
    }
    all.join(" ")
}

fn write(path: &str) -> Step {
    Step::WriteFile { path: path.into(), content: Vec::new(), reason: String::new() }
}

#[test]
fn each_step_is_said_to_mend_what_it_mends_and_nothing_else() {
    let unit = || "ssh.service".to_owned();
    let owned = Owned { mode: 0o600, uid: 0, gid: 0 };
    let mode = |path: &str| Step::SetMode { path: path.into(), owned };
    let folder = |path: &str| Step::MakeFolder { path: path.into(), owned };
    let nft = Step::Nft { generation: 1, family: TableFamily::Inet, table: "filter".into(), inserts: Vec::new() };
    let iptables =
        Step::Iptables { backend: Backend::Legacy, family: Family::Ipv4, table: "filter".into(), inserts: Vec::new() };
    let ufw = Step::UfwAllow { port: 22, interface: None, sources: vec![None], model: Vec::new() };
    let firewalld = Step::FirewalldAllow {
        zone: "public".into(),
        port: 22,
        sources: vec![None],
        permanent: true,
        model: Vec::new(),
    };
    let persist = Step::Persist {
        path: "/etc/nftables.conf".into(),
        content: Vec::new(),
        reason: String::new(),
        model: Vec::new(),
    };
    let writers = Step::KeepWritersOut { account: "admin".into(), path: "/home/admin".into(), seen: owned };
    let table: Vec<(&str, Step, &str)> = vec![
        (
            "room on /var",
            Step::FreeReserve { bytes: 1, disk: "/var".into() },
            "resources.disk.full? resources.disk.inodes?",
        ),
        ("a rule of nft", nft, "firewall.input.drop!? firewall.panic!?"),
        ("a rule of iptables", iptables, "firewall.input.drop!? firewall.panic!?"),
        ("ufw", ufw, "firewall.input.drop! firewall.panic! boot.firewall.drop?"),
        ("ufw anew", Step::UfwRebuild { families: Vec::new() }, "firewall.input.drop! firewall.panic!"),
        ("firewalld", firewalld, "firewall.input.drop! firewall.panic! boot.firewalld.lost?"),
        ("no panic", Step::FirewalldPanicOff, "firewall.input.drop! firewall.panic!"),
        (
            "an unban",
            Step::Unban { jail: "sshd".into(), addresses: Vec::new() },
            "firewall.input.drop! firewall.panic!",
        ),
        ("the next boot's rules", persist, "firewall.input.drop! firewall.panic! boot.firewall.drop?"),
        ("a unit's file", write("/etc/systemd/system/ssh.socket.d/x.conf"), "sshd.socket.listen"),
        ("hosts.allow", write("/etc/hosts.allow"), "wrappers.deny! wrappers.line.broken!"),
        ("hosts.deny", write("/etc/hosts.deny"), "wrappers.deny! wrappers.line.broken!"),
        ("sshd_config", write("/etc/ssh/sshd_config"), "sshd.config.invalid sshd.config.port"),
        ("a file that it includes", write("/srv/sshd.conf"), "sshd.config.invalid sshd.config.port"),
        ("a key's mode", mode("/etc/ssh/ssh_host_rsa_key"), "sshd.keys.mode"),
        ("privsep's mode", mode("/run/sshd"), "sshd.privsep.mode"),
        ("a unit's folder", folder("/etc/systemd/system/ssh.socket.d"), "sshd.socket.listen"),
        ("privsep's folder", folder("/run/sshd"), "sshd.privsep.missing"),
        ("keys", Step::MakeKeys { keys: Vec::new() }, "sshd.keys.missing"),
        ("no writers", writers, "sshd.logins.mode?"),
        (
            "its user",
            Step::MakeUser { name: "sshd".into(), home: PathBuf::from("/run/sshd"), group: None },
            "sshd.user.missing",
        ),
        ("a larger table", Step::RaiseConntrack { from: 1, to: 2 }, "resources.conntrack.full"),
        (
            "SIGCONT",
            Step::ContinueProcess { pid: 1, name: "sshd".into() },
            "sshd.listener.stopped sshd.process.stopped",
        ),
        ("a thaw", Step::ThawUnit { unit: unit() }, "sshd.listener.frozen"),
        (
            "a restart",
            Step::RestartUnit { unit: unit(), pid: 1, name: "sshd".into() },
            "sshd.listener.stopped sshd.listener.frozen sshd.listener.wedged sshd.process.stopped",
        ),
        (
            "a reload",
            Step::ReloadUnit { unit: unit() },
            "sshd.listener.none! sshd.listener.address! sshd.listener.stopped! sshd.listener.frozen! sshd.listener.wedged!",
        ),
        (
            "a socket",
            Step::ListenBySocket { unit: unit(), restart: false },
            "sshd.listener.none sshd.listener.address sshd.listener.stopped sshd.listener.frozen sshd.listener.wedged \
             sshd.socket.listen",
        ),
        ("an emergency", Step::EmergencySshd { config: String::new(), keys: Vec::new() }, "sshd.listener.none"),
        ("an enabling", Step::EnableUnit { unit: unit() }, "sshd.listener.none! sshd.unit.disabled"),
    ];
    for (name, step, wanted) in table {
        assert_eq!(mended_by(&step), wanted, "{name}");
    }
}

#[test]
fn a_start_mends_that_nobody_listens_and_what_is_critical_about_its_unit() {
    let step = Step::StartUnit { unit: "ssh.service".into(), reset_failed: false, unmask: false };
    for (code, severity, ours, wanted) in [
        ("sshd.listener.none", Severity::Warning, false, true),
        ("sshd.unit.failed", Severity::Critical, true, true),
        ("sshd.unit.failed", Severity::Critical, false, false),
        ("sshd.unit.failed", Severity::Warning, true, false),
        ("sshd.listener.none", Severity::Info, true, false),
    ] {
        assert_eq!(mends(&step, &finding(code, severity, evidence(ours))), wanted, "{code} {severity:?} {ours}");
    }
}
