//! Whether clients will still get in after the next boot.

use serde_json::json;

use super::{Details, Finding, Intent, PathGates, Severity, blame, each, of_firewall, paths};
use crate::facts::{AtBoot, Firewall, Firewalld, Loader, Maker, RuleRef, Snapshot, Table, Zone, escape};
use crate::policy::{Mode, Policy};

/// The rules of the next boot, path by path; nothing else of the host is judged. Empty where nothing loads any.
pub fn gates(policy: &Policy, snapshot: &Snapshot) -> Vec<PathGates> {
    let Some(booted) = snapshot.booted() else { return Vec::new() };
    each(policy, &booted, &paths(policy, &snapshot.net), of_firewall)
}

pub fn findings(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    // Without root's rights much cannot be read, which is said once and elsewhere.
    // Of a disk everything that is judged is of its next boot.
    if policy.firewall.mode == Mode::Off || !snapshot.privileged || snapshot.at_rest {
        return Vec::new();
    }
    let mut out: Vec<Finding> = Vec::new();
    if let Some(why) = snapshot.boot.firewall.unreadable() {
        out.push(unknown(format!("it is not known which rules the next boot loads: {}", escape(why)), json!({})));
    }
    let gates = gates(policy, snapshot);
    for found in blame::findings(&Intent::of(policy, snapshot, &gates), &gates) {
        match (found.severity, found.code) {
            (Severity::Critical, _) => out.push(barred(snapshot, found)),
            (_, "path.unknown") => out.push(unknown(format!("after the next boot {}", found.summary), found.evidence)),
            _ => {}
        }
    }
    out.extend(made(policy, snapshot));
    out.extend(reverse_path(policy, snapshot));
    if snapshot.boot.firewalld {
        match snapshot.owners.firewalld.present() {
            Some(firewalld) => out.extend(lost(policy, snapshot, firewalld)),
            None if snapshot.owners.firewalld.is_absent() => {
                let words = "firewalld is enabled and does not run: what it lets in after the next boot is not known";
                out.push(unknown(words.to_owned(), json!({"unit": "firewalld.service"})));
            }
            None => {}
        }
    }
    out
}

/// Rules whose maker starts at boot: what a mend has put among them, or would, is not in its files.
fn made(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    if snapshot.boot.makers.is_empty() {
        return Vec::new();
    }
    let bare = Snapshot::rules_alone(snapshot.net.clone(), snapshot.firewall.without_mends());
    let gates = each(policy, &bare, &paths(policy, &snapshot.net), of_firewall);
    let lacking = blame::findings(&Intent::of(policy, snapshot, &gates), &gates);
    let lacking = lacking.into_iter().find(|found| found.severity == Severity::Critical);
    let finding = |maker: &Maker| {
        let Maker { unit, file, accept } = maker;
        let port = policy.ssh.ports.first().copied().unwrap_or(22);
        let accept = accept.replace("PORT", &port.to_string());
        let (severity, words) = match &lacking {
            Some(found) => (
                Severity::Warning,
                format!(
                    "{unit} makes its rules from its own files, and no mend lasts longer than until it does so again, \
                     then {}: it takes a line like `{accept}` in {file}",
                    found.summary
                ),
            ),
            None => (
                Severity::Info,
                format!(
                    "{unit} makes its rules from its own files: whom they let in after the next boot is not judged"
                ),
            ),
        };
        let evidence = json!({"unit": unit, "file": file, "accept": accept});
        Finding { code: "boot.made", severity, summary: words, evidence: evidence.into(), mendable: false, mend: None }
    };
    snapshot.boot.makers.iter().map(finding).collect()
}

