//! Neighbour discovery (RFC 4861): by IPv6 whoever on the link sends to the host, the router too, asks for its link-layer
//! address first.

use std::net::{IpAddr, Ipv6Addr};

use super::hooks::Hooks;
use super::route::link;
use super::walk::Walk;
use super::{Met, Rules, verdict};
use crate::facts::{AddrSet, Family, Firewall, Net, number};
use crate::judge::{Blame, Blocked, Doubtful, Open, Path, PathVerdict};

/// What the rules do to those who ask for the host on the path's link.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// What surely keeps every one of them from finding it.
    pub lost: Option<Blame>,
    /// Of whom that is not sure. A router asks for those behind it, those on the link ask themselves.
    pub doubtful: Vec<Doubtful>,
}

impl<'a> Rules<'a> {
    /// Asks for the host as its neighbours do: at the address's solicited-node multicast address, or, as one that has found it
    /// before, at the address itself. It is enough that one of the two is answered. What the host asks by itself is not looked at:
    /// the question of a neighbour tells it that neighbour's address.
    pub fn neighbours(&'a self, net: &'a Net, path: &'a Path) -> Neighbours {
        if !has_neighbours(net, path) {
            return Neighbours::default();
        }
        let all = on_link(net, path);
        let ask = |asked| discovery(self, net, path, &all, asked, false).1;
        let [multicast, unicast] = asked(path);
        let first = ask(multicast);
        if first.admitted == all {
            return Neighbours::default();
        }
        let second = ask(unicast);
        let lost = first.blocked_sources().intersection(&second.blocked_sources());
        if lost == all {
            return Neighbours { lost: widest(&first.blocked), doubtful: Vec::new() };
        }
        let answered = first.admitted.union(&second.admitted);
        let asks = Asks { first: &first, second: &second, lost: &lost, answered: &answered };
        let (routers, themselves) = (link_local(), all.minus(&link_local()));
        let everybody = AddrSet::full(path.family);
        let mut doubtful = Vec::new();
        if answered.is_empty() {
            doubtful.extend(asks.open(&all).map(|open| open.about(everybody)));
        } else {
            if !answered.intersects(&routers) {
                let dropped =
                    asks.dropped(&routers, "the question of a router, from a link-local address, is not answered");
                doubtful.extend(asks.open(&routers).or(dropped).map(|open| open.about(everybody.minus(&all))));
            }
            let dropped = asks.dropped(&themselves, "only a router's question is answered, not their own");
            // The host's own addresses, which are nobody's there, would make holes in a prefix that is in doubt as a whole.
            let whole = |d: Doubtful| if d.open.sources == themselves { d.about(prefixes(net, path)) } else { d };
            doubtful.extend([asks.open(&themselves), dropped].into_iter().flatten().map(whole));
        }
        Neighbours { lost: None, doubtful }
    }
}

/// What became of both ways to ask.
struct Asks<'a> {
    first: &'a PathVerdict,
    second: &'a PathVerdict,
    lost: &'a AddrSet,
    answered: &'a AddrSet,
}

impl Asks<'_> {
    /// Those among `some` who are neither surely answered nor surely lost: on a condition, if one of the ways has one.
    fn open(&self, some: &AddrSet) -> Option<Doubtful> {
        let open = some.minus(self.lost).minus(self.answered);
        let both = [self.first, self.second];
        let conditional = both.iter().flat_map(|v| &v.conditional).map(|o| (false, o));
        let unknown = both.iter().flat_map(|v| &v.unknown).map(|o| (true, o));
        let (unknown, why) = conditional.chain(unknown).find(|(_, o)| o.sources.intersects(&open))?;
        Some(Doubtful { unknown, open: Open::new(open, why.reason.clone(), why.by.clone()) })
    }

    /// Those among `some` who are surely lost, where others are answered.
    fn dropped(&self, some: &AddrSet, reason: &str) -> Option<Doubtful> {
        let lost = some.intersection(self.lost);
        let by = self.first.blocked.iter().find(|b| b.sources.intersects(&lost)).map(|b| about_neighbours(&b.by))?;
        Some(Doubtful { unknown: false, open: Open::new(lost, reason.to_owned(), by) })
    }
}

impl Doubtful {
    fn about(self, sources: AddrSet) -> Doubtful {
        Doubtful { open: Open { sources, ..self.open }, ..self }
    }
}

