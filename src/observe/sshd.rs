//! sshd's program and what it says about its configuration.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use elf::ElfBytes;
use elf::abi::DT_NEEDED;
use elf::endian::AnyEndian;

use crate::decode::{sshd_log, sshd_settings};
use crate::facts::{Binary, ConfigTest, PathMode, Process, Seen, Settings, ShutOut};
use crate::host::{Call, Host, Scratch};
use crate::policy::Policy;
use crate::rehearse::sshd::disk::version;

const SSHD: [&str; 4] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd", "/opt/openssh/sbin/sshd"];
/// Where OpenSSH 9.8 and later keep the program that serves one connection (Debian; RHEL, Arch and upstream).
const SESSION: [&str; 4] = [
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/lib/ssh/sshd-session",
    "/usr/local/libexec/sshd-session",
];
/// What a message keeps of sshd's own words.
const LINES: usize = 50;

/// What sshd says of itself.
#[derive(Debug)]
pub struct Program {
    pub binary: Seen<Binary>,
    pub test: Seen<ConfigTest>,
    pub settings: Seen<Settings>,
}

/// The program that runs, else the one that is installed.
pub fn program(host: &Host, running: &[Process]) -> Program {
    let exe = running.iter().find_map(|p| p.exe.as_deref().filter(|e| host.is_file(Path::new(e))));
    let Some(path) = exe.or(SSHD.into_iter().find(|p| host.exists(Path::new(p)))) else {
        return Program { binary: Seen::Absent, test: Seen::Absent, settings: Seen::Absent };
    };
    let (test, settings) = test(host, path);
    Program { binary: binary(host, path), test, settings }
}

/// The program that a disk has; it is read, and never run.
pub fn installed(host: &Host) -> Seen<Binary> {
    let Some(path) = SSHD.into_iter().find(|p| host.exists(Path::new(p))) else { return Seen::Absent };
    match (binary(host, path), version(host, Path::new(path))) {
        (Seen::Present(binary), Ok(version)) => Seen::Present(Binary { version, ..binary }),
        (_, Err(why)) => Seen::Unreadable(why),
        (unknown, _) => unknown,
    }
}

/// Debian's switch: its unit does not start where this file is.
pub fn not_to_be_run(host: &Host) -> bool {
    host.exists(Path::new("/etc/ssh/sshd_not_to_be_run"))
}

