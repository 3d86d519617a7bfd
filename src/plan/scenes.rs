//! What is planned for a host, in its own words: one scene after the other, and what would be written.

use std::net::IpAddr;

use super::{Accept, Decision, Declined, Step, TableInserts, Traffic, accept, plan};
use crate::facts::{Policy, *};
use crate::judge::fixture::{filter, healthy, nft, table};
use crate::judge::judge;
use crate::policy::{Mode, Policy as Asked, Strategy};

mod boot;
mod least;

const DROP: Expr = Expr::Verdict(Verdict::Drop);
const ID: &str = "test";

fn four(address: [u8; 4], then: Expr) -> Vec<Expr> {
    vec![
        Expr::Meta { dreg: 0, key: MetaKey::Nfproto },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![2].into() },
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset: 12, len: 4 },
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: address.to_vec().into() },
        then,
    ]
}

fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.into()))]
}

fn hook(name: &str, hook: Hook, policy: Policy, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.into(), ..filter(hook, policy, rules) }
}

fn chain(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { base: None, ..hook(name, Hook::Input, Policy::Accept, rules) }
}

fn of(family: TableFamily, name: &str, chains: Vec<Chain>) -> Table {
    Table { family, name: name.into(), ..table(chains, Vec::new()) }
}

fn with(tables: Vec<Table>) -> Snapshot {
    Snapshot { firewall: nft(tables), ..healthy() }
}

fn input(policy: Policy, rules: Vec<Vec<Expr>>) -> Snapshot {
    with(vec![of(TableFamily::Inet, "t", vec![hook("in", Hook::Input, policy, rules)])])
}

/// The tables that iptables-nft (or legacy) has of one filter chain in each family.
fn iptables(backend: Backend, chains: &dyn Fn(TableFamily) -> Vec<Chain>) -> Snapshot {
    let table = |family| Table { backend, ..of(family, "filter", chains(family)) };
    let (ip, ip6) = (table(TableFamily::Ip), table(TableFamily::Ip6));
    match backend {
        Backend::Nft => with(vec![ip, ip6]),
        Backend::Legacy => {
            let rules = |table| Seen::Present(LegacyRules { tables: vec![table], raw: Default::default() });
            let firewall = Firewall { legacy4: rules(ip), legacy6: rules(ip6), ..Firewall::none() };
            Snapshot { firewall, ..healthy() }
        }
    }
}

fn drops(_: TableFamily) -> Vec<Chain> {
    vec![hook("INPUT", Hook::Input, Policy::Drop, vec![])]
}

/// ufw's chains; `hooked`: INPUT leads to them.
fn ufw(hooked: bool) -> Snapshot {
    let chains = |family| {
        let user = if family == TableFamily::Ip { "ufw-user-input" } else { "ufw6-user-input" };
        let rules = if hooked { vec![jump(user)] } else { Vec::new() };
        vec![hook("INPUT", Hook::Input, Policy::Drop, rules), chain(user, vec![])]
    };
    let mut snapshot = iptables(Backend::Nft, &chains);
    snapshot.owners.ufw = Seen::Present(Ufw { enabled: true, ipv6: true, command: true });
    snapshot
}

fn firewalld(tables: Vec<Table>) -> Snapshot {
    let mut snapshot = with(tables);
    snapshot.owners.firewalld = Seen::Present(Firewalld {
        version: "1.3".into(),
        state: "RUNNING".into(),
        panic: false,
        lockdown: false,
        default_zone: "public".into(),
        interface_zones: vec![("eth1".into(), "trusted".into()), ("eth0".into(), "dmz".into())],
        source_zones: Vec::new(),
        zones: Vec::new(),
    });
    snapshot
}

fn of_zone() -> Snapshot {
    let rules = vec![jump("filter_IN_dmz"), vec![DROP]];
    let inside = chain("filter_IN_dmz", vec![jump("filter_IN_dmz_allow")]);
    let chains =
        vec![hook("filter_INPUT", Hook::Input, Policy::Accept, rules), inside, chain("filter_IN_dmz_allow", vec![])];
    firewalld(vec![of(TableFamily::Inet, "firewalld", chains)])
}

