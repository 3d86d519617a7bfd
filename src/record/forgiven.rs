//! Until when repairs are forgiven: a restart of the agent must not take an operator's word back.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::seal::{opened, sealed};
use super::{Moment, RecordError, StateDir, Uptime, make_folder};
use crate::host::Host;

#[derive(Debug, Serialize, Deserialize)]
struct Until {
    wall: Timestamp,
    uptime: Option<Uptime>,
}

impl StateDir {
    fn forgiven_file(&self) -> PathBuf {
        self.state.join("forgiven")
    }

    /// The place on the line of [`Moment::on_line`]; 0 where nothing is forgiven, or where what is kept cannot be read or dated:
    /// restraint is stricter then.
    pub fn forgiven(&self, host: &Host) -> u64 {
        let bytes = host.read(&self.forgiven_file()).unwrap_or_default();
        let until: Option<Until> = opened(&bytes).and_then(|text| serde_json::from_slice(text).ok());
        until.map_or(0, |Until { wall, uptime }| reach(&Moment { wall, uptime }, &Moment::now(host)))
    }

    /// What was until now.
    pub fn forgive(&self, host: &Host) -> Result<(), RecordError> {
        make_folder(host, &self.state)?;
        let Moment { wall, uptime } = Moment::now(host);
        let form = |source| RecordError::Form { id: "forgiven".to_owned(), source };
        let text = serde_json::to_vec(&Until { wall, uptime }).map_err(form)?;
        host.replace(&self.forgiven_file(), &sealed(text), 0o600)
            .map_err(|source| RecordError::Save { what: "what is forgiven".to_owned(), source })
    }
}

/// Of an earlier boot whose clock went ahead of this one's it is not known what came before and what after.
fn reach(until: &Moment, now: &Moment) -> u64 {
    if until.is_to_come(now) { 0 } else { until.on_line(now) }
}

#[cfg(test)]
mod tests {
    use super::super::moment::moment;
    use super::super::on_line;
    use super::*;

    #[test]
    fn what_is_forgiven_is_kept_and_what_is_damaged_forgives_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (host, state) = (Host::live(), StateDir::at(folder.path(), folder.path()));
        assert_eq!(state.forgiven(&host), 0);
        let before = on_line(&host);
        state.forgive(&host).unwrap();
        assert!((before..=on_line(&host)).contains(&state.forgiven(&host)));
        for wrong in [sealed(b"99999999999999".to_vec()), b"{}".to_vec()] {
            std::fs::write(folder.path().join("forgiven"), wrong).unwrap();
            assert_eq!(state.forgiven(&host), 0);
        }
    }

    #[test]
    fn a_clock_that_jumps_forgives_nothing_of_what_is_to_come() {
        let said = moment("a", 60_000, 1_000_000);
        let later = |wall| moment("a", 90_000, wall);
        for now in [later(1_000_030), later(0), later(400_000_000)] {
            assert_eq!(reach(&said, &now), now.on_line(&now) - 30_000);
        }
        assert_eq!(reach(&said, &moment("b", 90_000, 999_999)), 0);
    }
}
