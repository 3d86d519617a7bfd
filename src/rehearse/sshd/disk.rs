//! A disk's files asked of this machine's sshd: no program of the disk is run. Another version knows other words: what it
//! does not take counts only if the disk's sshd would not take it either, and the words that it takes must be in the disk's.

use std::path::Path;

use super::{Change, answered};
use crate::apply::sshd::public;
use crate::decode::sshd_config::lines;
use crate::facts::{ConfigTest, Owned, Seen, Sshd, TextFile, Trial, escape};
use crate::host::{Copied, FileError, Host};
use crate::observe::sshd::test;
use crate::plan::Step;

const SSHD: &str = "sshd";
/// Files of accounts, by which sshd finds its unprivileged user.
const ACCOUNTS: [&str; 2] = ["/etc/passwd", "/etc/group"];
const ROOT: Owned = Owned { mode: 0o644, uid: 0, gid: 0 };
/// What every version says of the same things in the same words.
const ALIKE: [&str; 6] = [
    "no hostkeys available",
    "Unable to load host key",
    "Could not load host key",
    "Privilege separation user",
    "UNPROTECTED PRIVATE KEY FILE",
    "No such file or directory",
];
const BAD: &str = "Bad configuration option: ";

/// What this machine's sshd says of the disk's files when `steps` are made on a copy.
pub fn ask(host: &Host, sshd: &Sshd, steps: &[Step], change: Change<'_>) -> Trial {
    match try_out(host, sshd, steps, change) {
        Ok(trial) => trial,
        Err(why) => Trial { test: Seen::Unreadable(why.clone()), settings: Seen::Unreadable(why) },
    }
}

fn try_out(host: &Host, sshd: &Sshd, steps: &[Step], change: Change<'_>) -> Result<Trial, String> {
    let Seen::Present(disks) = &sshd.binary else { return Ok(Trial { test: Seen::Absent, settings: Seen::Absent }) };
    if !host.privileged() {
        return Err("root is needed to read sshd's keys and configuration".to_owned());
    }
    let ours = host.which(SSHD).ok_or("this system has no sshd to ask what it says of the disk's files")?;
    let copies = copies(host, sshd).map_err(|e| crate::chain(&e))?;
    let trial = answered(host.apart(&copies, |host| {
        let made = steps.iter().try_for_each(|step| change(host, step));
        Ok(made.map(|()| test(host, &ours)))
    }));
    let Seen::Present(test) = &trial.test else { return Ok(trial) };
    if version(&host.here(), Path::new(&ours))? == disks.version {
        return Ok(trial);
    }
    let known = host.read(&disks.path).map_err(|e| crate::chain(&e))?;
    let strange = if test.passed { strange(sshd, steps, &known) } else { Vec::new() };
    if !strange.is_empty() {
        let test = Seen::Present(ConfigTest { passed: false, status: 255, messages: strange });
        return Ok(Trial { test, settings: Seen::Absent });
    }
    match test.messages.iter().find(|message| !test.passed && !is_certain(message, &known)) {
        None => Ok(trial),
        Some(message) => Err(format!(
            "this system's sshd does not take what the disk's, of another version ({}), may take: {}",
            escape(disks.version.as_deref().unwrap_or("unknown")),
            escape(message)
        )),
    }
}

/// Whether the disk's sshd, of these bytes, would say the same.
fn is_certain(message: &str, sshd: &[u8]) -> bool {
    if let Some(word) = message.split(BAD).nth(1) {
        return !knows(sshd, word.trim());
    }
    message.contains("terminating, ") || ALIKE.iter().any(|words| message.contains(words))
}

/// Whether the word stands in the program, at the end of another or alone.
fn knows(sshd: &[u8], word: &str) -> bool {
    let word = [word.to_ascii_lowercase().as_bytes(), b"\0"].concat();
    sshd.windows(word.len()).any(|bytes| bytes == word)
}

