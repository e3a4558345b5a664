//! Makes a stream begin with a snapshot of the primary again, whatever its checkpoint says.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::checkpoint::{self, Basis, Checkpoint, Phase};
use crate::ids::{RaftIndex, Term};
use crate::reserved;
use crate::secret::Credentials;
use crate::standby::{Answer, Etcd, Failure, Guard, Options, Standby, Transaction, if_unreadable};

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The standby does not answer, or refuses.
    #[error("ask the standby: {0}")]
    Standby(#[from] Failure),
    /// There is no such stream.
    #[error(
        "the standby has no checkpoint of stream {0:?}: there is nothing to be taken back; name the \
         stream with --stream"
    )]
    NoStream(String),
    /// The checkpoint cannot be read.
    #[error("read the checkpoint of stream {stream:?}: {why}; {}", if_unreadable(.stream))]
    Unreadable {
        /// The stream's name.
        stream: String,
        /// Why not.
        why: checkpoint::Error,
    },
    /// A process writes faster than we ask.
    #[error(
        "the checkpoint moved {0} times meanwhile: stop the process of this stream, and repeat"
    )]
    Busy(u32),
}

/// How often it is tried while a process moves the checkpoint.
const ATTEMPTS_MAX: u32 = 50;
const FIRST_WAIT: Duration = Duration::from_millis(5);
const LONGEST_WAIT: Duration = Duration::from_millis(200);

/// Marks the stream: the next process compares a snapshot of the primary with the standby's own
/// keys. A running one is fenced by it. Returns the checkpoint that was taken back.
///
/// # Errors
/// [`Error`]. Nothing is changed then, unless an answer was lost; doing it again does no harm.
pub async fn resync(
    options: Options,
    login: Option<Credentials>,
    stream: &str,
) -> Result<Checkpoint, Error> {
    mark(&mut Etcd::new(options).log_in_as(login), stream).await
}

/// The same in a standby of any kind.
///
/// # Errors
/// As [`resync`].
pub async fn mark<S: Standby>(standby: &mut S, stream: &str) -> Result<Checkpoint, Error> {
    let key = reserved::checkpoint_key(stream);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    for _ in 0..ATTEMPTS_MAX {
        let stored = standby.read(&key).await?;
        let stored = stored.ok_or_else(|| Error::NoStream(stream.to_owned()))?;
        let found = Checkpoint::decode(&stored.value).map_err(|why| Error::Unreadable {
            stream: stream.to_owned(),
            why,
        })?;
        let mut marked = found.clone();
        marked.phase = Phase::Installing {
            index: RaftIndex(0),
            term: Term(0),
            basis: Basis::Content,
        };
        marked.writer = fastrand::u64(1..);
        marked.batch = 0;
        let transaction = Transaction {
            guard: Guard::WrittenAt(stored.mod_revision),
            checkpoint_key: key.clone(),
            checkpoint: marked.encode().into(),
            writes: Vec::new(),
        };
        match standby.write(&transaction).await? {
            Answer::Applied(_) => return Ok(found),
            Answer::GuardFailed => tokio::time::sleep(backoff.next_wait()).await,
        }
    }
    Err(Error::Busy(ATTEMPTS_MAX))
}
