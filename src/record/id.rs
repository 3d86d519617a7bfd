//! Ids of what is kept: by them it sorts as it came.

use std::hash::{BuildHasher, Hasher, RandomState};

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};

use super::StateDir;
use super::history::ids;
use crate::host::Host;

impl StateDir {
    /// A new repair's id, which sorts after those of all that are on record.
    pub fn new_id(&self, host: &Host) -> String {
        // What cannot be listed cannot be written to either.
        new_id(&ids(host, self).unwrap_or_default())
    }
}

/// The time in UTC and four hexadecimal digits by chance. Where the clock was set back, and for a second one in one second, it is
/// the time of the last one and a second more.
pub(super) fn new_id(others: &[String]) -> String {
    // Each RandomState is keyed by chance.
    let chance = RandomState::new().build_hasher().finish() as u16;
    format!("{}-{chance:04x}", after(Timestamp::now(), others).strftime("%Y%m%dT%H%M%S"))
}

fn after(now: Timestamp, others: &[String]) -> Timestamp {
    let last = others.iter().filter_map(|id| time(id)).max();
    // Nothing comes after the end of time.
    last.and_then(|last| last.checked_add(SignedDuration::from_secs(1)).ok()).map_or(now, |next| next.max(now))
}

/// The time of an id, if it is one.
fn time(id: &str) -> Option<Timestamp> {
    let (day, rest) = id.split_once('T')?;
    let time = rest.split('-').next()?;
    let part = |text: &str, from: usize, to: usize| -> Option<i16> { text.get(from..to)?.parse().ok() };
    let small = |text: &str, from: usize| part(text, from, from + 2).and_then(|n| i8::try_from(n).ok());
    if day.len() != 8 || time.len() != 6 || !day.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (year, month, of_month) = (part(day, 0, 4)?, small(day, 4)?, small(day, 6)?);
    let (hour, minute, second) = (small(time, 0)?, small(time, 2)?, small(time, 4)?);
    Offset::UTC.to_timestamp(DateTime::new(year, month, of_month, hour, minute, second, 0).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_sorts_after_all_others_whatever_the_clock_says() {
        let now = time("20261127T165550-0000").unwrap();
        let id = |others: &[&str]| {
            let others: Vec<String> = others.iter().map(|&id| id.to_owned()).collect();
            after(now, &others).strftime("%Y%m%dT%H%M%S").to_string()
        };
        assert_eq!(id(&[]), "20261127T165550");
        assert_eq!(id(&["20261127T165549-ffff", "19700101T000003-1234"]), "20261127T165550");
        assert_eq!(id(&["20261127T165550-ffff", "20261127T165550-0000"]), "20261127T165551");
        // It was set back by ten years, over the end of a year.
        assert_eq!(id(&["20361231T235959-ffff", "20261127T165549-0000"]), "20370101T000000");
        for odd in [
            "",
            "a",
            "99991231T235959-ffff",
            "20261332T250000-0000",
            "2026112\u{666}T165551-0000",
            "T-",
            "20361231T23595+-0",
        ] {
            assert_eq!(id(&[odd]), "20261127T165550", "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_name_is_taken_without_a_panic(names in proptest::collection::vec(any::<String>(), 0..4)) {
            let _ = new_id(&names);
        }

        #[test]
        fn ids_sort_as_they_were_made(seconds in proptest::collection::vec(-2_000_000_000i64..4_000_000_000, 1..20)) {
            let mut ids: Vec<String> = Vec::new();
            for second in seconds {
                let now = Timestamp::from_second(second).unwrap();
                ids.push(format!("{}-0000", after(now, &ids).strftime("%Y%m%dT%H%M%S")));
            }
            prop_assert!(ids.is_sorted() && ids.iter().zip(ids.iter().skip(1)).all(|(a, b)| a != b));
        }
    }
}
