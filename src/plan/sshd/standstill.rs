//! An sshd that holds the port and takes nobody: stopped, frozen, or hung.

use super::{Attempt, No};
use crate::facts::{Listener, SocketOwner, escape};
use crate::judge::listener::{Standstill, standstill};
use crate::judge::{Demand, Path};
use crate::plan::Step;

impl Attempt<'_> {
    /// Sets those going that stand still where clients come in. Whether there were any: the rest is seen once they run.
    pub(super) fn set_going(&mut self, lacking: &[&Demand]) -> Result<bool, No> {
        let mut steps = Vec::new();
        for (standstill, owner) in self.still(lacking) {
            let step = match standstill {
                // SIGCONT is nothing to a process that is traced, and its restart would end what somebody is at.
                _ if owner.state == 't' => {
                    let why = format!("a debugger holds {} at a stop", named(owner));
                    return Err(("sshd.listener.stopped", why));
                }
                Standstill::Stopped if !self.snapshot.sshd.let_go_in_vain => {
                    Step::ContinueProcess { pid: owner.pid, name: owner.name.clone() }
                }
                Standstill::Frozen if !self.snapshot.sshd.let_go_in_vain => {
                    Step::ThawUnit { unit: self.frozen(owner)? }
                }
                Standstill::Stopped => self.restart(owner, "sshd.listener.stopped")?,
                Standstill::Frozen => self.restart(owner, "sshd.listener.frozen")?,
                Standstill::Wedged => self.restart(owner, "sshd.listener.wedged")?,
            };
            // One process may hold a socket of each family.
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        if steps.is_empty() {
            return Ok(false);
        }
        if steps.iter().any(|step| matches!(step, Step::RestartUnit { .. })) {
            self.ready()?;
        }
        self.steps.extend(steps);
        Ok(true)
    }

    fn still(&self, lacking: &[&Demand]) -> Vec<(Standstill, &SocketOwner)> {
        let gates = &self.judgement.gates;
        let paths = lacking.iter().flat_map(|d| &d.paths).filter_map(|&index| gates.get(index)).map(|g| &g.whole.path);
        let listeners = self.snapshot.listeners.present();
        let at = |path: &Path| {
            let (port, family, address) = (path.port, path.family, path.address);
            listeners.into_iter().flatten().filter(move |l: &&Listener| l.port == port && l.serves(family, address))
        };
        paths.flat_map(at).filter_map(|l| standstill(l, self.snapshot)).collect()
    }

    /// The unit to thaw.
    fn frozen(&self, owner: &SocketOwner) -> Result<String, No> {
        self.unit_of(owner).ok_or_else(|| {
            let why = format!("{} is frozen with a control group that is no unit of sshd's", named(owner));
            ("sshd.listener.frozen", why)
        })
    }

    /// The restart of the service, if it ends nobody's session.
    fn restart(&self, owner: &SocketOwner, code: &'static str) -> Result<Step, No> {
        let sshd = &self.snapshot.sshd;
        let who = named(owner);
        if owner.pid == 1 {
            let why = "systemd holds the socket, and has started no sshd that takes what comes in".to_owned();
            return Err((code, why));
        }
        if owner.state == 'D' {
            let why = format!("{who} waits for a disk or a file system in the kernel, where no signal reaches it");
            return Err((code, why));
        }
        if let Some(lock) = &self.snapshot.resources.package_manager {
            let why = format!("a package manager is at work ({}), and may restart it", escape(lock));
            return Err((code, why));
        }
        let Some(name) = self.unit_of(owner) else {
            return Err((code, format!("no unit of sshd's runs {who}, so that nothing would start it again")));
        };
        let units = sshd.units.present().into_iter().flatten();
        let kill_mode = units.filter(|u| u.name == name).map(|u| u.kill_mode.as_str()).next().unwrap_or_default();
        match kill_mode {
            "process" => {}
            "control-group" | "mixed" if owner.beside == Some(0) => {}
            "control-group" | "mixed" => {
                let why = format!(
                    "a restart of {} would end sessions (KillMode={kill_mode}, and there are other processes in it)",
                    escape(&name)
                );
                return Err((code, why));
            }
            other => {
                let why = format!("a restart of {} would not end {who} (KillMode={})", escape(&name), escape(other));
                return Err((code, why));
            }
        }
        Ok(Step::RestartUnit { unit: name, pid: owner.pid, name: owner.name.clone() })
    }

    /// The service of sshd's whose main process this is.
    fn unit_of(&self, owner: &SocketOwner) -> Option<String> {
        let mut units = self.snapshot.sshd.units.present()?.iter();
        let runs = |u: &&crate::facts::Unit| {
            u.name.ends_with(".service")
                && u.active()
                && i64::from(u.main_pid) == i64::from(owner.pid)
                && owner.unit.as_ref() == Some(&u.name)
        };
        units.find(runs).map(|u| u.name.clone())
    }
}

fn named(owner: &SocketOwner) -> String {
    format!("{} (pid {})", escape(&owner.name), owner.pid)
}
