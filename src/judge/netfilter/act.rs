//! The part of a rule that does something: verdicts, nat, marks.

use std::sync::Arc;

use super::bytes::Regs;
use super::cond::Cond;
use super::flow::{Diversion, Doubt, Fork, Phase, Raised, Tracking, merge};
use super::ipset::touched;
use super::route::first_address;
use super::walk::{Out, Walk};
use crate::facts::{
    ConnmarkMode, CtKey, ElementData, Expr, Family, MetaKey, Nat, NatKind, PayloadBase, Reg, RejectWith, Rule,
    TableFamily, Verdict, XtTarget,
};
use crate::judge::Symptom;

/// Expressions that do something, one within the other: what a rule goes on to do, and what the rules of the chain do that it
/// calls. Each takes some KiB of a thread's stack, which has 2 MiB. nf_tables allows 128 in a rule and 16 chains, and nobody
/// has as many.
pub const NESTED: usize = 80;

/// What an expression makes of a fork.
enum Done {
    /// The rule goes on.
    Next(Fork),
    /// It goes on if this holds.
    Perhaps(Fork, Doubt),
    /// The rule ends here; the fork comes to the next rule.
    Rule(Fork),
    /// Not in this chain any more.
    Gone,
    /// Several, each at the next rule.
    Forks(Vec<Fork>),
    /// The rule goes on for each with a verdict of its own.
    Verdicts(Vec<(Fork, Verdict)>),
}

impl<'a> Walk<'a> {
    /// Does what the rule does from the expression `at` on, and gives the forks that come to the next rule.
    pub fn act(&mut self, fork: Fork, rule: &'a Rule, at: usize, regs: &Regs, out: &mut Out<'_>) -> Vec<Fork> {
        let Some(expr) = rule.exprs.get(at) else { return vec![fork] };
        if self.nested >= NESTED {
            self.give_up(&mut vec![fork], "the rules do too much within each other");
            return Vec::new();
        }
        self.nested += 1;
        let kept = self.act_on(fork, rule, at, expr, regs, out);
        self.nested -= 1;
        kept
    }

    fn act_on(
        &mut self,
        fork: Fork,
        rule: &'a Rule,
        at: usize,
        expr: &'a Expr,
        regs: &Regs,
        out: &mut Out<'_>,
    ) -> Vec<Fork> {
        let mut kept = Vec::new();
        match self.perform(fork, expr, regs, out) {
            Done::Next(fork) => self.go_on(fork, rule, at, regs, Vec::new(), out, &mut kept),
            Done::Perhaps(fork, doubt) => self.go_on(fork, rule, at, regs, vec![doubt], out, &mut kept),
            Done::Rule(fork) => kept.push(fork),
            Done::Gone => {}
            Done::Forks(forks) => kept = forks,
            Done::Verdicts(list) => {
                for (fork, verdict) in list {
                    match self.verdict(fork, &verdict, out) {
                        Done::Next(fork) => self.go_on(fork, rule, at, regs, Vec::new(), out, &mut kept),
                        Done::Rule(fork) => kept.push(fork),
                        Done::Forks(forks) => kept.extend(forks),
                        Done::Perhaps(..) | Done::Gone | Done::Verdicts(_) => {}
                    }
                }
            }
        }
        merge(&mut kept);
        kept
    }

    #[allow(clippy::too_many_arguments)]
    fn go_on(
        &mut self,
        mut fork: Fork,
        rule: &'a Rule,
        at: usize,
        regs: &Regs,
        doubts: Vec<Doubt>,
        out: &mut Out<'_>,
        kept: &mut Vec<Fork>,
    ) {
        let mut inner = Out { accepted: &mut *out.accepted, returned: &mut *out.returned, next: &mut *kept };
        self.rule_from(&mut fork, rule, at + 1, regs.clone(), doubts, &mut inner);
        if !fork.sources.is_empty() {
            kept.push(fork);
        }
    }

