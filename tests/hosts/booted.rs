//! A host that is booted by its own systemd, on an overlay over a cached root, and gone without a trace when it is dropped.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use ssh_rescue::host::{Call, Host, Output};
use tempfile::{NamedTempFile, TempDir};

use super::client::Wire;

/// Where the program under test lies on a host.
const PROGRAM: &str = "/usr/bin/ssh-rescue";
const DEADLINE: Duration = Duration::from_secs(60);

/// Mounts what the host is made of and boots it, as the first process of namespaces of its own: with it the kernel ends all
/// that it has started, whatever ends this test. systemd-nspawn ends with 133 where the host is to be booted again.
const BOOT: &str = r#"set -e
root=$1 folder=$2 namespace=$3 program=$4; shift 4
for cgroup; do echo $$ >"$cgroup/cgroup.procs"; done
mount -t tmpfs -o mode=0755,size=160m hosts "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=$root,upperdir=$folder/upper,workdir=$folder/work" hosts "$folder/root"
touch "$folder/namespace"
mount --bind "$namespace" "$folder/namespace"
mount -t proc proc /proc
# What systemd-nspawn keeps beside a host.
mount -t tmpfs -o mode=0755 hosts /run
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
while systemd-nspawn --quiet --boot --keep-unit --register=no --console=pipe --machine=rescued --hostname=rescued \
    --link-journal=no --resolv-conf=off --timezone=off --directory="$folder/root" \
    --network-namespace-path="$folder/namespace" --capability=CAP_NET_ADMIN \
    --bind=/dev/net/tun ${program:+"--bind-ro=$program:/usr/bin/ssh-rescue"}
[ $? -eq 133 ]; do :; done
"#;

/// The file that is tested: the one that SSH_RESCUE_PROGRAM names (`make test`: the static one, as it is shipped), else cargo's.
pub fn program() -> PathBuf {
    std::env::var_os("SSH_RESCUE_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_ssh-rescue").into()).into()
}

pub struct Booted {
    pub wire: Wire,
    boots: Child,
    leader: Option<Pid>,
    console: NamedTempFile,
    cgroups: Vec<PathBuf>,
    _folder: TempDir,
}

impl Booted {
    /// Boots a host from the root, with the program in its place, and waits until all its services are up.
    pub fn boot(root: &Path) -> Booted {
        Booted::with(root, &program())
    }

    /// The same without the program.
    pub fn bare(root: &Path) -> Booted {
        Booted::with(root, Path::new(""))
    }

