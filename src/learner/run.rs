//! The learner's task: feeds the node, sends what it says, hands committed entries on. IO.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::awaiting::{Asked, Awaiting};
use super::error::Error;
use super::inlet::Inlet;
use super::lag::LagClock;
use super::membership::MemberChange;
use super::node::{Event, Handout, Offered, check_snapshot};
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::pb::raftpb::Message;
use crate::peer::{Inbound, Inbox, Received, Transport};

/// The learner with everything it talks to.
#[derive(Debug)]
pub struct Learner {
    us: MemberId,
    inlet: Inlet,
    inbox: Inbox,
    transport: Transport,
    /// Not bounded in number: what is in it counts against the inlet's limit in bytes until it is
    /// durable.
    handouts: mpsc::UnboundedSender<Vec<Handout>>,
    durable: watch::Receiver<RaftIndex>,
    view: watch::Sender<View>,
    lag: LagClock,
    /// The snapshot to begin with.
    first: Option<Received>,
    /// A snapshot that our log covers, whose leader is answered when all of it is durable.
    covered: Option<Received>,
    /// Entries are of no use until a snapshot comes.
    awaiting: Option<Awaiting>,
    /// Members whose appends we do not read now, and since when.
    detached: BTreeMap<MemberId, Instant>,
}

/// What the learner shows of itself.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Last index received.
    pub received: RaftIndex,
    /// Last index that is committed and held here.
    pub committed: RaftIndex,
    /// Highest commit index that a leader spoke of.
    pub leader_commit: RaftIndex,
    /// Everything up to here is durable in the standby.
    pub durable: RaftIndex,
    /// Highest index acknowledged to a leader.
    pub acknowledged: RaftIndex,
    /// The current leader, if one was heard in this term.
    pub leader: Option<MemberId>,
    /// The current term.
    pub term: Term,
    /// When a leader was last heard.
    pub last_heard: Option<Instant>,
    /// Since when the standby lacks an entry that is known to be committed.
    pub behind_since: Option<Instant>,
    /// Bytes received and not yet durable.
    pub held_bytes: usize,
    /// What was not stepped.
    pub counts: super::inlet::Counts,
    /// Somebody made us a voter of the primary.
    pub is_voter: bool,
}

/// How the learner ended.
#[derive(Debug, thiserror::Error)]
pub enum End {
    /// It was told to.
    #[error("stopped")]
    Stopped,
    /// We are no member of the primary any more.
    #[error("this member was removed from the primary ({0})")]
    Removed(String),
    /// raft cannot go on.
    #[error(transparent)]
    Raft(#[from] Error),
    /// The leader's log no longer reaches back to where we are, and it has sent a snapshot.
    /// Nothing is said to it until a new learner begins with that.
    #[error(
        "leader {} offers a snapshot at index {}, as its log no longer holds the entries behind \
         {last}",
        snapshot.from(),
        snapshot.index()
    )]
    Snapshot {
        /// The snapshot; its leader waits for the answer.
        snapshot: Received,
        /// Our last index.
        last: RaftIndex,
        /// What else comes from the primary, for the new learner. Until that runs, it drops raft's
        /// messages. The rest is to be received from it: a removal, a newer snapshot.
        inbox: Inbox,
    },
    /// A snapshot was awaited, and none will come: the leader's log begins with the cluster.
    #[error("the leader sends its log from the beginning")]
    Beginning {
        /// What else comes from the primary.
        inbox: Inbox,
    },
    /// The primary speaks of something that we do not know.
    #[error("member {from} sends something that this version does not know: {what}; upgrade")]
    Unknown {
        /// Who.
        from: MemberId,
        /// What.
        what: String,
    },
    /// Something in the process ended before.
    #[error("the rest of the process has ended")]
    Alone,
}

/// How long a leader waits for answers at most because its stream is not read yet. A leader that is
/// answered before sends its backlog by POST, which drops what exceeds 64 messages and starts over.
const DETACHED_PATIENCE: Duration = Duration::from_secs(3);

/// Messages taken from the inbox before anything else gets its turn.
const MESSAGES_PER_TURN: usize = 256;

impl Learner {
    /// A learner that has not begun.
    #[must_use]
    pub fn new(
        us: MemberId,
        inlet: Inlet,
        peer: (Inbox, Transport),
        handouts: mpsc::UnboundedSender<Vec<Handout>>,
        durable: watch::Receiver<RaftIndex>,
        view: watch::Sender<View>,
    ) -> Self {
        let lag = LagClock::new(inlet.node.durable());
        let (inbox, transport) = peer;
        Self {
            us,
            inlet,
            inbox,
            transport,
            handouts,
            durable,
            view,
            lag,
            first: None,
            covered: None,
            awaiting: None,
            detached: BTreeMap::new(),
        }
    }

