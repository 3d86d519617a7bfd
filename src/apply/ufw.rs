//! ufw, through ufw (ufw(8), version 0.35 and later).

use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::iptables::{self, legacy_tables};
use super::{StepError, files, nft, tool};
use crate::facts::{Backend, Family, TableFamily, escape};
use crate::host::Host;
use crate::plan::{accept::tag, ip_table};
use crate::record::{Replaced, Saved};

/// ufw runs some twenty iptables commands to reload.
const DEADLINE: Duration = Duration::from_secs(20);
/// Where versions of ufw keep the rules of `ufw allow`.
const FILES: [&str; 6] = [
    "/etc/ufw/user.rules",
    "/etc/ufw/user6.rules",
    "/lib/ufw/user.rules",
    "/lib/ufw/user6.rules",
    "/var/lib/ufw/user.rules",
    "/var/lib/ufw/user6.rules",
];
const FILTER: &str = "filter";
/// What the names of chains begin with that ufw makes to try what the kernel can do, and deletes at once.
const TRIALS: [&str; 2] = ["ufw-caps-test", "ufw6-caps-test"];

/// The rules as ufw(8) has them, without verb and comment.
pub fn rules(port: u16, interface: Option<&str>, sources: &[Option<IpNet>]) -> Vec<Vec<String>> {
    let rule = |source: &Option<IpNet>| {
        let mut words = vec!["in".to_owned()];
        if let Some(name) = interface {
            words.extend(["on".to_owned(), name.to_owned()]);
        }
        words.extend(["proto".into(), "tcp".into()]);
        if let Some(net) = source {
            words.extend(["from".into(), net.to_string()]);
        }
        words.extend(["to".into(), "any".into(), "port".into(), port.to_string()]);
        words
    };
    sources.iter().map(rule).collect()
}

/// ufw's own files as they are now.
pub fn before(host: &Host) -> Result<Vec<Replaced>, StepError> {
    let mut out = Vec::new();
    for path in FILES.map(Path::new) {
        if let Some(old) = files::now(host, path)? {
            out.push(Replaced { path: path.to_owned(), old: Some(old), new: None });
        }
    }
    Ok(out)
}

/// Records what ufw made of its files.
pub fn after(host: &Host, before: &mut [Replaced]) -> Result<(), StepError> {
    for file in before {
        file.new = files::now(host, &file.path)?;
    }
    Ok(())
}

/// Puts the rules at the head of ufw's list: an earlier deny or limit wins.
pub fn allow(host: &Host, id: &str, rules: &[Vec<String>]) -> Result<(), StepError> {
    let comment = tag(id);
    for rule in rules {
        if is_heeded(host, rule)? || prepend(host, rule, &comment)? {
            continue;
        }
        // ufw says so of a rule that denies the same, too, and leaves it as it is.
        for verb in ["allow", "deny", "reject", "limit"] {
            ufw(host, &["delete", verb], rule, &[])?;
        }
        if !prepend(host, rule, &comment)? {
            return Err(StepError::Refused { tool: "ufw".into(), complaint: "it skips the rule as existing".into() });
        }
    }
    Ok(())
}

/// Whether ufw has the rule already, with nothing before it that bars anybody.
fn is_heeded(host: &Host, rule: &[String]) -> Result<bool, StepError> {
    let (mut found, mut all) = (false, true);
    for path in FILES.map(Path::new) {
        if let Some(text) = files::now(host, path)? {
            let place = heeded(&String::from_utf8_lossy(text.bytes()), rule);
            found |= place == Some(true);
            all &= place != Some(false);
        }
    }
    Ok(found && all)
}

/// The same of one of ufw's files; None where the file cannot have the rule, or has none at all. Each rule stands in it as
/// `### tuple ### ACTION PROTOCOL PORT DESTINATION SOURCE-PORT SOURCE DIRECTION_INTERFACE`.
fn heeded(text: &str, rule: &[String]) -> Option<bool> {
    let after = |word: &str| rule.iter().skip_while(|w| *w != word).nth(1).map(String::as_str);
    let direction = after("on").map_or("in".to_owned(), |name| format!("in_{name}"));
    let mut any = None;
    for tuple in text.lines().filter_map(|line| line.strip_prefix("### tuple ### ")) {
        let words: Vec<&str> = tuple.split_whitespace().take_while(|w| !w.starts_with("comment=")).collect();
        let [action, protocol, port, destination, source_port, source, way] = words[..] else { return Some(false) };
        let everybody = if destination.contains(':') { "::/0" } else { "0.0.0.0/0" };
        let from = after("from").unwrap_or(everybody);
        if from.contains(':') != everybody.contains(':') {
            return None;
        }
        let same = [protocol, port, destination, source_port, source, way]
            == ["tcp", after("port").unwrap_or_default(), everybody, "any", from, &direction];
        if action != "allow" || same {
            return Some(same && action == "allow");
        }
        any = Some(false);
    }
    any
}

