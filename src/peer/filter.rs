//! What may leave towards the primary. Pure; the time is an argument.
//!
//! A learner has no vote, but the peer port trusts it: several kinds of answers end a leader's
//! process or make it step down. This is the last place before the wire, it trusts nobody, and it
//! rests only on what was received before:
//!
//! - only append answers, heartbeat answers and read-index requests leave;
//! - never with a term that no leader has told us;
//! - an acknowledgement never exceeds what is durable, nor what that member has shown to have;
//! - a heartbeat answer's context is empty or one that the same member sent;
//! - the same rejection leaves at most once per [`REJECT_INTERVAL`].
//!
//! # Source
//! etcd 3.7.1 and raft v3.7.0, `raft.go` stepLeader; the rules H5, H6, H9, H10, H16, H18, H19.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::kind::MessageKind;
use crate::ids::{MemberId, RaftIndex, Term};
use crate::pb::raftpb::Message;

/// Heartbeat contexts remembered for each member; 8 bytes each in all releases.
pub const CONTEXTS_MAX: usize = 1024;

/// Longest heartbeat context that is remembered, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 64;

/// How far apart two equal rejections are at least: the leader's heartbeat interval. Without it a
/// leader from 3.6 on that believes we have more than we have re-sends at full speed.
pub const REJECT_INTERVAL: Duration = Duration::from_millis(100);

/// Why a message may not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not one of the three kinds that leave.
    #[error("a message of kind {number} never leaves")]
    Kind {
        /// Number of the kind.
        number: u32,
    },
    /// It names another sender or receiver than the ones it is sent by and to.
    #[error("the message names other members than the ones it goes between")]
    Address,
    /// A field is set that this kind has no use for, or a needed one is not.
    #[error("the message has fields that its kind must not have")]
    Shape,
    /// Its term is none that a leader told us.
    #[error("term {term} exceeds the highest received from a leader, {highest}")]
    Term {
        /// Of the message.
        term: Term,
        /// Received.
        highest: Term,
    },
    /// It acknowledges what is not durable.
    #[error("index {index} exceeds the acknowledgeable one, {acknowledgeable}")]
    NotDurable {
        /// Of the message.
        index: RaftIndex,
        /// The limit.
        acknowledgeable: RaftIndex,
    },
    /// It acknowledges what the receiver has not shown to have.
    #[error("index {index} exceeds the last one the receiver has shown, {shown}")]
    NotShown {
        /// Of the message.
        index: RaftIndex,
        /// The limit.
        shown: RaftIndex,
    },
    /// The heartbeat context is not one that the receiver sent lately.
    #[error("the heartbeat context is no echo")]
    Context,
    /// The same rejection went out a moment ago.
    #[error("the same rejection of index {index} went out a moment ago")]
    RepeatedReject {
        /// Of the message.
        index: RaftIndex,
    },
    /// We are silent on purpose.
    #[error("answers are muted")]
    Muted,
    /// We are silent towards this member for a while: it could not hand its snapshot over.
    #[error("answers to member {to} wait until it may send its snapshot again")]
    Paused {
        /// The receiver.
        to: MemberId,
    },
    /// We do not know yet who we are.
    #[error("not joined yet")]
    NotJoined,
    /// The receiver is no member that we know.
    #[error("member {to} is not known")]
    UnknownMember {
        /// The receiver.
        to: MemberId,
    },
    /// Too many messages wait for this member already.
    #[error("the queue to member {to} is full")]
    QueueFull {
        /// The receiver.
        to: MemberId,
    },
}

/// Remembers what was received and decides what may be sent.
#[derive(Debug)]
pub struct Filter {
    us: MemberId,
    highest_term: Term,
    acknowledgeable: RaftIndex,
    members: BTreeMap<MemberId, Heard>,
}

/// What one member has sent.
#[derive(Debug, Default)]
struct Heard {
    term: u64,
    /// Highest index it has shown to have in this term.
    last_index: u64,
    contexts: VecDeque<Bytes>,
    rejected: Option<(Rejection, Instant)>,
}

/// What makes two rejections the same: term, index, hint.
type Rejection = (u64, u64, u64);

impl Filter {
    /// Knows nothing yet, so that nothing may leave.
    #[must_use]
    pub fn new(us: MemberId) -> Self {
        Self {
            us,
            highest_term: Term(0),
            acknowledgeable: RaftIndex(0),
            members: BTreeMap::new(),
        }
    }

    /// Up to where acknowledgements may go: the durable index. Never falls.
    pub fn raise_acknowledgeable(&mut self, index: RaftIndex) {
        self.acknowledgeable = self.acknowledgeable.max(index);
    }

    /// Forgets a member that is gone.
    pub fn forget(&mut self, member: MemberId) {
        self.members.remove(&member);
    }

