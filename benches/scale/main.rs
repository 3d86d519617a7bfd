//! How long this program takes and how much memory, beside the tools that show the same rules: `make bench` (root) runs it
//! in scratch namespaces and writes `docs/benchmarks.md`.

mod measure;
mod rules;
mod stage;

use std::fs;
use std::time::{Duration, Instant};

use measure::{Cost, function, median, middle, program};
use rules::Shape;
use ssh_rescue::apply::insert;
use ssh_rescue::host::Host;
use ssh_rescue::judge::judge;
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::pass::look;
use ssh_rescue::plan::{Decision, plan};
use ssh_rescue::policy::Policy;
use ssh_rescue::rehearse::rehearse;
use ssh_rescue::verify::Aim;

const SSH_RESCUE: &str = env!("CARGO_BIN_EXE_ssh-rescue");
const PAGE: &str = "docs/benchmarks.md";
/// Here the part of `benches/rescue` begins, which stays as it is.
const AGENT: &str = "\n# The agent\n";
const SIZES: [usize; 4] = [100, 1_000, 10_000, 50_000];
/// Reachable, at risk, blocked: `check` has seen and judged.
const JUDGED: [i32; 3] = [0, 1, 2];
const MIB: f64 = 1024.0 * 1024.0;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == measure::RUN) {
        return measure::run(&args[1..]);
    }
    if args.first().is_some_and(|a| a == LOOK) {
        return look_again(args.get(1).and_then(|times| times.parse().ok()).expect("how often"));
    }
    if !Host::live().privileged() {
        eprintln!("SKIPPED: the benchmarks need root for scratch namespaces");
        return;
    }
    let mut page = Page { text: heading() };
    small_host(&mut page);
    scale(&mut page);
    rehearsals(&mut page);
    let before = fs::read_to_string(PAGE).unwrap_or_default();
    let agent = before.find(AGENT).and_then(|at| before.get(at..)).unwrap_or_default();
    fs::write(PAGE, page.text + agent).expect("write the page");
}

/// The page as it grows; each line is shown as it comes.
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        println!("{line}");
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn goal(&mut self, met: bool, goal: &str, measured: &str) {
        self.line(&format!("- {goal}: {measured}, {}.", if met { "met" } else { "**missed**" }));
    }
}

fn heading() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = release.split(['-', '\n']).next().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "# Benchmarks\n\nWritten by one run of `make bench` on a virtual machine with {cores} cores and kernel {kernel}, whose load was {load} when\n\
         the run began (more than {cores} means that other work took its share of the time). Each figure is the\n\
         median of several runs; all of them are whole processes or calls on scratch hosts in namespaces, with an sshd running\n\
         and the rules loaded. `observe` reads the rules from the kernel, `judge` judges both families; `check` is the whole\n\
         program with all else that it looks at.\n"
    )
}

/// `check` beside the tools that a person would run.
fn small_host(page: &mut Page) {
    const TIMES: usize = 41;
    const TOOLS: &str = "nft list ruleset; iptables-legacy-save; ss -ltn; sshd -t";
    let (checks, tools) = stage::on_a_host(|host| {
        Shape::Flat.load(host, 10);
        stage::tool(host, "iptables-legacy", &["-A", "INPUT", "-s", "203.0.113.0/24", "-j", "DROP"], "");
        let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
        let mut runs = (Vec::new(), Vec::new());
        for _ in 0..TIMES {
            runs.0.push(program(&[SSH_RESCUE, "check"], &JUDGED));
            runs.1.push(program(&["/usr/bin/env", path, "sh", "-c", TOOLS], &[0]));
        }
        (middle(runs.0), middle(runs.1))
    });
    let ratio = checks.wall.as_secs_f64() / tools.wall.as_secs_f64();
    page.line("\n## A small host\n");
    page.line("| | wall time | peak memory |\n| --- | ---: | ---: |");
    page.line(&format!("| `ssh-rescue check` | {} | {} |", time(checks.wall), memory(checks)));
    page.line(&format!("| `{TOOLS}` | {} | |", time(tools.wall)));
    page.line("");
    page.goal(ratio <= 3.0, "at most 3 times the time of the tools", &format!("{ratio:.2} times"));
    page.goal(checks.memory < 16 << 20, "less than 16 MiB", &memory(checks));
}

/// The argument by which this benchmark starts itself to look at the rules around it.
const LOOK: &str = "--look";
/// How often one look is judged.
const JUDGEMENTS: usize = 11;

/// The fresh copy's part: observes and judges as often, and prints the nanoseconds of each. Like the program it has no memory
/// yet that other rulesets have left.
fn look_again(times: usize) {
    let (host, policy) = (Host::live(), Policy::default());
    let observe = function(times, || firewall(&host));
    let (snapshot, _) = look(&host, &policy);
    let judge = function(JUDGEMENTS, || judge(&policy, &snapshot));
    println!("{} {}", observe.as_nanos(), judge.as_nanos());
}

/// What one ruleset cost.
struct Row {
    shape: Shape,
    count: usize,
    nft: Option<Cost>,
    save: Option<Cost>,
    observe: Duration,
    judge: Duration,
    check: Cost,
}

