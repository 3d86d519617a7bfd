//! Modes for which sshd ignores people's keys: mended by the policy's word alone, and never through somebody's links.

use super::booted::Booted;
use super::seen::text;
use super::service::{journal, start, wait};
use super::walk::{expect, told, undo_all};

/// alice's home and keys can be written to by others; bob's `.ssh` is a link to a folder that is everybody's.
const MAKE: &str = "
    useradd -m -s /bin/bash alice; useradd -m -s /bin/bash bob
    ssh-keygen -q -t ed25519 -N '' -f /root/key
    install -d -o alice -g alice -m 700 /home/alice/.ssh
    install -o alice -g alice -m 664 /root/key.pub /home/alice/.ssh/authorized_keys
    chmod 0777 /home/alice
    ln -s /tmp /home/bob/.ssh; install -o bob -g bob -m 666 /root/key.pub /tmp/authorized_keys";
const MODES: &str =
    "stat -c '%a %U:%G' /home/alice /home/alice/.ssh /home/alice/.ssh/authorized_keys /tmp /tmp/authorized_keys";
const OPEN: &str = "777 alice:alice\n700 alice:alice\n664 alice:alice\n1777 root:root\n666 bob:bob\n";
const MENDED: &str = "755 alice:alice\n700 alice:alice\n644 alice:alice\n1777 root:root\n666 bob:bob\n";

fn logs_in(host: &Booted, name: &str) -> bool {
    let options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    host.run(&format!("ssh {options} -i /root/key {name}@127.0.0.1 true")).ok()
}

pub fn modes(host: &Booted) -> Result<(), String> {
    host.sh(MAKE);
    expect("the modes", &host.sh(MODES).as_str(), &OPEN)?;
    // sshd punishes addresses for logins that fail: few are tried.
    expect("alice's login", &logs_in(host, "alice"), &false)?;
    let report = host.rescue(&["repair"]);
    expect("without the policy's word", &text(&report["outcome"]), &"healthy".to_owned())
        .map_err(|e| told(&e, &report))?;
    expect("the modes without the policy's word", &host.sh(MODES).as_str(), &OPEN)?;

    host.sh("mkdir -p /etc/ssh-rescue; printf '[sshd]\nlogins = \"repair\"\n' >/etc/ssh-rescue/policy.toml");
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("the modes after the repair", &host.sh(MODES).as_str(), &MENDED).map_err(|e| told(&e, &report))?;
    expect("alice's login after the repair", &logs_in(host, "alice"), &true)?;
    let left = report["after"]["findings"].as_array().into_iter().flatten().filter(|f| f["code"] == "sshd.logins.mode");
    let left: Vec<String> = left.map(|f| text(&f["evidence"]["account"])).collect();
    expect("who is left", &left, &vec!["bob".to_owned()]).map_err(|e| told(&e, &report))?;
    undo_all(host)?;
    expect("the modes after the undo", &host.sh(MODES).as_str(), &OPEN)?;

    // The agent may not write to homes; the unit that it starts may. What was undone is respected, so it is forgotten.
    host.sh("rm -rf /var/lib/ssh-rescue");
    start(host)?;
    wait("the modes by the agent", || host.run(MODES).stdout == MENDED.as_bytes())
        .map_err(|e| format!("{e}\n{}\n{}", host.sh(MODES), journal(host)))
}
