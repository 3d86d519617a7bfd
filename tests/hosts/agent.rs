//! The service on a booted host, in its whole sandbox: what breaks is mended without anybody doing anything, also after a boot.

use std::fs;
use std::time::Instant;

use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::SOMEBODY;
use super::lockouts::Lockout;
use super::service::{install, journal, status, wait};
use super::sshd::WEDGE;
use super::walk::expect;

/// A lock-out under the service.
pub fn rescued(host: &Booted, lockout: &Lockout) -> Result<String, String> {
    install(host)?;
    let begin = Instant::now();
    // It may be mended while it is still being made: a first repair may meet the file in other hands, and give way.
    host.run(lockout.make);
    let mended = wait("the repair", || {
        let status = status(host)["status"].clone();
        status["last_repair"].is_object() && status["verdict"] != "blocked"
    });
    let took = begin.elapsed().as_millis();
    mended.map_err(|e| format!("{e}: {}\n{}", status(host), journal(host)))?;
    // Of two faults the second may come when the first is mended.
    wait("a banner for a client", || host.wire.see(SOMEBODY) == [Sight::Banner; 2])
        .map_err(|e| format!("{e}\n{}", journal(host)))?;
    Ok(format!("{took} ms"))
}

const FIRST: &str = "[Unit]
DefaultDependencies=no
Before=network-pre.target sysinit.target
Wants=network-pre.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for i in $(seq 200); do if [ -s /run/ssh-rescue/status.json ]; then touch /run/early; exit; fi; sleep 0.1; done'
[Install]
WantedBy=sysinit.target
";

/// What systemd says of the service, and what other people's tools say of its socket.
pub fn service(mut host: Booted) -> Result<(), String> {
    install(&host)?;
    let shown = host.sh("systemctl show -p StatusText,ActiveState,NRestarts ssh-rescue.service");
    expect("systemctl's status", &shown.contains("StatusText=reachable: "), &true)
        .map_err(|e| format!("{e}: {shown}"))?;
    expect("restarts", &shown.contains("NRestarts=0"), &true)?;
    // Audit does not reach a container: its socket is skipped, and nothing has failed.
    let audit =
        host.sh("systemctl show -p LoadState,ActiveState,Result,ConditionResult ssh-rescue-audit.socket | sort");
    expect(
        "audit's socket",
        &audit.as_str(),
        &"ActiveState=inactive\nConditionResult=no\nLoadState=loaded\nResult=success\n",
    )?;
    expect("failed units", &host.sh("systemctl --failed --no-legend").as_str(), &"")?;
    wait("the status for who cannot ask", || host.run("test -s /run/ssh-rescue/status.json").ok())?;
    let socket = "unix:/run/ssh-rescue/io.ssh-rescue.Agent";
    if host.run("command -v varlinkctl").ok() {
        let info = host.sh(&format!("varlinkctl info {socket}"));
        expect("varlinkctl info", &info.contains("io.ssh-rescue.Agent"), &true).map_err(|e| format!("{e}: {info}"))?;
        let methods =
            host.sh(&format!("varlinkctl list-methods {socket} 2>/dev/null || varlinkctl introspect {socket}"));
        expect("varlinkctl list-methods", &methods.contains("Repair"), &true).map_err(|e| format!("{e}: {methods}"))?;
        host.sh(&format!("varlinkctl introspect {socket} io.ssh-rescue.Agent"));
        host.sh(&format!("varlinkctl introspect {socket} org.varlink.service"));
        let status = host.sh(&format!("varlinkctl call {socket} io.ssh-rescue.Agent.Status '{{}}'"));
        expect("varlinkctl call", &status.contains("reachable"), &true).map_err(|e| format!("{e}: {status}"))?;
        let wrong = host.run(&format!("varlinkctl call {socket} io.ssh-rescue.Agent.Hold '{{\"seconds\":\"x\"}}'"));
        expect("a wrong call", &wrong.ok(), &false)?;
        expect("its error", &wrong.complaint().contains("InvalidParameter"), &true)
            .map_err(|e| format!("{e}: {}", wrong.complaint()))?;
    }
    // Everybody may ask, and not everybody may change.
    let nobody = "setpriv --reuid=65534 --regid=65534 --clear-groups ssh-rescue";
    expect("a stranger asks", &host.run(&format!("{nobody} status")).status, &0)?;
    let refused = host.run(&format!("{nobody} hold 1h"));
    expect("a stranger holds", &(refused.status, refused.complaint().contains("only root")), &(3, true))?;
    host.sh("mkdir -p /etc/ssh-rescue; printf '[control]\\ngroup = \"ssh-rescue\"\\n' >/etc/ssh-rescue/policy.toml");
    wait("the policy", || status(&host)["status"]["policy"]["source"] != "built-in")?;
    let member = "setpriv --reuid=65534 --regid=65534 --groups=\"$(getent group ssh-rescue | cut -d: -f3)\" ssh-rescue";
    host.sh(&format!("{member} hold 1h --reason exercise && {member} release"));
    // Killed, it is back at once, and nobody has to ask.
    host.sh("kill -KILL \"$(systemctl show -p MainPID --value ssh-rescue.service)\"");
    wait("a new agent", || status(&host)["agent"] == true)?;
    host.sh("systemctl start ssh-rescue-repair.service");
    // As cloud-init does: the network and most of the boot come after it. It waits for the agent, for some seconds.
    fs::write(host.path("/etc/systemd/system/first.service"), FIRST).map_err(|e| e.to_string())?;
    host.run("systemctl enable --quiet first.service");
    host.reboot();
    let host = &host;
    expect("an agent before the network", &host.run("test -e /run/early").ok(), &true).map_err(|e| {
        format!("{e}: {}", host.run("journalctl -b --no-pager -o short-monotonic | tail -60").complaint())
    })?;
    let waiting =
        host.sh("systemctl show -p Before --value ssh-rescue.service; systemctl show -p NRestarts ssh-rescue");
    expect("what waits for it, and restarts", &waiting.as_str(), &"shutdown.target\nNRestarts=0\n")?;
    wait("an agent after a boot", || status(host)["status"]["verdict"] == "reachable")
        .map_err(|e| format!("{e}: {}", journal(host)))?;
    host.sh("nft add table inet fw; nft 'add chain inet fw in { type filter hook input priority 0; policy drop; }'");
    wait("a repair after a boot", || status(host)["status"]["repairs"] == 1)
        .map_err(|e| format!("{e}: {}\n{}", status(host), journal(host)))?;
    expect("a client after a boot", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])
}

