//! What sshd says to its configuration, and where it would listen.

use serde_json::json;

use super::super::listener::serving;
use super::super::{Finding, Severity, paths};
use super::{finding, is_socket, risk};
use crate::decode::sshd_config::complaint;
use crate::facts::{ConfigTest, Family, Seen, Settings, Snapshot, TextFile, Unit, escape};
use crate::policy::Policy;

/// What `sshd -t` says, and the code that it stands for (sshd.c, servconf.c, authfile.c of OpenSSH).
const COMPLAINTS: [(&str, &str); 7] = [
    ("are too open", "sshd.keys.mode"),
    ("no hostkeys available", "sshd.keys.missing"),
    ("Missing privilege separation directory", "sshd.privsep.missing"),
    ("must be owned by root and not group or world-writable", "sshd.privsep.mode"),
    ("Privilege separation user", "sshd.user.missing"),
    ("sshd_config: No such file or directory", "sshd.config.missing"),
    ("", "sshd.config.invalid"),
];

pub fn test(snapshot: &Snapshot, serves: bool) -> Option<Finding> {
    let test = snapshot.sshd.test.present().filter(|test| !test.passed)?;
    let said = |words: &str| test.messages.iter().find(|m| m.contains(words));
    let (code, line) = COMPLAINTS.iter().find_map(|(words, code)| said(words).map(|line| (*code, line.as_str())))?;
    // systemd makes this folder when it starts the unit (RuntimeDirectory=sshd), so that it is missing where sshd does not run.
    let units = snapshot.sshd.units.present();
    let made_at_start = code == "sshd.privsep.missing" && units.is_some_and(|u| u.iter().any(Unit::loaded));
    let severity = if made_at_start { Severity::Info } else { risk(serves) };
    let then = match (serves, made_at_start) {
        (_, true) => "its unit makes it at the next start",
        (true, _) => "the running one serves on, but the next start will fail",
        (false, _) => "it cannot start",
    };
    let places = places(test, &snapshot.sshd.files.config);
    let what = match places.first() {
        Some(place) => place.words(),
        None => escape(line),
    };
    let more = places.len().saturating_sub(1);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let words = format!("`sshd -t` fails ({what}{more}): {then}");
    let lines: Vec<_> = places.iter().map(Place::evidence).collect();
    Some(finding(code, severity, words, json!({"status": test.status, "messages": test.messages, "lines": lines})))
}

/// A line that sshd does not take.
struct Place {
    file: String,
    line: usize,
    text: Option<String>,
    what: String,
}

impl Place {
    fn words(&self) -> String {
        let text = self.text.as_ref().map(|text| format!(" `{}`", escape(text))).unwrap_or_default();
        format!("{}, line {}{text}: {}", escape(&self.file), self.line, escape(&self.what))
    }

    fn evidence(&self) -> serde_json::Value {
        json!({"file": self.file, "line": self.line, "text": self.text, "what": self.what})
    }
}

fn places(test: &ConfigTest, config: &[TextFile]) -> Vec<Place> {
    let place = |message: &String| {
        let said = complaint(message)?;
        let file = config.iter().find(|f| f.path == said.file);
        let text = file.and_then(|f| f.bytes.split(|b| *b == b'\n').nth(said.line - 1));
        let text = text.map(|line| String::from_utf8_lossy(line).trim().chars().take(100).collect());
        Some(Place { file: said.file.to_string_lossy().into_owned(), line: said.line, text, what: said.what })
    };
    test.messages.iter().filter_map(place).collect()
}

/// Families and ports that the policy names, and of which sshd's configuration serves no way in.
pub fn listens(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let Seen::Present(settings) = &snapshot.sshd.settings else { return Vec::new() };
    let sockets = snapshot.sshd.units.present();
    if sockets.is_some_and(|units| units.iter().any(|u| is_socket(u) && u.active())) {
        // systemd listens, on the ports of the socket unit: sshd's own do not count.
        return Vec::new();
    }
    let all = paths(policy, &snapshot.net);
    let mut out = Vec::new();
    for &port in &policy.ssh.ports {
        let configured = match settings.listen.is_empty() {
            true => settings.ports.contains(&port),
            false => settings.listen.iter().any(|(_, p)| *p == port),
        };
        if !configured {
            let words = format!("sshd is configured for port {}, not for {port}", ports(settings));
            let evidence = json!({"port": port, "configured": settings.ports, "listen": settings.listen});
            out.push(finding("sshd.config.port", risk(serving(snapshot, port)), words, evidence));
            continue;
        }
        for family in Family::BOTH {
            let mut ways = all.iter().filter(|p| p.family == family && p.port == port).peekable();
            if ways.peek().is_none() || ways.any(|p| settings.serves(p.address, port)) {
                continue;
            }
            let listen: Vec<String> =
                settings.listen.iter().map(|(a, p)| std::net::SocketAddr::new(*a, *p).to_string()).collect();
            let words =
                format!("sshd is configured to listen on {} alone: nobody comes in by {family}", listen.join(", "));
            let evidence = json!({"family": family, "port": port, "listen": settings.listen, "address_family": settings.address_family});
            out.push(finding("sshd.config.listen", risk(serving(snapshot, port)), words, evidence));
        }
    }
    out
}

fn ports(settings: &Settings) -> String {
    let mut ports: Vec<u16> = settings.listen.iter().map(|(_, p)| *p).chain(settings.ports.iter().copied()).collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
