//! Audit's word on changes of iptables-legacy (NETFILTER_CFG), which reaches the agent from every network namespace of the
//! machine: whose rules they were is asked of the process, as long as it runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::changer::{Changer, parent};
use super::legacy::Suspect;
use super::wake::Wake;
use crate::decode::audit::{Operation, RulesChanged};

/// How far up it is looked for this program.
const GENERATIONS: usize = 6;
/// Of a process with more threads than these it is not asked where they are.
const MOST: usize = 64;
/// How many processes are asked in a second: whoever has a namespace of their own may make records without end.
const INQUIRIES: u32 = 32;

/// How often it may still be asked where a process is.
#[derive(Debug, Default)]
pub struct Inquiries {
    /// The second that is running, and how many were made in it.
    now: Option<(Instant, u32)>,
}

impl Inquiries {
    /// Where the process is, if it may be asked at this time.
    pub fn place(&mut self, at: Instant, pid: u32, name: &str) -> Place {
        let (begun, made) = self.now.filter(|(begun, _)| at.duration_since(*begun).as_secs() == 0).unwrap_or((at, 0));
        self.now = Some((begun, made.saturating_add(1)));
        if made < INQUIRIES { place(pid, name) } else { Place::Unknown }
    }
}

/// In which network namespace it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Here,
    Elsewhere,
    /// The process has ended, its number is another's by now, or its threads are in several.
    Unknown,
    /// It is this program's, or was started by it: a repair looks at its changes itself.
    Own,
}

/// What a record means; None: nothing for this host's rules. `place` is asked for the process of this number and its
/// thread of this name.
pub fn means(change: RulesChanged, place: impl FnOnce(u32, &str) -> Place) -> Option<Wake> {
    // Those of other families are not judged.
    let table = (change.family?, change.table);
    let suspect = |by| Some(Wake::Suspected(Suspect { table: table.clone(), entries: change.entries, by }));
    match (change.operation, change.by) {
        // Their own group tells of them, and only of this namespace's.
        (Operation::Nftables, _) => None,
        // A namespace's tables go by the hand of a thread of the kernel's own.
        (Operation::Unregister | Operation::Unknown, _) | (_, None) => suspect(None),
        (Operation::Register | Operation::Replace, Some((pid, name))) => match place(pid, &name) {
            Place::Here => Some(Wake::Legacy(Some(Changer::of(pid, &name, parent)))),
            Place::Unknown => suspect(Some(Changer::of(pid, &name, |_| None))),
            Place::Elsewhere | Place::Own => None,
        },
    }
}

/// Where the process's threads of that name are now: audit tells the number of the process and the name of the thread.
fn place(pid: u32, name: &str) -> Place {
    if own(pid) {
        return Place::Own;
    }
    let namespace = |of: &Path| fs::metadata(of.join("ns/net")).map(|file| (file.dev(), file.ino())).ok();
    let Some(ours) = namespace(Path::new("/proc/thread-self")) else { return Place::Unknown };
    let called = |thread: &Path| {
        let comm = fs::read(thread.join("comm")).unwrap_or_default();
        String::from_utf8_lossy(comm.strip_suffix(b"\n").unwrap_or(&comm)) == name
    };
    let threads: Vec<PathBuf> = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|t| t.path())
        .take(MOST)
        .collect();
    let mut places = threads.iter().filter(|thread| called(thread)).map(|thread| namespace(thread));
    match places.next().flatten() {
        Some(first) if threads.len() < MOST && places.all(|other| other == Some(first)) => {
            if first == ours {
                Place::Here
            } else {
                Place::Elsewhere
            }
        }
        _ => Place::Unknown,
    }
}

fn own(pid: u32) -> bool {
    let mut above = Some(pid);
    for _ in 0..GENERATIONS {
        let Some(at) = above else { return false };
        if at == std::process::id() {
            return true;
        }
        above = parent(at).map(|(pid, _)| pid);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::facts::Family;

    fn change(operation: Operation) -> RulesChanged {
        let by = Some((7, "ufw".to_owned()));
        RulesChanged { operation, table: "filter".into(), family: Some(Family::Ipv4), entries: 4, by }
    }

    fn suspect(by: Option<Changer>) -> Option<Wake> {
        Some(Wake::Suspected(Suspect { table: (Family::Ipv4, "filter".into()), entries: 4, by }))
    }

    #[test]
    fn only_who_is_seen_in_this_namespace_is_blamed_at_once() {
        let ufw = Changer::of(7, "ufw", |_| None);
        for operation in [Operation::Register, Operation::Replace] {
            let at = |place| means(change(operation), |_, _| place);
            assert_eq!(at(Place::Here), Some(Wake::Legacy(Some(ufw.clone()))));
            assert_eq!(at(Place::Unknown), suspect(Some(ufw.clone())));
            assert_eq!(at(Place::Elsewhere), None);
            assert_eq!(at(Place::Own), None);
        }
        for operation in [Operation::Unregister, Operation::Unknown] {
            assert_eq!(means(change(operation), |_, _| Place::Here), suspect(None));
        }
        let nobody = RulesChanged { by: None, ..change(Operation::Replace) };
        assert_eq!(means(nobody, |_, _| Place::Here), suspect(None));
    }

    #[test]
    fn what_others_tell_or_nobody_judges_wakes_nobody() {
        assert_eq!(means(change(Operation::Nftables), |_, _| Place::Here), None);
        let bridge = RulesChanged { family: None, ..change(Operation::Replace) };
        assert_eq!(means(bridge, |_, _| Place::Here), None);
    }

    #[test]
    fn only_so_many_processes_are_asked_in_a_second() {
        let (begin, own) = (Instant::now(), std::process::id());
        let mut inquiries = Inquiries::default();
        let mut ask = |milliseconds| inquiries.place(begin + Duration::from_millis(milliseconds), own, "x");
        for n in 0..u64::from(INQUIRIES) {
            assert_eq!(ask(n), Place::Own);
        }
        assert_eq!(ask(999), Place::Unknown);
        assert_eq!(ask(1000), Place::Own);
    }

    #[test]
    fn a_process_is_known_by_its_number_and_its_name() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(place(child.id(), "sleep"), Place::Own);
        assert_eq!(place(std::process::id(), "x"), Place::Own);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(place(child.id(), "sleep"), Place::Unknown);
        let above = std::os::unix::process::parent_id();
        let name = fs::read_to_string(format!("/proc/{above}/comm")).unwrap();
        assert_eq!(place(above, name.trim_end()), Place::Here);
        assert_eq!(place(above, "another"), Place::Unknown);
    }
}
