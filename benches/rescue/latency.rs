//! From the moment of the lock-out to the moment a client connects: the agent, monit, and the cloud vendor's script.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use super::booted::Booted;
use super::knock::first_client;
use super::lockouts::{LOCKOUTS, Lockout, prepare, reset};
use super::others::{Monit, by_hand};
use super::page::{Page, milliseconds};
use super::{number, with_agent};

/// A rescue that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(15);
const OTHERS: u64 = 5;
/// Of monit, between two rounds.
const CYCLES: Duration = Duration::from_secs(3);
/// What a round has left behind is over by then; a few numbers, so that no timer of the agent's keeps step with the rounds.
const CALM: [u64; 5] = [400, 430, 470, 520, 580];

/// What the rounds of one lock-out took, in order of time; and the rounds in which nobody got in.
pub struct Rounds {
    pub took: Vec<Duration>,
    pub never: usize,
}

impl Rounds {
    pub fn run(times: u64, mut round: impl FnMut() -> Option<Duration>) -> Rounds {
        let mut rounds = Rounds { took: Vec::new(), never: 0 };
        for _ in 0..times {
            match round() {
                Some(took) => rounds.took.push(took),
                None => rounds.never += 1,
            }
        }
        rounds.took.sort_unstable();
        rounds
    }

    /// A few rounds; what does not rescue once is not tried again.
    fn of_others(mut round: impl FnMut() -> Option<Duration>) -> Rounds {
        let first = Rounds::run(1, &mut round);
        if first.never > 0 { first } else { Rounds::run(OTHERS, round) }
    }

    fn at(&self, percent: usize) -> Option<Duration> {
        // A round that never ended took longer than all others.
        let place = (self.took.len() + self.never).saturating_sub(1) * percent / 100;
        self.took.get(place).copied()
    }

    pub fn words(&self, percent: usize) -> String {
        self.at(percent).map_or_else(|| format!("not in {} s", PATIENCE.as_secs()), milliseconds)
    }

    fn meets(&self, (median, most): (u64, u64)) -> bool {
        let below = |percent, goal| self.at(percent).is_some_and(|t| t <= Duration::from_millis(goal));
        below(50, median) && below(99, most)
    }
}

pub fn since(begin: SystemTime, end: SystemTime) -> Duration {
    end.duration_since(begin).unwrap_or_default()
}

pub fn measure(root: &Path, page: &mut Page) {
    let rounds = number("SSH_RESCUE_ROUNDS", 100);
    page.line("\n## From the lock-out to a client\n");
    page.line(&format!(
        "From the moment that the tool which locked out has ended to the moment that a client on another address is connected\n\
         (a new attempt every 4 ms, the first that gets sshd's banner counts). {rounds} rounds for the agent, {OTHERS} for the others: monit\n\
         with `set daemon 1`, `check process sshd` and `if failed port 22 protocol ssh then restart`; the cloud vendor's script\n\
         (`iptables -P INPUT ACCEPT; iptables -F; ufw disable; systemctl restart ssh; sed 1i hosts.allow`) started by hand at once.\n"
    ));
    page.line("| lock-out | agent, median | 90 % | 99 % | monit, median | the script, median |");
    page.line("| --- | ---: | ---: | ---: | ---: | ---: |");
    let agents = agent(root, rounds);
    let monits = Monit::find().map(|monit| {
        let host = Booted::boot(root);
        prepare(&host);
        monit.start(&host);
        LOCKOUTS
            .iter()
            .map(|lockout| Rounds::of_others(|| rescued(&host, lockout, || sleep(CYCLES))))
            .collect::<Vec<_>>()
    });
    let host = Booted::boot(root);
    prepare(&host);
    for (place, (lockout, agent)) in LOCKOUTS.iter().zip(&agents).enumerate() {
        let hand = Rounds::of_others(|| by_hand(&host, lockout, PATIENCE));
        let monit = monits.as_ref().map_or("not installed".to_owned(), |all| all[place].words(50));
        page.line(&format!(
            "| {} | {} | {} | {} | {monit} | {} |",
            lockout.name,
            agent.words(50),
            agent.words(90),
            agent.words(99),
            hand.words(50)
        ));
    }
    page.line("");
    for (lockout, rounds) in LOCKOUTS.iter().zip(&agents) {
        if let Some((median, most)) = lockout.goal {
            let goal = format!("{}: median at most {median} ms, 99 % at most {most} ms", lockout.name);
            page.goal(rounds.meets((median, most)), &goal, &format!("{} and {}", rounds.words(50), rounds.words(99)));
        }
    }
}

fn agent(root: &Path, rounds: u64) -> Vec<Rounds> {
    let host = with_agent(root);
    prepare(&host);
    let all = LOCKOUTS.iter().map(|lockout| {
        let rounds = Rounds::run(rounds, || {
            rescued(&host, lockout, || {
                // A repair that is asked for waits for the one at work, and forgives: each round is a first one.
                host.run("ssh-rescue repair");
            })
        });
        println!("{}: {} and {}", lockout.name, rounds.words(50), rounds.words(99));
        rounds
    });
    all.collect()
}

/// One round: locked out, and somebody else is to mend it.
fn rescued(host: &Booted, lockout: &Lockout, settle: impl FnOnce()) -> Option<Duration> {
    let begin = lockout.make(host);
    let end = first_client(host, PATIENCE);
    reset(host);
    settle();
    sleep_calm(begin.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |t| t.subsec_nanos() as usize));
    end.map(|end| since(begin, end))
}

fn sleep_calm(chance: usize) {
    sleep(Duration::from_millis(CALM[chance % CALM.len()]));
}
