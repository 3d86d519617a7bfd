//! What is found out once about a firewall, however many paths are walked through it.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::digest::{Digest, Source};
use super::first::Shared;
use super::lookup::Prepared;
use crate::facts::{
    AddrSet, Chain, ChainKind, Expr, Family, Firewall, IpSet, Language, RuleRef, Seen, Table, Verdict, XtMatch,
    XtTarget,
};

pub struct Rules<'a> {
    pub tables: Vec<&'a Table>,
    pub ipsets: &'a Seen<Vec<IpSet>>,
    /// Of all tables, in their order.
    pub chains: Vec<Known<'a>>,
    by_name: HashMap<(*const Table, &'a str), usize>,
    /// Of all tables.
    sets: Vec<Prepared<'a>>,
    set_places: HashMap<(*const Table, &'a str), usize>,
    /// Members of ipsets of plain addresses, by their number.
    pub members: RefCell<HashMap<(u16, Family), AddrSet>>,
    /// What the digests of all chains look at.
    pub sources: RefCell<Vec<Source>>,
    shared: OnceCell<Shared<'a>>,
    tracked: [OnceCell<bool>; 2],
}

/// A chain, and what is known of it once somebody asks.
pub struct Known<'a> {
    pub table: &'a Table,
    pub chain: &'a Chain,
    language: Rc<OnceCell<Arc<Language>>>,
    /// Of its table.
    plain: Rc<OnceCell<bool>>,
    named: OnceCell<Named>,
    digest: OnceCell<Digest<'a>>,
}

/// A chain as those name it who blame its rules.
pub struct Named {
    pub place: Arc<str>,
    pub at: RuleRef,
    pub language: Arc<Language>,
}

impl<'a> Rules<'a> {
    pub fn of(firewall: &'a Firewall) -> Rules<'a> {
        let tables: Vec<&Table> = firewall.tables().collect();
        let (mut chains, mut by_name) = (Vec::new(), HashMap::new());
        let (mut sets, mut set_places) = (Vec::new(), HashMap::new());
        for &table in &tables {
            let key = std::ptr::from_ref(table);
            let (language, plain) = (Rc::new(OnceCell::new()), Rc::new(OnceCell::new()));
            for chain in &table.chains {
                by_name.insert((key, chain.name.as_str()), chains.len());
                let (language, plain) = (language.clone(), plain.clone());
                chains.push(Known { table, chain, language, plain, named: OnceCell::new(), digest: OnceCell::new() });
            }
            for set in table.sets.iter() {
                set_places.insert((key, set.name.as_str()), sets.len());
                sets.push(Prepared::of(set));
            }
        }
        Rules {
            tables,
            ipsets: &firewall.ipsets,
            chains,
            by_name,
            sets,
            set_places,
            members: RefCell::default(),
            sources: RefCell::default(),
            shared: OnceCell::new(),
            tracked: Default::default(),
        }
    }

    /// Among `chains`.
    pub fn place_of_chain(&self, table: &Table, name: &str) -> Option<usize> {
        self.by_name.get(&(std::ptr::from_ref(table), name)).copied()
    }

    pub fn set(&self, table: &Table, name: &str) -> Option<&Prepared<'a>> {
        self.set_at(self.place_of_set(table, name)?)
    }

    /// By which [`Rules::set_at`] gives it.
    pub fn place_of_set(&self, table: &Table, name: &str) -> Option<usize> {
        self.set_places.get(&(std::ptr::from_ref(table), name)).copied()
    }

