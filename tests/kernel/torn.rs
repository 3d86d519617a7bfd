//! A repair that is killed, or whose calls fail, at any point: the host is as before or as after, never in between.
//!
//! A sample of the points is tried; SSH_RESCUE_SWEEP=all tries them all, SSH_RESCUE_SWEEP=200 two hundred of each mend.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::all_processes;
use serde_json::Value;
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::record::{Phase, StateDir, history, recover, undo};
use ssh_rescue::rehearse::drill::{LOCKOUTS, Sight, Stage};

use super::common::{root, skipped};
use super::conntrack;
use super::tracer::{CAN_FAIL, Deed, Traced, trace};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");
const STATE: &str = "/var/lib/ssh-rescue";
const REPORT: &str = "/run/report";
/// Points of each mend, and of each way to fail, where no other number is asked for.
const POINTS: usize = 16;

/// A lock-out, by the drill's name or of its own.
struct Mend {
    name: &'static str,
    lock_out: fn(&mut Stage<'_>),
    /// Whether each back-end and each file is written by one commit alone: then not even one of them is in between before
    /// anybody has recovered.
    single: bool,
}

fn of_the_drill(stage: &mut Stage<'_>, name: &str) {
    let lockout = LOCKOUTS.iter().find(|l| l.name == name).unwrap();
    (lockout.apply)(stage).unwrap_or_else(|e| panic!("{name}: {}", chain(&e)));
}

fn ufw(stage: &mut Stage<'_>) {
    stage.write("/etc/ufw/ufw.conf", "ENABLED=no\nLOGLEVEL=off\n").unwrap();
    stage.tool("ufw", &["--force", "enable"], "").unwrap();
    // The first start leaves out a rule or two that every other one makes.
    stage.tool("ufw", &["reload"], "").unwrap();
}

/// Stops every sshd of the stage.
fn stop(_: &mut Stage<'_>) {
    assert_eq!(servers().len(), 1);
    for (pid, _) in servers() {
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }
    while servers().iter().any(|(_, state)| *state != 'T') {
        sleep(Duration::from_millis(5));
    }
}

/// The sshds that listen in this network namespace, with their states.
fn servers() -> Vec<(i32, char)> {
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let own = namespace("thread-self");
    let here = all_processes().unwrap().flatten().filter(|p| namespace(&p.pid().to_string()) == own);
    let sshds: Vec<_> = here.filter_map(|p| p.stat().ok()).filter(|stat| stat.comm == "sshd").collect();
    // The others are theirs, one for each client.
    let listens = |ppid: i32| !sshds.iter().any(|other| other.pid == ppid);
    sshds.iter().filter(|stat| listens(stat.ppid)).map(|stat| (stat.pid, stat.state)).collect()
}

/// An account whose home others can write to, so that sshd ignores its keys.
fn open_home(stage: &mut Stage<'_>) {
    stage.tool("mkdir", &["-p", "/etc/ssh-rescue"], "").unwrap();
    stage.write("/etc/ssh-rescue/policy.toml", "[sshd]\nlogins = \"repair\"\n").unwrap();
    let alice = "mkdir -p -m 755 /etc/alice/.ssh; touch /etc/alice/.ssh/authorized_keys; chown -R 4711 /etc/alice
         chmod 777 /etc/alice; chmod 664 /etc/alice/.ssh/authorized_keys
         echo alice:x:4711:4711::/etc/alice:/bin/sh >>/etc/passwd";
    stage.tool("sh", &["-c", alice], "").unwrap();
}

fn full_table(stage: &mut Stage<'_>) {
    stage.tool("mkdir", &["-p", "/etc/ssh-rescue"], "").unwrap();
    stage.write("/etc/ssh-rescue/policy.toml", "[firewall]\nconntrack = \"repair\"\n").unwrap();
    conntrack::table(stage.host, 65_536, 65_536);
}

const MENDS: [Mend; 9] = [
    Mend { name: "nft", lock_out: |s| of_the_drill(s, "nft: inet input, policy drop"), single: true },
    Mend { name: "iptables", lock_out: |s| of_the_drill(s, "iptables: policy of INPUT is DROP"), single: true },
    Mend {
        name: "iptables-legacy",
        lock_out: |s| of_the_drill(s, "iptables-legacy: DROP in a chain of its own"),
        single: true,
    },
    Mend { name: "hosts.allow", lock_out: |s| of_the_drill(s, "hosts.deny ALL, hosts.allow empty"), single: true },
    Mend {
        name: "nft, iptables-legacy and hosts.allow",
        lock_out: |s| {
            of_the_drill(s, "nft and iptables-legacy, both dropping");
            of_the_drill(s, "hosts.deny ALL, a comment in hosts.allow");
        },
        single: true,
    },
    Mend { name: "a stopped sshd", lock_out: stop, single: true },
    Mend { name: "modes on the way to keys", lock_out: open_home, single: true },
    Mend { name: "a full table of connections", lock_out: full_table, single: true },
    Mend { name: "ufw", lock_out: ufw, single: false },
];

/// What a repair may change: each back-end's rules, each file with its mode and owner, whether sshd is stopped. By name.
type Picture = BTreeMap<String, String>;

fn picture(host: &Host) -> Picture {
    let mut all = Picture::new();
    let ids = ids();
    let saves = ["iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"];
    for (tool, args) in saves.map(|tool| (tool, &[][..])).into_iter().chain([("nft", &["-s", "list", "ruleset"][..])]) {
        let output = host.run(&Call::new(tool, args)).unwrap();
        assert!(output.ok(), "{tool}: {}", output.complaint());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
        // Counters go on.
        let (mut place, lines) = (tool.to_owned(), lines.map(|l| l.split(" [").next().unwrap_or(l)));
        for line in lines {
            // One table of one family is what one commit of iptables changes.
            if line.starts_with("table ") || line.starts_with('*') {
                place = format!("{tool} {line}");
            }
            let part: &mut String = all.entry(place.clone()).or_default();
            part.push_str(&nameless(line, &ids));
            part.push('\n');
        }
    }
    for (pid, state) in servers() {
        all.insert(format!("sshd {pid}"), if state == 'T' { "stopped".into() } else { "runs".into() });
    }
    all.insert("connections".into(), format!("{:?}", conntrack::max()));
    for folder in ["/etc/alice", "/etc/alice/.ssh"] {
        if let Ok(meta) = std::fs::symlink_metadata(folder) {
            all.insert(folder.into(), format!("{:?}", (meta.mode() & 0o7777, meta.uid(), meta.gid())));
        }
    }
    for folder in ["/etc", "/etc/alice/.ssh", "/etc/ufw", "/etc/default", "/etc/ssh", "/etc/ssh/sshd_config.d"] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
            if meta.is_file() {
                let content = std::fs::read(&path).unwrap();
                let of = (meta.mode() & 0o7777, meta.uid(), meta.gid());
                all.insert(
                    path.display().to_string(),
                    format!("{of:?} {}", nameless(&String::from_utf8_lossy(&content), &ids)),
                );
            }
        }
    }
    all
}

