//! Repairs on record: applied, undone, cut short at any point, on a full and on a read-only disk.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssh_rescue::apply::{Applied, ApplyError, apply};
use ssh_rescue::chain;
use ssh_rescue::facts::*;
use ssh_rescue::host::{Host, Scratch};
use ssh_rescue::judge::{Judgement, Symptom, Verdict as Overall};
use ssh_rescue::plan::{Plan, Step};
use ssh_rescue::policy::Policy;
use ssh_rescue::record::{Phase, StateDir, Undone, history, recover, undo};
use ssh_rescue::rehearse::rehearse;

use super::common::root;

const ROLE: &str = "SSH_RESCUE_TEST_WRITES";
const OLD: &str = "# nobody\n";
const NEW: &str = "sshd : ALL : ALLOW\n";

/// A host without rules.
fn snapshot() -> Snapshot {
    super::rehearsal::snapshot(Firewall {
        nft: Seen::Absent,
        legacy4: Seen::Absent,
        legacy6: Seen::Absent,
        ipsets: Seen::Absent,
        outside: Vec::new(),
    })
}

/// Makes the plan true, without a rehearsal where it touches no rules.
pub fn make(host: &Host, state: &StateDir, snapshot: &Snapshot, steps: Vec<Step>) -> Result<Applied, ApplyError> {
    make_as(state.new_id(host), host, state, snapshot, steps)
}

fn make_as(
    id: String,
    host: &Host,
    state: &StateDir,
    snapshot: &Snapshot,
    steps: Vec<Step>,
) -> Result<Applied, ApplyError> {
    let plan = Plan { id, steps, declined: Vec::new() };
    let judgement = Judgement {
        verdict: Overall::Blocked,
        symptom: Symptom::TimedOut,
        sentence: String::new(),
        findings: Vec::new(),
        gates: Vec::new(),
    };
    let none = |_: &Host, _: &str, _: &ssh_rescue::plan::TableInserts| Ok(());
    let rehearsed = rehearse(host, snapshot, plan, &Policy::default(), &judgement, true, &none).unwrap();
    apply(host, state, rehearsed, snapshot, "connection timed out, because of a test", host.watcher())
}

/// A folder with `a` and `b` as they were, and a state folder that is not there yet.
struct Place {
    folder: PathBuf,
    state: StateDir,
}

impl Place {
    fn at(folder: &Path) -> Place {
        Place { folder: folder.to_owned(), state: StateDir::at(folder.join("state"), folder.join("run")) }
    }

    fn fresh(folder: &Path) -> Place {
        let place = Place::at(folder);
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).unwrap();
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).unwrap();
        fs::write(folder.join("a"), OLD).unwrap();
        place
    }

    /// `a` is replaced, `b` is new.
    fn steps(&self) -> Vec<Step> {
        let write =
            |name| Step::WriteFile { path: self.folder.join(name), content: NEW.into(), reason: "a test".into() };
        vec![write("a"), write("b")]
    }

    fn read(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    fn both(&self) -> (Option<String>, Option<String>) {
        (self.read("a"), self.read("b"))
    }

    fn assert_whole(&self, point: &str) {
        let (a, b) = self.both();
        assert!(a.as_deref() == Some(OLD) || a.as_deref() == Some(NEW), "{point}: a is {a:?}");
        assert!(b.is_none() || b.as_deref() == Some(NEW), "{point}: b is {b:?}");
    }

    /// Recovers, and asserts that nothing of the repair is left.
    fn assert_recovers(&self, point: &str) {
        let host = Host::live();
        recover(&host, &self.state).unwrap();
        assert_eq!(self.both(), (Some(OLD.into()), None), "{point}");
        let history = history(&Host::live(), &self.state).unwrap();
        assert!(history.unreadable.is_empty(), "{point}: {:?}", history.unreadable);
        assert!(history.entries.iter().all(|e| e.phase == Phase::RolledBack), "{point}: {:?}", history.entries);
        let left: Vec<_> = fs::read_dir(&self.folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        let own = |name: &&std::ffi::OsString| *name == "a" || *name == "state";
        assert_eq!(left.iter().filter(|n| !own(n)).count(), 0, "{point}: {left:?}");
        let repairs = fs::read_dir(self.state.path().join("repairs")).into_iter().flatten();
        let half = repairs.filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(half.count(), 0, "{point}: half a record is left");
        assert!(recover(&host, &self.state).unwrap().is_empty(), "{point}: a second time");
    }
}

#[test]
fn a_repair_is_undone_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let host = Host::live();
    let applied = make(&host, &place.state, &snapshot(), place.steps()).unwrap();
    let id = applied.plan().id.clone();
    assert_eq!(place.both(), (Some(NEW.into()), Some(NEW.into())));
    let entry = &history(&Host::live(), &place.state).unwrap().entries[0];
    assert_eq!((entry.phase, entry.steps.len()), (Phase::Applied, 2));
    assert_eq!(fs::metadata(place.state.path()).unwrap().permissions().mode() & 0o7777, 0o700);

    fs::write(place.folder.join("b"), "somebody else's\n").unwrap();
    let refused = undo(&host, &place.state, &id).unwrap_err();
    assert!(chain(&refused).contains("somebody has changed"), "{}", chain(&refused));
    assert_eq!(place.read("a").as_deref(), Some(NEW), "refused, and yet half undone");

    fs::write(place.folder.join("b"), NEW).unwrap();
    assert!(matches!(undo(&host, &place.state, &id).unwrap(), Undone::TakenBack(_)));
    assert_eq!(place.both(), (Some(OLD.into()), None));
    assert!(matches!(undo(&host, &place.state, &id).unwrap(), Undone::Already(Phase::Undone)));
    let unknown = undo(&host, &place.state, "20260101T000000-0000").unwrap_err();
    assert!(chain(&unknown).contains("no repair"), "{unknown:?}");
}

