//! The agent, started as a person or systemd starts it, on a scratch host: a lock-out comes, and a client connects again
//! without anybody doing anything.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::record::{StateDir, history};
use ssh_rescue::rehearse::drill::{LOCKOUTS, Sight, Stage};

use super::common::root;
use super::started::{Agent, DROP, LONG, PROGRAM, lock_out, ours, status, until, with_agent};

/// An nft that stays: only of who still runs is the parent known.
struct Typist(Child);

impl Typist {
    fn start() -> Typist {
        let mut nft = Command::new("nft");
        Typist(nft.arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    fn types(&mut self, line: &str) {
        writeln!(self.0.stdin.as_mut().unwrap(), "{line}").unwrap();
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_lock_out_is_mended_without_anybody_doing_anything() {
    if !root("the agent rescues") {
        return;
    }
    for lockout in LOCKOUTS {
        with_agent(|stage, _| {
            (lockout.apply)(stage).unwrap();
            let begin = Instant::now();
            until(lockout.name, || {
                let status = status().unwrap();
                status["repairs"].as_u64() > Some(0) && status["verdict"] != "blocked"
            });
            println!("{}: {} ms", lockout.name, begin.elapsed().as_millis());
            assert_eq!(stage.see().unwrap(), [Sight::Banner; 2], "{}", lockout.name);
        });
    }
}

#[test]
fn who_changed_the_rules_is_named() {
    if !root("who changed the rules") {
        return;
    }
    with_agent(|_, _| {
        let mut typist = Typist::start();
        typist.types(DROP);
        until("a repair", || status().unwrap()["repairs"] == 1);
        let trigger = status().unwrap()["last_repair"]["trigger"].clone();
        // nft does what this test tells it.
        let test = std::fs::read_to_string("/proc/self/comm").unwrap();
        assert_eq!(trigger["who"], test.trim(), "{trigger}");
        let what = trigger["what"].as_str().unwrap();
        assert!(what.starts_with("changed by kernel") && what.ends_with(", by nft)"), "{trigger}");
        let entries = history(&Host::live(), &StateDir::default()).unwrap().entries;
        assert_eq!(entries[0].trigger.as_ref().unwrap().who.as_deref(), Some(test.trim()));
    });
}

#[test]
fn it_stops_arguing_and_says_with_whom_until_an_operator_speaks() {
    if !root("restraint") {
        return;
    }
    with_agent(|stage, agent| {
        std::fs::create_dir_all("/etc/ssh-rescue").unwrap();
        std::fs::write("/etc/ssh-rescue/policy.toml", "[restraint]\nattempts = 1\n").unwrap();
        until("the policy", || status().unwrap()["policy"]["source"] == "/etc/ssh-rescue/policy.toml");
        let mut typist = Typist::start();
        typist.types(DROP);
        until("the repair", || status().unwrap()["repairs"] == 1);
        typist.types("flush chain inet fw in; add rule inet fw in tcp dport 22 drop");
        until("the breaker", || status().unwrap()["stopped"].is_string());
        let stopped = status().unwrap()["stopped"].as_str().unwrap().to_owned();
        assert!(stopped.contains("changed back by kernel"), "{stopped}");
        sleep(Duration::from_millis(500));
        assert_eq!(status().unwrap()["repairs"], 1);
        let repair = ours("Repair", json!({}));
        assert_eq!(repair["report"]["outcome"], "repaired", "{repair}");
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
        until("a clear status", || status().unwrap()["stopped"].is_null());
        // That word holds over a restart.
        agent.signal(Signal::SIGTERM);
        assert!(agent.child.wait().unwrap().success());
        *agent = Agent::start(stage.host);
        typist.types("flush chain inet fw in; add rule inet fw in tcp dport 22 drop");
        until("a repair after the restart", || status().unwrap()["repairs"] == 1);
    });
}

#[test]
fn a_hold_is_kept_over_a_restart_and_ended_by_a_release() {
    if !root("a hold") {
        return;
    }
    with_agent(|stage, agent| {
        let hold = ours("Hold", json!({"seconds": 3600, "reason": "incident 7"}));
        assert_eq!(hold["hold"]["reason"], "incident 7");
        agent.signal(Signal::SIGTERM);
        assert!(agent.child.wait().unwrap().success());
        *agent = Agent::start(stage.host);
        lock_out(stage);
        until("the verdict", || status().unwrap()["verdict"] == "blocked");
        sleep(Duration::from_millis(500));
        assert_eq!(status().unwrap()["repairs"], 0);
        assert_eq!(status().unwrap()["hold"]["reason"], "incident 7");
        let refused = ours("Repair", json!({}));
        let declined = refused["report"]["declined"][0].clone();
        assert!(declined["code"] == "hold" && declined["why"].as_str().unwrap().contains("incident 7"), "{refused}");
        assert!(ours("Check", json!({}))["text"].as_str().unwrap().contains("HOLD: it is on hold until"));
        assert_eq!(ours("Release", json!({}))["released"], true);
        until("the repair", || status().unwrap()["repairs"] == 1);
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
    });
}

#[test]
fn a_broken_policy_reports_and_repairs_nothing_until_it_is_mended() {
    if !root("a broken policy") {
        return;
    }
    with_agent(|stage, agent| {
        let path = "/etc/ssh-rescue/policy.toml";
        std::fs::create_dir_all("/etc/ssh-rescue").unwrap();
        std::fs::write(path, "[ssh]\nprot = 22\n").unwrap();
        until("the mistake", || status().unwrap()["policy"]["error"].is_string());
        let error = status().unwrap()["policy"]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("policy.toml:2:1: unknown key `prot`"), "{error}");
        lock_out(stage);
        until("the verdict", || status().unwrap()["verdict"] == "blocked");
        sleep(Duration::from_millis(300));
        assert_eq!(status().unwrap()["repairs"], 0);
        std::fs::write(path, "[ssh]\nport = 22\n").unwrap();
        agent.signal(Signal::SIGHUP);
        until("the repair", || status().unwrap()["repairs"] == 1);
        assert!(status().unwrap()["policy"]["error"].is_null());
    });
}

/// Stopped in the middle: it waits for iptables-legacy, which waits for the lock of xtables, and it has the lock of a pass.
#[test]
fn a_repair_that_is_stopped_in_the_middle_is_ended_and_taken_back() {
    if !root("a stopped repair") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        stage.tool("iptables-legacy", &["-A", "INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP"], "").unwrap();
        let held = std::fs::File::create("/run/xtables.lock").unwrap();
        held.lock().unwrap();
        let mut first = stage.host.spawn_bound(PROGRAM, &["repair", "--alone"]).unwrap();
        let begun =
            || history(stage.host, &StateDir::default()).is_ok_and(|h| h.entries.iter().any(|e| !e.steps.is_empty()));
        until("a repair in the middle", begun);
        kill(Pid::from_raw(first.id() as i32), Signal::SIGSTOP).unwrap();
        held.unlock().unwrap();
        let call = Call { deadline: LONG, ..Call::new(PROGRAM, &["repair", "--alone", "--json"]) };
        let output = stage.host.run(&call).unwrap();
        let report: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.complaint()));
        assert_eq!(report["outcome"], "repaired", "{report}");
        // By its watcher, or by the second one.
        let entries = history(stage.host, &StateDir::default()).unwrap().entries;
        assert_eq!(entries.iter().filter(|e| e.phase.is_taken_back()).count(), 1, "{entries:?}");
        assert_eq!(first.wait().unwrap().signal(), Some(Signal::SIGKILL as i32));
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

#[test]
fn an_agent_that_is_killed_or_hangs_stands_in_nobodys_way() {
    if !root("a hung agent") {
        return;
    }
    with_agent(|stage, agent| {
        agent.signal(Signal::SIGSTOP);
        lock_out(stage);
        let output = stage.host.run(&Call::new(PROGRAM, &["repair", "--json"])).unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["outcome"], "repaired", "{report}");
        assert_eq!(stage.see().unwrap(), [Sight::Banner; 2]);
        let output = stage.host.run(&Call::new(PROGRAM, &["status"])).unwrap();
        assert_eq!(output.status, 3);
        assert!(String::from_utf8_lossy(&output.stdout).contains("NO AGENT"));
        agent.signal(Signal::SIGKILL);
        agent.child.wait().unwrap();
        *agent = Agent::start(stage.host);
        assert_eq!(status().unwrap()["verdict"], "reachable");
    });
}
