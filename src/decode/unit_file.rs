//! What a unit file runs (systemd.service(5), systemd.syntax(7)).

/// A line of a unit file or drop-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Which of the files, counted from 0.
    pub file: usize,
    /// Counted from 1.
    pub line: usize,
    pub key: String,
    pub value: String,
}

/// The commands of `ExecStart=`, each as its words. `files`: the unit file, then its drop-ins, in their order. What needs
/// systemd to be understood (quotes, specifiers, variables) stays as it is written.
pub fn exec_start(files: &[Vec<u8>]) -> Vec<Vec<String>> {
    let commands = in_force(files, "[Service]", |key| key == "ExecStart");
    let words = |command: Assignment| {
        let value = command.value.trim_start_matches(['@', '-', ':', '+', '!']);
        value.split_whitespace().map(str::to_owned).collect()
    };
    commands.into_iter().map(words).collect()
}

/// Where a socket unit listens: the lines of `ListenStream=` and its like that are in force (systemd.socket(5)).
pub fn listens(files: &[Vec<u8>]) -> Vec<Assignment> {
    in_force(files, "[Socket]", |key| key.starts_with("Listen"))
}

/// The values of one key in one section.
pub fn values(files: &[Vec<u8>], section: &str, key: &str) -> Vec<String> {
    in_force(files, &format!("[{section}]"), |k| k == key).into_iter().map(|found| found.value).collect()
}

/// The assignments of these keys. An empty one takes all before it away.
fn in_force(files: &[Vec<u8>], wanted: &str, is_wanted: impl Fn(&str) -> bool) -> Vec<Assignment> {
    let mut found: Vec<Assignment> = Vec::new();
    for (file, bytes) in files.iter().enumerate() {
        let text = String::from_utf8_lossy(bytes);
        let mut section = String::new();
        let mut lines = text.lines().zip(1..);
        while let Some((first, line)) = lines.next() {
            let mut whole = first.trim().to_owned();
            while whole.ends_with('\\') && !whole.starts_with(['#', ';']) {
                whole.pop();
                let Some((more, _)) = lines.next() else { break };
                whole.push(' ');
                whole.push_str(more.trim());
            }
            if whole.starts_with('[') {
                section = whole;
                continue;
            }
            let Some((key, value)) = whole.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
                continue;
            };
            match (section == wanted && is_wanted(key), value.is_empty()) {
                (true, true) => found.clear(),
                (true, false) => found.push(Assignment { file, line, key: key.to_owned(), value: value.to_owned() }),
                (false, _) => {}
            }
        }
    }
    found
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

    #[test]
    fn an_empty_assignment_takes_away_what_a_socket_listens_on() {
        let unit = b"[Socket]\nListenStream=22\nAccept=no\n[Install]\nListenStream=1\n".to_vec();
        let places =
            |files: &[Vec<u8>]| listens(files).into_iter().map(|l| (l.file, l.line, l.value)).collect::<Vec<_>>();
        assert_eq!(places(std::slice::from_ref(&unit)), [(0, 2, "22".to_owned())]);
        let more = b"# mine\n[Socket]\nListenStream = \\\n 2222\n".to_vec();
        assert_eq!(places(&[unit.clone(), more]), [(0, 2, "22".to_owned()), (1, 3, "2222".to_owned())]);
        let other = b"[Socket]\nListenDatagram=\n;ListenStream=1\nListenStream=[::]:2222\n".to_vec();
        assert_eq!(places(&[unit, other]), [(1, 4, "[::]:2222".to_owned())]);
    }

    #[test]
    fn a_value_is_of_its_own_section() {
        let unit =
            b"[Install]\nWantedBy=multi-user.target graphical.target\n[Socket]\nListenStream=22\nAlias=no\n".to_vec();
        let more = b"[Socket]\nListenStream=\nListenStream = 0.0.0.0:2222\n".to_vec();
        let files = [unit, more];
        assert_eq!(values(&files[..1], "Install", "WantedBy"), ["multi-user.target graphical.target"]);
        assert_eq!(values(&files, "Install", "Alias"), [""; 0]);
        assert_eq!(values(&files, "Socket", "ListenStream"), ["0.0.0.0:2222"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = (exec_start(std::slice::from_ref(&bytes)), listens(&[bytes]));
        }
    }
}
