//! Neighbour discovery (RFC 4861): by IPv6 whoever on the link sends to the host, the router too, asks for its link-layer
//! address first.

use super::hooks::Hooks;
use super::route::link;
use super::{begin, verdict};
use crate::facts::{AddrSet, Family, Firewall, Net, number};
use crate::judge::{Blame, Path};

/// What surely keeps every neighbour on the path's link from finding the host; None where one of them may.
///
/// A neighbour asks at the address's solicited-node multicast address, or, where it has found the host before, at the address
/// itself: it is enough that one of the two may be answered. What the host asks by itself is not looked at: the question of a
/// neighbour tells it that neighbour's address.
pub fn neighbours(firewall: &Firewall, net: &Net, path: &Path) -> Option<Blame> {
    const ETHERNET: u16 = 1;
    if path.family != Family::Ipv6 || !link(net, path.ifindex).is_some_and(|l| l.arp && l.kind == ETHERNET) {
        return None;
    }
    let neighbours = on_link(net, path);
    let own = number(path.address);
    let mut by = None;
    for asked in [solicited_node(own), own] {
        let mut walk = begin(firewall, net, path, &[]);
        Hooks::new(firewall.tables().collect()).discovery(&mut walk, neighbours.clone(), asked);
        let verdict = verdict(path, &neighbours, walk.ends);
        if verdict.blocked_sources() != neighbours {
            return None;
        }
        let widest = verdict.blocked.into_iter().max_by_key(|b| b.sources.count());
        by = by.or(widest.map(|b| Blame { neighbours: true, respected: false, ..b.by }));
    }
    by
}

/// Addresses that a neighbour may ask from: link-local ones, and those of the prefixes on the link.
fn on_link(net: &Net, path: &Path) -> AddrSet {
    let mut set = AddrSet::range(Family::Ipv6, 0xfe80 << 112, 0xfebf << 112 | u128::MAX >> 16);
    let mut own = AddrSet::empty(Family::Ipv6);
    for address in net.addresses.present().into_iter().flatten().filter(|a| a.address.is_ipv6()) {
        own.union_with(&AddrSet::single(address.address));
        if let (true, Ok(prefix)) =
            (address.interface == path.ifindex, ipnet::IpNet::new(address.address, address.prefix))
        {
            set.union_with(&AddrSet::net(prefix.trunc()));
        }
    }
    set.minus(&own)
}

/// ff02::1:ffXX:XXXX (RFC 4291 2.7.1)
fn solicited_node(address: u128) -> u128 {
    0xff02 << 112 | 0x1_ff00_0000 | address & 0xff_ffff
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

    fn equal(data: &[u8]) -> Expr {
        Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: data.to_vec() }
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

    fn found(snapshot: &Snapshot) -> Option<Blame> {
        let path = paths(&Asked::default(), &snapshot.net).into_iter().find(|p| p.family == Family::Ipv6).unwrap();
        neighbours(&snapshot.firewall, &snapshot.net, &path)
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
        assert_eq!((by.place.as_str(), by.position, by.neighbours), ("inet t c", None, true));
        assert_eq!(found(&host(Hook::Input, Policy::Accept, vec![])), None);
        let answers = found(&host(Hook::Output, Policy::Drop, vec![])).unwrap();
        assert_eq!(answers.hook, Some(Hook::Output));
        let state = |bits: u32| {
            let mask = BitwiseOp::MaskXor { mask: bits.to_ne_bytes().into(), xor: vec![0; 4] };
            vec![
                Expr::Ct { dreg: 0, key: CtKey::State, dir: None },
                Expr::Bitwise { sreg: 0, dreg: 0, len: 4, op: mask },
                Expr::Cmp { sreg: 0, op: CmpOp::Neq, data: vec![0; 4] },
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
