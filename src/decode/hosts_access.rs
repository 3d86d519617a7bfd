//! hosts.allow and hosts.deny as libwrap reads them (hosts_access(5); `table_match` and `xgets` of libwrap 7.6.q).

use std::path::PathBuf;

/// Bytes of libwrap's buffer for one logical line, the NUL at its end included.
const BUFFER: usize = 2048;
const SEPARATORS: &[u8] = b", \t\r\n";
/// How many entries of one file are kept: a file of 4 MiB holds fewer.
const ENTRIES: usize = 1 << 20;

/// One file, as far as libwrap reads it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
    /// Lines without a `:`, which libwrap skips with a warning.
    pub skipped: Vec<usize>,
    /// The line at which libwrap stops reading: it has no newline at its end, or it is too long. What follows is not read, and
    /// in hosts.deny everybody who has got this far is denied.
    pub broken: Option<usize>,
}

/// `daemons : clients [ : options ]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The first of its lines, from 1.
    pub line: usize,
    /// Without the newline; continued lines as one.
    pub text: String,
    pub daemons: Patterns,
    pub clients: Patterns,
    /// All behind the second `:`, the newline included.
    pub options: Option<Vec<u8>>,
}

/// The parts of a list between its `EXCEPT`s: `a b EXCEPT c EXCEPT d` is three.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patterns(pub Vec<Vec<Vec<u8>>>);

impl Patterns {
    pub fn tokens(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().flatten().map(Vec::as_slice)
    }
}

/// Never fails: what libwrap cannot read ends the table.
pub fn table(bytes: &[u8]) -> Table {
    let mut table = Table::default();
    let mut lines = Lines { rest: bytes, line: 0 };
    while table.entries.len() < ENTRIES
        && let Some((line, mut text)) = lines.next()
    {
        if text.last() != Some(&b'\n') {
            table.broken = Some(line);
            break;
        }
        if text.first() == Some(&b'#') || text.iter().all(|b| b" \t\r\n".contains(b)) {
            continue;
        }
        let words = String::from_utf8_lossy(&text).trim().to_owned();
        let Some(mut clients) = split_at(&mut text, b':') else {
            table.skipped.push(line);
            continue;
        };
        let options = split_at(&mut clients, b':');
        table.entries.push(Entry { line, text: words, daemons: patterns(&text), clients: patterns(&clients), options });
    }
    table
}

/// The files that `/file` patterns for clients or for the server's address name.
pub fn files(table: &Table) -> Vec<PathBuf> {
    let lists = table.entries.iter().flat_map(|e| e.clients.tokens().chain(e.daemons.tokens()));
    lists.map(host_part).filter_map(file).collect()
}

/// The files that patterns of such a file name again.
pub fn files_of_list(bytes: &[u8]) -> Vec<PathBuf> {
    list(bytes).filter_map(file).collect()
}

/// The patterns of a `/file`: words between white space.
pub fn list(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let words = bytes.split(|b| b" \t\n\r\x0b\x0c".contains(b));
    words.map(|w| w.split(|b| *b == 0).next().unwrap_or_default()).filter(|w| !w.is_empty())
}

/// `user@host` and `daemon@host`: what stands before the `@` and behind it. A token that begins with `@` is a netgroup.
pub fn at_host(token: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = 1 + position(token.get(1..)?, b'@')?;
    Some((token.get(..at)?, token.get(at + 1..)?))
}

/// Cuts at the first `delimiter` outside of brackets and gives what follows it (`split_at` of libwrap's misc.c).
pub fn split_at(text: &mut Vec<u8>, delimiter: u8) -> Option<Vec<u8>> {
    let at = position(text, delimiter)?;
    let rest = text.split_off(at + 1);
    text.truncate(at);
    Some(rest)
}

fn position(text: &[u8], delimiter: u8) -> Option<usize> {
    let mut brackets = 0i32;
    for (index, byte) in text.iter().enumerate() {
        match byte {
            b'[' => brackets += 1,
            b']' => brackets -= 1,
            b if brackets == 0 && *b == delimiter => return Some(index),
            _ => {}
        }
    }
    None
}

fn host_part(token: &[u8]) -> &[u8] {
    at_host(token).map_or(token, |(_, host)| host)
}

fn file(pattern: &[u8]) -> Option<PathBuf> {
    (pattern.first() == Some(&b'/')).then(|| PathBuf::from(String::from_utf8_lossy(pattern).into_owned()))
}

fn patterns(text: &[u8]) -> Patterns {
    let mut parts = vec![Vec::new()];
    for token in text.split(|b| SEPARATORS.contains(b)).filter(|t| !t.is_empty()) {
        if token.eq_ignore_ascii_case(b"EXCEPT") {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(token.to_vec());
        }
    }
    Patterns(parts)
}

