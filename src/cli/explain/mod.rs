//! `ssh-rescue explain`: one packet's way through this host, or through a saved ruleset, drawn.

mod scene;
mod svg;
mod text;
mod way;
mod words;

use std::fs::Permissions;
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use ipnet::IpNet;
use serde::Serialize;
use thiserror::Error;

use super::ruleset::{About, Ruleset, Way as Where, address};
use super::{CliError, Context, Status, report};
use crate::facts::{Family, Net};
use crate::judge::{self, Symptom, Verdict, judge_paths, judge_ruleset, paths};
use crate::observe::observe;
use crate::policy::Policy;
use crate::rehearse::ruleset::example;
use scene::{Mark, Scene};
use text::COLUMNS;
use way::{State, Way};

/// Ways that are drawn; more are only counted.
const DRAWN: usize = 3;

#[derive(Debug, Args)]
#[command(after_help = "Exit status: as of `check`, for this source alone.")]
pub struct Explain {
    /// The address of the client whose packets are followed
    #[arg(value_name = "SOURCE", required_unless_present = "from", value_parser = address)]
    source: Option<IpAddr>,
    /// The same, as an option
    #[arg(long, value_name = "SOURCE", conflicts_with = "source", value_parser = address)]
    from: Option<IpAddr>,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    ruleset: Ruleset,
    /// Also write the picture to a file, for a ticket; a file that is there is not written over
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write over the SVG file that is there
    #[arg(long, requires = "svg")]
    force: bool,
}

#[derive(Debug, Error)]
pub enum ExplainError {
    #[error("no source is named")]
    NoSource,
    #[error("{from} cannot connect to {to}: one is an IPv4 address, the other one of IPv6")]
    Families { from: IpAddr, to: IpAddr },
    #[error("{0} is not an address of this host")]
    NotOurs(IpAddr),
    #[error("{0} is there already: --force writes over it")]
    Exists(PathBuf),
    #[error("write the picture {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is told for machines.
#[derive(Serialize)]
struct Told<'a> {
    source: IpAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    ruleset: Option<&'a About>,
    verdict: Verdict,
    symptom: Symptom,
    sentence: &'a str,
    ways: &'a [Way],
}

/// What came of following one source.
struct Followed {
    about: Option<About>,
    verdict: Verdict,
    symptom: Symptom,
    sentence: String,
    ways: Vec<Way>,
}

impl Explain {
    pub fn run(&self, context: &Context) -> Result<Status, CliError> {
        let source = self.source.or(self.from).ok_or(ExplainError::NoSource)?;
        if let Some(&to) = self.place.to.iter().find(|&&to| Family::of(to) != Family::of(source)) {
            return Err(ExplainError::Families { from: source, to }.into());
        }
        let followed = self.follow(context, source)?;
        let scenes: Vec<Scene> = followed.ways.iter().map(|way| Scene::of(source, way)).collect();
        if let Some(path) = &self.svg {
            write(path, &svg::paint((mark(followed.verdict), &followed.sentence), &scenes), self.force)?;
        }
        if context.json {
            let Followed { about, verdict, symptom, sentence, ways } = &followed;
            let (ruleset, verdict, symptom) = (about.as_ref(), *verdict, *symptom);
            context.machine(&Told { source, ruleset, verdict, symptom, sentence, ways })?;
        } else {
            context.people(&words(context, &followed, &scenes))?;
        }
        Ok(Status::of(followed.verdict))
    }

    /// Judges for this source as `check` does for a policy that names it, and walks its way.
    fn follow(&self, context: &Context, source: IpAddr) -> Result<Followed, CliError> {
        let (policy, _) = context.policy()?;
        let mut policy = self.place.narrow(policy);
        policy.ssh.sources = Some(vec![IpNet::from(source)]);
        let mut place = self.place.clone();
        if place.to.is_empty() {
            place.to.push(example(Family::of(source)));
        }
        let loaded = self.ruleset.load(context, &policy, &place)?;
        let alone = loaded.is_some();
        let (about, snapshot, judgement) = match loaded {
            Some(loaded) => {
                let judgement = judge_ruleset(&policy, &loaded.snapshot, loaded.paths);
                (Some(loaded.about), loaded.snapshot, judgement)
            }
            None => {
                let snapshot = observe(&context.host, &policy);
                let ways = self.ways(&policy, &snapshot.net, Family::of(source))?;
                let judgement = judge_paths(&policy, &snapshot, ways);
                (None, snapshot, judgement)
            }
        };
        let ways: Vec<Way> = judgement.gates.iter().map(|g| Way::of(&policy, &snapshot, g, source, alone)).collect();
        let verdict = verdict(&ways);
        let (symptom, sentence) = match verdict {
            Verdict::Blocked => (judgement.symptom, judgement.sentence),
            Verdict::Unknown if ways.is_empty() => (Symptom::Unknown, judgement.sentence),
            Verdict::Unknown => (Symptom::Unknown, format!("it is not known whether {source} can connect")),
            Verdict::Reachable | Verdict::AtRisk => (Symptom::None, format!("{source} can connect")),
        };
        let reason = ways.iter().find_map(|way| way.end.reason.as_ref()).filter(|_| verdict != Verdict::Blocked);
        let sentence = reason.map_or(sentence.clone(), |reason| format!("{sentence}: {reason}"));
        Ok(Followed { about, verdict, symptom, sentence, ways })
    }

