//! A judgement for people: what a client sees, what can be done about it, and then the rest.

use super::screen::{Screen, Tone, clean, wrap};
use crate::judge::blame::turns_away;
use crate::judge::{Gate, Judgement, PathGates, PathVerdict, Severity, Symptom, Verdict};
use crate::plan::{Declined, Step, words};

/// Groups of sources that one path shows.
const GROUPS: usize = 6;
/// Findings that are only worth knowing, of those shown.
const INFOS: usize = 6;

/// What to look at where this host lets everybody in and somebody still cannot connect.
const OUTSIDE: &str = "If a client still cannot connect, the cause is outside this host: look at the security group, the network ACL, the \
     route table.";

pub fn headline(screen: Screen, judgement: &Judgement) -> String {
    sentence(screen, judgement.verdict, &clean(&judgement.sentence))
}

/// The one sentence, with the verdict before it.
pub fn sentence(screen: Screen, verdict: Verdict, sentence: &str) -> String {
    let (tone, word) = match verdict {
        Verdict::Reachable => (Tone::Good, "OK"),
        Verdict::AtRisk => (Tone::Warn, "WARNING"),
        Verdict::Blocked => (Tone::Bad, "BLOCKED"),
        Verdict::Unknown => (Tone::Warn, "UNKNOWN"),
    };
    let text = wrap(&format!("{word}: {sentence}"), 0, 2);
    format!("{}{}", screen.tone(tone, word), &text[word.len()..])
}

/// The paths and the findings.
pub fn details(screen: Screen, judgement: &Judgement) -> String {
    let mut out = String::new();
    for PathGates { whole: path, .. } in &judgement.gates {
        out.push_str(&path_lines(path));
    }
    let infos = judgement.findings.iter().filter(|f| f.severity == Severity::Info).count();
    let mut shown = 0;
    if !judgement.findings.is_empty() {
        out.push_str("\nFindings\n");
    }
    for finding in &judgement.findings {
        let tone = match finding.severity {
            Severity::Critical => Tone::Bad,
            Severity::Warning => Tone::Warn,
            Severity::Info => Tone::Faint,
        };
        if finding.severity == Severity::Info {
            shown += 1;
            if shown > INFOS {
                continue;
            }
        }
        let severity = format!("{:?}", finding.severity).to_lowercase();
        out.push_str(&format!("  {}  {}\n", screen.tone(tone, &severity), finding.code));
        out.push_str(&wrap(&clean(&finding.summary), 6, 6));
        if let Some(mend) = &finding.mend {
            out.push_str(&wrap(&format!("mend: {}", clean(mend)), 6, 12));
        }
    }
    if infos > INFOS {
        out.push_str(&format!("  and {} more that are worth knowing (--json shows them all)\n", infos - INFOS));
    }
    out
}

/// What to look at outside this host.
pub fn elsewhere(judgement: &Judgement) -> String {
    match judgement.verdict {
        Verdict::AtRisk if judgement.findings.iter().any(turns_away) => String::new(),
        Verdict::Reachable | Verdict::AtRisk => format!("\n{}", wrap(OUTSIDE, 0, 0)),
        Verdict::Blocked | Verdict::Unknown => String::new(),
    }
}

/// What some steps do, a line each.
pub fn acts(steps: &[Step]) -> String {
    words(steps).iter().map(|act| wrap(&format!("- {act}"), 2, 4)).collect()
}

/// What is left as it is, and why.
pub fn declined(declined: &[Declined]) -> String {
    let line = |d: &Declined| wrap(&format!("left alone ({}): {}", d.code, clean(&d.why)), 0, 2);
    declined.iter().map(line).collect()
}

fn path_lines(path: &PathVerdict) -> String {
    let at = &path.path;
    let mut out = format!("\nPort {} of {} on {}\n", at.port, at.address, clean(&at.interface));
    let mut left = GROUPS;
    let mut line = |word: &str, text: String| {
        if left > 0 {
            left -= 1;
            out.push_str(&wrap(&format!("{word:<12}{}", clean(&text)), 2, 14));
        }
    };
    line("admitted", path.admitted.to_string());
    for blocked in &path.blocked {
        let rule = blocked.by.rule.as_ref().map(|rule| match blocked.by.gate {
            Gate::Listener | Gate::Sshd => rule.to_string(),
            _ => format!("`{rule}`"),
        });
        let position = blocked.by.position.map(|n| format!(" {n}")).unwrap_or_default();
        let by = [Some(format!("{}{position}", blocked.by.place)), rule].into_iter().flatten().collect::<Vec<_>>();
        line(symptom_word(blocked.symptom), format!("{} by {}", blocked.sources, by.join(": ")));
    }
    for open in &path.conditional {
        let first = open.first_words().map(|words| format!("; {words}")).unwrap_or_default();
        line("it depends", format!("{}: {}{first}", open.sources, open.reason));
    }
    for open in &path.unknown {
        line("unknown", format!("{}: {}", open.sources, open.reason));
    }
    let all = 1 + path.blocked.len() + path.conditional.len() + path.unknown.len();
    if all > GROUPS {
        out.push_str(&format!("  and {} more groups of sources (--json shows them all)\n", all - GROUPS));
    }
    out
}

fn symptom_word(symptom: Symptom) -> &'static str {
    match symptom {
        Symptom::None => "admitted",
        Symptom::TimedOut => "timed out",
        Symptom::Refused => "refused",
        Symptom::Closed => "closed",
        Symptom::NoBanner => "no banner",
        Symptom::Unknown => "blocked",
    }
}
