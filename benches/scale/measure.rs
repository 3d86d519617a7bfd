//! Wall time and peak memory of whole programs, and wall time of functions.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// The argument by which this benchmark starts itself to run one program.
pub const RUN: &str = "--run";

/// What one program cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    /// Largest resident set, in bytes.
    pub memory: u64,
}

/// Runs a program in the calling thread's namespaces; what it prints is dropped. `good`: the exit statuses that it may end
/// with.
///
/// A child starts with the peak memory of the process that it was forked from: so it is started by a fresh copy of this
/// benchmark, which has used next to nothing.
pub fn program(command: &[&str], good: &[i32]) -> Cost {
    let [nanoseconds, memory, status] = again(&[&[RUN], command].concat());
    assert!(good.contains(&(status as i32)), "{command:?} ended with {status}");
    Cost { wall: Duration::from_nanos(nanoseconds), memory }
}

/// The numbers that a fresh copy of this benchmark prints, started in the calling thread's namespaces.
pub fn again<const N: usize>(args: &[&str]) -> [u64; N] {
    let own = std::env::current_exe().expect("the benchmark's own path");
    let output = Command::new(own).args(args).output().expect("start the benchmark again");
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The fresh copy's part: runs the command and prints nanoseconds, bytes and exit status.
pub fn run(command: &[String]) {
    let (program, args) = command.split_first().expect("a program to run");
    let start = Instant::now();
    let status = Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let wall = start.elapsed();
    let status = status.expect("run the program").code().expect("a program that exits by itself");
    // Of all children, of which there was this one.
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the usage of a child");
    println!("{} {} {status}", wall.as_nanos(), usage.max_rss() * 1024);
}

/// How long a function takes: the median of `times` calls.
pub fn function<T>(times: usize, mut call: impl FnMut() -> T) -> Duration {
    let one = || {
        let start = Instant::now();
        black_box(call());
        start.elapsed()
    };
    median(std::iter::repeat_with(one).take(times).collect())
}

/// The median of several runs, of time and of memory each for itself.
pub fn middle(costs: Vec<Cost>) -> Cost {
    let memory = median(costs.iter().map(|c| c.memory).collect());
    Cost { wall: median(costs.into_iter().map(|c| c.wall).collect()), memory }
}

pub fn median<T: Ord>(mut all: Vec<T>) -> T {
    all.sort_unstable();
    let middle = all.len() / 2;
    all.swap_remove(middle)
}
