//! The task between the learner and the standby: entries in, batches written, durable index out.
//! IO.
//!
//! One transaction is in flight at a time. What arrives meanwhile queues and becomes the next
//! batch, so a low load makes small batches with little delay, a high load large ones, and nothing
//! waits on a timer.

mod auth;
mod leases;
mod metrics;
mod view;

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision};
use crate::learner::Handout;
use crate::ledger::Ledger;
use crate::pipeline::{self, Pipeline, Polled};
use crate::plan::{Batch, Milestones, Nested, Write, list_max, nest};
use crate::resolve::{PrimaryState, Put, Rules, UnknownVersion, Value};
use crate::standby::{self, Auth, Failure, Reconciler, Standby, Writer, Written, keeper};
pub use metrics::Metrics;
pub use view::{BatchView, View};

/// The task.
#[derive(Debug)]
pub struct Apply<S> {
    pipeline: Pipeline,
    writer: Writer<S>,
    reconciler: Reconciler,
    checkpoint: Checkpoint,
    ledger: Ledger,
    keeper: keeper::Handle,
    milestones: Milestones,
    /// The primary's compact revision that was carried over last.
    compacted: Revision,
    /// How often the next batch met a lease that was missing.
    losses: u32,
    txn_ops_max: usize,
    handouts: mpsc::UnboundedReceiver<Vec<Handout>>,
    durable: watch::Sender<RaftIndex>,
    rules: watch::Receiver<Result<Rules, UnknownVersion>>,
    view: watch::Sender<View>,
    metrics: Metrics,
}

/// What connects the task with the others.
#[derive(Debug)]
pub struct Channels {
    /// Committed entries. Not bounded in number: they count against the learner's limit in bytes
    /// until they are durable.
    pub handouts: mpsc::UnboundedReceiver<Vec<Handout>>,
    /// What the standby holds.
    pub durable: watch::Sender<RaftIndex>,
    /// How the primary applies entries.
    pub rules: watch::Receiver<Result<Rules, UnknownVersion>>,
    /// What keeps the leases.
    pub keeper: keeper::Handle,
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It was told to; nothing is in flight.
    #[error("stopped")]
    Stopped,
    /// It was told to, and the standby did not answer about the batch in flight in time. The next
    /// process settles it by the checkpoint.
    #[error("stopped while the standby did not answer")]
    StoppedInFlight,
    /// An entry cannot be replicated.
    #[error(transparent)]
    Pipeline(#[from] pipeline::Error),
    /// A member of the primary runs a release whose rules are not known.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// The standby cannot be written.
    #[error(transparent)]
    Standby(#[from] standby::Error),
    /// A single entry does not fit into a request.
    #[error(
        "entry {index} does not fit into a request of the standby ({failure}): raise {flag} on the \
         standby, to a little more than the primary's"
    )]
    TooLarge {
        /// The entry.
        index: RaftIndex,
        /// What the standby said.
        failure: Failure,
        /// What to raise.
        flag: &'static str,
    },
    /// A lease was gone on the standby, and keys with it.
    #[error(
        "the standby lost lease {lease} and keys that were attached to it (it should have {keys}): \
         it was revoked there, or expired while nothing kept it alive for longer than \
         --standby-lease-ttl; the keys' values are not known here, `etcd-syncer resync` brings them \
         back"
    )]
    KeysLost {
        /// The lease.
        lease: LeaseId,
        /// How many keys it should have.
        keys: usize,
    },
    /// Not even a small piece of the ledger fits.
    #[error(
        "write the ledger: {0}; raise --max-request-bytes and --max-txn-ops on the standby to etcd's \
         defaults or more"
    )]
    Ledger(Failure),
    /// The learner ended before.
    #[error("the rest of the process has ended")]
    Alone,
}

/// What is left when the task has ended. After [`End::Alone`] all of it is as of the checkpoint.
#[derive(Debug)]
pub struct Left<S> {
    /// Why.
    pub end: End,
    /// The one who writes.
    pub writer: Writer<S>,
    /// The one who keeps users and roles.
    pub reconciler: Reconciler,
    /// What it last wrote.
    pub checkpoint: Checkpoint,
    /// The ledger.
    pub ledger: Ledger,
    /// What keeps the leases.
    pub keeper: keeper::Handle,
    /// The primary's state after the last entry that was resolved.
    pub state: PrimaryState,
}

/// How long a batch in flight may keep a process that was told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

impl<S: Standby + Auth> Apply<S> {
    /// A task that goes on behind `checkpoint`.
    #[must_use]
    pub fn new(
        pipeline: Pipeline,
        (writer, reconciler): (Writer<S>, Reconciler),
        (checkpoint, ledger): (Checkpoint, Ledger),
        txn_ops_max: usize,
        channels: Channels,
        view: watch::Sender<View>,
        metrics: Metrics,
    ) -> Self {
        let Channels {
            handouts,
            durable,
            rules,
            keeper,
        } = channels;
        let standby_revision = writer.written_at().unwrap_or_default();
        Self {
            pipeline,
            writer,
            keeper,
            milestones: Milestones::new(checkpoint.revision, standby_revision),
            compacted: checkpoint.compact_revision,
            losses: 0,
            reconciler,
            checkpoint,
            ledger,
            txn_ops_max,
            handouts,
            durable,
            rules,
            view,
            metrics,
        }
    }

