//! Where a plausible model and the kernel differ: each line asks the kernel.

use ssh_rescue::host::{Call, Host, Scratch};
use ssh_rescue::rehearse::layout::set_up;
use ssh_rescue::rehearse::probe::Answer::{self, HalfOpen, Open, Reset, Silent};
use ssh_rescue::rehearse::probe::{Listeners, ask};

use super::common::{IFINDEX, net, root, tcp};

pub struct Line {
    pub name: &'static str,
    /// Tool and its input. `in:` before rules stands for an inet table with one chain on the input hook at priority 0.
    pub scripts: &'static [(&'static str, &'static str)],
    /// One source after the other, in this order.
    pub expected: &'static [(&'static str, Answer)],
}

const A: &str = "198.51.100.7";
const B: &str = "203.0.113.9";
const SIX: &str = "2001:db8:100::7";

macro_rules! line {
    ($name:literal, $rules:literal, $($source:ident: $answer:expr),+) => {
        Line { name: $name, scripts: &[("nft", $rules)], expected: &[$(($source, $answer)),+] }
    };
}

pub const LINES: &[Line] = &[
    line!(
        "an accept ends its own base chain only",
        "table inet a { chain x { type filter hook input priority -10; accept; }; }
         table inet b { chain x { type filter hook input priority 0; drop; }; }",
        A: Silent
    ),
    line!(
        "a drop is final",
        "table inet a { chain x { type filter hook input priority -10; drop; }; }
         table inet b { chain x { type filter hook input priority 0; accept; }; }",
        A: Silent
    ),
    Line {
        name: "legacy drops what nf_tables accepts",
        scripts: &[("nft", "in: accept"), ("iptables-legacy-restore", "*filter\n:INPUT DROP [0:0]\nCOMMIT\n")],
        expected: &[(A, Silent), (SIX, Open(22))],
    },
    Line {
        name: "nf_tables drops what legacy accepts",
        scripts: &[("nft", "in: drop"), ("iptables-legacy-restore", "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n")],
        expected: &[(A, Silent)],
    },
    line!("the answer matters", "table inet t { chain x { type filter hook output priority 0; policy drop; }; }", A: Silent),
    line!(
        "an untracked packet is not new",
        "table inet r { chain x { type filter hook prerouting priority -300; ip saddr 198.51.100.7 notrack; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new accept; }; }",
        A: Silent, B: HalfOpen(22)
    ),
    line!(
        "notrack counts for the same rule's later matches",
        "table inet r { chain x { type filter hook prerouting priority -300; policy drop; notrack ct state untracked accept; }; }",
        A: Open(22)
    ),
    line!(
        "notrack does nothing where an entry exists",
        "table inet r { chain x { type filter hook prerouting priority -100; notrack; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new accept; }; }",
        A: Open(22)
    ),
    line!(
        "before conntrack every packet is invalid",
        "table inet r { chain x { type filter hook prerouting priority -300; ct state invalid drop; }; }",
        A: Silent
    ),
    line!(
        "a ct key without an entry breaks the rule, and set does nothing",
        "table inet r { chain x { type filter hook prerouting priority -300; ct mark set 1; ct mark != 5 drop; }; }
         table inet t { chain x { type filter hook input priority 0; ct mark 1 drop; }; }",
        A: Open(22)
    ),
    line!(
        "goto does not come back to its caller's next rule",
        "table inet t { chain c { counter; }
                        chain x { type filter hook input priority 0; policy drop; goto c; accept; }; }",
        A: Silent
    ),
    line!(
        "a jump comes back",
        "table inet t { chain c { counter; }
                        chain x { type filter hook input priority 0; policy drop; jump c; accept; }; }",
        A: Open(22)
    ),
    line!(
        "a goto in a called chain returns to the caller of that chain",
        "table inet t { chain b { counter; }
                        chain a { goto b; drop; }
                        chain x { type filter hook input priority 0; policy drop; jump a; accept; }; }",
        A: Open(22)
    ),
    line!("return in a base chain is its policy", "in: policy drop; return; accept", A: Silent),
    Line {
        name: "RETURN in a base chain of x_tables is its policy",
        scripts: &[(
            "iptables-legacy-restore",
            "*filter\n:INPUT DROP [0:0]\n-A INPUT -j RETURN\n-A INPUT -j ACCEPT\nCOMMIT\n",
        )],
        expected: &[(A, Silent)],
    },
    Line {
        name: "-g does not come back",
        scripts: &[(
            "iptables-legacy-restore",
            "*filter\n:INPUT DROP [0:0]\n:c - [0:0]\n-A INPUT -g c\n-A INPUT -j ACCEPT\nCOMMIT\n",
        )],
        expected: &[(A, Silent)],
    },
    line!("a bare tcp flag is a bit", "table inet t { chain x { type filter hook output priority 0; tcp flags syn drop; }; }", A: Silent),
    line!("flags in braces are exact", "table inet t { chain x { type filter hook output priority 0; tcp flags { syn, ack } drop; }; }", A: Open(22)),
    line!("a single flag in braces is a bit to nft", "table inet t { chain x { type filter hook output priority 0; tcp flags { syn } drop; }; }", A: Silent),
    line!("flags with a comma are a mask", "in: tcp flags syn,ack drop", A: Silent),
    line!("ct state with a comma is a mask", "in: policy drop; ct state established,new accept", A: Open(22)),
    line!("ct state in braces is a set", "in: policy drop; ct state { established, related } accept", A: Silent),
    line!("iifname is a padded name", "in: iifname \"eth\" drop", A: Open(22)),
    line!("a wildcard in iifname shortens it", "in: iifname \"eth*\" drop", A: Silent),
    line!("iif is a number", "in: iif 77 drop", A: Silent),
    line!("no MAC header: neither equal nor different", "in: ether saddr != 02:00:00:00:00:77 drop; ether saddr 02:00:00:00:00:77 drop", A: Open(22)),
    line!("an absent extension header breaks the rule", "in: frag id != 0 drop", SIX: Open(22), A: Open(22)),
    line!("an absent tcp option breaks the rule", "in: tcp option md5sig length != 0 drop", A: Open(22)),
    line!("a match of another protocol guards itself", "in: udp dport != 22 drop", A: Open(22)),
    line!("a match of another family guards itself", "in: ip saddr != 192.0.2.99 drop", A: Silent, SIX: Open(22)),
    line!(
        "marks are in the host's order, ranges too",
        "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 meta mark set 0x100; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark 0x80-0x180 drop; }; }",
        A: Silent, B: Open(22)
    ),
    line!(
        "marks in an interval set",
        "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 meta mark set 0x100; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark { 0x1-0x2, 0x80-0x180 } drop; }; }",
        A: Silent, B: Open(22)
    ),
    line!(
        "a mark that is set later is not seen before",
        "table inet t { chain late { type filter hook input priority 10; meta mark set 1; }
                        chain x { type filter hook input priority 0; meta mark 1 drop; }; }",
        A: Open(22)
    ),
    line!(
        "concatenations are matched field by field",
        "in: ip saddr . tcp dport { 198.51.100.0/24 . 20-25, 203.0.113.0/24 . 30-40 } drop",
        A: Silent, B: Open(22)
    ),
    line!("verdict maps take intervals", "in: tcp dport vmap { 1-21 : accept, 22-30 : drop }", A: Silent),
    line!("a limit is consumed", "in: limit rate 1/hour burst 2 packets accept; drop", A: Open(22), A: Open(22), A: Silent),
    line!("over inverts a limit", "in: limit rate over 1/hour burst 2 packets drop", A: Open(22), A: Open(22), A: Silent),
    line!(
        "a limit is consumed only where the matches before it hold",
        "in: ip saddr 198.51.100.7 limit rate 1/hour burst 1 packets accept; drop",
        B: Silent, B: Silent, A: Open(22), A: Silent
    ),
    line!("quota counts bytes", "in: quota 100 bytes accept; drop", A: Open(22), A: Silent),
    line!("numgen inc is shared", "in: numgen inc mod 2 0 drop", A: Silent, B: Open(22), A: Silent),
    line!(
        "a redirected connection has the new port on input",
        "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; tcp dport 22 drop; }; }",
        A: Open(2222)
    ),
    line!(
        "a redirected connection is barred by the new port",
        "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; tcp dport 2222 drop; }; }",
        A: Silent
    ),
    line!(
        "a redirect to a port without a listener is refused",
        "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2223; }; }",
        A: Reset
    ),
    line!(
        "ct status dnat lets a forwarded port in",
        "table inet n { chain x { type nat hook prerouting priority -100; ip saddr 198.51.100.7 tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct status dnat accept; }; }",
        A: Open(2222), B: Silent
    ),
    line!(
        "the original port is kept by conntrack",
        "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; meta l4proto tcp ct original proto-dst 22 drop; }; }",
        A: Silent
    ),
    line!("fib types are in the host's order", "in: fib daddr type local drop", A: Silent),
    line!("a source with a route back is not missing", "in: fib saddr . iif oif missing drop", A: Open(22)),
    line!(
        "ingress comes before everything",
        "table netdev n { chain x { type filter hook ingress device \"eth0\" priority 0; ip saddr 198.51.100.7 drop; }; }
         table inet t { chain x { type filter hook prerouting priority -400; accept; }; }",
        A: Silent, B: Open(22)
    ),
    line!("a dormant table does nothing", "table inet t { flags dormant; chain x { type filter hook input priority 0; drop; }; }", A: Open(22)),
    line!(
        "an element that a rule adds is seen by the next",
        "table inet t { set s { type ipv4_addr; flags dynamic; size 100; }
                        chain x { type filter hook input priority 0; ip saddr 198.51.100.7 update @s { ip saddr }; ip saddr @s drop; }; }",
        A: Silent, B: Open(22)
    ),
    line!("a queue that nobody reads drops", "in: queue num 7", A: Silent),
    line!("a queue that nobody reads and that is bypassed accepts", "in: queue flags bypass to 7; drop", A: Open(22)),
    line!(
        "of chains of one priority the one made last comes first",
        "table inet t { chain x { type filter hook input priority 0; ip saddr 198.51.100.7 meta mark set 1; meta mark 2 drop; }
                        chain y { type filter hook input priority 0; ip saddr 203.0.113.9 meta mark set 2; meta mark 1 drop; }; }",
        A: Open(22), B: Silent
    ),
    Line {
        name: "a negated protocol in x_tables",
        scripts: &[("iptables-nft-restore", "*filter\n-A INPUT ! -p udp -j DROP\nCOMMIT\n")],
        expected: &[(A, Silent), (SIX, Open(22))],
    },
    Line {
        name: "before conntrack every packet is invalid to x_tables",
        scripts: &[("iptables-legacy-restore", "*raw\n-A PREROUTING -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n")],
        expected: &[(A, Silent)],
    },
    Line {
        name: "the brute-force guard of recent lets the first ones in",
        scripts: &[(
            "iptables-legacy-restore",
            "*filter\n-A INPUT -m recent --name s --set\n-A INPUT -m recent --name s --update --seconds 60 --hitcount 3 -j DROP\nCOMMIT\n",
        )],
        expected: &[(A, Open(22)), (A, Open(22)), (A, Silent), (B, Open(22))],
    },
];

