//! What to do about a judgement: the least mend, or why not.
//!
//! A plan is inert data, so specific that no choice is left when it is applied. Pure.
#![forbid(unsafe_code)]

pub mod accept;
mod fail2ban;
mod firewall;
mod model;
mod owner;
mod persist;
mod resources;
pub mod restraint;
pub mod settle;
mod sshd;
mod step;
mod words;
mod wrappers;

pub use model::*;
pub use sshd::question;
pub use step::*;
pub use words::words;

use crate::facts::Snapshot;
use crate::judge::resources::{CONNTRACK_FULL, is_full};
use crate::judge::{Demand, Finding, Gate, Intent, Judgement, Standing};
use crate::policy::{Mode, Policy};

/// The least that brings about what the policy asks for. `id` names the repair; its rules are tagged with it.
pub fn plan(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement, id: &str) -> Decision {
    let intent = Intent::of(policy, snapshot, &judgement.gates);
    let mut draft = Draft::default();
    if intent.demands.is_empty() {
        draft.decline("path.none", "there is no way in that a rule or a service could open");
        return Decision::Refuse(draft.declined);
    }
    for demand in &intent.demands {
        draft.left_open(demand);
    }
    let lacks =
        |gate: Gate| intent.demands.iter().any(|d| lacking(d) && matches!(d.at(gate), Standing::Lacking { .. }));
    let places = [
        (Gate::Firewall, policy.firewall.mode, "the firewall"),
        (Gate::Wrappers, policy.wrappers.mode, "TCP wrappers"),
        (Gate::Listener, policy.sshd.mode, "sshd"),
    ];
    for (gate, mode, name) in places {
        match (lacks(gate), mode, gate) {
            (false, ..) | (_, Mode::Off, _) => {}
            (_, Mode::Report, _) => {
                draft.decline(gate_code(gate), &format!("the policy wants {name} to be reported, not repaired"));
            }
            (_, Mode::Repair, Gate::Firewall) if snapshot.at_rest => persist::mend(policy, snapshot, id, &mut draft),
            (_, Mode::Repair, Gate::Firewall) => firewall::mend(policy, snapshot, judgement, id, &mut draft),
            (_, Mode::Repair, Gate::Wrappers) => wrappers::mend(policy, snapshot, judgement, id, &mut draft),
            (_, Mode::Repair, _) => sshd::mend(policy, snapshot, judgement, id, &mut draft),
        }
    }
    if policy.sshd.mode == Mode::Repair && policy.sshd.persist && !lacks(Gate::Listener) {
        sshd::mend(policy, snapshot, judgement, id, &mut draft);
    }
    if draft.steps.is_empty() {
        resources::mend(policy, snapshot, &mut draft);
    }
    if !draft.steps.is_empty() {
        return draft.repair(snapshot, id);
    }
    if intent.demands.iter().all(|d| d.whole == Standing::Met) {
        return last(policy, snapshot, id, draft);
    }
    if draft.declined.is_empty() {
        draft.decline("path.disjoint", "whom to let in past all the gates, only the policy's sources can say");
    }
    Decision::Refuse(draft.declined)
}

/// Clients get in now: what is left is the next boot, and what keeps people from logging in.
fn last(policy: &Policy, snapshot: &Snapshot, id: &str, mut draft: Draft) -> Decision {
    if policy.firewall.persist && policy.firewall.mode == Mode::Repair {
        persist::mend(policy, snapshot, id, &mut draft);
    }
    // Whose home it is can have it mended again and again: what comes of that holds back nothing else.
    if draft.steps.is_empty() {
        sshd::logins::mend(policy, snapshot, &mut draft);
    }
    match (draft.steps.is_empty(), draft.declined.is_empty()) {
        (true, true) => Decision::Healthy,
        (true, false) => Decision::Refuse(draft.declined),
        _ => draft.repair(snapshot, id),
    }
}

/// Says in each finding whether a repair would mend it, and how.
pub fn annotate(judgement: &mut Judgement, decision: &Decision) {
    let Decision::Repair(plan) = decision else { return };
    for finding in &mut judgement.findings {
        if let Some(step) = plan.steps.iter().find(|step| mends(step, finding)) {
            finding.mendable = true;
            finding.mend = Some(step.words().join("; "));
        }
    }
}