    /// Runs until it cannot go on.
    ///
    /// # Cancel safety
    /// Not cancel safe; use `stop`, which lets the batch in flight finish.
    pub async fn run(mut self, stop: CancellationToken) -> Left<S> {
        self.show();
        let end = match self.begin_auth(&stop).await {
            Ok(()) => loop {
                if let Err(end) = self.turn(&stop).await {
                    break end;
                }
            },
            Err(end) => end,
        };
        Left {
            end,
            writer: self.writer,
            reconciler: self.reconciler,
            checkpoint: self.checkpoint,
            ledger: self.ledger,
            keeper: self.keeper,
            state: self.pipeline.into_state(),
        }
    }

    async fn turn(&mut self, stop: &CancellationToken) -> Result<(), End> {
        while let Ok(handouts) = self.handouts.try_recv() {
            self.pipeline.push(handouts);
        }
        if stop.is_cancelled() {
            return Err(End::Stopped);
        }
        // What was found out is held to the state, which may be of no more use.
        while !self.pipeline.is_beyond()
            && let Some(event) = self.keeper.try_event()
        {
            self.heard(event, stop).await?;
        }
        if self.rules.has_changed().unwrap_or(false) {
            self.pipeline.set_rules((*self.rules.borrow_and_update())?);
        }
        let polled = self.pipeline.poll();
        for (index, disagreement) in self.pipeline.take_disagreements() {
            tracing::error!(
                %index,
                cause = ?disagreement.cause,
                keys = ?disagreement.keys,
                "members of the primary may have applied this entry differently; the standby gets \
                 what most of them did"
            );
            self.view.send_modify(|view| view.disagreements.push(index));
        }
        match polled? {
            Polled::Batch(batch) => {
                if batch.changes_auth() {
                    self.bring_auth(stop).await?;
                }
                self.write(*batch, stop).await?;
                self.roll(stop).await.map(drop)
            }
            Polled::Read(keys) => {
                let mut values = Vec::new();
                for key in keys {
                    // While the standby is down this waits, and nothing is lost by leaving it.
                    let stored = tokio::select! {
                        stored = self.writer.read(&key) => stored?,
                        () = stop.cancelled() => return Err(End::Stopped),
                    };
                    values.push((key, stored.map(|stored| stored.value)));
                }
                Ok(self.pipeline.provide(values)?)
            }
            Polled::Idle if self.roll(stop).await? => Ok(()),
            Polled::Idle => tokio::select! {
                () = stop.cancelled() => Err(End::Stopped),
                handouts = self.handouts.recv() => {
                    self.pipeline.push(handouts.ok_or(End::Alone)?);
                    Ok(())
                }
                event = self.keeper.event() => self.heard(event?, stop).await,
                () = auth::at(self.reconciler.recheck_at()) => self.recheck_auth(stop).await,
            },
        }
    }

    async fn write(&mut self, batch: Batch, stop: &CancellationToken) -> Result<(), End> {
        let Some(mut checkpoint) = self.checkpoint_after(&batch) else {
            return Ok(());
        };
        let digest_key = self.pipeline.state().digest_key();
        let journal = self.ledger.journal(&batch.delta(), digest_key);
        // The planner lets no entry through that could not be arranged, but a batch of several may
        // need more room than one list has.
        let list_max = list_max(self.txn_ops_max);
        let Some(mut writes) = nest(batch.writes().collect(), list_max) else {
            let failure = Failure::TooManyOps("too many for one transaction".into());
            return self.part(batch, failure, stop).await;
        };
        let mut journal_bytes = 0;
        if let Some((key, record, place)) = journal {
            journal_bytes = record.len();
            writes.push(own_put(key, record));
            checkpoint.ledger = place;
        }
        let leases = batch.leases();
        self.before(&leases, stop).await?;
        let started = Instant::now();
        match self.send(writes, &checkpoint, stop).await? {
            Ok(written) => {
                self.ledger
                    .journaled(checkpoint.ledger.clone(), journal_bytes);
                self.checkpoint = checkpoint;
                self.losses = 0;
                self.note(&batch, written, started.elapsed());
                self.durable.send_replace(self.checkpoint.index);
                self.after(&batch, leases, written.revision).await
            }
            Err(failure @ Failure::LeaseNotFound(_)) => self.find_lost(batch, failure, stop).await,
            Err(failure) => self.part(batch, failure, stop).await,
        }
    }