/// The ids of the repairs on record, also of those whose record is not whole.
fn ids() -> Vec<String> {
    let names = std::fs::read_dir(format!("{STATE}/repairs")).into_iter().flatten().flatten();
    names.filter_map(|e| Some(e.file_name().to_str()?.trim_start_matches('.').split('.').next()?.to_owned())).collect()
}

/// Two repairs differ in their ids: ufw writes them in hexadecimal digits.
fn nameless(text: &str, ids: &[String]) -> String {
    let hexadecimal = |id: &str| id.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    ids.iter().fold(text.to_owned(), |text, id| text.replace(id, "ID").replace(&hexadecimal(id), "ID"))
}

/// ufw asks anew what the kernel can do, each time it writes its rules: where a call of its own fails it leaves the chains of
/// `ufw limit` out of its file. No rule of anybody stands in them, and an undo brings them back.
fn without_rate_limits(picture: &Picture) -> Picture {
    const LIMITS: [&str; 4] = ["ufw-user-limit", "ufw6-user-limit", "### RATE LIMITING", "### END RATE LIMITING"];
    let mut picture = picture.clone();
    for (_, text) in picture.iter_mut().filter(|(name, _)| name.starts_with("/etc/ufw/user")) {
        let kept = text.lines().filter(|l| !l.is_empty() && !LIMITS.iter().any(|limit| l.contains(limit)));
        *text = kept.map(|l| format!("{l}\n")).collect();
    }
    picture
}

