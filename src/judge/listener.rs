//! Who serves a connection that the firewall has let through: the gate between the packet filter and sshd.

use serde_json::json;

use super::{Blame, Finding, Gate, Path, PathVerdict, Severity, Symptom, paths};
use crate::facts::{AddrSet, Listener, Seen, Snapshot, SocketOwner, escape};
use crate::policy::{Mode, Policy};

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
            by.rule = Some(words.into());
            verdict.block(&everybody, symptom, by);
        }
        Service::Unknown(why) => verdict.doubt(&everybody, why, by),
    }
}

/// Who would be given a connection, in words.
pub fn taker(path: &Path, snapshot: &Snapshot) -> Option<String> {
    let listeners = snapshot.listeners.present()?;
    let fitting = listeners.iter().filter(|l| fits(l, path));
    fitting.max_by_key(|l| l.rank(path.family)).map(described)
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
                    evidence: evidence.into(),
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
    let fitting = |l: &&Listener| fits(l, path);
    let Some(best) = listeners.iter().filter(fitting).map(|l| l.rank(path.family)).max() else {
        return missing(path, listeners);
    };
    // Several of one rank share the port (SO_REUSEPORT): a connection may be given to any of them.
    let mut services = listeners.iter().filter(fitting).filter(|l| l.rank(path.family) == best);
    let first = services.next().map_or(Service::Served, |l| served(l, snapshot));
    let rest: Vec<Service> = services.map(|l| served(l, snapshot)).collect();
    match rest.iter().all(|s| *s == first) {
        true => first,
        false => Service::Unknown("several programs share the port, and not all of them serve SSH".to_owned()),
    }
}

fn fits(listener: &Listener, path: &Path) -> bool {
    listener.port == path.port
        && listener.serves(path.family, path.address)
        && listener.interface.is_none_or(|i| i == path.ifindex)
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

/// Why an SSH server that holds a socket takes no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standstill {
    /// By a signal, or by a debugger.
    Stopped,
    /// By the freezer of control groups.
    Frozen,
    /// It takes none, whatever the cause.
    Wedged,
}

/// Whether the SSH server of a socket stands still, and which it is.
pub fn standstill<'a>(listener: &'a Listener, snapshot: &Snapshot) -> Option<(Standstill, &'a SocketOwner)> {
    let mut servers: Vec<&SocketOwner> = listener.owners.present()?.iter().filter(|o| is_server(o, snapshot)).collect();
    // systemd takes no connection of a socket while the service runs that it has given it to.
    if servers.iter().any(|o| o.pid != 1) {
        servers.retain(|o| o.pid != 1);
    }
    let server = *servers.first()?;
    if servers.iter().all(|o| o.frozen) {
        return Some((Standstill::Frozen, server));
    }
    if servers.iter().all(|o| o.frozen || matches!(o.state, 'T' | 't')) {
        return Some((Standstill::Stopped, server));
    }
    listener.waits.filter(|&waits| waits >= Listener::PATIENCE).map(|_| (Standstill::Wedged, server))
}

