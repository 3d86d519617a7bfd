//! The lock-outs of the drill, each as an admin makes it.

use iptables::IPTables;

use super::DrillError;
use super::stage::Stage;

/// One way to lock oneself out.
pub struct Lockout {
    pub name: &'static str,
    pub apply: fn(&mut Stage<'_>) -> Result<(), DrillError>,
}

/// In the order in which the drill shows them.
pub const LOCKOUTS: &[Lockout] = &[
    Lockout { name: "iptables: policy of INPUT is DROP", apply: |_| policy("nft", "INPUT") },
    Lockout {
        name: "iptables: REJECT of port 22",
        apply: |s| rule(s, "nft", "filter", "INPUT", "-p tcp --dport 22 -j REJECT"),
    },
    Lockout {
        name: "iptables: REJECT with tcp-reset",
        apply: |s| rule(s, "nft", "filter", "INPUT", "-p tcp --dport 22 -j REJECT --reject-with tcp-reset"),
    },
    Lockout {
        name: "iptables: DROP in raw",
        apply: |s| rule(s, "nft", "raw", "PREROUTING", "-p tcp --dport 22 -j DROP"),
    },
    Lockout {
        name: "iptables: DROP in mangle",
        apply: |s| rule(s, "nft", "mangle", "INPUT", "-p tcp --dport 22 -j DROP"),
    },
    Lockout { name: "iptables: policy of OUTPUT is DROP", apply: |_| policy("nft", "OUTPUT") },
    Lockout {
        name: "iptables: port 22 redirected",
        apply: |s| rule(s, "nft", "nat", "PREROUTING", "-p tcp --dport 22 -j REDIRECT --to-ports 2222"),
    },
    Lockout { name: "iptables-legacy: policy of INPUT is DROP", apply: |_| policy("legacy", "INPUT") },
    Lockout {
        name: "iptables-legacy: DROP in a chain of its own",
        apply: |s| {
            each("legacy", |t| t.new_chain("filter", "guard"))?;
            rule(s, "legacy", "filter", "guard", "-p tcp --dport 22 -j DROP")?;
            rule(s, "legacy", "filter", "INPUT", "-j guard")
        },
    },
    Lockout {
        name: "nft: inet input, policy drop",
        apply: |s| {
            nft(
                s,
                "table inet fw { chain in { type filter hook input priority 0; policy drop; iif lo accept; ct state established accept; }; }",
            )
        },
    },
    Lockout {
        name: "nft: drop in prerouting",
        apply: |s| {
            nft(s, "table inet fw { chain pre { type filter hook prerouting priority -300; tcp dport 22 drop; }; }")
        },
    },
    Lockout {
        name: "nft: drop at netdev ingress",
        apply: |s| {
            nft(
                s,
                "table netdev fw { chain in { type filter hook ingress device \"eth0\" priority 0; tcp dport 22 drop; }; }",
            )
        },
    },
    Lockout {
        name: "nft: two tables that both drop",
        apply: |s| {
            nft(
                s,
                "table inet a { chain in { type filter hook input priority -10; tcp dport 22 drop; }; }\n\
                 table inet b { chain in { type filter hook input priority 10; policy drop; iif lo accept; ct state established accept; }; }",
            )
        },
    },
    Lockout {
        name: "nft and iptables-legacy, both dropping",
        apply: |s| {
            policy("legacy", "INPUT")?;
            nft(s, "table inet fw { chain in { type filter hook input priority 0; tcp dport { 22, 80 } drop; }; }")
        },
    },
    Lockout { name: "hosts.deny ALL, hosts.allow empty", apply: |s| s.write("/etc/hosts.deny", "ALL: ALL\n") },
    Lockout {
        name: "hosts.deny ALL, a comment in hosts.allow",
        apply: |s| {
            s.write("/etc/hosts.allow", "# who may come in\n# sshd: 10.0.0.0/8\n")?;
            s.write("/etc/hosts.deny", "ALL: ALL\n")
        },
    },
    Lockout {
        name: "hosts.allow with an option that nobody knows",
        apply: |s| {
            s.write("/etc/hosts.allow", "sshd: ALL: alow\n")?;
            s.write("/etc/hosts.deny", "ALL: PARANOID\n")
        },
    },
    Lockout {
        name: "hosts.allow without a newline at its end",
        apply: |s| {
            s.write("/etc/hosts.allow", "sshd: ALL")?;
            s.write("/etc/hosts.deny", "ALL: ALL\n")
        },
    },
];

fn nft(stage: &Stage<'_>, rules: &str) -> Result<(), DrillError> {
    stage.tool("nft", &["-f", "-"], &format!("{rules}\n")).map(drop)
}

fn policy(backend: &str, chain: &str) -> Result<(), DrillError> {
    each(backend, |t| t.set_policy("filter", chain, "DROP"))
}

fn rule(stage: &Stage<'_>, backend: &str, table: &str, chain: &str, rule: &str) -> Result<(), DrillError> {
    let args: Vec<&str> = ["-w", "-t", table, "-A", chain].into_iter().chain(rule.split(' ')).collect();
    commands(backend).into_iter().try_for_each(|command| stage.tool(command, &args, "").map(drop))
}

/// Runs `act` with the command of each family.
fn each(backend: &str, act: impl Fn(&IPTables) -> Result<(), Box<dyn std::error::Error>>) -> Result<(), DrillError> {
    for cmd in commands(backend) {
        // What every iptables since 1.4.20 has. To have it found out, or words split by the crate, brings in regular
        // expressions, and with them half a megabyte.
        let command = IPTables { cmd, has_check: true, has_wait: true, is_numeric: false };
        act(&command).map_err(|e| DrillError::Iptables(e.to_string()))?;
    }
    Ok(())
}

fn commands(backend: &str) -> [&'static str; 2] {
    match backend {
        "legacy" => ["iptables-legacy", "ip6tables-legacy"],
        _ => ["iptables-nft", "ip6tables-nft"],
    }
}
