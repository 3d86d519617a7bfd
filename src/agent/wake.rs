//! What wakes the agent. Each source has a task of its own and says what it heard on one channel; at rest none of them runs.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{AbortHandle, spawn_local};

use super::audit::{self, Inquiries};
use super::changer::{Changer, parent};
use super::legacy::Suspect;
use crate::decode::audit::rules_changed;
use crate::decode::nft;
use crate::facts::escape;
use crate::host::{Changed, Heard, Hearing, Watch, pidfd, readable};

/// Something has changed, or may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// nf_tables; who did it where the kernel said so.
    Rules(Option<Changer>),
    /// iptables-legacy was at work; who it was where audit said so.
    Legacy(Option<Changer>),
    /// The same, here or in another network namespace: the tables tell.
    Suspected(Suspect),
    /// Links, addresses, routes.
    Network,
    File(PathBuf),
    /// The policy file.
    Policy,
    /// A unit of sshd's, or firewalld, said so on D-Bus.
    Bus(&'static str),
    /// firewalld has ended a reload: what it shows now is meant to last.
    Reloaded,
    /// A process that listened has ended.
    Ended(i32),
    /// More was said than could be heard.
    Lost,
    /// A source is broken and is not listened to any more; the sweep is left.
    Deaf {
        source: &'static str,
        why: String,
    },
}

impl Wake {
    /// `changed by ufw (pid 811)`
    pub fn words(&self) -> Option<String> {
        match self {
            Wake::Rules(Some(changer)) | Wake::Legacy(Some(changer)) => Some(changer.words()),
            Wake::Rules(None) => Some("the rules changed".to_owned()),
            Wake::Legacy(None) => Some("iptables-legacy was run".to_owned()),
            Wake::Network => Some("links, addresses or routes changed".to_owned()),
            Wake::File(path) => Some(format!("{} changed", escape(&path.to_string_lossy()))),
            Wake::Policy => Some("the policy changed".to_owned()),
            Wake::Bus(what) => Some(format!("{what} changed")),
            Wake::Reloaded => Some("firewalld was reloaded".to_owned()),
            Wake::Ended(pid) => Some(format!("process {pid}, which listened, ended")),
            Wake::Suspected(_) | Wake::Lost | Wake::Deaf { .. } => None,
        }
    }

    pub fn who(&self) -> Option<&Changer> {
        match self {
            Wake::Rules(changer) | Wake::Legacy(changer) => changer.as_ref(),
            _ => None,
        }
    }
}

/// Where it comes up late, as at boot, it is waited for.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const LOCK: &str = "/run/xtables.lock";
/// What counts in /etc; below the folders everything does.
const FILES: [&str; 3] = ["/etc/hosts.allow", "/etc/hosts.deny", "/etc/nftables.conf"];
const FOLDERS: [&str; 9] = [
    "/etc/ssh",
    "/etc/ssh/sshd_config.d",
    "/etc/ufw",
    "/etc/firewalld",
    "/etc/firewalld/zones",
    "/etc/firewalld/policies",
    "/etc/iptables",
    "/etc/default",
    "/etc/sysconfig",
];
/// Of /etc/default and /etc/sysconfig.
const DEFAULTS: [&str; 5] = [
    "/etc/default/ufw",
    "/etc/default/ssh",
    "/etc/sysconfig/iptables",
    "/etc/sysconfig/ip6tables",
    "/etc/sysconfig/nftables.conf",
];

/// Listens to the kernel's groups; to audit's by the socket that was handed over, or as far as this process may.
pub fn hear(wakes: &UnboundedSender<Wake>, audit: Option<OwnedFd>) {
    keep("nf_tables", Hearing::rules(), rules, wakes);
    keep("rtnetlink", Hearing::network(), |_| vec![Wake::Network], wakes);
    let audit = audit.map(Hearing::audit).or_else(|| Hearing::own_audit().ok().map(Ok));
    if let Some(hearing) = audit {
        let mut inquiries = Inquiries::default();
        keep("audit", hearing, move |messages| audited(messages, &mut inquiries), wakes);
    }
}

fn keep(
    source: &'static str,
    hearing: io::Result<Hearing>,
    means: impl FnMut(&[Vec<u8>]) -> Vec<Wake> + 'static,
    wakes: &UnboundedSender<Wake>,
) {
    let wakes = wakes.clone();
    spawn_local(async move {
        if let Err(error) = listen(hearing, means, &wakes).await {
            let _ = wakes.send(Wake::Deaf { source, why: error.to_string() });
        }
    });
}

/// `means`: what the messages of a datagram mean.
async fn listen(
    hearing: io::Result<Hearing>,
    mut means: impl FnMut(&[Vec<u8>]) -> Vec<Wake>,
    wakes: &UnboundedSender<Wake>,
) -> io::Result<()> {
    let mut hearing = readable(hearing?)?;
    loop {
        let mut ready = hearing.readable_mut().await?;
        match ready.get_inner_mut().hear()? {
            Heard::Nothing => ready.clear_ready(),
            Heard::Lost => drop(wakes.send(Wake::Lost)),
            Heard::Messages(messages) => means(&messages).into_iter().for_each(|wake| drop(wakes.send(wake))),
        }
        // A flood of messages must not keep the socket's clients from their turn.
        tokio::task::yield_now().await;
    }
}