/// What the agent's sandbox forbids is done by ssh-rescue-repair.service, which the agent starts; a person, a timer or a boot
/// may start it as well, and then it matters not how the agent fares.
pub fn handed_over(host: &Booted) -> Result<(), String> {
    install(host)?;
    let banner = |what: &str| {
        wait(what, || host.wire.see(SOMEBODY) == [Sight::Banner; 2]).map_err(|e| format!("{e}\n{}", journal(host)))
    };
    // A file that is another's stays so, which takes a right that the agent has not.
    host.sh("chown 65534:65534 /etc/hosts.allow; echo ALL: ALL >/etc/hosts.deny");
    banner("a banner after another's hosts.allow")?;
    expect("whose the file is", &host.sh("stat -c %u:%g /etc/hosts.allow").trim(), &"65534:65534")?;
    host.run("userdel sshd; systemctl restart ssh");
    banner("a banner after a missing user")?;
    // Clients get in before it has said so.
    let said = "journalctl --no-pager -q -o cat -u ssh-rescue-repair.service | grep -c '^REPAIRED'";
    wait("a second repair by the unit", || host.run(said).stdout == b"2\n")
        .map_err(|e| format!("{e}\n{}", journal(host)))?;

    expect("whose repair it is", &status(host)["status"]["last_repair"]["outcome"], &"repaired".into())?;

    // No more often than restraint lets; who asks for a repair gets one.
    host.sh("mkdir -p /etc/ssh-rescue; printf '[restraint]\\nattempts = 1\\n' >/etc/ssh-rescue/policy.toml");
    wait("the policy", || status(host)["status"]["policy"]["source"] != "built-in")?;
    // Each of the changes of the file wakes it, and a new policy is a new beginning.
    host.run("sleep 0.5; userdel sshd; systemctl restart ssh");
    banner("a banner after the first time")?;
    wait("the end of that", || status(host)["status"]["repairs"] == 3)?;
    host.run("userdel sshd; systemctl restart ssh");
    let stopped = || status(host)["status"]["stopped"].as_str().is_some_and(|why| why.contains("was started 1 times"));
    wait("restraint", stopped).map_err(|e| format!("{e}: {}\n{}", status(host), journal(host)))?;
    wait("the end of ssh's start", || host.run("systemctl is-failed --quiet ssh").ok())?;
    expect("a client", &host.wire.see(SOMEBODY), &[Sight::Refused; 2])?;
    // What the agent cannot try root can.
    let dry = host.rescue(&["repair", "--dry-run"]);
    expect("a dry run", &dry["evidence"]["sshd"], &"`sshd -t` passes on a copy".into())
        .map_err(|e| format!("{e}: {dry}"))?;
    let report = host.rescue(&["repair"]);
    expect("a repair that was asked for", &report["outcome"], &"repaired".into())
        .map_err(|e| format!("{e}: {report}\n{}", journal(host)))?;
    expect("its steps", &report["plan"]["steps"].as_array().is_some_and(|steps| !steps.is_empty()), &true)?;
    banner("a banner after that")?;
    // The size of the table of connections is the one setting of the kernel that the unit may write to, and the agent none.
    host.sh("nft 'table inet tracks { chain c { type filter hook input priority 0; ct state new accept; }; }'");
    for (unit, size, other) in [("ssh-rescue-repair", "rw", "ro"), ("ssh-rescue", "ro", "ro")] {
        let look = format!(
            "pid=$(systemctl show -p MainPID --value {unit}.service); for name in nf_conntrack_max nf_conntrack_checksum; do
                 nsenter -t $pid -m findmnt -no VFS-OPTIONS -T /proc/sys/net/netfilter/$name | cut -d, -f1; done"
        );
        let stay = "[Service]\nType=exec\nExecStart=\nExecStart=/bin/sleep 60\n";
        if unit == "ssh-rescue-repair" {
            let folder = host.path(&format!("/run/systemd/system/{unit}.service.d"));
            fs::create_dir_all(&folder)
                .and_then(|()| fs::write(folder.join("stay.conf"), stay))
                .map_err(|e| e.to_string())?;
            host.sh(&format!("systemctl daemon-reload; systemctl start {unit}.service"));
        }
        expect(unit, &host.sh(&look).as_str(), &format!("{size}\n{other}\n").as_str())?;
    }
    host.sh("systemctl stop ssh-rescue-repair; rm -r /run/systemd/system/ssh-rescue-repair.service.d; systemctl daemon-reload; nft delete table inet tracks");

    let agent = "$(systemctl show -p MainPID --value ssh-rescue.service)";
    for (name, hinder) in
        [("hung", format!("kill -STOP {agent}")), ("dead", "systemctl stop ssh-rescue.service".into())]
    {
        host.sh(&hinder);
        host.sh(&format!(
            "nft 'table inet {name} {{ chain in {{ type filter hook input priority 0; tcp dport 22 drop; }}; }}'"
        ));
        expect("a client", &host.wire.see(SOMEBODY), &[Sight::TimedOut; 2])?;
        host.sh("systemctl start ssh-rescue-repair.service");
        expect(name, &host.wire.see(SOMEBODY), &[Sight::Banner; 2]).map_err(|e| format!("{e}\n{}", journal(host)))?;
    }
    Ok(())
}

