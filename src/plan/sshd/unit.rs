//! The unit that runs sshd.

use super::{Attempt, No};
use crate::facts::{Seen, Unit, escape};
use crate::plan::Step;

/// Units that serve SSH, in the order in which they are tried: where a socket is to be listened on, it comes first.
const UNITS: [&str; 4] = ["ssh.socket", "sshd.socket", "ssh.service", "sshd.service"];

impl Attempt<'_> {
    pub(super) fn start(&mut self) -> Result<(), No> {
        if self.snapshot.at_rest {
            return self.at_boot();
        }
        let unit = self.unit()?;
        let name = unit.name.clone();
        if unit.masked() && !self.policy.sshd.unmask {
            let why =
                format!("{} is masked, which is somebody's word (sshd.unmask = true overrules it)", escape(&name));
            return Err(("sshd.unit.masked", why));
        }
        if unit.active() && name.ends_with(".socket") {
            let why = format!("{} runs and does not listen where clients come in", escape(&name));
            return Err(("sshd.listener.none", why));
        }
        self.steps.push(match unit.active() {
            true => Step::ReloadUnit { unit: name },
            false => Step::StartUnit {
                unit: name,
                reset_failed: unit.active_state == "failed" || unit.result != "success",
                unmask: unit.masked(),
            },
        });
        Ok(())
    }

    /// On a disk nothing is started: its boot does that.
    fn at_boot(&mut self) -> Result<(), No> {
        let unit = self.unit()?;
        let name = unit.name.clone();
        if unit.masked() {
            let name = escape(&name);
            let why = format!("{name} is masked, which is somebody's word, and a disk's units are not unmasked");
            return Err(("sshd.unit.masked", why));
        }
        match unit.unit_file_state.as_str() {
            "disabled" => {
                self.steps.push(Step::EnableUnit { unit: name });
            }
            "static" => {
                let why =
                    format!("{} has no [Install] section, and nothing that the boot starts wants it", escape(&name));
                return Err(("sshd.unit.inactive", why));
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the next boot start what it would not.
    pub(super) fn enable(&mut self) {
        let Ok(unit) = self.unit() else { return };
        let Seen::Present(units) = &self.snapshot.sshd.units else { return };
        let starts = |u: &Unit| u.unit_file_state.starts_with("enabled") || u.unit_file_state == "alias";
        if unit.unit_file_state == "disabled" && !units.iter().any(|u| u.loaded() && starts(u)) {
            self.steps.push(Step::EnableUnit { unit: unit.name.clone() });
        }
    }

    fn unit(&self) -> Result<&Unit, No> {
        let units = match &self.snapshot.sshd.units {
            Seen::Present(units) => units,
            Seen::Absent => return Err(("sshd.unit.inactive", "systemd does not run this host".to_owned())),
            Seen::Unreadable(why) => {
                return Err(("sshd.unit.inactive", format!("systemd could not be asked: {}", escape(why))));
            }
        };
        let by_name = |name: &&str| units.iter().find(|u| u.name == **name);
        let known: Vec<&Unit> = UNITS.iter().filter_map(by_name).filter(|u| u.loaded() || u.masked()).collect();
        let enabled_socket = |u: &&&Unit| u.name.ends_with(".socket") && u.unit_file_state.starts_with("enabled");
        let service = |u: &&&Unit| u.name.ends_with(".service");
        let unit = known.iter().find(enabled_socket).or_else(|| known.iter().find(service));
        unit.copied().ok_or_else(|| ("sshd.unit.inactive", "systemd knows no unit of sshd".to_owned()))
    }
}
