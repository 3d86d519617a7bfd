//! A line in hosts.allow (hosts_access(5)): the least one that lets in whom the wrappers lack.

use std::path::PathBuf;

use ipnet::IpNet;

use super::accept::tag;
use super::{Draft, Step};
use crate::facts::{AddrSet, Family, Seen, Snapshot, TextFile, escape};
use crate::judge::{Demand, Gate, Intent, Judgement, PathGates, Standing, judge};
use crate::policy::Policy;

const ALLOW: &str = "/etc/hosts.allow";
/// Patterns that one line may hold; libwrap reads lines of at most 2,048 characters.
const PATTERNS: usize = 40;

pub fn mend(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement, id: &str, draft: &mut Draft) {
    let (path, old) = match &snapshot.wrappers.allow {
        Seen::Present(file) => (file.path.clone(), file.bytes.clone()),
        Seen::Absent => (PathBuf::from(ALLOW), Vec::new()),
        Seen::Unreadable(why) => {
            return draft.decline("wrappers.deny", &format!("{ALLOW} could not be read: {}", escape(why)));
        }
    };
    let intent = Intent::of(policy, snapshot, &judgement.gates);
    let lacking: Vec<&Demand> =
        intent.demands.iter().filter(|d| matches!(d.wrappers, Standing::Lacking { .. })).collect();
    let trial = Trial { policy, snapshot, judgement, path: &path, bans: bans(&judgement.gates) };
    for (content, reason) in candidates(policy, judgement, &lacking, &old, id, &trial.bans) {
        if trial.is_exact(&content) {
            return draft.steps.push(Step::WriteFile { path, content, reason });
        }
    }
    draft.decline("wrappers.deny", "no line in hosts.allow lets in whom it should and nobody else");
}

/// What could be written, the least first, each with words for it.
fn candidates(
    policy: &Policy,
    judgement: &Judgement,
    lacking: &[&Demand],
    old: &[u8],
    id: &str,
    bans: &[AddrSet],
) -> Vec<(Vec<u8>, String)> {
    let mut out = Vec::new();
    let complete = old.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    if old[complete..].iter().any(|b| !b.is_ascii_whitespace()) {
        let reason = "end the last line with a newline, without which it is ignored".to_owned();
        out.push(([old, b"\n"].concat(), reason));
    }
    let Some(rule) = rule(policy, lacking, bans) else { return out };
    let line = format!("# {}\n{rule}\n", tag(id));
    let reason = format!("add the line `{rule}`");
    let mut places = vec![complete];
    let of_allow = |place: &str| place.ends_with("hosts.allow");
    let blocked = judgement.gates.iter().flat_map(|g| &g.wrappers.blocked);
    let first = blocked.filter(|b| of_allow(&b.by.place)).filter_map(|b| b.by.position).min();
    places.extend(first.and_then(|number| line_start(old, number)));
    places.push(0);
    places.dedup();
    for place in places {
        let content = [&old[..place], line.as_bytes(), &old[place..]].concat();
        out.push((content, reason.clone()));
    }
    out
}

/// Where line `number` (from 1) begins.
fn line_start(text: &[u8], number: usize) -> Option<usize> {
    if number == 1 {
        return Some(0);
    }
    let newlines = text.iter().enumerate().filter(|(_, b)| **b == b'\n');
    newlines.map(|(at, _)| at + 1).nth(number - 2)
}

fn rule(policy: &Policy, lacking: &[&Demand], bans: &[AddrSet]) -> Option<String> {
    let mut clients: Vec<String> = Vec::new();
    match &policy.ssh.sources {
        Some(nets) => {
            let families: Vec<Family> = lacking.iter().map(|d| d.family).collect();
            clients.extend(nets.iter().filter(|n| families.contains(&Family::of(n.network()))).map(pattern));
        }
        None => {
            let lacks = |family| lacking.iter().any(|d| d.family == family);
            clients.push(match (lacks(Family::Ipv4), lacks(Family::Ipv6)) {
                (true, false) => "0.0.0.0/0.0.0.0".to_owned(),
                (false, true) => "[::]/0".to_owned(),
                _ => "ALL".to_owned(),
            });
            let barred: Vec<String> = bans.iter().flat_map(AddrSet::prefixes).map(|n| pattern(&n)).collect();
            if !barred.is_empty() {
                clients.push("EXCEPT".to_owned());
                clients.extend(barred);
            }
        }
    }
    (!clients.is_empty() && clients.len() <= PATTERNS).then(|| format!("sshd : {}", clients.join(" ")))
}

/// An address or a network in the words of hosts_access(5).
fn pattern(net: &IpNet) -> String {
    match net {
        IpNet::V4(net) if net.prefix_len() == 32 => net.addr().to_string(),
        IpNet::V4(net) => format!("{}/{}", net.network(), net.netmask()),
        IpNet::V6(net) => format!("[{}]/{}", net.network(), net.prefix_len()),
    }
}

/// Sources that single lines bar: they stay out.
fn bans(gates: &[PathGates]) -> Vec<AddrSet> {
    Family::BOTH
        .into_iter()
        .map(|family| {
            let mut set = AddrSet::empty(family);
            let of_family = gates.iter().filter(|g| g.wrappers.path.family == family);
            for blocked in of_family.flat_map(|g| &g.wrappers.blocked).filter(|b| b.by.respected) {
                set.union_with(&blocked.sources);
            }
            set
        })
        .collect()
}

struct Trial<'a> {
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    judgement: &'a Judgement,
    path: &'a PathBuf,
    bans: Vec<AddrSet>,
}

impl Trial<'_> {
    /// Whether the content gives what is lacking, and lets in nobody whom it should not.
    fn is_exact(&self, content: &[u8]) -> bool {
        let mut model = self.snapshot.clone();
        model.wrappers.allow = Seen::Present(TextFile { path: self.path.clone(), bytes: content.to_vec() });
        let now = judge(self.policy, &model);
        let intent = Intent::of(self.policy, &model, &now.gates);
        if intent.demands.iter().any(|d| matches!(d.at(Gate::Wrappers), Standing::Lacking { .. })) {
            return false;
        }
        self.judgement.gates.iter().zip(&now.gates).all(|(old, new)| {
            let let_in = new.wrappers.reachable().minus(&old.wrappers.reachable());
            let family = new.wrappers.path.family;
            match &self.policy.ssh.sources {
                Some(nets) => let_in.is_subset(&AddrSet::nets(family, nets)),
                None => self.bans.iter().filter(|b| b.family() == family).all(|b| !b.intersects(&let_in)),
            }
        })
    }
}
