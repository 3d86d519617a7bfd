//! Days of fights in simulated time, over the code that the agent runs.

use proptest::prelude::*;

use super::super::settle::{Healing, Patience, Settle};
use super::*;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;
const SWEEP: u64 = 60_000;
const START: u64 = 1_700_000_000_000;

fn policy(attempts: u32) -> RestraintPolicy {
    RestraintPolicy { attempts, per_seconds: 3600 }
}

fn plan(units: &[&str]) -> Plan {
    let step = |unit: &&str| Step::StartUnit { unit: (*unit).into(), reset_failed: false, unmask: false };
    Plan { id: "x".into(), steps: units.iter().map(step).collect(), declined: Vec::new() }
}

fn attempt(at: u64, what: &str, who: &str) -> Attempt {
    Attempt { at, what: vec![what.to_owned()], who: Some(who.to_owned()), undone: false }
}

#[test]
fn what_an_account_has_mended_again_and_again_holds_back_nothing_else() {
    let mut history = History::new(Vec::new(), 7);
    for turn in 0..40 {
        history.add(attempt(START + turn, &format!("{ACCOUNT}user{}", turn % 10), "chmod"));
    }
    let now = START + 60_000;
    assert_eq!(history.leave(&policy(3), &plan(&["ssh.service"]), now), Leave::Go);
    let seen = crate::facts::Owned { mode: 0o777, uid: 1000, gid: 1000 };
    let step = Step::KeepWritersOut { account: "user3".into(), path: "/home/user3".into(), seen };
    let own = Plan { id: "x".into(), steps: vec![step], declined: Vec::new() };
    assert!(matches!(history.leave(&policy(3), &own, now), Leave::Open(_)));
    for turn in 0..12 {
        history.add(attempt(START + turn, &format!("{turn}.service"), "puppet"));
    }
    assert!(matches!(history.leave(&policy(3), &plan(&["ssh.service"]), now), Leave::Open(_)));
}

/// What is broken at a time, and when that changes next.
trait World {
    fn broken(&self, now: u64) -> Option<&'static str>;
    fn mended(&mut self, now: u64);
    /// The next change after `now`.
    fn next(&self, now: u64) -> u64;
    /// The world comes to `now`.
    fn change(&mut self, now: u64);
    fn healing(&self) -> Option<Healing>;
}

/// Lives through a day as the agent does; gives the time of each repair, and whether a breaker was ever open.
fn live(world: &mut impl World, policy: &RestraintPolicy, seed: u64) -> (Vec<u64>, bool) {
    let (mut settle, mut patience, mut history) = (Settle::default(), Patience::default(), History::new(vec![], seed));
    let (mut repairs, mut opened) = (Vec::new(), false);
    let (mut again, mut sweep) = (None, START);
    let mut change = world.next(START);
    let mut now = START;
    while now < START + DAY {
        let look = [settle.due(), again, Some(sweep)].into_iter().flatten().min().unwrap_or(sweep);
        now = look.min(change).max(now + 1);
        if now >= change {
            world.change(now);
            change = world.next(now);
            settle.changed(now);
            continue;
        }
        settle.looked();
        (again, sweep) = (None, now + SWEEP);
        let Some(what) = world.broken(now) else {
            patience.well();
            continue;
        };
        again = patience.ill(now, world.healing());
        if again.is_some() {
            continue;
        }
        match history.leave(policy, &plan(&[what]), now) {
            Leave::Go => {
                repairs.push(now);
                history.add(attempt(now, what, "puppet"));
                world.mended(now);
                patience.well();
                settle.changed(now);
            }
            Leave::Wait { until } => again = Some(until),
            Leave::Open(breaker) => {
                assert_eq!(breaker.who, ["puppet"]);
                opened = true;
            }
        }
        history.forget(policy, now);
    }
    (repairs, opened)
}

/// The most repairs within any window of an hour.
fn most(repairs: &[u64]) -> usize {
    repairs
        .iter()
        .map(|start| repairs.iter().filter(|at| (*start..=start + HOUR).contains(*at)).count())
        .max()
        .unwrap_or(0)
}

