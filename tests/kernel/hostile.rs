//! Names and texts that mean harm, wherever a disk can have them: with escape sequences, quotes, line breaks, words for a
//! shell and for a browser. They stand in no output as they are, and nothing runs them.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh_rescue::host::{Call, Host, Output};

use super::common::root;
use super::disk::Disk;

/// What a terminal, a shell and a browser would obey.
const EVIL: &str = "\u{1b}[2J\u{9b}31m`touch MARK`$(touch MARK)'\"; touch MARK <script>alert(1)</script>&\u{202e}";

fn run(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_ssh-rescue");
    Host::live().run(&Call { deadline: Duration::from_secs(120), ..Call::new(program, args) }).unwrap()
}

/// What a terminal would obey: all control characters but the end of a line, in C1 as well, and those that turn text around.
fn obeyed(text: &str) -> Option<char> {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().find(|c| (c.is_control() && *c != '\n') || turns(*c))
}

fn is_harmless(what: &str, output: &Output) {
    for bytes in [&output.stdout, &output.stderr] {
        let text = String::from_utf8(bytes.clone()).unwrap_or_else(|e| panic!("{what} is no text: {e}"));
        assert_eq!(obeyed(&text), None, "{what}: {}", text.escape_debug());
    }
}

/// A disk with such names in all that is read of it.
fn disk(mark: &Path) -> Option<Disk> {
    let disk = Disk::new("hostile names")?;
    let evil = EVIL.replace("MARK", &mark.to_string_lossy());
    let line = format!("{evil}\n");
    disk.write(
        "etc/ssh/sshd_config",
        &format!("Include /etc/ssh/sshd_config.d/*.conf\nProt{line}AllowUsers {line}HostKey /etc/ssh/{line}"),
    );
    let short: String = EVIL.chars().take(20).collect();
    for name in [format!("50-{short}.conf"), "60-a\nb;$(id)'.conf".to_owned()] {
        let path = disk.path("etc/ssh/sshd_config.d").join(std::ffi::OsStr::from_bytes(name.as_bytes()));
        fs::write(path, format!("Port{line}")).unwrap();
    }
    disk.write("etc/passwd", &format!("root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n{evil}:x:1000:1000::/home/{evil}:/bin/{line}"));
    disk.write("etc/group", &format!("root:x:0:\nnogroup:x:65534:\n{evil}:x:1000:{line}"));
    disk.write("etc/hosts.allow", &format!("{evil} : {evil} : spawn ({evil})\nsshd : /etc/{line}"));
    disk.write("etc/hosts.deny", &format!("ALL : ALL : twist {line}"));
    disk.write("etc/network/interfaces", &format!("iface {line}iface ens5 inet dhcp\n"));
    disk.write("etc/netplan/a.yaml", &format!("network:\n  ethernets:\n    {evil}:\n      set-name: {line}"));
    disk.write(
        "usr/lib/systemd/system/ssh.socket",
        &format!("[Socket]\nListenStream={line}[Install]\nWantedBy={line}"),
    );
    let comment: String = evil.chars().filter(|c| *c != '"').take(90).collect();
    disk.nft(&format!(
        "table inet filter {{\n\tchain input {{\n\t\ttype filter hook input priority 0; policy drop;\n\t\tiifname \"\u{1b}[2J$(id)'\" drop comment \"{comment}\"\n\t}}\n}}\n"
    ));
    disk.write("var/lib/ssh-rescue/hold.json", &line);
    disk.write("var/lib/ssh-rescue/repairs/20260101T000000-0001.json", &line);
    disk.write(&format!("var/lib/ssh-rescue/repairs/{short}.json"), &line);
    Some(disk)
}

#[test]
fn names_that_mean_harm_are_shown_and_not_obeyed() {
    if !root("hostile names") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let Some(disk) = disk(&mark) else { return };
    let place = disk.path("").to_string_lossy().into_owned();
    let rules = disk.path("etc/nftables.conf").to_string_lossy().into_owned();
    let svg = folder.path().join("way.svg").to_string_lossy().into_owned();
    let verbs: [&[&str]; 6] = [
        &["check", "--root", &place],
        &["repair", "--dry-run", "--root", &place],
        &["repair", "--root", &place],
        &["history", "--root", &place],
        &["undo", EVIL, "--root", &place],
        &["explain", "198.51.100.1", "--ruleset", &rules, "--svg", &svg],
    ];
    let mut shown = String::new();
    for verb in verbs {
        let people = run(verb);
        is_harmless(&format!("{verb:?}"), &people);
        shown.push_str(&String::from_utf8_lossy(&people.stdout));
        let machines = run(&[verb, &["--json"]].concat());
        is_harmless(&format!("{verb:?} --json"), &machines);
        let text = String::from_utf8_lossy(&machines.stdout);
        let parsed = serde_json::from_str::<serde_json::Value>(&text);
        assert!(parsed.is_ok(), "{verb:?} --json: {parsed:?}: {}", text.escape_debug());
    }
    assert!(shown.contains("\\u{1b}[2J"), "what is to be shown is not: {shown}");
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(obeyed(&picture).is_none() && !picture.contains("<script"), "{}", picture.escape_debug());
    for left in [mark, PathBuf::from("/MARK"), PathBuf::from("MARK")] {
        assert!(!left.exists(), "{} was made by what it is called", left.display());
    }
}
