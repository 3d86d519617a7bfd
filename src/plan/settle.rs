//! When to look after a change, and how long to wait for what heals by itself.
//!
//! Times are handed in: milliseconds on a clock that only goes forward.

/// A burst of changes is over after this long without one.
pub const QUIET: u64 = 50;
/// However long a burst lasts, it is looked at after this long.
const LONGEST_BURST: u64 = 1_000;
/// A reload of firewalld bars new connections for about a third of a second.
const RELOAD: u64 = 400;
/// Looks in a row, [`RELOAD`] apart, that must show the same before a reload does not explain it.
const RELOAD_LOOKS: u32 = 3;

/// Changes that are still going on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settle {
    first: Option<u64>,
    last: u64,
}

impl Settle {
    pub fn changed(&mut self, now: u64) {
        self.first = self.first.or(Some(now));
        self.last = self.last.max(now);
    }

    /// When to look; None: nothing has changed since the last look.
    pub fn due(&self) -> Option<u64> {
        self.first.map(|first| (self.last + QUIET).min(first + LONGEST_BURST))
    }

    /// A look begins: what changes from here on is a new burst.
    pub fn looked(&mut self) {
        *self = Settle::default();
    }
}

/// What may heal by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Healing {
    /// firewalld has just changed its rules: it may be in the middle of a reload.
    Reload,
    /// ufw is in the middle of what it was asked for.
    Ufw,
    /// A package manager holds its lock, and the plan is to start a service.
    Upgrade,
    /// The boot, or cloud-init, has not finished.
    Boot,
}

impl Healing {
    /// How long it is waited for at most, in milliseconds.
    fn bound(self) -> u64 {
        match self {
            Healing::Reload => u64::from(RELOAD_LOOKS - 1) * RELOAD,
            Healing::Ufw => 20_000,
            Healing::Upgrade => 120_000,
            Healing::Boot => 300_000,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Healing::Reload => "firewalld may be reloading",
            Healing::Ufw => "ufw is at work",
            Healing::Upgrade => "a package manager is at work",
            Healing::Boot => "the boot has not finished",
        }
    }
}

/// Since when something is to be mended, over the looks that showed it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Patience {
    since: Option<u64>,
    looks: u32,
}

impl Patience {
    /// A look showed nothing to mend.
    pub fn well(&mut self) {
        *self = Patience::default();
    }

    /// A look showed something to mend. Gives when to look again, or None: nothing is to be waited for any more.
    pub fn ill(&mut self, now: u64, healing: Option<Healing>) -> Option<u64> {
        let since = *self.since.get_or_insert(now);
        self.looks += 1;
        let healing = healing?;
        let waited = now.saturating_sub(since);
        let seen = healing != Healing::Reload || self.looks >= RELOAD_LOOKS;
        if waited >= healing.bound() && seen {
            return None;
        }
        let pause = match healing {
            Healing::Reload => RELOAD,
            Healing::Ufw => 100,
            Healing::Upgrade | Healing::Boot => 1_000,
        };
        Some(now + pause)
    }
}
