//! What the owners of rules say themselves.

use serde_json::json;

use super::{Finding, Severity};
use crate::facts::{Seen, Snapshot, escape};
use crate::policy::{Mode, Policy};

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if policy.firewall.mode == Mode::Off {
        return Vec::new();
    }
    let mut out = Vec::new();
    let owners = &snapshot.owners;
    if let Seen::Present(firewalld) = &owners.firewalld
        && firewalld.panic
    {
        let words = "firewalld is in panic mode: somebody wants it to drop every packet".to_owned();
        out.push(finding("firewall.panic", Severity::Critical, words, json!({"owner": "firewalld"})));
    }
    // Without root's rights much cannot be read, which is said once and elsewhere.
    if !snapshot.privileged {
        return out;
    }
    let unreadable = [("ufw", owners.ufw.unreadable()), ("firewalld", owners.firewalld.unreadable())];
    for (owner, why) in unreadable.into_iter().filter_map(|(owner, why)| Some((owner, why?))) {
        let words = format!("it cannot be seen whether {owner} owns the rules: {}", escape(why));
        out.push(finding("firewall.owner.unreadable", Severity::Warning, words, json!({"owner": owner})));
    }
    out
}

fn finding(code: &'static str, severity: Severity, summary: String, evidence: serde_json::Value) -> Finding {
    Finding { code, severity, summary, evidence: evidence.into(), mendable: false, mend: None }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::healthy;
    use super::*;
    use crate::facts::Firewalld;

    fn codes(snapshot: &Snapshot) -> Vec<&'static str> {
        findings(&Policy::default(), snapshot).iter().map(|f| f.code).collect()
    }

    #[test]
    fn panic_mode_is_somebodys_word() {
        let mut snapshot = healthy();
        let firewalld = |panic| Firewalld {
            version: "1.3.3".into(),
            state: "RUNNING".into(),
            panic,
            lockdown: false,
            default_zone: "public".into(),
            interface_zones: Vec::new(),
            source_zones: Vec::new(),
            zones: Vec::new(),
        };
        snapshot.owners.firewalld = Seen::Present(firewalld(false));
        assert!(codes(&snapshot).is_empty());
        snapshot.owners.firewalld = Seen::Present(firewalld(true));
        assert_eq!(codes(&snapshot), ["firewall.panic"]);
    }

    #[test]
    fn an_owner_that_does_not_answer_is_named() {
        let mut snapshot = healthy();
        snapshot.owners.firewalld = Seen::Unreadable("D-Bus did not answer within 5 s".into());
        assert_eq!(codes(&snapshot), ["firewall.owner.unreadable"]);
        snapshot.privileged = false;
        assert!(codes(&snapshot).is_empty());
    }
}
