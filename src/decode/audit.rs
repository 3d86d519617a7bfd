//! Audit's records of changed rules (AUDIT_NETFILTER_CFG; `audit_log_nfcfg()` of the kernel's `kernel/auditsc.c`).
//!
//! A record is text, and whoever may make a table in some namespace chooses a part of it: what can be read in two ways
//! names nobody.

use crate::facts::Family;

/// AUDIT_NETFILTER_CFG of linux/audit.h.
pub const NETFILTER_CFG: u16 = 1325;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// MAX_AUDIT_MESSAGE_LENGTH of linux/audit.h.
const LONGEST: usize = 8970;
/// XT_TABLE_MAXNAMELEN
const TABLE: usize = 32;
/// TASK_COMM_LEN without its NUL.
const COMM: usize = 15;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;

/// A change of rules in one of the machine's network namespaces; of which one, the kernel does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesChanged {
    pub operation: Operation,
    /// Of x_tables the table's name.
    pub table: String,
    /// None: of bridges, ARP, a device or more than one family.
    pub family: Option<Family>,
    /// How many entries an x_tables table had until then.
    pub entries: u32,
    /// The process, and the name of its thread: since Linux 5.9.
    pub by: Option<(u32, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// x_tables made a table.
    Register,
    Replace,
    /// A table went, with its namespace or its module.
    Unregister,
    Nftables,
    /// A kernel before 5.9 does not say, or the text is ambiguous.
    Unknown,
}

/// The change that a message tells of; None of any other message.
pub fn rules_changed(message: &[u8]) -> Option<RulesChanged> {
    let kind = message.get(4..6)?;
    if kind != NETFILTER_CFG.to_ne_bytes() {
        return None;
    }
    let text = message.get(HEADER..)?;
    let text = text.get(..text.len().min(LONGEST))?;
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    // audit(1364481363.243:24287): table=filter family=2 entries=5 op=xt_replace pid=123 subj=unconfined comm="iptables"
    let text = text.get(..end)?.strip_prefix(b"audit(")?;
    let stamp = text.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b':'))?;
    let text = text.get(stamp..)?.strip_prefix(b"): table=")?;
    let mut found: Option<RulesChanged> = None;
    for (at, _) in text.windows(FAMILY.len()).enumerate().filter(|(_, window)| *window == FAMILY) {
        let Some(rest) = text.get(at + FAMILY.len()..).and_then(fields) else { continue };
        // The table's name, or a security module's label, looks like what is around it.
        if let Some(first) = found {
            return Some(RulesChanged { operation: Operation::Unknown, by: None, ..first });
        }
        let table = text.get(..at.min(TABLE)).unwrap_or_default();
        found = Some(RulesChanged { table: String::from_utf8_lossy(table).into_owned(), ..rest });
    }
    found
}

const FAMILY: &[u8] = b" family=";

/// What follows the table's name, which is left empty.
fn fields(text: &[u8]) -> Option<RulesChanged> {
    let (family, text) = number(text)?;
    let family = match u8::try_from(family) {
        Ok(NFPROTO_IPV4) => Some(Family::Ipv4),
        Ok(NFPROTO_IPV6) => Some(Family::Ipv6),
        _ => None,
    };
    let (entries, text) = number(text.strip_prefix(b" entries=")?)?;
    let changed = RulesChanged { operation: Operation::Unknown, table: String::new(), family, entries, by: None };
    if text.is_empty() {
        return Some(changed);
    }
    let text = text.strip_prefix(b" op=")?;
    let word = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let (word, text) = text.split_at_checked(word)?;
    let operation = match word {
        b"xt_register" => Operation::Register,
        b"xt_replace" => Operation::Replace,
        b"xt_unregister" => Operation::Unregister,
        _ if word.starts_with(b"nft_") => Operation::Nftables,
        _ => Operation::Unknown,
    };
    let (pid, text) = number(text.strip_prefix(b" pid=")?)?;
    // A label may have blanks in it, the name has none.
    let at = text.windows(NAME.len()).rposition(|window| window == NAME)?;
    if at > 0 && !text.starts_with(b" subj=") {
        return None;
    }
    let by = name(text.get(at + NAME.len()..)?)?;
    Some(RulesChanged { operation, by: Some((pid, by)), ..changed })
}

const NAME: &[u8] = b" comm=";

/// A decimal number, and what follows it.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

