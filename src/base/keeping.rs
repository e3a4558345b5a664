//! Starts what is kept on the standby beside its keys, and lets it finish: leases, users and roles.
//! The keeper of leases outlives the stream: while that is halted, its leases are still kept alive.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::ids::LeaseId;
use crate::plan::CompactionPolicy;
use crate::plan::auth::{Access, Given};
use crate::resolve::PrimaryState;
use crate::standby::keeper::{self, Keeper};
use crate::standby::{AuthView, Compaction, Leases, Reconciler, Standby};

/// How the standby is kept, and where that is shown.
#[derive(Clone, Debug)]
pub struct Upkeep {
    /// TTL of its leases, whole seconds.
    pub lease_ttl: Duration,
    /// Whether compactions are carried over.
    pub compaction: CompactionPolicy,
    /// The name of our own user there.
    pub user: String,
    /// How that user gets in.
    pub access: Access,
    /// Shows why a write is waiting, if one is.
    pub trouble: watch::Sender<Option<String>>,
    /// Shows the figures of the keeper of leases.
    pub leases: watch::Sender<keeper::View>,
    /// Shows users and roles.
    pub auth: watch::Sender<Option<AuthView>>,
}

/// The task of the keeper, which ends with this.
#[derive(Debug)]
pub struct Keeping {
    task: JoinHandle<()>,
    stop: DropGuard,
    view: watch::Receiver<keeper::View>,
}

impl Upkeep {
    /// Keeps the leases of the state alive on the standby, and ends those that ended lately, and
    /// the one whose end the checkpoint announces.
    pub(super) fn keep<S: Standby + Leases + Compaction + 'static>(
        &self,
        standby: impl FnMut() -> S,
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
            ttl: self.lease_ttl,
            compaction: self.compaction,
        };
        let view = self.leases.subscribe();
        let (keeper, handle) = Keeper::new(standby, options, known, self.leases.clone());
        let stop = CancellationToken::new();
        let task = tokio::spawn(keeper.run(stop.clone()));
        let stop = stop.drop_guard();
        (Keeping { task, stop, view }, handle)
    }

    /// For a standby that was brought to `state` by other processes, but for the passwords of
    /// `not_carried`.
    pub(super) fn reconciler(
        &self,
        state: &PrimaryState,
        not_carried: &BTreeSet<String>,
    ) -> Reconciler {
        Reconciler::new(
            &self.user,
            self.access,
            Given::restored(state.auth(), not_carried),
            self.auth.clone(),
            self.trouble.clone(),
        )
    }
}

impl Keeping {
    /// Lets the keeper finish, now that nobody has its handle any more.
    pub async fn end(mut self, patience: Duration) {
        let finished = self.view.wait_for(|view| view.is_done);
        if tokio::time::timeout(patience, finished).await.is_err() {
            tracing::warn!(
                "the standby has not ended all leases that ended, which are empty and will expire, or \
                 is not compacted as far as the primary"
            );
        }
        drop(self.stop);
        if self.task.await.is_err() {
            tracing::warn!("the keeper of leases ended in a panic");
        }
    }
}
