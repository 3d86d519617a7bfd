//! Findings about a path, and the one sentence.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use super::resources::CONNTRACK_FULL;
use super::{
    Blame, Blocked, Demand, Details, Doubtful, Finding, Gate, Intent, Open, Path, PathGates, PathVerdict, Severity,
    Standing, Symptom, Verdict,
};
use crate::facts::{AddrSet, Family, Hook, escape};

/// The findings that explain the demands: one for each thing that blocks, leaves open, or bars a part.
pub fn findings(intent: &Intent, gates: &[PathGates]) -> Vec<Finding> {
    let mut out = Merged::default();
    for demand in &intent.demands {
        for &index in &demand.paths {
            for verdict in [&gates[index].firewall, &gates[index].listener, &gates[index].wrappers] {
                blocked_findings(demand, intent, verdict, &mut out);
                open_findings(demand, verdict, &mut out);
            }
            neighbour_findings(demand, intent, &gates[index], &mut out);
        }
        for gate in [Gate::Firewall, Gate::Wrappers] {
            if *demand.at(gate) == Standing::LeftAlone {
                out.add(left_alone(demand, gate));
            }
        }
        let alone = [&demand.firewall, &demand.listener, &demand.wrappers];
        let severity = match demand.whole {
            Standing::Lacking { .. } => Severity::Critical,
            Standing::LeftAlone => Severity::Warning,
            Standing::Met | Standing::Unknown { .. } => continue,
        };
        if alone.iter().all(|s| **s == Standing::Met) {
            out.add(disjoint(demand, severity));
        }
    }
    out.all
}

/// Several paths are often blocked by the same rule: one finding, the families side by side.
#[derive(Default)]
struct Merged {
    all: Vec<Finding>,
    places: HashMap<(&'static str, String), usize>,
}

impl Merged {
    fn add(&mut self, new: Finding) {
        let place = *self.places.entry((new.code, new.summary.clone())).or_insert(self.all.len());
        match self.all.get_mut(place) {
            Some(old) => old.severity = old.severity.max(new.severity),
            None => self.all.push(new),
        }
    }
}

fn blocked_findings(demand: &Demand, intent: &Intent, verdict: &PathVerdict, out: &mut Merged) {
    // What is taken as meant may be fifty thousand bans: one finding for each place that they stand in.
    let mut meant: Vec<Meant<'_>> = Vec::new();
    let mut places = HashMap::new();
    let outside = intent.outside(demand.family);
    for blocked in &verdict.blocked {
        let Some(code) = code(&blocked.by, blocked.symptom) else { continue };
        let outside = blocked.sources.intersection(outside);
        if outside.is_empty() {
            continue;
        }
        let wanted = match demand.at(blocked.by.gate) {
            Standing::Lacking { wanted } => outside.intersection(wanted),
            _ => AddrSet::empty(demand.family),
        };
        if wanted.is_empty() {
            let by = &blocked.by;
            // Rules of one place mostly stand side by side.
            let last = meant.len().checked_sub(1).filter(|&last| meant.get(last).is_some_and(|m| m.is_of(blocked)));
            let place = last.unwrap_or_else(|| {
                let of = |place| (place, by.respected, blocked.symptom);
                let known = places.get(&of(Some(&by.place))).copied();
                // Nobody reads more of them one by one.
                let place = Some(&by.place).filter(|_| meant.len() < PLACES);
                known.unwrap_or_else(|| *places.entry(of(place)).or_insert(meant.len()))
            });
            if place == meant.len() {
                meant.push(Meant { blocked, sources: outside, further: 0, elsewhere: false, ranges: Vec::new() });
            } else if let Some(meant) = meant.get_mut(place) {
                meant.further += 1;
                meant.elsewhere |= meant.blocked.by.place != by.place;
                meant.ranges.extend(outside.ranges());
            }
            continue;
        }
        let who = if demand.sources.is_none() { "everybody".to_owned() } else { wanted.to_string() };
        let summary = format!(
            "{who} ({}) on {}: {}",
            symptom_words(blocked.symptom),
            escape(&verdict.path.interface),
            cause(blocked),
        );
        let evidence = evidence(demand, verdict, blocked, blocked.sources.clone());
        out.add(Finding { code, severity: Severity::Critical, summary, evidence, mendable: false, mend: None });
    }
    for Meant { blocked, mut sources, further, elsewhere, ranges } in meant {
        sources.union_with(&AddrSet::of(demand.family, ranges));
        let Some(code) = code(&blocked.by, blocked.symptom) else { continue };
        let cause = match further {
            0 => cause(blocked),
            n if elsewhere => format!("{} rules of {} and other places", n + 1, escape(&blocked.by.place)),
            n => format!("{} rules of {}", n + 1, escape(&blocked.by.place)),
        };
        let meant = if blocked.by.respected { "a ban, taken as meant" } else { "taken as meant" };
        let summary = format!(
            "{sources} ({}) on {}: {cause} ({meant})",
            symptom_words(blocked.symptom),
            escape(&verdict.path.interface),
        );
        let evidence = evidence(demand, verdict, blocked, sources);
        out.add(Finding { code, severity: Severity::Info, summary, evidence, mendable: false, mend: None });
    }
}

/// So many places of rules whose verdicts are meant get a finding of their own.
const PLACES: usize = 64;

/// What the rules of one place do to sources of whom that is taken as meant.
struct Meant<'a> {
    /// What the first of them does.
    blocked: &'a Blocked,
    sources: AddrSet,
    /// How many there are beside it, and what they do it to.
    further: usize,
    /// Whether they stand in other places as well.
    elsewhere: bool,
    ranges: Vec<(u128, u128)>,
}

