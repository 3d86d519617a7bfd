//! What the reader's screen can show: colour on a terminal, plain ASCII on a serial console and in a file.

use std::io::{self, ErrorKind, IsTerminal, Write};

use crate::facts::escape;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Screen {
    rich: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Good,
    Warn,
    Bad,
    Faint,
}

impl Screen {
    pub fn of_stdout() -> Screen {
        Screen::new(io::stdout().is_terminal())
    }

    /// For a reader elsewhere, who says what their screen can show.
    pub fn of_client(rich: bool) -> Screen {
        Screen { rich }
    }

    pub fn of_stderr() -> Screen {
        Screen::new(io::stderr().is_terminal())
    }

    fn new(terminal: bool) -> Screen {
        let term = std::env::var("TERM").unwrap_or_default();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen { rich: rich(terminal, &term, no_colour) }
    }

    /// Whether it shows colours and lines.
    pub fn is_rich(self) -> bool {
        self.rich
    }

    /// The text in a colour, where there are colours.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "1;32",
            Tone::Warn => "1;33",
            Tone::Bad => "1;31",
            Tone::Faint => "2",
        };
        if self.rich { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The whole text as this screen can show it.
    pub fn fit(self, text: &str) -> String {
        if self.rich { text.to_owned() } else { ascii(text) }
    }
}

/// `no-color.org`; a serial console says `dumb` or `vt100`, `vt220`, …
fn rich(terminal: bool, term: &str, no_colour: bool) -> bool {
    terminal && !no_colour && !term.is_empty() && term != "dumb" && !term.starts_with("vt")
}

fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '…' => out.push_str("..."),
            c if c.is_ascii() => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// A JSON document in ASCII: whatever else its strings hold is escaped, so that a terminal obeys nothing of it.
pub fn ascii_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii() && c != '\x7f' {
            out.push(c);
        } else {
            out.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    out
}

/// A message of any length that may hold text of the host: what a terminal would obey is shown.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| escape(c.encode_utf8(&mut [0; 4]))).collect()
}

/// The text in lines of at most 79 characters, broken between words: a serial console has 80 columns.
pub fn wrap(text: &str, first: usize, rest: usize) -> String {
    const COLUMNS: usize = 79;
    let mut out = String::new();
    let mut line = " ".repeat(first);
    let mut fresh = true;
    for word in text.split_inclusive(' ') {
        let width = line.chars().count() + word.trim_end().chars().count();
        if width > COLUMNS && !fresh {
            out.push_str(line.trim_end());
            out.push('\n');
            line = " ".repeat(rest);
        }
        line.push_str(word);
        fresh = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

/// Writes to standard output. A reader that has gone away is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_broken_between_words() {
        let text = wrap(&"word ".repeat(20), 2, 4);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines.iter().all(|l| l.len() <= 79) && lines[0].starts_with("  word") && lines[1].starts_with("    word")
        );
        assert_eq!(wrap(&"x".repeat(100), 0, 2), format!("{}\n", "x".repeat(100)), "what has no gap is not broken");
        assert_eq!(wrap("admitted    everybody", 2, 14), "  admitted    everybody\n");
    }

    #[test]
    fn a_serial_console_gets_ascii_and_no_colour() {
        for (terminal, term, no_colour, expected) in [
            (true, "xterm-256color", false, true),
            (true, "linux", false, true),
            (true, "vt220", false, false),
            (true, "vt100", false, false),
            (true, "dumb", false, false),
            (true, "", false, false),
            (true, "xterm", true, false),
            (false, "xterm", false, false),
        ] {
            assert_eq!(rich(terminal, term, no_colour), expected, "{terminal} {term} {no_colour}");
        }
        let plain = Screen { rich: false };
        assert_eq!(clean("a\x1b[2J\u{202e}b"), "a\\u{1b}[2J\\u{202e}b");
        assert_eq!(plain.fit(&plain.tone(Tone::Bad, "a…é")), "a...\\u{e9}");
        assert_eq!(ascii_json("[\"a\u{202e}\x7f😀\"]\n"), "[\"a\\u202e\\u007f\\ud83d\\ude00\"]\n");
        assert_eq!(Screen { rich: true }.tone(Tone::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
