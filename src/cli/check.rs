//! `ssh-rescue check`

use clap::Args;
use serde::Serialize;

use super::ruleset::{About, Ruleset, Way};
use super::screen::wrap;
use super::{CliError, Context, Status, report};
use crate::judge::{Judgement, Verdict, judge_ruleset};
use crate::{pass, plan};

#[derive(Debug, Args)]
#[command(mut_arg("to", |to| to.requires("file")))]
pub struct Check {
    #[command(flatten)]
    ruleset: Ruleset,
    #[command(flatten)]
    way: Way,
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
        let (policy, _) = context.policy()?;
        let policy = self.way.narrow(policy);
        if let Some(loaded) = self.ruleset.load(context, &policy, &self.way)? {
            let judgement = judge_ruleset(&policy, &loaded.snapshot, loaded.paths);
            return of_ruleset(context, &loaded.about, &judgement);
        }
        let (judgement, decision) = pass::check(&context.host, &policy);
        if context.json {
            context.machine(&judgement)?;
        } else {
            let mut out = report::headline(context.screen, &judgement);
            out.push_str(&advice(&decision));
            out.push_str(&report::details(context.screen, &judgement));
            out.push_str(&report::elsewhere(&judgement));
            context.people(&out)?;
        }
        Ok(Status::of(judgement.verdict))
    }
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
