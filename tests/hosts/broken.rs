//! A host on which something is broken besides: the program names it, and leaves nothing half done.

use std::time::{Duration, Instant};

use serde_json::Value;
use ssh_rescue::rehearse::drill::Sight::{self, Banner, Closed, Refused, TimedOut};

use super::booted::Booted;
use super::client::SOMEBODY;
use super::seen::{differences, state, text};
use super::walk::expect;

pub struct Broken {
    pub name: &'static str,
    /// Run on a fresh host by sh(1): the lock-out, and what is broken.
    pub make: &'static str,
    pub sees: [Sight; 2],
    pub outcome: &'static str,
    /// What its error, or what it declines, says.
    pub says: &'static str,
    /// The code of a finding that names what is broken, where there is one.
    pub finding: Option<&'static str>,
    /// Run by sh(1): what is broken is in order again, and a repair helps.
    pub mend: &'static str,
}

pub const BROKEN: &[Broken] = &[
    Broken {
        name: "a tool that is missing",
        // Rules of nf_tables can be made without it, those of legacy tables not.
        make: "iptables-legacy -P INPUT DROP; mv /usr/sbin/iptables-legacy-restore /root/",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "no iptables-restore of legacy is installed",
        finding: None,
        mend: "mv /root/iptables-legacy-restore /usr/sbin/",
    },
    Broken {
        name: "a tool that hangs",
        make: "iptables -P INPUT DROP; mv /usr/sbin/iptables-nft-restore /root/
               printf '#!/bin/sh\nsleep 100 & sleep 100\n' >/usr/sbin/iptables-nft-restore; chmod 755 /usr/sbin/iptables-nft-restore",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "iptables-nft-restore did not end within",
        finding: None,
        mend: "mv -f /root/iptables-nft-restore /usr/sbin/",
    },
    Broken {
        name: "a tool that prints garbage and does nothing",
        make: "iptables -P INPUT DROP; mv /usr/sbin/iptables-nft-restore /root/
               printf '#!/bin/sh\nhead -c 100000 /dev/urandom\n' >/usr/sbin/iptables-nft-restore; chmod 755 /usr/sbin/iptables-nft-restore",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "iptables-nft-restore succeeded, but the rule is not in INPUT",
        finding: None,
        mend: "mv -f /root/iptables-nft-restore /usr/sbin/",
    },
    Broken {
        name: "a tool that dies",
        make: "iptables -P INPUT DROP; mv /usr/sbin/iptables-nft-restore /root/
               printf '#!/bin/sh\nkill -SEGV $$\n' >/usr/sbin/iptables-nft-restore; chmod 755 /usr/sbin/iptables-nft-restore",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "iptables-nft-restore",
        finding: None,
        mend: "mv -f /root/iptables-nft-restore /usr/sbin/",
    },
    Broken {
        name: "an sshd that hangs when it is tested",
        make: "systemctl stop ssh; mkfifo /etc/ssh/sshd_config.d/fifo.conf",
        sees: [Refused; 2],
        outcome: "refused",
        says: "sshd did not end within",
        finding: Some("sshd.config.unreadable"),
        mend: "rm /etc/ssh/sshd_config.d/fifo.conf",
    },
    Broken {
        name: "a lock of xtables that somebody keeps",
        make: "iptables-legacy -P INPUT DROP
               systemd-run -q --unit=keeper flock /run/xtables.lock sleep 600; until grep -q FLOCK /proc/locks; do sleep 0.05; done
               until ! flock -n /run/xtables.lock true; do sleep 0.05; done",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "got no hold of /run/xtables.lock within 5 s: process",
        finding: None,
        mend: "systemctl stop keeper",
    },
    Broken {
        name: "a full disk",
        make: "iptables -P INPUT DROP; echo 'ALL: ALL' >/etc/hosts.deny
               head -c 2G /dev/zero >/root/fill || true; ! echo more >>/root/fill",
        sees: [TimedOut, Closed],
        outcome: "blocked",
        says: "No space left",
        finding: Some("resources.disk.full"),
        mend: "rm /root/fill",
    },
    Broken {
        name: "a read-only /etc",
        make: "echo 'ALL: ALL' >/etc/hosts.deny; mount --bind /etc /etc; mount -o remount,ro,bind /etc",
        sees: [Closed; 2],
        outcome: "blocked",
        says: "/etc/hosts.allow",
        finding: Some("resources.disk.read-only"),
        mend: "umount /etc",
    },
    Broken {
        name: "a read-only /var",
        make: "iptables -P INPUT DROP; mount --bind /var /var; mount -o remount,ro,bind /var",
        sees: [TimedOut, Banner],
        outcome: "blocked",
        says: "/var/lib/ssh-rescue",
        finding: Some("resources.disk.read-only"),
        mend: "umount /var",
    },
];

/// Where D-Bus hangs, systemd cannot be asked: that is said, and nothing is done until it answers again.
pub fn hanging_bus(host: &Booted) -> Result<(), String> {
    let bus = "$(systemctl show -p MainPID --value dbus)";
    host.sh(&format!("systemctl stop ssh; kill -STOP {bus}"));
    let before = state(host);
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"refused".to_owned()).map_err(|e| format!("{e}\n{report:#}"))?;
    let found = codes(&report["before"]).iter().any(|code| code == "sshd.unit.unreadable");
    expect("there is a finding of it", &found, &true).map_err(|e| format!("{e}\n{report:#}"))?;
    expect("what was written", &differences(&before, &state(host)), &[vec![], vec![]])?;
    host.sh(&format!("kill -CONT {bus}"));
    // It has calls to answer that were made meanwhile.
    let end = Instant::now() + Duration::from_secs(120);
    let mut report = host.rescue(&["repair"]);
    while report["outcome"] != "repaired" && Instant::now() < end {
        report = host.rescue(&["repair"]);
    }
    expect("the outcome when it answers again", &text(&report["outcome"]), &"repaired".to_owned())
        .map_err(|e| format!("{e}\n{report:#}"))?;
    expect("a client when it answers again", &host.wire.see(SOMEBODY), &[Banner; 2])
}

