//! The transport between us and the members of the primary: etcd's peer protocol. IO.
//!
//! ```text
//!               members                                   learner
//!   GET /members, /version <-- poll, join
//!   their streams          <-- dial --> codec --> intake --> inbox --> Inbox::recv
//!   POST /raft, snapshot   --> listen --> routes ---^          ^
//!   our streams            <-- serve <--+                      | (what was received)
//!   POST /raft             <-- post  <--+-- link <-- filter <--+------ Transport::send
//! ```
//!
//! The peer port trusts whoever speaks on it, and several mistakes of a learner end a member's
//! process. So what leaves passes two narrow places: [`filter`] for messages, `answer` for
//! status codes. Both are closed sets; each rule has a test in `tests/peer`.
//!
//! Deliberately absent: any connection pool, TLS (see [`net`] for its seam), looking into the
//! databases that `snapshot` spools, `X-PeerURLs`, and everything that would propose an entry.
//!
//! # Source
//! etcd 3.4 to 3.7 `server/etcdserver/api/rafthttp`.

mod answer;
mod body;
pub mod codec;
mod dial;
pub mod filter;
pub mod handshake;
mod http;
mod inbox;
pub mod intake;
pub mod join;
pub mod kind;
mod listen;
pub mod members;
pub mod net;
mod poll;
mod post;
pub mod reorder;
mod routes;
mod serve;
mod shared;
pub mod snapshot;
pub mod stats;
pub mod version;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use filter::Refused;
pub use handshake::Identity;
pub use inbox::{DroppedAppend, Inbound, Inbox};
pub use members::Member;
use shared::{Roster, Shared, StreamKind};
pub use snapshot::Received;
pub use stats::Stats;

use crate::ids::{MemberId, RaftIndex};
use crate::pb::raftpb::Message;
use net::Security;
use version::{Version, Versions};

/// What can be chosen about the transport. The defaults suit etcd's own.
#[derive(Clone, Debug)]
pub struct Config {
    /// How connections are protected.
    pub security: Security,
    /// What one frame or POST body may cost, in bytes. A leader fills a MsgApp up to 1 MiB, or
    /// with one entry of any size.
    pub frame_bytes_max: usize,
    /// What messages that wait for the learner may cost together, in bytes.
    pub inbox_bytes_max: usize,
    /// How many messages may wait for the learner.
    pub inbox_messages_max: usize,
    /// What all POST bodies being read may cost together, in bytes.
    pub bodies_bytes_max: usize,
    /// Connections to our listener at a time, half of them from one address; beyond that they
    /// are closed at once.
    pub connections_max: usize,
    /// Time between link heartbeats on the streams we write; members wait five seconds.
    pub link_heartbeat: Duration,
    /// A stream that we read is dead after this long without a byte.
    pub silence: Duration,
    /// Longest wait for a member's answer to a request of ours.
    pub answer_timeout: Duration,
    /// Time between two polls of members and versions.
    pub poll_interval: Duration,
    /// How long answers must have been muted before a snapshot is cut off. More than the
    /// members' election timeout.
    pub hold_after_mute: Duration,
    /// Folder for databases that leaders send, a file for each until it is installed. Nobody else
    /// may use it. Without one, every snapshot fails.
    pub spool: Option<PathBuf>,
    /// What a snapshot must leave free on the spool's disk, in bytes.
    pub spool_free_bytes_min: u64,
    /// Largest database that is taken, in bytes.
    pub snapshot_bytes_max: u64,
    /// A transfer that brings next to nothing for so long has failed. A leader may be slow in
    /// reading its own disk.
    pub snapshot_silence: Duration,
    /// How long nothing is said to a leader after its snapshot failed: at first, and doubled each
    /// time up to [`Config::snapshot_retry_max`]. More than `hold_after_mute`.
    pub snapshot_retry_min: Duration,
    /// See [`Config::snapshot_retry_min`].
    pub snapshot_retry_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            security: Security::Plain,
            frame_bytes_max: 64 << 20,
            inbox_bytes_max: 256 << 20,
            inbox_messages_max: 16 << 10,
            bodies_bytes_max: 256 << 20,
            connections_max: 512,
            link_heartbeat: Duration::from_millis(1600),
            silence: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(5),
            poll_interval: Duration::from_secs(2),
            hold_after_mute: Duration::from_secs(3),
            spool: None,
            spool_free_bytes_min: 256 << 20,
            snapshot_bytes_max: 64 << 30,
            snapshot_silence: Duration::from_secs(30),
            snapshot_retry_min: Duration::from_secs(5),
            snapshot_retry_max: Duration::from_secs(60),
        }
    }
}

