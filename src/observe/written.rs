//! When the files were written that this look has read.

use std::path::PathBuf;

use crate::facts::{Seen, Snapshot};
use crate::host::Host;

/// Each file with the time of its last change (RFC 3339, UTC).
pub fn written(host: &Host, snapshot: &Snapshot) -> Vec<(PathBuf, String)> {
    let wrappers = [&snapshot.wrappers.allow, &snapshot.wrappers.deny];
    let texts = wrappers.into_iter().filter_map(Seen::present).chain(&snapshot.sshd.files.config);
    let files = texts.map(|f| &f.path).chain(snapshot.boot.loaders.iter().map(|l| &l.file));
    let time = |path: &PathBuf| {
        let modified = host.metadata(path).and_then(|meta| meta.modified()).ok()?;
        let time = jiff::Timestamp::try_from(modified).ok()?;
        Some((path.clone(), time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
    };
    files.filter_map(time).collect()
}
