//! Why data directories cannot be used.

use crate::entry;
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::learner::MembershipError;
use crate::snapshot::{self, FileError};
use crate::wal;

/// Data directories that cannot be used, or do not hold what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refuses.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error("{dir}: {source}")]
    Wal {
        /// The data directory.
        dir: String,
        /// Why not.
        source: wal::Error,
    },
    /// The log ends with something behind its end.
    #[error(
        "{dir}: WAL file {file}, offset {offset}: the log cannot be read beyond this point, and {what} \
         behind it; a server would throw that away. Copy the files again if the member was running; \
         else use the data directory of another member"
    )]
    Suspect {
        /// The data directory.
        dir: String,
        /// The last file.
        file: String,
        /// Where the log ends.
        offset: u64,
        /// What lies behind.
        what: &'static str,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    DatabaseFile(#[from] FileError),
    /// The database cannot be read.
    #[error("{path}: {source}")]
    Database {
        /// The file.
        path: String,
        /// Why not.
        source: Box<snapshot::Error>,
    },
    /// The database is ahead of the log.
    #[error(
        "{dir}: the database holds the effect of entry {applied}, and the log ends at {last}: WAL \
         files are missing or were cut short; use the data directory of another member"
    )]
    LogTooShort {
        /// The data directory.
        dir: String,
        /// The database's consistent index.
        applied: RaftIndex,
        /// The last entry of the log.
        last: RaftIndex,
    },
    /// The log says that more is committed than it holds.
    #[error(
        "{dir}: the log says that entry {commit} is committed, and ends at {last}: WAL files are \
         missing or were cut short; use the data directory of another member"
    )]
    CommitBeyondLog {
        /// The data directory.
        dir: String,
        /// The commit index.
        commit: RaftIndex,
        /// The last entry of the log.
        last: RaftIndex,
    },
    /// The database is behind the snapshot with which the log begins.
    #[error(
        "{dir}: the database holds the effects up to entry {applied} only, and the log begins with \
         a snapshot of entry {start}: the files do not belong together; use the data directory of \
         another member"
    )]
    DatabaseTooOld {
        /// The data directory.
        dir: String,
        /// The database's consistent index.
        applied: RaftIndex,
        /// The snapshot.
        start: RaftIndex,
    },
    /// Directories of several clusters.
    #[error(
        "{dir} belongs to cluster {found}, and {wanted} is meant: leave it out, or name the stream of \
         its cluster with --stream"
    )]
    OtherCluster {
        /// The data directory.
        dir: String,
        /// Its cluster.
        found: ClusterId,
        /// The cluster of the others, or of the checkpoint.
        wanted: ClusterId,
    },
    /// Two directories of one member.
    #[error("{first} and {second} both belong to member {member}: name the newer one only")]
    SameMember {
        /// One of them.
        first: String,
        /// The other.
        second: String,
        /// The member.
        member: MemberId,
    },
    /// No directory was named.
    #[error("name at least one data directory of the primary")]
    NoDirectory,
    /// Two logs say different things about what is committed.
    #[error(
        "{first} and {second} disagree about the committed entry {index}: one of them was damaged, \
         or taken from another history of the cluster; leave out the one that is not to be \
         trusted"
    )]
    Contradiction {
        /// One data directory.
        first: String,
        /// The other.
        second: String,
        /// The entry.
        index: RaftIndex,
    },
    /// The checkpoint belongs to another history.
    #[error(
        "{dir} has term {theirs} at index {index}, where this stream applied term {ours}: the \
         primary was restored or rebuilt, or the directory is of another history; if it is the right \
         one, `etcd-syncer resync` and a replay with its database make the standby its copy"
    )]
    HistoryConflict {
        /// The data directory.
        dir: String,
        /// Where.
        index: RaftIndex,
        /// The term in the log.
        theirs: Term,
        /// The term of the checkpoint.
        ours: Term,
    },
    /// The standby is not consistent.
    #[error(
        "the standby is between two states of the primary, as a snapshot was being installed in it, so \
         entries cannot be applied to it: replay a --data-dir with its database, or a --snapshot"
    )]
    Installing,
    /// The log of a member that was restored says nothing of the keys before.
    #[error(
        "{dir}: the member was restored from a snapshot, and its log says nothing of the keys before \
         entry {restored}: install its database first"
    )]
    Restored {
        /// The data directory.
        dir: String,
        /// The entry.
        restored: RaftIndex,
    },
    /// The standby holds more than the directories.
    #[error(
        "the standby holds the primary's effects up to entry {checkpoint}, and the data directories \
         only reach to {bound}: there is nothing to bring over from them"
    )]
    NothingNew {
        /// The checkpoint's index.
        checkpoint: RaftIndex,
        /// The last entry that counts.
        bound: RaftIndex,
    },
    /// Entries between are in none of the directories.
    #[error(
        "entry {wanted} is in none of the data directories, which hold {first} and what follows: \
         install a snapshot or the database of a member first"
    )]
    NotHeld {
        /// The first entry that is missing.
        wanted: RaftIndex,
        /// The first entry that is there.
        first: RaftIndex,
    },
    /// A directory of a member that the cluster removed.
    #[error(
        "{dir}: member {member} is none of the cluster's members as of entry {index}: it was removed, \
         and its log may miss what came later; use the data directory of another member"
    )]
    NotAMember {
        /// The data directory.
        dir: String,
        /// Whose it is.
        member: MemberId,
        /// As of which entry.
        index: RaftIndex,
    },
    /// Who the voters were is not known.
    #[error(
        "{dir}: the members of the cluster as of entry {index} are not known, since the WAL does not \
         reach back far enough and no .snap file is readable; give the file that is missing, or the \
         data directory of another member"
    )]
    NoMembers {
        /// The data directory.
        dir: String,
        /// As of which entry.
        index: RaftIndex,
    },
    /// A conf change that cannot be understood.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// An entry that cannot be understood.
    #[error(transparent)]
    Entry(#[from] entry::Error),
}
