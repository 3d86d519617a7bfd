//! How often the same thing is mended, and when to stop and say who is on the other side.
//!
//! Times are handed in: milliseconds on a line of one boot, on which a clock that is set moves nothing.

use std::collections::BTreeMap;

use super::{Decision, Declined, Plan, Step, ip_table};
use crate::facts::escape;
use crate::policy::RestraintPolicy;

/// Of all repairs together as many times more are allowed as of one kind.
const ALL: u32 = 4;
/// How the things begin that are one account's own.
const ACCOUNT: &str = "the way to the keys of ";
/// The first pause after a repair that did not last; each further one is [`FACTOR`] times as long, up to [`LONGEST`].
const PAUSE: u64 = 5_000;
const FACTOR: u64 = 4;
const LONGEST: u64 = 300_000;
/// Names on the other side that a breaker lists.
const NAMED: usize = 3;

/// One repair that was made or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub at: u64,
    /// What it mended, as [`mended`] names it.
    pub what: Vec<String>,
    /// Who had made it necessary, where that is known.
    pub who: Option<String>,
    /// Somebody took it back: that is a word, too.
    pub undone: bool,
}

impl Attempt {
    /// Whether ordinary users alone can have made it necessary: that must not use up what everybody's way in may need.
    fn is_of_accounts(&self) -> bool {
        self.what.iter().all(|what| what.starts_with(ACCOUNT))
    }
}

/// The repairs of the past, as far as they count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    attempts: Vec<Attempt>,
    /// Attempts until then are forgiven: an operator or a new policy said so.
    forgiven: u64,
    seed: u64,
}

/// Whether a plan may be carried out now.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Go,
    /// Not before then: the same was mended a moment ago.
    Wait {
        until: u64,
    },
    Open(Breaker),
}

/// Repairs of one kind are stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// What is not mended any more.
    pub what: String,
    pub attempts: usize,
    pub until: u64,
    /// Who changed it back, the most frequent first; empty where nobody was seen.
    pub who: Vec<String>,
    pub undone: bool,
}

impl History {
    /// `seed` spreads the pauses of many hosts.
    pub fn new(attempts: Vec<Attempt>, seed: u64) -> History {
        let mut history = History::default();
        history.replace(attempts, seed);
        history
    }

    /// What counts now is what stands in the ledger now; what was forgiven stays so.
    pub fn replace(&mut self, mut attempts: Vec<Attempt>, seed: u64) {
        attempts.sort_by_key(|a| a.at);
        self.attempts = attempts;
        self.seed = seed;
    }

    pub fn add(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
        self.attempts.sort_by_key(|a| a.at);
    }

    /// Closes every breaker: an operator asks for it, or the policy has changed.
    pub fn forgive(&mut self, now: u64) {
        self.forgiven = self.forgiven.max(now);
    }

    /// Drops what no window can reach any more.
    pub fn forget(&mut self, policy: &RestraintPolicy, now: u64) {
        let reach = 2 * window(policy);
        self.attempts.retain(|a| now.saturating_sub(a.at) <= reach && a.at > self.forgiven);
    }

    /// Whether what `plan` mends may be mended now.
    pub fn leave(&self, policy: &RestraintPolicy, plan: &Plan, now: u64) -> Leave {
        let mut until = 0;
        for what in mended(&plan.steps) {
            let same: Vec<&Attempt> = self.counted().filter(|a| a.what.contains(&what)).collect();
            if let Some(breaker) = breaker(&same, &what, policy.attempts, window(policy), now) {
                return Leave::Open(breaker);
            }
            until = until.max(self.pause(&same, &what, window(policy), now));
        }
        let all: Vec<&Attempt> = self.counted().filter(|a| !a.undone && !a.is_of_accounts()).collect();
        if let Some(breaker) = breaker(&all, "anything", policy.attempts.saturating_mul(ALL), window(policy), now) {
            return Leave::Open(breaker);
        }
        if until > now { Leave::Wait { until } } else { Leave::Go }
    }

    /// The decision as restraint leaves it.
    pub fn restrain(&self, policy: &RestraintPolicy, decision: Decision, now: u64) -> Decision {
        let Decision::Repair(plan) = decision else { return decision };
        match self.leave(policy, &plan, now) {
            Leave::Go => Decision::Repair(plan),
            Leave::Wait { until } => refuse(
                "restraint.pause",
                format!("the same was mended a moment ago; the next try is in {} s", seconds(until, now)),
            ),
            Leave::Open(breaker) => refuse("restraint.breaker", breaker.words(now)),
        }
    }

