//! A mistake in a policy file, shown where it stands.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// One mistake: where it is, and what was expected there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub message: String,
    /// The line, or the part of it around the mistake; what a terminal would not show as one character is replaced.
    #[serde(skip)]
    excerpt: String,
    /// The place of the carets under the excerpt: characters before them, and how many.
    #[serde(skip)]
    carets: (usize, usize),
}

/// Longest excerpt in characters.
const EXCERPT: usize = 100;

impl Mistake {
    /// The mistake as a compiler shows it, under the name of its file.
    pub fn show(&self, file: &str) -> String {
        let gutter = " ".repeat(self.line.to_string().len());
        let (before, width) = self.carets;
        format!(
            "{file}:{}:{}: {}\n{gutter} |\n{} | {}\n{gutter} | {}{}\n",
            self.line,
            self.column,
            self.message,
            self.line,
            self.excerpt,
            " ".repeat(before),
            "^".repeat(width),
        )
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

/// The mistakes that were found so far in one text.
pub(super) struct Mistakes<'t> {
    text: &'t str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
    /// Lines that are no TOML: what was made of the rest of them is not looked at.
    broken: BTreeSet<usize>,
    found: Vec<Mistake>,
}

impl<'t> Mistakes<'t> {
    pub fn new(text: &'t str) -> Mistakes<'t> {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Mistakes { text, lines, broken: BTreeSet::new(), found: Vec::new() }
    }

    /// Notes a mistake over these bytes of the text, unless the line is no TOML to begin with.
    pub fn add(&mut self, span: Range<usize>, message: impl Into<String>) {
        if !self.broken.contains(&self.line(span.start)) {
            self.note(span, message.into());
        }
    }

    /// Notes what is no TOML: the first of each line. After a bracket that is never closed nothing that follows is told apart
    /// from what the bracket did. To be called before any [`Mistakes::add`].
    pub fn add_syntax(&mut self, mut errors: Vec<toml::de::Error>) {
        errors.sort_by_key(|e| e.span().map(|span| span.start));
        let unclosed = errors.iter().any(|e| e.message().starts_with("unclosed"));
        let mut lost = false;
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            if self.broken.insert(self.line(span.start)) && !lost {
                self.note(span, error.message().to_owned());
            }
            lost |= unclosed && error.message().starts_with("missing comma");
        }
    }

    fn note(&mut self, span: Range<usize>, message: String) {
        let start = self.boundary(span.start);
        let line = self.line(start);
        let from = self.lines.get(line).copied().unwrap_or(0);
        let to = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let content = self.text.get(from..to).unwrap_or_default().trim_end_matches('\r');
        let column = self.text.get(from..start).unwrap_or_default().chars().count();
        let length = content.chars().count();
        let end = self.boundary(span.end).clamp(start, to.max(start));
        let width = self.text.get(start..end).unwrap_or_default().trim_end().chars().count().max(1);
        // A long line is shown from some way before the mistake.
        let skip = if length > EXCERPT { column.saturating_sub(EXCERPT / 2) } else { 0 };
        let excerpt: String = content.chars().skip(skip).take(EXCERPT).map(shown).collect();
        let before = column - skip;
        self.found.push(Mistake {
            line: line + 1,
            column: column + 1,
            message,
            excerpt,
            carets: (before, width.min(EXCERPT.saturating_sub(before).max(1))),
        });
    }

    /// All of them in the order of the text; none: the text is right.
    pub fn into_found(mut self) -> Vec<Mistake> {
        self.found.sort_by_key(|m| (m.line, m.column));
        self.found.dedup();
        self.found
    }

    /// The number of the line of a byte, from 0.
    fn line(&self, at: usize) -> usize {
        self.lines.partition_point(|&start| start <= at).saturating_sub(1)
    }

    fn boundary(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }
}

/// One character, one column: what a terminal would obey or leave out is replaced.
fn shown(c: char) -> char {
    match c {
        '\t' => ' ',
        c if crate::facts::escape(c.encode_utf8(&mut [0; 4])).starts_with('\\') && c != '\\' => '\u{fffd}',
        c => c,
    }
}