impl Meant<'_> {
    fn is_of(&self, other: &Blocked) -> bool {
        let (by, others) = (&self.blocked.by, &other.by);
        Arc::ptr_eq(&by.place, &others.place)
            && (by.respected, self.blocked.symptom) == (others.respected, other.symptom)
    }
}

fn evidence(demand: &Demand, verdict: &PathVerdict, blocked: &Blocked, sources: AddrSet) -> Details {
    let Path { family, port, ref interface, .. } = verdict.path;
    debug_assert_eq!((family, port), (demand.family, demand.port));
    let (interface, by) = (interface.clone(), blocked.by.clone());
    Details::later(move || {
        json!({
            "family": family, "port": port, "interface": interface,
            "sources": sources, "by": by, "via": by.way(),
        })
    })
}

fn open_findings(demand: &Demand, verdict: &PathVerdict, out: &mut Merged) {
    let unknown = verdict.unknown.iter().map(|o| ("path.unknown", Severity::Warning, o));
    let conditional = verdict.conditional.iter().map(|o| ("path.conditional", Severity::Info, o));
    for (code, severity, open) in unknown.chain(conditional) {
        let Open { sources, reason, by, first } = open;
        let verb = if code == "path.unknown" { "it is not known whether" } else { "it depends whether" };
        let first_words = open.first_words().map(|words| format!("; {words}")).unwrap_or_default();
        let place = match by.gate {
            Gate::Listener => String::new(),
            _ => format!(" (in {})", escape(&by.place)),
        };
        let summary = format!("{verb} {sources} can connect: {}{place}{first_words}", escape(reason));
        let (family, port) = (demand.family, demand.port);
        let (sources, by, first) = (sources.clone(), by.clone(), first.clone());
        let evidence = Details::later(move || {
            let mut evidence = json!({"family": family, "port": port, "sources": sources, "by": by});
            if let Some(first) = &first {
                evidence["first"] = json!(first);
            }
            evidence
        });
        // Without a rule to point at nothing has been looked at: as bad as it gets short of a lock-out.
        out.add(Finding { code, severity, summary, evidence, mendable: false, mend: None });
    }
}

fn neighbour_findings(demand: &Demand, intent: &Intent, gates: &PathGates, out: &mut Merged) {
    for Doubtful { unknown, open } in &gates.neighbours {
        let wanted = demand.sources.as_ref().map_or(open.sources.clone(), |sources| open.sources.intersection(sources));
        if !wanted.intersects(intent.outside(demand.family)) {
            continue;
        }
        let (code, severity, verb) = match unknown {
            true => ("firewall.neighbours.unknown", Severity::Warning, "it is not known whether"),
            false => ("firewall.neighbours.conditional", Severity::Info, "it depends whether"),
        };
        let summary = format!(
            "{verb} neighbour discovery on {} finds the host for {wanted}: {} (in {})",
            escape(&gates.whole.path.interface),
            escape(&open.reason),
            escape(&open.by.place)
        );
        let evidence =
            json!({"family": demand.family, "interface": gates.whole.path.interface, "sources": wanted, "by": open.by})
                .into();
        out.add(Finding { code, severity, summary, evidence, mendable: false, mend: None });
    }
}

