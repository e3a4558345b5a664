//! Runs a stream: starts its two tasks, ends them in the right order, and begins anew behind each
//! snapshot that is installed.

use std::sync::Arc;

use raft::eraftpb::ConfState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{App, Base};
use crate::apply::{self, Apply, Left};
use crate::capture::Capture;
use crate::checkpoint::{self, Checkpoint};
use crate::exit::{Exit, Fatal};
use crate::halt::Halt;
use crate::ids::{MemberId, RaftIndex};
use crate::learner::{self, Cut, Inlet, Learner, Node};
use crate::peer::{Inbox, Received};
use crate::pipeline::Pipeline;
use crate::plan::Limits;
use crate::resolve::{Rules, UnknownVersion};
use crate::standby::Etcd;
use crate::statefile;
use crate::status::Phase;

/// What stays the same from one snapshot to the next.
pub(super) struct Session {
    pub(super) us: MemberId,
    pub(super) txn_ops_max: usize,
    pub(super) metrics: apply::Metrics,
    pub(super) rules: watch::Receiver<Result<Rules, UnknownVersion>>,
    /// Records what is handed out, once the first stream has begun.
    pub(super) capture: Option<Arc<Capture>>,
}

/// Where a stream goes on.
pub(super) struct Next {
    pub(super) base: Base,
    pub(super) inbox: Inbox,
    /// The snapshot that was installed, whose leader waits for the answer.
    pub(super) installed: Option<Received>,
}

/// The two tasks of a stream.
struct Stream {
    learner: JoinHandle<learner::End>,
    learner_stop: CancellationToken,
    apply: JoinHandle<Left<Etcd>>,
    apply_stop: CancellationToken,
}

/// How a stream ended.
enum Ended {
    /// For good.
    Exit(Exit),
    /// A snapshot is to be installed.
    Snapshot(Box<(Base, Received, Inbox)>),
    /// The standby is to be emptied, and the primary's log taken from its first entry.
    Beginning(Box<(Base, Inbox)>),
}

impl App {
    /// Streams until the end.
    pub(super) async fn stream(
        &self,
        session: &mut Session,
        mut next: Next,
    ) -> Result<Exit, Fatal> {
        loop {
            let is_installing = next.base.checkpoint.phase != checkpoint::Phase::Streaming;
            let ended = if is_installing {
                Box::pin(self.await_snapshot(session, next)).await?
            } else {
                let stream = self.start(session, next)?;
                Box::pin(self.follow(stream)).await?
            };
            let (base, snapshot, inbox) = match ended {
                Ended::Exit(exit) => return Ok(exit),
                Ended::Snapshot(parts) => *parts,
                Ended::Beginning(parts) => {
                    let (base, inbox) = *parts;
                    match Box::pin(self.begin_anew(session, base, inbox)).await? {
                        Ok(begun) => next = begun,
                        Err(exit) => return Ok(exit),
                    }
                    continue;
                }
            };
            match Box::pin(self.install(session, base, snapshot, inbox)).await? {
                Ok(installed) => next = installed,
                Err(exit) => return Ok(exit),
            }
        }
    }

    /// Starts the learner and what writes to the standby.
    fn start(&self, session: &mut Session, next: Next) -> Result<Stream, Fatal> {
        let Next {
            base,
            inbox,
            installed,
        } = next;
        let limits = Limits {
            batch_ops_max: self.config.batch_ops_max,
            batch_bytes_max: self.config.batch_bytes_max,
            txn_ops_max: session.txn_ops_max,
        };
        let durable = base.checkpoint.index;
        let (handouts_in, handouts_out) = mpsc::unbounded_channel();
        let handouts_out = self.captured(session, &base.checkpoint, handouts_out)?;
        let (durable_in, durable_out) = watch::channel(durable);
        let mut learner =
            self.learner(session, &base.checkpoint, inbox, handouts_in, durable_out)?;
        if let Some(snapshot) = installed {
            learner = learner.beginning_with(snapshot);
        }
        let channels = apply::Channels {
            handouts: handouts_out,
            durable: durable_in,
            rules: session.rules.clone(),
            keeper: base.keeper,
        };
        let apply = Apply::new(
            Pipeline::new(base.state, base.scope, limits, self.config.history),
            (base.writer, base.reconciler),
            (base.checkpoint, base.ledger),
            session.txn_ops_max,
            channels,
            self.board.apply.clone(),
            session.metrics.clone(),
        );
        self.board.phase.send_replace(Phase::Streaming);
        let (learner_stop, apply_stop) = (CancellationToken::new(), CancellationToken::new());
        Ok(Stream {
            learner: tokio::spawn(learner.run(learner_stop.clone())),
            learner_stop,
            apply: tokio::spawn(apply.run(apply_stop.clone())),
            apply_stop,
        })
    }

