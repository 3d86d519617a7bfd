//! `explain` of the program itself: pictures of saved rulesets and of a scratch host.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Host, Output};
use ssh_rescue::rehearse::drill::{DrillError, Stage};

use super::common::root;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");

const RULES: &str = r#"*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -s 203.0.113.0/24 -j DROP
COMMIT
*filter
:INPUT DROP [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:guard - [0:0]
:quiet - [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -p tcp -j quiet
-A INPUT -p tcp -m tcp --dport 22 -j LOG --log-prefix "ssh: "
-A INPUT -p tcp -m tcp --dport 22 -j guard
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "the whole office may come in by this rule, as the boss said" -j ACCEPT
-A guard -s 198.51.100.64/26 -j DROP
-A guard -s 198.51.100.7/32 -p tcp -j REJECT --reject-with tcp-reset
-A quiet -s 10.1.0.0/16 -j DROP
-A quiet -s 10.2.0.0/16 -j DROP
COMMIT
"#;

fn run(host: &Host, program: &str, args: &[&str], stdin: &str) -> (i32, String, String) {
    let call = Call { stdin: stdin.as_bytes(), deadline: Duration::from_secs(60), ..Call::new(program, args) };
    let Output { status, stdout, stderr } = host.run(&call).unwrap();
    (status, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// What is printed of a ruleset's way for a source; everything that is printed fits a serial console.
fn drawn(rules: &str, args: &[&str], status: i32) -> String {
    let (ended, out, err) = run(&Host::live(), PROGRAM, &[&["explain", "--ruleset", "-"], args].concat(), rules);
    assert_eq!(ended, status, "{out}{err}");
    assert!(out.lines().all(|l| l.is_ascii() && l.len() < 80 && !l.ends_with(' ')), "{out}");
    assert!(!out.contains('\x1b'));
    out
}

fn told(rules: &str, args: &[&str]) -> Value {
    let (_, out, err) = run(&Host::live(), PROGRAM, &[&["explain", "--json", "--ruleset", "-"], args].concat(), rules);
    assert!(out.is_ascii());
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"))
}

#[test]
fn the_way_of_a_packet_is_drawn_to_where_it_ends() {
    if !root("explain") {
        return;
    }
    insta::assert_snapshot!("dropped", drawn(RULES, &["198.51.100.70"], 2));
    insta::assert_snapshot!("refused", drawn(RULES, &["--from", "198.51.100.7", "--to", "192.0.2.99"], 2));
    insta::assert_snapshot!("raw", drawn(RULES, &["203.0.113.4", "--port", "2222"], 2));
    insta::assert_snapshot!("admitted", drawn(RULES, &["192.0.2.77", "--interface", "wan0"], 0));
    insta::assert_json_snapshot!("dropped_json", told(RULES, &["198.51.100.70"]));
}

#[test]
fn every_way_in_which_it_can_end_is_drawn() {
    if !root("explain ends") {
        return;
    }
    let rules = r#"
table inet way {
    set known { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.0/24 }; }
    chain early { type filter hook prerouting priority -300; ip saddr 10.66.0.0/16 notrack; meta mark set 7; }
    chain in {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
        tcp dport 22 jump ssh
    }
    chain ssh {
        ip saddr 10.0.0.0/24 limit rate 3/minute accept
        ip saddr 10.0.1.0/24 tcp option maxseg size 1000 drop
        ip saddr 10.0.2.0/24 return
        meta mark 7 ip saddr vmap { 10.0.3.0/24 : drop, 10.0.4.0/24 : goto more, 10.0.5.0/24 : jump more }
        ip saddr @known counter accept
        ip saddr { 10.0.1.0/24, 10.0.6.0/24, 10.66.0.0/16 } accept
    }
    chain more { ip saddr 10.0.9.0/24 drop; }
    chain out { type filter hook output priority 0; ip daddr 10.0.6.0/24 drop; }
}"#;
    for (name, source, status) in [
        ("limited", "10.0.0.1", 0),
        ("unknown", "10.0.1.1", 3),
        ("returned", "10.0.2.1", 2),
        ("map_dropped", "10.0.3.1", 2),
        ("gone_to", "10.0.4.1", 2),
        ("called", "10.0.5.1", 2),
        ("answer_dropped", "10.0.6.1", 2),
        ("untracked", "10.66.0.1", 0),
        ("in_a_set", "192.0.2.1", 0),
        ("of_ipv6", "2001:db8::9", 2),
    ] {
        insta::assert_snapshot!(name, drawn(rules, &[source], status));
    }
}

#[test]
fn a_terminal_gets_lines_and_colours() {
    if !root("explain on a terminal") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.v4");
    fs::write(&file, RULES).unwrap();
    let call = format!("exec {PROGRAM} explain 198.51.100.70 --ruleset {}", file.display());
    let on = |term: &str| {
        let call = format!("export TERM={term}; {call}");
        let (status, out, _) = run(&Host::live(), "script", &["-qec", &call, "/dev/null"], "");
        assert_eq!(status, 2, "{out}");
        out.replace("\r\n", "\n").replace(folder.path().to_str().unwrap(), "")
    };
    let rich = on("xterm-256color");
    assert!(rich.contains("├─ input") && rich.contains("\x1b[1;31m✗\x1b[0m SYN in"), "{rich}");
    assert!(rich.contains("\x1b[1;31mDROP\x1b[0m"), "{rich}");
    let mut plain = rich.clone();
    while let Some(start) = plain.find('\x1b') {
        let end = start + plain[start..].find('m').unwrap();
        plain.replace_range(start..=end, "");
    }
    assert!(plain.lines().all(|l| l.chars().count() < 80), "{plain}");
    for term in ["dumb", "vt220"] {
        assert!(on(term).is_ascii(), "{term}");
    }
    let (_, colourless, _) =
        run(&Host::live(), "script", &["-qec", &format!("export TERM=xterm NO_COLOR=1; {call}"), "/dev/null"], "");
    assert!(colourless.is_ascii(), "{colourless}");
}

/// Every `<` of the document opens or closes an element that the program draws with, every `&` one of five characters.
fn assert_clean_svg(svg: &str) {
    const ELEMENTS: [&str; 9] = ["?xml", "svg", "title", "style", "rect", "line", "circle", "path", "text"];
    for (at, _) in svg.match_indices('<') {
        let name = svg[at + 1..].trim_start_matches('/');
        assert!(ELEMENTS.iter().any(|e| name.starts_with(e)), "{}", &svg[at..]);
    }
    for (at, _) in svg.match_indices('&') {
        assert!(
            ["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|e| svg[at..].starts_with(e)),
            "{}",
            &svg[at..]
        );
    }
    assert!(!svg.contains(|c: char| c.is_control() && c != '\n'), "a control character");
    assert!(!svg.contains(['\u{202e}', '\u{2066}']), "a character that turns the text around");
}

#[test]
fn what_the_host_calls_its_things_is_never_obeyed() {
    if !root("explain with hostile names") {
        return;
    }
    let name = "x</text><script>&\x1b[2J";
    let comment = "\u{202e}]]>\x1b]0;owned\x07<!--'é宽";
    let rules = format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:{name} - [0:0]\n-A INPUT -j {name}\n-A {name} -m comment --comment \"{comment}\" -j DROP\nCOMMIT\n"
    );
    let interface = "e<&\u{202e}\u{2066}";
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("way.svg");
    let out = drawn(&rules, &["192.0.2.7", "--interface", interface, "--svg", svg.to_str().unwrap()], 2);
    assert!(out.contains("\\u{202e}") && out.contains("\\u{1b}[2J"), "{out}");
    assert_clean_svg(&fs::read_to_string(&svg).unwrap());
    let told = told(&rules, &["192.0.2.7", "--interface", interface]);
    let way = &told["ways"][0];
    assert_eq!(way["interface"], interface);
    let steps = &way["packets"][0]["hooks"][1]["chains"][0]["steps"];
    assert_eq!(steps[1]["chain"], name);
    assert!(steps[1]["rule"].as_str().unwrap().contains(comment), "{steps}");
}

#[test]
fn an_svg_shows_what_the_terminal_does() {
    if !root("explain --svg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let svg = folder.path().join("way.svg");
    drawn(RULES, &["198.51.100.70", "--svg", svg.to_str().unwrap()], 2);
    let picture = fs::read_to_string(&svg).unwrap();
    assert_clean_svg(&picture);
    for words in [
        ">prerouting<",
        ">input<",
        ">-s 198.51.100.64/26 -j DROP<",
        ">DROP<",
        ">the client sees: connection timed out<",
    ] {
        assert!(picture.contains(words), "{words}: {picture}");
    }
    assert!(!picture.contains("href") && !picture.contains("url("), "it needs nothing else");
}

/// The drawn lines of a host's own way for a client, without the first sentence.
fn of_host(stage: &Stage<'_>, source: &str, args: &[&str]) -> (i32, String) {
    let (status, out, err) = run(stage.host, PROGRAM, &[&["explain", source], args].concat(), "");
    let picture = out.find("From ").map(|at| out[at..].to_owned()).unwrap_or_else(|| panic!("{out}{err}"));
    (status, picture)
}

fn on_a_stage(test: &str, work: impl FnOnce(&mut Stage<'_>) -> Result<(), DrillError> + Send) {
    if root(test) {
        Stage::build(&Host::live(), work).unwrap_or_else(|e| panic!("{}", chain(&e)));
    }
}

#[test]
fn the_gates_behind_the_firewall_are_drawn() {
    on_a_stage("explain on a host", |stage| {
        let (status, out) = of_host(stage, "198.51.100.7", &[]);
        assert!(status < 2, "{out}");
        let taken = |out: &str| {
            let line = out.lines().find(|l| l.contains(" listener ")).unwrap_or_else(|| panic!("{out}")).to_owned();
            assert!(line.starts_with("o listener     0.0.0.0:22 (sshd, pid ") && line.ends_with(") takes it"), "{out}");
            out.lines().skip(2).filter(|l| *l != line).map(str::to_owned).collect::<Vec<_>>()
        };
        let expected = [
            "o SYN in",
            "+- prerouting   no chains",
            "+- input        no chains",
            "o SYN-ACK out  no chains on its way",
            "o ACK in       no chains on its way",
            "o wrappers     hosts.allow and hosts.deny let it pass",
            "o sshd         sends its banner",
            "`-> the client is connected, and gets sshd's banner",
        ];
        assert_eq!(taken(&out), expected);

        stage.write("/etc/hosts.deny", "# nobody\nsshd: 198.51.100.\n")?;
        let (status, out) = of_host(stage, "198.51.100.7", &[]);
        assert_eq!(status, 2, "{out}");
        let lines: Vec<&str> = out.lines().skip(8).collect();
        assert_eq!(
            lines,
            [
                "X wrappers     line 2 of /etc/hosts.deny: sshd: 198.51.100.",
                ". not reached  sshd",
                "`-> the client sees: connection closed before the banner"
            ],
            "{out}"
        );
        assert!(of_host(stage, "203.0.113.7", &[]).0 < 2);

        let (status, out) = of_host(stage, "203.0.113.7", &["--port", "2222"]);
        assert_eq!(status, 2, "{out}");
        assert!(out.ends_with("X listener     nothing listens on port 2222\n. not reached  SYN-ACK out, ACK in, wrappers, sshd\n`-> the client sees: connection refused\n"), "{out}");

        let rules = "table ip fw { chain out { type filter hook output priority 0; tcp sport 22 drop; }; }";
        stage.tool("nft", &["-f", "-"], rules)?;
        let (status, out) = of_host(stage, "203.0.113.7", &[]);
        assert_eq!(status, 2, "{out}");
        let expected = [
            "X SYN-ACK out  ends in ip fw out",
            "+- output",
            "|    ip fw out",
            "|      1  tcp sport 22 drop                                                DROP",
            ". not reached  ACK in, wrappers, sshd",
            "`-> the client sees: connection timed out",
        ];
        assert_eq!(taken(&out)[3..], expected, "{out}");
        Ok(())
    });
}

#[test]
fn the_exit_status_is_that_of_check_for_the_source() {
    on_a_stage("explain as check", |stage| {
        let rules = "table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; \
             meta l4proto ipv6-icmp accept; ip saddr 198.51.100.0/24 tcp dport 22 accept; }; }";
        stage.tool("nft", &["-f", "-"], rules)?;
        std::fs::create_dir("/etc/ssh-rescue").unwrap();
        for (source, prefix) in [("198.51.100.7", 32), ("203.0.113.7", 32), ("2001:db8:99::7", 128)] {
            stage.write("/etc/ssh-rescue/policy.toml", &format!("[ssh]\nsources = [\"{source}/{prefix}\"]\n"))?;
            let (check, ..) = run(stage.host, PROGRAM, &["check"], "");
            stage.write("/etc/ssh-rescue/policy.toml", "")?;
            let (status, out) = of_host(stage, source, &[]);
            assert_eq!(status, check, "{source}: {out}");
        }
        let (_, out, _) = run(stage.host, PROGRAM, &["explain", "203.0.113.7", "--json"], "");
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&told["verdict"], &told["symptom"]), (&json!("blocked"), &json!("timed-out")));
        let states: Vec<&Value> = told["ways"][0]["gates"].as_array().unwrap().iter().map(|g| &g["state"]).collect();
        assert_eq!(states, ["not-reached"; 3]);
        Ok(())
    });
}
