//! The lock-outs, each as an admin makes it.

use ssh_rescue::rehearse::drill::Sight::{self, Banner, Closed, Refused, TimedOut};

/// A real fail2ban that has banned one client.
macro_rules! fail2ban {
    () => {
        "printf '[DEFAULT]\nbackend = systemd\n' >/etc/fail2ban/jail.local
         systemctl start fail2ban
         until fail2ban-client status sshd; do sleep 0.1; done
         fail2ban-client set sshd banip 203.0.113.9 2001:db8:bad::9
         sleep 0.5
        "
    };
}
/// The rules of a docker that publishes port 8080.
macro_rules! docker {
    () => {
        "iptables -t nat -N DOCKER
         iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
         iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
         iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
         iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
         iptables -P FORWARD DROP
         iptables -N DOCKER-USER; iptables -A FORWARD -j DOCKER-USER; iptables -A DOCKER-USER -j RETURN
        "
    };
}
pub(crate) use {docker, fail2ban};

pub struct Lockout {
    pub name: &'static str,
    /// Run on a fresh host by sh(1).
    pub make: &'static str,
    /// What a client sees then, by IPv4 and by IPv6.
    pub sees: [Sight; 2],
    /// Somebody is banned besides, and stays so.
    pub bans: bool,
}

pub const fn lockout(name: &'static str, make: &'static str, sees: [Sight; 2]) -> Lockout {
    Lockout { name, make, sees, bans: false }
}

const fn beside_a_ban(name: &'static str, make: &'static str, sees: [Sight; 2]) -> Lockout {
    Lockout { name, make, sees, bans: true }
}

const BOTH_TIME_OUT: [Sight; 2] = [TimedOut; 2];