    fn perform(&mut self, mut fork: Fork, expr: &'a Expr, regs: &Regs, out: &mut Out<'_>) -> Done {
        match expr {
            Expr::Verdict(verdict) => return self.verdict(fork, verdict, out),
            Expr::Lookup { set, sreg, .. } => return self.verdict_map(fork, set, *sreg, regs),
            Expr::MetaSet { sreg, key: MetaKey::Mark } => fork.packet.mark = known_u32(regs, *sreg),
            Expr::CtSet { sreg, key: CtKey::Mark, .. } if fork.packet.entry() => {
                fork.packet.flow.mark = known_u32(regs, *sreg);
            }
            Expr::CtSet { key: CtKey::Zone, dir: Some(_), .. } => {
                return self.anything(fork, "a conntrack zone of one direction", out);
            }
            Expr::CtSet { sreg, key: CtKey::Zone, .. } => match regs.known(*sreg, 2).and_then(|b| b.try_into().ok()) {
                Some(zone) if matches!(fork.packet.tracking, Tracking::None | Tracking::Untracked) => {
                    fork.packet.zone = u16::from_ne_bytes(zone);
                    fork.packet.tracking = Tracking::Template;
                }
                Some(_) => {}
                None => return self.anything(fork, "a conntrack zone that is not known", out),
            },
            Expr::Notrack => untrack(&mut fork),
            Expr::PayloadSet { sreg, base, offset, len } => {
                return self.rewrite(fork, regs, *sreg, *base, *offset, *len as usize, out);
            }
            Expr::Dynset { set, exprs, .. } => {
                let metered = if self.first { self.metered(&mut fork.packet, expr) } else { None };
                if let Some(site) = self.stack.last() {
                    let name = (site.table.name.clone(), set.clone());
                    if !fork.packet.touched.contains(&name) {
                        fork.packet.touched.push(name);
                    }
                }
                let limit = |e: &Expr| matches!(e, Expr::Limit { .. } | Expr::Quota { .. } | Expr::Connlimit { .. });
                match metered {
                    Some(true) => return Done::Next(fork),
                    Some(false) => return Done::Rule(fork),
                    None => {}
                }
                if exprs.iter().any(limit) {
                    return Done::Perhaps(fork, Doubt::conditional("limited by rate for each source"));
                }
                if let Some(other) = exprs.iter().find(|e| !matches!(e, Expr::Counter | Expr::Last)) {
                    return Done::Perhaps(fork, Doubt::unknown(format!("{other:?} in a set is not modelled")));
                }
            }
            Expr::Nat(nat) => return self.nat(fork, nat, regs, out),
            Expr::Reject(with) => return self.reject(fork, *with),
            Expr::Queue => return self.anything(fork, "a program decides (queue)", out),
            Expr::Fwd => {
                self.note(&fork, Some("fwd"), "sends it elsewhere");
                self.end(fork, None);
                return Done::Gone;
            }
            Expr::Tproxy { .. } => return self.anything(fork, "tproxy hands it to another socket", out),
            Expr::Synproxy | Expr::Objref { .. } => {
                return self.anything(fork, "synproxy answers in the server's place", out);
            }
            Expr::XtTarget(target) => return self.target(fork, target, out),
            // Only a first connection's walk comes here with them.
            Expr::Limit { .. } | Expr::Quota { .. } | Expr::Connlimit { .. } | Expr::XtMatch(_) => {
                if self.repeats(&fork.packet, expr) {
                    self.give_up(&mut vec![fork], "every packet of the connection counts");
                    return Done::Gone;
                }
                return match self.remember(&mut fork.packet, expr) {
                    Some(true) => Done::Next(fork),
                    Some(false) => Done::Rule(fork),
                    None => match self.why(&fork, expr) {
                        Some(doubt) => Done::Perhaps(fork, doubt),
                        None => Done::Next(fork),
                    },
                };
            }
            _ => {}
        }
        self.note(&fork, None, "goes on");
        Done::Next(fork)
    }