#[test]
fn the_kernel_does_what_each_line_says() {
    if !root("lines") {
        return;
    }
    let (mut wrong, mut skipped) = (Vec::new(), 0);
    for line in LINES {
        let answers = Host::live()
            .scratch(Scratch::NetworkAndRun, |host| {
                let mut layout = set_up(host, &net(65534), &[IFINDEX], &[])?;
                if !load(host, line) {
                    return Ok(None);
                }
                let listeners = Listeners::open(&[22, 2222], &[]).unwrap();
                let flows = line.expected.iter().enumerate().map(|(n, (source, _))| tcp(source, 40000 + n as u16, 22));
                let flows: Vec<_> = flows.collect();
                Ok(Some(ask(&mut layout.uplinks[0], &listeners, &flows).unwrap()))
            })
            .unwrap();
        let Some(answers) = answers else {
            println!("SKIPPED {}: this kernel has not what it needs", line.name);
            skipped += 1;
            continue;
        };
        let expected: Vec<_> = line.expected.iter().map(|(_, answer)| *answer).collect();
        if answers != expected {
            wrong.push(format!("{}: expected {expected:?}, the kernel says {answers:?}", line.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(skipped <= 4, "{skipped} lines skipped");
}

/// Loads the rules of a line in the calling thread's namespace. False where the kernel has no such expression.
pub fn load(host: &Host, line: &Line) -> bool {
    for (program, text) in line.scripts {
        let text = match text.strip_prefix("in: ") {
            Some(rules) => format!("table inet t {{ chain x {{ type filter hook input priority 0; {rules}; }}; }}\n"),
            None => format!("{text}\n"),
        };
        let args: &[&str] = if *program == "nft" { &["-f", "-"] } else { &[] };
        let output = host.run(&Call { stdin: text.as_bytes(), ..Call::new(program, args) }).unwrap();
        if output.complaint().contains("No such file or directory") {
            return false;
        }
        assert!(output.ok(), "{}: {}", line.name, output.complaint());
    }
    true
}