fn widest(blocked: &[Blocked]) -> Option<Blame> {
    blocked.iter().max_by_key(|b| b.sources.count()).map(|b| about_neighbours(&b.by))
}

fn about_neighbours(by: &Blame) -> Blame {
    Blame { neighbours: true, ..by.clone() }
}

/// The way of one neighbour's question and of its answer, in the way to ask that leads further. None where nobody asks.
pub fn trace_neighbour(
    firewall: &Firewall,
    net: &Net,
    path: &Path,
    neighbour: IpAddr,
) -> Option<(Vec<Met>, PathVerdict)> {
    if !has_neighbours(net, path) {
        return None;
    }
    let one = AddrSet::single(neighbour);
    let rules = Rules::of(firewall);
    let [multicast, unicast] = asked(path).map(|asked| discovery(&rules, net, path, &one, asked, true));
    let rank = |verdict: &PathVerdict| (!verdict.admitted.is_empty(), verdict.blocked.is_empty());
    Some(if rank(&unicast.1) > rank(&multicast.1) { unicast } else { multicast })
}

/// Who asks for the host when this source sends to it: itself, if it is on the link, else a router.
pub fn asker(net: &Net, path: &Path, source: IpAddr) -> IpAddr {
    if on_link(net, path).contains(source) {
        return source;
    }
    let routes = net.routes.present().into_iter().flatten();
    let gateways = routes.filter(|r| r.interfaces.contains(&path.ifindex)).filter_map(|r| r.gateway);
    // It asks from a link-local address, which only some routes tell.
    let mut known = gateways.filter(|g| link_local().contains(*g));
    let some = |n| IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n));
    let any = || (1..=2).map(some).find(|a| on_link(net, path).contains(*a));
    known.next().or_else(any).unwrap_or(source)
}

/// Whether somebody must ask for the host before a packet comes to it.
pub fn has_neighbours(net: &Net, path: &Path) -> bool {
    const ETHERNET: u16 = 1;
    path.family == Family::Ipv6 && link(net, path.ifindex).is_some_and(|l| l.arp && l.kind == ETHERNET)
}

fn asked(path: &Path) -> [u128; 2] {
    let own = number(path.address);
    [solicited_node(own), own]
}

fn discovery<'a>(
    rules: &'a Rules<'a>,
    net: &'a Net,
    path: &'a Path,
    neighbours: &AddrSet,
    asked: u128,
    traced: bool,
) -> (Vec<Met>, PathVerdict) {
    let mut walk = Walk::new(rules, net, path, &[]);
    walk.trace = traced.then(Vec::new);
    Hooks::new(rules).discovery(&mut walk, neighbours.clone(), asked);
    (walk.trace.take().unwrap_or_default(), verdict(path, neighbours, walk.ends))
}

fn link_local() -> AddrSet {
    AddrSet::range(Family::Ipv6, 0xfe80 << 112, (0xfec0 << 112) - 1)
}

/// Addresses that a neighbour may ask from: link-local ones, and those of the prefixes on the link.
fn on_link(net: &Net, path: &Path) -> AddrSet {
    let mut own = AddrSet::empty(Family::Ipv6);
    for address in net.addresses.present().into_iter().flatten().filter(|a| a.address.is_ipv6()) {
        own.union_with(&AddrSet::single(address.address));
    }
    link_local().union(&prefixes(net, path)).minus(&own)
}

/// Of the host's addresses on the link.
fn prefixes(net: &Net, path: &Path) -> AddrSet {
    let addresses = net.addresses.present().into_iter().flatten();
    let on_link = addresses.filter(|a| a.address.is_ipv6() && a.interface == path.ifindex);
    let mut set = AddrSet::empty(Family::Ipv6);
    for net in on_link.filter_map(|a| ipnet::IpNet::new(a.address, a.prefix).ok()) {
        set.union_with(&AddrSet::net(net.trunc()));
    }
    set.minus(&link_local())
}

