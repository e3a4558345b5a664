//! Users and roles, which no transaction carries.
//!
//! A batch that changes them waits until the standby has them: the checkpoint must not pass what
//! only its entries know, such as the hash of a password. So the keys behind it wait too, for about
//! as long as the primary took itself: a new user costs the standby one hash of some 60 ms, every
//! other change a commit. Changes in a row are one batch, and become one way from state to state.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::{Apply, End};
use crate::standby::{Auth, Standby};

impl<S: Standby + Auth> Apply<S> {
    /// Does what another process left undone, or could not do with what it was given.
    pub(super) async fn begin_auth(&mut self, stop: &CancellationToken) -> Result<(), End> {
        if self.pipeline.state().auth().is_used() {
            self.bring_auth(stop).await?;
        }
        Ok(())
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
            done = bring => Ok(done?),
            () = stop.cancelled() => Err(End::Stopped),
        }
    }
}

/// Waits until then; without a time for ever.
pub(super) async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
