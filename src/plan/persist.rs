//! What the next boot loads, mended where it comes from.

use std::path::PathBuf;

use super::accept::tag;
use super::firewall::{Least, least};
use super::{Draft, Insert, Step, TableInserts, Traffic};
use crate::facts::{Family, LoadTool, Loader, Snapshot, escape};
use crate::judge::{boot, judge, paths};
use crate::policy::Policy;

const CODE: &str = "boot.firewall.drop";

/// For a host that lets in now whom it should.
pub fn mend(policy: &Policy, snapshot: &Snapshot, id: &str, draft: &mut Draft) {
    firewalld(policy, snapshot, draft);
    let Some(booted) = snapshot.booted() else { return };
    let Least { rules, openings } = least(policy, &booted, &judge(policy, &booted), id, Some(CODE), draft);
    // A ufw that does not run cannot be spoken to without starting it.
    let running =
        !snapshot.at_rest && snapshot.firewall.tables().flat_map(|t| &t.chains).any(|c| c.name.starts_with("ufw"));
    let (openings, asleep): (Vec<Step>, Vec<Step>) = openings.into_iter().partition(|_| running);
    draft.steps.extend(openings);
    let mut changed: Vec<(PathBuf, Change)> = Vec::new();
    for at in rules.into_iter().chain(asleep.iter().flat_map(|step| of_ufw(step, &booted))) {
        let table = booted.firewall.table(at.backend, at.family, &at.table);
        let Some((table, loader)) = table.and_then(|t| Some((t, snapshot.boot.loader_of(t)?))) else {
            draft.decline(CODE, &format!("it is not known where {} {} comes from", at.family, escape(&at.table)));
            continue;
        };
        let old = changed.iter().find(|(path, _)| *path == loader.file).map(|(_, change)| change);
        let mut change = old.cloned().unwrap_or_else(|| Change { text: loader.text.clone(), ..Change::default() });
        let length = |chain: &str| table.chain(chain).map_or(0, |c| c.rules.len());
        match change.write(loader, &at, &length, id) {
            Some(()) => {
                changed.retain(|(path, _)| *path != loader.file);
                changed.push((loader.file.clone(), change));
            }
            None => {
                let file = escape(&loader.file.to_string_lossy());
                draft.decline(CODE, &format!("no line of {file} stands for what has to be changed"));
            }
        }
    }
    for (path, Change { text, lines, model }) in changed {
        let reason = format!("add {} for the next boot", lines.join(", "));
        draft.steps.push(Step::Persist { path, content: text.into(), reason, model });
    }
}

/// The rules of an opening, with the interface that it is limited to.
fn of_ufw(step: &Step, booted: &Snapshot) -> Vec<TableInserts> {
    let Step::UfwAllow { interface, .. } = step else { return Vec::new() };
    let mut tables = step.inserts(&booted.firewall);
    for insert in tables.iter_mut().flat_map(|at| &mut at.inserts) {
        insert.accept.interface.clone_from(interface);
    }
    tables
}

/// What firewalld's zones admit now, in their permanent form as well.
fn firewalld(policy: &Policy, snapshot: &Snapshot, draft: &mut Draft) {
    let Some(firewalld) = snapshot.owners.firewalld.present().filter(|_| snapshot.boot.firewalld) else { return };
    for path in paths(policy, &snapshot.net) {
        let Some(zone) = boot::zone_of(firewalld, &path.interface).filter(|z| boot::loses(z, path.port)) else {
            continue;
        };
        let sources = match &policy.ssh.sources {
            None => vec![None],
            Some(nets) => nets.iter().copied().map(Some).collect(),
        };
        let (zone, port, model) = (zone.name.clone(), path.port, Vec::new());
        let step = Step::FirewalldAllow { zone, port, sources, permanent: true, model };
        if !draft.steps.contains(&step) {
            draft.steps.push(step);
        }
    }
}

/// One file in the making.
#[derive(Debug, Clone, Default)]
struct Change {
    text: String,
    lines: Vec<String>,
    model: Vec<TableInserts>,
}

