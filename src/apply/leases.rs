//! Leases beside the batches, and compactions after them. IO.
//!
//! Before a batch the leases exist that it names; after it those are ended that it left empty. What
//! the standby lost is made again with the keys that are still there; keys that went with a lease
//! cannot be brought back from here, and end the stream.

use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::{Apply, End, own_put};
use crate::ids::{LeaseId, RaftIndex};
use crate::plan::{Batch, LeasePlan, Write, capacity, list_max, nest};
use crate::resolve::{LeaseChange, Put, Value};
use crate::standby::keeper;
use crate::standby::{self, Auth, Failure, Standby};

/// Keys that are attached again in one transaction, together with the checkpoint.
const KEYS_AT_ONCE: usize = 1_000;
/// How often one batch may meet a lease that is missing.
const LOSSES_MAX: u32 = 5;

impl From<keeper::Error> for End {
    fn from(error: keeper::Error) -> Self {
        match error {
            keeper::Error::Refused(failure) => refused(failure),
            keeper::Error::Ended => Self::Alone,
        }
    }
}

impl<S: Standby + Auth> Apply<S> {
    /// Waits until the leases exist that the batch needs.
    pub(super) async fn before(
        &mut self,
        plan: &LeasePlan,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if plan.grants.is_empty() {
            return Ok(());
        }
        self.hold(plan.grants.clone(), stop).await
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
        if !plan.passed.is_empty() {
            self.keeper.pass(plan.passed).await?;
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

    /// Brings a revoke to the standby that has more keys than one transaction takes: the standby's
    /// own revoke deletes them at once. The checkpoint says so beforehand, so whoever goes on from
    /// it does the same again, and takes the keys for neither there nor lost.
    pub(super) async fn end_whole(
        &mut self,
        batch: Batch,
        id: LeaseId,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let Some(mut after) = self.checkpoint_after(&batch) else {
            return Ok(());
        };
        tracing::info!(lease = %id, keys = batch.ops(), "the standby revokes a large lease itself");
        self.attach_all(id, &batch, stop).await?;
        let digest_key = self.pipeline.state().digest_key();
        let journal = self.ledger.journal(&batch.delta(), digest_key);
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.batch += 1;
        checkpoint.ending_lease = id;
        // The record does not count yet. Whether it fits is found out before a key is deleted.
        let record = journal.clone().map(|(key, record, _)| own_put(key, record));
        let announced = self.send(record.into_iter().collect(), &checkpoint, stop);
        announced
            .await?
            .map_err(|failure| too_large(after.index, failure))?;
        self.checkpoint = checkpoint;
        tokio::select! {
            ended = self.keeper.end(id) => ended?,
            () = stop.cancelled() => return Err(End::Stopped),
        }
        let mut writes = Vec::new();
        let mut journal_bytes = 0;
        if let Some((key, record, place)) = journal {
            journal_bytes = record.len();
            writes.push(own_put(key, record));
            after.ledger = place;
        }
        after.batch += 1;
        let started = Instant::now();
        match self.send(writes, &after, stop).await? {
            Ok(written) => {
                self.ledger.journaled(after.ledger.clone(), journal_bytes);
                self.checkpoint = after;
                self.note(&batch, written, started.elapsed());
                self.durable.send_replace(self.checkpoint.index);
                self.after(&batch, LeasePlan::default(), written.revision)
                    .await
            }
            Err(failure) => Err(too_large(after.index, failure)),
        }
    }

    /// Makes sure that all keys of a lease that is about to end are attached to it on the standby.
    async fn attach_all(
        &mut self,
        id: LeaseId,
        batch: &Batch,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if self.checkpoint.ending_lease == id {
            // Some process was at it before, and it may have ended.
            return Ok(());
        }
        let found = tokio::select! {
            found = self.keeper.inspect(id) => found,
            () = stop.cancelled() => return Err(End::Stopped),
        };
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.hold(vec![id], stop).await?;
                Vec::new()
            }
            Err(keeper::Error::Refused(failure)) => {
                tracing::warn!(lease = %id, standby_says = %failure, "its keys are not compared");
                return Ok(());
            }
            Err(error @ keeper::Error::Ended) => return Err(error.into()),
        };
        let deletes = batch.units().iter().flat_map(|unit| &unit.changes.deletes);
        let missing = deletes
            .map(|range| range.start())
            .filter(|key| found.binary_search(key).is_err());
        let puts: Vec<_> = missing.map(|key| (key.clone(), id)).collect();
        self.attach(id, puts, stop).await
    }

    async fn hold(&self, ids: Vec<LeaseId>, stop: &CancellationToken) -> Result<(), End> {
        // Nothing is in flight that anybody would have to settle.
        tokio::select! {
            held = self.keeper.hold(ids) => Ok(held?),
            () = stop.cancelled() => Err(End::Stopped),
        }
    }

    /// The standby refused a batch for a lease that it does not have: makes it again, so that the
    /// batch can be tried again.
    pub(super) async fn find_lost(
        &mut self,
        batch: Batch,
        failure: Failure,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let missing = tokio::select! {
            missing = self.keeper.missing() => missing?,
            () = stop.cancelled() => return Err(End::Stopped),
        };
        let state = self.pipeline.state();
        let explains = missing.iter().any(|id| state.lease(*id).is_some());
        if !explains || self.losses == LOSSES_MAX || self.pipeline.is_beyond() {
            return Err(refused(failure));
        }
        self.losses += 1;
        self.restore(missing, Some(&batch), stop).await?;
        self.pipeline.take_back(batch);
        Ok(())
    }

