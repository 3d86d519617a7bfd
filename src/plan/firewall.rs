//! The least that opens the firewall: accepts, each in the chain that drops.

use super::fail2ban;
use super::owner::{Opening, Owner, opening, owner};
use super::{Accept, Draft, Insert, Step, TableInserts, Traffic, insert, ip_table};
use crate::facts::{AddrSet, Boot, Family, Firewall, Hook, Rule, RuleRef, Seen, Snapshot, TableFamily, escape};
use crate::judge::{self, Blocked, Demand, Gate, Intent, Judgement, PathVerdict, Standing, judge};
use crate::policy::{Mode, Policy, Strategy};
use ipnet::IpNet;

/// Accepts that one plan may be made of.
const LIMIT: usize = 64;
/// Services that load rules at boot, besides ufw.
const SERVICES: [&str; 5] =
    ["firewalld.service", "nftables.service", "netfilter-persistent.service", "iptables.service", "ip6tables.service"];

/// One thing that bars the way of a demand.
struct Bar<'a> {
    demand: &'a Demand,
    verdict: &'a PathVerdict,
    blocked: &'a Blocked,
    wanted: AddrSet,
}

pub fn mend(policy: &Policy, snapshot: &Snapshot, judgement: &Judgement, id: &str, draft: &mut Draft) {
    match policy.firewall.strategy {
        Strategy::Insert => {}
        Strategy::Flush => return draft.steps.push(Step::Flush),
        Strategy::Disable => {
            let ufw = snapshot.owners.ufw.present().is_some_and(|u| u.enabled && u.command);
            return draft.steps.push(Step::Disable { services: SERVICES.map(str::to_owned).into(), ufw });
        }
    }
    if let Some(firewalld) = snapshot.owners.firewalld.present().filter(|f| f.panic) {
        match policy.firewall.panic {
            Mode::Repair => draft.steps.push(Step::FirewalldPanicOff),
            _ => draft.decline(
                "firewall.panic",
                &format!("firewalld {} is in panic mode, which somebody has switched on", escape(&firewalld.version)),
            ),
        }
        return;
    }
    let Least { rules, openings } = least(policy, snapshot, judgement, id, None, draft);
    draft.steps.extend(openings);
    draft.steps.extend(steps(snapshot, rules));
}

/// Rules, and what the owners of rules are asked for.
pub struct Least {
    pub rules: Vec<TableInserts>,
    pub openings: Vec<Step>,
}

/// The least that opens the rules of `seen`, which `judgement` is about. What is declined goes to the draft, under `code`
/// or, without it, under that of the thing that bars.
pub fn least(
    policy: &Policy,
    seen: &Snapshot,
    judgement: &Judgement,
    id: &str,
    code: Option<&str>,
    draft: &mut Draft,
) -> Least {
    // What the next boot loads is another question, and need not be asked at each trial.
    let mut model = Snapshot { boot: Boot::nothing(), ..seen.clone() };
    // Bans among what a file loads are nothing that a fail2ban could be asked to lift.
    model.owners.fail2ban_running &= code.is_none();
    let mut trial = Trial { policy, id, model, made: Vec::new(), openings: Vec::new() };
    let mut now = judgement.clone();
    let mut given_up: Vec<(Family, u16)> = Vec::new();
    for _ in 0..LIMIT {
        let intent = Intent::of(policy, &trial.model, &now.gates);
        let Some(bar) = next_bar(policy, &intent, &now, &given_up) else { break };
        match trial.open(&bar, &intent) {
            Ok(()) => now = judge(policy, &trial.model),
            Err(why) => {
                let own = || crate::judge::blame::code(&bar.blocked.by, bar.blocked.symptom).unwrap_or("firewall.drop");
                draft.decline(code.unwrap_or_else(own), &why);
                given_up.push((bar.demand.family, bar.demand.port));
            }
        }
    }
    trial.into_least()
}

/// The widest thing in the way of the first demand that the firewall does not meet.
fn next_bar<'a>(
    policy: &Policy,
    intent: &'a Intent,
    now: &'a Judgement,
    given_up: &[(Family, u16)],
) -> Option<Bar<'a>> {
    let open = |d: &&Demand| matches!(d.firewall, Standing::Lacking { .. }) && !given_up.contains(&(d.family, d.port));
    for demand in intent.demands.iter().filter(open) {
        let Standing::Lacking { wanted } = &demand.firewall else { continue };
        let named = policy.ssh.sources.is_some();
        let verdicts = demand.paths.iter().filter_map(|&i| now.gates.get(i)).map(|g| &g.firewall);
        let bars = verdicts.flat_map(|v| v.blocked.iter().map(move |b| (v, b)));
        // A ban is meant, unless the policy names the source as one that must get in.
        let bars = bars.filter(|(_, b)| named || !b.by.respected);
        let widest = bars
            .map(|(verdict, blocked)| (verdict, blocked, blocked.sources.intersection(wanted)))
            .filter(|(.., wanted)| !wanted.is_empty())
            .max_by_key(|(.., wanted)| wanted.count());
        if let Some((verdict, blocked, wanted)) = widest {
            return Some(Bar { demand, verdict, blocked, wanted });
        }
    }
    None
}

