//! Who may do what, and what everybody may see.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::agent::{Faces, Status};
use crate::host::{Host, Peer};
use crate::policy::Policy;

/// What a connection needs of the agent.
pub struct Access {
    policy: watch::Receiver<Arc<Policy>>,
    pub status: watch::Receiver<Status>,
    pub faces: Faces,
}

impl Access {
    pub fn new(policy: watch::Receiver<Arc<Policy>>, status: watch::Receiver<Status>, faces: Faces) -> Access {
        Access { policy, status, faces }
    }

    /// Whether the peer may change something: root, and the group that the policy names.
    pub fn may_change(&self, peer: &Peer) -> bool {
        let group = self.policy.borrow().control.group.clone();
        peer.uid == 0 || group.is_some_and(|name| number(&name).is_some_and(|gid| peer.groups.contains(&gid)))
    }
}

/// A group's number. Only of the local file: a rescue asks no directory in the network.
fn number(name: &str) -> Option<u32> {
    let groups = Host::live().read(Path::new("/etc/group")).ok()?;
    of_group(&String::from_utf8_lossy(&groups), name)
}

/// `name:password:number:members` (group(5))
fn of_group(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().filter_map(|line| {
        let mut parts = line.split(':');
        (parts.next()? == name).then(|| parts.nth(1)?.parse().ok())
    });
    lines.next().flatten()
}

#[cfg(test)]
mod tests {
    use super::of_group;

    #[test]
    fn a_group_is_known_by_its_whole_name() {
        let groups = "root:x:0:\nadm:x:4:syslog,me\nadmin:x:115:\nbroken\nodd:x:y:\n";
        assert_eq!(of_group(groups, "adm"), Some(4));
        assert_eq!(of_group(groups, "admin"), Some(115));
        for none in ["ad", "", "broken", "odd", "x"] {
            assert_eq!(of_group(groups, none), None, "{none}");
        }
    }
}
