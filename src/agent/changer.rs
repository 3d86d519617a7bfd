//! Who changed something, as a person would name them: `ufw (pid 811)`, not the iptables that it ran.

use crate::facts::escape;

/// How far up it is looked.
const GENERATIONS: usize = 4;
/// Programs that do what others tell them.
const TOOLS: [&str; 15] = [
    "nft",
    "iptables",
    "ip6tables",
    "iptables-restor",
    "ip6tables-resto",
    "iptables-nft-re",
    "ip6tables-nft-r",
    "xtables-nft-mul",
    "iptables-legacy",
    "ip6tables-legac",
    "xtables-legacy-",
    "iptables-nft",
    "ip6tables-nft",
    "ebtables",
    "arptables",
];
/// Who stands above a tool and is nobody in particular.
const NOBODY: [&str; 8] = ["sh", "bash", "dash", "zsh", "sudo", "systemd", "init", "nsenter"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changer {
    pub name: String,
    pub pid: u32,
    /// The tool that did it for them.
    by: Option<String>,
}

impl Changer {
    /// The process that the kernel named; `parent` gives a process's parent with its name, as long as they run.
    pub fn of(pid: u32, name: &str, parent: impl Fn(u32) -> Option<(u32, String)>) -> Changer {
        let direct = Changer { name: escape(name), pid, by: None };
        let mut at = (pid, name.to_owned());
        for _ in 0..GENERATIONS {
            if !TOOLS.contains(&at.1.as_str()) {
                break;
            }
            let Some(above) = parent(at.0) else { return direct };
            at = above;
        }
        match at.0 == pid || TOOLS.contains(&at.1.as_str()) || NOBODY.contains(&at.1.as_str()) {
            true => direct,
            false => Changer { name: escape(&at.1), pid: at.0, by: Some(escape(name)) },
        }
    }

    /// `changed by ufw (pid 811, iptables)`
    pub fn words(&self) -> String {
        let by = self.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
        format!("changed by {} (pid {}{by})", self.name, self.pid)
    }
}

/// The parent of a process that runs, with its name.
pub fn parent(pid: u32) -> Option<(u32, String)> {
    let of = |pid: u32| procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?.stat().ok();
    let above = u32::try_from(of(pid)?.ppid).ok()?;
    Some((above, of(above)?.comm))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10 iptables <- 9 ufw <- 8 bash; 20 nft <- 8 bash; 30 iptables-restore <- 31 sh <- 8 bash
    fn parents(pid: u32) -> Option<(u32, String)> {
        let (pid, name) = match pid {
            10 => (9, "ufw"),
            9 | 20 | 31 => (8, "bash"),
            30 => (31, "sh"),
            _ => return None,
        };
        Some((pid, name.to_owned()))
    }

    #[test]
    fn a_tool_is_named_by_who_runs_it() {
        for (pid, name, told) in [
            (10, "iptables", "changed by ufw (pid 9, by iptables)"),
            (20, "nft", "changed by nft (pid 20)"),
            (30, "iptables-restor", "changed by iptables-restor (pid 30)"),
            (40, "nft", "changed by nft (pid 40)"),
            (9, "puppet", "changed by puppet (pid 9)"),
            (9, "a\x1b[2J", "changed by a\\u{1b}[2J (pid 9)"),
        ] {
            assert_eq!(Changer::of(pid, name, parents).words(), told);
        }
    }
}
