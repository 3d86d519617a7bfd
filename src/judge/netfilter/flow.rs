//! One packet of a handshake as the rules see it, with the sources for which it is so.

use std::sync::Arc;

use super::first::Note;
use crate::facts::{AddrSet, Family};
use crate::judge::Blame;

/// The packets of a handshake (what follows, the banner and the login, has the state of the last two), and those by which a
/// neighbour finds the host by IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Syn,
    SynAck,
    Ack,
    Solicit,
    Advertise,
}

const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// ICMPv6 types (RFC 4861).
const ND_NEIGHBOR_SOLICIT: u8 = 135;
const ND_NEIGHBOR_ADVERT: u8 = 136;

/// What conntrack knows of the packet at this point of its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracking {
    /// Before conntrack's own hook, or conntrack did not take the packet: `ct state invalid`.
    None,
    Untracked,
    /// A rule has said how it is to be tracked, and conntrack has not seen it yet: a template, which is of no flow, stands in
    /// the place of the entry (nf_ct_tmpl_alloc). nf_tables reads nothing but its state, and x_tables whatever it is asked for.
    Template,
    /// The first packet of a flow.
    New,
    Established,
}

/// Everything about the packet but its source, which stays a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    pub phase: Phase,
    pub family: Family,
    /// The server's address and port as the packet has them now: nat and payload statements rewrite them.
    pub address: u128,
    pub port: u16,
    /// The rule that has rewritten them last, without nat.
    pub rewritten: Option<Arc<Blame>>,
    /// Where the SYN was delivered, once it was: the address and port of the server's own end.
    pub served: Option<(u128, u16)>,
    pub iif: Option<u32>,
    pub oif: Option<u32>,
    /// None: set by a rule to something that is not known.
    pub mark: Option<u32>,
    pub tracking: Tracking,
    /// The conntrack zone that a rule has chosen for this packet.
    pub zone: u16,
    pub flow: Flow,
    /// A nat rule has decided about this packet's flow at this hook.
    pub nat_done: bool,
    /// Sets that this connection's packets have been added to by the rules: table, set.
    pub touched: Vec<(String, String)>,
    /// What rules remember of this connection's packets: noted on the walk of a first connection alone.
    pub notes: Vec<Note>,
}

/// The conntrack entry, as far as it lasts from packet to packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// False when the first packet was not tracked.
    pub tracked: bool,
    /// Whether connection tracking has seen the answer as well.
    pub answered: bool,
    pub zone: u16,
    pub mark: Option<u32>,
    /// The server's address and port in the flow's first packet, as connection tracking found them.
    pub address: u128,
    pub port: u16,
    /// Where a dnat or redirect leads it, and the rule that does.
    pub diverted: Option<Diversion>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    pub address: u128,
    pub port: u16,
    pub by: Arc<Blame>,
}

impl Flow {
    /// The server's address and port as its answers bear them before nat has put back what the client asked for.
    pub fn answers_from(&self) -> (u128, u16) {
        self.diverted.as_ref().map_or((self.address, self.port), |to| (to.address, to.port))
    }
}

impl Packet {
    /// The server's address and port as the packet has them now.
    pub fn server(&self) -> (u128, u16) {
        (self.address, self.port)
    }

    /// The rule that has led the packet elsewhere.
    pub fn led_by(&self) -> Option<&Arc<Blame>> {
        self.flow.diverted.as_ref().map(|to| &to.by).or(self.rewritten.as_ref())
    }

    /// Whether conntrack has an entry for it here.
    pub fn entry(&self) -> bool {
        matches!(self.tracking, Tracking::New | Tracking::Established)
    }

    pub fn inwards(&self) -> bool {
        !matches!(self.phase, Phase::SynAck | Phase::Advertise)
    }

    /// Its ICMPv6 type, if it belongs to neighbour discovery.
    pub fn discovery(&self) -> Option<u8> {
        match self.phase {
            Phase::Solicit => Some(ND_NEIGHBOR_SOLICIT),
            Phase::Advertise => Some(ND_NEIGHBOR_ADVERT),
            Phase::Syn | Phase::SynAck | Phase::Ack => None,
        }
    }

    /// IPPROTO_*
    pub fn protocol(&self) -> u8 {
        if self.discovery().is_some() { ICMPV6 } else { TCP }
    }

    /// PACKET_HOST or PACKET_MULTICAST of linux/if_packet.h: the former is all that TCP answers.
    pub fn kind(&self) -> u8 {
        if self.phase == Phase::Solicit && self.address >> 120 == 0xff { 2 } else { 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DoubtKind {
    /// Depends on rate, history, time or the client's choice of a port: no lock-out.
    Conditional,
    /// Not modelled.
    Unknown,
}

/// Why a match cannot be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    pub kind: DoubtKind,
    pub reason: Arc<str>,
}

impl Doubt {
    pub fn conditional(reason: impl AsRef<str>) -> Doubt {
        Doubt { kind: DoubtKind::Conditional, reason: reason.as_ref().into() }
    }

    pub fn unknown(reason: impl AsRef<str>) -> Doubt {
        Doubt { kind: DoubtKind::Unknown, reason: reason.as_ref().into() }
    }
}

/// A doubt, and the rule that raised it.
#[derive(Debug, PartialEq, Eq)]
pub struct Raised {
    pub doubt: Doubt,
    pub by: Arc<Blame>,
}

/// Sources for which the packet has come to the same point in the same state. With `doubts` they may have come here: the
/// other possibility is another fork of the same sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub sources: AddrSet,
    pub packet: Packet,
    pub doubts: Vec<Arc<Raised>>,
}

impl Fork {
    pub fn same_state(&self, other: &Fork) -> bool {
        self.packet == other.packet && self.doubts == other.doubts
    }

    pub fn with(&self, sources: AddrSet) -> Fork {
        Fork { sources, packet: self.packet.clone(), doubts: self.doubts.clone() }
    }

    pub fn doubt(&mut self, raised: &Arc<Raised>) {
        if !self.doubts.contains(raised) {
            self.doubts.push(raised.clone());
        }
    }
}

/// Forks in the same state become one.
pub fn merge(forks: &mut Vec<Fork>) {
    if forks.len() < 2 {
        return forks.retain(|fork| !fork.sources.is_empty());
    }
    let mut merged: Vec<Fork> = Vec::with_capacity(forks.len());
    for fork in forks.drain(..) {
        if fork.sources.is_empty() {
            continue;
        }
        match merged.iter_mut().find(|m| m.same_state(&fork)) {
            Some(same) => same.sources.absorb(fork.sources),
            None => merged.push(fork),
        }
    }
    *forks = merged;
}
