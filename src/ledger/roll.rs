//! Which records make up the ledger, and what is to be written to it next. Pure.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::part;
use super::rebase::Rebase;
use super::record::{self, Kind};
use crate::checkpoint::Place;
use crate::ids::RaftIndex;
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{Delta, DigestKey, PrimaryState};

/// Bytes of base that reading costs as much as one journal.
const BYTES_PER_JOURNAL: u64 = 512;
/// A standby that takes no request of this size cannot be written at all.
const CHUNK_BYTES_MIN: usize = 4 << 10;

/// How a ledger is divided.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of journals below which a new base is never worth it.
    pub journal_bytes_min: u64,
    /// Nor is it for so few journals.
    pub journals_min: u64,
    /// About the size of a chunk.
    pub chunk_bytes: usize,
    /// How many journals are deleted in one transaction, so that none takes long.
    pub journals_deleted: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            journal_bytes_min: 8 << 20,
            journals_min: 1 << 16,
            // Far below etcd's default limit of a request.
            chunk_bytes: 256 << 10,
            journals_deleted: 2_000,
        }
    }
}

/// A write to the ledger between batches, together with a checkpoint that says `place`.
#[derive(Clone, Debug)]
pub struct Step {
    /// A record to put.
    pub put: Option<(Bytes, Bytes)>,
    /// Records to delete.
    pub delete: Option<KeyRange>,
    /// What counts from then on.
    pub place: Place,
    after: After,
}

#[derive(Clone, Debug)]
enum After {
    /// The base that is being written has one chunk more.
    Chunk(Rebase),
    /// It is in force.
    Switched(Rebase),
    /// Left-overs are gone.
    Cleared,
}

/// The ledger of a stream.
#[derive(Debug)]
pub struct Ledger {
    stream: String,
    place: Place,
    base_bytes: u64,
    journal_bytes: u64,
    sizes: Sizes,
    rebase: Option<Rebase>,
    left_over: VecDeque<KeyRange>,
    /// Users whose password the standby does not have, and whether a record says so.
    not_carried: BTreeSet<String>,
    is_told: bool,
}

impl Ledger {
    /// The ledger of a state without anything in it, in place of `old`, of which nothing counts any
    /// more.
    #[must_use]
    pub fn new(stream: &str, old: Option<&Place>, digest_key: &DigestKey) -> Self {
        let mut place = Place::empty(*digest_key.random());
        if let Some(old) = old {
            // Numbers are used once, so records of both are never taken for each other.
            place.generation = old.generation + 1;
            place.first_journal = old.next_journal;
            place.next_journal = old.next_journal;
        }
        Self::found(stream, place, 0, 0)
    }

    /// A ledger of this size that was read.
    pub(super) fn found(stream: &str, place: Place, base_bytes: u64, journal_bytes: u64) -> Self {
        let base = reserved::ledger_base(stream, place.generation);
        let mut left_over: VecDeque<_> = reserved::ledger_bases(stream).without(&base).into();
        let journals = reserved::ledger_journal(stream, 0);
        let first = reserved::ledger_journal(stream, place.first_journal);
        left_over.extend(KeyRange::between(journals, first));
        Self {
            stream: stream.to_owned(),
            place,
            base_bytes,
            journal_bytes,
            sizes: Sizes::default(),
            rebase: None,
            left_over,
            not_carried: BTreeSet::new(),
            is_told: true,
        }
    }

