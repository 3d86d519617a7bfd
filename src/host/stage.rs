//! A scratch host: namespaces in which a real sshd and the host's own tools run beside the live host and cannot reach it.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;

use super::{Host, ScratchError};

impl Host {
    /// Starts this program again with `args`, in network, mount and process namespaces of its own; its standard output is
    /// a pipe. Whatever it starts ends with it, and it ends with this process.
    ///
    /// Uses unshare(1): a process of many threads cannot enter a process namespace itself.
    pub fn spawn_apart(&self, args: &[&str]) -> io::Result<Child> {
        let unshare = self.which("unshare").ok_or_else(|| io::Error::other("unshare is not installed"))?;
        let mut command = Command::new(unshare);
        command
            .args(["--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child=KILL", "--"])
            .arg(std::env::current_exe()?)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        bound(&mut command).spawn()
    }

    /// Starts a tool of the host that ends with the calling thread, whatever ends that; what it prints is dropped.
    pub fn spawn_bound(&self, program: &str, args: &[&str]) -> io::Result<Child> {
        let path = self.which(program).ok_or_else(|| io::Error::other(format!("{program} is not installed")))?;
        let mut command = Command::new(path);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        bound(&mut command).spawn()
    }
}

/// The command ends with the thread that starts it.
pub(super) fn bound(command: &mut Command) -> &mut Command {
    // SAFETY: prctl(2) is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(io::Error::from)) }
}

/// The command gets a descriptor of this process that others do not get.
pub(super) fn handed(command: &mut Command, descriptor: Option<RawFd>) -> &mut Command {
    let Some(descriptor) = descriptor else { return command };
    let keep = move || {
        // SAFETY: the number alone is used; after the fork it is the child's own copy of the descriptor, open or not.
        let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(io::Error::from)
    };
    // SAFETY: fcntl(2) is async-signal-safe, and nothing is allocated between fork and exec.
    unsafe { command.pre_exec(keep) }
}

/// Gives the calling thread's mount namespace, which must be a scratch one, an /etc that can be written to without reaching
/// the live one, an empty /run and /var/lib, and a /sys of its own network.
pub(super) fn own_files() -> Result<(), ScratchError> {
    let none: Option<&str> = None;
    let failed = |action, path: &'static str| move |source| ScratchError::Mount { action, path: path.into(), source };
    let made = |path: &'static str| ScratchError::device(format!("make {path}"));
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(failed("detach the mounts below", "/"))?;
    for (path, options) in [("/run", "size=64m,mode=0755"), ("/var/lib", "size=16m,mode=0755")] {
        mount(Some("drill"), path, Some("tmpfs"), guarded, Some(options)).map_err(failed("mount an empty", path))?;
    }
    for path in ["/run/sshd", "/run/lock", "/run/.etc", "/run/.etc/upper", "/run/.etc/work"] {
        std::fs::create_dir(path).map_err(made(path))?;
    }
    let layers = "lowerdir=/etc,upperdir=/run/.etc/upper,workdir=/run/.etc/work";
    if mount(Some("drill"), "/etc", Some("overlay"), guarded, Some(layers)).is_err() {
        // No overlay file system: a copy does as well, and takes longer.
        let copy = Path::new("/run/.etc/upper");
        copy_tree(Path::new("/etc"), copy).map_err(ScratchError::device("copy /etc"))?;
        mount(Some(copy), "/etc", none, MsFlags::MS_BIND, none).map_err(failed("mount a copy of", "/etc"))?;
    }
    // Where sysfs cannot be mounted the live one stays: what it says of links is read over rtnetlink anyway.
    let _ = mount(Some("drill"), "/sys", Some("sysfs"), guarded | MsFlags::MS_RDONLY, none);
    Ok(())
}

/// Lays changes of one's own over the /etc and the /run of the calling thread's mount namespace, which must be a scratch one.
pub(super) fn changes_apart() -> Result<(), ScratchError> {
    let none: Option<&str> = None;
    let failed = |action, path: &'static str| move |source| ScratchError::Mount { action, path: path.into(), source };
    let made = |path: &'static str| ScratchError::device(format!("make {path}"));
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(failed("detach the mounts below", "/"))?;
    // Host keys may come to lie in it.
    for path in ["/tmp", "/var/log"] {
        mount(Some("trial"), path, Some("tmpfs"), guarded, Some("size=64m,mode=0700"))
            .map_err(failed("mount an empty", path))?;
    }
    for (path, upper, work) in [("/etc", "/tmp/etc", "/tmp/etc.work"), ("/run", "/tmp/run", "/tmp/run.work")] {
        for folder in [upper, work] {
            std::fs::create_dir(folder).map_err(made(upper))?;
        }
        std::fs::set_permissions(upper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(made(upper))?;
        let layers = format!("lowerdir={path},upperdir={upper},workdir={work}");
        if mount(Some("trial"), path, Some("overlay"), guarded, Some(layers.as_str())).is_err() {
            copy_tree(Path::new(path), Path::new(upper)).map_err(ScratchError::device(format!("copy {path}")))?;
            mount(Some(upper), path, none, MsFlags::MS_BIND, none).map_err(failed("mount a copy of", path))?;
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            std::fs::create_dir(&target)?;
            std::fs::set_permissions(&target, entry.metadata()?.permissions())?;
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            std::fs::copy(entry.path(), &target)?;
            let owner = std::os::unix::fs::MetadataExt::uid(&entry.metadata()?);
            let group = std::os::unix::fs::MetadataExt::gid(&entry.metadata()?);
            std::os::unix::fs::chown(&target, Some(owner), Some(group))?;
        }
    }
    Ok(())
}
