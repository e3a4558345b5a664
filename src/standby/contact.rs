//! The first contact with a standby: who is it, what does it hold, may this stream write to it?

use bytes::Bytes;

use super::others;
use super::{Failure, Guard, Standby};
use crate::checkpoint::{self, Checkpoint};
use crate::ids::ClusterId;
use crate::range::KeyRange;
use crate::reserved;
use crate::scope::{self, Scope};

/// What a process is about to do with a standby.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// The primary.
    pub primary: ClusterId,
    /// Which keys of the standby are to be the stream's.
    pub scope: &'a Scope,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// The guard of the writer's first transaction.
    pub guard: Guard,
    /// The checkpoint of this stream, if it has one.
    pub checkpoint: Option<Checkpoint>,
    /// The standby's cluster.
    pub cluster: ClusterId,
    /// Its `--max-txn-ops`.
    pub txn_ops_max: usize,
}

/// Why a stream must not write to a standby.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContactError {
    /// It cannot be reached, or has no quorum; waiting may help.
    #[error("ask the standby: {0}")]
    Unreachable(Failure),
    /// It refuses us.
    #[error("ask the standby: {0}")]
    Refused(Failure),
    /// It is the primary.
    #[error(
        "primary and standby are the same cluster {0}: --standby-endpoints must name another one"
    )]
    SameCluster(ClusterId),
    /// It holds keys and no checkpoint.
    #[error(
        "the standby {cluster} holds keys ({}) and no checkpoint of stream {stream:?}: a standby must \
         be empty at first contact, but for keys that the stream's scope leaves alone; name another \
         cluster, or delete its keys",
        shown(.keys)
    )]
    NotEmpty {
        /// The standby.
        cluster: ClusterId,
        /// The stream's name.
        stream: String,
        /// Some of the keys.
        keys: Vec<Bytes>,
    },
    /// The checkpoint was made from another cluster.
    #[error(
        "the checkpoint of stream {stream:?} was made from cluster {found}, and this primary is \
         {expected}: use another --stream and an empty standby, or name the right primary"
    )]
    OtherPrimary {
        /// The stream's name.
        stream: String,
        /// What the checkpoint says.
        found: ClusterId,
        /// The primary.
        expected: ClusterId,
    },
    /// The checkpoint was made with other prefixes.
    #[error(
        "the checkpoint of stream {stream:?} was made with another scope: it has {found}, and this \
         process {expected}; what a stream replicates stays the same: give the same prefixes again, \
         or use another --stream, for which the standby must not hold keys in scope yet"
    )]
    OtherScope {
        /// The stream's name.
        stream: String,
        /// What the checkpoint says.
        found: String,
        /// What this process was told.
        expected: String,
    },
    /// Another stream has some of the keys.
    #[error(
        "stream {other:?} writes to the same keys of the standby ({shared:?}) as stream {stream:?} is \
         to: give them scopes that do not meet there (--include-prefix, --exclude-prefix, \
         --rewrite-prefix), or, if {other:?} is over, delete what it left: `etcdctl del --prefix {}`",
        reserved::stream_prefix(.other)
    )]
    OtherStream {
        /// The stream's name.
        stream: String,
        /// The name of the other one.
        other: String,
        /// Some keys of both.
        shared: KeyRange,
    },
    /// The standby cannot be asked about all of the scope at once.
    #[error(
        "the scope has {ranges} ranges of keys on the standby, and one transaction of it looks at \
         {most} at most: raise --max-txn-ops on the standby, or use fewer prefixes"
    )]
    TooManyRanges {
        /// Ranges of the scope.
        ranges: usize,
        /// How many can be looked at.
        most: usize,
    },
    /// The checkpoint cannot be read.
    #[error(
        "read the checkpoint of stream {stream:?}: {why}; {}",
        if_unreadable(.stream)
    )]
    Unreadable {
        /// The stream's name.
        stream: String,
        /// Why not.
        why: checkpoint::Error,
    },
    /// The checkpoint of another stream has a scope that is none.
    #[error(
        "read the checkpoint of stream {stream:?}: its scope is none ({why}), so it may write to any \
         key; if it is over, delete what it left: `etcdctl del --prefix {}`",
        reserved::stream_prefix(.stream)
    )]
    UnreadableScope {
        /// The stream's name.
        stream: String,
        /// What is wrong.
        why: scope::Error,
    },
}

