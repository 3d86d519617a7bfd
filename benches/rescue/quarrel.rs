//! A minute of somebody who changes everything back, and a minute of a firewalld that is reloaded each second.

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::SOMEBODY;
use super::page::Page;
use super::{number, service, with_agent};

/// Of one finding in an hour, as the policy has it where it says nothing else.
const ATTEMPTS: u64 = 3;
/// A configuration manager that puts its rules back each second.
const FIGHT: &str = "cat >/run/managed.nft <<'END'
table inet managed
delete table inet managed
table inet managed { chain in { type filter hook input priority 0; tcp dport 22 drop; }; }
END
printf '#!/bin/sh\\nwhile sleep 1; do nft -f /run/managed.nft; done\\n' >/run/puppet-agent
chmod 755 /run/puppet-agent
systemd-run --quiet --unit=fight /run/puppet-agent";
const RELOADS: &str = "systemctl start firewalld
firewall-cmd -q --state
systemd-run --quiet --unit=reloads sh -c 'while sleep 1; do firewall-cmd -q --reload; done'";

pub fn measure(root: &Path, page: &mut Page) {
    let seconds = number("SSH_RESCUE_QUARREL", 60);
    page.line("\n## A quarrel\n");
    let host = with_agent(root);
    host.sh(FIGHT);
    sleep(Duration::from_secs(seconds));
    let status = service::status(&host)["status"].clone();
    let repairs = status["repairs"].as_u64().unwrap_or(u64::MAX);
    let stopped = status["stopped"].as_str().unwrap_or("it has not stopped").to_owned();
    page.line(&format!(
        "{seconds} s of a program that puts a dropping rule back each second: {repairs} repairs; {stopped}.\n"
    ));
    page.goal((1..=ATTEMPTS).contains(&repairs), "at most 3 repairs in the hour", &repairs.to_string());
    drop(host);
    let host = Booted::boot(root);
    host.sh(RELOADS);
    service::install(&host).unwrap_or_else(|e| panic!("{e}"));
    sleep(Duration::from_secs(seconds));
    let repairs = service::status(&host)["status"]["repairs"].as_u64().unwrap_or(u64::MAX);
    host.sh("systemctl stop reloads; firewall-cmd -q --state");
    let client = host.wire.see(SOMEBODY);
    page.line(&format!(
        "\n{seconds} s of `firewall-cmd --reload` each second: {repairs} repairs, a client afterwards: {client:?}.\n"
    ));
    page.goal(repairs == 0 && client == [Sight::Banner; 2], "no false repair", &repairs.to_string());
}
