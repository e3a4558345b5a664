//! What the resolver cannot decide.

use std::fmt;

use bytes::Bytes;

use crate::ids::{RaftIndex, Revision};

/// An entry whose effect is not certain. Always a halt, and the state is as before the entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resolve entry {index} ({kind}): {problem}")]
pub struct Error {
    /// The entry.
    pub index: RaftIndex,
    /// Its kind.
    pub kind: &'static str,
    /// What is not certain.
    pub problem: Problem,
}

/// Why an effect is not certain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Entries must come one after the other.
    #[error("entry {expected} comes next; start the stream again from its checkpoint")]
    OutOfOrder {
        /// The index that comes after the state's.
        expected: RaftIndex,
    },
    /// An entry on which the primary's own members crash.
    #[error(
        "{0}: the primary's members crash on this entry; \
         repair the primary first, then install a snapshot of it"
    )]
    Poison(&'static str),
    /// An entry that not all members of the primary apply alike, without a known majority.
    #[error(
        "{0}, so members of the primary apply this entry differently, and which way most of them \
         take is not known; compare the members, then install a snapshot of the one that is right"
    )]
    MembersDisagree(&'static str),
    /// An entry whose effect depends on something that is not in the log.
    #[error("{0}; install a snapshot taken after the entry")]
    Undecided(&'static str),
    /// A compaction that destroys live keys on disk in the primary.
    #[error(
        "the compaction at revision {revision} loses live keys in the primary, since that revision \
         deleted them and put them again ({keys} keys, the first is {first}; etcd issue 22376); \
         restart the primary's members one by one, check these keys, then install a snapshot"
    )]
    CompactionLosesKeys {
        /// The revision compacted at.
        revision: Revision,
        /// How many keys it deleted and put again.
        keys: usize,
        /// The first of them.
        first: ShownKey,
    },
    /// A fetched value is not the one that the primary holds.
    #[error(
        "the standby's value of {key} is not the primary's: something else writes to the standby; \
         stop it, run a check, then install a snapshot"
    )]
    StandbyDiffers {
        /// The key.
        key: ShownKey,
    },
    /// A number of the state is at its end.
    #[error("{0} cannot grow any more; install a snapshot of the primary")]
    Overflow(&'static str),
}

/// A key in a message: escaped, and cut when long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownKey(pub Bytes);

impl fmt::Display for ShownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.get(..SHOWN_KEY_BYTES_MAX).unwrap_or(&self.0);
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

const SHOWN_KEY_BYTES_MAX: usize = 64;
