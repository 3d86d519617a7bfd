//! The agent's part of the page of benchmarks.

use std::fs;
use std::time::Duration;

const PAGE: &str = "docs/benchmarks.md";
/// Here it begins; what stands before is of others.
const BEGIN: &str = "\n# The agent\n";

/// The part as it grows; each line is shown as it comes.
pub struct Page {
    text: String,
}

impl Page {
    pub fn new() -> Page {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Page {
            text: format!(
                "{BEGIN}\nWritten by one run of `make bench`: the service in its sandbox on a really booted Debian 12 (systemd-nspawn) on a\n\
                 virtual machine with {cores} cores.\n"
            ),
        }
    }

    pub fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    pub fn goal(&mut self, met: bool, goal: &str, measured: &str) {
        self.line(&format!("- {goal}: {measured}, {}.", if met { "met" } else { "**missed**" }));
    }

    pub fn write(self) {
        let page = fs::read_to_string(PAGE).unwrap_or_default();
        let others = page.split(BEGIN).next().unwrap_or_default();
        fs::write(PAGE, format!("{others}{}", self.text)).expect("write the page");
    }
}

pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}
