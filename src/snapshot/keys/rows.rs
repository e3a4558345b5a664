//! Keys and what is known of them, packed.

use super::{LiveKey, ValueAt};
use crate::ids::{LeaseId, Revision};

/// Keys in the order in which they were first met.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    rows: Vec<Row>,
    /// The keys themselves, one after the other.
    names: Vec<u8>,
}

/// The newest record of a key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    /// Where its name begins; it ends where that of the next row begins.
    pub(super) name_at: usize,
    pub(super) value: u64,
    pub(super) created: i64,
    /// The revision of the record.
    pub(super) modified: i64,
    /// 0 for a tombstone.
    pub(super) version: i64,
    pub(super) lease: i64,
    pub(super) value_bytes: u32,
    /// The record's place in its revision.
    pub(super) sub: u32,
}

impl Row {
    /// Takes what another record says of the same key.
    pub(super) fn update(&mut self, newer: Self) {
        *self = Self {
            name_at: self.name_at,
            ..newer
        };
    }
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn push(&mut self, name: &[u8], row: Row) {
        let name_at = self.names.len();
        self.names.extend_from_slice(name);
        self.rows.push(Row { name_at, ..row });
    }

    pub(super) fn row_mut(&mut self, place: u32) -> Option<&mut Row> {
        self.rows.get_mut(usize::try_from(place).ok()?)
    }

    /// The name of a row, which exists.
    pub(super) fn name(&self, place: u32) -> &[u8] {
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        self.names.get(self.name_range(place)).unwrap_or_default()
    }

    fn name_range(&self, place: usize) -> std::ops::Range<usize> {
        let start = self.rows.get(place).map_or(0, |row| row.name_at);
        let next = self.rows.get(place.saturating_add(1));
        start..next.map_or(self.names.len(), |row| row.name_at)
    }

    /// The live key of a row.
    pub(super) fn live(&self, place: u32) -> Option<LiveKey<'_>> {
        let row = self.rows.get(usize::try_from(place).ok()?)?;
        Some(LiveKey {
            key: self.name(place),
            created: Revision(row.created),
            modified: Revision(row.modified),
            version: row.version,
            lease: LeaseId(row.lease),
            value: ValueAt {
                offset: row.value,
                bytes: row.value_bytes,
            },
        })
    }

    /// Drops the tombstones. The rest moves to other places.
    pub(super) fn drop_dead(&mut self) {
        let mut live = 0;
        let mut names_end = 0;
        for place in 0..self.rows.len() {
            // The row behind this one is still where it was.
            let name = self.name_range(place);
            let Some(&row) = self.rows.get(place).filter(|row| row.version != 0) else {
                continue;
            };
            let name_bytes = name.len();
            self.names.copy_within(name, names_end);
            if let Some(slot) = self.rows.get_mut(live) {
                *slot = Row {
                    name_at: names_end,
                    ..row
                };
            }
            live += 1;
            names_end += name_bytes;
        }
        self.rows.truncate(live);
        self.names.truncate(names_end);
        self.rows.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.names.capacity() + self.rows.capacity() * size_of::<Row>()
    }
}
