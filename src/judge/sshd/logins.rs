//! What lets a connection in and nobody log in. Reported: whom to let in is for people to say.

use serde_json::json;

use super::super::{Finding, Severity};
use super::finding;
use crate::decode::sshd_config::lines;
use crate::facts::{Account, PathMode, Process, Seen, Settings, Snapshot, escape};
use crate::policy::respects;

pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let logins = &snapshot.sshd.logins;
    let mut out = Vec::new();
    if let Some(path) = &logins.nologin {
        let words = format!("{} is there: nobody but root can log in", path.display());
        out.push(finding("sshd.logins.nologin", Severity::Warning, words, json!({"path": path})));
    }
    if let Seen::Present(settings) = &snapshot.sshd.settings {
        out.extend(excluded(settings, &logins.accounts));
        if settings.strict_modes {
            out.extend(logins.accounts.iter().filter_map(ignored));
        }
    }
    out.extend(twice(snapshot));
    out.extend(snapshot.sshd.processes.iter().filter_map(startups));
    out
}

/// Each rule lets somebody in, and no account passes all of them.
fn excluded(settings: &Settings, accounts: &[Account]) -> Option<Finding> {
    let rules = [&settings.allow_users, &settings.deny_users, &settings.allow_groups, &settings.deny_groups];
    if rules.iter().all(|r| r.is_empty()) || accounts.is_empty() || accounts.iter().any(|a| may(settings, a)) {
        return None;
    }
    let words = "AllowUsers, DenyUsers, AllowGroups and DenyGroups leave no account of this host that may log in";
    let [allow_users, deny_users, allow_groups, deny_groups] = rules;
    let evidence = json!({"allow_users": allow_users, "deny_users": deny_users, "allow_groups": allow_groups, "deny_groups": deny_groups});
    Some(finding("sshd.logins.excluded", Severity::Warning, words.to_owned(), evidence))
}

/// `allowed_user` of OpenSSH's auth.c; a rule for some client addresses is taken as one for all of them.
fn may(settings: &Settings, account: &Account) -> bool {
    let named = |patterns: &[String], names: &[String], by_host: bool| {
        patterns.iter().any(|pattern| {
            let (user, host) = pattern.split_once('@').map_or((pattern.as_str(), None), |(u, h)| (u, Some(h)));
            (by_host || host.is_none()) && names.iter().any(|name| respects(&[user.to_owned()], name))
        })
    };
    let own = [account.name.clone()];
    let groups = &account.groups;
    !named(&settings.deny_users, &own, false)
        && !named(&settings.deny_groups, groups, false)
        && (settings.allow_users.is_empty() || named(&settings.allow_users, &own, true))
        && (settings.allow_groups.is_empty() || named(&settings.allow_groups, groups, true))
}

/// What StrictModes does not take on the way to an account's keys: a folder or file that others can write to, or that is
/// somebody else's.
pub fn open_way(account: &Account) -> impl Iterator<Item = &PathMode> {
    account.way.iter().filter(|p| p.mode & 0o022 != 0 || (p.uid != 0 && p.uid != account.uid))
}

fn ignored(account: &Account) -> Option<Finding> {
    let wrong = open_way(account).next()?;
    let path = escape(&wrong.path.to_string_lossy());
    let words = format!(
        "sshd ignores the keys of {}: {path} can be written by others (mode {:04o}, owner {})",
        escape(&account.name),
        wrong.mode,
        wrong.uid
    );
    Some(finding("sshd.logins.mode", Severity::Warning, words, json!({"account": account.name, "path": wrong})))
}

/// Of two lines sshd takes the first, and who wrote the second may wonder.
fn twice(snapshot: &Snapshot) -> Option<Finding> {
    let config = &snapshot.sshd.files.config;
    let of_file = |f: &crate::facts::TextFile| {
        let path = f.path.to_string_lossy().into_owned();
        let all = lines(&f.bytes).into_iter().filter(|l| l.keyword == "authorizedkeysfile" && !l.in_match);
        all.map(|l| (path.clone(), l.number, l.args)).collect::<Vec<_>>()
    };
    let all: Vec<_> = config.iter().flat_map(of_file).collect();
    let [first, rest @ ..] = &all[..] else { return None };
    let (path, line, _) = rest.iter().find(|(.., args)| *args != first.2)?;
    let words = format!("{}, line {line}: a second AuthorizedKeysFile, which sshd does not heed", escape(path));
    Some(finding("sshd.config.twice", Severity::Info, words, json!({"lines": all})))
}

