//! What works now and not after a reboot: mended, and the host booted again.

use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::SOMEBODY;
use super::seen::{differences, text, untouched};
use super::walk::{expect, told, undo_all};

/// A next boot that locks out.
pub struct Reboot {
    pub name: &'static str,
    /// Run on a fresh host by sh(1); clients get in afterwards.
    pub make: &'static str,
    pub code: &'static str,
    /// What clients see after that boot.
    pub sees: Sight,
}

pub const REBOOTS: &[Reboot] = &[
    Reboot {
        name: "nftables.conf",
        make: "cat >/etc/nftables.conf <<E
flush ruleset
table inet filter { chain input { type filter hook input priority 0; policy drop
  iif lo accept; ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept; tcp dport { 80, 443 } accept
}; }
E
systemctl -q enable nftables",
        code: "boot.firewall.drop",
        sees: Sight::TimedOut,
    },
    Reboot {
        name: "nftables.conf, neighbour discovery dropped as well",
        make: "cat >/etc/nftables.conf <<E
flush ruleset
table inet filter { chain input { type filter hook input priority 0; policy drop
  iif lo accept; ct state established,related accept
}; }
E
systemctl -q enable nftables",
        code: "boot.firewall.drop",
        sees: Sight::TimedOut,
    },
    Reboot {
        name: "ufw that was enabled by its file",
        make: "sed -i s/ENABLED=no/ENABLED=yes/ /etc/ufw/ufw.conf; systemctl -q enable ufw",
        code: "boot.firewall.drop",
        sees: Sight::TimedOut,
    },
    Reboot {
        name: "firewalld's permanent zone",
        make: "systemctl -q enable --now firewalld; firewall-cmd -q --permanent --remove-service=ssh",
        code: "boot.firewalld.lost",
        sees: Sight::Refused,
    },
    Reboot {
        name: "ssh.socket in the place of its service, on another port",
        make: "mkdir -p /etc/ssh-rescue /etc/systemd/system/ssh.socket.d
printf '[sshd]\npersist = true\n' >/etc/ssh-rescue/policy.toml
printf '[Socket]\nListenStream=\nListenStream=2222\n' >/etc/systemd/system/ssh.socket.d/override.conf
systemctl -q disable ssh.service; systemctl -q enable ssh.socket",
        code: "sshd.socket.listen",
        sees: Sight::Refused,
    },
];

pub fn survive(mut host: Booted, reboot: &Reboot) -> Result<(), String> {
    host.sh(reboot.make);
    expect("a client before", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])?;
    let before = untouched(&host);
    let check = host.rescue(&["check"]);
    expect("check's verdict", &text(&check["verdict"]), &"at-risk".to_owned()).map_err(|e| told(&e, &check))?;
    let found = check["findings"].as_array().into_iter().flatten().any(|f| f["code"] == reboot.code);
    expect("whether check names it", &found, &true).map_err(|e| told(&e, &check))?;
    expect("check wrote", &differences(&before, &untouched(&host)), &[vec![], vec![]])?;
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    host.reboot();
    expect("a client after the boot", &host.wire.see(SOMEBODY), &[Sight::Banner; 2]).map_err(|e| told(&e, &report))?;
    undo_all(&host)?;
    host.reboot();
    expect("a client after the undo and a boot", &host.wire.see(SOMEBODY), &[reboot.sees; 2])
}
