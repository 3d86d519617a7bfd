//! One packet's way, told in order: what the walk met, then the gates behind the firewall, then how it ends.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::facts::{AddrSet, Family, Firewall, Hook, Snapshot};
use crate::judge::netfilter::{Met, asker, named, trace, trace_neighbour};
use crate::judge::{Blame, Gate, Open, Path, PathGates, PathVerdict, Symptom, listener, ports};
use crate::policy::{Mode, Policy};

/// The way from one source to one address and port of this host.
#[derive(Debug, Clone, Serialize)]
pub struct Way {
    #[serde(flatten)]
    pub path: Path,
    /// By IPv6 the two packets by which the host is found on its link, where they decide or where a rule is about those of the
    /// source itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub neighbours: Vec<Leg>,
    /// The three packets of the handshake; none where the policy does not look at the firewall.
    pub packets: Vec<Leg>,
    /// Listener, wrappers, sshd; none for a ruleset alone.
    pub gates: Vec<AtGate>,
    pub end: End,
}

/// How far something lets the connection come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Passed,
    Blocked,
    Conditional,
    Unknown,
    NotReached,
}

/// One packet of the handshake, or of neighbour discovery.
#[derive(Debug, Clone, Serialize)]
pub struct Leg {
    /// `syn`, `syn-ack`, `ack`; `neighbour-solicitation`, `neighbour-advertisement`
    pub packet: &'static str,
    pub direction: &'static str,
    /// Who sends it where that is not the source: a router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<IpAddr>,
    pub state: State,
    /// Where it ends, or why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    pub hooks: Vec<AtHook>,
}

#[derive(Debug, Clone, Serialize)]
pub struct AtHook {
    pub hook: Hook,
    pub chains: Vec<AtChain>,
}

/// A base chain, with the chains that it calls.
#[derive(Debug, Clone, Serialize)]
pub struct AtChain {
    pub table: String,
    pub chain: String,
    pub steps: Vec<Step>,
}

/// A rule that matched, a policy, or the end of a chain that was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub chain: String,
    /// How many chains deep it was called.
    pub depth: usize,
    /// Rules of the chain that did not match, between the step before and this one.
    pub unmatched: usize,
    /// From 1; neither a policy nor an end has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// `accept`, `drop`, `reject`, `jump NAME`, `goes on`, `back` at the end of a chain, …
    pub deed: String,
    /// Whether it is met depends on something that is not known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub maybe: bool,
}

