//! Lines in nf_tables' own words.

use ssh_rescue::rehearse::probe::Answer::{HalfOpen, Icmp, Open, Reset, Silent};

use super::lines::{A, B, IP, Line, NFT, ROUTERS, SIX, line};

pub const LINES: &[Line] = &[
    line!("an accept ends its own base chain only", [NFT "table inet a { chain x { type filter hook input priority -10; accept; }; }
         table inet b { chain x { type filter hook input priority 0; drop; }; }"], A: Silent),
    line!("a drop is final", [NFT "table inet a { chain x { type filter hook input priority -10; drop; }; }
         table inet b { chain x { type filter hook input priority 0; accept; }; }"], A: Silent),
    line!("the answer matters", [NFT "table inet t { chain x { type filter hook output priority 0; policy drop; }; }"], A: Silent),
    line!("an untracked packet is not new", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ip saddr 198.51.100.7 notrack; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new accept; }; }"], A: Silent, B: HalfOpen(22)),
    line!("notrack counts for the same rule's later matches", [NFT "table inet r { chain x { type filter hook prerouting priority -300; policy drop; notrack ct state untracked accept; }; }"], A: Open(22)),
    line!("notrack does nothing where an entry exists", [NFT "table inet r { chain x { type filter hook prerouting priority -100; notrack; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new,established accept; }; }"], A: Open(22)),
    line!("what follows an answer that is not tracked is invalid", [NFT "table inet r { chain x { type filter hook output priority -300; notrack; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new,established accept; }; }"], A: HalfOpen(22)),
    line!("what follows an answer of another zone is invalid", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct state new,invalid accept; }; }"], A: Open(22)),
    line!("a zone that is set before conntrack stands for a new entry", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; ct state new drop; }; }"], A: Silent),
    line!("but nothing else of it counts", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; ct mark 0 drop; ct mark != 0 drop; ct zone 3 drop; ct direction original drop; ct status != seen-reply drop; }; }"], A: Open(22)),
    line!("it takes no mark", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; ct mark set 5; ct mark 5 drop; }; }"], A: Open(22)),
    line!("the first zone counts", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; ct zone set 4; }; }
         table inet t { chain x { type filter hook input priority 0; ip saddr 198.51.100.7 ct zone 3 drop; ct zone 4 drop; }; }"], A: Silent, B: Open(22)),
    line!("a zone after notrack", [NFT "table inet r { chain x { type filter hook prerouting priority -300; notrack; ct zone set 3; }; }
         table inet t { chain x { type filter hook input priority 0; ct state new drop; }; }"], A: Silent),
    line!("notrack after a zone", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 3; notrack; }; }
         table inet t { chain x { type filter hook input priority 0; ct state untracked drop; }; }"], A: Open(22)),
    line!("before conntrack every packet is invalid", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct state invalid drop; }; }"], A: Silent),
    line!("a ct key without an entry breaks the rule, and set does nothing", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct mark set 1; ct mark != 5 drop; }; }
         table inet t { chain x { type filter hook input priority 0; ct mark 1 drop; }; }"], A: Open(22)),
    line!("goto does not come back to its caller's next rule", [NFT "table inet t { chain c { counter; }
                        chain x { type filter hook input priority 0; policy drop; goto c; accept; }; }"], A: Silent),
    line!("a jump comes back", [NFT "table inet t { chain c { counter; }
                        chain x { type filter hook input priority 0; policy drop; jump c; accept; }; }"], A: Open(22)),
    line!("a goto in a called chain returns to the caller of that chain", [NFT "table inet t { chain b { counter; }
                        chain a { goto b; drop; }
                        chain x { type filter hook input priority 0; policy drop; jump a; accept; }; }"], A: Open(22)),
    line!("return in a base chain is its policy", [NFT "in: policy drop; return; accept"], A: Silent),
    line!("a bare tcp flag is a bit", [NFT "table inet t { chain x { type filter hook output priority 0; tcp flags syn drop; }; }"], A: Silent),
    line!("flags in braces are exact", [NFT "table inet t { chain x { type filter hook output priority 0; tcp flags { syn, ack } drop; }; }"], A: Open(22)),
    line!("a single flag in braces is a bit to nft", [NFT "table inet t { chain x { type filter hook output priority 0; tcp flags { syn } drop; }; }"], A: Silent),
    line!("flags with a comma are a mask", [NFT "in: tcp flags syn,ack drop"], A: Silent),
    line!("ct state with a comma is a mask", [NFT "in: policy drop; ct state established,new accept"], A: Open(22)),
    line!("ct state in braces is a set", [NFT "in: policy drop; ct state { established, related } accept"], A: Silent),
    line!("iifname is a padded name", [NFT "in: iifname \"eth\" drop"], A: Open(22)),
    line!("a wildcard in iifname shortens it", [NFT "in: iifname \"eth*\" drop"], A: Silent),
    line!("iif is a number", [NFT "in: iif 77 drop"], A: Silent),
    line!("no MAC header: neither equal nor different", [NFT "in: ether saddr != 02:00:00:00:00:77 drop; ether saddr 02:00:00:00:00:77 drop"], A: Open(22)),
    line!("an absent extension header breaks the rule", [NFT "in: frag id != 0 drop"], SIX: Open(22), A: Open(22)),
    line!("an absent tcp option breaks the rule", [NFT "in: tcp option md5sig length != 0 drop"], A: Open(22); unknown "TCP options"),
    line!("a match of another protocol guards itself", [NFT "in: udp dport != 22 drop"], A: Open(22)),
    line!("a match of another family guards itself", [NFT "in: ip saddr != 192.0.2.99 drop"], A: Silent, SIX: Open(22)),
    line!("marks are in the host's order, ranges too", [NFT "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 meta mark set 0x100; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark 0x80-0x180 drop; }; }"], A: Silent, B: Open(22)),
    line!("marks in an interval set", [NFT "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 meta mark set 0x100; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark { 0x1-0x2, 0x80-0x180 } drop; }; }"], A: Silent, B: Open(22)),
    line!("a mark that is set later is not seen before", [NFT "table inet t { chain late { type filter hook input priority 10; meta mark set 1; }
                        chain x { type filter hook input priority 0; meta mark 1 drop; }; }"], A: Open(22)),
    line!("concatenations are matched field by field", [NFT "in: ip saddr . tcp dport { 198.51.100.0/24 . 20-25, 203.0.113.0/24 . 30-40 } drop"], A: Silent, B: Open(22)),
    line!("verdict maps take intervals", [NFT "in: tcp dport vmap { 1-21 : accept, 22-30 : drop }"], A: Silent),
    line!("a limit is consumed", [NFT "in: ct state established accept; limit rate 1/hour burst 2 packets accept; drop"], A: Open(22), A: Open(22), A: Silent; first "limited by rate"),
    line!("over inverts a limit", [NFT "in: ct state established accept; limit rate over 1/hour burst 2 packets drop"], A: Open(22), A: Open(22), A: Silent; first "limited by rate (over"),
    line!("a limit is consumed only where the matches before it hold", [NFT "in: ct state established accept; ip saddr 198.51.100.7 limit rate 1/hour burst 1 packets accept; drop"], B: Silent, B: Silent, A: Open(22), A: Silent; conditional "limited by rate"),
    line!("quota counts bytes", [NFT "in: ct state established accept; quota 100 bytes accept; drop"], A: Open(22), A: Silent; conditional "quota"),
    line!("numgen inc is shared", [NFT "in: ct state established accept; numgen inc mod 2 0 drop"], A: Silent, B: Open(22), A: Silent; conditional "by turns"),
    line!("a redirected connection has the new port on input", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; tcp dport 22 drop; }; }"], A: Open(2222)),
    line!("a redirected connection is barred by the new port", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; tcp dport 2222 drop; }; }"], A: Silent),
    line!("a redirect to a port without a listener is refused", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2223; }; }"], A: Reset),
    line!("a redirect on an interface without an address drops", [IP "address del 192.0.2.10/24 dev eth0\naddress add 192.0.2.10/32 dev lo\nroute add default dev eth0",
         NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }"], A: Silent, SIX: Open(2222)),
    line!("ct status dnat lets a forwarded port in", [NFT "table inet n { chain x { type nat hook prerouting priority -100; ip saddr 198.51.100.7 tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ct status dnat accept; }; }"], A: Open(2222), B: Silent),
    line!("the original port is kept by conntrack", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; meta l4proto tcp ct original proto-dst 22 drop; }; }"], A: Silent),
    line!("fib types are in the host's order", [NFT "in: fib daddr type local drop"], A: Silent),
    line!("an anycast address is of fib type 4", [IP "route add anycast 198.51.100.7 dev eth0 table local", NFT "in: fib saddr type anycast drop"], A: Silent, B: Open(22)),
    line!("where no rule parts them the tables main and local are one", [IP "route add anycast 198.51.100.7 dev eth0 table main", NFT "in: fib saddr type anycast drop"], A: Silent, B: Open(22)),
    line!("the address of an IPv6 net is anycast", [IP "route add 2001:db8:100::/64 dev eth0", NFT "in: fib saddr type anycast drop"], ROUTERS: Silent, SIX: Open(22)),
    line!("a source with a route back is not missing", [NFT "in: fib saddr . iif oif missing drop"], A: Open(22)),
    line!("ingress comes before everything", [NFT "table netdev n { chain x { type filter hook ingress device \"eth0\" priority 0; ip saddr 198.51.100.7 drop; }; }
         table inet t { chain x { type filter hook prerouting priority -400; accept; }; }"], A: Silent, B: Open(22)),
    line!("a dormant table does nothing", [NFT "table inet t { flags dormant; chain x { type filter hook input priority 0; drop; }; }"], A: Open(22)),
    line!("an element that a rule adds is seen by the next", [NFT "table inet t { set s { type ipv4_addr; flags dynamic; size 100; }
                        chain x { type filter hook input priority 0; ip saddr 198.51.100.7 update @s { ip saddr }; ip saddr @s drop; }; }"], A: Silent, B: Open(22); conditional "changed by this connection"),
    line!("a queue that nobody reads drops", [NFT "in: queue num 7"], A: Silent; unknown "queue"; needs "NFT_QUEUE"),
    line!("a queue that nobody reads and that is bypassed accepts", [NFT "in: queue flags bypass to 7; drop"], A: Open(22); unknown "queue"; needs "NFT_QUEUE"),
    line!("of chains of one priority the one made last comes first", [NFT "table inet t { chain x { type filter hook input priority 0; ip saddr 198.51.100.7 meta mark set 1; meta mark 2 drop; }
                        chain y { type filter hook input priority 0; ip saddr 203.0.113.9 meta mark set 2; meta mark 1 drop; }; }"], A: Open(22), B: Silent),
    line!("a ct key of the flow is the same for the answer", [NFT "table inet t { chain x { type filter hook output priority 0; ct original ip saddr 198.51.100.7 drop; }; }"], A: Silent, B: Open(22)),
    line!("the answer goes in the other direction", [NFT "table inet t { chain x { type filter hook output priority 0; ct direction original drop; }; }"], A: Open(22)),
    line!("the reply's side of a flow", [NFT "in: ct reply ip saddr 192.0.2.10 ct reply ip daddr 198.51.100.7 meta l4proto tcp ct reply proto-src 22 drop"], A: Silent, B: Open(22)),
    line!("a flow without a helper breaks the rule", [NFT "in: ct helper != \"ftp\" drop"], A: Open(22)),
    line!("status holds all of its bits", [NFT "table inet n { chain x { type nat hook prerouting priority -100; }; }
         table inet t { chain x { type filter hook input priority 0; ct state new ct status 0x100 drop; }; }"], A: Silent),
    line!("without nat a new flow has no status", [NFT "in: ct state new ct status == 0 drop"], A: Silent),
    line!("an answer's flow is confirmed", [NFT "table inet t { chain x { type filter hook output priority 0; ct status 0xa drop; }; }"], A: Silent),
    line!("a zone of one's own", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 5; }; }
         table inet t { chain x { type filter hook output priority 0; ct state invalid drop; }; }"], A: Silent),
    line!("a zone of both ways", [NFT "table inet r { chain x { type filter hook prerouting priority -300; ct zone set 5; };
                        chain y { type filter hook output priority -300; ct zone set 5; }; }
         table inet t { chain x { type filter hook output priority 0; ct state invalid drop; }; }"], A: Open(22)),
    line!("icmpv6 guards itself", [NFT "in: icmpv6 type != echo-request drop; icmp type != echo-request drop"], SIX: Open(22), A: Open(22)),
    line!("a protocol that is not ip's", [NFT "in: meta protocol ip drop"], A: Silent, SIX: Open(22)),
    line!("a mark and a port, joined", [NFT "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 meta mark set 0x150; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark . tcp dport { 0x100-0x180 . 20-25 } drop; }; }"], A: Silent, B: Open(22)),
    line!("a mark that is shifted", [NFT "table inet p { chain x { type filter hook prerouting priority 0; meta mark set 0x1; meta mark set meta mark << 8; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark 0x100 drop; }; }"], A: Silent),
    line!("a mark by the source", [NFT "table inet p { chain x { type filter hook prerouting priority 0; meta mark set ip saddr map { 198.51.100.0/24 : 7, 203.0.113.0/24 : 8 }; }; }
         table inet t { chain x { type filter hook input priority 0; meta mark 7 drop; }; }"], A: Silent, B: Open(22)),
    line!("a mark that the flow keeps", [NFT "table inet p { chain x { type filter hook prerouting priority 0; ip saddr 198.51.100.7 ct mark set 0x9; }; }
         table inet t { chain x { type filter hook output priority 0; meta mark set ct mark; meta mark 9 drop; }; }"], A: Silent, B: Open(22)),
    line!("the answer has no mark of the packet that it answers", [NFT "table inet p { chain x { type filter hook prerouting priority 0; meta mark set 9; }; }
         table inet t { chain x { type filter hook output priority 0; meta mark 9 drop; }; }"], A: Open(22)),
    line!("a prefix in a verdict map", [NFT "in: ip saddr vmap { 198.51.100.0/24 : drop, 203.0.113.0/24 : accept }; drop"], A: Silent, B: Open(22)),
    line!("a verdict map without a hit goes on with the next rule", [NFT "in: ip saddr vmap { 198.51.100.0/24 : accept }; drop"], A: Open(22), B: Silent),
    line!("a verdict map's last resort", [NFT "table inet t { map m { type ipv4_addr : verdict; flags interval; elements = { 198.51.100.0/24 : accept, * : drop }; };
                        chain x { type filter hook input priority 0; ip saddr vmap @m; }; }"], A: Open(22), B: Silent, SIX: Open(22)),
    line!("a verdict map of joined keys", [NFT "in: iifname . ip saddr . tcp dport vmap { \"eth0\" . 198.51.100.0/24 . 22 : drop }"], A: Silent, B: Open(22)),
    line!("a set's last resort", [NFT "table inet t { set s { type ipv4_addr; elements = { 198.51.100.7, * }; };
                        chain x { type filter hook input priority 0; ip saddr @s drop; }; }"], A: Silent, B: Silent, SIX: Open(22)),
    line!("a set with a timeout", [NFT "table inet t { set s { type ipv4_addr; flags timeout; elements = { 198.51.100.7 timeout 1h }; };
                        chain x { type filter hook input priority 0; ip saddr @s drop; }; }"], A: Silent, B: Open(22)),
    line!("a set of joined ranges is their product", [NFT "table inet t { set s { type ipv4_addr . inet_service; flags interval; elements = { 198.51.100.0-198.51.100.9 . 20-22, 203.0.113.0-203.0.113.9 . 23-30 }; };
                        chain x { type filter hook input priority 0; ip saddr . tcp dport @s drop; }; }"], A: Silent, B: Open(22)),
    line!("a range of addresses", [NFT "in: ip saddr 198.51.100.1-198.51.100.99 drop"], A: Silent, B: Open(22)),
    line!("a range of addresses, inverted", [NFT "in: ip saddr != 198.51.100.1-198.51.100.99 drop"], A: Open(22), B: Silent),
    line!("a mask with holes", [NFT "in: ip saddr & 255.255.15.255 == 198.51.4.7 drop"], A: Silent, B: Open(22)),
    line!("the length of an IPv6 packet counts its header", [NFT "in: meta length 80 drop"], SIX: Silent, A: Open(22); conditional "length"),
    line!("a length that no packet of a handshake has", [NFT "in: meta length 30 drop; meta length 1500 drop; ip length != 40-64 drop"], A: Open(22), SIX: Open(22)),
    line!("what comes after a number counts", [NFT "in: meta nfproto ipv4 @nh,64,16 <= 0xff05 drop"], A: Silent, SIX: Open(22); conditional "TTL"),
    line!("what comes after a number that is below its bound does not", [NFT "in: meta nfproto ipv4 @nh,64,16 >= 0x0007 drop"], A: Silent, SIX: Open(22)),
    line!("the version in IPv6's header", [NFT "in: ip6 version 6 drop"], SIX: Silent, A: Open(22)),
    line!("a payload statement rewrites the port", [NFT "table inet p { chain x { type filter hook prerouting priority -310; ip saddr 198.51.100.7 tcp dport 22 tcp dport set 2222; }; }
         table inet t { chain x { type filter hook input priority 0; tcp dport 2222 drop; }; }"], A: Silent, B: Open(22)),
    line!("a port that is rewritten on the way in must be put back on the way out", [NFT "table inet p { chain x { type filter hook prerouting priority -310; tcp dport 22 tcp dport set 2222; }; }"], A: Silent),
    line!("both ways rewritten without nat", [NFT "table inet p { chain x { type filter hook prerouting priority -310; tcp dport 22 tcp dport set 2222; };
                        chain y { type filter hook postrouting priority 310; tcp sport 2222 tcp sport set 22; }; }"], A: Open(2222)),
    line!("both ways rewritten where conntrack saw the port asked for", [NFT "table inet p { chain x { type filter hook prerouting priority -10; tcp dport 22 tcp dport set 2222; };
                        chain y { type filter hook postrouting priority 310; tcp sport 2222 tcp sport set 22; }; }
         table inet t { chain x { type filter hook output priority 0; ct state established accept; ct state invalid drop; }; }"], A: Silent),
    line!("only the answer is rewritten", [NFT "table inet p { chain y { type filter hook output priority 0; tcp sport 22 tcp sport set 2222; }; }"], A: Silent),
    line!("only what follows the SYN is rewritten", [NFT "table inet p { chain x { type filter hook prerouting priority -10; ct state new accept; tcp dport set 2222; }; }"], A: HalfOpen(22)),
    line!("once its connection is found the port does not matter", [NFT "table inet p { chain x { type filter hook input priority 0; ct state new accept; tcp dport set 2222; }; }"], A: Open(22), SIX: Open(22)),
    line!("a port that is put back in time", [NFT "table inet p { chain x { type filter hook prerouting priority -10; ct state new accept; tcp dport set 2222; };
                        chain y { type filter hook input priority 0; ct state new accept; tcp dport set 22; }; }"], A: Open(22)),
    line!("nat puts back a port that was rewritten after tracking", [NFT "table inet p { chain x { type filter hook prerouting priority -150; tcp dport 22 tcp dport set 2223; };
                        chain n { type nat hook prerouting priority -100; tcp dport 2223 redirect to :2222; }; }"], A: Open(2222)),
    line!("nat knows nothing of a port that was rewritten after tracking", [NFT "table inet p { chain x { type filter hook prerouting priority -150; tcp dport 22 tcp dport set 2222; };
                        chain n { type nat hook prerouting priority -100; tcp dport 2222 redirect to :22; }; }"], A: Silent),
    line!("dscp that is set changes nothing", [NFT "table inet p { chain x { type filter hook prerouting priority 0; ip dscp set cs1; }; }
         table inet t { chain x { type filter hook input priority 0; ip saddr 203.0.113.9 drop; }; }"], A: Open(22), B: Silent),
    line!("a dnat of the port keeps the address", [NFT "table ip n { chain x { type nat hook prerouting priority -100; tcp dport 22 dnat to :2222; }; }
         table inet t { chain x { type filter hook input priority 0; policy drop; ip daddr 192.0.2.10 tcp dport 2222 accept; }; }"], A: Open(2222)),
    line!("a redirect of either family", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }"], SIX: Open(2222), A: Open(2222)),
    line!("nat decides once", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; };
                        chain y { type nat hook prerouting priority -90; tcp dport 22 redirect to :2223; tcp dport 2222 redirect to :2223; }; }"], A: Open(2222)),
    line!("nat sees only the first packet of a flow", [NFT "table inet n { chain x { type nat hook prerouting priority -100; ct state established drop; }; }"], A: Open(22)),
    line!("a drop in a nat chain", [NFT "table inet c { chain x { ct state new; }; }
         table inet n { chain x { type nat hook prerouting priority -100; ip saddr 198.51.100.7 drop; }; }"], A: Silent, B: Open(22)),
    line!("a drop in a nat chain does nothing where nothing tracks connections", [NFT "table inet n { chain x { type nat hook prerouting priority -100; ip saddr 198.51.100.7 drop; }; }"], A: Open(22), B: Open(22)),
    line!("nat on input comes after the filter", [NFT "table inet c { chain x { ct state new; }; }
         table inet n { chain x { type nat hook input priority 100; ip saddr 198.51.100.7 drop; }; }"], A: Silent, B: Open(22)),
    line!("an untracked flow is not led elsewhere", [NFT "table inet r { chain x { type filter hook prerouting priority -300; notrack; }; }
         table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2222; }; }"], A: Open(22)),
    line!("a dnat of one family in an inet table", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 dnat ip to 192.0.2.10:2222; }; }"], A: Open(2222), SIX: Open(22)),
    line!("a dnat by the source", [NFT "table ip n { chain x { type nat hook prerouting priority -100; dnat to ip saddr map { 198.51.100.7 : 192.0.2.99 }; }; }"], A: Silent, B: Open(22)),
    line!("a dnat to one of several ports", [NFT "table ip n { chain x { type nat hook prerouting priority -100; tcp dport 22 dnat to :2222-2223; }; }"], A: Open(2222); unknown "one of several"),
    line!("masquerading leaves the answer alone", [NFT "table ip n { chain x { type nat hook postrouting priority 100; masquerade; }; }"], A: Open(22)),
    line!("a reset", [NFT "in: tcp dport 22 reject with tcp reset"], A: Reset, SIX: Reset),
    line!("an unreachable port", [NFT "in: reject"], A: Icmp(3, 3), SIX: Icmp(1, 4)),
    line!("an icmpx code", [NFT "in: reject with icmpx admin-prohibited"], A: Icmp(3, 13), SIX: Icmp(1, 1)),
    line!("a reject before routing", [NFT "table inet t { chain x { type filter hook prerouting priority -150; reject with tcp reset; }; }"], A: Reset),
    line!("the answer rejected is no answer", [NFT "table inet t { chain x { type filter hook output priority 0; reject; }; }"], A: Silent),
    line!("postrouting", [NFT "table inet t { chain x { type filter hook postrouting priority 0; ip daddr 198.51.100.7 oifname \"eth0\" drop; }; }"], A: Silent, B: Open(22)),
    line!("what leaves by the device", [NFT "table netdev n { chain x { type filter hook egress device \"eth0\" priority 0; ip daddr 198.51.100.7 tcp sport 22 drop; }; }"], A: Silent, B: Open(22)),
    line!("a packet that leaves has come in by no device", [NFT "table netdev n { chain x { type filter hook egress device \"eth0\" priority 0; iif 77 drop; iifname \"eth0\" drop; }; }"], A: Open(22)),
    line!("iiftype on egress is the sending device's", [NFT "table netdev n { chain x { type filter hook egress device \"eth0\" priority 0; iiftype 65534 drop; }; }"], A: Silent),
    line!("ingress of an inet table", [NFT "table inet t { chain x { type filter hook ingress device \"eth0\" priority 0; meta nfproto ipv4 ip saddr 198.51.100.7 drop; }; }"], A: Silent, B: Open(22)),
    line!("what a device does not have", [NFT "in: meta iifkind \"vlan\" drop; meta iifkind != \"vlan\" oif != 77 drop"], A: Silent),
    line!("a packet that comes in has no way out yet", [NFT "in: oif 77 drop; oifname \"eth0\" drop"], A: Open(22)),
    line!("no master device", [NFT "in: meta sdif 77 drop; meta sdifname \"eth0\" drop; meta sdif != 0 drop"], A: Open(22)),
    line!("a packet for the host itself", [NFT "in: pkttype host drop"], A: Silent),
    line!("no user sends what comes in", [NFT "in: ct state new meta skuid 0 drop; ct state new meta skuid != 0 drop"], A: Open(22)),
    line!("the answer is the listener's", [NFT "table inet t { chain x { type filter hook output priority 0; meta skuid 1000 drop; meta skuid != 0 drop; meta skgid != 0 drop; }; }"], A: Open(22)),
    line!("the answer of root's listener", [NFT "table inet t { chain x { type filter hook output priority 0; meta skuid 0 drop; }; }"], A: Silent),
    line!("ipsec that is not there", [NFT "in: meta ipsec exists drop; ipsec in reqid 1 drop; rt ipsec exists drop"], A: Open(22)),
    line!("ipsec that is missing", [NFT "in: meta ipsec missing drop"], A: Silent),
    line!("a tunnel's header that is not there", [NFT "in: ip option rr exists drop; exthdr hbh exists drop"], A: Open(22), SIX: Open(22)),
    line!("a header that is missing", [NFT "in: exthdr frag missing drop"], SIX: Silent, A: Open(22)),
    line!("a socket that is not transparent", [NFT "table inet t { chain x { type filter hook prerouting priority -150; socket transparent 1 drop; }; }"], A: Open(22)),
    line!("a socket that is transparent or not", [NFT "table inet t { chain x { type filter hook prerouting priority -150; socket transparent 0 drop; }; }"], A: Silent),
    line!("a socket where nobody listens breaks the rule", [NFT "table inet n { chain x { type nat hook prerouting priority -100; tcp dport 22 redirect to :2223; }; }
         table inet t { chain x { type filter hook input priority 0; socket transparent 0 drop; }; }"], A: Reset),
    line!("a socket's wildcard", [NFT "table inet t { chain x { type filter hook prerouting priority -150; socket wildcard 1 drop; }; }"], A: Silent; unknown "socket"),
    line!("an operating system", [NFT "in: osf name \"Windows\" drop"], A: Open(22); unknown "operating system"),
    line!("tproxy", [NFT "table inet t { chain x { type filter hook prerouting priority -150; meta l4proto tcp ip saddr 198.51.100.7 tproxy ip to :9999 accept; }; }"], A: Open(22), B: Open(22); unknown "tproxy"),
    line!("a hash", [NFT "in: jhash ip saddr mod 1 0 drop"], A: Silent),
    line!("a hash of more than one", [NFT "in: jhash ip saddr mod 2 seed 0xdeadbeef vmap { 0 : accept, 1 : accept } ; drop"], A: Open(22); unknown "hash"),
    line!("numgen of one", [NFT "in: numgen random mod 1 0 drop"], A: Silent),
    line!("connections are counted", [NFT "in: ct state established accept; ct count over 1 drop"], A: Open(22), A: Silent; first "number of connections"),
    line!("a meter of rates", [NFT "table inet t { set m { type ipv4_addr; flags dynamic; size 100; };
                        chain x { type filter hook input priority 0; ct state established accept; update @m { ip saddr limit rate over 1/hour burst 1 packets } drop; }; }"], A: Open(22), A: Silent, B: Open(22); first "for each source"),
    line!("a named limit", [NFT "table inet t { limit l { rate 1/hour burst 1 packets; };
                        chain x { type filter hook input priority 0; ct state established accept; limit name \"l\" accept; drop; }; }"], A: Open(22), B: Silent; conditional "named object"),
    line!("a named quota by the source", [NFT "table inet t { quota q { 100 bytes; }; map m { type ipv4_addr : quota; elements = { 198.51.100.7 : \"q\" }; };
                        chain x { type filter hook input priority 0; ct state established accept; quota name ip saddr map @m accept; drop; }; }"], A: Open(22), A: Silent, B: Silent; conditional "named object"),
    line!("a named counter by the source is a match", [NFT "table inet t { counter c { }; map m { type ipv4_addr : counter; elements = { 198.51.100.7 : \"c\" }; };
                        chain x { type filter hook input priority 0; counter name ip saddr map @m drop; }; }"], A: Silent, B: Open(22)),
    line!("the time of day", [NFT "in: meta hour \"00:00\"-\"23:59\" accept; drop"], A: Open(22); conditional "time of day"),
    line!("chance", [NFT "in: meta random < 1 drop"], A: Open(22); conditional "chance"),
    line!("a log, a counter and a copy decide nothing", [NFT "table ip t { chain x { type filter hook input priority 0; log prefix \"x\" counter; ip saddr 198.51.100.7 dup to 192.0.2.77; ip saddr 203.0.113.9 drop; }; }"], A: Open(22), B: Silent),
    line!("a packet that is sent elsewhere", [NFT "table netdev n { chain x { type filter hook ingress device \"eth0\" priority 0; ip saddr 198.51.100.7 fwd to \"lo\"; }; }"], A: Silent, B: Open(22)),
    line!("a flowtable takes nothing from the host", [NFT "table inet t { flowtable f { hook ingress priority 0; devices = { eth0 }; };
                        chain x { type filter hook forward priority 0; meta l4proto tcp flow add @f; }; }"], A: Open(22); needs "NF_FLOW_TABLE"),
    line!("synproxy answers", [NFT "table inet r { chain x { type filter hook prerouting priority -300; tcp flags syn notrack; }; }
         table inet t { chain x { type filter hook input priority 0; ct state invalid,untracked synproxy mss 1460 wscale 7 timestamp sack-perm; ct state invalid drop; }; }"], A: HalfOpen(22); unknown "synproxy"),
    line!("a raw look at the header", [NFT "in: @nh,96,32 0xc6336407 drop; @th,16,16 23 drop"], A: Silent, B: Open(22)),
    line!("a sequence of two states", [NFT "in: policy drop; ct state vmap { established : accept, related : accept, invalid : drop }; ip saddr 198.51.100.7 accept"], A: Open(22), B: Silent),
    line!("a device by its group", [NFT "in: iifgroup 0 drop"], A: Silent),
    line!("a label that nobody has set", [NFT "in: ct label 1 drop"], A: Open(22); unknown "labels"),
    line!("loopback's rule is not the uplink's", [NFT "in: policy drop; iif lo accept; iifname \"lo\" accept"], A: Silent),
    line!("a chain of nobody's device", [NFT "table netdev n { chain x { type filter hook ingress device \"lo\" priority 0; drop; }; }"], A: Open(22)),
];
