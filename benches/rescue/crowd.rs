//! A thousand connections at once.

use std::path::Path;
use std::time::Duration;

use super::page::{Page, milliseconds};
use super::with_agent;

const SCRIPT: &str = include_str!("crowd.py");

pub fn measure(root: &Path, page: &mut Page) {
    let host = with_agent(root);
    host.sh(&format!("cat >/run/crowd.py <<'END'\n{SCRIPT}\nEND"));
    let said = host.sh("ulimit -n 4096; python3 /run/crowd.py 1000");
    let peak =
        host.sh("awk '/^VmHWM/ {print $2}' \"/proc/$(systemctl show -p MainPID --value ssh-rescue.service)/status\"");
    let sorted = |line: Option<&str>| {
        let mut all: Vec<u64> = line.unwrap_or_default().split_whitespace().filter_map(|n| n.parse().ok()).collect();
        all.sort_unstable();
        assert!(!all.is_empty(), "{said}");
        all
    };
    let (status, repair) = (sorted(said.lines().next()), sorted(said.lines().nth(1)));
    let at = |all: &[u64], percent: usize| Duration::from_micros(all[(all.len() - 1) * percent / 100]);
    let peak = peak.trim().parse::<f64>().unwrap_or_else(|e| panic!("{peak}: {e}")) / 1024.0;
    page.line("\n## A thousand connections\n");
    page.line(&format!(
        "1,000 connections of four users, each of which asks for the status again as soon as it is answered, for 6 s: {} answers.\n\
         Meanwhile root asks for {} repairs, one after the other. The clients run on the same machine.\n",
        status.len(),
        repair.len()
    ));
    page.line("| Status, median | 99 % | Repair begins, median | longest | peak memory |");
    page.line("| ---: | ---: | ---: | ---: | ---: |");
    page.line(&format!(
        "| {} | {} | {} | {} | {peak:.1} MiB |\n",
        milliseconds(at(&status, 50)),
        milliseconds(at(&status, 99)),
        milliseconds(at(&repair, 50)),
        milliseconds(at(&repair, 100))
    ));
    let below = |time: Duration, goal| time <= Duration::from_millis(goal);
    page.goal(below(at(&status, 99), 250), "Status: 99 % within 250 ms", &milliseconds(at(&status, 99)));
    page.goal(below(at(&repair, 100), 200), "Repair begins within 200 ms", &milliseconds(at(&repair, 100)));
    page.goal(peak < 32.0, "memory under 32 MiB", &format!("{peak:.1} MiB"));
}