    fn with(root: &Path, program: &Path) -> Booted {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ssh-rescue-hosts-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let wire = Wire::lay();
        let folder = TempDir::new().expect("a folder");
        let console = NamedTempFile::new().expect("a file");
        let cgroups = cgroups(&name);
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "sh",
                "-c",
                BOOT,
                "boot",
            ])
            .args([root, folder.path(), &wire.namespace, program])
            .args(&cgroups)
            .stdin(Stdio::null())
            .stdout(console.reopen().expect("the console"))
            .stderr(console.reopen().expect("the console"));
        // SAFETY: prctl(2) is async-signal-safe, and nothing is allocated between fork and exec.
        let bound = unsafe {
            command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(std::io::Error::from))
        };
        let boots = bound.spawn().expect("unshare");
        let mut host = Booted { wire, boots, leader: None, console, cgroups, _folder: folder };
        host.wait();
        host
    }

    fn wait(&mut self) {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(leader) = leader(self.boots.id()) {
                self.leader = Some(leader);
                // "Degraded" would be a root that does not fit systemd-nspawn.
                if self.run("systemctl is-system-running --wait").stdout == b"running\n" {
                    // What belongs to the host's own network: systemd-nspawn leaves the rest of the machine's to the machine.
                    self.sh("mount --bind /proc/sys/net /proc/sys/net; mount -o remount,bind,rw /proc/sys/net");
                    return;
                }
            }
            if let Ok(Some(status)) = self.boots.try_wait() {
                panic!("the host does not boot ({status}): {}", self.said());
            }
            sleep(Duration::from_millis(20));
        }
        let failed =
            self.leader.map(|_| self.run("systemctl --no-pager --failed; systemctl --no-pager list-jobs").stdout);
        panic!("the host does not boot: {}\n{}", String::from_utf8_lossy(&failed.unwrap_or_default()), self.said());
    }

    /// Boots the host once more. Its network outlives that: the rules are taken away, as the end of a machine does.
    pub fn reboot(&mut self) {
        let old = self.leader;
        self.run("systemctl stop firewalld; nft flush ruleset; systemctl --no-block reboot");
        let end = Instant::now() + DEADLINE;
        while leader(self.boots.id()) == old && Instant::now() < end {
            sleep(Duration::from_millis(20));
        }
        self.wait();
        // It is started before it has any rules, and answers when it has them.
        self.run("if systemctl -q is-active firewalld; then firewall-cmd --list-all; fi");
    }

    fn said(&self) -> String {
        fs::read_to_string(self.console.path()).unwrap_or_default()
    }

    /// A file of the host, as this machine sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.leader.expect("a booted host")))
    }

    /// Runs a shell script on the host.
    pub fn run(&self, script: &str) -> Output {
        self.enter(&["sh", "-c", script])
    }

    fn enter(&self, words: &[&str]) -> Output {
        let leader = self.leader.expect("a booted host").to_string();
        let args = [&["-t", &leader, "-a", "--"], words].concat();
        let call = Call { deadline: DEADLINE, ..Call::new("nsenter", &args) };
        Host::live().run(&call).unwrap_or_else(|e| panic!("{words:?}: {e}"))
    }

    /// Calls the program under test and kills it at the `number`th of these system calls; whether it came to its end.
    pub fn killed_at(&self, calls: &str, number: u32, args: &[&str]) -> bool {
        let leader = self.leader.expect("a booted host").to_string();
        let (trace, inject) = (format!("trace={calls}"), format!("inject={calls}:signal=KILL:when={number}"));
        let how = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        let what = ["nsenter", "-t", &leader, "-a", "--", PROGRAM, "--json"];
        let args = [&how, &what[..], args].concat();
        let call = Call { deadline: DEADLINE, ..Call::new("strace", &args) };
        let output = Host::live().run(&call).unwrap_or_else(|e| panic!("strace: {e}"));
        // The exit statuses of the program end at 3.
        (0..=3).contains(&output.status)
    }

    /// Runs a shell script that must succeed, and gives what it prints.
    pub fn sh(&self, script: &str) -> String {
        let output = self.run(&format!("set -e\n{script}"));
        assert!(output.ok(), "{script}: status {}: {}", output.status, output.complaint());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Calls the program under test, for machines.
    pub fn rescue(&self, args: &[&str]) -> Value {
        self.rescue_as(&[], args)
    }

    /// The same, started by other words: as another user, or under another limit.
    pub fn rescue_as(&self, how: &[&str], args: &[&str]) -> Value {
        let output = self.enter(&[how, &[PROGRAM, "--json"], args].concat());
        let said = String::from_utf8_lossy(&output.stdout);
        let report: Value = serde_json::from_str(&said)
            .unwrap_or_else(|e| panic!("ssh-rescue {args:?}: {e}: {said:.400} {}", output.complaint()));
        // A report tells the state of the host now, and the exit status says the same to those who cannot read it.
        let now = report.get("after").or(report.get("before")).unwrap_or(&report);
        let places = ["reachable", "at-risk", "blocked", "unknown"];
        if let Some(place) = places.iter().position(|verdict| now["verdict"] == *verdict) {
            assert_eq!(
                output.status, place as i32,
                "ssh-rescue {args:?}: exit status of a host that is {}",
                places[place]
            );
        }
        report
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        // With this one ends the first process of its namespace, and with that the kernel ends all others.
        let _ = self.boots.kill();
        let _ = self.boots.wait();
        for cgroup in &self.cgroups {
            remove(cgroup);
        }
    }
}

/// The host's first process: below `process` the one that runs systemd.
fn leader(process: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find_map(|pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        if name == "systemd\n" { Some(Pid::from_raw(pid as i32)) } else { leader(pid) }
    })
}

/// Control groups of one host's own, in the hierarchies that systemd keeps its units in: two hosts in one would end each
/// other's processes.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let mine = procfs::process::Process::myself().and_then(|me| me.cgroups()).expect("this process's control groups");
    let mounts = procfs::process::Process::myself().and_then(|me| me.mountinfo()).expect("this process's mounts");
    let of_systemd = mine.into_iter().filter(|c| c.hierarchy == 0 || c.controllers == ["name=systemd"]);
    let made = of_systemd.filter_map(|cgroup| {
        let kind = if cgroup.hierarchy == 0 { "cgroup2" } else { "cgroup" };
        let mount = mounts
            .0
            .iter()
            .find(|m| m.fs_type == kind && (cgroup.hierarchy == 0 || m.super_options.contains_key("name")))?;
        let path = mount.mount_point.join(cgroup.pathname.trim_start_matches('/')).join(name);
        fs::create_dir(&path).expect("a control group");
        Some(path)
    });
    made.collect()
}

/// A control group with those in it. The kernel needs a moment to see that the last process is gone.
fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove(&entry.path());
    }
    let end = Instant::now() + Duration::from_secs(2);
    while fs::remove_dir(cgroup).is_err() && Instant::now() < end {
        sleep(Duration::from_millis(10));
    }
}
