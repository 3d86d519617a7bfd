//! A full table of tracked connections. Its size is of the whole machine: the stage has files in the place of the kernel's.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use ssh_rescue::apply::{apply, conntrack, insert};
use ssh_rescue::chain;
use ssh_rescue::facts::CONNTRACK_MAX;
use ssh_rescue::host::Host;
use ssh_rescue::judge::judge;
use ssh_rescue::observe::observe;
use ssh_rescue::pass::{Outcome, look, repair};
use ssh_rescue::plan::{Decision, plan, words};
use ssh_rescue::policy::{Mode, Policy};
use ssh_rescue::record::{StateDir, Undone, undo};
use ssh_rescue::rehearse::drill::Stage;
use ssh_rescue::rehearse::rehearse;
use ssh_rescue::verify::{Aim, Verified, verify};

use super::common::{root, tool};

const COUNT: &str = "nf_conntrack_count";

/// Puts a table of that size in the place of the kernel's, with so many connections in it.
pub fn table(host: &Host, count: u64, max: u64) {
    let folder = Path::new(CONNTRACK_MAX).parent().unwrap();
    // The kernel has the file once somebody tracks connections.
    tool(
        host,
        "nft",
        &["-f", "-"],
        "table inet tracks { chain c { type filter hook input priority 0; ct state new accept; }; }",
    );
    mount(Some("table"), folder, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).unwrap();
    fs::write(CONNTRACK_MAX, format!("{max}\n")).unwrap();
    fs::write(folder.join(COUNT), format!("{count}\n")).unwrap();
}

pub fn max() -> Option<u64> {
    fs::read_to_string(CONNTRACK_MAX).ok()?.trim().parse().ok()
}

fn with(mode: Mode) -> Policy {
    let mut policy = Policy::default();
    policy.firewall.conntrack = mode;
    policy
}

#[test]
fn a_full_table_is_reported_and_by_policy_made_larger_and_that_is_undone() {
    if !root("a full table of connections") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        table(stage.host, 65_536, 65_536);
        let state = StateDir::default();
        let report = repair(stage.host, &state, &with(Mode::Report), false).unwrap();
        assert_eq!((report.outcome, max()), (Outcome::Refused, Some(65_536)));
        assert_eq!(report.declined[0].code, "resources.conntrack.full");
        let full = "clients may be kept out, because the connection tracking table is full (65536 of 65536): the kernel drops new connections";
        assert_eq!(report.before.sentence, full);
        assert!(report.before.findings.iter().any(|f| f.code == "resources.conntrack.full" && f.mend.is_none()));

        let report = repair(stage.host, &state, &with(Mode::Repair), false).unwrap();
        let did = report.plan.as_ref().map(|plan| words(&plan.steps)).unwrap_or_default();
        assert_eq!(did, ["raise nf_conntrack_max from 65536 to 131072, until the next boot"], "{:?}", report.error);
        assert_eq!((report.outcome, max()), (Outcome::Repaired, Some(131_072)));
        assert!(report.after.unwrap().findings.iter().all(|f| f.code != "resources.conntrack.full"));
        let again = repair(stage.host, &state, &with(Mode::Repair), false).unwrap();
        assert_eq!((again.outcome, max()), (Outcome::Healthy, Some(131_072)));
        let undone = undo(stage.host, &state, &report.id.unwrap());
        assert!(matches!(undone, Ok(Undone::TakenBack(_))), "{undone:?}");
        assert_eq!(max(), Some(65_536));
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

#[test]
fn a_raise_after_which_the_table_is_full_still_is_taken_back() {
    if !root("a table that is full still") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        table(stage.host, 65_536, 65_536);
        let (state, policy) = (StateDir::default(), with(Mode::Repair));
        let (snapshot, before) = look(stage.host, &policy);
        let Decision::Repair(plan) = plan(&policy, &snapshot, &before, &state.new_id(stage.host)) else {
            panic!("{}", before.sentence)
        };
        let aim = Aim::of(&policy, &snapshot, &before, &plan);
        let rehearsed = rehearse(stage.host, &snapshot, plan, &policy, &before, aim.suffices(), &insert).unwrap();
        let applied = apply(stage.host, &state, rehearsed, &snapshot, &before.sentence, stage.host.watcher()).unwrap();
        assert_eq!(max(), Some(131_072));
        fs::write(Path::new(CONNTRACK_MAX).with_file_name(COUNT), "131072\n").unwrap();
        let verified = verify(stage.host, &policy, &state, applied, &aim).unwrap();
        let Verified::RolledBack { why, .. } = verified else { panic!("{verified:?}") };
        assert!(why.contains("is as before: the connection tracking table is full"), "{why}");
        assert_eq!(max(), Some(65_536));
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

/// Of another network namespace than the first the kernel takes no size, and nothing is tried there; in the first it does.
#[test]
fn the_kernel_lets_the_first_network_namespace_alone_set_the_size() {
    if !root("the size of the table of connections") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        tool(
            stage.host,
            "nft",
            &["-f", "-"],
            "table inet t { chain c { type filter hook input priority 0; ct state new accept; }; }",
        );
        let policy = with(Mode::Repair);
        let seen = observe(stage.host, &policy).resources.conntrack.unwrap();
        assert!(!seen.raisable, "{seen:?}");
        let refused = conntrack::raise(stage.host, seen.max).unwrap_err();
        assert!(chain(&refused).contains("ermission denied"), "{}", chain(&refused));
        let mut full = observe(stage.host, &policy);
        full.resources.conntrack.as_mut().unwrap().count = seen.max;
        let planned = plan(&policy, &full, &judge(&policy, &full), "id");
        assert!(format!("{planned:?}").contains("the kernel lets only the first network namespace"), "{planned:?}");
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
    // The same size as before: nothing of this machine is changed. A container's /proc/sys may be read-only.
    let here = observe(&Host::live(), &Policy::default()).resources.conntrack.unwrap();
    match conntrack::raise(&Host::live(), here.max) {
        Ok(()) => assert!(here.raisable),
        Err(refused) => assert!(!here.raisable || chain(&refused).contains("ead-only"), "{}", chain(&refused)),
    }
}
