//! The picture for a ticket: one SVG file that needs nothing else.

use super::scene::{Block, Line, Mark, Scene};
use super::words::{broken, shown};

const WIDTH: usize = 960;
const MARGIN: usize = 28;
/// The line that the packet follows from gate to gate.
const RAIL: usize = 44;
/// What one character and one row take.
const CHARACTER: usize = 8;
const ROW: usize = 20;
const INDENT: usize = 18;
const DEPTH: usize = 8;
/// Rows that one rule takes.
const ROWS: usize = 5;
/// What a verdict takes, in characters.
const VERDICT: usize = 30;

const STYLE: &str = "text{font-family:'DejaVu Sans Mono',Menlo,Consolas,monospace;font-size:13px;fill:#1f2933;white-space:pre}\
    .title{font-size:16px;font-weight:bold}.name{font-weight:bold}.faint{fill:#7b8794}.good{fill:#1b7f3b}.bad{fill:#b42318}\
    .doubt{fill:#9a6700}.strong{font-weight:bold}.end{fill:#fff;font-weight:bold;font-size:14px}";

struct Painter {
    body: String,
    y: usize,
}

/// One way below the other.
pub fn paint(headline: (Mark, &str), scenes: &[Scene]) -> String {
    let mut painter = Painter { body: String::new(), y: MARGIN };
    painter.rows(MARGIN, WIDTH - 2 * MARGIN, headline.1, &format!("strong {}", class(headline.0)));
    for scene in scenes {
        painter.scene(scene);
    }
    let height = painter.y + MARGIN / 2;
    let title = xml(&scenes.first().map(|s| s.title.clone()).unwrap_or_else(|| headline.1.to_owned()));
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{WIDTH}\" \
         height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n{}</svg>\n",
        painter.body
    )
}

fn class(mark: Mark) -> &'static str {
    match mark {
        Mark::Plain => "",
        Mark::Good => "good",
        Mark::Bad => "bad",
        Mark::Doubt => "doubt",
        Mark::Faint => "faint",
    }
}

fn colour(mark: Mark) -> &'static str {
    match mark {
        Mark::Good => "#1b7f3b",
        Mark::Bad => "#b42318",
        Mark::Doubt => "#9a6700",
        Mark::Plain | Mark::Faint => "#9aa5b1",
    }
}

/// Text of the host in an XML document.
fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in shown(text, true).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

