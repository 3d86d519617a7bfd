//! Interfaces that a host's own files bring up: interfaces(5) of ifupdown, systemd.network(5), netplan(5). A name that stands
//! for several, or that is not there, is left out.

use super::unit_file::values;

/// `iface eth0 inet dhcp`
pub fn ifupdown(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let name = |line: &str| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "iface").and_then(|_| words.next()).map(str::to_owned)
    };
    plain(text.lines().filter_map(name))
}

/// `Name=` of `[Match]`
pub fn networkd(text: &[u8]) -> Vec<String> {
    let names = values(&[text.to_vec()], "Match", "Name");
    plain(names.iter().flat_map(|value| value.split_whitespace()).map(str::to_owned))
}

/// The keys below `ethernets:`, or the `set-name:` in them.
pub fn netplan(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let mut names: Vec<String> = Vec::new();
    // How far `ethernets:` is from the left, and then the keys below it.
    let (mut above, mut keys) = (None, None);
    for line in text.lines() {
        let word = line.trim();
        let depth = line.len() - line.trim_start().len();
        if word.is_empty() || word.starts_with('#') {
            continue;
        }
        if above.is_some_and(|above| depth <= above) {
            (above, keys) = (None, None);
        }
        match (above, word.split_once(':')) {
            (None, Some(("ethernets", ""))) => above = Some(depth),
            (Some(_), Some((key, _))) if *keys.get_or_insert(depth) == depth => names.push(unquoted(key)),
            (Some(_), Some(("set-name", name))) => {
                names.pop();
                names.push(unquoted(name));
            }
            _ => {}
        }
    }
    plain(names.into_iter())
}

fn unquoted(word: &str) -> String {
    word.trim().trim_matches(['"', '\'']).to_owned()
}

/// Names that the kernel takes (`dev_valid_name` of net/core/dev.c), and that are not the loopback interface's.
fn plain(names: impl Iterator<Item = String>) -> Vec<String> {
    const LENGTH: usize = 15;
    let is_plain = |name: &String| {
        !name.is_empty()
            && name.len() <= LENGTH
            && name != "lo"
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@".contains(&b))
            && !name.starts_with('.')
    };
    names.filter(is_plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_names_its_interfaces() {
        let text = b"auto lo eth0\niface lo inet loopback\niface ens5 inet dhcp\n  iface ens5 inet6 auto\niface e* inet dhcp\n";
        assert_eq!(ifupdown(text), ["ens5", "ens5"]);
        assert_eq!(networkd(b"[Match]\nName=enp1s0 en*\n[Network]\nName=no\n"), ["enp1s0"]);
        let text = b"network:\n  version: 2\n  ethernets:\n    # one\n    ens5:\n      dhcp4: true\n      match: {macaddress: aa}\n      set-name: \"wan0\"\n    eth1:\n      optional: true\n  wifis:\n    wlan0: {}\n";
        assert_eq!(netplan(text), ["wan0", "eth1"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = (ifupdown(&bytes), networkd(&bytes), netplan(&bytes));
        }
    }
}
