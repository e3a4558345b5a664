//! Turns the effects of consecutive entries into batches that a standby can take. Pure.
//!
//! ```text
//! Resolved -> Unit (our own keys cut out) -> Batch (one transaction's worth)
//! ```
//!
//! Users and roles are not changed by a transaction. Entries that change them come in batches of
//! their own, as many in a row as there are: what they lead to is done before the batch is written,
//! and everything before them is written by then.
//!
//! A batch holds whole primary revisions only. Within one revision only the net effect is written,
//! so the standby never holds a delete and a put of one key in one revision: a compaction exactly
//! there would destroy the key in etcd 3.5 to 3.7.

pub mod auth;
mod batch;
mod compaction;
mod leases;
mod nest;

pub use batch::{Batch, Unit, Write, weight};
pub use compaction::{CompactionPolicy, Milestones};
pub use leases::LeasePlan;
pub use nest::{Nested, capacity, list_max, nest};

use crate::ids::RaftIndex;
use crate::reserved;
use crate::resolve::{Changes, LeaseChange};

/// What one transaction of the standby may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Operations in a batch, beside the checkpoint. A single larger revision still goes alone.
    pub batch_ops_max: usize,
    /// Bytes of the operations in a batch. A single larger revision still goes alone.
    pub batch_bytes_max: usize,
    /// The standby's `--max-txn-ops`: the longest list in one transaction.
    pub txn_ops_max: usize,
}

/// What to do when a batch touches a key for the second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// End the batch there, so that the standby shows each state of each key.
    Keep,
    /// Write only the last state.
    Last,
}

/// A revision that no transaction of the standby can take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "entry {index} changes {ops} keys or ranges in one revision, and one transaction of the standby \
     takes {capacity} at most: raise `--max-txn-ops` on the standby (it is {txn_ops_max})"
)]
pub struct TooLarge {
    /// The entry.
    pub index: RaftIndex,
    /// The operations it needs.
    pub ops: usize,
    /// How many fit.
    pub capacity: usize,
    /// The standby's limit.
    pub txn_ops_max: usize,
}

/// Collects entries into one batch at a time.
#[derive(Debug)]
pub struct Planner {
    limits: Limits,
    /// Operations that one transaction can carry beside the checkpoint and the journal.
    capacity: usize,
    open: Batch,
}

impl Planner {
    /// A planner without a batch.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let capacity = capacity(list_max(limits.txn_ops_max));
        Self {
            capacity,
            limits,
            open: Batch::default(),
        }
    }

    /// Takes the next entry into the open batch, or gives it back if the batch must go first.
    ///
    /// # Errors
    /// [`TooLarge`] if no transaction of the standby could hold the entry.
    pub fn push(&mut self, mut unit: Unit, history: History) -> Result<Option<Unit>, TooLarge> {
        unit.changes = without_reserved(unit.changes);
        let changes = &unit.changes;
        if self.open.units().is_empty() {
            self.check_alone(&unit)?;
        } else {
            // Each put may part a range of the batch in two, which adds one operation more.
            let ops = self.open.ops() + 2 * changes.puts.len() + changes.deletes.len();
            let bytes = self.open.bytes() + weight(changes);
            let is_full = ops > self.limits.batch_ops_max || bytes > self.limits.batch_bytes_max;
            let again = history == History::Keep && self.open.touches(changes);
            let is_apart = if unit.auth.is_empty() {
                self.open.changes_auth() && !changes.is_empty()
            } else {
                self.open.ops() > 0
            };
            if is_apart || !changes.is_empty() && (is_full || again) {
                return Ok(Some(unit));
            }
        }
        self.open.add(unit);
        Ok(None)
    }

    /// True if an entry in the open batch wrote or deleted `key`.
    #[must_use]
    pub fn touches_key(&self, key: &[u8]) -> bool {
        self.open.touches_key(key)
    }

    /// True if no entry waits in the open batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.units().is_empty()
    }

    /// Hands the open batch out; None if it holds no entry.
    pub fn take(&mut self) -> Option<Batch> {
        let batch = std::mem::take(&mut self.open);
        (!batch.units().is_empty()).then_some(batch)
    }

    /// The keys of a lease that ends are deleted by the standby itself, if they are too many.
    fn check_alone(&self, unit: &Unit) -> Result<(), TooLarge> {
        let changes = &unit.changes;
        let ops = changes.puts.len() + changes.deletes.len();
        let ends_lease = matches!(unit.lease, Some(LeaseChange::Revoked { .. }));
        if ops <= self.capacity || (ends_lease && changes.puts.is_empty()) {
            return Ok(());
        }
        let index = unit.index;
        let txn_ops_max = self.limits.txn_ops_max;
        Err(TooLarge {
            index,
            ops,
            capacity: self.capacity,
            txn_ops_max,
        })
    }
}

/// Leaves our own keys out.
#[must_use]
pub fn without_reserved(mut changes: Changes) -> Changes {
    let reserved = reserved::range();
    changes.puts.retain(|put| !reserved.contains(&put.key));
    if changes
        .deletes
        .iter()
        .any(|range| range.overlaps(&reserved))
    {
        changes.deletes = changes
            .deletes
            .iter()
            .flat_map(|range| range.without(&reserved))
            .collect();
    }
    changes
}

#[cfg(test)]
mod tests;
