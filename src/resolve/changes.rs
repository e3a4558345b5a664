//! What one entry did to the primary's keyspace, as its net effect.

use bytes::Bytes;

use super::auth::AuthChange;
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision};
use crate::range::KeyRange;

/// The outcome of one entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The entry.
    pub index: RaftIndex,
    /// Revision of the primary after the entry: one more than before it, or the same.
    pub revision: Revision,
    /// Compact revision of the primary after the entry, -1 before the first compaction.
    pub compact_revision: Revision,
    /// Name of the request's kind, for counters and messages.
    pub kind: &'static str,
    /// Whether the entry had any effect.
    pub outcome: Outcome,
    /// What it did to keys; empty without effect.
    pub changes: Changes,
    /// What it did to a lease. The keys that a revoked lease had are in `changes` as deletes.
    pub lease: Option<LeaseChange>,
    /// What it did to users and roles, in the order in which it may be repeated.
    pub auth: Vec<AuthChange>,
    /// What it did to an alarm.
    pub alarm: Option<AlarmChange>,
    /// Set if members of the primary may have done something else. All of the above is what the
    /// majority did.
    pub disagreement: Option<Disagreement>,
}

/// What an entry did to an alarm. Alarms are not replayed, they would block the standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmChange {
    /// It is raised now.
    Raised {
        /// The member that it was raised for.
        member: MemberId,
        /// 1 no space, 2 corrupt; etcd stores other numbers, too.
        kind: i32,
    },
    /// It is not raised any more.
    Cleared {
        /// The member that it was raised for.
        member: MemberId,
        /// 1 no space, 2 corrupt; etcd stores other numbers, too.
        kind: i32,
    },
}

/// An entry that not all members of the primary applied alike, though they agree on what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// Why.
    pub cause: Cause,
    /// The keys on which members may differ since, ascending in each view of the entry.
    pub keys: Vec<KeyRange>,
}

/// Why members disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Only the member that proposed a Txn looks at the Ranges at its top level.
    TopLevelRange,
    /// A member's layers of alarms depend on when it started.
    AlarmLayers,
    /// A member may still see the record that the requester had before it got role root.
    FormerRecord,
}

/// What an entry did to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It exists now.
    Granted {
        /// The lease.
        id: LeaseId,
        /// Its TTL in seconds, raised to the primary's smallest.
        ttl: i64,
    },
    /// It is gone, and so are the keys that were attached to it.
    Revoked {
        /// The lease.
        id: LeaseId,
    },
}

/// Whether an entry took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It changed keys, leases, users, roles, alarms, the revision or the compact revision. A Txn
    /// that puts a new key and deletes it again makes a revision without any change of keys.
    Effect,
    /// It changed nothing, for this reason; the reason is a fixed phrase.
    None(&'static str),
}

/// The net effect of one primary revision: each key is in at most one of the puts, and no put lies
/// in a deleted range. So the order of application does not matter, and one standby transaction may
/// carry all of it in any arrangement.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Keys that exist afterwards and were written, in ascending order, each once.
    pub puts: Vec<Put>,
    /// Ranges out of which keys were deleted and not put again, ascending, disjoint, none touching
    /// a put. Every range held at least one key before the entry.
    pub deletes: Vec<KeyRange>,
}

/// One key written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// What it holds now.
    pub value: Value,
    /// The lease it is attached to now, 0 for none.
    pub lease: LeaseId,
}

/// The value of a written key.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// The entry carried it.
    Given(Bytes),
    /// The entry kept what the key already held before the entry (`ignore_value`).
    Kept,
}

impl Changes {
    /// True if no key was touched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    /// True if `key` was written or deleted.
    #[must_use]
    pub fn touch(&self, key: &[u8]) -> bool {
        let found = self.puts.binary_search_by(|put| put.key.as_ref().cmp(key));
        found.is_ok() || self.deletes.iter().any(|range| range.contains(key))
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Given(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Kept => f.write_str("kept"),
        }
    }
}
