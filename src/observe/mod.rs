//! Host -> facts. Reads only, and has no opinion: what cannot be read is [`Seen::Unreadable`] with its reason.
#![forbid(unsafe_code)]

pub mod boot;
pub mod disk;
pub mod firewall;
pub mod firewalld;
mod interfaces;
mod listeners;
mod logins;
pub mod net;
mod outside;
mod owners;
mod processes;
mod resources;
mod selinux;
pub mod sshd;
mod sshd_files;
mod sysctl;
mod units;
mod wrappers;
mod written;

use std::thread;

use crate::facts::{Owners, Snapshot, Sshd};
use crate::host::Host;
use crate::policy::Policy;
pub use listeners::outwait;
pub use resources::disk_of;

/// One look at the host, or at a disk. What waits for the kernel or for others (the ruleset, sshd's own test, D-Bus) runs side by side.
pub fn observe(host: &Host, policy: &Policy) -> Snapshot {
    if host.mounted_at().is_some() {
        return disk::disk(host, policy);
    }
    thread::scope(|scope| {
        let units = beside(scope, || units::units(host));
        let firewalld = beside(scope, || owners::firewalld(host));
        let firewall = beside(scope, || firewall::firewall(host));
        let (listeners, processes) = listeners::with_owners(&policy.ssh.ports);
        let daemons = processes.sshd.clone();
        let program = beside(scope, move || sshd::program(host, &daemons));
        let net = net::net(host);
        let place = net.clone();
        let boot = beside(scope, move || boot::boot(host, &place));
        let wrappers = wrappers::wrappers(host);
        let resources = resources::resources(host);
        let ufw = owners::ufw(host);
        let program = ended(program);
        let mut snapshot = Snapshot {
            privileged: host.privileged(),
            net,
            firewall: ended(firewall),
            owners: Owners {
                ufw,
                firewalld: ended(firewalld),
                fail2ban_running: processes.runs("fail2ban-server"),
                docker_running: processes.runs("dockerd"),
            },
            listeners,
            sshd: Sshd {
                binary: program.binary,
                test: program.test,
                units: ended(units),
                not_to_be_run: sshd::not_to_be_run(host),
                selinux: selinux::selinux(host),
                privsep_dir: sshd::privsep_dir(host),
                files: sshd_files::files(host),
                logins: logins::logins(host, program.settings.present()),
                shut_out: sshd::shut_out(host, policy, program.settings.present()),
                start_failed: None,
                let_go_in_vain: false,
                trials: Vec::new(),
                settings: program.settings,
                processes: processes.sshd,
            },
            wrappers,
            resources,
            boot: ended(boot),
            at_rest: false,
            written: Vec::new(),
        };
        snapshot.written = written::written(host, &snapshot);
        snapshot
    })
}

/// What runs beside the caller, or has run already.
enum Beside<'s, T> {
    Thread(thread::ScopedJoinHandle<'s, T>),
    Done(T),
}

/// Where no thread can be started, `work` is done at once.
fn beside<'s, T: Send + 's>(
    scope: &'s thread::Scope<'s, '_>,
    work: impl FnOnce() -> T + Clone + Send + 's,
) -> Beside<'s, T> {
    match thread::Builder::new().spawn_scoped(scope, work.clone()) {
        Ok(thread) => Beside::Thread(thread),
        Err(_) => Beside::Done(work()),
    }
}

/// Its result. A panic in a thread is a bug of this program, and is shown as one.
fn ended<T>(work: Beside<'_, T>) -> T {
    match work {
        Beside::Thread(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Beside::Done(result) => result,
    }
}