    /// Lets it take no entries, and end with the first snapshot, or with [`End::Beginning`].
    #[must_use]
    pub fn awaiting_snapshot(mut self) -> Self {
        self.awaiting = Some(Awaiting::default());
        self
    }

    /// Lets it begin with a snapshot, at whose index the node is cut: the leader is told that we
    /// go on from there, and its request is answered. One that is newer than the node ends the
    /// learner at once with [`End::Snapshot`].
    #[must_use]
    pub fn beginning_with(mut self, snapshot: Received) -> Self {
        self.first = Some(snapshot);
        self
    }

    /// Runs until it cannot go on; mutes the transport at every end but a stop and a snapshot.
    ///
    /// # Cancel safety
    /// Not cancel safe; use `stop`.
    pub async fn run(mut self, stop: CancellationToken) -> End {
        let end = match self.live(&stop).await {
            Stop::End(end) => end,
            Stop::Beginning => {
                self.publish();
                return End::Beginning { inbox: self.inbox };
            }
            Stop::Snapshot(snapshot) => {
                self.inbox.drop_messages();
                self.publish();
                return End::Snapshot {
                    snapshot,
                    last: self.inlet.node.last_index(),
                    inbox: self.inbox,
                };
            }
        };
        if !matches!(end, End::Stopped) {
            // Nothing may be said any more: an answer could be a false promise, and a leader that
            // offers a snapshot would offer it with every heartbeat.
            self.transport.set_muted(true);
        }
        self.publish();
        end
    }

    async fn live(&mut self, stop: &CancellationToken) -> Stop {
        self.inbox.keep_messages();
        // What the standby held before we began may be acknowledged as well.
        self.transport
            .set_acknowledgeable(self.inlet.node.durable());
        if let Err(end) = self.begin() {
            return end;
        }
        loop {
            if let Err(end) = self.turn(stop).await {
                return end;
            }
        }
    }

    fn begin(&mut self) -> Result<(), Stop> {
        match self.first.take() {
            None => Ok(()),
            Some(snapshot) => {
                self.take_snapshot(snapshot)?;
                self.give_out(Instant::now())
            }
        }
    }

