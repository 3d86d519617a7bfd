//! Text from the host, made fit for a terminal and a log.

/// Text from the host for a report: control characters, escapes and bidirectional overrides are shown, never sent.
pub fn escape(text: &str) -> String {
    const LIMIT: usize = 400;
    let mut out = String::with_capacity(text.len().min(LIMIT));
    for c in text.chars() {
        if out.len() >= LIMIT {
            out.push('…');
            break;
        }
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if c.is_control() || hidden { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
