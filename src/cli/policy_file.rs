//! Reading the policy file, if nobody but its owner can have written it.

use std::fs::Metadata;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use thiserror::Error;

use super::CliError;
use super::screen::clean;
use crate::host::{FileError, Host};
use crate::policy::{POLICY_LIMIT, Policy, parse};

/// Where the policy is, unless `--policy` names another file.
pub const PATH: &str = "/etc/ssh-rescue/policy.toml";

/// Where a policy came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// There is no file: the built-in default.
    Default,
    File(PathBuf),
}

#[derive(Debug, Error)]
pub enum PolicyFileError {
    #[error("{action} the policy {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the policy {0} is refused: it is not a regular file")]
    NotRegular(PathBuf),
    #[error("the policy {path} is refused: {what} belongs to user {uid}, and must belong to root")]
    Owner { path: PathBuf, what: String, uid: u32 },
    #[error("the policy {path} is refused: others may write to {what} (mode {mode:04o})")]
    Writable { path: PathBuf, what: String, mode: u32 },
    #[error("the policy {path} is refused: it is longer than {POLICY_LIMIT} bytes")]
    TooLong { path: PathBuf },
    #[error("the policy {path} is not UTF-8 text: byte {byte} is wrong")]
    NotText { path: PathBuf, byte: usize },
}

/// Reads and validates the policy: of the file named, or of [`PATH`], or the default where that is not there.
pub fn load(host: &Host, named: Option<&Path>) -> Result<(Policy, Source), CliError> {
    let path = named.unwrap_or(Path::new(PATH));
    // A file that is named is one of this machine, whatever disk the policy is for.
    let place = if named.is_some() { host.here() } else { *host };
    let text = match read(&place, path) {
        Err(PolicyFileError::Io { action: "open", source, .. })
            if named.is_none() && source.kind() == ErrorKind::NotFound =>
        {
            return Ok((Policy::default(), Source::Default));
        }
        text => text?,
    };
    let policy = parse(&text).map_err(|mistakes| {
        let file = clean(&path.to_string_lossy());
        let shown: Vec<String> = mistakes.iter().map(|m| m.show(&file)).collect();
        CliError::Mistakes { mistakes, shown: shown.join("\n") }
    })?;
    Ok((policy, Source::File(path.to_owned())))
}

fn read(host: &Host, path: &Path) -> Result<String, PolicyFileError> {
    let io = |action| move |source| PolicyFileError::Io { action, path: path.to_owned(), source };
    let mut file = host.open_file(path).map_err(|error| match error {
        FileError::Io { action, source, .. } => io(action)(source),
        _ => PolicyFileError::NotRegular(path.to_owned()),
    })?;
    let found = file.metadata().map_err(io("stat"))?;
    trusted(host, path, "it", &found, 0o022)?;
    for folder in folders(host, path).map_err(io("find the folder of"))? {
        let found = host.metadata(&folder).map_err(io("stat the folder of"))?;
        // In a sticky folder nobody can replace another's file; a folder of root's own group is root's.
        let sticky = found.mode() & 0o1000 != 0;
        let denied = if sticky {
            0
        } else if found.gid() == 0 {
            0o002
        } else {
            0o022
        };
        trusted(host, path, &format!("its folder {}", clean(&folder.to_string_lossy())), &found, denied)?;
    }
    let mut bytes = Vec::new();
    (&mut file).take(POLICY_LIMIT as u64 + 1).read_to_end(&mut bytes).map_err(io("read"))?;
    if bytes.len() > POLICY_LIMIT {
        return Err(PolicyFileError::TooLong { path: path.to_owned() });
    }
    String::from_utf8(bytes)
        .map_err(|e| PolicyFileError::NotText { path: path.to_owned(), byte: e.utf8_error().valid_up_to() + 1 })
}

/// Every folder above the file: by the name that it was opened by, and by where it really is.
fn folders(host: &Host, path: &Path) -> io::Result<Vec<PathBuf>> {
    let (named, real) = (std::path::absolute(path)?, host.real(path)?);
    let mut folders: Vec<PathBuf> = named.ancestors().chain(real.ancestors()).skip(1).map(Path::to_owned).collect();
    folders.retain(|f| *f != real && *f != named);
    folders.sort();
    folders.dedup();
    Ok(folders)
}

/// Root's, or the caller's own where the caller is not root; and not to be written by those whom `denied` stands for.
fn trusted(host: &Host, path: &Path, what: &str, found: &Metadata, denied: u32) -> Result<(), PolicyFileError> {
    let (path, what) = (path.to_owned(), what.to_owned());
    let own = !host.privileged() && found.uid() == geteuid().as_raw();
    if found.uid() != 0 && !own {
        return Err(PolicyFileError::Owner { path, what, uid: found.uid() });
    }
    if found.mode() & denied != 0 {
        return Err(PolicyFileError::Writable { path, what, mode: found.mode() & 0o7777 });
    }
    Ok(())
}
