//! Bans by fail2ban: those of sources that the policy names are lifted through it.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Step, TableInserts};
use crate::facts::{
    AddrSet, Backend, Bytes, CmpOp, Element, ElementKey, Expr, Family, Firewall, PayloadBase, Rule, RuleRef, Seen,
    Snapshot, XtMatch, number,
};
use crate::judge::{Blocked, PathVerdict};

/// More addresses than these are not asked for one by one.
const LIMIT: usize = 64;
/// What its actions for nf_tables call their table, and the sets in it.
const TABLE: &str = "f2b-table";
const SETS: [&str; 2] = ["addr-set-", "addr6-set-"];
/// What its actions for iptables call a jail's chain or ipset.
const PREFIX: &str = "f2b-";

/// The step that lifts what one jail bars of `named`; None where that is nothing for fail2ban to be asked for.
pub fn lift(
    snapshot: &Snapshot,
    verdict: &PathVerdict,
    bar: &Blocked,
    named: &AddrSet,
    made: &[TableInserts],
) -> Option<Step> {
    if !snapshot.owners.fail2ban_running {
        return None;
    }
    let family = verdict.path.family;
    let of = |blocked: &Blocked| match blocked.by.neighbours {
        true => None,
        false => jail(&snapshot.firewall, blocked.by.rule_ref.as_ref()?, family),
    };
    let jail = of(bar)?;
    // An accept among the bans themselves was made where they were too many: what is left of them is not asked for.
    let among = chain(&jail);
    if made.iter().flat_map(|at| &at.inserts).any(|insert| insert.chain == among) {
        return None;
    }
    let mut barred = AddrSet::empty(family);
    for blocked in verdict.blocked.iter().filter(|b| of(b).as_ref() == Some(&jail)) {
        barred.union_with(&blocked.sources.intersection(named));
    }
    if barred.count() > LIMIT as u128 {
        return None;
    }
    let addresses = barred.ranges().flat_map(|(first, last)| first..=last).map(|n| family.address(n)).collect();
    Some(Step::Unban { jail, addresses })
}

/// The jail whose ban a rule is, by the names that fail2ban's own actions give.
fn jail(firewall: &Firewall, at: &RuleRef, family: Family) -> Option<String> {
    let rule = firewall.rule(at)?;
    let six = family == Family::Ipv6;
    let name = if *at.table == *TABLE {
        rule.sets().find_map(|set| set.strip_prefix(SETS[usize::from(six)]))
    } else if let Some(name) = at.chain.strip_prefix(PREFIX) {
        Some(name)
    } else {
        let name = ipset(firewall, rule)?.strip_prefix(PREFIX)?;
        if six { name.strip_suffix('6') } else { Some(name) }
    };
    name.filter(|name| is_jail(name)).map(str::to_owned)
}

/// Whoever may name a chain could say anything by it: it goes to the client only if it cannot be taken for anything else.
fn is_jail(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain)
}

fn ipset<'a>(firewall: &'a Firewall, rule: &Rule) -> Option<&'a str> {
    let index = rule.exprs.iter().find_map(|e| match e {
        Expr::XtMatch(XtMatch::Set { index, .. }) => Some(*index),
        _ => None,
    })?;
    firewall.ipsets.present()?.iter().find(|set| set.index == index).map(|set| set.name.as_str())
}

/// A jail's chain, or its ipset of IPv4.
fn chain(jail: &str) -> String {
    format!("{PREFIX}{jail}")
}

