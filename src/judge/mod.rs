//! What a client would see, per path and per set of sources, and why.
//!
//! Pure: a policy and a snapshot in, a [`Judgement`] out. The gates stand in the order in which a connection meets them.
#![forbid(unsafe_code)]

mod admitted;
pub mod blame;
pub mod boot;
mod details;
#[cfg(test)]
pub(crate) mod fixture;
mod intent;
pub mod listener;
pub mod netfilter;
pub mod owners;
mod paths;
pub mod resources;
pub mod sshd;
mod verdict;
pub mod wrappers;
mod written;

pub use admitted::{AdmittedError, admitted};
pub use details::Details;
pub use intent::*;
pub use paths::paths;
pub use sshd::socket::in_charge;
pub use verdict::*;

use std::cmp::Reverse;
use std::{panic, thread};

use serde_json::json;

use crate::facts::{AddrSet, Family, Seen, Snapshot, escape};
use crate::policy::{Mode, Policy};
use netfilter::{Neighbours, Ports, Rules};

/// Judges every way in that the policy asks for.
pub fn judge(policy: &Policy, snapshot: &Snapshot) -> Judgement {
    judge_paths(policy, snapshot, paths(policy, &snapshot.net))
}

/// Judges these ways in alone.
pub fn judge_paths(policy: &Policy, snapshot: &Snapshot, paths: Vec<Path>) -> Judgement {
    let gates = each(policy, snapshot, &paths, gates);
    let mut findings = netfilter_findings(policy, snapshot);
    findings.extend(owners::findings(policy, snapshot));
    findings.extend(wrappers::findings(policy, snapshot));
    findings.extend(listener::findings(policy, snapshot));
    findings.extend(sshd::findings(policy, snapshot));
    findings.extend(resources::findings(policy, snapshot));
    findings.extend(boot::findings(policy, snapshot));
    conclude(policy, snapshot, gates, findings)
}

/// Judges the rules alone: of a ruleset that is not this host's.
pub fn judge_ruleset(policy: &Policy, snapshot: &Snapshot, paths: Vec<Path>) -> Judgement {
    let gates = each(policy, snapshot, &paths, of_rules);
    conclude(policy, snapshot, gates, netfilter_findings(policy, snapshot))
}

/// Rules from which on the two families are judged side by side: with fewer, a thread costs more than it saves.
const MANY: usize = if cfg!(test) { 50 } else { 2_000 };

/// How one path is judged.
type Gates = for<'a> fn(&'a Policy, &'a Snapshot, &'a Rules<'a>, &'a Path) -> PathGates;

/// The gates of each path, in the order of the paths.
fn each(policy: &Policy, snapshot: &Snapshot, paths: &[Path], gates: Gates) -> Vec<PathGates> {
    let of = |paths: &[Path]| -> Vec<PathGates> {
        let rules = Rules::of(&snapshot.firewall);
        paths.iter().map(|path| gates(policy, snapshot, &rules, path)).collect()
    };
    let of_one_family = paths.chunk_by(|one, next| one.family == next.family).next().map_or(0, <[Path]>::len);
    let (ours, theirs) = paths.split_at(of_one_family);
    let rules: usize = snapshot.firewall.tables().flat_map(|t| &t.chains).map(|chain| chain.rules.len()).sum();
    if theirs.is_empty() || rules < MANY {
        return of(paths);
    }
    thread::scope(|scope| {
        let beside = thread::Builder::new().spawn_scoped(scope, || of(theirs));
        let mut all = of(ours);
        all.extend(match beside {
            Ok(beside) => beside.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked)),
            Err(_) => of(theirs),
        });
        all
    })
}

/// The gates of a path where nothing but the firewall is known.
fn behind_nothing(firewall: PathVerdict) -> PathGates {
    let open = PathVerdict::open(firewall.path.clone());
    PathGates { whole: firewall.clone(), firewall, listener: open.clone(), wrappers: open, neighbours: Vec::new() }
}

