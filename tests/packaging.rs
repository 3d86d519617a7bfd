//! What is packaged for others to run: held against their own tools.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

fn packaged(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "packaging", name].iter().collect();
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Says aloud that something is not tested. Where everything is required (`make test`), that is a failure.
fn tool(name: &str) -> bool {
    let there = ["/usr/bin", "/usr/sbin", "/bin"].iter().any(|folder| PathBuf::from(folder).join(name).exists());
    if !there {
        assert_ne!(std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref(), Ok("1"), "{name} is not installed");
        eprintln!("SKIPPED what {name} says: it is not installed");
    }
    there
}

/// The parts of the user data by their types.
fn part(content_type: &str) -> String {
    let text = packaged("cloud/user-data.txt");
    let found = text.split("--//\n").find(|part| part.starts_with(&format!("Content-Type: {content_type};")));
    let part = found.unwrap_or_else(|| panic!("no part of type {content_type}"));
    part.split_once("\n\n").unwrap().1.trim_end_matches("--//--\n").to_owned()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_user_data_is_cloud_config_and_a_script_for_any_shell() {
    let folder = TempDir::new().unwrap();
    let (config, script) = (folder.path().join("config"), folder.path().join("script"));
    fs::write(&config, part("text/cloud-config")).unwrap();
    fs::write(&script, part("text/x-shellscript")).unwrap();
    if tool("cloud-init") {
        let output = Command::new("cloud-init").args(["schema", "--config-file"]).arg(&config).output().unwrap();
        assert!(output.status.success() && said(&output).contains("Valid"), "{}", said(&output));
    }
    if tool("shellcheck") {
        let output = Command::new("shellcheck").args(["--shell=sh"]).arg(&script).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}

/// Runs the script in a mount namespace of its own with an `ssh-rescue` that notes its calls and ends with `status`.
fn boot(folder: &TempDir, status: u8) -> Output {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir_all(path("cloud")).unwrap();
    fs::create_dir_all(path("bin")).unwrap();
    fs::write(path("script"), part("text/x-shellscript")).unwrap();
    fs::write(path("bin/ssh-rescue"), format!("#!/bin/sh\necho \"$@\" >>{}\nexit {status}\n", path("calls"))).unwrap();
    let set_up = format!(
        "chmod 755 {bin}/ssh-rescue && mkdir -p /var/lib/cloud && mount --bind {cloud} /var/lib/cloud && \
         mount --bind /dev/null /dev/console && PATH={bin}:$PATH exec sh {script}",
        bin = path("bin"),
        cloud = path("cloud"),
        script = path("script"),
    );
    Command::new("unshare").args(["--mount", "sh", "-c", &set_up]).output().unwrap()
}

#[test]
fn the_user_data_repairs_once_and_not_at_every_boot() {
    if !nix::unistd::geteuid().is_root() {
        assert_ne!(std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref(), Ok("1"), "needs root");
        eprintln!("SKIPPED the user data is run: needs root for a mount namespace");
        return;
    }
    let folder = TempDir::new().unwrap();
    let calls = || fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
    let blocked = boot(&folder, 2);
    assert_eq!((blocked.status.code(), calls().as_str()), (Some(2), "repair\n"), "{}", said(&blocked));
    assert_eq!(boot(&folder, 1).status.code(), Some(1));
    assert_eq!(calls(), "repair\nrepair\n", "what did not work is tried again");
    assert_eq!(boot(&folder, 0).status.code(), Some(0));
    assert_eq!(calls(), "repair\nrepair\n", "what worked is not done again");
}

#[test]
fn nothing_that_the_cloud_runs_wipes_a_rule() {
    for name in ["cloud/user-data.txt", "cloud/run-command.json", "cloud/runbook.yaml"] {
        let text = packaged(name);
        for wipe in ["iptables", "nft ", "ufw", "-F", "--flush", "flush ruleset"] {
            assert!(!text.contains(wipe), "{name}: {wipe}");
        }
        assert!(text.contains("ssh-rescue repair"), "{name}");
    }
}

#[test]
fn the_run_command_document_is_json_and_its_script_a_script() {
    let document: serde_json::Value = serde_json::from_str(&packaged("cloud/run-command.json")).unwrap();
    assert_eq!(document["schemaVersion"], "2.2");
    let lines = document["mainSteps"][0]["inputs"]["runCommand"].as_array().unwrap();
    let script: Vec<&str> = lines.iter().map(|line| line.as_str().unwrap()).collect();
    let script = script.join("\n").replace("{{ DryRun }}", "true");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("script");
    fs::write(&path, script).unwrap();
    if tool("shellcheck") {
        // A parameter that is filled in makes a comparison of constants.
        let output = Command::new("shellcheck").args(["--exclude=SC2050"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}
