//! Counters of the transport: plain atomics, read by whoever makes metrics of them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::intake::DropReason;
use super::kind::MessageKind;

/// A number that only rises, or a gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The present value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, n: usize) {
        let n = u64::try_from(n).unwrap_or(u64::MAX);
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The ways by which bytes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The stream of MsgApps that we dial.
    MsgApp,
    /// The stream of all other messages that we dial.
    Message,
    /// `POST /raft`.
    Post,
    /// `POST /raft/snapshot`.
    Snapshot,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 4] = [Self::MsgApp, Self::Message, Self::Post, Self::Snapshot];

    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MsgApp => "msgapp",
            Self::Message => "message",
            Self::Post => "post",
            Self::Snapshot => "snapshot",
        }
    }
}

/// What the transport has counted since its start.
#[derive(Debug, Default)]
pub struct Stats {
    bytes_received: [Counter; 4],
    delivered: [Counter; 24],
    dropped: [Counter; 24],
    sent: [Counter; 24],
    /// Messages dropped: a kind that no release has.
    pub dropped_unknown_kind: Counter,
    /// Messages dropped: another member was meant.
    pub dropped_not_for_us: Counter,
    /// Messages dropped: not from the member whose connection they came through.
    pub dropped_not_from_peer: Counter,
    /// Messages dropped: fields that contradict each other.
    pub dropped_malformed: Counter,
    /// Messages dropped: the inbox was at its limit.
    pub dropped_over_budget: Counter,
    /// Messages dropped: nobody reads them while a snapshot is installed.
    pub dropped_unread: Counter,
    /// Outgoing messages that the filter refused, or for which there was no room.
    pub refused: Counter,
    /// Rejections among the messages sent.
    pub rejects_sent: Counter,
    /// Messages lost after they were accepted for sending: a stream was replaced, a POST refused.
    pub send_failures: Counter,
    /// Gauge: streams that we dialled and read.
    pub streams_dialled: Counter,
    /// Gauge: streams that members dialled and we write.
    pub streams_served: Counter,
    /// Stream dials that did not end in a stream.
    pub dial_failures: Counter,
    /// Streams that ended because of what was in them.
    pub stream_errors: Counter,
    /// Gauge: connections to our listener.
    pub connections: Counter,
    /// Connections closed at once because there were too many.
    pub connections_refused: Counter,
    /// Snapshots whose transfer began.
    pub snapshots_begun: Counter,
    /// Snapshots received to their end.
    pub snapshots_received: Counter,
    /// Snapshots that the leader was told are installed.
    pub snapshots_installed: Counter,
    /// Snapshots that were not received to their end, or not installed.
    pub snapshots_failed: Counter,
    /// Snapshots whose leader went away, or sent another one, before there was an answer.
    pub snapshots_over: Counter,
    /// Answers of ours whose status was not one of the fixed set, and was replaced. Always 0.
    pub answers_replaced: Counter,
}

impl Stats {
    /// Bytes received by this channel, without headers.
    #[must_use]
    pub fn bytes_received(&self, channel: Channel) -> u64 {
        self.bytes(channel).value()
    }

    /// Messages of this kind handed to the learner.
    #[must_use]
    pub fn delivered(&self, kind: MessageKind) -> u64 {
        value(&self.delivered, kind)
    }

    /// Messages dropped because of their kind.
    #[must_use]
    pub fn dropped(&self, kind: MessageKind) -> u64 {
        value(&self.dropped, kind)
    }

    /// Messages of this kind accepted for sending.
    #[must_use]
    pub fn sent(&self, kind: MessageKind) -> u64 {
        value(&self.sent, kind)
    }

    pub(crate) fn bytes(&self, channel: Channel) -> &Counter {
        let [msgapp, message, post, snapshot] = &self.bytes_received;
        match channel {
            Channel::MsgApp => msgapp,
            Channel::Message => message,
            Channel::Post => post,
            Channel::Snapshot => snapshot,
        }
    }

    pub(crate) fn count_delivered(&self, kind: MessageKind) {
        increment(&self.delivered, kind);
    }

    pub(crate) fn count_sent(&self, kind: MessageKind) {
        increment(&self.sent, kind);
    }

    pub(crate) fn count_dropped(&self, reason: DropReason) {
        match reason {
            DropReason::Kind(kind) => {
                increment(&self.dropped, kind);
            }
            DropReason::UnknownKind => self.dropped_unknown_kind.increment(),
            DropReason::NotForUs => self.dropped_not_for_us.increment(),
            DropReason::NotFromPeer => self.dropped_not_from_peer.increment(),
            DropReason::Malformed => self.dropped_malformed.increment(),
        }
    }
}

fn value(counters: &[Counter; 24], kind: MessageKind) -> u64 {
    counters.get(kind.position()).map_or(0, Counter::value)
}

fn increment(counters: &[Counter; 24], kind: MessageKind) {
    if let Some(counter) = counters.get(kind.position()) {
        counter.increment();
    }
}
