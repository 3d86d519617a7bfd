//! Bringing sshd up: what its files, keys, folder and user lack, where it is to listen, and its unit.
//!
//! What sshd would say to an edited file only sshd knows. So the planner works by question and answer: it asks what sshd
//! says if some steps were made, and the answers stand in the snapshot ([`crate::facts::Trial`]), each in the place of its
//! question.

mod config;
mod emergency;
mod files;
mod listen;
pub(super) mod logins;
mod socket;
mod standstill;
#[cfg(test)]
mod tests;
mod unit;

use super::{Draft, Step};
use crate::facts::{ConfigTest, Seen, Settings, Snapshot, SocketOwner, TextFile, Trial, escape};
use crate::judge::{Demand, Intent, Judgement, Standing};
use crate::policy::{Mode, Policy};

/// Questions that one plan may ask: sshd stops at the first mistake of a kind, and each is one question.
const QUESTIONS: usize = 24;

/// Why there is no plan: the finding's code, and a reason.
type No = (&'static str, String);

/// Plans for demands that nobody serves, or, where all are served and the policy wants it, for the next start.
pub fn mend(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement, id: &str, draft: &mut Draft) {
    let intent = Intent::of(policy, snapshot, &judgement.gates);
    let lacking = |d: &&Demand| matches!(d.listener, Standing::Lacking { .. });
    let lacking: Vec<&Demand> = intent.demands.iter().filter(lacking).collect();
    let mut attempt = Attempt {
        policy,
        snapshot,
        judgement,
        id,
        steps: Vec::new(),
        config: snapshot.sshd.files.config.clone(),
        replaced: Vec::new(),
        notes: Vec::new(),
        asked: 0,
        question: None,
    };
    let result = match (lacking.is_empty(), policy.sshd.persist) {
        (false, _) => attempt.serve(&lacking),
        (true, true) => attempt.last(),
        (true, false) => Ok(()),
    };
    draft.question = attempt.question.take();
    match result {
        Ok(()) => {
            draft.steps.extend(attempt.steps);
            for (code, why) in attempt.notes {
                draft.decline(code, &why);
            }
        }
        Err((code, why)) => {
            draft.decline(code, &why);
            if policy.sshd.emergency && !lacking.is_empty() && draft.question.is_none() && attempt.is_forsaken(code) {
                match attempt.emergency() {
                    Ok(step) => draft.steps.push(step),
                    Err((code, why)) => draft.decline(code, &why),
                }
            }
        }
    }
}

/// What must be asked of sshd before there can be a plan.
pub fn question(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement, id: &str) -> Option<Vec<Step>> {
    if policy.sshd.mode != Mode::Repair {
        return None;
    }
    let mut draft = Draft::default();
    mend(policy, snapshot, judgement, id, &mut draft);
    draft.question
}

/// A plan in the making, with sshd's files as they would be.
struct Attempt<'a> {
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    judgement: &'a Judgement,
    id: &'a str,
    steps: Vec<Step>,
    config: Vec<TextFile>,
    /// Main files that were put in the place of the admin's, and not taken either.
    replaced: Vec<Vec<u8>>,
    /// What is left as it is.
    notes: Vec<No>,
    asked: usize,
    question: Option<Vec<Step>>,
}

