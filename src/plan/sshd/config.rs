//! A configuration that sshd does not take: the least edit that it takes.

use std::path::{Path, PathBuf};

use super::{Attempt, No};
use crate::decode::sshd_config::{Line, complaint, lines};
use crate::facts::{ConfigTest, TextFile, escape};
use crate::plan::Step;
use crate::plan::accept::tag;

const MAIN: &str = "/etc/ssh/sshd_config";
/// Where there is neither a file that was good nor one of the distribution: what every distribution has in common.
const MINIMAL: &str = "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\nSubsystem sftp internal-sftp\n";
/// What sshd says without a line, and the keywords whose lines it means (servconf.c, sshd.c, auth2.c).
const LINELESS: [(&str, &[&str]); 4] = [
    ("bad addr or host", &["listenaddress"]),
    ("AuthorizedKeysCommand set without AuthorizedKeysCommandUser", &["authorizedkeyscommand"]),
    ("AuthorizedPrincipalsCommand set without AuthorizedPrincipalsCommandUser", &["authorizedprincipalscommand"]),
    ("AuthenticationMethods cannot be satisfied", &["authenticationmethods"]),
];

impl Attempt<'_> {
    /// One more step towards a test that passes.
    pub(super) fn remedy(&mut self, test: &ConfigTest) -> Result<(), No> {
        if let Some(why) = &self.snapshot.sshd.files.unreadable {
            return Err(("sshd.config.unreadable", escape(why)));
        }
        if self.config.is_empty() {
            return self.replace_main("is missing");
        }
        let mut wrong = wrong_lines(test, &self.config);
        if wrong.is_empty() {
            wrong = lineless(test, &self.config);
        }
        if !wrong.is_empty() {
            wrong.iter().for_each(|w| self.comment_out(w));
            return Ok(());
        }
        if self.remedy_surroundings(test)? {
            return Ok(());
        }
        let said = test.messages.first().map(|m| escape(m)).unwrap_or_default();
        self.replace_main(&format!("is not taken by sshd ({said})"))
    }

    fn comment_out(&mut self, wrong: &Wrong) {
        let Some(file) = self.config.iter_mut().find(|f| f.path == wrong.file) else { return };
        let content = commented(&file.bytes, wrong, self.id);
        let reason = format!("comment out {}", wrong.words());
        file.bytes = content.clone();
        let path = wrong.file.clone();
        let same = |s: &&mut Step| matches!(s, Step::WriteFile { path: of, .. } if *of == path);
        match self.steps.iter_mut().find(same) {
            Some(Step::WriteFile { content: old, reason: told, .. }) => {
                *old = content;
                told.push_str("; ");
                told.push_str(&reason);
            }
            _ => self.steps.push(Step::WriteFile { path, content, reason }),
        }
    }

    /// The files of when sshd was last seen healthy, else what the distribution ships, else the least there is.
    fn replace_main(&mut self, why: &str) -> Result<(), No> {
        let files = &self.snapshot.sshd.files;
        let kept = files.kept.iter().filter_map(|set| set.iter().find(|f| f.path == Path::new(MAIN)));
        let kept = kept.map(|file| (&file.bytes[..], "the one with which sshd was last seen healthy"));
        let shipped = files.shipped.iter().map(|file| (&file.bytes[..], "the one that the distribution ships"));
        let minimal = std::iter::once((MINIMAL.as_bytes(), "a minimal one"));
        let Some((content, what)) =
            kept.chain(shipped).chain(minimal).find(|(content, _)| !self.replaced.iter().any(|old| old == content))
        else {
            return Err(("sshd.config.invalid", format!("{MAIN} {why}, and no other one is taken by sshd either")));
        };
        let (content, what) = (content.to_vec(), what.to_owned());
        self.replaced.push(content.clone());
        let old = files.config.iter().find(|f| f.path == Path::new(MAIN)).map(|f| f.bytes.clone());
        let beside = PathBuf::from(format!("{MAIN}.{}", self.id));
        let of_main = |path: &Path| path == Path::new(MAIN) || path == beside;
        self.steps.retain(|step| !matches!(step, Step::WriteFile { path, .. } if of_main(path)));
        let mut reason = format!("{MAIN} {why}: write {what}; what else the admin's said is out of force now");
        if let Some(old) = old {
            reason.push_str(&format!(", and lies beside it as {}", beside.display()));
            let keep = "keep the admin's file".to_owned();
            self.steps.push(Step::WriteFile { path: beside, content: old, reason: keep });
        }
        self.config.retain(|f| f.path != Path::new(MAIN));
        let text = [format!("# {}: {MAIN} {why}\n", tag(self.id)).into_bytes(), content].concat();
        self.config.insert(0, TextFile { path: MAIN.into(), bytes: text.clone() });
        self.steps.push(Step::WriteFile { path: MAIN.into(), content: text, reason });
        Ok(())
    }
}