/// ff02::1:ffXX:XXXX (RFC 4291 2.7.1)
fn solicited_node(address: u128) -> u128 {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    PREFIX | address & 0xff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::*;
    use crate::judge::fixture::{filter, healthy, nft, table};
    use crate::judge::{Standing, judge, judge_ruleset, paths};
    use crate::plan::accept::{Deed, rules};
    use crate::plan::{Accept, Decision, Traffic, plan, words};
    use crate::policy::Policy as Asked;

    const DROP: Expr = Expr::Verdict(Verdict::Drop);
    const ACCEPT: Expr = Expr::Verdict(Verdict::Accept);
    /// The uplink's prefix in the fixture.
    const ON_LINK: &str = "2001:db8::/64";

    fn equal(data: &[u8]) -> Expr {
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.into() }
    }

    fn protocol(number: u8) -> Vec<Expr> {
        vec![Expr::Meta { dreg: 0, key: MetaKey::L4Proto }, equal(&[number])]
    }

    fn network(offset: u32, len: u32) -> Expr {
        Expr::Payload { dreg: 0, base: PayloadBase::Network, offset, len }
    }

    /// One chain of table `inet t` (without rules of legacy) on a host whose uplink has neighbours.
    fn host(hook: Hook, policy: Policy, exprs: Vec<Vec<Expr>>) -> Snapshot {
        let mut snapshot = healthy();
        let Seen::Present(links) = &mut snapshot.net.links else { panic!("no links") };
        links[0].arp = true;
        snapshot.firewall = nft(vec![table(vec![filter(hook, policy, exprs)], Vec::new())]);
        snapshot
    }

    fn path(snapshot: &Snapshot) -> Path {
        paths(&Asked::default(), &snapshot.net).into_iter().find(|p| p.family == Family::Ipv6).unwrap()
    }

    fn found(snapshot: &Snapshot) -> Option<Blame> {
        Rules::of(&snapshot.firewall).neighbours(&snapshot.net, &path(snapshot)).lost
    }

    /// Whether it is not known at all, who is in doubt and why.
    fn doubtful(snapshot: &Snapshot) -> Vec<(bool, String, String)> {
        let (rules, path) = (Rules::of(&snapshot.firewall), path(snapshot));
        let found = rules.neighbours(&snapshot.net, &path);
        found.doubtful.into_iter().map(|d| (d.unknown, d.open.sources.to_string(), d.open.reason)).collect()
    }

    fn tcp_and(mut more: Vec<Vec<Expr>>) -> Snapshot {
        let mut ssh = protocol(6);
        ssh.push(ACCEPT);
        more.insert(0, ssh);
        host(Hook::Input, Policy::Drop, more)
    }

    #[test]
    fn only_a_sure_drop_keeps_neighbours_away() {
        let by = found(&tcp_and(vec![])).unwrap();
        assert_eq!((&*by.place, by.position, by.neighbours), ("inet t c", None, true));
        assert_eq!(found(&host(Hook::Input, Policy::Accept, vec![])), None);
        let answers = found(&host(Hook::Output, Policy::Drop, vec![])).unwrap();
        assert_eq!(answers.hook, Some(Hook::Output));
        let state = |bits: u32| {
            let mask = BitwiseOp::MaskXor { mask: bits.to_ne_bytes().as_slice().into(), xor: vec![0; 4].into() };
            vec![
                Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
                Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op: mask },
                Expr::Cmp { sreg: 0, op: CmpOp::Neq, data: vec![0; 4].into() },
                ACCEPT,
            ]
        };
        assert!(found(&tcp_and(vec![state(2 | 4)])).is_some(), "established,related");
        assert_eq!(found(&tcp_and(vec![state(64)])), None, "untracked");
        let kind = |kind: u8, more: Vec<Expr>| {
            let mut exprs = protocol(58);
            exprs.extend([Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 0, len: 1 }, equal(&[kind])]);
            exprs.extend(more);
            exprs
        };
        assert_eq!(found(&tcp_and(vec![kind(135, vec![ACCEPT])])), None);
        assert!(found(&tcp_and(vec![kind(128, vec![ACCEPT])])).is_some(), "echo requests alone");
        let from_link = vec![network(8, 2), equal(&[0xfe, 0x80]), ACCEPT];
        assert_eq!(found(&tcp_and(vec![kind(135, from_link)])), None, "link-local sources alone");
        let to_all = vec![network(24, 1), equal(&[0xff]), ACCEPT];
        assert_eq!(found(&tcp_and(vec![kind(135, to_all)])), None, "multicast alone");
        let near = |hops: u8| kind(135, vec![network(7, 1), equal(&[hops]), ACCEPT]);
        assert_eq!(found(&tcp_and(vec![near(255)])), None);
        assert!(found(&tcp_and(vec![near(64)])).is_some(), "another hop limit");
        let slowly = kind(135, vec![Expr::Limit { over: false, text: "5/second".into() }, ACCEPT]);
        assert_eq!(found(&tcp_and(vec![slowly])), None, "a rate");
        let strange = vec![Expr::Unknown { name: "strange".into() }, ACCEPT];
        assert_eq!(found(&tcp_and(vec![strange])), None, "not modelled");
        let by = found(&host(Hook::Input, Policy::Accept, vec![[protocol(58), vec![DROP]].concat()])).unwrap();
        assert_eq!(by.position, Some(1));
    }

    fn solicitation(more: Vec<Expr>) -> Vec<Expr> {
        let kind = vec![Expr::Payload { dreg: 0, base: PayloadBase::Transport, offset: 0, len: 1 }, equal(&[135])];
        [protocol(58), kind, more].concat()
    }

    #[test]
    fn a_doubt_is_told_with_its_reason_and_whom_it_concerns() {
        let of = |more: Vec<Expr>| doubtful(&tcp_and(vec![solicitation(more)]));
        let told = |unknown, who: &str, reason: &str| vec![(unknown, who.to_owned(), reason.to_owned())];
        let limit = Expr::Limit { over: false, text: "5/second".into() };
        assert_eq!(of(vec![ACCEPT]), []);
        let rate = of(vec![limit.clone(), ACCEPT]);
        assert_eq!((rate[0].0, rate[0].1.as_str(), rate.len()), (false, "everybody", 1), "{rate:?}");
        let strange = Expr::Unknown { name: "strange".into() };
        let unknown = of(vec![strange, ACCEPT]);
        assert_eq!((unknown[0].0, unknown[0].1.as_str(), unknown.len()), (true, "everybody", 1), "{unknown:?}");
        // Routers are answered; whoever is on the link asks from its own address.
        let from_link = |more: &[Expr]| [&[network(8, 2), equal(&[0xfe, 0x80])], more, &[ACCEPT]].concat();
        let own = told(false, ON_LINK, "only a router's question is answered, not their own");
        assert_eq!(of(from_link(&[])), own);
        assert_eq!(of([vec![network(24, 1), equal(&[0xff])], from_link(&[])].concat()), own);
        let rest = solicitation(vec![limit, ACCEPT]);
        let others = doubtful(&tcp_and(vec![solicitation(from_link(&[])), rest]));
        assert_eq!((others[0].0, others[0].1.as_str(), others.len()), (false, ON_LINK, 1), "{others:?}");
        // Who is on the link is answered, and its router is not.
        let routers = of(vec![network(8, 2), equal(&[0x20, 0x01]), ACCEPT]);
        assert_eq!(routers[0].2, "the question of a router, from a link-local address, is not answered");
        assert_eq!(routers.len(), 1, "{routers:?}");
        // What is surely lost is in no doubt.
        assert_eq!(doubtful(&tcp_and(vec![])), []);
    }

    #[test]
    fn a_doubt_is_a_finding_and_changes_no_verdict() {
        let limit = Expr::Limit { over: false, text: "5/second".into() };
        let strange = Expr::Unknown { name: "strange".into() };
        for (doubt, code, verdict) in [
            (limit, "firewall.neighbours.conditional", crate::judge::Verdict::Reachable),
            (strange, "firewall.neighbours.unknown", crate::judge::Verdict::AtRisk),
        ] {
            let judgement = judge(&Asked::default(), &tcp_and(vec![solicitation(vec![doubt, ACCEPT])]));
            let finding = judgement.findings.iter().find(|f| f.code == code).unwrap_or_else(|| panic!("{code}"));
            assert!(finding.summary.contains("finds the host for everybody"), "{}", finding.summary);
            assert_eq!(judgement.verdict, verdict);
            assert!(judgement.gates.iter().all(|g| g.whole.blocked.is_empty()));
        }
    }

    #[test]
    fn a_source_asks_itself_or_by_its_router() {
        let snapshot = tcp_and(vec![]);
        let path = path(&snapshot);
        let asks = |source: &str| asker(&snapshot.net, &path, source.parse().unwrap()).to_string();
        let near = ON_LINK.replace("::/64", "::77");
        assert_eq!(asks(&near), near);
        assert!(asks("2001:db8:ffff::1").starts_with("fe80:"));
        let (met, verdict) = trace_neighbour(&snapshot.firewall, &snapshot.net, &path, near.parse().unwrap()).unwrap();
        assert_eq!(verdict.blocked_sources().any(), Some(near.parse().unwrap()));
        assert!(met.iter().all(|m| m.packet == "neighbour-solicitation"), "{met:?}");
    }

    #[test]
    fn a_link_without_neighbours_needs_no_discovery() {
        let mut snapshot = tcp_and(vec![]);
        let Seen::Present(links) = &mut snapshot.net.links else { panic!("no links") };
        links[0].arp = false;
        assert_eq!(found(&snapshot), None);
    }

    #[test]
    fn a_host_that_nobody_finds_is_blocked_and_a_saved_ruleset_is_not_asked() {
        let snapshot = tcp_and(vec![]);
        let policy = Asked::default();
        let judgement = judge(&policy, &snapshot);
        assert_eq!(judgement.verdict, crate::judge::Verdict::Blocked);
        assert!(judgement.sentence.contains("by ipv6, because the policy drop of inet t c"), "{}", judgement.sentence);
        let alone = judge_ruleset(&policy, &snapshot, paths(&policy, &snapshot.net));
        assert_eq!(alone.verdict, crate::judge::Verdict::Reachable, "{}", alone.sentence);
        let Decision::Repair(plan) = plan(&policy, &snapshot, &judgement, "x") else { panic!("no plan") };
        assert_eq!(words(&plan.steps), ["accept neighbour discovery by eth0 before rule 2 of inet t c"]);
    }

    /// The other family is no more opened than it would be if neighbours found the host.
    #[test]
    fn a_restriction_that_neighbours_do_not_reach_is_still_one() {
        let ssh = [vec![network(8, 2), equal(&[0x20, 0x02])], protocol(6), vec![ACCEPT]].concat();
        let six = vec![Expr::Meta { dreg: 0, key: MetaKey::Nfproto }, equal(&[10])];
        let snapshot = host(Hook::Input, Policy::Drop, vec![[six, ssh].concat()]);
        let policy = Asked::default();
        let judgement = judge(&policy, &snapshot);
        let intent = crate::judge::Intent::of(&policy, &snapshot, &judgement.gates);
        let of = |family| intent.demands.iter().find(|d| d.family == family).unwrap();
        assert_eq!(of(Family::Ipv4).whole, Standing::LeftAlone);
        let wanted = AddrSet::net("2002::/16".parse().unwrap());
        assert_eq!(of(Family::Ipv6).whole, Standing::Lacking { wanted });
        let Decision::Repair(plan) = plan(&policy, &snapshot, &judgement, "x") else { panic!("no plan") };
        assert_eq!(words(&plan.steps), ["accept neighbour discovery by eth0 before rule 2 of inet t c"]);
    }

    #[test]
    fn the_mend_lets_both_messages_through_in_every_form() {
        let accept = Accept {
            traffic: Traffic::Neighbours,
            family: Some(Family::Ipv6),
            source: None,
            port: 22,
            interface: Some("eth0".into()),
            answer: false,
            after: Vec::new(),
        };
        assert_eq!(accept.deeds(), [Deed::Discovery(135), Deed::Discovery(136)]);
        let words = accept.nft_words(TableFamily::Inet, "x", &Deed::Discovery(136)).unwrap();
        let wanted =
            "meta nfproto ipv6 iifname \"eth0\" icmpv6 type 136 ip6 hoplimit 255 accept comment \"ssh-rescue:x\"";
        assert_eq!(words, wanted);
        let line = accept.iptables("x", &Deed::Discovery(135)).join(" ");
        let wanted = "-i eth0 -p ipv6-icmp -m icmp6 --icmpv6-type 135 -m hl --hl-eq 255 -m comment --comment ssh-rescue:x -j ACCEPT";
        assert_eq!(line, wanted);
        for legacy in [false, true] {
            let made = rules(&accept, "x", TableFamily::Inet, legacy).into_iter().map(|r| r.exprs).collect();
            assert_eq!(found(&tcp_and(made)), None, "legacy: {legacy}");
        }
    }
}
