//! What a disk must not do: reach this host by its links, have its programs run, or be mended anywhere but in its folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ssh_rescue::host::{Call, Host};
use ssh_rescue::pass::{Outcome, repair};
use ssh_rescue::plan::Plan;
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{Entry, Phase, StateDir, StepEntry, Undo, UndoError, Undone, undo};

use super::disk::{Disk, everything, look};

#[test]
fn no_link_of_a_disk_reaches_this_host() {
    // Where a mend would write, or its record, a link that leads out.
    let places = [
        "etc/ssh/sshd_config",
        "etc/ssh/sshd_config.d",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh",
        "etc/hosts.allow",
        "etc/nftables.conf",
        "etc/systemd/system/multi-user.target.wants",
        "etc/systemd/system",
        "etc",
        "var",
        "var/lib",
        "var/lib/ssh-rescue",
    ];
    for place in places {
        for up in [false, true] {
            let Some(disk) = Disk::new("hostile links") else { return };
            everything(&disk);
            // The outside has all that the disk has, so that a link that was followed would be written through.
            let outside = disk.folder.path().join("outside");
            let _ = Host::live()
                .run(&Call::new("cp", &["-a", &disk.path("").to_string_lossy(), &outside.to_string_lossy()]));
            fs::create_dir_all(outside.join("var/lib/ssh-rescue/repairs")).unwrap();
            let mut before = BTreeMap::new();
            look(&outside, &mut before);
            let path = disk.path(place);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            let target = match up {
                true => Path::new(&"../".repeat(place.split('/').count() + 3)).join(outside.strip_prefix("/").unwrap()),
                false => outside.clone(),
            };
            symlink(target.join(place), &path).unwrap();
            let judgement = disk.check();
            let report = repair(&disk.host, &disk.state(), &Policy::default(), false);
            let mut after = BTreeMap::new();
            look(&outside, &mut after);
            assert!(before == after, "{place}: {} {report:?}", judgement.sentence);
        }
    }
}

#[test]
fn no_program_of_a_disk_is_run() {
    let Some(disk) = Disk::new("programs of a disk") else { return };
    everything(&disk);
    let mark = disk.folder.path().join("was-run");
    let script = format!("#!/bin/sh\ntouch {0}\n", mark.display());
    for program in ["nft", "iptables-restore", "ssh-keygen", "useradd", "systemctl", "restorecon", "sh"] {
        for folder in ["usr/sbin", "usr/bin", "bin", "sbin"] {
            let path = format!("{folder}/{program}");
            disk.write(&path, &script);
            fs::set_permissions(disk.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
    // What a library would load before it does anything.
    disk.write("etc/ld.so.preload", "/etc/evil.so\n");
    disk.write("etc/evil.so", "no library");
    disk.write("etc/nsswitch.conf", "passwd: evil\n");
    disk.write(
        "etc/ssl/openssl.cnf",
        "openssl_conf = nowhere\n[nowhere]\nengines = e\n[e]\nx = y\n[y]\ndynamic_path = /etc/evil.so\n",
    );
    let report = repair(&disk.host, &disk.state(), &Policy::default(), false).unwrap();
    assert_eq!(report.outcome, Outcome::Repaired, "{:?} {:?}", report.declined, report.error);
    assert!(!mark.exists(), "a program of the disk was run");
}

/// The rules of this machine, and its own files of the kinds that a repair writes.
fn this_machine() -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    for folder in ["/etc/ssh", "/etc/systemd/system", "/var/lib/ssh-rescue"] {
        if Path::new(folder).is_dir() {
            look(Path::new(folder), &mut seen);
        }
    }
    for file in ["/etc/hosts.allow", "/etc/hosts.deny", "/etc/nftables.conf"] {
        seen.insert(file.into(), fs::read_to_string(file).unwrap_or_default());
    }
    let rules = Host::live().run(&Call::new("nft", &["-s", "list", "ruleset"])).map(|o| o.stdout).unwrap_or_default();
    seen.insert("nft".into(), String::from_utf8_lossy(&rules).into_owned());
    seen
}

#[test]
fn this_host_is_not_touched() {
    let Some(disk) = Disk::new("this host beside a disk") else { return };
    everything(&disk);
    let before = this_machine();
    let report = repair(&disk.host, &disk.state(), &Policy::default(), false).unwrap();
    assert_eq!(report.outcome, Outcome::Repaired, "{:?} {:?}", report.declined, report.error);
    let id = report.id.unwrap();
    assert!(matches!(undo(&disk.host, &disk.state(), &id), Ok(Undone::TakenBack(_))));
    assert!(before == this_machine(), "this machine is not as it was");
}

#[test]
fn the_running_host_takes_back_what_was_done_to_its_disk() {
    let Some(disk) = Disk::new("undo when it runs") else { return };
    everything(&disk);
    let broken = disk.tree();
    let report = repair(&disk.host, &disk.state(), &Policy::default(), false).unwrap();
    assert_eq!(report.outcome, Outcome::Repaired, "{:?} {:?}", report.declined, report.error);
    let (root, id) = (disk.path(""), report.id.unwrap());
    // A thread whose root is the disk: to this program the running host.
    let undone = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        nix::unistd::chroot(&root).unwrap();
        nix::unistd::chdir("/").unwrap();
        undo(&Host::live(), &StateDir::at("/var/lib/ssh-rescue", "/var/lib/ssh-rescue"), &id)
    });
    let undone = undone.join().unwrap();
    assert!(matches!(undone, Ok(Undone::TakenBack(_))), "{undone:?}");
    let mut left = disk.tree();
    left.retain(|path, what| broken.get(path) != Some(what) && !path.ends_with("multi-user.target.wants"));
    assert!(left.is_empty(), "{left:#?}");
}

