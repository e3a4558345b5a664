//! Starts the keeper of leases, and lets it finish. It outlives the stream: while that is halted,
//! its leases are still kept alive.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::ids::LeaseId;
use crate::resolve::PrimaryState;
use crate::standby::keeper::{self, Keeper};

/// The task of the keeper.
pub(super) struct Keeping {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

/// How long the last leases that are to be ended may keep a process that was told to stop; what is
/// left of them is empty and expires.
const PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Keeps the leases of the state alive on the standby, and ends those that ended lately, and
    /// the one whose end the checkpoint announces.
    pub(super) fn keep(
        &self,
        state: &PrimaryState,
        mut ended: BTreeSet<LeaseId>,
        ending: LeaseId,
    ) -> (Keeping, keeper::Handle) {
        let leases = state.leases().map(|(id, _)| id);
        let held = leases.filter(|id| *id != ending).collect();
        if ending != LeaseId(0) {
            ended.insert(ending);
        }
        let known = keeper::Known { held, ended };
        let options = keeper::Options {
            ttl: self.config.standby_lease_ttl,
            compaction: self.config.compaction,
        };
        let view = self.board.keeper.clone();
        let (keeper, handle) = Keeper::new(|| self.standby(), options, known, view);
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        (Keeping { task, stop }, handle)
    }

    /// Lets the keeper finish, now that nothing is left to come.
    pub(super) async fn end_keeping(&self, keeping: Keeping) {
        let mut view = self.board.keeper.subscribe();
        let finished = view.wait_for(|view| view.ending == 0);
        if tokio::time::timeout(PATIENCE, finished).await.is_err() {
            tracing::warn!("leases are left on the standby; they are empty and will expire");
        }
        keeping.stop.cancel();
        if keeping.task.await.is_err() {
            tracing::warn!("the keeper of leases ended in a panic");
        }
    }
}
