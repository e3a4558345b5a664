//! Makes the standby ours: writes the first checkpoint, or loads the ledger and goes on from the
//! one that is there.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Base, Claim, Keeping, Upkeep};
use crate::backoff::Backoff;
use crate::checkpoint::{Basis, Checkpoint, Phase, Place};
use crate::exit::{Exit, Fatal};
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision, Term};
use crate::install::attached_leases;
use crate::ledger::{self, Damaged, Ledger, Loader};
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{DEFAULT_LEASE_TTL_MIN, DigestKey, Position, PrimaryState, Rules, Settings};
use crate::standby::{
    Compaction, Contact, Error, Failure, Guard, KeyValue, Leases, Pages, Standby, Writer,
};

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// What was found in the standby, and nothing written yet.
#[derive(Debug)]
pub struct Loaded {
    checkpoint: Checkpoint,
    held: ledger::Loaded,
    guard: Guard,
}

/// Why a ledger could not be loaded.
enum LoadError {
    Standby(Failure),
    Damaged(Damaged),
}

impl Loaded {
    /// The checkpoint to go on from; at index 0 where there is none yet.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// True if the stream begins here.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.guard == Guard::NothingThere
    }

    /// We are this member of the primary.
    ///
    /// A primary that was restored from a backup often keeps its cluster id, and never its learner.
    #[must_use]
    pub fn of_member(mut self, member: MemberId) -> Self {
        let before = self.checkpoint.member;
        if before != member && !self.is_first() {
            tracing::warn!(
                %before,
                now = %member,
                "the primary has given us another member id since the last checkpoint; if it was \
                 restored from a backup meanwhile, stop this process and run `etcd-syncer resync`"
            );
        }
        self.checkpoint.member = member;
        self
    }
}

impl Claim {
    /// What the standby holds of the primary; none if told to stop. Waits while it does not answer.
    ///
    /// # Errors
    /// If the standby refuses to be read.
    pub async fn load<S: Standby>(
        &self,
        standby: &mut S,
        contact: &Contact,
        rules: Rules,
    ) -> Result<Option<Loaded>, Fatal> {
        let Some(checkpoint) = &contact.checkpoint else {
            return Ok(Some(self.beginning(contact.guard, rules)));
        };
        if checkpoint.is_by_content() {
            return self.without_ledger(standby, contact, rules).await;
        }
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let started = Instant::now();
        loop {
            let loading = load_once(standby, &self.stream, checkpoint, rules);
            let Some(loaded) = self.stop.run_until_cancelled(loading).await else {
                return Ok(None);
            };
            match loaded {
                Ok(held) => {
                    tracing::info!(
                        index = %checkpoint.index,
                        revision = %checkpoint.revision,
                        keys = held.state.keys().len(),
                        leases = held.state.leases().len(),
                        ledger_bytes = held.ledger.bytes(),
                        seconds = started.elapsed().as_secs_f64(),
                        "going on from the checkpoint"
                    );
                    return Ok(Some(Loaded {
                        checkpoint: checkpoint.clone(),
                        held,
                        guard: contact.guard,
                    }));
                }
                Err(LoadError::Damaged(damaged)) => {
                    tracing::error!(
                        %damaged,
                        "the ledger cannot be trusted: a snapshot of the primary will be compared \
                         with the standby's own keys"
                    );
                    return self.without_ledger(standby, contact, rules).await;
                }
                Err(LoadError::Standby(failure @ Failure::Refused(_))) => {
                    return Err(Fatal::new(Exit::StandbyRefuses, failure));
                }
                Err(LoadError::Standby(failure)) => {
                    tracing::warn!(standby_says = %failure, "cannot read the ledger, retrying");
                    standby.try_another_endpoint();
                    let wait = tokio::time::sleep(backoff.next_wait());
                    if self.stop.run_until_cancelled(wait).await.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The right to write to the standby, by writing its checkpoint, and what keeps its leases from
    /// then on; none if told to stop. `another` makes more handles of the standby.
    ///
    /// # Errors
    /// If another process was faster, or the standby refuses.
    pub async fn take<S: Standby + Leases + Compaction + 'static>(
        &self,
        standby: S,
        another: impl FnMut() -> S,
        loaded: Loaded,
        upkeep: Upkeep,
    ) -> Result<Option<(Base<S>, Keeping)>, Fatal> {
        let Loaded {
            mut checkpoint,
            held,
            guard,
        } = loaded;
        checkpoint.writer = fastrand::u64(1..);
        checkpoint.batch = 0;
        let key = reserved::checkpoint_key(&self.stream);
        let mut writer = Writer::new(standby, key, guard, upkeep.trouble.clone());
        // From here on nobody else writes, and what was read is what is there: each record of the
        // ledger is written together with the checkpoint.
        let writing = writer.write(Vec::new(), &checkpoint);
        let Some(written) = self.stop.run_until_cancelled(writing).await else {
            return Ok(None);
        };
        match written {
            Ok(_) => {
                let ledger::Loaded {
                    state,
                    ledger,
                    ended,
                } = held;
                let (keeping, keeper) =
                    upkeep.keep(another, &state, ended, checkpoint.ending_lease);
                let base = Base {
                    writer,
                    reconciler: upkeep.reconciler(&state, ledger.not_carried()),
                    checkpoint,
                    state,
                    ledger,
                    scope: Arc::clone(&self.scope),
                    keeper,
                };
                Ok(Some((base, keeping)))
            }
            Err(error @ Error::Fenced { .. }) => Err(Fatal::new(Exit::Fenced, error)),
            Err(error @ Error::Refused(_)) => Err(Fatal::new(Exit::StandbyRefuses, error)),
        }
    }

    fn beginning(&self, guard: Guard, rules: Rules) -> Loaded {
        let digest_key = DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..)));
        let checkpoint = Checkpoint {
            primary: self.primary,
            member: MemberId(0),
            index: RaftIndex(0),
            term: Term(0),
            voters: Vec::new(),
            learners: Vec::new(),
            revision: Revision(1),
            compact_revision: Revision(-1),
            phase: Phase::Streaming,
            writer: 0,
            batch: 0,
            ledger: Place::empty(*digest_key.random()),
            ending_lease: LeaseId(0),
            scope: self.scope.prefixes().clone(),
        };
        let ledger = Ledger::new(&self.stream, None, &digest_key);
        // The log begins with the members that the cluster was made of.
        let state = PrimaryState::new(settings(digest_key, rules, 1), Position::START);
        Loaded {
            checkpoint,
            held: ledger::Loaded::new(state, ledger),
            guard,
        }
    }