impl Attempt<'_> {
    fn serve(&mut self, lacking: &[&Demand]) -> Result<(), No> {
        self.is_allowed()?;
        if let Some(why) = &self.snapshot.sshd.start_failed {
            return Err(("sshd.unit.failed", why.clone()));
        }
        if self.set_going(lacking)? {
            return Ok(());
        }
        let settings = self.ready()?;
        if let Some(settings) = settings {
            let lacking: Vec<_> = lacking.iter().flat_map(|d| &d.paths).collect();
            self.listen(&settings, &lacking)?;
        }
        let lacking: Vec<usize> = lacking.iter().flat_map(|d| d.paths.iter().copied()).collect();
        if !self.listen_by_socket(&lacking, true)? {
            self.start()?;
        }
        if self.policy.sshd.persist {
            self.enable();
        }
        Ok(())
    }

    /// Nothing is started or reloaded: it serves. The next start is what this is for.
    fn last(&mut self) -> Result<(), No> {
        if self.snapshot.sshd.not_to_be_run || self.snapshot.sshd.binary.present().is_none() {
            return Ok(());
        }
        if let Some(settings) = self.ready()? {
            let all: Vec<usize> = (0..self.judgement.gates.len()).collect();
            self.listen(&settings, &all.iter().collect::<Vec<_>>())?;
        }
        let all: Vec<usize> = (0..self.judgement.gates.len()).collect();
        self.listen_by_socket(&all, false)?;
        self.enable();
        Ok(())
    }

    fn is_allowed(&self) -> Result<(), No> {
        let ports = &self.policy.ssh.ports;
        let listeners = self.snapshot.listeners.present().into_iter().flatten().filter(|l| ports.contains(&l.port));
        let owners: Vec<&SocketOwner> = listeners.filter_map(|l| l.owners.present()).flatten().collect();
        if let Some(stranger) = owners.iter().find(|o| o.name != "sshd" && o.pid != 1) {
            let unit = stranger.unit.as_ref().map(|u| format!(" of {}", escape(u))).unwrap_or_default();
            let who = format!("{} (pid {}{unit})", escape(&stranger.name), stranger.pid);
            return Err(("sshd.listener.stranger", format!("{who} holds the port, and is not ended")));
        }
        if self.snapshot.sshd.not_to_be_run {
            let why = "/etc/ssh/sshd_not_to_be_run says that no sshd is to run, and its units do not start where it is";
            return Err(("sshd.not-to-be-run", why.to_owned()));
        }
        Ok(())
    }

    /// Whether nothing else can bring sshd up, and nobody's word stands against it.
    fn is_forsaken(&self, code: &str) -> bool {
        !matches!(
            code,
            "sshd.listener.stranger"
                | "sshd.listener.stopped"
                | "sshd.listener.frozen"
                | "sshd.listener.wedged"
                | "sshd.not-to-be-run"
                | "sshd.unit.masked"
                | "sshd.binary.missing"
        ) && self.snapshot.sshd.units.present().is_some()
            && !self.snapshot.at_rest
    }

    /// Adds what has to be done until `sshd -t` passes, one remedy after the other. The settings that are in force then.
    fn ready(&mut self) -> Result<Option<Settings>, No> {
        let sshd = &self.snapshot.sshd;
        let (mut test, mut settings) = (sshd.test.clone(), sshd.settings.present().cloned());
        loop {
            match &test {
                Seen::Present(test) if test.passed => return Ok(settings),
                Seen::Present(test) if self.is_made_at_start(test) && settings.is_some() => return Ok(settings),
                // On a copy the folder is made.
                Seen::Present(test) if self.is_made_at_start(test) => {}
                Seen::Present(test) => self.remedy(test)?,
                Seen::Absent => return Ok(settings),
                Seen::Unreadable(why) => {
                    return Err(("sshd.config.unreadable", format!("`sshd -t` gives no answer: {}", escape(why))));
                }
            }
            let trial = self.ask()?;
            (test, settings) = (trial.test.clone(), trial.settings.present().cloned());
        }
    }

    /// What sshd says when the steps so far are made.
    fn ask(&mut self) -> Result<&Trial, No> {
        if self.asked >= QUESTIONS {
            return Err(("sshd.config.invalid", format!("after {QUESTIONS} edits sshd still does not take its files")));
        }
        let answer = self.snapshot.sshd.trials.get(self.asked);
        self.asked += 1;
        answer.ok_or_else(|| {
            self.question = Some(self.steps.clone());
            ("sshd.config.invalid", "what sshd would say to the edit could not be tried on a copy".to_owned())
        })
    }

    /// Its unit makes /run/sshd when it starts (RuntimeDirectory=).
    fn is_made_at_start(&self, test: &ConfigTest) -> bool {
        let units = self.snapshot.sshd.units.present().is_some_and(|units| units.iter().any(|u| u.loaded()));
        let folder = |m: &String| m.contains("Missing privilege separation directory: /run/sshd");
        units && !test.messages.is_empty() && test.messages.iter().all(folder)
    }
}
