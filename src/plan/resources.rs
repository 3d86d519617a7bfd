//! The table of tracked connections: a larger one, by policy, and within this host's memory.

use super::{Draft, Step};
use crate::facts::{ConntrackTable, Snapshot};
use crate::judge::resources::{CONNTRACK_FULL, is_full_table};
use crate::policy::{Mode, Policy};

/// What the table of a host may take of its memory at most: one part of so many.
const SHARE: u64 = 16;
/// Bytes that a tracked connection takes: a `struct nf_conn` with its extensions (nf_conntrack of /proc/slabinfo has 256 to
/// 320, an extension up to 192).
const ENTRY: u64 = 512;

pub(super) fn mend(policy: &Policy, snapshot: &Snapshot, draft: &mut Draft) {
    let Some(ConntrackTable { count, max, raisable }) = snapshot.resources.conntrack else { return };
    if !is_full_table(count, max) {
        return;
    }
    match policy.firewall.conntrack {
        Mode::Off => return,
        Mode::Report => {
            let why = "the policy wants it to be reported, not made larger (`conntrack` of `[firewall]`)";
            return draft.decline(CONNTRACK_FULL, why);
        }
        Mode::Repair => {}
    }
    if !raisable {
        return draft.decline(CONNTRACK_FULL, "the kernel lets only the first network namespace set nf_conntrack_max");
    }
    let fits = snapshot.resources.memory_total / SHARE / ENTRY;
    // Less is full again at once.
    let least = count.saturating_add(count / 4).max(max.saturating_add(1));
    let to = max.saturating_mul(2).max(least).min(fits);
    if to < least {
        return draft.decline(
            CONNTRACK_FULL,
            &format!("more than {fits} connections would take more than a sixteenth of this host's memory"),
        );
    }
    draft.steps.push(Step::RaiseConntrack { from: max, to });
}

#[cfg(test)]
mod tests {
    use super::super::{Decision, Declined, plan};
    use super::*;
    use crate::judge::fixture::healthy;
    use crate::judge::judge;

    /// What is done, or why not, on a host with 1 GiB, in which 131,072 connections take a sixteenth.
    fn done(mode: Mode, (count, max): (u64, u64), raisable: bool) -> Result<Vec<Step>, Vec<Declined>> {
        let mut snapshot = healthy();
        snapshot.resources.conntrack = Some(ConntrackTable { count, max, raisable });
        let mut policy = Policy::default();
        policy.firewall.conntrack = mode;
        match plan(&policy, &snapshot, &judge(&policy, &snapshot), "id") {
            Decision::Repair(plan) => Ok(plan.steps),
            Decision::Refuse(declined) => Err(declined),
            Decision::Healthy => Ok(Vec::new()),
        }
    }

    #[test]
    fn a_full_table_is_made_twice_as_large_within_the_hosts_memory_where_the_policy_says_so() {
        let raise = |from, to| Ok(vec![Step::RaiseConntrack { from, to }]);
        for (seen, due) in [
            ((65_536, 65_536), raise(65_536, 131_072)),
            ((65_535, 65_536), Ok(Vec::new())),
            ((0, 0), Ok(Vec::new())),
            ((100_000, 100_000), raise(100_000, 131_072)),
            ((104_858, 104_858), raise(104_858, 131_072)),
            ((1, 1), raise(1, 2)),
            ((80_000, 4), raise(4, 100_000)),
        ] {
            assert_eq!(done(Mode::Repair, seen, true), due, "{seen:?}");
        }
        assert_eq!(done(Mode::Off, (65_536, 65_536), true), Ok(Vec::new()));
        assert_eq!(done(Mode::Report, (65_535, 65_536), true), Ok(Vec::new()));
        let reported = done(Mode::Report, (65_536, 65_536), true).unwrap_err();
        assert_eq!(reported[0].code, CONNTRACK_FULL);
        assert!(reported[0].why.starts_with("the policy wants it to be reported"), "{}", reported[0].why);
    }

    #[test]
    fn a_table_that_may_not_grow_is_declined_with_the_reason() {
        let why = |seen, raisable| match done(Mode::Repair, seen, raisable) {
            Err(declined) if declined.iter().all(|d| d.code == CONNTRACK_FULL) => {
                declined.into_iter().next().map(|d| d.why)
            }
            other => panic!("{other:?}"),
        };
        let memory = "more than 131072 connections would take more than a sixteenth of this host's memory";
        for seen in [(104_859, 104_859), (131_072, 131_072), (u64::MAX, u64::MAX), (262_144, 65_536)] {
            assert_eq!(why(seen, true).as_deref(), Some(memory), "{seen:?}");
        }
        let kernel = "the kernel lets only the first network namespace set nf_conntrack_max";
        assert_eq!(why((65_536, 65_536), false).as_deref(), Some(kernel));
    }
}
