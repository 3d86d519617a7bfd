//! Asking the agent, if there is one and it answers at once: a dead or hung one never stands in the way.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};
use serde_json::{Value, json};
use thiserror::Error;

use super::screen::clean;
use crate::agent::SOCKET;
use crate::record::StateDir;

/// Within this time a living agent says who it is.
const GREETING: Duration = Duration::from_millis(200);
/// A pass, with all that it waits for.
const ANSWER: Duration = Duration::from_secs(90);
/// No answer is longer.
const LONGEST: usize = 64 << 20;

/// A connection to an agent that lives.
pub struct Agent {
    stream: UnixStream,
}

#[derive(Debug, Error)]
pub enum AskError {
    #[error("talk to the agent")]
    Talk(#[from] io::Error),
    #[error("read the agent's answer")]
    Form(#[from] serde_json::Error),
    #[error("the agent refuses: only root, and the group that the policy names, may do this")]
    Denied,
    #[error("the agent refuses: {}", clean(.0))]
    Refused(String),
}

impl Agent {
    /// The agent of this host; None if it does not answer within 200 ms.
    pub fn reach() -> Option<Agent> {
        let path = StateDir::default().run().join(SOCKET);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
        // Where the queue is full this fails at once.
        socket::connect(socket.as_raw_fd(), &UnixAddr::new(&path).ok()?).ok()?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false).ok()?;
        let mut agent = Agent { stream };
        agent.within("org.varlink.service.GetInfo", &json!({}), GREETING).ok()?;
        Some(agent)
    }

    /// Calls a method of the agent's own interface.
    pub fn call(&mut self, method: &str, parameters: &Value) -> Result<Value, AskError> {
        self.within(&format!("{SOCKET}.{method}"), parameters, ANSWER)
    }

    fn within(&mut self, method: &str, parameters: &Value, wait: Duration) -> Result<Value, AskError> {
        let end = Instant::now() + wait;
        let mut frame = serde_json::to_vec(&json!({"method": method, "parameters": parameters}))?;
        frame.push(0);
        self.stream.set_write_timeout(Some(wait))?;
        self.stream.write_all(&frame)?;
        let mut bytes = Vec::new();
        while bytes.last() != Some(&0) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || bytes.len() > LONGEST {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.stream.set_read_timeout(Some(left))?;
            let mut more = [0u8; 16 << 10];
            match self.stream.read(&mut more)? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                got => bytes.extend(more.get(..got).unwrap_or_default()),
            }
        }
        bytes.pop();
        let mut answer: Value = serde_json::from_slice(&bytes)?;
        let parameters = answer.get_mut("parameters").map(Value::take).unwrap_or_default();
        match answer.get("error").and_then(Value::as_str) {
            None => Ok(parameters),
            Some("org.varlink.service.PermissionDenied") => Err(AskError::Denied),
            Some(name) => {
                let message = parameters.get("message").and_then(Value::as_str);
                Err(AskError::Refused(message.map_or_else(|| format!("{name} {parameters}"), str::to_owned)))
            }
        }
    }
}
