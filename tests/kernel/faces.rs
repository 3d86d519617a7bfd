//! The program's own words and exit status on a locked-out scratch host.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host, Output};
use ssh_rescue::rehearse::drill::{DrillError, Sight, Stage};

use super::common::root;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");
const LOCKED: &str = "table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established,related accept; }; }";

fn on_a_stage(test: &str, work: impl FnOnce(&mut Stage<'_>) -> Result<(), DrillError> + Send) {
    if root(test) {
        Stage::build(&Host::live(), work).unwrap_or_else(|e| panic!("{}", chain(&e)));
    }
}

fn run(stage: &Stage<'_>, args: &[&str]) -> (i32, String, String) {
    let call = Call { deadline: Duration::from_secs(60), ..Call::new(PROGRAM, args) };
    let Output { status, stdout, stderr } = stage.host.run(&call).unwrap();
    (status, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn json(stage: &Stage<'_>, args: &[&str]) -> (i32, Value) {
    let (status, out, err) = run(stage, args);
    (status, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn first(text: &str, lines: usize) -> Vec<&str> {
    text.lines().take(lines).collect()
}

/// The text without the places where its lines are broken.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn check_says_what_a_client_sees_why_and_what_would_help() {
    on_a_stage("check", |stage| {
        let (status, out, _) = run(stage, &["check"]);
        assert_eq!(status, 0, "{out}");
        assert_eq!(first(&out, 1), ["OK: clients can connect: everybody by ipv4 and ipv6 on port 22"]);
        assert!(flat(&out).contains("look at the security group, the network ACL, the route table."), "{out}");

        stage.tool("nft", &["-f", "-"], LOCKED)?;
        let (status, out, _) = run(stage, &["check"]);
        assert_eq!(status, 2, "{out}");
        let expected = [
            "BLOCKED: connection timed out, because the policy drop of inet fw in drops it",
            "`ssh-rescue repair` would:",
            "  - accept tcp to port 22 by eth0 before rule 3 of inet fw in",
        ];
        assert_eq!(first(&out, 3), expected, "{out}");
        assert!(out.lines().all(|l| l.is_ascii() && l.len() < 80), "{out}");

        let (status, report) = json(stage, &["check", "--json"]);
        assert_eq!(status, 2);
        assert_eq!(
            (&report["version"], &report["verdict"], &report["symptom"]),
            (&1.into(), &"blocked".into(), &"timed-out".into())
        );
        let finding = &report["findings"][0];
        assert_eq!((&finding["code"], &finding["severity"]), (&"firewall.input.drop".into(), &"critical".into()));
        assert_eq!(finding["mendable"], true);
        let path = &report["paths"][0];
        assert_eq!((&path["family"], &path["interface"], &path["port"]), (&"ipv4".into(), &"eth0".into(), &22.into()));
        assert_eq!(path["blocked"][0]["by"]["where"], "inet fw in");
        assert_eq!(path["blocked"][0]["by"]["hook"], "input");
        Ok(())
    });
}

#[test]
fn a_repair_is_tried_made_listed_and_taken_back() {
    on_a_stage("repair", |stage| {
        stage.tool("nft", &["-f", "-"], LOCKED)?;
        let before = stage.tool("nft", &["-s", "list", "ruleset"], "")?.stdout;
        let (status, out, err) = run(stage, &["repair", "--dry-run"]);
        assert_eq!(
            (status, first(&out, 1)),
            (2, vec!["DRY RUN: nothing was changed; the repair works on a copy"]),
            "{out}{err}"
        );
        assert_eq!(stage.tool("nft", &["-s", "list", "ruleset"], "")?.stdout, before);
        assert_eq!(stage.see()?, [Sight::TimedOut; 2]);
        assert_eq!(run(stage, &["history"]).1, "Nothing was ever repaired on this host.\n");

        let (status, report) = json(stage, &["repair", "--json"]);
        assert_eq!((status, &report["outcome"]), (0, &"repaired".into()), "{report}");
        assert_eq!(
            (&report["before"]["verdict"], &report["after"]["verdict"]),
            (&"blocked".into(), &"reachable".into())
        );
        assert_eq!(stage.see()?, [Sight::Banner; 2]);
        let id = report["id"].as_str().unwrap();
        let rules = String::from_utf8(stage.tool("nft", &["list", "ruleset"], "")?.stdout).unwrap();
        assert!(rules.contains(&format!("comment \"ssh-rescue:{id}\"")), "{rules}");

        let (status, out, _) = run(stage, &["repair"]);
        assert_eq!((status, first(&out, 1)), (0, vec!["HEALTHY: nothing had to be changed"]), "{out}");
        let (_, out, _) = run(stage, &["history"]);
        assert!(out.starts_with(&format!("{id}  in force\n")), "{out}");

        assert_eq!(run(stage, &["undo", id]).0, 0);
        assert_eq!(stage.see()?, [Sight::TimedOut; 2]);
        assert_eq!(stage.tool("nft", &["-s", "list", "ruleset"], "")?.stdout, before);
        Ok(())
    });
}

#[test]
fn what_may_not_be_repaired_is_left_alone_with_its_reason() {
    on_a_stage("report only", |stage| {
        std::fs::create_dir("/etc/ssh-rescue").unwrap();
        stage.write("/etc/ssh-rescue/policy.toml", "mode = \"report\"\n")?;
        stage.tool("nft", &["-f", "-"], LOCKED)?;
        let (status, out, _) = run(stage, &["repair"]);
        assert_eq!((status, first(&out, 1)), (2, vec!["NOT REPAIRED: nothing was changed"]), "{out}");
        assert!(flat(&out).contains("the policy wants the firewall to be reported, not repaired"), "{out}");
        assert_eq!(stage.see()?, [Sight::TimedOut; 2]);
        assert!(!Path::new("/var/lib/ssh-rescue").exists());
        Ok(())
    });
}

#[test]
fn a_policy_is_written_from_what_is_admitted() {
    on_a_stage("policy init", |stage| {
        stage.tool(
            "nft",
            &["-f", "-"],
            "table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; \
             meta l4proto ipv6-icmp accept; ip saddr 198.51.100.0/24 tcp dport 22 accept; }; }",
        )?;
        let (status, out, err) = run(stage, &["policy", "init"]);
        assert_eq!((status, out.as_str()), (0, "/etc/ssh-rescue/policy.toml is written.\n"), "{err}");
        let (_, shown) = json(stage, &["policy", "show", "--json"]);
        assert_eq!(shown["policy"]["ssh"]["sources"], serde_json::json!(["198.51.100.0/24"]));
        let (status, out, _) = run(stage, &["check"]);
        assert!(status < 2, "{out}");
        let (status, _, err) = run(stage, &["policy", "init"]);
        assert!(status == 3 && err.contains("is there already"), "{err}");
        Ok(())
    });
}

/// The wall clock of a machine is not a test's to set; but in a time namespace (time_namespaces(7)) the time since the boot is
/// another, and the clock stays behind it as one does that was set back.
#[test]
fn a_hold_ends_when_its_time_is_over_although_the_clock_was_set_back() {
    on_a_stage("a hold under another clock", |stage| {
        let held = |stage: &Stage<'_>, ahead: &str| {
            let args = ["--time", "--boottime", ahead, PROGRAM, "--json", "check"];
            let output = stage.host.run(&Call { deadline: Duration::from_secs(60), ..Call::new("unshare", &args) });
            let output = output.unwrap();
            let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
            report["hold"].is_object()
        };
        assert_eq!(run(stage, &["hold", "1h", "--reason", "exercise"]).0, 0);
        assert_eq!(["0", "3500", "3601"].map(|ahead| held(stage, ahead)), [true, true, false]);
        Ok(())
    });
}
