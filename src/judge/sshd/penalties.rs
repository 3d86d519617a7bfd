//! Sources that sshd itself shuts out for a time, for what came of their earlier connections. Reported: to restart sshd or to
//! exempt them is for people to say.

use ipnet::IpNet;
use serde_json::json;

use super::super::{Finding, Severity};
use super::finding;
use crate::facts::{Seen, Settings, ShutOut, Snapshot, escape};
use crate::policy::Policy;

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let (Some(sources), Some(settings)) = (&policy.ssh.sources, snapshot.sshd.settings.present()) else {
        return Vec::new();
    };
    let mut out = Vec::new();
    if let Seen::Present(all) = &snapshot.sshd.shut_out {
        let meant = all.iter().filter(|shut| sources.iter().any(|net| net.contains(&shut.source)));
        out.extend(meant.map(shut_out));
    }
    out.extend(not_exempt(sources, settings, snapshot.sshd.shut_out.unreadable()));
    out
}

fn shut_out(shut: &ShutOut) -> Finding {
    let words = format!(
        "sshd closed {} connections of {} in the last ten minutes, as a penalty for earlier ones ({}): it lasts ten minutes at \
         most where PerSourcePenalties does not say otherwise, and ends with a restart of sshd",
        shut.times,
        shut.source,
        escape(&shut.why)
    );
    finding("sshd.penalties.source", Severity::Warning, words, json!(shut))
}

/// `unseen`: why its log could not be read.
fn not_exempt(sources: &[IpNet], settings: &Settings, unseen: Option<&str>) -> Option<Finding> {
    let open: Vec<&IpNet> = sources.iter().filter(|net| !settings.exempt.iter().any(|e| e.contains(*net))).collect();
    if !settings.penalties || open.is_empty() {
        return None;
    }
    let list = open.iter().map(|net| net.to_string()).collect::<Vec<_>>().join(",");
    let unseen = unseen.map(|why| format!("; whom it shuts out now cannot be seen: {}", escape(why)));
    let words = format!(
        "sshd shuts out for a time whose logins fail, also sources that the policy names: \
         `PerSourcePenaltyExemptList {list}` in sshd_config exempts them{}",
        unseen.unwrap_or_default()
    );
    Some(finding("sshd.penalties.exempt", Severity::Info, words, json!({"sources": open})))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::healthy;
    use super::*;

    #[test]
    fn who_is_shut_out_is_named_where_the_policy_names_them() {
        let mut snapshot = healthy();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let shut = |source: &str| ShutOut { source: source.parse().unwrap(), times: 3, why: "failed\x1b[2J".into() };
        snapshot.sshd.settings = Seen::Present(Settings { penalties: true, ..Settings::default() });
        snapshot.sshd.shut_out = Seen::Present(vec![shut("203.0.113.9"), shut("10.1.2.3")]);
        let mut policy = Policy::default();
        let seen = |policy: &Policy, snapshot: &Snapshot| -> Vec<_> {
            findings(policy, snapshot).into_iter().map(|f| (f.code, f.summary)).collect()
        };
        assert_eq!(seen(&policy, &snapshot), [], "nobody is named");
        policy.ssh.sources = Some(vec![net("10.0.0.0/8"), net("fd00::/64")]);
        let [(code, words), (other, list)] = &seen(&policy, &snapshot)[..] else { panic!("two findings") };
        assert_eq!((*code, *other), ("sshd.penalties.source", "sshd.penalties.exempt"));
        assert!(words.contains("3 connections of 10.1.2.3") && !words.contains('\x1b'), "{words}");
        assert!(list.contains("`PerSourcePenaltyExemptList 10.0.0.0/8,fd00::/64`"), "{list}");
        snapshot.sshd.shut_out = Seen::Unreadable("there is no journalctl".into());
        let [(code, words)] = &seen(&policy, &snapshot)[..] else { panic!("one finding") };
        assert_eq!(*code, "sshd.penalties.exempt");
        assert!(words.ends_with("; whom it shuts out now cannot be seen: there is no journalctl"), "{words}");
        let exempt = vec![net("10.0.0.0/7"), net("fd00::/16")];
        snapshot.sshd.settings = Seen::Present(Settings { penalties: true, exempt, ..Settings::default() });
        snapshot.sshd.shut_out = Seen::Present(Vec::new());
        assert_eq!(seen(&policy, &snapshot), []);
    }
}
