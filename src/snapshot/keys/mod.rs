//! The live keys of a database, without their values. Pure.
//!
//! # Algorithm and cost
//! Bucket `key` is ordered by revision, and the newest record of a key says all about it. So every
//! record is looked up by its key in a hash table, and the newer of the two stays, in whatever
//! order records come: they are read as they lie in the file. At the end what is dead is dropped
//! and the rest sorted by key.
//!
//! A key costs its own bytes once and 60 bytes more. While records come there is a hash table of up
//! to 21 bytes for each key, tombstones included, and while keys are sorted there are 16. So 10 M
//! keys of 46 bytes take 1.1 GB, and 1.2 GB at most. Each deletion above the compact revision takes
//! 16 bytes more, and so does each key that was created there by a transaction.

mod collect;
mod order;
mod rows;

use crate::ids::{LeaseId, Revision};

pub(super) use collect::Collector;
pub use collect::Reputs;
use rows::Rows;

/// Every live key, ascending.
#[derive(Clone, Debug, Default)]
pub struct LiveKeys {
    rows: Rows,
    /// Places of rows, by their keys.
    order: Vec<u32>,
}

/// A live key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveKey<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The revision that created it.
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
    /// How often it was written since it was created, from 1.
    pub version: i64,
    /// Its lease, 0 for none.
    pub lease: LeaseId,
    /// Where its value lies.
    pub value: ValueAt,
}

/// Where in a database file a value lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct ValueAt {
    /// Of its first byte.
    pub offset: u64,
    /// How long it is.
    pub bytes: u32,
}

impl LiveKeys {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True if there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The key at a place in ascending order.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<LiveKey<'_>> {
        self.rows.live(*self.order.get(place)?)
    }

    /// The key with this name.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> Option<LiveKey<'_>> {
        let place = self
            .order
            .binary_search_by(|row| self.rows.name(*row).cmp(key));
        self.get(place.ok()?)
    }

    /// Every key, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = LiveKey<'_>> {
        // Every row in the order is a live one, so none is left out.
        self.order
            .iter()
            .map(|row| self.rows.live(*row).unwrap_or(NO_KEY))
    }

    /// How much memory they take.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.order.capacity() * size_of::<u32>()
    }
}

const NO_KEY: LiveKey<'static> = LiveKey {
    key: b"",
    created: Revision(0),
    modified: Revision(0),
    version: 0,
    lease: LeaseId(0),
    value: ValueAt {
        offset: 0,
        bytes: 0,
    },
};