/// Breaks one thing, or one of two in turn, again and again.
struct Fighter {
    things: [&'static str; 2],
    period: u64,
    broken: Option<usize>,
    turn: usize,
}

impl World for Fighter {
    fn broken(&self, _: u64) -> Option<&'static str> {
        self.broken.map(|n| self.things[n])
    }
    fn mended(&mut self, _: u64) {
        self.broken = None;
    }
    fn next(&self, now: u64) -> u64 {
        now + self.period
    }
    fn change(&mut self, _: u64) {
        self.turn += 1;
        self.broken = Some(self.turn % 2);
    }
    fn healing(&self) -> Option<Healing> {
        None
    }
}

#[test]
fn a_day_of_a_fighting_config_manager_sees_no_more_than_the_allowed_repairs() {
    for period in [40, 999, 5_000, 61_000, 300_000, 1_199_000] {
        let mut world = Fighter { things: ["ssh.service"; 2], period, broken: None, turn: 0 };
        let (repairs, opened) = live(&mut world, &policy(3), period);
        assert!(most(&repairs) <= 3, "every {period} ms: {} in an hour", most(&repairs));
        assert!(opened && repairs.len() >= 3, "every {period} ms: {repairs:?}");
        assert!(repairs.len() <= 3 * 24, "every {period} ms: {} repairs", repairs.len());
    }
}

#[test]
fn a_fault_now_and_then_is_mended_each_time() {
    let mut world = Fighter { things: ["ssh.service"; 2], period: 2 * HOUR, broken: None, turn: 0 };
    let (repairs, opened) = live(&mut world, &policy(3), 1);
    assert_eq!((repairs.len(), opened), (11, false));
}

#[test]
fn two_things_that_break_in_turn_do_not_oscillate() {
    let mut world = Fighter { things: ["a.service", "b.service"], period: 1_500, broken: None, turn: 0 };
    let (repairs, opened) = live(&mut world, &policy(3), 7);
    assert!(opened && most(&repairs) <= 6, "{} in an hour", most(&repairs));
}

/// A firewalld that reloads again and again: nobody gets in for a while each time.
struct Reloads {
    period: u64,
    barred: u64,
}

impl World for Reloads {
    fn broken(&self, now: u64) -> Option<&'static str> {
        ((now - START) % self.period < self.barred).then_some("firewalld")
    }
    fn mended(&mut self, now: u64) {
        panic!("a false repair at {now}");
    }
    fn next(&self, now: u64) -> u64 {
        let phase = (now - START) % self.period;
        if phase < self.barred { now - phase + self.barred } else { now - phase + self.period }
    }
    fn change(&mut self, _: u64) {}
    fn healing(&self) -> Option<Healing> {
        Some(Healing::Reload)
    }
}

#[test]
fn a_day_of_a_firewalld_that_reloads_every_second_sees_no_repair() {
    for (period, barred) in [(1_000, 330), (1_000, 380), (977, 300), (3_000, 350), (60_000, 390)] {
        let (repairs, _) = live(&mut Reloads { period, barred }, &policy(3), period);
        assert_eq!(repairs, Vec::<u64>::new());
    }
}

#[test]
fn what_lasts_is_mended_although_firewalld_did_it() {
    let mut world = Fighter { things: ["ssh.service"; 2], period: 3 * HOUR, broken: None, turn: 0 };
    struct Slow<'a>(&'a mut Fighter);
    impl World for Slow<'_> {
        fn broken(&self, now: u64) -> Option<&'static str> {
            self.0.broken(now)
        }
        fn mended(&mut self, now: u64) {
            self.0.mended(now);
        }
        fn next(&self, now: u64) -> u64 {
            self.0.next(now)
        }
        fn change(&mut self, now: u64) {
            self.0.change(now);
        }
        fn healing(&self) -> Option<Healing> {
            Some(Healing::Reload)
        }
    }
    let (repairs, _) = live(&mut Slow(&mut world), &policy(3), 1);
    assert_eq!(repairs.len(), 7);
    assert!(repairs.iter().all(|at| (at - START) % (3 * HOUR) <= 1_000), "{repairs:?}");
}

