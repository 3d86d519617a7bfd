//! One walk over /proc: who holds a socket, which sshd runs, who of the rules' owners runs.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use procfs::process::{FDTarget, Process, Stat, all_processes};
use procfs::{ProcError, ProcessCGroup};

use crate::facts::{self, Seen, SocketOwner};

const CGROUPS: &str = "/sys/fs/cgroup";

/// What the walk found.
#[derive(Debug, Default)]
pub struct Processes {
    /// Holders of the sockets that were asked for, by inode.
    holders: HashMap<u64, Vec<SocketOwner>>,
    /// Why the walk may have missed holders.
    hidden: Option<String>,
    /// Each sshd that is no child of another: the ones that listen, or did.
    pub sshd: Vec<facts::Process>,
    names: HashSet<String>,
}

impl Processes {
    /// Looks at every process; `sockets` are the inodes whose holders are wanted.
    pub fn walk(sockets: &HashSet<u64>) -> Processes {
        let mut found = Processes::default();
        let all = match all_processes() {
            Ok(all) => all,
            Err(error) => {
                found.hidden = Some(crate::chain(&error));
                return found;
            }
        };
        let mut daemons: Vec<(Stat, Process)> = Vec::new();
        for process in all.flatten() {
            let Ok(stat) = process.stat() else { continue };
            found.look(&process, &stat, sockets);
            found.names.insert(stat.comm.clone());
            if stat.comm == "sshd" {
                daemons.push((stat, process));
            }
        }
        let pids: HashSet<i32> = daemons.iter().map(|(stat, _)| stat.pid).collect();
        daemons.retain(|(stat, _)| !pids.contains(&stat.ppid));
        found.sshd = daemons.iter().map(|(stat, process)| described(process, stat)).collect();
        found
    }

    /// Whether a process of this name (comm) runs.
    pub fn runs(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub fn owners(&self, inode: u64) -> Seen<Vec<SocketOwner>> {
        match (self.holders.get(&inode), &self.hidden) {
            (Some(owners), _) => Seen::Present(owners.clone()),
            (None, Some(why)) => Seen::Unreadable(why.clone()),
            (None, None) => Seen::Present(Vec::new()),
        }
    }

    fn look(&mut self, process: &Process, stat: &Stat, sockets: &HashSet<u64>) {
        if sockets.is_empty() {
            return;
        }
        let descriptors = match process.fd() {
            Ok(descriptors) => descriptors,
            Err(ProcError::PermissionDenied(_)) => {
                self.hidden = Some("root is needed to see who holds a socket".to_owned());
                return;
            }
            // It has ended in the meantime.
            Err(_) => return,
        };
        let held = descriptors.flatten().filter_map(|d| match d.target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        });
        let held: HashSet<u64> = held.filter(|inode| sockets.contains(inode)).collect();
        if held.is_empty() {
            return;
        }
        let facts::Process { pid, name, exe, state, .. } = described(process, stat);
        let group = group(process);
        let (unit, frozen) = (group.as_ref().and_then(unit), group.as_ref().is_some_and(is_frozen));
        let beside = group.as_ref().and_then(|group| beside(group, pid));
        let owner = SocketOwner { pid, name, exe, unit, state, frozen, beside };
        for inode in held {
            self.holders.entry(inode).or_default().push(owner.clone());
        }
    }
}

fn described(process: &Process, stat: &Stat) -> facts::Process {
    let exe = process.exe().ok().map(|e| e.to_string_lossy().into_owned());
    let title = process.cmdline().unwrap_or_default().join(" ");
    facts::Process { pid: stat.pid, name: stat.comm.clone(), exe, state: stat.state, title }
}

/// Where systemd keeps a process: in the unified hierarchy, else in any of cgroup v1.
fn group(process: &Process) -> Option<ProcessCGroup> {
    let mut groups = process.cgroups().ok()?.0;
    let unified = groups.iter().position(|g| g.hierarchy == 0 && g.pathname != "/");
    let systemd = || groups.iter().position(|g| g.controllers.iter().any(|c| c == "name=systemd"));
    let place = unified.or_else(systemd).unwrap_or(0);
    (place < groups.len()).then(|| groups.swap_remove(place))
}

/// The systemd unit of a control group: the last part that is a unit's name.
fn unit(group: &ProcessCGroup) -> Option<String> {
    let ends = [".service", ".socket", ".scope"];
    group.pathname.split('/').rev().find(|part| ends.iter().any(|e| part.ends_with(e))).map(str::to_owned)
}

/// Whether the kernel lets none of a control group's processes run. Version 1 has a hierarchy of its own for that, where systemd
/// freezes nothing.
fn is_frozen(group: &ProcessCGroup) -> bool {
    group.hierarchy == 0 && read(group, "cgroup.events").is_some_and(|text| text.lines().any(|l| l == "frozen 1"))
}

/// How many others are in the control group.
fn beside(group: &ProcessCGroup, pid: i32) -> Option<usize> {
    let all = read(group, "cgroup.procs")?;
    Some(all.lines().filter(|l| l.parse() != Ok(pid)).count())
}

/// A file of a control group, from where systemd mounts the hierarchy that it keeps its units in (file-hierarchy(7)).
fn read(group: &ProcessCGroup, file: &str) -> Option<String> {
    let mounts: &[&str] = if group.hierarchy == 0 { &["", "unified"] } else { &["systemd"] };
    let folder = group.pathname.trim_start_matches('/');
    mounts.iter().find_map(|mount| fs::read_to_string(Path::new(CGROUPS).join(mount).join(folder).join(file)).ok())
}
