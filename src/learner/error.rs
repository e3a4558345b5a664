//! What ends a stream on the primary's side.

use super::{convert, membership};
use crate::ids::{MemberId, RaftIndex, Term};

/// Why the stream cannot go on. None of these is cured by trying again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The leader was once told that we hold more than we do now.
    #[error(
        "leader {leader} believes that this learner holds index {believed}, but it holds {last}: the \
         standby was emptied or restored from a backup after that was acknowledged; remove this \
         member from the primary, and add it again with `etcdctl member add --learner`"
    )]
    LeaderBelievesMore {
        /// Who.
        leader: MemberId,
        /// The commit index in its heartbeat.
        believed: RaftIndex,
        /// The last index of our log.
        last: RaftIndex,
    },
    /// The leader's history is not the one that the standby was made from.
    #[error(
        "leader {leader} has term {theirs} at index {index}, where this stream applied term {ours}: \
         the primary was restored or rebuilt; `etcd-syncer resync` makes the standby its copy again"
    )]
    HistoryConflict {
        /// Who.
        leader: MemberId,
        /// Where.
        index: RaftIndex,
        /// The leader's term there.
        theirs: Term,
        /// The term of the entry that we hold as committed.
        ours: Term,
    },
    /// The leader sends a snapshot of a raft group in which we are not.
    #[error(
        "leader {leader} sends a snapshot at index {index} of a primary that does not have this \
         member: remove it from the primary, and add it again with `etcdctl member add --learner`"
    )]
    SnapshotWithoutUs {
        /// Who.
        leader: MemberId,
        /// The snapshot's index.
        index: RaftIndex,
    },
    /// The voters and learners of a snapshot are none that etcd has.
    #[error("leader {leader} sends a snapshot at index {index} with members that cannot be: {why}")]
    SnapshotMembers {
        /// Who.
        leader: MemberId,
        /// The snapshot's index.
        index: RaftIndex,
        /// What is wrong with them.
        why: &'static str,
    },
    /// The voters and learners to begin with are none that etcd has.
    #[error("begin at index {index} with members that cannot be: {why}")]
    CutMembers {
        /// Where.
        index: RaftIndex,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A message that a learner cannot take.
    #[error(transparent)]
    Convert(#[from] convert::Error),
    /// A conf change that cannot be understood.
    #[error(transparent)]
    Membership(#[from] membership::Error),
    /// raft-rs refused.
    #[error("raft refuses {what}: {why}")]
    Raft {
        /// What it was given.
        what: String,
        /// Its own words.
        why: String,
    },
}
