//! What of a host a repair may change, and what the program says that a client sees.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use ssh_rescue::rehearse::drill::Sight;

use super::booted::Booted;
use super::client::Client;

/// The rules of every back-end, without counters. Legacy tables are listed only where they are: listing makes them.
const RULES: &str = r#"
nft -s list ruleset
for tool in iptables ip6tables; do
    $tool-nft-save | sed '/^#/d; s/ \[[0-9:]*\]$//'
    names=/proc/net/$(echo $tool | sed s/tables/_tables/)_names
    if [ -s "$names" ]; then $tool-legacy-save | sed "/^#/d; s/ \[[0-9:]*\]$//; s/^/$tool-legacy: /"; fi
done
ipset save
"#;

/// What makes the next boot, and who runs now. A file that was replaced by its like has another inode and other times.
// fail2ban keeps its books whenever it likes.
const IDENTITY: &str = r#"
find /etc /var/lib /usr/local /run/ssh-rescue /run/xtables.lock /run/ufw.lock -not -path '/var/lib/fail2ban*' -printf '%p %y %i %m %U:%G %s %T@ %C@\n' 2>&1 | sort
systemctl show -p Id,MainPID,ActiveState,UnitFileState,ActiveEnterTimestampMonotonic ssh.service ssh.socket firewalld ufw nftables fail2ban
"#;

/// The same as far as an undo can bring it back: contents, owners and modes. What firewalld keeps of a zone is asked of
/// firewalld: it leaves a copy of each file that it writes, as userdel(8) does. A service that was started and stopped has not
/// failed any more.
const CONTENTS: &str = r#"
find /etc -path /etc/firewalld/zones -prune -o -type f ! -name '*-' -printf '%p %m %U:%G\n' | sort
find /etc -path /etc/firewalld/zones -prune -o -type f ! -name '*-' -exec cksum {} + | sort
systemctl show -p Id,ActiveState,LoadState,UnitFileState ssh.service ssh.socket firewalld ufw nftables | sed s/failed/inactive/
grep -lx 1 /sys/fs/cgroup/system.slice/ssh.service/cgroup.freeze 2>/dev/null || :
if systemctl -q is-active firewalld; then firewall-cmd --permanent --list-all-zones; fi
"#;

/// The rules of a host, one line each.
pub fn rules(host: &Booted) -> Vec<String> {
    lines(host.sh(RULES))
}

/// All that a pass which has nothing to do must not touch.
pub fn untouched(host: &Booted) -> Vec<String> {
    let mut all = rules(host);
    all.extend(lines(host.sh(IDENTITY)));
    all
}

/// All that an undo has to bring back.
pub fn state(host: &Booted) -> Vec<String> {
    let mut all = rules(host);
    all.extend(lines(host.sh(CONTENTS)));
    all
}

fn lines(text: String) -> Vec<String> {
    text.lines().map(str::trim_end).filter(|l| !l.is_empty()).map(str::to_owned).collect()
}

/// The lines that are only in the first, and only in the second.
pub fn differences(before: &[String], after: &[String]) -> [Vec<String>; 2] {
    let only = |all: &[String], other: &[String]| {
        let mut left = other.to_vec();
        let fresh = all.iter().filter(|line| match left.iter().position(|l| l == *line) {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        });
        fresh.cloned().collect()
    };
    [only(before, after), only(after, before)]
}

/// What the judgement says that this client sees, by IPv4 and by IPv6.
pub fn foretold(judgement: &Value, client: Client) -> [String; 2] {
    client.addresses().map(|address| {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let paths = judgement["paths"].as_array().into_iter().flatten();
        let Some(path) = paths.into_iter().find(|p| p["family"] == family) else { return "no path".to_owned() };
        if holds(&path["admitted"], address) {
            return "banner".to_owned();
        }
        let blocked = path["blocked"].as_array().into_iter().flatten().find(|b| holds(&b["sources"], address));
        blocked.map_or("unknown".to_owned(), |b| text(&b["symptom"]))
    })
}

/// The same in the words of what was seen.
pub fn words(sights: [Sight; 2]) -> [String; 2] {
    sights.map(|sight| text(&serde_json::to_value(sight).expect("a word")))
}

/// Whether a set of sources, a list of networks and `first-last` ranges, has the address.
fn holds(sources: &Value, address: IpAddr) -> bool {
    let within = |word: &str| match word.split_once('-') {
        Some((first, last)) => {
            let end = |text: &str| text.parse::<IpAddr>().expect("an address");
            (end(first)..=end(last)).contains(&address)
        }
        None => word.parse::<IpNet>().map_or_else(|_| word.parse() == Ok(address), |net| net.contains(&address)),
    };
    sources.as_array().into_iter().flatten().filter_map(Value::as_str).any(within)
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
