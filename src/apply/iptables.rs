//! Rules written to and taken from the tables that iptables keeps, by one restore of the back-end that the table lives in.

use std::path::Path;
use std::time::Duration;

use thiserror::Error;

use super::nft::{self, NftError};
use crate::facts::{Backend, TableFamily, escape};
use crate::host::{Call, Host, Output, RunError, lock_holder};
use crate::plan::{TableInserts, accept::tag};
use crate::record::Saved;

/// Seconds that a restore waits for the lock that the legacy commands share, and how long it may take with that.
const LOCK_WAIT: &str = "5";
const XTABLES_LOCK: &str = "/run/xtables.lock";
const RESTORE_DEADLINE: Duration = Duration::from_secs(8);

#[derive(Debug, Error)]
pub enum IptablesError {
    #[error("run {tool}")]
    Run {
        tool: String,
        #[source]
        source: RunError,
    },
    #[error("{tool} refuses: {complaint}")]
    Refused { tool: String, complaint: String },
    #[error("{tool} got no hold of {XTABLES_LOCK} within {LOCK_WAIT} s: {holder} has it")]
    Locked { tool: String, holder: String },
    #[error("no iptables-restore of {0} is installed")]
    Missing(&'static str),
    #[error("{tool} succeeded, but the rule is not in {chain} of {table}")]
    NotThere { tool: String, table: String, chain: String },
    #[error("`{0}` cannot be given to iptables-restore")]
    Word(String),
    #[error("iptables keeps no {0} tables")]
    Family(TableFamily),
    #[error(transparent)]
    Nft(#[from] NftError),
}

impl IptablesError {
    /// Whether no iptables command can work on the table: none is there, or native rules stand in it.
    pub fn is_foreign(&self) -> bool {
        match self {
            IptablesError::Missing(_) => true,
            IptablesError::Refused { complaint, .. } => complaint.contains("incompatible"),
            _ => false,
        }
    }
}

/// Inserts the rules by one `iptables-restore --noflush`. Rules of this repair that stand already are not inserted again.
pub fn insert(host: &Host, id: &str, at: &TableInserts) -> Result<(), IptablesError> {
    let tool = restore_tool(host, at.backend, at.family)?;
    let command = command(at.backend, at.family);
    let mut lines = vec![format!("*{}", word(&at.table)?)];
    let mut first = None;
    for insert in &at.inserts {
        for (offset, deed) in insert.accept.deeds().iter().enumerate() {
            let words = insert.accept.iptables(id, deed);
            if offset == 0 && first.is_none() {
                first = Some((insert.chain.clone(), words.clone()));
                let there = match at.backend {
                    Backend::Nft => nft::count(id, at.family, &at.table)? > 0,
                    Backend::Legacy => stands(host, command, &at.table, &insert.chain, &words) == Some(true),
                };
                if there {
                    return Ok(());
                }
            }
            let words: Result<Vec<String>, _> = words.iter().map(|w| word(w)).collect();
            lines.push(format!("-I {} {} {}", word(&insert.chain)?, insert.index + offset + 1, words?.join(" ")));
        }
    }
    lines.push("COMMIT\n".into());
    restore(host, &tool, &lines.join("\n"))?;
    match first {
        Some((chain, words)) if stands(host, command, &at.table, &chain, &words) == Some(false) => {
            Err(IptablesError::NotThere { tool, table: escape(&at.table), chain: escape(&chain) })
        }
        _ => Ok(()),
    }
}

/// Deletes every rule of repair `id` from a table; gives their number.
pub fn remove(
    host: &Host,
    id: &str,
    backend: Backend,
    family: TableFamily,
    table: &str,
) -> Result<usize, IptablesError> {
    if backend == Backend::Nft {
        return Ok(nft::remove(id, family, table)?);
    }
    let tagged = tagged(host, id, family, table)?;
    if tagged.is_empty() {
        return Ok(0);
    }
    let tool = restore_tool(host, backend, family)?;
    let mut lines = vec![format!("*{}", word(table)?)];
    lines.extend(tagged.iter().map(|rule| format!("-D{rule}")));
    lines.push("COMMIT\n".into());
    restore(host, &tool, &lines.join("\n"))?;
    Ok(tagged.len())
}

/// How many rules of repair `id` the table has.
pub fn count(
    host: &Host,
    id: &str,
    backend: Backend,
    family: TableFamily,
    table: &str,
) -> Result<usize, IptablesError> {
    match backend {
        Backend::Nft => Ok(nft::count(id, family, table)?),
        Backend::Legacy => Ok(tagged(host, id, family, table)?.len()),
    }
}

/// The rules of repair `id` in a legacy table, as `iptables-save` prints them, without the leading `-A`.
fn tagged(host: &Host, id: &str, family: TableFamily, table: &str) -> Result<Vec<String>, IptablesError> {
    // Asking for a table makes it.
    if !legacy_tables(host, family).iter().any(|name| name == table) {
        return Ok(Vec::new());
    }
    let text = save(host, Backend::Legacy, family, Some(table))?;
    let comment = format!("--comment {} ", quoted_tag(id));
    let rules = text.lines().filter_map(|line| line.strip_prefix("-A").filter(|rule| rule.contains(&comment)));
    Ok(rules.map(str::to_owned).collect())
}

/// As `iptables-save` prints it: `ssh-rescue:ID` holds a colon and needs quotes in the eyes of xtables_save_string().
fn quoted_tag(id: &str) -> String {
    format!("\"{}\"", tag(id))
}

/// The legacy tables that the calling thread's namespace has.
pub fn legacy_tables(host: &Host, family: TableFamily) -> Vec<String> {
    let names = if family == TableFamily::Ip6 { "ip6_tables_names" } else { "ip_tables_names" };
    let path = format!("/proc/thread-self/net/{names}");
    let bytes = host.read(Path::new(&path)).unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

/// Gives `text` to a restore that flushes nothing: all of it is done, or none.
pub fn restore(host: &Host, tool: &str, text: &str) -> Result<(), IptablesError> {
    run(host, tool, &["--noflush", "-w", LOCK_WAIT], text.as_bytes()).map(drop)
}

/// Puts whole tables back as they were saved; what stands in them now goes.
pub fn put_back(host: &Host, saved: &Saved) -> Result<(), IptablesError> {
    let tool = restore_tool(host, saved.backend, saved.family)?;
    run(host, &tool, &["-w", LOCK_WAIT], saved.text.as_bytes()).map(drop)
}

/// One table, or all, in the words of iptables-save. A legacy table that is not there must not be asked for: it would be made.
pub fn save(host: &Host, backend: Backend, family: TableFamily, table: Option<&str>) -> Result<String, IptablesError> {
    let tool = tool(host, backend, family, "save")?;
    let args: Vec<&str> = table.iter().flat_map(|table| ["-t", table]).collect();
    let output = run(host, &tool, &args, &[])?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(host: &Host, tool: &str, args: &[&str], stdin: &[u8]) -> Result<Output, IptablesError> {
    let call = Call { stdin, deadline: RESTORE_DEADLINE, ..Call::new(tool, args) };
    let output = host.run(&call).map_err(|source| IptablesError::Run { tool: tool.to_owned(), source })?;
    match output.ok() {
        true => Ok(output),
        false if String::from_utf8_lossy(&output.stderr).contains("xtables lock") => {
            Err(IptablesError::Locked { tool: tool.to_owned(), holder: lock_holder(Path::new(XTABLES_LOCK)) })
        }
        false => Err(IptablesError::Refused { tool: tool.to_owned(), complaint: output.complaint() }),
    }
}

pub fn restore_tool(host: &Host, backend: Backend, family: TableFamily) -> Result<String, IptablesError> {
    tool(host, backend, family, "restore")
}

/// `iptables-nft-restore` and its like; where only the plain name exists, that, if it says that it is of this back-end.
pub fn tool(host: &Host, backend: Backend, family: TableFamily, verb: &str) -> Result<String, IptablesError> {
    let dashed = command(backend, family);
    let exact = format!("{dashed}-{verb}");
    if host.which(&exact).is_some() {
        return Ok(exact);
    }
    let plain = match family {
        TableFamily::Ip => format!("iptables-{verb}"),
        TableFamily::Ip6 => format!("ip6tables-{verb}"),
        other => return Err(IptablesError::Family(other)),
    };
    let missing = if backend == Backend::Nft { "nf_tables" } else { "legacy" };
    let version = host.run(&Call::new(&plain, &["--version"])).ok().filter(Output::ok);
    let nft = version.map(|v| String::from_utf8_lossy(&v.stdout).contains("nf_tables"));
    match nft {
        Some(nft) if nft == (backend == Backend::Nft) => Ok(plain),
        _ => Err(IptablesError::Missing(missing)),
    }
}

fn command(backend: Backend, family: TableFamily) -> &'static str {
    match (backend, family) {
        (Backend::Nft, TableFamily::Ip6) => "ip6tables-nft",
        (Backend::Nft, _) => "iptables-nft",
        (Backend::Legacy, TableFamily::Ip6) => "ip6tables-legacy",
        (Backend::Legacy, _) => "iptables-legacy",
    }
}

/// Whether the rule stands in the chain (`-C`); None where that cannot be asked.
fn stands(host: &Host, command: &str, table: &str, chain: &str, words: &[String]) -> Option<bool> {
    let mut args = vec!["-w", LOCK_WAIT, "-t", table, "-C", chain];
    args.extend(words.iter().map(String::as_str));
    match host.run(&Call { deadline: RESTORE_DEADLINE, ..Call::new(command, &args) }).ok()?.status {
        0 => Some(true),
        // iptables(8): what is not there, and what it does not understand.
        1 => Some(false),
        _ => None,
    }
}

/// A word in a line for iptables-restore: names come from the host, and must stay one word.
fn word(text: &str) -> Result<String, IptablesError> {
    let odd = text.is_empty() || text.chars().any(|c| c.is_control() || c == '"' || c == '\\');
    if odd {
        return Err(IptablesError::Word(escape(text)));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/+,@%=".contains(c);
    Ok(if text.chars().all(plain) { text.to_owned() } else { format!("\"{text}\"") })
}

#[cfg(test)]
mod tests {
    use super::word;

    #[test]
    fn a_name_from_the_host_stays_one_word() {
        assert_eq!(word("INPUT").unwrap(), "INPUT");
        assert_eq!(word("my chain").unwrap(), "\"my chain\"");
        for hostile in ["", "a\nCOMMIT", "a\"b", "a\\", "a\u{0}"] {
            assert!(word(hostile).is_err(), "{hostile:?}");
        }
    }
}
