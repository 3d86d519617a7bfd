//! A hold: somebody wants this host left as it is, for a time.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::{opened, sealed};
use super::{RecordError, StateDir, make_folder};
use crate::facts::escape;
use crate::host::Host;

/// Longest reason that is kept, in characters.
pub const REASON_LIMIT: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub since: Timestamp,
    pub until: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `user 0`
    pub by: String,
}

impl Hold {
    /// For `seconds` from now; None if no clock reaches so far.
    pub fn new(seconds: u64, reason: Option<&str>, by: String) -> Option<Hold> {
        let since = Timestamp::now();
        let length = jiff::SignedDuration::from_secs(i64::try_from(seconds).ok()?);
        let until = since.checked_add(length).ok()?;
        let reason = reason.map(|r| r.chars().take(REASON_LIMIT).collect());
        Some(Hold { since, until, reason, by })
    }

    /// A fragment that fits "not mended, because …".
    pub fn words(&self) -> String {
        let until = self.until.strftime("%Y-%m-%d %H:%M:%S UTC");
        let reason = self.reason.as_ref().map(|r| format!(": {}", escape(r))).unwrap_or_default();
        format!("it is on hold until {until}, by {}{reason}", escape(&self.by))
    }
}

impl StateDir {
    fn hold_file(&self) -> PathBuf {
        self.state.join("hold.json")
    }

    /// The hold that is in force. What cannot be understood is an error: then nothing may be repaired either.
    pub fn hold(&self, host: &Host) -> Result<Option<Hold>, RecordError> {
        let bytes = match host.read(&self.hold_file()) {
            Err(error) if error.is_not_found() => return Ok(None),
            read => read.map_err(|source| RecordError::Read { id: "hold".to_owned(), source })?,
        };
        let text = opened(&bytes).ok_or(RecordError::DamagedHold)?;
        let hold: Hold = serde_json::from_slice(text).map_err(RecordError::Hold)?;
        Ok((hold.until > Timestamp::now()).then_some(hold))
    }

    /// Puts a hold in force, in the place of the one that is.
    pub fn put_on_hold(&self, host: &Host, hold: &Hold) -> Result<(), RecordError> {
        make_folder(host, &self.state)?;
        let text = serde_json::to_vec_pretty(hold).map_err(RecordError::Hold)?;
        host.replace(&self.hold_file(), &sealed(text), 0o600)
            .map_err(|source| RecordError::Save { what: "the hold".to_owned(), source })
    }

    /// Ends the hold; gives whether there was one.
    pub fn release(&self, host: &Host) -> Result<bool, RecordError> {
        let held = !matches!(self.hold(host), Ok(None));
        host.delete(&self.hold_file())
            .map_err(|source| RecordError::Save { what: "the hold's end".to_owned(), source })?;
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_hold_lasts_until_its_time_or_its_release() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path().join("state"), folder.path()));
        assert_eq!(state.hold(&host).unwrap(), None);
        assert!(!state.release(&host).unwrap());
        let hold = Hold::new(3600, Some("incident \x1b[2J"), "user 0".into()).unwrap();
        state.put_on_hold(&host, &hold).unwrap();
        assert_eq!(state.hold(&host).unwrap(), Some(hold.clone()));
        assert!(hold.words().contains("by user 0: incident \\u{1b}[2J"), "{}", hold.words());
        assert!(state.release(&host).unwrap());
        assert_eq!(state.hold(&host).unwrap(), None);
        let past = Hold { until: hold.since, ..hold };
        state.put_on_hold(&host, &past).unwrap();
        assert_eq!(state.hold(&host).unwrap(), None);
        assert_eq!(Hold::new(u64::MAX, None, String::new()), None);
    }

    #[test]
    fn a_hold_that_cannot_be_read_is_no_release() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        std::fs::write(folder.path().join("hold.json"), "{").unwrap();
        assert!(matches!(state.hold(&host), Err(RecordError::DamagedHold)));
    }
}
