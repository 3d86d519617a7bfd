//! `ssh-rescue drill`

use clap::Args;
use serde_json::json;

use super::{CliError, Context, Status};
use crate::rehearse::drill::{LOCKOUTS, apart, drill, table};

#[derive(Debug, Args)]
pub struct Drill {
    /// The part that runs apart from the live host; `drill` itself starts it
    #[arg(long, hide = true)]
    apart: bool,
}

impl Drill {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        if self.apart {
            apart(&context.host)?;
            return Ok(Status::Ok);
        }
        if !context.host.privileged() {
            return Err(CliError::Root("a drill"));
        }
        let mut number = 0;
        let mut broken = Ok(());
        if !context.json {
            context.people(&format!("Locking scratch hosts out in {} ways, and rescuing them.\n\n", LOCKOUTS.len()))?;
        }
        let drill = drill(&context.host, &["drill", "--apart"], |row| {
            number += 1;
            if !context.json && broken.is_ok() {
                broken = context.people(&format!("{}\n", table::lines(number, row)));
            }
        })?;
        broken?;
        if context.json {
            context.machine(&json!({"passed": drill.passed(), "rows": drill.rows, "touched": drill.touched}))?;
        } else {
            context.people(&table::table(&drill))?;
        }
        Ok(if drill.passed() { Status::Ok } else { Status::Warning })
    }
}
