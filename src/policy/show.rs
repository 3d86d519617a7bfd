//! A policy as the text of a policy file: every key with the value that is in force.

use std::fmt::Write;

use ipnet::IpNet;

use super::{MODES, Mode, Policy, STRATEGIES};

impl Policy {
    /// The policy as TOML; [`super::parse`] reads the same policy from it.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut line = |text: &str, comment: &str| {
            // Writing to a string does not fail.
            let _ = if comment.is_empty() { writeln!(out, "{text}") } else { writeln!(out, "{text:<36} # {comment}") };
        };
        line("[ssh]", "");
        line(&format!("port = {}", ports(&self.ssh.ports)), "");
        match &self.ssh.sources {
            Some(nets) => line(&format!("sources = [{}]", nets.iter().map(net).collect::<Vec<_>>().join(", ")), ""),
            None => line("# sources = [\"198.51.100.0/24\"]", "not set: somebody outside must be able to connect"),
        }
        match &self.ssh.interfaces {
            Some(names) => line(&format!("interfaces = {}", strings(names)), ""),
            None => line("# interfaces = [\"eth0\"]", "not set: those with a default route"),
        }
        line("\n[firewall]", "");
        line(&format!("mode = {}", mode(self.firewall.mode)), "off | report | repair");
        let strategy = STRATEGIES.iter().find(|(_, s)| *s == self.firewall.strategy).map_or("insert", |(name, _)| name);
        line(&format!("strategy = \"{strategy}\""), "insert | flush | disable");
        line(&format!("persist = {}", self.firewall.persist), "mend also what the next boot loads");
        line(&format!("respect = {}", strings(&self.firewall.respect)), "");
        line(&format!("panic = {}", mode(self.firewall.panic)), "firewalld's panic mode");
        line(&format!("conntrack = {}", mode(self.firewall.conntrack)), "a full table of tracked connections");
        line(&format!("unrehearsed = {}", self.firewall.unrehearsed), "go on where rules cannot be copied");
        line("\n[wrappers]", "");
        line(&format!("mode = {}", mode(self.wrappers.mode)), "");
        line("\n[sshd]", "");
        line(&format!("mode = {}", mode(self.sshd.mode)), "");
        line(&format!("unmask = {}", self.sshd.unmask), "start it even where its unit is masked");
        line(&format!("persist = {}", self.sshd.persist), "mend also what only its next start needs");
        line(&format!("emergency = {}", self.sshd.emergency), "start one beside it where nothing else helps");
        line(&format!("logins = {}", mode(self.sshd.logins)), "modes on the way to people's keys");
        line("\n[disk]", "");
        line(&format!("reserve = {}", self.disk.reserve), "4 MiB for a repair while the disk is full");
        line("\n[restraint]", "");
        line(&format!("attempts = {}", self.restraint.attempts), "");
        line(&format!("per = \"{}\"", duration(self.restraint.per_seconds)), "");
        line("\n[control]", "");
        match &self.control.group {
            Some(group) => line(&format!("group = {}", string(group)), ""),
            None => line("# group = \"adm\"", "not set: root alone"),
        }
        line("\n[report]", "");
        line(&format!("console = {}", self.report.console), "");
        match &self.report.metrics {
            Some(path) => line(&format!("metrics = {}", string(&path.to_string_lossy())), ""),
            None => line("# metrics = \"/var/lib/prometheus/node-exporter\"", "not set: none"),
        }
        out
    }
}

fn ports(ports: &[u16]) -> String {
    match ports {
        [only] => only.to_string(),
        ports => format!("{ports:?}"),
    }
}

fn mode(mode: Mode) -> String {
    let name = MODES.iter().find(|(_, m)| *m == mode).map_or("report", |(name, _)| name);
    format!("\"{name}\"")
}

fn net(net: &IpNet) -> String {
    let single = net.prefix_len() == net.max_prefix_len();
    if single { format!("\"{}\"", net.addr()) } else { format!("\"{net}\"") }
}

fn string(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn strings(texts: &[String]) -> String {
    format!("[{}]", texts.iter().map(|t| string(t)).collect::<Vec<_>>().join(", "))
}

fn duration(seconds: u64) -> String {
    let mut rest = seconds;
    let mut out = String::new();
    for (unit, size) in [('d', 86400), ('h', 3600), ('m', 60), ('s', 1)] {
        if rest >= size {
            out.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    out
}
