//! Steps that speak to the owner of the rules, or take all rules away: on a scratch host with an /etc of its own.

use ssh_rescue::chain;
use ssh_rescue::facts::*;
use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::plan::{Accept, Insert, Step, Traffic};
use ssh_rescue::record::{Phase, StateDir, Undone, history, undo};

use super::common::{root, tool};
use super::record::make;

fn lines(host: &Host, program: &str, args: &[&str]) -> Vec<String> {
    let output = host.run(&Call::new(program, args)).unwrap();
    assert!(output.ok(), "{program} {args:?}: {}", output.complaint());
    String::from_utf8(output.stdout).unwrap().lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
}

fn scratch(work: impl FnOnce(&Host, &StateDir) + Send) {
    let inside = |host: &Host| {
        work(host, &StateDir::at("/run/state", "/run/lock-of-ours"));
        Ok(())
    };
    Host::live().scratch(Scratch::Host, inside).unwrap();
}

fn seen(host: &Host) -> Snapshot {
    super::rehearsal::snapshot(firewall(host))
}

fn installed(program: &str) -> bool {
    let there = Host::live().which(program).is_some();
    if !there {
        assert!(std::env::var_os("SSH_RESCUE_REQUIRE_ALL").is_none(), "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    there
}

fn undone(host: &Host, state: &StateDir, id: &str) {
    match undo(host, state, id) {
        Ok(Undone::TakenBack(_)) => {}
        other => panic!("{other:?}"),
    }
}

fn ufw_rules(host: &Host) -> (Vec<String>, Vec<String>) {
    let file = |path: &str| {
        lines(host, "cat", &[path]).into_iter().filter(|l| l.starts_with("-A") && l.contains("-user-input ")).collect()
    };
    (file("/etc/ufw/user.rules"), file("/etc/ufw/user6.rules"))
}

#[test]
fn ufw_lets_in_before_what_it_denies_and_forgets_it_again() {
    if !root("ufw") || !installed("ufw") {
        return;
    }
    scratch(|host, state| {
        tool(host, "ufw", &["--force", "enable"], "");
        tool(host, "ufw", &["deny", "in", "on", "eth0", "proto", "tcp", "to", "any", "port", "22"], "");
        tool(host, "ufw", &["limit", "22/tcp"], "");
        let before = ufw_rules(host);
        let kernel = lines(host, "iptables-save", &["-t", "filter"]);
        for (interface, source) in
            [(Some("eth0"), None), (None, Some("198.51.100.0/24")), (None, Some("2001:db8::/64"))]
        {
            let step = Step::UfwAllow {
                port: 22,
                interface: interface.map(str::to_owned),
                sources: vec![source.map(|s| s.parse().unwrap())],
                model: Vec::new(),
            };
            let applied = make(host, state, &seen(host), vec![step]).unwrap();
            let (four, six) = ufw_rules(host);
            let first = if source.is_some_and(|s| s.contains(':')) { &six[0] } else { &four[0] };
            assert!(first.contains("--dport 22") && first.ends_with("-j ACCEPT"), "{first}");
            let chain = if first.contains("ufw6") { "ufw6-user-input" } else { "ufw-user-input" };
            let program = if first.contains("ufw6") { "ip6tables" } else { "iptables" };
            let running = &lines(host, program, &["-S", chain])[1];
            assert!(running.contains("--dport 22") && running.ends_with("-j ACCEPT"), "{running}");
            undone(host, state, &applied.plan().id);
            assert_eq!(ufw_rules(host), before);
        }
        assert_eq!(lines(host, "iptables-save", &["-t", "filter"]).len(), kernel.len());
    });
}

/// set_rule() of ufw 0.36 makes an error and does not raise it.
#[test]
fn ufw_that_could_not_write_its_file_and_does_not_say_so_is_taken_back() {
    if !root("ufw's file") || !installed("ufw") {
        return;
    }
    scratch(|host, state| {
        tool(host, "ufw", &["--force", "enable"], "");
        let before = ufw_rules(host);
        let file = "/etc/ufw/user6.rules";
        let ufw = host.which("ufw").unwrap();
        instead(
            &ufw,
            &format!("cp -a {file} /run/old; /run/real \"$@\"; status=$?; cp -a /run/old {file}; exit $status"),
        );
        let step = Step::UfwAllow { port: 22, interface: None, sources: vec![None], model: Vec::new() };
        let error = chain(&make(host, state, &seen(host), vec![step]).unwrap_err());
        assert!(error.contains("user6.rules does not hold the rule"), "{error}");
        assert_eq!(ufw_rules(host), before);
        assert_eq!(history(&Host::live(), state).unwrap().entries[0].phase, Phase::RolledBack);
    });
}

#[test]
fn what_an_admin_told_ufw_since_stays_after_an_undo() {
    if !root("ufw") || !installed("ufw") {
        return;
    }
    scratch(|host, state| {
        tool(host, "ufw", &["--force", "enable"], "");
        let step = Step::UfwAllow { port: 22, interface: None, sources: vec![None], model: Vec::new() };
        let applied = make(host, state, &seen(host), vec![step]).unwrap();
        tool(host, "ufw", &["allow", "443/tcp"], "");
        undone(host, state, &applied.plan().id);
        let (four, six) = ufw_rules(host);
        assert!(four.len() == 1 && four[0].contains("443") && six.len() == 1, "{four:?} {six:?}");
    });
}

#[test]
fn ufw_is_rebuilt_after_a_flush() {
    if !root("ufw") || !installed("ufw") {
        return;
    }
    scratch(|host, state| {
        tool(host, "ufw", &["allow", "22/tcp"], "");
        tool(host, "ufw", &["--force", "enable"], "");
        let whole = lines(host, "iptables", &["-S"]);
        tool(host, "iptables", &["-N", "mine"], "");
        tool(host, "iptables", &["-F"], "");
        tool(host, "ip6tables", &["-F", "INPUT"], "");
        tool(host, "ufw", &["reload"], "");
        let jumps = lines(host, "iptables", &["-S", "INPUT"]);
        assert_eq!(jumps, ["-P INPUT DROP"], "ufw mends itself");
        let flushed = lines(host, "iptables", &["-S"]);
        let step = Step::UfwRebuild { families: vec![Family::Ipv4, Family::Ipv6] };
        let applied = make(host, state, &seen(host), vec![step]).unwrap();
        let sorted = |mut all: Vec<String>| {
            all.sort();
            all
        };
        let mut expected = whole;
        expected.push("-N mine".into());
        assert_eq!(sorted(lines(host, "iptables", &["-S"])), sorted(expected));
        assert!(lines(host, "ip6tables", &["-S", "INPUT"]).contains(&"-A INPUT -j ufw6-before-input".to_owned()));
        undone(host, state, &applied.plan().id);
        assert_eq!(sorted(lines(host, "iptables", &["-S"])), sorted(flushed));
    });
}

const BOTH: &str = "table inet t { set s { type ipv4_addr; elements = { 192.0.2.1 }; };
    chain in { type filter hook input priority 5; policy drop; ip saddr @s accept; }; }";
const SAVED: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:mine - [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 80 -m limit --limit 5/min -j mine\nCOMMIT\n";

fn rulesets(host: &Host) -> Vec<String> {
    let mut all = lines(host, "nft", &["-s", "list", "ruleset"]);
    for program in ["iptables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
        all.extend(lines(host, program, &[]).into_iter().map(|l| l.split(" [").next().unwrap().to_owned()));
    }
    all
}

#[test]
fn a_flush_takes_all_rules_away_and_an_undo_brings_them_back() {
    if !root("flush") {
        return;
    }
    scratch(|host, state| {
        tool(host, "nft", &["-f", "-"], BOTH);
        for program in ["iptables-nft-restore", "iptables-legacy-restore", "ip6tables-legacy-restore"] {
            tool(host, program, &[], SAVED);
        }
        let before = rulesets(host);
        let applied = make(host, state, &seen(host), vec![Step::Flush]).unwrap();
        assert!(lines(host, "nft", &["list", "ruleset"]).is_empty());
        let open = ["-P INPUT ACCEPT", "-P FORWARD ACCEPT", "-P OUTPUT ACCEPT"];
        for program in ["iptables-legacy", "ip6tables-legacy"] {
            assert_eq!(lines(host, program, &["-S"]), open, "{program}");
        }
        tool(host, "nft", &["add", "table", "ip", "somebody"], "");
        let refused = undo(host, state, &applied.plan().id).unwrap_err();
        assert!(chain(&refused).contains("ip somebody"), "{}", chain(&refused));
        tool(host, "nft", &["delete", "table", "ip", "somebody"], "");
        undone(host, state, &applied.plan().id);
        assert_eq!(rulesets(host), before);
    });
}

fn accept(chain: &str) -> Vec<Insert> {
    let accept = Accept {
        traffic: Traffic::Ssh,
        family: None,
        source: None,
        port: 22,
        interface: None,
        answer: false,
        after: Vec::new(),
    };
    vec![Insert { chain: chain.into(), index: 0, accept }]
}

/// Two native tables and both kinds of iptables tables, each in one step.
fn everywhere(generation: u32) -> Vec<Step> {
    let nft =
        |table: &str| Step::Nft { generation, family: TableFamily::Inet, table: table.into(), inserts: accept("in") };
    let iptables =
        |backend| Step::Iptables { backend, family: Family::Ipv4, table: "filter".into(), inserts: accept("INPUT") };
    vec![nft("t"), iptables(Backend::Nft), nft("u"), iptables(Backend::Legacy)]
}

fn load_everywhere(host: &Host) {
    tool(host, "nft", &["-f", "-"], BOTH);
    tool(host, "nft", &["-f", "-"], &BOTH.replace("inet t", "inet u"));
    for program in ["iptables-nft-restore", "iptables-legacy-restore"] {
        tool(host, program, &[], SAVED);
    }
}

fn generation(snapshot: &Snapshot) -> u32 {
    snapshot.firewall.nft.present().unwrap().generation
}

#[test]
fn steps_on_both_back_ends_are_made_and_taken_back() {
    if !root("steps on both back-ends") {
        return;
    }
    scratch(|host, state| {
        load_everywhere(host);
        let before = rulesets(host);
        let seen = seen(host);
        let applied = make(host, state, &seen, everywhere(generation(&seen))).unwrap();
        let after = rulesets(host);
        let tag = format!("ssh-rescue:{}", applied.plan().id);
        // nft lists the table of iptables-nft, too, its comment with it or not.
        let tagged = after.iter().filter(|l| l.contains(&tag) && !l.contains("xt match")).count();
        assert!(tagged >= 4, "{after:#?}");
        undone(host, state, &applied.plan().id);
        assert_eq!(rulesets(host), before);
        assert_eq!(history(&Host::live(), state).unwrap().entries[0].phase, Phase::Undone);
    });
}

#[test]
fn somebody_who_was_faster_makes_it_look_again() {
    if !root("somebody faster") {
        return;
    }
    for (program, args) in [
        ("nft", ["add", "rule", "inet", "u", "in", "drop"].as_slice()),
        ("iptables-legacy", ["-A", "INPUT", "-j", "DROP"].as_slice()),
    ] {
        scratch(|host, state| {
            load_everywhere(host);
            let seen = seen(host);
            tool(host, program, args, "");
            let before = rulesets(host);
            let error = make(host, state, &seen, everywhere(generation(&seen))).unwrap_err();
            assert!(matches!(error, ssh_rescue::apply::ApplyError::Moved(_)), "{}", chain(&error));
            assert_eq!(rulesets(host), before, "{program}");
        });
    }
}

#[test]
fn a_lock_that_another_keeps_is_told_with_its_holder_and_nothing_is_half_done() {
    if !root("a held lock") {
        return;
    }
    scratch(|host, state| {
        load_everywhere(host);
        let before = rulesets(host);
        let seen = seen(host);
        let file = std::fs::File::create("/run/xtables.lock").unwrap();
        let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
        let error = chain(&make(host, state, &seen, everywhere(generation(&seen))).unwrap_err());
        assert!(error.contains(&format!("process {} ", std::process::id())), "{error}");
        assert_eq!(history(&Host::live(), state).unwrap().entries[0].phase, Phase::RolledBack);
        drop(lock);
        assert_eq!(rulesets(host), before);
    });
}

/// Puts a script in the place of a program, in this thread's mount namespace alone; the program goes to /run/real.
fn instead(program: &str, script: &str) {
    use nix::mount::{MsFlags, mount};
    let none: Option<&str> = None;
    let real = std::fs::canonicalize(program).unwrap();
    std::fs::copy(&real, "/run/real").unwrap();
    std::fs::write("/run/fake", format!("#!/bin/bash\n{script}\n")).unwrap();
    std::fs::set_permissions("/run/fake", std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    mount(Some("/run/fake"), &real, none, MsFlags::MS_BIND, none).unwrap();
}

fn broken(script: &str) {
    instead(
        "/usr/sbin/iptables-legacy-restore",
        &format!("case $0 in */iptables-legacy-restore) {script};; *) exec -a \"$0\" /run/real \"$@\";; esac"),
    );
}

#[test]
fn a_tool_that_fails_hangs_or_talks_nonsense_leaves_nothing() {
    if !root("broken tools") {
        return;
    }
    let nonsense = "head -c 9999 /dev/urandom; head -c 999 /dev/urandom >&2";
    for (script, told) in [
        ("exit 3", "iptables-legacy-restore refuses"),
        ("exec sleep 60", "iptables-legacy-restore did not end"),
        ("kill -9 $$", "iptables-legacy-restore refuses"),
        (&format!("{nonsense}; exit 1"), "iptables-legacy-restore refuses"),
        // It says that all is well, and has done nothing.
        (nonsense, "the rule is not in INPUT"),
    ] {
        scratch(|host, state| {
            load_everywhere(host);
            let before = rulesets(host);
            let seen = seen(host);
            broken(script);
            let error = chain(&make(host, state, &seen, everywhere(generation(&seen))).unwrap_err());
            assert!(error.contains(told), "{script}: {error}");
            assert_eq!(rulesets(host), before, "{script}");
            assert_eq!(history(&Host::live(), state).unwrap().entries[0].phase, Phase::RolledBack, "{script}");
        });
    }
}

const ROLE: &str = "SSH_RESCUE_TEST_RULES";

/// Not a test of its own: what the process does that is to be killed, in the namespaces that it is started in.
#[test]
fn role() {
    if std::env::var_os(ROLE).is_some() {
        let (host, state) = (Host::live(), StateDir::at("/run/state", "/run/lock-of-ours"));
        let seen = seen(&host);
        let made = make(&host, &state, &seen, everywhere(generation(&seen)));
        std::process::exit(if made.is_ok() { 0 } else { 3 });
    }
}

/// Runs the role, killed at the `when`th such call of any of its threads or of a tool; gives what it ended with.
fn killed(call: &str, when: usize) -> std::process::ExitStatus {
    std::process::Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={when}")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "owners::role", "--nocapture", "--test-threads=1"])
        .env(ROLE, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn killed_between_rules_it_recovers() {
    if !root("kill between rules") || !installed("strace") {
        return;
    }
    let mut points = 0;
    for call in ["fsync", "renameat", "sendto", "setsockopt", "wait4"] {
        for when in 1..200 {
            let mut whole = false;
            scratch(|host, state| {
                load_everywhere(host);
                let before = rulesets(host);
                whole = killed(call, when).code() == Some(0);
                let recovered = ssh_rescue::record::recover(host, state).unwrap();
                let point = format!("killed at {call} {when}: {recovered:?}");
                assert!(!whole || recovered.len() == 1, "{point}");
                assert_eq!(rulesets(host), before, "{point}");
                let history = history(&Host::live(), state).unwrap();
                assert!(history.entries.iter().all(|e| e.phase == Phase::RolledBack), "{point}: {history:?}");
            });
            if whole {
                break;
            }
            points += 1;
        }
    }
    println!("{points} points");
    assert!(points > 40, "only {points} points");
}
