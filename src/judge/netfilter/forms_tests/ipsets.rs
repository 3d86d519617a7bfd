//! ipsets (ipset(8)), member by member.

use super::*;

fn set(index: u16, type_name: &str, members: Vec<IpSetMember>) -> IpSet {
    let family = if type_name == "list:set" { None } else { Some(Family::Ipv4) };
    IpSet { name: format!("s{index}"), index, type_name: type_name.into(), family, members, opaque: None }
}

fn net(text: &str) -> IpSetMember {
    let (first, last) = AddrSet::net(text.parse().unwrap()).ranges().next().unwrap();
    IpSetMember { address: Some((first, last)), ..IpSetMember::default() }
}

fn nets(all: &[&str]) -> AddrSet {
    let sets: Vec<AddrSet> = all.iter().map(|net| AddrSet::net(net.parse().unwrap())).collect();
    AddrSet::all(Family::Ipv4, sets.iter())
}

fn but(member: IpSetMember) -> IpSetMember {
    IpSetMember { nomatch: true, ..member }
}

fn ssh(member: IpSetMember) -> IpSetMember {
    IpSetMember { proto: Some(6), port: Some((22, 22)), ..member }
}

fn within(index: u16, dirs: &[bool]) -> Vec<Expr> {
    vec![Expr::XtMatch(XtMatch::Set { index, dirs: dirs.to_vec(), invert: false, extra: false }), DROP]
}

fn hit_of(sets: Vec<IpSet>, rules: Vec<Vec<Expr>>) -> Hit {
    let chain = chain(Hook::Input, ChainKind::Filter, 0, rules);
    let nft = fixture::nft(vec![fixture::table(vec![chain], Vec::new())]);
    let firewall = Firewall { ipsets: Seen::Present(sets), ..nft };
    let host = v4();
    host.told(&walk(&firewall, &host.net, &host.path, &[], &Ports::default()))
}

fn hit(set: IpSet, dirs: &[bool]) -> Hit {
    let rule = within(set.index, dirs);
    hit_of(vec![set], vec![rule])
}

/// Source, destination: the port asked for is the destination's.
const SRC_DST: [bool; 2] = [true, false];

#[test]
fn who_names_fewer_dimensions_than_a_set_has_finds_nobody_in_it() {
    let members = || vec![ssh(net("10.0.0.0/8"))];
    assert_eq!(hit(set(1, "hash:net,port", members()), &SRC_DST), Hit::Some(nets(&["10.0.0.0/8"])));
    assert_eq!(hit(set(1, "hash:net,port", members()), &[true]), Nobody);
    assert_eq!(hit(set(1, "hash:net,port", members()), &[true, false, true]), Hit::Some(nets(&["10.0.0.0/8"])));
    assert_eq!(hit(set(1, "hash:net", vec![net("10.0.0.0/8")]), &[true, true]), Hit::Some(nets(&["10.0.0.0/8"])));
}

#[test]
fn a_port_in_a_set_is_one_of_its_protocol() {
    for (proto, due) in [(Some(6), true), (Some(17), false), (Some(0), true), (None, true)] {
        let member = IpSetMember { proto, ..ssh(net("10.0.0.0/8")) };
        let due = if due { Hit::Some(nets(&["10.0.0.0/8"])) } else { Nobody };
        assert_eq!(hit(set(1, "hash:net,port", vec![member]), &SRC_DST), due, "{proto:?}");
    }
}

/// ip_set_hash_netiface.c: `src` asks for the interface by which the packet came, and of one that leaves there is none.
#[test]
fn a_member_may_name_the_interface_or_the_mark() {
    let through = |name: &str| IpSetMember { interface: Some(name.into()), ..net("10.0.0.0/8") };
    let iface = |name, side| hit(set(1, "hash:net,iface", vec![through(name)]), &[true, side]);
    assert_eq!(iface("eth0", true), Hit::Some(nets(&["10.0.0.0/8"])));
    assert_eq!(iface("eth1", true), Nobody);
    assert_eq!(iface("eth0", false), Nobody);
    let mark = |value| {
        let member = IpSetMember { mark: Some(value), ..net("10.0.0.0/8") };
        let marks = vec![Expr::XtTarget(XtTarget::Mark { mark: 5, mask: u32::MAX })];
        hit_of(vec![set(1, "hash:ip,mark", vec![member])], vec![marks, within(1, &[true, true])])
    };
    assert_eq!(mark(5), Hit::Some(nets(&["10.0.0.0/8"])));
    assert_eq!(mark(4), Nobody);
}

