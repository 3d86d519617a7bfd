//! Who may log in at all: the accounts with a shell, the way to their keys, and what keeps everybody out.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::facts::{Account, Logins, PathMode, Settings};
use crate::host::Host;

/// Accounts that are looked at.
const ACCOUNTS: usize = 200;
/// The first account of a person (UID_MIN of login.defs(5)); root counts too.
const FIRST: u32 = 1000;
/// pam_nologin(8) looks for these.
const NOLOGIN: [&str; 2] = ["/etc/nologin", "/run/nologin"];

pub fn logins(host: &Host, settings: Option<&Settings>) -> Logins {
    let text = |path: &str| host.read(Path::new(path)).map(|b| String::from_utf8_lossy(&b).into_owned());
    let groups = text("/etc/group").unwrap_or_default();
    let passwd = text("/etc/passwd").unwrap_or_default();
    let patterns = settings.map(|s| s.authorized_keys.clone()).filter(|p| !p.is_empty());
    let patterns = patterns.unwrap_or_else(|| vec![".ssh/authorized_keys".to_owned()]);
    let accounts = passwd.lines().filter_map(|line| account(host, line, &groups, &patterns)).take(ACCOUNTS).collect();
    let nologin = NOLOGIN.iter().map(PathBuf::from).find(|path| host.exists(path));
    Logins { nologin, accounts }
}

fn account(host: &Host, line: &str, groups: &str, patterns: &[String]) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, shell] = fields[..] else { return None };
    let (uid, gid): (u32, u32) = (uid.parse().ok()?, gid.parse().ok()?);
    let person = uid == 0 || (FIRST..60000).contains(&uid);
    if !person || shell.ends_with("nologin") || shell.ends_with("/false") || !home.starts_with('/') {
        return None;
    }
    let member = |line: &&str| {
        let fields: Vec<&str> = line.split(':').collect();
        let own = fields.get(2).and_then(|g| g.parse().ok()) == Some(gid);
        own || fields.get(3).is_some_and(|members| members.split(',').any(|m| m == name))
    };
    let groups = groups.lines().filter(member).filter_map(|l| l.split(':').next()).map(str::to_owned).collect();
    let keys: Vec<PathBuf> = patterns.iter().map(|pattern| keys(pattern, name, home)).collect();
    let found: Vec<Metadata> = keys.iter().filter_map(|path| host.metadata(path).ok()).collect();
    let has_keys = !found.is_empty() && found.iter().all(|file| file.is_file() && file.nlink() == 1);
    let way = keys.iter().flat_map(|path| way(host, path, home)).collect();
    Some(Account { name: name.to_owned(), uid, groups, way, has_keys })
}

fn keys(pattern: &str, name: &str, home: &str) -> PathBuf {
    Path::new(home).join(pattern.replace("%h", home).replace("%u", name).replace("%%", "%"))
}

/// The folders and the file that sshd's StrictModes looks at (auth_secure_path of OpenSSH's misc.c), as far as they are there.
/// By their names without links, as sshd does.
fn way(host: &Host, path: &Path, home: &str) -> Vec<PathMode> {
    let mut steps: Vec<&Path> = path.ancestors().take_while(|p| p.starts_with(home)).collect();
    if steps.is_empty() {
        steps = vec![path];
    }
    let seen = |path: &Path| {
        let path = host.real(path).ok()?;
        let meta = host.symlink_metadata(&path).ok()?;
        let mode = meta.permissions().mode() & 0o7777;
        Some(PathMode { path, mode, uid: meta.uid(), gid: meta.gid() })
    };
    steps.into_iter().filter_map(seen).collect()
}
