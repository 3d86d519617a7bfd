//! The whole drill, and the proof that the live host was not touched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{DrillError, LOCKOUTS, Row, practise};
use crate::host::{Call, Host};

/// What came of a drill.
#[must_use]
#[derive(Debug)]
pub struct Drill {
    pub rows: Vec<Row>,
    /// What of the live host is not as it was before; empty: nothing was touched.
    pub touched: Vec<String>,
}

impl Drill {
    pub fn passed(&self) -> bool {
        self.rows.len() == LOCKOUTS.len() && self.rows.iter().all(Row::rescued) && self.touched.is_empty()
    }
}

/// Runs every lock-out on scratch hosts, apart from the live one. `shown` gets each row as it is done.
///
/// `args` are the arguments by which this program, started again, calls [`apart`].
pub fn drill(host: &Host, args: &[&str], mut shown: impl FnMut(&Row)) -> Result<Drill, DrillError> {
    let before = fingerprint(host);
    let mut child = host.spawn_apart(args).map_err(DrillError::Apart)?;
    let mut rows = Vec::new();
    if let Some(pipe) = child.stdout.take() {
        for line in BufReader::new(pipe).lines() {
            let line = line.map_err(DrillError::Apart)?;
            let row: Row = serde_json::from_str(&line).map_err(DrillError::Report)?;
            shown(&row);
            rows.push(row);
        }
    }
    let status = child.wait().map_err(DrillError::Apart)?;
    if rows.len() < LOCKOUTS.len() {
        return Err(DrillError::Ended(status.to_string()));
    }
    let after = fingerprint(host);
    let keys = before.keys().chain(after.keys().filter(|k| !before.contains_key(*k)));
    let touched = keys.filter(|k| before.get(*k) != after.get(*k)).cloned().collect();
    Ok(Drill { rows, touched })
}

/// The part of the drill that runs apart from the live host: one line of JSON on standard output for each lock-out.
pub fn apart(host: &Host) -> Result<(), DrillError> {
    for lockout in LOCKOUTS {
        let row = practise(host, lockout);
        println!("{}", serde_json::to_string(&row).map_err(DrillError::Report)?);
    }
    Ok(())
}

/// What a drill must not change: the rules of both back-ends as their own tools list them, the files of wrappers, sshd, ufw
/// and of this program, the mounts and the links.
fn fingerprint(host: &Host) -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    for (tool, args) in
        [("nft", &["-s", "list", "ruleset"][..]), ("iptables-legacy-save", &[]), ("ip6tables-legacy-save", &[])]
    {
        if let Ok(output) = host.run(&Call::new(tool, args)) {
            // Comments carry the time, policies the counters.
            let text = String::from_utf8_lossy(&output.stdout);
            let lines = text.lines().filter(|l| !l.starts_with('#'));
            let rules: Vec<_> = lines.map(|l| l.split_once(" [").map_or(l, |(policy, _)| policy)).collect();
            seen.insert(format!("the rules that {tool} shows"), rules.join("\n"));
        }
    }
    for path in
        ["/etc/hosts.allow", "/etc/hosts.deny", "/etc/ssh", "/etc/ufw", "/etc/ssh-rescue", "/var/lib/ssh-rescue"]
    {
        files(Path::new(path), &mut seen, 0);
    }
    if let Ok(mounts) = fs::read_to_string("/proc/self/mounts") {
        seen.insert("the mounts".to_owned(), mounts);
    }
    if let Ok(links) = fs::read_to_string("/proc/self/net/dev") {
        let names: Vec<_> = links.lines().filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim()).collect();
        seen.insert("the links".to_owned(), names.join(" "));
    }
    seen
}

fn files(path: &Path, seen: &mut BTreeMap<String, String>, depth: usize) {
    let Ok(found) = fs::symlink_metadata(path) else { return };
    let told = format!("{:o} {}:{} {}.{}", found.mode(), found.uid(), found.gid(), found.mtime(), found.mtime_nsec());
    seen.insert(path.display().to_string(), format!("{told} {} bytes, inode {}", found.len(), found.ino()));
    if found.is_dir() && depth < 4 {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            files(&entry.path(), seen, depth + 1);
        }
    }
}
