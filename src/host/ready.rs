//! Descriptors that an event loop waits for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Hearing, Watch};

/// What keeps one and the same open descriptor from its making to its end.
///
/// # Safety
///
/// `as_raw_fd` gives that descriptor every time, also after the value was moved or lent mutably.
pub unsafe trait Steady: AsRawFd {}

// SAFETY: it owns one descriptor, and nothing replaces it.
unsafe impl Steady for OwnedFd {}
// SAFETY: its socket is private, and nothing replaces it.
unsafe impl Steady for Hearing {}
// SAFETY: its inotify instance is private, and nothing replaces it.
unsafe impl Steady for Watch {}

/// Waits for `source` to become readable; to be called within a runtime.
pub fn readable<T: Steady>(source: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `Steady` says what is asked for here.
    let registered = unsafe { AsyncFd::register_with_interest(source, Interest::READABLE) };
    registered.map_err(|refused| refused.into_parts().1)
}