#[test]
fn a_step_that_fails_takes_back_those_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let mut steps = place.steps();
    steps.push(Step::WriteFile { path: place.folder.join("gone/c"), content: NEW.into(), reason: "a test".into() });
    let error = make(&Host::live(), &place.state, &snapshot(), steps).unwrap_err();
    assert!(matches!(&error, ApplyError::Step { step, .. } if step.contains("gone/c")), "{}", chain(&error));
    assert_eq!(place.both(), (Some(OLD.into()), None));
    assert_eq!(history(&Host::live(), &place.state).unwrap().entries[0].phase, Phase::RolledBack);
}

#[test]
fn a_file_that_changed_since_it_was_seen_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let mut seen = snapshot();
    let text = TextFile { path: place.folder.join("a"), bytes: b"as it was\n".to_vec() };
    seen.wrappers.allow = Seen::Present(text);
    let error = make(&Host::live(), &place.state, &seen, place.steps()).unwrap_err();
    assert!(matches!(error, ApplyError::Moved(_)), "{}", chain(&error));
    assert_eq!(place.both(), (Some(OLD.into()), None));
    assert!(!place.state.path().exists(), "written to before it was looked at");
}

#[test]
fn a_torn_record_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let host = Host::live();
    let _ = make(&host, &place.state, &snapshot(), place.steps()).unwrap();
    let repairs = place.state.path().join("repairs");
    let whole = fs::read(fs::read_dir(&repairs).unwrap().next().unwrap().unwrap().path()).unwrap();
    for (name, bytes) in [("torn", &whole[..whole.len() / 2]), ("empty", b"".as_slice()), ("binary", b"\xff\0\x01")] {
        fs::write(repairs.join(format!("{name}.json")), bytes).unwrap();
    }
    assert_eq!(history(&Host::live(), &place.state).unwrap().unreadable.len(), 3);
    let recovered = recover(&host, &place.state).unwrap();
    assert_eq!(recovered.iter().filter(|r| r.note.contains("set aside")).count(), 3, "{recovered:?}");
    assert_eq!(place.both(), (Some(OLD.into()), None));
    assert!(recover(&host, &place.state).unwrap().is_empty());
    assert!(repairs.join("torn.unreadable").exists());
}

