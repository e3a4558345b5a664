//! What a database holds, without values.

use super::bbolt::Meta;
use super::keys::{LiveKeys, Reputs};
use super::store::{ConfState, Downgrade, Lease, Member};
use crate::ids::{MemberId, RaftIndex, Revision, Term};
use crate::resolve::{AuthState, Position};

/// All that a database says of a cluster at one log index.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The file's own facts.
    pub database: Meta,
    /// Where in the log it stands.
    pub raft: Raft,
    /// Of which cluster it is.
    pub cluster: Cluster,
    /// The current revision of the keyspace.
    pub revision: Revision,
    /// What was compacted.
    pub compaction: Compaction,
    /// How many records the keyspace has: versions of keys, tombstones, and what a restored
    /// snapshot was bumped with.
    pub records: u64,
    /// The live keys.
    pub keys: LiveKeys,
    /// The leases, ascending by id.
    pub leases: Vec<Lease>,
    /// How many keys name a lease that does not exist. etcd takes them as not attached.
    pub orphans: u64,
    /// Users and roles.
    pub auth: AuthState,
    /// The raised alarms, ascending: the member, and 1 no space, 2 corrupt.
    pub alarms: Vec<(MemberId, i32)>,
    /// The revisions above the compact revision that deleted keys and put them again.
    pub reputs: Reputs,
    /// Buckets that no known release makes; they were not read.
    pub unknown_buckets: Vec<Box<[u8]>>,
}

/// Where in the primary's log a database stands.
///
/// # Source
/// etcd `server/storage/schema/cindex.go`, `confstate.go`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raft {
    /// The last entry whose effect is certainly in the database, 0 for none. In a database of 3.4
    /// later grants, revokes, alarms and compactions may be in it too.
    pub index: RaftIndex,
    /// The term of that entry; stored since 3.5.
    pub term: Option<Term>,
    /// Stored since 3.5, with the first change of members.
    pub conf_state: Option<ConfState>,
}

/// Of which cluster a database is, and what it says of its releases.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The members, ascending by id.
    pub members: Vec<Member>,
    /// Members that were removed, ascending.
    pub removed: Vec<MemberId>,
    /// The release that all members have at least.
    pub version: Option<String>,
    /// The release whose format the database has; stored since 3.6.
    pub storage_version: Option<String>,
    /// The last downgrade that was asked for; stored since 3.5.
    pub downgrade: Option<Downgrade>,
}

/// What was compacted.
///
/// An entry that compacts takes effect when it is applied, and is stored as scheduled then. Records
/// are deleted afterwards, and when that is done it is stored as finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    /// The last one that was applied.
    pub scheduled: Option<Revision>,
    /// The last one whose records are deleted.
    pub finished: Option<Revision>,
}

impl Compaction {
    /// The compact revision that entries are decided by, -1 before the first compaction. A member
    /// that starts takes a compaction as done that is only scheduled, too.
    ///
    /// # Source
    /// etcd `server/storage/mvcc/kvstore.go`, `updateCompactRev`, `restore`.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.scheduled.max(self.finished).unwrap_or(Revision(-1))
    }

    /// True if records below the compact revision are not deleted yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.scheduled > self.finished
    }
}

impl Contents {
    /// Where the resolver goes on.
    #[must_use]
    pub fn position(&self) -> Position {
        Position {
            index: self.raft.index,
            revision: self.revision,
            compact_revision: self.compaction.revision(),
        }
    }

    /// The release whose format the database has, as far as it tells.
    #[must_use]
    pub fn format(&self) -> &str {
        match &self.cluster.storage_version {
            Some(version) => version,
            None if self.raft.term.is_some() || self.raft.conf_state.is_some() => "3.5",
            None => "3.4 or older",
        }
    }
}
