//! Files that are swapped under this program, and names that stand for no file: nothing is written through a link that is
//! not root's, nothing waits, nothing leads out of a disk.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use ssh_rescue::facts::Owned;
use ssh_rescue::host::{Host, ReplaceError};
use ssh_rescue::judge::Verdict;
use ssh_rescue::pass::{check, repair};
use ssh_rescue::policy::Policy;

use super::common::root;
use super::disk::{Disk, everything};

const SWAPS: usize = 1000;
const NOBODY: u32 = 65534;

/// Runs `work` over and over while `swap` is made a thousand times beside it.
fn while_swapped(swap: impl Fn(usize) + Send, mut work: impl FnMut()) {
    thread::scope(|scope| {
        let swapper = scope.spawn(|| (0..SWAPS).for_each(swap));
        while !swapper.is_finished() {
            work();
        }
        work();
    });
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// Puts a file, or a link that is nobody's, in the place of a name at one stroke.
fn swap(place: &Path, link_to: &Path, file: bool) {
    let new = place.with_extension("swap");
    let _ = fs::remove_file(&new);
    match file {
        true => fs::write(&new, "an admin's").unwrap(),
        false => {
            symlink(link_to, &new).unwrap();
            lchown(&new, Some(NOBODY), Some(NOBODY)).unwrap();
        }
    }
    fs::rename(&new, place).unwrap();
}

#[test]
fn nothing_is_written_through_a_link_that_is_put_in_the_place_of_a_file() {
    if !root("a race of links") {
        return;
    }
    let (folder, host) = (folder(), Host::live());
    let (place, secret) = (folder.path().join("hosts.allow"), folder.path().join("secret"));
    fs::write(&secret, "not to be written").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
    swap(&place, &secret, true);
    let open = Owned { mode: 0o666, uid: 0, gid: 0 };
    let (mut written, mut refused) = (0, 0);
    while_swapped(
        |number| swap(&place, &secret, number % 2 == 1),
        || {
            match host.replace(&place, b"ours", 0o600) {
                Ok(()) => written += 1,
                Err(_) => refused += 1,
            }
            // Whether it is the file or the link that is hit, nobody can say; never what the link leads to.
            let _ = host.set_owned(&place, open);
            let _ = host.delete(&place);
        },
    );
    assert_eq!(fs::read_to_string(&secret).unwrap(), "not to be written", "{written} written, {refused} refused");
    assert_eq!(secret.metadata().unwrap().mode() & 0o7777, 0o640);
    let names = fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let left: Vec<String> = names.filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn nothing_leads_out_of_a_disk_while_its_folders_are_swapped_for_links() {
    if !root("a race of folders") {
        return;
    }
    let folder = folder();
    let (disk, outside) = (folder.path().join("disk"), folder.path().join("outside"));
    for path in [disk.join("etc"), outside.clone()] {
        fs::create_dir_all(path).unwrap();
    }
    fs::write(outside.join("a"), "of the rescuer").unwrap();
    let Ok(host) = Host::disk(&disk) else { return };
    let (etc, other) = (disk.join("etc"), disk.join("other"));
    let up = Path::new("../../../../../../..").join(outside.strip_prefix("/").unwrap());
    let path = Path::new("/etc/a");
    while_swapped(
        |number| {
            // The folder and a link change places at one stroke; then the link is made anew where it has come to stand.
            let link = if number % 2 == 0 { &other } else { &etc };
            let new = disk.join("new");
            symlink(if number % 4 < 2 { &outside } else { &up }, &new).unwrap();
            fs::rename(&new, link).unwrap();
            renameat2(AT_FDCWD, &etc, AT_FDCWD, &other, RenameFlags::RENAME_EXCHANGE).unwrap();
        },
        || {
            let _ = host.replace(path, b"ours", 0o600);
            let _ = host.make_folders(Path::new("/etc/b"));
            let _ = host.set_owned(path, Owned { mode: 0o666, uid: 0, gid: 0 });
            let read = host.read(path).unwrap_or_default();
            assert_ne!(read, b"of the rescuer", "the rescuer's file was read");
            let _ = host.delete(path);
        },
    );
    assert_eq!(fs::read_to_string(outside.join("a")).unwrap(), "of the rescuer");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

#[test]
fn a_second_name_of_a_file_keeps_what_it_had() {
    if !root("hard links") {
        return;
    }
    let (folder, host) = (folder(), Host::live());
    let (place, second) = (folder.path().join("hosts.allow"), folder.path().join("second"));
    fs::write(&place, "an admin's").unwrap();
    fs::hard_link(&place, &second).unwrap();
    host.replace(&place, b"ours", 0o600).unwrap();
    assert_eq!((fs::read(&place).unwrap(), fs::read(&second).unwrap()), (b"ours".to_vec(), b"an admin's".to_vec()));
    fs::hard_link(&place, folder.path().join("third")).unwrap();
    let refused = host.set_owned(&place, Owned { mode: 0o666, uid: 0, gid: 0 });
    assert!(matches!(refused, Err(ReplaceError::NotRegular { .. })), "{refused:?}");
}

#[test]
fn what_is_no_file_is_neither_opened_nor_replaced() {
    if !root("FIFOs and devices") {
        return;
    }
    let (folder, host) = (folder(), Host::live());
    let at = |name: &str| folder.path().join(name);
    mkfifo(&at("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("folder")).unwrap();
    symlink("/dev/zero", at("device")).unwrap();
    symlink(at("fifo"), at("link")).unwrap();
    symlink(at("loop"), at("loop")).unwrap();
    for name in ["fifo", "socket", "folder", "device", "link", "loop"] {
        let path = at(name);
        assert!(host.read(&path).is_err() && host.see(&path).unreadable().is_some(), "{name}");
        assert!(host.replace(&path, b"ours", 0o600).is_err(), "{name}");
    }
    for name in ["fifo", "socket", "device", "link", "loop"] {
        assert!(host.set_owned(&at(name), Owned { mode: 0o666, uid: 0, gid: 0 }).is_err(), "{name}");
    }
    assert!(Path::new("/dev/zero").metadata().unwrap().mode() & nix::libc::S_IFMT == nix::libc::S_IFCHR);
}

#[test]
fn a_look_waits_for_no_file() {
    let files = [
        "etc/passwd",
        "etc/group",
        "etc/hosts.allow",
        "etc/hosts.deny",
        "etc/nftables.conf",
        "etc/network/interfaces",
        "etc/ssh/sshd_config",
        "etc/ssh/sshd_config.d/50-a.conf",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "etc/ssh/sshd_not_to_be_run",
        "etc/ufw/ufw.conf",
        "usr/lib/systemd/system/ssh.service",
        "usr/sbin/sshd",
        "var/lib/ssh-rescue/hold.json",
        "var/lib/ssh-rescue/lock",
        "var/lib/ssh-rescue/repairs/20260101T000000-0001.json",
        "var/lib/ssh-rescue/sshd/20260101T000000-0001.json",
    ];
    for file in files {
        let Some(disk) = Disk::new("files that are none") else { return };
        everything(&disk);
        let path = disk.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        // That it ends at all is what is held here: a FIFO that is opened to be read has no writer.
        let (judgement, _) = check(&disk.host, &Policy::default());
        assert_ne!(judgement.verdict, Verdict::Reachable, "{file}: {}", judgement.sentence);
        let _ = repair(&disk.host, &disk.state(), &Policy::default(), false);
        let kind = path.symlink_metadata().unwrap().mode() & nix::libc::S_IFMT;
        let ours = file.starts_with("var/lib/ssh-rescue") || file.ends_with(".pub");
        assert!(kind == nix::libc::S_IFIFO || ours, "{file} was replaced");
    }
}