#[test]
fn an_upgrade_or_a_boot_is_waited_for_and_not_for_ever() {
    for (healing, bound) in [(Healing::Ufw, 20_000), (Healing::Upgrade, 120_000), (Healing::Boot, 300_000)] {
        let (mut patience, mut now) = (Patience::default(), START);
        while let Some(again) = patience.ill(now, Some(healing)) {
            assert!(again > now);
            now = again;
        }
        assert_eq!(now, START + bound);
    }
    assert_eq!(Patience::default().ill(START, None), None);
    // However seldom it is looked.
    let mut patience = Patience::default();
    assert!(patience.ill(START, Some(Healing::Ufw)).is_some());
    assert_eq!(patience.ill(START + 20_000, Some(Healing::Ufw)), None);
}

#[test]
fn a_reload_takes_its_time_and_is_looked_at_three_times() {
    let reload = |looks: &[u64]| {
        let mut patience = Patience::default();
        looks.iter().map(|at| patience.ill(START + at, Some(Healing::Reload)).is_some()).collect::<Vec<_>>()
    };
    assert_eq!(reload(&[0, 50, 100, 150, 799, 800]), [true, true, true, true, true, false]);
    assert_eq!(reload(&[0, 5_000, 5_400]), [true, true, false]);
}

#[test]
fn what_is_waited_for_is_said() {
    let told = [Healing::Reload, Healing::Ufw, Healing::Upgrade, Healing::Boot].map(Healing::words);
    let expected =
        ["firewalld may be reloading", "ufw is at work", "a package manager is at work", "the boot has not finished"];
    assert_eq!(told, expected);
}

#[test]
fn a_burst_settles_and_a_long_one_is_looked_at_all_the_same() {
    let mut settle = Settle::default();
    assert_eq!(settle.due(), None);
    settle.changed(1000);
    settle.changed(1040);
    assert_eq!(settle.due(), Some(1090));
    (1040..5000).step_by(20).for_each(|now| settle.changed(now));
    assert_eq!(settle.due(), Some(2000));
    settle.looked();
    assert_eq!(settle.due(), None);
}

#[test]
fn a_breaker_says_who_and_closes_by_time_by_a_policy_and_by_an_operator() {
    let who = ["puppet", "nft", "puppet"];
    let attempts = (0..3).map(|n| attempt(START + n * 60_000, "ssh.service", who[n as usize])).collect();
    let mut history = History::new(attempts, 0);
    let now = START + 200_000;
    let Leave::Open(breaker) = history.leave(&policy(3), &plan(&["ssh.service"]), now) else { panic!("it goes on") };
    assert_eq!(breaker.who, ["puppet", "nft"]);
    assert_eq!((breaker.attempts, breaker.until), (3, START + 120_000 + HOUR));
    let words = breaker.words(now);
    assert!(
        words.starts_with("ssh.service was mended 3 times, and each time changed back by puppet and nft"),
        "{words}"
    );
    assert_eq!(history.leave(&policy(3), &plan(&["nftables.service"]), now), Leave::Go, "another thing is not stopped");
    assert_eq!(history.leave(&policy(3), &plan(&["ssh.service"]), breaker.until), Leave::Go);
    assert!(matches!(history.leave(&policy(4), &plan(&["ssh.service"]), now), Leave::Wait { .. } | Leave::Go));
    history.forgive(now);
    assert_eq!(history.leave(&policy(3), &plan(&["ssh.service"]), now), Leave::Go);
}

#[test]
fn a_repair_that_somebody_undid_is_not_made_again() {
    let undone = Attempt { undone: true, ..attempt(START, "ssh.service", "nft") };
    let history = History::new(vec![undone], 0);
    assert!(matches!(
        history.leave(&policy(3), &plan(&["ssh.service"]), START + 60_000),
        Leave::Open(Breaker { undone: true, .. })
    ));
    assert_eq!(history.leave(&policy(3), &plan(&["ssh.service"]), START + HOUR), Leave::Go);
}

