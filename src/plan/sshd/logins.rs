//! Modes on the way to people's keys, by the policy's word alone.
//!
//! An owner is never changed: what is another's on that way may hold another's keys.

use super::super::{Draft, Step};
use crate::facts::{Owned, Snapshot, escape};
use crate::judge::sshd::logins::open_way;
use crate::policy::{Mode, Policy};

/// Takes from others the right to write there, so that sshd heeds the keys again. Where that would not do for an account,
/// nothing of its way is touched.
pub fn mend(policy: &Policy, snapshot: &Snapshot, draft: &mut Draft) {
    let strict = snapshot.sshd.settings.present().is_some_and(|settings| settings.strict_modes);
    if policy.sshd.mode != Mode::Repair || policy.sshd.logins != Mode::Repair || !strict {
        return;
    }
    for account in snapshot.sshd.logins.accounts.iter().filter(|account| account.has_keys) {
        let name = escape(&account.name);
        if let Some(other) = open_way(account).find(|p| p.uid != account.uid) {
            let path = escape(&other.path.to_string_lossy());
            let why =
                format!("{path} is not {name}'s own, and whose keys come to count is not for this program to say");
            draft.decline("sshd.logins.mode", &why);
            continue;
        }
        for open in open_way(account) {
            let seen = Owned { mode: open.mode, uid: open.uid, gid: open.gid };
            let is_same = |step: &Step| matches!(step, Step::KeepWritersOut { path, .. } if *path == open.path);
            if !draft.steps.iter().any(is_same) {
                let (account, path) = (account.name.clone(), open.path.clone());
                draft.steps.push(Step::KeepWritersOut { account, path, seen });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Decision, annotate, plan};
    use super::*;
    use crate::facts::{Account, PathMode, Seen, Settings};
    use crate::judge::fixture::healthy;
    use crate::judge::judge;
    use std::path::Path;

    fn alice(way: &[(&str, u32, u32)]) -> Account {
        let seen = |&(path, mode, uid): &(&str, u32, u32)| PathMode { path: path.into(), mode, uid, gid: 1000 };
        let way = way.iter().map(seen).collect();
        Account { name: "alice".into(), uid: 1000, groups: Vec::new(), way, has_keys: true }
    }

    fn decide(account: Account, logins: Mode) -> (Decision, Option<String>) {
        let mut snapshot = healthy();
        snapshot.sshd.logins.accounts = vec![account];
        snapshot.sshd.settings = Seen::Present(Settings { strict_modes: true, ..Settings::default() });
        let mut policy = Policy::default();
        policy.sshd.logins = logins;
        let mut judgement = judge(&policy, &snapshot);
        let decision = plan(&policy, &snapshot, &judgement, "id");
        annotate(&mut judgement, &decision);
        let finding = judgement.findings.into_iter().find(|f| f.code == "sshd.logins.mode");
        (decision, finding.and_then(|f| f.mend))
    }

    /// A home and a file that others can write to, named by two patterns of AuthorizedKeysFile.
    const OPEN: [(&str, u32, u32); 5] = [
        ("/home/alice/.ssh/authorized_keys", 0o664, 1000),
        ("/home/alice/.ssh", 0o700, 1000),
        ("/home/alice", 0o2777, 1000),
        ("/home/alice/.ssh", 0o700, 1000),
        ("/home/alice", 0o2777, 1000),
    ];

    #[test]
    fn modes_on_the_way_to_keys_are_mended_by_the_policys_word_alone() {
        assert_eq!(decide(alice(&OPEN), Mode::Report), (Decision::Healthy, None));
        let (decision, mend) = decide(alice(&OPEN), Mode::Repair);
        let Decision::Repair(plan) = decision else { panic!("{decision:?}") };
        let step = |path: &str, mode| Step::KeepWritersOut {
            account: "alice".into(),
            path: path.into(),
            seen: Owned { mode, uid: 1000, gid: 1000 },
        };
        let expected = [step("/home/alice/.ssh/authorized_keys", 0o664), step("/home/alice", 0o2777)];
        assert_eq!(plan.steps, expected);
        assert!(mend.unwrap().contains("mode 0644"));
        assert_eq!(decide(Account { has_keys: false, ..alice(&OPEN) }, Mode::Repair).0, Decision::Healthy);
    }

    #[test]
    fn what_is_anothers_on_the_way_to_keys_stays_and_all_else_there_with_it() {
        for foreign in [("/home/alice/.ssh/authorized_keys", 0o600, 1001), ("/tmp", 0o1777, 0)] {
            let mut way = OPEN;
            way[0] = foreign;
            let (decision, _) = decide(alice(&way), Mode::Repair);
            let Decision::Refuse(declined) = decision else { panic!("{decision:?}") };
            assert!(declined[0].why.contains("is not alice's own"), "{declined:?}");
            assert!(declined[0].why.contains(Path::new(foreign.0).to_str().unwrap()), "{declined:?}");
        }
    }
}