#[test]
fn a_member_with_a_link_layer_address_is_nobody_where_there_are_none() {
    let member = IpSetMember { mac: Some([2, 0, 0, 0, 0, 9]), ..net("10.0.0.0/8") };
    let nft = |rules| fixture::nft(vec![fixture::table(vec![chain(Hook::Input, ChainKind::Filter, 0, rules)], vec![])]);
    let sets = Seen::Present(vec![set(1, "hash:ip,mac", vec![member])]);
    let firewall = Firewall { ipsets: sets, ..nft(vec![within(1, &[true, true])]) };
    let judged = |host: &Host| walk(&firewall, &host.net, &host.path, &[], &Ports::default());
    let mut host = v4();
    assert_eq!(judged(&host).unknown[0].sources, nets(&["10.0.0.0/8"]));
    let Seen::Present(links) = &mut host.net.links else { unreachable!() };
    links[0].kind = 65534;
    assert!(judged(&host).admitted.is_full());
}

#[test]
fn a_set_may_be_about_the_hosts_own_end() {
    let members = |port| {
        let own = IpSetMember { port: Some((port, port)), ..ssh(net("192.0.2.10/32")) };
        vec![ssh(net("198.51.100.7/32")), own, ssh(net("203.0.113.0/24"))]
    };
    assert_eq!(hit(set(1, "hash:ip,port", members(22)), &[false, false]), Everybody);
    assert_eq!(hit(set(1, "hash:ip,port", members(80)), &[false, false]), Nobody);
}

#[test]
fn the_narrowest_net_that_holds_a_source_decides() {
    let left = Hit::Some(nets(&["10.0.0.0/8"]).minus(&nets(&["10.255.0.0/16"])));
    for members in [["10.0.0.0/8", "10.255.0.0/16"], ["10.255.0.0/16", "10.0.0.0/8"]] {
        let of = |member: fn(IpSetMember) -> IpSetMember| {
            let read = |text: &str| if text.ends_with("/16") { but(member(net(text))) } else { member(net(text)) };
            members.map(read).to_vec()
        };
        assert_eq!(hit(set(1, "hash:net,port", of(ssh)), &SRC_DST), left);
        assert_eq!(hit(set(1, "hash:net", of(|member| member)), &[true]), left);
    }
    assert_eq!(hit(set(1, "hash:net", vec![but(net("10.0.0.0/8"))]), &[true]), Nobody);
    assert_eq!(hit(set(1, "hash:net,port", vec![but(ssh(net("10.0.0.0/8")))]), &SRC_DST), Nobody);
}

#[test]
fn a_list_holds_whom_its_sets_hold_and_is_given_up_where_it_holds_itself() {
    let member = |name: &str| IpSetMember { set: Some(name.into()), ..IpSetMember::default() };
    let list = |index, of: &[&str]| set(index, "list:set", of.iter().map(|name| member(name)).collect());
    let one = set(1, "hash:net", vec![net("10.0.0.0/8")]);
    let two = set(2, "hash:net", vec![net("192.168.0.0/16")]);
    let of = |list: IpSet| hit_of(vec![one.clone(), two.clone(), list], vec![within(3, &[true])]);
    assert_eq!(of(list(3, &["s1", "s2"])), Hit::Some(nets(&["10.0.0.0/8", "192.168.0.0/16"])));
    assert_eq!(of(list(3, &["s2", "gone"])), Hit::Some(nets(&["192.168.0.0/16"])));
    assert_eq!(of(list(3, &["s3"])), Unknown);
}

#[test]
fn a_set_that_the_connection_has_been_added_to_by_a_target_may_hold_it() {
    let adds = |sets: &[u16]| vec![Expr::XtTarget(XtTarget::Set { sets: sets.to_vec() })];
    let all = || vec![set(1, "hash:ip", vec![]), set(2, "hash:net", vec![net("10.0.0.0/8")])];
    assert_eq!(hit_of(all(), vec![adds(&[1]), within(1, &[true])]), Conditional);
    assert_eq!(hit_of(all(), vec![adds(&[1]), adds(&[1]), within(1, &[true])]), Conditional);
    assert_eq!(hit_of(all(), vec![adds(&[1]), within(2, &[true])]), Hit::Some(nets(&["10.0.0.0/8"])));
    assert_eq!(hit_of(all(), vec![adds(&[2, 1]), within(1, &[true])]), Conditional);
}