fn of_rules<'a>(policy: &'a Policy, snapshot: &'a Snapshot, rules: &'a Rules<'a>, path: &'a Path) -> PathGates {
    behind_nothing(through(policy, snapshot, rules, path))
}

fn of_firewall<'a>(policy: &'a Policy, snapshot: &'a Snapshot, rules: &'a Rules<'a>, path: &'a Path) -> PathGates {
    behind_nothing(firewall_and_doubts(policy, snapshot, rules, path).0)
}

/// What the rules and routes do to the sources of one path, and to the neighbours on its link that pass their packets on.
pub fn firewall(policy: &Policy, snapshot: &Snapshot, path: Path) -> PathVerdict {
    firewall_and_doubts(policy, snapshot, &Rules::of(&snapshot.firewall), &path).0
}

fn firewall_and_doubts<'a>(
    policy: &'a Policy,
    snapshot: &'a Snapshot,
    rules: &'a Rules<'a>,
    path: &'a Path,
) -> (PathVerdict, Vec<Doubtful>) {
    let mut verdict = through(policy, snapshot, rules, path);
    if policy.firewall.mode == Mode::Off || !netfilter::has_neighbours(&snapshot.net, path) {
        return (verdict, Vec::new());
    }
    let barred = verdict.blocked_sources();
    if barred.is_full() {
        return (verdict, Vec::new());
    }
    let Neighbours { lost, mut doubtful } = rules.neighbours(&snapshot.net, path);
    if let Some(by) = lost {
        verdict.block(&AddrSet::full(Family::Ipv6), Symptom::TimedOut, by);
    }
    // Whom the rules bar anyway is in no doubt.
    doubtful.iter_mut().for_each(|d| d.open.sources.subtract(&barred));
    doubtful.retain(|d| !d.open.sources.is_empty());
    (verdict, doubtful)
}

/// What the rules and routes do to the packets of the sources themselves.
pub fn rules(policy: &Policy, snapshot: &Snapshot, path: Path) -> PathVerdict {
    through(policy, snapshot, &Rules::of(&snapshot.firewall), &path)
}

fn through<'a>(policy: &'a Policy, snapshot: &'a Snapshot, rules: &'a Rules<'a>, path: &'a Path) -> PathVerdict {
    if policy.firewall.mode == Mode::Off {
        return PathVerdict::open(path.clone());
    }
    let mut verdict = rules.walk(&snapshot.net, path, &policy.firewall.respect, &ports(snapshot));
    let everybody = AddrSet::full(path.family);
    for (what, why) in unreadable(snapshot, path.family) {
        verdict.doubt(&everybody, format!("{what} could not be read: {why}"), Blame::gate(Gate::Firewall, what));
    }
    verdict
}

/// Who listens where, for connections that nat leads to another port.
pub fn ports(snapshot: &Snapshot) -> Ports {
    let ssh = snapshot.sshd.settings.present().map(|s| s.ports.clone()).unwrap_or_default();
    let listeners = snapshot.listeners.present().into_iter().flatten();
    let others = listeners.map(|l| l.port).filter(|p| !ssh.contains(p)).collect();
    Ports { ssh, others, unseen: snapshot.listeners.present().is_none() }
}

fn unreadable(snapshot: &Snapshot, family: Family) -> Vec<(&'static str, String)> {
    let rules = &snapshot.firewall;
    let (legacy, name) = match family {
        Family::Ipv4 => (&rules.legacy4, "iptables-legacy"),
        Family::Ipv6 => (&rules.legacy6, "ip6tables-legacy"),
    };
    let mut out = Vec::new();
    if let Seen::Unreadable(why) = &rules.nft {
        out.push(("nf_tables", why.clone()));
    }
    if let Seen::Unreadable(why) = legacy {
        out.push((name, why.clone()));
    }
    out
}