/// What the disk's sshd would say of words that it does not know, in its own form.
fn strange(sshd: &Sshd, steps: &[Step], known: &[u8]) -> Vec<String> {
    let mut files = sshd.files.config.clone();
    for step in steps {
        let Step::WriteFile { path, content, .. } = step else { continue };
        match files.iter_mut().find(|f| f.path == *path) {
            Some(file) => file.bytes.clone_from(content),
            None if path.starts_with("/etc/ssh") => {
                files.push(TextFile { path: path.clone(), bytes: content.clone() });
            }
            None => {}
        }
    }
    let of = |file: &TextFile| {
        let strange = lines(&file.bytes).into_iter().filter(|line| !knows(known, &line.keyword));
        let path = file.path.display().to_string();
        strange.map(|l| format!("{path}: line {}: {BAD}{}", l.number, l.keyword)).collect::<Vec<_>>()
    };
    files.iter().flat_map(of).collect()
}

/// What sshd reads at its start, as the disk has it.
fn copies(host: &Host, sshd: &Sshd) -> Result<Vec<Copied>, FileError> {
    let config = sshd.files.config.iter().map(|f| Copied { path: f.path.clone(), bytes: f.bytes.clone(), owned: ROOT });
    let mut copies: Vec<Copied> = config.collect();
    let copied = |copies: &[Copied], path: &Path| copies.iter().any(|c| c.path == path);
    for path in ACCOUNTS.map(Path::new) {
        if !copied(&copies, path) && host.is_file(path) {
            copies.push(Copied { path: path.to_owned(), bytes: host.read(path)?, owned: ROOT });
        }
    }
    for key in &sshd.files.keys {
        let Seen::Present(file) = &key.file else { continue };
        for (path, owned) in [(key.path.clone(), file.owned), (public(&key.path), ROOT)] {
            if !copied(&copies, &path) && host.is_file(&path) {
                copies.push(Copied { bytes: host.read(&path)?, path, owned });
            }
        }
    }
    Ok(copies)
}

/// `OpenSSH_9.2p1`, as a program of OpenSSH has it in its text.
pub fn version(host: &Host, program: &Path) -> Result<Option<String>, String> {
    host.read(program).map(|bytes| version_in(&bytes)).map_err(|e| crate::chain(&e))
}

fn version_in(program: &[u8]) -> Option<String> {
    const HEAD: &[u8] = b"OpenSSH_";
    let numbered = |at: &usize| program.get(at + HEAD.len()).is_some_and(u8::is_ascii_digit);
    let starts = program.windows(HEAD.len()).enumerate().filter(|(_, bytes)| *bytes == HEAD).map(|(at, _)| at);
    let start = starts.into_iter().find(numbered)?;
    let word = program.get(start..)?.iter().take(32).take_while(|b| b.is_ascii_alphanumeric() || b"._".contains(b));
    String::from_utf8(word.copied().collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_tells_its_version() {
        let program = b"\x7fELF\0OpenSSH_*,\0OpenSSH_9.2p1 Debian-2\0";
        assert_eq!(version_in(program).as_deref(), Some("OpenSSH_9.2p1"));
        assert_eq!(version_in(b"OpenSSH_"), None);
    }

    #[test]
    fn a_word_that_the_disks_sshd_knows_is_no_mistake() {
        let sshd = b"\0persourcepenalties\0gatewayports\0";
        let says = |word: &str| format!("/etc/ssh/sshd_config: line 3: Bad configuration option: {word}");
        assert!(!is_certain(&says("PerSourcePenalties"), sshd));
        assert!(is_certain(&says("Prot"), sshd));
        assert!(!is_certain(&says("Ports"), sshd), "a string may be the end of another");
        assert!(is_certain("/etc/ssh/sshd_config: terminating, 1 bad configuration options", sshd));
        assert!(!is_certain("/etc/ssh/sshd_config line 7: Bad SSH2 cipher spec 'x'.", sshd));
    }
}
