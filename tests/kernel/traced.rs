//! The kernel's own trace of a packet (`meta nftrace`), rule by rule, beside the judge's.

use std::io::{BufRead, BufReader};
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ssh_rescue::facts::Family;
use ssh_rescue::host::{Host, Scratch};
use ssh_rescue::judge::PathVerdict;
use ssh_rescue::judge::netfilter::{Met, Ports, trace};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net as observed;
use ssh_rescue::rehearse::layout::{Layout, set_up};
use ssh_rescue::rehearse::probe::{Listeners, ask};

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, net, root, tcp, tool};
use super::oracle::path;

const ARPHRD_NONE: u16 = 65534;

/// Every rule but the one that asks for the trace bears its name as a comment.
const RULES: &str = r#"
table inet early {
    chain first {
        type filter hook prerouting priority -400;
        tcp flags & (syn | ack) == syn meta nftrace set 1
    }
    chain marks {
        type filter hook prerouting priority mangle;
        ip saddr 10.1.0.0/16 meta mark set 7 comment "mark"
        ip saddr 10.2.0.0/16 accept comment "early accept"
    }
    chain nat {
        type nat hook prerouting priority dstnat;
        ip saddr 10.3.0.0/16 tcp dport 22 redirect to :2222 comment "redirect"
    }
}
table inet t {
    set known { type ipv4_addr; flags interval; elements = { 10.4.0.0/16, 10.5.0.0-10.5.0.9 }; }
    chain in {
        type filter hook input priority 0; policy drop;
        ct state established accept comment "established"
        ip6 nexthdr tcp fib saddr type blackhole drop comment "blackhole"
        ip6 nexthdr tcp fib saddr type prohibit drop comment "prohibit"
        ip6 nexthdr tcp fib saddr type unreachable drop comment "unreachable"
        ip6 nexthdr tcp fib saddr type anycast drop comment "anycast"
        counter comment "all"
        jump deep comment "deep"
        ip saddr vmap { 10.6.0.0/16 : jump more, 10.7.0.0/16 : goto more, 10.8.0.0/16 : drop } comment "by source"
        ip saddr @known accept comment "known"
        meta mark 7 return comment "marked"
        ip saddr 10.9.0.0/16 reject with tcp reset comment "reject"
        tcp dport 2222 accept comment "redirected"
        ip6 saddr 2001:db8:100::/64 accept comment "six"
    }
    chain deep {
        ip saddr 10.4.0.0/24 return comment "not these"
        jump deeper comment "deeper"
        ip saddr 10.5.0.0/16 counter comment "counted"
    }
    chain deeper {
        ip saddr 10.5.0.5 drop comment "one of them"
    }
    chain more {
        ip saddr 10.6.0.0/17 accept comment "half"
        meta mark set 9 comment "other mark"
    }
}
"#;
const ROUTES: &str = "route add blackhole 2001:db8:b::/64\nroute add prohibit 2001:db8:c::/64\n\
    route add unreachable 2001:db8:d::/64\nroute add 2001:db8:100::/64 dev eth0\n";

const SOURCES: [&str; 20] = [
    "10.1.0.1",
    "10.2.0.1",
    "10.3.0.1",
    "10.4.0.1",
    "10.4.1.1",
    "10.5.0.4",
    "10.5.0.5",
    "10.5.0.10",
    "10.6.0.1",
    "10.6.200.1",
    "10.7.0.1",
    "10.7.200.1",
    "10.8.0.1",
    "10.9.0.1",
    "2001:db8:b::1",
    "2001:db8:c::1",
    "2001:db8:d::1",
    "2001:db8:100::",
    "2001:db8:100::1",
    "2001:db8:200::1",
];
/// Its trace tells that those of the packets before it have all been read.
const LAST: &str = "10.10.0.1";

/// Chain, rule (or `policy`), verdict.
type Deed = (String, String, String);

/// `nft monitor trace` and the lines that it has printed; it ends with this.
struct Monitor {
    process: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Monitor {
    fn start() -> Monitor {
        let mut command = Command::new("nft");
        let mut process = command.args(["monitor", "trace"]).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (send, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).all(|line| send.send(line).is_ok()));
        Monitor { process, lines, seen: Vec::new() }
    }

