//! Takes the records of bucket `key` in any order, and keeps the newest of each key.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::order::sorted;
use super::rows::{Row, Rows};
use super::{LiveKeys, ValueAt};
use crate::ids::Revision;
use crate::snapshot::store::{Flaw, Record, RecordKey};

/// Collects records.
#[derive(Debug)]
pub(in crate::snapshot) struct Collector {
    rows: Rows,
    table: HashTable<Slot>,
    /// A keyed hash, since whoever can write to the primary chooses the keys.
    hasher: RandomState,
    compact_revision: Revision,
    deletions: Vec<Touch>,
    creations: Vec<Touch>,
}

/// Where the row of a name is. The hash of the name stands beside it, so that a table that grows
/// need not read all names again.
#[derive(Clone, Copy, Debug)]
struct Slot {
    hash: u32,
    row: u32,
}

impl Slot {
    /// The hash that the table works with: half of one, in both halves.
    fn table_hash(&self) -> u64 {
        u64::from(self.hash) * 0x1_0000_0001
    }
}

/// A change of a key above the compact revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Touch {
    revision: i64,
    row: u32,
    sub: u32,
}

/// Revisions with the keys that each deleted and put again, ascending.
pub type Reputs = Vec<(Revision, Box<[u8]>)>;

impl Collector {
    /// For a database with this compact revision.
    #[must_use]
    pub(in crate::snapshot) fn new(compact_revision: Revision) -> Self {
        Self {
            rows: Rows::default(),
            table: HashTable::new(),
            hasher: RandomState::new(),
            compact_revision,
            deletions: Vec::new(),
            creations: Vec::new(),
        }
    }

    /// Takes a record that names a key. `value`: where in the file its value lies.
    ///
    /// # Errors
    /// What no etcd writes.
    pub(in crate::snapshot) fn take(
        &mut self,
        at: RecordKey,
        record: &Record<'_>,
        value: ValueAt,
    ) -> Result<(), Flaw> {
        let row = if at.is_tombstone {
            if record.key.is_empty() {
                return Err(Flaw::Unknown("it is a tombstone without a key"));
            }
            Row::default()
        } else {
            record.check_put(at.main)?;
            Row {
                value: value.offset,
                value_bytes: value.bytes,
                created: record.created.0,
                version: record.version,
                lease: record.lease.0,
                ..Row::default()
            }
        };
        let row = Row {
            modified: at.main.0,
            sub: at.sub,
            ..row
        };
        let place = self.keep_newest(record.key, row)?;
        if at.main > self.compact_revision {
            let touch = Touch {
                revision: at.main.0,
                row: place,
                sub: at.sub,
            };
            if at.is_tombstone {
                self.deletions.push(touch);
            } else if record.created == at.main && at.sub > 0 {
                self.creations.push(touch);
            }
        }
        Ok(())
    }

    /// The place of the key, which holds the row unless a newer one was there.
    fn keep_newest(&mut self, name: &[u8], row: Row) -> Result<u32, Flaw> {
        let [.., a, b, c, d] = self.hasher.hash_one(name).to_le_bytes();
        let slot = Slot {
            hash: u32::from_le_bytes([a, b, c, d]),
            row: u32::try_from(self.rows.len()).map_err(|_| Flaw::Range("how many keys"))?,
        };
        let is_of_name =
            |known: &Slot| known.hash == slot.hash && self.rows.name(known.row) == name;
        let Some(known) = self.table.find(slot.table_hash(), is_of_name) else {
            self.rows.push(name, row);
            self.table
                .insert_unique(slot.table_hash(), slot, Slot::table_hash);
            return Ok(slot.row);
        };
        if let Some(stored) = self.rows.row_mut(known.row) {
            match (row.modified, row.sub).cmp(&(stored.modified, stored.sub)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Greater => stored.update(row),
                std::cmp::Ordering::Equal => {
                    return Err(Flaw::Unknown("a key has two records of one revision"));
                }
            }
        }
        Ok(known.row)
    }

    /// All live keys, and what was deleted and put again above the compact revision.
    #[must_use]
    pub(in crate::snapshot) fn finish(mut self) -> (LiveKeys, Reputs) {
        drop(self.table);
        let mut reputs = Reputs::new();
        self.deletions.sort_unstable();
        self.creations.sort_unstable();
        for (at, creation) in self.creations.iter().enumerate() {
            let is_of =
                |touch: &Touch| (touch.revision, touch.row) == (creation.revision, creation.row);
            if self.creations.get(at + 1).is_some_and(is_of) {
                continue;
            }
            // The last time that the revision put the key; is the last deletion before it?
            let behind = self.deletions.partition_point(|touch| touch < creation);
            let before = behind.checked_sub(1).and_then(|at| self.deletions.get(at));
            let is_reput = before.is_some_and(is_of);
            let is_deleted = self.deletions.get(behind).is_some_and(is_of);
            if is_reput && !is_deleted {
                let name = self.rows.name(creation.row).into();
                reputs.push((Revision(creation.revision), name));
            }
        }
        reputs.sort_unstable();
        drop((self.deletions, self.creations));

        let mut rows = self.rows;
        rows.drop_dead();
        // No more than there were before.
        let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let order = sorted(count, |place| rows.name(place));
        (LiveKeys { rows, order }, reputs)
    }
}
