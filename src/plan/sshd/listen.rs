//! Where sshd is configured to listen: added to, in a file of our own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Attempt, No};
use crate::decode::sshd_config::{Line, includes, lines};
use crate::facts::{Seen, Settings, TextFile};
use crate::plan::Step;
use crate::plan::accept::tag;
use crate::policy::respects;

const MAIN: &str = "/etc/ssh/sshd_config";
const FOLDER: &str = "/etc/ssh/sshd_config.d";
/// First in the folder, because of some keywords sshd takes the first.
const OWN: &str = "/etc/ssh/sshd_config.d/00-ssh-rescue.conf";
const DEFAULT_PORT: u16 = 22;

impl Attempt<'_> {
    /// Adds what makes sshd listen where the paths need it, if it does not. What it listens on already, it keeps.
    pub(super) fn listen(&mut self, settings: &Settings, paths: &[&usize]) -> Result<(), No> {
        let places = paths.iter().filter_map(|&&i| self.judgement.gates.get(i)).map(|g| &g.whole.path);
        let mut wanted: Vec<SocketAddr> = places.map(|p| SocketAddr::new(p.address, p.port)).collect();
        wanted.retain(|place| !settings.serves(place.ip(), place.port()));
        if wanted.is_empty() || self.by_socket() {
            return Ok(());
        }
        // The addresses of a disk's host are not known, and an example of one must not come to stand in its files.
        let named = || self.config.iter().flat_map(|f| lines(&f.bytes)).any(|l| l.keyword == "listenaddress");
        if self.snapshot.at_rest && named() {
            let why =
                "sshd is to listen on addresses that are named, and which others the disk's host has is not known";
            return Err(("sshd.config.listen", why.to_owned()));
        }
        let added = self.added(settings, &wanted);
        let reason = format!("sshd is not configured to listen where clients come in: add {}", added.join(", "));
        let base = (self.steps.clone(), self.config.clone());
        for place in self.places() {
            self.add(&place, &added, &reason);
            let trial = self.ask()?;
            let passed = trial.test.present().is_some_and(|t| t.passed);
            if passed && trial.settings.present().is_some_and(|now| serves(now, settings, &wanted)) {
                return Ok(());
            }
            (self.steps, self.config) = base.clone();
        }
        let why = "no line that could be added makes sshd listen where clients come in and where it does now";
        Err(("sshd.config.port", why.to_owned()))
    }

    /// Whether systemd listens for sshd: its own addresses and ports do not count then.
    pub(super) fn by_socket(&self) -> bool {
        let Seen::Present(units) = &self.snapshot.sshd.units else { return false };
        let starts = |u: &crate::facts::Unit| u.active() || u.unit_file_state.starts_with("enabled");
        units.iter().any(|u| u.name.ends_with(".socket") && u.loaded() && starts(u))
    }

    /// `Port` adds to the ports, unless addresses are named: then nothing but `ListenAddress` adds to these, and without one
    /// a first `ListenAddress` would take away all others.
    fn added(&self, settings: &Settings, wanted: &[SocketAddr]) -> Vec<String> {
        let all: Vec<Line> = self.config.iter().flat_map(|f| lines(&f.bytes)).filter(|l| !l.in_match).collect();
        let has = |keyword: &str| all.iter().any(|l| l.keyword == keyword);
        let mut added = Vec::new();
        let family = |place: &SocketAddr| if place.is_ipv4() { "inet" } else { "inet6" };
        let limited = !matches!(settings.address_family.as_str(), "any" | "");
        if limited && wanted.iter().any(|place| family(place) != settings.address_family) {
            added.push("AddressFamily any".to_owned());
        }
        if has("listenaddress") {
            added.extend(wanted.iter().map(|place| format!("ListenAddress {place}")));
            return added;
        }
        let mut ports: Vec<u16> = wanted.iter().map(SocketAddr::port).filter(|p| !settings.ports.contains(p)).collect();
        ports.sort_unstable();
        ports.dedup();
        if !ports.is_empty() && !has("port") {
            // The first Port takes the place of the default.
            ports.insert(0, DEFAULT_PORT);
        }
        added.extend(ports.iter().map(|port| format!("Port {port}")));
        added
    }

    /// A drop-in where the main file includes such, else the head of the main file.
    fn places(&self) -> Vec<PathBuf> {
        let main = self.config.iter().find(|f| f.path == Path::new(MAIN));
        let included = main.into_iter().flat_map(|f| lines(&f.bytes)).filter(|l| !l.in_match);
        let fits = |pattern: &PathBuf| {
            pattern.parent() == Some(Path::new(FOLDER))
                && pattern
                    .file_name()
                    .is_some_and(|name| respects(&[name.to_string_lossy().into_owned()], "00-ssh-rescue.conf"))
        };
        let folder = self.snapshot.sshd.files.tree.iter().any(|p| p.path == Path::new(FOLDER));
        let drop_in = folder && included.flat_map(|l| includes(&l)).any(|pattern| fits(&pattern));
        drop_in.then(|| PathBuf::from(OWN)).into_iter().chain([PathBuf::from(MAIN)]).collect()
    }

    /// At the head of the file, as some keywords count only the first time, and none of them may come below a `Match`.
    fn add(&mut self, path: &Path, added: &[String], reason: &str) {
        let mut content = format!("# {}: where clients come in\n", tag(self.id)).into_bytes();
        content.extend(added.iter().flat_map(|line| format!("{line}\n").into_bytes()));
        match self.config.iter_mut().find(|f| f.path == path) {
            Some(file) => {
                content.extend_from_slice(&file.bytes);
                file.bytes.clone_from(&content);
            }
            None => self.config.push(TextFile { path: path.to_owned(), bytes: content.clone() }),
        }
        let same = |s: &&mut Step| matches!(s, Step::WriteFile { path: of, .. } if of == path);
        match self.steps.iter_mut().find(same) {
            Some(Step::WriteFile { content: old, reason: told, .. }) => {
                *old = content;
                told.push_str("; ");
                told.push_str(reason);
            }
            _ => self.steps.push(Step::WriteFile { path: path.to_owned(), content, reason: reason.to_owned() }),
        }
    }
}

fn serves(now: &Settings, before: &Settings, wanted: &[SocketAddr]) -> bool {
    let kept = before.listen.iter().all(|(address, port)| now.serves(*address, *port));
    kept && wanted.iter().all(|place| now.serves(place.ip(), place.port()))
}
