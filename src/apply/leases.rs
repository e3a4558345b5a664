//! Leases beside the batches, and compactions after them. IO.
//!
//! Before a batch the leases exist that it names; after it those are ended that it left empty. What
//! the standby lost is made again with the keys that are still there; keys that went with a lease
//! cannot be brought back from here, and end the stream.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Apply, End};
use crate::ids::LeaseId;
use crate::plan::{Batch, LeasePlan, Nested, Write, nest};
use crate::reserved;
use crate::resolve::{Put, Value};
use crate::standby::keeper;
use crate::standby::{self, Failure, Standby};

/// Keys that are attached again in one transaction, together with the checkpoint.
const KEYS_AT_ONCE: usize = 1_000;
/// How often one batch may meet a lease that is missing.
pub(super) const LOSSES_MAX: u32 = 5;

impl From<keeper::Error> for End {
    fn from(error: keeper::Error) -> Self {
        match error {
            keeper::Error::Refused(failure) => Self::Standby(standby::Error::Refused(failure)),
            keeper::Error::Ended => Self::Alone,
        }
    }
}

impl<S: Standby> Apply<S> {
    /// Waits until the leases exist that the batch needs.
    pub(super) async fn before(
        &mut self,
        plan: &mut LeasePlan,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if plan.grants.is_empty() {
            return Ok(());
        }
        let grants = std::mem::take(&mut plan.grants);
        self.hold(grants, stop).await
    }

    /// Ends what the batch left empty, and follows a compaction of the primary.
    pub(super) async fn after(
        &mut self,
        batch: &Batch,
        plan: LeasePlan,
        standby_revision: i64,
    ) -> Result<(), End> {
        if !plan.revokes.is_empty() {
            self.keeper.release(plan.revokes).await?;
        }
        let Some(last) = batch.units().last() else {
            return Ok(());
        };
        self.milestones.note(last.revision, standby_revision);
        let compacted = last.compact_revision;
        if compacted > self.compacted {
            self.compacted = compacted;
            if let Some(revision) = self.milestones.compact(compacted) {
                self.keeper.compact(revision).await?;
            }
        }
        Ok(())
    }

    async fn hold(&self, ids: Vec<LeaseId>, stop: &CancellationToken) -> Result<(), End> {
        // Nothing is in flight that anybody would have to settle.
        tokio::select! {
            held = self.keeper.hold(ids) => Ok(held?),
            () = stop.cancelled() => Err(End::Stopped),
        }
    }

    /// The standby refused a batch for a lease that it does not have.
    pub(super) async fn find_lost(
        &mut self,
        batch: &Batch,
        failure: Failure,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let missing = tokio::select! {
            missing = self.keeper.missing() => missing?,
            () = stop.cancelled() => return Err(End::Stopped),
        };
        let named = missing
            .iter()
            .any(|id| self.pipeline.state().lease(*id).is_some());
        if !named {
            return Err(End::Standby(standby::Error::Refused(failure)));
        }
        self.restore(missing, Some(batch), stop).await
    }

    /// Makes leases again that the standby lost, and attaches their keys again. `next` is the batch
    /// to be written next, if there is one.
    pub(super) async fn restore(
        &mut self,
        lost: Vec<LeaseId>,
        next: Option<&Batch>,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        for id in lost {
            // Of a lease that ended meanwhile nothing is left to be lost.
            let Some(keys) = self.attached(id, next) else {
                continue;
            };
            self.hold(vec![id], stop).await?;
            let mut rest = keys.as_slice();
            while !rest.is_empty() {
                let (some, others) = rest.split_at(rest.len().min(KEYS_AT_ONCE));
                self.attach(id, some, stop).await?;
                rest = others;
            }
            tracing::warn!(
                lease = %id,
                keys = keys.len(),
                "the standby had lost a lease; it is there again, and so are its keys"
            );
            self.view.send_modify(|view| view.leases_restored += 1);
        }
        Ok(())
    }

    /// The keys that the standby should hold attached to a lease, those left out that are yet to be
    /// written; none if the lease does not exist.
    fn attached(&self, id: LeaseId, next: Option<&Batch>) -> Option<Vec<Bytes>> {
        let lease = self.pipeline.state().lease(id)?;
        let ours = reserved::range();
        let keys = lease.keys().filter(|key| {
            let is_ahead =
                self.pipeline.is_ahead_at(key) || next.is_some_and(|batch| batch.touches_key(key));
            !is_ahead && !ours.contains(key)
        });
        Some(keys.map(Bytes::copy_from_slice).collect())
    }

    /// Attaches keys to a lease, with the values that the standby holds: all of them, or none.
    async fn attach(
        &mut self,
        id: LeaseId,
        keys: &[Bytes],
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let put = |key: &Bytes| {
            Write::Put(Put {
                key: key.clone(),
                value: Value::Kept,
                lease: id,
            })
        };
        let list_max = self.txn_ops_max.saturating_sub(1);
        let writes: Option<Vec<Nested<Write>>> = nest(keys.iter().map(put).collect(), list_max);
        let Some(writes) = writes else {
            let few = Failure::TooManyOps("attaching the keys of a lease".to_owned());
            return Err(End::Standby(standby::Error::Refused(few)));
        };
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.batch += 1;
        let outcome = self.unless_stopped(writes, &checkpoint, stop).await?;
        match outcome {
            Ok(_) => {
                self.checkpoint = checkpoint;
                Ok(())
            }
            Err(standby::Error::Refused(Failure::Diverged(_))) => Err(End::KeysLost {
                lease: id,
                keys: keys.len(),
            }),
            Err(error) => Err(error.into()),
        }
    }
}