fn rules(messages: &[Vec<u8>]) -> Vec<Wake> {
    let changers = messages.iter().filter_map(|m| nft::changer(m));
    // The program's own changes are looked at by the repair that makes them.
    let others = changers.filter(|(pid, _)| !Path::new(&format!("/proc/self/task/{pid}")).exists());
    others.map(|(pid, name)| Wake::Rules(Some(Changer::of(pid, &name, parent)))).collect()
}

fn audited(messages: &[Vec<u8>], inquiries: &mut Inquiries) -> Vec<Wake> {
    let changes = messages.iter().filter_map(|message| rules_changed(message));
    let mut place = |pid: u32, name: &str| inquiries.place(Instant::now(), pid, name);
    changes.filter_map(|change| audit::means(change, &mut place)).collect()
}

/// Watches the files that decide, and the policy.
pub struct Files {
    watch: AsyncFd<Watch>,
    policy: PathBuf,
}

impl Files {
    pub fn new(policy: &Path) -> io::Result<Files> {
        let mut files = Files { watch: readable(Watch::new()?)?, policy: policy.to_owned() };
        files.again();
        Ok(files)
    }

    /// Watches also what was made since the last call.
    pub fn again(&mut self) {
        let watch = self.watch.get_mut();
        let policy = self.policy.parent().map(Path::to_owned);
        let folders = ["/etc", "/run", "/run/dbus"].into_iter().chain(FOLDERS).map(PathBuf::from);
        for folder in folders.chain(policy) {
            // What cannot be watched is looked at by the sweep.
            let _ = watch.folder(&folder);
        }
        let _ = watch.closed(Path::new(LOCK));
    }

    /// Waits for something that counts.
    pub async fn changed(&mut self) -> Wake {
        loop {
            let Ok(mut ready) = self.watch.readable_mut().await else { std::future::pending().await };
            let changed = ready.get_inner_mut().changed();
            ready.clear_ready();
            match changed {
                Ok(Changed::Lost) => return Wake::Lost,
                Ok(Changed::Paths(paths)) => {
                    let mut wakes: Vec<Wake> = paths.iter().filter_map(|path| self.means(path)).collect();
                    // The policy is read again whatever else has changed.
                    if let Some(policy) = wakes.iter().position(|w| *w == Wake::Policy) {
                        return wakes.swap_remove(policy);
                    }
                    if let Some(first) = wakes.into_iter().next() {
                        return first;
                    }
                }
                Err(error) => return Wake::Deaf { source: "inotify", why: error.to_string() },
            }
        }
    }

    fn means(&self, path: &Path) -> Option<Wake> {
        let within = |folder: &str| path.starts_with(folder);
        match path.parent().map(Path::to_owned) {
            _ if path == self.policy || Some(path) == self.policy.parent() => Some(Wake::Policy),
            _ if path == Path::new(LOCK) => Some(Wake::Legacy(None)),
            _ if path == Path::new(SYSTEM_BUS) => Some(Wake::Bus("the system bus")),
            Some(parent) if parent == Path::new("/etc") => {
                let counts = FILES.iter().chain(&FOLDERS).any(|known| path == Path::new(known));
                counts.then(|| Wake::File(path.to_owned()))
            }
            Some(parent) if parent == Path::new("/etc/default") || parent == Path::new("/etc/sysconfig") => {
                DEFAULTS.iter().any(|known| path == Path::new(known)).then(|| Wake::File(path.to_owned()))
            }
            _ if ["/etc/ssh", "/etc/ufw", "/etc/firewalld", "/etc/iptables"].into_iter().any(within) => {
                Some(Wake::File(path.to_owned()))
            }
            _ => None,
        }
    }
}

/// Waits for the end of the processes that listen.
#[derive(Default)]
pub struct Ends {
    waiting: HashMap<i32, AbortHandle>,
}

impl Ends {
    /// These listen now.
    pub fn of(&mut self, pids: &[i32], wakes: &UnboundedSender<Wake>) {
        self.waiting.retain(|pid, task| {
            let stays = pids.contains(pid) && !task.is_finished();
            if !stays {
                task.abort();
            }
            stays
        });
        for pid in pids.iter().copied() {
            let wakes = wakes.clone();
            self.waiting.entry(pid).or_insert_with(|| {
                let task = spawn_local(async move {
                    // One that has ended already is seen by the next look, or has just been.
                    let Ok(end) = pidfd(pid).and_then(readable) else { return };
                    if end.readable().await.is_ok() {
                        let _ = wakes.send(Wake::Ended(pid));
                    }
                });
                task.abort_handle()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_files_that_decide_wake() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(&folder.path().join("policy.toml")).unwrap();
        for (path, wakes) in [
            ("/etc/hosts.allow", true),
            ("/etc/ssh", true),
            ("/etc/ssh/sshd_config.d/10-x.conf", true),
            ("/etc/ufw/user.rules", true),
            ("/etc/default/ufw", true),
            ("/etc/default/cron", false),
            ("/etc/nftables.conf", true),
            ("/etc/iptables/rules.v4", true),
            ("/etc/sysconfig/iptables", true),
            ("/etc/sysconfig/network", false),
            ("/etc/passwd", false),
            ("/run/crond.pid", false),
            ("/run/xtables.lock", true),
        ] {
            assert_eq!(files.means(Path::new(path)).is_some(), wakes, "{path}");
        }
        assert_eq!(files.means(&folder.path().join("policy.toml")), Some(Wake::Policy));
        assert_eq!(files.means(&folder.path().join("other")), None);
    }
}