#[test]
fn a_record_that_is_damaged_at_any_byte_is_set_aside_and_takes_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let host = Host::live();
    let _ = make(&host, &place.state, &snapshot(), place.steps()).unwrap();
    let record = fs::read_dir(place.state.path().join("repairs")).unwrap().next().unwrap().unwrap().path();
    let aside = record.with_extension("unreadable");
    let whole = fs::read(&record).unwrap();
    let flipped = (0..whole.len()).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    });
    let cut = (0..whole.len()).map(|length| whole[..length].to_vec());
    for (number, damaged) in flipped.chain(cut).enumerate() {
        fs::write(&record, damaged).unwrap();
        let recovered = recover(&host, &place.state).unwrap();
        assert!(matches!(&recovered[..], [one] if one.note.contains("damaged; set aside")), "{number}: {recovered:?}");
        assert_eq!(place.both(), (Some(NEW.into()), Some(NEW.into())), "{number}");
        fs::rename(&aside, &record).unwrap();
    }
    fs::write(&record, &whole).unwrap();
    place.assert_recovers("whole again");
}

#[test]
fn an_id_that_is_taken_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(&folder.path().join("x"));
    let (host, id) = (Host::live(), "20260101T000000-0001");
    let step = |name: &str| {
        vec![Step::WriteFile { path: place.folder.join(name), content: NEW.into(), reason: "a test".into() }]
    };
    let _ = make_as(id.to_owned(), &host, &place.state, &snapshot(), step("a")).unwrap();
    let error = chain(&make_as(id.to_owned(), &host, &place.state, &snapshot(), step("b")).unwrap_err());
    assert!(error.contains("on record already"), "{error}");
    assert_eq!(place.both(), (Some(NEW.into()), None));
    place.assert_recovers("the first of that id");
}

#[test]
fn what_could_not_be_taken_back_is_tried_again_a_few_times() {
    if !root("a roll-back that fails") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let host = Host::live();
    for heals in [true, false] {
        let place = Place::fresh(&folder.path().join(format!("{heals}")));
        let below = place.folder.join("below");
        fs::create_dir(&below).unwrap();
        let mode = |mode| fs::set_permissions(&below, fs::Permissions::from_mode(mode)).unwrap();
        mode(0o755);
        let file = below.join("a");
        fs::write(&file, OLD).unwrap();
        let step = Step::WriteFile { path: file.clone(), content: NEW.into(), reason: "a test".into() };
        let _ = make(&host, &place.state, &snapshot(), vec![step]).unwrap();
        let phase = || history(&host, &place.state).unwrap().entries[0].phase;
        let again = || recover(&host, &place.state).unwrap();
        // What others may write to is not written to.
        mode(0o777);
        let failed = again();
        assert!(matches!(&failed[..], [one] if one.note.contains("cannot be taken back")), "{failed:?}");
        assert_eq!(phase(), Phase::Failed);
        if heals {
            mode(0o755);
            assert_eq!((again().len(), phase()), (1, Phase::RolledBack));
            assert_eq!(fs::read_to_string(&file).unwrap(), OLD);
            continue;
        }
        let told: Vec<usize> = (0..4).map(|_| again().len()).collect();
        assert_eq!((told, phase()), (vec![1, 1, 0, 0], Phase::Failed), "for ever");
        assert_eq!(fs::read_to_string(&file).unwrap(), NEW);
    }
}

/// Not a test of its own: what the process does that is to be killed, or whose calls fail.
#[test]
fn role() {
    if let Ok(folder) = std::env::var(ROLE) {
        let place = Place::at(Path::new(&folder));
        match make(&Host::live(), &place.state, &snapshot(), place.steps()) {
            Ok(_) => std::process::exit(0),
            Err(error) => {
                eprintln!("{}", chain(&error));
                std::process::exit(3)
            }
        }
    }
}

const CALLS: [&str; 9] =
    ["openat", "write", "fsync", "fchown", "fchmod", "renameat", "unlinkat", "mkdirat", "newfstatat"];