/// The plan tried on a model of the rules.
struct Trial<'a> {
    policy: &'a Policy,
    id: &'a str,
    model: Snapshot,
    made: Vec<TableInserts>,
    openings: Vec<Step>,
}

impl Trial<'_> {
    fn open(&mut self, bar: &Bar<'_>, intent: &Intent) -> Result<(), String> {
        let by = &bar.blocked.by;
        let (Gate::Firewall, Some(at), Some(hook)) = (by.gate, &by.rule_ref, by.hook) else {
            return Err(format!("{} is not a matter of firewall rules, and routes are not changed", escape(&by.place)));
        };
        if self.unban(bar) {
            return Ok(());
        }
        let mut way = by.way();
        way.push(at);
        match owner(&self.model, &way, &bar.verdict.path.interface) {
            Owner::Nobody => self.insert(bar, intent, hook, &way),
            Owner::Foreign(why) => Err(why),
            Owner::Tool(_) if by.neighbours => Err(format!(
                "{} is kept by ufw or firewalld, and neighbour discovery is nothing that they are asked for as a port",
                escape(&by.place)
            )),
            Owner::Tool(tool) => {
                let sources = self.sources(bar.demand.family, &bar.wanted);
                let opening = opening(&self.model, &tool, bar.verdict, sources, self.policy);
                self.by_owner(opening)
            }
        }
    }

    /// Whether it is a ban that fail2ban can be asked to lift, and was not asked yet.
    fn unban(&mut self, bar: &Bar<'_>) -> bool {
        let Some(nets) = &self.policy.ssh.sources else { return false };
        let named = AddrSet::nets(bar.demand.family, nets);
        let step = fail2ban::lift(&self.model, bar.verdict, bar.blocked, &named, &self.made);
        let Some(step) = step.filter(|step| !self.openings.contains(step)) else { return false };
        step.take_away(&mut self.model.firewall);
        self.openings.push(step);
        true
    }

    /// Through the owner's own tool; the model shows what it will come down to.
    fn by_owner(&mut self, opening: Opening) -> Result<(), String> {
        let new: Vec<Step> = opening.steps.into_iter().filter(|s| !self.openings.contains(s)).collect();
        if new.is_empty() {
            return Err(opening.in_vain);
        }
        for step in &new {
            for at in step.inserts(&self.model.firewall) {
                insert(&mut self.model.firewall, self.id, &at);
            }
        }
        let unmodelled = new.iter().all(|s| s.inserts(&self.model.firewall).is_empty());
        self.openings.extend(new);
        if unmodelled {
            // What the tool builds anew is not in the model: that it helps is seen afterwards, or it is taken back.
            self.model.firewall.nft = Seen::Absent;
            self.model.firewall.legacy4 = Seen::Absent;
            self.model.firewall.legacy6 = Seen::Absent;
        }
        Ok(())
    }

    fn sources(&self, family: Family, wanted: &AddrSet) -> Vec<Option<IpNet>> {
        match &self.policy.ssh.sources {
            None => vec![None],
            Some(nets) => {
                let of_family = nets.iter().filter(|n| Family::of(n.network()) == family);
                of_family.filter(|n| AddrSet::net(**n).intersects(wanted)).map(|n| Some(*n)).collect()
            }
        }
    }

    /// Right before what drops, as deep in the chains as it is sure to let in nobody else.
    fn insert(&mut self, bar: &Bar<'_>, intent: &Intent, hook: Hook, way: &[&RuleRef]) -> Result<(), String> {
        let path = &bar.verdict.path;
        let answer = matches!(hook, Hook::Output | Hook::Postrouting | Hook::Egress);
        let neighbours = bar.blocked.by.neighbours;
        let both = !neighbours && self.policy.ssh.sources.is_none() && lacks_both(intent, bar.demand);
        let mut fallback = None;
        for at in way.iter().rev() {
            let Some(index) = self.place(at) else { continue };
            let per_device = matches!(hook, Hook::Ingress | Hook::Egress);
            // The interfaces of a disk's host are a guess, and a rule for a wrong one would let nobody in.
            let anywhere = per_device || (self.model.at_rest && self.policy.ssh.interfaces.is_none());
            let two = both && matches!(at.family, TableFamily::Inet | TableFamily::Netdev);
            let sources = if neighbours { vec![None] } else { self.sources(path.family, &bar.wanted) };
            let accepts = sources.into_iter().map(|source| Accept {
                traffic: if neighbours { Traffic::Neighbours } else { Traffic::Ssh },
                family: if two { None } else { Some(path.family) },
                source,
                port: path.port,
                interface: (!anywhere).then(|| path.interface.clone()),
                answer,
                after: Vec::new(),
            });
            let inserts = accepts.map(|accept| Insert { chain: at.chain.to_string(), index, accept }).collect();
            let at = TableInserts { backend: at.backend, family: at.family, table: at.table.to_string(), inserts };
            match self.try_insert(bar, &at) {
                Effect::None => {}
                Effect::Exact(model) => return self.keep(at, model),
                Effect::Wider(model) => fallback = Some((at, model)),
            }
        }
        match fallback {
            Some((at, model)) if self.policy.ssh.sources.is_none() => self.keep(at, model),
            Some(_) => Err(format!("an accept in {} would let in others as well", escape(&bar.blocked.by.place))),
            None => Err(format!("no accept in {} changes what it does", escape(&bar.blocked.by.place))),
        }
    }

    fn place(&self, at: &RuleRef) -> Option<usize> {
        let chain = self.model.firewall.chain(at)?;
        Some(at.index.unwrap_or(chain.rules.len()))
    }

    fn keep(&mut self, at: TableInserts, model: Firewall) -> Result<(), String> {
        self.model.firewall = model;
        self.made.push(at);
        Ok(())
    }

    /// What the inserts change on the model: only what is wanted, more, or nothing.
    fn try_insert(&self, bar: &Bar<'_>, at: &TableInserts) -> Effect {
        let mut model = self.model.clone();
        if !insert(&mut model.firewall, self.id, at) {
            return Effect::None;
        }
        let path = &bar.verdict.path;
        // Whether neighbours find the host is a question of its own, which would hide whom a rule lets in.
        let see = if bar.blocked.by.neighbours { judge::firewall } else { judge::rules };
        let now = see(self.policy, &model, path.clone());
        let hidden = !bar.blocked.by.neighbours && bar.verdict.blocked.iter().any(|b| b.by.neighbours);
        let before = match hidden {
            true => see(self.policy, &self.model, path.clone()).reachable(),
            false => bar.verdict.reachable(),
        };
        let still = |b: &&Blocked| b.by == bar.blocked.by && b.symptom == bar.blocked.symptom;
        let left = now.blocked.iter().filter(still).any(|b| b.sources.intersection(&bar.wanted) == bar.wanted);
        if left {
            return Effect::None;
        }
        let let_in = now.reachable().minus(&before);
        // Who is named is no other, even if another rule bars him from here on.
        let named = self.policy.ssh.sources.as_deref().unwrap_or_default();
        if let_in.minus(&AddrSet::nets(path.family, named)).is_subset(&bar.blocked.sources) {
            Effect::Exact(model.firewall)
        } else {
            Effect::Wider(model.firewall)
        }
    }

    fn into_least(self) -> Least {
        let mut rules: Vec<TableInserts> = Vec::new();
        for made in self.made {
            let same =
                |t: &&mut TableInserts| (t.backend, t.family, &t.table) == (made.backend, made.family, &made.table);
            match rules.iter_mut().find(same) {
                Some(table) => table.inserts.extend(made.inserts),
                None => rules.push(made),
            }
        }
        Least { rules, openings: self.openings }
    }
}

