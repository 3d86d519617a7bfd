//! Disks, memory, boot time, the connection tracking table, the package manager's lock.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::statvfs::{FsFlags, Statvfs};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

use crate::facts::{CONNTRACK_MAX, ConntrackTable, Disk, Resources};
use crate::host::Host;

/// Folders that sshd, a login or a repair write to.
const FOLDERS: [&str; 4] = ["/etc", "/var", "/var/lib", "/run"];
/// Locks of package managers, taken by fcntl(2): apt(8), dpkg(1), rpm(8).
const LOCKS: [&str; 3] = ["/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/rpm/.rpm.lock"];

pub fn resources(host: &Host) -> Resources {
    let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(memory);
    Resources {
        disks: disks(host),
        memory_total: system.total_memory(),
        memory_available: system.available_memory(),
        boot_time: System::boot_time(),
        conntrack: conntrack(host),
        package_manager: LOCKS.iter().find_map(|path| locked(host, Path::new(path))),
        reserve: None,
    }
}

/// The same of a disk that does not run: what it keeps.
pub fn of_disk(host: &Host) -> Resources {
    Resources {
        disks: disks(host),
        memory_total: 0,
        memory_available: 0,
        boot_time: 0,
        conntrack: None,
        package_manager: None,
        reserve: None,
    }
}

/// The file systems of [`FOLDERS`], each once.
fn disks(host: &Host) -> Vec<Disk> {
    let mut devices = Vec::new();
    let mut disks = Vec::new();
    for folder in FOLDERS.map(Path::new) {
        let (Ok(meta), Ok(stat)) = (host.metadata(folder), host.file_system(folder)) else { continue };
        // One disk may be mounted twice, and be read-only in one place alone.
        let device = (meta.dev(), is_read_only(&stat));
        if !devices.contains(&device) {
            devices.push(device);
            disks.push(disk(host, folder, meta.dev(), &stat));
        }
    }
    disks
}

/// The file system of a folder.
pub fn disk_of(host: &Host, folder: &Path) -> Option<Disk> {
    Some(disk(host, folder, host.metadata(folder).ok()?.dev(), &host.file_system(folder).ok()?))
}

fn disk(host: &Host, folder: &Path, device: u64, stat: &Statvfs) -> Disk {
    let (unit, read_only) = (stat.fragment_size(), is_read_only(stat));
    Disk {
        mount_point: mount_point(host, folder, device, read_only),
        device,
        total: stat.blocks().saturating_mul(unit),
        available: stat.blocks_available().saturating_mul(unit),
        inodes_total: stat.files(),
        inodes_free: stat.files_available(),
        read_only,
    }
}

fn is_read_only(stat: &Statvfs) -> bool {
    stat.flags().contains(FsFlags::ST_RDONLY)
}

/// The topmost folder above that is on the same device, mounted in the same way.
fn mount_point(host: &Host, folder: &Path, device: u64, read_only: bool) -> PathBuf {
    let alike = |p: &Path| host.file_system(p).is_ok_and(|stat| is_read_only(&stat) == read_only);
    let same = |p: &&Path| host.metadata(p).is_ok_and(|m| m.dev() == device) && alike(p);
    folder.ancestors().take_while(same).last().unwrap_or(folder).to_owned()
}

fn conntrack(host: &Host) -> Option<ConntrackTable> {
    let number = |path: &Path| String::from_utf8_lossy(&host.read(path).ok()?).trim().parse().ok();
    let max = Path::new(CONNTRACK_MAX);
    Some(ConntrackTable {
        count: number(&max.with_file_name("nf_conntrack_count"))?,
        max: number(max)?,
        raisable: host.metadata(max).is_ok_and(|m| m.mode() & 0o200 != 0),
    })
}

/// Who holds a lock file, without waiting and without taking it.
fn locked(host: &Host, path: &Path) -> Option<String> {
    let file = host.open_file(path).ok()?;
    let mut lock = libc::flock { l_type: libc::F_WRLCK as i16, l_whence: 0, l_start: 0, l_len: 0, l_pid: 0 };
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != libc::F_UNLCK as i16).then(|| format!("{} (pid {})", path.display(), lock.l_pid))
}