#[derive(Debug, Clone, Serialize)]
pub struct AtGate {
    pub gate: Gate,
    pub state: State,
    pub words: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct End {
    pub state: State,
    pub symptom: Symptom,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Blame>>,
    /// Why it is conditional or unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where it is conditional: whether a first connection gets in, if that is sure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<bool>,
}

/// A packet, its direction, and the hooks that it meets.
type Packet = (&'static str, &'static str, &'static [Hook]);

const DISCOVERY: [Packet; 2] = [
    ("neighbour-solicitation", "in", &[Hook::Prerouting, Hook::Input]),
    ("neighbour-advertisement", "out", &[Hook::Output, Hook::Postrouting]),
];
const PACKETS: [Packet; 3] = [
    ("syn", "in", &[Hook::Prerouting, Hook::Input]),
    ("syn-ack", "out", &[Hook::Output, Hook::Postrouting]),
    ("ack", "in", &[Hook::Prerouting, Hook::Input]),
];

impl Way {
    /// `rules_alone`: nothing is known of what is behind the firewall.
    pub fn of(policy: &Policy, snapshot: &Snapshot, gates: &PathGates, source: IpAddr, rules_alone: bool) -> Way {
        let path = gates.whole.path.clone();
        let through = End::of(&gates.firewall, source);
        let mut packets = Vec::new();
        if policy.firewall.mode != Mode::Off {
            let (rules, respect) = (&snapshot.firewall, &policy.firewall.respect);
            let (met, _) = trace(rules, &snapshot.net, &path, respect, &ports(snapshot), source);
            packets = legs(rules, path.family, &met, &through, &PACKETS);
        }
        let doubt = doubt(gates, source);
        let off = rules_alone || policy.firewall.mode == Mode::Off;
        let neighbours = if off { Vec::new() } else { discovery(snapshot, gates, source, &through, doubt) };
        if through.lost() {
            packets.iter_mut().for_each(Leg::leave);
        }
        let behind = if rules_alone { Vec::new() } else { behind(policy, snapshot, gates, source, &through) };
        // Nobody answers: there is no SYN-ACK and no ACK.
        let refused = End::of(&gates.listener, source);
        let unanswered = refused.state == State::Blocked && refused.symptom != Symptom::NoBanner;
        if unanswered && !rules_alone && through.state != State::Blocked {
            packets.iter_mut().skip(1).for_each(Leg::leave);
        }
        let mut end = End::of(&gates.whole, source);
        if let (State::Passed, Some(open)) = (end.state, doubt) {
            let reason = Some(format!("neighbour discovery: {}", open.reason));
            end = End { state: State::Conditional, by: Some(open.by.clone()), reason, ..end };
        }
        Way { path, neighbours, packets, gates: behind, end }
    }
}

/// Why it is in doubt whether the source's packets find the host on its link.
fn doubt(gates: &PathGates, source: IpAddr) -> Option<&Open> {
    gates.neighbours.iter().map(|doubtful| &doubtful.open).find(|open| open.sources.contains(source))
}

/// The way of the question for the host, and of its answer; none where they are not worth a word.
fn discovery(snapshot: &Snapshot, gates: &PathGates, source: IpAddr, through: &End, doubt: Option<&Open>) -> Vec<Leg> {
    let (rules, net, path) = (&snapshot.firewall, &snapshot.net, &gates.whole.path);
    let asker = asker(net, path, source);
    let Some((met, verdict)) = trace_neighbour(rules, net, path, asker) else { return Vec::new() };
    let own = asker == source && met.iter().any(|m| m.position.is_some());
    if !(own || through.lost() || doubt.is_some()) {
        return Vec::new();
    }
    let asked = End::of(&verdict, asker);
    let mut legs = legs(rules, path.family, &met, &asked, &DISCOVERY);
    if let Some(solicitation) = legs.first_mut() {
        solicitation.from = (asker != source).then_some(asker);
    }
    if let Some(leg) = legs.get_mut(asked.packet()) {
        leg.why = leg.why.take().or(asked.reason);
    }
    legs
}

impl End {
    fn of(verdict: &PathVerdict, source: IpAddr) -> End {
        let has = |set: &AddrSet| set.contains(source);
        if let Some(blocked) = verdict.blocked.iter().find(|b| has(&b.sources)) {
            let by = Some(blocked.by.clone());
            return End { state: State::Blocked, symptom: blocked.symptom, by, reason: None, first: None };
        }
        let unknown = verdict.unknown.iter().map(|o| (State::Unknown, Symptom::Unknown, o));
        let conditional = verdict.conditional.iter().map(|o| (State::Conditional, Symptom::None, o));
        match unknown.chain(conditional).find(|(.., open)| has(&open.sources)) {
            Some((state, symptom, open)) => {
                let first = open.first.as_ref().and_then(|f| match () {
                    () if has(&f.admitted) => Some(true),
                    () if has(&f.blocked) => Some(false),
                    () => None,
                });
                End { state, symptom, by: Some(open.by.clone()), reason: Some(open.reason.clone()), first }
            }
            None => End { state: State::Passed, symptom: Symptom::None, by: None, reason: None, first: None },
        }
    }

    fn why(&self) -> Option<String> {
        let by = self.by.as_ref()?;
        match by.hook {
            Some(_) => (self.state == State::Blocked).then(|| format!("ends in {}", by.place)),
            None => {
                let why = self.reason.as_deref().or(by.rule.as_deref());
                Some(why.map_or_else(|| by.place.to_string(), |why| format!("{}: {why}", by.place)))
            }
        }
    }

    /// Whether nobody finds the host on its link.
    fn lost(&self) -> bool {
        self.by.as_ref().is_some_and(|by| by.neighbours)
    }

    /// Which of the packets it is about.
    fn packet(&self) -> usize {
        let Some(by) = &self.by else { return 0 };
        match (by.gate, by.hook, self.symptom) {
            _ if by.neighbours => 0,
            (Gate::Route, ..) => usize::from(!by.place.starts_with("rp_filter")),
            (_, Some(Hook::Output | Hook::Postrouting | Hook::Egress), _) => 1,
            (_, _, Symptom::NoBanner | Symptom::Closed) => 2,
            _ => 0,
        }
    }
}

fn legs(rules: &Firewall, family: Family, met: &[Met], through: &End, packets: &[Packet]) -> Vec<Leg> {
    let decisive = through.packet();
    let legacy = if family == Family::Ipv4 { &rules.legacy4 } else { &rules.legacy6 };
    // What could not be read is not known to have no chains.
    let blind = rules.nft.unreadable().or(legacy.unreadable()).is_some();
    let mut legs = Vec::new();
    for (index, (packet, direction, usual)) in packets.iter().copied().enumerate() {
        let state = match through.state {
            State::Blocked if index > decisive => State::NotReached,
            state if index == decisive => state,
            State::Unknown if blind => State::Unknown,
            _ => State::Passed,
        };
        let met: Vec<&Met> = met.iter().filter(|m| m.packet == packet).collect();
        let mut hooks: Vec<Hook> = met.iter().filter_map(|m| m.hook).collect();
        if state != State::NotReached && !blind {
            // A hook without chains is said, as far as the packet came there.
            let last = through.by.as_ref().filter(|_| state == State::Blocked).and_then(|by| by.hook);
            hooks.extend(usual.iter().filter(|h| last.is_none_or(|last| **h <= last)));
        }
        hooks.sort();
        hooks.dedup();
        let at = |hook| {
            let here: Vec<&Met> = met.iter().copied().filter(|m| m.hook == Some(hook)).collect();
            AtHook { hook, chains: chains(rules, &here) }
        };
        let hooks = hooks.into_iter().map(at).collect();
        let why = if index == decisive { through.why() } else { None };
        legs.push(Leg { packet, direction, from: None, state, why, hooks });
    }
    legs
}

/// The base chains of one hook, in the order in which they are met.
fn chains(rules: &Firewall, met: &[&Met]) -> Vec<AtChain> {
    let mut out: Vec<AtChain> = Vec::new();
    let mut open: Vec<Called> = Vec::new();
    for &met in met {
        let same = |c: &&mut AtChain| c.table == met.table && (met.depth > 0 || c.chain == met.chain);
        if out.last_mut().filter(same).is_none() {
            open.clear();
            out.push(AtChain { table: met.table.clone(), chain: met.chain.clone(), steps: Vec::new() });
        }
        let Some(at) = out.last_mut() else { continue };
        follow(rules, &mut open, met, &mut at.steps);
    }
    for at in &mut out {
        // Two possibilities of one packet may meet the same rule or policy.
        let mut seen: Vec<Step> = Vec::new();
        at.steps.retain(|step| {
            let again = seen
                .iter()
                .any(|s| s.maybe && s.position == step.position && s.chain == step.chain && s.deed == step.deed);
            seen.push(step.clone());
            !again
        });
    }
    out
}

/// A chain that is being walked.
struct Called {
    chain: String,
    rules: usize,
    /// The last rule of it that matched.
    last: usize,
    /// Its end is not reached: a rule has decided.
    left: bool,
}

fn follow(rules: &Firewall, open: &mut Vec<Called>, met: &Met, steps: &mut Vec<Step>) {
    let size = |chain: &str| {
        let table = rules.tables().find(|t| met.table == named(t));
        table.and_then(|t| t.chain(chain)).map_or(0, |c| c.rules.len())
    };
    // Chains that the walk has come back from since.
    while open.len() > met.depth + 1 || open.last().is_some_and(|c| open.len() == met.depth + 1 && c.chain != met.chain)
    {
        let Some(done) = open.pop() else { break };
        if !done.left {
            steps.push(Step {
                depth: open.len(),
                unmatched: done.rules.saturating_sub(done.last),
                chain: done.chain,
                position: None,
                rule: None,
                deed: "back".to_owned(),
                maybe: false,
            });
        }
    }
    let called = |chain: &str| Called { chain: chain.to_owned(), rules: size(chain), last: 0, left: false };
    while open.len() <= met.depth {
        open.push(called(&met.chain));
    }
    let depth = open.len() - 1;
    let Some(here) = open.last_mut() else { return };
    let upto = met.position.unwrap_or(here.rules + 1);
    let again = steps.last().is_some_and(|s| {
        s.depth == depth && s.chain == met.chain && s.position == met.position && met.position.is_some()
    });
    let unmatched = upto.saturating_sub(here.last + 1);
    here.last = upto.max(here.last);
    let goes_to = met.deed.strip_prefix("jump ").or(met.deed.strip_prefix("goto "));
    here.left |= met.deed == "return" || met.deed.starts_with("goto ");
    // A rule with several effects is one step: the last of them counts.
    if again && let Some(step) = steps.last_mut() {
        step.deed.clone_from(&met.deed);
        step.maybe |= met.maybe;
    } else {
        steps.push(Step {
            chain: met.chain.clone(),
            depth,
            unmatched,
            position: met.position,
            rule: met.position.map(|_| met.rule.clone()),
            deed: met.deed.clone(),
            maybe: met.maybe,
        });
    }
    if let Some(chain) = goes_to {
        open.push(called(chain));
    } else if !matches!(met.deed.as_str(), "goes on" | "return") {
        open.iter_mut().for_each(|c| c.left = true);
    }
}

/// Listener, wrappers and sshd.
fn behind(policy: &Policy, snapshot: &Snapshot, gates: &PathGates, source: IpAddr, through: &End) -> Vec<AtGate> {
    let path = &gates.whole.path;
    let wrapped = snapshot.sshd.binary.present().is_none_or(|b| b.links_libwrap());
    let taker = listener::taker(path, snapshot).unwrap_or_else(|| "somebody".to_owned());
    let wrappers = if wrapped { "hosts.allow and hosts.deny let it pass" } else { "this sshd does not ask them" };
    let off = "not judged: off in the policy";
    let listener = if policy.sshd.mode == Mode::Off { off.to_owned() } else { format!("{taker} takes it") };
    let wrappers = if policy.wrappers.mode == Mode::Off { off } else { wrappers };
    // Who listens takes the SYN; what is behind sees the connection when it is made.
    let made = through.state != State::Blocked;
    let mut reached = made || through.packet() > 0;
    let mut out = Vec::new();
    for (gate, verdict, passed) in [
        (Gate::Listener, Some(&gates.listener), listener),
        (Gate::Wrappers, Some(&gates.wrappers), wrappers.to_owned()),
        (Gate::Sshd, None, "sends its banner".to_owned()),
    ] {
        let end = verdict.map(|v| End::of(v, source));
        let state = end.as_ref().map_or(State::Passed, |e| e.state);
        if !reached {
            out.push(AtGate { gate, state: State::NotReached, words: String::new() });
            continue;
        }
        let words = end.as_ref().and_then(words).unwrap_or(passed);
        out.push(AtGate { gate, state, words });
        reached &= made && state != State::Blocked;
    }
    out
}

/// What a gate has against a connection.
fn words(end: &End) -> Option<String> {
    let by = end.by.as_ref()?;
    let line = by.position.map(|n| format!("line {n} of ")).unwrap_or_default();
    let place = if by.gate == Gate::Listener { String::new() } else { format!("{line}{}: ", by.place) };
    let why = end.reason.as_deref().or(by.rule.as_deref()).unwrap_or_default();
    Some(format!("{place}{why}"))
}

impl Leg {
    /// `SYN in`
    pub fn name(&self) -> String {
        let packet = match self.packet {
            "neighbour-solicitation" => "NS".to_owned(),
            "neighbour-advertisement" => "NA".to_owned(),
            packet => packet.to_uppercase(),
        };
        format!("{packet} {}", self.direction)
    }

    /// Whether a rule matched.
    pub fn met_a_rule(&self) -> bool {
        self.hooks.iter().flat_map(|at| &at.chains).flat_map(|at| &at.steps).any(|step| step.position.is_some())
    }

    /// It is not sent.
    fn leave(&mut self) {
        (self.state, self.why, self.hooks) = (State::NotReached, None, Vec::new());
    }
}
