//! `policy check|show`, and which files are refused.

use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;

use super::common::{Ran, mode, open_folder, policy, run, run_as_nobody, skipped};

fn check(path: &Path) -> Ran {
    run(&["policy", "check", "--policy", path.to_str().unwrap()])
}

#[test]
fn every_mistake_is_shown_where_it_stands() {
    let (folder, path) = policy("[ssh]\nprot = 22\nsources = [\"10.1.0.0/8\"]\n[firewall]\nmode = \"fix\"\n");
    let ran = check(&path);
    assert_eq!((ran.status, ran.out.as_str()), (3, ""));
    let shown = ran.err.replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!(shown, @r#"
    FOLDER/policy.toml:2:1: unknown key `prot` in [ssh]: did you mean `port`?
      |
    2 | prot = 22
      | ^^^^

    FOLDER/policy.toml:3:12: an address inside the network: did you mean "10.0.0.0/8" or "10.1.0.0"?
      |
    3 | sources = ["10.1.0.0/8"]
      |            ^^^^^^^^^^^^

    FOLDER/policy.toml:5:8: expected "off", "report" or "repair"
      |
    5 | mode = "fix"
      |        ^^^^^

    ssh-rescue: the policy has 3 mistakes
    "#);
}

#[test]
fn a_policy_with_mistakes_is_not_in_force_for_any_verb() {
    let (_folder, path) = policy("ports = 22\n");
    for verb in [&["policy", "show"][..], &["check"], &["repair"]] {
        let ran = run(&[verb, &["--policy", path.to_str().unwrap()]].concat());
        assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{verb:?}");
        assert!(ran.err.contains("policy.toml:1:1: unknown key `ports`"), "{}", ran.err);
    }
}

#[test]
fn mistakes_for_machines_have_places() {
    let (_folder, path) = policy("[ssh]\nport = 0\n");
    let ran = run(&["policy", "check", "--json", "--policy", path.to_str().unwrap()]);
    assert_eq!(ran.status, 3);
    let expected = serde_json::json!({
        "version": 1, "valid": false,
        "mistakes": [{"line": 2, "column": 8, "message": "expected a port, from 1 to 65535"}],
    });
    assert_eq!(ran.json(), expected);
}

#[test]
fn what_show_prints_is_a_policy() {
    let text =
        "[ssh]\nport = [22, 2222]\nsources = [\"198.51.100.0/24\", \"2001:db8::1\"]\n[restraint]\nper = \"90m\"\n";
    let (_folder, path) = policy(text);
    let path = path.to_str().unwrap();
    let shown = run(&["policy", "show", "--policy", path]);
    assert_eq!((shown.status, shown.err.as_str()), (0, ""));
    let (_other, again) = policy(&shown.out);
    let again = again.to_str().unwrap();
    let json = |path| run(&["policy", "show", "--json", "--policy", path]).json()["policy"].clone();
    assert_eq!(json(path), json(again));
    assert_eq!(json(path)["ssh"]["sources"], serde_json::json!(["198.51.100.0/24", "2001:db8::1/128"]));
    assert_eq!(json(path)["restraint"]["per_seconds"], 5400);
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let (_folder, path) = policy("");
    assert_eq!(check(&path).status, 0);
    for (bits, good) in [(0o600, true), (0o640, true), (0o664, false), (0o646, false), (0o666, false)] {
        mode(&path, bits);
        let ran = check(&path);
        assert_eq!(ran.status, if good { 0 } else { 3 }, "{bits:o}: {}", ran.err);
        assert_eq!(ran.err.contains(&format!("others may write to it (mode {bits:04o})")), !good, "{}", ran.err);
    }
}

#[test]
fn a_file_in_a_folder_that_others_can_write_is_refused() {
    let (folder, path) = policy("");
    for (bits, good) in [(0o777, false), (0o757, false), (0o1777, true), (0o755, true)] {
        mode(folder.path(), bits);
        let ran = check(&path);
        assert_eq!(ran.status, if good { 0 } else { 3 }, "{bits:o}: {}", ran.err);
    }
    // A link from a good folder does not make a bad one good.
    let good = open_folder();
    let link = good.path().join("policy.toml");
    symlink(&path, &link).unwrap();
    assert_eq!(check(&link).status, 0);
    mode(folder.path(), 0o777);
    assert_eq!(check(&link).status, 3);
}

#[test]
fn a_file_or_folder_of_somebody_else_is_refused() {
    let (folder, path) = policy("");
    if !nix::unistd::geteuid().is_root() {
        return skipped("a policy of somebody else: needs root to give it away");
    }
    chown(&path, Some(65534), None).unwrap();
    assert!(check(&path).err.contains("it belongs to user 65534, and must belong to root"));
    chown(&path, Some(0), None).unwrap();
    chown(folder.path(), Some(65534), None).unwrap();
    let ran = check(&path);
    assert!(ran.status == 3 && ran.err.contains("its folder"), "{}", ran.err);
}

#[test]
fn a_user_may_have_a_policy_of_their_own() {
    let (folder, path) = policy("[ssh]\nport = 2222\n");
    let Some(ran) = run_as_nobody(&["policy", "check", "--policy", path.to_str().unwrap()]) else { return };
    assert_eq!(ran.status, 0, "root's: {}", ran.err);
    chown(&path, Some(65534), None).unwrap();
    chown(folder.path(), Some(65534), None).unwrap();
    let ran = run_as_nobody(&["policy", "check", "--policy", path.to_str().unwrap()]).unwrap();
    assert_eq!(ran.status, 0, "their own: {}", ran.err);
    chown(&path, Some(1), None).unwrap();
    assert_eq!(run_as_nobody(&["policy", "check", "--policy", path.to_str().unwrap()]).unwrap().status, 3);
}

#[test]
fn what_is_no_text_file_is_refused_at_once() {
    let (folder, path) = policy("");
    let missing = check(&folder.path().join("nothing"));
    assert!(missing.status == 3 && missing.err.contains("No such file"), "{}", missing.err);
    assert!(check(folder.path()).err.contains("not a regular file"));
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    assert!(check(&fifo).err.contains("not a regular file"));
    std::fs::write(&path, b"# \xff\n").unwrap();
    assert!(check(&path).err.contains("byte 3 is wrong"));
    std::fs::write(&path, vec![b'#'; 300 << 10]).unwrap();
    assert!(check(&path).err.contains("longer than"));
}

#[test]
fn the_packaged_policy_is_the_default_and_every_line_of_it_may_be_uncommented() {
    let packaged = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/policy.toml")).unwrap();
    let json = |text: &str| {
        let (_folder, path) = policy(text);
        let ran = run(&["policy", "show", "--json", "--policy", path.to_str().unwrap()]);
        assert_eq!(ran.status, 0, "{}", ran.err);
        ran.json()["policy"].clone()
    };
    let default = json("");
    assert_eq!(json(&packaged), default);
    let is_setting = |line: &&str| line.strip_prefix("# ").is_some_and(|l| l.split(' ').nth(1) == Some("="));
    let uncommented: Vec<&str> = packaged.lines().map(|l| if is_setting(&l) { &l[2..] } else { l }).collect();
    let all = json(&uncommented.join("\n"));
    let mut expected = default;
    expected["ssh"]["sources"] = serde_json::json!(["198.51.100.0/24", "2001:db8:100::/64"]);
    expected["ssh"]["interfaces"] = serde_json::json!(["eth0"]);
    expected["control"]["group"] = "adm".into();
    expected["report"]["metrics"] = "/var/lib/prometheus/node-exporter".into();
    assert_eq!(all, expected, "what is behind a # is the default");
}

#[test]
fn the_packaged_policy_and_its_man_page_have_every_key() {
    let read =
        |name: &str| std::fs::read_to_string(format!("{}/packaging/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let (packaged, page) = (read("policy.toml"), read("man/ssh-rescue-policy.toml.5"));
    let (_folder, path) = policy("");
    let shown = run(&["policy", "show", "--policy", path.to_str().unwrap()]).out;
    let (mut section, mut keys) = ("", 0);
    for line in shown.lines() {
        if line.starts_with('[') {
            section = line;
        } else if let Some((key, _)) = line.trim_start_matches("# ").split_once(" = ") {
            let (_, of_section) = packaged.split_once(&format!("{section}\n")).unwrap_or_else(|| panic!("{section}"));
            let of_section = of_section.split("\n[").next().unwrap();
            assert!(
                of_section.contains(&format!("\n# {key} = ")) || of_section.starts_with(&format!("# {key} = ")),
                "{section} {key}"
            );
            let (_, of_section) = page.split_once(&format!(".Ss {section}\n")).unwrap_or_else(|| panic!("{section}"));
            let of_section = of_section.split("\n.Ss ").next().unwrap();
            assert!(of_section.contains(&format!(".It Cm {key}")), "man page: {section} {key}");
            keys += 1;
        }
    }
    assert!(keys > 10, "{shown}");
}
