//! An sshd that holds the port and is stopped.

use super::{Attempt, No};
use crate::facts::{SocketOwner, escape};
use crate::judge::{Demand, Path};
use crate::plan::Step;

impl Attempt<'_> {
    /// Lets those go on that are stopped where clients come in. Whether there were any: the rest is seen once they run.
    pub(super) fn proceed(&mut self, lacking: &[&Demand]) -> Result<bool, No> {
        let mut steps = Vec::new();
        for owner in self.stopped(lacking) {
            let SocketOwner { pid, name, state, .. } = owner;
            // SIGCONT is nothing to a process that is traced.
            if *state == 't' {
                let why = format!("a debugger holds {} (pid {pid}) at a stop", escape(name));
                return Err(("sshd.listener.stopped", why));
            }
            let step = Step::ContinueProcess { pid: *pid, name: name.clone() };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        let any = !steps.is_empty();
        self.steps.extend(steps);
        Ok(any)
    }

    fn stopped(&self, lacking: &[&Demand]) -> Vec<&SocketOwner> {
        let gates = &self.judgement.gates;
        let paths = lacking.iter().flat_map(|d| &d.paths).filter_map(|&index| gates.get(index)).map(|g| &g.whole.path);
        let listeners = self.snapshot.listeners.present();
        let at = |path: &Path| {
            let (port, family, address) = (path.port, path.family, path.address);
            listeners.into_iter().flatten().filter(move |l| l.port == port && l.serves(family, address))
        };
        let owners = paths.flat_map(at).filter_map(|l| l.owners.present()).flatten();
        owners.filter(|o| matches!(o.state, 'T' | 't') && o.is_ssh_server()).collect()
    }
}
