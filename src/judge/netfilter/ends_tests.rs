//! How what became of a packet's possibilities is put together to a verdict.

use std::sync::Arc;

use super::flow::{Doubt, Raised};
use super::walk::{End, Fate};
use crate::facts::*;
use crate::judge::fixture::{self, ip};
use crate::judge::{Blame, Gate, Path, PathVerdict, Symptom};

const BLOCKED: Fate = Fate::Blocked(Symptom::TimedOut);

fn net(text: &str) -> AddrSet {
    AddrSet::net(text.parse().unwrap())
}

fn end(sources: &str, fate: Fate, doubt: Option<&Arc<Raised>>, by: Option<&Arc<Blame>>) -> End {
    End { sources: net(sources), fate, doubts: doubt.into_iter().cloned().collect(), by: by.cloned() }
}

/// Of everybody.
fn verdict(family: Family, ends: Vec<End>) -> PathVerdict {
    let address = ip(if family == Family::Ipv4 { fixture::V4 } else { fixture::V6 });
    let path = Path { family, interface: "eth0".into(), ifindex: 2, address, port: 22 };
    super::verdict(&path, &AddrSet::full(family), ends)
}

fn gate(place: &str) -> Arc<Blame> {
    Blame::gate(Gate::Route, place).into()
}

fn rule(index: usize) -> Arc<Blame> {
    let at = RuleRef {
        backend: Backend::Nft,
        family: TableFamily::Inet,
        table: "t".into(),
        chain: "c".into(),
        index: Some(index),
    };
    Blame { rule_ref: Some(at), ..Blame::gate(Gate::Firewall, "inet t c") }.into()
}

#[test]
fn of_whom_the_walk_tells_no_end_nothing_is_known() {
    let lost = |family, ends: &[&str]| {
        let judged = verdict(family, ends.iter().map(|set| end(set, Fate::Admitted, None, None)).collect());
        let sets = judged.unknown.iter().map(|open| (open.sources.to_string(), open.reason.clone()));
        sets.collect::<Vec<_>>()
    };
    let due = |who: &str| vec![(who.to_owned(), "the walk lost these sources".to_owned())];
    assert_eq!(lost(Family::Ipv4, &["0.0.0.0/0"]), []);
    assert_eq!(lost(Family::Ipv4, &["0.0.0.0/1", "128.0.0.0/1"]), []);
    assert_eq!(lost(Family::Ipv4, &["0.0.0.0/1"]), due("128.0.0.0/1"));
    assert_eq!(lost(Family::Ipv4, &[]), due("everybody"));
    // There are more IPv6 addresses than a number of 128 bits counts.
    assert_eq!(lost(Family::Ipv6, &["::/0"]), []);
    assert_eq!(lost(Family::Ipv6, &["::/1", "8000::/1"]), []);
    assert_eq!(lost(Family::Ipv6, &["::/1"]), due("8000::/1"));
}

#[test]
fn whoever_blocks_several_parts_is_named_once_for_each_symptom() {
    let blocked = |ends: Vec<(&str, Symptom, Arc<Blame>)>| {
        let rest = end("128.0.0.0/1", Fate::Admitted, None, None);
        let ends = ends.iter().map(|(set, symptom, by)| end(set, Fate::Blocked(*symptom), None, Some(by)));
        let judged = verdict(Family::Ipv4, ends.chain([rest]).collect());
        judged.blocked.into_iter().map(|b| (b.sources.to_string(), b.symptom)).collect::<Vec<_>>()
    };
    let told = |parts: &[(&str, Symptom)]| parts.iter().map(|(set, s)| ((*set).to_owned(), *s)).collect::<Vec<_>>();
    let (low, high, silent, refused) = ("0.0.0.0/2", "64.0.0.0/2", Symptom::TimedOut, Symptom::Refused);
    let once = told(&[("0.0.0.0/1", silent)]);
    // A rule is the same where its blame is; what is no rule, where it says the same.
    let one = rule(0);
    assert_eq!(blocked(vec![(low, silent, one.clone()), (high, silent, one.clone())]), once);
    assert_eq!(blocked(vec![(low, silent, gate("a")), (high, silent, gate("a"))]), once);
    let twice = told(&[(low, silent), (high, silent)]);
    assert_eq!(blocked(vec![(low, silent, rule(0)), (high, silent, rule(1))]), twice);
    assert_eq!(blocked(vec![(low, silent, gate("a")), (high, silent, gate("b"))]), twice);
    assert_eq!(blocked(vec![(low, silent, one.clone()), (high, silent, gate("a"))]), twice);
    let apart = told(&[(low, silent), (high, refused)]);
    assert_eq!(blocked(vec![(low, silent, one.clone()), (high, refused, one)]), apart);
    assert_eq!(blocked(vec![(low, silent, gate("a")), (high, refused, gate("a"))]), apart);
}

#[test]
fn a_doubt_is_told_once_for_each_rule_and_reason() {
    let limited =
        |reason: &str, by: &Arc<Blame>| Arc::new(Raised { doubt: Doubt::conditional(reason), by: by.clone() });
    let open = |low: &Arc<Raised>, high: &Arc<Raised>| {
        let both = |set, raised: &Arc<Raised>| {
            [end(set, Fate::Admitted, Some(raised), None), end(set, BLOCKED, Some(raised), Some(&raised.by))]
        };
        let rest = end("128.0.0.0/1", Fate::Admitted, None, None);
        let ends = both("0.0.0.0/2", low).into_iter().chain(both("64.0.0.0/2", high)).chain([rest]).collect();
        let judged = verdict(Family::Ipv4, ends);
        assert!(judged.blocked.is_empty() && judged.unknown.is_empty(), "{judged:?}");
        judged.conditional.into_iter().map(|open| open.sources.to_string()).collect::<Vec<_>>()
    };
    let (first, second) = (rule(0), rule(1));
    assert_eq!(open(&limited("a rate", &first), &limited("a rate", &first)), ["0.0.0.0/1"]);
    let apart = ["0.0.0.0/2", "64.0.0.0/2"];
    assert_eq!(open(&limited("a rate", &first), &limited("a rate", &second)), apart);
    assert_eq!(open(&limited("a rate", &first), &limited("a quota", &first)), apart);
}
