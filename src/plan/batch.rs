//! A batch: the effects of consecutive entries, as one set of writes. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;
use raft::eraftpb::ConfState;

use super::LeasePlan;
use crate::ids::{LeaseId, RaftIndex, Revision, Term};
use crate::ledger::Journal;
use crate::range::KeyRange;
use crate::range_set::RangeSet;
use crate::resolve::{AuthChange, Changes, Delta, LeaseChange, Put, Value};

/// What one entry adds to a batch: its position, and the part of its effect that is replicated.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The entry.
    pub index: RaftIndex,
    /// Its term.
    pub term: Term,
    /// The primary's revision after it.
    pub revision: Revision,
    /// The primary's compact revision after it.
    pub compact_revision: Revision,
    /// The primary's members after it, if it changed them.
    pub members: Option<ConfState>,
    /// What it did to keys, as the standby is to do it: see [`on_standby`](super::on_standby).
    pub changes: Changes,
    /// What it did to a lease.
    pub lease: Option<LeaseChange>,
    /// What it did to users and roles.
    pub auth: Vec<AuthChange>,
    /// What it changed in the primary's state, for the ledger.
    pub delta: Delta,
}

/// One operation of a batch on the standby.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Write a key. A kept value is the one that the standby holds already.
    Put(Put),
    /// Delete every key in a range.
    Delete(KeyRange),
}

/// The effects of consecutive entries, merged: a key appears in at most one write, so the order of
/// the writes does not matter, and etcd takes them in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    units: Vec<Unit>,
    puts: BTreeMap<Bytes, (Value, LeaseId)>,
    deletes: RangeSet,
    journal: Journal,
    bytes: usize,
}

/// What each operation costs in a request beside its key and value: tags, lengths and the lease.
const OP_OVERHEAD_BYTES: usize = 36;

impl Batch {
    /// The entries, in order, never none in a batch that was handed out.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// Number of operations.
    #[must_use]
    pub fn ops(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    /// An upper bound of what the operations and the journal weigh in a request. What is not in
    /// scope is in the journal all the same.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes + self.journal.bytes()
    }

    /// True if users, roles or auth changed. Then no key did: see [`super::Planner`].
    #[must_use]
    pub fn changes_auth(&self) -> bool {
        self.units.iter().any(|unit| !unit.auth.is_empty())
    }

    /// What the entries changed in the primary's state, as one.
    #[must_use]
    pub fn delta(&self) -> Delta {
        self.journal.delta()
    }

    /// What the entries ask of the standby's leases.
    #[must_use]
    pub fn leases(&self) -> LeasePlan {
        LeasePlan::of(self.units.iter().filter_map(|unit| unit.lease))
    }

    /// The operations.
    pub fn writes(&self) -> impl Iterator<Item = Write> + '_ {
        let deletes = self.deletes.iter().cloned().map(Write::Delete);
        let puts = self.puts.iter().map(|(key, (value, lease))| {
            Write::Put(Put {
                key: key.clone(),
                value: value.clone(),
                lease: *lease,
            })
        });
        deletes.chain(puts)
    }

    /// True if `changes` touch a key that the batch touches already, so that taking them in would
    /// leave out a state that the key had between.
    #[must_use]
    pub fn touches(&self, changes: &Changes) -> bool {
        changes.puts.iter().any(|put| {
            self.puts.contains_key(&put.key) || self.deletes.overlaps(&KeyRange::single(&put.key))
        }) || changes.deletes.iter().any(|range| {
            self.puts.range::<[u8], _>(range.bounds()).next().is_some()
                || self.deletes.overlaps(range)
        })
    }

    /// True if an entry of it wrote or deleted `key`, which is named as on the standby.
    #[must_use]
    pub fn touches_key(&self, key: &[u8]) -> bool {
        self.units.iter().any(|unit| unit.changes.touch(key))
    }

    /// Adds the next entry; of a key that was touched before only the last state remains.
    ///
    /// # Panics
    /// If the entry does not follow the last one.
    pub fn add(&mut self, unit: Unit) {
        if let Some(last) = self.units.last() {
            assert!(
                unit.index == last.index.next(),
                "{} follows {}",
                unit.index,
                last.index
            );
            assert!(
                unit.term >= last.term && unit.revision >= last.revision,
                "time runs backwards"
            );
        }
        for range in &unit.changes.deletes {
            self.delete(range);
        }
        for put in &unit.changes.puts {
            self.put(put);
        }
        self.journal.add(&unit.delta);
        self.units.push(unit);
    }

    /// Parts the batch into two that do the same one after the other; None if it is one entry.
    #[must_use]
    pub fn split(self) -> Option<(Self, Self)> {
        if self.units.len() < 2 {
            return None;
        }
        let mut first = self.units;
        let second = first.split_off(first.len() / 2);
        let rebuild = |units: Vec<Unit>| {
            let mut batch = Self::default();
            units.into_iter().for_each(|unit| batch.add(unit));
            batch
        };
        Some((rebuild(first), rebuild(second)))
    }

    fn delete(&mut self, range: &KeyRange) {
        let gone: Vec<Bytes> = self
            .puts
            .range::<[u8], _>(range.bounds())
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some((value, _)) = self.puts.remove(&key) {
                self.bytes -= put_bytes(&key, &value);
            }
        }
        // Ranges that become one with it are not subtracted: the sum stays an upper bound.
        self.bytes += delete_bytes(range);
        self.deletes.insert(range.clone());
    }

    fn put(&mut self, put: &Put) {
        let single = KeyRange::single(&put.key);
        if self.deletes.overlaps(&single) {
            // The put parts a range in two, and its key becomes an end of each part.
            self.bytes += 2 * delete_bytes(&single);
            self.deletes.remove(&single);
        }
        if let (Value::Kept, Some((_, lease))) = (&put.value, self.puts.get_mut(&put.key)) {
            *lease = put.lease;
            return;
        }
        self.bytes += put_bytes(&put.key, &put.value);
        if let Some((old, _)) = self
            .puts
            .insert(put.key.clone(), (put.value.clone(), put.lease))
        {
            self.bytes -= put_bytes(&put.key, &old);
        }
    }
}

/// What the operations for `changes` weigh in a request at most.
#[must_use]
pub fn weight(changes: &Changes) -> usize {
    let puts = changes
        .puts
        .iter()
        .map(|put| put_bytes(&put.key, &put.value));
    let deletes = changes.deletes.iter().map(delete_bytes);
    puts.chain(deletes).sum()
}

fn put_bytes(key: &Bytes, value: &Value) -> usize {
    let value_bytes = match value {
        Value::Given(value) => value.len(),
        Value::Kept => 0,
    };
    OP_OVERHEAD_BYTES + key.len() + value_bytes
}

fn delete_bytes(range: &KeyRange) -> usize {
    OP_OVERHEAD_BYTES + range.start().len() + range.end().map_or(1, Bytes::len)
}
