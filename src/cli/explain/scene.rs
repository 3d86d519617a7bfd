//! A way as a picture that no painter has touched yet: blocks in their order, lines in the blocks.

use std::net::IpAddr;

use super::way::{AtChain, AtGate, End, Leg, State, Step, Way};
use crate::cli::screen::Tone;
use crate::judge::Gate;
use crate::judge::blame::symptom_words;

/// How something looks: what is good, bad or doubtful is seen before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Plain,
    Good,
    Bad,
    Doubt,
    Faint,
}

impl Mark {
    pub fn tone(self) -> Option<Tone> {
        match self {
            Mark::Plain => None,
            Mark::Good => Some(Tone::Good),
            Mark::Bad => Some(Tone::Bad),
            Mark::Doubt => Some(Tone::Warn),
            Mark::Faint => Some(Tone::Faint),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub title: String,
    pub blocks: Vec<Block>,
    pub end: (Mark, String),
}

/// A packet or a gate, or (inside a packet) a hook.
#[derive(Debug, Clone)]
pub struct Block {
    pub mark: Mark,
    pub hook: bool,
    pub name: String,
    pub text: String,
    pub lines: Vec<Line>,
}

#[derive(Debug, Clone)]
pub struct Line {
    pub depth: usize,
    pub mark: Mark,
    /// Stands before the text: the rule's number.
    pub number: String,
    pub text: String,
    /// Stands at the right: what was decided.
    pub verdict: String,
    pub verdict_mark: Mark,
}

impl Scene {
    pub fn of(source: IpAddr, way: &Way) -> Scene {
        let path = &way.path;
        let mut blocks = Vec::new();
        let mut unreached = Vec::new();
        for leg in &way.neighbours {
            match leg.state {
                State::NotReached => unreached.push(leg.name()),
                State::Passed if !leg.met_a_rule() => {
                    blocks.push(block(Mark::Good, leg.name(), about(leg, Some(summary(leg)))));
                }
                _ => whole(leg, about(leg, leg.why.clone()), &mut blocks),
            }
        }
        let (listener, behind): (Vec<&AtGate>, Vec<&AtGate>) = way.gates.iter().partition(|g| g.gate == Gate::Listener);
        for (index, leg) in way.packets.iter().enumerate() {
            match leg.state {
                State::NotReached => unreached.push(leg.name()),
                State::Unknown if index > 0 && leg.hooks.is_empty() => {
                    blocks.push(block(Mark::Doubt, leg.name(), "not known".to_owned()));
                }
                State::Passed if index > 0 => blocks.push(block(Mark::Good, leg.name(), summary(leg))),
                _ => whole(leg, leg.why.clone().unwrap_or_default(), &mut blocks),
            }
            if index == 0 {
                gates(&listener, &mut blocks, &mut unreached);
            }
        }
        if way.packets.is_empty() {
            gates(&listener, &mut blocks, &mut unreached);
        }
        gates(&behind, &mut blocks, &mut unreached);
        if !unreached.is_empty() {
            blocks.push(block(Mark::Faint, "not reached".to_owned(), unreached.join(", ")));
        }
        let title = format!("From {source} to {} port {} on {}", path.address, path.port, path.interface);
        Scene { title, blocks, end: (mark(way.end.state), end(way)) }
    }
}

fn gates(gates: &[&AtGate], blocks: &mut Vec<Block>, unreached: &mut Vec<String>) {
    for at in gates {
        let name = match at.gate {
            Gate::Listener => "listener",
            Gate::Wrappers => "wrappers",
            _ => "sshd",
        };
        match at.state {
            State::NotReached => unreached.push(name.to_owned()),
            state => blocks.push(block(mark(state), name.to_owned(), at.words.clone())),
        }
    }
}

fn block(mark: Mark, name: String, text: String) -> Block {
    Block { mark, hook: false, name, text, lines: Vec::new() }
}

pub fn mark(state: State) -> Mark {
    match state {
        State::Passed => Mark::Good,
        State::Blocked => Mark::Bad,
        State::Conditional | State::Unknown => Mark::Doubt,
        State::NotReached => Mark::Faint,
    }
}

/// What the client sees.
fn end(way: &Way) -> String {
    let End { state, symptom, reason, first, .. } = &way.end;
    let reason = reason.as_deref().unwrap_or_default();
    match state {
        State::Passed if way.gates.is_empty() => "the rules let the connection through".to_owned(),
        State::Passed => "the client is connected, and gets sshd's banner".to_owned(),
        State::Conditional => match first {
            Some(true) => format!("the client connects, on a condition: {reason}; a first connection gets in"),
            Some(false) => format!("a first connection is blocked (port knocking?): {reason}"),
            None => format!("the client connects, on a condition: {reason}"),
        },
        State::Unknown => format!("it is not known what the client sees: {reason}"),
        State::Blocked | State::NotReached => format!("the client sees: {}", symptom_words(*symptom)),
    }
}

/// A packet that nothing has happened to, in a line.
fn summary(leg: &Leg) -> String {
    let chains: usize = leg.hooks.iter().map(|h| h.chains.len()).sum();
    let hooks: Vec<String> = leg.hooks.iter().filter(|h| !h.chains.is_empty()).map(|h| h.hook.to_string()).collect();
    match chains {
        0 => "no chains on its way".to_owned(),
        1 => format!("1 chain at {} lets it pass", hooks.join(" and ")),
        n => format!("{n} chains at {} let it pass", hooks.join(" and ")),
    }
}

/// `neighbour solicitation by fe80::1: ends in inet t in`
fn about(leg: &Leg, more: Option<String>) -> String {
    let by = leg.from.map(|from| format!(" by {from}")).unwrap_or_default();
    let more = more.map(|more| format!(": {more}")).unwrap_or_default();
    format!("{}{by}{more}", leg.packet.replace('-', " "))
}

/// A packet with every hook, chain and rule that it met.
fn whole(leg: &Leg, text: String, blocks: &mut Vec<Block>) {
    blocks.push(block(mark(leg.state), leg.name(), text));
    for at in &leg.hooks {
        let lines: Vec<Line> = at.chains.iter().flat_map(chain).collect();
        let bad = lines.iter().any(|l| l.verdict_mark == Mark::Bad);
        let text = if lines.is_empty() { "no chains" } else { "" };
        let mark = if bad { Mark::Bad } else { Mark::Plain };
        blocks.push(Block { mark, hook: true, name: at.hook.to_string(), text: text.to_owned(), lines });
    }
}

/// A step with what was folded into it.
struct Folded {
    step: Step,
    /// Calls of chains in which nothing matched.
    calls: usize,
}

fn chain(at: &AtChain) -> Vec<Line> {
    let name = format!("{} {}", at.table, at.chain);
    let steps = fold(&at.steps);
    let line = |depth, mark, text: String| Line {
        depth,
        mark,
        number: String::new(),
        text,
        verdict: String::new(),
        verdict_mark: Mark::Plain,
    };
    if let [only] = &steps[..]
        && only.step.position.is_none()
    {
        let skipped = skipped(only).map(|s| format!(", {s}")).unwrap_or_default();
        let (verdict, verdict_mark) = verdict(&only.step);
        return vec![Line { verdict, verdict_mark, ..line(0, Mark::Plain, format!("{name}{skipped}")) }];
    }
    let mut out = vec![line(0, Mark::Plain, name)];
    for folded in &steps {
        let step = &folded.step;
        if let Some(skipped) = skipped(folded) {
            out.push(line(step.depth + 1, Mark::Faint, skipped));
        }
        if step.deed == "back" {
            continue;
        }
        let (verdict, verdict_mark) = verdict(step);
        let number = step.position.map(|n| n.to_string()).unwrap_or_default();
        let (mark, text) = match &step.rule {
            Some(rule) => (Mark::Plain, rule.clone()),
            None => (Mark::Faint, "end of the chain".to_owned()),
        };
        out.push(Line { number, verdict, verdict_mark, ..line(step.depth + 1, mark, text) });
    }
    out
}

/// Calls of chains in which nothing matched become a part of what did not match.
fn fold(steps: &[Step]) -> Vec<Folded> {
    let mut out: Vec<Folded> = steps.iter().map(|s| Folded { step: s.clone(), calls: 0 }).collect();
    for index in (0..out.len().saturating_sub(2)).rev() {
        let Some([call, back, next]) = out.get(index..index + 3) else { continue };
        let idle = call.step.deed.starts_with("jump ")
            && !call.step.maybe
            && back.step.deed == "back"
            && back.step.depth == call.step.depth + 1
            && next.step.depth == call.step.depth
            && next.step.chain == call.step.chain;
        if !idle {
            continue;
        }
        let unmatched = call.step.unmatched + 1 + back.step.unmatched;
        let calls = call.calls + 1 + back.calls;
        out.drain(index..index + 2);
        out[index].step.unmatched += unmatched;
        out[index].calls += calls;
    }
    out
}

fn skipped(folded: &Folded) -> Option<String> {
    let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    match (folded.step.unmatched, folded.calls) {
        (0, _) => None,
        (n, 0) => Some(format!("{} did not match", count(n, "rule"))),
        (n, calls) => Some(format!("{} decided nothing, {} called", count(n, "rule"), count(calls, "chain"))),
    }
}

fn verdict(step: &Step) -> (String, Mark) {
    let (word, mark) = match step.deed.as_str() {
        "accept" => ("accept".to_owned(), Mark::Good),
        "drop" => ("DROP".to_owned(), Mark::Bad),
        "reject" => ("REJECT".to_owned(), Mark::Bad),
        "sends it elsewhere" | "not modelled" => (step.deed.clone(), Mark::Doubt),
        other => (other.to_owned(), Mark::Plain),
    };
    let policy = if step.position.is_none() { "policy " } else { "" };
    let perhaps = if step.maybe { "perhaps " } else { "" };
    (format!("{perhaps}{policy}{word}"), if step.maybe { Mark::Doubt } else { mark })
}
