//! Neighbour discovery of a client that is on the host's own link: whether it finds the host is asked of the kernel, and
//! `explain` draws its question and the answer.

use std::fs::File;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use ssh_rescue::chain;
use ssh_rescue::host::{Call, Dialled, Host, Scratch, dial};

use super::common::root;

const PROGRAM: &str = env!("CARGO_BIN_EXE_ssh-rescue");
const HOST: &str = "2001:db8:2::10";
const NEAR: &str = "2001:db8:2::77";

/// The rules alone are judged: nobody listens.
const POLICY: &str = "[sshd]\nmode = \"off\"\n[wrappers]\nmode = \"off\"\n";

/// A network namespace that lives as long as its only process.
struct Peer(Child);

impl Peer {
    fn start() -> Peer {
        let mut command = Command::new("unshare");
        // It says something when it is in its namespace.
        command.args(["--net", "--kill-child", "--fork", "sh", "-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        Peer(child)
    }

    /// The process in the namespace: the child of the one that was started.
    fn pid(&self) -> String {
        let children = format!("/proc/{0}/task/{0}/children", self.0.id());
        std::fs::read_to_string(children).unwrap().trim().to_owned()
    }

    /// Whether a client there reaches the host: a port where nobody listens refuses it.
    fn reaches(&self) -> bool {
        let namespace = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let visit = move || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let target = SocketAddr::new(HOST.parse().unwrap(), 22);
            let patience = Duration::from_millis(1200);
            matches!(dial(NEAR.parse().unwrap(), target, patience, patience), Ok(Dialled::Refused(_)))
        };
        thread::spawn(visit).join().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool(host: &Host, program: &str, args: &str, stdin: &str) -> String {
    let args: Vec<&str> = args.split(' ').collect();
    let output = host.run(&Call { stdin: stdin.as_bytes(), ..Call::new(program, &args) }).unwrap();
    assert!(output.ok(), "{program} {args:?}: {}", output.complaint());
    String::from_utf8(output.stdout).unwrap()
}

/// A host with these rules and a client on its link; the policy is in a file.
fn with_rules(rules: &str, work: impl FnOnce(&Host, &Peer, &str) + Send) {
    Host::live()
        .scratch(Scratch::Network, |host| {
            let peer = Peer::start();
            let pid = peer.pid();
            let run = |args: &str| tool(host, "ip", args, "");
            let there = |args: &str| tool(host, "nsenter", &format!("-t {pid} -n ip {args}"), "");
            run(&format!("link add eth0 type veth peer name uplink netns {pid}"));
            for set in ["link set lo up", "link set eth0 up"] {
                run(set);
            }
            there("link set uplink up");
            run(&format!("addr add {HOST}/64 dev eth0 nodad"));
            there(&format!("addr add {NEAR}/64 dev uplink nodad"));
            run("route add default via 2001:db8:2::1 dev eth0");
            if !rules.is_empty() {
                tool(host, "nft", "-f -", rules);
            }
            let policy = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(policy.path(), POLICY).unwrap();
            work(host, &peer, policy.path().to_str().unwrap());
            Ok(())
        })
        .unwrap_or_else(|e| panic!("{}", chain(&e)));
}

fn asked(host: &Host, policy: &str, args: &[&str]) -> Value {
    let args = [&["--policy", policy, "--json"], args].concat();
    let output = host.run(&Call::new(PROGRAM, &args)).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", output.complaint()))
}

const INPUT: &str = "table inet t { chain in { type filter hook input priority 0; policy drop; tcp dport 22 accept; ";

#[test]
fn who_is_on_the_link_asks_for_the_host_and_that_is_drawn() {
    if !root("neighbours on the link") {
        return;
    }
    // The rules, the states of question and answer, how it ends, and a finding.
    let limited = "icmpv6 type nd-neighbor-solicit limit rate 50/second accept; }; }";
    let by_routers = "icmpv6 type nd-neighbor-solicit ip6 saddr fe80::/10 accept; }; }";
    let strange = "icmpv6 type nd-neighbor-solicit meta time > \"2020-01-01\" accept; }; }";
    let one = format!(
        "icmpv6 type nd-neighbor-solicit ip6 saddr {NEAR} drop; icmpv6 type nd-neighbor-solicit accept; }}; }}"
    );
    let answer = format!(
        "table inet t {{ chain out {{ type filter hook output priority 0; icmpv6 type nd-neighbor-advert ip6 daddr {NEAR} drop; }}; }}"
    );
    let input = |rest: &str| format!("{INPUT}{rest}");
    let doubt = Some("firewall.neighbours.conditional");
    for (rules, legs, end, finding) in [
        (String::new(), vec![], "passed", None),
        (input("icmpv6 type nd-neighbor-solicit accept; }; }"), vec!["passed", "passed"], "passed", None),
        (input(limited), vec!["conditional", "passed"], "conditional", doubt),
        (input(strange), vec!["conditional", "passed"], "conditional", doubt),
        (input(by_routers), vec!["blocked", "not-reached"], "conditional", doubt),
        (input(&one), vec!["blocked", "not-reached"], "conditional", doubt),
        (answer, vec!["passed", "blocked"], "conditional", doubt),
        (input("}; }"), vec!["blocked", "not-reached"], "blocked", Some("firewall.neighbours.drop")),
    ] {
        with_rules(&rules, |host, peer, policy| {
            let told = asked(host, policy, &["explain", NEAR]);
            let way = &told["ways"][0];
            let none = Vec::new();
            let drawn = way["neighbours"].as_array().unwrap_or(&none);
            let states: Vec<&str> = drawn.iter().map(|leg| leg["state"].as_str().unwrap()).collect();
            assert_eq!(states, legs, "{rules}: {told:#}");
            assert_eq!(way["end"]["state"], end, "{rules}: {told:#}");
            assert!(drawn.iter().all(|leg| leg["from"].is_null()), "{rules}: {told:#}");
            let judged = asked(host, policy, &["check"]);
            let codes: Vec<&str> =
                judged["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
            let about: Vec<&str> = codes.into_iter().filter(|c| c.contains("neighbours")).collect();
            assert_eq!(about, finding.into_iter().collect::<Vec<_>>(), "{rules}: {judged:#}");
            assert_eq!(peer.reaches(), !legs.contains(&"blocked"), "{rules}");
        });
    }
}

#[test]
fn the_question_of_a_neighbour_is_drawn_where_it_decides() {
    if !root("the picture of neighbour discovery") {
        return;
    }
    let (far, rules) = ("2001:db8:ffff::1", format!("{INPUT}}}; }}"));
    let picture = |host: &Host, policy: &str, source: &str| {
        let args = ["--policy", policy, "explain", source];
        String::from_utf8(host.run(&Call::new(PROGRAM, &args)).unwrap().stdout).unwrap()
    };
    with_rules(&rules, |host, _, policy| {
        insta::assert_snapshot!("lost_behind_a_router", picture(host, policy, far));
        insta::assert_snapshot!("lost_on_the_link", picture(host, policy, NEAR));
        let folder = tempfile::tempdir().unwrap();
        let svg = folder.path().join("way.svg");
        host.run(&Call::new(PROGRAM, &["--policy", policy, "explain", far, "--svg", svg.to_str().unwrap()])).unwrap();
        let svg = std::fs::read_to_string(svg).unwrap();
        assert!(svg.contains(">NS in</text>") && svg.contains("neighbour solicitation by fe80::1"), "{svg}");
    });
    let accepted = format!("{INPUT}icmpv6 type nd-neighbor-solicit accept; }}; }}");
    with_rules(&accepted, |host, _, policy| {
        insta::assert_snapshot!("found_on_the_link", picture(host, policy, NEAR));
        assert!(!picture(host, policy, far).contains("NS in"), "a source behind a router that finds the host");
    });
}