/// The folder that sshd's unprivileged child is locked into, of the names that distributions build in.
pub fn privsep_dir(host: &Host) -> Seen<PathMode> {
    for path in ["/run/sshd", "/usr/share/empty.sshd", "/var/empty/sshd", "/var/lib/sshd", "/var/empty"] {
        match host.symlink_metadata(Path::new(path)) {
            Ok(meta) => {
                let mode = meta.permissions().mode() & 0o7777;
                return Seen::Present(PathMode { path: path.into(), mode, uid: meta.uid(), gid: meta.gid() });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Seen::Unreadable(format!("stat {path}: {error}")),
        }
    }
    Seen::Absent
}

/// Whom sshd shuts out, of the last ten minutes: the longest that a penalty lasts unless somebody says otherwise. Asked only
/// where it may be one whom the policy names.
pub fn shut_out(host: &Host, policy: &Policy, settings: Option<&Settings>) -> Seen<Vec<ShutOut>> {
    if policy.ssh.sources.is_none() || !host.privileged() || !settings.is_some_and(|s| s.penalties) {
        return Seen::Absent;
    }
    // Of root's own sshd: what others call themselves there is not believed.
    let words = ["-q", "--no-pager", "-o", "cat", "--since=-10min", "-n", "10000", "_UID=0", "_COMM=sshd"];
    match host.run(&Call::new("journalctl", &words)) {
        Ok(output) if output.ok() => Seen::Present(sshd_log::shut_out(&output.stdout)),
        Ok(output) => Seen::Unreadable(output.complaint()),
        Err(error) => Seen::Unreadable(crate::chain(&error)),
    }
}

fn binary(host: &Host, path: &str) -> Seen<Binary> {
    let mut needed = match libraries(host, Path::new(path)) {
        Ok(needed) => needed,
        Err(why) => return Seen::Unreadable(why),
    };
    if let Some(session) = SESSION.into_iter().find(|p| host.exists(Path::new(p))) {
        match libraries(host, Path::new(session)) {
            Ok(more) => needed.extend(more),
            Err(why) => return Seen::Unreadable(why),
        }
    }
    needed.sort_unstable();
    needed.dedup();
    Seen::Present(Binary { path: PathBuf::from(path), needed, version: None })
}

/// DT_NEEDED of an ELF program; empty for a static one.
fn libraries(host: &Host, path: &Path) -> Result<Vec<String>, String> {
    let bytes = host.read(path).map_err(|e| crate::chain(&e))?;
    needed(&bytes).map_err(|e| format!("{} is no ELF program: {e}", path.display()))
}

fn needed(bytes: &[u8]) -> Result<Vec<String>, elf::ParseError> {
    let file = ElfBytes::<AnyEndian>::minimal_parse(bytes)?;
    let (Some(dynamic), common) = (file.dynamic()?, file.find_common_data()?) else { return Ok(Vec::new()) };
    let Some(strings) = common.dynsyms_strs else { return Ok(Vec::new()) };
    let names = dynamic.iter().filter(|d| d.d_tag == DT_NEEDED).map(|d| strings.get(d.d_val() as usize));
    names.map(|name| name.map(str::to_owned)).collect()
}

/// `sshd -T` makes every check of `sshd -t` and prints the settings. Where it fails, `-t` has the word: old versions refuse
/// `-T` alone for a `Match` block.
pub fn test(host: &Host, path: &str) -> (Seen<ConfigTest>, Seen<Settings>) {
    if !host.privileged() {
        let why = "root is needed to read sshd's keys and configuration".to_owned();
        return (Seen::Unreadable(why.clone()), Seen::Unreadable(why));
    }
    let run = |args: &[&str]| host.run(&Call::new(path, args)).map_err(|e| crate::chain(&e));
    match run(&["-T"]) {
        Ok(output) if output.ok() => {
            let test = ConfigTest { passed: true, status: 0, messages: lines(&output.stderr) };
            return (Seen::Present(test), Seen::Present(sshd_settings::settings(&output.stdout)));
        }
        Ok(_) => {}
        Err(why) => return (Seen::Unreadable(why.clone()), Seen::Unreadable(why)),
    }
    let test = match run(&["-t"]) {
        Ok(output) => {
            let messages = lines(&output.stderr);
            Seen::Present(ConfigTest { passed: output.ok(), status: output.status, messages })
        }
        Err(why) => Seen::Unreadable(why),
    };
    // `-G` (OpenSSH 9.3) prints the settings without looking at keys and folders.
    let mut output = run(&["-G"]).ok();
    let lacks = |m: &String| m.contains("Missing privilege separation directory: /run/sshd");
    let folder = test.present().is_some_and(|t: &ConfigTest| t.messages.iter().all(lacks));
    if folder && output.as_ref().is_none_or(|o| !o.ok()) {
        let with_folder = |host: &Host| Ok(make_run_sshd().map(|()| host.run(&Call::new(path, &["-T"])).ok()));
        output = host.scratch(Scratch::Files, with_folder).ok().and_then(Result::ok).flatten();
    }
    let settings = match output {
        Some(output) if output.ok() => Seen::Present(sshd_settings::settings(&output.stdout)),
        _ => Seen::Absent,
    };
    (test, settings)
}

/// Makes sshd's folder as its unit does at the start, where it is not there; for a scratch host.
pub fn make_run_sshd() -> io::Result<()> {
    match std::fs::create_dir("/run/sshd") {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => std::fs::set_permissions("/run/sshd", PermissionsExt::from_mode(0o755)),
    }
}

fn lines(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    text.lines().map(str::trim_end).filter(|l| !l.is_empty()).take(LINES).map(str::to_owned).collect()
}