/// One step for each table, by the tool that keeps it.
fn steps(seen: &Snapshot, rules: Vec<TableInserts>) -> Vec<Step> {
    let generation = seen.firewall.nft.present().map(|r| r.generation);
    let step = |TableInserts { backend, family, table, inserts }| {
        let by_iptables = seen.firewall.table(backend, family, &table).is_some_and(|t| t.is_iptables());
        let of = [Family::Ipv4, Family::Ipv6].into_iter().find(|f| ip_table(*f) == family);
        match (by_iptables, of) {
            (true, Some(family)) => Step::Iptables { backend, family, table, inserts },
            _ => Step::Nft { generation: generation.unwrap_or(0), family, table, inserts },
        }
    };
    rules.into_iter().map(step).collect()
}

enum Effect {
    None,
    Exact(Firewall),
    /// It lets in others, too.
    Wider(Firewall),
}

/// Whether the same demand of the other family lacks the same.
fn lacks_both(intent: &Intent, demand: &Demand) -> bool {
    intent.demands.iter().any(|other| {
        other.family != demand.family
            && (other.port, &other.interface) == (demand.port, &demand.interface)
            && matches!(other.firewall, Standing::Lacking { .. })
    })
}

/// Whether a chain has rules that jump to chains with this prefix.
pub fn jumps_to(rules: &[Rule], prefix: &str) -> bool {
    use crate::facts::{Expr, Verdict, XtTarget};
    rules.iter().flat_map(|r| &r.exprs).any(|e| match e {
        Expr::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain)) => chain.starts_with(prefix),
        Expr::XtTarget(XtTarget::Jump(chain) | XtTarget::Goto(chain)) => chain.starts_with(prefix),
        _ => false,
    })
}