/// Whether all that is new is rules with the repair's tag: the way that is left where ufw itself cannot be made to do it.
fn only_tagged_rules(before: &Picture, now: &Picture) -> bool {
    // nft shows the rules of iptables too, without their comments.
    let told_by_iptables =
        |name: &str| name.starts_with("nft table ip filter") || name.starts_with("nft table ip6 filter");
    let names = before.keys().chain(now.keys()).filter(|name| !told_by_iptables(name));
    let mut both =
        names.map(|name| (before.get(name).map_or("", String::as_str), now.get(name).map_or("", String::as_str)));
    both.all(|(before, now)| {
        let untagged = |line: &&str| !line.contains("ssh-rescue:ID");
        now.lines().filter(untagged).eq(before.lines())
    })
}

/// What differs, for a person.
fn difference(a: &Picture, b: &Picture) -> Vec<String> {
    let names = a.keys().chain(b.keys()).collect::<std::collections::BTreeSet<_>>();
    let lines = |all: &Picture, name: &String| -> Vec<String> {
        all.get(name).map_or_else(Vec::new, |text| text.lines().map(str::to_owned).collect())
    };
    let only = |sign: &str, some: &[String], others: &[String]| -> Vec<String> {
        some.iter().filter(|line| !others.contains(line)).map(|line| format!("{sign} {line}")).collect()
    };
    let differs = names.into_iter().filter(|name| a.get(*name) != b.get(*name));
    let both = differs.map(|name| (name, lines(a, name), lines(b, name)));
    both.map(|(name, a, b)| format!("{name}: {:?} {:?}", only("-", &a, &b), only("+", &b, &a))).collect()
}

fn repair() -> Command {
    let mut command = Command::new(PROGRAM);
    let report = std::fs::File::create(REPORT).unwrap();
    let complaint = std::fs::File::create(format!("{REPORT}.err")).unwrap();
    command.args(["repair", "--json"]).env_clear().stdin(Stdio::null()).stdout(report).stderr(complaint);
    command
}

/// How many points of each kind are asked for.
fn wanted() -> usize {
    match std::env::var("SSH_RESCUE_SWEEP").as_deref() {
        Ok("all") => usize::MAX,
        Ok(number) => number.parse().unwrap(),
        Err(_) => POINTS,
    }
}

/// Evenly spread numbers of a range, the last one among them.
fn sample(from: usize, to: usize, number: usize) -> Vec<usize> {
    let length = to - from;
    if number >= length { (from..to).collect() } else { (1..=number).map(|n| from + n * length / number - 1).collect() }
}

/// A mend on its stage: the host as it is before and after, and the calls between which the repair writes.
struct Bench<'a, 'b> {
    stage: &'a mut Stage<'b>,
    mend: &'a Mend,
    state: StateDir,
    before: Picture,
    after: Picture,
    /// The first call after which the state folder is there, and the number of all.
    begins: usize,
    ends: usize,
    /// How many repairs one after the other it takes.
    rounds: usize,
    programs: Vec<String>,
}

impl<'a, 'b> Bench<'a, 'b> {
    fn new(stage: &'a mut Stage<'b>, mend: &'a Mend, calls: &'static [i64]) -> Bench<'a, 'b> {
        (mend.lock_out)(stage);
        let before = picture(stage.host);
        let mut begins = None;
        let whole = trace(&mut repair(), calls, |seen| {
            if begins.is_none() && Path::new(STATE).exists() {
                begins = Some(seen.number);
            }
            Deed::Go
        });
        assert_eq!(whole.code(), Some(0), "{}: {}", mend.name, told());
        let after = picture(stage.host);
        assert_ne!(after, before, "{}: nothing was done", mend.name);
        let state = StateDir::default();
        let mut bench = Bench {
            stage,
            mend,
            state,
            before,
            after,
            begins: begins.unwrap_or_default(),
            ends: whole.calls,
            rounds: 0,
            programs: whole.programs,
        };
        bench.rounds = bench.phases().len();
        bench.reset("the first repair");
        bench
    }

