//! What the transport hands to the learner, without ever making a stream wait.
//!
//! Streams must be read continuously: a member drops one that is not read for five seconds. So
//! the queue to the learner has a limit in bytes and one in messages, and what exceeds them is
//! dropped; for MsgApps the farthest dropped one is remembered, to be told to the leader once.
//! What must not be lost (removal, an unknown field, a snapshot) has a small queue of its own.
//! While a snapshot is installed there is no learner, and messages are dropped as they come.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::codec::message_cost_bytes;
use super::kind::MessageKind;
use super::snapshot::Received;
use crate::ids::{ClusterId, MemberId, RaftIndex, Term};
use crate::pb::raftpb::Message;

/// Something from the primary that concerns the learner.
// Nearly all are messages: boxing them would save nothing.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are messages")]
pub enum Inbound {
    /// A raft message to be stepped.
    Message {
        /// The member it came from.
        from: MemberId,
        /// The message: MsgApp, MsgHeartbeat or MsgReadIndexResp, addressed to us.
        message: Message,
    },
    /// A leader has sent us a snapshot, and waits for the answer.
    Snapshot(Received),
    /// A member of our cluster says that we were removed. Final.
    Removed {
        /// The member that said so.
        by: MemberId,
    },
    /// Another cluster answers at a member's URL.
    ClusterMismatch {
        /// The member expected there.
        at: MemberId,
        /// The cluster that answered, if it said so.
        theirs: Option<ClusterId>,
    },
    /// A message has a field this version does not know: nothing more may be applied.
    Unknown {
        /// The member it came from.
        from: MemberId,
        /// What is unknown, as a phrase.
        what: String,
    },
}

/// The receiving end; one per transport.
#[derive(Debug)]
pub struct Inbox {
    messages: mpsc::Receiver<Queued>,
    events: mpsc::Receiver<Inbound>,
    shared: Arc<Ledger>,
}

/// The farthest MsgApp dropped for want of space, without its entries' payloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DroppedAppend {
    /// The leader it came from.
    pub from: MemberId,
    /// The leader's term.
    pub term: Term,
    /// Index of its last entry, or its own index if it had none.
    pub last_index: RaftIndex,
    /// Term at that index.
    pub last_term: Term,
}

impl DroppedAppend {
    /// An empty MsgApp at the dropped end: stepping it makes raft reject it, which tells the
    /// leader to send again; [`super::reorder::Reorder::note_dropped`] takes it as well.
    #[must_use]
    pub fn as_message(&self, us: MemberId) -> Message {
        Message {
            r#type: MessageKind::App.number(),
            from: self.from.0,
            to: us.0,
            term: self.term.0,
            log_term: self.last_term.0,
            index: self.last_index.0,
            ..Message::default()
        }
    }
}

impl Inbox {
    /// The next thing for the learner; None when the transport is gone.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<Inbound> {
        tokio::select! {
            biased;
            Some(event) = self.events.recv() => Some(event),
            Some(queued) = self.messages.recv() => Some(self.take(queued)),
            else => None,
        }
    }

    /// The same without waiting: None if there is nothing right now.
    pub fn try_recv(&mut self) -> Option<Inbound> {
        if let Ok(event) = self.events.try_recv() {
            return Some(event);
        }
        let queued = self.messages.try_recv().ok()?;
        Some(self.take(queued))
    }

    /// What was dropped since the last call, if anything.
    pub fn take_dropped(&mut self) -> Option<DroppedAppend> {
        self.shared.lock().take()
    }

    /// From now on messages are dropped, until [`Inbox::keep_messages`]; raft sends again what
    /// matters. Everything else still comes, so somebody should go on receiving.
    pub fn drop_messages(&mut self) {
        self.shared.is_unread.store(true, Ordering::Relaxed);
        while let Ok(queued) = self.messages.try_recv() {
            self.take(queued);
        }
        self.shared.lock().take();
    }

    /// Messages come again.
    pub fn keep_messages(&mut self) {
        self.shared.is_unread.store(false, Ordering::Relaxed);
    }

    fn take(&self, queued: Queued) -> Inbound {
        self.shared
            .bytes
            .fetch_sub(queued.cost_bytes, Ordering::Relaxed);
        Inbound::Message {
            from: queued.from,
            message: queued.message,
        }
    }
}