    fn verdict(&mut self, fork: Fork, verdict: &Verdict, out: &mut Out<'_>) -> Done {
        match verdict {
            Verdict::Accept => {
                self.note(&fork, None, "accept");
                out.accepted.push(fork);
                Done::Gone
            }
            Verdict::Drop | Verdict::Stolen => {
                self.note(&fork, None, "drop");
                self.end(fork, None);
                Done::Gone
            }
            Verdict::Continue => Done::Next(fork),
            Verdict::Break => Done::Rule(fork),
            Verdict::Return => {
                self.note(&fork, None, "return");
                out.returned.push(fork);
                Done::Gone
            }
            Verdict::Jump(chain) => {
                self.note(&fork, None, format_args!("jump {chain}"));
                Done::Forks(self.call(chain, fork, out.accepted))
            }
            Verdict::Goto(chain) => {
                self.note(&fork, None, format_args!("goto {chain}"));
                let returned = self.call(chain, fork, out.accepted);
                out.returned.extend(returned);
                Done::Gone
            }
            Verdict::Queue => self.anything(fork, "a program decides (queue)", out),
            Verdict::Unknown(code) => self.anything(fork, &format!("verdict {code} is not modelled"), out),
        }
    }

    fn verdict_map(&mut self, fork: Fork, set: &str, sreg: Reg, regs: &Regs) -> Done {
        let (Some(found), Some(table)) = (self.set(set), self.stack.last().map(|s| s.table)) else {
            self.give_up(&mut vec![fork], &format!("map {set} could not be read"));
            return Done::Gone;
        };
        let key = regs.get(sreg, found.key_len);
        let hits = match self.find(&fork.packet, table, found, regs, key) {
            Ok(hits) => hits,
            Err(why) => {
                self.give_up(&mut vec![fork], &why.reason);
                return Done::Gone;
            }
        };
        let mut left = fork;
        let mut out = Vec::new();
        for (cond, place) in hits {
            let sources = match cond {
                Cond::Never => continue,
                Cond::Always => left.sources.clone(),
                Cond::Sources(sources) => left.sources.intersection(&sources),
                Cond::Maybe(why) | Cond::Part { doubt: why, .. } => {
                    self.give_up(&mut vec![left], &why.reason);
                    return Done::Verdicts(out);
                }
            };
            if sources.is_empty() {
                continue;
            }
            left.sources.subtract(&sources);
            let verdict = match found.elements.get(place).and_then(|e| e.data.as_ref()) {
                Some(ElementData::Verdict(verdict)) => verdict.clone(),
                _ => Verdict::Unknown(0),
            };
            out.push((left.with(sources), verdict));
        }
        if !left.sources.is_empty() {
            out.push((left, Verdict::Break));
        }
        Done::Verdicts(out)
    }

