//! What is opened is what is barred: no other family, port, table or owner.

use super::*;
use crate::plan::Insert;

/// Each accept of the plan with the tool, the place and the family that it is limited to; then what is declined.
fn accepts(policy: &Asked, snapshot: &Snapshot) -> Vec<String> {
    let (steps, declined) = match plan(policy, snapshot, &judge(policy, snapshot), ID) {
        Decision::Healthy => return vec!["nothing".to_owned()],
        Decision::Refuse(declined) => (Vec::new(), declined),
        Decision::Repair(plan) => (plan.steps, plan.declined),
    };
    let told = |tool: &str, place: String, inserts: &[Insert]| -> Vec<String> {
        let one = |Insert { chain, index, accept }: &Insert| {
            let family = accept.family.map_or("both".to_owned(), |f| f.to_string());
            let source = accept.source.map(|net| format!(" from {net}")).unwrap_or_default();
            let what = if accept.traffic == Traffic::Ssh { accept.port.to_string() } else { "neighbours".to_owned() };
            format!("{tool} {place} {chain} {index}: {family} {what}{source}")
        };
        inserts.iter().map(one).collect()
    };
    let told = steps.iter().flat_map(|step| match step {
        Step::Nft { family, table, inserts, .. } => told("nft", format!("{family} {table}"), inserts),
        Step::Iptables { family, table, inserts, .. } => told("iptables", format!("{family} {table}"), inserts),
        other => other.words(),
    });
    told.chain(declined.iter().map(|d| format!("not {}: {}", d.code, d.why))).collect()
}

fn is(family: TableFamily) -> Vec<Expr> {
    let protocol = Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![family.nfproto()].into() };
    vec![Expr::Meta { dreg: 0, key: MetaKey::Nfproto }, protocol]
}

/// `tcp dport`
fn to(port: u16) -> Vec<Expr> {
    vec![
        Expr::Meta { dreg: 0, key: MetaKey::L4Proto },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![6].into() },
        Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 2, len: 2 },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: port.to_be_bytes().as_slice().into() },
    ]
}

/// `ip saddr NET`, of as many bytes as are given
fn from(net: &[u8], mask: &[u8], then: Expr) -> Vec<Expr> {
    let mut exprs = is(TableFamily::Ip);
    exprs.extend([
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 },
        Expr::Bitwise {
            sreg: 0,
            dreg: 0,
            len: 4,
            op: BitwiseOp::MaskXor { mask: mask.into(), xor: vec![0; 4].into() },
        },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: net.to_vec().into() },
        then,
    ]);
    exprs
}

fn dropped(parts: &[Vec<Expr>]) -> Vec<Expr> {
    [parts.concat(), vec![DROP]].concat()
}

#[test]
fn a_table_of_both_families_is_opened_to_the_one_that_it_bars() {
    let accept = |rules| accepts(&asked(&[]), &input(Policy::Accept, rules));
    let (four, six) = (|| is(TableFamily::Ip), || is(TableFamily::Ip6));
    assert_eq!(accept(vec![dropped(&[])]), ["nft inet t in 0: both 22"]);
    assert_eq!(accept(vec![dropped(&[four()])]), ["nft inet t in 0: ipv4 22"]);
    assert_eq!(accept(vec![dropped(&[six()])]), ["nft inet t in 0: ipv6 22"]);
}

#[test]
fn what_bars_a_port_in_one_family_and_another_in_the_other_is_opened_so() {
    let mut policy = asked(&[]);
    policy.ssh.ports = vec![22, 2222];
    let (four, six) = (is(TableFamily::Ip), is(TableFamily::Ip6));
    let mut snapshot = input(Policy::Accept, vec![dropped(&[four, to(22)]), dropped(&[six, to(2222)])]);
    let Seen::Present(listeners) = &mut snapshot.listeners else { panic!("no listeners") };
    let other = listeners.clone().into_iter().map(|l| Listener { port: 2222, ..l });
    listeners.extend(other);
    assert_eq!(accepts(&policy, &snapshot), ["nft inet t in 0: ipv4 22", "nft inet t in 2: ipv6 2222"]);
}

