//! What the next boot loads, of a host that lets in now whom it should.

use super::*;

fn loader(tool: LoadTool, file: &str, text: &str) -> Loader {
    let (head, tail) = (String::new(), String::new());
    Loader { unit: "x.service".into(), tool, file: file.into(), text: text.into(), head, tail }
}

/// A healthy host whose next boot loads these tables.
fn next_boot(loaders: Vec<Loader>, tables: Vec<Table>) -> Snapshot {
    let boot = Boot { loaders, firewall: Seen::Present(nft(tables)), ..Boot::nothing() };
    Snapshot { boot, ..healthy() }
}

fn persisted(policy: &Asked, snapshot: &Snapshot) -> Vec<(String, String)> {
    match plan(policy, snapshot, &judge(policy, snapshot), ID) {
        Decision::Repair(plan) => plan
            .steps
            .into_iter()
            .map(|step| match step {
                Step::Persist { path, content, .. } => {
                    (path.display().to_string(), String::from_utf8_lossy(&content).into_owned())
                }
                step => panic!("{step:?}"),
            })
            .collect(),
        Decision::Healthy => Vec::new(),
        Decision::Refuse(all) => panic!("{all:?}"),
    }
}

fn both_tables() -> Vec<Table> {
    let table = |family| of(family, "filter", drops(family));
    vec![table(TableFamily::Ip), table(TableFamily::Ip6)]
}

#[test]
fn one_file_of_two_tables_gets_the_lines_of_both() {
    let old = "include \"/etc/x\"\n";
    let file = loader(LoadTool::Nft, "/etc/nftables.conf", old);
    let files = persisted(&asked(&[]), &next_boot(vec![file], both_tables()));
    let [(path, text)] = &files[..] else { panic!("{files:?}") };
    assert_eq!(path, "/etc/nftables.conf");
    let added: Vec<&str> = text.strip_prefix(old).unwrap().lines().collect();
    let [four, six] = added[..] else { panic!("{text}") };
    assert!(four.starts_with("add rule ip filter INPUT ") && six.starts_with("add rule ip6 filter INPUT "), "{text}");
}

#[test]
fn each_file_gets_its_own_line() {
    let text = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    let files = vec![
        loader(LoadTool::Restore(Family::Ipv4), "/etc/iptables/rules.v4", text),
        loader(LoadTool::Restore(Family::Ipv6), "/etc/iptables/rules.v6", text),
    ];
    let files = persisted(&asked(&[]), &next_boot(files, both_tables()));
    let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/etc/iptables/rules.v4", "/etc/iptables/rules.v6"]);
    for (path, text) in &files {
        assert_eq!(text.matches("-A INPUT ").count(), 1, "{path}: {text}");
    }
}

/// A rule for an interface that the disk's host does not have would let in nobody.
#[test]
fn on_a_disk_a_rule_names_an_interface_only_where_the_policy_does() {
    let text = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
    let file = loader(LoadTool::Restore(Family::Ipv4), "/etc/iptables/rules.v4", text);
    let running = next_boot(vec![file], vec![of(TableFamily::Ip, "filter", drops(TableFamily::Ip))]);
    let disk = Snapshot { at_rest: true, ..running.clone() };
    let named = changed(asked(&[]), |p| p.ssh.interfaces = Some(vec!["eth0".into()]));
    for (policy, snapshot, by_interface) in
        [(&asked(&[]), &running, true), (&asked(&[]), &disk, false), (&named, &disk, true)]
    {
        let files = persisted(policy, snapshot);
        assert_eq!(files[0].1.contains("-A INPUT -i eth0 "), by_interface, "{files:?}");
    }
}

#[test]
fn the_next_boots_rules_are_left_where_the_policy_does_not_want_them_mended() {
    let snapshot = next_boot(vec![loader(LoadTool::Nft, "/etc/nftables.conf", "")], both_tables());
    let with = |persist, mode| {
        let policy = changed(asked(&[]), |p| (p.firewall.persist, p.firewall.mode) = (persist, mode));
        persisted(&policy, &snapshot).len()
    };
    assert_eq!(with(true, Mode::Repair), 1);
    assert_eq!((with(false, Mode::Repair), with(true, Mode::Report)), (0, 0));
}

/// ufw is asked where it runs; where it does not, a question would start it, and its own file gets the rule.
#[test]
fn a_ufw_that_sleeps_is_written_to_and_one_that_runs_is_asked() {
    let text = "*filter\n### RULES ###\nCOMMIT\n";
    let files = vec![
        loader(LoadTool::Ufw(Family::Ipv4), "/etc/ufw/user.rules", text),
        loader(LoadTool::Ufw(Family::Ipv6), "/etc/ufw/user6.rules", text),
    ];
    let ufw = ufw(true);
    let Seen::Present(rules) = &ufw.firewall.nft else { panic!("no rules") };
    let asleep = Snapshot { owners: ufw.owners.clone(), ..next_boot(files, rules.tables.clone()) };
    let disk = Snapshot { at_rest: true, ..asleep.clone() };
    for snapshot in [&asleep, &disk] {
        let files = persisted(&asked(&[]), snapshot);
        let paths: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"]);
        assert!(files.iter().all(|(_, text)| text.contains("### tuple ### allow tcp 22 ")), "{files:?}");
    }
    let open = vec![chain("ufw-user-input", vec![])];
    let running = Snapshot { firewall: nft(vec![of(TableFamily::Ip, "filter", open)]), ..asleep };
    let told = told(&asked(&[]), &running);
    assert!(told.starts_with("  let ufw allow everybody to tcp port 22\n"), "{told}");
}

/// A port that was opened at run time alone: the zone's permanent form gets it, once for both families of the host.
#[test]
fn what_firewalld_admits_until_its_next_start_is_made_lasting_once() {
    let zone = Zone {
        name: "dmz".into(),
        target: "default".into(),
        services: Vec::new(),
        ports: vec!["22/tcp".into()],
        rich_rules: Vec::new(),
        permanent_services: Vec::new(),
        permanent_ports: Vec::new(),
        permanent_rich_rules: Vec::new(),
        permanent_target: Some("default".into()),
    };
    let mut snapshot = Snapshot { owners: firewalld(Vec::new()).owners, ..healthy() };
    let Seen::Present(running) = &mut snapshot.owners.firewalld else { panic!("no firewalld") };
    running.zones = vec![zone];
    snapshot.boot.firewalld = true;
    let told = |snapshot: &Snapshot| told(&asked(&[]), snapshot);
    let lasting = "let firewalld admit everybody to tcp port 22 in zone dmz, now and after a restart";
    assert_eq!(told(&snapshot), format!("  {lasting}\n"));
    // Where it is not started by the next boot, its permanent zones are nothing to anybody.
    snapshot.boot.firewalld = false;
    assert_eq!(told(&snapshot), "  nothing\n");
}
