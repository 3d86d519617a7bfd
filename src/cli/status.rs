//! `ssh-rescue status`

use serde_json::{Value, json};

use super::ask::Agent;
use super::screen::{Tone, clean, wrap};
use super::{CliError, Context, Status};
use crate::agent::STATUS_FILE;
use crate::record::{Hold, StateDir};

pub fn run(context: &Context) -> Result<Status, CliError> {
    let answered = Agent::reach().and_then(|mut agent| agent.call("Status", &json!({})).ok());
    let alive = answered.is_some();
    let state = StateDir::default();
    let status = match answered {
        Some(mut answer) => answer.get_mut("status").map(Value::take).unwrap_or_default(),
        // What it had written before it ended.
        None => left(context, &state),
    };
    if context.json {
        context.machine(&json!({"agent": alive, "status": status}))?;
    } else {
        context.people(&words(context, &status, alive))?;
    }
    Ok(if alive { Status::of_word(text(&status, "verdict")) } else { Status::Unknown })
}

fn left(context: &Context, state: &StateDir) -> Value {
    let bytes = context.host.read(&state.run().join(STATUS_FILE)).unwrap_or_default();
    let mut status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    // A hold is kept also while no agent runs.
    if let (Ok(hold), Some(members)) = (state.hold(&context.host), status.as_object_mut()) {
        members.insert("hold".to_owned(), json!(hold));
    } else if let Ok(Some(hold)) = state.hold(&context.host) {
        status = json!({"hold": hold});
    }
    status
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn words(context: &Context, status: &Value, alive: bool) -> String {
    let screen = context.screen;
    let mut out = String::new();
    if !alive {
        out.push_str(&screen.tone(Tone::Bad, "NO AGENT"));
        out.push_str(": it does not answer; `ssh-rescue check` and `repair` work without it\n");
    }
    let (tone, word) = match Status::of_word(text(status, "verdict")) {
        Status::Ok => (Tone::Good, "OK"),
        Status::Warning => (Tone::Warn, "WARNING"),
        Status::Critical => (Tone::Bad, "BLOCKED"),
        Status::Unknown => (Tone::Warn, "UNKNOWN"),
    };
    if !text(status, "sentence").is_empty() {
        let line = wrap(&format!("{word}: {}", clean(text(status, "sentence"))), 0, 2);
        out.push_str(&format!("{}{}", screen.tone(tone, word), line.get(word.len()..).unwrap_or_default()));
    }
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            out.push_str(&wrap(&format!("{name:<13}{}", clean(value)), 2, 15));
        }
    };
    let policy = status.get("policy").cloned().unwrap_or_default();
    line("since", text(status, "since"));
    line("looked", text(status, "looked"));
    line("woken by", text(status, "woken_by"));
    line("policy", text(&policy, "source"));
    let hold: Option<Hold> = status.get("hold").and_then(|hold| serde_json::from_value(hold.clone()).ok());
    line("hold", &hold.map(|hold| hold.words()).unwrap_or_default());
    line("stopped", text(status, "stopped"));
    line("waiting", text(status, "waiting"));
    if let Some(repair) = status.get("last_repair").filter(|repair| repair.is_object()) {
        let why = repair.get("trigger").map(|trigger| text(trigger, "what")).unwrap_or_default();
        let parts = [text(repair, "id"), text(repair, "outcome"), text(repair, "at"), why, text(repair, "error")];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        line("last repair", &parts.join(", "));
    }
    let error = text(&policy, "error");
    if !error.is_empty() {
        out.push_str("\nNothing is repaired until the policy is mended:\n\n");
        // Its lines and their carets stay below each other.
        for shown in error.lines() {
            out.push_str(&format!("{}\n", clean(shown)));
        }
    }
    if out.is_empty() {
        out.push_str("Nothing is known.\n");
    }
    out
}

impl Status {
    /// Of a verdict as JSON has it.
    pub fn of_word(verdict: &str) -> Status {
        match verdict {
            "reachable" => Status::Ok,
            "at-risk" => Status::Warning,
            "blocked" => Status::Critical,
            _ => Status::Unknown,
        }
    }
}
