//! Making a rehearsed plan true on the live host: intent and undo are journaled before each step, and a step that fails takes
//! back those before it.
#![forbid(unsafe_code)]

pub mod iptables;
pub mod nft;

use crate::facts::Backend;
use crate::host::Host;
use crate::plan::TableInserts;
use crate::rehearse::BoxedError;

/// Writes the accept rules of repair `id` into one table of the calling thread's network namespace: all of them or none.
/// The one function that does so, in a rehearsal as on the live host.
pub fn insert(host: &Host, id: &str, at: &TableInserts) -> Result<(), BoxedError> {
    if at.inserts.is_empty() {
        return Ok(());
    }
    match at.backend {
        Backend::Legacy => Ok(iptables::insert(host, id, at)?),
        Backend::Nft if nft::kept_by_iptables(at.family, &at.table)? => match iptables::insert(host, id, at) {
            // Then no iptables command reads the table as it is either, and nothing is lost.
            Err(error) if error.is_foreign() => Ok(nft::insert(None, id, at)?),
            result => Ok(result?),
        },
        Backend::Nft => Ok(nft::insert(None, id, at)?),
    }
}
