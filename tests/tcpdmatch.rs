//! TCP wrappers against libwrap itself: tcpdmatch(8) of Debian's package tcpd is asked the same questions.

use std::env;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use ssh_rescue::decode::hosts_access::{files, files_of_list, table};
use ssh_rescue::facts::{Seen, TextFile, Wrappers};
use ssh_rescue::judge::wrappers::{Answer, dry_run};

const PAIRS_OF_FILES: usize = 250;
const CLIENTS: [&str; 12] = [
    "10.0.0.1",
    "10.0.0.5",
    "10.1.2.3",
    "192.168.1.7",
    "192.168.12.7",
    "203.0.113.9",
    "8.0.0.1",
    "255.255.255.254",
    "2001:db8::1",
    "2001:db8:1::7",
    "2001:dc8::1",
    "fd00::10",
];

/// tcpdmatch of the host, unless it is not there.
fn tcpdmatch() -> Option<PathBuf> {
    let path = ["/usr/sbin/tcpdmatch", "/usr/bin/tcpdmatch"].iter().map(PathBuf::from).find(|p| p.exists());
    if path.is_none() {
        assert!(env::var_os("SSH_RESCUE_REQUIRE_ALL").is_none(), "tcpdmatch (package tcpd) is not installed");
        eprintln!("SKIPPED: tcpdmatch (package tcpd) is not installed");
    }
    path
}

fn ask(program: &Path, folder: &Path, client: &str) -> Answer {
    let output =
        Command::new(program).args(["-d", "sshd", client]).current_dir(folder).output().expect("run tcpdmatch");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match text.lines().find_map(|l| l.strip_prefix("access:")).map(str::trim) {
        Some("granted") => Answer::Granted,
        Some("denied") => Answer::Denied,
        Some("delegated") => Answer::Delegated,
        _ => panic!("tcpdmatch says {text:?} {:?}", String::from_utf8_lossy(&output.stderr)),
    }
}

/// The facts as `observe` makes them, from a folder.
fn wrappers(folder: &Path) -> Wrappers {
    let file = |name: &str| match fs::read(folder.join(name)) {
        Ok(bytes) => Seen::Present(TextFile { path: folder.join(name), bytes }),
        Err(_) => Seen::Absent,
    };
    let mut seen = Wrappers { allow: file("hosts.allow"), deny: file("hosts.deny"), lists: Vec::new() };
    let mut wanted: Vec<PathBuf> = [&seen.allow, &seen.deny]
        .into_iter()
        .filter_map(|f| f.present())
        .flat_map(|f| files(&table(&f.bytes)))
        .collect();
    while let Some(path) = wanted.pop() {
        if seen.lists.iter().any(|(p, _)| *p == path) {
            continue;
        }
        let content = fs::read(&path).map_or(Seen::Absent, Seen::Present);
        wanted.extend(content.present().map(|bytes| files_of_list(bytes)).unwrap_or_default());
        seen.lists.push((path, content));
    }
    seen
}

/// How many answers were compared, and how many were left open by us: a pattern like `*.7` has too many matches to list.
fn compare(program: &Path, folder: &Path, allow: &[u8], deny: &[u8], clients: &[&str]) -> (usize, usize) {
    let mut open = 0;
    fs::write(folder.join("hosts.allow"), allow).expect("write hosts.allow");
    fs::write(folder.join("hosts.deny"), deny).expect("write hosts.deny");
    let seen = wrappers(folder);
    for client in clients {
        let address: IpAddr = client.parse().expect("an address");
        let (ours, theirs) = (dry_run(&seen, address), ask(program, folder, client));
        if ours == Answer::Unknown {
            open += 1;
            continue;
        }
        assert_eq!(
            ours,
            theirs,
            "{client}\n--- hosts.allow\n{}\n--- hosts.deny\n{}",
            String::from_utf8_lossy(allow),
            String::from_utf8_lossy(deny)
        );
    }
    (clients.len() - open, open)
}

fn daemon() -> impl Strategy<Value = String> {
    let plain = prop::sample::select(vec![
        "sshd",
        "SSHD",
        "ALL",
        "all",
        "sshd ",
        "vsftpd",
        "in.telnetd",
        "ssh*",
        "s??d",
        "sshd**",
        "*",
        "ss.",
        ".shd",
        "KNOWN",
        "22",
        "sshd@10.0.0.9",
        "sshd@ALL",
        "sshd@unknown",
        "ALL@KNOWN",
        "sshd@",
        "@sshd",
        "UNKNOWN",
    ]);
    plain.prop_map(str::to_owned)
}

