//! What `sshd -T` prints: one lower-case keyword and its value a line (sshd_config(5)).

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::facts::Settings;

/// The settings that matter for reaching sshd; a line that is not understood is left out.
pub fn settings(text: &[u8]) -> Settings {
    let mut out = Settings::default();
    for line in String::from_utf8_lossy(text).lines() {
        let (keyword, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = value.trim();
        let words = || value.split_whitespace().map(str::to_owned);
        match keyword {
            "port" => out.ports.extend(value.parse::<u16>()),
            "listenaddress" => out.listen.extend(listen_address(value)),
            "addressfamily" => out.address_family = value.to_owned(),
            "maxstartups" => out.max_startups = value.to_owned(),
            "persourcepenalties" => out.penalties = value != "no",
            "persourcepenaltyexemptlist" => out.exempt.extend(value.split(',').filter_map(net)),
            "usedns" => out.use_dns = value == "yes",
            "allowusers" => out.allow_users.extend(words()),
            "denyusers" => out.deny_users.extend(words()),
            "allowgroups" => out.allow_groups.extend(words()),
            "denygroups" => out.deny_groups.extend(words()),
            "authorizedkeysfile" => out.authorized_keys.extend(words()),
            "strictmodes" => out.strict_modes = value == "yes",
            "hostkey" => out.host_keys.push(value.to_owned()),
            _ => {}
        }
    }
    out
}

/// An address, or a network.
fn net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `0.0.0.0:22`, `[::]:22`, either with ` rdomain NAME` behind it.
fn listen_address(value: &str) -> Option<(IpAddr, u16)> {
    let address: SocketAddr = value.split_whitespace().next()?.parse().ok()?;
    Some((address.ip(), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_output_of_sshd_is_read() {
        let text = "port 22\nport 2222\naddressfamily any\nlistenaddress [::]:22\nlistenaddress 192.0.2.1:2222 rdomain mgmt\n\
                    usedns no\npersourcepenalties crash:90 max:600\npersourcepenaltyexemptlist 10.0.0.0/8,fd00::1,x\nmaxstartups 10:30:100\n\
                    hostkey /etc/ssh/ssh_host_rsa_key\nallowusers alice bob@10.0.0.0/8\n\
                    denyusers eve\nport 99999\nlistenaddress nonsense\nbanner none\nstrictmodes yes\nauthorizedkeysfile .ssh/authorized_keys /k/%u\n";
        let settings = settings(text.as_bytes());
        assert_eq!(settings.ports, [22, 2222]);
        assert_eq!(settings.listen, [("::".parse().unwrap(), 22), ("192.0.2.1".parse().unwrap(), 2222)]);
        assert_eq!((settings.address_family.as_str(), settings.max_startups.as_str()), ("any", "10:30:100"));
        assert_eq!(settings.allow_users, ["alice", "bob@10.0.0.0/8"]);
        assert_eq!(settings.deny_users, ["eve"]);
        assert_eq!(settings.host_keys, ["/etc/ssh/ssh_host_rsa_key"]);
        assert_eq!(settings.authorized_keys, [".ssh/authorized_keys", "/k/%u"]);
        assert!(!settings.use_dns && settings.strict_modes && settings.penalties);
        assert_eq!(settings.exempt, ["10.0.0.0/8", "fd00::1/128"].map(|net| net.parse::<IpNet>().unwrap()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = settings(&bytes);
        }
    }
}
