//! Who serves a connection that the firewall has let through: the gate between the packet filter and sshd.

use serde_json::json;

use super::{Blame, Finding, Gate, Path, PathVerdict, Severity, Symptom, paths};
use crate::facts::{AddrSet, Family, Listener, Seen, Snapshot, SocketOwner, escape};
use crate::policy::{Mode, Policy};

/// Programs that speak the SSH protocol themselves.
const SERVERS: [&str; 5] = ["sshd", "sshd-session", "dropbear", "tinysshd", "tinysshd-makekey"];

/// What a connection on one path meets.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Service {
    /// An SSH server takes it.
    Served,
    /// It gets no service, whoever asks.
    Missing { code: &'static str, symptom: Symptom, words: String },
    /// It cannot be told.
    Unknown(String),
}

/// Blocks or doubts every source of a path as its listener does.
pub fn listener(verdict: &mut PathVerdict, snapshot: &Snapshot) {
    let everybody = AddrSet::full(verdict.path.family);
    let mut by = Blame::gate(Gate::Listener, &format!("port {}", verdict.path.port));
    match service(&verdict.path, snapshot) {
        Service::Served => {}
        Service::Missing { symptom, words, .. } => {
            by.rule = Some(words);
            verdict.block(&everybody, symptom, by);
        }
        Service::Unknown(why) => verdict.doubt(&everybody, why, by),
    }
}

/// Whether an SSH server listens on the port somewhere that is not only this host itself, and runs.
pub fn serving(snapshot: &Snapshot, port: u16) -> bool {
    let Seen::Present(listeners) = &snapshot.listeners else { return false };
    listeners.iter().any(|l| l.port == port && !l.address.is_loopback() && served(l, snapshot) == Service::Served)
}

/// One finding for each way in that nobody serves, families and addresses with one cause side by side.
pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if policy.sshd.mode == Mode::Off {
        return Vec::new();
    }
    let mut out: Vec<(Finding, Vec<String>)> = Vec::new();
    for path in paths(policy, &snapshot.net) {
        let Service::Missing { code, words, .. } = service(&path, snapshot) else { continue };
        let place = format!("{} ({})", path.address, path.interface);
        match out.iter_mut().find(|(f, _)| f.code == code && f.summary == words) {
            Some((_, places)) => places.push(place),
            None => {
                let evidence = json!({"port": path.port, "listeners": on_port(snapshot, path.port)});
                let finding = Finding {
                    code,
                    severity: Severity::Critical,
                    summary: words,
                    evidence,
                    mendable: false,
                    mend: None,
                };
                out.push((finding, vec![place]));
            }
        }
    }
    let with_places = |(mut finding, places): (Finding, Vec<String>)| {
        if let Some(evidence) = finding.evidence.as_object_mut() {
            evidence.insert("addresses".to_owned(), json!(places));
        }
        finding
    };
    out.into_iter().map(with_places).collect()
}

fn service(path: &Path, snapshot: &Snapshot) -> Service {
    let listeners = match &snapshot.listeners {
        Seen::Present(listeners) => listeners,
        Seen::Absent => return Service::Unknown("the host's listening sockets were not read".to_owned()),
        Seen::Unreadable(why) => return Service::Unknown(format!("listening sockets: {why}")),
    };
    let fitting = |l: &&Listener| {
        l.port == path.port && l.serves(path.family, path.address) && l.interface.is_none_or(|i| i == path.ifindex)
    };
    let Some(best) = listeners.iter().filter(fitting).map(|l| rank(l, path.family)).max() else {
        return missing(path, listeners);
    };
    // Several of one rank share the port (SO_REUSEPORT): a connection may be given to any of them.
    let mut services = listeners.iter().filter(fitting).filter(|l| rank(l, path.family) == best);
    let first = services.next().map_or(Service::Served, |l| served(l, snapshot));
    let rest: Vec<Service> = services.map(|l| served(l, snapshot)).collect();
    match rest.iter().all(|s| *s == first) {
        true => first,
        false => Service::Unknown("several programs share the port, and not all of them serve SSH".to_owned()),
    }
}

/// The kernel's order of preference among sockets that all fit (`compute_score` of net/ipv4/inet_hashtables.c).
fn rank(listener: &Listener, family: Family) -> (bool, bool, bool) {
    let own_family = Family::of(listener.address) == family;
    (listener.interface.is_some(), !listener.address.is_unspecified(), own_family)
}

