//! `ssh-rescue undo ID`

use clap::Args;
use serde_json::json;

use super::disk::Disk;
use super::{CliError, Context, Status};
use crate::plan::words;
use crate::record::{Phase, StateDir, Undone, undo};

#[derive(Debug, Args)]
pub struct Undo {
    /// The repair's id, as `history` lists it
    id: String,
    #[command(flatten)]
    disk: Disk,
}

impl Undo {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let host = self.disk.host(context)?;
        let undone = undo(&host, &StateDir::of(&host), &self.id)?;
        if context.json {
            let phase = match &undone {
                Undone::TakenBack(entry) => entry.phase,
                Undone::Already(phase) => *phase,
            };
            let changed = matches!(undone, Undone::TakenBack(_));
            context.machine(&json!({"id": self.id, "phase": phase, "changed": changed}))?;
            return Ok(Status::Ok);
        }
        let text = match undone {
            Undone::TakenBack(entry) => {
                let acts: Vec<String> = words(&entry.plan.steps).iter().map(|act| format!("    {act}\n")).collect();
                format!("Repair {} is taken back. It had been to\n{}", self.id, acts.concat())
            }
            Undone::Already(Phase::Undone) => {
                format!("Repair {} was taken back before: nothing is changed.\n", self.id)
            }
            Undone::Already(_) => {
                format!("Repair {} did not help and was taken back at once: nothing is changed.\n", self.id)
            }
        };
        context.people(&text)?;
        Ok(Status::Ok)
    }
}
