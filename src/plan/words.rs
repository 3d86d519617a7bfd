//! What a plan does, for people.

use std::path::Path;

use ipnet::IpNet;

use super::{Insert, Step, ip_table};
use crate::facts::escape;

/// More than this many sources or rules of one step are counted rather than listed.
const LISTED: usize = 6;

impl Step {
    /// What the step does, one act a string, in the infinitive; host text is escaped.
    pub fn words(&self) -> Vec<String> {
        match self {
            Step::FreeReserve { bytes, disk } => {
                vec![format!(
                    "free the {} KiB that are kept for this on the disk of {}, which is full",
                    bytes >> 10,
                    shown(disk)
                )]
            }
            Step::Nft { family, table, inserts, .. } => inserted(&format!("{family} {}", escape(table)), inserts),
            Step::Iptables { family, table, inserts, .. } => {
                inserted(&format!("{} {}", ip_table(*family), escape(table)), inserts)
            }
            Step::UfwAllow { port, interface, sources, .. } => {
                let on = interface.as_ref().map(|name| format!(" on {}", escape(name))).unwrap_or_default();
                vec![format!("let ufw allow {} to tcp port {port}{on}", from(sources))]
            }
            Step::UfwRebuild { families } => {
                let families: Vec<String> = families.iter().map(ToString::to_string).collect();
                vec![format!(
                    "delete ufw's chains of {}, to which no rule leads, and let ufw build them anew",
                    families.join(" and ")
                )]
            }
            Step::FirewalldAllow { zone, port, sources, permanent, .. } => {
                let lasting = if *permanent { "now and after a restart" } else { "until its next reload" };
                let zone = escape(zone);
                vec![format!("let firewalld admit {} to tcp port {port} in zone {zone}, {lasting}", from(sources))]
            }
            Step::Unban { jail, addresses } => {
                vec![format!("let fail2ban lift the bans of {} in jail {}", listed(addresses), escape(jail))]
            }
            Step::FirewalldPanicOff => vec!["end firewalld's panic mode".to_owned()],
            Step::WriteFile { path, reason, .. } | Step::Persist { path, reason, .. } => {
                vec![format!("write {}: {}", shown(path), escape(reason))]
            }
            Step::MakeKeys { keys } => {
                keys.iter().map(|k| format!("make the host key {} ({})", shown(&k.path), escape(&k.kind))).collect()
            }
            Step::SetMode { path, owned } => vec![format!("make {} {owned}", shown(path))],
            Step::KeepWritersOut { account, path, seen } => {
                vec![format!(
                    "make {} mode {:04o}, so that sshd heeds the keys of {}",
                    shown(path),
                    seen.without_writers().mode,
                    escape(account)
                )]
            }
            Step::MakeFolder { path, owned } => vec![format!("make the folder {} ({owned})", shown(path))],
            Step::MakeUser { name, .. } => vec![format!("make the system user {}, who cannot log in", escape(name))],
            Step::RaiseConntrack { from, to } => {
                vec![format!("raise nf_conntrack_max from {from} to {to}, until the next boot")]
            }
            Step::ContinueProcess { pid, name } => {
                vec![format!("let {} (pid {pid}), which is stopped, go on (SIGCONT)", escape(name))]
            }
            Step::ThawUnit { unit } => vec![format!("let systemd thaw {}, which is frozen", escape(unit))],
            Step::RestartUnit { unit, pid, name } => {
                vec![format!(
                    "restart {} (after `sshd -t`), whose {} (pid {pid}) takes no connections; sessions stay",
                    escape(unit),
                    escape(name)
                )]
            }
            Step::ReloadUnit { unit } => {
                vec![format!("let {} read its configuration again (after `sshd -t`)", escape(unit))]
            }
            Step::ListenBySocket { unit, restart: true } => vec![format!("restart {}", escape(unit))],
            Step::ListenBySocket { unit, restart: false } => {
                vec![format!("let systemd read {} again", escape(unit))]
            }
            Step::EmergencySshd { keys, .. } => {
                let keys = if keys.is_empty() { "fresh host keys" } else { "the host's own keys" };
                vec![format!(
                    "start an emergency sshd with {keys}, for logins by key alone, until the real one is back"
                )]
            }
            Step::EnableUnit { unit } => vec![format!("let the next boot start {}", escape(unit))],
            Step::StartUnit { unit, reset_failed, unmask } => {
                let unmask = if *unmask { "unmask it, " } else { "" };
                let reset = if *reset_failed { "reset its failure, " } else { "" };
                vec![format!("start {} ({unmask}{reset}after `sshd -t`)", escape(unit))]
            }
            Step::Flush => vec!["save all rules, flush them and accept by default".to_owned()],
            Step::Disable { services, ufw } => {
                let mut whom: Vec<String> = services.iter().map(|s| escape(s)).collect();
                if *ufw {
                    whom.push("ufw".to_owned());
                }
                vec![format!("save all rules, disable {}, flush and accept by default", whom.join(", "))]
            }
        }
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// What some steps do, without repetition.
pub fn words(steps: &[Step]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for act in steps.iter().flat_map(Step::words) {
        if !all.contains(&act) {
            all.push(act);
        }
    }
    all
}

fn inserted(table: &str, inserts: &[Insert]) -> Vec<String> {
    let act = |insert: &Insert| {
        let chain = escape(&insert.chain);
        format!("accept {} before rule {} of {table} {chain}", insert.accept.words(), insert.index + 1)
    };
    let mut acts: Vec<String> = inserts.iter().take(LISTED).map(act).collect();
    if inserts.len() > LISTED {
        acts.push(format!("and {} more rules in {table}", inserts.len() - LISTED));
    }
    acts
}

fn from(sources: &[Option<IpNet>]) -> String {
    if sources.contains(&None) {
        return "everybody".to_owned();
    }
    listed(&sources.iter().flatten().collect::<Vec<_>>())
}

fn listed(all: &[impl ToString]) -> String {
    let mut words: Vec<String> = all.iter().take(LISTED).map(ToString::to_string).collect();
    if all.len() > LISTED {
        words.push(format!("{} more", all.len() - LISTED));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Accept, Traffic};
    use super::*;
    use crate::facts::TableFamily;

    #[test]
    fn what_is_few_is_listed_in_full_and_of_what_is_more_the_rest_is_counted() {
        let sources = |count: u8| (1..=count).map(|n| Some(format!("10.0.0.{n}/32").parse().unwrap())).collect();
        let asked = |count| Step::UfwAllow { port: 22, interface: None, sources: sources(count), model: Vec::new() };
        let inserts = |count| {
            let insert = |index| Insert {
                chain: "in".into(),
                index,
                accept: Accept {
                    traffic: Traffic::Ssh,
                    family: None,
                    source: None,
                    port: 22,
                    interface: None,
                    answer: false,
                    after: Vec::new(),
                },
            };
            let inserts = (0..count).map(insert).collect();
            Step::Nft { generation: 1, family: TableFamily::Inet, table: "t".into(), inserts }
        };
        for (count, more) in [(5, None), (6, None), (7, Some("1 more")), (9, Some("3 more"))] {
            for (step, listed) in [(asked(count), "10.0.0."), (inserts(usize::from(count)), "before rule")] {
                let words = step.words().join(", ");
                assert_eq!(words.matches(listed).count(), usize::from(count.min(6)), "{words}");
                assert_eq!(words.contains(" more"), more.is_some(), "{words}");
                assert!(more.is_none_or(|more| words.contains(more)), "{words}");
            }
        }
    }
}
