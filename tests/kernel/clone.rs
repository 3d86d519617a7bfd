//! A copy of a ruleset answers as the ruleset does, and lists as it does.

use std::sync::Arc;

use ssh_rescue::facts::{Firewall, NftRules, RawNft, Seen};
use ssh_rescue::host::{Call, Host, Message, Netlink, Scratch};
use ssh_rescue::rehearse::clone::{IpsetsAsText, firewall};
use ssh_rescue::rehearse::layout::set_up;

use super::common::root;
use super::corpus::{folder, recorded};
use ssh_rescue::rehearse::ruleset::load;

fn dump(netlink: &mut Netlink, kind: u16, body: &[u8]) -> Vec<Vec<u8>> {
    netlink.dump(&Message { kind: 10 << 8 | kind, flags: 0, body: body.to_vec() }).unwrap()
}

/// nf_tables as the calling thread's namespace has it, undecoded.
pub fn raw() -> RawNft {
    let mut netlink = Netlink::netfilter().unwrap();
    let all = [0u8, 0, 0, 0];
    let sets = dump(&mut netlink, 10, &all);
    // Elements are asked for set by set: family, NFTA_SET_ELEM_LIST_TABLE and _SET, which are a set's own first attributes.
    let elements = sets.iter().flat_map(|set| {
        let mut body = vec![set[16], 0, 0, 0];
        let mut rest = &set[20..];
        for _ in 0..2 {
            let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).next_multiple_of(4);
            body.extend(&rest[..length]);
            rest = &rest[length..];
        }
        dump(&mut netlink, 13, &body)
    });
    let elements: Vec<_> = elements.collect();
    RawNft {
        tables: dump(&mut netlink, 1, &all),
        chains: dump(&mut netlink, 4, &all),
        objects: dump(&mut netlink, 19, &all),
        flowtables: dump(&mut netlink, 23, &all),
        rules: dump(&mut netlink, 7, &all),
        sets,
        elements,
    }
}

fn listing(host: &Host) -> String {
    let nft = host.run(&Call::new("nft", &["-s", "list", "ruleset"])).unwrap();
    String::from_utf8(nft.stdout).unwrap()
}

fn only_nft(raw: RawNft) -> Firewall {
    Firewall {
        nft: Seen::Present(NftRules { generation: 0, tables: Vec::new(), raw: Arc::new(raw) }),
        legacy4: Seen::Absent,
        legacy6: Seen::Absent,
        ipsets: Seen::Absent,
        outside: Vec::new(),
    }
}

#[test]
fn a_copy_of_every_nf_tables_ruleset_lists_as_the_original() {
    if !root("clone") {
        return;
    }
    let Some(folder) = folder() else { return };
    let mut copies = 0;
    for truth in recorded(&folder).iter().filter(|t| !t.backend.contains("legacy")) {
        let saved = truth.saved(&folder);
        let (original, raw) = load(&Host::live(), &saved, |host, _| (listing(host), raw())).unwrap();
        let copy = Host::live()
            .scratch(Scratch::NetworkAndRun, |host| {
                let _layout = set_up(host, &saved.net(), &[saved.ifindex], &[])?;
                Ok(firewall(host, &only_nft(raw), &IpsetsAsText::default()).map(|()| listing(host)))
            })
            .unwrap()
            .unwrap_or_else(|e| panic!("{} ({}): {}", truth.file, truth.backend, ssh_rescue::chain(&e)));
        assert!(original == copy, "{} ({}):\n{original}\n--- copy ---\n{copy}", truth.file, truth.backend);
        copies += 1;
    }
    println!("{copies} copies");
    assert!(copies > 70);
}
