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
