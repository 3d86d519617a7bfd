//! A repair that is killed on a booted host: the watcher that systemd runs takes it back, and nobody has to come by.

use ssh_rescue::rehearse::drill::Sight::{self, Banner, NoBanner, Refused, TimedOut};

use super::booted::Booted;
use super::client::{Client, OFFICE, SOMEBODY};
use super::lockouts::fail2ban;
use super::meant::{TRUSTED, bans, until};
use super::seen::{differences, state, text};
use super::walk::expect;

/// Killed at so many of its commits, a repair has none left.
const BOUND: u32 = 30;

/// What is repaired, and killed.
struct Torn<'a> {
    /// Run on a fresh host by sh(1).
    make: &'a str,
    /// Of its plan.
    steps: usize,
    client: Client,
    sees: [Sight; 2],
    /// What has to be as before.
    state: fn(&Booted) -> Vec<String>,
}

/// A repair of the rules of two back-ends.
pub fn at_every_commit(host: &Booted) -> Result<(), String> {
    let make = "nft 'table inet fw { chain in { type filter hook input priority 0; ct state established accept; tcp dport 22 drop; }; }'
         iptables -P INPUT DROP";
    sweep(host, &Torn { make, steps: 2, client: SOMEBODY, sees: [TimedOut; 2], state })
}

/// One that lets systemd act.
pub fn while_thawing(host: &Booted) -> Result<(), String> {
    sweep(host, &Torn { make: "systemctl freeze ssh", steps: 1, client: SOMEBODY, sees: [NoBanner; 2], state })
}

/// One that lets fail2ban act, for an address of each family.
pub fn while_unbanning(host: &Booted) -> Result<(), String> {
    let make = [fail2ban!(), TRUSTED].concat();
    sweep(host, &Torn { make: &make, steps: 2, client: OFFICE, sees: [Refused; 2], state: bans })
}

/// Killed at each of its commits, the one by which it is confirmed among them, a repair leaves nothing or all of it. They are
/// renames: its intent, each of its steps begun and done, applied, confirmed.
fn sweep(host: &Booted, torn: &Torn<'_>) -> Result<(), String> {
    let Torn { make, steps, client, sees, state } = torn;
    let commits = 3 + 2 * steps;
    host.sh(make);
    // What a tool does for itself may take a moment.
    let seen = |when: &str| until(when, || host.wire.see(*client) == *sees);
    seen("a client before")?;
    let before = state(host);
    let mut taken_back = 0;
    for commit in 1..BOUND {
        let ended = host.killed_at("rename,renameat,renameat2", commit, &["repair"]);
        // Each pass has one; it is gone when it has done its work.
        host.sh("while systemctl list-units --all --plain --no-legend 'ssh-rescue-watch-*' | grep -q .; do sleep 0.05; done");
        let history = host.rescue(&["history"]);
        let repairs = history["repairs"].as_array().into_iter().flatten();
        let left: Vec<_> = repairs.filter(|r| r["phase"] != "rolled-back" && r["phase"] != "undone").collect();
        let phases: Vec<String> = left.iter().map(|r| text(&r["phase"])).filter(|phase| phase != "confirmed").collect();
        expect(&format!("records left open at commit {commit}"), &phases, &vec![])?;
        match left.first() {
            Some(confirmed) => {
                expect("a client after the repair", &host.wire.see(*client), &[Banner; 2])?;
                host.rescue(&["undo", &text(&confirmed["id"])]);
            }
            None => taken_back += 1,
        }
        expect(&format!("what commit {commit} leaves"), &differences(&before, &state(host)), &[vec![], vec![]])?;
        if ended {
            expect("whether all commits were met", &(taken_back >= commits && !left.is_empty()), &true)?;
            // It was systemd's, and not a child of the repair.
            let started = host.sh("journalctl -q -o cat -u 'ssh-rescue-watch-*' | grep -c ^Started");
            expect("watchers that systemd started", &started.trim().parse::<u32>().is_ok_and(|n| n >= commit), &true)?;
            return seen("a client in the end");
        }
    }
    Err(format!("a repair has more than {BOUND} commits"))
}
