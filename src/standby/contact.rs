//! The first contact with a standby: who is it, what does it hold, may this stream write to it?

use bytes::Bytes;

use super::{Failure, Guard, Standby};
use crate::checkpoint::{self, Checkpoint};
use crate::ids::ClusterId;

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
         be empty at first contact; name another cluster, or delete its keys",
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
    /// The checkpoint cannot be read.
    #[error("read the checkpoint of stream {stream:?}: {why}")]
    Unreadable {
        /// The stream's name.
        stream: String,
        /// Why not.
        why: checkpoint::Error,
    },
}

/// How many foreign keys are shown.
const KEYS_SHOWN: usize = 3;

/// Asks a standby everything that must be known before the first write. Writes nothing.
///
/// # Errors
/// [`ContactError`]; only `Unreachable` is worth another attempt.
pub async fn first_contact<S: Standby>(
    standby: &mut S,
    stream: &str,
    checkpoint_key: &Bytes,
    primary: ClusterId,
) -> Result<Contact, ContactError> {
    let cluster = standby.about().await.map_err(failed)?.cluster;
    if cluster == primary {
        return Err(ContactError::SameCluster(cluster));
    }
    let stored = standby.read(checkpoint_key).await.map_err(failed)?;
    let checkpoint = match &stored {
        None => None,
        Some(stored) => {
            let record =
                Checkpoint::decode(&stored.value).map_err(|why| ContactError::Unreadable {
                    stream: stream.to_owned(),
                    why,
                })?;
            Some(belongs(record, stream, primary)?)
        }
    };
    let guard = match &stored {
        Some(stored) => Guard::WrittenAt(stored.mod_revision),
        None => {
            let keys = standby.foreign_keys(KEYS_SHOWN).await.map_err(failed)?;
            if !keys.is_empty() {
                return Err(ContactError::NotEmpty {
                    cluster,
                    stream: stream.to_owned(),
                    keys,
                });
            }
            Guard::NothingThere
        }
    };
    let txn_ops_max = standby.txn_ops_max().await.map_err(failed)?;
    Ok(Contact {
        guard,
        checkpoint,
        cluster,
        txn_ops_max,
    })
}

fn belongs(
    record: Checkpoint,
    stream: &str,
    primary: ClusterId,
) -> Result<Checkpoint, ContactError> {
    let stream = stream.to_owned();
    if record.primary != primary {
        let found = record.primary;
        return Err(ContactError::OtherPrimary {
            stream,
            found,
            expected: primary,
        });
    }
    Ok(record)
}

fn failed(failure: Failure) -> ContactError {
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
