//! One kind of work of the keeper, one piece at a time: its way to the standby, and how long it
//! rests after a failure. Pure but for the jitter of its waits; times are counted from the keeper's
//! start.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::standby::{Failure, Standby};

const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// What the keeper does at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Grants,
    Revokes,
    Renewals,
    Inspections,
    Compactions,
}

/// A lane; its handle is away while it works.
#[derive(Debug)]
pub(super) struct Lane<S> {
    kind: Kind,
    standby: Option<S>,
    backoff: Backoff,
    rests_until: Duration,
    trouble: Option<Failure>,
}

impl<S: Standby> Lane<S> {
    pub(super) fn new(kind: Kind, standby: S) -> Self {
        Self {
            kind,
            standby: Some(standby),
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
            rests_until: Duration::ZERO,
            trouble: None,
        }
    }

    /// True if it may begin something.
    pub(super) fn is_free(&self, now: Duration) -> bool {
        self.standby.is_some() && self.rests_until <= now
    }

    /// When it may go on, if it only rests.
    pub(super) fn rests_until(&self) -> Option<Duration> {
        self.standby.as_ref().map(|_| self.rests_until)
    }

    /// Its handle, to work with.
    pub(super) fn take(&mut self) -> Option<S> {
        self.standby.take()
    }

    /// The work is done, or was tried.
    pub(super) fn put_back(&mut self, mut standby: S, failure: Option<Failure>, now: Duration) {
        let Self { kind, trouble, .. } = self;
        match &failure {
            None => {
                self.backoff.reset();
                if trouble.is_some() {
                    tracing::info!(?kind, "the standby goes along with leases again");
                }
            }
            Some(failure) => {
                if failure.suggests_another_endpoint() {
                    standby.try_another_endpoint();
                }
                self.rests_until = now + self.backoff.next_wait();
                if trouble.is_none() {
                    tracing::warn!(?kind, standby_says = %failure, "leases have to wait, retrying");
                }
            }
        }
        self.trouble = failure;
        self.standby = Some(standby);
    }

    /// Why it has to try again.
    pub(super) fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }
}
