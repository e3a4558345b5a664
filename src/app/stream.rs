//! Starts the two tasks of a stream, and ends them in the right order.

use std::time::Duration;

use raft::eraftpb::ConfState;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::apply::{self, Apply};
use crate::checkpoint::Checkpoint;
use crate::exit::{Exit, Fatal};
use crate::halt::Halt;
use crate::ids::{RaftIndex, Term};
use crate::learner::{self, Cut, Inlet, Learner, Node};
use crate::peer::join::Found;
use crate::peer::{Inbox, Transport};
use crate::pipeline::Pipeline;
use crate::plan::Limits;
use crate::resolve::{DigestKey, Position, PrimaryState, Rules, Settings, UnknownVersion, Version};
use crate::standby::keeper::{self, Keeper};
use crate::standby::{Etcd, Writer};
use crate::statefile;
use crate::status::Phase;

/// Smallest lease TTL in seconds that members with etcd's default timeouts grant.
const LEASE_TTL_MIN: i64 = 2;

/// The tasks of a stream.
pub(super) struct Stream {
    learner: JoinHandle<learner::End>,
    learner_stop: CancellationToken,
    apply: JoinHandle<(apply::End, Pipeline)>,
    apply_stop: CancellationToken,
    keeper: JoinHandle<()>,
    keeper_stop: CancellationToken,
}

/// How long the last leases that are to be ended may keep a process that was told to stop; what is
/// left of them is empty and expires.
const KEEPER_PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Starts the learner and what writes to the standby.
    pub(super) fn start(
        &self,
        inbox: Inbox,
        metrics: apply::Metrics,
        found: Found,
        writer: Writer<Etcd>,
        checkpoint: Checkpoint,
        txn_ops_max: usize,
    ) -> Result<Stream, Fatal> {
        let us = found.identity.us;
        let (version, rules) = rules_of(&found)?;
        let cut = Cut {
            index: RaftIndex(0),
            term: Term(0),
            members: ConfState::default(),
        };
        let node = Node::new(us, cut, []).map_err(|error| Fatal::new(Exit::Failed, error))?;
        let inlet = Inlet::new(node, self.config.receive_bytes_max);
        let pipeline = self.pipeline(rules, txn_ops_max);
        let (keeper_task, keeper) = self.keeper(&pipeline);
        let (handouts_in, handouts_out) = mpsc::unbounded_channel();
        let (durable_in, durable_out) = watch::channel(RaftIndex(0));
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
        let (rules_in, rules_out) = watch::channel(Ok(rules));
        let channels = apply::Channels {
            handouts: handouts_out,
            durable: durable_in,
            rules: rules_out,
            keeper,
        };
        let apply = Apply::new(
            pipeline,
            writer,
            checkpoint,
            txn_ops_max,
            channels,
            view,
            metrics,
        );
        self.transport
            .join(found.identity, found.members, found.versions)
            .map_err(|error| Fatal::new(Exit::Failed, error))?;
        self.board.phase.send_replace(Phase::Streaming);
        tokio::spawn(follow_release(self.transport.clone(), version, rules_in));
        let keeper_stop = CancellationToken::new();
        Ok(Stream {
            keeper: tokio::spawn(keeper_task.run(keeper_stop.clone())),
            keeper_stop,
            learner: tokio::spawn(learner.run(learner_stop.clone())),
            learner_stop,
            apply: tokio::spawn(apply.run(apply_stop.clone())),
            apply_stop,
        })
    }

    /// What keeps the leases of the state alive on the standby.
    fn keeper(&self, pipeline: &Pipeline) -> (Keeper<Etcd>, keeper::Handle) {
        let held: Vec<_> = pipeline.state().leases().map(|(id, _)| id).collect();
        let options = keeper::Options {
            ttl: self.config.standby_lease_ttl,
            compaction: self.config.compaction,
        };
        let view = self.board.keeper.clone();
        Keeper::new(|| self.standby(), options, held, view)
    }

    /// Lets the keeper finish, which kept leases alive even while the stream was halted.
    async fn end_keeper(&self, keeper: JoinHandle<()>, stop: CancellationToken) {
        let mut view = self.board.keeper.subscribe();
        let finished = view.wait_for(|view| view.ending == 0);
        if tokio::time::timeout(KEEPER_PATIENCE, finished)
            .await
            .is_err()
        {
            tracing::warn!("leases are left on the standby; they are empty and will expire");
        }
        stop.cancel();
        if keeper.await.is_err() {
            tracing::warn!("the keeper of leases ended in a panic");
        }
    }

    /// The way to the standby from the beginning of the log.
    fn pipeline(&self, rules: Rules, txn_ops_max: usize) -> Pipeline {
        let settings = Settings {
            digest_key: DigestKey::new(&std::array::from_fn(|_| fastrand::u8(..))),
            lease_ttl_min: LEASE_TTL_MIN,
            rules,
            // The log begins with the members that the cluster was made of.
            voters: 1,
        };
        let limits = Limits {
            batch_ops_max: self.config.batch_ops_max,
            batch_bytes_max: self.config.batch_bytes_max,
            txn_ops_max,
        };
        let state = PrimaryState::new(settings, Position::START);
        Pipeline::new(state, limits, self.config.history)
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
        let exit = match apply_halt.or_else(|| Halt::of_learner(&learner_end)) {
            Some(halt) => self.halted(halt).await,
            None => {
                tracing::info!(apply = %apply_end, "ended");
                Exit::Ok
            }
        };
        self.end_keeper(stream.keeper, stream.keeper_stop).await;
        Ok(exit)
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

/// The release of the primary, and how it applies entries.
fn rules_of(found: &Found) -> Result<(Version, Rules), Fatal> {
    let Some(versions) = found.versions else {
        let message = "no member of the primary says which release of etcd it runs";
        return Err(Fatal::new(Exit::Failed, message));
    };
    let version = release(versions.server);
    let rules = Rules::of(version).map_err(|error| Fatal::new(Exit::Failed, error))?;
    tracing::info!(%version, "entries are read by the rules of the primary's release");
    warn_if_newer(version);
    Ok((version, rules))
}

/// Time between two looks at what the primary's members run; they are asked about as often.
const RELEASE_PERIOD: Duration = Duration::from_secs(2);

/// Watches for upgrades and downgrades of the primary, until nobody reads its rules any more. With
/// members of several releases the lowest of a voter counts.
async fn follow_release(
    transport: Transport,
    mut known: Version,
    rules: watch::Sender<Result<Rules, UnknownVersion>>,
) {
    while !rules.is_closed() {
        tokio::time::sleep(RELEASE_PERIOD).await;
        let Some(versions) = transport.versions() else {
            continue;
        };
        let version = release(versions.server);
        if version != known {
            tracing::warn!(from = %known, to = %version, "the primary's lowest release changed");
            warn_if_newer(version);
            known = version;
            let _previous = rules.send_replace(Rules::of(version));
        }
    }
}

fn warn_if_newer(version: Version) {
    if version.is_beyond_known() {
        tracing::warn!(
            %version,
            "this patch release is newer than the rules known here; those of the last known one of \
             its minor release are used"
        );
    }
}

fn release(version: crate::peer::version::Version) -> Version {
    let (major, minor, patch) = (version.major, version.minor, version.patch);
    Version::new(major.into(), minor.into(), patch.into())
}
