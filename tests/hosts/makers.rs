//! Tools that make their rules from files of their own: mended while the host runs, and what the report says is to be written
//! into those files keeps it so.

use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::SOMEBODY;
use super::seen::text;
use super::walk::{expect, told, undo_all};

pub struct Maker {
    pub name: &'static str,
    /// Run on a fresh host by sh(1).
    pub make: &'static str,
    pub units: &'static str,
}

pub const MAKERS: &[Maker] = &[
    Maker {
        name: "ferm",
        make: "sed -i '/dport ssh/d' /etc/ferm/ferm.conf
               sed -i 's/proto icmp ACCEPT;/proto (icmp ipv6-icmp) ACCEPT;/' /etc/ferm/ferm.conf",
        units: "ferm",
    },
    Maker {
        name: "shorewall",
        make: "for six in '' 6; do
                 cd /etc/shorewall$six
                 printf 'fw firewall\nnet ipv%s\n' ${six:-4} >zones
                 printf '?FORMAT 2\nnet eth0\n' >interfaces
                 printf '$FW all ACCEPT\nnet all DROP\nall all REJECT\n' >policy
                 printf '?SECTION NEW\nACCEPT net $FW tcp 80\n' >rules
               done",
        units: "shorewall shorewall6",
    },
];

/// Mended, at risk as long as the files say otherwise, and not any more when they say what the report tells.
pub fn last(mut host: Booted, maker: &Maker) -> Result<(), String> {
    let Maker { make, units, .. } = maker;
    host.sh(make);
    host.sh(&format!("systemctl -q enable {units}; systemctl restart {units}"));
    expect("a client", &host.wire.see(SOMEBODY), &[Sight::TimedOut; 2])?;
    let report = host.rescue(&["repair"]);
    expect("the outcome", &text(&report["outcome"]), &"repaired".to_owned()).map_err(|e| told(&e, &report))?;
    expect("a client after the repair", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])?;
    let check = host.rescue(&["check"]);
    expect("the verdict", &text(&check["verdict"]), &"at-risk".to_owned()).map_err(|e| told(&e, &check))?;
    let written = made(&check, "warning");
    expect("makers that are named", &written.len(), &units.split(' ').count()).map_err(|e| told(&e, &check))?;

    host.sh(&format!("systemctl restart {units}"));
    expect("a client after a restart", &host.wire.see(SOMEBODY), &[Sight::TimedOut; 2])?;
    for (file, accept) in written {
        host.sh(&format!("echo '{accept}' >>{file}"));
    }
    host.sh(&format!("systemctl restart {units}"));
    expect("a client after the advice was taken", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])?;
    let check = host.rescue(&["check"]);
    expect("the verdict then", &text(&check["verdict"]), &"reachable".to_owned()).map_err(|e| told(&e, &check))?;
    expect("makers that are named then", &made(&check, "info").len(), &units.split(' ').count())?;
    host.reboot();
    expect("a client after a boot", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])?;
    undo_all(&host)?;
    expect("a client after the undo", &host.wire.see(SOMEBODY), &[Sight::Banner; 2])
}

/// The files and what is to be written there, of findings of that severity.
fn made(check: &serde_json::Value, severity: &str) -> Vec<(String, String)> {
    let findings = check["findings"].as_array().into_iter().flatten();
    let of = findings.filter(|f| f["code"] == "boot.made" && f["severity"] == severity).map(|f| &f["evidence"]);
    of.map(|evidence| (text(&evidence["file"]), text(&evidence["accept"]))).collect()
}
