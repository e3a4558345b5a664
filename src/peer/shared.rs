//! What all tasks of the transport share.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::codec::{self, Frame};
use super::filter::{Filter, Refused};
use super::handshake::Identity;
use super::inbox::{Inbound, NotTaken, Outlet};
use super::intake::{self, Verdict};
use super::kind::MessageKind;
use super::net::{Target, UrlError};
use super::snapshot::Transfers;
use super::snapshot::retry::Retry;
use super::stats::Stats;
use super::version::{Version, Versions};
use super::{Config, Member};
use crate::ids::MemberId;
use crate::pb::raftpb::Message;

/// The two kinds of streams between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamKind {
    MsgApp,
    Message,
}

impl StreamKind {
    pub(super) const ALL: [Self; 2] = [Self::MsgApp, Self::Message];

    /// How it is called in paths.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::MsgApp => "msgapp",
            Self::Message => "message",
        }
    }

    pub(super) fn link_heartbeat(self) -> Bytes {
        Bytes::from_static(match self {
            Self::MsgApp => codec::LINK_HEARTBEAT_MSGAPP,
            Self::Message => codec::LINK_HEARTBEAT_MESSAGE,
        })
    }
}

/// The members of the primary, and how fresh that knowledge is.
#[derive(Clone, Debug, Default)]
pub(super) struct Roster {
    /// Ascending by id, we among them.
    pub(super) members: Vec<Member>,
    /// When a member or the log last said so.
    pub(super) confirmed_at: Option<Instant>,
}

/// State of the transport.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) stats: Stats,
    pub(super) outlet: Outlet,
    /// Snapshots that come in.
    pub(super) transfers: Transfers,
    pub(super) identity: watch::Sender<Option<Identity>>,
    pub(super) roster: watch::Sender<Roster>,
    pub(super) versions: watch::Sender<Option<Versions>>,
    /// Every release that a voter runs.
    pub(super) releases: watch::Sender<BTreeSet<Version>>,
    /// Since when answers are muted.
    pub(super) muted_since: watch::Sender<Option<Instant>>,
    /// Wakes the poll of the members.
    pub(super) refresh: Notify,
    /// Bytes of POST bodies being read.
    pub(super) body_bytes: AtomicUsize,
    /// Connections to our listener, by the address they come from.
    connections: Mutex<HashMap<IpAddr, usize>>,
    links: Mutex<BTreeMap<MemberId, Arc<Link>>>,
    filter: Mutex<Filter>,
}

impl Shared {
    pub(super) fn new(config: Config, outlet: Outlet) -> Self {
        Self {
            config,
            stats: Stats::default(),
            outlet,
            transfers: Transfers::default(),
            identity: watch::Sender::new(None),
            roster: watch::Sender::default(),
            versions: watch::Sender::new(None),
            releases: watch::Sender::default(),
            muted_since: watch::Sender::new(None),
            refresh: Notify::new(),
            body_bytes: AtomicUsize::new(0),
            connections: Mutex::default(),
            links: Mutex::default(),
            filter: Mutex::new(Filter::new(MemberId(0))),
        }
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        *self.identity.borrow()
    }

    /// The release we claim to be; none as long as no member told us its own.
    pub(super) fn version(&self) -> Option<Version> {
        self.versions.borrow().map(|versions| versions.server)
    }

