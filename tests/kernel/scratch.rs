//! Scratch namespaces and probes.

use std::time::Duration;

use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::probe::{Answer, Listeners, ask};

use super::common::{IFINDEX, net, root, tcp, tool, udp};

const RULES: &str = "
table inet t {
    chain in {
        type filter hook input priority filter; policy drop;
        iif 77 ip saddr 198.51.100.0/24 tcp dport 22 accept
        iifname eth0 ip6 saddr 2001:db8:100::/64 tcp dport 22 accept
        ip saddr 203.0.113.1 tcp dport 22 reject with tcp reset
        ip saddr 203.0.113.2 reject with icmp admin-prohibited
        ip6 saddr 2001:db8:bad::1 reject
        ip saddr 203.0.113.3 udp dport 53 accept
        ip saddr 203.0.113.4 tcp dport { 22, 2222 } accept
        ip saddr 203.0.113.5 accept
    }
    chain out {
        type filter hook output priority filter;
        ip daddr 203.0.113.5 tcp flags & (syn | ack) == syn | ack drop
    }
    chain nat {
        type nat hook prerouting priority dstnat;
        ip saddr 203.0.113.4 tcp dport 22 redirect to :2222
    }
}";

fn answers(kind: u16) -> Vec<Answer> {
    Host::live()
        .scratch(Scratch::Network, |host| {
            let mut layout = set_up(host, &net(kind), &[IFINDEX], &[])?;
            assert_eq!(layout.missing, Vec::<String>::new());
            tool(host, "nft", &["-f", "-"], RULES);
            let listeners = Listeners::open(&[22, 2222], &[53]).unwrap();
            let flows = [
                tcp("198.51.100.255", 40001, 22),
                tcp("198.51.101.0", 40002, 22),
                tcp("2001:db8:100::1", 40003, 22),
                tcp("2001:db8:101::1", 40004, 22),
                tcp("203.0.113.1", 40005, 22),
                tcp("203.0.113.2", 40006, 22),
                tcp("2001:db8:bad::1", 40007, 22),
                udp("203.0.113.3", 40008, 53),
                udp("203.0.113.1", 40009, 53),
                tcp("203.0.113.4", 40010, 22),
                tcp("203.0.113.5", 40011, 22),
                tcp("203.0.113.5", 40012, 23),
            ];
            Ok(ask(&mut layout.uplinks[0], &listeners, &flows).unwrap())
        })
        .unwrap()
}

fn expected() -> Vec<Answer> {
    vec![
        Answer::Open(22),
        Answer::Silent,
        Answer::Open(22),
        Answer::Silent,
        Answer::Reset,
        Answer::Icmp(3, 13),
        Answer::Icmp(1, 4),
        Answer::Open(53),
        Answer::Silent,
        Answer::Open(2222),
        Answer::Silent,
        Answer::Reset,
    ]
}

#[test]
fn a_probe_tells_open_refused_dropped_and_led_elsewhere_on_a_bare_ip_link() {
    if root("bare ip link") {
        assert_eq!(answers(65534), expected());
    }
}

#[test]
fn a_probe_tells_open_refused_dropped_and_led_elsewhere_on_ethernet() {
    if root("ethernet") {
        assert_eq!(answers(1), expected());
    }
}

#[test]
fn ten_thousand_sources_are_each_answered() {
    if !root("ten thousand sources") {
        return;
    }
    Host::live()
        .scratch(Scratch::Network, |host| {
            let mut layout = set_up(host, &net(65534), &[IFINDEX], &[])?;
            let listeners = Listeners::open(&[22], &[]).unwrap();
            let flows: Vec<_> = (0..10_000u32)
                .map(|n| tcp(&std::net::Ipv4Addr::from(0x0b00_0000 + n * 7).to_string(), 40000 + (n % 1000) as u16, 22))
                .collect();
            let start = std::time::Instant::now();
            let answers = ask(&mut layout.uplinks[0], &listeners, &flows).unwrap();
            println!("{:.0} SYN/s", 10_000.0 / start.elapsed().as_secs_f64());
            assert!(answers.iter().all(|a| *a == Answer::Open(22)));
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_scratch_namespace_has_a_lock_of_iptables_legacy_of_its_own() {
    if !root("the lock of iptables-legacy in a scratch namespace") {
        return;
    }
    use nix::fcntl::{Flock, FlockArg};
    let writes = |host: &Host| {
        let args = ["-A", "INPUT", "-j", "DROP"];
        // Some versions wait for the lock, others give up at once.
        let call = Call { deadline: Duration::from_secs(1), ..Call::new("iptables-legacy", &args) };
        host.run(&call).is_ok_and(|output| output.ok())
    };
    // The /run of a scratch host stands for the live one.
    let inside = |host: &Host| {
        let file = std::fs::File::create("/run/xtables.lock").unwrap();
        let _held = Flock::lock(file, FlockArg::LockExclusiveNonblock).expect("a lock that nobody has");
        assert!(!writes(host), "the lock does not count here");
        assert!(host.scratch(Scratch::Network, |copy| Ok(writes(copy)))?, "it waits for the live lock");
        Ok(())
    };
    Host::live().scratch(Scratch::Host, inside).unwrap();
}