/// A word as `audit_log_untrustedstring()` writes it: in quotes, or as hexadecimal digits where it has odd characters; later
/// kernels may put something behind it.
fn name(text: &[u8]) -> Option<String> {
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let word = text.get(..end)?;
    let bytes = match word.strip_prefix(b"\"") {
        Some(quoted) => quoted.strip_suffix(b"\"")?.to_vec(),
        None => word.chunks(2).map(byte).collect::<Option<Vec<u8>>>()?,
    };
    (bytes.len() <= COMM).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

fn byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |digit: &u8| char::from(*digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(text: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + text.len()).unwrap();
        [&length.to_ne_bytes(), &NETFILTER_CFG.to_ne_bytes()[..], &[0; 10], text].concat()
    }

    fn decode(text: &str) -> Option<RulesChanged> {
        rules_changed(&message(format!("audit(1364481363.243:24287): {text}").as_bytes()))
    }

    fn by(text: &str) -> Option<(u32, String)> {
        decode(text).unwrap_or_else(|| panic!("{text}")).by
    }

    #[test]
    fn a_record_of_the_kernel_is_read() {
        let change = decode("table=filter family=2 entries=4 op=xt_replace pid=5004 comm=\"iptables-legacy\"").unwrap();
        let expected = RulesChanged {
            operation: Operation::Replace,
            table: "filter".into(),
            family: Some(Family::Ipv4),
            entries: 4,
            by: Some((5004, "iptables-legacy".into())),
        };
        assert_eq!(change, expected);
        for (text, operation, family) in [
            (
                "table=raw family=10 entries=0 op=xt_register pid=1 subj=unconfined comm=\"x\"",
                Operation::Register,
                true,
            ),
            (
                "table=filter family=2 entries=6 op=xt_unregister pid=5 comm=\"kworker/u8:4\"",
                Operation::Unregister,
                true,
            ),
            ("table=x:2 family=1 entries=1 op=nft_register_table pid=5 comm=\"nft\"", Operation::Nftables, false),
            ("table=broute family=7 entries=1 op=xt_replace pid=5 comm=\"ebtables\"", Operation::Replace, false),
            ("table=filter family=2 entries=86", Operation::Unknown, true),
        ] {
            let change = decode(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((change.operation, change.family.is_some()), (operation, family), "{text}");
        }
    }

    #[test]
    fn a_name_is_read_as_audit_writes_it() {
        let with = |more: &str| by(&format!("table=filter family=2 entries=4 op=xt_replace pid=7{more}"));
        let named = |name: &str| Some((7, name.to_owned()));
        assert_eq!(with(" subj=system_u:system_r:x_t:s0-s0:c0.c1023 comm=\"ufw\""), named("ufw"));
        assert_eq!(with(" subj=/usr/sbin/x (enforce) comm=\"ufw\""), named("ufw"));
        assert_eq!(with(" comm=612062"), named("a b"));
        assert_eq!(with(" comm=611B5B324A"), named("a\x1b[2J"));
        assert_eq!(with(" comm=\"ufw\" exe=\"/usr/sbin/ufw\""), named("ufw"));
    }

    #[test]
    fn what_can_be_read_in_two_ways_names_nobody() {
        let evil = "x family=2 entries=0 op=xt_replace pid=1 subj=a";
        let change =
            decode(&format!("table={evil}:5 family=1 entries=1 op=nft_register_table pid=77 comm=\"nft\"")).unwrap();
        assert_eq!((change.operation, change.by), (Operation::Unknown, None));
        // Where only one way leads to the end, it is the kernel's.
        let evil = "x family=2 entries=0 op=xt_replace pid=1 comm=\"ufw\"";
        let text = format!("table={evil}:5 family=1 entries=1 op=nft_register_table pid=77 comm=\"nft\"");
        assert_eq!(by(&text), Some((77, "nft".to_owned())));
        let label = "a family=2 entries=0 op=xt_replace pid=1 subj=a";
        assert_eq!(by(&format!("table=filter family=2 entries=4 op=xt_replace pid=7 subj={label} comm=\"ufw\"")), None);
    }

    #[test]
    fn what_is_no_record_is_none() {
        for text in [
            "",
            "table=filter",
            "table=filter family=2",
            "table=filter family=99999999999 entries=1",
            "table=filter family=2 entries=4 op=xt_replace pid=7",
            "table=filter family=2 entries=4 op=xt_replace pid=7 comm=\"ufw",
            "table=filter family=2 entries=4 op=xt_replace pid=7 comm=616",
            "table=filter family=2 entries=4 op=xt_replace pid=7 comm=xy",
            "table=filter family=2 entries=4 op=xt_replace pid=7 comm=\"sixteen-letters-\"",
            "table=filter family=2 entries=4 op=xt_replace pid=7 other=x comm=\"ufw\"",
        ] {
            assert_eq!(decode(text), None, "{text}");
        }
        let other = [&message(b"audit(1.2:3): table=filter family=2 entries=86")[..4], &[0; 40]].concat();
        assert_eq!(rules_changed(&other), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_not(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = rules_changed(&bytes);
            let _ = rules_changed(&message(&bytes));
        }

        /// Whatever the table is called, whatever its label is, nobody else is named than who did it.
        #[test]
        fn nobody_else_is_named(
            table in "[ -~]{0,40}|( family=(2|1)| entries=1| op=(xt_replace|nft_x)| pid=1| subj=a| comm=(\"u\"|75)){0,7}",
            label in "| subj=[ -~]{0,30}| subj=( family=2| entries=1| op=xt_replace| pid=1| subj=a| comm=(\"u\"|75)){0,7}",
            pid in any::<u32>(),
            comm in "[!#-~]{0,15}",
        ) {
            let text = format!("table={table} family=2 entries=4 op=xt_replace pid={pid}{label} comm=\"{comm}\"");
            let change = decode(&text);
            prop_assert!(change.is_some(), "{text}");
            let named = change.and_then(|change| change.by);
            prop_assert!(named.is_none() || named == Some((pid, comm)), "{text}: {named:?}");
        }
    }
}
