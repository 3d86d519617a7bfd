//! What the journal is told: one structured message for each change of state (systemd.journal-fields(7), and
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>). Where no journald listens: a line on standard error.

use std::os::unix::net::UnixDatagram;

const SOCKET: &str = "/run/systemd/journal/socket";
/// Longest value of a field, in characters: a message must fit into one datagram.
const LONGEST: usize = 4000;

/// The kinds of messages, each with its MESSAGE_ID and its syslog(3) priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Started,
    /// What a client sees has changed, for the better or the worse.
    Open,
    Shut,
    Repaired,
    /// A repair failed, or did not help.
    Failed,
    /// Repairs are stopped, or go on: restraint.
    Restrained,
    Hold,
    Policy,
    /// The agent hears or sees less than it should.
    Deaf,
}

impl Event {
    fn id(self) -> &'static str {
        match self {
            Event::Started => "3b1f1e0c6f0b4f0f9a52c2f7d1a7c0e1",
            Event::Open => "a0a61e2f5d3a4f2c8c6b7ef3d3c5b902",
            Event::Shut => "c1d9a4c7e80f4b3f9d0a5b6e7f8a1b03",
            Event::Repaired => "5e2a7c9b1d4e4f60b8a7c6d5e4f3a204",
            Event::Failed => "7f3b8d0c2e5f4a71a9b8d7e6f5a4b305",
            Event::Restrained => "90c4ae1d3f6a4b82bac9e8f7a6b5c406",
            Event::Hold => "a1d5bf2e4a7b4c93cbdaf9a8b7c6d507",
            Event::Policy => "b2e6ca3f5b8c4da4dcebaab9c8d7e608",
            Event::Deaf => "c3f7db4a6c9d4eb5edfcbbcad9e8f709",
        }
    }

    fn priority(self) -> u8 {
        match self {
            Event::Shut | Event::Failed => 3,
            Event::Restrained | Event::Deaf => 4,
            Event::Repaired | Event::Hold => 5,
            Event::Started | Event::Open | Event::Policy => 6,
        }
    }
}

#[derive(Debug)]
pub struct Journal {
    socket: Option<UnixDatagram>,
}

impl Journal {
    pub fn open() -> Journal {
        let socket = UnixDatagram::unbound().and_then(|socket| {
            socket.connect(SOCKET)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        Journal { socket: socket.ok() }
    }

    /// Says `message` with `fields`; the names are upper case.
    pub fn say(&self, event: Event, message: &str, fields: &[(&str, &str)]) {
        let (id, priority) = (event.id(), event.priority().to_string());
        let own =
            [("MESSAGE", message), ("MESSAGE_ID", id), ("PRIORITY", &priority), ("SYSLOG_IDENTIFIER", "ssh-rescue")];
        let all: Vec<u8> = own.iter().chain(fields).flat_map(|(name, value)| field(name, value)).collect();
        let sent = self.socket.as_ref().is_some_and(|socket| socket.send(&all).is_ok());
        if !sent {
            let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
            eprintln!("<{priority}>{line}");
        }
    }
}

fn field(name: &str, value: &str) -> Vec<u8> {
    let value: String = value.chars().take(LONGEST).collect();
    if !value.contains('\n') {
        return format!("{name}={value}\n").into_bytes();
    }
    let mut bytes = format!("{name}\n").into_bytes();
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value.as_bytes());
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_value_of_the_host_makes_no_field_of_its_own() {
        assert_eq!(field("MESSAGE", "a=b"), b"MESSAGE=a=b\n");
        assert_eq!(field("MESSAGE", "a\nPRIORITY=0"), b"MESSAGE\n\x0c\0\0\0\0\0\0\0a\nPRIORITY=0\n");
    }
}
