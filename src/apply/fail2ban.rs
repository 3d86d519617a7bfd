//! fail2ban, through its client (fail2ban-client(1)).

use std::net::IpAddr;
use std::time::Duration;

use super::{StepError, tool};
use crate::host::Host;

const CLIENT: &str = "fail2ban-client";
/// A client is an interpreter to start, and each ban takes the server some calls of its own.
const DEADLINE: Duration = Duration::from_secs(20);

/// Fails unless the jail bans all of these now. Changes nothing.
pub fn all_banned(host: &Host, jail: &str, addresses: &[IpAddr]) -> Result<(), StepError> {
    let banned = banned(host, jail)?;
    match addresses.iter().find(|address| !banned.contains(address)) {
        None => Ok(()),
        Some(address) => Err(refused(format!("jail {jail} has no ban of {address}"))),
    }
}

pub fn unban(host: &Host, jail: &str, addresses: &[IpAddr]) -> Result<(), StepError> {
    set(host, jail, "unbanip", addresses)?;
    // Versions before 0.11 heed the first address alone.
    let banned = banned(host, jail)?;
    match addresses.iter().find(|address| banned.contains(address)) {
        None => Ok(()),
        Some(address) => Err(refused(format!("jail {jail} still has its ban of {address}"))),
    }
}

/// Bans again those of them that the jail does not ban.
pub fn ban(host: &Host, jail: &str, addresses: &[IpAddr]) -> Result<(), StepError> {
    let banned = banned(host, jail)?;
    let gone: Vec<IpAddr> = addresses.iter().filter(|address| !banned.contains(address)).copied().collect();
    if gone.is_empty() { Ok(()) } else { set(host, jail, "banip", &gone) }
}

fn set(host: &Host, jail: &str, verb: &str, addresses: &[IpAddr]) -> Result<(), StepError> {
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let args: Vec<&str> = ["set", jail, verb].into_iter().chain(addresses.iter().map(String::as_str)).collect();
    tool(host, CLIENT, &args, &[], DEADLINE).map(drop)
}

fn banned(host: &Host, jail: &str) -> Result<Vec<IpAddr>, StepError> {
    let output = tool(host, CLIENT, &["status", jail], &[], DEADLINE)?;
    listed(&String::from_utf8_lossy(&output.stdout))
        .ok_or_else(|| refused(format!("it does not say whom jail {jail} bans")))
}

/// The addresses in what `status JAIL` says.
fn listed(status: &str) -> Option<Vec<IpAddr>> {
    let list = status.lines().find_map(|line| line.split_once("IP list:"))?.1;
    Some(list.split_whitespace().filter_map(|word| word.parse().ok()).collect())
}

fn refused(complaint: String) -> StepError {
    StepError::Refused { tool: CLIENT.into(), complaint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_bans_is_read_as_the_client_prints_it() {
        let status = "Status for the jail: sshd\n|- Filter\n|  |- Currently failed:\t0\n`- Actions\n   |- Currently banned:\t2\n   \
                      |- Total banned:\t2\n   `- Banned IP list:\t203.0.113.9 2001:db8:bad::9\n";
        let wanted: Vec<IpAddr> = ["203.0.113.9", "2001:db8:bad::9"].map(|a| a.parse().unwrap()).into();
        assert_eq!(listed(status), Some(wanted));
        assert_eq!(listed("   `- Banned IP list:\t\n"), Some(Vec::new()));
        assert_eq!(listed("Sorry but the jail 'sshd' does not exist\n"), None);
    }
}
