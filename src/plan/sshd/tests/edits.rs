//! What becomes of sshd's files: no line goes that need not, and nothing that was planned before gets lost.

use super::*;
use crate::facts::{HostKey, KeyFile, PathMode};

const DROP_IN: &str = "/etc/ssh/sshd_config.d/a.conf";
const ODD: &[&str] = &["something nobody knows"];

fn bogus(line: usize) -> String {
    format!("{MAIN} line {line}: Bad configuration option: Bogus")
}

fn of_ports(ports: &[u16]) -> Policy {
    let mut policy = Policy::default();
    policy.ssh.ports = ports.to_vec();
    policy
}

#[test]
fn what_sshd_only_remarks_on_stays_in_force() {
    let text = "KeyRegenerationInterval 1\nRSAAuthentication yes\nBogus yes\n";
    let messages = [
        format!("{MAIN} line 1: Deprecated option KeyRegenerationInterval"),
        format!("{MAIN} line 2: Unsupported option RSAAuthentication"),
        bogus(3),
    ];
    let snapshot = down(vec![file(MAIN, text)], &messages.each_ref().map(String::as_str));
    let steps = planned(snapshot, &Policy::default(), &[(&[], everywhere())]).unwrap();
    let [(_, written)] = &written(&steps)[..] else { panic!("{steps:?}") };
    assert!(written.starts_with("KeyRegenerationInterval 1\nRSAAuthentication yes\n#Bogus yes"), "{written}");
}

#[test]
fn a_line_that_sshd_names_twice_is_told_once_and_each_other_one_too() {
    let messages = [bogus(1), bogus(1), bogus(2)];
    let snapshot = down(vec![file(MAIN, "Bogus a\nBogus b\nPort 22\n")], &messages.each_ref().map(String::as_str));
    let steps = planned(snapshot, &Policy::default(), &[(&[], everywhere())]).unwrap();
    let words = steps[0].words().join("; ");
    assert_eq!((words.matches("line 1 ").count(), words.matches("line 2 ").count()), (1, 1), "{words}");
}

#[test]
fn blanks_and_notes_within_a_block_that_goes_stay_as_they_are() {
    let text = "Match Usr bob\n# why\n\n  # and why not\n PermitTTY no\n";
    let bad = format!("{MAIN} line 1: Bad Match condition");
    let steps = planned(down(vec![file(MAIN, text)], &[&bad]), &Policy::default(), &[(&[], everywhere())]).unwrap();
    let note = format!("  # ssh-rescue:{ID}: Bad Match condition\n");
    let wanted = format!("#Match Usr bob{note}# why\n\n  # and why not\n# PermitTTY no{note}");
    assert_eq!(written(&steps), [(MAIN.to_owned(), wanted)]);
    let words = steps[0].words().join("; ");
    assert!(words.contains("lines 1 to 5 (\"Match Usr bob\" and its block)"), "{words}");
}

/// sshd names no line there: of several of the keyword it is the one that holds what it complains of.
#[test]
fn a_line_that_sshd_complains_of_without_its_number_is_found_by_its_words() {
    let text = "ListenAddress 192.0.2.10\nListenAddress nowhere.example\nPort 22\n";
    let of = |message: &str| {
        let snapshot = down(vec![file(MAIN, text)], &[message]);
        let steps = planned(snapshot, &Policy::default(), &[(&[], everywhere())]).unwrap();
        let lines = written(&steps)[0].1.lines().map(|l| l.starts_with('#')).collect::<Vec<_>>();
        (lines, steps[0].words().join("; "))
    };
    let (lines, words) = of("bad addr or host: nowhere.example (Name or service not known)");
    assert_eq!(lines, [false, true, false]);
    assert!(words.contains("line 2 (\"ListenAddress nowhere.example\")"), "{words}");
    assert_eq!(of("bad addr or host: <NULL>").0, [true, true, false]);
}