/// The agent may signal sshd, in its sandbox. No kernel announces a stop: it is seen by the next look, here that after a rule
/// if no other came before.
pub fn stopped(host: &Booted) -> Result<(), String> {
    install(host)?;
    host.sh("pid=$(systemctl show -p MainPID --value ssh); kill -STOP $pid; nft add table inet mine");
    mended(host)
}

fn mended(host: &Booted) -> Result<(), String> {
    wait("the repair", || status(host)["status"]["last_repair"].is_object())
        .map_err(|e| format!("{e}: {}\n{}", status(host), journal(host)))?;
    wait("a banner for a client", || host.wire.see(SOMEBODY) == [Sight::Banner; 2])
        .map_err(|e| format!("{e}\n{}", journal(host)))
}

/// Nor does a kernel announce that a control group is frozen.
pub fn frozen(host: &Booted) -> Result<(), String> {
    install(host)?;
    // Thawed before systemctl has seen it frozen, it would fail.
    host.sh("systemctl freeze ssh || true; nft add table inet mine");
    mended(host)
}

/// One look sees a client wait, and says when to look again.
pub fn wedged(host: &Booted) -> Result<(), String> {
    install(host)?;
    host.sh(WEDGE);
    expect("a client", &host.wire.see(SOMEBODY), &[Sight::NoBanner; 2])?;
    host.sh("sleep 1; nft add table inet mine");
    // It is as well as ever to who asks.
    expect("the agent", &status(host)["agent"], &true.into())?;
    host.sh("sleep 25");
    mended(host)
}
