//! A part of a difference that one transaction carries. Pure.

use bytes::Bytes;

use crate::ids::LeaseId;
use crate::plan::{self, Write};
use crate::range::KeyRange;
use crate::resolve::{Changes, Delta, KeyMeta, Put, Value};
use crate::scope::Scope;

/// What to write, and what the standby is known to hold then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Piece {
    /// Keys that the snapshot has otherwise, ascending.
    pub rows: Vec<Row>,
    /// Keys that the snapshot does not have, ascending.
    pub deletes: Vec<Bytes>,
    /// Leases that the snapshot has, and their TTLs in seconds.
    pub granted: Vec<(LeaseId, i64)>,
    /// What follows all keys.
    pub rest: Delta,
}

/// A key of the snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The key.
    pub key: Bytes,
    /// What the primary knows of it.
    pub meta: KeyMeta,
    /// The lease that it is attached to, 0 for none: its lease field may name one that is gone.
    pub lease: LeaseId,
    /// What to write; None if the standby has it, and only its revisions are new, or is not to have
    /// it.
    pub value: Option<Value>,
}

impl Piece {
    /// True if there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.deletes.is_empty()
            && self.granted.is_empty()
            && self.rest.is_empty()
    }

    /// The operations on those keys that are in scope, under the standby's names.
    #[must_use]
    pub fn writes(&self, scope: &Scope) -> Vec<Write> {
        let puts = self.rows.iter().filter_map(|row| {
            let value = row.value.clone()?;
            Some(Put {
                key: row.key.clone(),
                value,
                lease: row.lease,
            })
        });
        let changes = Changes {
            puts: puts.collect(),
            deletes: self.deletes.iter().map(KeyRange::single).collect(),
        };
        let changes = plan::on_standby(changes, scope);
        let deletes = changes.deletes.into_iter().map(Write::Delete);
        deletes
            .chain(changes.puts.into_iter().map(Write::Put))
            .collect()
    }

    /// What the ledger is to know.
    #[must_use]
    pub fn delta(&self) -> Delta {
        let mut delta = self.rest.clone();
        delta
            .deletes
            .extend(self.deletes.iter().map(KeyRange::single));
        delta.granted.extend(self.granted.iter().copied());
        let rows = self.rows.iter();
        delta
            .puts
            .extend(rows.map(|row| (row.key.clone(), row.meta)));
        delta
    }

    /// Parts it into two to be written one after the other; None if it is a single key.
    #[must_use]
    pub fn split(mut self) -> Option<(Self, Self)> {
        if self.rows.len() + self.deletes.len() + self.granted.len() < 2 {
            return None;
        }
        let second = Self {
            rows: self.rows.split_off(self.rows.len() / 2),
            deletes: self.deletes.split_off(self.deletes.len() / 2),
            granted: self.granted.split_off(self.granted.len() / 2),
            rest: std::mem::take(&mut self.rest),
        };
        // Leases come before keys that are attached to them.
        let mut first = self;
        let mut second = second;
        first.granted.append(&mut second.granted);
        if first.rows.is_empty() && first.deletes.is_empty() {
            second.granted = first.granted.split_off(first.granted.len() / 2);
        }
        Some((first, second))
    }
}
