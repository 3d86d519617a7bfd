//! A first connection, of a client that was not seen lately, while no limit is used up: what matches on rates and on what came
//! before say to it.
//!
//! What the SYN itself does is counted: a limit that it meets twice is drawn on twice, and what `recent --set` has noted the
//! next rule finds. What hangs on others' packets, on how many packets a session has, on time or on chance has no answer here.

use std::collections::{HashMap, HashSet};

use super::flow::{Packet, Phase};
use super::scan::is_neutral;
use super::walk::Walk;
use crate::facts::{Element, Expr, XtMatch};

/// What a rule remembers of this connection's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    memory: Memory,
    /// None: not known.
    times: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Memory {
    /// The client's entry in a list of xt_recent.
    List(String),
    /// What was drawn from a limit of a rule's own.
    Limit(*const Expr),
    /// What was drawn from the client's element in a set that rules fill.
    Element(String),
}

/// Bytes that a handshake stays below, however many rules count it.
const HANDSHAKE: u64 = 1 << 16;

/// Things that rules may remember of one packet before no answer is given.
const NOTES: usize = 256;
const NAMED: &str = " --hashlimit-name ";

/// What rules have in common, found once for all walks.
#[derive(Default)]
pub struct Shared<'a> {
    /// How many rules draw on a table of hashlimit.
    tables: HashMap<&'a str, usize>,
    /// The lists of xt_recent that rules look into.
    looked: HashSet<&'a str>,
    /// The sets that rules fill, with the expressions of the elements; None where the rules differ, or one looks it up.
    filled: HashMap<&'a str, Option<&'a [Expr]>>,
}

impl<'a> Shared<'a> {
    pub fn of(exprs: impl Iterator<Item = &'a Expr>) -> Shared<'a> {
        let mut shared = Shared::default();
        for expr in exprs {
            match expr {
                Expr::XtMatch(XtMatch::Rate { text, .. }) => {
                    if let Some((_, table)) = text.split_once(NAMED) {
                        *shared.tables.entry(table).or_default() += 1;
                    }
                }
                Expr::Dynset { set, exprs, .. } => {
                    let known = shared.filled.entry(set).or_insert(Some(exprs));
                    *known = known.filter(|known| known == exprs);
                }
                Expr::Lookup { set, .. } => drop(shared.filled.insert(set, None)),
                _ => shared.looked.extend(listed(expr).filter(|recent| !recent.sets()).map(|recent| recent.list)),
            }
        }
        shared
    }
}

/// Whether the rule does something that the walk of a first connection has to follow, or has an answer for.
pub fn remembers(expr: &Expr, rest: &[Expr]) -> bool {
    match expr {
        Expr::XtMatch(XtMatch::History { name, .. }) => name == "recent" || !rest.iter().all(is_neutral),
        Expr::XtMatch(XtMatch::Rate { name, .. }) => {
            matches!(name.as_str(), "limit" | "hashlimit") && !rest.iter().all(is_neutral)
        }
        Expr::Limit { .. } | Expr::Quota { .. } | Expr::Connlimit { .. } => !rest.iter().all(is_neutral),
        _ => false,
    }
}

impl<'a> Walk<'a> {
    /// Whether it matches this packet of a first connection; None: that is not known.
    pub fn remember(&self, packet: &mut Packet, expr: &Expr) -> Option<bool> {
        let own = Memory::Limit(expr);
        match expr {
            Expr::Limit { over, text } => draw(packet, own, burst(text)?).then_some(!over),
            Expr::Quota { over, bytes, consumed } => used_up(*bytes, *consumed).map(|used| used == *over),
            Expr::Connlimit { over, count } => Some(is_over(*count) == *over),
            Expr::XtMatch(XtMatch::Rate { name, text }) if name == "limit" => {
                draw(packet, own, xt_burst(text, "--limit-burst")?).then_some(true)
            }
            Expr::XtMatch(XtMatch::Rate { text, .. }) => {
                let (words, table) = text.split_once(NAMED)?;
                // Rules that name the same table draw on the same buckets.
                if words.contains("<bytes>") || self.shared().tables.get(table) != Some(&1) {
                    return None;
                }
                let above = words.starts_with("--hashlimit-above");
                draw(packet, own, xt_burst(words, "--hashlimit-burst")?).then_some(!above)
            }
            Expr::XtMatch(XtMatch::History { name, text }) if name == "recent" => Recent::of(text)?.answer(packet),
            Expr::XtMatch(XtMatch::History { text, .. }) => {
                let upto = text.starts_with("--connlimit-upto");
                let limit = text.split(' ').nth(1)?.parse().ok()?;
                Some(is_over(limit) != upto)
            }
            _ => None,
        }
    }

    fn shared(&self) -> &Shared<'a> {
        self.rules.shared()
    }

    /// Whether too much is to be remembered: every packet of the connection, those after the handshake too, changes a list that rules
    /// look into, or rules remember more than is followed.
    pub fn repeats(&self, packet: &Packet, expr: &Expr) -> bool {
        if packet.notes.len() >= NOTES {
            return true;
        }
        let Some(own) = listed(expr).filter(|own| packet.phase != Phase::Syn && own.source == packet.inwards()) else {
            return false;
        };
        let changes = times(packet, &own.memory()).is_none_or(|seen| own.step(seen).0 != seen);
        changes && self.shared().looked.contains(own.list)
    }