/// The same by iptables' tables.
fn of_zone_by_iptables() -> Snapshot {
    let table = |family| {
        let chains = vec![
            hook("INPUT", Hook::Input, Policy::Accept, vec![jump("INPUT_ZONES"), vec![DROP]]),
            chain("INPUT_ZONES", vec![jump("IN_dmz_allow")]),
            chain("IN_dmz_allow", vec![]),
        ];
        of(family, "filter", chains)
    };
    firewalld(vec![table(TableFamily::Ip), table(TableFamily::Ip6)])
}

fn hosts(allow: &str, deny: &str) -> Snapshot {
    let file = |path: &str, text: &str| Seen::Present(TextFile { path: path.into(), bytes: text.into() });
    let mut snapshot = healthy();
    snapshot.wrappers.allow = file("/etc/hosts.allow", allow);
    snapshot.wrappers.deny = file("/etc/hosts.deny", deny);
    snapshot
}

fn asked(sources: &[&str]) -> Asked {
    let mut policy = Asked::default();
    policy.ssh.sources = (!sources.is_empty()).then(|| sources.iter().map(|s| s.parse().unwrap()).collect());
    policy
}

fn changed(mut policy: Asked, change: impl FnOnce(&mut Asked)) -> Asked {
    change(&mut policy);
    policy
}

/// What is done, what would be written, and what is declined.
fn told(policy: &Asked, snapshot: &Snapshot) -> String {
    let declined = |all: &[Declined]| all.iter().map(|d| format!("  not {}: {}\n", d.code, d.why)).collect::<String>();
    match plan(policy, snapshot, &judge(policy, snapshot), ID) {
        Decision::Healthy => "  nothing\n".to_owned(),
        Decision::Refuse(all) => declined(&all),
        Decision::Repair(plan) => {
            let mut text = String::new();
            for step in &plan.steps {
                step.words().iter().for_each(|words| text.push_str(&format!("  {words}\n")));
                if let Step::WriteFile { path, content, .. } = step {
                    text.push_str(&format!("  {}: {:?}\n", path.display(), String::from_utf8_lossy(content)));
                }
                if let Step::UfwAllow { model, .. } | Step::FirewalldAllow { model, .. } = step {
                    for TableInserts { family, table, inserts, .. } in model {
                        let chains: Vec<_> =
                            inserts.iter().map(|i| format!("{} {}", i.chain, i.accept.words())).collect();
                        text.push_str(&format!("    in {family} {table}: {}\n", chains.join("; ")));
                    }
                }
            }
            text + &declined(&plan.declined)
        }
    }
}