/// Reverse path filtering that is not so now. What nobody sets stays as it is.
fn reverse_path(policy: &Policy, snapshot: &Snapshot) -> Vec<Finding> {
    let mut net = snapshot.net.clone();
    let mut set: Vec<(String, &AtBoot)> = Vec::new();
    for (name, value) in &mut net.rp_filter {
        let of = |at: &&AtBoot| at.interface == *name || at.interface == "all";
        // The kernel takes the larger one.
        let Some(last) = snapshot.boot.rp_filter.iter().filter(of).max_by_key(|at| at.value) else { continue };
        if last.value != *value {
            *value = last.value;
            set.push((name.clone(), last));
        }
    }
    if set.is_empty() {
        return Vec::new();
    }
    let booted = Snapshot::rules_alone(net, Firewall::none());
    let gates = each(policy, &booted, &paths(policy, &snapshot.net), of_firewall);
    let mut out = Vec::new();
    for found in blame::findings(&Intent::of(policy, snapshot, &gates), &gates) {
        let place = found.evidence["by"]["where"].as_str().unwrap_or_default();
        let Some((_, at)) = set.iter().find(|(name, _)| place == format!("rp_filter of {name}")) else { continue };
        if found.severity == Severity::Critical {
            let file = escape(&at.file.to_string_lossy());
            let summary = format!("after the next boot {}, as {file}, line {}, sets it", found.summary, at.line);
            let evidence = json!({"file": at.file, "line": at.line, "value": at.value, "by": found.evidence["by"]});
            out.push(Finding {
                code: "boot.route.rp-filter",
                severity: Severity::Warning,
                summary,
                evidence: evidence.into(),
                mendable: false,
                mend: None,
            });
        }
    }
    out
}

fn unknown(summary: String, evidence: impl Into<Details>) -> Finding {
    Finding {
        code: "boot.unknown",
        severity: Severity::Warning,
        summary,
        evidence: evidence.into(),
        mendable: false,
        mend: None,
    }
}

/// What a finding about the rules of now becomes where they are those of the next boot.
fn barred(snapshot: &Snapshot, found: Finding) -> Finding {
    let mut evidence = found.evidence;
    let mut from = String::new();
    if let Some(loader) = loader(snapshot, &evidence) {
        from = format!(", as {} loads it from {}", loader.unit, escape(&loader.file.to_string_lossy()));
        evidence["unit"] = json!(loader.unit);
        evidence["file"] = json!(loader.file);
    }
    Finding {
        code: "boot.firewall.drop",
        severity: Severity::Warning,
        summary: format!("after the next boot {}{from}", found.summary),
        evidence,
        mendable: false,
        mend: None,
    }
}

fn loader<'a>(snapshot: &'a Snapshot, evidence: &serde_json::Value) -> Option<&'a Loader> {
    let place = evidence.get("by")?.get("where")?.as_str()?;
    let is_there = |table: &&Table| {
        let at = |chain: &str| RuleRef {
            backend: table.backend,
            family: table.family,
            table: table.name.as_str().into(),
            chain: chain.into(),
            index: None,
        };
        table.chains.iter().any(|c| at(&c.name).to_string() == place)
    };
    let table = snapshot.boot.firewall.present()?.tables().find(is_there)?;
    snapshot.boot.loader_of(table)
}

/// Openings of firewalld that are not in its permanent zones. Only what is plain to see: a rich rule or a service of one's own
/// may do anything.
fn lost(policy: &Policy, snapshot: &Snapshot, firewalld: &Firewalld) -> Vec<Finding> {
    let mut out: Vec<Finding> = Vec::new();
    for path in paths(policy, &snapshot.net) {
        let Some(zone) = zone_of(firewalld, &path.interface) else { continue };
        if !loses(zone, path.port) {
            continue;
        }
        let words = format!(
            "firewalld admits port {} in zone {} now, and not any more after its next reload or the next boot",
            path.port,
            escape(&zone.name)
        );
        if out.iter().all(|f| f.summary != words) {
            let evidence = json!({"zone": zone.name, "port": path.port, "interface": path.interface});
            out.push(Finding {
                code: "boot.firewalld.lost",
                severity: Severity::Warning,
                summary: words,
                evidence: evidence.into(),
                mendable: false,
                mend: None,
            });
        }
    }
    out
}