pub const LOCKOUTS: &[Lockout] = &[
    lockout("iptables, policy DROP", "iptables -P INPUT DROP", [TimedOut, Banner]),
    lockout("iptables, REJECT 22", "iptables -A INPUT -p tcp --dport 22 -j REJECT", [Refused, Banner]),
    lockout(
        "iptables, REJECT with tcp-reset",
        "iptables -A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset",
        [Refused, Banner],
    ),
    lockout("ip6tables, policy DROP", "ip6tables -P INPUT DROP", [Banner, TimedOut]),
    lockout("ip6tables-legacy, policy DROP", "ip6tables-legacy -P INPUT DROP", [Banner, TimedOut]),
    lockout("ip6tables, DROP 22", "ip6tables -A INPUT -p tcp --dport 22 -j DROP", [Banner, TimedOut]),
    lockout("iptables, raw DROP", "iptables -t raw -A PREROUTING -p tcp --dport 22 -j DROP", [TimedOut, Banner]),
    lockout("iptables, mangle DROP", "iptables -t mangle -A INPUT -p tcp --dport 22 -j DROP", [TimedOut, Banner]),
    lockout("iptables, OUTPUT policy DROP", "iptables -P OUTPUT DROP", [TimedOut, Banner]),
    lockout(
        "iptables, REDIRECT of 22",
        "iptables -t nat -A PREROUTING -p tcp --dport 22 -j REDIRECT --to-ports 2222",
        [Refused, Banner],
    ),
    lockout("iptables-legacy, policy DROP", "iptables-legacy -P INPUT DROP", [TimedOut, Banner]),
    lockout("iptables-legacy, REJECT 22", "iptables-legacy -A INPUT -p tcp --dport 22 -j REJECT", [Refused, Banner]),
    lockout(
        "iptables-legacy, REJECT with tcp-reset",
        "iptables-legacy -A INPUT -p tcp --dport 22 -j REJECT --reject-with tcp-reset",
        [Refused, Banner],
    ),
    lockout("ip6tables-legacy, DROP 22", "ip6tables-legacy -A INPUT -p tcp --dport 22 -j DROP", [Banner, TimedOut]),
    lockout(
        "iptables-legacy, raw DROP",
        "iptables-legacy -t raw -A PREROUTING -p tcp --dport 22 -j DROP",
        [TimedOut, Banner],
    ),
    lockout(
        "iptables-legacy, mangle DROP",
        "iptables-legacy -t mangle -A INPUT -p tcp --dport 22 -j DROP",
        [TimedOut, Banner],
    ),
    lockout("iptables-legacy, OUTPUT policy DROP", "iptables-legacy -P OUTPUT DROP", [TimedOut, Banner]),
    lockout(
        "iptables-legacy, REDIRECT of 22",
        "iptables-legacy -t nat -A PREROUTING -p tcp --dport 22 -j REDIRECT --to-ports 2222",
        [Refused, Banner],
    ),
    lockout(
        "nft, inet input policy drop",
        "nft -f - <<E
table inet fw { chain in { type filter hook input priority 0; policy drop
  iif lo accept; ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept; tcp dport { 80, 443 } accept; }; }
E",
        BOTH_TIME_OUT,
    ),
    lockout(
        "nft, prerouting drop",
        "nft 'table inet fw { chain pre { type filter hook prerouting priority -300; tcp dport 22 drop; }; }'",
        BOTH_TIME_OUT,
    ),
    lockout(
        "nft, netdev ingress drop",
        r#"nft 'table netdev fw { chain in { type filter hook ingress device "eth0" priority 0; tcp dport 22 drop; }; }'"#,
        BOTH_TIME_OUT,
    ),
    lockout(
        "nft, two tables that both drop",
        "nft -f - <<E
table inet a { chain in { type filter hook input priority -10; tcp dport 22 drop; }; }
table inet b { chain in { type filter hook input priority 10; policy drop
  iif lo accept; ct state established accept; meta l4proto ipv6-icmp accept; }; }
E",
        BOTH_TIME_OUT,
    ),
    // ufw's first start leaves a chain of IPv6 out, which its next one makes.
    lockout("ufw, enabled without an ssh rule", "ufw --force enable; ufw reload", BOTH_TIME_OUT),
    lockout("ufw, after iptables -F", "ufw allow 22/tcp; ufw --force enable; iptables -F", [TimedOut, Banner]),
    lockout(
        "firewalld, a zone without ssh",
        "systemctl start firewalld; firewall-cmd --permanent --remove-service=ssh; firewall-cmd --reload",
        [Refused, Refused],
    ),
    lockout(
        "firewalld, zone drop",
        "systemctl start firewalld; firewall-cmd --set-default-zone=drop",
        BOTH_TIME_OUT,
    ),
    lockout("hosts.deny ALL, hosts.allow empty", ": >/etc/hosts.allow; echo 'ALL: ALL' >/etc/hosts.deny", [Closed; 2]),
    lockout(
        "hosts.deny ALL, a comment in hosts.allow",
        "echo '# sshd: 10.0.0.0/8' >/etc/hosts.allow; echo 'ALL: ALL' >/etc/hosts.deny",
        [Closed; 2],
    ),
    lockout("hosts.allow, an unknown option", "echo 'sshd: ALL: alow' >/etc/hosts.allow", [Closed; 2]),
    lockout(
        "hosts.allow, a last line without a newline",
        "printf 'sshd: ALL' >/etc/hosts.allow; echo 'ALL: ALL' >/etc/hosts.deny",
        [Closed; 2],
    ),
    lockout("sshd, stopped", "systemctl stop ssh", [Refused; 2]),
    lockout(
        "sshd, failed and given up",
        "echo Bogus yes >>/etc/ssh/sshd_config
         for n in 1 2 3 4 5 6 7; do systemctl restart ssh || true; done
         sed -i '$d' /etc/ssh/sshd_config
         systemctl is-failed ssh",
        [Refused; 2],
    ),
    lockout(
        "two at once, firewall and wrappers",
        "iptables -P INPUT DROP; ip6tables -A INPUT -p tcp --dport 22 -j REJECT
         echo 'ALL: ALL' >/etc/hosts.deny",
        [TimedOut, Refused],
    ),
    lockout("two at once, ufw and sshd", "ufw --force enable; ufw reload; systemctl stop ssh", BOTH_TIME_OUT),
    lockout(
        "two at once, both back-ends",
        "iptables-legacy -P INPUT DROP
         nft 'table inet fw { chain in { type filter hook input priority 0; tcp dport { 22, 80 } drop; }; }'",
        BOTH_TIME_OUT,
    ),
    beside_a_ban(
        "iptables, policy DROP beside a ban by fail2ban",
        concat!(fail2ban!(), "iptables -P INPUT DROP; ip6tables -A INPUT -p tcp --dport 22 -j DROP"),
        BOTH_TIME_OUT,
    ),
    beside_a_ban(
        "nft, input policy drop beside a ban by fail2ban",
        concat!(
            fail2ban!(),
            "nft 'table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; meta l4proto ipv6-icmp accept; }; }'"
        ),
        BOTH_TIME_OUT,
    ),
    beside_a_ban(
        "ufw, enabled without an ssh rule, beside a ban by fail2ban",
        concat!(fail2ban!(), "ufw --force enable; ufw reload"),
        BOTH_TIME_OUT,
    ),
    beside_a_ban(
        "hosts.deny ALL beside a ban in it",
        "printf 'ALL: 203.0.113.9 [2001:db8:bad::9]\nALL: ALL\n' >/etc/hosts.deny",
        [Closed; 2],
    ),
    lockout(
        "iptables, REDIRECT of 22 beside docker's rules",
        concat!(docker!(), "iptables -t nat -I DOCKER -p tcp --dport 22 -j REDIRECT --to-ports 2222"),
        [Refused, Banner],
    ),
];
