//! Installs the snapshots that leaders send, while the leader waits.

use super::stream::{Next, Session};
use super::{App, Base};
use crate::base::Room;
use crate::checkpoint::Phase as CheckpointPhase;
use crate::exit::{Exit, Fatal};
use crate::halt::Halt;
use crate::ids::{LeaseId, MemberId, RaftIndex, Term};
use crate::install::Target;
use crate::learner;
use crate::ledger::Ledger;
use crate::peer::{Inbound, Inbox, Received};
use crate::plan::{Write, list_max, nest};
use crate::resolve::{Position, PrimaryState, Settings};
use crate::standby::{self, Failure};
use crate::status::Phase;

/// What came from the primary that ends an installation, or goes on after it.
#[derive(Default)]
struct Meanwhile {
    newer: Option<Received>,
}

impl App {
    /// Installs a snapshot, and those that come meanwhile; the inner error ends the process.
    pub(super) async fn install(
        &self,
        session: &Session,
        mut base: Base,
        mut snapshot: Received,
        mut inbox: Inbox,
    ) -> Result<Result<Next, Exit>, Fatal> {
        loop {
            self.board.phase.send_replace(Phase::Installing(None));
            let mut meanwhile = Meanwhile::default();
            let (index, from) = (snapshot.index(), snapshot.from());
            tracing::info!(member = %from, %index, bytes = snapshot.bytes(), "installing a snapshot");
            let work = self.install_one(session, &mut base, &snapshot);
            let done = tokio::select! {
                done = work => done,
                halt = watch(&mut inbox, &mut meanwhile) => Err(halt),
                () = self.stop.cancelled() => {
                    tracing::info!("stopped while a snapshot is being installed");
                    return Ok(Err(Exit::Ok));
                }
            };
            if let Err(halt) = done {
                self.transport.set_muted(true);
                drop((snapshot, meanwhile));
                return Ok(Err(self.halted(halt).await));
            }
            match meanwhile.newer {
                Some(newer) if newer.index() > index => {
                    if let Err(error) = learner::check_snapshot(session.us, newer.message()) {
                        let halt = Halt::of_learner(&learner::End::Raft(error));
                        self.transport.set_muted(true);
                        drop((snapshot, newer));
                        return Ok(Err(match halt {
                            Some(halt) => self.halted(halt).await,
                            None => Exit::Failed,
                        }));
                    }
                    snapshot.installed();
                    snapshot = newer;
                }
                // Its leader waits, and has what we hold now.
                other => {
                    return Ok(Ok(Next {
                        base,
                        inbox,
                        installed: Some(other.unwrap_or(snapshot)),
                    }));
                }
            }
        }
    }

    /// Empties the standby of what is in scope, to take the primary's log from its first entry.
    pub(super) async fn begin_anew(
        &self,
        session: &Session,
        mut base: Base,
        inbox: Inbox,
    ) -> Result<Result<Next, Exit>, Fatal> {
        let settings = Settings {
            voters: 1,
            ..base.state.settings().clone()
        };
        let leases = base.state.leases().map(|(id, _)| id).collect();
        let old = Some(base.checkpoint.ledger.clone());
        base.ledger = Ledger::new(&self.config.stream, old.as_ref(), &settings.digest_key);
        base.state = PrimaryState::new(settings, Position::START);
        let checkpoint = &mut base.checkpoint;
        checkpoint.ledger = base.ledger.place().clone();
        checkpoint.phase = CheckpointPhase::Streaming;
        (checkpoint.index, checkpoint.term) = (RaftIndex(0), Term(0));
        checkpoint.revision = Position::START.revision;
        checkpoint.compact_revision = Position::START.compact_revision;
        checkpoint.ending_lease = LeaseId(0);
        checkpoint.voters.clear();
        checkpoint.learners.clear();
        checkpoint.batch += 1;
        let ranges = self.config.scope.standby_ranges().iter();
        let deletes = ranges.cloned().map(Write::Delete).collect();
        let Some(deletes) = nest(deletes, list_max(session.txn_ops_max)) else {
            let why = "the scope has too many ranges for one transaction: raise --max-txn-ops";
            let failure = Failure::TooManyOps(why.to_owned());
            return Err(Fatal::new(Exit::StandbyRefuses, failure));
        };
        let written = base.writer.write(deletes, &base.checkpoint);
        let Some(written) = self.unless_stopped(written).await else {
            return Ok(Err(Exit::Ok));
        };
        match written {
            Ok(_) => {
                // An answer means that the keeper has ended, and so will the stream.
                let _ended = base.keeper.release(leases).await;
                Ok(Ok(Next {
                    base,
                    inbox,
                    installed: None,
                }))
            }
            Err(error @ standby::Error::Fenced { .. }) => Err(Fatal::new(Exit::Fenced, error)),
            Err(error @ standby::Error::Refused(_)) => Err(Fatal::new(Exit::StandbyRefuses, error)),
        }
    }

    async fn install_one(
        &self,
        session: &Session,
        base: &mut Base,
        snapshot: &Received,
    ) -> Result<(), Halt> {
        let conf_state = snapshot.conf_state();
        let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect::<Vec<_>>();
        let target = Target {
            path: snapshot.path().to_owned(),
            index: snapshot.index(),
            term: snapshot.snapshot_term(),
            voters: ids(&conf_state.voters),
            learners: ids(&conf_state.learners),
        };
        let rules = *session.rules.borrow();
        let room = Room {
            txn_ops_max: session.txn_ops_max,
            bytes_max: self.config.batch_bytes_max,
        };
        let rules = rules.map_err(|error| halted(&error, Exit::Halted))?;
        let progress = self.board.install.clone();
        Box::pin(base.install(target, rules, room, progress)).await
    }
}

fn halted(reason: &impl ToString, exit: Exit) -> Halt {
    Halt {
        reason: reason.to_string(),
        exit,
    }
}

/// Keeps the newest snapshot that comes; ends with what must end the installation.
async fn watch(inbox: &mut Inbox, meanwhile: &mut Meanwhile) -> Halt {
    loop {
        let end = match inbox.recv().await {
            Some(Inbound::Snapshot(snapshot)) => {
                let is_newer = meanwhile
                    .newer
                    .as_ref()
                    .is_none_or(|known| snapshot.index() >= known.index());
                if is_newer {
                    meanwhile.newer = Some(snapshot);
                }
                continue;
            }
            // raft bears the loss of any message, and the next learner will hear of the cluster.
            Some(Inbound::Message { .. } | Inbound::ClusterMismatch { .. }) => continue,
            Some(Inbound::Removed { by }) => learner::End::Removed(format!("member {by} says so")),
            Some(Inbound::Unknown { from, what }) => learner::End::Unknown { from, what },
            None => std::future::pending().await,
        };
        if let Some(halt) = Halt::of_learner(&end) {
            return halt;
        }
    }
}