    /// A learner whose log is cut at the checkpoint.
    fn learner(
        &self,
        session: &Session,
        checkpoint: &Checkpoint,
        inbox: Inbox,
        handouts: mpsc::UnboundedSender<Vec<learner::Handout>>,
        durable: watch::Receiver<RaftIndex>,
    ) -> Result<Learner, Fatal> {
        let cut = Cut {
            index: checkpoint.index,
            term: checkpoint.term,
            members: members(checkpoint),
        };
        let node =
            Node::new(session.us, cut, []).map_err(|error| Fatal::new(Exit::Failed, error))?;
        Ok(Learner::new(
            session.us,
            Inlet::new(node, self.config.receive_bytes_max),
            (inbox, self.transport.clone()),
            handouts,
            durable,
            self.board.learner.clone(),
        ))
    }

    /// Waits for the end of the stream, and ends what is left of it in the right order.
    async fn follow(&self, mut stream: Stream) -> Result<Ended, Fatal> {
        let mut learner_end = None;
        let mut left = None;
        tokio::select! {
            () = self.stop.cancelled() => {}
            end = &mut stream.apply => left = Some(end),
            end = &mut stream.learner => {
                learner_end = Some(end);
                // What it handed out is committed, and still goes to the standby; then the other
                // task ends by itself.
                left = self.unless_stopped(&mut stream.apply).await;
            }
        }
        // Told to stop, it finishes the batch in flight and no more: the rest is for whoever goes
        // on.
        stream.apply_stop.cancel();
        let left = match left {
            Some(left) => left,
            None => stream.apply.await,
        };
        let apply_halt = left
            .as_ref()
            .ok()
            .and_then(|left| Halt::of_apply(&left.end));
        if apply_halt.is_some() {
            self.transport.set_muted(true);
        }
        stream.learner_stop.cancel();
        let learner_end = match learner_end {
            Some(end) => end,
            None => stream.learner.await,
        };
        let (Ok(left), Ok(learner_end)) = (left, learner_end) else {
            return Err(Fatal::new(
                Exit::Failed,
                "a task ended in a panic; see the log",
            ));
        };
        let halt = apply_halt.or_else(|| Halt::of_learner(&learner_end));
        if let learner::End::Snapshot {
            snapshot, inbox, ..
        } = learner_end
            && halt.is_none()
            && matches!(left.end, apply::End::Alone)
        {
            let base = Base {
                writer: left.writer,
                reconciler: left.reconciler,
                checkpoint: left.checkpoint,
                state: left.state,
                ledger: left.ledger,
                scope: Arc::clone(&self.config.scope),
                keeper: left.keeper,
            };
            return Ok(Ended::Snapshot(Box::new((base, snapshot, inbox))));
        }
        self.dump_state(&left)?;
        match halt {
            Some(halt) => Ok(Ended::Exit(self.halted(halt).await)),
            None => {
                tracing::info!(apply = %left.end, "ended");
                Ok(Ended::Exit(Exit::Ok))
            }
        }
    }

    /// Waits for a snapshot, as the standby is between two states of the primary.
    async fn await_snapshot(&self, session: &Session, next: Next) -> Result<Ended, Fatal> {
        let Next { base, inbox, .. } = next;
        tracing::warn!(
            checkpoint = %base.checkpoint.index,
            "the standby is between two states of the primary: waiting for a snapshot. A leader \
             sends one when its log no longer reaches back to the checkpoint; to get one at once, \
             remove this learner from the primary and add it again"
        );
        let what = "waiting for a snapshot of the primary".to_owned();
        self.board.phase.send_replace(Phase::Installing(Some(what)));
        // Nothing is handed out.
        let (handouts, _none) = mpsc::unbounded_channel();
        let (_durable, durable) = watch::channel(base.checkpoint.index);
        let learner = self.learner(session, &base.checkpoint, inbox, handouts, durable)?;
        let stop = self.stop.clone();
        let end = learner.awaiting_snapshot().run(stop).await;
        if let Some(halt) = Halt::of_learner(&end) {
            return Ok(Ended::Exit(self.halted(halt).await));
        }
        match end {
            learner::End::Snapshot {
                snapshot, inbox, ..
            } => Ok(Ended::Snapshot(Box::new((base, snapshot, inbox)))),
            learner::End::Beginning { inbox } => {
                tracing::info!("the primary's log begins with the cluster: beginning anew");
                Ok(Ended::Beginning(Box::new((base, inbox))))
            }
            learner::End::Stopped
            | learner::End::Alone
            | learner::End::Removed(_)
            | learner::End::Raft(_)
            | learner::End::Unknown { .. } => Ok(Ended::Exit(Exit::Ok)),
        }
    }

    fn dump_state(&self, left: &Left<Etcd>) -> Result<(), Fatal> {
        match &self.config.dump_state {
            Some(path) => statefile::write(path, &left.state),
            None => Ok(()),
        }
    }

    /// Shows why the stream halted until a person ends the process.
    pub(super) async fn halted(&self, halt: Halt) -> Exit {
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
