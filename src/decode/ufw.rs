//! ufw's files, and the rules that its start makes of them (ufw-init-functions of ufw 0.35 and later).

use crate::facts::Family;

/// What ufw reads at its start, of one family.
#[derive(Debug, Clone, Default)]
pub struct UfwFiles {
    /// /etc/default/ufw
    pub defaults: String,
    pub before: String,
    pub after: String,
}

/// The value of the last `KEY=` line of a file of shell assignments, as ufw itself reads it (ufw/util.py, backend.py).
pub fn value(text: &str, key: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|l| l.trim().split_once('='));
    let (_, value) = pairs.rfind(|(k, _)| k.trim().eq_ignore_ascii_case(key))?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// Whether that value is yes.
pub fn yes(text: &str, key: &str) -> bool {
    value(text, key).is_some_and(|v| v.eq_ignore_ascii_case("yes"))
}

/// All that ufw loads of a family at its start, before its user's rules and after them, for one `iptables-restore --noflush`.
/// None where a default is none that ufw knows.
pub fn start(files: &UfwFiles, family: Family) -> Option<(String, String)> {
    let six = family == Family::Ipv6;
    let p = if six { "ufw6" } else { "ufw" };
    let default = |key: &str, otherwise: &str| {
        let word = value(&files.defaults, key).unwrap_or_else(|| otherwise.to_owned());
        matches!(word.as_str(), "ACCEPT" | "DROP" | "REJECT").then_some(word)
    };
    let policies = [
        ("INPUT", "input", default("DEFAULT_INPUT_POLICY", "DROP")?),
        ("OUTPUT", "output", default("DEFAULT_OUTPUT_POLICY", "ACCEPT")?),
        ("FORWARD", "forward", default("DEFAULT_FORWARD_POLICY", "DROP")?),
    ];
    let mut out = String::from("*filter\n");
    for (chain, way, policy) in &policies {
        for part in ["before-logging", "before", "after", "after-logging", "reject", "track"] {
            out.push_str(&format!(":{p}-{part}-{way} - [0:0]\n-A {chain} -j {p}-{part}-{way}\n"));
        }
        if policy == "REJECT" {
            out.push_str(&format!("-A {p}-reject-{way} -j REJECT\n"));
        }
        if policy == "ACCEPT" {
            for protocol in ["tcp", "udp"] {
                out.push_str(&format!("-A {p}-track-{way} -p {protocol} -m conntrack --ctstate NEW -j ACCEPT\n"));
            }
        }
        out.push_str(&format!(":{p}-skip-to-policy-{way} - [0:0]\n-A {p}-skip-to-policy-{way} -j {policy}\n"));
        out.push_str(&format!(":{p}-user-{way} - [0:0]\n:{p}-user-logging-{way} - [0:0]\n"));
    }
    for chain in ["logging-deny", "logging-allow", "user-limit", "user-limit-accept"] {
        out.push_str(&format!(":{p}-{chain} - [0:0]\n"));
    }
    out.push_str("COMMIT\n");
    for text in [&files.before, &files.after] {
        out.push_str(text);
        out.push('\n');
    }
    let mut tail = String::from("\n*filter\n");
    for (_, way, _) in &policies {
        tail.push_str(&format!("-A {p}-before-{way} -j {p}-user-{way}\n"));
    }
    for (chain, _, policy) in &policies {
        let policy = if policy == "ACCEPT" { "ACCEPT" } else { "DROP" };
        tail.push_str(&format!(":{chain} {policy} [0:0]\n"));
    }
    tail.push_str("COMMIT\n");
    Some((out, tail))
}

/// What ufw loads of IPv6 where it is told to leave it alone: nothing but loopback gets through.
pub const SHUT: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n\
                    -A OUTPUT -o lo -j ACCEPT\nCOMMIT\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ufw_is_enabled_only_by_a_yes() {
        assert!(yes("# /etc/ufw/ufw.conf\nENABLED=yes\nLOGLEVEL=low\n", "ENABLED"));
        assert!(yes("ENABLED=no\nENABLED=\"yes\"\n", "ENABLED"));
        assert!(!yes("#ENABLED=yes\n", "ENABLED"));
        assert!(!yes("ENABLED=no\n", "ENABLED"));
        assert!(!yes("\u{fffd}", "ENABLED"));
    }

    #[test]
    fn the_defaults_become_the_last_word() {
        let files = |defaults: &str| UfwFiles { defaults: defaults.into(), ..UfwFiles::default() };
        let (four, tail) = start(&files("DEFAULT_INPUT_POLICY=\"REJECT\"\n"), Family::Ipv4).unwrap();
        assert!(four.contains("-A ufw-reject-input -j REJECT\n"));
        assert!(tail.ends_with(":INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\nCOMMIT\n"));
        assert!(start(&files(""), Family::Ipv6).unwrap().0.contains("-A INPUT -j ufw6-before-input\n"));
        assert_eq!(start(&files("DEFAULT_INPUT_POLICY=\"$(id)\"\n"), Family::Ipv4), None);
    }
}