impl Painter {
    /// A row of text whose foot is `y`; with `right` it ends at x.
    fn text(&mut self, x: usize, y: usize, class: &str, right: bool, text: &str) {
        if !text.is_empty() {
            let anchor = if right { " text-anchor=\"end\"" } else { "" };
            self.body.push_str(&format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\"{anchor}>{}</text>\n", xml(text)));
        }
    }

    /// Text in as many rows as it needs.
    fn rows(&mut self, x: usize, width: usize, text: &str, class: &str) {
        for row in broken(&shown(text, true), width / CHARACTER, ROWS) {
            self.y += ROW;
            self.text(x, self.y - 6, class, false, &row);
        }
    }

    fn scene(&mut self, scene: &Scene) {
        self.y += ROW / 2;
        for row in broken(&shown(&scene.title, true), (WIDTH - 2 * MARGIN) / (CHARACTER + 2), ROWS) {
            self.y += ROW + 4;
            self.text(MARGIN, self.y - 6, "title", false, &row);
        }
        self.y += ROW / 2;
        let (top, outer) = (self.y, std::mem::take(&mut self.body));
        for block in &scene.blocks {
            if block.hook { self.hook(block) } else { self.gate(block) }
        }
        // The rail lies under what stands on it, and leads to the end.
        let bottom = self.y + ROW / 2;
        let inner = std::mem::replace(&mut self.body, outer);
        self.body.push_str(&format!(
            "<line x1=\"{RAIL}\" y1=\"{}\" x2=\"{RAIL}\" y2=\"{bottom}\" stroke=\"#9aa5b1\" stroke-width=\"2\"/>\n{inner}",
            top + ROW / 2
        ));
        self.end(scene);
    }

    fn end(&mut self, scene: &Scene) {
        let (mark, text) = &scene.end;
        let rows = broken(&shown(text, true), (WIDTH - 3 * MARGIN) / (CHARACTER + 1), ROWS);
        self.y += ROW / 2;
        let height = rows.len() * ROW + ROW / 2;
        self.body.push_str(&format!(
            "<rect x=\"{MARGIN}\" y=\"{}\" width=\"{}\" height=\"{height}\" rx=\"6\" fill=\"{}\"/>\n",
            self.y,
            WIDTH - 2 * MARGIN,
            colour(*mark)
        ));
        for (index, row) in rows.iter().enumerate() {
            self.text(MARGIN + 14, self.y + ROW * (index + 1) - 1, "end", false, row);
        }
        self.y += height;
    }

    /// A packet or a gate: a dot on the rail.
    fn gate(&mut self, block: &Block) {
        let middle = self.y + ROW / 2 + 2;
        let (fill, ring) = match block.mark {
            Mark::Faint => ("#fff", colour(block.mark)),
            mark => (colour(mark), colour(mark)),
        };
        self.body.push_str(&format!(
            "<circle cx=\"{RAIL}\" cy=\"{middle}\" r=\"6\" fill=\"{fill}\" stroke=\"{ring}\" stroke-width=\"2\"/>\n"
        ));
        self.text(RAIL + 20, self.y + ROW - 3, &format!("name {}", class(block.mark)), false, &block.name);
        let x = RAIL + 20 + 13 * CHARACTER;
        self.y += 3;
        let class = if block.mark == Mark::Faint { "faint" } else { "" };
        self.rows(x, WIDTH - MARGIN - x, &block.text, class);
        self.y += 5;
    }

    /// A hook: a box beside the rail.
    fn hook(&mut self, block: &Block) {
        let (left, top) = (RAIL + 20, self.y);
        let outer = std::mem::take(&mut self.body);
        self.text(left + 12, top + ROW - 2, "name", false, &block.name);
        self.text(left + 12 + 13 * CHARACTER, top + ROW - 2, "faint", false, &block.text);
        self.y += ROW + 4;
        for line in &block.lines {
            self.line(left + 12, line);
        }
        let inner = std::mem::replace(&mut self.body, outer);
        let (width, height) = (WIDTH - MARGIN - left, self.y - top + 4);
        let (stroke, fill) = if block.mark == Mark::Bad { ("#b42318", "#fef3f2") } else { ("#cbd2d9", "#f5f7fa") };
        self.body.push_str(&format!(
            "<path d=\"M{RAIL} {y}H{left}\" stroke=\"#9aa5b1\" stroke-width=\"2\"/>\n\
             <rect x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"6\" fill=\"{fill}\" stroke=\"{stroke}\"/>\n{inner}",
            y = top + ROW / 2 + 2,
        ));
        self.y += 12;
    }

    fn line(&mut self, left: usize, line: &Line) {
        let x = left + INDENT * line.depth.min(DEPTH);
        let right = WIDTH - MARGIN - 12;
        let verdict = broken(&shown(&line.verdict, true), VERDICT, 1).remove(0);
        let number = if line.number.is_empty() { 0 } else { (line.number.len() + 2) * CHARACTER };
        let width = (right - x).saturating_sub(number + (verdict.chars().count() + 2) * CHARACTER);
        self.text(x, self.y + ROW - 6, "faint", false, &line.number);
        let strong = if line.verdict_mark == Mark::Plain { "" } else { "strong " };
        self.text(right, self.y + ROW - 6, &format!("{strong}{}", class(line.verdict_mark)), true, &verdict);
        self.rows(x + number, width, &line.text, class(line.mark));
    }
}
