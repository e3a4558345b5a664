//! Brings the standby to the state of a database of the primary.

use std::sync::Arc;

use tokio::sync::watch;

use super::Base;
use crate::checkpoint::{Basis, Phase};
use crate::exit::Exit;
use crate::halt::Halt;
use crate::ids::{RaftIndex, Term};
use crate::install::{self, Install, Progress, Target, content_of};
use crate::resolve::{Rules, Settings};
use crate::standby::{self, Auth, Standby};

/// How much goes into one transaction.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The standby's `--max-txn-ops`.
    pub txn_ops_max: usize,
    /// Bytes of keys and values.
    pub bytes_max: usize,
}

impl<S: Standby + Auth> Base<S> {
    /// Installs a database by what differs from the ledger, or from the standby's own keys if the
    /// ledger does not count.
    ///
    /// # Errors
    /// Why the stream cannot go on; what was written is in the ledger.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped half-way, the writer is of no more use.
    pub async fn install(
        &mut self,
        target: Target,
        rules: Rules,
        room: Room,
        progress: watch::Sender<Option<Progress>>,
    ) -> Result<(), Halt> {
        let settings = Settings {
            rules,
            voters: target.voters.len().max(1),
            ..self.state.settings().clone()
        };
        let by_content = Phase::Installing {
            index: RaftIndex(0),
            term: Term(0),
            basis: Basis::Content,
        };
        let before = if self.checkpoint.is_by_content() {
            self.checkpoint.phase = by_content;
            let reading = content_of(self.writer.standby(), &self.scope, settings.clone());
            let mut before = reading.await.map_err(|error| halt(&error.into()))?;
            // Those are kept alive as well, and end with all that the snapshot does not have.
            for (id, _) in self.state.leases() {
                if before.lease(id).is_none() {
                    before.restore_lease(id, -1, 0);
                }
            }
            before
        } else {
            self.state.clone()
        };
        let install = Install {
            writer: &mut self.writer,
            reconciler: &mut self.reconciler,
            checkpoint: &mut self.checkpoint,
            ledger: &mut self.ledger,
            keeper: &mut self.keeper,
            settings,
            scope: Arc::clone(&self.scope),
            txn_ops_max: room.txn_ops_max,
            bytes_max: room.bytes_max,
            progress,
        };
        let installed = Box::pin(install::install(install, before, target)).await;
        self.state = installed.map_err(|error| halt(&error))?;
        Ok(())
    }
}

fn halt(error: &install::Error) -> Halt {
    let exit = match error {
        install::Error::Standby(standby::Error::Fenced { .. }) => Exit::Fenced,
        install::Error::Standby(standby::Error::Refused(_)) | install::Error::Leases(_) => {
            Exit::StandbyRefuses
        }
        install::Error::Open(_)
        | install::Error::Read(_)
        | install::Error::Value(_)
        | install::Error::Index { .. }
        | install::Error::Older { .. }
        | install::Error::TooLarge(_)
        | install::Error::Panicked => Exit::Halted,
    };
    Halt {
        reason: error.to_string(),
        exit,
    }
}