/// The sending end.
#[derive(Clone, Debug)]
pub(super) struct Outlet {
    messages: mpsc::Sender<Queued>,
    events: mpsc::Sender<Inbound>,
    shared: Arc<Ledger>,
    bytes_max: usize,
}

#[derive(Debug)]
struct Queued {
    from: MemberId,
    message: Message,
    cost_bytes: usize,
}

#[derive(Debug, Default)]
struct Ledger {
    bytes: AtomicUsize,
    /// Messages are dropped as they come.
    is_unread: AtomicBool,
    dropped: Mutex<Option<DroppedAppend>>,
}

impl Ledger {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<DroppedAppend>> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It did not fit.
    OverBudget,
    /// Nobody reads messages now.
    Unread,
}

/// Things that must not be lost and wait for the learner; a few hundred bytes each.
const EVENTS_MAX: usize = 64;

/// Both ends. The queue holds at most `messages_max` messages that cost at most `bytes_max`; a
/// single message beyond the limit passes when the queue is empty.
pub(super) fn inbox(bytes_max: usize, messages_max: usize) -> (Outlet, Inbox) {
    let (message_tx, messages) = mpsc::channel(messages_max.max(1));
    let (event_tx, events) = mpsc::channel(EVENTS_MAX);
    let shared = Arc::new(Ledger::default());
    let outlet = Outlet {
        messages: message_tx,
        events: event_tx,
        shared: Arc::clone(&shared),
        bytes_max,
    };
    let inbox = Inbox {
        messages,
        events,
        shared,
    };
    (outlet, inbox)
}

impl Outlet {
    /// Queues a message, or drops it; never waits.
    pub(super) fn offer(&self, from: MemberId, message: Message) -> Result<(), NotTaken> {
        if self.shared.is_unread.load(Ordering::Relaxed) {
            return Err(NotTaken::Unread);
        }
        let cost_bytes = message_cost_bytes(&message);
        let before = self.shared.bytes.fetch_add(cost_bytes, Ordering::Relaxed);
        if before > 0 && before.saturating_add(cost_bytes) > self.bytes_max {
            return self.drop_message(from, &message, cost_bytes);
        }
        let queued = Queued {
            from,
            message,
            cost_bytes,
        };
        match self.messages.try_send(queued) {
            Ok(()) => Ok(()),
            Err(
                mpsc::error::TrySendError::Full(queued) | mpsc::error::TrySendError::Closed(queued),
            ) => self.drop_message(from, &queued.message, cost_bytes),
        }
    }

    /// Queues what must not be lost; waits for room.
    pub(super) async fn report(&self, event: Inbound) {
        // The learner is gone only when everything ends.
        let _ = self.events.send(event).await;
    }

    fn drop_message(
        &self,
        from: MemberId,
        message: &Message,
        cost_bytes: usize,
    ) -> Result<(), NotTaken> {
        self.shared.bytes.fetch_sub(cost_bytes, Ordering::Relaxed);
        if message.r#type == MessageKind::App.number() {
            let last = message.entries.last();
            let dropped = DroppedAppend {
                from,
                term: Term(message.term),
                last_index: RaftIndex(last.map_or(message.index, |e| e.index)),
                last_term: Term(last.map_or(message.log_term, |e| e.term)),
            };
            let mut farthest = self.shared.lock();
            let is_farther = farthest
                .is_none_or(|f| (f.term, f.last_index) < (dropped.term, dropped.last_index));
            if is_farther {
                *farthest = Some(dropped);
            }
        }
        Err(NotTaken::OverBudget)
    }
}