/// sshd's title counts those who are connected and have not logged in: `[listener] 3 of 10-100 startups`.
fn startups(process: &Process) -> Option<Finding> {
    let (_, counts) = process.title.split_once("[listener] ")?;
    let (now, limits) = counts.split_once(" of ")?;
    let (begin, full) = limits.split_once(" startups")?.0.split_once('-')?;
    let (now, begin, full): (u32, u32, u32) = (now.parse().ok()?, begin.parse().ok()?, full.parse().ok()?);
    let (severity, then) = match () {
        () if now >= full => (Severity::Critical, "further ones are closed"),
        () if now >= begin => (Severity::Warning, "some further ones are closed at random"),
        () => return None,
    };
    let words =
        format!("{now} connections have not logged in yet (MaxStartups begins at {begin}, is full at {full}): {then}");
    Some(finding("sshd.startups.full", severity, words, json!(process)))
}

#[cfg(test)]
mod tests {
    use super::super::super::fixture::healthy;
    use super::*;
    use crate::facts::TextFile;

    fn account(name: &str, groups: &[&str]) -> Account {
        let groups = groups.iter().map(|g| g.to_string()).collect();
        Account { name: name.into(), uid: 1000, groups, way: Vec::new(), has_keys: true }
    }

    fn codes(change: impl FnOnce(&mut crate::facts::Sshd)) -> Vec<(&'static str, Severity)> {
        let mut snapshot = healthy();
        snapshot.sshd.logins.accounts = vec![account("alice", &["staff"]), account("bob", &[])];
        snapshot.sshd.settings = Seen::Present(Settings { strict_modes: true, ..Settings::default() });
        change(&mut snapshot.sshd);
        findings(&snapshot).iter().map(|f| (f.code, f.severity)).collect()
    }

    fn rules(change: impl FnOnce(&mut Settings)) -> Vec<(&'static str, Severity)> {
        let mut settings = Settings::default();
        change(&mut settings);
        codes(|sshd| sshd.settings = Seen::Present(settings))
    }

    #[test]
    fn rules_that_leave_nobody_are_named() {
        let excluded = [("sshd.logins.excluded", Severity::Warning)];
        assert_eq!(rules(|_| {}), []);
        let carol_alone = Settings { allow_users: vec!["carol".into()], ..Settings::default() };
        let nobody_known = codes(|sshd| {
            sshd.settings = Seen::Present(carol_alone);
            sshd.logins.accounts.clear();
        });
        assert_eq!(nobody_known, [], "whom the rules leave is not known");
        assert_eq!(rules(|s| s.allow_users = vec!["carol".into()]), excluded);
        assert_eq!(rules(|s| s.allow_users = vec!["al*@10.0.0.0/8".into()]), []);
        assert_eq!(rules(|s| s.deny_users = vec!["*".into()]), excluded);
        assert_eq!(rules(|s| s.deny_users = vec!["*@10.0.0.1".into(), "bob".into()]), []);
        assert_eq!(rules(|s| s.allow_groups = vec!["wheel".into()]), excluded);
        assert_eq!(rules(|s| s.allow_groups = vec!["sta??".into()]), []);
        assert_eq!(
            rules(|s| (s.allow_groups = vec!["staff".into()], s.deny_groups = vec!["staff".into()]).0),
            excluded
        );
    }

    #[test]
    fn keys_that_sshd_ignores_are_named() {
        let way = |mode, uid| {
            codes(|sshd| {
                sshd.logins.accounts[0].way = vec![PathMode { path: "/home/alice/.ssh".into(), mode, uid, gid: 0 }];
            })
        };
        assert_eq!(way(0o700, 1000), []);
        assert_eq!(way(0o755, 0), []);
        assert_eq!(way(0o775, 1000), [("sshd.logins.mode", Severity::Warning)]);
        assert_eq!(way(0o700, 1001), [("sshd.logins.mode", Severity::Warning)]);
    }

    #[test]
    fn a_switch_a_second_line_and_a_crowd_are_named() {
        assert_eq!(
            codes(|s| s.logins.nologin = Some("/etc/nologin".into())),
            [("sshd.logins.nologin", Severity::Warning)]
        );
        let config = |text: &str| codes(|s| s.files.config = vec![TextFile { path: "/c".into(), bytes: text.into() }]);
        assert_eq!(config("AuthorizedKeysFile a\nAuthorizedKeysFile a\n"), []);
        assert_eq!(config("AuthorizedKeysFile a\nAuthorizedKeysFile b\n"), [("sshd.config.twice", Severity::Info)]);
        assert_eq!(config("AuthorizedKeysFile a\nMatch User x\nAuthorizedKeysFile b\n"), []);
        let title = |now| {
            codes(|s| {
                let title = format!("sshd: /usr/sbin/sshd -D [listener] {now} of 10-100 startups");
                s.processes = vec![Process { pid: 1, name: "sshd".into(), exe: None, state: 'S', title }];
            })
        };
        assert_eq!(title(9), []);
        assert_eq!(title(10), [("sshd.startups.full", Severity::Warning)]);
        assert_eq!(title(100), [("sshd.startups.full", Severity::Critical)]);
    }
}
