//! TCP wrappers: what libwrap makes of hosts.allow and hosts.deny, for a set of sources at once (hosts_access(5)).
//!
//! The model is libwrap 7.6.q of Debian and Ubuntu, the only current distributions whose sshd links it.

mod access;
mod glob;
mod options;
mod pattern;

use std::net::IpAddr;

use serde_json::json;

use super::{Blame, Finding, Gate, Open, PathVerdict, Severity, Symptom};
use crate::decode::hosts_access::{Table, table};
use crate::facts::{Family, Seen, Snapshot, TextFile, Wrappers, escape};
use crate::policy::{Mode, Policy};
use access::{Fate, File, Line, Part, Readable, access};
use options::{Effect, effect};
use pattern::{Lists, Request};

/// The name by which sshd, and since OpenSSH 9.8 sshd-session, calls itself to libwrap.
const DAEMON: &[u8] = b"sshd";

/// Blocks or doubts the sources that the wrappers close the door on.
pub fn wrappers(verdict: &mut PathVerdict, snapshot: &Snapshot) {
    let tables = Tables::of(&snapshot.wrappers);
    if tables.say_nothing() {
        return;
    }
    let doubt = match &snapshot.sshd.binary {
        Seen::Present(binary) if binary.links_libwrap() => None,
        Seen::Present(_) | Seen::Absent => return,
        Seen::Unreadable(why) => Some(format!("whether sshd asks TCP wrappers: {why}")),
    };
    let server = Some((verdict.path.address, verdict.path.port));
    let family = verdict.path.family;
    let lists = Lists::of(&snapshot.wrappers.lists);
    let request = Request { family, daemon: DAEMON, server, client: None, lists: &lists };
    let parts = access(tables.allow(), tables.deny(), &request);
    let (bans, parts): (Vec<Part>, Vec<Part>) = parts.into_iter().partition(|p| is_ban(&p.fate));
    for part in parts {
        apply(verdict, &part, doubt.as_deref(), &snapshot.wrappers);
    }
    // A thousand banned addresses are one thing to say.
    for file in [File::Allow, File::Deny] {
        let of_file = bans.iter().filter(|p| matches!(&p.fate, Fate::Denied { line, .. } if line.file == file));
        let mut lines = 0usize;
        let mut all: Option<Part> = None;
        for part in of_file {
            lines += 1;
            match &mut all {
                Some(all) => all.sources.union_with(&part.sources),
                None => all = Some(part.clone()),
            }
        }
        let Some(mut part) = all else { continue };
        if let Fate::Denied { line, .. } = &mut part.fate
            && lines > 1
        {
            line.text.push_str(&format!(" and {} more such lines", lines - 1));
        }
        apply(verdict, &part, doubt.as_deref(), &snapshot.wrappers);
    }
}

fn is_ban(fate: &Fate) -> bool {
    matches!(fate, Fate::Denied { line, reason: None } if line.ban)
}

fn apply(verdict: &mut PathVerdict, part: &Part, doubt: Option<&str>, files: &Wrappers) {
    let Some(line) = line_of(&part.fate) else { return };
    let by = blame(line, files, is_ban(&part.fate));
    if let Some(doubt) = doubt {
        return verdict.doubt(&part.sources, doubt.to_owned(), by);
    }
    let with = |mut by: Blame, reason: &Option<String>| {
        if let (Some(rule), Some(reason)) = (&by.rule, reason) {
            by.rule = Some(format!("{rule} ({reason})").into());
        }
        by
    };
    match &part.fate {
        Fate::Granted => {}
        Fate::Denied { reason, .. } => verdict.block(&part.sources, Symptom::Closed, with(by, reason)),
        Fate::Twisted { .. } => {
            let reason = Some("another program answers in sshd's place".to_owned());
            verdict.block(&part.sources, Symptom::Closed, with(by, &reason));
        }
        Fate::Unknown { reason, .. } => verdict.doubt(&part.sources, reason.clone(), by),
        Fate::Mostly { reason, .. } => {
            let taken = verdict.admitted.intersection(&part.sources);
            if !taken.is_empty() {
                verdict.admitted.subtract(&taken);
                verdict.conditional.push(Open::new(taken, reason.clone(), by));
            }
        }
    }
}

fn line_of(fate: &Fate) -> Option<&Line> {
    match fate {
        Fate::Granted => None,
        Fate::Denied { line, .. } | Fate::Twisted { line } | Fate::Mostly { line, .. } | Fate::Unknown { line, .. } => {
            Some(line)
        }
    }
}

fn blame(line: &Line, files: &Wrappers, respected: bool) -> Blame {
    let mut by = Blame::gate(Gate::Wrappers, &path(files, line.file));
    by.position = (line.line > 0).then_some(line.line);
    by.rule = (line.line > 0).then(|| line.text.clone().into());
    by.respected = respected;
    by
}

