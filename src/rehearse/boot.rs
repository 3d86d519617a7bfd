//! The rules of the next boot: its texts, loaded together into one scratch namespace by the tools that load them at boot.

use std::time::Duration;

use super::layout::{Layout, set_up};
use super::probe::{Answer, Listeners};
use super::ruleset::{devices, disowned};
use super::sample::{self, Question, questions};
use super::{Copy, RehearsalError, compare};
use crate::facts::{Family, Firewall, LoadTool, Loader, Net, Snapshot, escape};
use crate::host::{Call, Host, Scratch};
use crate::judge::{self, PathGates, PathVerdict};
use crate::observe::firewall::firewall;
use crate::observe::firewalld;
use crate::plan::{Plan, Step, TableInserts, insert};
use crate::policy::Policy;

const DEADLINE: Duration = Duration::from_secs(20);

/// The rules as the kernel has them then, or why they cannot be had.
pub fn load(host: &Host, net: &Net, loaders: &[Loader]) -> Result<Firewall, String> {
    beside(host, net, &[], loaders, |host, _| Firewall { outside: Vec::new(), ..firewall(host) })
}

/// Tries the changes of files that the next boot loads: the kernel must read from them what the plan's model says, and
/// answer clients so. Gives how many first packets were sent.
pub fn try_out(host: &Host, snapshot: &Snapshot, plan: &Plan, policy: &Policy) -> Result<usize, RehearsalError> {
    let Some(booted) = snapshot.booted() else { return Ok(0) };
    let mut loaders = snapshot.boot.loaders.clone();
    let mut inserts: Vec<TableInserts> = Vec::new();
    let mut files = Vec::new();
    for step in &plan.steps {
        let Step::Persist { path, content, model, .. } = step else { continue };
        inserts.extend(model.iter().cloned());
        files.push(escape(&path.to_string_lossy()));
        for loader in loaders.iter_mut().filter(|l| l.file == *path) {
            loader.text = String::from_utf8_lossy(content).into_owned();
        }
    }
    let mut model = booted.clone();
    for at in &inserts {
        insert(&mut model.firewall, &plan.id, at);
    }
    let verdicts = |rules: &Snapshot, gates: &[PathGates]| -> Vec<PathVerdict> {
        gates.iter().map(|gate| judge::rules(policy, rules, gate.whole.path.clone())).collect()
    };
    let gates = judge::boot::gates(policy, snapshot);
    let expected = verdicts(&model, &gates);
    let grants = sample::grants(&inserts);
    let old = Texts { host, snapshot, gates: &gates, loaders: &snapshot.boot.loaders };
    let new = Texts { loaders: &loaders, ..old };
    let (asked, before, _) =
        old.ask(|layout| questions(&gates, &booted.firewall, &grants, &expected, &layout.reserved))?;
    let (_, after, rules) = new.ask(|_| asked.clone())?;
    let read = verdicts(&Snapshot { firewall: rules, ..booted.clone() }, &gates);
    let same = |(a, b): (&PathVerdict, &PathVerdict)| a.admitted == b.admitted && a.reachable() == b.reachable();
    if !expected.iter().zip(&read).all(same) {
        return Err(RehearsalError::Otherwise { file: files.join(", ") });
    }
    let again =
        |texts: Texts<'_>, doubtful: &[Question]| texts.ask(|_| doubtful.to_vec()).map(|(_, answers, _)| answers);
    compare(&asked, &before, &after, |doubtful| again(new, doubtful), |doubtful| again(old, doubtful))
}

/// Texts to be loaded, and who is to be asked about them.
#[derive(Clone, Copy)]
struct Texts<'a> {
    host: &'a Host,
    snapshot: &'a Snapshot,
    gates: &'a [PathGates],
    loaders: &'a [Loader],
}

impl Texts<'_> {
    /// The questions, the kernel's answers, and the rules as it has them.
    fn ask(
        &self,
        questions: impl FnOnce(&Layout) -> Vec<Question> + Send,
    ) -> Result<(Vec<Question>, Vec<Answer>, Firewall), RehearsalError> {
        let mut uplinks: Vec<u32> = self.gates.iter().map(|g| g.whole.path.ifindex).collect();
        uplinks.dedup();
        let inside = |host: &Host, layout: Layout| {
            let rules = Firewall { outside: Vec::new(), ..firewall(host) };
            let (tcp, udp) = sample::ports(self.gates, &rules);
            let listeners = Listeners::open(&tcp, &udp).map_err(RehearsalError::Probe)?;
            let questions = questions(&layout);
            let answers = Copy { host, layout, listeners, gates: self.gates }.ask(&questions, 0)?;
            Ok((questions, answers, rules))
        };
        beside(self.host, &self.snapshot.net, &uplinks, self.loaders, inside).map_err(RehearsalError::Boot)?
    }
}

/// Loads the texts and runs `inside` where they are loaded, with clients behind `uplinks`.
fn beside<T: Send>(
    host: &Host,
    net: &Net,
    uplinks: &[u32],
    loaders: &[Loader],
    inside: impl FnOnce(&Host, Layout) -> T + Send,
) -> Result<T, String> {
    let bound: Vec<String> =
        loaders.iter().filter(|l| l.tool == LoadTool::Nft).flat_map(|l| devices(&l.text)).collect();
    let result = host.scratch(Scratch::Network, |host| {
        let layout = set_up(host, net, uplinks, &bound)?;
        Ok(loaders.iter().try_for_each(|l| load_here(host, l)).map(|()| inside(host, layout)))
    });
    result.unwrap_or_else(|error| Err(crate::chain(&error)))
}

fn load_here(host: &Host, loader: &Loader) -> Result<(), String> {
    let tools = |family| if family == Family::Ipv4 { "iptables-restore" } else { "ip6tables-restore" };
    let mut text = loader.whole();
    let (tool, args): (&str, &[&str]) = match loader.tool {
        LoadTool::Nft => {
            text = disowned(&text);
            // Where a name alone is included it is looked for here.
            ("nft", &["-I", "/etc", "-f", "-"])
        }
        LoadTool::Firewalld { .. } => {
            text = firewalld::whole(host, loader)?;
            ("nft", &["-f", "-"])
        }
        LoadTool::Restore(family) => (tools(family), &[]),
        LoadTool::Add(family) | LoadTool::Ufw(family) => (tools(family), &["--noflush"]),
    };
    let call = Call { stdin: text.as_bytes(), deadline: DEADLINE, ..Call::new(tool, args) };
    let file = escape(&loader.file.to_string_lossy());
    match host.run(&call) {
        Ok(output) if output.ok() => Ok(()),
        Ok(output) => Err(format!("{tool} does not load {file}: {}", output.complaint())),
        Err(error) => Err(format!("load {file}: {}", crate::chain(&error))),
    }
}
