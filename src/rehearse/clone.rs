//! A copy of the live rules in a scratch namespace: both back-ends, sets included.

use thiserror::Error;

use super::replay::{messages, words};
use crate::facts::{Family, Firewall, LegacyRules, Seen, escape};
use crate::host::{Call, Host, Netlink, NetlinkError, RunError, replace_legacy};

#[derive(Debug, Error)]
pub enum CloneError {
    #[error("{what} could not be read, and so not be copied: {why}")]
    Unread { what: &'static str, why: String },
    #[error("copy nf_tables")]
    Nft(#[source] NetlinkError),
    #[error("copy the {what}")]
    NftObject {
        what: String,
        #[source]
        source: std::io::Error,
    },
    #[error("copy the legacy table {table} of {family}")]
    Legacy {
        table: String,
        family: Family,
        #[source]
        source: std::io::Error,
    },
    #[error("copy the ipsets")]
    Ipset(#[source] RunError),
    #[error("copy the ipsets: {0}")]
    IpsetRefused(String),
}

/// The ipsets of the live host as text, for [`firewall`]; to be taken where the host's own network is seen.
#[derive(Debug, Clone, Default)]
pub struct IpsetsAsText(String);

/// Takes the ipsets, if rules could refer to any.
pub fn ipsets(host: &Host, firewall: &Firewall) -> Result<IpsetsAsText, CloneError> {
    match &firewall.ipsets {
        Seen::Absent => Ok(IpsetsAsText::default()),
        Seen::Unreadable(why) => Err(CloneError::Unread { what: "the ipsets", why: why.clone() }),
        Seen::Present(sets) if sets.is_empty() => Ok(IpsetsAsText::default()),
        Seen::Present(sets) => {
            let output = host.run(&Call::new("ipset", &["save"])).map_err(CloneError::Ipset)?;
            if !output.ok() {
                return Err(CloneError::IpsetRefused(output.complaint()));
            }
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(IpsetsAsText(in_order(&text, sets.iter().map(|s| (s.index, s.name.as_str())))))
        }
    }
}

/// A set's number is its place in the order of creation, and rules refer to sets by number: what was destroyed in between
/// gets a placeholder.
fn in_order<'a>(text: &str, sets: impl Iterator<Item = (u16, &'a str)>) -> String {
    const KEPT: usize = 4096;
    let name = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    let mut order: Vec<(u16, &str)> = sets.collect();
    order.sort();
    let mut out = String::new();
    let mut next = 0;
    for (index, set) in order {
        while next < index && usize::from(next) < KEPT {
            out.push_str(&format!("create ssh-rescue-gap-{next} bitmap:port range 1-1\n"));
            next += 1;
        }
        for line in text.lines().filter(|l| l.starts_with("create ") && name(l).as_deref() == Some(set)) {
            out.push_str(line);
            out.push('\n');
        }
        next = index.saturating_add(1);
    }
    for line in text.lines().filter(|l| l.starts_with("add ")) {
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// Makes the copy in the calling thread's namespace, which must be a scratch one.
pub fn firewall(host: &Host, firewall: &Firewall, sets: &IpsetsAsText) -> Result<(), CloneError> {
    if !sets.0.is_empty() {
        let call = Call { stdin: sets.0.as_bytes(), ..Call::new("ipset", &["restore"]) };
        let output = host.run(&call).map_err(CloneError::Ipset)?;
        if !output.ok() {
            return Err(CloneError::IpsetRefused(output.complaint()));
        }
    }
    legacy(Family::Ipv4, &firewall.legacy4)?;
    legacy(Family::Ipv6, &firewall.legacy6)?;
    match &firewall.nft {
        Seen::Absent => Ok(()),
        Seen::Unreadable(why) => Err(CloneError::Unread { what: "nf_tables", why: why.clone() }),
        Seen::Present(rules) => {
            let mut netlink = Netlink::netfilter().map_err(CloneError::Nft)?;
            let messages = messages(&rules.raw);
            netlink.batch(None, &messages).map_err(|error| match error {
                NetlinkError::Refused { index, source } => match messages.get(index) {
                    Some(message) => CloneError::NftObject { what: words(message), source },
                    None => CloneError::Nft(NetlinkError::Refused { index, source }),
                },
                error => CloneError::Nft(error),
            })
        }
    }
}

fn legacy(family: Family, seen: &Seen<LegacyRules>) -> Result<(), CloneError> {
    match seen {
        Seen::Absent => Ok(()),
        Seen::Unreadable(why) => Err(CloneError::Unread { what: "iptables-legacy", why: why.clone() }),
        Seen::Present(rules) => rules.raw.iter().try_for_each(|table| {
            let failed = |source| CloneError::Legacy { table: escape(&table.table), family, source };
            replace_legacy(family, table).map_err(failed)
        }),
    }
}

/// The devices that chains are bound to: they must be there before the chains.
pub fn devices(firewall: &Firewall) -> Vec<String> {
    let chains = firewall.tables().flat_map(|t| &t.chains).filter_map(|c| c.base.as_ref());
    let mut names: Vec<String> =
        chains.flat_map(|b| &b.devices).filter(|d| !d.is_empty() && !d.ends_with('*')).cloned().collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_keeps_its_number_where_others_were_destroyed() {
        let text = "create a hash:ip family inet\nadd a 192.0.2.1\ncreate b list:set size 8\nadd b a\n";
        let made = in_order(text, [(3, "b"), (1, "a")].into_iter());
        let creates: Vec<_> = made.lines().filter_map(|l| l.strip_prefix("create ")).collect();
        assert_eq!(
            creates,
            [
                "ssh-rescue-gap-0 bitmap:port range 1-1",
                "a hash:ip family inet",
                "ssh-rescue-gap-2 bitmap:port range 1-1",
                "b list:set size 8"
            ]
        );
        assert!(made.ends_with("add a 192.0.2.1\nadd b a\n"));
    }
}