impl Change {
    /// Puts the lines for these inserts into the text. `length` is how many rules a chain has before any of them.
    fn write(&mut self, loader: &Loader, at: &TableInserts, length: &dyn Fn(&str) -> usize, id: &str) -> Option<()> {
        for (done, insert) in at.inserts.iter().enumerate() {
            let same = at.inserts[..done].iter().filter(|i| i.chain == insert.chain);
            let before: usize = same.map(|i| i.accept.deeds().len()).sum();
            let (line, text) = match loader.tool {
                LoadTool::Nft => {
                    let line = nft_lines(at, insert, length(&insert.chain) + before, id)?;
                    let text = at_the_end(&self.text, &line);
                    (line, text)
                }
                LoadTool::Restore(_) | LoadTool::Add(_) => {
                    let line = save_lines(insert, id)?;
                    let text = before_rule(&self.text, &at.table, insert, &line)?;
                    (line, text)
                }
                LoadTool::Firewalld { .. } => {
                    let line = zone_line(insert)?;
                    let text = in_zone(&self.text, &line, id)?;
                    (line, text)
                }
                LoadTool::Ufw(family) => {
                    let (tuple, line) = ufw_lines(insert, family, id)?;
                    let text = first_of_ufws(&self.text, &tuple, &line)?;
                    (line, text)
                }
            };
            self.text = text;
            self.lines.extend(line.lines().map(|line| format!("`{line}`")));
        }
        self.model.push(at.clone());
        Some(())
    }
}

fn at_the_end(text: &str, line: &str) -> String {
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{newline}{line}\n")
}

/// `insert rule inet filter input index 3 tcp dport 22 accept comment "ssh-rescue:ID"`: nft(8) counts from 0, and from the
/// rules that the file itself has made by then.
fn nft_lines(at: &TableInserts, insert: &Insert, length: usize, id: &str) -> Option<String> {
    let plain = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
    };
    if !plain(&at.table) || !plain(&insert.chain) {
        return None;
    }
    let place = format!("{} {} {}", at.family, at.table, insert.chain);
    let line = |(offset, deed)| {
        let rule = insert.accept.nft_words(at.family, id, deed)?;
        Some(match insert.index < length {
            true => format!("insert rule {place} index {} {rule}", insert.index + offset),
            false => format!("add rule {place} {rule}"),
        })
    };
    let lines: Option<Vec<String>> = insert.accept.deeds().iter().enumerate().map(line).collect();
    lines.map(|lines| lines.join("\n"))
}

/// A rule as `ufw allow` writes it down: the tuple by which ufw knows it, and what is loaded.
fn ufw_lines(insert: &Insert, family: Family, id: &str) -> Option<(String, String)> {
    let accept = &insert.accept;
    if accept.traffic != Traffic::Ssh {
        return None;
    }
    let anywhere = if family == Family::Ipv4 { "0.0.0.0/0" } else { "::/0" };
    let source = accept.source.map_or_else(|| anywhere.to_owned(), |net| net.to_string());
    let way = accept.interface.as_ref().map_or_else(|| "in".to_owned(), |name| format!("in_{name}"));
    let comment: String = tag(id).bytes().map(|b| format!("{b:02x}")).collect();
    let tuple = format!("### tuple ### allow tcp {} {anywhere} any {source} {way} comment={comment}", accept.port);
    let from = accept.source.map(|net| format!(" -s {net}")).unwrap_or_default();
    let on = accept.interface.as_ref().map(|name| format!(" -i {name}")).unwrap_or_default();
    let line = format!("-A {}{on} -p tcp --dport {}{from} -j ACCEPT", insert.chain, accept.port);
    plain(&way).then_some((tuple, line))
}

/// The element of a zone by which firewalld opens the port.
fn zone_line(insert: &Insert) -> Option<String> {
    let accept = &insert.accept;
    if accept.traffic != Traffic::Ssh || accept.answer || !accept.after.is_empty() {
        return None;
    }
    let port = format!("<port port=\"{}\" protocol=\"tcp\"/>", accept.port);
    Some(match accept.source {
        None => port,
        Some(net) => {
            let family = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
            format!("<rule family=\"{family}\"><source address=\"{net}\"/>{port}<accept/></rule>")
        }
    })
}

/// The zone's last element, if it has none like it.
fn in_zone(text: &str, line: &str, id: &str) -> Option<String> {
    let end = text.rfind("</zone>")?;
    let known = text.lines().any(|own| own.trim() == line);
    let added = if known { String::new() } else { format!("  <!-- {} -->\n  {line}\n", tag(id)) };
    Some([&text[..end], &added, &text[end..]].concat())
}

/// Before all rules that ufw has: an earlier deny or limit wins.
fn first_of_ufws(text: &str, tuple: &str, line: &str) -> Option<String> {
    const HEAD: &str = "### RULES ###\n";
    let place = text.find(HEAD)? + HEAD.len();
    Some([&text[..place], "\n", tuple, "\n", line, "\n", &text[place..]].concat())
}

/// Whether a word can stand in a line as it is.
fn plain(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\#".contains(&b))
}

fn save_lines(insert: &Insert, id: &str) -> Option<String> {
    let line = |deed| {
        let words = insert.accept.iptables(id, deed);
        let all = insert.accept.after.is_empty() && plain(&insert.chain) && words.iter().all(|w| plain(w));
        all.then(|| format!("-A {} {}", insert.chain, words.join(" ")))
    };
    let lines: Option<Vec<String>> = insert.accept.deeds().iter().map(line).collect();
    lines.map(|lines| lines.join("\n"))
}

