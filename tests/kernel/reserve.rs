//! A disk that is full, of bytes or of inodes, and a lock-out on it: what the agent has kept for that is given back.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use ssh_rescue::chain;
use ssh_rescue::host::Host;
use ssh_rescue::pass::{Outcome, Report, repair};
use ssh_rescue::plan::{Step, words};
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{StateDir, Undone, free_reserve, history, keep_reserve, undo};
use ssh_rescue::rehearse::drill::{Sight, Stage};

use super::common::{root, tool};
use super::started::{Agent, until};

const DISK: &str = "/run/small";
const KEPT: &str = "/var/lib/ssh-rescue/reserve";
const DENY: &str = "ALL: ALL\n";

/// Puts /etc and the state folder on one small disk.
fn small_disk(stage: &Stage<'_>) {
    let none: Option<&str> = None;
    fs::create_dir(DISK).unwrap();
    mount(Some("small"), DISK, Some("tmpfs"), MsFlags::empty(), Some("size=96m,nr_inodes=20000,mode=0755")).unwrap();
    tool(stage.host, "cp", &["-a", "/etc", "/run/small/etc"], "");
    fs::create_dir("/run/small/lib").unwrap();
    for (from, to) in [("/run/small/etc", "/etc"), ("/run/small/lib", "/var/lib")] {
        mount(Some(from), to, none, MsFlags::MS_BIND, none).unwrap();
    }
}

/// Writes until there is no room for one byte more; gives back what `deny` takes, and denies everybody.
fn fill_with_bytes() {
    let full = fs::write(format!("{DISK}/fill"), vec![1; 96 << 20]).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(nix::libc::ENOSPC), "{full}");
    let fill = fs::File::options().write(true).open(format!("{DISK}/fill")).unwrap();
    fill.set_len(fill.metadata().unwrap().len() - 4096).unwrap();
    fs::write("/etc/hosts.deny", DENY).unwrap();
}

/// Makes files until there is no inode for another one, and denies everybody.
fn fill_with_files() {
    fs::create_dir(format!("{DISK}/fill")).unwrap();
    let full = (0..20_001).find_map(|n| fs::write(format!("{DISK}/fill/{n}"), "").err()).unwrap();
    assert_eq!(full.raw_os_error(), Some(nix::libc::ENOSPC), "{full}");
    fs::write("/etc/hosts.deny", DENY).unwrap();
}

fn empty() {
    let fill = Path::new(DISK).join("fill");
    if fill.is_dir() { fs::remove_dir_all(fill).unwrap() } else { fs::remove_file(fill).unwrap() }
}

fn kept() -> usize {
    fs::read_dir(KEPT).map_or(0, |files| files.flatten().filter(|f| f.metadata().unwrap().len() == 65536).count())
}

fn told(report: &Report) -> String {
    format!("{:?}: {:?} {:?}", report.outcome, report.error, report.plan.as_ref().map(|p| words(&p.steps)))
}

/// Without the reserve the repair is refused by name; with it the host is mended, and the undo has room too.
#[test]
fn a_full_disk_is_mended_out_of_the_reserve_and_only_so() {
    if !root("a full disk") {
        return;
    }
    for (fill, code) in
        [(fill_with_bytes as fn(), "resources.disk.full"), (fill_with_files as fn(), "resources.disk.inodes")]
    {
        Stage::build(&Host::live(), |stage| {
            small_disk(stage);
            let (state, policy) = (StateDir::default(), Policy::default());
            fill();
            let report = repair(stage.host, &state, &policy, false).unwrap();
            assert_eq!(report.outcome, Outcome::Blocked, "{code}: {}", told(&report));
            let error = report.error.unwrap_or_default();
            assert!(error.contains("No space left") && error.contains("/var/lib/ssh-rescue"), "{code}: {error}");
            assert_eq!(stage.see()?, [Sight::Closed; 2], "{code}");
            // It is not made while room is short.
            keep_reserve(stage.host, &state, true).unwrap();
            assert_eq!(kept(), 0, "{code}");

            empty();
            fs::write("/etc/hosts.deny", "").unwrap();
            keep_reserve(stage.host, &state, true).unwrap();
            assert_eq!(kept(), 64, "{code}");
            fill();
            let dry = repair(stage.host, &state, &policy, true).unwrap();
            assert_eq!((kept(), dry.outcome), (64, Outcome::Refused), "{code}: {}", told(&dry));
            let finding = dry.before.findings.iter().find(|f| f.code == code).unwrap();
            let mend = finding.mend.clone().unwrap_or_default();
            assert!(mend.contains("free the 4096 KiB that are kept for this"), "{code}: {mend}");
            let report = repair(stage.host, &state, &policy, false).unwrap();
            assert_eq!(report.outcome, Outcome::Repaired, "{code}: {}", told(&report));
            assert_eq!((kept(), stage.see()?), (0, [Sight::Banner; 2]), "{code}");
            let undone = undo(stage.host, &state, &report.id.unwrap());
            assert!(matches!(undone, Ok(Undone::TakenBack(_))), "{code}: {undone:?}");
            assert_eq!(stage.see()?, [Sight::Closed; 2], "{code}");
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
    }
}

/// One that was cut off while it was made or given back is made whole by the next look, and one that is whole is not written to.
#[test]
fn a_reserve_is_made_whole_and_then_left_alone() {
    if !root("a reserve") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        small_disk(stage);
        let state = StateDir::default();
        keep_reserve(stage.host, &state, true).unwrap();
        fs::remove_file(format!("{KEPT}/7")).unwrap();
        fs::File::options().write(true).open(format!("{KEPT}/8")).unwrap().set_len(4096).unwrap();
        assert_eq!(kept(), 62);
        keep_reserve(stage.host, &state, true).unwrap();
        assert_eq!(kept(), 64);
        let changed = || fs::metadata(KEPT).unwrap().modified().unwrap();
        let before = changed();
        keep_reserve(stage.host, &state, true).unwrap();
        assert_eq!(changed(), before);
        keep_reserve(stage.host, &state, false).unwrap();
        assert_eq!(kept(), 0);
        let before = changed();
        free_reserve(stage.host, &state).unwrap();
        assert_eq!(changed(), before);
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

#[test]
fn the_agent_keeps_a_reserve_and_mends_a_full_disk_with_it() {
    if !root("an agent on a full disk") {
        return;
    }
    Stage::build(&Host::live(), |stage| {
        small_disk(stage);
        let agent = Agent::start(stage.host);
        until("the reserve", || kept() == 64);
        fill_with_bytes();
        until("a banner", || stage.see().is_ok_and(|seen| seen == [Sight::Banner; 2]));
        drop(agent);
        let repairs = history(stage.host, &StateDir::default()).unwrap().entries;
        let freed = repairs.iter().filter(|r| matches!(r.plan.steps.first(), Some(Step::FreeReserve { .. })));
        assert_eq!((freed.count(), kept()), (1, 0));
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}
