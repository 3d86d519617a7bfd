//! What a walk met on its way, for `explain`.

use serde::Serialize;

use super::flow::{Fork, Phase};
use super::walk::Walk;
use crate::facts::{Backend, Hook};

/// One thing that a packet met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Met {
    /// `syn`, `syn-ack`, `ack`
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

pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Syn => "syn",
        Phase::SynAck => "syn-ack",
        Phase::Ack => "ack",
    }
}

impl Walk<'_> {
    /// Notes what the rule or policy that the walk stands at does to the fork.
    pub fn note(&mut self, fork: &Fork, rule: Option<&str>, deed: &str) {
        let (Some(trace), Some(site)) = (&mut self.trace, self.stack.last()) else { return };
        let own = site.index.and_then(|i| site.chain.rules.get(i)).map(ToString::to_string);
        let backend = if site.table.backend == Backend::Legacy { " (iptables-legacy)" } else { "" };
        trace.push(Met {
            packet: phase_name(fork.packet.phase),
            hook: Some(site.hook),
            table: format!("{} {}{backend}", site.table.family, site.table.name),
            chain: site.chain.name.clone(),
            depth: self.stack.len() - 1,
            position: site.index.map(|i| i + 1),
            rule: rule.map(str::to_owned).or(own).unwrap_or_else(|| "policy".to_owned()),
            deed: deed.to_owned(),
            maybe: !fork.doubts.is_empty(),
        });
    }
}
