//! When something was, by two clocks: the wall clock, which may be set, also by years, and the time since a boot, which may
//! not. A machine without a clock of its own begins in 1970, or where it was last, until it hears from others.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use procfs::sys::kernel::random::boot_id;
use serde::{Deserialize, Serialize};

use crate::host::Host;

/// Where a boot begins on the line of [`Moment::on_line`]: what was before it has room there.
const BOOT: u64 = 1 << 50;

/// The time since a boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uptime {
    pub boot: String,
    /// CLOCK_BOOTTIME, in milliseconds: it goes on while the machine sleeps.
    pub milliseconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    pub wall: Timestamp,
    /// None where it is not known, and on a disk, which does not run.
    pub uptime: Option<Uptime>,
}

impl Uptime {
    pub fn now(host: &Host) -> Option<Uptime> {
        if host.mounted_at().is_some() {
            return None;
        }
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
        let milliseconds = since.tv_sec().checked_mul(1000)?.checked_add(since.tv_nsec() / 1_000_000)?;
        Some(Uptime { boot: boot_id().ok()?, milliseconds: u64::try_from(milliseconds).ok()? })
    }
}

impl Moment {
    pub fn now(host: &Host) -> Moment {
        Moment { wall: Timestamp::now(), uptime: Uptime::now(host) }
    }

    /// How long ago this was, in milliseconds. Within one boot that is known, however the clock was set. What was before this
    /// boot is at least as old as that, and else as old as the clock says.
    pub fn age(&self, now: &Moment) -> u64 {
        let by_wall = now.wall.as_millisecond().saturating_sub(self.wall.as_millisecond());
        let by_wall = u64::try_from(by_wall).unwrap_or(0);
        match (&self.uptime, &now.uptime) {
            (Some(then), Some(now)) if then.boot == now.boot => now.milliseconds.saturating_sub(then.milliseconds),
            (Some(_), Some(now)) => by_wall.max(now.milliseconds),
            _ => by_wall,
        }
    }

    /// Its place on a line of milliseconds on which `now`, at whatever time of one boot it is asked, only goes forward.
    pub fn on_line(&self, now: &Moment) -> u64 {
        let up = now.uptime.as_ref().map_or(0, |uptime| uptime.milliseconds);
        BOOT.saturating_add(up).saturating_sub(self.age(now))
    }

    /// Whether the clock of another boot said a later time than there is now.
    pub fn is_to_come(&self, now: &Moment) -> bool {
        let same =
            self.uptime.is_some() && self.uptime.as_ref().map(|u| &u.boot) == now.uptime.as_ref().map(|u| &u.boot);
        !same && self.wall > now.wall
    }
}

/// `now` on that line.
pub fn on_line(host: &Host) -> u64 {
    let now = Moment::now(host);
    now.on_line(&now)
}

/// A moment of boot `boot`, `up` ms after it began, when the clock says `wall` s after the epoch.
#[cfg(test)]
pub(super) fn moment(boot: &str, up: u64, wall: i64) -> Moment {
    let uptime = Some(Uptime { boot: boot.to_owned(), milliseconds: up });
    Moment { wall: Timestamp::from_second(wall).unwrap_or_default(), uptime }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEN_YEARS: i64 = 315_576_000;
    const NOW: i64 = 1_795_000_000;

    #[test]
    fn within_a_boot_a_clock_that_jumps_makes_nothing_older_or_younger() {
        let then = moment("a", 60_000, NOW);
        for jump in [0, TEN_YEARS, -TEN_YEARS, -NOW] {
            let now = moment("a", 90_000, NOW + jump);
            assert_eq!((then.age(&now), then.is_to_come(&now)), (30_000, false), "{jump}");
        }
    }

    #[test]
    fn what_was_before_the_boot_is_as_old_as_the_clock_says_and_at_least_as_old_as_the_boot() {
        let then = moment("a", 60_000, NOW);
        assert_eq!(then.age(&moment("b", 5_000, NOW + 600)), 600_000);
        // The clock begins in 1970, or was set back: it comes to an end all the same.
        for back in [NOW, TEN_YEARS, 1] {
            let now = moment("b", 5_000, NOW - back);
            assert_eq!((then.age(&now), then.is_to_come(&now)), (5_000, true), "{back}");
        }
        let disk = Moment { uptime: None, ..moment("b", 5_000, NOW + 60) };
        assert_eq!((then.age(&disk), disk.age(&then)), (60_000, 0));
    }

    #[test]
    fn this_machine_knows_its_boot() {
        let (then, now) = (Moment::now(&Host::live()), Moment::now(&Host::live()));
        assert!(then.uptime.is_some() && now.on_line(&now) >= then.on_line(&now));
        assert_eq!(then.uptime.map(|u| u.boot), now.uptime.map(|u| u.boot));
    }

    proptest! {
        #[test]
        fn now_only_goes_forward_and_nothing_is_in_the_future(
            steps in proptest::collection::vec((0u64..10_000_000, i64::MIN..i64::MAX, any::<bool>()), 1..40),
        ) {
            let (mut up, mut last, mut seen) = (0, 0, Vec::<(Moment, u64)>::new());
            for (step, wall, other) in steps {
                up += step;
                let wall = Timestamp::from_second(wall % 200_000_000_000).unwrap_or_default();
                let now = Moment { wall, ..moment("a", up, 0) };
                let line = now.on_line(&now);
                prop_assert!(line >= last);
                last = line;
                for (then, place) in &seen {
                    prop_assert!(then.on_line(&now) <= line);
                    if then.uptime.as_ref().is_some_and(|u| u.boot == "a") {
                        prop_assert_eq!(then.on_line(&now), *place);
                    }
                }
                let then = if other { Moment { wall, ..moment("b", up, 0) } } else { now.clone() };
                seen.push((then.clone(), then.on_line(&now)));
            }
        }
    }
}
