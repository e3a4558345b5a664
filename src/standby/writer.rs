//! Sends each batch until the standby has it, and never twice.
//!
//! Every transaction compares the revision that last wrote the checkpoint with the one that we
//! know, and writes the checkpoint. So of any number of copies of one transaction, sent again or
//! delayed in the network, at most one can be applied. An answer that was lost is settled by
//! reading the checkpoint: it names the process and the batch that wrote it.
//!
//! ```text
//!              applied ----------------------------------------------> done
//!   send -->   guard failed --> read: ours --------------------------> done
//!     ^                         read: another's ----------------------> fenced, stop
//!     |        not applied --> wait -----------------------------------> send
//!     |        unknown ------> wait, read: ours -----------------------> done
//!     +------------------------------------ read: unchanged ----> send
//! ```

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::{Answer, Failure, Guard, Standby, Stored, Transaction};
use crate::backoff::Backoff;
use crate::checkpoint::Checkpoint;
use crate::plan::{Nested, Write};

/// Why a batch cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Somebody else moved the checkpoint. Nothing of the batch was written.
    #[error(
        "another writer took over this stream: the checkpoint {key:?} is {found}; two processes must \
         not replicate one stream, stop one of them"
    )]
    Fenced {
        /// The checkpoint's key.
        key: Bytes,
        /// What is there.
        found: String,
    },
    /// The standby will never take it as it is. Nothing of the batch was written.
    #[error(transparent)]
    Refused(Failure),
}

/// A batch that the standby holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The standby's revision that holds it.
    pub revision: i64,
    /// How many times it was sent.
    pub attempts: u32,
}

/// The one writer of a stream.
#[derive(Debug)]
pub struct Writer<S> {
    standby: S,
    key: Bytes,
    guard: Guard,
    backoff: Backoff,
    trouble: watch::Sender<Option<String>>,
}

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

impl<S: Standby> Writer<S> {
    /// A writer for the checkpoint at `key`, whose next transaction has `guard`;
    /// `trouble` shows why a batch is waiting, if one is.
    #[must_use]
    pub fn new(
        standby: S,
        key: Bytes,
        guard: Guard,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        let backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        Self {
            standby,
            key,
            guard,
            backoff,
            trouble,
        }
    }

    /// The standby, for reads between batches.
    pub fn standby(&mut self) -> &mut S {
        &mut self.standby
    }

    /// The standby's revision that holds the checkpoint as it was last written here; None before
    /// the first one.
    #[must_use]
    pub fn written_at(&self) -> Option<i64> {
        match self.guard {
            Guard::WrittenAt(revision) => Some(revision),
            Guard::NothingThere => None,
        }
    }

    /// Writes a batch and its checkpoint; waits as long as waiting can help.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Failure::TooLarge`] or [`Failure::TooManyOps`] if it must be
    /// parted; every other error ends the stream.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, it is unknown whether the batch was applied.
    pub async fn write(
        &mut self,
        writes: Vec<Nested<Write>>,
        checkpoint: &Checkpoint,
    ) -> Result<Written, Error> {
        let transaction = Transaction {
            guard: self.guard,
            checkpoint_key: self.key.clone(),
            checkpoint: checkpoint.encode().into(),
            writes,
        };
        let mut attempts = 0;
        let revision = loop {
            attempts += 1;
            match self.standby.write(&transaction).await {
                Ok(Answer::Applied(revision)) => break revision,
                Ok(Answer::GuardFailed) => match self.settle(&transaction.checkpoint).await? {
                    Some(revision) => break revision,
                    None => return Err(self.never_ours()),
                },
                Err(failure @ Failure::NotApplied(_)) => self.wait(&failure).await,
                Err(failure @ (Failure::Unknown(_) | Failure::NoSpace(_))) => {
                    self.wait(&failure).await;
                    if let Some(revision) = self.settle(&transaction.checkpoint).await? {
                        break revision;
                    }
                }
                Err(
                    failure @ (Failure::TooLarge(_)
                    | Failure::TooManyOps(_)
                    | Failure::Diverged(_)
                    | Failure::LeaseNotFound(_)
                    | Failure::Already(_)
                    | Failure::Refused(_)),
                ) => return Err(Error::Refused(failure)),
            }
        };
        self.guard = Guard::WrittenAt(revision);
        self.recovered();
        Ok(Written { revision, attempts })
    }

    /// Makes sure that the stream is still ours, before something that no transaction can guard.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub async fn check(&mut self) -> Result<(), Error> {
        // No checkpoint is empty, so none is the one looked for, and the known one is expected.
        self.settle(&Bytes::new()).await?;
        self.recovered();
        Ok(())
    }

    /// Reads one value, waiting as long as waiting can help.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby refuses to be read.
    pub async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Error> {
        loop {
            match self.standby.read(key).await {
                Ok(stored) => return Ok(stored),
                Err(failure @ Failure::Refused(_)) => return Err(Error::Refused(failure)),
                Err(failure) => self.wait(&failure).await,
            }
        }
    }

    /// Finds out whether the transaction that wrote `ours` was applied: the revision in which it
    /// was, or none if the checkpoint is still the one before.
    async fn settle(&mut self, ours: &Bytes) -> Result<Option<i64>, Error> {
        let key = self.key.clone();
        let found = self.read(&key).await?;
        match (found, self.guard) {
            (Some(stored), _) if stored.value == *ours => Ok(Some(stored.mod_revision)),
            (Some(stored), Guard::WrittenAt(revision)) if stored.mod_revision == revision => {
                Ok(None)
            }
            (None, Guard::NothingThere) => Ok(None),
            (Some(stored), _) => Err(self.fenced(&describe(&stored))),
            (None, Guard::WrittenAt(_)) => Err(self.fenced("gone")),
        }
    }

    /// The guard failed, and yet the checkpoint is the one that we know.
    fn never_ours(&self) -> Error {
        match self.guard {
            Guard::WrittenAt(_) => self.fenced("changed and changed back"),
            Guard::NothingThere => Error::Refused(Failure::Refused(
                "keys appeared in it since it was found empty; a standby must be empty at first \
                 contact"
                    .to_owned(),
            )),
        }
    }

    fn fenced(&self, found: &str) -> Error {
        Error::Fenced {
            key: self.key.clone(),
            found: found.to_owned(),
        }
    }

    async fn wait(&mut self, failure: &Failure) {
        let wait = self.backoff.next_wait();
        let known = self.trouble.borrow().is_some();
        if !known {
            tracing::warn!(standby_says = %failure, "the standby does not take the batch, retrying");
        }
        self.trouble.send_replace(Some(failure.to_string()));
        if failure.suggests_another_endpoint() {
            self.standby.try_another_endpoint();
        }
        tokio::time::sleep(wait).await;
    }

    fn recovered(&mut self) {
        self.backoff.reset();
        if self.trouble.send_replace(None).is_some() {
            tracing::info!("the standby takes batches again");
        }
    }
}

fn describe(stored: &Stored) -> String {
    match Checkpoint::decode(&stored.value) {
        Ok(record) => format!(
            "at index {} of cluster {}, written by process {:016x} in the standby's revision {}",
            record.index, record.primary, record.writer, stored.mod_revision
        ),
        Err(error) => format!("unreadable ({error})"),
    }
}
