//! Somebody else writes rules all the while: no repair and no undo takes away what they wrote, or brings back what they deleted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use ssh_rescue::chain;
use ssh_rescue::host::Host;
use ssh_rescue::pass::{Outcome, repair};
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{StateDir, undo};
use ssh_rescue::rehearse::drill::{Sight, Stage};

use super::common::{patient, root, tool};

/// Repairs that are raced; as many as wanted by the environment.
const RACES: usize = 6;
const ON_DEMAND: &str = "SSH_RESCUE_RACES";
/// Rules of the other writer that stand at a time.
const STANDING: usize = 9;

/// By nf_tables itself, by iptables in front of it, and by the back-end that knows no generations.
#[derive(Debug, Clone, Copy)]
enum By {
    Nft,
    IptablesNft,
    IptablesLegacy,
}

/// A rule that lets nobody in and bars nobody.
#[derive(Debug)]
struct Written {
    by: By,
    number: usize,
    handle: String,
}

impl Written {
    fn add(host: &Host, by: By, number: usize) -> Written {
        let (comment, quoted) = (format!("other-{number}"), format!("\"other-{number}\""));
        let mut handle = String::new();
        match by {
            By::Nft => {
                let rule = ["add", "rule", "inet", "fw", "in", "ip", "saddr", "203.0.113.77", "counter", "comment"];
                let args = [&["-e", "-a"], &rule[..], &[&quoted]].concat();
                let output = host.run(&patient("nft", &args, "")).unwrap();
                assert!(output.ok(), "nft: {}", output.complaint());
                let said = String::from_utf8_lossy(&output.stdout).into_owned();
                handle = said.rsplit("# handle ").next().unwrap_or_default().trim().to_owned();
            }
            _ => Self::iptables(host, by, "-A", &comment),
        }
        Written { by, number, handle }
    }

    fn delete(self, host: &Host) {
        match self.by {
            By::Nft => tool(host, "nft", &["delete", "rule", "inet", "fw", "in", "handle", &self.handle], ""),
            by => Self::iptables(host, by, "-D", &format!("other-{}", self.number)),
        }
    }

    fn iptables(host: &Host, by: By, verb: &str, comment: &str) {
        let program = if matches!(by, By::IptablesNft) { "iptables-nft" } else { "iptables-legacy" };
        let rule = ["INPUT", "-s", "203.0.113.78", "-m", "comment", "--comment", comment];
        tool(host, program, &[&["-w", "60", verb], &rule[..]].concat(), "");
    }
}

/// Adds and deletes until it is told to stop; gives what must stand then.
fn write(host: &Host, stop: &AtomicBool, written: &AtomicUsize) -> Vec<usize> {
    let mut standing: VecDeque<Written> = VecDeque::new();
    for number in 0.. {
        if stop.load(Relaxed) {
            break;
        }
        let by = [By::Nft, By::IptablesNft, By::IptablesLegacy][number % 3];
        standing.push_back(Written::add(host, by, number));
        if standing.len() > STANDING
            && let Some(oldest) = standing.pop_front()
        {
            oldest.delete(host);
        }
        written.fetch_add(1, Relaxed);
        // Another rhythm each time, so that it meets every part of a repair.
        thread::sleep(std::time::Duration::from_millis((number as u64 * 37) % 200));
    }
    standing.into_iter().map(|rule| rule.number).collect()
}

/// All rules without their counters: the other writer's numbers, and the rest.
fn rules(host: &Host) -> (Vec<usize>, Vec<String>) {
    let (mut numbers, mut others) = (Vec::new(), Vec::new());
    for (program, args) in
        [("nft", &["-s", "list", "ruleset"][..]), ("iptables-nft-save", &[]), ("iptables-legacy-save", &[])]
    {
        let output = host.run(&patient(program, args, "")).unwrap();
        assert!(output.ok(), "{program}: {}", output.complaint());
        for line in String::from_utf8_lossy(&output.stdout).lines().filter(|l| !l.starts_with('#')) {
            let number = |l: &str| l.split("other-").nth(1)?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
            match number(line) {
                Some(number) => numbers.push(number),
                // nft does not show the comment of a match of iptables.
                None if line.contains("203.0.113.78") => {}
                None => others.push(line.split(" [").next().unwrap_or(line).to_owned()),
            }
        }
    }
    numbers.sort_unstable();
    (numbers, others)
}

#[test]
fn a_repair_loses_nothing_of_what_another_writes_meanwhile() {
    if !root("races") {
        return;
    }
    let races = std::env::var(ON_DEMAND).ok().and_then(|n| n.parse().ok()).unwrap_or(RACES);
    Stage::build(&Host::live(), |stage| {
        let (host, state, policy) = (stage.host, StateDir::default(), Policy::default());
        tool(host, "nft", &["-f", "-"], "table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; meta l4proto ipv6-icmp accept; }; }");
        tool(host, "iptables-nft", &["-P", "INPUT", "DROP"], "");
        tool(host, "iptables-legacy", &["-P", "INPUT", "DROP"], "");
        let (_, locked_out) = rules(host);
        let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (mut repaired, mut overtaken, mut met) = (0, 0, 0);
        let standing = thread::scope(|scope| {
            let writer = scope.spawn(|| write(host, &stop, &written));
            for _ in 0..races {
                let before = written.load(Relaxed);
                let report = repair(host, &state, &policy, false).unwrap();
                met += usize::from(written.load(Relaxed) > before);
                overtaken += usize::from(report.error.as_deref().is_some_and(|e| e.contains("somebody else")));
                let ids = report.earlier.iter().map(|round| round.id.clone()).chain(report.id.clone());
                let ids: Vec<String> = ids.collect();
                repaired += usize::from(report.outcome == Outcome::Repaired);
                for id in ids.iter().rev() {
                    undo(host, &state, id).map(drop).unwrap_or_else(|e| panic!("undo: {}", chain(&e)));
                }
                if writer.is_finished() {
                    break;
                }
            }
            stop.store(true, Relaxed);
            writer.join().expect("the other writer's tools work")
        });
        println!("{races} races, {met} met by a writer; {repaired} repaired, {overtaken} overtaken; {} rules written", written.load(Relaxed));
        assert_eq!(rules(host), (standing, locked_out));
        // Where nobody writes any more, it is repaired.
        let report = repair(host, &state, &policy, false).unwrap();
        assert_eq!((report.outcome, stage.see()?), (Outcome::Repaired, [Sight::Banner; 2]), "{:?}", report.error);
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}