/// Takes the bans of a jail out of the model, as fail2ban's actions do.
pub fn lifted(firewall: &mut Firewall, jail: &str, addresses: &[IpAddr]) {
    let chain = chain(jail);
    let tables = [&mut firewall.legacy4, &mut firewall.legacy6].into_iter().filter_map(|seen| match seen {
        Seen::Present(rules) => Some(&mut rules.tables),
        _ => None,
    });
    let nft = match &mut firewall.nft {
        Seen::Present(rules) => Some(&mut rules.tables),
        _ => None,
    };
    for table in nft.into_iter().chain(tables).flatten() {
        for chain in table.chains.iter_mut().filter(|c| c.name == chain) {
            Arc::make_mut(&mut chain.rules)
                .retain(|rule| !addresses.iter().any(|address| is_about(rule, table.backend, *address)));
        }
        let of_jail = |name: &str| SETS.iter().any(|prefix| name.strip_prefix(prefix) == Some(jail));
        if table.name != TABLE || !table.sets.iter().any(|set| of_jail(&set.name)) {
            continue;
        }
        for set in Arc::make_mut(&mut table.sets).iter_mut().filter(|set| of_jail(&set.name)) {
            set.elements.retain(|element| !addresses.iter().any(|address| is_of(element, *address)));
        }
    }
    let Seen::Present(sets) = &mut firewall.ipsets else { return };
    let six = format!("{chain}6");
    for set in sets.iter_mut().filter(|set| set.name == chain || set.name == six) {
        let single = |address: &IpAddr| (number(*address), number(*address));
        set.members.retain(|member| {
            let of = |a: &IpAddr| Some(Family::of(*a)) == set.family && member.address == Some(single(a));
            !addresses.iter().any(of)
        });
    }
}

/// Whether a rule is for this source alone.
fn is_about(rule: &Rule, backend: Backend, address: IpAddr) -> bool {
    let family = Family::of(address);
    if backend == Backend::Legacy {
        return rule.exprs.iter().any(|e| match e {
            Expr::XtMatch(XtMatch::Header(header)) => {
                let src = &header.src;
                src.address == number(address) && src.mask == family.max() && !src.invert
            }
            _ => false,
        });
    }
    let at = if family == Family::Ipv6 { 8 } else { 12 };
    rule.exprs.windows(2).any(|pair| match pair {
        [Expr::Payload { dreg, base: PayloadBase::Network, offset, len }, Expr::Cmp { sreg, op: CmpOp::Eq, data }] => {
            dreg == sreg
                && (usize::try_from(*offset), usize::try_from(*len)) == (Ok(at), Ok(family.bytes()))
                && *data == octets(address)
        }
        _ => false,
    })
}

fn is_of(element: &Element, address: IpAddr) -> bool {
    let octets = octets(address);
    match &element.key {
        ElementKey::One(key) => *key == octets,
        ElementKey::Range(first, last) => *first == octets && *last == octets,
        ElementKey::Any => false,
    }
}

