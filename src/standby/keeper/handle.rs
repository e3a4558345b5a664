//! How the stream speaks to the keeper of its leases.

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::ids::LeaseId;
use crate::standby::Failure;

/// Why a question to the keeper has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The standby refuses it.
    #[error("{0}")]
    Refused(Failure),
    /// The keeper has ended.
    #[error("the keeper of leases has ended")]
    Ended,
}

/// How the stream speaks to its keeper.
#[derive(Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) gone: mpsc::UnboundedReceiver<Vec<LeaseId>>,
    pub(super) found: mpsc::Receiver<Vec<(LeaseId, Vec<Bytes>)>>,
}

/// What the keeper finds out by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// These leases are gone on the standby. They are not held any more.
    Gone(Vec<LeaseId>),
    /// To these leases these keys are attached there, ascending.
    Found(Vec<(LeaseId, Vec<Bytes>)>),
}

/// Where an answer goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// What the keeper is told.
pub(super) enum Command {
    Hold(Vec<LeaseId>, Answer<()>),
    Release(Vec<LeaseId>),
    Pass(Vec<LeaseId>),
    End(LeaseId, Answer<()>),
    Compact(i64),
    Inspect(
        LeaseId,
        oneshot::Sender<Result<Option<Vec<Bytes>>, Failure>>,
    ),
    Missing(Answer<Vec<LeaseId>>),
}

impl Handle {
    /// Waits until these leases exist. They are kept alive from then on.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby never will make one.
    ///
    /// # Cancel safety
    /// Cancel safe; the leases may be made all the same.
    pub async fn hold(&self, ids: Vec<LeaseId>) -> Result<(), Error> {
        self.ask(|answer| Command::Hold(ids, answer)).await
    }

    /// Ends these leases, to which nothing is attached, as soon as may be. Waits for nothing unless
    /// very many are to be ended.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn release(&self, ids: Vec<LeaseId>) -> Result<(), Error> {
        self.tell(Command::Release(ids)).await
    }

    /// Waits until a lease has ended, and the keys attached to it are deleted.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby never will.
    ///
    /// # Cancel safety
    /// Cancel safe; the lease ends all the same.
    pub async fn end(&self, id: LeaseId) -> Result<(), Error> {
        self.ask(|answer| Command::End(id, answer)).await
    }

    /// Says that these leases came and went without the standby's being told: if a process before
    /// left them there, they are ended.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn pass(&self, ids: Vec<LeaseId>) -> Result<(), Error> {
        self.tell(Command::Pass(ids)).await
    }

    /// Compacts the standby at a revision, as soon as may be.
    ///
    /// # Errors
    /// [`Error::Ended`].
    pub async fn compact(&self, revision: i64) -> Result<(), Error> {
        self.tell(Command::Compact(revision)).await
    }

    /// Finds the leases that are held and not there. They are not held any more.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby does not say.
    pub async fn missing(&self) -> Result<Vec<LeaseId>, Error> {
        self.ask(Command::Missing).await
    }

    /// The keys that are attached to a lease on the standby, ascending; none if it is not there.
    ///
    /// # Errors
    /// [`Error::Refused`] if the standby does not say.
    pub async fn inspect(&self, id: LeaseId) -> Result<Option<Vec<Bytes>>, Error> {
        self.ask(|answer| Command::Inspect(id, answer)).await
    }

    /// Waits for what the keeper finds out.
    ///
    /// # Errors
    /// [`Error::Ended`].
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn event(&mut self) -> Result<Event, Error> {
        tokio::select! {
            biased;
            gone = self.gone.recv() => gone.map(Event::Gone).ok_or(Error::Ended),
            found = self.found.recv() => found.map(Event::Found).ok_or(Error::Ended),
        }
    }

    /// Leases that were found gone, if some were. They are not held any more.
    pub fn try_gone(&mut self) -> Option<Vec<LeaseId>> {
        self.gone.try_recv().ok()
    }

    /// What the keeper has found out, if anything.
    pub fn try_event(&mut self) -> Option<Event> {
        let gone = self.try_gone().map(Event::Gone);
        gone.or_else(|| self.found.try_recv().ok().map(Event::Found))
    }

    async fn tell(&self, command: Command) -> Result<(), Error> {
        self.commands.send(command).await.map_err(|_| Error::Ended)
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.tell(command(sender)).await?;
        match answer.await {
            Ok(answer) => answer.map_err(Error::Refused),
            Err(_) => Err(Error::Ended),
        }
    }
}
