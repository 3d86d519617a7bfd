//! What keeps sshd from answering, each as an admin makes it.

use ssh_rescue::rehearse::drill::Sight::{Banner, NoBanner, Refused};

use super::booted::Booted;
use super::client::{OFFICE, SOMEBODY};
use super::lockouts::{Lockout, lockout};
use super::meant::Meant;
use super::seen::{differences, state, text};
use super::service::{start, status, wait};
use super::walk::{expect, told, undo_all};

/// A small host may have no dbus-daemon.
pub const NO_BUS: &str = "systemctl stop dbus.socket dbus.service; rm -f /run/dbus/system_bus_socket";

/// Until systemd has stopped trying, a unit that fails is now failed, now activating.
pub const FAULTS: &[Lockout] = &[
    lockout(
        "sshd, a bad option",
        "echo 'Bogus yes' >>/etc/ssh/sshd_config; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
    lockout(
        "sshd, a bad option in a drop-in",
        "echo 'Bogus yes' >/etc/ssh/sshd_config.d/50-mine.conf; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
    lockout(
        "sshd, a bad value, and given up",
        "sed -i '1i PermitRootLogin maybe\\nLoginGraceTime soon' /etc/ssh/sshd_config
         for n in 1 2 3 4 5 6 7; do systemctl restart ssh || :; done",
        [Refused; 2],
    ),
    lockout(
        "sshd, a directive that may not stand in a Match block",
        "printf 'Match User bob\\nX11Forwarding no\\nPort 22\\n' >>/etc/ssh/sshd_config; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
    lockout("sshd, no sshd_config", "mv /etc/ssh/sshd_config /root/; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done", [Refused; 2]),
    lockout("sshd, no host keys", "rm /etc/ssh/ssh_host_*; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done", [Refused; 2]),
    lockout(
        "sshd, explicit host keys that are not there",
        "printf 'HostKey /etc/ssh/mine_rsa_key\\nHostKey /etc/ssh/mine_ed25519_key\\n' >/etc/ssh/sshd_config.d/50-mine.conf
         systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
    lockout("sshd, empty host keys", "for key in /etc/ssh/ssh_host_*_key; do : >$key; done; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done", [
        Refused, Refused,
    ]),
    lockout("sshd, host keys 0644", "chmod 0644 /etc/ssh/ssh_host_*_key; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done", [Refused; 2]),
    lockout("sshd, the user is missing", "userdel sshd; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done", [Refused; 2]),
    lockout(
        "sshd, an address that is not this host's",
        "echo 'ListenAddress 203.0.113.200' >/etc/ssh/sshd_config.d/50-mine.conf; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
    lockout(
        "sshd, another port",
        "echo 'Port 2222' >/etc/ssh/sshd_config.d/50-mine.conf; systemctl restart ssh",
        [Refused; 2],
    ),
    lockout(
        "sshd, another port by its address",
        "echo 'ListenAddress 0.0.0.0:2222' >/etc/ssh/sshd_config.d/50-mine.conf; systemctl restart ssh",
        [Refused; 2],
    ),
    lockout(
        "sshd, one family alone",
        "sed -i '1i AddressFamily inet6' /etc/ssh/sshd_config; systemctl restart ssh",
        [Refused, Banner],
    ),
    lockout(
        "sshd, stopped by a signal",
        "pid=$(systemctl show -p MainPID --value ssh); kill -STOP $pid; until grep -q '^State:.T' /proc/$pid/status; do sleep 0.1; done",
        [NoBanner; 2],
    ),
    lockout("sshd, frozen with its unit", "systemctl freeze ssh", [NoBanner; 2]),
    lockout(
        "sshd, frozen past systemd",
        "group=/sys/fs/cgroup$(systemctl show -p ControlGroup --value ssh)
         echo 1 >$group/cgroup.freeze; until grep -qx 'frozen 1' $group/cgroup.events; do sleep 0.1; done",
        [NoBanner; 2],
    ),
    lockout("sshd, stopped and disabled", "systemctl disable --now ssh", [Refused; 2]),
    lockout(
        "RHEL's sshd.service, with a bad option in the crypto policy",
        "systemctl -q disable --now ssh.service
         rm -f /lib/systemd/system/ssh.service /lib/systemd/system/ssh.socket /etc/init.d/ssh
         mkdir -p /etc/sysconfig /etc/crypto-policies/back-ends; echo OPTIONS= >/etc/sysconfig/sshd
         cat >/lib/systemd/system/sshd.service <<'E'
[Unit]
Description=OpenSSH server daemon
After=network.target
[Service]
Type=notify
EnvironmentFile=-/etc/sysconfig/sshd
ExecStart=/usr/sbin/sshd -D $OPTIONS
ExecReload=/bin/kill -HUP $MAINPID
KillMode=process
Restart=on-failure
RestartSec=42s
RuntimeDirectory=sshd
[Install]
WantedBy=multi-user.target
E
         policy=/etc/crypto-policies/back-ends/opensshserver.config
         echo Include $policy >/etc/ssh/sshd_config.d/40-redhat-crypto-policies.conf
         printf 'RekeyLimit 1G\nCiphers aes256-gcm@openssh.com,bogus\n' >$policy
         systemctl daemon-reload; systemctl -q enable sshd.service; systemctl start sshd.service || :",
        [Refused; 2],
    ),
    lockout(
        "ssh.socket on another port",
        "systemctl -q disable --now ssh.service
         sed s/=22/=2222/ /lib/systemd/system/ssh.socket >/etc/systemd/system/ssh.socket
         systemctl daemon-reload; systemctl -q enable --now ssh.socket",
        [Refused; 2],
    ),
    lockout(
        "ssh.socket on another port by a drop-in, and a client who is served there",
        "systemctl -q disable --now ssh.service; mkdir -p /etc/systemd/system/ssh.socket.d
         printf '[Socket]\nListenStream=\nListenStream=2222\n' >/etc/systemd/system/ssh.socket.d/override.conf
         systemctl daemon-reload; systemctl -q enable --now ssh.socket
         timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/2222; head -c 4 <&3'",
        [Refused; 2],
    ),
    lockout(
        "ssh.socket for IPv4 alone",
        "systemctl -q disable --now ssh.service; mkdir -p /etc/systemd/system/ssh.socket.d
         printf '[Socket]\nListenStream=\nListenStream=0.0.0.0:22\n' >/etc/systemd/system/ssh.socket.d/override.conf
         systemctl daemon-reload; systemctl -q enable --now ssh.socket",
        [Banner, Refused],
    ),
    lockout("ssh.socket, stopped", "systemctl -q disable --now ssh.service; systemctl -q enable ssh.socket", [Refused; 2]),
    lockout(
        "sshd, all at once",
        "printf 'Port 2222\\nBogus yes\\n' >/etc/ssh/sshd_config.d/50-mine.conf
         chmod 0644 /etc/ssh/ssh_host_*_key; userdel sshd; systemctl restart ssh || until systemctl -q is-failed ssh; do sleep 0.1; done",
        [Refused; 2],
    ),
];

/// Where the socket stays systemd's, as on Ubuntu: Debian 12 starts an sshd for each connection.
pub const OF_SOCKET: Lockout = lockout(
    "ssh.socket, and an sshd of it that is stopped",
    "systemctl -q disable --now ssh.service; systemctl -q enable --now ssh.socket
     timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; head -c 4 <&3'
     pid=$(systemctl show -p MainPID --value ssh); kill -STOP $pid; until grep -q '^State:.T' /proc/$pid/status; do sleep 0.1; done",
    [NoBanner; 2],
);

pub const OTHERS: &[Meant] = &[
    Meant {
        name: "an sshd that was replaced and not restarted",
        make: "cp -a /usr/sbin/sshd /usr/sbin/sshd.new; mv /usr/sbin/sshd.new /usr/sbin/sshd",
        sees: &[(SOMEBODY, [Banner; 2])],
        verdict: "at-risk",
        refuses: None,
    },
    Meant {
        name: "an sshd that somebody debugs",
        make: "systemd-run --unit=debugger python3 -c \"import ctypes, time
ctypes.CDLL(None).ptrace(16, $(systemctl show -p MainPID --value ssh), 0, 0); time.sleep(600)\"
               until grep -q '^State:.t' /proc/$(systemctl show -p MainPID --value ssh)/status; do sleep 0.1; done",
        sees: &[(SOMEBODY, [NoBanner; 2])],
        verdict: "blocked",
        refuses: Some("sshd.listener.stopped"),
    },
    Meant {
        name: "an sshd of no unit, which takes no connections",
        make: "systemctl stop ssh; mkdir -p /run/sshd; setsid /usr/sbin/sshd
               until pid=$(cat /run/sshd.pid); do sleep 0.1; done; prlimit --pid $pid --nofile=4:4
               timeout 1 bash -c 'exec 3<>/dev/tcp/127.0.0.1/22; head -c 1 <&3' || :; sleep 32",
        sees: &[(SOMEBODY, [NoBanner; 2])],
        verdict: "blocked",
        refuses: Some("sshd.listener.wedged"),
    },
    Meant {
        name: "another process on port 22",
        make: "systemctl stop ssh; systemd-run --unit=squatter python3 -m http.server --bind :: 22
               until curl -s -o /dev/null http://127.0.0.1:22 || ss -ltn | grep -q :22; do sleep 0.1; done",
        sees: &[(SOMEBODY, [NoBanner; 2])],
        verdict: "blocked",
        refuses: Some("sshd.listener.stranger"),
    },
    Meant {
        name: "another process on port 22 of one family",
        make: "systemctl stop ssh; systemd-run --unit=squatter python3 -m http.server --bind 0.0.0.0 22
               until ss -ltn | grep -q :22; do sleep 0.1; done
               systemctl start ssh",
        sees: &[(SOMEBODY, [NoBanner, Banner])],
        verdict: "blocked",
        refuses: Some("sshd.listener.stranger"),
    },
];

/// While sshd serves, its broken files are mended only by the policy's word; what is connected stays so, and the next start
/// works.
pub fn next_start(host: &Booted) -> Result<(), String> {
    host.sh("echo 'Bogus yes' >>/etc/ssh/sshd_config; systemctl disable ssh");
    let before = state(host);
    let check = host.rescue(&["check"]);
    expect("the verdict", &text(&check["verdict"]), &"at-risk".to_owned()).map_err(|e| told(&e, &check))?;
    let report = host.rescue(&["repair"]);
    expect("a repair without the policy's word", &text(&report["outcome"]), &"healthy".to_owned())?;
    expect("what it wrote", &differences(&before, &state(host)), &[vec![], vec![]])?;
    host.sh("mkdir -p /etc/ssh-rescue; printf '[sshd]\npersist = true\n' >/etc/ssh-rescue/policy.toml");
    let before = state(host);
    let pid = host.sh("systemctl show -p MainPID --value ssh");
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("the verdict after", &text(&report["after"]["verdict"]), &"reachable".to_owned())
        .map_err(|e| format!("{e}\n{:#}", report["after"]["findings"]))?;
    expect("sshd was left alone", &host.sh("systemctl show -p MainPID --value ssh"), &pid)?;
    host.sh("systemctl is-enabled ssh; sshd -t");
    undo_all(host)?;
    expect("after the undo", &differences(&before, &state(host)), &[vec![], vec![]])?;
    expect("sshd was left alone by the undo", &host.sh("systemctl show -p MainPID --value ssh"), &pid)?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &[Banner; 2])?;
    // systemd has not lost the service out of its sight: it can still restart it.
    host.sh("sed -i '$d' /etc/ssh/sshd_config; systemctl daemon-reload; systemctl restart ssh");
    expect("a client after a restart", &host.wire.see(SOMEBODY), &[Banner; 2])
}

/// Where the unit itself is broken, another sshd serves until the real one is back; without the policy's word none does.
pub fn emergency(host: &Booted) -> Result<(), String> {
    host.sh("mkdir -p /etc/systemd/system/ssh.service.d /etc/ssh-rescue
             printf '[Service]\nExecStartPre=/bin/false\n' >/etc/systemd/system/ssh.service.d/broken.conf
             echo 'PermitRootLogin no' >/etc/ssh/sshd_config.d/50-mine.conf
             systemctl daemon-reload; systemctl stop ssh");
    let report = host.rescue(&["repair"]);
    expect("a repair without the policy's word", &text(&report["outcome"]), &"blocked".to_owned())
        .map_err(|e| format!("{e}\n{report:#}"))?;
    expect("a client then", &host.wire.see(SOMEBODY), &[Refused; 2])?;
    host.sh("printf '[sshd]\nemergency = true\n' >/etc/ssh-rescue/policy.toml");
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("a client after the repair", &host.wire.see(SOMEBODY), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    let settings = host.sh("sshd -T -f /run/ssh-rescue-emergency/sshd_config");
    for strict in ["permitrootlogin no", "passwordauthentication no", "allowtcpforwarding no"] {
        expect(strict, &settings.lines().any(|l| l == strict), &true)?;
    }
    host.sh("rm /etc/systemd/system/ssh.service.d/broken.conf; systemctl daemon-reload; systemctl reset-failed ssh; systemctl start ssh");
    expect("it ends when the real one is back", &host.run("systemctl is-active ssh-rescue-emergency").ok(), &false)?;
    expect("a client of the real one", &host.wire.see(SOMEBODY), &[Banner; 2])?;
    let undone = host.rescue(&["undo", &text(&report["id"])]);
    expect("the undo", &text(&undone["phase"]), &"undone".to_owned()).map_err(|e| format!("{e}: {undone}"))?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &[Banner; 2])?;
    expect("its folder", &host.run("test -e /run/ssh-rescue-emergency").ok(), &false)
}

/// A reload for another port lets those who are connected stay.
pub fn sessions(host: &Booted) -> Result<(), String> {
    host.sh("echo 'Port 2222' >/etc/ssh/sshd_config.d/50-mine.conf; systemctl restart ssh");
    let script = "exec 3<>/dev/tcp/127.0.0.1/2222; read -r -u 3 banner; echo \"$banner\"
                  ssh-rescue repair >/dev/null 2>&1; echo \"repair $?\"
                  printf 'SSH-2.0-x\\r\\n' >&3; head -c 6 <&3 | wc -c";
    let said = host.sh(&format!("bash -c '{}'", script.replace('\'', "'\\''")));
    let lines: Vec<&str> = said.lines().collect();
    expect("a client that stays", &lines.first().is_some_and(|l| l.starts_with("SSH-2.0-")), &true)?;
    // The rest is the answer to a client's first words.
    expect("it is answered after the repair", &lines.last().copied(), &Some("6"))
        .map_err(|e| format!("{e}\n{said}"))?;
    expect("a client after the repair", &host.wire.see(SOMEBODY), &[Banner; 2])
}

/// sshd runs, holds the port, and can take no connection any more: it has as many files open as it may.
pub const WEDGE: &str = "prlimit --pid $(systemctl show -p MainPID --value ssh) --nofile=4:4";

/// An sshd that takes no connections is restarted, and who is connected stays so. Nothing brings the old one back.
pub fn wedged(host: &Booted) -> Result<(), String> {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/22; read -r -u 3 banner; echo \"$banner\"; {WEDGE}
         until [ -e /run/repaired ]; do sleep 0.2; done
         printf 'SSH-2.0-x\\r\\n' >&3; head -c 6 <&3 | wc -c >/run/answered"
    );
    host.sh("sed -i '1i LoginGraceTime 0' /etc/ssh/sshd_config; systemctl restart ssh");
    host.sh(&format!("systemd-run --unit=client bash -c '{}'", script.replace('\'', "'\\''")));
    host.sh(
        "until grep -q '^Max open files *4 ' /proc/$(systemctl show -p MainPID --value ssh)/limits; do sleep 0.1; done",
    );
    let pid = host.sh("systemctl show -p MainPID --value ssh");
    expect("a client before", &host.wire.see(SOMEBODY), &[NoBanner; 2])?;
    let waits = host.run("ssh-rescue check");
    expect("it says that it waits", &waits.complaint().contains("a connection waits for sshd"), &true)
        .map_err(|e| format!("{e}: {}", waits.complaint()))?;
    let check = host.rescue(&["check"]);
    let seen = (text(&check["verdict"]), text(&check["symptom"]));
    expect("check", &seen, &("blocked".to_owned(), "no-banner".to_owned())).map_err(|e| told(&e, &check))?;
    let codes: Vec<String> = check["findings"].as_array().into_iter().flatten().map(|f| text(&f["code"])).collect();
    expect("its finding", &codes.contains(&"sshd.listener.wedged".to_owned()), &true).map_err(|e| told(&e, &check))?;
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    let steps: Vec<String> =
        report["plan"]["steps"].as_array().into_iter().flatten().map(|s| text(&s["kind"])).collect();
    expect("the steps", &steps, &vec!["restart-unit".to_owned()]).map_err(|e| told(&e, &report))?;
    expect("a client after", &host.wire.see(SOMEBODY), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    expect("the old sshd is gone", &host.run(&format!("kill -0 {pid}")).ok(), &false)?;
    host.sh("touch /run/repaired; until [ -s /run/answered ]; do sleep 0.1; done");
    expect("who was connected is answered", &host.sh("cat /run/answered").trim(), &"6")?;
    let again = host.rescue(&["repair"]);
    expect("repairing again", &text(&again["outcome"]), &"healthy".to_owned()).map_err(|e| told(&e, &again))?;
    undo_all(host)?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &[Banner; 2])
}

/// A stopped one that takes nobody once it goes on is restarted, and killed where it does not end when it is told to.
pub fn unmoved(host: &Booted, beside: &str) -> Result<(), String> {
    host.sh(beside);
    host.sh("mkdir -p /etc/systemd/system/ssh.service.d
             printf '[Service]\nKillSignal=SIGCONT\n' >/etc/systemd/system/ssh.service.d/mine.conf
             systemctl daemon-reload");
    host.sh(WEDGE);
    let pid = host.sh("pid=$(systemctl show -p MainPID --value ssh); kill -STOP $pid; echo $pid");
    expect("a client before", &host.wire.see(SOMEBODY), &[NoBanner; 2])?;
    host.sh("sleep 31");
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    let history = host.rescue(&["history"]);
    let repairs = history["repairs"].as_array().into_iter().flatten();
    let mut phases: Vec<String> = repairs.map(|r| text(&r["phase"])).collect();
    phases.sort_unstable();
    expect("what was tried", &phases, &["confirmed", "rolled-back"].map(str::to_owned).to_vec())?;
    expect("a client after", &host.wire.see(SOMEBODY), &[Banner; 2]).map_err(|e| told(&e, &report))?;
    expect("the old sshd is gone", &host.run(&format!("kill -0 {pid}")).ok(), &false)
}

/// A start that was on its way fails by what it had met before the repair: that is not the repair's failure.
pub fn on_its_way(host: &Booted) -> Result<(), String> {
    host.sh("mkdir -p /etc/systemd/system/ssh.service.d
             echo '[Service]' >/etc/systemd/system/ssh.service.d/mine.conf
             cat >>/etc/systemd/system/ssh.service.d/mine.conf <<'END'
ExecStartPre=/bin/sh -c '[ -e /run/again ] && exit; touch /run/again; sleep 4; exit 1'
Restart=no
END
             systemctl daemon-reload; systemctl stop ssh; systemctl --no-block start ssh
             until [ -e /run/again ]; do sleep 0.05; done");
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("a client after", &host.wire.see(SOMEBODY), &[Banner; 2]).map_err(|e| told(&e, &report))
}

/// Whom the policy names and sshd shuts out is told, also by the agent; sshd since OpenSSH 9.8.
pub fn penalised(host: &Booted) -> Result<(), String> {
    host.sh("mkdir -p /etc/ssh-rescue
             printf '[ssh]\nsources = [\"10.0.0.0/8\", \"fd00:9::/64\"]\n' >/etc/ssh-rescue/policy.toml
             echo 'PerSourcePenalties noauth:60 min:1' >/etc/ssh/sshd_config.d/50-penalties.conf
             systemctl restart ssh");
    let named = |by: &[&str]| -> (Vec<String>, serde_json::Value) {
        let check = host.rescue(by);
        let of = |f: &&serde_json::Value| text(&f["code"]).starts_with("sshd.penalties.");
        let found = check["findings"].as_array().into_iter().flatten().filter(of);
        (found.map(|f| format!("{} {}", text(&f["code"]), text(&f["evidence"]["source"]))).collect(), check)
    };
    let exempt = "sshd.penalties.exempt ".to_owned();
    let (before, check) = named(&["check"]);
    expect("what is found before", &before, &vec![exempt.clone()]).map_err(|e| told(&e, &check))?;
    // A client that leaves without a try to log in, and comes again.
    for client in [OFFICE, SOMEBODY] {
        expect("a client", &host.wire.see(client), &[Banner; 2])?;
        wait("a penalty", || host.wire.see(client).iter().all(|sight| *sight != Banner))?;
    }
    let of = |source: &str| format!("sshd.penalties.source {source}");
    let expected = vec![of("10.9.9.9"), of("fd00:9::9"), exempt];
    let sorted = |by: &[&str]| {
        let (mut found, check) = named(by);
        found.sort();
        found.rotate_left(1);
        expect("what is found", &found, &expected).map_err(|e| told(&e, &check))
    };
    sorted(&["check"])?;
    start(host)?;
    wait("the agent", || status(host)["agent"] == true)?;
    sorted(&["check"])
}