    /// To be compared with the standby's own keys: nothing in the ledger counts any more. A
    /// snapshot may be long in coming, and until then the leases of those keys are kept alive.
    async fn without_ledger<S: Standby>(
        &self,
        standby: &mut S,
        contact: &Contact,
        rules: Rules,
    ) -> Result<Option<Loaded>, Fatal> {
        let Some(mut checkpoint) = contact.checkpoint.clone() else {
            return Ok(Some(self.beginning(contact.guard, rules)));
        };
        let reading = attached_leases(standby, &self.scope);
        let Some(leases) = self.stop.run_until_cancelled(reading).await else {
            return Ok(None);
        };
        let leases = leases.map_err(|error| Fatal::new(Exit::StandbyRefuses, error))?;
        let digest_key = DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..)));
        let ledger = Ledger::new(&self.stream, Some(&checkpoint.ledger), &digest_key);
        checkpoint.ledger = ledger.place().clone();
        checkpoint.phase = Phase::Installing {
            index: RaftIndex(0),
            term: Term(0),
            basis: Basis::Content,
        };
        let voters = checkpoint.voters.len().max(1);
        let mut state = PrimaryState::new(settings(digest_key, rules, voters), Position::START);
        for id in leases {
            // Nobody knows its TTL.
            state.restore_lease(id, -1, 0);
        }
        Ok(Some(Loaded {
            checkpoint,
            held: ledger::Loaded::new(state, ledger),
            guard: contact.guard,
        }))
    }
}

fn settings(digest_key: DigestKey, rules: Rules, voters: usize) -> Settings {
    Settings {
        digest_key,
        lease_ttl_min: DEFAULT_LEASE_TTL_MIN,
        rules,
        voters,
    }
}

async fn load_once<S: Standby>(
    standby: &mut S,
    stream: &str,
    checkpoint: &Checkpoint,
    rules: Rules,
) -> Result<ledger::Loaded, LoadError> {
    let place = checkpoint.ledger.clone();
    let voters = checkpoint.voters.len().max(1);
    let settings = settings(DigestKey::new(&place.digest_key), rules, voters);
    let position = Position {
        index: checkpoint.index,
        revision: checkpoint.revision,
        compact_revision: checkpoint.compact_revision,
    };
    let base = reserved::ledger_base(stream, place.generation);
    let journals = KeyRange::between(
        reserved::ledger_journal(stream, place.first_journal),
        reserved::ledger_journal(stream, place.next_journal),
    );
    let mut loader = Loader::new(stream, place, settings, position);
    for range in [Some(base), journals].into_iter().flatten() {
        let mut pages = Pages::new(range.clone());
        // The base's range may hold more than counts, if it was written twice.
        while loader.next_key().is_some_and(|key| range.contains(&key)) {
            let page = pages.next(standby).await.map_err(LoadError::Standby)?;
            if page.is_empty() {
                break;
            }
            for KeyValue { key, value, .. } in page {
                if loader.next_key().is_some_and(|next| range.contains(&next)) {
                    loader.take_in(&key, &value).map_err(LoadError::Damaged)?;
                }
            }
        }
    }
    loader.finish().map_err(LoadError::Damaged)
}
