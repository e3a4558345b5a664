//! Users and roles, which no transaction carries.
//!
//! A batch that changes them waits until the standby has them: the checkpoint must not pass what
//! only its entries know, such as the hash of a password. So the keys behind it wait too, for about
//! as long as the primary took itself: a new user costs the standby one hash of some 60 ms, every
//! other change a commit. Changes in a row are one batch, and become one way from state to state.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Apply, End, own_put};
use crate::resolve::Delta;
use crate::standby::{Auth, Standby};

impl<S: Standby + Auth> Apply<S> {
    /// Does what another process left undone, or could not do with what it was given.
    pub(super) async fn begin_auth(&mut self, stop: &CancellationToken) -> Result<(), End> {
        if self.pipeline.state().auth().is_used() {
            self.bring_auth(stop).await?;
        }
        self.tell(stop).await
    }

    /// Brings users and roles of the standby to those of the state.
    pub(super) async fn bring_auth(&mut self, stop: &CancellationToken) -> Result<(), End> {
        let state = self.pipeline.state();
        let (auth, digest_key) = (state.auth(), state.digest_key());
        let bring = self
            .reconciler
            .bring_behind(&mut self.writer, auth, digest_key);
        // Half of it is no harm: whoever goes on begins before the entries that led here.
        tokio::select! {
            done = bring => done?,
            () = stop.cancelled() => return Err(End::Stopped),
        }
        // A batch that brought us here names them in its own journal.
        let not_carried = self.reconciler.not_carried().clone();
        self.ledger.note_not_carried(not_carried);
        Ok(())
    }

    /// Looks again at what could not be done.
    pub(super) async fn recheck_auth(&mut self, stop: &CancellationToken) -> Result<(), End> {
        self.bring_auth(stop).await?;
        self.tell(stop).await
    }

    /// Notes in the ledger whose password the standby lacks, if that changed without a batch.
    async fn tell(&mut self, stop: &CancellationToken) -> Result<(), End> {
        if !self.ledger.has_news() {
            return Ok(());
        }
        let digest_key = self.pipeline.state().digest_key();
        let journal = self.ledger.journal(&Delta::default(), digest_key);
        let Some((key, record, place)) = journal else {
            return Ok(());
        };
        let bytes = record.len();
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.batch += 1;
        checkpoint.ledger = place;
        let sent = self
            .send(vec![own_put(key, record)], &checkpoint, stop)
            .await?;
        sent.map_err(End::Ledger)?;
        self.ledger.journaled(checkpoint.ledger.clone(), bytes);
        self.checkpoint = checkpoint;
        Ok(())
    }
}

/// Waits until then; without a time for ever.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
