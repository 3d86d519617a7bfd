//! Rules of many forms against packets with every byte in its place: what the walk says of a set of sources must be so for
//! each of them. The rules are read here as the kernel reads them, byte by byte (nft_do_chain, nft_cmp, nft_bitwise, nft_range,
//! nft_payload, xt_tcpudp, xt_multiport, xt_iprange, xt_u32), and nothing of the walk is used for it.

mod draw;
mod kernel;
mod maker;
mod packet;

use proptest::prelude::*;

use super::{Ports, walk};
use crate::facts::*;
use crate::judge::{PathVerdict, fixture};
use draw::Draw;
use kernel::passes;
use maker::Maker;
use packet::{Step, Whole, path};

const SOURCES4: [u128; 6] = [0x0a00_0000, 0x0a00_0001, 0x0aff_ffff, 0xc000_024d, 0xc633_6401, 0x0800_0001];
const SOURCES6: [u128; 4] =
    [0x2001_0db8 << 96 | 0x77, 0x2001_0db8_00ff << 80 | 1, 0x2a00 << 112, 0xfe80 << 112 | 0x1234_5678];

/// One table of rules, and a source of which many of them speak.
fn rules(family: Family, decidable: bool, draw: &mut Draw) -> (Firewall, u128) {
    let source = draw.of(if family == Family::Ipv4 { &SOURCES4[..] } else { &SOURCES6[..] });
    let hook = draw.of(&[Hook::Input, Hook::Input, Hook::Input, Hook::Prerouting, Hook::Output]);
    let step = if hook == Hook::Output { Step::Answer } else { draw.of(&[Step::Syn, Step::Syn, Step::Ack]) };
    let port = draw.within(32768..=60999);
    let like = Whole::new(family, step, source, port, draw);
    let own = if family == Family::Ipv4 { TableFamily::Ip } else { TableFamily::Ip6 };
    let of = draw.of(&[TableFamily::Inet, own]);
    let policy = draw.of(&[Policy::Accept, Policy::Drop]);
    let mut maker = Maker { draw, family, like, decidable, sets: Vec::new() };
    let base = BaseChain { hook, kind: ChainKind::Filter, priority: 0, policy, devices: Vec::new() };
    let chains =
        vec![maker.chain("in", Some(base), &["a", "b"]), maker.chain("a", None, &["b"]), maker.chain("b", None, &[])];
    let table = Table { family: of, ..fixture::table(chains, maker.sets) };
    (fixture::nft(vec![table]), source)
}

/// The parts of the address space as the verdict has them.
fn parts(judged: &PathVerdict) -> Vec<AddrSet> {
    let mut parts = vec![judged.admitted.clone()];
    parts.extend(judged.blocked.iter().map(|b| b.sources.clone()));
    parts.extend(judged.conditional.iter().chain(&judged.unknown).map(|open| open.sources.clone()));
    parts
}

fn check(family: Family, decidable: bool, numbers: Vec<u16>) -> Result<(), TestCaseError> {
    let draw = &mut Draw(numbers.into_iter());
    let (firewall, source) = rules(family, decidable, draw);
    let (net, path) = (fixture::healthy().net, path(family));
    let judged = walk(&firewall, &net, &path, &[], &Ports::default());
    let parts = parts(&judged);
    let mut left = AddrSet::full(family);
    for part in &parts {
        prop_assert!(part.is_subset(&left), "two ends of the same sources: {judged:?}");
        left.subtract(part);
    }
    prop_assert!(left.is_empty(), "no end of {left:?}");
    if decidable {
        prop_assert!(judged.conditional.is_empty(), "{:?} of {firewall:?}", judged.conditional);
        let holes = |reason: &str| reason.contains("too many holes") || reason.contains("part of the source address");
        prop_assert!(judged.unknown.iter().all(|o| holes(&o.reason)), "{:?} of {firewall:?}", judged.unknown);
    }
    let blocked = judged.blocked_sources();
    let mut sources: Vec<u128> = vec![source, source + 1, source.wrapping_sub(1) & family.max(), 0, family.max()];
    sources.extend(if family == Family::Ipv4 { &SOURCES4[..] } else { &SOURCES6[..] });
    sources.extend(
        parts.iter().flat_map(|part| part.ranges().take(6)).take(20).flat_map(|(a, b)| [a, b, a + (b - a) / 2]),
    );
    for source in sources {
        let passes = passes(&firewall, family, source, draw);
        let told = (judged.admitted.contains_number(source), blocked.contains_number(source));
        prop_assert!(told != (!passes, passes), "{} {passes}, {told:?}: {firewall:?}", family.address(source));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    #[test]
    fn what_is_the_same_for_every_client_is_decided_as_the_kernel_decides_it_for_each_source(
        four in any::<bool>(),
        numbers in prop::collection::vec(any::<u16>(), 1200),
    ) {
        check(if four { Family::Ipv4 } else { Family::Ipv6 }, true, numbers)?;
    }

    #[test]
    fn what_is_said_surely_holds_for_every_packet_that_a_client_may_send(
        four in any::<bool>(),
        numbers in prop::collection::vec(any::<u16>(), 1200),
    ) {
        check(if four { Family::Ipv4 } else { Family::Ipv6 }, false, numbers)?;
    }
}
