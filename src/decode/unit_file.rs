//! What a unit file runs (systemd.service(5), systemd.syntax(7)).

/// The commands of `ExecStart=`, each as its words. `files`: the unit file, then its drop-ins, in their order. What needs
/// systemd to be understood (quotes, specifiers, variables) stays as it is written.
pub fn exec_start(files: &[Vec<u8>]) -> Vec<Vec<String>> {
    let mut commands: Vec<Vec<String>> = Vec::new();
    for file in files {
        let text = String::from_utf8_lossy(file).replace("\\\n", " ");
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            let Some(("ExecStart", value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                continue;
            };
            if section != "[Service]" {
                continue;
            }
            if value.is_empty() {
                commands.clear();
                continue;
            }
            let value = value.trim_start_matches(['@', '-', ':', '+', '!']);
            commands.push(value.split_whitespace().map(str::to_owned).collect());
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_drop_in_adds_a_command_or_begins_anew() {
        let unit =
            b"[Unit]\nExecStart=/no\n[Service]\n# ExecStart=/no\nExecStart=-/usr/sbin/nft \\\n -f /etc/nftables.conf\n"
                .to_vec();
        let run = |files: &[Vec<u8>]| exec_start(files).iter().map(|words| words.join(" ")).collect::<Vec<_>>();
        assert_eq!(run(std::slice::from_ref(&unit)), ["/usr/sbin/nft -f /etc/nftables.conf"]);
        let more = b"[Service]\nExecStart=/usr/sbin/nft -f /etc/more\n".to_vec();
        assert_eq!(run(&[unit.clone(), more]).len(), 2);
        let other = b"[Service]\nExecStart=\nExecStart=/usr/sbin/nft -f /srv/rules\n".to_vec();
        assert_eq!(run(&[unit, other]), ["/usr/sbin/nft -f /srv/rules"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = exec_start(&[bytes]);
        }
    }
}