    fn phases(&self) -> Vec<Phase> {
        let history = history(&Host::live(), &self.state).unwrap();
        assert!(history.unreadable.is_empty(), "{:?}", history.unreadable);
        history.entries.iter().map(|entry| entry.phase).collect()
    }

    /// Undoes what is confirmed, and forgets it.
    fn reset(&mut self, point: &str) {
        let entries = history(&Host::live(), &self.state).unwrap().entries;
        for entry in entries.iter().rev().filter(|e| !e.phase.is_taken_back()) {
            let _ = undo(self.stage.host, &self.state, &entry.id)
                .unwrap_or_else(|e| panic!("{}, {point}: {}", self.mend.name, chain(&e)));
        }
        let now = picture(self.stage.host);
        assert!(now == self.before, "{}, {point}: undone:\n{:#?}", self.mend.name, difference(&self.before, &now));
        let _ = std::fs::remove_dir_all(STATE);
    }

    /// What is neither as before nor as after, back-end by back-end and file by file.
    fn torn_parts(&self) -> Vec<String> {
        let now = picture(self.stage.host);
        let own = |name: &&String| {
            let part = now.get(*name);
            // A replacement that was killed leaves its unfinished new file beside the old one, which nobody reads.
            part != self.before.get(*name) && part != self.after.get(*name) && !name.ends_with(".ssh-rescue-new")
        };
        now.keys().filter(own).map(|name| format!("{name}: {:?}", now.get(name))).collect()
    }

    /// What [`picture`] shows must be the host before the repair, or after those that are confirmed.
    fn assert_whole(&mut self, point: &str) {
        let phases = self.phases();
        let ended = |phase: &Phase| matches!(phase, Phase::Confirmed | Phase::RolledBack);
        assert!(phases.iter().all(ended), "{}, {point}: {phases:?}\n{}", self.mend.name, told());
        let confirmed = phases.iter().filter(|p| **p == Phase::Confirmed).count();
        let now = picture(self.stage.host);
        let expected =
            if confirmed == 0 { Some(&self.before) } else { Some(&self.after).filter(|_| confirmed == self.rounds) };
        // A ufw that fails is passed by: then the client tells whether it helped.
        let passed_by = confirmed > 0 && !self.mend.single && only_tagged_rules(&self.before, &now);
        if passed_by {
            assert_eq!(self.stage.see().unwrap(), [Sight::Banner; 2], "{}, {point}", self.mend.name);
        } else if let Some(expected) = expected {
            let (now, expected) = (&without_rate_limits(&now), &without_rate_limits(expected));
            assert!(now == expected, "{}, {point}: {phases:?}\n{:#?}", self.mend.name, difference(expected, now));
        }
        self.reset(point);
    }

    fn recover(&self) {
        let _lock = self.stage.host.lock(self.state.run(), Duration::from_secs(5)).unwrap();
        let _ = recover(self.stage.host, &self.state).unwrap();
    }

    /// Kills the repair, or also all that it has started. Gives how long it took until the host was whole again; None if it
    /// ended before it could be killed.
    fn killed(&mut self, number: usize, all: bool) -> Option<Duration> {
        let mut killed = None;
        let _ = trace(&mut repair(), WRITES, |seen| match seen.number == number {
            true => {
                killed = Some(Instant::now());
                if all { Deed::KillAll } else { Deed::Kill }
            }
            false => Deed::Go,
        });
        let point = format!("killed at call {number}{}", if all { " with all that it has started" } else { "" });
        if let Some(start) = &mut killed
            && all
        {
            if self.mend.single {
                assert_eq!(self.torn_parts(), Vec::<String>::new(), "{}, {point}", self.mend.name);
            }
            *start = Instant::now();
            self.recover();
        }
        let took = killed.map(|start| start.elapsed());
        self.assert_whole(&point);
        took
    }
}

fn told() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    format!("{}{}", read(REPORT), read(&format!("{REPORT}.err")))
}

/// Each mend on a stage of its own.
fn on_each_bench(test: &str, calls: &'static [i64], mut work: impl FnMut(&mut Bench<'_, '_>) + Send) {
    if !root(test) {
        return;
    }
    for mend in &MENDS {
        if mend.name == "ufw" && Host::live().which("ufw").is_none() {
            skipped(test, "ufw is not installed");
            continue;
        }
        on_bench(mend, calls, &mut work);
    }
}

