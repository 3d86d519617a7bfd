//! TCP wrappers: what libwrap makes of hosts.allow and hosts.deny, for a set of sources at once (hosts_access(5)).

use super::{Blame, Finding, Gate, PathVerdict};
use crate::facts::{AddrSet, Seen, Snapshot, TextFile};
use crate::policy::{Mode, Policy};

/// Blocks or doubts the sources that the wrappers close the door on.
pub fn wrappers(verdict: &mut PathVerdict, snapshot: &Snapshot) {
    let by = Blame::gate(Gate::Wrappers, "/etc/hosts.allow and /etc/hosts.deny");
    let everybody = AddrSet::full(verdict.path.family);
    let has_rules =
        |file: &Seen<TextFile>| !matches!(file, Seen::Absent) && !file.present().is_some_and(|f| empty(&f.bytes));
    if !has_rules(&snapshot.wrappers.allow) && !has_rules(&snapshot.wrappers.deny) {
        return;
    }
    match &snapshot.sshd.binary {
        Seen::Present(binary) if !binary.links_libwrap() => {}
        Seen::Absent => {}
        _ => verdict.doubt(&everybody, "rules of TCP wrappers are not modelled".to_owned(), by),
    }
}

fn empty(bytes: &[u8]) -> bool {
    bytes
        .split(|b| *b == b'\n')
        .all(|line| line.first().is_none_or(|b| *b == b'#') || line.iter().all(u8::is_ascii_whitespace))
}

pub fn findings(policy: &Policy, _snapshot: &Snapshot) -> Vec<Finding> {
    if policy.wrappers.mode == Mode::Off {
        return Vec::new();
    }
    Vec::new()
}
