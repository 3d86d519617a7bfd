//! Host -> facts. Reads only, and has no opinion: what cannot be read is [`Seen::Unreadable`] with its reason.
#![forbid(unsafe_code)]

pub mod firewall;
mod listeners;
pub mod net;
mod owners;
mod processes;
mod resources;
mod sshd;
mod units;
mod wrappers;

use std::collections::HashSet;
use std::thread;

use crate::facts::{Listener, Owners, Resources, Seen, Sshd, Wrappers};
use crate::host::Host;
use crate::policy::Policy;
use processes::Processes;

/// What was seen of the host beside its network and its firewall.
#[derive(Debug)]
pub struct Services {
    pub owners: Owners,
    pub listeners: Seen<Vec<Listener>>,
    pub sshd: Sshd,
    pub wrappers: Wrappers,
    pub resources: Resources,
}

/// What listens on the policy's ports, sshd, TCP wrappers, the rules' owners, resources. What waits for others (sshd's own
/// test, D-Bus) runs side by side.
pub fn services(host: &Host, policy: &Policy) -> Services {
    let sockets = listeners::listeners(&policy.ssh.ports);
    let inodes: HashSet<u64> = sockets.iter().flatten().map(|l| l.inode).collect();
    let processes = Processes::walk(&inodes);
    let listeners = match sockets {
        Ok(mut sockets) => {
            sockets.iter_mut().for_each(|l| l.owners = processes.owners(l.inode));
            Seen::Present(sockets)
        }
        Err(error) => Seen::Unreadable(format!("listening sockets: {}", crate::chain(&error))),
    };
    thread::scope(|scope| {
        let program = scope.spawn(|| sshd::program(host, &processes.sshd));
        let units = scope.spawn(|| units::units(host));
        let firewalld = scope.spawn(|| owners::firewalld(host));
        let owners = Owners {
            ufw: owners::ufw(host),
            firewalld: joined(firewalld).unwrap_or_else(Seen::Unreadable),
            fail2ban_running: processes.runs("fail2ban-server"),
            docker_running: processes.runs("dockerd"),
        };
        let wrappers = wrappers::wrappers(host);
        let resources = resources::resources(host);
        let units = joined(units).unwrap_or_else(Seen::Unreadable);
        let program = joined(program).unwrap_or_else(sshd::Program::unreadable);
        let sshd = Sshd {
            binary: program.binary,
            test: program.test,
            settings: program.settings,
            units,
            processes: processes.sshd.clone(),
            not_to_be_run: sshd::not_to_be_run(),
            privsep_dir: sshd::privsep_dir(),
        };
        Services { owners, listeners, sshd, wrappers, resources }
    })
}

/// A thread's result; a thread that panicked has read nothing.
fn joined<T>(handle: thread::ScopedJoinHandle<'_, T>) -> Result<T, String> {
    handle.join().map_err(|_| "reading it failed inside this program".to_owned())
}