/// Whether the step is what a finding calls for.
pub fn mends(step: &Step, finding: &Finding) -> bool {
    let code = finding.code;
    let evidence = |key: &str| finding.evidence.get(key).and_then(|value| value.as_str());
    match (code, step) {
        ("boot.firewall.drop", Step::Persist { path, .. }) => return evidence("file") == path.to_str(),
        ("boot.firewall.drop", Step::UfwAllow { .. }) => return evidence("unit") == Some("ufw.service"),
        ("resources.disk.full" | "resources.disk.inodes", Step::FreeReserve { disk, .. }) => {
            return evidence("mount_point") == disk.to_str();
        }
        (CONNTRACK_FULL, Step::RaiseConntrack { .. }) => return true,
        ("sshd.logins.mode", Step::KeepWritersOut { account, .. }) => return evidence("account") == Some(account),
        ("boot.firewalld.lost", Step::FirewalldAllow { zone, .. }) => return evidence("zone") == Some(zone),
        _ => {}
    }
    let critical = finding.severity == crate::judge::Severity::Critical;
    if finding.severity == crate::judge::Severity::Info || !(critical || code.starts_with("sshd.")) {
        return false;
    }
    let named = || finding.evidence.get("name").and_then(|n| n.as_str());
    match step {
        Step::WriteFile { path, .. } if path.starts_with("/etc/systemd") => code == "sshd.socket.listen",
        Step::WriteFile { path, .. } if is_of_wrappers(path) => code.starts_with("wrappers."),
        // sshd's configuration may include files from anywhere.
        Step::WriteFile { .. } => code.starts_with("sshd.config."),
        Step::ListenBySocket { .. } => code.starts_with("sshd.listener.") || code == "sshd.socket.listen",
        Step::StartUnit { unit, .. } => code == "sshd.listener.none" || (critical && named() == Some(unit)),
        Step::ContinueProcess { .. } => matches!(code, "sshd.listener.stopped" | "sshd.process.stopped"),
        Step::ThawUnit { .. } => code == "sshd.listener.frozen",
        Step::RestartUnit { .. } => {
            matches!(
                code,
                "sshd.listener.wedged" | "sshd.listener.frozen" | "sshd.listener.stopped" | "sshd.process.stopped"
            )
        }
        Step::ReloadUnit { .. } => critical && code.starts_with("sshd.listener."),
        Step::EmergencySshd { .. } => code == "sshd.listener.none",
        Step::EnableUnit { .. } => code == "sshd.unit.disabled" || (critical && code == "sshd.listener.none"),
        Step::MakeKeys { .. } => code == "sshd.keys.missing",
        Step::SetMode { path, .. } if path.starts_with("/etc/ssh") => code == "sshd.keys.mode",
        Step::SetMode { .. } => code == "sshd.privsep.mode",
        Step::MakeFolder { path, .. } if path.starts_with("/etc/systemd") => code == "sshd.socket.listen",
        Step::MakeFolder { .. } => code == "sshd.privsep.missing",
        Step::MakeUser { .. } => code == "sshd.user.missing",
        Step::Nft { table, .. } | Step::Iptables { table, .. } => {
            let place = finding.evidence.get("by").and_then(|by| by.get("where")).and_then(|w| w.as_str());
            finding.code.starts_with("firewall.")
                && place.is_some_and(|place| place.split(' ').nth(1) == Some(table.as_str()))
        }
        Step::FreeReserve { .. } | Step::KeepWritersOut { .. } | Step::RaiseConntrack { .. } => false,
        _ => finding.code.starts_with("firewall."),
    }
}

pub(crate) fn is_of_wrappers(path: &std::path::Path) -> bool {
    ["/etc/hosts.allow", "/etc/hosts.deny"].iter().any(|name| path == std::path::Path::new(name))
}

fn lacking(demand: &Demand) -> bool {
    matches!(demand.whole, Standing::Lacking { .. })
}

fn gate_code(gate: Gate) -> &'static str {
    match gate {
        Gate::Wrappers => "wrappers.deny",
        Gate::Listener => "sshd.listener.none",
        _ => "firewall.drop",
    }
}

/// A plan in the making.
#[derive(Debug, Default)]
struct Draft {
    steps: Vec<Step>,
    /// Steps of which it must be known what sshd says to them before there can be a plan.
    question: Option<Vec<Step>>,
    declined: Vec<Declined>,
}

impl Draft {
    /// A repair has to be written down, and that takes room on the disk of its records.
    fn repair(self, snapshot: &Snapshot, id: &str) -> Decision {
        let resources = &snapshot.resources;
        let room = resources.reserve.iter().filter(|reserve| is_full(&reserve.disk)).map(|reserve| {
            // As the finding names it.
            let named = resources.disks.iter().find(|disk| disk.device == reserve.disk.device);
            Step::FreeReserve { bytes: reserve.bytes, disk: named.unwrap_or(&reserve.disk).mount_point.clone() }
        });
        let steps = room.chain(self.steps).collect();
        Decision::Repair(Plan { id: id.to_owned(), steps, declined: self.declined })
    }

    fn decline(&mut self, code: &str, why: &str) {
        let declined = Declined { code: code.to_owned(), why: why.to_owned() };
        if !self.declined.contains(&declined) {
            self.declined.push(declined);
        }
    }

    fn left_open(&mut self, demand: &Demand) {
        match &demand.whole {
            Standing::LeftAlone => self.decline(
                "firewall.family",
                &format!(
                    "nobody gets in by {}, and the other family is restricted to some: whom to let in, only the policy's sources can say",
                    demand.family
                ),
            ),
            Standing::Unknown { sources } => self.decline(
                "path.unknown",
                &format!("whether {sources} can connect by {} is not known, and nothing is changed on a guess", demand.family),
            ),
            Standing::Met | Standing::Lacking { .. } => {}
        }
    }
}

#[cfg(test)]
mod scenes;
#[cfg(test)]
mod tests;
