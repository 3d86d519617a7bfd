//! Frames: JSON objects, each ended by a NUL.

use std::io;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

/// Longest frame that is taken.
pub const LONGEST: usize = 64 << 10;
/// A frame that has begun must end within this time, and an answer must be taken within it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// A connection on which nothing is said is closed after this time.
const IDLE: Duration = Duration::from_secs(120);
/// A frame up to here is read without asking for room.
const SMALL: usize = 1 << 10;

/// One connection, by frames.
pub struct Wire {
    stream: UnixStream,
    read: Vec<u8>,
}

/// Why there is no further frame.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The client has closed, or said nothing for too long.
    Closed,
    /// Too long, or too slow.
    Refused,
}

/// What a frame asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub method: String,
    pub parameters: serde_json::Map<String, Value>,
    pub oneway: bool,
    pub more: bool,
}

impl Wire {
    pub fn new(stream: UnixStream) -> Wire {
        Wire { stream, read: Vec::new() }
    }

    /// The bytes of the next frame, without its NUL. Before a frame grows large, `room` is waited for.
    pub async fn frame<R>(&mut self, room: impl AsyncFn() -> Option<R>) -> Result<Vec<u8>, End> {
        let mut held = None;
        let mut until = (!self.read.is_empty()).then(|| Instant::now() + PATIENCE);
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == 0) {
                let mut frame: Vec<u8> = self.read.drain(..=end).collect();
                frame.pop();
                if self.read.is_empty() {
                    self.read = Vec::new();
                }
                return Ok(frame);
            }
            if self.read.len() > LONGEST {
                return Err(End::Refused);
            }
            if self.read.len() > SMALL && held.is_none() {
                held = Some(room().await.ok_or(End::Refused)?);
            }
            let deadline = until.unwrap_or_else(|| Instant::now() + IDLE);
            match timeout_at(deadline, self.stream.readable()).await {
                Ok(Ok(())) => {}
                Err(_) if until.is_some() => return Err(End::Refused),
                Ok(Err(_)) | Err(_) => return Err(End::Closed),
            }
            // Only now is there a buffer: a thousand that say nothing have none.
            let mut more = [0u8; 4096];
            let limit = more.len().min(LONGEST + 1 - self.read.len());
            match self.stream.try_read(more.get_mut(..limit).unwrap_or_default()) {
                Ok(0) => return Err(End::Closed),
                Ok(got) => self.read.extend(more.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(_) => return Err(End::Closed),
            }
            until = until.or_else(|| Some(Instant::now() + PATIENCE));
        }
    }

    /// Sends one answer; a client that does not take it in time is given up.
    pub async fn send(&mut self, answer: &Value) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(answer)?;
        bytes.push(0);
        match timeout(PATIENCE, self.stream.write_all(&bytes)).await {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// What a frame calls, or which part of it makes no sense.
pub fn call(frame: &[u8]) -> Result<Call, &'static str> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(frame) else { return Err("call") };
    let flag = |name| match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(yes)) => Ok(*yes),
        Some(_) => Err(name),
    };
    let (oneway, more, upgrade) = (flag("oneway")?, flag("more")?, flag("upgrade")?);
    if upgrade {
        return Err("upgrade");
    }
    let Some(Value::String(method)) = members.remove("method") else { return Err("method") };
    let parameters = match members.remove("parameters") {
        None | Some(Value::Null) => serde_json::Map::new(),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => return Err("parameters"),
    };
    Ok(Call { method, parameters, oneway, more })
}

pub fn reply(parameters: Value, continues: bool) -> Value {
    match continues {
        true => json!({"parameters": parameters, "continues": true}),
        false => json!({"parameters": parameters}),
    }
}

pub fn error(name: &str, parameters: Value) -> Value {
    json!({"error": name, "parameters": parameters})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_frame_calls() {
        let good = call(br#"{"method":"a.b.C","parameters":{"x":1},"more":true}"#).unwrap();
        assert_eq!((good.method.as_str(), good.more, good.oneway), ("a.b.C", true, false));
        assert_eq!(call(br#"{"method":"a.b.C"}"#).unwrap().parameters.len(), 0);
        for (frame, part) in [
            (&b""[..], "call"),
            (b"[]", "call"),
            (b"{}", "method"),
            (br#"{"method":1}"#, "method"),
            (br#"{"method":"m","parameters":[]}"#, "parameters"),
            (br#"{"method":"m","more":1}"#, "more"),
            (br#"{"method":"m","upgrade":true}"#, "upgrade"),
            (b"{\"method\":\"\xff\"}", "call"),
        ] {
            assert_eq!(call(frame), Err(part), "{}", String::from_utf8_lossy(frame));
        }
    }

    proptest! {
        #[test]
        fn whatever_a_frame_holds_it_ends_without_a_panic(frame in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = call(&frame);
        }
    }

    #[tokio::test]
    async fn frames_come_whole_and_not_too_long() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut wire = Wire::new(ours);
        let room = async || Some(());
        theirs.write_all(b"one\0two\0thr").await.unwrap();
        assert_eq!(wire.frame(room).await.unwrap(), b"one");
        assert_eq!(wire.frame(room).await.unwrap(), b"two");
        theirs.write_all(b"ee\0").await.unwrap();
        assert_eq!(wire.frame(room).await.unwrap(), b"three");
        let long = tokio::spawn(async move {
            let _ = theirs.write_all(&vec![b'x'; LONGEST + 4096]).await;
            theirs
        });
        assert_eq!(wire.frame(room).await, Err(End::Refused));
        drop(wire);
        long.await.unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(Wire::new(ours).frame(room).await, Err(End::Closed));
    }
}
