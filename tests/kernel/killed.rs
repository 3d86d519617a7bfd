//! A process that is killed in the middle of a rehearsal or a drill leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ssh_rescue::host::{Host, Scratch};
use ssh_rescue::rehearse::drill::Stage;
use ssh_rescue::rehearse::layout::set_up;

use super::common::{IFINDEX, net, root};

const ROLE: &str = "SSH_RESCUE_TEST_ROLE";

/// Not a test of its own: what the process that is to be killed does.
#[test]
fn role() {
    let namespace = || fs::read_link("/proc/thread-self/ns/net").unwrap().display().to_string();
    match std::env::var(ROLE).as_deref() {
        Ok("rehearsal") => Host::live()
            .scratch(Scratch::Network, |host| {
                let _layout = set_up(host, &net(1), &[IFINDEX], &[])?;
                println!("ready {}", namespace());
                wait()
            })
            .unwrap(),
        Ok("drill") => Stage::build(&Host::live(), |_| {
            println!("ready {}", namespace());
            wait()
        })
        .unwrap(),
        Ok("apart") => {
            let mut child = Host::live().spawn_apart(&["--exact", "killed::role_apart", "--nocapture"]).unwrap();
            for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
                println!("{line}");
            }
            child.wait().unwrap();
        }
        _ => {}
    }
}

/// What runs apart from the live host, for the role below.
#[test]
fn role_apart() {
    if std::env::var(ROLE).as_deref() == Ok("apart") {
        Stage::build(&Host::live(), |_| {
            assert_eq!(std::process::id(), 1, "not in a process namespace of its own");
            println!("ready {}", fs::read_link("/proc/thread-self/ns/net").unwrap().display());
            wait()
        })
        .unwrap()
    }
}

fn wait() -> ! {
    loop {
        sleep(Duration::from_secs(60));
    }
}

/// Processes that are in the network namespace.
fn inhabitants(namespace: &str) -> usize {
    let links = fs::read_dir("/proc").unwrap().flatten().filter_map(|p| fs::read_link(p.path().join("ns/net")).ok());
    links.filter(|link| link.to_string_lossy() == namespace).count()
}

#[test]
fn a_killed_process_leaves_no_namespace_mount_or_process() {
    if !root("kill") {
        return;
    }
    let mounts = || fs::read_to_string("/proc/self/mounts").unwrap();
    let before = mounts();
    for role in ["rehearsal", "drill", "apart"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "killed::role", "--nocapture"])
            .env(ROLE, role)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let namespace = lines
            .map_while(Result::ok)
            .find_map(|l| l.split_once("ready ").map(|(_, n)| n.to_owned()))
            .unwrap_or_else(|| panic!("the {role} did not come up"));
        let there = inhabitants(&namespace);
        child.kill().unwrap();
        child.wait().unwrap();
        // sshd of the drill lives in the namespace too; the thread of a rehearsal is its only inhabitant, and no process.
        assert!(role == "rehearsal" || there > 0, "nothing to be left behind by the {role}");
        let end = Instant::now() + Duration::from_secs(5);
        while inhabitants(&namespace) > 0 {
            assert!(Instant::now() < end, "the {role} leaves processes in {namespace}");
            sleep(Duration::from_millis(20));
        }
        assert_eq!(mounts(), before, "the {role} leaves mounts");
    }
}