    fn target(&mut self, mut fork: Fork, target: &XtTarget, out: &mut Out<'_>) -> Done {
        match target {
            XtTarget::Accept => return self.verdict(fork, &Verdict::Accept, out),
            XtTarget::Drop => return self.verdict(fork, &Verdict::Drop, out),
            XtTarget::Return => return self.verdict(fork, &Verdict::Return, out),
            XtTarget::Jump(chain) => return self.verdict(fork, &Verdict::Jump(chain.clone()), out),
            XtTarget::Goto(chain) => return self.verdict(fork, &Verdict::Goto(chain.clone()), out),
            XtTarget::Queue | XtTarget::Nfqueue { .. } => return self.verdict(fork, &Verdict::Queue, out),
            XtTarget::Reject(with) => return self.reject(fork, *with),
            XtTarget::Mark { mark, mask } => fork.packet.mark = fork.packet.mark.map(|m| (m & !mask) ^ mark),
            XtTarget::Connmark { mode: ConnmarkMode::Set | ConnmarkMode::Save, .. }
                if fork.packet.tracking == Tracking::Template =>
            {
                return self.anything(fork, "a mark for the flow of a packet before it is tracked", out);
            }
            XtTarget::Connmark { mode: ConnmarkMode::Restore, nfmask, .. }
                if fork.packet.tracking == Tracking::Template =>
            {
                fork.packet.mark = fork.packet.mark.map(|mark| mark & !nfmask);
            }
            XtTarget::Connmark { .. } if !fork.packet.entry() => {}
            XtTarget::Connmark { mode, ctmark, ctmask, nfmask } => {
                let (packet, flow) = (fork.packet.mark, fork.packet.flow.mark);
                match mode {
                    ConnmarkMode::Set => fork.packet.flow.mark = flow.map(|m| (m & !ctmask) ^ ctmark),
                    ConnmarkMode::Save => {
                        fork.packet.flow.mark = flow.zip(packet).map(|(ct, nf)| (ct & !ctmask) ^ (nf & nfmask));
                    }
                    ConnmarkMode::Restore => {
                        fork.packet.mark = packet.zip(flow).map(|(nf, ct)| (nf & !nfmask) ^ (ct & ctmask));
                    }
                }
            }
            XtTarget::Ct { notrack: true, .. } => untrack(&mut fork),
            XtTarget::Ct { zone, .. } if fork.packet.tracking == Tracking::None => {
                fork.packet.zone = *zone;
                fork.packet.tracking = Tracking::Template;
            }
            XtTarget::Ct { .. } => {}
            XtTarget::Nat { kind, addresses, ports, .. } => {
                let address = match addresses.as_deref() {
                    Some((a, b)) if a != b => return self.anything(fork, "dnat to one of several addresses", out),
                    addresses => addresses.map(|(a, _)| *a),
                };
                let port = match ports {
                    Some((a, b)) if a != b => return self.anything(fork, "dnat to one of several ports", out),
                    ports => ports.map(|(a, _)| a),
                };
                return self.divert(fork, *kind, address, port, out);
            }
            XtTarget::Netmap { to, kind } => {
                let (address, mask) = **to;
                let mapped = (fork.packet.address & !mask) | address;
                return self.divert(fork, *kind, Some(mapped), None, out);
            }
            XtTarget::Tproxy { .. } => return self.anything(fork, "TPROXY hands it to another socket", out),
            XtTarget::Synproxy => return self.anything(fork, "SYNPROXY answers in the server's place", out),
            XtTarget::Set { sets } => {
                for set in sets.iter().map(|&set| touched(set)) {
                    if !fork.packet.touched.contains(&set) {
                        fork.packet.touched.push(set);
                    }
                }
            }
            XtTarget::Unknown { name } => {
                return self.anything(fork, &format!("target {name} is not modelled"), out);
            }
            XtTarget::Continue | XtTarget::Log { .. } | XtTarget::Harmless { .. } => {}
        }
        self.note(&fork, None, "goes on");
        Done::Next(fork)
    }

    fn nat(&mut self, fork: Fork, nat: &Nat, regs: &Regs, out: &mut Out<'_>) -> Done {
        // In an inet table it may be meant for the other family.
        let own = if fork.packet.family == Family::Ipv4 { TableFamily::Ip } else { TableFamily::Ip6 };
        if ![0, own.nfproto(), TableFamily::Inet.nfproto()].contains(&nat.nfproto) {
            return Done::Next(fork);
        }
        let wide = |reg: Reg| {
            let bytes = regs.known(reg, fork.packet.family.bytes())?;
            Some(bytes.iter().fold(0u128, |n, &b| n << 8 | u128::from(b)))
        };
        let port = |reg: Reg| regs.known(reg, 2)?.try_into().ok().map(u16::from_be_bytes);
        let one = |min: Option<Reg>, max: Option<Reg>| max.is_none() || max == min;
        let address = nat.addr_min.map(wide);
        let to_port = nat.port_min.map(port);
        let same_address = one(nat.addr_min, nat.addr_max) || nat.addr_max.map(wide) == address;
        let same_port = one(nat.port_min, nat.port_max) || nat.port_max.map(port) == to_port;
        match (address, to_port) {
            (None | Some(Some(_)), None | Some(Some(_))) if same_address && same_port => {
                self.divert(fork, nat.kind, address.flatten(), to_port.flatten(), out)
            }
            _ => self.anything(fork, "nat to one of several places", out),
        }
    }

