//! What the agent costs while nothing happens.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::booted::Booted;
use super::page::Page;
use super::{number, service, with_agent};

/// What a process has used by now.
#[derive(Debug)]
struct Used {
    processor: Duration,
    /// How often one of its two threads fell asleep, and so was woken.
    sleeps: u64,
    resident: u64,
}

pub fn measure(root: &Path, page: &mut Page) {
    let seconds = number("SSH_RESCUE_REST", 600);
    let host = with_agent(root);
    // What a start is followed by is over.
    sleep(Duration::from_secs(10));
    host.sh("touch /run/begin");
    let (before, begin) = (used(&host), Instant::now());
    sleep(Duration::from_secs(seconds));
    let (after, taken) = (used(&host), begin.elapsed().as_secs_f64());
    let processor = (after.processor - before.processor).as_secs_f64() / taken * 100.0;
    let resident = after.resident as f64 / 1024.0;
    let written = written(&host);
    let sleeps = after.sleeps - before.sleeps;
    page.line("\n## At rest\n");
    page.line(&format!(
        "{taken:.0} s in which nothing happens but the sweep, a look once a minute. Processor time is that of the agent with the tools\n\
         that it runs; woken is how often one of its two threads was; written are files of the host's disk that changed.\n"
    ));
    page.line("| share of a core | resident | written | woken |\n| ---: | ---: | ---: | ---: |");
    page.line(&format!(
        "| {processor:.3} % | {resident:.1} MiB | {} | {sleeps} times, {:.1} a minute |\n",
        written.len(),
        sleeps as f64 / taken * 60.0
    ));
    page.goal(processor <= 0.05, "at most 0.05 % of a core", &format!("{processor:.3} %"));
    page.goal(resident <= 12.0, "at most 12 MiB resident", &format!("{resident:.1} MiB"));
    written.iter().for_each(|path| println!("changed: {path}"));
    page.goal(written.is_empty(), "no disk write", &format!("{} files changed", written.len()));
}

/// What changed on the disk since the beginning; the journal writes for everybody.
fn written(host: &Booted) -> Vec<String> {
    let found = host.sh("find / -xdev -newer /run/begin ! -path '/var/log/journal*' ! -type d ! -path '/tmp/*'");
    found.lines().map(str::to_owned).collect()
}

/// The host's own /proc knows its main process, and those that it has waited for.
fn used(host: &Booted) -> Used {
    let shown = host.sh("pid=$(systemctl show -p MainPID --value ssh-rescue.service)
         tick=$(getconf CLK_TCK)
         cut -d ' ' -f 14-17 /proc/$pid/stat | awk -v t=$tick '{print ($1+$2+$3+$4)/t}'
         cat /proc/$pid/task/*/status | awk '/^voluntary/ {n+=$2} END {print n}'
         awk '/^VmRSS/ {print $2}' /proc/$pid/status");
    let words: Vec<&str> = shown.split_whitespace().collect();
    let &[processor, sleeps, resident] = words.as_slice() else { panic!("{shown}: {}", service::journal(host)) };
    let whole = |text: &str| text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
    let processor = processor.parse().unwrap_or_else(|e| panic!("{processor}: {e}"));
    Used { processor: Duration::from_secs_f64(processor), sleeps: whole(sleeps), resident: whole(resident) }
}
