//! A disk that does not run: its files, and from them what its next boot would bring about. Nothing is asked of the machine
//! that it is mounted on but its kernel, in scratch namespaces, and its sshd, apart.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::interfaces::interfaces;
use super::{boot, logins, owners, resources, sshd, sshd_files, wrappers, written};
use crate::apply::sshd::change;
use crate::decode::unit_file::{Assignment, listens, values};
use crate::facts::{
    Boot, Family, Firewall, Listener, Net, Owners, Seen, Snapshot, SocketOwner, SocketUnit, Sshd, Unit, UnitLine,
};
use crate::host::Host;
use crate::judge::in_charge;
use crate::policy::Policy;
use crate::rehearse::ruleset::{example, net};
use crate::rehearse::sshd::disk::ask;

const UNITS: [&str; 4] = ["ssh.service", "sshd.service", "ssh.socket", "sshd.socket"];
const SYSTEMD: [&str; 2] = ["/usr/lib/systemd/systemd", "/lib/systemd/systemd"];

/// The disk as its next boot would have it.
pub fn disk(host: &Host, policy: &Policy) -> Snapshot {
    let mut seen = Sshd {
        binary: sshd::installed(host),
        test: Seen::Absent,
        settings: Seen::Absent,
        units: units(host),
        processes: Vec::new(),
        not_to_be_run: sshd::not_to_be_run(host),
        selinux: None,
        privsep_dir: Seen::Absent,
        files: sshd_files::files(host),
        logins: logins::logins(host, None),
        shut_out: Seen::Absent,
        start_failed: None,
        let_go_in_vain: false,
        trials: Vec::new(),
    };
    let answer = ask(host, &seen, &[], &change);
    (seen.test, seen.settings) = (answer.test, answer.settings);
    seen.logins = logins::logins(host, seen.settings.present());
    let net = network(host, policy, &seen);
    let boot = boot::boot(host, &net);
    let mut snapshot = Snapshot {
        privileged: host.privileged(),
        firewall: firewall(&boot),
        owners: Owners {
            ufw: owners::ufw(host),
            firewalld: Seen::Absent,
            fail2ban_running: false,
            docker_running: false,
        },
        listeners: listeners(&seen),
        sshd: seen,
        wrappers: wrappers::wrappers(host),
        resources: resources::of_disk(host),
        boot,
        at_rest: true,
        written: Vec::new(),
        net,
    };
    snapshot.written = written::written(host, &snapshot);
    snapshot
}

/// Where clients come in: by the interfaces that the policy names, else those that the disk's files
/// bring up, to the addresses that sshd names, else to examples.
fn network(host: &Host, policy: &Policy, sshd: &Sshd) -> Net {
    let by_socket = sshd.units.present().and_then(|units| in_charge(units));
    let listen: Vec<IpAddr> = match (by_socket, sshd.settings.present()) {
        (Some((_, socket)), _) if socket.v6_only => socket.addresses().iter().map(SocketAddr::ip).collect(),
        (Some(_), _) | (None, None) => Vec::new(),
        (None, Some(settings)) => settings.listen.iter().map(|(address, _)| *address).collect(),
    };
    let named: Vec<IpAddr> = listen.into_iter().filter(|a| !a.is_loopback()).collect();
    let mut to: Vec<IpAddr> = Vec::new();
    for family in Family::BOTH {
        let mut own: Vec<IpAddr> = named.iter().copied().filter(|a| Family::of(*a) == family).collect();
        // A family that sshd does not listen on, while it does on the other, the host need not have.
        let lacks = own.is_empty() && !named.is_empty();
        if !lacks && own.iter().all(|a| a.is_unspecified()) || own.iter().any(|a| a.is_unspecified()) {
            own = vec![example(family)];
        }
        to.extend(own);
    }
    to.dedup();
    let interfaces = policy.ssh.interfaces.clone().unwrap_or_else(|| interfaces(host));
    let uplinks: Vec<(u32, &str)> = (2..).zip(interfaces.iter().map(String::as_str)).collect();
    net(&uplinks, &to)
}

/// The rules of the next boot; none where nothing loads any.
fn firewall(boot: &Boot) -> Firewall {
    let none =
        |nft| Firewall { nft, legacy4: Seen::Absent, legacy6: Seen::Absent, ipsets: Seen::Absent, outside: Vec::new() };
    if let Some(unit) = boot.makers.first().map(|maker| maker.unit) {
        return none(Seen::Unreadable(format!("{unit} is enabled, and makes its rules only when it starts")));
    }
    match &boot.firewall {
        Seen::Present(rules) => rules.clone(),
        Seen::Absent => none(Seen::Absent),
        Seen::Unreadable(why) => none(Seen::Unreadable(why.clone())),
    }
}

/// The units of sshd, as the next boot will have them. Absent where systemd does not run the disk.
fn units(host: &Host) -> Seen<Vec<Unit>> {
    if !SYSTEMD.iter().any(|path| host.exists(Path::new(path))) {
        return Seen::Absent;
    }
    Seen::Present(UNITS.into_iter().filter_map(|name| unit(host, name)).collect())
}

