//! Until when repairs are forgiven: a restart of the agent must not take an operator's word back.

use std::path::PathBuf;

use super::seal::{opened, sealed};
use super::{RecordError, StateDir, make_folder};
use crate::host::Host;

impl StateDir {
    fn forgiven_file(&self) -> PathBuf {
        self.state.join("forgiven")
    }

    /// Milliseconds since the epoch; 0 where nothing is forgiven, or where what is kept cannot be read: restraint is stricter
    /// then.
    pub fn forgiven(&self, host: &Host) -> u64 {
        let bytes = host.read(&self.forgiven_file()).unwrap_or_default();
        let text = opened(&bytes).and_then(|text| str::from_utf8(text).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    pub fn forgive(&self, host: &Host, until: u64) -> Result<(), RecordError> {
        make_folder(host, &self.state)?;
        host.replace(&self.forgiven_file(), &sealed(until.to_string().into_bytes()), 0o600)
            .map_err(|source| RecordError::Save { what: "what is forgiven".to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgiven_is_kept_and_what_is_damaged_forgives_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        assert_eq!(state.forgiven(&host), 0);
        state.forgive(&host, 1_700_000_000_000).unwrap();
        assert_eq!(state.forgiven(&host), 1_700_000_000_000);
        std::fs::write(folder.path().join("forgiven"), "99999999999999").unwrap();
        assert_eq!(state.forgiven(&host), 0);
    }
}
