//! The deltas of consecutive entries as one. Pure.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{LeaseId, Revision};
use crate::range::KeyRange;
use crate::range_set::RangeSet;
use crate::resolve::{Alarms, AuthDelta, Delta, KeyMeta};

/// What the entries of one batch changed in the primary's state.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Those that changed: the TTL in seconds, or None for one that ended.
    leases: BTreeMap<LeaseId, Option<i64>>,
    deletes: RangeSet,
    puts: BTreeMap<Bytes, KeyMeta>,
    reputs: Vec<(Revision, Bytes)>,
    auth: Option<AuthDelta>,
    alarms: Option<Alarms>,
    bytes: usize,
}

/// What a line takes beside its key.
const LINE_BYTES: usize = 40;

/// What `delta` adds to the record of a journal at most, but for users, roles and alarms.
#[must_use]
pub fn weight(delta: &Delta) -> usize {
    let keys = delta.puts.iter().map(|(key, _)| key);
    let keys = keys.chain(delta.reputs.iter().map(|(_, key)| key));
    let leases = LINE_BYTES * (delta.revoked.len() + delta.granted.len());
    let ranges = delta.deletes.iter().map(range_bytes);
    keys.map(line_bytes).chain(ranges).sum::<usize>() + leases
}

fn line_bytes(key: &Bytes) -> usize {
    LINE_BYTES + key.len()
}

fn range_bytes(range: &KeyRange) -> usize {
    line_bytes(range.start()) + range.end().map_or(1, Bytes::len)
}

impl Journal {
    /// Adds what the next entry changed.
    pub fn add(&mut self, delta: &Delta) {
        for range in &delta.deletes {
            self.delete(range);
        }
        let revoked = delta.revoked.iter().map(|id| (*id, None));
        let granted = delta.granted.iter().map(|(id, ttl)| (*id, Some(*ttl)));
        for (id, ttl) in revoked.chain(granted) {
            if self.leases.insert(id, ttl).is_none() {
                self.bytes += LINE_BYTES;
            }
        }
        for (key, meta) in &delta.puts {
            if self.puts.insert(key.clone(), *meta).is_none() {
                self.bytes += line_bytes(key);
            }
        }
        let reputs = delta.reputs.iter().map(|(_, key)| line_bytes(key));
        self.bytes += reputs.sum::<usize>();
        self.reputs.extend(delta.reputs.iter().cloned());
        if let Some(auth) = &delta.auth {
            match &mut self.auth {
                Some(before) => {
                    before.enabled = auth.enabled;
                    before.revision = auth.revision;
                    before.users.extend(auth.users.clone());
                    before.roles.extend(auth.roles.clone());
                    before.former.clone_from(&auth.former);
                }
                slot @ None => *slot = Some(auth.clone()),
            }
        }
        if delta.alarms.is_some() {
            self.alarms.clone_from(&delta.alarms);
        }
    }

    /// An upper bound of what the record takes, but for users, roles and alarms.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All of it as one delta.
    #[must_use]
    pub fn delta(&self) -> Delta {
        let leases = self.leases.iter();
        let revoked = leases.clone().filter(|(_, ttl)| ttl.is_none());
        let granted = leases.filter_map(|(id, ttl)| ttl.map(|ttl| (*id, ttl)));
        Delta {
            deletes: self.deletes.iter().cloned().collect(),
            revoked: revoked.map(|(id, _)| *id).collect(),
            granted: granted.collect(),
            puts: self
                .puts
                .iter()
                .map(|(key, meta)| (key.clone(), *meta))
                .collect(),
            reputs: self.reputs.clone(),
            auth: self.auth.clone(),
            alarms: self.alarms.clone(),
        }
    }

    fn delete(&mut self, range: &KeyRange) {
        let (start, end) = range.bounds();
        let owned = |bound: &[u8]| Bytes::copy_from_slice(bound);
        let bounds = (start.map(owned), end.map(owned));
        for (key, _) in self.puts.extract_if::<_, (_, _)>(bounds, |_, _| true) {
            self.bytes -= line_bytes(&key);
        }
        // Ranges that become one with it are not subtracted: the sum stays an upper bound.
        self.bytes += range_bytes(range);
        self.deletes.insert(range.clone());
    }
}
