//! What somebody wants as it is: left alone, or overruled only where the policy says so.

use std::thread::sleep;
use std::time::{Duration, Instant};

use ssh_rescue::rehearse::drill::Sight::{self, Banner, Refused, TimedOut};

use super::booted::Booted;
use super::client::{BANNED, Client, OFFICE, SOMEBODY};
use super::lockouts::{docker, fail2ban};
use super::seen::{differences, state, text, untouched};
use super::service;
use super::walk::{expect, told, undo_all};

/// Something that is meant.
pub struct Meant {
    pub name: &'static str,
    /// Run on a fresh host by sh(1).
    pub make: &'static str,
    /// What clients see, before and after.
    pub sees: &'static [(Client, [Sight; 2])],
    pub verdict: &'static str,
    /// None: nothing has to be done. The code of what `repair` refuses to do.
    pub refuses: Option<&'static str>,
}

/// An act of force, which the policy asks for by name.
pub struct Forced {
    pub name: &'static str,
    pub policy: &'static str,
    pub make: &'static str,
    pub sees: [Sight; 2],
}

const OFFICE_ONLY: &str = "mkdir /etc/ssh-rescue
printf '[ssh]\nsources = [\"10.0.0.0/8\"]\n' >/etc/ssh-rescue/policy.toml
nft -f - <<E
table inet fw { chain in { type filter hook input priority 0; policy drop
  iif lo accept; ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept
  ip saddr 10.0.0.0/8 tcp dport 22 accept; }; }
E
";
const OFFICE_SEES: &[(Client, [Sight; 2])] = &[(OFFICE, [Banner, TimedOut]), (SOMEBODY, [TimedOut; 2])];

pub const MEANT: &[Meant] = &[
    Meant { name: "a healthy host", make: "", sees: &[(SOMEBODY, [Banner; 2])], verdict: "reachable", refuses: None },
    Meant {
        name: "a ban by fail2ban",
        make: fail2ban!(),
        sees: &[(BANNED, [Refused; 2]), (SOMEBODY, [Banner; 2])],
        verdict: "reachable",
        refuses: None,
    },
    Meant {
        name: "a ban in hosts.deny",
        make: "echo 'ALL: 203.0.113.9 [2001:db8:bad::9]' >>/etc/hosts.deny",
        sees: &[(BANNED, [Sight::Closed; 2]), (SOMEBODY, [Banner; 2])],
        verdict: "reachable",
        refuses: None,
    },
    Meant {
        name: "a policy of 10.0.0.0/8 alone, and rules that do that",
        make: OFFICE_ONLY,
        sees: OFFICE_SEES,
        verdict: "reachable",
        refuses: None,
    },
    Meant {
        name: "docker's rules",
        make: docker!(),
        sees: &[(SOMEBODY, [Banner; 2])],
        verdict: "reachable",
        refuses: None,
    },
    Meant {
        name: "a masked unit",
        make: "systemctl stop ssh; systemctl mask ssh",
        sees: &[(SOMEBODY, [Refused; 2])],
        verdict: "blocked",
        refuses: Some("sshd.unit.masked"),
    },
    Meant {
        name: "sshd_not_to_be_run",
        make: "systemctl stop ssh; touch /etc/ssh/sshd_not_to_be_run",
        sees: &[(SOMEBODY, [Refused; 2])],
        verdict: "blocked",
        refuses: Some("sshd.not-to-be-run"),
    },
    Meant {
        name: "sshd_not_to_be_run, and unmask = true",
        make: "mkdir /etc/ssh-rescue; printf '[sshd]\nunmask = true\nemergency = true\n' >/etc/ssh-rescue/policy.toml
               systemctl stop ssh; touch /etc/ssh/sshd_not_to_be_run",
        sees: &[(SOMEBODY, [Refused; 2])],
        verdict: "blocked",
        refuses: Some("sshd.not-to-be-run"),
    },
    Meant {
        name: "firewalld's panic mode",
        make: "systemctl start firewalld; firewall-cmd --panic-on",
        sees: &[(SOMEBODY, [TimedOut; 2])],
        verdict: "blocked",
        refuses: Some("firewall.panic"),
    },
    Meant {
        name: "places that the policy wants reported only",
        make: "mkdir /etc/ssh-rescue; echo 'mode = \"report\"' >/etc/ssh-rescue/policy.toml
               iptables -P INPUT DROP; ip6tables -A INPUT -p tcp --dport 22 -j DROP",
        sees: &[(SOMEBODY, [TimedOut; 2])],
        verdict: "blocked",
        refuses: Some("firewall.drop"),
    },
];

