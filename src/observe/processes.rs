//! One walk over /proc: who holds a socket, which sshd runs, who of the rules' owners runs.

use std::collections::{HashMap, HashSet};

use procfs::ProcError;
use procfs::process::{FDTarget, Process, Stat, all_processes};

use crate::facts::{self, Seen, SocketOwner};

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
        let owner = SocketOwner { pid, name, exe, unit: unit(process), state };
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

/// The systemd unit that a process belongs to: the last part of its cgroup that is a unit's name.
fn unit(process: &Process) -> Option<String> {
    let groups = process.cgroups().ok()?;
    // The unified hierarchy, else any of cgroup v1.
    let group = groups.0.iter().find(|g| g.hierarchy == 0).or(groups.0.first())?;
    let ends = [".service", ".socket", ".scope"];
    group.pathname.split('/').rev().find(|part| ends.iter().any(|e| part.ends_with(e))).map(str::to_owned)
}
