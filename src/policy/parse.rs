//! The text of a policy file -> a validated policy, or every mistake in it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Mistakes};
use super::raw::{Section, Value, boolean, integer, list, string, word, wrong_type};
use super::{MODES, Mode, Policy, STRATEGIES};

/// Longest text that is read as a policy, in bytes.
pub const POLICY_LIMIT: usize = 256 << 10;

/// Reads a policy. What the text does not name keeps the value of [`Policy::default`]; `mode` above the first table is the
/// default of every place's.
pub fn parse(text: &str) -> Result<Policy, Vec<Mistake>> {
    let mut mistakes = Mistakes::new(text);
    if text.len() > POLICY_LIMIT {
        mistakes.add(0..0, format!("the policy is longer than {POLICY_LIMIT} bytes"));
        return Err(mistakes.into_found());
    }
    let (document, errors) = DeTable::parse_recoverable(text);
    mistakes.add_syntax(errors);
    let policy = read(document.get_ref(), &mut mistakes);
    let found = mistakes.into_found();
    if found.is_empty() { Ok(policy) } else { Err(found) }
}

fn read(document: &DeTable<'_>, m: &mut Mistakes<'_>) -> Policy {
    let mut policy = Policy::default();
    let top = Section::top(document, m);
    let mut default = Mode::Repair;
    top.read("mode", m, &mut default, mode);
    for place in [&mut policy.firewall.mode, &mut policy.wrappers.mode, &mut policy.sshd.mode] {
        *place = default;
    }

    let ssh = top.table("ssh");
    ssh.read("port", m, &mut policy.ssh.ports, ports);
    ssh.read("sources", m, &mut policy.ssh.sources, |m, v| sources(m, v).map(Some));
    ssh.read("interfaces", m, &mut policy.ssh.interfaces, |m, v| interfaces(m, v).map(Some));

    let firewall = top.table("firewall");
    firewall.read("mode", m, &mut policy.firewall.mode, mode);
    firewall.read("strategy", m, &mut policy.firewall.strategy, |m, v| word(m, v, &STRATEGIES));
    firewall.read("persist", m, &mut policy.firewall.persist, boolean);
    firewall.read("respect", m, &mut policy.firewall.respect, |m, v| list(m, v, "a list of names", glob));
    firewall.read("panic", m, &mut policy.firewall.panic, mode);
    firewall.read("conntrack", m, &mut policy.firewall.conntrack, mode);
    firewall.read("unrehearsed", m, &mut policy.firewall.unrehearsed, boolean);

    top.table("wrappers").read("mode", m, &mut policy.wrappers.mode, mode);
    let sshd = top.table("sshd");
    sshd.read("mode", m, &mut policy.sshd.mode, mode);
    sshd.read("unmask", m, &mut policy.sshd.unmask, boolean);
    sshd.read("persist", m, &mut policy.sshd.persist, boolean);
    sshd.read("emergency", m, &mut policy.sshd.emergency, boolean);
    sshd.read("logins", m, &mut policy.sshd.logins, mode);

    top.table("disk").read("reserve", m, &mut policy.disk.reserve, boolean);
    let restraint = top.table("restraint");
    restraint.read("attempts", m, &mut policy.restraint.attempts, |m, v| integer(m, v, "a number of repairs", 1, 1000));
    restraint.read("per", m, &mut policy.restraint.per_seconds, span_of_time);

    top.table("control").read("group", m, &mut policy.control.group, |m, v| group(m, v).map(Some));
    let report = top.table("report");
    report.read("console", m, &mut policy.report.console, boolean);
    report.read("metrics", m, &mut policy.report.metrics, |m, v| folder(m, v).map(Some));
    policy
}

