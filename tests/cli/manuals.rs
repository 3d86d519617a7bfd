//! The man pages and completions in `packaging/` are what the command line says. `make manuals` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// Of the last change to what the pages say.
const DATE: &str = "2026-11-27";
const EXIT_STATUS: &str = ".SH \"EXIT STATUS\"\n\
    0 clients can connect, or the verb did what it was asked for; 1 they can, but something is at risk; 2 they cannot; 3 it is not known, or the\n\
    verb itself failed.\n";
const FILES: &str = ".SH FILES\n\
    .TP\n.I /etc/ssh\\-rescue/policy.toml\nthe policy; see\n.BR ssh\\-rescue\\-policy.toml (5).\n\
    .TP\n.I /var/lib/ssh\\-rescue\nwhat was repaired, and what takes it back.\n\
    .TP\n.I /run/ssh\\-rescue\nthe lock of a repair, the state and the control socket of the agent.\n";

/// Of the page of `agent`.
const WAKES: &str = ".SH \"WHAT WAKES IT\"\n\
    Events, and once a minute a clock:\n\
    .IP \\(bu 2\nnf_tables' own announcements, which name the process that changed the rules;\n\
    .IP \\(bu 2\nlinks, addresses, routes and routing rules;\n\
    .IP \\(bu 2\nthe files of sshd, TCP wrappers, ufw, firewalld and the rules that a boot loads, and the policy;\n\
    .IP \\(bu 2\nfirewalld's and systemd's signals on D\\-Bus;\n\
    .IP \\(bu 2\nthe end of a process that listens where clients come in;\n\
    .IP \\(bu 2\nof iptables\\-legacy, which announces nothing, the lock file\n.I /run/xtables.lock\nand, where there are such tables, a\n\
    poll of them each second;\n\
    .IP \\(bu 2\nwhere audit is on, its records of changed rules (NETFILTER_CFG): these tell at once of a change of iptables\\-legacy that takes no\n\
    lock, and by whom. A record does not say in which network namespace; a change in another one wakes nobody, and nobody is named unless\n\
    no other process can have made it.\n\
    .PP\n.I ssh\\-rescue\\-audit.socket\nhears audit for the service, which therefore needs no right to; it starts and stops with it, and is skipped where\n\
    there is no audit. Without the service, root's agent listens by itself. It never switches audit on.\n\
    .SH \"AT BOOT, AND IN ITS SANDBOX\"\n\
    .I ssh\\-rescue.service\nstarts as soon as the file systems are there, before the network is up, and nothing waits for it. Until the boot (and cloud\\-init) has\n\
    finished, for at most 5 minutes, it tells of a lock\\-out and waits with the repair.\n\
    .PP\nIts sandbox lets it rehearse rules and mend what it can; what takes more rights, such as trying sshd's files on a copy or giving a file to\n\
    another user, it leaves to\n.IR ssh\\-rescue\\-repair.service ,\nwhich it starts then, as often as\n.I restraint\nallows.\n";

/// The file's name and content, for every page and completion.
fn expected() -> Vec<(PathBuf, Vec<u8>)> {
    let mut command = ssh_rescue::cli::command();
    command.build();
    let mut files = vec![page(&command, true)];
    files.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| page(verb, false)));
    for (shell, name) in
        [(Shell::Bash, "ssh-rescue.bash"), (Shell::Zsh, "_ssh-rescue"), (Shell::Fish, "ssh-rescue.fish")]
    {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "ssh-rescue", &mut bytes);
        files.push((Path::new("packaging/completions").join(name), bytes));
    }
    files
}

fn page(command: &Command, whole: bool) -> (PathBuf, Vec<u8>) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let man = Man::new(command.clone()).section("8").manual("ssh-rescue").source("ssh-rescue").date(DATE);
    let mut bytes = Vec::new();
    man.render(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    // The exit status is told below, and the version changes with every release.
    let end = [".SH EXTRA", ".SH VERSION"].iter().filter_map(|section| text.find(section)).min().unwrap_or(text.len());
    let mut text = text[..end].to_owned();
    text.push_str(EXIT_STATUS);
    if command.get_name() == "agent" {
        text.push_str(WAKES);
    }
    if whole {
        text.push_str(FILES);
    }
    text.push_str(".SH \"SEE ALSO\"\n.BR ssh\\-rescue (8),\n.BR ssh\\-rescue\\-policy.toml (5),\n.BR sshd (8)\n");
    (PathBuf::from(format!("packaging/man/{name}.8")), text.into_bytes())
}

#[test]
fn man_pages_and_completions_are_what_the_command_line_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var("SSH_RESCUE_WRITE_MANUALS").as_deref() == Ok("1");
    let expected = expected();
    let mut stale = Vec::new();
    for (path, bytes) in &expected {
        let path = root.join(path);
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, bytes).unwrap();
        } else if fs::read(&path).ok().as_ref() != Some(bytes) {
            stale.push(path.file_name().unwrap().to_owned());
        }
    }
    for entry in fs::read_dir(root.join("packaging/man")).unwrap() {
        let name = entry.unwrap().file_name();
        let known = expected.iter().any(|(path, _)| path.file_name() == Some(name.as_os_str()));
        if !known && name.to_string_lossy().ends_with(".8") {
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "`make manuals` writes these anew: {stale:?}");
}
