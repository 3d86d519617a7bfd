//! What is read from the kernel, against what the tools list.

use serde_json::Value;
use ssh_rescue::facts::{Expr, Firewall, Policy, Seen, Table, XtMatch, XtTarget};
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

#[test]
fn every_saved_ruleset_is_read_whole() {
    if !root("decode of the corpus") {
        return;
    }
    let Some(folder) = folder() else { return };
    for truth in recorded(&folder) {
        load(&Host::live(), &truth.saved(&folder), |host, _| {
            compare(host, &format!("{} {}", truth.file, truth.backend))
        })
        .unwrap_or_else(|e| panic!("{}: {}", truth.file, ssh_rescue::chain(&e)));
    }
}
