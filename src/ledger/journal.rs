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
}

impl Journal {
    /// Adds what the next entry changed.
    pub fn add(&mut self, delta: &Delta) {
        for range in &delta.deletes {
            self.delete(range);
        }
        for id in &delta.revoked {
            self.leases.insert(*id, None);
        }
        for (id, ttl) in &delta.granted {
            self.leases.insert(*id, Some(*ttl));
        }
        for (key, meta) in &delta.puts {
            self.puts.insert(key.clone(), *meta);
        }
        self.reputs.extend(delta.reputs.iter().cloned());
        if let Some(auth) = &delta.auth {
            match &mut self.auth {
                Some(before) => {
                    before.enabled = auth.enabled;
                    before.revision = auth.revision;
                    before.users.extend(auth.users.clone());
                    before.roles.extend(auth.roles.clone());
                }
                slot @ None => *slot = Some(auth.clone()),
            }
        }
        if delta.alarms.is_some() {
            self.alarms.clone_from(&delta.alarms);
        }
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
        self.puts
            .extract_if::<_, (_, _)>(bounds, |_, _| true)
            .for_each(drop);
        self.deletes.insert(range.clone());
    }
}