/// Which streams between us and a member are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberStreams {
    /// The member.
    pub member: MemberId,
    /// We read its MsgApps.
    pub msgapp_dialled: bool,
    /// We read its other messages.
    pub message_dialled: bool,
    /// It keeps up our msgapp stream, which carries nothing.
    pub msgapp_served: bool,
    /// It reads our answers.
    pub message_served: bool,
}

/// We are somebody else already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("joined as member {} of cluster {} before", present.us, present.cluster)]
pub struct AlreadyJoined {
    /// Who we are.
    pub present: Identity,
}

/// Handle of the transport; cheap to clone.
#[derive(Clone, Debug)]
pub struct Transport {
    shared: Arc<Shared>,
}

impl Transport {
    /// A transport that knows nobody, and the queue of what it receives.
    #[must_use]
    pub fn new(config: Config) -> (Self, Inbox) {
        let (outlet, inbox) = inbox::inbox(config.inbox_bytes_max, config.inbox_messages_max);
        let shared = Arc::new(Shared::new(config, outlet));
        (Self { shared }, inbox)
    }

    /// Serves, dials and polls until `ended`. Before [`Transport::join`] it only serves, with
    /// refusals that do no harm: members dial within milliseconds of our addition.
    ///
    /// # Cancel safety
    /// To be ended by `ended`, and awaited: tasks would go on for a moment if it were dropped.
    pub async fn run(&self, listener: TcpListener, ended: CancellationToken) {
        snapshot::clear_spool(&self.shared).await;
        let tasks = TaskTracker::new();
        let shared = || Arc::clone(&self.shared);
        tasks.spawn(listen::run(
            shared(),
            listener,
            tasks.clone(),
            ended.clone(),
        ));
        tasks.spawn(poll::run(shared(), ended.clone()));
        tokio::select! {
            () = ended.cancelled() => {}
            () = self.start_links(&tasks) => {}
        }
        for link in self.shared.links() {
            link.ended.cancel();
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Starts what dials and POSTs to each member as it becomes known.
    async fn start_links(&self, tasks: &TaskTracker) {
        let mut roster = self.shared.roster.subscribe();
        roster.mark_changed();
        while roster.changed().await.is_ok() {
            for link in self.shared.links() {
                if link.started.swap(true, Ordering::Relaxed) {
                    continue;
                }
                for kind in StreamKind::ALL {
                    let dialer = dial::run(Arc::clone(&self.shared), Arc::clone(&link), kind);
                    tasks.spawn(dialer);
                }
                tasks.spawn(post::run(Arc::clone(&self.shared), link));
            }
        }
    }

    /// From now on we are this member of this cluster, which has these members and versions.
    ///
    /// # Errors
    /// [`AlreadyJoined`] if we are another one: an identity never changes.
    pub fn join(
        &self,
        identity: Identity,
        members: Vec<Member>,
        versions: Option<Versions>,
    ) -> Result<(), AlreadyJoined> {
        let mut joined = Ok(());
        self.shared
            .identity
            .send_if_modified(|present| match present {
                Some(present) => {
                    if *present != identity {
                        joined = Err(AlreadyJoined { present: *present });
                    }
                    false
                }
                None => {
                    *self.shared.filter() = filter::Filter::new(identity.us);
                    *present = Some(identity);
                    true
                }
            });
        joined?;
        if let Some(versions) = versions {
            self.set_versions(versions);
        }
        self.set_members(members);
        Ok(())
    }

    /// Who we are, once known.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        self.shared.identity()
    }

    /// Replaces the member list: dials who is new, hangs up on who is gone, uses new URLs from the
    /// next dial on. Without effect before [`Transport::join`].
    ///
    /// The transport polls the list by itself. A learner that replays old conf changes must not
    /// set what they say: it calls [`Transport::refresh`] instead.
    pub fn set_members(&self, mut members: Vec<Member>) {
        let Some(identity) = self.shared.identity() else {
            return;
        };
        members.sort_by_key(|member| member.id);
        self.shared.reconcile(identity.us, &members);
        self.shared.roster.send_replace(Roster {
            members,
            confirmed_at: Some(Instant::now()),
        });
    }

    /// Polls the members now: the log has a conf change.
    pub fn refresh(&self) {
        self.shared.refresh.notify_one();
    }

    /// The member list as it changes, we among them.
    #[must_use]
    pub fn members(&self) -> MembersWatch {
        MembersWatch(self.shared.roster.subscribe())
    }

    /// Sets what we claim to be, in `/version` and in headers. The transport polls that by itself.
    pub fn set_versions(&self, versions: Versions) {
        self.shared.versions.send_replace(Some(versions));
    }

    /// What we claim to be; none before any member said what it is.
    #[must_use]
    pub fn versions(&self) -> Option<Versions> {
        *self.shared.versions.borrow()
    }

    /// Every release that a voter runs, as far as they answered; several while the primary is being
    /// upgraded.
    #[must_use]
    pub fn releases(&self) -> BTreeSet<Version> {
        self.shared.releases.borrow().clone()
    }

    /// Falls silent towards all members, or speaks again. While muted, nothing is sent at all, and
    /// snapshots that come are cut, unread, after [`Config::hold_after_mute`].
    pub fn set_muted(&self, is_muted: bool) {
        self.shared.muted_since.send_if_modified(|since| {
            let changes = since.is_some() != is_muted;
            if changes {
                *since = is_muted.then(Instant::now);
            }
            changes
        });
    }

    /// Raises the index up to which acknowledgements may leave: what is durable. Never falls.
    pub fn set_acknowledgeable(&self, index: RaftIndex) {
        self.shared.filter().raise_acknowledgeable(index);
    }

    /// Sends a message to a member, without waiting. That it is accepted does not mean that it
    /// arrives.
    ///
    /// # Errors
    /// [`Refused`]: it must not leave, or cannot right now.
    pub fn send(&self, to: MemberId, message: &Message) -> Result<(), Refused> {
        self.shared.send(to, message)
    }

    /// The latest snapshot that a leader sends or has sent, as it goes on; none before the first.
    #[must_use]
    pub fn snapshot_progress(&self) -> watch::Receiver<Option<snapshot::Progress>> {
        self.shared.transfers.progress()
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Which streams are up, member by member.
    #[must_use]
    pub fn streams(&self) -> Vec<MemberStreams> {
        let of = |link: Arc<shared::Link>| MemberStreams {
            member: link.id,
            msgapp_dialled: link.is_dialled(StreamKind::MsgApp),
            message_dialled: link.is_dialled(StreamKind::Message),
            msgapp_served: link.is_served(StreamKind::MsgApp),
            message_served: link.is_served(StreamKind::Message),
        };
        self.shared.links().into_iter().map(of).collect()
    }
}

/// The member list of the primary, as it changes.
#[derive(Clone, Debug)]
pub struct MembersWatch(watch::Receiver<Roster>);

impl MembersWatch {
    /// The present list, ascending by ID; empty before we joined.
    #[must_use]
    pub fn current(&self) -> Vec<Member> {
        self.0.borrow().members.clone()
    }

    /// Waits for the next list, which may equal the last. False when the transport is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
