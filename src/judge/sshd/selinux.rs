//! Whether SELinux lets sshd have its ports, as far as semanage's own list says.

use serde_json::json;

use super::super::listener::serving;
use super::super::{Finding, Severity};
use super::finding;
use crate::facts::{Snapshot, escape};
use crate::policy::Policy;

/// What sshd may listen on, in every policy that is in use; they give it to TCP port 22.
const SSH: &str = "ssh_port_t";
const SSH_PORT: u16 = 22;

/// A port that sshd has is one that it may have.
pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let Some(selinux) = &snapshot.sshd.selinux else { return Vec::new() };
    let unserved = policy.ssh.ports.iter().copied().filter(|&port| port != SSH_PORT && !serving(snapshot, port));
    let listed = |port: u16| {
        let ports = selinux.local.present().into_iter().flatten();
        ports.filter(move |known| (known.first..=known.last).contains(&port)).map(|known| known.kind.as_str()).next()
    };
    let named = |port: u16| {
        let kind = listed(port);
        if kind == Some(SSH) {
            return None;
        }
        let list = match (kind, selinux.local.unreadable()) {
            (Some(kind), _) => format!("semanage's own list gives port {port} the type {}", escape(kind)),
            (None, Some(why)) => format!("semanage's own list of ports cannot be read ({})", escape(why)),
            (None, None) => format!("port {port} is not in semanage's own list"),
        };
        let words = format!(
            "SELinux is enforcing, and {list}: it may keep sshd from the port. What the policy itself says of it is not known; \
             `semanage port -a -t {SSH} -p tcp {port}` allows it"
        );
        Some(finding("sshd.selinux.port", Severity::Warning, words, json!({"port": port, "type": kind})))
    };
    unserved.filter_map(named).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::{healthy, listener};
    use super::*;
    use crate::facts::{PortType, Seen, Selinux};

    fn seen(port: u16, listed: &[(u16, u16, &str)]) -> Vec<&'static str> {
        let mut policy = Policy::default();
        policy.ssh.ports = vec![port];
        let mut snapshot = healthy();
        let port =
            |(first, last, kind): &(u16, u16, &str)| PortType { first: *first, last: *last, kind: (*kind).into() };
        snapshot.sshd.selinux = Some(Selinux { local: Seen::Present(listed.iter().map(port).collect()) });
        findings(&policy, &snapshot).iter().map(|f| f.code).collect()
    }

    #[test]
    fn a_port_that_selinux_may_keep_from_sshd_is_named() {
        assert_eq!(seen(2222, &[]), ["sshd.selinux.port"]);
        assert_eq!(seen(2222, &[(2222, 2222, "http_port_t")]), ["sshd.selinux.port"]);
        assert_eq!(seen(2222, &[(2200, 2300, "ssh_port_t")]), Vec::<&str>::new());
        assert_eq!(seen(22, &[]), Vec::<&str>::new());
    }

    #[test]
    fn a_port_that_sshd_has_or_that_every_policy_gives_it_is_not_asked_about() {
        let mut policy = Policy::default();
        policy.ssh.ports = vec![22, 2222];
        let mut snapshot = healthy();
        snapshot.sshd.selinux = Some(Selinux { local: Seen::Present(Vec::new()) });
        snapshot.listeners = Seen::Present(vec![listener("0.0.0.0", 2222), listener("::", 2222)]);
        assert!(findings(&policy, &snapshot).is_empty());
    }

    #[test]
    fn what_is_not_known_is_said() {
        let mut policy = Policy::default();
        policy.ssh.ports = vec![2222];
        let mut snapshot = healthy();
        snapshot.sshd.selinux = Some(Selinux { local: Seen::Unreadable("open /x: denied".into()) });
        let [finding] = &findings(&policy, &snapshot)[..] else { panic!("one finding") };
        assert!(finding.summary.contains("cannot be read (open /x: denied)"), "{}", finding.summary);
        assert!(finding.summary.contains("is not known"), "{}", finding.summary);
        snapshot.sshd.selinux = None;
        assert!(findings(&policy, &snapshot).is_empty());
    }
}