    /// As [`Walk::remember`], of a rule that adds the client to a set, with a limit for each element.
    pub fn metered(&self, packet: &mut Packet, expr: &Expr) -> Option<bool> {
        let Expr::Dynset { set, negate: false, exprs, .. } = expr else { return None };
        let deciding = |e: &&Expr| !matches!(e, Expr::Counter | Expr::Last);
        let mut own = exprs.iter().filter(deciding);
        let (Some(decides), None) = (own.next(), own.next()) else { return None };
        let found = self.set(set)?;
        let kept = |e: &Element| e.exprs.iter().filter(deciding).eq([decides]);
        // An element keeps the expressions of the rule that made it, and whoever looks it up draws on them, too.
        let alone = self.shared().filled.get(set.as_str()) == Some(&Some(exprs.as_slice()));
        if !alone || !found.elements.iter().all(kept) {
            return None;
        }
        match decides {
            Expr::Limit { over, text } => draw(packet, Memory::Element(set.clone()), burst(text)?).then_some(!over),
            Expr::Connlimit { over, count } => Some(is_over(*count) == *over),
            _ => None,
        }
    }
}

fn listed(expr: &Expr) -> Option<Recent<'_>> {
    match expr {
        Expr::XtMatch(XtMatch::History { text, .. }) => Recent::of(text),
        _ => None,
    }
}

/// Whether one connection is more than that.
fn is_over(limit: u32) -> bool {
    limit < 1
}

/// None: it may be used up by the handshake.
fn used_up(bytes: u64, consumed: u64) -> Option<bool> {
    match () {
        () if consumed >= bytes => Some(true),
        () if consumed.saturating_add(HANDSHAKE) < bytes => Some(false),
        () => None,
    }
}

/// Draws once on a limit, and says whether there surely was something left in it. On what the later packets of a handshake
/// draw, all packets of the session do.
fn draw(packet: &mut Packet, memory: Memory, burst: u32) -> bool {
    let before = times(packet, &memory);
    note(packet, memory, before.map(|n| n.saturating_add(1)));
    packet.phase == Phase::Syn && before.is_some_and(|before| before < burst)
}

/// `5/minute burst 5 packets`; of bytes it depends on what a packet carries.
fn burst(text: &str) -> Option<u32> {
    const NFT_LIMIT_PKT_BURST_DEFAULT: u32 = 5;
    let (_, burst) = text.strip_suffix(" packets")?.split_once(" burst ")?;
    match burst.parse().ok()? {
        0 => Some(NFT_LIMIT_PKT_BURST_DEFAULT),
        burst => Some(burst),
    }
}

/// iptables leaves out the usual burst.
fn xt_burst(text: &str, option: &str) -> Option<u32> {
    const USUAL: u32 = 5;
    let mut words = text.split(' ').skip_while(|word| *word != option);
    match words.next() {
        Some(_) => words.next()?.parse().ok(),
        None => Some(USUAL),
    }
}

fn times(packet: &Packet, memory: &Memory) -> Option<u32> {
    packet.notes.iter().find(|n| n.memory == *memory).map_or(Some(0), |n| n.times)
}

fn note(packet: &mut Packet, memory: Memory, times: Option<u32>) {
    match packet.notes.iter_mut().find(|n| n.memory == memory) {
        Some(known) => known.times = times,
        None => packet.notes.push(Note { memory, times }),
    }
}

/// A match of xt_recent.
struct Recent<'t> {
    invert: bool,
    /// `--set`, `--rcheck`, `--update`, `--remove`
    mode: &'t str,
    hits: u32,
    /// With the same TTL alone.
    alike: bool,
    /// The list holds networks.
    masked: bool,
    list: &'t str,
    source: bool,
}

impl<'t> Recent<'t> {
    fn of(text: &'t str) -> Option<Recent<'t>> {
        let (words, list) = text.split_once(" --name ")?;
        let (list, side) = list.rsplit_once(' ')?;
        let (invert, words) = words.strip_prefix("! ").map_or((false, words), |words| (true, words));
        let mut words = words.split(' ');
        let mode = words.next()?;
        let (mut hits, mut alike, mut masked) = (1, false, false);
        while let Some(word) = words.next() {
            match word {
                "--hitcount" => hits = words.next()?.parse().ok()?,
                "--rttl" => alike = true,
                "--mask" => masked = true,
                _ => {}
            }
        }
        Some(Recent { invert, mode, hits, alike, masked, list, source: side == "--rsource" })
    }

    fn sets(&self) -> bool {
        self.mode == "--set"
    }

    fn memory(&self) -> Memory {
        Memory::List(self.list.to_owned())
    }

    /// The kernel's `recent_mt`: how often the client is in the list then, and whether it matches.
    fn step(&self, seen: u32) -> (u32, bool) {
        let reached = seen >= self.hits;
        match self.mode {
            "--set" => (seen + 1, !self.invert),
            _ if seen == 0 => (0, self.invert),
            "--remove" => (0, !self.invert),
            "--update" if reached != self.invert => (seen + 1, true),
            _ => (seen, reached != self.invert),
        }
    }

    fn answer(&self, packet: &mut Packet) -> Option<bool> {
        let set = self.sets().then_some(!self.invert);
        // The host's own address is in the list by whoever else came.
        if self.source != packet.inwards() {
            return set;
        }
        let before = times(packet, &self.memory());
        let (Some(seen), false) = (before, self.masked || (self.alike && before != Some(0) && !self.sets())) else {
            note(packet, self.memory(), None);
            return set;
        };
        let (after, matches) = self.step(seen);
        if after != seen {
            note(packet, self.memory(), Some(after));
        }
        Some(matches)
    }
}
