//! Blocks of intervals, which copies share, and the ways along them.

use std::sync::Arc;

/// First and last, both included.
pub type Range = (u128, u128);

/// Most intervals of a block; few where tests look, so that they meet several blocks.
pub const BLOCK: usize = if cfg!(test) { 4 } else { 64 };

#[derive(Debug, Clone)]
pub struct Block {
    /// Where its first interval begins.
    pub first: u128,
    /// At least one.
    pub ranges: Arc<Vec<Range>>,
}

impl Block {
    pub fn of(ranges: Vec<Range>) -> Option<Block> {
        let first = ranges.first()?.0;
        Some(Block { first, ranges: Arc::new(ranges) })
    }

    pub fn last(&self) -> u128 {
        self.ranges.last().map_or(self.first, |(_, last)| *last)
    }
}

/// The place of an interval: its block, and where it stands there.
pub type Place = (usize, usize);

/// The place of the first interval that begins after `n`: in the block that may hold it, or at its end.
pub fn after(blocks: &[Block], n: u128) -> Place {
    let block = blocks.partition_point(|b| b.first <= n).saturating_sub(1);
    (block, blocks.get(block).map_or(0, |b| b.ranges.partition_point(|(first, _)| *first <= n)))
}

/// Replaces the intervals from `begin` to before `end` and tells how many they were.
pub fn splice(blocks: &mut Vec<Block>, begin: Place, end: Place, with: &[Range]) -> usize {
    let mut gone = 0;
    if begin.0 < end.0 {
        // The blocks between, and the head of the last one.
        if let Some(last) = blocks.get_mut(end.0) {
            gone += Arc::make_mut(&mut last.ranges).drain(..end.1).count();
        }
        gone += blocks.drain(begin.0 + 1..end.0).map(|b| b.ranges.len()).sum::<usize>();
    }
    let next = begin.0 + 1;
    if let Some(block) = blocks.get_mut(begin.0) {
        let own = Arc::make_mut(&mut block.ranges);
        let upto = if begin.0 < end.0 { own.len() } else { end.1 };
        gone += own.splice(begin.1..upto, with.iter().copied()).count();
        let half = own.len() / 2;
        let upper = (own.len() > BLOCK).then(|| own.split_off(half)).and_then(Block::of);
        upper.into_iter().for_each(|upper| blocks.insert(next, upper));
    }
    for at in (begin.0..=(next + 1).min(blocks.len().saturating_sub(1))).rev() {
        match blocks.get_mut(at).map(|b| (b.ranges.first().map(|(first, _)| *first), b)) {
            Some((Some(first), block)) => block.first = first,
            Some((None, _)) => drop(blocks.remove(at)),
            None => {}
        }
    }
    gone
}

/// Adds intervals at the end; the first ones may overlap or touch what is there.
pub fn join(out: &mut Vec<Block>, mut run: &[Range]) {
    let Some(&(first, _)) = run.first() else { return };
    let fits = |b: &&mut Block| b.last().saturating_add(1) >= first || b.ranges.len() + run.len() <= BLOCK;
    if let Some(block) = out.last_mut().filter(fits) {
        let own = Arc::make_mut(&mut block.ranges);
        while let (Some(last), Some(((first, end), rest))) = (own.last_mut(), run.split_first()) {
            if last.1.saturating_add(1) < *first {
                break;
            }
            last.1 = last.1.max(*end);
            run = rest;
        }
        if own.len() + run.len() <= BLOCK {
            own.extend_from_slice(run);
            return;
        }
    }
    // Where others stand before it, more will come.
    let mut own = Vec::with_capacity(if out.is_empty() { run.len() } else { BLOCK.max(run.len()) });
    own.extend_from_slice(run);
    out.extend(Block::of(own));
}

/// Adds a block at the end, as it is where that leaves no small ones.
pub fn share(out: &mut Vec<Block>, block: &Block) {
    let alone =
        |last: &Block| last.last().saturating_add(1) < block.first && last.ranges.len() + block.ranges.len() > BLOCK;
    if out.last().is_none_or(alone) { out.push(block.clone()) } else { join(out, &block.ranges) }
}

/// A way along the intervals that goes over whole blocks where it can.
pub struct Cursor<'r> {
    blocks: &'r [Block],
    at: usize,
}

impl<'r> Cursor<'r> {
    pub fn of(blocks: &'r [Block]) -> Cursor<'r> {
        Cursor { blocks, at: 0 }
    }

    pub fn next(&self) -> Option<Range> {
        self.blocks.first().and_then(|b| b.ranges.get(self.at)).copied()
    }

    pub fn step(&mut self) {
        self.at += 1;
        if self.blocks.first().is_some_and(|b| self.at >= b.ranges.len()) {
            self.leave_block();
        }
    }

    fn leave_block(&mut self) {
        self.blocks = self.blocks.get(1..).unwrap_or_default();
        self.at = 0;
    }

    /// Gives those that begin at `bound` or before it.
    pub fn give_upto(&mut self, bound: u128, out: &mut Vec<Block>) {
        while let Some(block) = self.blocks.first() {
            let upto = block.ranges.partition_point(|(first, _)| *first <= bound).max(self.at);
            match (self.at, upto == block.ranges.len()) {
                (0, true) => share(out, block),
                (at, _) => join(out, block.ranges.get(at..upto).unwrap_or_default()),
            }
            if upto < block.ranges.len() {
                self.at = upto;
                return;
            }
            self.leave_block();
        }
    }

    /// Goes past a block that both have.
    pub fn skip_shared(&mut self, other: &mut Cursor<'_>) -> bool {
        let same = match (self.blocks.first(), other.blocks.first()) {
            (Some(own), Some(taken)) => self.at == 0 && other.at == 0 && Arc::ptr_eq(&own.ranges, &taken.ranges),
            _ => false,
        };
        if same {
            self.leave_block();
            other.leave_block();
        }
        same
    }

    /// Gives a block that both have.
    pub fn give_shared(&mut self, other: &mut Cursor<'_>, out: &mut Vec<Block>) -> bool {
        let block = self.blocks.first();
        let shared = self.skip_shared(other);
        block.filter(|_| shared).into_iter().for_each(|block| share(out, block));
        shared
    }

    /// Gives a whole block that ends before what comes next of the other.
    pub fn give_untouched(&mut self, other: &Cursor<'_>, out: &mut Vec<Block>) -> bool {
        let Some(block) = self.blocks.first().filter(|_| self.at == 0) else { return false };
        let untouched = other.next().is_none_or(|(first, _)| block.last() < first);
        if untouched {
            share(out, block);
            self.leave_block();
        }
        untouched
    }
}
