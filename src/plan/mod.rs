//! What to do about a judgement: the least mend, or why not.
//!
//! A plan is inert data, so specific that no choice is left when it is applied. Pure.
#![forbid(unsafe_code)]

pub mod accept;
mod model;
mod step;
mod words;

pub use model::*;
pub use step::*;
pub use words::words;