    /// The keeper found something out.
    pub(super) async fn heard(
        &mut self,
        event: keeper::Event,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        match event {
            keeper::Event::Gone(lost) => self.restore(lost, None, stop).await,
            keeper::Event::Found(all) => {
                for (id, found) in all {
                    self.mend(id, &found, stop).await?;
                }
                Ok(())
            }
        }
    }

    /// Makes leases again that the standby lost, and attaches their keys again. `next` is the batch
    /// to be written next, if there is one.
    async fn restore(
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
            let count = keys.len();
            let puts = keys.into_iter().map(|key| (key, id)).collect();
            self.attach(id, puts, stop).await?;
            tracing::warn!(
                lease = %id,
                keys = count,
                "the standby had lost a lease; it is there again, and so are its keys"
            );
            self.view.send_modify(|view| view.leases_restored += 1);
        }
        Ok(())
    }

    /// Compares the keys that were found attached to a lease with those that should be, and puts
    /// right what differs.
    async fn mend(
        &mut self,
        id: LeaseId,
        found: &[Bytes],
        stop: &CancellationToken,
    ) -> Result<(), End> {
        if self.misplaced(id, found).is_empty() {
            return Ok(());
        }
        // The stream may have gone on since. Now it waits, so the answer is of this moment.
        let found = tokio::select! {
            found = self.keeper.inspect(id) => found?,
            () = stop.cancelled() => return Err(End::Stopped),
        };
        let Some(found) = found else {
            return self.restore(vec![id], None, stop).await;
        };
        let puts = self.misplaced(id, &found);
        if puts.is_empty() {
            return Ok(());
        }
        let count = puts.len();
        self.attach(id, puts, stop).await?;
        tracing::warn!(
            lease = %id,
            keys = count,
            "keys were attached to other leases on the standby than on the primary; it is put right"
        );
        self.view.send_modify(|view| view.leases_restored += 1);
        Ok(())
    }

    /// The keys that are attached to this lease only on the standby or only on the primary, and the
    /// lease of each on the primary.
    fn misplaced(&self, id: LeaseId, found: &[Bytes]) -> Vec<(Bytes, LeaseId)> {
        let Some(expected) = self.attached(id, None) else {
            return Vec::new();
        };
        let missing = expected
            .into_iter()
            .filter(|key| found.binary_search(key).is_err());
        let mut puts: Vec<(Bytes, LeaseId)> = missing.map(|key| (key, id)).collect();
        let (state, scope) = (self.pipeline.state(), self.pipeline.scope());
        for key in found {
            // Keys that the primary does not have are not ours to change.
            if let Some(meta) = scope.to_primary(key).and_then(|key| state.key(&key))
                && meta.lease != id
                && !self.pipeline.is_ahead_at(key)
            {
                let there = state.lease(meta.lease).map(|_| meta.lease);
                puts.push((key.clone(), there.unwrap_or_default()));
            }
        }
        puts
    }

    /// The keys that the standby should hold attached to a lease, under their names there, those
    /// left out that are yet to be written; none if the lease does not exist.
    fn attached(&self, id: LeaseId, next: Option<&Batch>) -> Option<Vec<Bytes>> {
        let lease = self.pipeline.state().lease(id)?;
        let scope = self.pipeline.scope();
        let names = lease
            .keys()
            .filter_map(|key| scope.to_standby(&Bytes::copy_from_slice(key)));
        let names = names.filter(|name| {
            let is_next = next.is_some_and(|batch| batch.touches_key(name));
            !is_next && !self.pipeline.is_ahead_at(name)
        });
        Some(names.collect())
    }

    /// Attaches keys to leases, with the values that the standby holds.
    async fn attach(
        &mut self,
        id: LeaseId,
        puts: Vec<(Bytes, LeaseId)>,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let list_max = list_max(self.txn_ops_max);
        for some in puts.chunks(KEYS_AT_ONCE.min(capacity(list_max)).max(1)) {
            let put = |(key, lease): &(Bytes, LeaseId)| {
                Write::Put(Put {
                    key: key.clone(),
                    value: Value::Kept,
                    lease: *lease,
                })
            };
            let Some(writes) = nest(some.iter().map(put).collect(), list_max) else {
                return Err(refused(Failure::TooManyOps("keys of a lease".to_owned())));
            };
            let mut checkpoint = self.checkpoint.clone();
            checkpoint.batch += 1;
            match self.send(writes, &checkpoint, stop).await {
                Ok(Ok(_)) => self.checkpoint = checkpoint,
                Ok(Err(failure)) => return Err(refused(failure)),
                Err(End::Standby(standby::Error::Refused(Failure::Diverged(_)))) => {
                    let keys = puts.len();
                    return Err(End::KeysLost { lease: id, keys });
                }
                Err(end) => return Err(end),
            }
        }
        Ok(())
    }
}

/// The lease that a batch of one entry ends, if that is all it does.
pub(super) fn ended_whole(batch: &Batch) -> Option<LeaseId> {
    let [unit] = batch.units() else {
        return None;
    };
    match unit.lease {
        Some(LeaseChange::Revoked { id }) if unit.changes.puts.is_empty() => Some(id),
        Some(LeaseChange::Revoked { .. } | LeaseChange::Granted { .. }) | None => None,
    }
}

fn too_large(index: RaftIndex, failure: Failure) -> End {
    End::TooLarge {
        index,
        failure,
        flag: "--max-request-bytes",
    }
}

fn refused(failure: Failure) -> End {
    End::Standby(standby::Error::Refused(failure))
}
