//! What the agent knows, as everybody may see it: at the socket, in `/run/ssh-rescue/status.json`, for node_exporter.

use jiff::Timestamp;
use serde::Serialize;

use crate::judge::{Judgement, Severity, Symptom, Verdict};
use crate::pass::{Outcome, Report};
use crate::record::{Hold, Trigger};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// None until the first look is over.
    pub verdict: Option<Verdict>,
    pub symptom: Option<Symptom>,
    /// What a client would see, in one sentence.
    pub sentence: String,
    /// Since when the verdict is this one.
    pub since: Timestamp,
    /// When the host was last looked at.
    pub looked: Timestamp,
    /// What had woken the last look that changed something.
    pub woken_by: Option<String>,
    pub findings: Vec<Told>,
    pub policy: PolicyState,
    pub hold: Option<Hold>,
    /// What is waited for before anything is repaired.
    pub waiting: Option<String>,
    /// Why nothing more is repaired: restraint.
    pub stopped: Option<String>,
    pub last_repair: Option<LastRepair>,
    /// Repairs since the agent started.
    pub repairs: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    pub code: &'static str,
    pub severity: Severity,
    pub summary: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyState {
    /// The file, or `built-in`.
    pub source: String,
    /// Where the mistake is; until it is mended nothing is repaired, and the last good policy is reported by.
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LastRepair {
    pub id: Option<String>,
    pub at: Timestamp,
    pub outcome: Outcome,
    pub trigger: Option<Trigger>,
    pub error: Option<String>,
}

impl Status {
    pub fn new(policy: PolicyState) -> Status {
        let now = Timestamp::now();
        Status {
            verdict: None,
            symptom: None,
            sentence: "the first look is not over yet".to_owned(),
            since: now,
            looked: now,
            woken_by: None,
            findings: Vec::new(),
            policy,
            hold: None,
            waiting: None,
            stopped: None,
            last_repair: None,
            repairs: 0,
        }
    }

    /// A look is over; gives whether the verdict or the sentence is another than before.
    pub fn see(&mut self, judgement: &Judgement, woken_by: Option<&str>) -> bool {
        self.looked = Timestamp::now();
        let told = |f: &crate::judge::Finding| Told { code: f.code, severity: f.severity, summary: f.summary.clone() };
        self.findings = judgement.findings.iter().map(told).collect();
        self.symptom = Some(judgement.symptom);
        let another = self.verdict != Some(judgement.verdict);
        let changed = another || self.sentence != judgement.sentence;
        if another {
            self.since = self.looked;
        }
        if changed {
            self.woken_by = woken_by.map(str::to_owned);
            self.verdict = Some(judgement.verdict);
            self.sentence = judgement.sentence.clone();
        }
        changed
    }

    pub fn repaired(&mut self, report: &Report, trigger: Option<Trigger>) {
        if report.outcome == Outcome::Repaired {
            self.repairs += 1;
        }
        self.last_repair = Some(LastRepair {
            id: report.id.clone(),
            at: Timestamp::now(),
            outcome: report.outcome,
            trigger,
            error: report.error.clone(),
        });
    }

    /// One line for `systemctl status`.
    pub fn line(&self) -> String {
        let word = match self.verdict {
            None => "starting",
            Some(Verdict::Reachable) => "reachable",
            Some(Verdict::AtRisk) => "at risk",
            Some(Verdict::Blocked) => "BLOCKED",
            Some(Verdict::Unknown) => "unknown",
        };
        let held = self.hold.as_ref().map(Hold::words);
        let error =
            self.policy.error.as_ref().map(|e| format!("nothing is repaired: {}", e.lines().next().unwrap_or(e)));
        let more = [held, error, self.stopped.clone(), self.waiting.clone()].into_iter().flatten().next();
        format!("{word}: {}{}", self.sentence, more.map(|m| format!(" [{m}]")).unwrap_or_default())
    }

    /// OpenMetrics text, as node_exporter's textfile collector takes it.
    pub fn metrics(&self) -> String {
        let mut out = String::new();
        let mut gauge = |name: &str, help: &str, samples: &[(&str, u64)]| {
            out.push_str(&format!("# HELP ssh_rescue_{name} {help}\n# TYPE ssh_rescue_{name} gauge\n"));
            for (label, value) in samples {
                out.push_str(&format!("ssh_rescue_{name}{label} {value}\n"));
            }
        };
        let verdicts = [
            (Verdict::Reachable, "{verdict=\"reachable\"}"),
            (Verdict::AtRisk, "{verdict=\"at-risk\"}"),
            (Verdict::Blocked, "{verdict=\"blocked\"}"),
            (Verdict::Unknown, "{verdict=\"unknown\"}"),
        ];
        let verdicts = verdicts.map(|(verdict, label)| (label, u64::from(self.verdict == Some(verdict))));
        gauge("verdict", "What a client that connects by SSH would see.", &verdicts);
        let since = u64::try_from(self.since.as_second()).unwrap_or(0);
        gauge("verdict_since_seconds", "Since when, as seconds of the epoch.", &[("", since)]);
        let all = [Severity::Critical, Severity::Warning].map(|severity| {
            let label = if severity == Severity::Critical { "critical" } else { "warning" };
            (label, self.findings.iter().filter(|f| f.severity == severity).count() as u64)
        });
        let labels = all.map(|(label, count)| (format!("{{severity=\"{label}\"}}"), count));
        let samples: Vec<(&str, u64)> = labels.iter().map(|(label, count)| (label.as_str(), *count)).collect();
        gauge("findings", "What is wrong, or about to be.", &samples);
        gauge("hold", "1 while the host is on hold.", &[("", u64::from(self.hold.is_some()))]);
        gauge("stopped", "1 while repairs are stopped by restraint.", &[("", u64::from(self.stopped.is_some()))]);
        gauge(
            "policy_valid",
            "0 while the policy file has a mistake.",
            &[("", u64::from(self.policy.error.is_none()))],
        );
        let help = "# HELP ssh_rescue_repairs Repairs since the agent started.\n# TYPE ssh_rescue_repairs counter\n";
        out.push_str(&format!("{help}ssh_rescue_repairs_total {}\n# EOF\n", self.repairs));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_as_the_format_wants_them() {
        let mut status = Status::new(PolicyState { source: "built-in".into(), error: None });
        status.verdict = Some(Verdict::Blocked);
        let text = status.metrics();
        assert!(text.ends_with("# EOF\n") && !text.contains("\n\n"), "{text}");
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(name.starts_with("ssh_rescue_") && value.parse::<u64>().is_ok(), "{line}");
            let family = name.split('{').next().unwrap().trim_end_matches("_total");
            assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
        }
        assert!(text.contains("ssh_rescue_verdict{verdict=\"blocked\"} 1\n"));
        assert!(text.contains("ssh_rescue_verdict{verdict=\"reachable\"} 0\n"));
    }

    #[test]
    fn the_line_says_why_nothing_is_repaired() {
        let error = Some("policy.toml:1:1: unknown key\n |".to_owned());
        let mut status = Status::new(PolicyState { source: "policy.toml".into(), error });
        assert!(status.line().ends_with("[nothing is repaired: policy.toml:1:1: unknown key]"), "{}", status.line());
        status.hold = crate::record::Hold::new(60, Some("incident"), "user 0".into());
        assert!(status.line().contains("on hold") && status.line().contains("incident"), "{}", status.line());
    }
}