    /// Writes one record of the ledger, or deletes old ones, if there is something to do; false if
    /// not.
    async fn roll(&mut self, stop: &CancellationToken) -> Result<bool, End> {
        let state = self.pipeline.state();
        let Some(step) = self.ledger.step(state, self.checkpoint.index) else {
            return Ok(false);
        };
        let put = step.put.clone().map(|(key, record)| own_put(key, record));
        let delete = step.delete.clone().map(Write::Delete).map(Nested::Op);
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.batch += 1;
        checkpoint.ledger = step.place.clone();
        let writes = put.into_iter().chain(delete).collect();
        match self.send(writes, &checkpoint, stop).await? {
            Ok(_) => {
                self.ledger.stepped(step);
                self.checkpoint = checkpoint;
            }
            Err(_) if self.ledger.shrink() => {}
            Err(failure) => return Err(End::Ledger(failure)),
        }
        Ok(true)
    }

    /// Sends one transaction; the inner error is that the standby refuses its size, or lacks a
    /// lease that it names.
    async fn send(
        &mut self,
        writes: Vec<Nested<Write>>,
        checkpoint: &Checkpoint,
        stop: &CancellationToken,
    ) -> Result<Result<Written, Failure>, End> {
        let patience = async {
            stop.cancelled().await;
            tokio::time::sleep(STOP_PATIENCE).await;
        };
        let outcome = tokio::select! {
            outcome = self.writer.write(writes, checkpoint) => outcome,
            () = patience => return Err(End::StoppedInFlight),
        };
        match outcome {
            Ok(written) => Ok(Ok(written)),
            Err(standby::Error::Refused(
                failure @ (Failure::TooLarge(_)
                | Failure::TooManyOps(_)
                | Failure::LeaseNotFound(_)),
            )) => Ok(Err(failure)),
            Err(error) => Err(error.into()),
        }
    }

    /// The standby takes less than was thought: try halves.
    async fn part(
        &mut self,
        batch: Batch,
        failure: Failure,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if let Some(id) = leases::ended_whole(&batch) {
            return self.end_whole(batch, id, stop).await;
        }
        let index = batch
            .units()
            .first()
            .map(|unit| unit.index)
            .unwrap_or_default();
        if self.pipeline.give_back(batch) {
            tracing::info!(%failure, "parting a batch in two");
            return Ok(());
        }
        let flag = match failure {
            Failure::TooManyOps(_) => "--max-txn-ops",
            Failure::TooLarge(_)
            | Failure::NotApplied(_)
            | Failure::Unknown(_)
            | Failure::NoSpace(_)
            | Failure::Diverged(_)
            | Failure::LeaseNotFound(_)
            | Failure::Already(_)
            | Failure::Refused(_) => "--max-request-bytes",
        };
        Err(End::TooLarge {
            index,
            failure,
            flag,
        })
    }

    fn checkpoint_after(&self, batch: &Batch) -> Option<Checkpoint> {
        let last = batch.units().last()?;
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.index = last.index;
        checkpoint.term = last.term;
        checkpoint.revision = last.revision;
        checkpoint.compact_revision = last.compact_revision;
        checkpoint.ending_lease = LeaseId(0);
        checkpoint.batch += 1;
        if let Some(members) = batch
            .units()
            .iter()
            .rev()
            .find_map(|unit| unit.members.as_ref())
        {
            let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect();
            checkpoint.voters = ids(&members.voters);
            checkpoint.learners = ids(&members.learners);
        }
        Some(checkpoint)
    }

    /// Shows where the stream stands.
    fn show(&self) {
        let (resolved, _) = self.pipeline.resolved();
        let state = self.pipeline.state();
        self.view.send_modify(|view| {
            view.resolved = resolved;
            view.durable = self.checkpoint.index;
            view.primary_revision = self.checkpoint.revision;
            view.compact_revision = self.checkpoint.compact_revision;
            view.queued = self.pipeline.queued();
            view.keys = state.keys().len();
            view.leases = state.leases().len();
            view.ledger_bytes = self.ledger.bytes();
        });
    }

    fn note(&self, batch: &Batch, written: Written, took: Duration) {
        let this = BatchView {
            entries: batch.units().len(),
            ops: batch.ops(),
            bytes: batch.bytes(),
            took,
        };
        self.metrics.txn_seconds.observe(took.as_secs_f64());
        self.metrics
            .batch_ops
            .observe(u32::try_from(this.ops).map_or(f64::MAX, f64::from));
        self.show();
        self.view.send_modify(|view| {
            view.standby_revision = written.revision;
            view.batches += 1;
            view.attempts += u64::from(written.attempts);
            view.last_batch = this;
            let largest = &mut view.largest_batch;
            largest.entries = largest.entries.max(this.entries);
            largest.ops = largest.ops.max(this.ops);
            largest.bytes = largest.bytes.max(this.bytes);
            largest.took = largest.took.max(took);
            view.tallies = self
                .pipeline
                .tallies()
                .iter()
                .map(|(kind, tally)| (*kind, *tally))
                .collect();
        });
    }
}

/// A write under a key of ours.
fn own_put(key: Bytes, record: Bytes) -> Nested<Write> {
    Nested::Op(Write::Put(Put {
        key,
        value: Value::Given(record),
        lease: LeaseId(0),
    }))
}
