//! `ssh-rescue history`

use clap::Args;
use serde_json::json;

use super::disk::Disk;
use super::screen::{Tone, clean};
use super::{CliError, Context, Status};
use crate::plan::words;
use crate::record::{self, Entry, Phase, StateDir, history};

#[derive(Debug, Args)]
pub struct History {
    #[command(flatten)]
    disk: Disk,
}

impl History {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let host = self.disk.host(context)?;
        show(context, history(&host, &StateDir::of(&host))?)
    }
}

fn show(context: &Context, history: record::History) -> Result<Status, CliError> {
    if context.json {
        let unreadable = history.unreadable.iter().map(|(id, error)| json!({"id": id, "error": crate::chain(error)}));
        let unreadable: Vec<_> = unreadable.collect();
        context.machine(&json!({"repairs": history.entries, "unreadable": unreadable}))?;
        return Ok(Status::Ok);
    }
    let mut out = String::new();
    for entry in &history.entries {
        out.push_str(&lines(context, entry));
    }
    for (id, error) in &history.unreadable {
        out.push_str(&format!("{}  unreadable: {}\n", clean(id), clean(&crate::chain(error))));
    }
    if out.is_empty() {
        out.push_str("Nothing was ever repaired on this host.\n");
    }
    context.people(&out)?;
    Ok(Status::Ok)
}

fn lines(context: &Context, entry: &Entry) -> String {
    let (tone, phase) = match entry.phase {
        Phase::Confirmed => (Tone::Good, "in force"),
        Phase::RolledBack => (Tone::Faint, "did not help, taken back"),
        Phase::Undone => (Tone::Faint, "undone"),
        Phase::Intent | Phase::Applied => (Tone::Warn, "cut short"),
        Phase::Failed => (Tone::Bad, "cut short, and not taken back whole"),
    };
    let id = clean(&entry.id);
    let mut out = format!("{id}  {}\n    before  {}\n", context.screen.tone(tone, phase), clean(&entry.before));
    for act in words(&entry.plan.steps) {
        out.push_str(&format!("    mend    {act}\n"));
    }
    if let Some(after) = &entry.after {
        out.push_str(&format!("    after   {}\n", clean(after)));
    }
    if let Some(note) = &entry.note {
        out.push_str(&format!("    note    {}\n", clean(note)));
    }
    out
}
