//! Starts the two tasks of a stream, and ends them in the right order.

use raft::eraftpb::ConfState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use super::release::Release;
use super::resume::Base;
use crate::apply::{self, Apply};
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::halt::Halt;
use crate::ids::MemberId;
use crate::learner::{self, Cut, Inlet, Learner, Node};
use crate::peer::Inbox;
use crate::peer::join::Found;
use crate::pipeline::Pipeline;
use crate::plan::Limits;
use crate::plan::auth::{Access, Given};
use crate::resolve::PrimaryState;
use crate::standby::Reconciler;
use crate::statefile;
use crate::status::Phase;

/// The two tasks of a stream, and what they share.
pub(super) struct Stream {
    learner: JoinHandle<learner::End>,
    learner_stop: CancellationToken,
    apply: JoinHandle<(apply::End, Pipeline)>,
    apply_stop: CancellationToken,
}

impl App {
    /// Starts the learner and what writes to the standby.
    pub(super) fn start(
        &self,
        inbox: Inbox,
        metrics: apply::Metrics,
        found: Found,
        base: Base,
        txn_ops_max: usize,
        release: Release,
    ) -> Result<Stream, Fatal> {
        let us = found.identity.us;
        let Base {
            writer,
            checkpoint,
            state,
            ledger,
        } = base;
        let durable = checkpoint.index;
        let cut = Cut {
            index: durable,
            term: checkpoint.term,
            members: members(&checkpoint),
        };
        let node = Node::new(us, cut, []).map_err(|error| Fatal::new(Exit::Failed, error))?;
        let inlet = Inlet::new(node, self.config.receive_bytes_max);
        let limits = Limits {
            batch_ops_max: self.config.batch_ops_max,
            batch_bytes_max: self.config.batch_bytes_max,
            txn_ops_max,
        };
        let reconciler = self.reconciler(&state);
        let pipeline = Pipeline::new(state, limits, self.config.history);
        let (handouts_in, handouts_out) = mpsc::unbounded_channel();
        let (durable_in, durable_out) = watch::channel(durable);
        let (learner_stop, apply_stop) = (CancellationToken::new(), CancellationToken::new());
        let learner = Learner::new(
            us,
            inlet,
            (inbox, self.transport.clone()),
            handouts_in,
            durable_out,
            self.board.learner.clone(),
        );
        let view = self.board.apply.clone();
        let (rules_in, rules_out) = watch::channel(Ok(release.rules));
        let channels = apply::Channels {
            handouts: handouts_out,
            durable: durable_in,
            rules: rules_out,
        };
        let apply = Apply::new(
            pipeline,
            (writer, reconciler),
            (checkpoint, ledger),
            txn_ops_max,
            channels,
            view,
            metrics,
        );
        self.transport
            .join(found.identity, found.members, found.versions)
            .map_err(|error| Fatal::new(Exit::Failed, error))?;
        self.board.phase.send_replace(Phase::Streaming);
        tokio::spawn(release.follow(self.transport.clone(), rules_in));
        Ok(Stream {
            learner: tokio::spawn(learner.run(learner_stop.clone())),
            learner_stop,
            apply: tokio::spawn(apply.run(apply_stop.clone())),
            apply_stop,
        })
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

    /// Waits for the end of the stream, and ends what is left of it in the right order.
    pub(super) async fn follow(&self, mut stream: Stream) -> Result<Exit, Fatal> {
        let mut learner_end = None;
        let mut apply_end = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            end = &mut stream.apply => apply_end = Some(end),
            end = &mut stream.learner => {
                learner_end = Some(end);
                // What it handed out is committed, and still goes to the standby; then the other
                // task ends by itself.
                apply_end = self.unless_stopped(&mut stream.apply).await;
            }
        }
        // Told to stop, it finishes the batch in flight and no more: the rest is for whoever goes
        // on.
        stream.apply_stop.cancel();
        let apply_end = match apply_end {
            Some(end) => end,
            None => stream.apply.await,
        };
        let apply_halt = apply_end
            .as_ref()
            .ok()
            .and_then(|(end, _)| Halt::of_apply(end));
        if apply_halt.is_some() {
            self.transport.set_muted(true);
        }
        stream.learner_stop.cancel();
        let learner_end = match learner_end {
            Some(end) => end,
            None => stream.learner.await,
        };
        let (Ok((apply_end, pipeline)), Ok(learner_end)) = (apply_end, learner_end) else {
            return Err(Fatal::new(
                Exit::Failed,
                "a task ended in a panic; see the log",
            ));
        };
        if let Some(path) = &self.config.dump_state {
            statefile::write(path, pipeline.state())?;
        }
        let halt = apply_halt.or_else(|| Halt::of_learner(&learner_end));
        if matches!(learner_end, learner::End::Snapshot { .. }) {
            // Its leader is told that it failed, and must not be answered afterwards.
            self.transport.set_muted(true);
        }
        drop(learner_end);
        match halt {
            Some(halt) => Ok(self.halted(halt).await),
            None => {
                tracing::info!(apply = %apply_end, "ended");
                Ok(Exit::Ok)
            }
        }
    }

    /// Shows why the stream halted until a person ends the process.
    async fn halted(&self, halt: Halt) -> Exit {
        tracing::error!(reason = %halt.reason, "the stream has halted");
        let exit = halt.exit;
        let waits = !halt.ends_process();
        self.board.phase.send_replace(Phase::Halted(halt));
        if waits {
            self.stop.cancelled().await;
        }
        exit
    }
}

/// The primary's members at a checkpoint.
fn members(checkpoint: &Checkpoint) -> ConfState {
    let ids = |members: &[MemberId]| members.iter().map(|id| id.0).collect::<Vec<_>>();
    ConfState::from((ids(&checkpoint.voters), ids(&checkpoint.learners)))
}
