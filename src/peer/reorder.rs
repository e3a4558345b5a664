//! Puts MsgApps that arrive out of order back into order. Pure; the time is an argument.
//!
//! From 3.7.0 on a leader hands a burst to the transport highest index first, and in every
//! release order is lost between the streams and the POSTs. A learner that rejects each gap makes
//! the leader re-send many times over, so MsgApps beyond our last index are held here until the
//! gap is filled:
//!
//! ```text
//! offer --index <= last--> back to the caller, to be stepped at once
//!   |
//!   +--index > last--> held, by index --gap filled--> Step::Deliver, lowest first
//!                        |  |
//!                        |  +--quiet for a while--> Step::Probe: a reject must tell the leader
//!                        +--too many bytes: the highest goes, and is named by a Step::Probe
//!                           once the rest is drained
//! ```
//!
//! Invariants: all that is held is of one term; at most one message per index; a message with
//! entries is never given up for one without; `held_bytes` stays within the limit; what is given
//! up is always told to the leader, which would otherwise believe it under way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::codec::message_cost_bytes;
use crate::pb::raftpb::Message;

/// Default quiet time before a gap counts as one that nothing fills.
pub const QUIET: Duration = Duration::from_millis(200);

/// The longest quiet time that a slow link can make of it.
pub const QUIET_MAX: Duration = Duration::from_secs(4);

/// After a probe that changed nothing, the next one follows this many quiet times later.
const REPEAT_FACTOR: u32 = 5;

/// What the caller does next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Step this message: it follows on what we have.
    Deliver(Message),
    /// Step this message without entries: its index is beyond our last one, so that it is
    /// rejected, and the leader resumes at what we have. Nothing held is lost by it.
    Probe(Message),
}

/// The buffer.
#[derive(Debug)]
pub struct Reorder {
    quiet: Duration,
    limit_bytes: usize,
    held_bytes: usize,
    term: u64,
    held: BTreeMap<u64, Message>,
    /// When the buffer counts as quiet; set while anything is held or to be told.
    deadline: Option<Instant>,
    lowest_at: Option<Instant>,
    /// The learner's last index at the last poll: a gap that is being filled is not quiet.
    last_index: u64,
    /// Longest time between two falls of the lowest index, lately: the pace of this link.
    pace: Duration,
    dropped: Option<Dropped>,
    dropped_count: u64,
}

/// The farthest entry that was given up.
#[derive(Clone, Copy, Debug)]
struct Dropped {
    from: u64,
    to: u64,
    index: u64,
    term: u64,
}

impl Reorder {
    /// `quiet`: see [`QUIET`]. `limit_bytes`: what held messages may cost, by
    /// [`message_cost_bytes`].
    #[must_use]
    pub fn new(quiet: Duration, limit_bytes: usize) -> Self {
        Self {
            quiet,
            limit_bytes,
            held_bytes: 0,
            term: 0,
            held: BTreeMap::new(),
            deadline: None,
            lowest_at: None,
            last_index: 0,
            pace: Duration::ZERO,
            dropped: None,
            dropped_count: 0,
        }
    }

