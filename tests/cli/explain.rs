//! `explain`: arguments, and the file of the picture.

use std::fs;
use std::os::unix::fs::symlink;

use super::common::{open_folder, run, run_as_nobody};

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for (wrong, said) in [
        (&[][..], "<SOURCE>"),
        (&["198.51.100.7", "--from", "198.51.100.7"], "cannot be used with"),
        (&["198.51.100.0/24"], "expected an IPv4 or IPv6 address"),
        (&["127.0.0.1"], "at which clients outside"),
        (&["::ffff:192.0.2.1"], "at which clients outside"),
        (&["198.51.100.7", "--to", "2001:db8::1"], "one is an IPv4 address, the other one of IPv6"),
        (&["198.51.100.7", "--to", "203.0.113.250"], "203.0.113.250 is not an address of this host"),
        (&["198.51.100.7", "--force"], "--svg <FILE>"),
        (&["198.51.100.7", "--backend", "nft"], "--ruleset <FILE>"),
    ] {
        let ran = run(&[&["explain"], wrong].concat());
        assert!(ran.status == 3 && ran.out.is_empty() && ran.err.contains(said), "{wrong:?}: {}", ran.err);
    }
}

#[test]
fn a_picture_is_not_written_over_another_file_unless_told() {
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let explain = |more: &[&str]| run(&[&["explain", "198.51.100.7", "--svg"], more].concat());
    let ran = explain(&[&path("way.svg")]);
    assert!(ran.err.is_empty(), "{}", ran.err);
    let picture = fs::read_to_string(path("way.svg")).unwrap();
    assert!(picture.starts_with("<?xml ") && picture.ends_with("</svg>\n"), "{picture}");

    fs::write(path("way.svg"), "mine").unwrap();
    symlink(path("way.svg"), path("link.svg")).unwrap();
    symlink(path("nowhere"), path("dangling.svg")).unwrap();
    for name in ["way.svg", "link.svg", "dangling.svg"] {
        let ran = explain(&[&path(name)]);
        assert_eq!((ran.status, ran.out.as_str()), (3, ""), "{name}");
        assert!(ran.err.contains("is there already: --force writes over it"), "{}", ran.err);
    }
    assert_eq!(fs::read_to_string(path("way.svg")).unwrap(), "mine");
    assert!(explain(&[&path("link.svg"), "--force"]).err.is_empty());
    assert_eq!(fs::read_to_string(path("way.svg")).unwrap(), "mine", "what a link leads to is left alone");
    assert!(fs::read_to_string(path("link.svg")).unwrap().starts_with("<?xml "));
    let ran = explain(&[&path("no/folder.svg")]);
    assert!(ran.status == 3 && ran.err.contains("write the picture"), "{}", ran.err);
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["dangling.svg", "link.svg", "way.svg"], "nothing half written is left");
}

#[test]
fn without_root_it_goes_as_far_as_it_can_and_says_so() {
    let Some(ran) = run_as_nobody(&["explain", "198.51.100.7"]) else { return };
    assert!(ran.status >= 2, "{}", ran.out);
    assert!(ran.out.contains("Root is needed to see the rules and who listens."), "{}", ran.out);
    assert!(
        ran.out.contains("? SYN in       nf_tables: ") && !ran.out.contains("no chains"),
        "what was not read has not been seen: {}",
        ran.out
    );
    assert!(ran.out.lines().all(|l| l.is_ascii() && l.len() < 80), "{}", ran.out);
}
