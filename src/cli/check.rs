//! `ssh-rescue check`

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::ask::Agent;
use super::disk::{self, Disk};
use super::ruleset::{About, Ruleset, Way};
use super::screen::{Screen, Tone, clean, wrap};
use super::{CliError, Context, Status, report};
use crate::host::Host;
use crate::judge::{Judgement, Verdict, judge_ruleset};
use crate::record::{Hold, StateDir};
use crate::{pass, plan};

#[derive(Debug, Args)]
#[command(mut_arg("to", |to| to.requires("file")), mut_arg("root", |root| root.conflicts_with("file")))]
pub struct Check {
    #[command(flatten)]
    ruleset: Ruleset,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    disk: Disk,
}

/// A judgement of this host.
#[derive(Serialize)]
struct OfHost<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    disk: Option<&'a disk::About>,
    #[serde(flatten)]
    judgement: &'a Judgement,
    hold: Option<Hold>,
}

/// A judgement of a saved ruleset.
#[derive(Serialize)]
struct OfRuleset<'a> {
    ruleset: &'a About,
    #[serde(flatten)]
    judgement: &'a Judgement,
}

impl Check {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let host = self.disk.host(context)?;
        let policy = self.disk.policy(context, &host)?;
        let policy = self.way.narrow(policy);
        if let Some(loaded) = self.ruleset.load(context, &policy, &self.way)? {
            let judgement = judge_ruleset(&policy, &loaded.snapshot, loaded.paths);
            return of_ruleset(context, &loaded.about, &judgement);
        }
        // The agent knows the policy's ways alone.
        let plain = self.disk.root.is_none()
            && context.policy.is_none()
            && self.way.port.is_none()
            && self.way.interface.is_none();
        if let Some(mut agent) = plain.then(Agent::reach).flatten()
            && let Ok(answer) = agent.call("Check", &json!({"color": context.screen.is_rich()}))
        {
            return context.told(&answer);
        }
        context.outwait(&host, &policy);
        let (judgement, decision) = pass::check(&host, &policy);
        let disk = disk::About::of(&host, &judgement);
        let hold = StateDir::of(&host).hold(&host).ok().flatten();
        if context.json {
            context.machine(&OfHost { disk: disk.as_ref(), judgement: &judgement, hold })?;
        } else {
            context.people(&told(context.screen, &judgement, &decision, hold.as_ref(), disk.as_ref()))?;
        }
        Ok(Status::of(judgement.verdict))
    }
}

/// A judgement of this host for people.
pub fn words(judgement: &Judgement, decision: &plan::Decision, rich: bool) -> String {
    // Without root nobody may look; then the agent says it.
    let hold = StateDir::default().hold(&Host::live()).ok().flatten();
    told(Screen::of_client(rich), judgement, decision, hold.as_ref(), None)
}

fn told(
    screen: Screen,
    judgement: &Judgement,
    decision: &plan::Decision,
    hold: Option<&Hold>,
    disk: Option<&disk::About>,
) -> String {
    let mut out = report::headline(screen, judgement);
    if let Some(disk) = disk {
        out.push_str(&wrap(&disk.words(), 0, 2));
    }
    if let Some(hold) = hold {
        out.push_str(&wrap(&format!("{}: {}", screen.tone(Tone::Warn, "HOLD"), clean(&hold.words())), 0, 2));
    }
    out.push_str(&advice(decision));
    out.push_str(&report::details(screen, judgement));
    out.push_str(&report::elsewhere(judgement));
    out
}

fn of_ruleset(context: &Context, about: &About, judgement: &Judgement) -> Result<Status, CliError> {
    if context.json {
        context.machine(&OfRuleset { ruleset: about, judgement })?;
    } else {
        let mut out = report::headline(context.screen, judgement);
        out.push_str(&wrap(&about.words(), 0, 2));
        out.push_str(&report::details(context.screen, judgement));
        context.people(&out)?;
    }
    Ok(Status::of(judgement.verdict))
}

/// What `repair` would do, or why it would do nothing.
fn advice(decision: &plan::Decision) -> String {
    match decision {
        plan::Decision::Healthy => String::new(),
        plan::Decision::Refuse(declined) => report::declined(declined),
        plan::Decision::Repair(plan) => {
            let acts = report::acts(&plan.steps);
            format!("`ssh-rescue repair` would:\n{acts}{}", report::declined(&plan.declined))
        }
    }
}

impl Status {
    pub fn of(verdict: Verdict) -> Status {
        match verdict {
            Verdict::Reachable => Status::Ok,
            Verdict::AtRisk => Status::Warning,
            Verdict::Blocked => Status::Critical,
            Verdict::Unknown => Status::Unknown,
        }
    }
}
