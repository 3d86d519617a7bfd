//! Audit's records of iptables-legacy: the agent hears them from the socket that systemd would hand over, which is of the
//! machine's first network namespace, while the agent and what it watches over are in another.
//!
//! A target of its own: the records come from the whole machine, and of what other tests change at the same moment too many
//! would come for the agent to ask who made them.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Mutex, MutexGuard};
use std::thread::{Builder, sleep};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use ssh_rescue::chain;
use ssh_rescue::decode::audit::rules_changed;
use ssh_rescue::facts::Family;
use ssh_rescue::host::{Host, read_legacy, replace_legacy};
use ssh_rescue::rehearse::drill::{Sight, Stage};

use common::root;
use started::{Agent, PROGRAM, status, until};

#[allow(dead_code)]
#[path = "kernel/common.rs"]
mod common;
#[allow(dead_code)]
#[path = "kernel/started.rs"]
mod started;

const AUDIT_GET: u16 = 1000;
const AUDIT_SET: u16 = 1001;
/// AUDIT_STATUS_ENABLED; AUDIT_NLGRP_READLOG as a bit.
const ENABLED: u32 = 1;
const READLOG: u32 = 1;

/// One test at a time switches audit on.
static ONE: Mutex<()> = Mutex::new(());

/// Audit is on until this is dropped; then it is as it was.
struct Audit {
    socket: OwnedFd,
    was: u32,
    _one: MutexGuard<'static, ()>,
}

impl Audit {
    /// None where this kernel, or the namespace of this test, has no audit: no tool that could be installed.
    fn on() -> Option<Audit> {
        let one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let Ok(socket) = netlink(0) else {
            eprintln!("SKIPPED what audit tells: this kernel has none");
            return None;
        };
        let mut audit = Audit { socket, was: 1, _one: one };
        audit.was = match audit.enabled() {
            Some(was) if was == 1 || audit.set(1) => was,
            _ => {
                eprintln!("SKIPPED what audit tells: it cannot be switched on here");
                return None;
            }
        };
        let heard = netlink(READLOG).unwrap();
        Command::new("unshare").args(["--net", "iptables-legacy", "-L"]).stdout(Stdio::null()).status().unwrap();
        let mut buffer = [0; 16 << 10];
        while let Ok(got) = recv(heard.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            if rules_changed(&buffer[..got]).is_some() {
                return Some(audit);
            }
        }
        eprintln!("SKIPPED what audit tells: it does not reach this network namespace");
        None
    }

    fn enabled(&self) -> Option<u32> {
        self.ask(AUDIT_GET, &[]).and_then(|status| status.get(20..24)?.try_into().ok()).map(u32::from_ne_bytes)
    }

