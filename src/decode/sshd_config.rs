//! sshd_config(5) as lines, and what `sshd -t` says about one of them (servconf.c, misc.c of OpenSSH).

use std::path::{Path, PathBuf};

/// Where sshd looks for what an `Include` names without a leading slash.
pub const FOLDER: &str = "/etc/ssh";
/// The defaults of `HostKey` (servconf.c), and the kinds that ssh-keygen(1) makes of them.
pub const DEFAULT_KEYS: [(&str, &str); 3] = [
    ("/etc/ssh/ssh_host_rsa_key", "rsa"),
    ("/etc/ssh/ssh_host_ecdsa_key", "ecdsa"),
    ("/etc/ssh/ssh_host_ed25519_key", "ed25519"),
];

/// A line that is neither empty nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: usize,
    /// In lower case.
    pub keyword: String,
    pub args: Vec<String>,
    /// Whether it stands below a `Match` of the same file.
    pub in_match: bool,
}

/// What `sshd -t` says about one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    pub what: String,
}

pub fn lines(text: &[u8]) -> Vec<Line> {
    let mut in_match = false;
    let mut out = Vec::new();
    for (index, line) in text.split(|b| *b == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let mut words = words(&line).into_iter();
        let Some(keyword) = words.next().map(|w| w.to_ascii_lowercase()).filter(|w| !w.is_empty()) else { continue };
        in_match |= keyword == "match";
        out.push(Line { number: index + 1, keyword, args: words.collect(), in_match });
    }
    out
}

/// The keyword and its arguments: separated by white space or the first by one `=`, quoted or not, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with('#') {
        let (word, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => {
                let first = words.is_empty();
                let end = rest.find(|c: char| c.is_whitespace() || (first && c == '=')).unwrap_or(rest.len());
                rest.split_at(end)
            }
        };
        words.push(word.to_owned());
        rest = after.trim_start();
        if words.len() == 1 {
            rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        }
    }
    words
}

/// The patterns of an `Include` line, absolute.
pub fn includes(line: &Line) -> Vec<PathBuf> {
    match line.keyword == "include" {
        true => line.args.iter().map(|arg| Path::new(FOLDER).join(arg)).collect(),
        false => Vec::new(),
    }
}

/// The kind of key that a file's name stands for; one that says nothing is of the kind that every sshd takes.
pub fn key_kind(path: &Path) -> &'static str {
    let name = path.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    match () {
        () if name.contains("ecdsa") => "ecdsa",
        () if name.contains("rsa") => "rsa",
        () => "ed25519",
    }
}

/// `FILE: line N: WHAT` or `FILE line N: WHAT`; None where sshd names no line.
pub fn complaint(message: &str) -> Option<Complaint> {
    if !message.starts_with('/') {
        return None;
    }
    message.match_indices(" line ").find_map(|(at, between)| {
        let (number, what) = message.get(at + between.len()..)?.split_once(": ")?;
        let line = number.parse().ok().filter(|n| *n > 0)?;
        let file = message.get(..at)?;
        let file = file.strip_suffix(':').unwrap_or(file);
        Some(Complaint { file: PathBuf::from(file), line, what: what.trim().to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words_of(text: &str) -> Vec<(usize, String, bool)> {
        let said = |l: &Line| format!("{} {}", l.keyword, l.args.join("|"));
        lines(text.as_bytes()).iter().map(|l| (l.number, said(l), l.in_match)).collect()
    }

    #[test]
    fn lines_are_read_as_sshd_reads_them() {
        let text = "# Port 1\n\nPort=22\n  ListenAddress = 192.0.2.1 # here\nAllowUsers \"a b\" c\nMatch User bob\n\tBanner none\n";
        assert_eq!(
            words_of(text),
            [
                (3, "port 22".into(), false),
                (4, "listenaddress 192.0.2.1".into(), false),
                (5, "allowusers a b|c".into(), false),
                (6, "match User|bob".into(), true),
                (7, "banner none".into(), true),
            ]
        );
    }

    #[test]
    fn an_include_without_a_leading_slash_is_below_etc_ssh() {
        let [line] = &lines(b"Include sshd_config.d/*.conf /x/y")[..] else { panic!("one line") };
        let expected = ["/etc/ssh/sshd_config.d/*.conf", "/x/y"].map(PathBuf::from);
        assert_eq!(includes(line), expected);
    }

    #[test]
    fn a_complaint_names_file_and_line() {
        let told = |text| complaint(text).map(|c| (c.file.display().to_string(), c.line, c.what));
        let file = || "/etc/ssh/sshd_config".to_owned();
        let bad = "/etc/ssh/sshd_config: line 2: Bad configuration option: Bogus";
        assert_eq!(told(bad), Some((file(), 2, "Bad configuration option: Bogus".into())));
        let fatal = "/etc/ssh/sshd_config line 1: unsupported option \"noo\".";
        assert_eq!(told(fatal), Some((file(), 1, "unsupported option \"noo\".".into())));
        let dropin = "/etc/ssh/sshd_config.d/a line 7.conf: line 3: Bad configuration option: x";
        assert_eq!(told(dropin).map(|c| (c.0, c.1)), Some(("/etc/ssh/sshd_config.d/a line 7.conf".into(), 3)));
        for other in [
            "/etc/ssh/sshd_config: terminating, 1 bad configuration options",
            "sshd: no hostkeys available -- exiting.",
            "/etc/ssh/sshd_config: No such file or directory",
            "bad addr or host: a line 3: b (Name or service not known)",
        ] {
            assert_eq!(complaint(other), None, "{other}");
        }
    }

    #[test]
    fn the_kind_of_a_key_is_in_its_name() {
        let kinds = ["ssh_host_rsa_key", "ssh_host_ecdsa_key", "ssh_host_ed25519_key", "host.key"];
        let kinds = kinds.map(|name| key_kind(&Path::new(FOLDER).join(name)));
        assert_eq!(kinds, ["rsa", "ecdsa", "ed25519", "ed25519"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,200}") {
            let _ = lines(text.as_bytes());
            let _ = complaint(&text);
        }
    }
}
