//! One lock-out from end to end: what a client sees, `check`, `repair`, `repair` again, `undo`.

use std::time::Instant;

use serde_json::Value;
use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::{BANNED, SOMEBODY};
use super::lockouts::Lockout;
use super::seen::{differences, foretold, rules, state, text, untouched, words};

/// A port that nobody asks for: who could reach it before can after, and nobody else.
const OTHER_PORT: u16 = 8080;

pub fn walk(host: &Booted, lockout: &Lockout) -> Result<String, String> {
    host.sh(lockout.make);
    let seen = host.wire.see(SOMEBODY);
    expect("a client after the lock-out", &seen, &lockout.sees)?;
    let elsewhere = host.wire.ask(SOMEBODY, OTHER_PORT);
    let (others, locked_out, before) = (rules(host), state(host), untouched(host));

    let check = host.rescue(&["check"]);
    expect("check", &foretold(&check, SOMEBODY), &words(seen)).map_err(|e| told(&e, &check))?;
    expect("check's verdict", &text(&check["verdict"]), &"blocked".to_owned()).map_err(|e| told(&e, &check))?;
    let dry = host.rescue(&["repair", "--dry-run"]);
    expect("a dry run wrote", &differences(&before, &untouched(host)), &[vec![], vec![]])
        .map_err(|e| told(&e, &dry))?;

    let start = Instant::now();
    let report = host.rescue(&["repair"]);
    let took = start.elapsed().as_millis();
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("why it was not rehearsed", &text(&report["evidence"]["unrehearsed"]), &String::new())
        .map_err(|e| told(&e, &report))?;
    expect("a client after the repair", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])
        .map_err(|e| told(&e, &report))?;
    if lockout.bans {
        let banned = host.wire.see(BANNED);
        expect("whether a ban is lifted", &banned.contains(&Sight::Banner), &false).map_err(|e| told(&e, &report))?;
    }
    expect("port 8080 after the repair", &host.wire.ask(SOMEBODY, OTHER_PORT), &elsewhere)?;
    others_stand(&others, &rules(host), lockout)?;

    let rescued = untouched(host);
    let again = host.rescue(&["repair"]);
    expect("repairing again", &text(&again["outcome"]), &"healthy".to_owned()).map_err(|e| told(&e, &again))?;
    let [gone, new] = differences(&rescued, &untouched(host));
    // The lock of a pass is the one thing that it may touch: there is a record to look after by now. Behind a socket sshd has
    // its folder, and is seen healthy, only once a client has come: then its files are kept.
    let socket = lockout.name.starts_with("ssh.socket");
    let own = |line: &String| {
        let kept = ["/var/lib/ssh-rescue ", "/var/lib/ssh-rescue/sshd"].iter().any(|path| line.starts_with(path));
        line.starts_with("/run/ssh-rescue") || (socket && kept)
    };
    let quiet = |lines: Vec<String>| lines.into_iter().filter(|l| !own(l)).collect::<Vec<_>>();
    expect("repairing again wrote", &[quiet(gone), quiet(new)], &[vec![], vec![]])?;

    undo_all(host)?;
    expect("after the undo", &differences(&locked_out, &state(host)), &[vec![], vec![]])?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &seen)?;
    Ok(format!("{took} ms: {}", mends(&report)))
}

/// Takes every repair on record back, the last one first.
pub fn undo_all(host: &Booted) -> Result<(), String> {
    let history = host.rescue(&["history"]);
    let ids: Vec<String> = history["repairs"].as_array().into_iter().flatten().map(|r| text(&r["id"])).collect();
    expect("nothing is on record", &ids.is_empty(), &false)?;
    let mut ids = ids;
    ids.sort_unstable();
    for id in ids.iter().rev() {
        let undone = host.rescue(&["undo", id]);
        expect("undo", &undone["phase"], &Value::from("undone")).map_err(|e| format!("{e}: {undone}"))?;
    }
    Ok(())
}

/// No rule is gone, and what is new is about port 22 or neighbour discovery. ufw builds what it had built before.
fn others_stand(before: &[String], after: &[String], lockout: &Lockout) -> Result<(), String> {
    let [gone, new] = differences(before, after);
    expect("rules that are gone", &gone, &vec![])?;
    let rebuilt = lockout.name.contains("after iptables -F");
    let meant = |line: &String| ["22", "ssh", "type nd-neighbor-"].iter().any(|word| line.contains(word));
    let strange: Vec<_> = new.into_iter().filter(|l| !rebuilt && !meant(l)).collect();
    expect("rules that are new", &strange, &vec![])
}

pub fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("{what}: {found:#?}, and not {wanted:?}")) }
}

pub fn told(error: &str, report: &Value) -> String {
    let mut brief = report.clone();
    for key in ["before", "after"] {
        if let Some(part) = brief.get_mut(key) {
            *part = part["sentence"].clone();
        }
    }
    if let Some(findings) = brief.get_mut("findings").and_then(Value::as_array_mut) {
        for finding in findings {
            *finding = format!("{}: {}", text(&finding["code"]), text(&finding["summary"])).into();
        }
    }
    format!("{error}\n{brief:#}")
}

fn mends(report: &Value) -> String {
    let findings = report["before"]["findings"].as_array().into_iter().flatten();
    let mut mends: Vec<String> = findings.filter_map(|f| f["mend"].as_str()).map(str::to_owned).collect();
    mends.dedup();
    mends.join("; ")
}
