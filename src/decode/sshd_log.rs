//! What sshd logs of the connections that it drops at once.

use std::net::IpAddr;

use crate::facts::ShutOut;

/// Sources that are kept apart.
const SOURCES: usize = 1024;
/// The longest word for why that is kept, in characters.
const WHY: usize = 80;

/// The sources that were dropped for a penalty, in the order in which they first were. One message a line, without a prefix.
pub fn shut_out(text: &[u8]) -> Vec<ShutOut> {
    let mut out: Vec<ShutOut> = Vec::new();
    for (source, why) in String::from_utf8_lossy(text).lines().filter_map(dropped) {
        let why = || why.chars().take(WHY).collect();
        match out.iter().position(|known| known.source == source) {
            Some(at) => (out[at].times, out[at].why) = (out[at].times + 1, why()),
            None if out.len() < SOURCES => out.push(ShutOut { source, times: 1, why: why() }),
            None => {}
        }
    }
    out
}

/// `drop connection #0 from [203.0.113.9]:41186 on [192.0.2.10]:22 penalty: failed authentication` (OpenSSH's sshd.c). Names
/// that clients make up stand at the beginning of no message.
fn dropped(line: &str) -> Option<(IpAddr, &str)> {
    let rest = line.strip_prefix("drop connection #")?;
    let (_, rest) = rest.split_once(" from [")?;
    let (source, rest) = rest.split_once("]:")?;
    let (_, why) = rest.split_once(" penalty: ")?;
    Some((source.parse().ok()?, why))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn who_was_dropped_for_a_penalty_is_counted() {
        let text = b"Server listening on :: port 22.\n\
            drop connection #0 from [203.0.113.9]:41186 on [192.0.2.10]:22 penalty: failed authentication\n\
            Invalid user drop connection #0 from [192.0.2.1]:1 on [192.0.2.10]:22 penalty: x from 203.0.113.9 port 1\n\
            drop connection #11 from [203.0.113.8]:1 on [192.0.2.10]:22 past MaxStartups\n\
            drop connection #3 from [2001:db8::9]:2 on [2001:db8:2::10]:22 penalty: caused crash\n\
            drop connection #0 from [203.0.113.9]:41190 on [192.0.2.10]:22 penalty: exceeded LoginGraceTime\n\
            drop connection #0 from [nobody]:2 on [192.0.2.10]:22 penalty: x\n";
        let entry =
            |source: &str, times, why: &str| ShutOut { source: source.parse().unwrap(), times, why: why.into() };
        let expected = [entry("203.0.113.9", 2, "exceeded LoginGraceTime"), entry("2001:db8::9", 1, "caused crash")];
        assert_eq!(shut_out(text), expected);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let lines = |n: u32| {
            format!("drop connection #0 from [10.0.{}.{}]:1 on [::]:22 penalty: {}\n", n >> 8, n & 255, "x".repeat(500))
        };
        let all = shut_out((0..5000).map(lines).collect::<String>().as_bytes());
        assert_eq!((all.len(), all[0].why.len()), (SOURCES, WHY));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in prop_oneof![Just(String::new()), "(drop connection #[0-9]* from \\[[0-9a-f:.]*\\]:.{0,20} penalty: .{0,9}\n){0,3}", ".*"]) {
            shut_out(text.as_bytes());
        }
    }
}
