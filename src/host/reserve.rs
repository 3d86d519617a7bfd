//! Files that do nothing but take room on a disk, so that it can be given back.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, openat};
use nix::libc::off_t;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::Host;

const FOLDER: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

impl Host {
    /// Makes a file of `size` bytes that are taken on the disk and not only promised. What has its name goes. On an error
    /// nothing of it is left.
    pub fn occupy(&self, folder: &Path, name: &str, size: u32) -> io::Result<()> {
        let folder = self.open(folder, FOLDER, Mode::empty())?;
        let discard = || unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir);
        match discard() {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(&folder, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let result = match fallocate(&file, FallocateFlags::empty(), 0, off_t::from(size)) {
            // Zeros would take no room where the file system compresses them.
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => (&file).write_all(&noise(size)).and_then(|()| file.sync_all()),
            result => result.map_err(io::Error::from),
        };
        if result.is_err() {
            let _ = discard();
        }
        result
    }

    /// Deletes these files. When it returns their room can be written to, also where the file system frees it only with what
    /// it writes next.
    pub fn vacate<'a>(&self, folder: &Path, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let folder = self.open(folder, FOLDER, Mode::empty())?;
        for name in names {
            match unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(fsync(&folder)?)
    }
}

/// Bytes that do not compress (xorshift64 of Marsaglia).
fn noise(size: u32) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(step).flatten().take(size as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_room_is_really_taken_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let (host, path) = (Host::live(), folder.path().join("0"));
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        host.occupy(folder.path(), "0", 65536).unwrap();
        let meta = path.symlink_metadata().unwrap();
        assert_eq!((meta.is_file(), meta.len(), meta.mode() & 0o7777), (true, 65536, 0o600));
        assert!(meta.blocks() * 512 >= 65536, "{} blocks", meta.blocks());
        host.vacate(folder.path(), ["0", "1"].into_iter()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn noise_has_its_length_and_no_two_words_alike() {
        let noise = noise(65536);
        let words: std::collections::HashSet<&[u8]> = noise.chunks(8).collect();
        assert_eq!((noise.len(), words.len()), (65536, 8192));
    }
}