    /// Notes a message that [`super::intake::classify`] let through, from `peer`.
    pub fn note_received(&mut self, peer: MemberId, kind: MessageKind, message: &Message) {
        let comes_from_leader =
            kind == MessageKind::App || kind == MessageKind::Heartbeat || kind == MessageKind::Snap;
        if !comes_from_leader {
            return;
        }
        self.highest_term = self.highest_term.max(Term(message.term));
        self.members.entry(peer).or_default().note(kind, message);
    }

    /// The highest term that a leader told us.
    #[must_use]
    pub fn highest_term(&self) -> Term {
        self.highest_term
    }

    /// May this message leave for `to`, at this time?
    ///
    /// # Errors
    /// [`Refused`], except for the variants that the transport adds: muted, paused, not joined,
    /// unknown member, queue full.
    pub fn check(&mut self, now: Instant, to: MemberId, message: &Message) -> Result<(), Refused> {
        if message.from != self.us.0 || message.to != to.0 {
            return Err(Refused::Address);
        }
        if message.snapshot.is_some() {
            return Err(Refused::Shape);
        }
        let number = message.r#type;
        match MessageKind::from_number(number) {
            Some(MessageKind::AppResp) => self.check_append_answer(now, to, message),
            Some(MessageKind::HeartbeatResp) => self.check_heartbeat_answer(to, message),
            Some(MessageKind::ReadIndex) => self.check_read_index(message),
            _ => Err(Refused::Kind { number }),
        }
    }

    fn check_append_answer(
        &mut self,
        now: Instant,
        to: MemberId,
        message: &Message,
    ) -> Result<(), Refused> {
        if !message.entries.is_empty() || !message.context.is_empty() {
            return Err(Refused::Shape);
        }
        self.check_term(message.term)?;
        let heard = self.members.entry(to).or_default();
        if message.reject {
            return heard.check_reject(now, message);
        }
        let index = RaftIndex(message.index);
        if index > self.acknowledgeable {
            let acknowledgeable = self.acknowledgeable;
            return Err(Refused::NotDurable {
                index,
                acknowledgeable,
            });
        }
        if message.index > heard.last_index {
            let shown = RaftIndex(heard.last_index);
            return Err(Refused::NotShown { index, shown });
        }
        Ok(())
    }

    fn check_heartbeat_answer(&self, to: MemberId, message: &Message) -> Result<(), Refused> {
        if !message.entries.is_empty() || message.reject {
            return Err(Refused::Shape);
        }
        self.check_term(message.term)?;
        let is_echo = message.context.is_empty()
            || self
                .members
                .get(&to)
                .is_some_and(|heard| heard.contexts.iter().rev().any(|c| *c == message.context));
        if is_echo {
            Ok(())
        } else {
            Err(Refused::Context)
        }
    }

    /// Read-index requests are passed on by followers and carry no term in either library.
    fn check_read_index(&self, message: &Message) -> Result<(), Refused> {
        let asks = message.entries.len() == 1 && message.entries.iter().all(|e| !e.data.is_empty());
        if !asks || message.reject || !message.context.is_empty() {
            return Err(Refused::Shape);
        }
        if message.term == 0 {
            return Ok(());
        }
        self.check_term(message.term)
    }

    /// Term 0 stands for "local to a process" in the receiver, so it never leaves either.
    fn check_term(&self, term: u64) -> Result<(), Refused> {
        let term = Term(term);
        let highest = self.highest_term;
        if term.0 == 0 || term > highest {
            return Err(Refused::Term { term, highest });
        }
        Ok(())
    }
}

impl Heard {
    fn note(&mut self, kind: MessageKind, message: &Message) {
        if message.term > self.term {
            self.term = message.term;
            self.last_index = 0;
        }
        if message.term == self.term {
            let last = message.entries.last().map_or(message.index, |e| e.index);
            let snapshot = message.snapshot.as_ref().and_then(|s| s.metadata.as_ref());
            // A heartbeat's `index` is not in use; its commit is in the sender's log, as is all
            // that its snapshot covers.
            let shown = match (kind, snapshot) {
                (MessageKind::Snap, Some(snapshot)) => snapshot.index,
                (MessageKind::Snap | MessageKind::Heartbeat, _) => message.commit,
                _ => last.max(message.commit),
            };
            self.last_index = self.last_index.max(shown);
        }
        let length = message.context.len();
        if kind == MessageKind::Heartbeat && (1..=CONTEXT_BYTES_MAX).contains(&length) {
            if self.contexts.len() == CONTEXTS_MAX {
                self.contexts.pop_front();
            }
            // A copy: a slice would keep the whole received buffer.
            self.contexts
                .push_back(Bytes::copy_from_slice(&message.context));
        }
    }

    fn check_reject(&mut self, now: Instant, message: &Message) -> Result<(), Refused> {
        let rejection = (message.term, message.index, message.reject_hint);
        if let Some((last, at)) = self.rejected
            && last == rejection
            && now.saturating_duration_since(at) < REJECT_INTERVAL
        {
            let index = RaftIndex(message.index);
            return Err(Refused::RepeatedReject { index });
        }
        self.rejected = Some((rejection, now));
        Ok(())
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
