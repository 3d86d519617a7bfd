//! A plan tried on the model of the rules: the same inserts that will be made, put into a copy of the facts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Insert, Step, accept, fail2ban};
use crate::facts::{Backend, Family, Firewall, TableFamily};

/// Where one step inserts: the table, and the inserts in the order in which they are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableInserts {
    pub backend: Backend,
    pub family: TableFamily,
    pub table: String,
    pub inserts: Vec<Insert>,
}

impl Step {
    /// The rules that this step comes down to, for the model and the rehearsal: what ufw and firewalld will write
    /// stands at the head of the chain that they write it to. Empty for steps that touch no rules.
    pub fn inserts(&self, firewall: &Firewall) -> Vec<TableInserts> {
        match self {
            Step::Nft { family, table, inserts, .. } => vec![TableInserts {
                backend: Backend::Nft,
                family: *family,
                table: table.clone(),
                inserts: inserts.clone(),
            }],
            Step::Iptables { backend, family, table, inserts } => vec![TableInserts {
                backend: *backend,
                family: ip_table(*family),
                table: table.clone(),
                inserts: inserts.clone(),
            }],
            Step::UfwAllow { model, .. } | Step::FirewalldAllow { model, .. } => {
                model.iter().filter(|t| firewall.table(t.backend, t.family, &t.table).is_some()).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Takes out of the model what the step lets the owner of rules take away.
    pub fn take_away(&self, firewall: &mut Firewall) {
        if let Step::Unban { jail, addresses } = self {
            fail2ban::lifted(firewall, jail, addresses);
        }
    }
}

/// The table family that iptables and ip6tables use for an address family.
pub fn ip_table(family: Family) -> TableFamily {
    match family {
        Family::Ipv4 => TableFamily::Ip,
        Family::Ipv6 => TableFamily::Ip6,
    }
}

/// Puts the inserts of one table into the model. False if the table or a chain is not there.
pub fn insert(firewall: &mut Firewall, id: &str, at: &TableInserts) -> bool {
    let Some(table) = firewall.table_mut(at.backend, at.family, &at.table) else { return false };
    for insert in &at.inserts {
        let rules = accept::rules(&insert.accept, id, at.family, at.backend == Backend::Legacy);
        let Some(chain) = table.chains.iter_mut().find(|c| c.name == insert.chain) else { return false };
        let index = insert.index.min(chain.rules.len());
        Arc::make_mut(&mut chain.rules).splice(index..index, rules);
    }
    true
}
