//! The units, held against systemd's own judges.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The units in a folder of their own, with the program that was just built.
fn units() -> TempDir {
    let folder = TempDir::new().unwrap();
    let units: PathBuf = [env!("CARGO_MANIFEST_DIR"), "systemd"].iter().collect();
    for entry in fs::read_dir(units).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with("ssh-rescue") {
            let text = fs::read_to_string(entry.path()).unwrap();
            let text = text.replace("/usr/bin/ssh-rescue", env!("CARGO_BIN_EXE_ssh-rescue"));
            fs::write(folder.path().join(name), text).unwrap();
        }
    }
    folder
}

/// Says aloud that something is not tested. Where everything is required (`make test`), that is a failure.
fn analyze(args: &[&str]) -> Option<(bool, String)> {
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        assert_ne!(std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref(), Ok("1"), "systemd-analyze is not installed");
        eprintln!("SKIPPED what systemd-analyze says: it is not installed");
        return None;
    }
    let output = Command::new("systemd-analyze").args(args).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    let folder = units();
    let paths: Vec<String> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
    assert_eq!(paths.len(), 4, "{paths:?}");
    let mut args = vec!["verify", "--man=no"];
    args.extend(paths.iter().map(String::as_str));
    let Some((good, said)) = analyze(&args) else { return };
    assert!(good && said.is_empty(), "{said}");
}

#[test]
fn the_daemon_is_exposed_no_more_than_2_8() {
    let folder = units();
    for (unit, threshold) in [("ssh-rescue.service", "28"), ("ssh-rescue-repair.service", "35")] {
        let path = folder.path().join(unit);
        let threshold = format!("--threshold={threshold}");
        let args = ["security", "--offline=true", "--no-pager", &threshold, path.to_str().unwrap()];
        let Some((good, said)) = analyze(&args) else { return };
        assert!(good, "{unit}: {said}");
    }
}