#[test]
fn a_table_of_one_family_needs_no_more_than_its_own() {
    let tables = iptables(Backend::Legacy, &drops);
    assert_eq!(
        accepts(&asked(&[]), &tables),
        ["iptables ipv4 filter INPUT 0: ipv4 22", "iptables ipv6 filter INPUT 0: ipv6 22"]
    );
}

/// Each of two tables bars everybody: an accept in one alone changes nothing for a client.
#[test]
fn what_two_tables_bar_is_opened_in_both() {
    let table = |name: &str| of(TableFamily::Inet, name, vec![hook("in", Hook::Input, Policy::Drop, vec![])]);
    let told = accepts(&asked(&[]), &with(vec![table("a"), table("b")]));
    assert!(told.iter().all(|t| t.ends_with(" in 0: both 22")) && told.len() == 2, "{told:?}");
}

/// What is rehearsed, and what the next boot is judged by, is what a step inserts.
#[test]
fn a_plans_inserts_in_the_model_let_in_whom_they_should() {
    let native = input(Policy::Drop, vec![]);
    for mut snapshot in
        [native, iptables(Backend::Legacy, &drops), iptables(Backend::Nft, &drops), ufw(true), of_zone()]
    {
        let Decision::Repair(made) = plan(&asked(&[]), &snapshot, &judge(&asked(&[]), &snapshot), ID) else {
            panic!("no plan")
        };
        for step in &made.steps {
            for at in step.inserts(&snapshot.firewall) {
                assert!(crate::plan::insert(&mut snapshot.firewall, ID, &at), "{at:?}");
            }
        }
        assert_eq!(accepts(&asked(&[]), &snapshot), ["nothing"], "{made:?}");
    }
}

/// A rule of iptables-legacy is as narrow as what was asked for, on its way in and out.
#[test]
fn an_accept_of_iptables_legacy_names_protocol_interface_and_source() {
    let on = |name: &str| Some(IfaceMatch { name: name.into(), exact: true, invert: false });
    let net = Masked { address: 0x0a00_0000, mask: 0xff00_0000, invert: false };
    for answer in [false, true] {
        let accept = Accept {
            traffic: Traffic::Ssh,
            family: Some(Family::Ipv4),
            source: Some("10.0.0.0/8".parse().unwrap()),
            port: 22,
            interface: Some("eth0".into()),
            answer,
            after: Vec::new(),
        };
        let exprs = accept.xt(&accept.deeds()[0]);
        let Expr::XtMatch(XtMatch::Header(header)) = &exprs[0] else { panic!("{exprs:?}") };
        let (wide, tcp) = (Masked::default(), 6);
        let wanted = match answer {
            false => XtHeader { src: net, dst: wide, iif: on("eth0"), oif: None, proto: tcp, ..XtHeader::default() },
            true => XtHeader { src: wide, dst: net, iif: None, oif: on("eth0"), proto: tcp, ..XtHeader::default() },
        };
        assert_eq!(**header, wanted);
    }
}

#[test]
fn a_family_that_cannot_be_opened_holds_back_no_other() {
    let table = |family| of(family, "a", vec![hook("in", Hook::Input, Policy::Drop, vec![])]);
    for (foreign, open) in [(0, "nft ip6 a in 0: ipv6 22"), (1, "nft ip a in 0: ipv4 22")] {
        let mut tables = vec![table(TableFamily::Ip), table(TableFamily::Ip6)];
        tables[foreign].owner = Some(77);
        let told = accepts(&asked(&[]), &with(tables));
        assert_eq!(told[0], open);
        assert!(told.len() == 2 && told[1].contains("belongs to a process"), "{told:?}");
    }
}

/// Nobody gets in, and each rule bars a part: an accept before the first lets in what the second bars, too.
#[test]
fn rules_that_bar_everybody_together_are_opened() {
    let halves = vec![from(&[0; 4], &[128, 0, 0, 0], DROP), from(&[128, 0, 0, 0], &[128, 0, 0, 0], DROP)];
    assert_eq!(accepts(&asked(&[]), &input(Policy::Accept, halves)), ["nft inet t in 0: ipv4 22"]);
}

