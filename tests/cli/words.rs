//! Arguments and exit status.

use super::common::{run, run_as_nobody};

#[test]
fn a_wrong_call_is_unknown_and_not_blocked() {
    for args in [&[][..], &["chek"], &["undo"], &["check", "--colour"], &["policy"]] {
        let ran = run(args);
        assert_eq!(ran.status, 3, "{args:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}");
    }
    for (wrong, said) in [
        (&["--backend", "nft"][..], "--ruleset <FILE>"),
        (&["--to", "192.0.2.1"], "--ruleset <FILE>"),
        (&["--ruleset", "x", "--backend", "iptables"], "expected one of nft, iptables-nft, iptables-legacy"),
        (&["--ruleset", "x", "--to", "127.0.0.1"], "at which clients outside can reach a host"),
        (&["--ruleset", "x", "--to", "localhost"], "expected an IPv4 or IPv6 address"),
        (&["--ruleset", "x", "--interface", "../eth0"], "expected the name of an interface"),
        (&["--ruleset", "x", "--interface", "lo"], "expected the name of an interface"),
        (&["--ruleset", "x", "--ifindex", "1"], "1 is not in 2.."),
        (&["--port", "0"], "0 is not in 1.."),
    ] {
        let ran = run(&[&["check"], wrong].concat());
        assert!(ran.status == 3 && ran.err.contains(said), "{wrong:?}: {}", ran.err);
    }
    for args in [["--help"], ["--version"]] {
        assert_eq!(run(&args).status, 0, "{args:?}");
    }
}

#[test]
fn an_unknown_repair_cannot_be_undone() {
    for id in ["20250101T000000-0000", "../../etc/passwd", "a\x1b[2Jb"] {
        let ran = run(&["undo", id]);
        assert_eq!(ran.status, 3, "{id:?}");
        assert!(ran.err.contains("there is no repair") && !ran.err.contains('\x1b'), "{}", ran.err);
        let json = run(&["undo", "--json", id]);
        assert!(json.status == 3 && json.json()["error"].as_str().unwrap().contains("there is no repair"));
    }
}

#[test]
fn without_root_it_says_that_root_is_needed() {
    let Some(ran) = run_as_nobody(&["drill"]) else { return };
    assert_eq!(ran.status, 3);
    assert!(ran.err.contains("a drill needs root"), "{}", ran.err);
    let ran = run_as_nobody(&["check", "--ruleset", "-"]).unwrap();
    assert_eq!(ran.status, 3);
    assert!(ran.err.contains("a scratch namespace for a ruleset needs root"), "{}", ran.err);
}
