//! The log that raft-rs reads: entries received and not yet handed out, and the terms of all
//! others. In memory only, because the standby is the learner's disk.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use super::terms::Terms;
use crate::ids::{RaftIndex, Term};

/// Where a log was cut: it holds nothing up to this index.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cut {
    /// The last index that is not in the log; 0 for a log that begins with the cluster.
    pub index: RaftIndex,
    /// The term of the entry there.
    pub term: Term,
    /// Voters and learners of the primary as of that index; empty at index 0, where the first
    /// entries fill it.
    pub members: ConfState,
}

/// The log.
///
/// Entries leave it when they have been handed out; raft-rs never asks a follower for them again.
/// Their terms stay, so that a leader's history can be held against ours at any index.
#[derive(Debug)]
pub(crate) struct Log {
    members: ConfState,
    cut: RaftIndex,
    hard_state: HardState,
    terms: Terms,
    entries: VecDeque<Entry>,
}

impl Log {
    pub(crate) fn new(cut: Cut) -> Self {
        let hard_state = HardState {
            term: cut.term.0,
            commit: cut.index.0,
            ..HardState::default()
        };
        Self {
            members: cut.members,
            cut: cut.index,
            hard_state,
            terms: Terms::new(cut.index, cut.term),
            entries: VecDeque::new(),
        }
    }

    pub(crate) fn last(&self) -> RaftIndex {
        self.terms.last()
    }

    /// The term at `index`, also of entries long handed out; None before the cut and behind the
    /// end.
    pub(crate) fn term_at(&self, index: RaftIndex) -> Option<Term> {
        self.terms.at(index)
    }

    /// Takes entries in; one at a known index replaces it and everything behind it.
    ///
    /// # Panics
    /// If the entries leave a gap, which raft-rs never does.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let index = RaftIndex(entry.index);
            assert!(
                index <= self.last().next(),
                "a gap in the log before index {index}"
            );
            self.terms.put(index, Term(entry.term));
            while self
                .entries
                .back()
                .is_some_and(|held| held.index >= entry.index)
            {
                self.entries.pop_back();
            }
            self.entries.push_back(entry);
        }
    }

    /// Drops the entries up to `index`, which have been handed out.
    pub(crate) fn release(&mut self, index: RaftIndex) {
        while self
            .entries
            .front()
            .is_some_and(|held| held.index <= index.0)
        {
            self.entries.pop_front();
        }
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(
            self.hard_state.clone(),
            self.members.clone(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let Some(first) = self.entries.front().map(|entry| entry.index) else {
            return Err(StorageError::Unavailable.into());
        };
        if low < first {
            return Err(StorageError::Compacted.into());
        }
        let mut wanted: Vec<Entry> = self
            .entries
            .iter()
            .skip_while(|entry| entry.index < low)
            .take_while(|entry| entry.index < high)
            .cloned()
            .collect();
        raft::util::limit_size(&mut wanted, max_bytes.into());
        Ok(wanted)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index < self.cut.0 {
            return Err(StorageError::Compacted.into());
        }
        let term = self.terms.at(RaftIndex(index));
        term.map(|term| term.0)
            .ok_or_else(|| StorageError::Unavailable.into())
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut.next().0)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Only a leader or a voter in an election asks for this, and we are neither.
        Err(StorageError::SnapshotTemporarilyUnavailable.into())
    }
}
