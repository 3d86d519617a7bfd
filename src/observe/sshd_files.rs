//! The files that sshd reads when it starts: its configuration, its host keys, and what is in /etc/ssh.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::decode::sshd_config::{self, DEFAULT_KEYS, FOLDER, key_kind};
use crate::facts::{HostKey, KeyFile, Owned, PathMode, Seen, SshdFiles, TextFile};
use crate::host::Host;
use crate::policy::respects;

const MAIN: &str = "/etc/ssh/sshd_config";
/// Where distributions keep the file as they ship it (Debian and Ubuntu; SUSE and others with a /usr/etc).
const SHIPPED: [&str; 2] = ["/usr/share/openssh/sshd_config", "/usr/etc/ssh/sshd_config"];
/// sshd's own limit on includes within includes (servconf.c).
const DEPTH: usize = 16;
/// Files that are followed, and files of /etc/ssh that are looked at.
const FILES: usize = 256;

pub fn files(host: &Host) -> SshdFiles {
    let mut files = SshdFiles { tree: tree(host), ..SshdFiles::default() };
    if host.privileged() {
        read(host, Path::new(MAIN), 0, &mut files);
    }
    files.keys = keys(host, &files);
    files.shipped = SHIPPED.iter().find_map(|path| text(host, Path::new(path)).present().cloned());
    let group = |name: &str| group(host, name);
    files.key_group = group("ssh_keys");
    files.user_group = group("sshd").or_else(|| group("nogroup"));
    files
}

/// The file, and what it includes, each once.
fn read(host: &Host, path: &Path, depth: usize, files: &mut SshdFiles) {
    if depth > DEPTH || files.config.len() >= FILES || files.config.iter().any(|f| f.path == path) {
        return;
    }
    match text(host, path) {
        Seen::Present(file) => {
            let lines = sshd_config::lines(&file.bytes);
            files.config.push(file);
            for pattern in lines.iter().flat_map(sshd_config::includes) {
                for path in matching(host, &pattern) {
                    read(host, &path, depth + 1, files);
                }
            }
        }
        Seen::Absent => {}
        Seen::Unreadable(why) => files.unreadable = Some(why),
    }
}

fn text(host: &Host, path: &Path) -> Seen<TextFile> {
    host.see(path).map(|bytes| TextFile { path: path.to_owned(), bytes })
}

/// The paths that a pattern of glob(7) stands for, sorted: `*` and `?` in any of its parts.
fn matching(host: &Host, pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.components().skip(1) {
        let name = part.as_os_str().to_string_lossy().into_owned();
        if !name.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(&name));
            continue;
        }
        let below = |folder: &PathBuf| -> Vec<PathBuf> {
            let names = host.list(folder).unwrap_or_default();
            let fits = |n: &String| respects(std::slice::from_ref(&name), n) && !n.starts_with('.');
            names.into_iter().filter_map(|name| name.into_string().ok()).filter(fits).map(|n| folder.join(n)).collect()
        };
        found = found.iter().flat_map(below).collect();
        found.sort();
        found.truncate(FILES);
    }
    found.retain(|path| host.exists(path));
    found
}

/// `HostKey` lines outside of `Match`, else the default set.
fn keys(host: &Host, files: &SshdFiles) -> Vec<HostKey> {
    let lines = files.config.iter().flat_map(|f| sshd_config::lines(&f.bytes));
    let named = lines.filter(|l| l.keyword == "hostkey" && !l.in_match);
    let mut paths: Vec<(PathBuf, &str)> = named
        .filter_map(|l| l.args.first().map(|arg| Path::new(FOLDER).join(arg)))
        .map(|path| (path.clone(), key_kind(&path)))
        .collect();
    if paths.is_empty() {
        paths = DEFAULT_KEYS.map(|(path, kind)| (path.into(), kind)).into();
    }
    let mut keys: Vec<HostKey> = Vec::new();
    for (path, kind) in paths.into_iter().take(FILES) {
        if !keys.iter().any(|k| k.path == path) {
            keys.push(HostKey { file: key(host, &path), path, kind: kind.to_owned() });
        }
    }
    keys
}

fn key(host: &Host, path: &Path) -> Seen<KeyFile> {
    let meta = match host.metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Seen::Absent,
        Err(error) => return Seen::Unreadable(format!("stat {}: {error}", path.display())),
    };
    if !meta.is_file() {
        return Seen::Unreadable(format!("{} is no regular file", path.display()));
    }
    let is_key = match host.read(path) {
        Ok(bytes) => bytes.starts_with(b"-----BEGIN "),
        Err(error) => return Seen::Unreadable(crate::chain(&error)),
    };
    let mode = meta.permissions().mode() & 0o7777;
    Seen::Present(KeyFile { owned: Owned { mode, uid: meta.uid(), gid: meta.gid() }, size: meta.len(), is_key })
}

/// The id of a group of /etc/group: a name service may need the network, and sshd's own groups are local.
fn group(host: &Host, name: &str) -> Option<u32> {
    let bytes = host.read(Path::new("/etc/group")).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find(|l| l.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

fn tree(host: &Host) -> Vec<PathMode> {
    let mut found = Vec::new();
    look(host, Path::new(FOLDER), 0, &mut found);
    found
}

fn look(host: &Host, path: &Path, depth: usize, found: &mut Vec<PathMode>) {
    let Ok(meta) = host.symlink_metadata(path) else { return };
    if meta.is_symlink() || found.len() >= FILES {
        return;
    }
    let mode = meta.permissions().mode() & 0o7777;
    found.push(PathMode { path: path.to_owned(), mode, uid: meta.uid(), gid: meta.gid() });
    if meta.is_dir() && depth < 2 {
        let names = host.list(path).unwrap_or_default();
        let mut below: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
        below.sort();
        below.iter().for_each(|path| look(host, path, depth + 1, found));
    }
}
