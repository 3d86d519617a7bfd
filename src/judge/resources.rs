//! Space, memory and tables that sshd, a login or a repair need.

use serde_json::json;

use super::{Finding, Severity};
use crate::facts::{ConntrackTable, Disk, Snapshot};
use crate::policy::{Mode, Policy};

/// Bytes that a login and a repair want on a disk.
const DISK_WANTED: u64 = 1 << 20;
/// Files that they want to make.
const INODES_WANTED: u64 = 32;
/// Bytes of memory below which sshd cannot be counted on to fork.
const MEMORY_WANTED: u64 = 16 << 20;

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let resources = &snapshot.resources;
    let mut out: Vec<Finding> = resources.disks.iter().flat_map(disk).collect();
    if let Some(ConntrackTable { count, max, .. }) = resources.conntrack
        && policy.firewall.conntrack != Mode::Off
    {
        if is_full_table(count, max) {
            let words =
                format!("the connection tracking table is full ({count} of {max}): the kernel drops new connections");
            out.push(finding(CONNTRACK_FULL, Severity::Critical, words, json!({"count": count, "max": max})));
        } else if max > 0 && count >= max / 10 * 9 {
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
    if lacks_bytes(disk) {
        let words = format!("the disk of {place} is full ({} KiB are left)", disk.available >> 10);
        out.push(finding("resources.disk.full", Severity::Warning, words, json!(disk)));
    }
    if lacks_inodes(disk) {
        let words = format!("the disk of {place} has no inodes left ({} of {})", disk.inodes_free, disk.inodes_total);
        out.push(finding("resources.disk.inodes", Severity::Warning, words, json!(disk)));
    }
    out
}

/// Whether a repair may not be able to write there for want of room.
pub fn is_full(disk: &Disk) -> bool {
    lacks_bytes(disk) || lacks_inodes(disk)
}

/// What is said of such a table.
pub const CONNTRACK_FULL: &str = "resources.conntrack.full";

/// Whether the kernel tracks no new connection, and drops its packets.
pub fn is_full_table(count: u64, max: u64) -> bool {
    max > 0 && count >= max
}

fn lacks_bytes(disk: &Disk) -> bool {
    disk.total > 0 && disk.available < DISK_WANTED
}

/// Some file systems (btrfs) have no fixed number of inodes and say 0.
fn lacks_inodes(disk: &Disk) -> bool {
    disk.inodes_total > 0 && disk.inodes_free < INODES_WANTED
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence: evidence.into(), mendable: false, mend: None }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::healthy;
    use super::*;
    use crate::facts::Resources;

    fn codes(change: impl FnOnce(&mut Resources)) -> Vec<(&'static str, Severity)> {
        let mut snapshot = healthy();
        change(&mut snapshot.resources);
        findings(&Policy::default(), &snapshot).iter().map(|f| (f.code, f.severity)).collect()
    }

    fn table(count: u64, max: u64) -> Option<ConntrackTable> {
        Some(ConntrackTable { count, max, raisable: true })
    }

    fn disk() -> Disk {
        let mount_point = "/".into();
        Disk {
            mount_point,
            device: 7,
            total: 10 << 30,
            available: 1 << 30,
            inodes_total: 1000,
            inodes_free: 500,
            read_only: false,
        }
    }

    #[test]
    fn room_enough_is_nothing_to_say() {
        assert_eq!(codes(|r| r.disks = vec![disk()]), []);
    }

    #[test]
    fn what_is_full_is_named() {
        assert_eq!(
            codes(|r| r.disks = vec![Disk { available: 4096, ..disk() }]),
            [("resources.disk.full", Severity::Warning)]
        );
        assert_eq!(
            codes(|r| r.disks = vec![Disk { inodes_free: 0, ..disk() }]),
            [("resources.disk.inodes", Severity::Warning)]
        );
        assert_eq!(
            codes(|r| r.disks = vec![Disk { read_only: true, ..disk() }]),
            [("resources.disk.read-only", Severity::Warning)]
        );
        assert_eq!(codes(|r| r.memory_available = 1 << 20), [("resources.memory.low", Severity::Warning)]);
        assert_eq!(codes(|r| r.conntrack = table(65536, 65536)), [("resources.conntrack.full", Severity::Critical)]);
        assert_eq!(codes(|r| r.conntrack = table(60000, 65536)), [("resources.conntrack.low", Severity::Warning)]);
    }

    #[test]
    fn a_file_system_without_a_count_of_inodes_has_enough() {
        assert_eq!(codes(|r| r.disks = vec![Disk { inodes_total: 0, inodes_free: 0, ..disk() }]), []);
        assert_eq!(codes(|r| r.memory_total = 0), []);
    }

    #[test]
    fn what_is_wanted_is_enough_and_one_less_is_not() {
        let of = |disk: Disk| (codes(|r| r.disks = vec![disk.clone()]).len(), is_full(&disk));
        for (disk, lacks) in [
            (Disk { available: DISK_WANTED, ..disk() }, false),
            (Disk { available: DISK_WANTED - 1, ..disk() }, true),
            (Disk { total: 0, available: 0, ..disk() }, false),
            (Disk { inodes_free: INODES_WANTED, ..disk() }, false),
            (Disk { inodes_free: INODES_WANTED - 1, ..disk() }, true),
        ] {
            assert_eq!(of(disk.clone()), (usize::from(lacks), lacks), "{disk:?}");
        }
        for (conntrack, code) in [
            ((100, 100), Some("resources.conntrack.full")),
            ((99, 100), Some("resources.conntrack.low")),
            ((90, 100), Some("resources.conntrack.low")),
            ((89, 100), None),
            ((0, 0), None),
        ] {
            let told = codes(|r| r.conntrack = table(conntrack.0, conntrack.1));
            assert_eq!(told.first().map(|(code, _)| *code), code, "{conntrack:?}");
        }
        assert_eq!(codes(|r| r.memory_available = MEMORY_WANTED), []);
        assert_eq!(codes(|r| r.memory_available = MEMORY_WANTED - 1).len(), 1);
        assert_eq!(codes(|r| (r.memory_total, r.memory_available) = (0, 0)), []);
    }
}
