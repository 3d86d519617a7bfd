//! The judge against the kernel: the same rules, the same sources, two verdicts.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ssh_rescue::facts::{Family, Net};
use ssh_rescue::host::Host;
use ssh_rescue::judge::netfilter::{Ports, walk, walk_inbound};
use ssh_rescue::judge::{Path, PathVerdict, Symptom};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net;
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};
use ssh_rescue::rehearse::ruleset::load;

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, probe_to, root};
use super::corpus::{folder, misread, recorded};
use super::generate::{Case, case};
use super::generated::{loaded, syns};

/// Pairs that one CI run compares; `SSH_RESCUE_PAIRS` asks for more.
const PAIRS: usize = 100_000;

#[derive(Debug, Default)]
pub struct Count {
    pub pairs: usize,
    pub conditional: usize,
    pub unknown: usize,
    /// Conditional ones of which the judge says what becomes of a first connection.
    pub first: usize,
    /// Of pairs whose record names rates or history as deciding.
    stateful: usize,
    pub rulesets: usize,
    /// Why pairs were left open, and how many.
    reasons: BTreeMap<String, usize>,
}

impl Count {
    pub fn leave_open(&mut self, said: Judged, verdict: &PathVerdict, source: IpAddr) {
        let list = match said {
            Judged::Conditional => {
                self.conditional += 1;
                self.first += usize::from(first(verdict, source).is_some());
                &verdict.conditional
            }
            _ => {
                self.unknown += 1;
                &verdict.unknown
            }
        };
        let reason = list.iter().find(|o| o.sources.contains(source)).map_or("lost", |o| &o.reason);
        *self.reasons.entry(reason.to_owned()).or_default() += 1;
    }

    /// Pairs of which nothing is said, not even of a first connection.
    pub fn unsaid_percent(&self) -> f64 {
        (self.conditional - self.first + self.unknown) as f64 * 100.0 / self.pairs.max(1) as f64
    }

