//! Makes the standby ours: writes the first checkpoint, or loads the ledger and goes on from the
//! one that is there.

use std::time::{Duration, Instant};

use super::App;
use super::keeping::Keeping;
use crate::backoff::Backoff;
use crate::checkpoint::{Basis, Checkpoint, Phase as CheckpointPhase, Place};
use crate::exit::{Exit, Fatal};
use crate::ids::{LeaseId, RaftIndex, Revision, Term};
use crate::ledger::{Damaged, Ledger, Loaded, Loader};
use crate::peer::join::Found;
use crate::plan::auth::{Access, Given};
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{DEFAULT_LEASE_TTL_MIN, DigestKey, Position, PrimaryState, Rules, Settings};
use crate::standby::keeper;
use crate::standby::{Contact, Error, Etcd, Failure, KeyValue, Pages, Reconciler, Standby, Writer};
use crate::status::Phase;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Where a stream goes on: what the standby holds, and who may write to it.
pub(super) struct Base {
    pub(super) writer: Writer<Etcd>,
    pub(super) reconciler: Reconciler,
    pub(super) checkpoint: Checkpoint,
    pub(super) state: PrimaryState,
    pub(super) ledger: Ledger,
    pub(super) keeper: keeper::Handle,
}

/// Why a ledger could not be loaded.
enum LoadError {
    Standby(Failure),
    Damaged(Damaged),
}

impl App {
    /// What the standby holds of the primary, and the right to write to it; none if told to stop.
    pub(super) async fn resume(
        &self,
        mut standby: Etcd,
        contact: &Contact,
        found: &Found,
        rules: Rules,
    ) -> Result<Option<(Base, Keeping)>, Fatal> {
        let loaded = match &contact.checkpoint {
            None => Some(self.beginning(found, rules)),
            Some(checkpoint) if is_by_content(checkpoint) => {
                Some(self.without_ledger(checkpoint, rules))
            }
            Some(checkpoint) => Box::pin(self.load(&mut standby, checkpoint, rules)).await?,
        };
        let Some((mut checkpoint, loaded)) = loaded else {
            return Ok(None);
        };
        checkpoint.member = found.identity.us;
        checkpoint.writer = fastrand::u64(1..);
        checkpoint.batch = 0;
        let key = reserved::checkpoint_key(&self.config.stream);
        let trouble = self.board.standby_trouble.clone();
        let mut writer = Writer::new(standby, key, contact.guard, trouble);
        // From here on nobody else writes, and what was read is what is there: each record of the
        // ledger is written together with the checkpoint.
        let Some(written) = self
            .unless_stopped(writer.write(Vec::new(), &checkpoint))
            .await
        else {
            return Ok(None);
        };
        match written {
            Ok(_) => {
                let (keeping, keeper) =
                    self.keep(&loaded.state, loaded.ended, checkpoint.ending_lease);
                let base = Base {
                    writer,
                    reconciler: self.reconciler(&loaded.state),
                    checkpoint,
                    state: loaded.state,
                    ledger: loaded.ledger,
                    keeper,
                };
                Ok(Some((base, keeping)))
            }
            Err(error @ Error::Fenced { .. }) => Err(Fatal::new(Exit::Fenced, error)),
            Err(error @ Error::Refused(_)) => Err(Fatal::new(Exit::StandbyRefuses, error)),
        }
    }

    /// For a standby that was brought to `state` by other processes.
    fn reconciler(&self, state: &PrimaryState) -> Reconciler {
        let access = match self.config.standby_login {
            Some(_) => Access::Password,
            None => Access::NoPassword,
        };
        Reconciler::new(
            &self.config.standby_user,
            access,
            Given::restored(state.auth()),
            self.board.auth.clone(),
            self.board.standby_trouble.clone(),
        )
    }

