//! Rules as people write them: in nft's language, and in that of `iptables -S` for tables of iptables.
//!
//! What is not modelled stands there by its name, in angle brackets. Names from the host are not escaped.

mod iptables;
mod load;
mod nft;
mod statement;
mod target;
mod value;

use std::fmt;

use super::{Expr, Rule, Table};

impl Rule {
    /// The rule in words. Its table shows what anonymous sets hold and which tool it belongs to.
    pub fn words(&self, table: Option<&Table>) -> String {
        let extension = |e: &Expr| matches!(e, Expr::XtMatch(_) | Expr::XtTarget(_));
        let iptables = self.exprs.iter().any(extension) || table.is_some_and(Table::is_iptables);
        let family = table.and_then(|t| t.family.ip());
        let pieces = nft::pieces(self, table, iptables);
        let mut words: Vec<String> = if iptables {
            pieces.iter().filter_map(|piece| iptables::words(piece, family)).collect()
        } else {
            pieces.into_iter().map(|piece| piece.words()).collect()
        };
        words.retain(|word| !word.is_empty());
        if iptables {
            words.sort_by_key(|word| iptables::rank(word));
        }
        if let Some(comment) = self.comment.as_ref().filter(|_| !iptables) {
            words.push(format!("comment \"{comment}\""));
        }
        words.join(" ")
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(None))
    }
}

/// A part of a rule.
#[derive(Debug, Clone)]
enum Piece<'a> {
    /// `left op right`, as in `tcp dport != 22`; for equality `op` is empty.
    Test { left: String, op: &'static str, right: String },
    /// Anything else, in nft's words.
    Statement(String),
    /// What iptables writes in another way.
    Expr(&'a Expr),
}

impl Piece<'_> {
    fn words(self) -> String {
        match self {
            Piece::Test { left, op: "", right } => format!("{left} {right}"),
            Piece::Test { left, op, right } => format!("{left} {op} {right}"),
            Piece::Statement(words) => words,
            Piece::Expr(_) => String::new(),
        }
    }
}
