//! `check --ruleset` of the program itself: saved rulesets, judged beside a host that they do not touch.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use ssh_rescue::facts::{AddrSet, Family};
use ssh_rescue::host::{Call, Host, Output, Scratch};

use super::common::{probe_to, root, tool};
use super::corpus::{Recorded, folder, misread, recorded};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");

fn run(host: &Host, args: &[&str], stdin: &str) -> (i32, String, String) {
    let call = Call { stdin: stdin.as_bytes(), deadline: Duration::from_secs(60), ..Call::new(PROGRAM, args) };
    let Output { status, stdout, stderr } = host.run(&call).unwrap();
    (status, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The report on a ruleset that is handed in by the standard input.
fn judged(args: &[&str], text: &str) -> Value {
    let (_, out, err) = run(&Host::live(), &[&["check", "--json", "--ruleset", "-"], args].concat(), text);
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"))
}

/// The set that the report writes as prefixes and ranges.
fn set(family: Family, words: &Value) -> AddrSet {
    let mut set = AddrSet::empty(family);
    for word in words.as_array().unwrap() {
        let word = word.as_str().unwrap();
        let address = |text: &str| ssh_rescue::facts::number(text.parse::<IpAddr>().unwrap());
        match word.split_once('-') {
            Some((first, last)) => set.insert(address(first), address(last)),
            None if word.contains('/') => set.union_with(&AddrSet::net(word.parse().unwrap())),
            None => set.insert(address(word), address(word)),
        }
    }
    set
}

/// Where the report and the record of the kernel differ; every source must be in exactly one of the four parts.
fn differences(truth: &Recorded, path: &Value, judged: &mut usize, open: &mut usize) -> Vec<String> {
    let family = Family::of(truth.dst.parse().unwrap());
    let mut left = AddrSet::full(family);
    let mut part = |sources: &Value| {
        let sources = set(family, sources);
        assert!(sources.is_subset(&left), "{}: a source is in two parts", truth.file);
        left.subtract(&sources);
        sources
    };
    let admitted = part(&path["admitted"]);
    let mut all = |name: &str| -> Vec<(AddrSet, Value)> {
        path[name].as_array().unwrap().iter().map(|b| (part(&b["sources"]), b["by"]["hook"].clone())).collect()
    };
    let (blocked, conditional, unknown) = (all("blocked"), all("conditional"), all("unknown"));
    assert!(left.is_empty(), "{}: {left} is in none of the four parts", truth.file);
    let within = |list: &[(AddrSet, Value)], source| list.iter().any(|(set, _)| set.contains(source));
    let mut wrong = Vec::new();
    let sources = truth.accepted.iter().map(|s| (s, true)).chain(truth.blocked.iter().map(|s| (s, false)));
    for (text, let_in) in sources.filter(|(s, _)| !misread(s)) {
        let source = probe_to(text, &truth.dst, truth.dport).source;
        *judged += 1;
        if within(&conditional, source) || within(&unknown, source) {
            *open += usize::from(truth.stateful_features.is_empty());
            continue;
        }
        // The record does not look at the way out.
        let by = blocked.iter().find(|(set, _)| set.contains(source)).map(|(_, hook)| hook);
        let outwards = by.is_some_and(|hook| ["output", "postrouting", "egress"].iter().any(|h| hook == h));
        if (admitted.contains(source) || outwards) != let_in {
            wrong.push(format!("{} ({}): {text} blocked by {by:?}, let in: {let_in}", truth.file, truth.backend));
        }
    }
    wrong
}

#[test]
fn the_program_agrees_with_the_kernel_on_saved_rulesets() {
    if !root("check --ruleset") {
        return;
    }
    let Some(folder) = folder() else { return };
    let (mut rulesets, mut pairs, mut open) = (0, 0, 0);
    let mut wrong = Vec::new();
    for truth in recorded(&folder) {
        let (file, index, port) = (folder.join(&truth.file), truth.ifindex.to_string(), truth.dport.to_string());
        let file = file.to_str().unwrap();
        let place = ["--interface", &truth.iface, "--ifindex", &index, "--to", &truth.dst, "--port", &port];
        let args = [&["check", "--json", "--ruleset", file, "--backend", &truth.backend], &place[..]].concat();
        let (_, out, err) = run(&Host::live(), &args, "");
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{file}: {e}: {err}"));
        assert_eq!(report["ruleset"]["backend"], truth.backend, "{file}");
        rulesets += 1;
        wrong.extend(differences(&truth, &report["paths"][0], &mut pairs, &mut open));
    }
    println!("{rulesets} rulesets, {pairs} verdicts, {open} open, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rulesets > 100 && open * 20 <= pairs);
}

#[test]
fn a_ruleset_touches_nothing_outside_its_scratch_namespace() {
    if !root("check --ruleset beside other rules") {
        return;
    }
    let work = |host: &Host| {
        tool(host, "nft", &["-f", "-"], "table inet mine { chain in { type filter hook input priority 0; }; }");
        let before = host.run(&Call::new("nft", &["list", "ruleset"])).unwrap().stdout;
        let rules = "#!/usr/sbin/nft -f\nflush ruleset\ntable inet new { chain in { type filter hook input priority 0; policy drop; }; }\n";
        let (status, out, _) = run(host, &["check", "--ruleset", "-"], rules);
        assert_eq!(status, 2, "{out}");
        assert!(out.contains("because the policy drop of inet new in drops it"), "{out}");
        assert!(out.contains("The rules of - alone, as nft loads them, for eth0 with number 2."), "{out}");
        assert_eq!(host.run(&Call::new("nft", &["list", "ruleset"])).unwrap().stdout, before);
        Ok(())
    };
    Host::live().scratch(Scratch::Network, work).unwrap();
}

#[test]
fn the_form_of_a_ruleset_tells_its_tool_and_its_families() {
    if !root("the form of a ruleset") {
        return;
    }
    let addresses = |report: &Value| -> Vec<String> {
        report["paths"].as_array().unwrap().iter().map(|p| p["address"].as_str().unwrap().to_owned()).collect()
    };
    let plain = "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 198.51.100.0/24 -j ACCEPT\nCOMMIT\n";
    let old = format!("# Generated by iptables-save v1.8.9 on Mon\n{plain}");
    let six = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p ipv6-icmp -j ACCEPT\nCOMMIT\n";
    let nft = "table ip x { chain y { type filter hook input priority 0; policy drop; }; }";
    for (text, args, backend, to) in [
        (plain, &[][..], "iptables-nft", &["192.0.2.10"][..]),
        (&old, &[], "iptables-legacy", &["192.0.2.10"]),
        (six, &[], "ip6tables-nft", &["2001:db8::10"]),
        (nft, &[], "nft", &["192.0.2.10", "2001:db8::10"]),
        (nft, &["--to", "203.0.113.1", "--to", "203.0.113.2"], "nft", &["203.0.113.1", "203.0.113.2"]),
        ("*filter\n:INPUT DROP [0:0]\nCOMMIT\n", &["--to", "2001:db8::7"], "ip6tables-nft", &["2001:db8::7"]),
    ] {
        let report = judged(args, text);
        assert_eq!(
            (&report["ruleset"]["backend"], addresses(&report)),
            (&json!(backend), to.iter().map(|t| t.to_string()).collect())
        );
    }
    let report = judged(&["--interface", "wan0", "--ifindex", "9", "--port", "2222"], plain);
    assert_eq!((&report["ruleset"]["interface"], &report["ruleset"]["ifindex"]), (&json!("wan0"), &json!(9)));
    assert_eq!((&report["paths"][0]["interface"], &report["paths"][0]["port"]), (&json!("wan0"), &json!(2222)));
    assert_eq!(report["paths"][0]["admitted"], json!(["198.51.100.0/24"]));
}

#[test]
fn a_ruleset_that_does_not_load_is_refused_in_its_tools_own_words() {
    if !root("rulesets that do not load") {
        return;
    }
    let fails = |args: &[&str], text: &str| {
        let (status, out, err) = run(&Host::live(), &[&["check", "--ruleset", "-"], args].concat(), text);
        assert_eq!((status, out.as_str()), (3, ""), "{err}");
        err
    };
    let err = fails(&[], "table ip x {\n chain y {\n  foo bar\n }\n}\n");
    assert!(err.contains("as a ruleset of nft: -:3:3-5: Error: ") && err.contains("; foo bar"), "{err}");
    let err = fails(&[], "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dprt 22 -j DROP\nCOMMIT\n");
    assert!(err.contains("unknown option \"--dprt\"; Error occurred at line: 3"), "{err}");
    let err = fails(&[], "*filter\n-A INPUT -m set --match-set bad\x1b[2J src -j DROP\nCOMMIT\n");
    assert!(err.contains("names ipset bad\\u{1b}[2J") && !err.contains('\x1b'), "{err}");
    let err = fails(&["--backend", "iptables-nft", "--to", "2001:db8::1"], "*filter\nCOMMIT\n");
    assert!(err.contains("rules of iptables-nft say nothing about 2001:db8::1"), "{err}");
    let (status, out, _) = run(&Host::live(), &["check", "--json", "--ruleset", "/nonexistent"], "");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert!(status == 3 && report["error"].as_str().unwrap().contains("open /nonexistent"), "{out}");
}

#[test]
fn a_file_of_nft_finds_what_it_includes() {
    if !root("includes of a ruleset") {
        return;
    }
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let (part, file) = (folder.path().join("part.nft"), folder.path().join("rules.nft"));
    std::fs::write(&part, "table ip x { chain y { type filter hook input priority 0; policy drop; }; }\n").unwrap();
    std::fs::write(&file, format!("flush ruleset\ninclude \"{}/*.nft\"\n", part_folder(&part))).unwrap();
    let (status, ..) = run(&Host::live(), &["check", "--ruleset", file.to_str().unwrap()], "");
    assert_eq!(status, 3, "a file that includes itself is no ruleset");
    std::fs::write(&file, format!("flush ruleset\ninclude \"{}\"\n", part.display())).unwrap();
    let (status, out, err) = run(&Host::live(), &["check", "--ruleset", file.to_str().unwrap()], "");
    assert!(status == 2 && out.contains("the policy drop of ip x y"), "{out}{err}");
}

fn part_folder(part: &Path) -> String {
    part.parent().unwrap().display().to_string()
}

#[test]
fn who_listens_where_a_saved_ruleset_leads_is_not_guessed() {
    if !root("a redirect in a saved ruleset") {
        return;
    }
    let rules = "table ip n { chain p { type nat hook prerouting priority -100; ip saddr 10.0.0.0/8 tcp dport 22 redirect to :2222; }; }";
    let report = judged(&["--to", "192.0.2.10"], rules);
    let path = &report["paths"][0];
    assert_eq!(path["blocked"], json!([]));
    assert_eq!(path["unknown"][0]["sources"], json!(["10.0.0.0/8"]));
    assert_eq!(path["unknown"][0]["reason"], "it is led to port 2222, and who listens there is not known");
    assert_eq!(path["unknown"][0]["by"]["hook"], "prerouting");
}
