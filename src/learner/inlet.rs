//! What stands before the node: order, and a limit on what is received and not yet durable. Pure;
//! the time is an argument.
//!
//! ```text
//! message -> [fits?] -> reorder -> node -> held until durable
//!               |           |
//!               +-- dropped +--> told to the leader once, when what is held has become durable
//! ```
//!
//! Everything that has not reached the standby is in memory: in the reorder buffer, in the node's
//! log, or handed out and on its way. All of it counts against one limit. Beyond it the farthest
//! ahead goes first. A leader that is told of a drop sends everything behind our acknowledgement
//! again, so it is told only when nothing is left between that and our last index.

use std::collections::VecDeque;
use std::time::Instant;

use super::convert::kind;
use super::error::Error;
use super::node::{Node, Offered, Taken};
use crate::ids::RaftIndex;
use crate::pb::raftpb::Message;
use crate::peer::codec::message_cost_bytes;
use crate::peer::reorder::{QUIET, Reorder, Step};

/// What an entry costs in memory beside its payload.
const ENTRY_OVERHEAD_BYTES: usize = 160;

/// The node with its buffers.
#[derive(Debug)]
pub struct Inlet {
    /// The node; everything it yields is to be taken from here.
    pub node: Node,
    reorder: Reorder,
    limit_bytes: usize,
    undurable: Undurable,
    /// A reject that waits until everything is durable that can be.
    probe: Option<Message>,
    counts: Counts,
}

/// What was not stepped, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages of a past term.
    pub stale: u64,
    /// Appends whose entries do not follow each other.
    pub malformed: u64,
    /// Appends given up for want of memory.
    pub dropped: u64,
    /// Rejects that were provoked to make the leader send again.
    pub probes: u64,
}

impl Inlet {
    /// `limit_bytes`: for everything received and not yet durable.
    #[must_use]
    pub fn new(node: Node, limit_bytes: usize) -> Self {
        let undurable = Undurable {
            first: node.durable().next(),
            ..Undurable::default()
        };
        Self {
            node,
            reorder: Reorder::new(QUIET, limit_bytes),
            limit_bytes,
            undurable,
            probe: None,
            counts: Counts::default(),
        }
    }

    /// Bytes received and not yet durable, in order and out of order.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.undurable.bytes + self.reorder.held_bytes()
    }

    /// What was not stepped.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            dropped: self.counts.dropped + self.reorder.dropped_count(),
            ..self.counts
        }
    }

    /// Takes a message of the primary.
    ///
    /// # Errors
    /// As [`Node::handle_message`]; nothing may be said to the primary afterwards.
    pub fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), Error> {
        if message.r#type != kind::APPEND {
            self.reorder.observe_term(message.term);
            return self.step(now, message);
        }
        if let Some(message) = self.reorder.offer(now, message, self.node.last_index().0) {
            self.step(now, message)?;
        }
        self.drain(now)
    }

    /// Takes a snapshot's message.
    ///
    /// # Errors
    /// As [`Node::handle_snapshot`].
    pub fn handle_snapshot(&mut self, message: Message) -> Result<Offered, Error> {
        self.reorder.observe_term(message.term);
        let offered = self.node.handle_snapshot(message)?;
        match offered {
            Offered::Covered | Offered::Needed => {}
            Offered::Stale => self.counts.stale += 1,
            Offered::Malformed => self.counts.malformed += 1,
        }
        Ok(offered)
    }

    /// An append was dropped before it came here.
    pub fn handle_dropped(&mut self, now: Instant, message: &Message) {
        self.reorder.note_dropped(now, message);
    }

    /// The standby holds everything up to `index`.
    ///
    /// # Errors
    /// As [`Node::handle_message`].
    pub fn handle_durable(&mut self, now: Instant, index: RaftIndex) -> Result<(), Error> {
        self.node.handle_durable(index);
        self.undurable.release(index);
        self.reorder
            .set_limit(now, self.limit_bytes.saturating_sub(self.undurable.bytes));
        self.drain(now)
    }

    /// The time of [`Inlet::poll_timeout`] has come.
    ///
    /// # Errors
    /// As [`Node::handle_message`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.drain(now)
    }

    /// When to call [`Inlet::handle_timeout`] if nothing else happens.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.reorder.poll_timeout()
    }

    fn drain(&mut self, now: Instant) -> Result<(), Error> {
        while let Some(step) = self.reorder.poll(now, self.node.last_index().0) {
            match step {
                Step::Deliver(message) => self.step(now, message)?,
                Step::Probe(probe) => self.probe = Some(probe),
            }
        }
        // What is not committed cannot become durable, and where the message is lost that says that
        // it is committed, nothing but the reject brings it.
        let all_durable = self.node.durable() >= self.node.committed();
        if let Some(probe) = self.probe.take_if(|_| all_durable) {
            // By now what it named may have come after all.
            if probe.index > self.node.last_index().0 {
                self.counts.probes += 1;
                self.step(now, probe)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, now: Instant, message: Message) -> Result<(), Error> {
        if !message.entries.is_empty() && !self.make_room(now, &message) {
            self.counts.dropped += 1;
            self.reorder.note_dropped(now, &message);
            return Ok(());
        }
        let sizes: Vec<(u64, usize)> = message
            .entries
            .iter()
            .map(|entry| (entry.index, entry.data.len() + ENTRY_OVERHEAD_BYTES))
            .collect();
        match self.node.handle_message(message)? {
            Taken::Stepped => self.undurable.note(&sizes, self.node.last_index()),
            Taken::Stale => self.counts.stale += 1,
            Taken::Malformed => self.counts.malformed += 1,
        }
        Ok(())
    }

    /// What comes next in order is worth more than what is farther ahead. One message is always
    /// taken, however large.
    fn make_room(&mut self, now: Instant, message: &Message) -> bool {
        let wanted = self.undurable.bytes + message_cost_bytes(message);
        self.reorder
            .set_limit(now, self.limit_bytes.saturating_sub(wanted));
        wanted <= self.limit_bytes || self.undurable.bytes == 0
    }
}

/// What each index behind the durable one costs.
#[derive(Debug, Default)]
struct Undurable {
    first: RaftIndex,
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Undurable {
    /// Entries were taken in; what a new leader overwrote is gone.
    fn note(&mut self, entries: &[(u64, usize)], last: RaftIndex) {
        for (index, size) in entries {
            let Some(place) = index.checked_sub(self.first.0) else {
                continue;
            };
            let Ok(place) = usize::try_from(place) else {
                continue;
            };
            if let Some(known) = self.sizes.get_mut(place) {
                self.bytes = self.bytes - *known + size;
                *known = *size;
            } else if place == self.sizes.len() && *index <= last.0 {
                self.bytes += size;
                self.sizes.push_back(*size);
            }
        }
        let end = self.first.0 + self.sizes.len() as u64;
        for _ in last.next().0..end {
            self.bytes -= self.sizes.pop_back().unwrap_or_default();
        }
    }

    fn release(&mut self, durable: RaftIndex) {
        while self.first <= durable {
            self.bytes -= self.sizes.pop_front().unwrap_or_default();
            self.first = self.first.next();
        }
    }
}

#[cfg(test)]
mod tests;
