//! Lines about first connections: the judge says what becomes of one, or that it does not know.

use ssh_rescue::rehearse::probe::Answer::{HalfOpen, Open, Silent};

use super::lines::{A, B, IPTABLES, Line, NFT, line};

pub const LINES: &[Line] = &[
    line!("what a rule has set the next one finds", [IPTABLES "in: -m recent --name s --set; -m recent --name s --rcheck --hitcount 1 -j DROP"],
        A: Silent; first "recent"),
    line!("every packet is in the list once more", [IPTABLES "in: -m recent --name s --set; -m recent --name s --rcheck --hitcount 2 -j DROP"],
        A: HalfOpen(22); conditional "recent"),
    line!("an update that matches is a hit, too",
        [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m recent --name s --set; -m recent --name s --update -j LOG; -m recent --name s --rcheck --hitcount 2 -j DROP"],
        A: Silent; first "recent"),
    line!("an update that does not match is none",
        [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m recent --name s --set; -m recent --name s --update --hitcount 2 -j LOG; -m recent --name s --rcheck --hitcount 2 -j DROP"],
        A: Open(22), A: Silent; first "recent"),
    line!("nobody has knocked", [IPTABLES "*filter\n:INPUT DROP [0:0]\n-A INPUT -m state --state ESTABLISHED -j ACCEPT\n-A INPUT -m recent --name k --rcheck --seconds 30 -j ACCEPT\nCOMMIT\n"],
        A: Silent; first "recent"),
    line!("who is not in a list of bad ones", [IPTABLES "in: -m recent --name k ! --rcheck -j ACCEPT; -j DROP"], A: Open(22); first "recent"),
    line!("nobody is there to remove", [IPTABLES "in: -m recent --name k --remove -j DROP"], A: Open(22); first "recent"),
    line!("what was removed is not found",
        [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m recent --name k --set; -m recent --name k --remove; -m recent --name k --rcheck -j DROP"], A: Open(22); first "recent"),
    line!("a set that is inverted notes, and does not match",
        [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m recent --name k ! --set -j DROP; -m recent --name k --rcheck -j DROP"], A: Silent; first "recent"),
    line!("a list that is kept by networks", [IPTABLES "in: -m recent --name k --mask 255.255.255.0 --rcheck -j DROP"],
        A: Open(22); conditional "--mask 255.255.255.0"),
    line!("a list of the host's addresses", [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m recent --name k --rdest --rcheck -j DROP; -m recent --name k --rdest --set"],
        A: Open(22), B: Silent; conditional "recent"),
    line!("the ACK draws on a limit of x_tables, too", [IPTABLES "in: -m limit --limit 1/hour --limit-burst 1 -j ACCEPT; -j DROP"],
        A: HalfOpen(22); conditional "limit"),
    line!("two rules have a limit each", [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m limit --limit 1/hour --limit-burst 1 -j MARK --set-mark 1; -m mark --mark 1 -m limit --limit 1/hour --limit-burst 1 -j ACCEPT; -j DROP"],
        A: Open(22), A: Silent; first "limit"),
    line!("hashlimit, inverted", [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m hashlimit --hashlimit-above 1/hour --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name h -j DROP"],
        A: Open(22), A: Silent, B: Open(22); first "hashlimit"),
    line!("two rules that draw on one table of hashlimit",
        [IPTABLES "in: -m state --state ESTABLISHED -j ACCEPT; -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name h -j LOG; -m hashlimit --hashlimit-upto 1/hour --hashlimit-burst 1 --hashlimit-mode srcip --hashlimit-name h -j ACCEPT; -j DROP"],
        A: Silent; conditional "hashlimit"),
    line!("one connection is not more than one", [IPTABLES "in: -m connlimit --connlimit-upto 1 -j ACCEPT; -j DROP"], A: Open(22); first "connlimit"),
    line!("one connection is more than none", [IPTABLES "in: -m connlimit --connlimit-above 0 -j DROP"], A: Silent; first "connlimit"),
    line!("a rule that is met twice draws twice", [NFT "table inet t { chain c { limit rate 1/hour burst 2 packets return; drop; };
                        chain x { type filter hook input priority 0; ct state established accept; jump c; jump c; accept; }; }"], A: Open(22), A: Silent; first "limited by rate"),
    line!("a rule that is met twice, with one to draw", [NFT "table inet t { chain c { limit rate 1/hour burst 1 packets return; drop; };
                        chain x { type filter hook input priority 0; ct state established accept; jump c; jump c; accept; }; }"], A: Silent; conditional "limited by rate"),
    line!("the ACK draws on a limit, too", [NFT "in: limit rate 1/hour burst 1 packets accept; drop"], A: HalfOpen(22); conditional "limited by rate"),
    line!("a limit of bytes", [NFT "in: limit rate 1 mbytes/second accept; drop"], A: Open(22); conditional "limited by rate"),
    line!("one connection is counted as one", [NFT "in: ct count 1 accept; drop"], A: Open(22); first "number of connections"),
    line!("one connection is over none", [NFT "in: ct count over 0 drop"], A: Silent; first "number of connections"),
    line!("a quota that is far away", [NFT "in: quota over 1 mbytes drop"], A: Open(22); first "quota"),
    line!("a quota that is used up", [NFT "in: quota over 100 bytes used 100 bytes drop"], A: Silent; first "quota"),
    line!("connections of each source are counted", [NFT "table ip t { set m { type ipv4_addr; size 128; flags dynamic; };
                        chain x { type filter hook input priority 0; ct state established accept; add @m { ip saddr ct count over 1 } drop; }; }"], A: Open(22), A: Silent, B: Open(22); first "for each source"),
    line!("each source has a limit", [NFT "table ip t { set m { type ipv4_addr; size 128; flags dynamic; };
                        chain x { type filter hook input priority 0; ct state established accept; update @m { ip saddr limit rate 1/hour burst 1 packets } accept; drop; }; }"], A: Open(22), A: Silent, B: Open(22); first "for each source"),
    line!("an element keeps the limit of the rule that made it", [NFT "table ip t { set m { type ipv4_addr; size 128; flags dynamic; };
                        chain x { type filter hook input priority 0; ct state established accept; update @m { ip saddr limit rate 1/hour burst 1 packets } counter; update @m { ip saddr limit rate over 1/hour burst 9 packets } drop; }; }"], A: Open(22); conditional "for each source"),
];