fn client(list: String) -> impl Strategy<Value = String> {
    let fixed = prop::sample::select(vec![
        "ALL",
        "all",
        "LOCAL",
        "KNOWN",
        "UNKNOWN",
        "unknown",
        "PARANOID",
        "@netgroup",
        ".example.com",
        "host.example.com",
        "unk*",
        "10.",
        "10.0.",
        "10.0.0.",
        "192.168.1.",
        "192.168.1",
        "1.",
        "2",
        "10.0.0.1",
        "010.0.0.1",
        "10.0.0.1.",
        ".1",
        ".0.1",
        "10.0.0.0/8",
        "10.0.0.0/255.0.0.0",
        "10.0.0.1/32",
        "10.0.0.1/31",
        "10.0.0.0/31",
        "0.0.0.0/0",
        "0.0.0.0/0.0.0.0",
        "10.0.0.5/255.255.255.255",
        "010.0.0.0/8",
        "0x0a.0.0.0/8",
        "192.168.0.0/255.255.0.255",
        "192.168.0.7/255.255.0.255",
        "10.0.0.0/",
        "10.0.0.0/x",
        "10.0.0.0/33",
        "10.0.0.0/8x",
        "10.0.0.0/-1",
        "10.0.0/8",
        "10.0.0.0/8/9",
        "/",
        "10.0.0.0/+8",
        "[2001:db8::1]",
        "[2001:DB8:0::1]",
        "[2001:db8::]/32",
        "[2001:db8::]/0",
        "[2001:db8::]/129",
        "[2001:db8::]/-1",
        "[2001:db8::]/33",
        "[2001:db8:8000::]/33",
        "[2001:db8::1]/128",
        "[2001:db8::]/x",
        "[::]/0",
        "[10.0.0.1]",
        "[::ffff:10.0.0.1]",
        "[2001:db8::]",
        "[2001:*]",
        "2001:db8::1",
        "[fd00::]/8",
        "[fd00::10",
        "fd00::10]",
        "[]",
        "[",
        "]",
        "10.*",
        "10.0.0.?",
        "192.168.1?.*",
        "10.0.0.1*",
        "10.0.0.1**",
        "*",
        "**",
        "?*",
        "255.255.255.254/255.255.255.254",
        "root@10.0.0.1",
        "unknown@10.0.0.1",
        "KNOWN@10.0.0.1",
        "ALL@10.",
        "@",
        "a@",
        "UNKNOWN@ALL",
        "/nonexistent",
    ]);
    prop_oneof![
        12 => fixed.prop_map(str::to_owned),
        1 => Just(list),
        1 => prop::sample::select(CLIENTS[..8].to_vec()).prop_map(str::to_owned),
        1 => (any::<u8>(), 0u8..34).prop_map(|(net, bits)| format!("{net}.0.0.0/{bits}")),
        1 => "[0-9.*?]{1,9}",
        1 => "[0-9a-zA-Z.\\[\\]/@*?%-]{1,8}",
    ]
}

fn options() -> impl Strategy<Value = String> {
    let one = prop::sample::select(vec![
        "allow",
        "deny",
        "ALLOW",
        "Deny",
        "spawn /bin/true",
        "spawn",
        "twist /bin/echo no",
        "twist",
        "keepalive",
        "keepalive yes",
        "linger 10",
        "linger",
        "linger x",
        "linger -1",
        "nice",
        "nice 5",
        "nice x",
        "nice=7",
        "rfc931",
        "rfc931 5",
        "rfc931 0",
        "umask 022",
        "umask 0999",
        "umask 1000",
        "umask -1",
        "severity auth.info",
        "severity info",
        "severity auth",
        "severity auth.none",
        "severity auth.",
        "setenv A b",
        "setenv A=B c",
        "setenv",
        "setenv X",
        "banners /nonexistent",
        "banners",
        "aclexec /bin/false",
        "aclexec",
        "unknown_option",
        "",
        " ",
        "allow = yes",
        "= allow",
        "allow=",
        "deny =",
        "spawn (echo a\\:b)",
        "ftp",
        "umask = 027",
        "severity = local3.crit",
        "umask 22x",
        "nice -5",
        "linger +3",
    ]);
    let pad = prop::sample::select(vec!["", " ", "\t"]);
    prop::collection::vec((pad.clone(), one, pad).prop_map(|(a, b, c)| format!("{a}{b}{c}")), 1..3)
        .prop_map(|v| v.join(":"))
}

