//! What a batch asks of the standby's leases before its transaction and after it. Pure.
//!
//! ```text
//!   grants  ---->  transaction  ---->  revokes
//! ```
//!
//! - The transaction names only leases that live at the end of the batch: a key that was attached
//!   to a lease which ended is deleted or belongs to another one by then.
//! - It deletes the keys of a lease that ended, so what is revoked afterwards is empty. A revoke
//!   does nothing to keys, and nobody waits for it.
//! - A lease that ended and was granted again under its id is the same lease on the standby: its
//!   TTL there is not the primary's anyway, and its old keys are gone with the transaction.
//! - A lease that came and went within the batch is never made.

use std::collections::BTreeMap;

use crate::ids::LeaseId;
use crate::resolve::LeaseChange;

/// What a batch asks of the standby's leases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeasePlan {
    /// Leases that must exist before the transaction, ascending.
    pub grants: Vec<LeaseId>,
    /// Leases that end after it, ascending. Nothing is attached to them by then.
    pub revokes: Vec<LeaseId>,
    /// Leases that came and went, ascending. The standby has them only if a process before made
    /// them for a part of this batch and ended before it wrote that.
    pub passed: Vec<LeaseId>,
}

impl LeasePlan {
    /// The plan for what the entries of one batch did to leases, in their order.
    #[must_use]
    pub fn of(changes: impl IntoIterator<Item = LeaseChange>) -> Self {
        // Of each lease: whether it was there before the batch, and whether it is afterwards.
        let mut leases: BTreeMap<LeaseId, (bool, bool)> = BTreeMap::new();
        for change in changes {
            let (id, is_there) = match change {
                LeaseChange::Granted { id, ttl: _ } => (id, true),
                LeaseChange::Revoked { id } => (id, false),
            };
            leases.entry(id).or_insert((!is_there, is_there)).1 = is_there;
        }
        let mut plan = Self::default();
        for (id, fate) in leases {
            match fate {
                (false, true) => plan.grants.push(id),
                (true, false) => plan.revokes.push(id),
                (false, false) => plan.passed.push(id),
                (true, true) => {}
            }
        }
        plan
    }

    /// True if nothing is asked.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.grants.is_empty() && self.revokes.is_empty() && self.passed.is_empty()
    }
}

#[cfg(test)]
mod tests;
