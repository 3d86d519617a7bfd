//! What is read from the kernel, against what the tools list.

use serde_json::Value;
use ssh_rescue::facts::{Expr, Firewall, Seen, Table};
use ssh_rescue::host::{Call, Host};
use ssh_rescue::observe::firewall::firewall;
use ssh_rescue::observe::net::net;

use super::common::{ADDRESS4, ADDRESS6, IFINDEX, root};
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
        Expr::Unknown { name } => Some(name.clone()),
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
}

#[test]
fn generated_rulesets_are_read_whole() {
    if !root("decode of generated rulesets") {
        return;
    }
    for seed in 0..100 {
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
