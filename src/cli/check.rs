//! `ssh-rescue check`

use super::{CliError, Context, Status, report};
use crate::judge::{Judgement, Verdict};
use crate::{pass, plan};

pub fn run(context: &Context) -> Result<Status, CliError> {
    let (policy, _) = context.policy()?;
    let (judgement, decision) = pass::check(&context.host, &policy);
    if context.json {
        context.machine(&judgement)?;
    } else {
        let mut out = report::headline(context.screen, &judgement);
        out.push_str(&advice(&decision));
        out.push_str(&report::details(context.screen, &judgement));
        context.people(&out)?;
    }
    Ok(Status::of(&judgement))
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
    pub fn of(judgement: &Judgement) -> Status {
        match judgement.verdict {
            Verdict::Reachable => Status::Ok,
            Verdict::AtRisk => Status::Warning,
            Verdict::Blocked => Status::Critical,
            Verdict::Unknown => Status::Unknown,
        }
    }
}
