//! Running the program.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");

/// What came of one call.
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

pub fn run(args: &[&str]) -> Ran {
    ran(Command::new(PROGRAM).args(args))
}

/// Runs the program as the user nobody, from a place where that user may. None (said aloud) without root.
pub fn run_as_nobody(args: &[&str]) -> Option<Ran> {
    if !nix::unistd::geteuid().is_root() {
        skipped("as nobody: needs root to become nobody");
        return None;
    }
    let folder = open_folder();
    let program = folder.path().join("ssh-rescue");
    fs::copy(PROGRAM, &program).unwrap();
    let setpriv = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    Some(ran(Command::new("setpriv").args(setpriv).arg(&program).args(args)))
}

fn ran(command: &mut Command) -> Ran {
    let output = command.env_remove("NO_COLOR").output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

/// Says aloud that something is not tested. Where everything is required (`make test`), that is a failure.
pub fn skipped(what: &str) {
    assert_ne!(std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref(), Ok("1"), "{what}");
    eprintln!("SKIPPED {what}");
}

/// A folder that every user may enter.
pub fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    mode(folder.path(), 0o755);
    folder
}

pub fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A policy file with this text in a folder of its own.
pub fn policy(text: &str) -> (TempDir, PathBuf) {
    let folder = open_folder();
    let path = folder.path().join("policy.toml");
    fs::write(&path, text).unwrap();
    mode(&path, 0o644);
    (folder, path)
}