fn missing(path: &Path, listeners: &[Listener]) -> Service {
    let elsewhere: Vec<String> = listeners.iter().filter(|l| l.port == path.port).map(described).collect();
    if elsewhere.is_empty() {
        let words = format!("nothing listens on port {}", path.port);
        return Service::Missing { code: "sshd.listener.none", symptom: Symptom::Refused, words };
    }
    let words = format!("on port {} only {} listens, not {}", path.port, elsewhere.join(" and "), path.address);
    Service::Missing { code: "sshd.listener.address", symptom: Symptom::Refused, words }
}

/// What becomes of a connection that the kernel gives to this socket.
fn served(listener: &Listener, snapshot: &Snapshot) -> Service {
    // `sk_acceptq_is_full` of include/net/sock.h: full is more than the backlog.
    if listener.backlog > 0 && listener.queued > listener.backlog {
        let words = format!(
            "the accept queue of {} is full ({} wait, {} may): it takes no more connections",
            described(listener),
            listener.queued,
            listener.backlog
        );
        return Service::Missing { code: "sshd.listener.queue-full", symptom: Symptom::TimedOut, words };
    }
    let owners = match &listener.owners {
        Seen::Present(owners) if !owners.is_empty() => owners,
        Seen::Present(_) | Seen::Absent => {
            return Service::Unknown(format!("no process was found that holds {}", socket(listener)));
        }
        Seen::Unreadable(why) => return Service::Unknown(format!("who holds {}: {why}", socket(listener))),
    };
    let Some(server) = owners.iter().find(|o| is_server(o, snapshot)) else {
        let words = format!("{} is held by a program that is no SSH server: {}", socket(listener), names(owners));
        return Service::Missing { code: "sshd.listener.stranger", symptom: Symptom::NoBanner, words };
    };
    if owners.iter().filter(|o| is_server(o, snapshot)).all(|o| matches!(o.state, 'T' | 't')) {
        let words = format!("{} (pid {}) holds {} and is stopped", escape(&server.name), server.pid, socket(listener));
        return Service::Missing { code: "sshd.listener.stopped", symptom: Symptom::NoBanner, words };
    }
    Service::Served
}

/// An SSH server, or systemd that starts one for each connection or at the first (ssh.socket).
fn is_server(owner: &SocketOwner, snapshot: &Snapshot) -> bool {
    let exe = owner.exe.as_deref().map(|e| e.trim_end_matches(" (deleted)"));
    let program = exe.and_then(|e| e.rsplit('/').next());
    let runs = |name: &str| SERVERS.contains(&name);
    match (owner.pid, program) {
        (1, _) => match &snapshot.sshd.units {
            Seen::Present(units) => units.iter().any(|u| u.name.ends_with(".socket") && u.active()),
            _ => true,
        },
        (_, Some(program)) => {
            let binary = snapshot.sshd.binary.present().and_then(|b| b.path.file_name());
            runs(program) || binary.is_some_and(|b| b == program)
        }
        (_, None) => runs(&owner.name),
    }
}

fn on_port(snapshot: &Snapshot, port: u16) -> Vec<&Listener> {
    snapshot.listeners.present().into_iter().flatten().filter(|l| l.port == port).collect()
}

/// `0.0.0.0:22`, `[::1]:22 on eth0's index`
fn socket(listener: &Listener) -> String {
    let mut text = std::net::SocketAddr::new(listener.address, listener.port).to_string();
    if let Some(interface) = listener.interface {
        text.push_str(&format!(" on interface {interface}"));
    }
    text
}

fn described(listener: &Listener) -> String {
    match listener.owners.present() {
        Some(owners) if !owners.is_empty() => format!("{} ({})", socket(listener), names(owners)),
        _ => socket(listener),
    }
}

fn names(owners: &[SocketOwner]) -> String {
    const SHOWN: usize = 3;
    let mut names: Vec<String> =
        owners.iter().take(SHOWN).map(|o| format!("{}, pid {}", escape(&o.name), o.pid)).collect();
    if owners.len() > SHOWN {
        names.push(format!("and {} more", owners.len() - SHOWN));
    }
    names.join("; ")
}