/// The text of iptables-save(8) with the line before the rule that the kernel has at the insert's place. None where the lines
/// of the table are not plain `-A`, one a rule.
fn before_rule(text: &str, table: &str, insert: &Insert, line: &str) -> Option<String> {
    let head = format!("*{table}");
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let mut starts = lines.iter().enumerate().filter(|(_, l)| l.trim() == head).map(|(n, _)| n);
    let (start, None) = (starts.next()?, starts.next()) else { return None };
    let end = start + lines.get(start..)?.iter().position(|l| l.trim() == "COMMIT")?;
    let mut rules = Vec::new();
    for (number, rule) in lines.iter().enumerate().take(end).skip(start) {
        // Counters may stand before the rule: `[12:3456] -A INPUT …`
        let mut words = rule.split_whitespace().skip_while(|w| w.starts_with('['));
        match (words.next(), words.next()) {
            (Some("-A" | "--append"), Some(chain)) if chain == insert.chain => rules.push(number),
            (Some("-A" | "--append"), _) => {}
            (Some(verb), _) if verb.starts_with('-') => return None,
            _ => {}
        }
    }
    let place = match rules.get(insert.index) {
        Some(number) => *number,
        None if insert.index == rules.len() => end,
        None => return None,
    };
    Some([&lines[..place].concat(), line, "\n", &lines[place..].concat()].concat())
}

#[cfg(test)]
mod tests {
    use super::super::Accept;
    use super::*;
    use crate::facts::{Backend, TableFamily};

    fn insert(chain: &str, index: usize) -> Insert {
        let accept = Accept {
            traffic: Traffic::Ssh,
            family: Some(Family::Ipv4),
            source: None,
            port: 22,
            interface: Some("eth0".into()),
            answer: false,
            after: Vec::new(),
        };
        Insert { chain: chain.into(), index, accept }
    }

    #[test]
    fn a_saved_rule_gets_its_line_before_it() {
        let text = "# c\n*nat\n:INPUT ACCEPT [0:0]\n-A INPUT -j LOG\nCOMMIT\n*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n\
                    -A FORWARD -j DROP\n[3:4] -A INPUT -j DROP\nCOMMIT\n";
        let at = |index| before_rule(text, "filter", &insert("INPUT", index), "NEW");
        assert_eq!(at(0).unwrap(), text.replace("-A INPUT -i lo", "NEW\n-A INPUT -i lo"));
        assert_eq!(at(1).unwrap(), text.replace("[3:4]", "NEW\n[3:4]"));
        assert_eq!(at(2).unwrap(), format!("{}NEW\nCOMMIT\n", text.strip_suffix("COMMIT\n").unwrap()));
        assert_eq!(at(3), None, "the file does not have so many rules");
        assert_eq!(before_rule(text, "raw", &insert("INPUT", 0), "NEW"), None);
        let inserts = text.replace("-A FORWARD", "-I INPUT");
        assert_eq!(before_rule(&inserts, "filter", &insert("INPUT", 0), "NEW"), None, "rules stand in another order");
        assert_eq!(before_rule(&text.replace("nat", "filter"), "filter", &insert("INPUT", 0), "NEW"), None);
    }

    #[test]
    fn a_rule_of_ufw_stands_before_its_others() {
        let (tuple, line) = ufw_lines(&insert("ufw-user-input", 0), Family::Ipv4, "x").unwrap();
        let words = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in_eth0 comment=7373682d7265736375653a78";
        assert_eq!((tuple.as_str(), line.as_str()), (words, "-A ufw-user-input -i eth0 -p tcp --dport 22 -j ACCEPT"));
        let text = "*filter\n### RULES ###\n\n### tuple ### deny any any 0.0.0.0/0 any 0.0.0.0/0 in\nCOMMIT\n";
        let made = first_of_ufws(text, "TUPLE", "LINE").unwrap();
        assert_eq!(made, text.replace("### RULES ###\n", "### RULES ###\n\nTUPLE\nLINE\n"));
        assert_eq!(first_of_ufws("*filter\nCOMMIT\n", "TUPLE", "LINE"), None);
    }

