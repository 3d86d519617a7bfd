//! Bringing sshd up by its unit, where nothing serves the port.

use super::{Draft, Step};
use crate::facts::{ConfigTest, Seen, Snapshot, SocketOwner, Unit, escape};
use crate::policy::Policy;

/// Units that serve SSH, in the order in which they are tried: where a socket is to be listened on, it comes first.
const UNITS: [&str; 4] = ["ssh.socket", "sshd.socket", "ssh.service", "sshd.service"];

pub fn mend(policy: &Policy, snapshot: &Snapshot, draft: &mut Draft) {
    match start(policy, snapshot) {
        Ok(step) => draft.steps.push(step),
        Err((code, why)) => draft.decline(code, &why),
    }
}

fn start(policy: &Policy, snapshot: &Snapshot) -> Result<Step, (&'static str, String)> {
    let sshd = &snapshot.sshd;
    let ports = &policy.ssh.ports;
    let listeners = snapshot.listeners.present().into_iter().flatten().filter(|l| ports.contains(&l.port));
    let owners: Vec<&SocketOwner> = listeners.filter_map(|l| l.owners.present()).flatten().collect();
    if let Some(stranger) = owners.iter().find(|o| o.name != "sshd" && o.pid != 1) {
        let why = format!("{} (pid {}) holds the port, and is not ended", escape(&stranger.name), stranger.pid);
        return Err(("sshd.listener.stranger", why));
    }
    if sshd.not_to_be_run {
        return Err(("sshd.not-to-be-run", "/etc/ssh/sshd_not_to_be_run says that no sshd is to run".to_owned()));
    }
    if let Seen::Present(test) = &sshd.test
        && !test.passed
        && !only_the_folder_is_missing(test)
    {
        let said = test.messages.first().map(|m| escape(m)).unwrap_or_default();
        return Err(("sshd.config.invalid", format!("`sshd -t` fails: {said}")));
    }
    let units = match &sshd.units {
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
    let Some(unit) = unit else {
        return Err(("sshd.unit.inactive", "systemd knows no unit of sshd".to_owned()));
    };
    if unit.masked() && !policy.sshd.unmask {
        let why =
            format!("{} is masked, which is somebody's word (sshd.unmask = true overrules it)", escape(&unit.name));
        return Err(("sshd.unit.masked", why));
    }
    if unit.active() {
        let why = format!("{} runs and does not listen where clients come in; it is not restarted", escape(&unit.name));
        return Err(("sshd.listener.none", why));
    }
    Ok(Step::StartUnit {
        unit: unit.name.clone(),
        reset_failed: unit.active_state == "failed" || unit.result != "success",
        unmask: unit.masked(),
    })
}

/// Its unit makes /run/sshd when it starts (RuntimeDirectory=).
fn only_the_folder_is_missing(test: &ConfigTest) -> bool {
    test.messages.iter().all(|m| m.contains("Missing privilege separation directory"))
}
