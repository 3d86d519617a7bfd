//! What a finding rests on, put into JSON when somebody reads it: a ruleset may give thousands of findings, and one of them may
//! name fifty thousand sources.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use serde_json::Value;

#[derive(Clone)]
pub struct Details {
    own: Value,
    /// In its place, as long as nobody has changed it.
    unread: Option<Unread>,
}

#[derive(Clone)]
struct Unread {
    read: OnceLock<Value>,
    make: Arc<dyn Fn() -> Value + Send + Sync>,
}

impl Details {
    pub fn later(make: impl Fn() -> Value + Send + Sync + 'static) -> Details {
        Details { own: Value::Null, unread: Some(Unread { read: OnceLock::new(), make: Arc::new(make) }) }
    }
}

impl From<Value> for Details {
    fn from(own: Value) -> Details {
        Details { own, unread: None }
    }
}

impl Deref for Details {
    type Target = Value;

    fn deref(&self) -> &Value {
        self.unread.as_ref().map_or(&self.own, |unread| unread.read.get_or_init(|| (unread.make)()))
    }
}

impl DerefMut for Details {
    fn deref_mut(&mut self) -> &mut Value {
        if let Some(Unread { read, make }) = self.unread.take() {
            self.own = read.into_inner().unwrap_or_else(|| make());
        }
        &mut self.own
    }
}

impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl PartialEq for Details {
    fn eq(&self, other: &Details) -> bool {
        **self == **other
    }
}

impl Serialize for Details {
    /// What nobody has read is not kept.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.unread {
            Some(unread) if unread.read.get().is_none() => (unread.make)().serialize(serializer),
            _ => (**self).serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_what_they_come_to_whether_they_have_been_read_or_not() {
        let later = |port: u16| Details::later(move || json!({"port": port}));
        assert_eq!(later(22), Details::from(json!({"port": 22})));
        assert_ne!(later(22), later(2222));
        assert_eq!(format!("{:?}", later(22)), format!("{:?}", json!({"port": 22})));
    }

    #[test]
    fn what_is_written_out_unread_is_not_kept_and_what_was_read_is_not_made_again() {
        let made = Arc::new(AtomicUsize::new(0));
        let counted = made.clone();
        let details = Details::later(move || json!({"made": counted.fetch_add(1, Ordering::Relaxed)}));
        let written = || serde_json::to_value(&details).unwrap();
        assert_eq!([written(), written()], [json!({"made": 0}), json!({"made": 1})]);
        assert_eq!(details["made"], 2);
        assert_eq!([written(), written()], [json!({"made": 2}), json!({"made": 2})]);
        assert_eq!(made.load(Ordering::Relaxed), 3);
    }
}
