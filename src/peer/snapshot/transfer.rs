//! Which of the transfers counts, and how each one stands.
//!
//! One transfer counts at a time: that of the newest term, and of one leader the latest. Another
//! one that begins ends it. Whoever sends it, its term must be the newest that is known.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::progress::{Phase, Progress};
use super::received::Over;
use super::spool::{Name, Spool};
use crate::ids::{MemberId, RaftIndex, Term};
use crate::peer::Config;
use crate::peer::shared::{Link, Shared};

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) from: MemberId,
    pub(super) term: Term,
    pub(super) index: RaftIndex,
    pub(super) snapshot_term: Term,
}

/// Why an offer is not taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("its term {term} is over, {newest} has begun")]
    Stale { term: Term, newest: Term },
    #[error("member {other} sends one in the same term")]
    SecondLeader { other: MemberId },
}

/// All transfers of a transport.
#[derive(Debug)]
pub(in crate::peer) struct Transfers {
    /// The highest term that a leader told us.
    term: watch::Sender<Term>,
    current: Mutex<Option<Current>>,
    progress: watch::Sender<Option<Progress>>,
    count: AtomicU64,
}

#[derive(Debug)]
struct Current {
    number: u64,
    offer: Offer,
    over: watch::Sender<Option<Over>>,
}

impl Default for Transfers {
    fn default() -> Self {
        Self {
            term: watch::Sender::new(Term(0)),
            current: Mutex::default(),
            progress: watch::Sender::new(None),
            count: AtomicU64::new(0),
        }
    }
}

impl Transfers {
    /// A leader told us this term. Transfers of earlier ones end.
    pub(in crate::peer) fn note_term(&self, term: Term) {
        self.term.send_if_modified(|newest| {
            let rises = term > *newest;
            *newest = term.max(*newest);
            rises
        });
    }

    /// The latest transfer, as it goes on.
    pub(in crate::peer) fn progress(&self) -> watch::Receiver<Option<Progress>> {
        self.progress.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One transfer. Its copies stand for the same one.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    pub(super) number: u64,
    pub(super) offer: Offer,
    over: watch::Sender<Option<Over>>,
    began: Instant,
    link: Arc<Link>,
    shared: Arc<Shared>,
}

impl Transfer {
    /// Begins one, which ends the one before.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn begin(
        shared: &Arc<Shared>,
        link: &Arc<Link>,
        offer: Offer,
    ) -> Result<Self, Refused> {
        let transfers = &shared.transfers;
        let mut current = transfers.lock();
        let newest = *transfers.term.borrow();
        if offer.term < newest {
            let term = offer.term;
            return Err(Refused::Stale { term, newest });
        }
        if let Some(present) = current.as_ref() {
            let other = present.offer.from;
            if present.offer.term == offer.term && other != offer.from {
                return Err(Refused::SecondLeader { other });
            }
            if end(&present.over, Over::Replaced) {
                shared.stats.snapshots_over.increment();
            }
        }
        let number = transfers.count.fetch_add(1, Ordering::Relaxed);
        let over = watch::Sender::new(None);
        *current = Some(Current {
            number,
            offer,
            over: over.clone(),
        });
        let began = Instant::now();
        transfers.progress.send_replace(Some(Progress {
            from: offer.from,
            term: offer.term,
            index: offer.index,
            bytes: 0,
            bytes_per_second: 0,
            began: began.into_std(),
            phase: Phase::Receiving,
        }));
        shared.stats.snapshots_begun.increment();
        Ok(Self {
            number,
            offer,
            over,
            began,
            link: Arc::clone(link),
            shared: Arc::clone(shared),
        })
    }

    pub(super) fn name(&self) -> Name {
        Name {
            term: self.offer.term,
            index: self.offer.index,
            from: self.offer.from,
            number: self.number,
        }
    }

    /// None if no folder is configured.
    pub(super) fn spool(&self) -> Option<Spool> {
        let config = &self.shared.config;
        Some(Spool {
            folder: config.spool.clone()?,
            free_bytes_min: config.spool_free_bytes_min,
        })
    }

    /// Why it is over, as that becomes known.
    pub(super) fn over(&self) -> watch::Receiver<Option<Over>> {
        self.over.subscribe()
    }

