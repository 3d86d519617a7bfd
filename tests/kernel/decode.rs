//! What is read from the kernel, against what the tools list.

use serde_json::Value;
use ssh_rescue::facts::{Backend, Expr, Firewall, Policy, Seen, Table, TableFamily, XtMatch, XtTarget};
use ssh_rescue::host::{Call, Host};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net;
use ssh_rescue::rehearse::ruleset::load;

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, root};
use super::corpus::{folder, recorded};
use super::generate::case;
use super::generated::loaded;

fn nft_tables(firewall: &Firewall) -> &[Table] {
    match &firewall.nft {
        Seen::Present(rules) => &rules.tables,
        other => panic!("{other:?}"),
    }
}

fn unknown(firewall: &Firewall) -> Vec<String> {
    let rules = firewall.tables().flat_map(|t| &t.chains).flat_map(|c| &c.rules);
    let names = rules.flat_map(|r| &r.exprs).filter_map(|e| match e {
        Expr::Unknown { name }
        | Expr::XtMatch(XtMatch::Unknown { name })
        | Expr::XtTarget(XtTarget::Unknown { name }) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// How many objects of a kind `nft -j list ruleset` shows.
fn listed(host: &Host) -> impl Fn(&str) -> usize {
    let output = host.run(&Call::new("nft", &["-j", "list", "ruleset"])).unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    move |kind| list["nftables"].as_array().unwrap().iter().filter(|o| o.get(kind).is_some()).count()
}

fn compare(host: &Host, what: &str) {
    let seen = firewall(host);
    let tables = nft_tables(&seen);
    let count = listed(host);
    let chains = || tables.iter().flat_map(|t| &t.chains);
    assert_eq!(tables.len(), count("table"), "{what}");
    assert_eq!(chains().count(), count("chain"), "{what}");
    assert_eq!(chains().map(|c| c.rules.len()).sum::<usize>(), count("rule"), "{what}");
    assert_eq!(unknown(&seen), Vec::<String>::new(), "{what}");
    for (legacy, save) in [(&seen.legacy4, "iptables-legacy-save"), (&seen.legacy6, "ip6tables-legacy-save")] {
        let tables = legacy.present().map_or(&[][..], |rules| &rules.tables);
        let output = host.run(&Call::new(save, &[])).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let count = |first| text.lines().filter(|l| l.starts_with(first)).count();
        let chains = || tables.iter().flat_map(|t| &t.chains);
        assert_eq!(tables.len(), count('*'), "{what}: {save}");
        assert_eq!(chains().count(), count(':'), "{what}: {save}");
        assert_eq!(chains().map(|c| c.rules.len()).sum::<usize>(), count('-'), "{what}: {save}");
        for chain in chains() {
            let policy = chain.base.as_ref().map_or("-", |b| if b.policy == Policy::Drop { "DROP" } else { "ACCEPT" });
            assert!(text.contains(&format!(":{} {policy} ", chain.name)), "{what}: {save}: {} {policy}", chain.name);
        }
    }
}

#[test]
fn generated_rulesets_are_read_whole() {
    if !root("decode of generated rulesets") {
        return;
    }
    for seed in 0..300 {
        let mut case = case(seed);
        loaded(&mut case.scripts, |host, _| compare(host, &format!("seed {seed}")))
            .unwrap_or_else(|complaint| panic!("seed {seed}: {complaint}"));
    }
}

#[test]
fn links_addresses_and_routes_are_read() {
    if !root("decode of links") {
        return;
    }
    let net = loaded(&mut [], |host, _| net(host)).unwrap();
    let links = net.links.present().unwrap();
    let eth0 = links.iter().find(|l| l.name == "eth0").unwrap();
    assert!(eth0.index == IFINDEX && eth0.up && !eth0.loopback && !eth0.xdp, "{eth0:?}");
    assert_eq!(eth0.driver.as_deref(), Some("tun"));
    let addresses = net.addresses.present().unwrap();
    for wanted in [ADDRESS4, ADDRESS6] {
        let own = addresses.iter().find(|a| a.address.to_string() == wanted).unwrap();
        assert!(own.interface == IFINDEX && own.global && !own.tentative, "{own:?}");
    }
    let routes = net.routes.present().unwrap();
    let defaults: Vec<_> = routes.iter().filter(|r| r.is_default()).collect();
    assert!(defaults.len() == 2 && defaults.iter().all(|r| r.interfaces == [IFINDEX]), "{defaults:?}");
    assert!(!net.policy_routing);
    assert!(net.rp_filter.iter().any(|(name, _)| name == "eth0"));
}

/// Each rule in words, and as its own tool lists it.
fn words(host: &Host) -> Vec<(String, String)> {
    let seen = firewall(host);
    let mut pairs = Vec::new();
    for table in seen.tables() {
        let six = if table.family == TableFamily::Ip6 { "6" } else { "" };
        let family = table.family.to_string();
        for chain in &table.chains {
            let listed: Vec<String> = if table.is_iptables() {
                let backend = if table.backend == Backend::Nft { "nft" } else { "legacy" };
                let tool = format!("ip{six}tables-{backend}");
                let output = host.run(&Call::new(&tool, &["-t", &table.name, "-S", &chain.name])).unwrap();
                if !output.ok() {
                    // Native expressions, of which iptables-nft makes no sense.
                    continue;
                }
                let prefix = format!("-A {}", chain.name);
                let text = String::from_utf8(output.stdout).unwrap();
                text.lines().filter_map(|l| l.strip_prefix(&prefix)).map(|l| l.trim_start().to_owned()).collect()
            } else {
                let args = ["-s", "list", "chain", &family, &table.name, &chain.name];
                let text = String::from_utf8(host.run(&Call::new("nft", &args)).unwrap().stdout).unwrap();
                let rule = |l: &&str| l.starts_with("\t\t") && !l.starts_with("\t\ttype ");
                text.lines().filter(rule).map(|l| l.trim().to_owned()).collect()
            };
            assert_eq!(chain.rules.len(), listed.len(), "{} {} {}", family, table.name, chain.name);
            pairs.extend(chain.rules.iter().map(|rule| rule.words(Some(table))).zip(listed));
        }
    }
    pairs
}

#[test]
fn every_saved_ruleset_is_read_whole_and_told_as_its_tool_does() {
    if !root("decode of the corpus") {
        return;
    }
    let Some(folder) = folder() else { return };
    let (mut rules, mut same) = (0, 0);
    for truth in recorded(&folder) {
        let pairs = load(&Host::live(), &truth.saved(&folder), |host, _| {
            compare(host, &format!("{} {}", truth.file, truth.backend));
            words(host)
        })
        .unwrap_or_else(|e| panic!("{}: {}", truth.file, ssh_rescue::chain(&e)));
        rules += pairs.len();
        same += pairs.iter().filter(|(words, listed)| words == listed).count();
    }
    println!("{rules} rules, {same} of them word by word");
    // Not told: options of targets that let the packet go on, times of day, concatenated loads.
    assert!(rules > 5000 && same * 100 > rules * 93, "{same} of {rules}");
}