/// The zone that an interface is in.
pub fn zone_of<'a>(firewalld: &'a Firewalld, interface: &str) -> Option<&'a Zone> {
    let of_interface = firewalld.interface_zones.iter().find(|(name, _)| name == interface);
    let name = of_interface.map_or(&firewalld.default_zone, |(_, zone)| zone);
    firewalld.zones.iter().find(|z| z.name == *name)
}

/// Whether the zone admits the port now, and its permanent form surely does not.
pub fn loses(zone: &Zone, port: u16) -> bool {
    let tcp = format!("{port}/tcp");
    let service = |services: &[String]| port == 22 && services.iter().any(|s| s == "ssh");
    let now = service(&zone.services) || zone.ports.contains(&tcp);
    let closed = zone.permanent_target.as_deref().is_some_and(|target| target != "ACCEPT");
    let plain = zone.permanent_rich_rules.is_empty()
        && zone.permanent_ports.iter().all(|p| !p.contains('-'))
        && zone.permanent_services.iter().all(|s| zone.services.contains(s));
    now && closed && plain && !service(&zone.permanent_services) && !zone.permanent_ports.contains(&tcp)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::fixture::healthy;
    use super::super::judge;
    use super::*;
    use crate::facts::{
        Backend, BaseChain, Boot, Chain, ChainKind, Expr, Family, Firewall, Hook, LoadTool, NftRules, Policy as Last,
        RawNft, Rule, Seen, TableFamily, Verdict::Accept, Verdict::Drop, XtMatch,
    };
    use crate::judge::Verdict;

    /// `filter INPUT` of the next boot, with this policy, loaded from rules.v4.
    fn next_boot(policy: Last) -> Boot {
        let base = BaseChain { hook: Hook::Input, kind: ChainKind::Filter, priority: 0, policy, devices: Vec::new() };
        let chain = Chain { name: "INPUT".into(), base: Some(base), rules: Arc::default() };
        let table = Table {
            backend: Backend::Nft,
            family: TableFamily::Ip,
            name: "filter".into(),
            dormant: false,
            owner: None,
            chains: vec![chain],
            sets: Arc::default(),
        };
        let rules = NftRules { generation: 1, tables: vec![table], raw: RawNft::default().into() };
        Boot {
            loaders: vec![Loader {
                unit: "netfilter-persistent.service".into(),
                tool: LoadTool::Restore(Family::Ipv4),
                file: "/etc/iptables/rules.v4".into(),
                text: "*filter\n:INPUT DROP [0:0]\nCOMMIT\n".into(),
                head: String::new(),
                tail: String::new(),
            }],
            firewall: Seen::Present(Firewall { nft: Seen::Present(rules), ..Firewall::none() }),
            ..Boot::nothing()
        }
    }

    #[test]
    fn reachable_now_and_not_after_a_reboot_is_at_risk() {
        let mut snapshot = healthy();
        snapshot.boot = next_boot(Last::Drop);
        let judgement = judge(&Policy::default(), &snapshot);
        assert_eq!(judgement.verdict, Verdict::AtRisk, "{}", judgement.sentence);
        let finding = judgement.findings.iter().find(|f| f.code == "boot.firewall.drop").unwrap();
        assert_eq!(finding.evidence["file"], "/etc/iptables/rules.v4");
        assert!(finding.summary.contains("netfilter-persistent.service"), "{}", finding.summary);
        snapshot.boot = next_boot(Last::Accept);
        assert_eq!(judge(&Policy::default(), &snapshot).verdict, Verdict::Reachable);
    }

    #[test]
    fn whose_rules_are_made_at_start_is_told_what_to_write() {
        let mut snapshot = healthy();
        let Seen::Present(Firewall { nft: Seen::Present(mut rules), .. }) = next_boot(Last::Drop).firewall else {
            panic!("a next boot without rules")
        };
        let maker = Maker { unit: "ferm.service", file: "/etc/ferm/ferm.conf", accept: "dport PORT ACCEPT;" };
        let seen = |snapshot: &Snapshot| {
            let judgement = judge(&Policy::default(), snapshot);
            let made = judgement.findings.into_iter().find(|f| f.code == "boot.made");
            (judgement.verdict, made.map(|f| (f.severity, f.evidence["accept"].clone(), f.summary)))
        };
        snapshot.firewall.nft = Seen::Present(rules.clone());
        assert_eq!(seen(&snapshot), (Verdict::Blocked, None));
        snapshot.boot.makers = vec![maker];
        let (verdict, made) = seen(&snapshot);
        let (severity, accept, words) = made.unwrap();
        assert_eq!((verdict, severity), (Verdict::Blocked, Severity::Warning));
        assert_eq!(accept, "dport 22 ACCEPT;");
        assert!(words.contains("ferm.service") && words.contains("/etc/ferm/ferm.conf"), "{words}");
        let accept = |comment: &str| Rule {
            handle: None,
            comment: Some(comment.to_owned()),
            exprs: vec![Expr::Verdict(Accept)],
        };
        for (comment, expected) in [
            ("ssh-rescue:x", (Verdict::AtRisk, Severity::Warning)),
            ("ssh-rescued by hand", (Verdict::Reachable, Severity::Info)),
        ] {
            rules.tables[0].chains[0].rules = vec![accept(comment)].into();
            snapshot.firewall.nft = Seen::Present(rules.clone());
            let (verdict, made) = seen(&snapshot);
            assert_eq!((verdict, made.unwrap().0), expected, "{comment}");
        }
    }

    #[test]
    fn reverse_path_filtering_that_the_next_boot_sets_is_a_risk() {
        let mut policy = Policy::default();
        policy.ssh.sources = Some(vec!["198.51.100.0/24".parse().unwrap()]);
        let mut snapshot = healthy();
        let mut link = snapshot.net.links.present().unwrap()[0].clone();
        (link.index, link.name) = (3, "eth1".into());
        let mut back = snapshot.net.routes.present().unwrap()[0].clone();
        (back.destination, back.interfaces) = ("198.51.100.0/24".parse().unwrap(), vec![3]);
        if let (Seen::Present(links), Seen::Present(routes)) = (&mut snapshot.net.links, &mut snapshot.net.routes) {
            links.push(link);
            routes.push(back);
        }
        snapshot.net.rp_filter = vec![("eth0".into(), 0), ("eth1".into(), 0)];
        let seen = |set: &[(&str, u8)]| {
            let mut snapshot = snapshot.clone();
            let at = |(interface, value): &(&str, u8)| AtBoot {
                interface: (*interface).to_owned(),
                value: *value,
                file: "/etc/sysctl.d/x.conf".into(),
                line: 7,
            };
            snapshot.boot.rp_filter = set.iter().map(at).collect();
            findings(&policy, &snapshot).into_iter().map(|f| (f.code, f.summary)).collect::<Vec<_>>()
        };
        for calm in [&[][..], &[("eth0", 0)], &[("eth1", 1)], &[("eth0", 1), ("all", 2)]] {
            assert_eq!(seen(calm), [], "{calm:?}");
        }
        for strict in [&[("eth0", 1)][..], &[("all", 1)]] {
            let [(code, summary)] = &seen(strict)[..] else { panic!("one finding of {strict:?}") };
            assert_eq!(*code, "boot.route.rp-filter");
            assert!(summary.contains("/etc/sysctl.d/x.conf, line 7,"), "{summary}");
        }
    }

    #[test]
    fn what_cannot_be_loaded_is_said() {
        let mut snapshot = healthy();
        snapshot.boot.firewall = Seen::Unreadable("nft does not load /etc/nftables.conf: syntax error".into());
        let findings = |snapshot: &Snapshot| -> Vec<_> {
            findings(&Policy::default(), snapshot).iter().map(|f| (f.code, f.severity)).collect()
        };
        assert_eq!(findings(&snapshot), [("boot.unknown", Severity::Warning)]);
        snapshot.privileged = false;
        assert!(findings(&snapshot).is_empty());
    }

    #[test]
    fn what_the_next_boot_may_drop_is_said() {
        let mut snapshot = healthy();
        let mut boot = next_boot(Last::Accept);
        let opaque = Expr::XtMatch(XtMatch::Unknown { name: "bpf".into() });
        let rule = Rule { handle: None, comment: None, exprs: vec![opaque, Expr::Verdict(Drop)] };
        if let Seen::Present(Firewall { nft: Seen::Present(rules), .. }) = &mut boot.firewall {
            rules.tables[0].chains[0].rules = vec![rule].into();
        }
        snapshot.boot = boot;
        let judgement = judge(&Policy::default(), &snapshot);
        assert_eq!(judgement.verdict, Verdict::AtRisk, "{}", judgement.sentence);
        let [finding] = &judgement.findings[..] else { panic!("one: {:?}", judgement.findings) };
        assert_eq!(finding.code, "boot.unknown");
        let words = "after the next boot it is not known whether everybody can connect: ";
        assert!(finding.summary.starts_with(words), "{}", finding.summary);
    }

    #[test]
    fn a_zone_of_an_uplink_that_loses_the_port_is_told_once() {
        let zone = |name: &str, permanent: &[&str]| Zone {
            name: name.into(),
            target: "default".into(),
            services: vec!["ssh".into()],
            ports: Vec::new(),
            rich_rules: Vec::new(),
            permanent_services: permanent.iter().map(|s| (*s).to_owned()).collect(),
            permanent_ports: Vec::new(),
            permanent_rich_rules: Vec::new(),
            permanent_target: Some("default".into()),
        };
        let mut firewalld = Firewalld {
            version: "2.1.1".into(),
            state: "RUNNING".into(),
            panic: false,
            lockdown: false,
            default_zone: "internal".into(),
            interface_zones: vec![("eth1".into(), "internal".into()), ("eth0".into(), "public".into())],
            source_zones: Vec::new(),
            zones: vec![zone("internal", &["ssh"]), zone("public", &[])],
        };
        let mut snapshot = healthy();
        snapshot.boot.firewalld = true;
        let mut seen = |firewalld| {
            snapshot.owners.firewalld = firewalld;
            let found = findings(&Policy::default(), &snapshot);
            found.iter().map(|f| (f.code, f.evidence["zone"].as_str().map(str::to_owned))).collect::<Vec<_>>()
        };
        assert_eq!(seen(Seen::Absent), [("boot.unknown", None)]);
        assert_eq!(seen(Seen::Unreadable("D-Bus: refused".into())), [], "it is said elsewhere");
        assert_eq!(seen(Seen::Present(firewalld.clone())), [("boot.firewalld.lost", Some("public".to_owned()))]);
        firewalld.interface_zones.clear();
        assert_eq!(seen(Seen::Present(firewalld)), []);
    }

    #[test]
    fn an_opening_of_firewalld_that_will_not_last_is_seen() {
        let zone = |permanent: &[&str], rich: &[&str], target: Option<&str>| Zone {
            name: "public".into(),
            target: "default".into(),
            services: vec!["ssh".into(), "dhcpv6-client".into()],
            ports: Vec::new(),
            rich_rules: Vec::new(),
            permanent_services: permanent.iter().map(|s| (*s).to_owned()).collect(),
            permanent_ports: Vec::new(),
            permanent_rich_rules: rich.iter().map(|s| (*s).to_owned()).collect(),
            permanent_target: target.map(str::to_owned),
        };
        assert!(loses(&zone(&["dhcpv6-client"], &[], Some("default")), 22));
        assert!(!loses(&zone(&["ssh"], &[], Some("default")), 22));
        assert!(!loses(&zone(&[], &[], Some("ACCEPT")), 22));
        assert!(!loses(&zone(&[], &["rule service name=\"ssh\" accept"], Some("default")), 22), "not surely");
        assert!(!loses(&zone(&["of-my-own"], &[], Some("default")), 22), "not surely");
        assert!(!loses(&zone(&[], &[], None), 22), "a zone of the moment");
        let with_port = |port: &str| Zone { permanent_ports: vec![port.into()], ..zone(&[], &[], Some("default")) };
        assert!(loses(&with_port("8080/tcp"), 22));
        assert!(!loses(&with_port("20-25/tcp"), 22), "not surely");
    }
}