    /// Waits until something but the transfer itself ends it, and notes that.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn ends(&self) -> Over {
        let over = self.watch_ends().await;
        self.end(over);
        over
    }

    async fn watch_ends(&self) -> Over {
        let mut term = self.shared.transfers.term.subscribe();
        let mut over = self.over.subscribe();
        let newer = async {
            let newer = term.wait_for(|newest| *newest > self.offer.term).await;
            newer.map_or(Over::Gone, |newest| Over::NewerTerm(*newest))
        };
        let replaced = async {
            let over = over.wait_for(Option::is_some).await;
            over.ok().and_then(|over| *over).unwrap_or(Over::Gone)
        };
        tokio::select! {
            biased;
            () = self.link.ended.cancelled() => Over::Gone,
            over = newer => over,
            over = replaced => over,
        }
    }

    /// The request is over without an answer.
    pub(super) fn end(&self, why: Over) {
        if end(&self.over, why) {
            self.shared.stats.snapshots_over.increment();
            self.show(|progress| {
                // What is being installed is over only for the leader.
                if progress.phase == Phase::Receiving {
                    progress.phase = Phase::Over(why);
                }
            });
        }
    }

    /// It does not count any more: another one may begin without ending it.
    pub(super) fn leave(&self) {
        let mut current = self.shared.transfers.lock();
        current.take_if(|present| present.number == self.number);
    }

    /// Bytes came in.
    pub(super) fn advance(&self, bytes: u64, bytes_per_second: u64) {
        self.show(|progress| {
            progress.bytes = bytes;
            progress.bytes_per_second = bytes_per_second;
        });
    }

    /// All of it is here.
    pub(super) fn hold(&self, bytes: u64) {
        let (from, index) = (self.offer.from, self.offer.index);
        let elapsed = self.began.elapsed();
        tracing::info!(%from, %index, bytes, ?elapsed, "a snapshot has been received");
        self.shared.stats.snapshots_received.increment();
        let since = Instant::now().into_std();
        self.show(|progress| {
            progress.bytes = bytes;
            progress.phase = Phase::Held { since };
        });
    }

    /// It was installed.
    pub(super) fn settle(&self) {
        self.link.retry().settle();
        self.shared.stats.snapshots_installed.increment();
        self.show(|progress| progress.phase = Phase::Installed);
    }

    /// It failed, for this reason. Unless another one counts by now, nothing is said to the leader
    /// for a while, so that it does not begin anew at once.
    pub(super) fn fail(&self, why: &dyn Display) {
        let (from, index) = (self.offer.from, self.offer.index);
        match *self.over.borrow() {
            Some(Over::Disconnected) | None if self.is_latest() => {}
            over => {
                tracing::debug!(%from, %index, ?over, %why, "a snapshot is of no more use");
                return;
            }
        }
        let retry_at = pause(&self.shared.config, &self.link);
        let wait = retry_at.saturating_duration_since(Instant::now());
        tracing::warn!(%from, %index, %why, ?wait, "a snapshot was not taken over");
        self.shared.stats.snapshots_failed.increment();
        self.show(|progress| {
            progress.phase = Phase::Failed {
                why: why.to_string(),
                retry_at: retry_at.into_std(),
            };
        });
    }

    /// Changes what is shown, unless a later one is shown already.
    fn show(&self, change: impl FnOnce(&mut Progress)) {
        if self.is_latest() {
            self.shared.transfers.progress.send_modify(|progress| {
                if let Some(progress) = progress {
                    change(progress);
                }
            });
        }
    }

    fn is_latest(&self) -> bool {
        self.shared.transfers.count.load(Ordering::Relaxed) == self.number + 1
    }
}

fn end(over: &watch::Sender<Option<Over>>, why: Over) -> bool {
    over.send_if_modified(|over| {
        let is_first = over.is_none();
        over.get_or_insert(why);
        is_first
    })
}

/// Says nothing to a member for a while; returns until when.
pub(super) fn pause(config: &Config, link: &Link) -> Instant {
    let (min, max) = (config.snapshot_retry_min, config.snapshot_retry_max);
    let now = Instant::now().into_std();
    link.retry().fail(now, min, max).until.into()
}