#[test]
fn what_a_window_can_still_reach_is_kept_and_the_rest_is_forgotten() {
    let now = START + DAY;
    let kept = |history: &History| history.attempts.iter().map(|a| now - a.at).collect::<Vec<_>>();
    let attempts = [3 * HOUR, 2 * HOUR + 1, 2 * HOUR, HOUR, 0].map(|ago| attempt(now - ago, "ssh.service", "nft"));
    let mut history = History::new(attempts.to_vec(), 0);
    history.forget(&policy(3), now);
    assert_eq!(kept(&history), [2 * HOUR, HOUR, 0]);
    history.forgive(now - HOUR);
    history.forget(&policy(3), now);
    assert_eq!(kept(&history), [0]);
}

#[test]
fn attempts_that_lie_wider_apart_than_a_window_stop_nothing() {
    for (apart, open) in [(HOUR / 2, true), (HOUR / 2 + 1, false)] {
        let attempts = (0..3).map(|n| attempt(START + n * apart, "ssh.service", "nft")).collect();
        let leave = History::new(attempts, 0).leave(&policy(3), &plan(&["ssh.service"]), START + 2 * apart + 1);
        assert_eq!(matches!(leave, Leave::Open(_)), open, "{apart}: {leave:?}");
    }
    // Whoever changed it back before this window is not named.
    let ats = [(0, "chef"), (HOUR, "nft"), (HOUR + 1, "nft"), (HOUR + 2, "nft")];
    let history = History::new(ats.map(|(at, who)| attempt(START + at, "ssh.service", who)).to_vec(), 0);
    let Leave::Open(breaker) = history.leave(&policy(3), &plan(&["ssh.service"]), START + HOUR + 3) else {
        panic!("it goes on")
    };
    assert_eq!((breaker.attempts, breaker.who), (3, vec!["nft".to_owned()]));
}