/// Runs the role with the `when`th such call of its thread going wrong as `how` says.
fn injected(place: &Place, call: &str, how: &str, when: usize) -> std::process::ExitStatus {
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:{how}:when={when}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "record::role", "--nocapture", "--test-threads=1"])
        .env(ROLE, &place.folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

fn strace(test: &str) -> bool {
    let there = Host::live().which("strace").is_some();
    if !there {
        assert!(std::env::var_os("SSH_RESCUE_REQUIRE_ALL").is_none(), "{test}: strace is not installed");
        eprintln!("SKIPPED {test}: strace is not installed");
    }
    there
}

#[test]
fn killed_at_any_call_it_leaves_whole_files_and_recovers() {
    if !root("kill at every call") || !strace("kill at every call") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut killed = 0;
    for call in CALLS {
        for when in 1..500 {
            let place = Place::fresh(&folder.path().join("x"));
            let status = injected(&place, call, "signal=KILL", when);
            let point = format!("killed at {call} {when}");
            place.assert_whole(&point);
            if status.signal().is_none() && status.code() == Some(0) {
                assert_eq!(place.both(), (Some(NEW.into()), Some(NEW.into())), "{point}");
                break;
            }
            killed += 1;
            place.assert_recovers(&point);
        }
    }
    println!("{killed} points");
    assert!(killed > 60, "only {killed} points");
}

#[test]
fn a_call_that_fails_anywhere_leaves_all_or_nothing() {
    if !root("failing calls") || !strace("failing calls") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut failed, mut survived) = (0, 0);
    for (call, error) in
        [("write", "ENOSPC"), ("fsync", "EIO"), ("renameat", "EROFS"), ("fchmod", "EPERM"), ("mkdirat", "ENOSPC")]
    {
        let mut quiet = 0;
        for when in 1..200 {
            let place = Place::fresh(&folder.path().join("x"));
            let status = injected(&place, call, &format!("error={error}"), when);
            let point = format!("{call} {when} fails");
            match status.code() {
                Some(0) => {
                    assert_eq!(place.both(), (Some(NEW.into()), Some(NEW.into())), "{point}");
                    survived += 1;
                    quiet += 1;
                }
                Some(3) => {
                    assert_eq!(place.both(), (Some(OLD.into()), None), "{point}");
                    place.assert_recovers(&point);
                    failed += 1;
                    quiet = 0;
                }
                // What fails before the work begins is the test program's own.
                other => assert!(other.is_some() && place.both() == (Some(OLD.into()), None), "{point}: {status:?}"),
            }
            if quiet > 12 {
                break;
            }
        }
    }
    println!("{failed} failed, {survived} did not matter");
    assert!(failed > 20, "only {failed} points");
}

#[test]
fn a_full_and_a_read_only_disk_are_named_and_change_nothing() {
    if !root("a full disk") {
        return;
    }
    use nix::mount::{MsFlags, mount};
    Host::live()
        .scratch(Scratch::Host, |host| {
            let none: Option<&str> = None;
            for name in ["full", "fixed", "state"] {
                fs::create_dir(format!("/run/{name}")).unwrap();
            }
            mount(Some("t"), "/run/full", Some("tmpfs"), MsFlags::empty(), Some("size=16k,mode=0755")).unwrap();
            let state = StateDir::at("/run/state/s", "/run/state/r");
            let full = Path::new("/run/full/a");
            fs::write(full, OLD).unwrap();
            fs::write("/run/full/ballast", vec![b'x'; 8192]).unwrap();
            let write = |path: &str, length: usize| {
                vec![Step::WriteFile { path: path.into(), content: vec![b'y'; length], reason: "a test".into() }]
            };
            let error = chain(&make(host, &state, &snapshot(), write("/run/full/a", 9000)).unwrap_err());
            assert!(error.contains("/run/full/a") && error.contains("No space left"), "{error}");
            assert_eq!(fs::read_to_string(full).unwrap(), OLD);
            assert_eq!(fs::read_dir("/run/full").unwrap().count(), 2, "something is left behind");

            let small = StateDir::at("/run/full/s", "/run/state/r");
            fs::write("/run/full/more", [b'x'; 4096]).unwrap();
            let error = chain(&make(host, &small, &snapshot(), write("/run/state/c", 10)).unwrap_err());
            assert!(error.contains("could not be recorded") && error.contains("/run/full/s"), "{error}");
            assert!(!Path::new("/run/state/c").exists());

            fs::write("/run/fixed/a", OLD).unwrap();
            mount(Some("/run/fixed"), "/run/fixed", none, MsFlags::MS_BIND, none).unwrap();
            mount(none, "/run/fixed", none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
            let error = chain(&make(host, &state, &snapshot(), write("/run/fixed/a", 10)).unwrap_err());
            assert!(error.contains("/run/fixed/a") && error.contains("Read-only"), "{error}");
            assert_eq!(fs::read_to_string("/run/fixed/a").unwrap(), OLD);
            assert!(recover(host, &state).unwrap().is_empty());
            Ok(())
        })
        .unwrap();
}
