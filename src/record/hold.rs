//! A hold: somebody wants this host left as it is, for a time.

use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::seal::{opened, sealed};
use super::{Moment, RecordError, StateDir, Uptime, make_folder};
use crate::facts::escape;
use crate::host::Host;

/// Longest reason that is kept, in characters.
pub const REASON_LIMIT: usize = 200;
/// By how much a clock may be off from what a hold was put in force by.
const SLEWED: SignedDuration = SignedDuration::from_secs(60);

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

/// A hold as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    hold: Hold,
    /// When it was put in force, by the clock that nobody sets.
    began: Option<Uptime>,
}

impl Kept {
    /// The hold, if it is in force; its times as the clock tells them now.
    fn in_force(self, now: &Moment) -> Option<Hold> {
        let Kept { hold, began } = self;
        let began = Moment { wall: hold.since, uptime: began };
        let age = SignedDuration::from_millis(i64::try_from(began.age(now)).ok()?);
        let length = hold.until.duration_since(hold.since);
        if age >= length {
            return None;
        }
        // What a clock is set by while it is held to the time, and rounding, are not worth telling.
        let since = now.wall.checked_sub(age).unwrap_or(hold.since);
        match (since.duration_since(hold.since).abs() < SLEWED, since.checked_add(length)) {
            (false, Ok(until)) => Some(Hold { since, until, ..hold }),
            _ => Some(hold),
        }
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
        let kept: Kept = serde_json::from_slice(text).map_err(RecordError::Hold)?;
        Ok(kept.in_force(&Moment::now(host)))
    }

    /// Puts a hold in force, in the place of the one that is.
    pub fn put_on_hold(&self, host: &Host, hold: &Hold) -> Result<(), RecordError> {
        make_folder(host, &self.state)?;
        let kept = Kept { hold: hold.clone(), began: Uptime::now(host) };
        let text = serde_json::to_vec_pretty(&kept).map_err(RecordError::Hold)?;
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
    use super::super::moment::moment;
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
    fn a_hold_lasts_as_long_as_it_was_meant_to_whatever_the_clock_says() {
        const HOUR: i64 = 3600;
        const NOW: i64 = 1_795_000_000;
        let at = |second| Timestamp::from_second(second).unwrap();
        let hold = Hold { since: at(NOW), until: at(NOW + HOUR), reason: None, by: "user 0".into() };
        let seen = |now: Moment| {
            let began = moment("a", 100_000, 0).uptime;
            Kept { hold: hold.clone(), began }.in_force(&now).map(|h| (h.since.as_second(), h.until.as_second()))
        };
        let later = |seconds: i64, jump: i64| moment("a", 100_000 + seconds as u64 * 1000, NOW + seconds + jump);
        for jump in [0, 315_576_000, -315_576_000, -NOW] {
            assert_eq!(seen(later(HOUR - 1, jump)), Some((NOW + jump, NOW + HOUR + jump)), "{jump}");
            assert_eq!(seen(later(HOUR, jump)), None, "{jump}");
        }
        // Over a boot the clock is believed, and where it begins too early, the boot's own time.
        assert_eq!(seen(moment("b", 5_000, NOW + HOUR - 1)), Some((NOW, NOW + HOUR)));
        assert_eq!(seen(moment("b", 5_000, NOW + HOUR)), None);
        assert_eq!(seen(moment("b", 5_000, 20)), Some((15, 15 + HOUR)));
        assert_eq!(seen(moment("b", 3_600_000, 3620)), None);
    }

    #[test]
    fn a_hold_is_kept_with_the_time_since_the_boot() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        // What is put in force now, by a clock that is ten years ahead.
        let hold = Hold::new(3600, None, "user 0".into()).unwrap();
        let ahead = |time: Timestamp| time.checked_add(SignedDuration::from_secs(315_576_000)).unwrap();
        state.put_on_hold(&host, &Hold { since: ahead(hold.since), until: ahead(hold.until), ..hold.clone() }).unwrap();
        let seen = state.hold(&host).unwrap().unwrap();
        assert!(seen.until.duration_since(hold.until).abs() < SLEWED, "{seen:?}");
    }

    #[test]
    fn a_hold_that_cannot_be_read_is_no_release() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        std::fs::write(folder.path().join("hold.json"), "{").unwrap();
        assert!(matches!(state.hold(&host), Err(RecordError::DamagedHold)));
    }
}
