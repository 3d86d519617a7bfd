//! ssh-rescue keeps SSH reachable on the host that it runs on.
//!
//! Every pass walks one road, in one direction:
//!
//! ```text
//! observe -> judge -> plan -> rehearse -> apply -> verify -> record
//! ```
//!
//! The rooms stand here in the order of the road. `facts`, `decode`, `policy`, `judge` and `plan` are the core: they touch
//! no file, process, socket, clock or environment (`clippy.toml` lists what is denied to them). The others are thin edges
//! around `host`, the one seam to the machine.

#[deny(clippy::disallowed_methods)]
pub mod decode;
#[deny(clippy::disallowed_methods)]
pub mod facts;
#[deny(clippy::disallowed_methods)]
pub mod judge;
#[deny(clippy::disallowed_methods)]
pub mod plan;
#[deny(clippy::disallowed_methods)]
pub mod policy;

pub mod apply;
pub mod host;
pub mod observe;
pub mod pass;
pub mod record;
pub mod rehearse;
pub mod verify;

pub mod agent;
pub mod cli;

/// An error and its sources as one line, `a: b: c`.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