#[test]
fn rules_that_bar_a_part_of_a_named_network_each_are_opened_to_all_of_it() {
    let wide = || from(&[10, 0, 0, 0], &[255, 128, 0, 0], DROP);
    let narrow = || from(&[10, 128, 0, 0], &[255, 192, 0, 0], DROP);
    let told = |rules| accepts(&asked(&["10.0.0.0/8"]), &input(Policy::Accept, rules));
    let (first, second) = ("nft inet t in 0: ipv4 22 from 10.0.0.0/8", "nft inet t in 1: ipv4 22 from 10.0.0.0/8");
    assert_eq!(told(vec![wide(), narrow()]), [first]);
    // The widest bar is opened first, and the other one still stands before it.
    assert_eq!(told(vec![narrow(), wide()]), [second, first]);
}

/// By IPv6 the host has to be found first; that opens nothing by itself, and hides nothing of whom the rules bar.
#[test]
fn neighbours_are_let_find_the_host_beside_what_ssh_needs() {
    let arp = |mut snapshot: Snapshot| {
        let Seen::Present(links) = &mut snapshot.net.links else { panic!("no links") };
        links[0].arp = true;
        snapshot
    };
    let six = |rules| of(TableFamily::Ip6, "a", vec![hook("in", Hook::Input, Policy::Drop, rules)]);
    let accepted = [to(22), vec![Expr::Verdict(Verdict::Accept)]].concat();
    let told = accepts(&asked(&[]), &arp(with(vec![six(vec![accepted])])));
    assert_eq!(told, ["nft ip6 a in 1: ipv6 neighbours"]);
    let told = accepts(&asked(&[]), &arp(with(vec![six(vec![])])));
    assert_eq!(told, ["nft ip6 a in 0: ipv6 22", "nft ip6 a in 1: ipv6 neighbours"]);
    // Whom the rules let in, once he finds the host, is restricted to some: that is meant.
    let mut some = is(TableFamily::Ip6);
    some.extend([
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 8, len: 6 },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![0x20, 0x01, 0x0d, 0xb8, 0, 1].into() },
        Expr::Verdict(Verdict::Accept),
    ]);
    let told = accepts(&asked(&[]), &arp(with(vec![six(vec![some])])));
    assert_eq!(told, ["nft ip6 a in 1: ipv6 neighbours"]);
    let told = accepts(&asked(&[]), &arp(input(Policy::Drop, vec![])));
    assert_eq!(told, ["nft inet t in 0: both 22", "nft inet t in 1: ipv6 neighbours"]);
    // What keeps rules of its own is asked for ports alone.
    let told = accepts(&asked(&[]), &arp(ufw(true)));
    assert!(told[1].contains("neighbour discovery is nothing that they are asked for"), "{told:?}");
}

/// The chains that ufw has in iptables-legacy's tables, whose jumps are targets.
#[test]
fn ufw_is_asked_where_it_keeps_tables_of_iptables_legacy() {
    let chains = |family| {
        let user = if family == TableFamily::Ip { "ufw-user-input" } else { "ufw6-user-input" };
        let jump = vec![Expr::XtTarget(XtTarget::Jump(user.into()))];
        vec![hook("INPUT", Hook::Input, Policy::Drop, vec![jump]), chain(user, vec![])]
    };
    let mut snapshot = iptables(Backend::Legacy, &chains);
    snapshot.owners.ufw = Seen::Present(Ufw { enabled: true, ipv6: true, command: true });
    assert_eq!(accepts(&asked(&[]), &snapshot), ["let ufw allow everybody to tcp port 22"]);
}

#[test]
fn ufw_builds_anew_what_was_flushed_and_nothing_else() {
    let mut snapshot = ufw(true);
    let Seen::Present(rules) = &mut snapshot.firewall.nft else { panic!("no rules") };
    rules.tables[0].chains[0] = hook("INPUT", Hook::Input, Policy::Drop, vec![]);
    let told = accepts(&asked(&[]), &snapshot);
    assert!(told[0].starts_with("delete ufw's chains of ipv4, to which no rule leads"), "{told:?}");
}

