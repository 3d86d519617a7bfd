//! An agent that a test has started, and what it answers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use ssh_rescue::chain;
use ssh_rescue::host::Host;
use ssh_rescue::rehearse::drill::Stage;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");
pub const SOCKET: &str = "/run/ssh-rescue/io.ssh-rescue.Agent";
/// What the agent has to do is done long before that; a test never waits for it otherwise.
pub const LONG: Duration = Duration::from_secs(20);

/// An agent that runs until it is dropped.
pub struct Agent {
    pub child: Child,
}

impl Agent {
    /// Starts one in the namespaces of the calling thread, and waits for its first look.
    pub fn start(host: &Host) -> Agent {
        Agent::of(host.spawn_bound(PROGRAM, &["agent"]).unwrap())
    }

    /// One that was just started.
    pub fn of(child: Child) -> Agent {
        let agent = Agent { child };
        until("the first look", || status().is_some_and(|s| !s["verdict"].is_null()));
        agent
    }

    pub fn resident_kib(&self) -> u64 {
        let process = procfs::process::Process::new(self.child.id() as i32).unwrap();
        process.status().unwrap().vmrss.unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, or fails.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what} does not come: {:?}", status());
        sleep(Duration::from_millis(20));
    }
}

/// Sends frames as they are given, and reads one answer.
pub fn ask(frames: &[u8]) -> Option<Value> {
    let mut stream = UnixStream::connect(SOCKET).ok()?;
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(frames).ok()?;
    answer(&mut stream)
}

pub fn answer(stream: &mut UnixStream) -> Option<Value> {
    let mut bytes = Vec::new();
    let mut byte = [0u8];
    while stream.read(&mut byte).ok()? == 1 {
        if byte[0] == 0 {
            return serde_json::from_slice(&bytes).ok();
        }
        bytes.push(byte[0]);
    }
    None
}

pub fn call(method: &str, parameters: Value) -> Value {
    let mut frame = json!({"method": method, "parameters": parameters}).to_string().into_bytes();
    frame.push(0);
    ask(&frame).unwrap_or_else(|| panic!("{method} is not answered"))
}

pub fn ours(method: &str, parameters: Value) -> Value {
    let answer = call(&format!("io.ssh-rescue.Agent.{method}"), parameters);
    assert!(answer.get("error").is_none(), "{method}: {answer}");
    answer["parameters"].clone()
}

pub fn status() -> Option<Value> {
    let answer = ask(b"{\"method\":\"io.ssh-rescue.Agent.Status\"}\0")?;
    Some(answer["parameters"]["status"].clone())
}

/// Runs `work` on a scratch host with a running sshd, a client and an agent.
pub fn with_agent(work: impl FnOnce(&mut Stage<'_>, &mut Agent) + Send) {
    Stage::build(&Host::live(), |stage| {
        let mut agent = Agent::start(stage.host);
        work(stage, &mut agent);
        Ok(())
    })
    .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

pub const DROP: &str = "table inet fw { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }";

pub fn lock_out(stage: &Stage<'_>) {
    stage.tool("nft", &["-f", "-"], DROP).unwrap();
}
