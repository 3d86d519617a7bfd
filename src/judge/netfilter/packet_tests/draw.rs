//! What a test draws.

use std::ops::RangeInclusive;

/// Numbers that a test is made of.
pub struct Draw(pub std::vec::IntoIter<u16>);

impl Draw {
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % n
    }

    pub fn chance(&mut self) -> bool {
        self.below(2) == 1
    }

    pub fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    pub fn of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Often one of the ends, where mistakes are.
    pub fn within(&mut self, range: RangeInclusive<u16>) -> u16 {
        if self.below(4) == 0 {
            return self.of(&[*range.start(), *range.end()]);
        }
        range.start() + self.below(usize::from(range.end() - range.start()) + 1) as u16
    }
}
