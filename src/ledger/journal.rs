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
    leases: BTreeMap<LeaseId, Fate>,
    deletes: RangeSet,
    puts: BTreeMap<Bytes, KeyMeta>,
    reputs: Vec<(Revision, Bytes)>,
    auth: Option<AuthDelta>,
    alarms: Option<Alarms>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, Default)]
struct Fate {
    /// It ended, whatever came then.
    revoked: bool,
    /// In the end it exists, granted since.
    granted: Option<i64>,
}

impl Journal {
    /// Adds what the next entry changed.
    pub fn add(&mut self, delta: &Delta) {
        for id in &delta.revoked {
            self.revoke(*id);
        }
        for range in &delta.deletes {
            self.delete(range);
        }
        for (id, ttl) in &delta.granted {
            self.leases.entry(*id).or_default().granted = Some(*ttl);
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
        let fates = self.leases.iter();
        let revoked = fates.clone().filter(|(_, fate)| fate.revoked);
        let granted = fates.filter_map(|(id, fate)| fate.granted.map(|ttl| (*id, ttl)));
        Delta {
            revoked: revoked.map(|(id, _)| *id).collect(),
            deletes: self.deletes.iter().cloned().collect(),
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

    /// The keys that were attached before go when this is taken in; those attached since are named.
    fn revoke(&mut self, id: LeaseId) {
        let fate = self.leases.entry(id).or_default();
        *fate = Fate {
            revoked: true,
            granted: None,
        };
        let attached: Vec<Bytes> = self
            .puts
            .extract_if(.., |_, meta| meta.lease == id)
            .map(|(key, _)| key)
            .collect();
        for key in attached {
            self.deletes.insert(KeyRange::single(&key));
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