    #[test]
    fn a_line_names_no_more_than_it_must() {
        let line = save_lines(&insert("INPUT", 0), "x").unwrap();
        assert_eq!(line, "-A INPUT -i eth0 -p tcp -m tcp --dport 22 -m comment --comment ssh-rescue:x -j ACCEPT");
        let mut odd = insert("INPUT", 0);
        odd.accept.interface = Some("a\"b".into());
        assert_eq!(save_lines(&odd, "x"), None);
        let at =
            |table: &str, family| TableInserts { backend: Backend::Nft, family, table: table.into(), inserts: vec![] };
        let filter = at("filter", TableFamily::Inet);
        assert_eq!(nft_lines(&filter, &odd, 1, "x"), None);
        assert_eq!(
            nft_lines(&filter, &insert("input", 2), 3, "x").unwrap(),
            "insert rule inet filter input index 2 meta nfproto ipv4 iifname \"eth0\" tcp dport 22 accept comment \"ssh-rescue:x\""
        );
        assert!(
            nft_lines(&filter, &insert("input", 3), 3, "x").unwrap().starts_with("add rule inet filter input meta")
        );
        let named = |table: &str, chain: &str| nft_lines(&at(table, TableFamily::Inet), &insert(chain, 0), 1, "x");
        assert!(named("_t", "in-put.1").is_some());
        for (table, chain) in [("a b", "input"), ("1st", "input"), ("t", "-in"), ("t", ""), ("t", "in;put")] {
            assert_eq!(named(table, chain), None, "nft would not read `{table} {chain}` as names");
        }
        let mut after = insert("INPUT", 0);
        after.accept.after = vec!["f2b-sshd".into()];
        assert_eq!(save_lines(&after, "x"), None, "a chain of bans may not be there when the file is loaded");
        assert_eq!(save_lines(&insert("IN PUT", 0), "x"), None);
        assert_eq!(save_lines(&insert("", 0), "x"), None);
    }

    #[test]
    fn a_zone_gets_its_element_once() {
        let mut insert = insert("filter_IN_public", 0);
        let line = zone_line(&insert).unwrap();
        assert_eq!(line, "<port port=\"22\" protocol=\"tcp\"/>");
        let text = "<zone>\n  <service name=\"mdns\"/>\n</zone>\n";
        let changed = in_zone(text, &line, "x").unwrap();
        let added = format!("  <!-- ssh-rescue:x -->\n  {line}\n</zone>\n");
        assert_eq!(changed, text.replace("</zone>\n", &added));
        assert_eq!(in_zone(&changed, &line, "y").as_ref(), Some(&changed));
        assert_eq!(in_zone("<zone/>", &line, "x"), None);
        insert.accept.source = Some("2001:db8::/32".parse().unwrap());
        let rule = "<rule family=\"ipv6\"><source address=\"2001:db8::/32\"/><port port=\"22\" protocol=\"tcp\"/><accept/></rule>";
        assert_eq!(zone_line(&insert).as_deref(), Some(rule));
        // A zone says which ports are open, and nothing else that an accept may be.
        let of = |change: &dyn Fn(&mut Accept)| {
            let mut insert = insert.clone();
            change(&mut insert.accept);
            zone_line(&insert)
        };
        assert_eq!(of(&|accept| accept.after = vec!["f2b-sshd".into()]), None);
        assert_eq!(of(&|accept| accept.answer = true), None);
        assert_eq!(of(&|accept| accept.traffic = Traffic::Neighbours), None);
    }

    #[test]
    fn neighbour_discovery_takes_two_lines() {
        let mut both = insert("input", 1);
        both.accept = Accept { traffic: Traffic::Neighbours, family: Some(Family::Ipv6), ..both.accept };
        let line = |kind: u8| {
            format!(
                "-A input -i eth0 -p ipv6-icmp -m icmp6 --icmpv6-type {kind} -m hl --hl-eq 255 -m comment --comment ssh-rescue:x -j ACCEPT"
            )
        };
        assert_eq!(save_lines(&both, "x").unwrap(), [line(135), line(136)].join("\n"));
        let inserts = vec![both.clone(), insert("input", 3)];
        let at = TableInserts { backend: Backend::Nft, family: TableFamily::Inet, table: "filter".into(), inserts };
        let lines = nft_lines(&at, &both, 2, "x").unwrap();
        let places: Vec<&str> = lines.lines().filter_map(|l| l.split(" meta").next()).collect();
        assert_eq!(places, ["insert rule inet filter input index 1", "insert rule inet filter input index 2"]);
        let loader = Loader {
            unit: "nftables.service".into(),
            tool: LoadTool::Nft,
            file: "/etc/nftables.conf".into(),
            text: String::new(),
            head: String::new(),
            tail: String::new(),
        };
        let mut change = Change::default();
        change.write(&loader, &at, &|_| 2, "x").unwrap();
        let last = "insert rule inet filter input index 3 meta nfproto ipv4 iifname \"eth0\" tcp dport 22";
        assert!(change.text.lines().nth(2).unwrap().starts_with(last), "{}", change.text);
        assert!(change.text.starts_with("insert rule inet filter input index 1 "), "{}", change.text);
    }
}