/// Whatever main file is tried: the drop-ins that it includes are mended in their own right, and the admin's file is kept once.
#[test]
fn another_main_file_takes_away_no_mend_of_a_drop_in() {
    let files = vec![file(MAIN, "Port 22\n# the admin's\n"), file(DROP_IN, "Bogus yes\n")];
    let mut snapshot = down(files, ODD);
    snapshot.sshd.files.kept = vec![vec![file(DROP_IN, "# not the main one\n"), file(MAIN, "# good\n")]];
    snapshot.sshd.files.shipped = Some(file("/usr/share/openssh/sshd_config", "# shipped\n"));
    let named = format!("{DROP_IN} line 1: Bad configuration option: Bogus");
    let answers: &[(&[&str], Settings)] = &[(&[&named], everywhere()), (ODD, everywhere()), (&[], everywhere())];
    let files = written(&planned(snapshot, &Policy::default(), answers).unwrap());
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, [DROP_IN, &format!("{MAIN}.{ID}"), MAIN]);
    assert!(files[0].1.starts_with("#Bogus yes"), "{files:?}");
    assert_eq!(files[1].1, "Port 22\n# the admin's\n");
    assert!(files[2].1.ends_with("\n# shipped\n"), "{files:?}");
}

#[test]
fn two_edits_of_one_file_are_one_write_with_both() {
    let mut snapshot = down(vec![file(MAIN, "Bogus yes\n")], &[&bogus(1)]);
    snapshot.sshd.settings = Seen::Absent;
    let both = settings(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222", "[::]:2222"]);
    let steps = planned(snapshot, &of_ports(&[2222]), &[(&[], everywhere()), (&[], both)]).unwrap();
    let [(path, text)] = &written(&steps)[..] else { panic!("{steps:?}") };
    assert_eq!(path, MAIN);
    assert!(text.contains("\nPort 22\nPort 2222\n") && text.contains("\n#Bogus yes"), "{text}");
    let words = steps[0].words().join("; ");
    assert!(words.contains("comment out line 1") && words.contains("add Port 22, Port 2222"), "{words}");
}

/// The lines that are added to a main file, of a host that `paths` of the snapshot lead to.
fn added(text: &str, now: Settings, after: Settings, ports: &[u16], change: impl FnOnce(&mut Snapshot)) -> Vec<String> {
    let mut snapshot = down(vec![file(MAIN, text)], &[]);
    snapshot.sshd.settings = Seen::Present(now);
    change(&mut snapshot);
    let steps = planned(snapshot, &of_ports(ports), &[(&[], after)]).unwrap();
    let [(_, written)] = &written(&steps)[..] else { panic!("{steps:?}") };
    written.strip_suffix(text).unwrap().lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn no_more_is_added_than_sshd_lacks() {
    let both = settings(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222", "[::]:2222"]);
    let other = || settings(&["0.0.0.0:2222", "[::]:2222"]);
    // The ports that the file names are no default that would be lost.
    assert_eq!(added("Port 2222\n", other(), both.clone(), &[22], |_| ()), ["Port 22"]);
    assert_eq!(added("", everywhere(), both, &[2222], |_| ()), ["Port 22", "Port 2222"]);
    // The port is right, the family is not.
    let four = settings(&["0.0.0.0:22"]);
    assert_eq!(added("AddressFamily inet\n", four, everywhere(), &[22], |_| ()), ["AddressFamily any"]);
    // A host of IPv4 alone needs no other family.
    let one = settings(&["203.0.113.5:22"]);
    let two = settings(&["203.0.113.5:22", "192.0.2.10:22"]);
    let four_alone = |snapshot: &mut Snapshot| {
        let Seen::Present(addresses) = &mut snapshot.net.addresses else { panic!("no addresses") };
        addresses.retain(|a| a.address.is_ipv4());
    };
    let text = "ListenAddress 203.0.113.5\nAddressFamily inet\n";
    assert_eq!(added(text, one, two, &[22], four_alone), ["ListenAddress 192.0.2.10:22"]);
}

/// sshd would never read a drop-in that the main file does not include by name, or whose folder is not there.
#[test]
fn a_drop_in_is_written_only_where_sshd_will_read_it() {
    let folder = || PathMode { path: "/etc/ssh/sshd_config.d".into(), mode: 0o755, uid: 0, gid: 0 };
    let drop_in = "/etc/ssh/sshd_config.d/00-ssh-rescue.conf";
    for (include, tree, wanted) in [
        ("/etc/ssh/sshd_config.d/*.conf", vec![folder()], drop_in),
        ("sshd_config.d/0*.conf", vec![folder()], drop_in),
        ("/etc/ssh/sshd_config.d/10-*.conf", vec![folder()], MAIN),
        ("/etc/ssh/other.d/*.conf", vec![folder()], MAIN),
        ("/etc/ssh/sshd_config.d/*.conf", vec![], MAIN),
    ] {
        let mut snapshot = down(vec![file(MAIN, &format!("Include {include}\n"))], &[]);
        snapshot.sshd.settings = Seen::Present(everywhere());
        snapshot.sshd.files.tree = tree;
        let both = settings(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222", "[::]:2222"]);
        let steps = planned(snapshot, &of_ports(&[2222]), &[(&[], both)]).unwrap();
        assert_eq!(written(&steps)[0].0, wanted, "{include}");
    }
}

#[test]
fn the_folder_of_sshds_child_is_made_as_its_place_asks_for() {
    for (path, mode) in
        [("/run/sshd", 0o755), ("/var/run/sshd", 0o755), ("/var/empty/sshd", 0o711), ("/usr/share/empty.sshd", 0o711)]
    {
        let said = format!("Missing privilege separation directory: {path}");
        let mut snapshot = down(vec![file(MAIN, "")], &[&said]);
        // No unit would make it.
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("no units") };
        units[0].load_state = "masked".into();
        let policy = parse("[sshd]\nunmask = true\n").unwrap();
        let steps = planned(snapshot, &policy, &[(&[], everywhere())]).unwrap();
        let owned = Owned { mode, uid: 0, gid: 0 };
        assert_eq!(steps[0], Step::MakeFolder { path: path.into(), owned });
    }
}

#[test]
fn the_folder_that_its_unit_makes_is_left_to_the_unit() {
    let missing = "Missing privilege separation directory: /run/sshd";
    let mut snapshot = down(vec![file(MAIN, "")], &[missing]);
    snapshot.sshd.settings = Seen::Absent;
    assert_eq!(planned(snapshot.clone(), &Policy::default(), &[(&[], everywhere())]), Ok(vec![start()]));
    // What sshd listens on is known: there is nothing to ask.
    snapshot.sshd.settings = Seen::Present(everywhere());
    assert_eq!(planned(snapshot.clone(), &Policy::default(), &[]), Ok(vec![start()]));
    // Beside it something else is wrong that the unit's start does not mend.
    snapshot.sshd.files.config = vec![file(MAIN, "Bogus yes\n")];
    snapshot.sshd.test = Seen::Present(said(&[missing, &bogus(1)]));
    let steps = planned(snapshot, &Policy::default(), &[(&[missing], everywhere()), (&[], everywhere())]).unwrap();
    assert_eq!(steps[1..], [start()]);
}

fn key(path: &str, file: Seen<KeyFile>) -> HostKey {
    HostKey { path: path.into(), kind: "ed25519".into(), file }
}

fn key_file(mode: u32, uid: u32, is_key: bool) -> Seen<KeyFile> {
    Seen::Present(KeyFile { owned: Owned { mode, uid, gid: 0 }, size: 400, is_key })
}

#[test]
fn what_was_planned_before_a_keys_mode_stays_planned() {
    let refused: &[&str] = &["Permissions 0644 for '/k' are too open.", "sshd: no hostkeys available -- exiting."];
    let mut snapshot = down(vec![file(MAIN, "Bogus yes\n")], &[&bogus(1)]);
    snapshot.sshd.files.keys = vec![key("/k", key_file(0o644, 0, true))];
    let steps = planned(snapshot, &Policy::default(), &[(refused, everywhere()), (&[], everywhere())]).unwrap();
    let strict = Owned { mode: 0o600, uid: 0, gid: 0 };
    assert!(matches!(&steps[0], Step::WriteFile { path, .. } if path == std::path::Path::new(MAIN)), "{steps:?}");
    assert_eq!(steps[1..], [Step::SetMode { path: "/k".into(), owned: strict }, start()]);
}

#[test]
fn the_user_of_sshds_child_is_made_if_it_is_sshds_own_and_the_host_runs() {
    let missing = |name: &str| {
        let mut snapshot = down(vec![file(MAIN, "")], &[&format!("Privilege separation user {name} does not exist")]);
        snapshot.sshd.files.user_group = Some(74);
        snapshot
    };
    let steps = planned(missing("sshd"), &Policy::default(), &[(&[], everywhere())]).unwrap();
    assert_eq!(steps[0], Step::MakeUser { name: "sshd".into(), home: "/run/sshd".into(), group: Some(74) });
    let other = planned(missing("daemon"), &Policy::default(), &[]).unwrap_err();
    assert!(other.contains("sshd.user.missing") && other.contains("daemon is not one that is known"), "{other}");
    let disk = planned(Snapshot { at_rest: true, ..missing("sshd") }, &Policy::default(), &[]).unwrap_err();
    assert!(disk.contains("none is made on a disk"), "{disk}");
    // Of what else is wrong on a disk, the user is no reason.
    let bad = Snapshot { at_rest: true, ..down(vec![file(MAIN, "Port 22\n")], ODD) };
    let steps = planned(bad, &Policy::default(), &[(&[], everywhere())]).unwrap();
    assert_eq!(written(&steps).len(), 2, "{steps:?}");
}

/// Which addresses a disk's host will have is not known, and what is guessed of them must not come to stand in its files.
#[test]
fn on_a_disk_ports_are_added_and_no_addresses() {
    let disk = |text: &str| {
        let mut snapshot = down(vec![file(MAIN, text)], &[]);
        snapshot.sshd.settings = Seen::Present(settings(&["0.0.0.0:2222", "[::]:2222"]));
        snapshot.sshd.units = Seen::Present(vec![unit("ssh.service", "active", "enabled")]);
        Snapshot { at_rest: true, ..snapshot }
    };
    let both = settings(&["0.0.0.0:22", "[::]:22", "0.0.0.0:2222", "[::]:2222"]);
    let steps = planned(disk("Port 2222\n"), &Policy::default(), &[(&[], both)]).unwrap();
    assert!(written(&steps)[0].1.contains("\nPort 22\n"), "{steps:?}");
    let named = planned(disk("Port 2222\nListenAddress 0.0.0.0\n"), &Policy::default(), &[]).unwrap_err();
    assert!(named.contains("sshd.config.listen"), "{named}");
}

#[test]
fn where_no_key_is_one_is_made_for_the_group_first_and_for_root_alone_if_that_does_not_do() {
    let none: &[&str] = &["sshd: no hostkeys available -- exiting."];
    let mut snapshot = down(vec![file(MAIN, "")], none);
    // Text in a key's place is replaced, whatever its mode; what is a key and strict needs nothing.
    snapshot.sshd.files.keys =
        vec![key("/k1", Seen::Absent), key("/k2", key_file(0o644, 0, false)), key("/k3", key_file(0o600, 0, true))];
    snapshot.sshd.files.key_group = Some(998);
    let made = |answers: &[(&[&str], Settings)]| planned(snapshot.clone(), &Policy::default(), answers);
    let keys = |mode, gid| {
        let owned = Owned { mode, uid: 0, gid };
        let new = |path: &str| crate::plan::NewKey { path: path.into(), kind: "ed25519".into(), owned };
        Ok(vec![Step::MakeKeys { keys: vec![new("/k1"), new("/k2")] }, start()])
    };
    assert_eq!(made(&[(&[], everywhere())]), keys(0o640, 998));
    assert_eq!(made(&[(none, everywhere()), (&[], everywhere())]), keys(0o600, 0));
    let why = made(&[(none, everywhere()), (none, everywhere())]).unwrap_err();
    assert!(why.contains("sshd.keys.missing"), "{why}");
}
