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
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};

use super::{Expr, Family, Rule, Set, Table};

/// What the words of a table's rules depend on beside the rules: which tool it belongs to, and what anonymous sets hold.
#[derive(Debug, Clone, Default)]
pub struct Language {
    family: Option<Family>,
    iptables: bool,
    sets: Arc<Vec<Set>>,
}

impl Language {
    pub fn of(table: &Table) -> Language {
        Language { family: table.family.ip(), iptables: table.is_iptables(), sets: table.sets.clone() }
    }

    fn set(&self, name: &str) -> Option<&Set> {
        Set::named(&self.sets, name)
    }
}

impl Rule {
    /// The rule in the words of its table's tool.
    pub fn words(&self, language: &Language) -> String {
        let extension = |e: &Expr| matches!(e, Expr::XtMatch(_) | Expr::XtTarget(_));
        let iptables = language.iptables || self.exprs.iter().any(extension);
        let pieces = nft::pieces(self, language, iptables);
        let mut words: Vec<String> = if iptables {
            pieces.iter().filter_map(|piece| iptables::words(piece, language.family)).collect()
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

/// Words that are there, or those of a rule, which are found when somebody reads them: of fifty thousand rules that each block
/// an address few are shown.
#[derive(Clone)]
pub struct Words {
    read: OnceLock<String>,
    rule: Option<Unread>,
}

#[derive(Debug, Clone)]
struct Unread {
    rules: Arc<Vec<Rule>>,
    index: usize,
    language: Arc<Language>,
}

impl Words {
    /// Those of the rule at `index`.
    pub fn of(rules: &Arc<Vec<Rule>>, index: usize, language: &Arc<Language>) -> Words {
        let rule = Unread { rules: rules.clone(), index, language: language.clone() };
        Words { read: OnceLock::new(), rule: Some(rule) }
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl From<String> for Words {
    fn from(words: String) -> Words {
        Words { read: words.into(), rule: None }
    }
}

impl Deref for Words {
    type Target = str;

    fn deref(&self) -> &str {
        let unread = || self.rule.as_ref().and_then(|of| Some(of.rules.get(of.index)?.words(&of.language)));
        self.read.get_or_init(|| unread().unwrap_or_default())
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Words) -> bool {
        let same = |a: &Unread, b: &Unread| {
            a.index == b.index && Arc::ptr_eq(&a.rules, &b.rules) && Arc::ptr_eq(&a.language, &b.language)
        };
        self.rule.as_ref().zip(other.rule.as_ref()).is_some_and(|(a, b)| same(a, b)) || **self == **other
    }
}

impl Eq for Words {}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words(&Language::default()))
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