fn on_bench(mend: &Mend, calls: &'static [i64], mut work: impl FnMut(&mut Bench<'_, '_>) + Send) {
    Stage::build(&Host::live(), |stage| {
        work(&mut Bench::new(stage, mend, calls));
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}: {}", mend.name, chain(&e)));
}

#[test]
fn a_repair_that_is_killed_is_whole_or_taken_back_by_its_watcher_or_the_next_start() {
    on_each_bench("kill sweep", WRITES, |bench| {
        let (mut points, mut slowest) = (0, Duration::ZERO);
        for (turn, number) in sample(bench.begins, bench.ends, wanted()).into_iter().enumerate() {
            for all in [false, true] {
                if wanted() != usize::MAX && all != (turn % 2 == 1) {
                    continue;
                }
                if let Some(took) = bench.killed(number, all) {
                    points += 1;
                    slowest = slowest.max(took);
                }
            }
        }
        let (name, begins, ends) = (bench.mend.name, bench.begins, bench.ends);
        println!("{name}: {points} points of calls {begins} to {ends}, whole again after at most {slowest:?}");
        assert!(points >= wanted().min(POINTS) / 2, "{name}: only {points} points");
    });
}

#[test]
fn the_start_after_a_killed_one_repairs() {
    on_each_bench("the start after a killed one", WRITES, |bench| {
        for number in sample(bench.begins, bench.ends - 1, 2) {
            let _ = trace(&mut repair(), WRITES, |seen| if seen.number == number { Deed::KillAll } else { Deed::Go });
            let status = repair().status().unwrap();
            assert_eq!(status.code(), Some(0), "{}, killed at {number}: {}", bench.mend.name, told());
            assert_eq!(bench.stage.see().unwrap(), [Sight::Banner; 2], "{}, killed at {number}", bench.mend.name);
            bench.reset("the start after");
        }
    });
}

const ERRORS: [i32; 5] = [libc::ENOSPC, libc::EIO, libc::EROFS, libc::EACCES, libc::EMFILE];

/// Calls that change something, or lead to it: a state is that between two of them.
#[cfg(target_arch = "x86_64")]
const WRITES: &[i64] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_chmod,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_setsockopt,
    libc::SYS_pidfd_send_signal,
    libc::SYS_flock,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_vfork,
    libc::SYS_exit_group,
];

/// Calls by which a host in trouble is felt: files, tools, sockets.
#[cfg(target_arch = "x86_64")]
const MAY_FAIL: &[i64] = &[
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fchmod,
    libc::SYS_fchown,
    libc::SYS_fsetxattr,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_getdents64,
    libc::SYS_flock,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_pipe2,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_vfork,
];

#[test]
fn a_repair_whose_calls_fail_is_whole_and_says_why() {
    if !CAN_FAIL {
        return skipped("error sweep", "calls are made to fail on x86_64 alone");
    }
    on_each_bench("error sweep", MAY_FAIL, |bench| {
        let (mut points, mut repaired) = (0, 0);
        // A quarter of the points lies before the first write.
        let from = bench.begins - (bench.ends - bench.begins) / 3;
        for (turn, number) in sample(from.min(bench.begins), bench.ends, wanted()).into_iter().enumerate() {
            for (which, error) in ERRORS.into_iter().enumerate() {
                for on in [false, true] {
                    if wanted() != usize::MAX && (which, on) != (turn % ERRORS.len(), turn % 2 == 1) {
                        continue;
                    }
                    let mut failed = None;
                    let traced = trace(&mut repair(), MAY_FAIL, |seen| {
                        // What it has to say must come through.
                        let said = seen.first && seen.call == Some(libc::SYS_write) && matches!(seen.argument, 1 | 2);
                        let due = seen.number >= number && (on && !said || failed.is_none());
                        if let Some(call) = seen.call.filter(|_| due) {
                            failed.get_or_insert((call, seen.first));
                            return Deed::Fail(error);
                        }
                        Deed::Go
                    });
                    let Some((call, first)) = failed else { continue };
                    points += 1;
                    repaired += usize::from(traced.code() == Some(0));
                    let whose = if first { "its own" } else { "a tool's" };
                    let point = format!(
                        "{whose} call {number} ({call}) fails with {error}{}",
                        if on { " and all after it" } else { "" }
                    );
                    assert_said(bench.mend, &traced, &point);
                    bench.recover();
                    bench.assert_whole(&point);
                }
            }
        }
        println!("{}: {points} points, {repaired} repaired none the less", bench.mend.name);
    });
}