    pub(super) fn filter(&self) -> MutexGuard<'_, Filter> {
        lock(&self.filter)
    }

    pub(super) fn connections(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        lock(&self.connections)
    }

    pub(super) fn link(&self, member: MemberId) -> Option<Arc<Link>> {
        lock(&self.links).get(&member).cloned()
    }

    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        lock(&self.links).values().cloned().collect()
    }

    /// Makes links for new members, gives known ones their URLs, ends those of members gone.
    pub(super) fn reconcile(&self, us: MemberId, members: &[Member]) {
        let mut links = lock(&self.links);
        links.retain(|id, link| {
            let stays = members.iter().any(|member| member.id == *id);
            if !stays {
                link.ended.cancel();
                self.filter().forget(*id);
            }
            stays
        });
        for member in members.iter().filter(|member| member.id != us) {
            links
                .entry(member.id)
                .or_insert_with(|| Arc::new(Link::new(member.id)))
                .set_urls(&member.peer_urls);
        }
    }

    /// Decides about a message that `peer` sent, and queues it for the learner or drops it.
    pub(super) fn take_message(&self, us: MemberId, peer: MemberId, message: Message) {
        let kind = match intake::classify(&message, peer, us) {
            Verdict::Deliver(kind) => kind,
            Verdict::Drop(reason) => {
                self.stats.count_dropped(reason);
                tracing::debug!(member = %peer, ?reason, "drop a message");
                return;
            }
        };
        self.note_received(peer, kind, &message);
        match self.outlet.offer(peer, message) {
            Ok(()) => self.stats.count_delivered(kind),
            Err(NotTaken::OverBudget) => self.stats.dropped_over_budget.increment(),
            Err(NotTaken::Unread) => self.stats.dropped_unread.increment(),
        }
    }

    /// Notes what a member has shown by a message that is for us.
    pub(super) fn note_received(&self, peer: MemberId, kind: MessageKind, message: &Message) {
        let highest = {
            let mut filter = self.filter();
            filter.note_received(peer, kind, message);
            filter.highest_term()
        };
        self.transfers.note_term(highest);
    }

    /// The same for a frame of a stream.
    pub(super) fn take_frame(&self, us: MemberId, peer: MemberId, frame: Frame) {
        match frame {
            Frame::LinkHeartbeat => {}
            Frame::Message(message) => self.take_message(us, peer, message),
        }
    }

    /// Reports a field we do not know; false if `error` is about something else.
    pub(super) async fn report_unknown(&self, from: MemberId, error: &codec::Error) -> bool {
        if !matches!(error, codec::Error::Unknown { .. }) {
            return false;
        }
        let what = error.to_string();
        tracing::error!(member = %from, %what, "stop reading from a member");
        self.outlet.report(Inbound::Unknown { from, what }).await;
        true
    }

    /// Sends a message by the stream the member dialled, else by a POST.
    pub(super) fn send(&self, to: MemberId, message: &Message) -> Result<(), Refused> {
        let sent = self.try_send(to, message);
        match (&sent, MessageKind::from_number(message.r#type)) {
            (Ok(()), Some(kind)) => {
                self.stats.count_sent(kind);
                if message.reject {
                    self.stats.rejects_sent.increment();
                }
            }
            (Ok(()), None) | (Err(_), _) => self.stats.refused.increment(),
        }
        sent
    }

    fn try_send(&self, to: MemberId, message: &Message) -> Result<(), Refused> {
        if self.identity().is_none() {
            return Err(Refused::NotJoined);
        }
        if self.muted_since.borrow().is_some() {
            return Err(Refused::Muted);
        }
        let link = self.link(to).ok_or(Refused::UnknownMember { to })?;
        if link.retry().pause(std::time::Instant::now()).is_some() {
            return Err(Refused::Paused { to });
        }
        self.filter()
            .check(std::time::Instant::now(), to, message)?;
        link.send(message).ok_or(Refused::QueueFull { to })
    }
}

/// Messages that wait for a member on the stream it dialled; about 60 bytes each, since only
/// answers leave.
const STREAM_QUEUE_MESSAGES: usize = 4096;

/// Messages that wait to be POSTed to a member; about 60 bytes each.
const POST_QUEUE_MESSAGES: usize = 64;

/// Everything between us and one member.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: MemberId,
    /// The member is gone, or everything ends.
    pub(super) ended: CancellationToken,
    /// Its tasks run.
    pub(super) started: AtomicBool,
    /// Snapshot requests of the member that are under way.
    pub(super) snapshots: AtomicUsize,
    retry: Mutex<Retry>,
    /// Streams that we dialled and that are up: msgapp, message.
    dialled: [AtomicBool; 2],
    served: [Slot; 2],
    posts: mpsc::Sender<Bytes>,
    post_queue: Mutex<Option<mpsc::Receiver<Bytes>>>,
    urls: Mutex<Vec<String>>,
    position: AtomicUsize,
}

/// Who writes the stream that a member dialled; a new dial takes the place of the one before.
#[derive(Debug, Default)]
struct Slot(Mutex<(u64, Option<mpsc::Sender<Bytes>>)>);

