//! firewalld's permanent files, judged and mended as those of a disk, and then booted: what clients see is what was said.

use serde_json::Value;
use ssh_rescue::host::{Call, Host};
use ssh_rescue::rehearse::drill::Sight::{self, Banner, Refused, TimedOut};

use super::booted::{Booted, program};
use super::client::{BANNED, OFFICE, SOMEBODY};
use super::seen::{foretold, text, words};
use super::walk::{expect, told};

pub struct Files {
    pub name: &'static str,
    /// Run on a fresh host by sh(1), where firewalld does not run.
    pub make: &'static str,
    /// What the first client sees after a boot.
    pub sees: [Sight; 2],
}

pub const FILES: &[Files] = &[
    Files { name: "a zone without ssh", make: "firewall-offline-cmd --remove-service=ssh", sees: [Refused; 2] },
    Files {
        name: "zone drop, of which there is no file of one's own",
        make: "firewall-offline-cmd --set-default-zone=drop",
        sees: [TimedOut; 2],
    },
    Files {
        name: "an interface in another zone",
        make: "firewall-offline-cmd --zone=work --remove-service-from-zone=ssh; firewall-offline-cmd --zone=work --add-interface=eth0",
        sees: [Refused; 2],
    },
    Files {
        name: "zones by source, and a rule that bars others",
        make: "mkdir /etc/ssh-rescue
               printf '[ssh]\nsources = [\"198.51.100.0/24\", \"2001:db8:100::/48\"]\n' >/etc/ssh-rescue/policy.toml
               firewall-offline-cmd --zone=block --add-source=198.51.100.0/24
               firewall-offline-cmd --zone=drop --add-source=2001:db8:100::/48
               firewall-offline-cmd --add-rich-rule='rule family=ipv4 source address=203.0.113.0/24 service name=ssh reject'",
        sees: [Refused, TimedOut],
    },
];

/// What a rescue host is told of the disk.
fn rescue(host: &Booted, args: &[&str]) -> Value {
    let root = host.path("").to_string_lossy().into_owned();
    let args = [args, &["--root", &root, "--json"]].concat();
    let program = program();
    let output =
        Host::live().run(&Call::new(&program.to_string_lossy(), &args)).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", output.complaint()))
}

fn clients_see(host: &Booted, check: &Value, when: &str) -> Result<(), String> {
    for client in [SOMEBODY, OFFICE, BANNED] {
        expect(when, &foretold(check, client), &words(host.wire.see(client))).map_err(|e| told(&e, check))?;
    }
    Ok(())
}

pub fn mended(mut host: Booted, files: &Files) -> Result<(), String> {
    host.sh(files.make);
    host.sh("systemctl -q enable firewalld");
    let check = rescue(&host, &["check"]);
    host.reboot();
    expect("a client after a boot", &host.wire.see(SOMEBODY), &files.sees)?;
    clients_see(&host, &check, "what was said of clients")?;
    let report = rescue(&host, &["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    let again = rescue(&host, &["repair"]);
    expect("repairing again", &text(&again["outcome"]), &"healthy".to_owned()).map_err(|e| told(&e, &again))?;
    let check = rescue(&host, &["check"]);
    host.reboot();
    expect("a client after the mend and a boot", &host.wire.see(SOMEBODY), &[Banner; 2])
        .map_err(|e| told(&e, &report))?;
    clients_see(&host, &check, "what was said of clients then")?;
    let undone = rescue(&host, &["undo", &text(&report["id"])]);
    expect("the undo", &text(&undone["phase"]), &"undone".to_owned()).map_err(|e| told(&e, &undone))?;
    host.reboot();
    expect("a client after the undo and a boot", &host.wire.see(SOMEBODY), &files.sees)
}