fn mode(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<Mode> {
    word(m, value, &MODES)
}

fn port(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<u16> {
    integer(m, value, "a port", 1, u32::from(u16::MAX)).and_then(|n| u16::try_from(n).ok())
}

fn ports(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<Vec<u16>> {
    let mut ports = match value.get_ref() {
        DeValue::Array(_) => list(m, value, "a port", port)?,
        DeValue::Integer(_) => vec![port(m, value)?],
        _ => {
            wrong_type(m, value, "a port or a list of ports");
            return None;
        }
    };
    let mut seen = Vec::new();
    ports.retain(|p| !seen.contains(p) && (seen.push(*p), true).1);
    not_empty(m, value, ports, "at least one port")
}

fn sources(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<Vec<IpNet>> {
    let nets = list(m, value, "a list of addresses and networks", source)?;
    not_empty(
        m,
        value,
        nets,
        "at least one address or network; without `sources`, somebody outside must be able to connect",
    )
}

/// An address, or a network whose host bits are zero.
fn source(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<IpNet> {
    const EXPECTED: &str = "an address or a network, such as \"198.51.100.0/24\" or \"2001:db8::/32\"";
    let (text, span) = string(m, value, EXPECTED)?;
    let net = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(address), _) => IpNet::from(address),
        (_, Ok(net)) => net,
        _ => {
            m.add(span, format!("expected {EXPECTED}"));
            return None;
        }
    };
    if let IpAddr::V6(address) = net.network()
        && let Some(four) = address.to_ipv4_mapped()
        && net.prefix_len() >= 96
    {
        m.add(span, format!("an IPv4 network in the form of IPv6: did you mean \"{four}/{}\"?", net.prefix_len() - 96));
        return None;
    }
    if net.trunc() != net {
        m.add(span, format!("an address inside the network: did you mean \"{}\" or \"{}\"?", net.trunc(), net.addr()));
        return None;
    }
    Some(net)
}

fn interfaces(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<Vec<String>> {
    let names = list(m, value, "a list of interfaces", interface)?;
    not_empty(m, value, names, "at least one interface; without `interfaces`, those with a default route count")
}

/// A name that the kernel takes for a link (dev_valid_name: 1 to 15 bytes, no `/`, no `:`, no white space).
fn interface(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<String> {
    const EXPECTED: &str =
        "the name of an interface, such as \"eth0\" (1 to 15 characters, none of `/`, `:` and white space)";
    let (text, span) = string(m, value, EXPECTED)?;
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > 15 || matches!(text.as_str(), "." | "..") || text.contains(wrong) {
        m.add(span, format!("expected {EXPECTED}"));
        return None;
    }
    Some(text)
}

fn glob(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<String> {
    let (text, span) = string(m, value, "the name of a chain, set or table, `*` for any characters and `?` for one")?;
    let mut expected = |what: &str| {
        m.add(span.clone(), format!("expected {what}"));
        None
    };
    if text.is_empty() || text.len() > 255 {
        return expected("a name of 1 to 255 bytes");
    }
    if text.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return expected("a name without white space and control characters");
    }
    if text.contains(['[', ']', '{', '}']) {
        return expected("only `*` and `?` as wildcards: there are no classes and alternatives");
    }
    if text.chars().all(|c| c == '*') {
        return expected("some names, not every name; to leave the firewall alone, set its `mode` to \"report\"");
    }
    Some(text)
}

/// `90s`, `30m`, `1h`, `2d`, or several in that falling order (`1h30m`), up to 30 days; in seconds.
pub fn duration(text: &str) -> Option<u64> {
    seconds(text).filter(|s| (1..=30 * 86400).contains(s))
}

fn span_of_time(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<u64> {
    const EXPECTED: &str = "a duration from 1 second to 30 days, such as \"90s\", \"30m\", \"1h\", \"1h30m\" or \"2d\"";
    if let DeValue::Integer(number) = value.get_ref() {
        m.add(value.span(), format!("expected {EXPECTED}: did you mean \"{number}s\"?"));
        return None;
    }
    let (text, span) = string(m, value, EXPECTED)?;
    let seconds = self::duration(&text);
    if seconds.is_none() {
        m.add(span, format!("expected {EXPECTED}"));
    }
    seconds
}

fn seconds(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0u64;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        let (unit, after) = rest.get(digits..)?.split_at_checked(1)?;
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86400,
            _ => return None,
        };
        if unit >= last {
            return None;
        }
        last = unit;
        sum = sum.checked_add(number.checked_mul(unit)?)?;
        rest = after;
    }
    (last != u64::MAX).then_some(sum)
}

/// A group's name, as useradd(8) and systemd take them.
fn group(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<String> {
    const EXPECTED: &str = "the name of a group, such as \"adm\"";
    let (text, span) = string(m, value, EXPECTED)?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    if !text.starts_with(first) || text.len() > 31 || !text.chars().all(good) {
        m.add(span, format!("expected {EXPECTED}"));
        return None;
    }
    Some(text)
}

fn folder(m: &mut Mistakes<'_>, value: &Value<'_>) -> Option<PathBuf> {
    const EXPECTED: &str = "the absolute path of a folder, without `..`";
    let (text, span) = string(m, value, EXPECTED)?;
    let steps_out = text.split('/').any(|part| part == "..");
    if !text.starts_with('/') || steps_out || text.contains(char::is_control) || text.len() > 4095 {
        m.add(span, format!("expected {EXPECTED}"));
        return None;
    }
    Some(PathBuf::from(text))
}

fn not_empty<T>(m: &mut Mistakes<'_>, value: &Value<'_>, list: Vec<T>, expected: &str) -> Option<Vec<T>> {
    if list.is_empty() {
        m.add(value.span(), format!("expected {expected}"));
        return None;
    }
    Some(list)
}
