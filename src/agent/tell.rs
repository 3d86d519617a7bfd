//! Whom the core tells what has changed: the journal, systemd, the console, files, and readers at the socket.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use super::STATUS_FILE;
use super::core::Core;
use super::journal::Event;
use crate::chain;
use crate::judge::{Judgement, Verdict};
use crate::pass::{Outcome, Report};
use crate::record::{Recovered, Trigger};

impl Core {
    pub(super) fn seen(&mut self, judgement: &Judgement, trigger: Option<&Trigger>) {
        let before = self.status.borrow().verdict;
        let words = trigger.map(|t| t.what.as_str());
        let mut changed = false;
        self.status.send_modify(|status| changed = status.see(judgement, words));
        if changed {
            self.tell(judgement, words, before != Some(judgement.verdict));
        }
    }

    fn tell(&self, judgement: &Judgement, trigger: Option<&str>, another: bool) {
        let good = matches!(judgement.verdict, Verdict::Reachable | Verdict::AtRisk);
        let event = if good { Event::Open } else { Event::Shut };
        let because = trigger.map(|t| format!(" ({t})")).unwrap_or_default();
        let message = format!("{}{because}", judgement.sentence);
        let fields =
            [("SSH_RESCUE_VERDICT", word(&judgement.verdict)), ("SSH_RESCUE_SYMPTOM", word(&judgement.symptom))];
        let mut fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fields.extend(trigger.map(|t| ("SSH_RESCUE_TRIGGER", t)));
        let code = judgement.findings.first().map(|f| f.code);
        fields.extend(code.map(|code| ("SSH_RESCUE_FINDING", code)));
        self.journal.say(event, &message, &fields);
        if another && self.policy.borrow().report.console {
            console(&message);
        }
    }

    pub(super) fn repaired(&mut self, report: &Report, trigger: Option<Trigger>) {
        self.seen(&report.before, trigger.as_ref());
        if let Some(after) = &report.after {
            self.seen(after, trigger.as_ref());
        }
        // Nothing was done, or only for show.
        if report.plan.is_none() || (report.id.is_none() && report.error.is_none()) {
            return;
        }
        self.status.send_modify(|status| status.repaired(report, trigger.clone()));
        let acts = report.plan.as_ref().map(|p| crate::plan::words(&p.steps).join("; ")).unwrap_or_default();
        let id = report.id.as_deref().unwrap_or("none");
        let because = trigger.as_ref().map(|t| format!(" ({})", t.what)).unwrap_or_default();
        let fields = [("SSH_RESCUE_REPAIR", id), ("SSH_RESCUE_ACTS", &acts)];
        match (report.outcome, &report.error) {
            (Outcome::Repaired, _) => {
                self.journal.say(Event::Repaired, &format!("repaired{because}: {acts}"), &fields);
            }
            (_, error) => {
                let error = error.as_deref().unwrap_or("it did not suffice");
                self.journal.say(Event::Failed, &format!("not repaired{because}: {error}; tried to {acts}"), &fields);
            }
        }
    }

    pub(super) fn recovered(&mut self, recovered: Result<Vec<Recovered>, String>) {
        match recovered {
            Ok(all) => {
                for one in all {
                    let words = format!("repair {}: {}", one.id, one.note);
                    self.journal.say(Event::Failed, &words, &[("SSH_RESCUE_REPAIR", &one.id)]);
                }
            }
            Err(error) => {
                self.journal.say(Event::Failed, &format!("look for repairs that were cut short: {error}"), &[])
            }
        }
    }

    pub(super) fn policy_mistake(&self, error: &str) {
        let words = format!("the policy has a mistake, and nothing is repaired until it is mended: {error}");
        self.journal.say(Event::Policy, &words, &[]);
    }

    /// The hold on record is the one that is shown.
    pub(super) fn hold(&mut self) {
        let hold = match self.setup.state.hold(&self.setup.host) {
            Ok(hold) => hold,
            Err(error) => return self.journal.say(Event::Hold, &chain(&error), &[]),
        };
        let was = self.status.borrow().hold.clone();
        if hold != was {
            let words = hold.as_ref().map_or_else(|| "the hold is over".to_owned(), |hold| hold.words());
            self.journal.say(Event::Hold, &words, &[]);
            self.status.send_modify(|status| status.hold = hold);
        }
    }

    /// What systemd, files and readers at the socket are shown.
    pub(super) fn publish(&mut self) {
        let status = self.status.borrow().clone();
        self.notify.status(&status.line());
        if let Ok(mut text) = serde_json::to_vec_pretty(&status) {
            text.push(b'\n');
            // Whoever reads it sees by `looked` that it is old.
            let _ = self.setup.host.publish(self.setup.state.run(), STATUS_FILE, &text);
        }
        let folder = self.policy.borrow().report.metrics.clone();
        let (Some(folder), metrics) = (folder, status.metrics()) else { return };
        if metrics != self.metrics {
            if let Err(error) = self.setup.host.publish(&folder, "ssh-rescue.prom", metrics.as_bytes()) {
                self.journal.say(Event::Deaf, &format!("write the metrics: {}", chain(&error)), &[]);
            }
            self.metrics = metrics;
        }
    }
}

/// The word that a value has in JSON.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Says it where somebody at the machine itself sees it; a console that does not take it is not waited for.
fn console(message: &str) {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    if let Ok(mut console) = std::fs::OpenOptions::new().write(true).custom_flags(flags).open("/dev/console") {
        let line: String = message.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).collect();
        let _ = write!(console, "\r\nssh-rescue: {line}\r\n");
    }
}