    async fn turn(&mut self, stop: &CancellationToken) -> Result<(), Stop> {
        let timeout = self
            .inlet
            .poll_timeout()
            .map(tokio::time::Instant::from_std);
        let sleep = async {
            match timeout {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return Err(End::Stopped.into()),
            inbound = self.inbox.recv() => {
                let mut next = Some(inbound.ok_or(End::Alone)?);
                for _ in 0..MESSAGES_PER_TURN {
                    let Some(inbound) = next.take().or_else(|| self.inbox.try_recv()) else {
                        break;
                    };
                    self.take_in(inbound)?;
                }
            }
            changed = self.durable.changed() => changed.map_err(|_| End::Alone)?,
            () = sleep => {}
        }
        let now = Instant::now();
        if let Some(dropped) = self.inbox.take_dropped() {
            self.inlet.handle_dropped(now, &dropped.as_message(self.us));
        }
        let durable = *self.durable.borrow_and_update();
        if durable > self.inlet.node.durable() {
            self.inlet.handle_durable(now, durable).map_err(End::from)?;
            self.transport.set_acknowledgeable(durable);
        }
        self.inlet.handle_timeout(now).map_err(End::from)?;
        self.give_out(now)
    }

    fn take_in(&mut self, inbound: Inbound) -> Result<(), Stop> {
        match inbound {
            Inbound::Message { message, .. } => {
                let now = Instant::now();
                self.view.send_modify(|view| view.last_heard = Some(now));
                let Some(message) = self.unless_awaiting(message)? else {
                    return Ok(());
                };
                let taken = self.inlet.handle_message(now, message);
                Ok(taken.map_err(End::from)?)
            }
            Inbound::Snapshot(snapshot) => self.take_snapshot(snapshot),
            Inbound::Removed { by } => Err(End::Removed(format!("member {by} says so")).into()),
            Inbound::ClusterMismatch { at, theirs } => {
                warn_of_another_cluster(at, theirs);
                Ok(())
            }
            Inbound::Unknown { from, what } => Err(End::Unknown { from, what }.into()),
        }
    }

    /// The message, if it is to be stepped.
    fn unless_awaiting(&mut self, message: Message) -> Result<Option<Message>, Stop> {
        let Some(awaiting) = &mut self.awaiting else {
            return Ok(Some(message));
        };
        match awaiting.take(self.us, message) {
            Asked::Step(message) => Ok(Some(message)),
            Asked::Nothing => Ok(None),
            Asked::Answer(answer) => {
                // Refused if it went out a moment ago.
                let _sent = self.transport.send(MemberId(answer.to), &answer);
                Ok(None)
            }
            Asked::Beginning => Err(Stop::Beginning),
        }
    }

    fn take_snapshot(&mut self, snapshot: Received) -> Result<(), Stop> {
        let message = snapshot.message().clone();
        if self.awaiting.is_some() {
            check_snapshot(self.us, &message).map_err(End::from)?;
            return Err(Stop::Snapshot(snapshot));
        }
        match self.inlet.handle_snapshot(message).map_err(End::from)? {
            Offered::Covered => self.covered = Some(snapshot),
            Offered::Needed => return Err(Stop::Snapshot(snapshot)),
            Offered::Stale | Offered::Malformed => {
                let (from, index) = (snapshot.from(), snapshot.index());
                tracing::info!(member = %from, %index, "a snapshot is of no use");
            }
        }
        Ok(())
    }

    /// A leader whose snapshot our log covers waits until all of it is durable: told earlier, it
    /// would go on from the durable index, which its log no longer reaches back to, and send the
    /// snapshot again.
    fn answer_covered(&mut self) {
        let durable = self.inlet.node.durable();
        let covered = self.covered.take_if(|snapshot| snapshot.index() <= durable);
        if let Some(snapshot) = covered {
            let (from, index) = (snapshot.from(), snapshot.index());
            tracing::info!(member = %from, %index, "going on from a snapshot's index");
            snapshot.installed();
        }
    }

    /// Everything that the node has to give, in the order that makes it safe: answers speak only of
    /// what is durable, so they need not wait for the entries.
    fn give_out(&mut self, now: Instant) -> Result<(), Stop> {
        self.say(now);
        self.answer_covered();
        let handouts: Vec<_> = std::iter::from_fn(|| self.inlet.node.poll_handout()).collect();
        if !handouts.is_empty() {
            self.handouts.send(handouts).map_err(|_| End::Alone)?;
        }
        let mut removed = None;
        while let Some(event) = self.inlet.node.poll_event() {
            removed = removed.or(self.tell(&event));
        }
        self.lag.note(now, self.inlet.node.leader_commit());
        self.lag.release(self.inlet.node.durable());
        self.publish();
        removed.map_or(Ok(()), |why| Err(End::Removed(why).into()))
    }

    fn say(&mut self, now: Instant) {
        let mut streams = None;
        while let Some(message) = self.inlet.node.poll_message() {
            let to = MemberId(message.to);
            let streams = streams.get_or_insert_with(|| self.transport.streams());
            let is_read = streams
                .iter()
                .any(|link| link.member == to && link.msgapp_dialled);
            if is_read {
                self.detached.remove(&to);
            } else if now - *self.detached.entry(to).or_insert(now) < DETACHED_PATIENCE {
                continue;
            }
            if let Err(refused) = self.transport.send(to, &message) {
                tracing::debug!(member = %to, %refused, "an answer was not sent");
            }
        }
    }

    /// Notes what happened; the reason if we were removed.
    fn tell(&mut self, event: &Event) -> Option<String> {
        match event {
            Event::Leader(leader, term) => tracing::info!(%leader, %term, "following a leader"),
            Event::Members(index, change) => {
                tracing::info!(%index, ?change, "the primary's membership changes");
                self.transport.refresh();
                match change {
                    MemberChange::Removed(id) if *id == self.us => {
                        return Some(format!("by the entry at index {index}"));
                    }
                    MemberChange::Promoted(id) if *id == self.us => {
                        tracing::error!(
                            "this learner was promoted to a voter: the primary now waits for the \
                             standby with every write, and loses its quorum sooner; remove this \
                             member, and add it again as a learner"
                        );
                        self.view.send_modify(|view| view.is_voter = true);
                    }
                    MemberChange::Added(_)
                    | MemberChange::Promoted(_)
                    | MemberChange::Removed(_)
                    | MemberChange::Updated(..)
                    | MemberChange::Refused(_) => {}
                }
            }
        }
        None
    }

    fn publish(&self) {
        let node = &self.inlet.node;
        let (leader, term) = node.leader();
        self.view.send_modify(|view| {
            view.received = node.last_index();
            view.committed = node.committed();
            view.leader_commit = node.leader_commit();
            view.durable = node.durable();
            view.acknowledged = node.acknowledged();
            view.leader = leader;
            view.term = term;
            view.behind_since = self.lag.behind_since();
            view.held_bytes = self.inlet.held_bytes();
            view.counts = self.inlet.counts();
        });
    }
}

/// Why the learner runs no further.
enum Stop {
    End(End),
    /// [`End::Snapshot`], which takes the inbox along.
    Snapshot(Received),
    /// [`End::Beginning`], likewise.
    Beginning,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

fn warn_of_another_cluster(at: MemberId, theirs: Option<ClusterId>) {
    let theirs = theirs.map_or_else(
        || "another cluster".to_owned(),
        |id| format!("cluster {id}"),
    );
    tracing::warn!(member = %at, "{theirs} answers at the URL of a member of the primary");
}