fn left_alone(demand: &Demand, gate: Gate) -> Finding {
    Finding {
        code: if gate == Gate::Wrappers { "wrappers.family" } else { "firewall.family" },
        severity: Severity::Warning,
        summary: format!(
            "nobody gets in by {}, while the other family is restricted to some: whom to let in, only the policy's sources can say",
            demand.family
        ),
        evidence: json!({"family": demand.family, "port": demand.port}).into(),
        mendable: false,
        mend: None,
    }
}

fn disjoint(demand: &Demand, severity: Severity) -> Finding {
    Finding {
        code: "path.disjoint",
        severity,
        summary: format!(
            "firewall, listener and wrappers each let somebody in by {}, but nobody passes all of them: whom to let in, only the policy's sources can say",
            demand.family
        ),
        evidence: json!({"family": demand.family, "port": demand.port}).into(),
        mendable: false,
        mend: None,
    }
}

/// The stable code of a blocked part; None for a listener's, which `judge::listener` reports itself.
pub fn code(by: &Blame, symptom: Symptom) -> Option<&'static str> {
    Some(match (by.gate, by.hook, symptom) {
        (Gate::Listener | Gate::Sshd, ..) => return None,
        (Gate::Route, ..) if by.place.contains("rp_filter") => "route.rp-filter",
        (Gate::Route, ..) => "route.blackhole",
        (Gate::Wrappers, ..) => "wrappers.deny",
        _ if by.neighbours => "firewall.neighbours.drop",
        (_, Some(Hook::Ingress), _) => "firewall.ingress.drop",
        (_, Some(Hook::Prerouting), Symptom::TimedOut) => "firewall.prerouting.drop",
        (_, Some(Hook::Prerouting), _) => "firewall.prerouting.redirect",
        (_, Some(Hook::Input), Symptom::Refused) => "firewall.input.reject",
        (_, Some(Hook::Input), _) => "firewall.input.drop",
        (_, Some(Hook::Output), _) => "firewall.output.drop",
        (_, Some(Hook::Postrouting), _) => "firewall.postrouting.drop",
        (_, Some(Hook::Egress), _) => "firewall.egress.drop",
        (_, Some(Hook::Forward) | None, _) => "firewall.drop",
    })
}

pub fn symptom_words(symptom: Symptom) -> &'static str {
    match symptom {
        Symptom::None => "connected",
        Symptom::TimedOut => "connection timed out",
        Symptom::Refused => "connection refused",
        Symptom::Closed => "connection closed before the banner",
        Symptom::NoBanner => "connected, but no banner comes",
        Symptom::Unknown => "it is not known what a client sees",
    }
}

fn cause(blocked: &Blocked) -> String {
    let by = &blocked.by;
    let place = escape(&by.place);
    let rule = by.rule.as_deref().map(escape);
    match (by.gate, by.position, rule) {
        (Gate::Wrappers, Some(line), Some(rule)) => format!("line {line} of {place} (`{rule}`) bars it"),
        (Gate::Firewall, Some(n), Some(rule)) => format!("rule {n} of {place} (`{rule}`) {}", deed(blocked)),
        (Gate::Firewall, None, Some(rule)) => format!("the {rule} of {place} {}", deed(blocked)),
        (Gate::Listener, _, Some(words)) => words,
        (_, _, Some(rule)) => format!("{place}: {rule}"),
        (_, _, None) => place,
    }
}

fn deed(blocked: &Blocked) -> &'static str {
    if blocked.by.neighbours {
        return "drops neighbour discovery (on the link: \"No route to host\")";
    }
    match (blocked.symptom, blocked.by.hook) {
        (Symptom::TimedOut, Some(Hook::Output | Hook::Postrouting | Hook::Egress)) => "drops the answer",
        (Symptom::TimedOut, _) => "drops it",
        (Symptom::Refused, Some(Hook::Prerouting)) => "sends it elsewhere",
        (Symptom::Refused, _) => "rejects it",
        _ => "takes it",
    }
}