    pub fn set_at(&self, place: usize) -> Option<&Prepared<'a>> {
        self.sets.get(place)
    }

    /// How many rules there are.
    pub fn count(&self) -> usize {
        self.chains.iter().map(|k| k.chain.rules.len()).sum()
    }

    /// Whether any rule for packets of this family needs connection tracking: else the kernel does none.
    pub fn tracked(&self, family: Family) -> bool {
        let sees = |k: &&Known<'a>| k.table.family.sees(family);
        let any = || self.exprs(sees).any(needs_tracking);
        *self.tracked[family as usize].get_or_init(any)
    }

    /// Whether there is nat for them.
    pub fn nat(&self, family: Family) -> bool {
        let bases = self.chains.iter().filter(|k| k.table.family.sees(family)).filter_map(|k| k.chain.base.as_ref());
        bases.into_iter().any(|b| b.kind == ChainKind::Nat)
    }

    /// What rules have in common that remember something.
    pub fn shared(&self) -> &Shared<'a> {
        self.shared.get_or_init(|| Shared::of(self.exprs(|_| true)))
    }

    fn exprs(&self, of: impl Fn(&&Known<'a>) -> bool) -> impl Iterator<Item = &'a Expr> {
        self.chains.iter().filter(of).flat_map(|k| k.chain.rules.iter()).flat_map(|r| &r.exprs)
    }
}

impl<'a> Known<'a> {
    pub fn named(&self) -> &Named {
        self.named.get_or_init(|| {
            let at = RuleRef {
                backend: self.table.backend,
                family: self.table.family,
                table: self.table.name.as_str().into(),
                chain: self.chain.name.as_str().into(),
                index: None,
            };
            let language = self.language.get_or_init(|| Arc::new(Language::of(self.table))).clone();
            Named { place: at.to_string().into(), at, language }
        })
    }

    /// Whether no rule of the chain, or of one that it may call, does more than to let pass or to drop.
    pub fn is_plain(&self) -> bool {
        let exprs = || self.table.chains.iter().flat_map(|c| c.rules.iter()).flat_map(|r| &r.exprs);
        *self.plain.get_or_init(|| exprs().all(is_plain))
    }

    pub fn digest(&self, rules: &Rules<'a>) -> &Digest<'a> {
        self.digest.get_or_init(|| Digest::of(self, rules))
    }
}

/// Expressions that make the kernel track connections (its callers of `nf_ct_netns_get`).
fn needs_tracking(expr: &Expr) -> bool {
    match expr {
        Expr::Ct { .. } | Expr::CtSet { .. } | Expr::Connlimit { .. } | Expr::Nat(_) => true,
        Expr::Synproxy | Expr::FlowOffload { .. } | Expr::Objref { .. } => true,
        Expr::Dynset { exprs, .. } => exprs.iter().any(needs_tracking),
        Expr::XtMatch(found) => match found {
            XtMatch::Conntrack(_) | XtMatch::Connmark { .. } => true,
            XtMatch::Rate { name, .. } | XtMatch::History { name, .. } => name.starts_with("conn"),
            XtMatch::AbsentHeader { name, .. } => name == "helper",
            XtMatch::Unknown { .. } => true,
            _ => false,
        },
        Expr::XtTarget(found) => match found {
            XtTarget::Connmark { .. } | XtTarget::Nat { .. } | XtTarget::Netmap { .. } | XtTarget::Synproxy => true,
            XtTarget::Ct { notrack, .. } => !notrack,
            XtTarget::Unknown { .. } => true,
            _ => false,
        },
        Expr::Unknown { .. } => true,
        _ => false,
    }
}

/// Whether the packet, its flow and whatever rules remember stay as they are.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Immediate { .. } | Expr::Cmp { .. } | Expr::Range { .. } | Expr::Payload { .. } | Expr::Meta { .. } => {
            true
        }
        Expr::Ct { .. } | Expr::Bitwise { .. } | Expr::Byteorder { .. } | Expr::Fib { .. } => true,
        Expr::Counter | Expr::Log { .. } => true,
        Expr::Lookup { dreg, .. } => *dreg != Some(None),
        Expr::Verdict(verdict) => !matches!(verdict, Verdict::Queue | Verdict::Stolen | Verdict::Unknown(_)),
        Expr::XtMatch(found) => matches!(
            found,
            XtMatch::Header(_)
                | XtMatch::Tcp { .. }
                | XtMatch::Udp { .. }
                | XtMatch::Multiport { .. }
                | XtMatch::Conntrack(_)
                | XtMatch::Iprange(_)
                | XtMatch::Addrtype { .. }
                | XtMatch::Set { .. }
                | XtMatch::Mark { .. }
                | XtMatch::Comment(_)
        ),
        Expr::XtTarget(target) => matches!(
            target,
            XtTarget::Accept
                | XtTarget::Drop
                | XtTarget::Return
                | XtTarget::Jump(_)
                | XtTarget::Goto(_)
                | XtTarget::Continue
                | XtTarget::Log { .. }
        ),
        _ => false,
    }
}
