//! `ssh-rescue repair`

use clap::Args;
use serde_json::json;

use super::ask::{Agent, AskError};
use super::disk::{About, Disk};
use super::screen::{Screen, Tone, clean, wrap};
use super::{CliError, Context, Status, report};
use crate::judge::Verdict;
use crate::judge::blame::turns_away;
use crate::pass::{self, Outcome, Report};
use crate::record::StateDir;
use crate::rehearse::Evidence;

#[derive(Debug, Args)]
pub struct Repair {
    /// Rehearse the repair, and stop before anything of this host is changed
    #[arg(long)]
    dry_run: bool,
    /// Do it in this process, also where an agent answers
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    disk: Disk,
}

impl Repair {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let host = self.disk.host(context)?;
        let policy = self.disk.policy(context, &host)?;
        let live = self.disk.root.is_none();
        if let Some(mut agent) = (live && context.policy.is_none() && !self.alone).then(Agent::reach).flatten() {
            let asked = json!({"dry_run": self.dry_run, "color": context.screen.is_rich()});
            match agent.call("Repair", &asked) {
                Ok(answer) => return context.told(&answer),
                // Whom the agent lets not, but is root all the same, is no worse off than without an agent.
                Err(error @ (AskError::Denied | AskError::Refused(_))) if !context.host.privileged() => {
                    return Err(error.into());
                }
                Err(_) => {}
            }
        }
        context.outwait(&host, &policy);
        let report = pass::repair(&host, &StateDir::of(&host), &policy, self.dry_run)?;
        if context.json {
            context.machine(&report)?;
        } else {
            let about = About::of(&host, &report.before);
            context.people(&told(&report, self.dry_run, context.screen.is_rich(), about.as_ref()))?;
        }
        Ok(Status::of(report.after.as_ref().unwrap_or(&report.before).verdict))
    }
}

/// What came of a repair, for people.
pub fn words(report: &Report, dry_run: bool, rich: bool) -> String {
    told(report, dry_run, rich, None)
}

/// The same, of this host or of a disk.
fn told(report: &Report, dry_run: bool, rich: bool, disk: Option<&About>) -> String {
    let screen = Screen::of_client(rich);
    let now = report.after.as_ref().unwrap_or(&report.before);
    let (tone, word, what) = match report.outcome {
        Outcome::Healthy => (Tone::Good, "HEALTHY", "nothing had to be changed"),
        Outcome::Repaired if report.before.verdict == Verdict::AtRisk => {
            match report.before.findings.iter().any(turns_away) {
                true => (Tone::Good, "REPAIRED", "what may have kept clients out is mended"),
                false => (Tone::Good, "REPAIRED", "clients could connect, and will go on to"),
            }
        }
        Outcome::Repaired if disk.is_some() => (Tone::Good, "REPAIRED", "clients can connect after the next boot"),
        Outcome::Repaired => (Tone::Good, "REPAIRED", "clients can connect again"),
        Outcome::Refused if dry_run && report.plan.is_some() => {
            (Tone::Warn, "DRY RUN", "nothing was changed; the repair works on a copy")
        }
        Outcome::Refused => (Tone::Bad, "NOT REPAIRED", "nothing was changed"),
        Outcome::Blocked if now.verdict != Verdict::Blocked => (Tone::Bad, "NOT REPAIRED", "the repair failed"),
        Outcome::Blocked if report.error.is_some() => (Tone::Bad, "STILL BLOCKED", "the repair failed"),
        Outcome::Blocked => (Tone::Bad, "STILL BLOCKED", "what was done did not suffice"),
        Outcome::Unknown => (Tone::Warn, "UNKNOWN", "nothing was changed"),
        Outcome::RolledBack => (Tone::Bad, "ROLLED BACK", "the repair did not help and was taken back"),
    };
    let mut out = format!("{}: {what}\n", screen.tone(tone, word));
    if let Some(disk) = disk {
        out.push_str(&wrap(&disk.words(), 0, 2));
    }
    let undo = disk.map_or_else(|| "ssh-rescue undo".to_owned(), About::undo);
    if let Some(error) = &report.error {
        out.push_str(&wrap(&format!("why: {}", clean(error)), 0, 5));
    }
    if report.after.is_some() {
        out.push_str(&wrap(&format!("before: {}", clean(&report.before.sentence)), 0, 8));
        out.push_str(&wrap(&format!("now:    {}", clean(&now.sentence)), 0, 8));
    } else {
        out.push_str(&wrap(&clean(&now.sentence), 0, 2));
    }
    for round in &report.earlier {
        out.push_str(&format!("\ndone, and undone by `{undo} {}`:\n", round.id));
        out.push_str(&report::acts(&round.plan.steps));
    }
    if let Some(plan) = &report.plan {
        let done = report.id.as_ref().map_or_else(
            || if dry_run { "would:".to_owned() } else { "tried:".to_owned() },
            |id| format!("done, and undone by `{undo} {id}`:"),
        );
        out.push_str(&format!("\n{done}\n{}", report::acts(&plan.steps)));
    }
    if let Some(evidence) = &report.evidence {
        out.push_str(&rehearsal(evidence));
    }
    out.push_str(&report::declined(&report.declined));
    for recovered in &report.recovered {
        out.push_str(&wrap(&format!("repair {}: {}", clean(&recovered.id), clean(&recovered.note)), 0, 2));
    }
    out.push_str(&report::details(screen, now));
    out.push_str(&report::elsewhere(now));
    out
}

fn rehearsal(evidence: &Evidence) -> String {
    let mut out = String::new();
    if let Some(why) = &evidence.unrehearsed {
        out.push_str(&wrap(&format!("not rehearsed: {}", clean(why)), 0, 2));
    } else if evidence.probes > 0 {
        let Evidence { probes, milliseconds, .. } = evidence;
        out.push_str(&format!("rehearsed on a copy of the rules with {probes} packets in {milliseconds} ms\n"));
    }
    for line in evidence.missing.iter().map(|m| format!("not in the copy: {m}")).chain(evidence.untried.iter().cloned())
    {
        out.push_str(&wrap(&clean(&line), 0, 2));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::fixture::healthy;
    use crate::judge::{Judgement, judge};
    use crate::policy::Policy;

    fn first_lines(verdict: Verdict, error: Option<&str>) -> Vec<String> {
        let before = Judgement { verdict, ..judge(&Policy::default(), &healthy()) };
        let report = Report {
            outcome: Outcome::Blocked,
            before,
            after: None,
            plan: None,
            declined: Vec::new(),
            evidence: None,
            id: None,
            error: error.map(str::to_owned),
            earlier: Vec::new(),
            recovered: Vec::new(),
        };
        words(&report, false, false).lines().take(2).map(str::to_owned).collect()
    }

    /// A dry run that could not ask the kernel said that what was done did not suffice.
    #[test]
    fn a_repair_that_failed_says_why_and_calls_nobody_blocked_who_gets_in() {
        let why = "why: ask the kernel: Invalid argument";
        let failed = |verdict| first_lines(verdict, why.strip_prefix("why: "));
        assert_eq!(failed(Verdict::AtRisk), ["NOT REPAIRED: the repair failed", why]);
        assert_eq!(failed(Verdict::Blocked), ["STILL BLOCKED: the repair failed", why]);
        assert_eq!(first_lines(Verdict::Blocked, None)[0], "STILL BLOCKED: what was done did not suffice");
    }
}