#[test]
fn firewalld_is_not_asked_for_tables_of_iptables_that_are_not_its_own() {
    let mut snapshot = iptables(Backend::Nft, &drops);
    snapshot.owners.firewalld = of_zone().owners.firewalld;
    let own = ["iptables ipv4 filter INPUT 0: ipv4 22", "iptables ipv6 filter INPUT 0: ipv6 22"];
    assert_eq!(accepts(&asked(&[]), &snapshot), own);
}

#[test]
fn ufw_is_disabled_by_its_own_command_where_it_has_one_and_is_on() {
    let policy = changed(asked(&[]), |p| p.firewall.strategy = Strategy::Disable);
    for (enabled, command, wanted) in [(true, true, true), (true, false, false), (false, true, false)] {
        let mut snapshot = input(Policy::Drop, vec![]);
        snapshot.owners.ufw = Seen::Present(Ufw { enabled, ipv6: true, command });
        let told = accepts(&policy, &snapshot);
        assert_eq!(told[0].contains(", ufw, flush"), wanted, "{told:?}");
    }
}

/// One family is restricted to some by the firewall, and the other is barred by the wrappers: whom to let in there nobody knows.
#[test]
fn a_family_whose_clients_nobody_knows_is_not_opened_past_another_gate_either() {
    let mut snapshot = hosts("", "ALL: [::]/0\n");
    let some = vec![four([10, 0, 0, 1], Expr::Verdict(Verdict::Accept))];
    snapshot.firewall =
        with(vec![of(TableFamily::Ip, "a", vec![hook("in", Hook::Input, Policy::Drop, some)])]).firewall;
    let told = accepts(&asked(&[]), &snapshot);
    assert!(told.len() == 1 && told[0].starts_with("not firewall.family: nobody gets in by ipv6"), "{told:?}");
}

/// What follows the last newline is no line to libwrap.
#[test]
fn a_last_line_without_its_end_is_ended_whatever_is_in_it() {
    for last in ["sshd: ALL", "sshd:ALL"] {
        let told = told(&asked(&[]), &hosts(&format!("# who\n{last}"), "ALL: ALL\n"));
        assert!(told.contains(&format!("/etc/hosts.allow: \"# who\\n{last}\\n\"")), "{told}");
    }
}

#[test]
fn the_next_boots_sshd_is_not_touched_where_it_is_only_reported() {
    let mut snapshot = healthy();
    let Seen::Present(units) = &mut snapshot.sshd.units else { panic!("no units") };
    units[0].unit_file_state = "disabled".into();
    let with_mode = |mode, persist| {
        let policy = changed(asked(&[]), |p| (p.sshd.mode, p.sshd.persist) = (mode, persist));
        accepts(&policy, &snapshot)
    };
    assert_eq!(with_mode(Mode::Repair, true), ["let the next boot start ssh.service"]);
    assert_eq!(with_mode(Mode::Repair, false), ["nothing"]);
    assert_eq!(with_mode(Mode::Report, true), ["nothing"]);
}

/// A full disk may be mounted in two places, and people know it by the one that the finding names.
#[test]
fn room_is_made_first_on_the_disk_that_the_finding_names() {
    let disk = |mount_point: &str, device, available| Disk {
        mount_point: mount_point.into(),
        device,
        total: 1 << 40,
        available,
        inodes_total: 0,
        inodes_free: 0,
        read_only: false,
    };
    let mut snapshot = input(Policy::Drop, vec![]);
    snapshot.resources.disks = vec![disk("/", 4, 1 << 39), disk("/var", 5, 0)];
    let own = disk("/var/lib/ssh-rescue", 5, 0);
    snapshot.resources.reserve = Some(Reserve { bytes: 1 << 20, disk: own.clone() });
    let told = |snapshot: &Snapshot| accepts(&asked(&[]), snapshot);
    let room = |place: &str| format!("free the 1024 KiB that are kept for this on the disk of {place}, which is full");
    assert_eq!(told(&snapshot), [room("/var"), "nft inet t in 0: both 22".to_owned()]);
    snapshot.resources.disks.pop();
    assert_eq!(told(&snapshot)[0], room("/var/lib/ssh-rescue"));
    snapshot.resources.reserve = Some(Reserve { bytes: 1 << 20, disk: disk("/var", 5, 1 << 39) });
    assert_eq!(told(&snapshot), ["nft inet t in 0: both 22"]);
}
