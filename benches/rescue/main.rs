//! How long a client waits, how little the agent costs at rest, and how it stands a crowd and a quarrel: on a booted host
//! with the service in its sandbox. `make bench` (root) runs it and writes its part of `docs/benchmarks.md`.

// What the tests of booted hosts use of them besides is not used here.
#[allow(dead_code)]
#[path = "../../tests/hosts/booted.rs"]
mod booted;
#[allow(dead_code)]
#[path = "../../tests/hosts/client.rs"]
mod client;
#[allow(dead_code)]
#[path = "../../tests/hosts/service.rs"]
mod service;

mod crowd;
mod knock;
mod latency;
mod lockouts;
mod others;
mod page;
mod quarrel;
mod rest;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use booted::Booted;
use page::Page;

/// Debian 12: its sshd knows TCP wrappers, and does not punish clients that only look.
const DISTRIBUTION: &str = "bookworm";

/// Measures on fresh hosts, and writes what it saw.
type Part = fn(&Path, &mut Page);

fn main() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: these benchmarks need root to boot hosts");
        return;
    }
    let Some(root) = root() else {
        eprintln!("SKIPPED: there is no host to be booted (scripts/hosts)");
        return;
    };
    let parts: [(&str, Part); 4] = [
        ("latency", latency::measure),
        ("rest", rest::measure),
        ("crowd", crowd::measure),
        ("quarrel", quarrel::measure),
    ];
    // `cargo bench --bench rescue -- rest` runs one part, and writes nothing.
    let asked: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut page = Page::new();
    for (name, part) in parts {
        if asked.is_empty() || asked.iter().any(|a| a == name) {
            part(&root, &mut page);
        }
    }
    if asked.is_empty() {
        page.write();
    }
}

fn root() -> Option<PathBuf> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hosts");
    let made = Command::new(recipe).stderr(Stdio::inherit()).output().ok()?;
    let roots = String::from_utf8_lossy(&made.stdout).into_owned();
    roots.lines().find(|line| line.contains(DISTRIBUTION)).map(PathBuf::from)
}

/// A number from the environment, by which a run is made shorter.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A booted host with the agent as a service.
fn with_agent(root: &Path) -> Booted {
    let host = Booted::boot(root);
    service::install(&host).unwrap_or_else(|e| panic!("{e}"));
    host
}