#[cfg(test)]
mod tests {
    use super::NotTaken::OverBudget;
    use super::*;
    use crate::pb::raftpb::Entry;
    use bytes::Bytes;

    const LEADER: MemberId = MemberId(7);

    fn append(index: u64, data_bytes: usize) -> Message {
        Message {
            r#type: MessageKind::App.number(),
            term: 2,
            log_term: 2,
            index,
            entries: vec![Entry {
                term: 2,
                index: index + 1,
                data: Bytes::from(vec![0; data_bytes]),
                ..Entry::default()
            }],
            ..Message::default()
        }
    }

    fn index(inbound: Option<Inbound>) -> Option<u64> {
        match inbound? {
            Inbound::Message { message, .. } => Some(message.index),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_exceeds_the_bytes_is_dropped_and_the_farthest_is_remembered() {
        let (outlet, mut inbox) = inbox(3000, 100);
        assert_eq!(outlet.offer(LEADER, append(10, 1000)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(11, 1000)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(13, 1000)), Err(OverBudget));
        assert_eq!(outlet.offer(LEADER, append(12, 1000)), Err(OverBudget));
        assert_eq!(index(inbox.try_recv()), Some(10));
        assert_eq!(outlet.offer(LEADER, append(12, 1000)), Ok(()));
        let dropped = inbox.take_dropped().unwrap();
        assert_eq!((dropped.from, dropped.last_index), (LEADER, RaftIndex(14)));
        assert_eq!(inbox.take_dropped(), None);
        assert_eq!(index(inbox.try_recv()), Some(11));
        assert_eq!(index(inbox.try_recv()), Some(12));
        assert_eq!(inbox.shared.bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_message_beyond_the_limit_passes_alone() {
        let (outlet, mut inbox) = inbox(100, 100);
        assert_eq!(outlet.offer(LEADER, append(10, 1000)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(11, 1)), Err(OverBudget));
        assert_eq!(index(inbox.try_recv()), Some(10));
        assert_eq!(outlet.offer(LEADER, append(11, 1000)), Ok(()));
    }

    #[test]
    fn the_count_is_bounded_too() {
        let (outlet, _inbox) = inbox(1 << 30, 2);
        assert_eq!(outlet.offer(LEADER, append(10, 0)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(11, 0)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(12, 0)), Err(OverBudget));
    }

    #[tokio::test]
    async fn while_nobody_reads_messages_the_rest_still_comes() {
        let (outlet, mut inbox) = inbox(100, 10);
        assert_eq!(outlet.offer(LEADER, append(10, 1000)), Ok(()));
        assert_eq!(outlet.offer(LEADER, append(11, 1000)), Err(OverBudget));
        inbox.drop_messages();
        assert_eq!(inbox.take_dropped(), None);
        assert_eq!(inbox.shared.bytes.load(Ordering::Relaxed), 0);
        for index in 0..100 {
            assert_eq!(
                outlet.offer(LEADER, append(index, 1000)),
                Err(NotTaken::Unread)
            );
        }
        outlet.report(Inbound::Removed { by: LEADER }).await;
        assert_eq!(inbox.recv().await, Some(Inbound::Removed { by: LEADER }));
        assert_eq!(inbox.try_recv(), None);
        inbox.keep_messages();
        assert_eq!(outlet.offer(LEADER, append(12, 0)), Ok(()));
        assert_eq!(index(inbox.try_recv()), Some(12));
    }

    #[tokio::test]
    async fn what_must_not_be_lost_goes_first() {
        let (outlet, mut inbox) = inbox(1000, 10);
        assert_eq!(outlet.offer(LEADER, append(10, 0)), Ok(()));
        outlet.report(Inbound::Removed { by: LEADER }).await;
        assert_eq!(inbox.recv().await, Some(Inbound::Removed { by: LEADER }));
        assert_eq!(index(inbox.recv().await), Some(10));
        drop(outlet);
        assert_eq!(inbox.recv().await, None);
    }
}
