//! Reading files of the host, and writing to those that are settings of its kernel.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
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
        read_limited(self.open_file(path)?, path, limit)
    }

    /// Opens a regular file to be read. What else is there is not even opened: that alone would set a watchdog going, wind a
    /// tape or wait for a writer.
    pub fn open_file(&self, path: &Path) -> Result<File, FileError> {
        self.open_regular(path, OFlag::O_RDONLY)
    }

    fn open_regular(&self, path: &Path, access: OFlag) -> Result<File, FileError> {
        let io = |action| move |source: Errno| FileError::Io { action, path: path.to_owned(), source: source.into() };
        let found = File::from(self.open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).map_err(io("open"))?);
        let failed = |source| FileError::Io { action: "stat", path: path.to_owned(), source };
        if !found.metadata().map_err(failed)?.is_file() {
            return Err(FileError::NotRegular { path: path.to_owned() });
        }
        let flags = access | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
        let file = File::from(self.reopen(&found, path, flags).map_err(io("open"))?);
        match file.metadata().map_err(failed)?.is_file() {
            true => Ok(file),
            false => Err(FileError::NotRegular { path: path.to_owned() }),
        }
    }

    /// Writes to a regular file that is there, in one call, as the settings under /proc/sys want it.
    pub fn write_setting(&self, path: &Path, text: &str) -> Result<(), FileError> {
        let failed = |source| FileError::Io { action: "write", path: path.to_owned(), source };
        let written = self.open_regular(path, OFlag::O_WRONLY)?.write(text.as_bytes()).map_err(failed)?;
        match written == text.len() {
            true => Ok(()),
            false => Err(failed(io::ErrorKind::WriteZero.into())),
        }
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