fn octets(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(address) => address.octets().as_slice().into(),
        IpAddr::V6(address) => address.octets().as_slice().into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::facts::*;
    use crate::judge::fixture::{healthy, nft, set};
    use crate::judge::judge;
    use crate::plan::{Decision, plan};

    const FOUR: &str = "10.9.9.9";
    const SIX: &str = "fd00:9::9";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn rule(exprs: Vec<Expr>) -> Rule {
        Rule { handle: None, comment: None, exprs }
    }

    /// The source address is in the register.
    fn source(of: IpAddr) -> Vec<Expr> {
        let (protocol, offset) = if of.is_ipv4() { (TableFamily::Ip, 12) } else { (TableFamily::Ip6, 8) };
        let len = octets(of).len().try_into().unwrap();
        vec![
            Expr::Meta { dreg: 0, key: MetaKey::Nfproto },
            Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: vec![protocol.nfproto()].into() },
            Expr::Payload { dreg: 0, base: PayloadBase::Network, offset, len },
        ]
    }

    fn banned(address: IpAddr) -> Rule {
        let cmp = Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: octets(address) };
        rule([source(address), vec![cmp, Expr::Verdict(Verdict::Drop)]].concat())
    }

    fn table(backend: Backend, family: TableFamily, name: &str, first: Rule, more: Vec<Chain>) -> Table {
        let base = BaseChain {
            hook: Hook::Input,
            kind: ChainKind::Filter,
            priority: 0,
            policy: Policy::Accept,
            devices: Vec::new(),
        };
        let input = Chain { name: "INPUT".into(), base: Some(base), rules: vec![first].into() };
        let chains = [vec![input], more].concat();
        Table { backend, family, name: name.into(), dormant: false, owner: None, chains, sets: Arc::default() }
    }

    /// iptables-multiport of iptables-nft: a chain for the jail, and a rule for each ban.
    fn by_chain(name: &str, bans: impl Iterator<Item = IpAddr>) -> Firewall {
        let bans = Chain { name: name.into(), base: None, rules: Arc::new(bans.map(banned).collect()) };
        let jump = rule(vec![Expr::Verdict(Verdict::Jump(name.into()))]);
        nft(vec![table(Backend::Nft, TableFamily::Ip, "filter", jump, vec![bans])])
    }

    /// The same of iptables-legacy.
    fn by_legacy_chain(name: &str, addresses: &[&str]) -> Firewall {
        let header = |src| Expr::XtMatch(XtMatch::Header(Box::new(XtHeader { src, ..XtHeader::default() })));
        let src = |address: &&str| Masked { address: number(ip(address)), mask: Family::Ipv4.max(), invert: false };
        let ban = |address| rule(vec![header(src(address)), Expr::XtTarget(XtTarget::Drop)]);
        let bans = Chain { name: name.into(), base: None, rules: addresses.iter().map(ban).collect::<Vec<_>>().into() };
        let jump = rule(vec![header(Masked::default()), Expr::XtTarget(XtTarget::Jump(name.into()))]);
        let tables = vec![table(Backend::Legacy, TableFamily::Ip, "filter", jump, vec![bans])];
        Firewall { legacy4: Seen::Present(LegacyRules { tables, raw: Arc::default() }), ..Firewall::none() }
    }

    /// nftables-multiport: one table for all jails, and a set for each.
    fn by_set(name: &str, addresses: &[&str]) -> Firewall {
        let keys = addresses.iter().map(|address| ElementKey::One(octets(ip(address))));
        by_set_of(TABLE, name, ip(addresses[0]), keys.collect())
    }

    fn by_set_of(table_name: &str, name: &str, address: IpAddr, keys: Vec<ElementKey>) -> Firewall {
        let lookup = Expr::Lookup { set: name.into(), sreg: 0, dreg: None, negate: false };
        let drop = rule([source(address), vec![lookup, Expr::Verdict(Verdict::Drop)]].concat());
        let mut table = table(Backend::Nft, TableFamily::Inet, table_name, drop, Vec::new());
        let element = |key| Element { key, data: None, exprs: Vec::new() };
        let elements = keys.into_iter().map(element).collect();
        Arc::make_mut(&mut table.sets).push(set(name, octets(address).len(), elements));
        nft(vec![table])
    }

    /// iptables-ipset: a set of the kernel for each jail and family.
    fn by_ipset(name: &str, addresses: &[&str]) -> Firewall {
        let family = Family::of(ip(addresses[0]));
        let found = XtMatch::Set { index: 3, dirs: vec![true], invert: false, extra: false };
        let drop = rule(vec![Expr::XtMatch(found), Expr::Verdict(Verdict::Drop)]);
        let single = |address: &&str| Some((number(ip(address)), number(ip(address))));
        let member = |address| IpSetMember { address: single(address), ..IpSetMember::default() };
        let set = IpSet {
            name: name.into(),
            index: 3,
            type_name: "hash:ip".into(),
            family: Some(family),
            members: addresses.iter().map(member).collect(),
            opaque: None,
        };
        let of = if family == Family::Ipv6 { TableFamily::Ip6 } else { TableFamily::Ip };
        let rules = nft(vec![table(Backend::Nft, of, "filter", drop, Vec::new())]);
        Firewall { ipsets: Seen::Present(vec![set]), ..rules }
    }

    /// What is planned where the policy names 10.0.0.0/8 and fd00:9::/64.
    fn steps(firewall: Firewall, running: bool) -> Vec<Step> {
        let mut policy = crate::policy::Policy::default();
        policy.ssh.sources = Some(vec!["10.0.0.0/8".parse().unwrap(), "fd00:9::/64".parse().unwrap()]);
        let mut snapshot = Snapshot { firewall, ..healthy() };
        snapshot.owners.fail2ban_running = running;
        match plan(&policy, &snapshot, &judge(&policy, &snapshot), "test") {
            Decision::Repair(plan) => plan.steps,
            decision => panic!("{decision:?}"),
        }
    }

    fn unban(addresses: impl Iterator<Item = IpAddr>) -> Step {
        Step::Unban { jail: "sshd".into(), addresses: addresses.collect() }
    }

    #[test]
    fn a_ban_of_a_trusted_source_is_lifted_in_each_form_of_it() {
        let one = |address: &str| vec![unban([ip(address)].into_iter())];
        assert_eq!(steps(by_chain("f2b-sshd", [ip(FOUR)].into_iter()), true), one(FOUR));
        assert_eq!(steps(by_legacy_chain("f2b-sshd", &[FOUR]), true), one(FOUR));
        assert_eq!(steps(by_set("addr-set-sshd", &[FOUR]), true), one(FOUR));
        assert_eq!(steps(by_set("addr6-set-sshd", &[SIX]), true), one(SIX));
        assert_eq!(steps(by_ipset("f2b-sshd", &[FOUR]), true), one(FOUR));
        assert_eq!(steps(by_ipset("f2b-sshd6", &[SIX]), true), one(SIX));
    }

    fn without(mut firewall: Firewall, address: &str) -> String {
        lifted(&mut firewall, "sshd", &[ip(address)]);
        format!("{firewall:?}")
    }

    /// Were the model to lose more than fail2ban takes away, a source that stays barred would be held to be let in.
    #[test]
    fn what_is_lifted_takes_away_that_ban_and_no_other() {
        const OTHER: &str = "10.9.9.10";
        const OTHER_SIX: &str = "fd00:9::10";
        let told = |firewall: Firewall| format!("{firewall:?}");
        let bans = |name: &str, of: &[&str]| by_chain(name, of.iter().map(|a| ip(a)).collect::<Vec<_>>().into_iter());
        assert_eq!(without(bans("f2b-sshd", &[FOUR, OTHER]), FOUR), told(bans("f2b-sshd", &[OTHER])));
        let legacy = |of: &[&str]| by_legacy_chain("f2b-sshd", of);
        assert_eq!(without(legacy(&[FOUR, OTHER]), FOUR), told(legacy(&[OTHER])));
        for (name, one, other) in [("addr-set-sshd", FOUR, OTHER), ("addr6-set-sshd", SIX, OTHER_SIX)] {
            assert_eq!(without(by_set(name, &[one, other]), one), told(by_set(name, &[other])));
        }
        for (name, one, other) in [("f2b-sshd", FOUR, OTHER), ("f2b-sshd6", SIX, OTHER_SIX)] {
            assert_eq!(without(by_ipset(name, &[one, other]), one), told(by_ipset(name, &[other])));
        }
        // Bans of the same address that another jail, or somebody else, has made.
        let ranges = |keys: &[(&str, &str)]| {
            let range = |(first, last): &(&str, &str)| ElementKey::Range(octets(ip(first)), octets(ip(last)));
            by_set_of(TABLE, "addr-set-sshd", ip(FOUR), keys.iter().map(range).collect())
        };
        let wider = [("10.9.9.9", "10.9.9.255"), ("10.9.9.0", "10.9.9.9"), ("10.9.9.10", "10.9.9.10")];
        let all = [&wider[..], &[(FOUR, FOUR)]].concat();
        assert_eq!(without(ranges(&all), FOUR), told(ranges(&wider)), "ranges that the address is in");
        let mine = || by_set_of("mine", "addr-set-sshd", ip(FOUR), vec![ElementKey::One(octets(ip(FOUR)))]);
        for another in [bans("f2b-recidive", &[FOUR]), by_set("addr-set-recidive", &[FOUR]), mine()] {
            assert_eq!(without(another.clone(), FOUR), told(another));
        }
        // A rule about where packets go to is no ban of whom they come from.
        let mut onward = banned(ip(FOUR));
        let Expr::Payload { offset, .. } = &mut onward.exprs[2] else { panic!("{onward:?}") };
        *offset = 16;
        let chain = Chain { name: "f2b-sshd".into(), base: None, rules: vec![onward].into() };
        let first = rule(vec![Expr::Verdict(Verdict::Jump("f2b-sshd".into()))]);
        let onwards = nft(vec![table(Backend::Nft, TableFamily::Ip, "filter", first, vec![chain])]);
        assert_eq!(without(onwards.clone(), FOUR), told(onwards));
    }

    #[test]
    fn each_jail_that_bars_a_trusted_source_is_asked() {
        let (Seen::Present(one), Seen::Present(two)) =
            (by_set("addr-set-sshd", &[FOUR]).nft, by_set("addr-set-recidive", &[FOUR]).nft)
        else {
            panic!("no rules")
        };
        let (mut first, second) = (one.tables[0].clone(), &two.tables[0]);
        let rules = [&first.chains[0].rules[..], &second.chains[0].rules[..]].concat();
        first.chains[0].rules = rules.into();
        Arc::make_mut(&mut first.sets).extend(second.sets.iter().cloned());
        let jails: Vec<String> = steps(nft(vec![first]), true)
            .into_iter()
            .map(|step| match step {
                Step::Unban { jail, .. } => jail,
                step => panic!("{step:?}"),
            })
            .collect();
        assert_eq!(jails, ["sshd", "recidive"]);
    }

    #[test]
    fn only_whom_the_policy_names_is_unbanned_and_all_of_them_at_once() {
        let bans = ["203.0.113.9", "10.0.0.2", "198.51.100.7", "10.0.0.1"].map(ip);
        let trusted = ["10.0.0.1", "10.0.0.2"].map(ip);
        assert_eq!(steps(by_chain("f2b-sshd", bans.into_iter()), true), [unban(trusted.into_iter())]);
    }

    #[test]
    fn without_fail2ban_or_with_too_many_bans_an_accept_is_planned() {
        let asks = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Unban { .. }));
        let first = number(ip("10.0.1.0"));
        let many = |count: u128| (first..first + count).map(|n| Family::Ipv4.address(n));
        let most = LIMIT as u128;
        assert_eq!(steps(by_chain("f2b-sshd", many(most)), true), [unban(many(most))]);
        for steps in [steps(by_chain("f2b-sshd", many(most + 1)), true), steps(by_set("addr-set-sshd", &[FOUR]), false)]
        {
            assert!(!steps.is_empty() && !asks(&steps), "{steps:?}");
        }
    }

    #[test]
    fn a_name_that_could_mean_something_else_to_the_client_is_no_jail() {
        let long = "x".repeat(65);
        for name in ["", "-h", "--str2sec", "a b", "a;b", "a\nb", "a\0b", "../a", "j\u{e4}il", &long] {
            for firewall in [
                by_chain(&format!("f2b-{name}"), [ip(FOUR)].into_iter()),
                by_set(&format!("addr-set-{name}"), &[FOUR]),
                by_ipset(&format!("f2b-{name}"), &[FOUR]),
            ] {
                let steps = steps(firewall, true);
                assert!(
                    steps.iter().all(|s| matches!(s, Step::Iptables { .. } | Step::Nft { .. })),
                    "{name:?}: {steps:?}"
                );
            }
        }
        assert!(["sshd", "sshd-ddos", "a_b.c", "0"].into_iter().all(is_jail));
    }
}