pub const FORCED: &[Forced] = &[
    Forced {
        name: "unmask = true",
        policy: "[sshd]\nunmask = true\n",
        make: "systemctl stop ssh; systemctl mask ssh",
        sees: [Refused; 2],
    },
    Forced {
        name: "panic = repair",
        policy: "[firewall]\npanic = \"repair\"\n",
        make: "systemctl start firewalld; firewall-cmd --panic-on",
        sees: [TimedOut; 2],
    },
    Forced {
        name: "strategy = flush",
        policy: "[firewall]\nstrategy = \"flush\"\n",
        make: "iptables -P INPUT DROP; iptables -A INPUT -s 10.0.0.0/8 -p tcp --dport 80 -j ACCEPT
               ip6tables-legacy -P INPUT DROP
               nft 'table inet fw { set s { type ipv4_addr; elements = { 10.0.0.1 }; }; chain in { type filter hook input priority 5; tcp dport 22 drop; }; }'",
        sees: [TimedOut; 2],
    },
    Forced {
        name: "strategy = disable, ufw",
        policy: "[firewall]\nstrategy = \"disable\"\n",
        make: "ufw --force enable; ufw reload; systemctl enable ufw",
        sees: [TimedOut; 2],
    },
    Forced {
        name: "strategy = disable, firewalld",
        policy: "[firewall]\nstrategy = \"disable\"\n",
        make: "systemctl enable --now firewalld; firewall-cmd --permanent --remove-service=ssh; firewall-cmd --reload",
        sees: [Refused; 2],
    },
];

/// Fail2ban's bans of one whom the policy names, and of one whom it does not.
pub const TRUSTED: &str = "mkdir /etc/ssh-rescue
printf '[ssh]\nsources = [\"10.0.0.0/8\", \"fd00:9::/64\"]\n' >/etc/ssh-rescue/policy.toml
fail2ban-client set sshd banip 10.9.9.9 fd00:9::9
";

