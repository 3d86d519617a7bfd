//! Files: written whole, and put back whole.

use std::path::Path;

use super::StepError;
use crate::facts::{LoadTool, Loader, Seen, Snapshot, TextFile};
use crate::host::Host;
use crate::plan::Content;
use crate::record::Replaced;

/// Mode of a configuration file that was not there.
const MODE: u32 = 0o644;

/// What will take the write back.
pub fn before(host: &Host, path: &Path, content: &[u8]) -> Result<Replaced, StepError> {
    Ok(Replaced { path: path.to_owned(), old: now(host, path)?, new: Some(content.to_vec().into()) })
}

/// Whether the file is still as the snapshot has it, as far as the snapshot has it.
pub fn is_as_seen(snapshot: &Snapshot, file: &Replaced) -> bool {
    let old = file.old.as_ref().map(Content::bytes);
    let seen = |seen: &Seen<TextFile>| match seen {
        Seen::Present(text) if text.path == file.path => Some(text.bytes.clone()),
        _ => None,
    };
    let of_sshd = || snapshot.sshd.files.config.iter().find(|f| f.path == file.path).map(|f| f.bytes.clone());
    let of_boot = || {
        let loader = snapshot.boot.loaders.iter().find(|l| l.file == file.path);
        // In whose place the file is put is not the file.
        let text = |loader: &Loader| (loader.tool != LoadTool::Firewalld { own: false }).then(|| loader.text.clone());
        loader.map(|loader| text(loader).map(String::into_bytes))
    };
    let of_wrappers = seen(&snapshot.wrappers.allow).or_else(|| seen(&snapshot.wrappers.deny));
    let known = of_wrappers.or_else(of_sshd).map(Some).or_else(of_boot);
    known.is_none_or(|bytes| old == bytes.as_deref())
}

pub fn write(host: &Host, file: &Replaced) -> Result<(), StepError> {
    let content = file.new.as_ref().map(Content::bytes).unwrap_or_default();
    host.replace(&file.path, content, MODE)?;
    if file.old.is_none() {
        host.relabel(&file.path);
    }
    Ok(())
}

/// Refuses if the file is neither as it was before nor as it was written.
pub fn unchanged(host: &Host, file: &Replaced) -> Result<(), StepError> {
    let now = now(host, &file.path)?;
    let written = file.new.is_some() && now == file.new;
    match now == file.old || written {
        true => Ok(()),
        false => Err(StepError::Changed { what: crate::facts::escape(&file.path.to_string_lossy()) }),
    }
}

pub fn put_back(host: &Host, file: &Replaced) -> Result<(), StepError> {
    match &file.old {
        _ if now(host, &file.path)? == file.old => {}
        Some(old) => host.replace(&file.path, old.bytes(), MODE)?,
        None => host.delete(&file.path)?,
    }
    Ok(())
}

pub(super) fn now(host: &Host, path: &Path) -> Result<Option<Content>, StepError> {
    match host.read(path) {
        Ok(bytes) => Ok(Some(bytes.into())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