    fn counted(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.at > self.forgiven)
    }

    /// Until when to wait after the last of these attempts: longer with each, and never at the same time on many hosts.
    fn pause(&self, same: &[&Attempt], what: &str, window: u64, now: u64) -> u64 {
        let recent: Vec<&&Attempt> = same.iter().filter(|a| now.saturating_sub(a.at) <= window).collect();
        let Some(last) = recent.last() else { return 0 };
        let exponent = u32::try_from(recent.len() - 1).unwrap_or(u32::MAX);
        let pause = PAUSE.saturating_mul(FACTOR.saturating_pow(exponent)).min(LONGEST);
        // Three quarters to five quarters.
        let share = mixed(self.seed ^ last.at ^ mixed(what.bytes().fold(0, |h, b| mixed(h ^ u64::from(b))))) % 513;
        last.at.min(now) + pause * (768 + share) / 1024
    }
}

impl Breaker {
    /// A fragment that fits "not mended, because …".
    pub fn words(&self, now: u64) -> String {
        let Breaker { what, attempts, until, .. } = self;
        let until = format!("until {} s from now, a new policy, or `ssh-rescue repair`", seconds(*until, now));
        if self.undone {
            return format!("the last repair of {what} was undone, and that is respected {until}");
        }
        let who = match self.who.is_empty() {
            true => "somebody".to_owned(),
            false => self.who.join(" and "),
        };
        format!("{what} was mended {attempts} times, and each time changed back by {who}: no more {until}")
    }
}

/// What some steps mend, each thing once.
pub fn mended(steps: &[Step]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for what in steps.iter().filter_map(thing) {
        if !all.contains(&what) {
            all.push(what);
        }
    }
    all
}

fn thing(step: &Step) -> Option<String> {
    Some(match step {
        // It is for what comes after it.
        Step::FreeReserve { .. } => return None,
        Step::Nft { family, table, .. } => format!("the rules of {family} {}", escape(table)),
        Step::Iptables { family, table, .. } => format!("the rules of {} {}", ip_table(*family), escape(table)),
        Step::UfwAllow { .. } | Step::UfwRebuild { .. } => "ufw's rules".to_owned(),
        Step::FirewalldAllow { zone, .. } => format!("firewalld's zone {}", escape(zone)),
        Step::Unban { jail, .. } => format!("the bans of fail2ban's jail {}", escape(jail)),
        Step::FirewalldPanicOff => "firewalld's panic mode".to_owned(),
        Step::WriteFile { path, .. } | Step::Persist { path, .. } => escape(&path.to_string_lossy()),
        Step::SetMode { path, .. } | Step::MakeFolder { path, .. } => escape(&path.to_string_lossy()),
        Step::KeepWritersOut { account, .. } => format!("{ACCOUNT}{}", escape(account)),
        Step::RaiseConntrack { .. } => "the size of the connection tracking table".to_owned(),
        Step::ContinueProcess { name, .. } => format!("the process {}", escape(name)),
        Step::EmergencySshd { .. } => "the emergency sshd".to_owned(),
        Step::MakeKeys { .. } => "sshd's host keys".to_owned(),
        Step::MakeUser { name, .. } => format!("the user {}", escape(name)),
        Step::StartUnit { unit, .. }
        | Step::ReloadUnit { unit }
        | Step::ThawUnit { unit }
        | Step::RestartUnit { unit, .. }
        | Step::EnableUnit { unit }
        | Step::ListenBySocket { unit, .. } => escape(unit),
        Step::Flush | Step::Disable { .. } => "the firewall".to_owned(),
    })
}

fn refuse(code: &str, why: String) -> Decision {
    Decision::Refuse(vec![Declined { code: code.to_owned(), why }])
}

fn window(policy: &RestraintPolicy) -> u64 {
    policy.per_seconds.saturating_mul(1000)
}

fn seconds(until: u64, now: u64) -> u64 {
    until.saturating_sub(now).div_ceil(1000)
}

/// Open once `allowed` attempts lie within one window, for one more window after the last; and where the last was undone.
/// Attempts of the future count as made now.
fn breaker(same: &[&Attempt], what: &str, allowed: u32, window: u64, now: u64) -> Option<Breaker> {
    let last = same.last()?;
    let until = last.at.min(now) + window;
    if now >= until {
        return None;
    }
    // The earliest of the last `allowed` attempts.
    let earliest = same.len().checked_sub(allowed as usize).and_then(|index| same.get(index));
    let spent = earliest.is_some_and(|first| last.at - first.at <= window);
    if !spent && !last.undone {
        return None;
    }
    let fought: Vec<&&Attempt> = same.iter().filter(|a| last.at - a.at <= window).collect();
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for name in fought.iter().filter_map(|a| a.who.as_deref()) {
        *names.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = names.into_iter().collect();
    names.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    let who = names.into_iter().take(NAMED).map(|(name, _)| name.to_owned()).collect();
    Some(Breaker { what: what.to_owned(), attempts: fought.len(), until, who, undone: last.undone })
}

/// The finaliser of SplitMix64: spreads, and keeps no secret.
fn mixed(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