/// firewalld is started anew again and again while repairs speak to it: each of them is whole, or nothing is left of it.
pub fn restarting_firewalld(host: &Booted) -> Result<(), String> {
    host.sh("systemctl start firewalld; firewall-cmd -q --permanent --remove-service=ssh; firewall-cmd -q --reload");
    let before = state(host);
    // systemd gives a unit up that is started more often.
    let restarts = "for n in 1 2 3; do systemctl restart firewalld; sleep 0.$n; done";
    host.sh(&format!("systemd-run -q --unit=restarts sh -c '{restarts}'"));
    let mut ends = Vec::new();
    while host.run("systemctl -q is-active restarts").ok() {
        let report = host.rescue(&["repair"]);
        ends.push(format!("{}: {}", text(&report["outcome"]), report["error"]));
    }
    let there = |host: &Booted| host.run("until firewall-cmd --state; do sleep 0.1; done");
    there(host);
    let history = host.rescue(&["history"]);
    let repairs = history["repairs"].as_array().into_iter().flatten();
    let ids: Vec<String> = repairs.filter(|r| r["phase"] == "confirmed").map(|r| text(&r["id"])).collect();
    for id in ids.iter().rev() {
        host.rescue(&["undo", id]);
    }
    // A firewalld that was ended while it started may leave each of its rules there twice: what is there counts, not how often.
    let distinct = |mut lines: Vec<String>| {
        lines.sort();
        lines.dedup();
        lines
    };
    let (before, now) = (distinct(before), distinct(state(host)));
    expect("what is left when all is undone", &differences(&before, &now), &[vec![], vec![]])
        .map_err(|e| format!("{e}\n{ends:#?}"))?;
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| format!("{e}\n{report:#}"))?;
    expect("a client after the repair", &host.wire.see(SOMEBODY), &[Banner; 2])?;
    host.sh("systemctl restart firewalld");
    there(host);
    expect("a client after a restart of firewalld", &host.wire.see(SOMEBODY), &[Banner; 2])
}

pub fn cope(host: &Booted, broken: &Broken) -> Result<(), String> {
    host.sh(broken.make);
    expect("a client before", &host.wire.see(SOMEBODY), &broken.sees)?;
    let before = state(host);
    let report = host.rescue(&["repair"]);
    let brief = |e: String| {
        format!("{e}\n{}\n{}\n{}", report["error"], report["declined"], codes(&report["before"]).join(", "))
    };
    expect("the outcome", &text(&report["outcome"]), &broken.outcome.to_owned()).map_err(brief)?;
    let said = format!("{} {}", report["error"], report["declined"]);
    expect("it is named", &said.contains(broken.says), &true).map_err(brief)?;
    let found = broken.finding.is_none_or(|code| codes(&report["before"]).iter().any(|c| c == code));
    expect("there is a finding of it", &found, &true).map_err(brief)?;
    expect("what was written", &differences(&before, &state(host)), &[vec![], vec![]]).map_err(brief)?;
    expect("a client after", &host.wire.see(SOMEBODY), &broken.sees)?;
    host.sh(broken.mend);
    let report = host.rescue(&["repair"]);
    expect("the outcome when all is in order again", &text(&report["outcome"]), &"repaired".to_owned())
        .map_err(|e| format!("{e}\n{report:#}"))?;
    expect("a client when all is in order again", &host.wire.see(SOMEBODY), &[Banner; 2])
}

/// What can be read without root is judged, the rest is unknown, and nothing is repaired.
pub fn without_root(host: &Booted) -> Result<(), String> {
    const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    host.sh("iptables -P INPUT DROP");
    let before = state(host);
    let check = host.rescue_as(&NOBODY, &["check"]);
    expect("the verdict", &text(&check["verdict"]), &"unknown".to_owned()).map_err(|e| format!("{e}\n{check:#}"))?;
    expect("it says why", &codes(&check).contains(&"path.unprivileged".to_owned()), &true)?;
    let repair = host.rescue_as(&NOBODY, &["repair"]);
    expect("it names root", &text(&repair["error"]).contains("root"), &true).map_err(|e| format!("{e}: {repair}"))?;
    expect("what was written", &differences(&before, &state(host)), &[vec![], vec![]])?;
    // Who listens can be seen by everybody.
    host.sh("systemctl stop ssh");
    let check = host.rescue_as(&NOBODY, &["check"]);
    expect("the verdict of a host without sshd", &text(&check["verdict"]), &"blocked".to_owned())
        .map_err(|e| format!("{e}\n{check:#}"))?;
    expect("it names the listener", &codes(&check).contains(&"sshd.listener.none".to_owned()), &true)
}

fn codes(judgement: &Value) -> Vec<String> {
    judgement["findings"].as_array().into_iter().flatten().map(|f| text(&f["code"])).collect()
}