    /// The ways into this host that are asked for: those of the policy, or to the addresses named, wherever they are.
    fn ways(&self, policy: &Policy, net: &Net, family: Family) -> Result<Vec<judge::Path>, ExplainError> {
        if self.place.to.is_empty() {
            return Ok(paths(policy, net).into_iter().filter(|p| p.family == family).collect());
        }
        let links = || net.links.present().into_iter().flatten();
        let mut out = Vec::new();
        for &to in &self.place.to {
            let own = net.addresses.present().into_iter().flatten().find(|a| a.address == to);
            let own = own.ok_or(ExplainError::NotOurs(to))?;
            let link = match &self.place.interface {
                Some(name) => links().find(|l| l.name == *name),
                None => links().find(|l| l.index == own.interface),
            };
            out.extend(link.into_iter().flat_map(|link| {
                let way = move |&port: &u16| judge::Path {
                    family,
                    interface: link.name.clone(),
                    ifindex: link.index,
                    address: to,
                    port,
                };
                policy.ssh.ports.iter().map(way)
            }));
        }
        Ok(out)
    }
}

/// By each interface and on each port that are asked for the source must get in, at one of the addresses there.
fn verdict(ways: &[Way]) -> Verdict {
    let at = |way: &Way| (way.path.interface.clone(), way.path.port);
    let reaches = |way: &Way| matches!(way.end.state, State::Passed | State::Conditional);
    let mut verdict = if ways.is_empty() { Verdict::Unknown } else { Verdict::Reachable };
    for way in ways {
        let beside = || ways.iter().filter(|w| at(w) == at(way));
        if beside().any(reaches) {
            continue;
        }
        match beside().any(|w| w.end.state == State::Unknown) {
            true if verdict == Verdict::Reachable => verdict = Verdict::Unknown,
            true => {}
            false => verdict = Verdict::Blocked,
        }
    }
    verdict
}

fn words(context: &Context, followed: &Followed, scenes: &[Scene]) -> String {
    let sentence = words::shown(&followed.sentence, context.screen.is_rich());
    let mut out = report::sentence(context.screen, followed.verdict, &sentence);
    if let Some(about) = &followed.about {
        // The name of a file has no gap to be broken at.
        let about = words::shown(&about.words(), context.screen.is_rich());
        words::broken(&about, COLUMNS, 4).iter().for_each(|row| out.push_str(&format!("{row}\n")));
    }
    for scene in scenes.iter().take(DRAWN) {
        out.push('\n');
        out.push_str(&text::paint(context.screen, scene));
    }
    if scenes.len() > DRAWN {
        let more = format!("and {} more ways in: --to, --interface and --port choose one", scenes.len() - DRAWN);
        out.push_str(&format!("\n{more}\n"));
    }
    if !context.host.privileged() {
        out.push_str("\nRoot is needed to see the rules and who listens.\n");
    }
    out
}

fn mark(verdict: Verdict) -> Mark {
    match verdict {
        Verdict::Reachable => Mark::Good,
        Verdict::AtRisk | Verdict::Unknown => Mark::Doubt,
        Verdict::Blocked => Mark::Bad,
    }
}

/// Writes the picture whole or not at all; a link in its place is replaced, not followed.
fn write(path: &Path, picture: &str, force: bool) -> Result<(), ExplainError> {
    let failed = |source| ExplainError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".ssh-rescue-picture")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)
        .map_err(failed)?;
    file.write_all(picture.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    let kept = if force { file.persist(path) } else { file.persist_noclobber(path) };
    match kept {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => Err(ExplainError::Exists(path.to_owned())),
        Err(error) => Err(failed(error.error)),
    }
}