impl Row {
    fn measure(shape: Shape, count: usize) -> Row {
        let times = if count > 1_000 { 3 } else { 11 };
        stage::on_a_host(|host| {
            shape.load(host, count);
            let repeat = |command: &[&str], good: &[i32]| middle((0..times).map(|_| program(command, good)).collect());
            let check = repeat(&[SSH_RESCUE, "check"], &JUDGED);
            let nft = shape.is_nf_tables().then(|| repeat(&["/usr/sbin/nft", "-j", "list", "ruleset"], &[0]));
            let save = shape.save().map(|tool| repeat(&[&format!("/usr/sbin/{tool}")], &[0]));
            let [observe, judge] = measure::again(&[LOOK, &times.to_string()]).map(Duration::from_nanos);
            Row { shape, count, nft, save, observe, judge, check }
        })
    }

    /// Rules of the ruleset that are judged in a second.
    fn rate(&self) -> f64 {
        self.count as f64 / self.judge.as_secs_f64()
    }

    fn print(&self, page: &mut Page) {
        let other = |cost: &Option<Cost>| cost.map_or_else(|| "-".to_owned(), |c| time(c.wall));
        page.line(&format!(
            "| {} | {} | {} | {} | {} | {} | {:.1} | {} | {} |",
            self.shape.name(),
            self.count,
            other(&self.nft),
            other(&self.save),
            time(self.observe),
            time(self.judge),
            self.rate() / 1e6,
            time(self.check.wall),
            memory(self.check)
        ));
    }
}

fn scale(page: &mut Page) {
    page.line("\n## Many rules\n");
    page.line("| shape | rules | `nft -j list ruleset` | `iptables-save` | observe | judge | million rules/s | `check` | peak memory |");
    page.line("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut rows = Vec::new();
    for shape in Shape::ALL {
        for count in SIZES {
            let row = Row::measure(shape, count);
            row.print(page);
            rows.push(row);
        }
    }
    page.line("");
    let large = || rows.iter().filter(|r| r.count == 50_000);
    let slowest = large().filter_map(|r| Some((r.observe + r.judge).as_secs_f64() / r.nft?.wall.as_secs_f64()));
    let slowest = slowest.fold(0.0, f64::max);
    page.goal(
        slowest < 1.0,
        "observe and judge of 50,000 rules faster than `nft -j list ruleset` alone",
        &format!("at most {:.0} % of its time", slowest * 100.0),
    );
    let most = rows.iter().map(|r| r.check.memory).max().unwrap_or(0);
    page.goal(most < 200 << 20, "under 200 MiB", &format!("at most {:.0} MiB", most as f64 / MIB));
    let least = large().map(Row::rate).fold(f64::INFINITY, f64::min);
    page.goal(
        least >= 1e6,
        "at least a million rules judged a second",
        &format!("at least {:.1} million", least / 1e6),
    );
    let growth = |shape| {
        let rate = |count| rows.iter().find(|r| r.shape == shape && r.count == count).map_or(0.0, Row::rate);
        rate(1_000) / rate(50_000)
    };
    let growth = Shape::ALL.into_iter().map(growth).fold(0.0, f64::max);
    page.goal(
        growth < 2.0,
        "linear in rules",
        &format!("a rule of 50,000 takes at most {growth:.1} times as long as one of 1,000"),
    );
}

/// A rehearsal of the mend of a host whose rules let nobody in.
fn rehearsals(page: &mut Page) {
    page.line("\n## Rehearsal\n");
    page.line("| rules | rehearsal | first packets sent |\n| ---: | ---: | ---: |");
    let mut goals = Vec::new();
    for (count, goal) in [(300, 60), (5_000, 1_000)] {
        let (taken, probes) = stage::on_a_host(|host| {
            Shape::Flat.load(host, count);
            stage::tool(host, "nft", &["add rule inet t in tcp dport 22 drop"], "");
            let policy = Policy::default();
            let runs: Vec<(Duration, usize)> = (0..11).map(|_| rehearsal(host, &policy)).collect();
            (median(runs.iter().map(|r| r.0).collect()), runs[0].1)
        });
        page.line(&format!("| {count} | {} | {probes} |", time(taken)));
        let goal = Duration::from_millis(goal);
        goals.push((taken <= goal, format!("{count} rules in at most {}", time(goal)), time(taken)));
    }
    page.line("");
    for (met, goal, measured) in goals {
        page.goal(met, &goal, &measured);
    }
}

fn rehearsal(host: &Host, policy: &Policy) -> (Duration, usize) {
    let (snapshot, judgement) = look(host, policy);
    let Decision::Repair(plan) = plan(policy, &snapshot, &judgement, "bench") else {
        panic!("nothing is to be mended")
    };
    let aim = Aim::of(policy, &snapshot, &judgement, &plan);
    let start = Instant::now();
    let rehearsed = rehearse(host, &snapshot, plan, policy, &judgement, aim.suffices(), &insert);
    let taken = start.elapsed();
    let rehearsed = rehearsed.expect("a plan that works on a copy");
    let evidence = rehearsed.evidence();
    assert!(evidence.unrehearsed.is_none(), "{evidence:?}");
    (taken, evidence.probes)
}

fn time(taken: Duration) -> String {
    let milliseconds = taken.as_secs_f64() * 1e3;
    if milliseconds < 10.0 { format!("{milliseconds:.1} ms") } else { format!("{milliseconds:.0} ms") }
}

fn memory(cost: Cost) -> String {
    format!("{:.1} MiB", cost.memory as f64 / MIB)
}