#[test]
fn a_host_is_mended_in_these_words() {
    let anybody = || asked(&[]);
    let named = || asked(&["198.51.100.7/32", "10.0.0.0/8", "2001:db8:1::/48"]);
    let many: Vec<String> = (0..41).map(|n| format!("10.{n}.0.0/16")).collect();
    let many = asked(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut foreign = input(Policy::Drop, vec![]);
    let Seen::Present(rules) = &mut foreign.firewall.nft else { panic!("no rules") };
    rules.tables[0].owner = Some(77);
    let mut unread = hosts("", "ALL: ALL\n");
    unread.wrappers.allow = Seen::Unreadable("open /etc/hosts.allow: permission denied".into());
    let mut absent = hosts("", "ALL: ALL\n");
    absent.wrappers.allow = Seen::Absent;
    let mut panic = firewalld(vec![]);
    panic.firewall = input(Policy::Drop, vec![]).firewall;
    let Seen::Present(running) = &mut panic.owners.firewalld else { panic!("no firewalld") };
    running.panic = true;
    let by_hand = || {
        let mut snapshot = ufw(true);
        let Seen::Present(rules) = &mut snapshot.firewall.nft else { panic!("no rules") };
        for table in &mut rules.tables {
            let rules = vec![four([203, 0, 113, 9], DROP), vec![DROP]];
            table.chains[0] = hook("INPUT", Hook::Input, Policy::Accept, rules);
        }
        snapshot
    };
    let scenes: Vec<(&str, Asked, Snapshot)> = vec![
        ("nothing is the matter", anybody(), healthy()),
        ("a policy that drops both families", anybody(), input(Policy::Drop, vec![])),
        ("a rule that drops", anybody(), input(Policy::Accept, vec![vec![Expr::Counter], vec![DROP]])),
        ("the same after a ban", anybody(), input(Policy::Accept, vec![four([203, 0, 113, 9], DROP), vec![DROP]])),
        (
            "the answer is dropped",
            anybody(),
            with(vec![of(TableFamily::Inet, "t", vec![hook("out", Hook::Output, Policy::Drop, vec![])])]),
        ),
        ("one family of iptables", anybody(), with(vec![of(TableFamily::Ip, "filter", drops(TableFamily::Ip))])),
        ("both families of iptables", anybody(), iptables(Backend::Nft, &drops)),
        ("both families of iptables-legacy", anybody(), iptables(Backend::Legacy, &drops)),
        (
            "tables of native rules, one a family",
            anybody(),
            with(vec![
                of(TableFamily::Ip, "a", vec![hook("in", Hook::Input, Policy::Drop, vec![])]),
                of(TableFamily::Ip6, "a", vec![hook("in", Hook::Input, Policy::Drop, vec![])]),
            ]),
        ),
        ("named sources", named(), input(Policy::Drop, vec![])),
        ("named sources, by iptables-legacy", named(), iptables(Backend::Legacy, &drops)),
        ("one of the named is banned", named(), input(Policy::Accept, vec![four([198, 51, 100, 7], DROP)])),
        ("a disk", anybody(), Snapshot { at_rest: true, ..input(Policy::Drop, vec![]) }),
        ("somebody else's table", anybody(), foreign),
        ("only reported", changed(anybody(), |p| p.firewall.mode = Mode::Report), input(Policy::Drop, vec![])),
        (
            "nothing but a flush",
            changed(anybody(), |p| p.firewall.strategy = Strategy::Flush),
            input(Policy::Drop, vec![]),
        ),
        ("ufw is asked", anybody(), ufw(true)),
        ("ufw is asked for those who are named", named(), ufw(true)),
        (
            "ufw is asked for an interface",
            changed(anybody(), |p| p.ssh.interfaces = Some(vec!["eth0".into()])),
            ufw(true),
        ),
        ("ufw was flushed", anybody(), ufw(false)),
        ("somebody's rule where ufw is", anybody(), by_hand()),
        ("ufw is not enabled", anybody(), {
            let mut snapshot = ufw(true);
            snapshot.owners.ufw = Seen::Present(Ufw { enabled: false, ipv6: true, command: true });
            snapshot
        }),
        ("ufw cannot be spoken to", anybody(), {
            let mut snapshot = ufw(true);
            snapshot.owners.ufw = Seen::Present(Ufw { enabled: true, ipv6: true, command: false });
            snapshot
        }),
        ("firewalld is asked", anybody(), of_zone()),
        ("firewalld is asked for those who are named", named(), of_zone()),
        ("firewalld keeps tables of iptables", named(), of_zone_by_iptables()),
        ("firewalld runs, and the table is another's", anybody(), {
            let mut snapshot = of_zone();
            snapshot.firewall = input(Policy::Drop, vec![]).firewall;
            snapshot
        }),
        ("firewalld in panic", anybody(), panic.clone()),
        ("firewalld in panic, which may be ended", changed(anybody(), |p| p.firewall.panic = Mode::Repair), panic),
        ("wrappers deny everybody", anybody(), hosts("# who\n", "ALL: ALL\n")),
        ("there is no hosts.allow", anybody(), absent),
        ("wrappers deny one family", anybody(), hosts("", "ALL: 0.0.0.0/0.0.0.0\n")),
        ("wrappers deny the other", anybody(), hosts("", "ALL: [::]/0\n")),
        ("wrappers deny those who are named", named(), hosts("", "ALL: ALL\n")),
        ("bans stay", anybody(), hosts("", "ALL: 203.0.113.9 [2001:db8::9]\nALL: ALL\n")),
        ("a last line without its end", anybody(), hosts("# who\nsshd: ALL", "ALL: ALL\n")),
        ("blanks after the last line", anybody(), hosts("# who\n  ", "ALL: ALL\n")),
        ("the first line of hosts.allow denies", named(), hosts("sshd: ALL : deny\n", "")),
        ("the third line of hosts.allow denies", named(), hosts("# a\n# b\nsshd: ALL : deny\n# c\n", "")),
        ("two lines of hosts.allow deny", named(), hosts("# a\nsshd: 10. : deny\nsshd: ALL : deny\n", "")),
        ("hosts.allow cannot be read", anybody(), unread),
        ("more than fit into a line", many, hosts("", "ALL: ALL\n")),
        ("wrappers only reported", changed(anybody(), |p| p.wrappers.mode = Mode::Report), hosts("", "ALL: ALL\n")),
        (
            "nobody listens, and it is only reported",
            changed(anybody(), |p| p.sshd.mode = Mode::Report),
            Snapshot { listeners: Seen::Present(Vec::new()), ..healthy() },
        ),
        (
            "nobody can know whom to let in",
            anybody(),
            with(vec![
                of(
                    TableFamily::Ip,
                    "a",
                    vec![hook(
                        "in",
                        Hook::Input,
                        Policy::Drop,
                        vec![four([10, 0, 0, 1], Expr::Verdict(Verdict::Accept))],
                    )],
                ),
                of(TableFamily::Ip6, "a", vec![hook("in", Hook::Input, Policy::Drop, vec![])]),
            ]),
        ),
        (
            "what is not known is left alone",
            anybody(),
            input(Policy::Accept, vec![vec![Expr::XtMatch(XtMatch::Unknown { name: "bpf".into() }), DROP]]),
        ),
        ("sources of one family for each of two tables", asked(&["10.0.0.0/8"]), iptables(Backend::Nft, &drops)),
    ];
    let text: String =
        scenes.iter().map(|(name, policy, snapshot)| format!("# {name}\n{}", told(policy, snapshot))).collect();
    insta::assert_snapshot!(text);
}

#[test]
fn the_mask_of_an_accept_is_that_of_its_source() {
    let accept = |source: &str| Accept {
        traffic: Traffic::Ssh,
        family: None,
        source: Some(source.parse().unwrap()),
        port: 22,
        interface: None,
        answer: false,
        after: Vec::new(),
    };
    for (source, mask) in [
        ("10.0.0.0/8", 0xff00_0000),
        ("198.51.100.7/32", 0xffff_ffff),
        ("0.0.0.0/0", 0),
        ("2001:db8::/32", 0xffff_ffff_u128 << 96),
        ("::/0", 0),
    ] {
        let of = accept(source);
        let exprs = of.xt(&of.deeds()[0]);
        let Expr::XtMatch(XtMatch::Header(header)) = &exprs[0] else { panic!("{exprs:?}") };
        let src = &header.src;
        let net: IpAddr = source.split('/').next().unwrap().parse().unwrap();
        assert_eq!((src.address, src.mask, src.invert), (number(net), mask, false), "{source}");
        let masks = accept::rules(&of, ID, TableFamily::Inet, false)[0]
            .exprs
            .iter()
            .filter(|e| matches!(e, Expr::Bitwise { op: BitwiseOp::MaskXor { .. }, .. }))
            .count();
        assert_eq!(masks, usize::from(!source.ends_with("/32") || source.contains(':')), "{source}");
    }
}
