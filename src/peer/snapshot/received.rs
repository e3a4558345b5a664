//! A snapshot that is here, and the leader's request that brought it, still without an answer.

use std::fmt;
use std::path::Path;

use tokio::sync::{oneshot, watch};

use super::spool::SpoolFile;
use super::stored;
use super::transfer::Transfer;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb::{ConfState, Message};
use crate::peer::Member;

/// Why a leader's request ended without an answer of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Over {
    /// There is a newer leader, whose log may hold what we lack.
    #[error("term {0} has begun")]
    NewerTerm(Term),
    /// A later one took its place, as a leader sends no second one while the first is under way.
    #[error("the leader sent another one")]
    Replaced,
    /// The connection ended; the leader may live.
    #[error("the leader's connection ended")]
    Disconnected,
    /// The leader is no member any more, or this process ends.
    #[error("the leader is no member any more")]
    Gone,
}

/// Watches a leader's request.
#[derive(Clone, Debug)]
pub struct Request(watch::Receiver<Option<Over>>);

impl Request {
    /// Why it ended; none while the leader waits for the answer.
    #[must_use]
    pub fn is_over(&self) -> Option<Over> {
        *self.0.borrow()
    }

    /// Waits for its end. Never ends if it is answered.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn over(&mut self) -> Over {
        match self.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(over)) => *over,
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

/// A snapshot in the spool. The leader waits for the answer, for any length of time, and does not
/// cut its log meanwhile.
///
/// To be ended by [`Received::installed`]. To drop it says that it failed: nothing is said to the
/// leader for a while, and then its request is cut. Either way the file goes.
///
/// Two are equal if they are the same transfer.
pub struct Received(Box<Parts>);

struct Parts {
    message: Message,
    conf_state: ConfState,
    members: Result<Vec<Member>, stored::Error>,
    file: SpoolFile,
    transfer: Transfer,
    answer: Option<oneshot::Sender<()>>,
}

impl Received {
    /// `message`: with snapshot and metadata, without the snapshot's data.
    pub(super) fn new(
        message: Message,
        conf_state: ConfState,
        members: Result<Vec<Member>, stored::Error>,
        file: SpoolFile,
        transfer: Transfer,
        answer: oneshot::Sender<()>,
    ) -> Self {
        Self(Box::new(Parts {
            message,
            conf_state,
            members,
            file,
            transfer,
            answer: Some(answer),
        }))
    }

    /// The leader that sent it.
    #[must_use]
    pub fn from(&self) -> MemberId {
        self.0.transfer.offer.from
    }

    /// The leader's term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.0.transfer.offer.term
    }

    /// Index of the last entry that the snapshot covers.
    #[must_use]
    pub fn index(&self) -> RaftIndex {
        self.0.transfer.offer.index
    }

    /// Term of that entry.
    #[must_use]
    pub fn snapshot_term(&self) -> Term {
        self.0.transfer.offer.snapshot_term
    }

    /// Voters and learners of the raft group as of that entry.
    #[must_use]
    pub fn conf_state(&self) -> &ConfState {
        &self.0.conf_state
    }

    /// The members as of that entry, with their URLs, ascending by ID.
    ///
    /// # Errors
    /// [`stored::Error`] if the leader's message does not say so in a way that can be read.
    pub fn members(&self) -> Result<&[Member], &stored::Error> {
        self.0.members.as_deref()
    }

    /// The database as the leader has it, all of it and on the disk. It is in the form of bbolt,
    /// and has not been looked into; without the hash that saved snapshots end with.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.file.path()
    }

    /// Size of the database in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.file.bytes()
    }

    /// The message to be stepped once the snapshot is installed, without the snapshot's data.
    #[must_use]
    pub fn message(&self) -> &Message {
        &self.0.message
    }

    /// The leader's request. Whether it is worth going on once it is over is for the holder to
    /// say: the file stays, and what is installed is a state of the primary in any case.
    #[must_use]
    pub fn request(&self) -> Request {
        Request(self.0.transfer.over())
    }

    /// Everything in it is durable: answers the leader, if it still waits.
    pub fn installed(mut self) {
        if let Some(answer) = self.0.answer.take() {
            self.0.transfer.settle();
            // It may have gone away meanwhile.
            let _ = answer.send(());
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.0.answer.is_some() {
            self.0.transfer.fail(&"it was not installed");
        }
    }
}

impl PartialEq for Received {
    fn eq(&self, other: &Self) -> bool {
        self.0.transfer.number == other.0.transfer.number && self.path() == other.path()
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("offer", &self.0.transfer.offer)
            .field("conf_state", &self.0.conf_state)
            .field("path", &self.path())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
