//! The saved rulesets of the corpus, and what the kernel was recorded to have made of them (`kernel/*.json` there).

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use ssh_rescue::host::Host;
use ssh_rescue::rehearse::probe::{Listeners, ask};
use ssh_rescue::rehearse::ruleset::{Place, Saved, load};

use super::common::{probe_to, root};

#[derive(Debug, Deserialize)]
pub struct Recorded {
    pub file: String,
    pub backend: String,
    pub iface: String,
    pub ifindex: u32,
    pub dst: String,
    pub dport: u16,
    pub stateful_features: Vec<String>,
    pub accepted: Vec<String>,
    pub blocked: Vec<String>,
}

impl Recorded {
    pub fn saved(&self, folder: &Path) -> Saved {
        let place = Place { interface: self.iface.clone(), ifindex: self.ifindex, to: vec![self.dst.parse().unwrap()] };
        Saved::open(&Host::live(), &folder.join(&self.file), Some(self.backend.parse().unwrap()), place).unwrap()
    }
}

/// The folder of the corpus: `SSH_RESCUE_RULESETS`, or `shared/rulesets` beside the repository. A clone has it not, and asks
/// about the rulesets in `tests/rulesets` alone (`asked`).
pub fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("SSH_RESCUE_RULESETS").map(PathBuf::from);
    let beside = || {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        root.ancestors().map(|a| a.join("shared/rulesets")).find(|p| p.is_dir())
    };
    let found = named.or_else(beside).filter(|f| f.join("kernel").is_dir());
    if found.is_none() {
        eprintln!("SKIPPED corpus: it is not beside the repository (set SSH_RESCUE_RULESETS to its folder)");
    }
    found
}

pub fn recorded(folder: &Path) -> Vec<Recorded> {
    let mut files: Vec<_> = fs::read_dir(folder.join("kernel")).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files.iter().map(|f| serde_json::from_slice(&fs::read(f).unwrap()).unwrap()).collect()
}

/// The record was made by comparing addresses as text, and `::/96` has two spellings (`::ffff:1`, `::255.255.0.1`): it calls
/// such sources blocked that the kernel lets in.
pub fn misread(source: &str) -> bool {
    source.parse::<std::net::Ipv6Addr>().is_ok_and(|a| u128::from(a) >> 32 == 0)
}

#[test]
fn every_saved_ruleset_loads_and_answers_as_recorded() {
    if !root("corpus") {
        return;
    }
    let Some(folder) = folder() else { return };
    let (mut pairs, mut rulesets) = (0, 0);
    for truth in recorded(&folder) {
        rulesets += 1;
        let answers = load(&Host::live(), &truth.saved(&folder), |_, layout| {
            let listeners = Listeners::open(&[truth.dport], &[]).unwrap();
            let sources: Vec<_> = truth.accepted.iter().chain(&truth.blocked).collect();
            let flows: Vec<_> = sources.iter().map(|s| probe_to(s, &truth.dst, truth.dport)).collect();
            ask(&mut layout.uplinks[0], &listeners, &flows).unwrap()
        })
        .unwrap_or_else(|e| panic!("{}: {}", truth.file, ssh_rescue::chain(&e)));
        for (source, answer) in truth.blocked.iter().zip(&answers[truth.accepted.len()..]) {
            pairs += 1;
            if misread(source) {
                continue;
            }
            assert!(!answer.is_open(), "{} ({}): {source} is recorded as blocked", truth.file, truth.backend);
        }
        // The record does not look at the way out.
        for (source, answer) in truth.accepted.iter().zip(&answers) {
            pairs += 1;
            if !answer.is_open() && truth.stateful_features.is_empty() {
                println!("{} ({}): {source} is let in and not answered: {answer:?}", truth.file, truth.backend);
            }
        }
    }
    println!("{rulesets} rulesets, {pairs} pairs");
    assert!(rulesets > 100);
}
