//! The emergency sshd: no laxer than the admin's, and only where nobody's word is against it.

use super::*;
use crate::facts::{HostKey, KeyFile};

/// A unit that does not come up, a policy that takes the emergency one then.
fn forsaken(files: Vec<TextFile>) -> Snapshot {
    let mut snapshot = down(files, &[]);
    snapshot.sshd.settings = Seen::Present(everywhere());
    snapshot.sshd.start_failed = Some("ssh.service does not come up".into());
    snapshot
}

fn with_emergency(snapshot: Snapshot) -> Result<Vec<Step>, String> {
    planned(snapshot, &parse("[sshd]\nemergency = true\n").unwrap(), &[])
}

fn config(files: Vec<TextFile>) -> String {
    match &with_emergency(forsaken(files)).unwrap()[..] {
        [Step::EmergencySshd { config, .. }] => config.clone(),
        steps => panic!("{steps:?}"),
    }
}

#[test]
fn root_gets_in_by_no_more_than_before() {
    for (line, wanted) in [
        ("", "prohibit-password"),
        ("PermitRootLogin yes\n", "prohibit-password"),
        ("PermitRootLogin without-password\n", "prohibit-password"),
        ("PermitRootLogin Forced-Commands-Only\n", "forced-commands-only"),
        ("PermitRootLogin no\n", "no"),
        // sshd takes the first.
        ("PermitRootLogin no\nPermitRootLogin yes\n", "no"),
    ] {
        let config = config(vec![file(MAIN, &format!("Port 22\n{line}"))]);
        assert!(config.contains(&format!("\nPermitRootLogin {wanted}\n")), "{line}: {config}");
    }
}

#[test]
fn an_included_line_counts_at_the_place_of_its_include() {
    let drop_in = || file("/etc/ssh/sshd_config.d/a.conf", "PermitRootLogin no\nAllowUsers alice\n");
    let other = || file("/etc/ssh/other.conf", "AllowUsers mallory\n");
    let include = "Include sshd_config.d/*.conf\n";
    let first = config(vec![file(MAIN, &format!("{include}PermitRootLogin yes\n")), drop_in(), other()]);
    assert!(first.contains("\nPermitRootLogin no\n"), "{first}");
    let last = config(vec![file(MAIN, &format!("PermitRootLogin yes\n{include}")), drop_in(), other()]);
    assert!(last.contains("\nPermitRootLogin prohibit-password\n"), "{last}");
    for config in [first, last] {
        let users: Vec<&str> = config.lines().filter(|l| l.starts_with("allowusers")).collect();
        assert_eq!(users, ["allowusers alice"], "a file counts where it is included, and nowhere else");
    }
}

#[test]
fn files_that_include_each_other_or_themselves_come_to_an_end() {
    let (one, two) = ("/etc/ssh/one.conf", "/etc/ssh/two.conf");
    let files = vec![
        file(MAIN, "Include *.conf\nInclude sshd_config\nPermitRootLogin no\n"),
        file(one, "Include two.conf\nAllowUsers alice\n"),
        file(two, "Include one.conf\n"),
    ];
    let config = config(files);
    assert!(config.contains("\nallowusers alice\n") && config.contains("\nPermitRootLogin no\n"), "{config}");
}

/// sshd does not load a key that others can read: the emergency one would come up without any.
#[test]
fn only_keys_that_sshd_will_load_are_given_to_it() {
    let key = |path: &str, mode, uid, is_key| {
        let file = KeyFile { owned: Owned { mode, uid, gid: 0 }, size: 400, is_key };
        HostKey { path: path.into(), kind: "rsa".into(), file: Seen::Present(file) }
    };
    let mut snapshot = forsaken(vec![file(MAIN, "")]);
    snapshot.sshd.files.keys = vec![
        key("/good", 0o600, 0, true),
        key("/to-read-alone", 0o400, 0, true),
        key("/of-the-group", 0o640, 0, true),
        key("/of-all", 0o644, 0, true),
        key("/anothers", 0o600, 1000, true),
        key("/text", 0o600, 0, false),
        HostKey { path: "/gone".into(), kind: "rsa".into(), file: Seen::Absent },
    ];
    let steps = with_emergency(snapshot).unwrap();
    let [Step::EmergencySshd { keys, .. }] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!(keys, &[std::path::PathBuf::from("/good"), "/to-read-alone".into()]);
}

#[test]
fn there_is_none_where_somebodys_word_or_the_host_is_against_it() {
    let refused = |code: &str, change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = forsaken(vec![file(MAIN, "")]);
        change(&mut snapshot);
        let refusal = with_emergency(snapshot).expect_err(code);
        assert!(refusal.contains(code), "{code}: {refusal}");
    };
    refused("sshd.not-to-be-run", &|snapshot| snapshot.sshd.not_to_be_run = true);
    refused("sshd.listener.stranger", &|snapshot| {
        let mut taken = crate::judge::fixture::listener("::", 22);
        taken.owners = Seen::Present(vec![owner(77, "nginx", "/usr/sbin/nginx")]);
        snapshot.listeners = Seen::Present(vec![taken]);
    });
    refused("sshd.unit.masked", &|snapshot| {
        snapshot.sshd.start_failed = None;
        let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("no units") };
        units[0].load_state = "masked".into();
    });
    // It is a transient unit of systemd's, and on a disk nothing is started.
    refused("sshd.unit.failed", &|snapshot| snapshot.sshd.units = Seen::Absent);
    refused("sshd.unit.failed", &|snapshot| snapshot.at_rest = true);
}