/// Logical lines: a backslash before the newline continues a line.
struct Lines<'a> {
    rest: &'a [u8],
    line: usize,
}

impl Iterator for Lines<'_> {
    /// The number of the first line, and the text with its newline if it has one.
    type Item = (usize, Vec<u8>);

    fn next(&mut self) -> Option<(usize, Vec<u8>)> {
        let first = self.line + 1;
        let mut text = Vec::new();
        while text.len() < BUFFER - 1 {
            let room = BUFFER - 1 - text.len();
            let end = self.rest.iter().position(|b| *b == b'\n').map_or(self.rest.len(), |n| n + 1).min(room);
            let (chunk, rest) = self.rest.split_at_checked(end)?;
            if chunk.is_empty() {
                return (!text.is_empty()).then_some((first, text));
            }
            self.rest = rest;
            if chunk.ends_with(b"\n") {
                self.line += 1;
            }
            // C strings: what follows a NUL is lost, the newline too.
            let seen = chunk.split(|b| *b == 0).next().unwrap_or_default();
            match seen.strip_suffix(b"\\\n") {
                Some(continued) => text.extend(continued),
                None => {
                    text.extend(seen);
                    if seen.ends_with(b"\n") {
                        return Some((first, text));
                    }
                }
            }
        }
        Some((first, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tokens(patterns: &Patterns) -> Vec<Vec<String>> {
        let text = |t: &Vec<u8>| String::from_utf8_lossy(t).into_owned();
        patterns.0.iter().map(|part| part.iter().map(text).collect()).collect()
    }

    #[test]
    fn an_entry_has_daemons_clients_and_options() {
        let table = table(b"# a comment\n\nsshd, vsftpd: .example.com [2001:db8::]/32 EXCEPT bad : spawn x: deny\n");
        let [entry] = &table.entries[..] else { panic!("one entry: {table:?}") };
        assert_eq!(entry.line, 3);
        assert_eq!(tokens(&entry.daemons), [["sshd", "vsftpd"]]);
        assert_eq!(tokens(&entry.clients), [vec![".example.com", "[2001:db8::]/32"], vec!["bad"]]);
        assert_eq!(entry.options.as_deref(), Some(&b" spawn x: deny\n"[..]));
        assert_eq!(table.broken, None);
    }

    #[test]
    fn a_backslash_continues_a_line_and_a_comment() {
        let table = table(b"# comment \\\nsshd: ALL\nsshd: \\\n 10. \\\n 11.\nALL: x\n");
        assert_eq!(table.entries.iter().map(|e| e.line).collect::<Vec<_>>(), [3, 6]);
        assert_eq!(tokens(&table.entries[0].clients), [["10.", "11."]]);
    }

    #[test]
    fn a_last_line_without_a_newline_ends_the_table() {
        let seen = table(b"sshd: 10.\nsshd: ALL");
        assert_eq!((seen.entries.len(), seen.broken), (1, Some(2)));
        let seen = table(b"sshd: ALL \\\n");
        assert_eq!((seen.entries.len(), seen.broken), (0, Some(1)));
    }

    #[test]
    fn a_line_of_more_than_2047_bytes_is_too_long() {
        let line = |length: usize| {
            let mut text = b"sshd: ".to_vec();
            text.resize(length - 1, b'x');
            text.extend(b"\nsshd: ALL\n");
            table(&text)
        };
        assert_eq!((line(2047).entries.len(), line(2047).broken), (2, None));
        assert_eq!((line(2048).entries.len(), line(2048).broken), (0, Some(1)));
    }

    #[test]
    fn a_line_without_a_colon_is_skipped() {
        let seen = table(b"sshd ALL\n[:]: x\nsshd: y\n");
        assert_eq!(seen.skipped, [1]);
        assert_eq!(seen.entries.len(), 2);
        assert_eq!(tokens(&seen.entries[0].daemons), [["[:]"]]);
    }

    #[test]
    fn files_are_found_in_every_place() {
        let seen = table(b"sshd@/etc/a: /etc/b root@/etc/c EXCEPT /etc/d\n");
        let files: Vec<_> = files(&seen).iter().map(|p| p.display().to_string()).collect();
        assert_eq!(files, ["/etc/b", "/etc/c", "/etc/d", "/etc/a"]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = files(&table(&bytes));
        }

        #[test]
        fn any_text_of_the_language_is_read(text in "([A-Za-z0-9:@/.\\[\\], \t\\\\#*?\0]|\n|EXCEPT|ALL|sshd){0,80}") {
            let table = table(text.as_bytes());
            for entry in &table.entries {
                prop_assert!(!entry.daemons.0.is_empty() && !entry.clients.0.is_empty());
            }
        }
    }
}