    /// `struct audit_status`: mask, enabled, and what is not set.
    fn set(&self, enabled: u32) -> bool {
        let status: Vec<u8> =
            [ENABLED, enabled, 0, 0, 0, 0, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        self.ask(AUDIT_SET, &status).is_some_and(|answer| answer.get(16..20) == Some(&[0; 4][..]))
    }

    /// The answer of the wanted kind: of AUDIT_GET a status, of AUDIT_SET an acknowledgement.
    fn ask(&self, kind: u16, body: &[u8]) -> Option<Vec<u8>> {
        const NLMSG_ERROR: u16 = 2;
        let (request, acknowledged) = (1u16, 4u16);
        let wanted = if kind == AUDIT_GET { AUDIT_GET } else { NLMSG_ERROR };
        let flags = if kind == AUDIT_GET { request } else { request | acknowledged };
        let length = u32::try_from(16 + body.len()).unwrap();
        let message = [&length.to_ne_bytes(), &kind.to_ne_bytes()[..], &flags.to_ne_bytes(), &[0; 8], body].concat();
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
        let mut buffer = [0; 1 << 10];
        loop {
            let got = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
            let answer = &buffer[..got];
            if answer.get(4..6) == Some(&wanted.to_ne_bytes()[..]) {
                return Some(answer.to_vec());
            }
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        if self.was != 1 {
            self.set(self.was);
        }
    }
}

fn netlink(groups: u32) -> nix::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkAudit)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Runs `work` on a scratch host whose agent got audit's socket as systemd hands one over.
fn with_audit(work: impl FnOnce(&mut Stage<'_>) + Send) {
    if !root("what audit tells") {
        return;
    }
    let Some(audit) = Audit::on() else { return };
    let heard = netlink(READLOG).unwrap();
    Stage::build(&Host::live(), |stage| {
        // sd_listen_fds(3): descriptor 3, for the process of this number.
        let start = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=audit exec \"$0\" agent";
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", start, PROGRAM]);
        let child = command.stdin(heard).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let _agent = Agent::of(child);
        // Where there are such tables they are polled; without any only audit can tell of the first one in time.
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default(), "");
        work(stage);
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
    drop(audit);
}

/// An iptables-legacy-restore that has made its change, without the lock that others take, and waits for more.
struct Restore {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Restore {
    fn of(rules: &str) -> Restore {
        let mut command = Command::new("iptables-legacy-restore");
        command.arg("--noflush").env("XTABLES_LOCKFILE", "/run/another.lock").stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(format!("*filter\n{rules}\nCOMMIT\n").as_bytes()).unwrap();
        Restore { child, stdin: Some(stdin) }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

const LOCK_OUT: &str = "-A INPUT -p tcp --dport 22 -j DROP";

/// What this test is called where the kernel names threads.
fn test() -> String {
    std::fs::read_to_string("/proc/self/comm").unwrap().trim().to_owned()
}

#[test]
fn a_change_without_the_lock_is_heard_of_and_its_maker_named() {
    with_audit(|stage| {
        let _restore = Restore::of(LOCK_OUT);
        until("a repair", || status().unwrap()["repairs"] == 1);
        let trigger = status().unwrap()["last_repair"]["trigger"].clone();
        assert_eq!(trigger["who"], test(), "{trigger}");
        let what = trigger["what"].as_str().unwrap();
        assert!(what.ends_with(", by iptables-legacy)"), "{trigger}");
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
    });
}

#[test]
fn a_change_by_who_is_gone_at_once_is_found_by_the_tables() {
    with_audit(|stage| {
        let mut command = Command::new("iptables-legacy");
        command.args(LOCK_OUT.split(' ')).env("XTABLES_LOCKFILE", "/run/another.lock");
        assert!(command.status().unwrap().success());
        until("a repair", || status().unwrap()["repairs"] == 1);
        let who = status().unwrap()["last_repair"]["trigger"]["who"].clone();
        let named = [test(), "iptables-legacy".into()].map(serde_json::Value::from);
        assert!(named.contains(&who), "{who}");
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
    });
}

#[test]
fn a_change_in_another_namespace_wakes_nobody_and_is_nobodys_here() {
    with_audit(|stage| {
        let (ended, wait) = channel::<()>();
        let (did, done) = channel();
        let innocent = move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            for family in Family::BOTH {
                replace_legacy(family, &read_legacy(family, "filter").unwrap()).unwrap();
            }
            did.send(()).unwrap();
            // It stays, so that it can be seen where it is.
            let _ = wait.recv();
        };
        let looked = || status().unwrap()["looked"].clone();
        let mut last = looked();
        until("a host at rest", || {
            sleep(Duration::from_millis(500));
            std::mem::replace(&mut last, looked()) == last
        });
        let innocent = Builder::new().name("innocent".into()).spawn(innocent).unwrap();
        done.recv().unwrap();
        sleep(Duration::from_millis(500));
        assert_eq!(looked(), last, "a look");
        let _restore = Restore::of(LOCK_OUT);
        until("a repair", || status().unwrap()["repairs"] == 1);
        let trigger = status().unwrap()["last_repair"]["trigger"].clone();
        assert_eq!(trigger["who"], test(), "{trigger}");
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
        drop(ended);
        innocent.join().unwrap();
    });
}
