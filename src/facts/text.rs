//! Rules as people write them.

use std::fmt;

use super::Rule;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, expr) in self.exprs.iter().enumerate() {
            let gap = if index == 0 { "" } else { " " };
            write!(f, "{gap}{expr:?}")?;
        }
        Ok(())
    }
}
