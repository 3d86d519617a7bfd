//! Text of the host in a picture: every character one column wide, every line as long as there is room.

use crate::cli::screen::clean;

/// The text as a painter may draw it. Where only ASCII can be shown, or the width or the direction of a character is not
/// sure, its number is shown.
pub fn shown(text: &str, rich: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in clean(text).chars() {
        match c {
            '…' if !rich => out.push_str("..."),
            c if c.is_ascii() || (rich && is_narrow(c)) => out.push(c),
            c => out.extend(c.escape_unicode()),
        }
    }
    out
}

/// Latin, Greek and Cyrillic letters, and the dots of what is left out.
fn is_narrow(c: char) -> bool {
    c == '…' || (c.is_alphanumeric() && matches!(c, '\u{a1}'..='\u{24f}' | '\u{370}'..='\u{52f}'))
}

/// The text in at most `rows` rows of `width` characters, broken between words where there is a gap; at least one row.
pub fn broken(text: &str, width: usize, rows: usize) -> Vec<String> {
    let width = width.max(8);
    let mut out = Vec::new();
    let mut rest: Vec<char> = text.trim_end().chars().collect();
    while rest.len() > width {
        if out.len() + 1 == rows {
            rest.truncate(width - 3);
            rest.extend("...".chars());
            break;
        }
        let gap = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > width / 3);
        let tail = rest.split_off(gap.unwrap_or(width));
        out.push(rest.into_iter().collect::<String>().trim_end().to_owned());
        rest = tail.into_iter().skip_while(|c| *c == ' ').collect();
    }
    out.push(rest.into_iter().collect());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_broken_between_words_and_are_few() {
        assert_eq!(broken("", 20, 3), [""]);
        assert_eq!(broken("one two three four", 9, 3), ["one two", "three", "four"]);
        assert_eq!(broken(&"x".repeat(25), 10, 3), ["x".repeat(10), "x".repeat(10), "x".repeat(5)]);
        assert_eq!(broken("one two three four five", 9, 2), ["one two", "three ..."]);
    }

    #[test]
    fn what_is_not_surely_one_column_wide_is_shown_by_its_number() {
        assert_eq!(shown("Büro Ж…", true), "Büro Ж…");
        assert_eq!(shown("Büro…", false), "B\\u{fc}ro...");
        assert_eq!(
            shown("宽\u{5d0}\u{301}\u{202e}\x1b[2J│", true),
            "\\u{5bbd}\\u{5d0}\\u{301}\\u{202e}\\u{1b}[2J\\u{2502}"
        );
    }
}