/// What becomes of a connection that the kernel gives to this socket.
fn served(listener: &Listener, snapshot: &Snapshot) -> Service {
    // `sk_acceptq_is_full` of include/net/sock.h: full is more than the backlog.
    let full = listener.backlog > 0 && listener.queued > listener.backlog;
    if let Some((standstill, server)) = standstill(listener, snapshot) {
        let (code, why) = match standstill {
            Standstill::Stopped => ("sshd.listener.stopped", "is stopped".to_owned()),
            Standstill::Frozen => ("sshd.listener.frozen", "is frozen (its control group lets it not run)".to_owned()),
            Standstill::Wedged => {
                let waits = listener.waits.unwrap_or_default() / 1000;
                ("sshd.listener.wedged", format!("takes no connection: one has waited for it for {waits} s"))
            }
        };
        let symptom = if full { Symptom::TimedOut } else { Symptom::NoBanner };
        let words = format!("{} (pid {}) holds {} and {why}", escape(&server.name), server.pid, socket(listener));
        return Service::Missing { code, symptom, words };
    }
    if full {
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
    // sslh, haproxy, inetd and their like hand the connection on to one.
    let greets = listener.greeting.as_deref().is_some_and(|g| g.starts_with("SSH-"));
    if greets || owners.iter().any(|o| is_server(o, snapshot)) {
        return Service::Served;
    }
    let words = format!("{} is held by a program that is no SSH server: {}", socket(listener), names(owners));
    Service::Missing { code: "sshd.listener.stranger", symptom: Symptom::NoBanner, words }
}

/// An SSH server, or systemd that starts one for each connection or at the first (ssh.socket).
fn is_server(owner: &SocketOwner, snapshot: &Snapshot) -> bool {
    if owner.pid == 1 {
        return match &snapshot.sshd.units {
            Seen::Present(units) => units.iter().any(|u| u.name.ends_with(".socket") && u.active()),
            _ => true,
        };
    }
    // A binary of another name is one all the same if it is the one that was found.
    let found = snapshot.sshd.binary.present().map(|b| b.path.as_path());
    owner.is_ssh_server() || owner.exe.as_deref().is_some_and(|e| found == Some(std::path::Path::new(e)))
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
    let mut names: Vec<String> = owners.iter().take(SHOWN).map(name).collect();
    if owners.len() > SHOWN {
        names.push(format!("and {} more", owners.len() - SHOWN));
    }
    names.join("; ")
}

/// On a disk a program has no number yet.
fn name(owner: &SocketOwner) -> String {
    match owner.pid {
        0 => escape(&owner.name),
        pid => format!("{}, pid {pid}", escape(&owner.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{V4, V6, healthy, listener as socket, owner, unit};
    use super::*;
    use crate::facts::SocketOwner;

    /// The code of what is missing by IPv4 and by IPv6, `served`, or `unknown`.
    fn seen(snapshot: &Snapshot) -> [&'static str; 2] {
        let policy = Policy::default();
        let paths = paths(&policy, &snapshot.net);
        assert_eq!(paths.iter().map(|p| p.address.to_string()).collect::<Vec<_>>(), [V4, V6]);
        let mut words = ["", ""];
        for (word, path) in words.iter_mut().zip(&paths) {
            *word = match service(path, snapshot) {
                Service::Served => "served",
                Service::Missing { code, .. } => code,
                Service::Unknown(_) => "unknown",
            };
        }
        words
    }

    fn with(sockets: Vec<Listener>) -> Snapshot {
        Snapshot { listeners: Seen::Present(sockets), ..healthy() }
    }

    fn owned(address: &str, owners: Vec<SocketOwner>) -> Listener {
        Listener { owners: Seen::Present(owners), ..socket(address, 22) }
    }

    #[test]
    fn sshd_on_both_wildcards_serves() {
        assert_eq!(seen(&healthy()), ["served"; 2]);
        assert!(findings(&Policy::default(), &healthy()).is_empty());
        assert!(serving(&healthy(), 22) && !serving(&healthy(), 2222));
    }

    #[test]
    fn nothing_on_the_port_refuses() {
        let snapshot = with(vec![socket("0.0.0.0", 2222)]);
        assert_eq!(seen(&snapshot), ["sshd.listener.none"; 2]);
        let [finding] = &findings(&Policy::default(), &snapshot)[..] else { panic!("one finding for both families") };
        assert_eq!((finding.code, finding.severity), ("sshd.listener.none", Severity::Critical));
    }

    #[test]
    fn another_address_or_family_does_not_serve() {
        assert_eq!(seen(&with(vec![socket("127.0.0.1", 22), socket("::1", 22)])), ["sshd.listener.address"; 2]);
        assert_eq!(seen(&with(vec![socket(V4, 22)])), ["served", "sshd.listener.address"]);
        assert_eq!(seen(&with(vec![socket("::", 22)])), ["sshd.listener.address", "served"]);
        let both = Listener { v6_only: false, ..socket("::", 22) };
        assert_eq!(seen(&with(vec![both])), ["served"; 2]);
    }

    #[test]
    fn a_socket_bound_to_another_interface_does_not_serve() {
        let bound = |index| with(vec![Listener { interface: Some(index), ..socket("0.0.0.0", 22) }]);
        assert_eq!(seen(&bound(2))[0], "served");
        assert_eq!(seen(&bound(3))[0], "sshd.listener.address");
    }

    #[test]
    fn a_stranger_serves_only_if_it_greets_as_ssh_does() {
        let nginx = owned("0.0.0.0", vec![owner(9, "nginx", "/usr/sbin/nginx")]);
        assert_eq!(seen(&with(vec![nginx.clone()]))[0], "sshd.listener.stranger");
        let greets = |text: &str| with(vec![Listener { greeting: Some(text.into()), ..nginx.clone() }]);
        assert_eq!(seen(&greets("220 mail ESMTP"))[0], "sshd.listener.stranger");
        assert_eq!(seen(&greets("SSH-2.0-OpenSSH_9.2\r\n"))[0], "served");
    }

    #[test]
    fn a_stranger_on_the_address_itself_takes_it_from_sshd_on_the_wildcard() {
        let nginx = owned(V4, vec![owner(9, "nginx", "/usr/sbin/nginx")]);
        assert_eq!(
            seen(&with(vec![socket("0.0.0.0", 22), nginx, socket("::", 22)])),
            ["sshd.listener.stranger", "served"]
        );
    }

    #[test]
    fn other_servers_and_replaced_programs_are_known() {
        for (name, exe) in [
            ("dropbear", "/usr/sbin/dropbear"),
            ("sshd", "/usr/sbin/sshd (deleted)"),
            ("tinysshd", "/usr/sbin/tinysshd"),
        ] {
            assert_eq!(seen(&with(vec![owned("0.0.0.0", vec![owner(9, name, exe)])]))[0], "served", "{exe}");
        }
    }

    #[test]
    fn systemd_serves_where_a_socket_of_sshd_is_active() {
        let mut snapshot = with(vec![owned("0.0.0.0", vec![owner(1, "systemd", "/usr/lib/systemd/systemd")])]);
        assert_eq!(seen(&snapshot)[0], "sshd.listener.stranger");
        snapshot.sshd.units = Seen::Present(vec![unit("ssh.socket", "active", "enabled")]);
        assert_eq!(seen(&snapshot)[0], "served");
    }

    #[test]
    fn a_stopped_sshd_gives_no_banner() {
        let stopped = SocketOwner { state: 'T', ..owner(612, "sshd", "/usr/sbin/sshd") };
        let snapshot = with(vec![owned("0.0.0.0", vec![stopped])]);
        let mut verdict = PathVerdict::open(paths(&Policy::default(), &snapshot.net).remove(0));
        listener(&mut verdict, &snapshot);
        assert!(verdict.admitted.is_empty());
        let by = &verdict.blocked[0].by;
        assert_eq!((verdict.blocked[0].symptom, by.gate), (Symptom::NoBanner, Gate::Listener));
        assert_eq!(by.rule.as_deref(), Some("sshd (pid 612) holds 0.0.0.0:22 and is stopped"));
    }

    #[test]
    fn a_queue_is_full_beyond_its_backlog() {
        let queued = |queued| with(vec![Listener { queued, ..socket("0.0.0.0", 22) }]);
        assert_eq!(seen(&queued(128))[0], "served");
        assert_eq!(seen(&queued(129))[0], "sshd.listener.queue-full");
    }

    #[test]
    fn an_sshd_that_takes_no_connection_is_wedged() {
        let waits = |waits| Listener { queued: 1, waits: Some(waits), ..socket("0.0.0.0", 22) };
        assert_eq!(seen(&with(vec![waits(Listener::PATIENCE - 1)]))[0], "served");
        assert_eq!(seen(&with(vec![waits(Listener::PATIENCE)]))[0], "sshd.listener.wedged");
        // Why it is full counts for more than that it is; what clients see is another thing.
        let full = with(vec![Listener { queued: 129, ..waits(Listener::PATIENCE) }]);
        let Service::Missing { code, symptom, words } = served(&full.listeners.present().unwrap()[0], &full) else {
            panic!("served")
        };
        assert_eq!((code, symptom), ("sshd.listener.wedged", Symptom::TimedOut));
        assert_eq!(words, "sshd (pid 612) holds 0.0.0.0:22 and takes no connection: one has waited for it for 30 s");
        // A stopped one lets everybody wait, and others are no business of this.
        let with_owner = |owner| with(vec![Listener { owners: Seen::Present(vec![owner]), ..waits(60_000) }]);
        let stopped = SocketOwner { state: 't', ..owner(612, "sshd", "/usr/sbin/sshd") };
        assert_eq!(seen(&with_owner(stopped))[0], "sshd.listener.stopped");
        assert_eq!(seen(&with_owner(owner(9, "nginx", "/usr/sbin/nginx")))[0], "sshd.listener.stranger");
        // systemd has it alone, and starts nothing.
        let mut snapshot = with_owner(owner(1, "systemd", "/usr/lib/systemd/systemd"));
        snapshot.sshd.units = Seen::Present(vec![unit("ssh.socket", "active", "enabled")]);
        assert_eq!(seen(&snapshot)[0], "sshd.listener.wedged");
    }

    #[test]
    fn an_sshd_in_a_frozen_control_group_gives_no_banner() {
        let sshd = owner(612, "sshd", "/usr/sbin/sshd");
        let frozen = SocketOwner { frozen: true, ..sshd.clone() };
        let held = |owners: Vec<SocketOwner>| with(vec![owned("0.0.0.0", owners)]);
        assert_eq!(seen(&held(vec![frozen.clone()]))[0], "sshd.listener.frozen");
        assert_eq!(seen(&held(vec![frozen.clone(), sshd]))[0], "served");
        // systemd, which has given it the socket, does not take connections in its place.
        let mut snapshot = held(vec![owner(1, "systemd", "/usr/lib/systemd/systemd"), frozen]);
        snapshot.sshd.units = Seen::Present(vec![unit("ssh.socket", "active", "enabled")]);
        assert_eq!(seen(&snapshot)[0], "sshd.listener.frozen");
    }

    #[test]
    fn a_connection_that_waits_is_doubtful_only_for_a_while() {
        let waits = |waits| Listener { waits, ..socket("0.0.0.0", 22) }.undecided();
        assert_eq!(
            [None, Some(1_999), Some(2_000), Some(29_000), Some(30_000)].map(waits),
            [None, None, Some(28_000), Some(1_000), None]
        );
        let nginx = Listener { waits: Some(5_000), ..owned("0.0.0.0", vec![owner(9, "nginx", "/usr/sbin/nginx")]) };
        assert_eq!(nginx.undecided(), None);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let hidden = Listener { owners: Seen::Unreadable("root is needed".into()), ..socket("0.0.0.0", 22) };
        assert_eq!(seen(&with(vec![hidden]))[0], "unknown");
        let snapshot = Snapshot { listeners: Seen::Unreadable("open netlink: refused".into()), ..healthy() };
        assert_eq!(seen(&snapshot), ["unknown"; 2]);
        let mut verdict = PathVerdict::open(paths(&Policy::default(), &snapshot.net).remove(0));
        listener(&mut verdict, &snapshot);
        assert!(verdict.admitted.is_empty() && verdict.blocked.is_empty() && verdict.unknown_sources().is_full());
    }

    #[test]
    fn names_from_the_host_are_escaped() {
        let hostile = owned("0.0.0.0", vec![owner(9, "evil\x1b[31m", "/tmp/evil")]);
        let [finding, ..] = &findings(&Policy::default(), &with(vec![hostile]))[..] else { panic!("a finding") };
        assert!(!finding.summary.contains('\x1b'), "{}", finding.summary);
    }

    #[test]
    fn programs_that_share_a_port_have_to_serve_all() {
        let nginx = || owned("0.0.0.0", vec![owner(9, "nginx", "/usr/sbin/nginx")]);
        assert_eq!(seen(&with(vec![socket("0.0.0.0", 22), nginx()]))[0], "unknown");
        assert_eq!(seen(&with(vec![socket("0.0.0.0", 22), socket("0.0.0.0", 22)]))[0], "served");
        // One on the loopback address, or on another port, shares nothing.
        let loopback = owned("127.0.0.1", vec![owner(9, "nginx", "/usr/sbin/nginx")]);
        assert_eq!(seen(&with(vec![socket("0.0.0.0", 22), loopback]))[0], "served");
        assert_eq!(seen(&with(vec![Listener { queued: 5, backlog: 0, ..socket("0.0.0.0", 22) }]))[0], "served");
    }

    #[test]
    fn who_takes_a_connection_is_named() {
        let path = |snapshot: &Snapshot| paths(&Policy::default(), &snapshot.net).remove(0);
        let named = |sockets| {
            let snapshot = with(sockets);
            taker(&path(&snapshot), &snapshot)
        };
        assert_eq!(named(vec![socket("0.0.0.0", 22)]).as_deref(), Some("0.0.0.0:22 (sshd, pid 612)"));
        let closer = owned(V4, vec![owner(0, "nginx", "/usr/sbin/nginx")]);
        assert_eq!(named(vec![closer, socket("0.0.0.0", 22)]).as_deref(), Some("192.0.2.10:22 (nginx)"));
        assert_eq!(named(vec![owned("0.0.0.0", Vec::new())]).as_deref(), Some("0.0.0.0:22"));
        assert_eq!(named(vec![socket("0.0.0.0", 2222)]), None);
        let several = |count| vec![owned(V4, (0..count).map(|_| owner(0, "nginx", "/usr/sbin/nginx")).collect())];
        assert_eq!(named(several(3)).as_deref(), Some("192.0.2.10:22 (nginx; nginx; nginx)"));
        assert_eq!(named(several(4)).as_deref(), Some("192.0.2.10:22 (nginx; nginx; nginx; and 1 more)"));
    }

    #[test]
    fn each_port_that_nobody_serves_is_a_finding_with_who_is_there() {
        let mut policy = Policy::default();
        policy.ssh.ports = vec![2022, 2222];
        let found = findings(&policy, &with(vec![socket("127.0.0.1", 2222), socket("0.0.0.0", 22)]));
        let told: Vec<_> = found
            .iter()
            .map(|f| (f.code, f.evidence["port"].as_u64(), f.evidence["listeners"].as_array().map(Vec::len)))
            .collect();
        assert_eq!(
            told,
            [
                ("sshd.listener.none", Some(2022), Some(0)),
                ("sshd.listener.address", Some(2222), Some(1)),
                ("sshd.listener.address", Some(2222), Some(1)),
            ]
        );
    }
}
