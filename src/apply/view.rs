//! What the task shows of itself.

use std::time::Duration;

use crate::ids::{RaftIndex, Revision};
use crate::pipeline::Tally;

/// What the task shows of itself.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Last entry whose effect was worked out.
    pub resolved: RaftIndex,
    /// Last entry whose effect the standby holds.
    pub durable: RaftIndex,
    /// The primary's revision at the durable index.
    pub primary_revision: Revision,
    /// The primary's compact revision at the durable index.
    pub compact_revision: Revision,
    /// The standby's revision that holds the last batch.
    pub standby_revision: i64,
    /// Entries that wait to be worked out.
    pub queued: usize,
    /// Live keys of the primary.
    pub keys: usize,
    /// Leases of the primary.
    pub leases: usize,
    /// Leases that were put right on the standby.
    pub leases_restored: u64,
    /// Bytes of the ledger in the standby.
    pub ledger_bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Transactions sent, more than batches if some had to be sent again.
    pub attempts: u64,
    /// The last batch.
    pub last_batch: BatchView,
    /// The largest value of each figure so far.
    pub largest_batch: BatchView,
    /// Entries on which members of the primary may have disagreed.
    pub disagreements: Vec<RaftIndex>,
    /// Entries by kind.
    pub tallies: Vec<(&'static str, Tally)>,
}

/// Figures of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchView {
    /// Entries of the primary in it.
    pub entries: usize,
    /// Operations on keys.
    pub ops: usize,
    /// Bytes of keys and values, about.
    pub bytes: usize,
    /// From sending it to knowing that it is in the standby.
    pub took: Duration,
}
