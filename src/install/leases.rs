//! Leases of an installation: those of the snapshot exist before the first key is written, those
//! that the snapshot does not have end after the last one. IO.

use bytes::Bytes;

use super::piece::Piece;
use super::run::{Error, Install};
use crate::checkpoint::{Basis, Phase};
use crate::ids::LeaseId;
use crate::resolve::{Delta, PrimaryState};
use crate::standby::{Auth, Standby, keeper};

impl<S: Standby + Auth> Install<'_, S> {
    /// What the standby lost with a lease is not known to be there any more: takes it out of
    /// `before` and the ledger, so that it is written again.
    pub(super) async fn forget_lost(
        &mut self,
        before: &mut PrimaryState,
        phase: Phase,
    ) -> Result<(), Error> {
        let mut lost = self.end_announced().await?;
        match self.keeper.missing().await {
            Ok(missing) => lost.extend(missing),
            Err(keeper::Error::Refused(failure)) => {
                // Without a list renewals find out, later.
                tracing::warn!(standby_says = %failure, "the standby does not list its leases");
            }
            Err(error @ keeper::Error::Ended) => return Err(error.into()),
        }
        while let Some(gone) = self.keeper.try_gone() {
            lost.extend(gone);
        }
        let by_ledger = match phase {
            Phase::Installing { basis, .. } => basis == Basis::Ledger,
            Phase::Streaming => true,
        };
        for id in lost {
            let Some(lease) = before.lease(id) else {
                continue;
            };
            let piece = Piece {
                deletes: lease.keys().map(Bytes::copy_from_slice).collect(),
                rest: Delta {
                    revoked: vec![id],
                    ..Delta::default()
                },
                ..Piece::default()
            };
            tracing::warn!(
                lease = %id,
                keys = piece.deletes.len(),
                "a lease is gone on the standby; what the snapshot has of its keys is written again"
            );
            before.take_in(piece.delta());
            if by_ledger {
                self.checkpoint.phase = phase;
                self.write(piece).await?;
            }
        }
        // Whoever reads the next checkpoint finds that lease ended, and nothing of it.
        self.checkpoint.ending_lease = LeaseId(0);
        Ok(())
    }

    /// Ends the lease whose end the checkpoint announces. The keeper of this process may be at it,
    /// or the one before was: its keys count neither as there nor as gone until it has ended.
    async fn end_announced(&self) -> Result<Vec<LeaseId>, Error> {
        let id = self.checkpoint.ending_lease;
        if id == LeaseId(0) {
            return Ok(Vec::new());
        }
        self.keeper.end(id).await?;
        Ok(vec![id])
    }

    /// Waits until the leases of the snapshot exist.
    pub(super) async fn hold(&self, leases: Vec<LeaseId>) -> Result<(), Error> {
        if leases.is_empty() {
            return Ok(());
        }
        Ok(self.keeper.hold(leases).await?)
    }

    /// Ends the leases that the snapshot does not have; nothing is attached to them any more.
    pub(super) async fn release(&self, ended: Vec<LeaseId>) -> Result<(), Error> {
        if ended.is_empty() {
            return Ok(());
        }
        Ok(self.keeper.release(ended).await?)
    }
}