/// Whom the policy names gets in through fail2ban, also beside a lock-out. Its other bans stay, and an undo bans them again.
pub fn lift(host: &Booted, beside: &str, made: &[&str]) -> Result<(), String> {
    host.sh(&[fail2ban!(), TRUSTED, beside].concat());
    let all = ["10.9.9.9", "2001:db8:bad::9", "203.0.113.9", "fd00:9::9"].map(str::to_owned).to_vec();
    until("a client before", || bans(host) == all && host.wire.see(OFFICE) == [Refused; 2])?;
    // In which order a set's members are listed is the kernel's own affair.
    let besides = || -> Vec<String> {
        state(host).into_iter().filter(|line| !all.iter().any(|address| line.contains(address))).collect()
    };
    let before = besides();
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    let steps: Vec<String> =
        report["plan"]["steps"].as_array().into_iter().flatten().map(|s| text(&s["kind"])).collect();
    expect("the steps", &steps, &made.iter().map(|&kind| kind.to_owned()).collect()).map_err(|e| told(&e, &report))?;
    expect("a client after", &host.wire.see(OFFICE), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    expect("somebody else who is banned", &host.wire.see(BANNED), &[Refused; 2])?;
    expect("the bans that stay", &bans(host), &vec![all[1].clone(), all[2].clone()])?;
    let again = host.rescue(&["repair"]);
    expect("repairing again", &text(&again["outcome"]), &"healthy".to_owned()).map_err(|e| told(&e, &again))?;
    undo_all(host)?;
    until("a client after the undo", || bans(host) == all && host.wire.see(OFFICE) == [Refused; 2])?;
    expect("after the undo", &differences(&before, &besides()), &[vec![], vec![]])
}

/// The agent does the same from within its sandbox.
pub fn lift_by_agent(host: &Booted) -> Result<(), String> {
    host.sh(&[fail2ban!(), TRUSTED].concat());
    until("a client before", || host.wire.see(OFFICE) == [Refused; 2])?;
    service::start(host)?;
    until("a client whom the agent lets in", || host.wire.see(OFFICE) == [Banner; 2])
        .map_err(|e| format!("{e}\n{}", service::journal(host)))?;
    let others = ["2001:db8:bad::9", "203.0.113.9"].map(str::to_owned).to_vec();
    expect("the bans that stay", &bans(host), &others).map_err(|e| format!("{e}\n{}", service::journal(host)))
}

/// Whom fail2ban's sshd jail bans.
pub fn bans(host: &Booted) -> Vec<String> {
    let status = host.sh("fail2ban-client status sshd");
    let list = status.lines().find_map(|l| l.split_once("IP list:")).map(|(_, list)| list.to_owned());
    let mut all: Vec<String> = list.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    all.sort_unstable();
    all
}

/// Where fail2ban does not answer, an accept before its rules lets in whom the policy names; its bans stay.
pub fn lift_without_answer(host: &Booted) -> Result<(), String> {
    host.sh(&[fail2ban!(), TRUSTED].concat());
    until("a client before", || host.wire.see(OFFICE) == [Refused; 2])?;
    host.sh("kill -STOP $(systemctl show -P MainPID fail2ban)");
    let before = state(host);
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("a client after", &host.wire.see(OFFICE), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    expect("somebody else who is banned", &host.wire.see(BANNED), &[Refused; 2])?;
    let history = host.rescue(&["history"]);
    let repairs = history["repairs"].as_array().into_iter().flatten();
    let confirmed = repairs.filter(|r| r["phase"] == "confirmed").map(|r| text(&r["id"]));
    for id in confirmed {
        let undone = host.rescue(&["undo", &id]);
        expect("undo", &text(&undone["phase"]), &"undone".to_owned()).map_err(|e| told(&e, &undone))?;
    }
    expect("after the undo", &differences(&before, &state(host)), &[vec![], vec![]])?;
    host.sh("kill -CONT $(systemctl show -P MainPID fail2ban)");
    expect("the bans", &bans(host).len(), &4)
}

pub fn until(what: &str, is: impl Fn() -> bool) -> Result<(), String> {
    let start = Instant::now();
    while !is() {
        if start.elapsed() > Duration::from_secs(60) {
            return Err(format!("{what}: still not so after a minute"));
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Nothing is written: no file, no rule, no restart, and no folder of the program's own.
pub fn leave(host: &Booted, meant: &Meant) -> Result<(), String> {
    host.sh(meant.make);
    let sees =
        |when: &str| meant.sees.iter().try_for_each(|(client, sights)| expect(when, &host.wire.see(*client), sights));
    sees("a client before")?;
    let before = untouched(host);
    let check = host.rescue(&["check"]);
    expect("the verdict", &text(&check["verdict"]), &meant.verdict.to_owned()).map_err(|e| told(&e, &check))?;
    let report = host.rescue(&["repair"]);
    let outcome = if meant.refuses.is_some() { "refused" } else { "healthy" };
    expect("the outcome", &text(&report["outcome"]), &outcome.to_owned()).map_err(|e| told(&e, &report))?;
    let declined: Vec<_> = report["declined"].as_array().into_iter().flatten().map(|d| text(&d["code"])).collect();
    let refused: Vec<String> = meant.refuses.iter().map(|&code| code.to_owned()).collect();
    expect("what it declines", &declined, &refused).map_err(|e| told(&e, &report))?;
    expect("what was written", &differences(&before, &untouched(host)), &[vec![], vec![]])?;
    sees("a client after")
}

/// What is somebody's word gives way to the policy, and comes back with an undo.
pub fn force(host: &Booted, forced: &Forced) -> Result<(), String> {
    host.sh(&format!(
        "mkdir /etc/ssh-rescue; cat >/etc/ssh-rescue/policy.toml <<'E'\n{}E\n{}",
        forced.policy, forced.make
    ));
    expect("a client before", &host.wire.see(SOMEBODY), &forced.sees)?;
    let before = state(host);
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("a client after", &host.wire.see(SOMEBODY), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    let again = host.rescue(&["repair"]);
    expect("repairing again", &text(&again["outcome"]), &"healthy".to_owned()).map_err(|e| told(&e, &again))?;
    undo_all(host)?;
    expect("after the undo", &differences(&before, &state(host)), &[vec![], vec![]])?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &forced.sees)
}