    fn beginning(&self, found: &Found, rules: Rules) -> (Checkpoint, Loaded) {
        let digest_key = DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..)));
        let checkpoint = Checkpoint {
            primary: found.identity.cluster,
            member: found.identity.us,
            index: RaftIndex(0),
            term: Term(0),
            voters: Vec::new(),
            learners: Vec::new(),
            revision: Revision(1),
            compact_revision: Revision(-1),
            phase: CheckpointPhase::Streaming,
            writer: 0,
            batch: 0,
            ledger: Place::empty(*digest_key.random()),
            ending_lease: LeaseId(0),
        };
        let ledger = Ledger::new(&self.config.stream, None, &digest_key);
        // The log begins with the members that the cluster was made of.
        let state = PrimaryState::new(settings(digest_key, rules, 1), Position::START);
        (checkpoint, Loaded::new(state, ledger))
    }

    /// To be compared with the standby's own keys: nothing in the ledger counts any more.
    fn without_ledger(&self, checkpoint: &Checkpoint, rules: Rules) -> (Checkpoint, Loaded) {
        let digest_key = DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..)));
        let old = Some(&checkpoint.ledger);
        let ledger = Ledger::new(&self.config.stream, old, &digest_key);
        let mut checkpoint = checkpoint.clone();
        checkpoint.ledger = ledger.place().clone();
        checkpoint.phase = CheckpointPhase::Installing {
            index: RaftIndex(0),
            term: Term(0),
            basis: Basis::Content,
        };
        let voters = checkpoint.voters.len().max(1);
        let state = PrimaryState::new(settings(digest_key, rules, voters), Position::START);
        (checkpoint, Loaded::new(state, ledger))
    }

    /// Loads the ledger; waits while the standby does not answer.
    async fn load(
        &self,
        standby: &mut Etcd,
        checkpoint: &Checkpoint,
        rules: Rules,
    ) -> Result<Option<(Checkpoint, Loaded)>, Fatal> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let started = Instant::now();
        let what = "loading the ledger from the standby".to_owned();
        self.board.phase.send_replace(Phase::Contacting(what));
        loop {
            let loading = load_once(standby, &self.config.stream, checkpoint, rules);
            let Some(loaded) = self.unless_stopped(loading).await else {
                return Ok(None);
            };
            match loaded {
                Ok(loaded) => {
                    tracing::info!(
                        index = %checkpoint.index,
                        revision = %checkpoint.revision,
                        keys = loaded.state.keys().len(),
                        leases = loaded.state.leases().len(),
                        ledger_bytes = loaded.ledger.bytes(),
                        seconds = started.elapsed().as_secs_f64(),
                        "going on from the checkpoint"
                    );
                    return Ok(Some((checkpoint.clone(), loaded)));
                }
                Err(LoadError::Damaged(damaged)) => {
                    tracing::error!(
                        %damaged,
                        "the ledger cannot be trusted: a snapshot of the primary will be compared \
                         with the standby's own keys"
                    );
                    return Ok(Some(self.without_ledger(checkpoint, rules)));
                }
                Err(LoadError::Standby(failure @ Failure::Refused(_))) => {
                    return Err(Fatal::new(Exit::StandbyRefuses, failure));
                }
                Err(LoadError::Standby(failure)) => {
                    tracing::warn!(standby_says = %failure, "cannot read the ledger, retrying");
                    standby.try_another_endpoint();
                    let wait = tokio::time::sleep(backoff.next_wait());
                    if self.unless_stopped(wait).await.is_none() {
                        return Ok(None);
                    }
                }
            }
        }
    }
}

fn is_by_content(checkpoint: &Checkpoint) -> bool {
    matches!(
        checkpoint.phase,
        CheckpointPhase::Installing {
            basis: Basis::Content,
            ..
        }
    )
}

fn settings(digest_key: DigestKey, rules: Rules, voters: usize) -> Settings {
    Settings {
        digest_key,
        lease_ttl_min: DEFAULT_LEASE_TTL_MIN,
        rules,
        voters,
    }
}

async fn load_once(
    standby: &mut Etcd,
    stream: &str,
    checkpoint: &Checkpoint,
    rules: Rules,
) -> Result<Loaded, LoadError> {
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
