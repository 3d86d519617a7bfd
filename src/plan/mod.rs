//! What to do about a judgement: the least mend, or why not.
//!
//! A plan is inert data, so specific that no choice is left when it is applied. Pure.
#![forbid(unsafe_code)]

mod step;

pub use step::*;
