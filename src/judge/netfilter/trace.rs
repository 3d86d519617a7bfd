//! What a walk met on its way, for `explain`.

use std::fmt;

use serde::Serialize;

use super::flow::{Fork, Phase};
use super::scan::Eval;
use super::walk::Walk;
use crate::facts::{Backend, Hook, Language, Table};

/// One thing that a packet met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Met {
    /// `syn`, `syn-ack`, `ack`; of neighbour discovery `neighbour-solicitation`, `neighbour-advertisement`
    pub packet: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<Hook>,
    /// `ip filter`, `inet t`; of iptables-legacy with that word.
    pub table: String,
    pub chain: String,
    /// How many chains deep it was called.
    pub depth: usize,
    /// From 1; None for a chain's policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    pub rule: String,
    /// `accept`, `drop`, `reject`, `jump NAME`, `goes on`, …
    pub deed: String,
    /// Whether it is met depends on something that is not known.
    pub maybe: bool,
}

/// How [`Met`] names a table.
pub fn named(table: &Table) -> String {
    let backend = if table.backend == Backend::Legacy { " (iptables-legacy)" } else { "" };
    format!("{} {}{backend}", table.family, table.name)
}

pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Syn => "syn",
        Phase::SynAck => "syn-ack",
        Phase::Ack => "ack",
        Phase::Solicit => "neighbour-solicitation",
        Phase::Advertise => "neighbour-advertisement",
    }
}

impl Walk<'_> {
    /// Notes a rule that matches and decides nothing: one that counts or logs.
    pub fn note_idle(&mut self, fork: &Fork, eval: &Eval) {
        self.note(fork, None, "goes on");
        if let Some(met) = self.trace.as_mut().and_then(|trace| trace.last_mut()) {
            met.maybe |= !eval.doubts.is_empty();
        }
    }

    /// Notes what the rule or policy that the walk stands at does to the fork.
    pub fn note(&mut self, fork: &Fork, rule: Option<&str>, deed: impl fmt::Display) {
        let (Some(trace), Some(site)) = (&mut self.trace, self.stack.last()) else { return };
        let own = site.index.and_then(|i| site.chain.rules.get(i)).map(|rule| rule.words(&Language::of(site.table)));
        trace.push(Met {
            packet: phase_name(fork.packet.phase),
            hook: Some(site.hook),
            table: named(site.table),
            chain: site.chain.name.clone(),
            depth: self.stack.len() - 1,
            position: site.index.map(|i| i + 1),
            rule: rule.map(str::to_owned).or(own).unwrap_or_else(|| "policy".to_owned()),
            deed: deed.to_string(),
            maybe: !fork.doubts.is_empty(),
        });
    }
}
