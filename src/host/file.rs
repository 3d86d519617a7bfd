//! Reading files of the host.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Host;
use crate::facts::Seen;

/// No configuration file of a host is larger than this.
pub const FILE_LIMIT: u64 = 4 << 20;

#[derive(Debug, Error)]
pub enum FileError {
    #[error("{action} {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is larger than {limit} bytes")]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{path} is not a regular file")]
    NotRegular { path: PathBuf },
}

impl FileError {
    pub fn is_not_found(&self) -> bool {
        matches!(self, FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl Host {
    /// Reads a regular file whole, up to [`FILE_LIMIT`]. Never waits on a FIFO.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, FileError> {
        self.read_up_to(path, FILE_LIMIT)
    }

    /// As [`Host::read`], of a file of at most `limit` bytes.
    pub fn read_up_to(&self, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
        let io = |action| move |source| FileError::Io { action, path: path.to_owned(), source };
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC | nix::libc::O_NOCTTY)
            .open(path)
            .map_err(io("open"))?;
        if !file.metadata().map_err(io("stat"))?.is_file() {
            return Err(FileError::NotRegular { path: path.to_owned() });
        }
        read_limited(file, path, limit)
    }

    /// Reads the standard input to its end, at most `limit` bytes.
    pub fn read_input(&self, limit: u64) -> Result<Vec<u8>, FileError> {
        read_limited(io::stdin().lock(), Path::new("the standard input"), limit)
    }

    /// As [`Host::read`], as a fact.
    pub fn see(&self, path: &Path) -> Seen<Vec<u8>> {
        match self.read(path) {
            Ok(bytes) => Seen::Present(bytes),
            Err(error) if error.is_not_found() => Seen::Absent,
            Err(error) => Seen::Unreadable(crate::chain(&error)),
        }
    }
}

fn read_limited(file: impl Read, path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| FileError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(bytes)
}