/// The pause after one repair of `what` at `START`, in milliseconds.
fn pause(seed: u64, at: u64, what: &str) -> u64 {
    let history = History::new(vec![attempt(at, what, "nft")], seed);
    match history.leave(&policy(3), &plan(&[what]), at) {
        Leave::Wait { until } => {
            let before = history.leave(&policy(3), &plan(&[what]), until - 1);
            assert_eq!((before, history.leave(&policy(3), &plan(&[what]), until)), (Leave::Wait { until }, Leave::Go));
            until - at
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn pauses_are_spread_from_three_to_five_quarters_over_hosts_times_and_things() {
    let different = |pauses: Vec<u64>| {
        assert!(pauses.iter().all(|p| (PAUSE * 3 / 4..=PAUSE * 5 / 4).contains(p)), "{pauses:?}");
        assert!(pauses.iter().any(|p| *p < PAUSE * 9 / 10) && pauses.iter().any(|p| *p > PAUSE * 11 / 10));
        pauses.into_iter().collect::<std::collections::BTreeSet<_>>().len()
    };
    // One bit of the seed, of the time or of the name makes another pause.
    assert!(different((0..64).map(|bit| pause(1 << bit, START, "ssh.service")).collect()) >= 50);
    assert!(different((0..40).map(|bit| pause(u64::MAX, START ^ (1 << bit), "ssh.service")).collect()) >= 30);
    assert!(different((0..40).map(|bit| pause(0, START ^ (1 << bit), "ssh.service")).collect()) >= 30);
    assert!(different((b'a'..=b'z').map(|c| pause(0, START, &format!("unit-{}", c as char))).collect()) >= 20);
}

#[test]
fn what_was_mended_in_the_moment_of_forgiving_is_forgiven() {
    let mut history = History::new(vec![attempt(START, "ssh.service", "nft")], 0);
    assert!(matches!(history.leave(&policy(3), &plan(&["ssh.service"]), START), Leave::Wait { .. }));
    history.forgive(START);
    assert_eq!(history.leave(&policy(3), &plan(&["ssh.service"]), START), Leave::Go);
}

#[test]
fn the_spread_is_splitmix64() {
    // The first outputs for the seeds 0 and 1234567, as its authors' program prints them.
    assert_eq!(mixed(0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(mixed(1_234_567), 6_457_827_717_110_365_317);
}

#[test]
fn a_refusal_says_in_how_many_seconds_it_ends() {
    let words = |history: &History, now| {
        let decision = history.restrain(&policy(3), Decision::Repair(plan(&["ssh.service"])), now);
        let Decision::Refuse(declined) = decision else { panic!("{decision:?}") };
        format!("{}: {}", declined[0].code, declined[0].why)
    };
    let mut history = History::new(vec![attempt(START, "ssh.service", "nft")], 0);
    let until = START + pause(0, START, "ssh.service");
    let begin = "restraint.pause: the same was mended a moment ago; the next try is in";
    assert_eq!(words(&history, until - 2_000), format!("{begin} 2 s"));
    assert_eq!(words(&history, until - 1_999), format!("{begin} 2 s"));
    assert_eq!(words(&history, until - 1), format!("{begin} 1 s"));
    for at in [START + 1, START + 2] {
        history.add(attempt(at, "ssh.service", "nft"));
    }
    assert_eq!(
        words(&history, START + 10_002),
        "restraint.breaker: ssh.service was mended 3 times, and each time changed back by nft: no more until 3590 s from \
         now, a new policy, or `ssh-rescue repair`"
    );
    history.add(Attempt { undone: true, who: None, ..attempt(START + 3, "ssh.service", "") });
    assert_eq!(
        words(&history, START + 3),
        "restraint.breaker: the last repair of ssh.service was undone, and that is respected until 3600 s from now, a new \
         policy, or `ssh-rescue repair`"
    );
}

proptest! {
    #[test]
    fn whatever_breaks_when_no_window_sees_more_than_the_allowed_repairs(
        gaps in proptest::collection::vec((0u64..2_000_000, 0usize..3), 1..400),
        attempts in 1u32..6,
        seed in any::<u64>(),
    ) {
        const THINGS: [&str; 3] = ["a.service", "b.service", "c.service"];
        let mut history = History::new(Vec::new(), seed);
        let mut made: Vec<(u64, usize)> = Vec::new();
        let mut now = START;
        for (gap, thing) in gaps {
            now += gap;
            match history.leave(&policy(attempts), &plan(&[THINGS[thing]]), now) {
                Leave::Go => {
                    history.add(attempt(now, THINGS[thing], "x"));
                    made.push((now, thing));
                }
                Leave::Wait { until } => {
                    let (last, _) = *made.iter().rfind(|(_, t)| *t == thing).unwrap();
                    prop_assert!(until > now && until <= last + LONGEST * 5 / 4 + 1);
                }
                Leave::Open(breaker) => prop_assert!(breaker.until > now && breaker.until <= now + HOUR),
            }
            history.forget(&policy(attempts), now);
        }
        for thing in 0..3 {
            let times: Vec<u64> = made.iter().filter(|(_, t)| *t == thing).map(|(at, _)| *at).collect();
            prop_assert!(most(&times) <= attempts as usize);
        }
        let all: Vec<u64> = made.iter().map(|(at, _)| *at).collect();
        prop_assert!(most(&all) <= (attempts * ALL) as usize);
    }

    #[test]
    fn a_clock_that_jumps_allows_no_more(jumps in proptest::collection::vec(-5_000i64..5_000, 3..60)) {
        let mut history = History::new(Vec::new(), 1);
        let mut now = START;
        let mut made = 0;
        for jump in jumps {
            now = now.saturating_add_signed(jump);
            if history.leave(&policy(3), &plan(&["a.service"]), now) == Leave::Go {
                history.add(attempt(now, "a.service", "x"));
                made += 1;
            }
        }
        prop_assert!(made <= 3);
    }
}
