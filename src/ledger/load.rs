//! Rebuilds the primary's state from the records of a ledger. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::part;
use super::record::{self, Error, Kind};
use super::roll::Ledger;
use crate::checkpoint::Place;
use crate::ids::LeaseId;
use crate::reserved;
use crate::resolve::{Position, PrimaryState, Settings};

/// Why a ledger cannot be used. The remedy is to install a snapshot of the primary.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// A record that counts is not there.
    #[error("the ledger's record {} is missing", String::from_utf8_lossy(.0))]
    Missing(Bytes),
    /// A record is not what it should be.
    #[error("the ledger's record {}: {}", String::from_utf8_lossy(.0), .1)]
    Record(Bytes, Error),
}

/// A loaded ledger.
#[derive(Debug)]
pub struct Loaded {
    /// The primary's state at the checkpoint.
    pub state: PrimaryState,
    /// The ledger, to go on with.
    pub ledger: Ledger,
    /// Leases that ended since the base and do not exist again.
    pub ended: BTreeSet<LeaseId>,
}

impl Loaded {
    /// A state that no ledger tells of yet.
    #[must_use]
    pub fn new(state: PrimaryState, ledger: Ledger) -> Self {
        Self {
            state,
            ledger,
            ended: BTreeSet::new(),
        }
    }
}

/// Takes the records in, in the order of their keys: first the base, then the journals.
#[derive(Debug)]
pub struct Loader {
    stream: String,
    place: Place,
    state: PrimaryState,
    chunks: u32,
    journals: u64,
    base_bytes: u64,
    journal_bytes: u64,
    ended: BTreeSet<LeaseId>,
    not_carried: BTreeSet<String>,
}

impl Loader {
    /// A loader for the ledger that a checkpoint at `position` names.
    #[must_use]
    pub fn new(stream: &str, place: Place, settings: Settings, position: Position) -> Self {
        Self {
            stream: stream.to_owned(),
            state: PrimaryState::new(settings, position),
            chunks: 0,
            journals: place.first_journal,
            place,
            base_bytes: 0,
            journal_bytes: 0,
            ended: BTreeSet::new(),
            not_carried: BTreeSet::new(),
        }
    }

    /// The key of the record that it needs next; None if it has all.
    #[must_use]
    pub fn next_key(&self) -> Option<Bytes> {
        if self.chunks < self.place.base_chunks {
            let generation = self.place.generation;
            return Some(reserved::ledger_chunk(
                &self.stream,
                generation,
                self.chunks,
            ));
        }
        (self.journals < self.place.next_journal)
            .then(|| reserved::ledger_journal(&self.stream, self.journals))
    }

    /// Takes the record in that lies under `key`.
    ///
    /// # Errors
    /// [`Damaged`] if it is not the next one, or not whole.
    pub fn take_in(&mut self, key: &Bytes, record: &[u8]) -> Result<(), Damaged> {
        let expected = self.next_key();
        if expected.as_ref() != Some(key) {
            return Err(Damaged::Missing(expected.unwrap_or_default()));
        }
        let bytes = u64::try_from(record.len()).unwrap_or(u64::MAX);
        let kind = if self.chunks < self.place.base_chunks {
            let number = u64::from(self.chunks);
            self.chunks += 1;
            self.base_bytes += bytes;
            let generation = self.place.generation;
            Kind::Chunk { generation, number }
        } else {
            let number = self.journals;
            self.journals += 1;
            self.journal_bytes += bytes;
            Kind::Journal { number }
        };
        let delta = record::open(kind, record).and_then(|body| part::decode(&body));
        let (delta, not_carried) = delta.map_err(|error| Damaged::Record(key.clone(), error))?;
        if let Some(users) = not_carried {
            self.not_carried = users;
        }
        self.ended.extend(&delta.revoked);
        self.state.take_in(delta);
        Ok(())
    }

    /// The state, and the ledger to go on with.
    ///
    /// # Errors
    /// [`Damaged::Missing`] if a record was not taken in.
    pub fn finish(mut self) -> Result<Loaded, Damaged> {
        if let Some(key) = self.next_key() {
            return Err(Damaged::Missing(key));
        }
        self.state.taken_in();
        let mut ledger = Ledger::found(
            &self.stream,
            self.place,
            self.base_bytes,
            self.journal_bytes,
        );
        ledger.restore_not_carried(self.not_carried);
        let state = self.state;
        self.ended.retain(|id| state.lease(*id).is_none());
        Ok(Loaded {
            state,
            ledger,
            ended: self.ended,
        })
    }
}