    /// What the held messages cost, in bytes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// How many messages are held.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.held.len()
    }

    /// How many messages were given up for want of space, since the start.
    #[must_use]
    pub fn dropped_count(&self) -> u64 {
        self.dropped_count
    }

    /// Sets the limit anew, and gives up what exceeds it, highest index first.
    pub fn set_limit(&mut self, now: Instant, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
        self.shrink(now);
    }

    /// A leader of this term was heard: what is held from an earlier one is of no more use.
    pub fn observe_term(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.clear();
        }
    }

    /// Forgets all that is held and dropped.
    pub fn clear(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
        self.dropped = None;
        self.deadline = None;
        self.lowest_at = None;
    }

    /// Notes a MsgApp that was given up before it came here, for want of space: `index` and
    /// `log_term` are those of its last entry (or of the message, if it has none).
    pub fn note_dropped(&mut self, now: Instant, message: &Message) {
        self.observe_term(message.term);
        if message.term == self.term {
            self.remember_dropped(now, message);
        }
    }

    /// Takes a MsgApp. `last_index`: of the learner's log.
    ///
    /// Returns it at once if it can be stepped now, or is of an earlier term. After a message was
    /// stepped, from here or anywhere, [`Reorder::poll`] may have more.
    pub fn offer(&mut self, now: Instant, message: Message, last_index: u64) -> Option<Message> {
        self.observe_term(message.term);
        self.note_last_index(now, last_index);
        if message.term < self.term || message.index <= last_index {
            return Some(message);
        }
        let lowest = self.lowest();
        self.hold(message);
        if lowest.is_none_or(|before| self.lowest().is_some_and(|after| after < before)) {
            self.lowest_fell(now);
        }
        self.shrink(now);
        None
    }

    /// What to do now; to be called until it returns None, with the last index after each step.
    pub fn poll(&mut self, now: Instant, last_index: u64) -> Option<Step> {
        self.note_last_index(now, last_index);
        if let Some(entry) = self.held.first_entry()
            && *entry.key() <= last_index
        {
            let message = entry.remove();
            self.held_bytes -= message_cost_bytes(&message);
            self.drained(now);
            return Some(Step::Deliver(message));
        }
        if self.dropped.is_some_and(|d| d.index <= last_index) {
            self.dropped = None;
        }
        if self.held.is_empty() && self.dropped.is_none() {
            self.deadline = None;
        }
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.probe(now)
    }

    /// When to call [`Reorder::poll`] even if nothing arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn note_last_index(&mut self, now: Instant, last_index: u64) {
        let moved = self.last_index != last_index;
        self.last_index = last_index;
        if moved && !self.held.is_empty() {
            self.deadline = Some(now + self.quiet_time());
        }
    }

    fn lowest(&self) -> Option<u64> {
        self.held.first_key_value().map(|(index, _)| *index)
    }

    /// A message with more entries replaces one with fewer. Both are of one leader and term, so
    /// the higher commit holds for either.
    fn hold(&mut self, mut message: Message) {
        let cost = message_cost_bytes(&message);
        match self.held.get_mut(&message.index) {
            Some(held) if held.entries.len() >= message.entries.len() => {
                held.commit = held.commit.max(message.commit);
            }
            Some(held) => {
                message.commit = message.commit.max(held.commit);
                self.held_bytes -= message_cost_bytes(held);
                self.held_bytes += cost;
                *held = message;
            }
            None => {
                self.held_bytes += cost;
                self.held.insert(message.index, message);
            }
        }
    }

    fn lowest_fell(&mut self, now: Instant) {
        if let Some(before) = self.lowest_at {
            let interval = now.saturating_duration_since(before);
            self.pace = self.pace.max(interval).min(QUIET_MAX);
        }
        self.lowest_at = Some(now);
        self.deadline = Some(now + self.quiet_time());
    }

    /// The lowest held message was delivered, so that a new gap, if any, begins to count.
    fn drained(&mut self, now: Instant) {
        self.lowest_at = None;
        if self.held.is_empty() {
            // The burst has ended: what was dropped from it is to be told now.
            self.pace /= 2;
            self.deadline = self.dropped.map(|_| now);
        } else {
            self.deadline = Some(now + self.quiet_time());
        }
    }

    fn quiet_time(&self) -> Duration {
        self.quiet.max(self.pace * 4).min(QUIET_MAX)
    }

    fn shrink(&mut self, now: Instant) {
        while self.held_bytes > self.limit_bytes {
            let Some((_, message)) = self.held.pop_last() else {
                return;
            };
            self.held_bytes -= message_cost_bytes(&message);
            self.remember_dropped(now, &message);
        }
    }

    fn remember_dropped(&mut self, now: Instant, message: &Message) {
        self.dropped_count += 1;
        let dropped = Dropped::new(message);
        if self
            .dropped
            .is_none_or(|farthest| dropped.index > farthest.index)
        {
            self.dropped = Some(dropped);
        }
        if self.held.is_empty() {
            self.deadline = Some(now + self.quiet_time());
        }
    }

    fn probe(&mut self, now: Instant) -> Option<Step> {
        self.deadline = Some(now + self.quiet_time() * REPEAT_FACTOR);
        if let Some((_, lowest)) = self.held.first_key_value() {
            let probe = Message {
                r#type: lowest.r#type,
                from: lowest.from,
                to: lowest.to,
                term: lowest.term,
                log_term: lowest.log_term,
                index: lowest.index,
                ..Message::default()
            };
            return Some(Step::Probe(probe));
        }
        self.deadline = None;
        let dropped = self.dropped.take()?;
        Some(Step::Probe(dropped.probe(self.term)))
    }
}

impl Dropped {
    fn new(message: &Message) -> Self {
        let last = message.entries.last();
        Self {
            from: message.from,
            to: message.to,
            index: last.map_or(message.index, |entry| entry.index),
            term: last.map_or(message.log_term, |entry| entry.term),
        }
    }

    /// It names the last entry that was given up, and not the index before it: the leader takes a
    /// rejection of an index it knows us to have for an old one.
    fn probe(self, term: u64) -> Message {
        Message {
            r#type: super::kind::MessageKind::App.number(),
            from: self.from,
            to: self.to,
            term,
            log_term: self.term,
            index: self.index,
            ..Message::default()
        }
    }
}

#[cfg(test)]
#[path = "reorder_tests.rs"]
mod tests;
