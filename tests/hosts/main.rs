//! Really booted hosts: Debian 12 and 13 under their own systemd, locked out and rescued by one call of the program.
//!
//! A fresh host for each row: it boots in about a second. `cargo test --test hosts -- ufw` runs the rows with that word.

mod agent;
mod booted;
mod broken;
mod client;
mod killed;
mod lockouts;
mod logins;
mod makers;
mod meant;
mod package;
mod reboot;
mod seen;
mod service;
mod sshd;
mod walk;
mod zones;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use booted::Booted;
use broken::BROKEN;
use libtest_mimic::{Arguments, Failed, Trial};
use lockouts::LOCKOUTS;
use meant::{FORCED, MEANT};
use reboot::REBOOTS;

const DISTRIBUTIONS: [&str; 2] = ["Debian 12", "Debian 13"];

/// What is done on a fresh host.
type Row = Box<dyn Fn(Booted) -> Result<(), Failed> + Send>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // A row is mostly a client that waits.
    arguments.test_threads = arguments.test_threads.or(Some(4));
    let mut trials = Vec::new();
    for (number, distribution) in DISTRIBUTIONS.into_iter().enumerate() {
        let mut row = |name: &str, run: Row| {
            let trial = Trial::test(format!("{distribution}: {name}"), move || {
                let Some(root) = root(number)? else { return Ok(()) };
                run(Booted::boot(&root))
            });
            trials.push(trial);
        };
        for lockout in LOCKOUTS.iter().chain(sshd::FAULTS) {
            row(
                &format!("rescue: {}", lockout.name),
                Box::new(move |host| {
                    let words = walk::walk(&host, lockout)?;
                    println!("{distribution}: {}: {words}", lockout.name);
                    Ok(())
                }),
            );
        }
        for lockout in LOCKOUTS {
            row(
                &format!("agent: {}", lockout.name),
                Box::new(move |host| {
                    let words = agent::rescued(&host, lockout)?;
                    println!("{distribution}: agent: {}: {words}", lockout.name);
                    Ok(())
                }),
            );
        }
        if number == 1 {
            row("meant: trusted sources that sshd shuts out", Box::new(|host| Ok(sshd::penalised(&host)?)));
            row(
                &format!("rescue: {}", sshd::OF_SOCKET.name),
                Box::new(|host| Ok(walk::walk(&host, &sshd::OF_SOCKET).map(drop)?)),
            );
        }
        row("agent: sshd, stopped by a signal", Box::new(|host| Ok(agent::stopped(&host)?)));
        row("agent: sshd, frozen with its unit", Box::new(|host| Ok(agent::frozen(&host)?)));
        row("agent: sshd, which takes no connections", Box::new(|host| Ok(agent::wedged(&host)?)));
        row("agent: what it hands over", Box::new(|host| Ok(agent::handed_over(&host)?)));
        row("agent: the service and its socket", Box::new(|host| Ok(agent::service(host)?)));
        for meant in MEANT.iter().chain(sshd::OTHERS) {
            row(&format!("meant: {}", meant.name), Box::new(move |host| Ok(meant::leave(&host, meant)?)));
        }
        for forced in FORCED {
            row(&format!("by policy: {}", forced.name), Box::new(move |host| Ok(meant::force(&host, forced)?)));
        }
        for reboot in REBOOTS {
            row(&format!("reboot: {}", reboot.name), Box::new(move |host| Ok(reboot::survive(host, reboot)?)));
        }
        for files in zones::FILES {
            row(&format!("disk: firewalld, {}", files.name), Box::new(move |host| Ok(zones::mended(host, files)?)));
        }
        for maker in makers::MAKERS {
            row(&format!("reboot: {}", maker.name), Box::new(move |host| Ok(makers::last(host, maker)?)));
        }
        for broken in BROKEN {
            row(&format!("broken: {}", broken.name), Box::new(move |host| Ok(broken::cope(&host, broken)?)));
        }
        row(
            "by policy: trusted sources that fail2ban has banned",
            Box::new(|host| Ok(meant::lift(&host, "", &["unban", "unban"])?)),
        );
        row(
            "by policy: trusted sources that fail2ban has banned, beside a policy DROP",
            Box::new(|host| Ok(meant::lift(&host, "iptables -P INPUT DROP", &["unban", "unban", "iptables"])?)),
        );
        row("agent: trusted sources that fail2ban has banned", Box::new(|host| Ok(meant::lift_by_agent(&host)?)));
        row("by policy: a fail2ban that does not answer", Box::new(|host| Ok(meant::lift_without_answer(&host)?)));
        row("rescue: sshd, its next start", Box::new(|host| Ok(sshd::next_start(&host)?)));
        row("rescue: sshd, its unit is broken", Box::new(|host| Ok(sshd::emergency(&host)?)));
        row("rescue: modes that make sshd ignore keys", Box::new(|host| Ok(logins::modes(&host)?)));
        row("rescue: sshd, which takes no connections", Box::new(|host| Ok(sshd::wedged(&host)?)));
        row("rescue: sshd, which does not go on", Box::new(|host| Ok(sshd::unmoved(&host, "")?)));
        row(
            "rescue: sshd, which does not go on, and no D-Bus",
            Box::new(|host| Ok(sshd::unmoved(&host, sshd::NO_BUS)?)),
        );
        row("rescue: sshd, whose start is on its way and fails", Box::new(|host| Ok(sshd::on_its_way(&host)?)));
        row("rescue: sshd, sessions", Box::new(|host| Ok(sshd::sessions(&host)?)));
        row("broken: a D-Bus that hangs", Box::new(|host| Ok(broken::hanging_bus(&host)?)));
        row("broken: firewalld that is restarted", Box::new(|host| Ok(broken::restarting_firewalld(&host)?)));
        row("killed: a repair at each of its commits", Box::new(|host| Ok(killed::at_every_commit(&host)?)));
        row("killed: a thawing at each of its commits", Box::new(|host| Ok(killed::while_thawing(&host)?)));
        row("killed: an unban at each of its commits", Box::new(|host| Ok(killed::while_unbanning(&host)?)));
        row("broken: a caller without root", Box::new(|host| Ok(broken::without_root(&host)?)));
        trials.push(Trial::test(format!("{distribution}: the package"), move || {
            if !Path::new("/usr/bin/dpkg-deb").exists() {
                return skipped("dpkg-deb is not installed").map(drop);
            }
            let Some(root) = root(number)? else { return Ok(()) };
            Ok(package::life(Booted::bare(&root))?)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The cached root of a distribution, made where it is not there; None, said aloud, where no host can be booted.
fn root(number: usize) -> Result<Option<PathBuf>, Failed> {
    static ROOTS: std::sync::OnceLock<Result<Vec<PathBuf>, String>> = std::sync::OnceLock::new();
    if !nix::unistd::geteuid().is_root() {
        return skipped("needs root to boot hosts");
    }
    let roots = ROOTS.get_or_init(|| {
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/hosts");
        let made = Command::new(recipe).stderr(Stdio::inherit()).output().map_err(|e| e.to_string())?;
        let paths: Vec<PathBuf> = String::from_utf8_lossy(&made.stdout).lines().map(PathBuf::from).collect();
        if made.status.success() && paths.len() == DISTRIBUTIONS.len() {
            Ok(paths)
        } else {
            Err(format!("scripts/hosts: {}", made.status))
        }
    });
    match roots {
        Ok(roots) => Ok(roots.get(number).cloned()),
        Err(why) => skipped(why),
    }
}

/// Says aloud that something is not tested. Where everything is required (`make test`), that is a failure.
fn skipped(why: &str) -> Result<Option<PathBuf>, Failed> {
    if std::env::var("SSH_RESCUE_REQUIRE_ALL").as_deref() == Ok("1") {
        return Err(why.into());
    }
    eprintln!("SKIPPED {why}");
    Ok(None)
}