    /// Reads until the policy of `t in` has decided about a packet of the source.
    fn until(&mut self, source: &str, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        while let Ok(line) = self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
            if self.deeds(source).last().is_some_and(|(chain, rule, _)| chain == "in" && rule == "policy") {
                return true;
            }
        }
        false
    }

    /// What became of the first packet of the source: `trace id 92af6429 inet t in rule … comment "all" (verdict accept)`.
    fn deeds(&self, source: &str) -> Vec<Deed> {
        let of_source = |line: &&String| line.contains(" packet: ") && line.contains(&format!("saddr {source} "));
        let Some(id) = self.seen.iter().find(of_source).and_then(|line| line.split(' ').nth(2)) else {
            return Vec::new();
        };
        let own = |line: &String| {
            let mut words = line.split(' ');
            if words.nth(2) != Some(id) {
                return None;
            }
            let chain = words.nth(2)?.to_owned();
            let (kind, rest) = (words.next()?, words.collect::<Vec<_>>().join(" "));
            match kind {
                "rule" => {
                    let name = rest.split('"').rev().nth(1).filter(|_| rest.contains("comment"))?.to_owned();
                    let verdict = rest.rsplit_once("(verdict ")?.1.trim_end_matches([')', ' ']).to_owned();
                    Some((chain, name, verdict))
                }
                "policy" => Some((chain, "policy".to_owned(), rest.split(' ').next()?.to_owned())),
                _ => None,
            }
        };
        self.seen.iter().filter_map(own).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

/// The judge's deeds in the words of the kernel's trace, as far as the end of input.
fn judged(met: &[Met]) -> Vec<Deed> {
    // A rule with several effects is told of each; the last of them is what the kernel tells.
    let again = |m: &Met, next: &Met| m.position.is_some() && (&m.chain, m.position) == (&next.chain, next.position);
    let first: Vec<&Met> = met.iter().filter(|m| m.packet == "syn").collect();
    let last = first.iter().enumerate().filter(|(n, m)| first.get(n + 1).is_none_or(|next| !again(m, next)));
    let named = last.filter_map(|(_, m)| {
        let rule = match m.position {
            Some(_) => m.rule.split('"').rev().nth(1).filter(|_| m.rule.contains("comment"))?.to_owned(),
            None => "policy".to_owned(),
        };
        let verdict = match m.deed.as_str() {
            "goes on" => "continue",
            "sends it elsewhere" => "accept",
            "reject" => "drop",
            deed => deed,
        };
        Some((m.chain.clone(), rule, verdict.to_owned()))
    });
    named.collect()
}

/// Listens, and sends the first packet of a source.
fn send(layout: &mut Layout, listeners: &Listeners, source: &str, port: u16) {
    ask(&mut layout.uplinks[0], listeners, &[tcp(source, port, 22)]).unwrap();
}

#[test]
fn the_rules_of_the_kernels_own_trace_are_those_that_the_judge_walks() {
    if !root("trace") {
        return;
    }
    let inside = |host: &Host| {
        let mut layout = set_up(host, &net(ARPHRD_NONE), &[IFINDEX], &[])?;
        tool(host, "ip", &["-batch", "-"], ROUTES);
        tool(host, "nft", &["-f", "-"], RULES);
        let (rules, net) = (firewall(host), observed(host));
        let listeners = Listeners::open(&[22, 2222], &[]).unwrap();
        let mut monitor = Monitor::start();
        let begun = (0..60).any(|n| {
            send(&mut layout, &listeners, "10.11.0.1", 40000 + n);
            monitor.until("10.11.0.1", Duration::from_secs(2))
        });
        assert!(begun, "the kernel's trace is not told");
        for source in SOURCES.iter().chain([&LAST]) {
            send(&mut layout, &listeners, source, 41000);
        }
        assert!(monitor.until(LAST, Duration::from_secs(60)), "{:?}", monitor.seen);
        let ports = Ports { ssh: vec![22, 2222], ..Ports::default() };
        let verdicts = SOURCES.map(|source| {
            let from: IpAddr = source.parse().unwrap();
            let to = if from.is_ipv4() { ADDRESS4 } else { ADDRESS6 };
            let path = path(Family::of(from), to, &net);
            let (met, verdict) = trace(&rules, &net, &path, &[], &ports, from);
            (source, monitor.deeds(source), judged(&met), verdict)
        });
        Ok(verdicts)
    };
    for (source, kernel, judge, verdict) in Host::live().scratch(Scratch::Network, inside).unwrap() {
        assert!(kernel.len() > 3, "{source}: {kernel:?}");
        assert_eq!(judge, kernel, "{source}");
        blames_the_last(source, &kernel, &verdict);
    }
}

/// Where the kernel's trace ends in a drop, that rule or policy is the one that is blamed.
fn blames_the_last(source: &str, kernel: &[Deed], verdict: &PathVerdict) {
    let Some((chain, rule, _)) = kernel.last().filter(|(.., verdict)| verdict == "drop") else { return };
    let [blocked] = verdict.blocked.as_slice() else { panic!("{source}: {verdict:?}") };
    let words = blocked.by.rule.as_deref().unwrap_or_default();
    assert_eq!(blocked.by.rule_ref.as_ref().map(|r| &*r.chain), Some(chain.as_str()), "{source}");
    let named = if rule == "policy" { words == "policy drop" } else { words.contains(&format!("\"{rule}\"")) };
    assert!(named, "{source}: {words}, not {rule}");
}