/// A place on a [`Link`] from where messages are to be written to the member.
#[derive(Debug)]
pub(super) struct Seat {
    link: Arc<Link>,
    kind: StreamKind,
    generation: u64,
    /// Ends when another dial takes the place, or the member is gone.
    pub(super) queue: mpsc::Receiver<Bytes>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut slot = lock(&self.link.slot(self.kind).0);
        if slot.0 == self.generation {
            slot.1 = None;
        }
    }
}

impl Link {
    fn new(id: MemberId) -> Self {
        let (posts, post_queue) = mpsc::channel(POST_QUEUE_MESSAGES);
        Self {
            id,
            ended: CancellationToken::new(),
            started: AtomicBool::new(false),
            snapshots: AtomicUsize::new(0),
            retry: Mutex::default(),
            dialled: Default::default(),
            served: Default::default(),
            posts,
            post_queue: Mutex::new(Some(post_queue)),
            urls: Mutex::default(),
            position: AtomicUsize::new(0),
        }
    }

    /// Takes the place of whoever wrote this stream so far, and ends it.
    pub(super) fn take_seat(self: &Arc<Self>, kind: StreamKind) -> Seat {
        let (sender, queue) = mpsc::channel(STREAM_QUEUE_MESSAGES);
        let mut slot = lock(&self.slot(kind).0);
        slot.0 += 1;
        slot.1 = Some(sender);
        Seat {
            link: Arc::clone(self),
            kind,
            generation: slot.0,
            queue,
        }
    }

    /// When the member may send a snapshot again.
    pub(super) fn retry(&self) -> MutexGuard<'_, Retry> {
        lock(&self.retry)
    }

    /// Is there a stream of this kind that the member dialled?
    pub(super) fn is_served(&self, kind: StreamKind) -> bool {
        lock(&self.slot(kind).0).1.is_some()
    }

    /// Whether we read this stream of the member now.
    pub(super) fn is_dialled(&self, kind: StreamKind) -> bool {
        self.dialled_flag(kind).load(Ordering::Relaxed)
    }

    pub(super) fn set_dialled(&self, kind: StreamKind, is_up: bool) {
        self.dialled_flag(kind).store(is_up, Ordering::Relaxed);
    }

    /// The queue of messages to be POSTed, for the one who does it.
    pub(super) fn take_post_queue(&self) -> Option<mpsc::Receiver<Bytes>> {
        lock(&self.post_queue).take()
    }

    /// The URL to be tried now; one of several after [`Link::turn_url`].
    pub(super) fn url(&self) -> Option<String> {
        let urls = lock(&self.urls);
        let position = self.position.load(Ordering::Relaxed);
        urls.get(position.checked_rem(urls.len())?).cloned()
    }

    /// The same, read.
    pub(super) fn target(&self) -> Option<Result<Target, UrlError>> {
        self.url().map(|url| Target::parse(&url))
    }

    /// The URL just tried does not work: the next one.
    pub(super) fn turn_url(&self) {
        self.position.fetch_add(1, Ordering::Relaxed);
    }

    fn set_urls(&self, urls: &[String]) {
        let mut present = lock(&self.urls);
        if present.as_slice() != urls {
            *present = urls.to_vec();
        }
    }

    fn send(&self, message: &Message) -> Option<()> {
        let stream = lock(&self.slot(StreamKind::Message).0).1.clone();
        if let Some(stream) = stream {
            return match stream.try_send(codec::encode_message(message)) {
                Ok(()) => Some(()),
                Err(mpsc::error::TrySendError::Full(_)) => None,
                // It has just ended; the POST takes over.
                Err(mpsc::error::TrySendError::Closed(_)) => self.post(message),
            };
        }
        self.post(message)
    }

    fn post(&self, message: &Message) -> Option<()> {
        let bytes = prost::Message::encode_to_vec(message);
        self.posts.try_send(Bytes::from(bytes)).ok()
    }

    fn slot(&self, kind: StreamKind) -> &Slot {
        let [msgapp, message] = &self.served;
        match kind {
            StreamKind::MsgApp => msgapp,
            StreamKind::Message => message,
        }
    }

    fn dialled_flag(&self, kind: StreamKind) -> &AtomicBool {
        let [msgapp, message] = &self.dialled;
        match kind {
            StreamKind::MsgApp => msgapp,
            StreamKind::Message => message,
        }
    }
}

/// A panic elsewhere does not make what is inside any worse.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