    pub fn open_percent(&self) -> f64 {
        (self.conditional + self.unknown) as f64 * 100.0 / self.pairs.max(1) as f64
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    In,
    /// The SYN is answered, and what the client sends then is lost.
    Answered,
    Silent,
    Refused,
    /// In one way or another.
    Blocked,
    Conditional,
    Unknown,
}

pub fn judged(verdict: &PathVerdict, source: IpAddr) -> Judged {
    let by = |symptom| verdict.blocked.iter().any(|b| b.symptom == symptom && b.sources.contains(source));
    match () {
        () if verdict.admitted.contains(source) => Judged::In,
        () if by(Symptom::NoBanner) || by(Symptom::Closed) => Judged::Answered,
        () if by(Symptom::TimedOut) => Judged::Silent,
        () if by(Symptom::Refused) => Judged::Refused,
        () if by(Symptom::Unknown) => Judged::Blocked,
        () if verdict.conditional.iter().any(|o| o.sources.contains(source)) => Judged::Conditional,
        () => Judged::Unknown,
    }
}

/// Of a conditional source: whether its first connection gets in, as far as the judge says it.
pub fn first(verdict: &PathVerdict, source: IpAddr) -> Option<bool> {
    let first = verdict.conditional.iter().find(|o| o.sources.contains(source))?.first.as_ref()?;
    let (admitted, blocked) = (first.admitted.contains(source), first.blocked.contains(source));
    assert!(!(admitted && blocked), "{source} is both");
    (admitted || blocked).then_some(admitted)
}

pub fn path(family: Family, address: &str, net: &Net) -> Path {
    let links = net.links.present().unwrap();
    let link = links.iter().find(|l| l.index == IFINDEX).unwrap();
    Path { family, interface: link.name.clone(), ifindex: IFINDEX, address: address.parse().unwrap(), port: 22 }
}

/// Whether the two say the same; None where the judge leaves it open.
pub fn agrees(judged: Judged, answer: Answer) -> Option<bool> {
    Some(match (judged, answer) {
        (Judged::Conditional | Judged::Unknown, _) => return None,
        (Judged::In, answer) => answer.is_open(),
        (Judged::Answered, answer) => matches!(answer, Answer::HalfOpen(_)),
        (Judged::Silent, answer) => answer == Answer::Silent,
        // What a rule answers with is limited in rate, and has to pass the rules outwards itself.
        (Judged::Refused, answer) => matches!(answer, Answer::Reset | Answer::Icmp(..) | Answer::Silent),
        // A rule that is met or not, and a later one that blocks in another way: blocked all the same.
        (Judged::Blocked, answer) => !answer.is_open(),
    })
}

/// Differences of one case, in words.
fn compare(case: &mut Case, count: &mut Count) -> Vec<String> {
    let flows = syns(case);
    let family = case.family;
    let to = if family == Family::Ipv4 { ADDRESS4 } else { ADDRESS6 };
    let (answers, verdict) = loaded(&case.net, &mut case.scripts, |host, layout| {
        let (rules, net) = (firewall(host), net(host));
        let verdict = walk(&rules, &net, &path(family, to, &net), &[], &Ports::default());
        let listeners = Listeners::open(&[22], &[]).unwrap();
        (ask(&mut layout.uplinks[0], &listeners, &flows).unwrap(), verdict)
    })
    .unwrap();
    count.rulesets += 1;
    let mut wrong = Vec::new();
    for (flow, answer) in flows.iter().zip(answers) {
        count.pairs += 1;
        let said = judged(&verdict, flow.source);
        match agrees(said, answer) {
            Some(true) => {}
            None => count.leave_open(said, &verdict, flow.source),
            Some(false) => {
                let by = verdict.blocked.iter().find(|b| b.sources.contains(flow.source));
                let by =
                    by.map(|b| format!(" ({:?} by {} {:?})", b.symptom, b.by.place, b.by.rule)).unwrap_or_default();
                wrong.push(format!("{} judged {said:?}{by}, but the kernel: {answer:?}", flow.source));
            }
        }
    }
    wrong
}

#[test]
fn the_judge_agrees_with_the_kernel_on_generated_rulesets() {
    if !root("oracle") {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<usize>().ok());
    let wanted = number("SSH_RESCUE_PAIRS").unwrap_or(PAIRS);
    let first = number("SSH_RESCUE_SEED").unwrap_or(1000) as u64;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let worker = |place: usize| {
        let mut count = Count::default();
        let mut wrong = Vec::new();
        let mut seed = first + place as u64;
        while count.pairs < wanted.div_ceil(threads) {
            let mut case = case(seed);
            let mut differences = compare(&mut case, &mut count);
            // A difference is one when a fresh namespace shows it again: on a busy machine a device may come up late.
            if !differences.is_empty() {
                differences = compare(&mut case, &mut Count::default());
            }
            for difference in differences {
                let rules: Vec<_> =
                    case.scripts.iter().map(|s| format!("# {}\n{}", s.tool, s.lines.join("\n"))).collect();
                wrong.push(format!("seed {seed}: {difference}\n{}", rules.join("\n")));
            }
            seed += threads as u64;
        }
        (count, wrong)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|place| scope.spawn(move || worker(place))).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let mut all = Count::default();
    let mut wrong = Vec::new();
    for (count, differences) in results {
        all.pairs += count.pairs;
        all.conditional += count.conditional;
        all.unknown += count.unknown;
        all.first += count.first;
        all.rulesets += count.rulesets;
        count.reasons.into_iter().for_each(|(reason, pairs)| *all.reasons.entry(reason).or_default() += pairs);
        wrong.extend(differences);
    }
    let (open, unsaid) = (all.open_percent(), all.unsaid_percent());
    println!("{all:?}, {open:.2} % left open, {unsaid:.2} % without a first answer, {} differences", wrong.len());
    for difference in &wrong {
        println!("{}", difference.lines().take(2).collect::<Vec<_>>().join(" "));
    }
    assert!(wrong.is_empty(), "{} differences, of which:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n\n"));
    assert!(all.open_percent() <= 2.0, "too much is left open: {all:?}");
}

#[test]
fn the_judge_agrees_with_the_kernel_on_saved_rulesets() {
    if !root("saved rulesets") {
        return;
    }
    let Some(folder) = folder() else { return };
    let mut count = Count::default();
    let mut wrong = Vec::new();
    for truth in recorded(&folder) {
        let family = Family::of(truth.dst.parse().unwrap());
        let judge = |host: &Host, _: &mut _| {
            let (rules, net) = (firewall(host), net(host));
            walk_inbound(&rules, &net, &path(family, &truth.dst, &net))
        };
        let verdict = load(&Host::live(), &truth.saved(&folder), judge)
            .unwrap_or_else(|e| panic!("{}: {}", truth.file, ssh_rescue::chain(&e)));
        count.rulesets += 1;
        let sources = truth.accepted.iter().map(|s| (s, true)).chain(truth.blocked.iter().map(|s| (s, false)));
        for (source, open) in sources.filter(|(s, _)| !misread(s)) {
            count.pairs += 1;
            match judged(&verdict, probe_to(source, &truth.dst, 22).source) {
                Judged::In if open => {}
                Judged::Silent | Judged::Refused | Judged::Blocked if !open => {}
                // What a record says of rates and of what came before holds for its own packets only.
                Judged::Conditional if !truth.stateful_features.is_empty() => count.stateful += 1,
                open @ (Judged::Conditional | Judged::Unknown) => {
                    count.leave_open(open, &verdict, source.parse().unwrap());
                }
                other => wrong.push(format!("{} ({}): {source} judged {other:?}", truth.file, truth.backend)),
            }
        }
    }
    println!("{count:?}, {:.2} % left open, {} differences", count.open_percent(), wrong.len());
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong[..wrong.len().min(40)].join("\n"));
    assert!(count.open_percent() <= 5.0, "too much is left open: {count:?}");
}
