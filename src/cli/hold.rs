//! `ssh-rescue hold DURATION` and `ssh-rescue release`

use clap::Args;
use serde_json::{Value, json};

use super::ask::Agent;
use super::disk::Disk;
use super::screen::clean;
use super::{CliError, Context, Status};
use crate::host::Host;
use crate::policy::duration;
use crate::record::{Hold as Held, StateDir};

#[derive(Debug, Args)]
pub struct Hold {
    /// How long, such as 30m, 2h or 1d; at most 30 days
    #[arg(value_parser = seconds)]
    duration: u64,
    /// Why, for those who see it
    #[arg(long)]
    reason: Option<String>,
}

fn seconds(text: &str) -> Result<u64, String> {
    duration(text)
        .ok_or_else(|| "expected a duration from 1 second to 30 days, such as 90s, 30m, 1h30m or 2d".to_owned())
}

impl Hold {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let hold = match Agent::reach() {
            Some(mut agent) => {
                let mut answer = agent.call("Hold", &json!({"seconds": self.duration, "reason": self.reason}))?;
                serde_json::from_value(answer.get_mut("hold").map(Value::take).unwrap_or_default())?
            }
            None => self.by_hand(&context.host)?,
        };
        if context.json {
            context.machine(&json!({"hold": hold}))?;
        } else {
            context
                .people(&format!("Nothing is repaired: {}.\n`ssh-rescue release` ends it.\n", clean(&hold.words())))?;
        }
        Ok(Status::Ok)
    }

    /// Without an agent; one that starts later finds it.
    fn by_hand(&self, host: &Host) -> Result<Held, CliError> {
        if !host.privileged() {
            return Err(CliError::Root("a hold, where no agent answers,"));
        }
        let by = format!("user {}", nix::unistd::getuid());
        let hold = Held::new(self.duration, self.reason.as_deref(), by).ok_or(CliError::Long)?;
        StateDir::default().put_on_hold(host, &hold)?;
        Ok(hold)
    }
}

#[derive(Debug, Args)]
pub struct Release {
    #[command(flatten)]
    disk: Disk,
}

impl Release {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let host = self.disk.host(context)?;
        // The agent of this host knows nothing of a disk.
        let agent = if host.mounted_at().is_none() { Agent::reach() } else { None };
        let released = match agent {
            Some(mut agent) => {
                agent.call("Release", &json!({}))?.get("released").and_then(Value::as_bool) == Some(true)
            }
            None if !host.privileged() => return Err(CliError::Root("the end of a hold, where no agent answers,")),
            None => StateDir::of(&host).release(&host)?,
        };
        if context.json {
            context.machine(&json!({"released": released}))?;
        } else {
            context.people(if released { "The hold is over.\n" } else { "There was no hold.\n" })?;
        }
        Ok(Status::Ok)
    }
}