fn gates<'a>(policy: &'a Policy, snapshot: &'a Snapshot, rules: &'a Rules<'a>, path: &'a Path) -> PathGates {
    let open = PathVerdict::open(path.clone());
    let (firewall, neighbours) = firewall_and_doubts(policy, snapshot, rules, path);
    let (mut listener, mut wrappers) = (open.clone(), open);
    if policy.sshd.mode != Mode::Off {
        listener::listener(&mut listener, snapshot);
    }
    if policy.wrappers.mode != Mode::Off {
        wrappers::wrappers(&mut wrappers, snapshot);
    }
    let mut whole = firewall.clone();
    for gate in [&listener, &wrappers] {
        whole.then(gate);
    }
    PathGates { whole, firewall, listener, wrappers, neighbours }
}

fn conclude(policy: &Policy, snapshot: &Snapshot, gates: Vec<PathGates>, mut findings: Vec<Finding>) -> Judgement {
    let intent = Intent::of(policy, snapshot, &gates);
    findings.extend(blame::findings(&intent, &gates));
    if gates.is_empty() {
        findings.push(no_path(snapshot));
    }
    written::mark(snapshot, &mut findings);
    findings.sort_by_key(|f| Reverse(f.severity));
    let verdict = verdict(&intent, &findings);
    let (symptom, mut sentence) = blame::sentence(verdict, &intent, &gates, &findings);
    if snapshot.at_rest {
        let sees = if verdict == Verdict::Blocked { " a client would see:" } else { "" };
        sentence = format!("after the next boot of this disk{sees} {sentence}");
    }
    Judgement { verdict, symptom, sentence, gates, findings }
}

fn verdict(intent: &Intent, findings: &[Finding]) -> Verdict {
    let any = |wanted: fn(&Standing) -> bool| intent.demands.iter().any(|d| wanted(&d.whole));
    match () {
        () if any(|s| matches!(s, Standing::Lacking { .. })) => Verdict::Blocked,
        () if intent.demands.is_empty() || any(|s| matches!(s, Standing::Unknown { .. })) => Verdict::Unknown,
        () if any(|s| *s == Standing::LeftAlone) => Verdict::AtRisk,
        () if findings.iter().any(|f| f.severity >= Severity::Warning) => Verdict::AtRisk,
        () => Verdict::Reachable,
    }
}

fn no_path(snapshot: &Snapshot) -> Finding {
    let net = &snapshot.net;
    let why =
        [net.links.unreadable(), net.addresses.unreadable(), net.routes.unreadable()].into_iter().flatten().next();
    let summary = match why {
        Some(why) => format!("the host's network could not be read: {}", escape(why)),
        None => {
            "no interface that is up has both a global address and a default route: nobody outside can reach this host"
                .to_owned()
        }
    };
    Finding {
        code: "path.none",
        severity: Severity::Critical,
        summary,
        evidence: json!({"addresses": net.addresses.present()}).into(),
        mendable: false,
        mend: None,
    }
}

/// What stands on a packet's way and is not netfilter, and what could not be read.
fn netfilter_findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if policy.firewall.mode == Mode::Off {
        return Vec::new();
    }
    let mut out: Vec<Finding> = Vec::new();
    for outside in &snapshot.firewall.outside {
        out.push(Finding {
            code: "path.outside",
            severity: Severity::Info,
            summary: format!(
                "{} on {} may also drop packets, and is not modelled: {}",
                outside.kind,
                escape(&outside.place),
                escape(&outside.detail)
            ),
            evidence: json!(outside).into(),
            mendable: false,
            mend: None,
        });
    }
    if !snapshot.privileged {
        out.push(Finding {
            code: "path.unprivileged",
            severity: Severity::Warning,
            summary: "not all could be read without root's rights; run it as root".to_owned(),
            evidence: json!({}).into(),
            mendable: false,
            mend: None,
        });
    }
    out
}

#[cfg(test)]
mod tests;
