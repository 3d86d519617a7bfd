//! The strategies `flush` and `disable`: everything is saved, then every rule of both back-ends is taken away.

use std::time::Duration;

use super::iptables::{self, legacy_tables};
use super::{StepError, nft, tool, units};
use crate::facts::{Backend, RawNft, TableFamily};
use crate::host::{Call, Host, Message};
use crate::record::{Saved, StateDir};
use crate::rehearse::replay::{messages, unowned};

/// The messages that make the nf_tables ruleset again, and a listing for people.
const NFT_FILE: &str = "nft.messages";
const NFT_LISTING: &str = "nft.txt";
const UFW_DEADLINE: Duration = Duration::from_secs(20);

/// Saves both back-ends beside the record of repair `id`; gives the legacy tables.
pub fn save(host: &Host, state: &StateDir, id: &str, raw: Option<&RawNft>) -> Result<Vec<Saved>, StepError> {
    if let Some(raw) = raw {
        state.keep(host, id, NFT_FILE, &framed(&messages(&unowned(raw))))?;
        // For people alone: no listing of a tool is complete.
        if let Ok(listing) = host.run(&Call::new("nft", &["list", "ruleset"])) {
            state.keep(host, id, NFT_LISTING, &listing.stdout)?;
        }
    }
    let mut saved = Vec::new();
    for family in [TableFamily::Ip, TableFamily::Ip6] {
        if !legacy_tables(host, family).is_empty() {
            let text = iptables::save(host, Backend::Legacy, family, None)?;
            saved.push(Saved { backend: Backend::Legacy, family, text });
        }
    }
    Ok(saved)
}

/// Takes every rule away and accepts by default. Tables that another process owns stay: only their owner can.
pub fn flush(host: &Host, legacy: &[Saved]) -> Result<(), StepError> {
    nft::replace(&[])?;
    for saved in legacy {
        let open = Saved { text: opened(&saved.text), ..saved.clone() };
        iptables::put_back(host, &open)?;
    }
    Ok(())
}

/// Refuses if rules were made since: they would be lost.
pub fn unchanged() -> Result<(), StepError> {
    match nft::tables()?.first() {
        None => Ok(()),
        Some((family, name)) => Err(StepError::Changed { what: format!("{family} {}", crate::facts::escape(name)) }),
    }
}

pub fn put_back(host: &Host, state: &StateDir, id: &str, legacy: &[Saved]) -> Result<(), StepError> {
    match state.kept(host, id, NFT_FILE) {
        Ok(bytes) => nft::replace(&unframed(&bytes))?,
        // Saved only where nf_tables was there.
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.into()),
    }
    for saved in legacy {
        iptables::put_back(host, saved)?;
    }
    Ok(())
}

/// Which of the services are enabled, and which run; those that are not installed are neither.
pub fn services(host: &Host, names: &[String]) -> Result<(Vec<String>, Vec<String>), StepError> {
    let (mut enabled, mut active) = (Vec::new(), Vec::new());
    for name in names {
        let state = units::state(host, name)?;
        if state.enabled {
            enabled.push(name.clone());
        }
        if state.active {
            active.push(name.clone());
        }
    }
    Ok((enabled, active))
}

/// Stops the services and keeps them from starting at boot.
pub fn disable(host: &Host, services: &[String], ufw: bool) -> Result<(), StepError> {
    if ufw {
        tool(host, "ufw", &["disable"], &[], UFW_DEADLINE)?;
    }
    services.iter().try_for_each(|name| units::disable(host, name))
}

pub fn enable(host: &Host, enabled: &[String], active: &[String], ufw: bool) -> Result<(), StepError> {
    for name in enabled {
        units::enable(host, name)?;
    }
    for name in active {
        units::start(host, name, false, false, None)?;
    }
    if ufw {
        tool(host, "ufw", &["--force", "enable"], &[], UFW_DEADLINE)?;
    }
    Ok(())
}

/// A saved legacy ruleset with nothing left of it but its tables' own chains, which accept.
fn opened(saved: &str) -> String {
    let mut out = String::new();
    for line in saved.lines() {
        match line.strip_prefix(':').map(|chain| chain.split_whitespace().collect::<Vec<_>>()) {
            Some(words) if words.get(1) == Some(&"-") => {}
            Some(words) => out.push_str(&format!(":{} ACCEPT [0:0]\n", words.first().unwrap_or(&""))),
            None if line.starts_with('*') || line == "COMMIT" => {
                out.push_str(line);
                out.push('\n');
            }
            None => {}
        }
    }
    out
}

/// Each message as kind, flags, length and body, in the host's order: the file does not leave the host.
fn framed(messages: &[Message]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        out.extend(message.kind.to_ne_bytes());
        out.extend(message.flags.to_ne_bytes());
        out.extend((message.body.len() as u32).to_ne_bytes());
        out.extend(&message.body);
    }
    out
}

fn unframed(mut bytes: &[u8]) -> Vec<Message> {
    let mut out = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<8>() {
        let [k0, k1, f0, f1, length @ ..] = *head;
        let Some((body, rest)) = rest.split_at_checked(u32::from_ne_bytes(length) as usize) else { break };
        let (kind, flags) = (u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1]));
        out.push(Message { kind, flags, body: body.to_vec() });
        bytes = rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_kept() {
        let all = vec![
            Message { kind: 0x0a06, flags: 0xc00, body: vec![1, 2, 3] },
            Message { kind: 0x0a00, flags: 0, body: Vec::new() },
        ];
        assert_eq!(unframed(&framed(&all)), all);
        assert_eq!(unframed(&framed(&all)[..10]), []);
    }

    #[test]
    fn an_opened_table_has_its_own_chains_and_nothing_else() {
        let saved = "# x\n*filter\n:INPUT DROP [1:60]\n:mine - [0:0]\n-A INPUT -j mine\nCOMMIT\n";
        assert_eq!(opened(saved), "*filter\n:INPUT ACCEPT [0:0]\nCOMMIT\n");
    }
}
