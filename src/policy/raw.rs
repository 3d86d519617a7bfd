//! The policy file as TOML: tables and values with their places, and readers for the types that keys have.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::Mistakes;
use crate::facts::escape;

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// Every key that there is, by its table; the first table is the file itself.
const KEYS: [(&str, &[&str]); 9] = [
    ("", &["mode"]),
    ("ssh", &["port", "sources", "interfaces"]),
    ("firewall", &["mode", "strategy", "persist", "respect", "panic", "conntrack", "unrehearsed"]),
    ("wrappers", &["mode"]),
    ("sshd", &["mode", "unmask", "persist", "emergency", "logins"]),
    ("disk", &["reserve"]),
    ("restraint", &["attempts", "per"]),
    ("control", &["group"]),
    ("report", &["console", "metrics"]),
];

/// One table of the file; empty where the file does not have it.
pub(super) struct Section<'a, 't> {
    entries: Option<&'a DeTable<'t>>,
}

impl<'a, 't> Section<'a, 't> {
    /// The file itself. Every key that does not exist is noted.
    pub fn top(document: &'a DeTable<'t>, mistakes: &mut Mistakes<'_>) -> Section<'a, 't> {
        for (key, value) in document {
            let known = KEYS.iter().any(|(table, _)| !table.is_empty() && *table == key.get_ref().as_ref());
            match value.get_ref() {
                DeValue::Table(entries) if known => check_keys(key.get_ref(), entries, mistakes),
                _ if known => wrong_type(mistakes, value, &format!("the table `[{}]`", key.get_ref())),
                _ if is_key("", key.get_ref()) => {}
                _ => mistakes.add(key.span(), unknown("", key.get_ref())),
            }
        }
        Section { entries: Some(document) }
    }

    pub fn table(&self, name: &str) -> Section<'a, 't> {
        let entries = self.get(name).and_then(|value| match value.get_ref() {
            DeValue::Table(entries) => Some(entries),
            _ => None,
        });
        Section { entries }
    }

    /// Reads a key into `place`; what is not there or is a mistake leaves it as it is.
    pub fn read<T>(
        &self,
        key: &str,
        mistakes: &mut Mistakes<'_>,
        place: &mut T,
        reader: impl FnOnce(&mut Mistakes<'_>, &Value<'t>) -> Option<T>,
    ) {
        if let Some(value) = self.get(key).and_then(|value| reader(mistakes, value)) {
            *place = value;
        }
    }

    fn get(&self, name: &str) -> Option<&'a Value<'t>> {
        self.entries?.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| value)
    }
}

fn check_keys(table: &str, entries: &DeTable<'_>, mistakes: &mut Mistakes<'_>) {
    for (key, _) in entries.iter().filter(|(key, _)| !is_key(table, key.get_ref())) {
        mistakes.add(key.span(), unknown(table, key.get_ref()));
    }
}

fn keys(table: &str) -> &'static [&'static str] {
    KEYS.iter().find(|(name, _)| *name == table).map_or(&[], |(_, keys)| keys)
}

fn is_key(table: &str, key: &str) -> bool {
    keys(table).contains(&key)
}

fn unknown(table: &str, key: &str) -> String {
    let place = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
    format!("unknown key `{}`{place}: {}", escape(key), advice(table, key))
}

/// What may have been meant: a key of this table that is nearly so, a key of another table, or all there are.
fn advice(table: &str, key: &str) -> String {
    let tables = KEYS.iter().map(|(name, _)| *name).filter(|name| !name.is_empty());
    let mut here: Vec<&str> = keys(table).to_vec();
    if table.is_empty() {
        here.extend(tables);
    }
    if let Some(near) = nearest(key, &here) {
        return format!("did you mean `{near}`?");
    }
    let mut elsewhere = KEYS.iter().filter(|(_, keys)| keys.contains(&key)).map(|(name, _)| match *name {
        "" => "above the first table".to_owned(),
        name => format!("in [{name}]"),
    });
    if let Some(place) = elsewhere.next() {
        return format!("it stands {place}");
    }
    format!("expected {}", one_of(&here.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>()))
}

/// The nearest of some words, if it is near enough to be a slip.
fn nearest<'w>(word: &str, words: &[&'w str]) -> Option<&'w str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    let distances = words.iter().map(|w| (distance(word, w), *w));
    distances.filter(|(d, _)| *d <= limit).min_by_key(|(d, _)| *d).map(|(_, w)| w)
}

/// Insertions, deletions, replacements and swaps of neighbours that make one word the other (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    const LONG: usize = 40;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONG).collect(), b.chars().take(LONG).collect());
    let mut above: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                cost = cost.min(above[j - 1] + 1);
            }
            next.push(cost);
        }
        above = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

/// `a, b or c`
fn one_of(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

/// A value's type, in TOML's words.
fn kind(value: &Value<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

pub(super) fn wrong_type(mistakes: &mut Mistakes<'_>, value: &Value<'_>, expected: &str) {
    mistakes.add(value.span(), format!("expected {expected}, found {}", kind(value)));
}

pub(super) fn boolean(mistakes: &mut Mistakes<'_>, value: &Value<'_>) -> Option<bool> {
    match value.get_ref() {
        DeValue::Boolean(yes) => Some(*yes),
        _ => {
            wrong_type(mistakes, value, "`true` or `false`");
            None
        }
    }
}

/// A string with its place.
pub(super) fn string(mistakes: &mut Mistakes<'_>, value: &Value<'_>, expected: &str) -> Option<(String, Range<usize>)> {
    match value.get_ref() {
        DeValue::String(text) => Some((text.to_string(), value.span())),
        _ => {
            wrong_type(mistakes, value, expected);
            None
        }
    }
}

/// An integer between `low` and `high`; `what` names it and its range.
pub(super) fn integer(mistakes: &mut Mistakes<'_>, value: &Value<'_>, what: &str, low: u32, high: u32) -> Option<u32> {
    let DeValue::Integer(number) = value.get_ref() else {
        wrong_type(mistakes, value, what);
        return None;
    };
    let number = i64::from_str_radix(number.as_str(), number.radix()).ok().and_then(|n| u32::try_from(n).ok());
    match number.filter(|n| (low..=high).contains(n)) {
        Some(number) => Some(number),
        None => {
            mistakes.add(value.span(), format!("expected {what}, from {low} to {high}"));
            None
        }
    }
}

/// One of some words.
pub(super) fn word<T: Copy>(mistakes: &mut Mistakes<'_>, value: &Value<'_>, words: &[(&str, T)]) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let expected = one_of(&quoted);
    let (text, span) = string(mistakes, value, &expected)?;
    let found = words.iter().find(|(name, _)| *name == text).map(|(_, word)| *word);
    if found.is_none() {
        let hint = nearest(&text, &names).map(|near| format!(": did you mean \"{near}\"?")).unwrap_or_default();
        mistakes.add(span, format!("expected {expected}{hint}"));
    }
    found
}

/// A list, each element read by `reader`; None if any of them is a mistake, or if there are none.
pub(super) fn list<T>(
    mistakes: &mut Mistakes<'_>,
    value: &Value<'_>,
    expected: &str,
    reader: impl Fn(&mut Mistakes<'_>, &Value<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let DeValue::Array(elements) = value.get_ref() else {
        wrong_type(mistakes, value, expected);
        return None;
    };
    let read: Vec<Option<T>> = elements.iter().map(|element| reader(mistakes, element)).collect();
    read.into_iter().collect()
}