/// What to do about a checkpoint that cannot be read.
#[must_use]
pub fn if_unreadable(stream: &str) -> String {
    format!(
        "a version of this program that knows it can go on; to begin again instead, delete the keys \
         in scope on the standby, and `etcdctl del --prefix {}`",
        reserved::stream_prefix(stream)
    )
}

/// How many foreign keys are shown.
const KEYS_SHOWN: usize = 3;

/// Asks a standby everything that must be known before the first write. Writes nothing.
///
/// # Errors
/// [`ContactError`]; only `Unreachable` is worth another attempt.
pub async fn first_contact<S: Standby>(
    standby: &mut S,
    claim: &Claim<'_>,
) -> Result<Contact, ContactError> {
    let cluster = standby.about().await.map_err(failed)?.cluster;
    if cluster == claim.primary {
        return Err(ContactError::SameCluster(cluster));
    }
    let key = reserved::checkpoint_key(claim.stream);
    let stored = standby.read(&key).await.map_err(failed)?;
    let (guard, checkpoint) = match &stored {
        Some(stored) => {
            let record = decode(claim.stream, &stored.value)?;
            let guard = Guard::WrittenAt(stored.mod_revision);
            (guard, Some(belongs(record, claim)?))
        }
        None => {
            check_nothing_there(standby, cluster, claim).await?;
            (Guard::NothingThere, None)
        }
    };
    let txn_ops_max = standby.txn_ops_max().await.map_err(failed)?;
    let ranges = claim.scope.standby_ranges().len();
    // Beside the checkpoint's own compare.
    let most = txn_ops_max.saturating_sub(1);
    if guard == Guard::NothingThere && ranges > most {
        return Err(ContactError::TooManyRanges { ranges, most });
    }
    Ok(Contact {
        guard,
        checkpoint,
        cluster,
        txn_ops_max,
    })
}

async fn check_nothing_there<S: Standby>(
    standby: &mut S,
    cluster: ClusterId,
    claim: &Claim<'_>,
) -> Result<(), ContactError> {
    if let Some((other, shared)) = others::sharing(standby, claim).await? {
        return Err(ContactError::OtherStream {
            stream: claim.stream.to_owned(),
            other,
            shared,
        });
    }
    let keys = standby.foreign_keys(KEYS_SHOWN).await.map_err(failed)?;
    if !keys.is_empty() {
        return Err(ContactError::NotEmpty {
            cluster,
            stream: claim.stream.to_owned(),
            keys,
        });
    }
    Ok(())
}

pub(super) fn decode(stream: &str, value: &Bytes) -> Result<Checkpoint, ContactError> {
    Checkpoint::decode(value).map_err(|why| ContactError::Unreadable {
        stream: stream.to_owned(),
        why,
    })
}

fn belongs(record: Checkpoint, claim: &Claim<'_>) -> Result<Checkpoint, ContactError> {
    let stream = claim.stream.to_owned();
    if record.primary != claim.primary {
        return Err(ContactError::OtherPrimary {
            stream,
            found: record.primary,
            expected: claim.primary,
        });
    }
    let expected = claim.scope.prefixes();
    if record.scope != *expected {
        return Err(ContactError::OtherScope {
            stream,
            found: record.scope.to_string(),
            expected: expected.to_string(),
        });
    }
    Ok(record)
}

pub(super) fn failed(failure: Failure) -> ContactError {
    match failure {
        Failure::Refused(_) => ContactError::Refused(failure),
        Failure::NotApplied(_)
        | Failure::Unknown(_)
        | Failure::NoSpace(_)
        | Failure::TooLarge(_)
        | Failure::TooManyOps(_)
        | Failure::Diverged(_)
        | Failure::LeaseNotFound(_)
        | Failure::Already(_) => ContactError::Unreachable(failure),
    }
}

fn shown(keys: &[Bytes]) -> String {
    let shown: Vec<_> = keys
        .iter()
        .map(|key| format!("{:?}", key.slice(..key.len().min(64))))
        .collect();
    format!("{}, ..", shown.join(", "))
}