    /// Which records count.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Bytes of all records that count.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.base_bytes + self.journal_bytes
    }

    /// Whose password the standby does not have; the next journal says so.
    pub fn note_not_carried(&mut self, users: BTreeSet<String>) {
        if self.not_carried != users {
            self.not_carried = users;
            self.is_told = false;
        }
    }

    /// Whose password the standby does not have.
    #[must_use]
    pub fn not_carried(&self) -> &BTreeSet<String> {
        &self.not_carried
    }

    pub(super) fn restore_not_carried(&mut self, users: BTreeSet<String>) {
        self.not_carried = users;
    }

    /// True if a journal must be written though no batch changed anything.
    #[must_use]
    pub fn has_news(&self) -> bool {
        !self.is_told
    }

    /// The record of what a batch changed, and what counts once it is written; None if there is
    /// nothing to say.
    #[must_use]
    pub fn journal(&self, delta: &Delta, digest_key: &DigestKey) -> Option<(Bytes, Bytes, Place)> {
        if delta.is_empty() && self.is_told {
            return None;
        }
        let number = self.place.next_journal;
        let not_carried = (!self.is_told).then_some(&self.not_carried);
        let body = part::encode(delta, not_carried, digest_key);
        let record = record::seal(Kind::Journal { number }, &body);
        let mut place = self.place.clone();
        place.next_journal += 1;
        Some((
            reserved::ledger_journal(&self.stream, number),
            record,
            place,
        ))
    }

    /// The journal of a batch, `bytes` long, is written.
    pub fn journaled(&mut self, place: Place, bytes: usize) {
        self.is_told |= place.next_journal > self.place.next_journal;
        self.place = place;
        self.journal_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// What to write next beside batches, if anything: `state` is the one after the last entry that
    /// was resolved, and the standby holds everything up to `durable`.
    #[must_use]
    pub fn step(&self, state: &PrimaryState, durable: RaftIndex) -> Option<Step> {
        if let Some(range) = self.left_over.front() {
            return Some(Step {
                put: None,
                delete: Some(range.clone()),
                place: self.place.clone(),
                after: After::Cleared,
            });
        }
        let mut rebase = match &self.rebase {
            Some(rebase) => rebase.clone(),
            None if self.is_overgrown() => {
                let generation = self.place.generation + 1;
                Rebase::new(generation, self.place.next_journal, self.journal_bytes)
            }
            None => return None,
        };
        if let Some((number, record)) =
            rebase.next_chunk(state, &self.not_carried, self.sizes.chunk_bytes)
        {
            let key = reserved::ledger_chunk(&self.stream, rebase.generation, number);
            return Some(Step {
                put: Some((key, record)),
                delete: None,
                place: self.place.clone(),
                after: After::Chunk(rebase),
            });
        }
        if durable < rebase.reached {
            return None;
        }
        let mut place = self.place.clone();
        place.generation = rebase.generation;
        place.base_chunks = rebase.chunks;
        place.first_journal = rebase.first_journal;
        Some(Step {
            put: None,
            delete: None,
            place,
            after: After::Switched(rebase),
        })
    }

    /// The step is written.
    pub fn stepped(&mut self, step: Step) {
        match step.after {
            After::Chunk(rebase) => self.rebase = Some(rebase),
            After::Cleared => {
                self.left_over.pop_front();
            }
            After::Switched(rebase) => {
                let old = std::mem::replace(&mut self.place, step.place);
                self.left_over
                    .push_back(reserved::ledger_base(&self.stream, old.generation));
                self.discard_journals(old.first_journal, self.place.first_journal);
                self.rebase = None;
                self.journal_bytes -= rebase.covered;
                self.base_bytes = rebase.bytes;
            }
        }
    }

    /// The standby refused the step's size. False if nothing smaller can be tried.
    #[must_use]
    pub fn shrink(&mut self) -> bool {
        self.sizes.chunk_bytes /= 2;
        self.sizes.chunk_bytes >= CHUNK_BYTES_MIN
    }

    /// Goes on with these sizes; what is written already stays as it is.
    pub fn set_sizes(&mut self, sizes: Sizes) {
        self.sizes = sizes;
    }

    #[cfg(test)]
    pub(super) fn begin_rebase(&mut self) {
        if self.rebase.is_none() {
            let generation = self.place.generation + 1;
            let rebase = Rebase::new(generation, self.place.next_journal, self.journal_bytes);
            self.rebase = Some(rebase);
        }
    }

    /// True while a base is being written.
    #[must_use]
    pub fn is_rebasing(&self) -> bool {
        self.rebase.is_some()
    }

    fn is_overgrown(&self) -> bool {
        let journals = self.place.next_journal - self.place.first_journal;
        self.journal_bytes > self.base_bytes.max(self.sizes.journal_bytes_min)
            || journals
                > self
                    .sizes
                    .journals_min
                    .max(self.base_bytes / BYTES_PER_JOURNAL)
    }

    fn discard_journals(&mut self, first: u64, behind: u64) {
        let mut from = first;
        while from < behind {
            let to = behind.min(from.saturating_add(self.sizes.journals_deleted));
            let start = reserved::ledger_journal(&self.stream, from);
            let end = reserved::ledger_journal(&self.stream, to);
            self.left_over.extend(KeyRange::between(start, end));
            from = to;
        }
    }
}
