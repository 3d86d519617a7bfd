//! Room that is kept on the disk of the state folder, and given back when a repair finds that disk full: it has to be written
//! down, and hosts.allow or sshd's files may lie there too.
//!
//! Each of its files takes bytes and an inode. They can be made and deleted one by one: ended in the middle, the next one
//! goes on.

use super::{RecordError, StateDir, make_folder};
use crate::facts::{Disk, Reserve};
use crate::host::Host;
use crate::judge::resources::is_full;
use crate::observe::disk_of;

const FILES: u32 = 64;
/// Bytes of each.
const SIZE: u32 = 64 << 10;
/// It is made only where so many times as much is free.
const PLENTY: u64 = 10;

/// Makes the reserve whole where there is room in plenty, or, where it is not wanted, gives it back. Writes nothing where it
/// is as it is to be.
pub fn keep_reserve(host: &Host, state: &StateDir, wanted: bool) -> Result<(), RecordError> {
    if !wanted {
        return free_reserve(host, state);
    }
    let folder = state.reserve();
    let missing: Vec<String> = names().filter(|name| size(host, state, name) != u64::from(SIZE)).collect();
    if missing.is_empty() || !room(host, state).is_some_and(|disk| is_plenty(&disk)) {
        return Ok(());
    }
    make_folder(host, &folder)?;
    for name in missing {
        host.occupy(&folder, &name, SIZE).map_err(|source| RecordError::Make { path: folder.join(&name), source })?;
    }
    Ok(())
}

/// What is kept, and the disk that it is on; None where nothing is.
pub fn reserve(host: &Host, state: &StateDir) -> Option<Reserve> {
    let bytes: u64 = names().map(|name| size(host, state, &name)).sum();
    let disk = (bytes > 0).then(|| room(host, state)).flatten()?;
    Some(Reserve { bytes, disk })
}

/// Gives the room back.
pub fn free_reserve(host: &Host, state: &StateDir) -> Result<(), RecordError> {
    let folder = state.reserve();
    if !host.exists(&folder) {
        return Ok(());
    }
    let kept: Vec<String> = names().filter(|name| host.symlink_metadata(&folder.join(name)).is_ok()).collect();
    if kept.is_empty() {
        return Ok(());
    }
    host.vacate(&folder, kept.iter().map(String::as_str)).map_err(|source| RecordError::Free { path: folder, source })
}

/// Before something is taken back: that has to be written down too.
pub(super) fn make_room(host: &Host, state: &StateDir) {
    if reserve(host, state).is_some_and(|reserve| is_full(&reserve.disk)) {
        // Where even that fails, what is written next says so.
        let _ = free_reserve(host, state);
    }
}

fn names() -> impl Iterator<Item = String> {
    (0..FILES).map(|number| number.to_string())
}

fn size(host: &Host, state: &StateDir, name: &str) -> u64 {
    let meta = host.symlink_metadata(&state.reserve().join(name));
    meta.ok().filter(|meta| meta.is_file()).map_or(0, |meta| meta.len())
}

/// The disk of the state folder, also where that is yet to be made.
fn room(host: &Host, state: &StateDir) -> Option<Disk> {
    disk_of(host, state.path().ancestors().find(|folder| host.exists(folder))?)
}

fn is_plenty(disk: &Disk) -> bool {
    let (bytes, inodes) = (u64::from(FILES * SIZE), u64::from(FILES));
    let inodes_enough = disk.inodes_total == 0 || disk.inodes_free > PLENTY * inodes;
    !disk.read_only && disk.available > PLENTY * bytes && inodes_enough
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn disk(available: u64, inodes_total: u64, inodes_free: u64) -> Disk {
        let mount_point = PathBuf::from("/");
        Disk { mount_point, device: 7, total: 1 << 40, available, inodes_total, inodes_free, read_only: false }
    }

    #[test]
    fn it_is_made_only_where_ten_times_as_much_is_free() {
        assert!(is_plenty(&disk(41 << 20, 10_000, 641)));
        assert!(!is_plenty(&disk(40 << 20, 10_000, 10_000)));
        assert!(!is_plenty(&disk(1 << 30, 10_000, 640)));
        assert!(!is_plenty(&Disk { read_only: true, ..disk(1 << 30, 10_000, 10_000) }));
        // btrfs has no fixed number of inodes and says 0.
        assert!(is_plenty(&disk(1 << 30, 0, 0)));
    }
}
