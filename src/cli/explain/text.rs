//! The picture in a terminal of 80 columns: lines and colours where there are some, else plain ASCII.

use super::scene::{Block, Line, Mark, Scene};
use super::words::{broken, shown};
use crate::cli::screen::Screen;

pub const COLUMNS: usize = 79;
/// Lines that one rule takes.
const LINES: usize = 5;
/// What a verdict takes of a line; a long one (`jump NAME`) is cut.
const VERDICT: usize = 26;
/// How deep calls are indented.
const DEPTH: usize = 6;
/// The column of what stands beside a packet's or a gate's name.
const NAME: usize = 12;

struct Glyphs {
    good: char,
    bad: char,
    doubt: char,
    faint: char,
    rail: char,
    branch: &'static str,
    end: &'static str,
}

const LINED: Glyphs =
    Glyphs { good: '●', bad: '✗', doubt: '?', faint: '○', rail: '│', branch: "├─ ", end: "└─▶ " };
const PLAIN: Glyphs = Glyphs { good: 'o', bad: 'X', doubt: '?', faint: '.', rail: '|', branch: "+- ", end: "`-> " };

struct Painter {
    screen: Screen,
    glyphs: Glyphs,
    out: String,
}

pub fn paint(screen: Screen, scene: &Scene) -> String {
    let glyphs = if screen.is_rich() { LINED } else { PLAIN };
    let mut painter = Painter { screen, glyphs, out: String::new() };
    painter.lines(&scene.title, "", "");
    painter.out.push('\n');
    for block in &scene.blocks {
        painter.block(block);
    }
    let (mark, text) = &scene.end;
    let arrow = painter.glyphs.end.to_owned();
    let rows = broken(&painter.shown(text), COLUMNS - 4, LINES);
    for (index, row) in rows.iter().enumerate() {
        let before = if index == 0 { painter.tone(*mark, &arrow) } else { "    ".to_owned() };
        painter.out.push_str(&format!("{before}{}\n", painter.tone(*mark, row)));
    }
    painter.out
}

impl Painter {
    fn shown(&self, text: &str) -> String {
        shown(text, self.screen.is_rich())
    }

    fn tone(&self, mark: Mark, text: &str) -> String {
        mark.tone().map_or_else(|| text.to_owned(), |tone| self.screen.tone(tone, text))
    }

    fn lines(&mut self, text: &str, first: &str, rest: &str) {
        let width = COLUMNS.saturating_sub(first.chars().count());
        for (index, row) in broken(&self.shown(text), width, LINES).iter().enumerate() {
            let line = format!("{}{row}", if index == 0 { first } else { rest });
            self.out.push_str(line.trim_end());
            self.out.push('\n');
        }
    }

    fn block(&mut self, block: &Block) {
        let rail = self.glyphs.rail;
        if block.hook {
            let branch = self.glyphs.branch;
            let rest = format!("{rail}  {:NAME$} ", "");
            self.lines(&block.text, &format!("{branch}{:NAME$} ", block.name), &rest);
            for line in &block.lines {
                self.line(line);
            }
            return;
        }
        let glyph = match block.mark {
            Mark::Bad => self.glyphs.bad,
            Mark::Doubt => self.glyphs.doubt,
            Mark::Faint => self.glyphs.faint,
            Mark::Good | Mark::Plain => self.glyphs.good,
        };
        let rest = format!("{rail} {:NAME$} ", "");
        let start = self.out.len();
        self.lines(&block.text, &format!("{glyph} {:NAME$} ", block.name), &rest);
        let painted = self.tone(block.mark, &glyph.to_string());
        self.out.replace_range(start..start + glyph.len_utf8(), &painted);
    }

    /// `|    12  -p tcp --dport 22 -j DROP          DROP`
    fn line(&mut self, line: &Line) {
        let indent = "  ".repeat(line.depth.min(DEPTH));
        let number = if line.number.is_empty() { String::new() } else { format!("{}  ", line.number) };
        let before = format!("{}    {indent}{number}", self.glyphs.rail);
        let rest = format!("{}    {indent}{:width$}", self.glyphs.rail, "", width = number.len());
        let verdict = broken(&self.shown(&line.verdict), VERDICT, 1).remove(0);
        let gap = if verdict.is_empty() { 0 } else { verdict.chars().count() + 2 };
        let width = COLUMNS.saturating_sub(before.chars().count() + gap);
        let rows = broken(&self.shown(&line.text), width, LINES);
        for (index, row) in rows.iter().enumerate() {
            let used = row.chars().count();
            let text = self.tone(line.mark, row);
            if index > 0 || verdict.is_empty() {
                let line = format!("{}{text}", if index == 0 { &before } else { &rest });
                self.out.push_str(line.trim_end());
            } else {
                let space = " ".repeat(width - used + 2);
                self.out.push_str(&format!("{before}{text}{space}{}", self.tone(line.verdict_mark, &verdict)));
            }
            self.out.push('\n');
        }
    }
}
