//! What is set at boot of the kernel's variables (sysctl.d(5)).

use crate::policy::respects;

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Counted from 1.
    pub line: usize,
    /// As the path below /proc/sys.
    pub key: String,
    /// None: no pattern is to set it.
    pub value: Option<String>,
}

pub fn settings(text: &[u8]) -> Vec<Setting> {
    let text = String::from_utf8_lossy(text);
    text.lines().zip(1..).filter_map(|(text, line)| setting(text.trim(), line)).collect()
}

fn setting(text: &str, line: usize) -> Option<Setting> {
    if text.is_empty() || text.starts_with(['#', ';']) {
        return None;
    }
    let (key, value) = match text.split_once('=') {
        // What cannot be set is no error then.
        Some((key, value)) => (key.trim().trim_start_matches('-'), Some(value.trim().to_owned())),
        None => (text.strip_prefix('-')?, None),
    };
    Some(Setting { line, key: path(key), value })
}

/// The first separator says which one it is; the other is part of a name.
fn path(key: &str) -> String {
    match key.chars().find(|c| matches!(c, '.' | '/')) {
        Some('.') => key
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// Which of the settings, in the order of their files, has the last word on a variable: one that names it goes before any
/// pattern.
pub fn last_word<'a>(settings: impl DoubleEndedIterator<Item = &'a Setting> + Clone, key: &str) -> Option<&'a Setting> {
    let named = settings.clone().rev().filter(|s| s.key == key).collect::<Vec<_>>();
    if named.is_empty() {
        let fits = |s: &&Setting| s.value.is_some() && respects(std::slice::from_ref(&s.key), key);
        return settings.rev().find(fits);
    }
    named.into_iter().find(|s| s.value.is_some())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EACH: &str = "net/ipv4/conf/eth0/rp_filter";

    fn said(text: &str, key: &str) -> Option<(usize, String)> {
        let settings = settings(text.as_bytes());
        last_word(settings.iter(), key).and_then(|s| Some((s.line, s.value.clone()?)))
    }

    #[test]
    fn a_name_goes_before_a_pattern_and_the_last_one_holds() {
        let said_of_each = |text: &str| said(text, EACH).map(|(line, value)| format!("{line}: {value}"));
        assert_eq!(said_of_each("# x\nnet.ipv4.conf.eth0.rp_filter = 1\n").as_deref(), Some("2: 1"));
        assert_eq!(
            said_of_each("net/ipv4/conf/eth0/rp_filter=1\n-net.ipv4.conf.eth0.rp_filter=2").as_deref(),
            Some("2: 2")
        );
        assert_eq!(said_of_each("net.ipv4.conf.*.rp_filter = 2").as_deref(), Some("1: 2"));
        assert_eq!(
            said_of_each("net.ipv4.conf.eth0.rp_filter=1\nnet.ipv4.conf.*.rp_filter=2").as_deref(),
            Some("1: 1")
        );
        assert_eq!(said_of_each("net.ipv4.conf.*.rp_filter=2\n-net.ipv4.conf.eth0.rp_filter"), None);
        assert_eq!(said_of_each("net.ipv4.conf.all.rp_filter=1"), None);
        assert_eq!(said("net.ipv4.conf.eth0/7.rp_filter=1", "net/ipv4/conf/eth0.7/rp_filter"), Some((1, "1".into())));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let settings = settings(&bytes);
            let _ = last_word(settings.iter(), EACH);
        }
    }
}
