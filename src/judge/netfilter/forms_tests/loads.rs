//! What rules load that has nothing to do with who asks, or of which nothing is known.

use super::*;

fn is(number: u32) -> Expr {
    Expr::Cmp { sreg: 0, op: CmpOp::Eq, data: number.to_ne_bytes().as_slice().into() }
}

fn input(load: Expr, number: u32) -> Hit {
    v4().hit(Hook::Input, vec![load, is(number)])
}

#[test]
fn of_one_alternative_that_one_is_taken() {
    let numgen = |modulus, offset| Expr::Numgen { dreg: 0, modulus, offset, random: false };
    let hash = |modulus, offset| Expr::Hash { dreg: 0, modulus, offset, symmetric: false };
    assert_eq!(input(numgen(1, 0), 0), Everybody);
    assert_eq!(input(numgen(1, 7), 7), Everybody);
    assert_eq!(input(numgen(1, 7), 0), Nobody);
    assert_eq!(input(hash(1, 7), 7), Everybody);
    assert_eq!(input(hash(1, 7), 0), Nobody);
    assert_eq!(input(numgen(2, 0), 0), Conditional);
    assert_eq!(input(hash(2, 0), 0), Unknown);
}

/// NFT_SOCKET_TRANSPARENT 0, MARK 1. No sshd listens with IP_TRANSPARENT; who listens elsewhere is not known.
#[test]
fn the_socket_of_sshd_is_not_transparent() {
    let socket = |key| Expr::Socket { dreg: 0, key, level: 0 };
    assert_eq!(input(socket(0), 0), Everybody);
    assert_eq!(input(socket(0), 1), Nobody);
    assert_eq!(input(socket(1), 0), Unknown);
    let led = XtTarget::Nat { kind: NatKind::Dnat, addresses: None, ports: Some((8022, 8022)), flags: 0 };
    let nat = chain(Hook::Prerouting, ChainKind::Nat, -100, vec![vec![Expr::XtTarget(led)]]);
    let filter = chain(Hook::Input, ChainKind::Filter, 0, vec![vec![socket(0), is(0), DROP]]);
    let (host, firewall) = (v4(), fixture::nft(vec![fixture::table(vec![nat, filter], Vec::new())]));
    let ports = Ports { ssh: vec![8022], ..Ports::default() };
    assert_eq!(host.told(&walk(&firewall, &host.net, &host.path, &[], &ports)), Unknown, "at another port");
}

/// NFT_EXTHDR_OP_TCPOPT is 1.
#[test]
fn the_clients_system_and_its_tcp_options_are_not_known() {
    assert_eq!(input(Expr::Osf { dreg: 0 }, 0), Unknown);
    let option = |presence| Expr::Exthdr { dreg: Some(0), op: 1, kind: 2, offset: 2, len: 2, presence };
    assert_eq!(input(option(false), 0), Unknown);
    assert_eq!(input(option(true), 0), Unknown);
}

#[test]
fn what_is_not_known_is_told_by_its_name() {
    for (load, why) in [
        (Expr::Ct { dreg: 0, key: CtKey::Labels, dir: None }, "depends on conntrack labels"),
        (Expr::Ct { dreg: 0, key: CtKey::Eventmask, dir: None }, "a conntrack property that is not modelled"),
        (Expr::Meta { dreg: 0, key: MetaKey::Cpu }, "depends on the processor that takes the packet"),
        (Expr::Osf { dreg: 0 }, "depends on the client's operating system"),
    ] {
        let judged = v4().judged(vec![chain(Hook::Input, ChainKind::Filter, 0, vec![vec![load, is(1), DROP]])]);
        assert!(judged.unknown[0].sources.is_full());
        assert_eq!(judged.unknown[0].reason, why);
    }
}
