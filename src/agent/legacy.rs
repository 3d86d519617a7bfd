//! Tables of iptables-legacy, which announce nothing: where there are some they are polled.

use std::time::Duration;

use tokio::time::Instant;

use crate::facts::{Family, LegacyRules, Seen, Table};
use crate::host::Host;
use crate::observe::firewall::legacy_tables;

const EVERY: Duration = Duration::from_secs(1);
/// Large tables are polled more rarely: never more than this share of a core.
const SHARE: u32 = 200;

/// What the tables were at the last poll.
#[derive(Default)]
pub struct Legacy {
    tables: [Option<Vec<Table>>; 2],
    next: Option<Instant>,
}

impl Legacy {
    /// When to poll; None where there are no such tables.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether they are other ones than at the last poll.
    pub fn changed(&mut self, host: &Host) -> bool {
        let begin = Instant::now();
        let now = Family::BOTH.map(|family| match legacy_tables(host, family) {
            Seen::Present(LegacyRules { tables, .. }) if !tables.is_empty() => Some(tables),
            _ => None,
        });
        let any = now.iter().any(Option::is_some);
        let changed = now != self.tables;
        self.tables = now;
        let end = Instant::now();
        self.next = any.then(|| end + EVERY.max((end - begin) * SHARE));
        changed
    }
}