    /// A nat statement decides once for a flow, and its chain accepts.
    fn divert(
        &mut self,
        mut fork: Fork,
        kind: NatKind,
        address: Option<u128>,
        port: Option<u16>,
        out: &mut Out<'_>,
    ) -> Done {
        if matches!(kind, NatKind::Dnat | NatKind::Redirect) {
            let (packet, flow) = (&fork.packet, &fork.packet.flow);
            let address = match (kind, address, packet.iif) {
                (NatKind::Redirect, _, Some(iif)) => {
                    // An interface without an address drops what is redirected.
                    let Some(address) = self.redirect_address(iif, packet.family) else {
                        self.note(&fork, None, "drop");
                        self.end(fork, None);
                        return Done::Gone;
                    };
                    address
                }
                (_, address, _) => address.unwrap_or(flow.address),
            };
            let port = port.unwrap_or(flow.port);
            // What other rules have made of the packet since it was tracked nat does not know.
            if (address, port) != (flow.address, flow.port) {
                let by = self.blame(true);
                fork.packet.flow.diverted = Some(Diversion { address, port, by });
                (fork.packet.address, fork.packet.port) = (address, port);
            }
        }
        fork.packet.nat_done = true;
        self.note(&fork, None, "sends it elsewhere");
        out.accepted.push(fork);
        Done::Gone
    }

    /// None: the interface has no address.
    fn redirect_address(&self, interface: u32, family: Family) -> Option<u128> {
        let own = crate::facts::number(self.path.address);
        // Which of several IPv6 addresses the kernel selects is not known; the one asked for is as good.
        let good = self.net.addresses.present().is_none() || family == Family::Ipv6 && self.owns(interface, own);
        if good { Some(own) } else { first_address(self.net, interface, family) }
    }

    fn reject(&mut self, fork: Fork, with: RejectWith) -> Done {
        let symptom = match (fork.packet.phase, with) {
            (Phase::Syn, _) => Some(Symptom::Refused),
            (Phase::Ack, RejectWith::TcpReset) => Some(Symptom::Closed),
            _ => None,
        };
        self.note(&fork, None, "reject");
        self.end(fork, symptom);
        Done::Gone
    }

    #[allow(clippy::too_many_arguments)]
    fn rewrite(
        &mut self,
        mut fork: Fork,
        regs: &Regs,
        sreg: Reg,
        base: PayloadBase,
        offset: u32,
        len: usize,
        out: &mut Out<'_>,
    ) -> Done {
        let packet = &fork.packet;
        let (source, destination, width) = match packet.family {
            Family::Ipv4 => (12, 16, 4),
            Family::Ipv6 => (8, 24, 16),
        };
        let (host, client) = if packet.inwards() { (destination, source) } else { (source, destination) };
        let (host_port, client_port) = if packet.inwards() { (2, 0) } else { (0, 2) };
        let overlaps = |field: u32, size: u32| offset < field + size && field < offset + len as u32;
        let known = regs.known(sreg, len);
        let before = packet.server();
        match (base, known) {
            (PayloadBase::Network, Some(bytes)) if offset == host && len == width => {
                fork.packet.address = bytes.iter().fold(0, |n, &b| n << 8 | u128::from(b));
            }
            (PayloadBase::Transport, Some(bytes)) if offset == host_port && len == 2 => {
                fork.packet.port = bytes.iter().fold(0, |n, &b| n << 8 | u16::from(b));
            }
            (PayloadBase::Network, _) if overlaps(host, width as u32) || overlaps(client, width as u32) => {
                return self.anything(fork, "an address rewritten without nat", out);
            }
            (PayloadBase::Transport, _) if overlaps(host_port, 2) || overlaps(client_port, 2) || overlaps(13, 1) => {
                return self.anything(fork, "a port or flag rewritten without nat", out);
            }
            _ => {}
        }
        if fork.packet.server() != before {
            fork.packet.rewritten = Some(self.blame(true));
        }
        self.note(&fork, None, "goes on");
        Done::Next(fork)
    }

    /// Accepted, dropped or neither: what is not modelled may do any of it.
    fn anything(&mut self, mut fork: Fork, why: &str, out: &mut Out<'_>) -> Done {
        let raised = Arc::new(Raised { doubt: Doubt::unknown(why), by: self.blame(true) });
        fork.doubt(&raised);
        self.note(&fork, None, "not modelled");
        self.end(fork.clone(), None);
        out.accepted.push(fork.clone());
        Done::Rule(fork)
    }
}

fn untrack(fork: &mut Fork) {
    if fork.packet.tracking == Tracking::None {
        fork.packet.tracking = Tracking::Untracked;
    }
}

fn known_u32(regs: &Regs, reg: Reg) -> Option<u32> {
    regs.known(reg, 4)?.try_into().ok().map(u32::from_ne_bytes)
}