/// Whether the rule was put there; not where ufw already has one for the same packets.
fn prepend(host: &Host, rule: &[String], comment: &str) -> Result<bool, StepError> {
    let comment = ["comment", comment];
    let said = match ufw(host, &["prepend", "allow"], rule, &comment) {
        // Before 0.36.
        Err(StepError::Refused { complaint, .. }) if complaint.contains("Invalid") => {
            ufw(host, &["insert", "1", "allow"], rule, &comment)?
        }
        said => said?,
    };
    if said.contains("Skipping") {
        return Ok(false);
    }
    for line in said.lines().filter(|line| line.starts_with("Rule")) {
        let file = if line.contains("(v6)") { "user6.rules" } else { "user.rules" };
        if !is_written(host, rule, file)? {
            let complaint = format!("it says `{}`, and {file} does not hold the rule", escape(line));
            return Err(StepError::Refused { tool: "ufw".into(), complaint });
        }
    }
    Ok(true)
}

/// Whether the file holds the rule. ufw (0.36) does not say so where it could not write it: set_rule() makes the error and does
/// not raise it.
fn is_written(host: &Host, rule: &[String], file: &str) -> Result<bool, StepError> {
    for path in FILES.map(Path::new).into_iter().filter(|path| path.ends_with(file)) {
        if let Some(text) = files::now(host, path)?
            && heeded(&String::from_utf8_lossy(text.bytes()), rule) == Some(true)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn ufw(host: &Host, verb: &[&str], rule: &[String], comment: &[&str]) -> Result<String, StepError> {
    let args: Vec<&str> =
        verb.iter().copied().chain(rule.iter().map(String::as_str)).chain(comment.iter().copied()).collect();
    let output = tool(host, "ufw", &args, &[], DEADLINE)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Puts ufw's files back as they were; where somebody changed them since, only deletes the rules.
pub fn put_back(host: &Host, before: &[Replaced], rules: &[Vec<String>]) -> Result<(), StepError> {
    let mut foreign = false;
    for file in before {
        let now = files::now(host, &file.path)?;
        foreign |= now != file.old && file.new.is_some() && now != file.new;
    }
    if foreign {
        for rule in rules {
            ufw(host, &["delete", "allow"], rule, &[])?;
        }
        return Ok(());
    }
    for file in before {
        files::put_back(host, file)?;
    }
    ufw(host, &["reload"], &[], &[])?;
    forget_trials(host)
}

/// Deletes the chains in which ufw tries what this kernel can do: an ufw that was killed meanwhile leaves one.
fn forget_trials(host: &Host) -> Result<(), StepError> {
    for table in tables(host, &Family::BOTH)? {
        let chains = table.text.lines().filter_map(|l| l.strip_prefix(':')?.split_whitespace().next());
        let trials = chains.filter(|c| TRIALS.iter().any(|trial| c.starts_with(trial)));
        let lines: Vec<String> = trials.flat_map(|chain| [format!("-F {chain}"), format!("-X {chain}")]).collect();
        if !lines.is_empty() {
            let restore = iptables::restore_tool(host, table.backend, table.family)?;
            iptables::restore(host, &restore, &format!("*filter\n{}\nCOMMIT\n", lines.join("\n")))?;
        }
    }
    Ok(())
}

/// The filter tables that hold ufw's chains, as they are now.
pub fn tables(host: &Host, families: &[Family]) -> Result<Vec<Saved>, StepError> {
    let mut out = Vec::new();
    for family in families.iter().map(|f| ip_table(*f)) {
        for backend in [Backend::Nft, Backend::Legacy] {
            if !exists(host, backend, family)? {
                continue;
            }
            let text = iptables::save(host, backend, family, Some(FILTER))?;
            if text.lines().any(|line| line.starts_with(":ufw")) {
                out.push(Saved { backend, family, text });
            }
        }
    }
    Ok(out)
}

fn exists(host: &Host, backend: Backend, family: TableFamily) -> Result<bool, StepError> {
    Ok(match backend {
        Backend::Nft => nft::tables()?.iter().any(|(f, name)| *f == family && name == FILTER),
        Backend::Legacy => legacy_tables(host, family).iter().any(|name| name == FILTER),
    })
}

/// Deletes ufw's chains and lets ufw build them anew: it adds the jumps to them only where they do not exist.
pub fn rebuild(host: &Host, tables: &[Saved]) -> Result<(), StepError> {
    for table in tables {
        let restore = iptables::restore_tool(host, table.backend, table.family)?;
        iptables::restore(host, &restore, &without_chains(&table.text))?;
    }
    let said = ufw(host, &["reload"], &[], &[])?;
    if said.contains("not enabled") {
        ufw(host, &["--force", "enable"], &[], &[])?;
    }
    Ok(())
}

/// The lines for iptables-restore that take ufw's chains out of a saved filter table, and nothing else.
fn without_chains(saved: &str) -> String {
    let own = |chain: &str| chain.starts_with("ufw-") || chain.starts_with("ufw6-");
    let chains: Vec<&str> = saved
        .lines()
        .filter_map(|l| l.strip_prefix(':')?.split_whitespace().next())
        .filter(|chain| own(chain))
        .collect();
    let mut lines = vec!["*filter".to_owned()];
    for rule in saved.lines().filter_map(|l| l.strip_prefix("-A ")) {
        let mut words = rule.split_whitespace();
        let chain = words.next().unwrap_or_default();
        let target = words.skip_while(|w| !matches!(*w, "-j" | "-g")).nth(1).unwrap_or_default();
        if !own(chain) && chains.contains(&target) {
            lines.push(format!("-D {rule}"));
        }
    }
    lines.extend(chains.iter().map(|chain| format!("-F {chain}")));
    lines.extend(chains.iter().map(|chain| format!("-X {chain}")));
    lines.push("COMMIT\n".into());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_names_its_source_and_interface() {
        let all = rules(22, Some("eth0"), &[Some("198.51.100.0/24".parse().unwrap()), None]);
        assert_eq!(all[0].join(" "), "in on eth0 proto tcp from 198.51.100.0/24 to any port 22");
        assert_eq!(all[1].join(" "), "in on eth0 proto tcp to any port 22");
    }

    #[test]
    fn a_rule_that_is_there_counts_only_with_nothing_barred_before_it() {
        let rule = |source: Option<&str>| rules(22, None, &[source.map(|s| s.parse().unwrap())]).remove(0);
        let ssh = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in comment=7373\n";
        let web = "### tuple ### allow tcp 443 0.0.0.0/0 any 0.0.0.0/0 in\n";
        let deny = "### tuple ### deny any any 0.0.0.0/0 any 203.0.113.0/24 in\n";
        assert_eq!(heeded(&[web, ssh, deny].concat(), &rule(None)), Some(true));
        assert_eq!(heeded(&[deny, ssh].concat(), &rule(None)), Some(false));
        assert_eq!(heeded(&ssh.replace("allow", "limit"), &rule(None)), Some(false));
        assert_eq!(heeded(ssh, &rule(Some("198.51.100.0/24"))), Some(false));
        assert_eq!(heeded(ssh, &rule(Some("2001:db8::/64"))), None);
        assert_eq!(heeded("*filter\nCOMMIT\n", &rule(None)), None);
        assert_eq!(heeded(&ssh.replace("0.0.0.0/0", "::/0"), &rule(None)), Some(true));
    }

    #[test]
    fn only_the_chains_of_ufw_are_taken_out() {
        let saved = "*filter\n:INPUT DROP [0:0]\n:ufw-before-input - [0:0]\n:ufw-user-input - [0:0]\n:mine - [0:0]\n\
                     -A INPUT -i lo -j ACCEPT\n-A INPUT -j ufw-before-input\n-A INPUT -j mine\n-A ufw-before-input -j ufw-user-input\nCOMMIT\n";
        assert_eq!(
            without_chains(saved),
            "*filter\n-D INPUT -j ufw-before-input\n-F ufw-before-input\n-F ufw-user-input\n-X ufw-before-input\n-X ufw-user-input\nCOMMIT\n"
        );
    }
}