fn list_of(item: impl Strategy<Value = String>, longest: usize) -> impl Strategy<Value = String> {
    let separator =
        prop::sample::select(vec![" ", ", ", ",", "\t", " EXCEPT ", " except ", " \\\n ", " EXCEPT EXCEPT "]);
    let weighted = prop_oneof![3 => Just(" "), 2 => separator];
    (prop::collection::vec((item, weighted), 1..longest)).prop_map(|items| {
        let mut text = String::new();
        for (index, (item, separator)) in items.iter().enumerate() {
            if index > 0 {
                text.push_str(separator);
            }
            text.push_str(item);
        }
        text
    })
}

fn line(list: &str) -> impl Strategy<Value = String> {
    let end = prop_oneof![30 => Just("\n"), 2 => Just(" \n"), 2 => Just("\r\n"), 1 => Just(":\n"), 1 => Just("\\\n"), 1 => Just("")];
    let entry = (list_of(daemon(), 3), list_of(client(list.to_owned()), 4), prop::option::weighted(0.3, options()));
    let text = entry.prop_map(|(daemons, clients, options)| match options {
        Some(options) => format!("{daemons}: {clients} :{options}"),
        None => format!("{daemons}: {clients}"),
    });
    let odd = prop::sample::select(vec![
        "# comment",
        "",
        "   ",
        "no colon",
        " # indented: comment",
        ":",
        "sshd:",
        "::",
        "[sshd: ALL",
        "#\\",
    ]);
    let long = (2030usize..2060).prop_map(|n| format!("sshd: 1.2.3.4{}", " ".repeat(n - 13)));
    (prop_oneof![16 => text, 2 => odd.prop_map(str::to_owned), 1 => long], end).prop_map(|(text, end)| text + end)
}

fn file(list: &str) -> impl Strategy<Value = Vec<u8>> {
    let lines = prop::collection::vec(line(list), 0..5).prop_map(|lines| lines.concat().into_bytes());
    let closing = prop_oneof![Just(""), Just("ALL: ALL\n"), Just("sshd: 10.0.0.0/8 [2001:db8::]/32\n")];
    (lines, closing).prop_map(|(mut lines, closing)| {
        lines.extend(closing.as_bytes());
        lines
    })
}

#[test]
fn generated_files_are_read_as_libwrap_reads_them() {
    let Some(program) = tcpdmatch() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("list");
    fs::write(&list, "10.0.0.5 .example.com\n\t192.168.1.*\n2001:db8:1::7 203.0.113.0/24 ALL@x\n")
        .expect("write a list");
    let list = list.display().to_string();
    let seed = env::var("SSH_RESCUE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1u64);
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (mut compared, mut open) = (0, 0);
    for _ in 0..PAIRS_OF_FILES {
        let (allow, deny) = (file(&list), file(&list)).new_tree(&mut runner).expect("generate").current();
        let (more, unsaid) = compare(&program, folder.path(), &allow, &deny, &CLIENTS);
        compared += more;
        open += unsaid;
    }
    eprintln!("{compared} pairs of files and client compared with tcpdmatch, no difference; {open} left open");
    assert!(compared >= 2000 && open * 20 <= compared);
}

#[test]
fn what_people_write_is_read_as_libwrap_reads_it() {
    let Some(program) = tcpdmatch() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let cases: [(&str, &str); 16] = [
        ("", "ALL: ALL\n"),
        ("# /etc/hosts.allow\n", "sshd: ALL\n"),
        ("sshd: ALL\n", "ALL: ALL\n"),
        ("sshd: ALL", "ALL: ALL\n"),
        ("", "ALL: ALL"),
        ("", "# a comment and no newline"),
        ("sshd: 10.0.0.0/8 : alow\n", ""),
        ("sshd: 10. EXCEPT 10.0.0.5\n", "ALL: ALL\n"),
        ("", "ALL: 203.0.113.9\nALL: 203.0.113.10\n"),
        ("ALL: ALL: deny\n", ""),
        ("sshd: ALL: allow\nALL: ALL: deny\n", ""),
        ("sshd: ALL : spawn (/bin/echo %a >> /var/log/x) & : allow\n", "ALL: ALL\n"),
        ("sshd: [2001:db8::]/32 192.168.0.0/255.255.0.0\n", "ALL: ALL EXCEPT LOCAL\n"),
        ("ALL: LOCAL @some_netgroup\n", "ALL: PARANOID\n"),
        ("sshd: \\\n10.0.0.1 \\\n10.0.0.5\n", "sshd: ALL\n"),
        ("22: 10.\n", "sshd: ALL: twist /bin/echo go away\n"),
    ];
    for (allow, deny) in cases {
        let (_, open) = compare(&program, folder.path(), allow.as_bytes(), deny.as_bytes(), &CLIENTS);
        assert_eq!(open, 0);
    }
}
