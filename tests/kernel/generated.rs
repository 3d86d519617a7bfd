//! The generator's rulesets, before the judge is asked: each must load and be answered.

use std::net::IpAddr;

use ssh_rescue::facts::{Family, Net};
use ssh_rescue::host::{Host, Scratch};
use ssh_rescue::rehearse::layout::{Layout, set_up};
use ssh_rescue::rehearse::packet::{Flow, Protocol};
use ssh_rescue::rehearse::probe::{Listeners, ask};

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, patient, root};
use super::generate::{Case, Script, case};

/// Loads scripts into a scratch namespace and runs `inside` there. A line that its tool does not take (a protocol that
/// contradicts another) is left out of the script.
pub fn loaded<T: Send>(
    net: &Net,
    scripts: &mut [Script],
    inside: impl FnOnce(&Host, &mut Layout) -> T + Send,
) -> Result<T, String> {
    let run = |host: &Host| {
        let mut layout = set_up(host, net, &[IFINDEX], &[])?;
        for script in scripts {
            if let Err(complaint) = load(host, script) {
                return Ok(Err(complaint));
            }
        }
        Ok(Ok(inside(host, &mut layout)))
    };
    Host::live().scratch(Scratch::Network, run).unwrap()
}

fn load(host: &Host, script: &mut Script) -> Result<(), String> {
    let args: &[&str] = match script.tool.as_str() {
        "nft" => &["-f", "-"],
        "ipset" => &["restore", "-exist"],
        _ => &[],
    };
    loop {
        let text = script.lines.join("\n") + "\n";
        let output = host.run(&patient(&script.tool, args, &text)).unwrap();
        if output.ok() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        let may_go = |line: &str| is_rule(line) || script.tool == "ipset" && line.starts_with("add ");
        let refused = complained_line(&complaint).filter(|&n| may_go(&script.lines[n]));
        match refused {
            Some(line) => drop(script.lines.remove(line)),
            None => return Err(format!("{}: {complaint}\n{text}", script.tool)),
        }
    }
}

/// The index of the line that nft (`/dev/stdin:12:3-4: Error`), iptables (`Error occurred at line: 12`, `line 12: RULE_APPEND
/// failed`) or ipset (`Error in line 12`: 0.0.0.0 is no member of a hash) names.
fn complained_line(complaint: &str) -> Option<usize> {
    let (_, rest) = complaint
        .split_once("/dev/stdin:")
        .or_else(|| complaint.split_once("line: "))
        .or_else(|| complaint.split_once("\nline "))
        .or_else(|| complaint.split_once("Error in line "))?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse::<usize>().ok()?.checked_sub(1)
}

pub fn is_rule(line: &str) -> bool {
    let frame = ["table", "chain", "set", "map", "}", "*", ":", "COMMIT", "create", "add"];
    !frame.iter().any(|f| line.starts_with(f))
}

/// The SYN of each source to port 22, from its ephemeral port.
pub fn syns(case: &Case) -> Vec<Flow> {
    let target: IpAddr = if case.family == Family::Ipv4 { ADDRESS4 } else { ADDRESS6 }.parse().unwrap();
    let syn = |(number, &source): (usize, &IpAddr)| {
        let source_port = 33000 + (number % 20000) as u16;
        Flow { protocol: Protocol::Tcp, source, source_port, target, port: 22 }
    };
    case.sources.iter().enumerate().map(syn).collect()
}

#[test]
fn generated_rulesets_load_and_are_answered_both_ways() {
    if !root("generator") {
        return;
    }
    let (mut open, mut shut) = (0, 0);
    for seed in 0..100 {
        let mut case = case(seed);
        let flows = syns(&case);
        let answers = loaded(&case.net, &mut case.scripts, |_, layout| {
            let listeners = Listeners::open(&[22], &[]).unwrap();
            ask(&mut layout.uplinks[0], &listeners, &flows).unwrap()
        })
        .unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
        open += answers.iter().filter(|a| a.is_open()).count();
        shut += answers.iter().filter(|a| !a.is_open()).count();
    }
    println!("{open} open, {shut} shut");
    assert!(open > 500 && shut > 500, "a generator of one answer asks nothing: {open} open, {shut} shut");
}