fn path(files: &Wrappers, file: File) -> String {
    let (seen, usual) = match file {
        File::Allow => (&files.allow, "/etc/hosts.allow"),
        File::Deny => (&files.deny, "/etc/hosts.deny"),
    };
    seen.present().map_or_else(|| usual.to_owned(), |f| f.path.display().to_string())
}

/// Both files, parsed; a file that is missing is an empty one to libwrap.
struct Tables {
    allow: Result<Table, String>,
    deny: Result<Table, String>,
}

impl Tables {
    fn of(files: &Wrappers) -> Tables {
        let one = |file: &Seen<TextFile>| match file {
            Seen::Present(file) => Ok(table(&file.bytes)),
            Seen::Absent => Ok(Table::default()),
            Seen::Unreadable(why) => Err(why.clone()),
        };
        Tables { allow: one(&files.allow), deny: one(&files.deny) }
    }

    fn allow(&self) -> Readable<'_> {
        self.allow.as_ref().map_err(Clone::clone)
    }

    fn deny(&self) -> Readable<'_> {
        self.deny.as_ref().map_err(Clone::clone)
    }

    /// Neither file has an entry or a fault: everybody is granted.
    fn say_nothing(&self) -> bool {
        let silent = |t: &Result<Table, String>| t.as_ref().is_ok_and(|t| t.entries.is_empty() && t.broken.is_none());
        silent(&self.allow) && silent(&self.deny)
    }
}

/// What the files would say to one client in a dry run, as tcpdmatch(8) asks it: no name is known and no command is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Granted,
    Denied,
    /// Another program would answer.
    Delegated,
    Unknown,
}

/// As `tcpdmatch sshd CLIENT` for these two files.
pub fn dry_run(files: &Wrappers, client: IpAddr) -> Answer {
    let tables = Tables::of(files);
    let (family, lists) = (Family::of(client), Lists::of(&files.lists));
    let request = Request { family, daemon: DAEMON, server: None, client: Some(client), lists: &lists };
    let parts = access(tables.allow(), tables.deny(), &request);
    match parts.iter().find(|p| p.sources.contains(client)).map(|p| &p.fate) {
        Some(Fate::Granted) => Answer::Granted,
        Some(Fate::Denied { .. }) => Answer::Denied,
        Some(Fate::Twisted { .. }) => Answer::Delegated,
        Some(Fate::Mostly { .. } | Fate::Unknown { .. }) | None => Answer::Unknown,
    }
}

/// What is odd about the files, beside whom they keep out.
pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if policy.wrappers.mode == Mode::Off {
        return Vec::new();
    }
    let files = &snapshot.wrappers;
    let tables = Tables::of(files);
    if tables.say_nothing() {
        return Vec::new();
    }
    if let Seen::Present(binary) = &snapshot.sshd.binary
        && !binary.links_libwrap()
    {
        let words = format!(
            "{} and {} have rules, but this sshd does not ask TCP wrappers",
            path(files, File::Allow),
            path(files, File::Deny)
        );
        return vec![finding("wrappers.unused", Severity::Info, words, json!({"sshd": binary.path}))];
    }
    let mut out = Vec::new();
    for (file, table) in [(File::Allow, &tables.allow), (File::Deny, &tables.deny)] {
        let place = path(files, file);
        match table {
            Ok(table) => out.extend(of_table(&place, file, table)),
            Err(why) => {
                let words = format!("TCP wrappers: {}", escape(why));
                out.push(finding("wrappers.unreadable", Severity::Warning, words, json!({"path": place})));
            }
        }
    }
    out
}

fn of_table(place: &str, file: File, table: &Table) -> Vec<Finding> {
    let shown = escape(place);
    let mut out = Vec::new();
    if let Some(line) = table.broken {
        let then = match file {
            File::Allow => "libwrap does not read it, nor what follows",
            File::Deny => "libwrap denies everybody whom no line before it has let in",
        };
        let words = format!("line {line} of {shown} has no newline at its end, or is longer than 2046 bytes: {then}");
        out.push(finding("wrappers.line.broken", Severity::Warning, words, json!({"path": place, "line": line})));
    }
    if let Some(line) = table.skipped.first() {
        let words = format!("line {line} of {shown} has no colon: libwrap skips it");
        out.push(finding(
            "wrappers.line.skipped",
            Severity::Info,
            words,
            json!({"path": place, "lines": table.skipped}),
        ));
    }
    for entry in &table.entries {
        if let Some(Effect::Error(why)) = entry.options.as_deref().map(effect) {
            let words = format!(
                "line {} of {shown} (`{}`): {why}: it denies those whom it matches",
                entry.line,
                escape(&entry.text)
            );
            out.push(finding(
                "wrappers.option.bad",
                Severity::Warning,
                words,
                json!({"path": place, "line": entry.line}),
            ));
        }
    }
    out
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence: evidence.into(), mendable: false, mend: None }
}

#[cfg(test)]
mod tests;