/// None where there is no such unit, or the name is another's alias.
fn unit(host: &Host, name: &str) -> Option<Unit> {
    let path = boot::unit_file(host, name)?;
    let file = host.metadata(&path);
    let masked = !file.is_ok_and(|meta| meta.is_file() && meta.len() > 0);
    if !masked && host.real(&path).ok()?.file_name().is_some_and(|real| real != name) {
        return None;
    }
    let enabled = boot::enabled(host, name);
    let installs = || {
        let files = boot::unit_files(host, name).unwrap_or_default();
        let files: Vec<Vec<u8>> = files.into_iter().map(|(_, text)| text).collect();
        ["WantedBy", "RequiredBy"].iter().any(|key| !values(&files, "Install", key).is_empty())
    };
    let state = match (masked, enabled) {
        (true, _) => "masked",
        (_, true) => "enabled",
        _ if installs() => "disabled",
        _ => "static",
    };
    Some(Unit {
        name: name.to_owned(),
        load_state: if masked { "masked" } else { "loaded" }.to_owned(),
        active_state: if enabled { "active" } else { "inactive" }.to_owned(),
        sub_state: String::new(),
        unit_file_state: state.to_owned(),
        result: "success".to_owned(),
        main_pid: 0,
        fragment_path: path.to_string_lossy().into_owned(),
        kill_mode: String::new(),
        socket: name.ends_with(".socket").then(|| socket(host, name)),
    })
}

/// Where a socket unit will listen (systemd.socket(5)). What cannot be read says nothing.
fn socket(host: &Host, name: &str) -> SocketUnit {
    let files = boot::unit_files(host, name).unwrap_or_default();
    let texts: Vec<Vec<u8>> = files.iter().map(|(_, text)| text.clone()).collect();
    let found = listens(&texts);
    let line = |found: &Assignment| UnitLine {
        file: files.get(found.file).map(|(path, _)| path.clone()).unwrap_or_default(),
        line: found.line,
        text: format!("{}={}", found.key, found.value),
    };
    let place = |found: &Assignment| {
        let kind = found.key.strip_prefix("Listen").unwrap_or(&found.key).to_owned();
        // A number alone is a port of both families.
        let address = found.value.parse::<u16>().map_or(found.value.clone(), |port| format!("[::]:{port}"));
        (kind, address)
    };
    SocketUnit {
        listen: found.iter().map(place).collect(),
        v6_only: values(&texts, "Socket", "BindIPv6Only").last().is_some_and(|value| value == "ipv6-only"),
        accepts: values(&texts, "Socket", "Accept").last().is_some_and(|value| value == "yes" || value == "true"),
        conflicts: values(&texts, "Unit", "Conflicts")
            .iter()
            .flat_map(|v| v.split_whitespace())
            .map(str::to_owned)
            .collect(),
        lines: found.iter().map(line).collect(),
        has_folder: host.exists(&Path::new(super::units::DROP_INS).join(format!("{name}.d"))),
    }
}

/// Who will listen where, if the units start what they say and sshd takes its files.
fn listeners(sshd: &Sshd) -> Seen<Vec<Listener>> {
    let units = match &sshd.units {
        Seen::Present(units) => units,
        Seen::Absent => {
            return Seen::Unreadable("systemd does not run this disk, and who starts sshd is not known".into());
        }
        Seen::Unreadable(why) => return Seen::Unreadable(why.clone()),
    };
    let started = |kind: &str| units.iter().find(|u| u.name.ends_with(kind) && u.loaded() && u.active());
    let (socket, service) = (started(".socket"), started(".service"));
    if sshd.binary.is_absent() || sshd.not_to_be_run || (socket.is_none() && service.is_none()) {
        return Seen::Present(Vec::new());
    }
    match &sshd.test {
        Seen::Present(test) if test.passed => {}
        Seen::Present(_) | Seen::Absent => return Seen::Present(Vec::new()),
        Seen::Unreadable(why) => return Seen::Unreadable(why.clone()),
    }
    let program = sshd.binary.present().map(|b| b.path.to_string_lossy().into_owned());
    let owner = |pid, name: &str, exe: Option<String>, unit: &str| SocketOwner {
        pid,
        name: name.to_owned(),
        exe,
        unit: Some(unit.to_owned()),
        state: 'S',
        frozen: false,
        beside: None,
    };
    if let Some((unit, socket)) = socket.and_then(|unit| Some((unit, unit.socket.as_ref()?))) {
        let owner = owner(1, "systemd", None, &unit.name);
        let all = socket.addresses().into_iter();
        return Seen::Present(all.map(|place| listener(place, socket.v6_only, owner.clone())).collect());
    }
    let Some(settings) = sshd.settings.present() else {
        return Seen::Unreadable("sshd does not tell where it would listen".to_owned());
    };
    let owner = owner(0, "sshd", program, service.map_or("", |u| &u.name));
    let all = settings.listen.iter().map(|(address, port)| SocketAddr::new(*address, *port));
    Seen::Present(all.map(|place| listener(place, true, owner.clone())).collect())
}

fn listener(place: SocketAddr, v6_only: bool, owner: SocketOwner) -> Listener {
    Listener {
        address: place.ip(),
        port: place.port(),
        v6_only: place.is_ipv6() && v6_only,
        interface: None,
        inode: 0,
        queued: 0,
        backlog: 0,
        waits: None,
        owners: Seen::Present(vec![owner]),
        greeting: None,
    }
}