/// A repair that the disk's host made while it ran.
fn made_while_it_ran(disk: &Disk, id: &str, undo: Undo) {
    let plan = Plan { id: id.to_owned(), steps: Vec::new(), declined: Vec::new() };
    let mut entry = Entry::new(plan, "connection refused", serde_json::Value::Null);
    entry.steps.push(StepEntry { undo, done: true });
    entry.end(&disk.host, &disk.state(), Phase::Confirmed, None).unwrap();
}

#[test]
fn what_a_running_host_did_is_not_done_to_this_one() {
    let Some(disk) = Disk::new("undo of rules on a disk") else { return };
    let before = this_machine();
    made_while_it_ran(&disk, "20260101T000000-0001", Undo::Emergency);
    made_while_it_ran(&disk, "20260101T000000-0002", Undo::Rulesets { legacy: Vec::new() });
    made_while_it_ran(&disk, "20260101T000000-0003", Undo::User { name: "nobody".into() });
    let services =
        Undo::Services { enabled: vec!["ssh.service".into()], active: vec!["ssh.service".into()], ufw: true };
    made_while_it_ran(&disk, "20260101T000000-0004", services);
    for gone in ["20260101T000000-0001", "20260101T000000-0002"] {
        assert!(matches!(undo(&disk.host, &disk.state(), gone), Ok(Undone::TakenBack(_))), "{gone}");
    }
    for running in ["20260101T000000-0003", "20260101T000000-0004"] {
        let refused = undo(&disk.host, &disk.state(), running);
        let told = refused.as_ref().err().map(|e| ssh_rescue::chain(e)).unwrap_or_default();
        assert!(matches!(refused, Err(UndoError::Step { .. })) && told.contains("must run"), "{running}: {told}");
    }
    assert!(before == this_machine(), "this machine is not as it was");
}

#[test]
fn the_policy_that_lies_on_a_disk_is_its_own() {
    let Some(disk) = Disk::new("a disk's policy") else { return };
    disk.write("etc/ssh-rescue/policy.toml", "[ssh]\nport = 2222\n");
    let program = Path::new(env!("CARGO_BIN_EXE_ssh-rescue")).to_string_lossy().into_owned();
    let root = disk.path("").to_string_lossy().into_owned();
    let host = Host::live();
    let ran = host.run(&Call {
        deadline: std::time::Duration::from_secs(120),
        ..Call::new(&program, &["check", "--root", &root])
    });
    let out = String::from_utf8_lossy(&ran.unwrap().stdout).replace("\n  ", " ");
    assert!(
        out.starts_with("BLOCKED: after the next boot of this disk a client would see: connection refused"),
        "{out}"
    );
    assert!(out.contains("port 2222"), "{out}");
    let ran = host.run(&Call::new(&program, &["check", "--root", "/"])).unwrap();
    assert_eq!(ran.status, 3, "{}", ran.complaint());
    assert!(ran.complaint().contains("leave --root out"), "{}", ran.complaint());
}