/// The symptom of the worst demand, and "connection timed out, because …".
pub fn sentence(verdict: Verdict, intent: &Intent, gates: &[PathGates], findings: &[Finding]) -> (Symptom, String) {
    let first = findings.first().map(|f| f.summary.clone()).unwrap_or_default();
    match verdict {
        Verdict::Blocked => {
            let worst = intent.demands.iter().find_map(|d| worst(d, gates));
            let Some((blocked, demand)) = worst else {
                return (Symptom::TimedOut, format!("connection timed out, because {first}"));
            };
            let also = match blocked.by.gate {
                Gate::Listener | Gate::Sshd => {
                    // The listener has been named already: what is behind it?
                    let behind = |f: &&Finding| {
                        f.severity == Severity::Critical
                            && f.code.starts_with("sshd.")
                            && !f.code.starts_with("sshd.listener.")
                    };
                    let sshd = findings.iter().find(behind);
                    sshd.map(|f| format!(" ({})", f.summary)).unwrap_or_default()
                }
                _ => String::new(),
            };
            let who = match (&demand.sources, families(intent)) {
                (Some(_), _) => format!(" for {}", wanted(demand)),
                (None, 1) => String::new(),
                (None, _) => {
                    match intent.demands.iter().filter(|d| matches!(d.whole, Standing::Lacking { .. })).count() {
                        1 => format!(" by {}", demand.family),
                        _ => String::new(),
                    }
                }
            };
            (blocked.symptom, format!("{}{who}, because {}{also}", symptom_words(blocked.symptom), cause(blocked)))
        }
        Verdict::Unknown => (Symptom::Unknown, format!("it is not known whether clients can connect: {first}")),
        Verdict::AtRisk => match findings.iter().find(|f| turns_away(f)) {
            Some(found) => (Symptom::None, format!("clients may be kept out, because {}", found.summary)),
            None => (Symptom::None, format!("clients can connect, but {first}")),
        },
        Verdict::Reachable => (Symptom::None, format!("clients can connect: {}", who_gets_in(intent, gates))),
    }
}

/// Whether the kernel may drop the packets of clients whom the rules let in.
pub fn turns_away(finding: &Finding) -> bool {
    finding.code == CONNTRACK_FULL
}

fn families(intent: &Intent) -> usize {
    let mut families: Vec<_> = intent.demands.iter().map(|d| d.family).collect();
    families.dedup();
    families.len()
}

fn wanted(demand: &Demand) -> String {
    match &demand.whole {
        Standing::Lacking { wanted } => wanted.to_string(),
        _ => "nobody".to_owned(),
    }
}

/// What bars the largest part of those that a demand lacks.
fn worst<'a>(demand: &'a Demand, gates: &'a [PathGates]) -> Option<(&'a Blocked, &'a Demand)> {
    let Standing::Lacking { wanted } = &demand.whole else { return None };
    let all = demand.paths.iter().flat_map(|&i| &gates[i].whole.blocked);
    all.max_by_key(|b| b.sources.intersection(wanted).count()).map(|b| (b, demand))
}

fn who_gets_in(intent: &Intent, gates: &[PathGates]) -> String {
    let mut groups: Vec<(String, u16, Vec<Family>)> = Vec::new();
    for demand in &intent.demands {
        let mut reach = AddrSet::empty(demand.family);
        for &index in &demand.paths {
            reach.union_with(&gates[index].whole.reachable());
        }
        let outside = intent.outside(demand.family);
        let barred = outside.minus(&reach);
        let who = match () {
            () if barred.is_empty() => "everybody".to_owned(),
            () if barred.count() < outside.count() / 2 => format!("everybody but {barred}"),
            () => reach.intersection(outside).to_string(),
        };
        match groups.iter_mut().find(|(same, port, _)| *same == who && *port == demand.port) {
            Some((.., families)) if families.contains(&demand.family) => {}
            Some((.., families)) => families.push(demand.family),
            None => groups.push((who, demand.port, vec![demand.family])),
        }
    }
    let words = groups.iter().map(|(who, port, families)| {
        let families: Vec<String> = families.iter().map(ToString::to_string).collect();
        format!("{who} by {} on port {port}", families.join(" and "))
    });
    words.collect::<Vec<_>>().join("; ")
}