/// The standard library's own panic where the pipe on which a new process tells that it has begun cannot be read. No kernel
/// does that; then it is as if the repair had been killed.
const PIPE_OF_SPAWN: &str = "the CLOEXEC pipe failed";

/// The library waits for a tool of which it could not be told that it runs. The tool waited for the end of its input, whose pipe
/// the library held: the error sweep hung, now and then.
#[test]
fn a_tool_of_whose_start_nothing_can_be_read_comes_to_its_end() {
    let test = "starts of tools that cannot be told of";
    if !root(test) {
        return;
    }
    if !CAN_FAIL {
        return skipped(test, "calls are made to fail on x86_64 alone");
    }
    let mend = MENDS.iter().find(|mend| mend.name == "iptables-legacy").unwrap();
    on_bench(mend, MAY_FAIL, |bench| {
        let (mut turn, mut told) = (0, 0);
        loop {
            // The first thing that is read after something was started.
            let (mut started, mut starts) = (false, 0);
            let traced = trace(&mut repair(), MAY_FAIL, |seen| {
                let call = seen.call.filter(|_| seen.first);
                started |=
                    call.is_some_and(|call| [libc::SYS_clone, libc::SYS_clone3, libc::SYS_vfork].contains(&call));
                let reads =
                    call.is_some_and(|call| [libc::SYS_read, libc::SYS_recvfrom, libc::SYS_recvmsg].contains(&call));
                if !started || !reads {
                    return Deed::Go;
                }
                started = false;
                starts += 1;
                if starts == turn + 1 { Deed::Fail(libc::EIO) } else { Deed::Go }
            });
            if starts <= turn {
                break;
            }
            let point = format!("what is read after start {turn} fails");
            told += usize::from(std::fs::read_to_string(format!("{REPORT}.err")).unwrap().contains(PIPE_OF_SPAWN));
            assert_said(bench.mend, &traced, &point);
            bench.recover();
            bench.assert_whole(&point);
            turn += 1;
        }
        println!("{turn} starts, of which {told} could not be told of");
        assert!(told > 1, "only {told} starts of {turn} were hit");
    });
}

/// No panic, and where it is not repaired the reason.
fn assert_said(mend: &Mend, traced: &Traced, point: &str) {
    let report = std::fs::read_to_string(REPORT).unwrap();
    let complaint = std::fs::read_to_string(format!("{REPORT}.err")).unwrap();
    let at = format!("{}, {point}: status {:x}, {complaint}", mend.name, traced.status);
    if complaint.contains(PIPE_OF_SPAWN) {
        return;
    }
    assert!(matches!(traced.code(), Some(0..=3)) && !complaint.contains("panicked"), "{at}");
    let report: Value = serde_json::from_str(&report).unwrap_or_default();
    let (outcome, error) = (&report["outcome"], &report["error"]);
    if std::env::var_os("SSH_RESCUE_TELL").is_some() {
        println!("{at} {outcome} {error} {}", report["declined"]);
    }
    let declined = report["declined"].as_array().is_some_and(|all| !all.is_empty());
    let ended = outcome == "repaired" || outcome == "healthy";
    assert!(ended || declined || error.is_string() || !complaint.is_empty(), "{at}: it does not say why");
}

#[test]
fn no_shell_is_in_the_process_tree() {
    on_each_bench("no shell", &[], |bench| {
        // ufw's own reload is a shell script.
        let shells = ["sh", "bash", "dash", "busybox", "zsh"];
        let is_shell = |program: &String| shells.contains(&program.rsplit('/').next().unwrap_or_default());
        let found: Vec<_> = bench.programs.iter().filter(|p| is_shell(p)).collect();
        assert!(!bench.programs.is_empty());
        assert!(bench.mend.name == "ufw" || found.is_empty(), "{}: {:?}", bench.mend.name, bench.programs);
        println!("{}: {:?}", bench.mend.name, bench.programs);
    });
}
