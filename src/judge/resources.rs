//! Space, memory and tables that sshd, a login or a repair need.

use serde_json::json;

use super::{Finding, Severity};
use crate::facts::{Disk, Snapshot};
use crate::policy::Policy;

/// Bytes that a login and a repair want on a disk.
const DISK_WANTED: u64 = 1 << 20;
/// Files that they want to make.
const INODES_WANTED: u64 = 32;
/// Bytes of memory below which sshd cannot be counted on to fork.
const MEMORY_WANTED: u64 = 16 << 20;

pub fn findings(_policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let resources = &snapshot.resources;
    let mut out: Vec<Finding> = resources.disks.iter().flat_map(disk).collect();
    if let Some((count, max)) = resources.conntrack
        && max > 0
    {
        if count >= max {
            let words =
                format!("the connection tracking table is full ({count} of {max}): the kernel drops new connections");
            out.push(finding(
                "resources.conntrack.full",
                Severity::Critical,
                words,
                json!({"count": count, "max": max}),
            ));
        } else if count >= max / 10 * 9 {
            let words = format!("the connection tracking table is almost full ({count} of {max})");
            out.push(finding("resources.conntrack.low", Severity::Warning, words, json!({"count": count, "max": max})));
        }
    }
    let (total, available) = (resources.memory_total, resources.memory_available);
    if total > 0 && available < MEMORY_WANTED {
        let words = format!("{} MiB of memory are available: sshd may be unable to start a session", available >> 20);
        let evidence = json!({"total": total, "available": available});
        out.push(finding("resources.memory.low", Severity::Warning, words, evidence));
    }
    out
}

fn disk(disk: &Disk) -> Vec<Finding> {
    let place = crate::facts::escape(&disk.mount_point.to_string_lossy());
    let mut out = Vec::new();
    if disk.read_only {
        let words = format!("{place} is mounted read-only: no repair can be written there");
        out.push(finding("resources.disk.read-only", Severity::Warning, words, json!(disk)));
        return out;
    }
    if disk.total > 0 && disk.available < DISK_WANTED {
        let words = format!("the disk of {place} is full ({} KiB are left)", disk.available >> 10);
        out.push(finding("resources.disk.full", Severity::Warning, words, json!(disk)));
    }
    // Some file systems (btrfs) have no fixed number of inodes and say 0.
    if disk.inodes_total > 0 && disk.inodes_free < INODES_WANTED {
        let words = format!("the disk of {place} has no inodes left ({} of {})", disk.inodes_free, disk.inodes_total);
        out.push(finding("resources.disk.inodes", Severity::Warning, words, json!(disk)));
    }
    out
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence, mendable: false, mend: None }
}