/// Lines that have to go, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wrong {
    file: PathBuf,
    /// From 1, both included.
    first: usize,
    last: usize,
    text: String,
    keyword: String,
    what: String,
}

impl Wrong {
    fn of(file: &TextFile, line: &Line, all: &[Line], what: &str) -> Wrong {
        // Without its Match the rest of a block would hold for everybody.
        let last = match line.keyword.as_str() {
            "match" => {
                let next = all.iter().find(|l| l.number > line.number && l.keyword == "match");
                let block = all.iter().filter(|l| l.number >= line.number && next.is_none_or(|n| l.number < n.number));
                block.map(|l| l.number).max().unwrap_or(line.number)
            }
            _ => line.number,
        };
        let text = file.bytes.split(|b| *b == b'\n').nth(line.number - 1).unwrap_or_default();
        Wrong {
            file: file.path.clone(),
            first: line.number,
            last,
            text: String::from_utf8_lossy(text).trim().chars().take(100).collect(),
            keyword: line.keyword.clone(),
            what: what.trim_end_matches('.').chars().take(100).collect(),
        }
    }

    fn words(&self) -> String {
        let (text, what) = (escape(&self.text), escape(&self.what));
        let place = match self.last > self.first {
            true => format!("lines {} to {} (\"{text}\" and its block)", self.first, self.last),
            false => format!("line {} (\"{text}\")", self.first),
        };
        format!("{place}: {what}; what it was meant to set is out of force now")
    }
}

/// Lines that sshd names, of files that are known.
fn wrong_lines(test: &ConfigTest, config: &[TextFile]) -> Vec<Wrong> {
    let mut wrong: Vec<Wrong> = Vec::new();
    for said in test.messages.iter().filter_map(|m| complaint(m)) {
        // What sshd only remarks on, it takes.
        if said.what.starts_with("Deprecated option") || said.what.starts_with("Unsupported option") {
            continue;
        }
        let Some(file) = config.iter().find(|f| f.path == said.file) else { continue };
        let all = lines(&file.bytes);
        let Some(line) = all.iter().find(|l| l.number == said.line) else { continue };
        let new = Wrong::of(file, line, &all, &said.what);
        // A file that is included twice is read twice.
        if !wrong.contains(&new) {
            wrong.push(new);
        }
    }
    wrong
}

/// Lines that sshd means without naming them: those that hold what it complains of, else all of the keyword.
fn lineless(test: &ConfigTest, config: &[TextFile]) -> Vec<Wrong> {
    let known =
        |m: &String| LINELESS.iter().find(|(words, _)| m.contains(words)).map(|(_, keywords)| (m.clone(), *keywords));
    let Some((said, keywords)) = test.messages.iter().find_map(known) else { return Vec::new() };
    let mut all = Vec::new();
    let mut named = Vec::new();
    for file in config {
        let of_file = lines(&file.bytes);
        for line in of_file.iter().filter(|l| keywords.contains(&l.keyword.as_str())) {
            let wrong = Wrong::of(file, line, &of_file, &said);
            if line.args.first().is_some_and(|arg| said.contains(arg.as_str())) {
                named.push(wrong.clone());
            }
            all.push(wrong);
        }
    }
    if named.is_empty() { all } else { named }
}

/// The text with the lines commented out, each with a note; all else as it was, byte for byte.
fn commented(text: &[u8], wrong: &Wrong, id: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 200);
    for (index, line) in text.split_inclusive(|b| *b == b'\n').enumerate() {
        let number = index + 1;
        let body = line.strip_suffix(b"\n").unwrap_or(line);
        let blank = body.iter().all(u8::is_ascii_whitespace) || body.trim_ascii_start().starts_with(b"#");
        if number < wrong.first || number > wrong.last || blank {
            out.extend_from_slice(line);
            continue;
        }
        let ended = body.strip_suffix(b"\r").unwrap_or(body);
        out.push(b'#');
        out.extend_from_slice(ended);
        out.extend_from_slice(format!("  # {}: {}", tag(id), escape(&wrong.what)).as_bytes());
        out.extend_from_slice(&line[ended.len()..]);
    }
    out
}
