//! The primary's metadata as of one log index, without values.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use super::alarm::Alarms;
use super::auth::{AuthState, FormerRecords};
use super::digest::{Digest, DigestKey};
use super::rules::Rules;
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision};
use crate::range::KeyRange;

/// The smallest lease TTL in seconds that members with etcd's default timeouts grant.
pub const DEFAULT_LEASE_TTL_MIN: i64 = 2;

/// What the state takes as given.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Makes the digests that stand in for values.
    pub digest_key: DigestKey,
    /// The primary's smallest lease TTL in seconds, to which it raises smaller ones. It follows
    /// from the members' election timeout and is 2 with etcd's defaults.
    pub lease_ttl_min: i64,
    /// How the primary's release applies entries.
    pub rules: Rules,
    /// How many voting members the primary has.
    pub voters: usize,
}

/// What is known of one live key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMeta {
    /// The revision that created it.
    pub created: Revision,
    /// The revision that last wrote it.
    pub modified: Revision,
    /// How often it was written since it was created, from 1.
    pub version: i64,
    /// Its lease field, 0 for none.
    pub lease: LeaseId,
    /// Of its value, under the state's [`DigestKey`].
    pub digest: Digest,
}

/// A live lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    ttl: i64,
    remaining: i64,
    keys: BTreeSet<Box<[u8]>>,
}

impl Lease {
    /// The TTL in seconds as the primary stored it.
    #[must_use]
    pub fn ttl(&self) -> i64 {
        self.ttl
    }

    /// What was left of the TTL in seconds at the last checkpoint of the lease; 0 without one.
    #[must_use]
    pub fn remaining(&self) -> i64 {
        self.remaining
    }

    /// The keys attached to it, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.keys.iter().map(AsRef::as_ref)
    }
}

/// Where in the primary's history a state stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last entry whose effect is in the state, 0 for none.
    pub index: RaftIndex,
    /// Revision of the keyspace.
    pub revision: Revision,
    /// Compact revision, -1 before the first compaction.
    pub compact_revision: Revision,
}

impl Position {
    /// Before the first entry of a new cluster.
    pub const START: Self = Self {
        index: RaftIndex(0),
        revision: Revision(1),
        compact_revision: Revision(-1),
    };
}

/// The primary's metadata as of one log index: keys, leases, users, roles, alarms and revisions.
///
/// Holds no part of an entry's buffer: keys are copied.
#[derive(Clone, Debug)]
pub struct PrimaryState {
    pub(super) settings: Settings,
    pub(super) position: Position,
    keys: BTreeMap<Box<[u8]>, KeyMeta>,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    reputs: BTreeMap<Revision, BTreeSet<Box<[u8]>>>,
    pub(super) auth: AuthState,
    pub(super) former: FormerRecords,
    pub(super) alarms: Alarms,
}

impl PrimaryState {
    /// A state at `position` without keys, leases, users, roles and alarms, to be filled by the
    /// `restore_` functions.
    #[must_use]
    pub fn new(settings: Settings, position: Position) -> Self {
        Self {
            settings,
            position,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            reputs: BTreeMap::new(),
            auth: AuthState::default(),
            former: FormerRecords::default(),
            alarms: Alarms::default(),
        }
    }

    /// Adds a lease that existed at the state's position. All leases come before the first key.
    pub fn restore_lease(&mut self, id: LeaseId, ttl: i64, remaining: i64) {
        let lease = Lease {
            ttl,
            remaining,
            keys: BTreeSet::new(),
        };
        self.leases.insert(id, lease);
    }

    /// Makes sure that a lease exists, with this TTL; the keys that it has stay.
    pub(super) fn set_lease(&mut self, id: LeaseId, ttl: i64) {
        self.leases.entry(id).or_default().ttl = ttl;
    }

    /// Adds a key that existed at the state's position; it is attached if its lease exists.
    pub fn restore_key(&mut self, key: &[u8], meta: KeyMeta) {
        self.set_key(key, meta);
    }

    /// Adds a key that `revision`, which is above the compact revision, deleted and then put again.
    pub fn restore_reput(&mut self, revision: Revision, key: &[u8]) {
        let keys = self.reputs.entry(revision).or_default();
        keys.insert(key.into());
    }

    /// Sets users and roles as they were at the state's position.
    pub fn restore_auth(&mut self, auth: AuthState) {
        self.auth = auth;
    }

    /// Adds an alarm that was raised at the state's position.
    pub fn restore_alarm(&mut self, member: MemberId, kind: i32) {
        self.alarms.restore(member, kind);
    }

    /// Moves the state to another place in the primary's history, whose changes were taken in.
    pub fn restore_position(&mut self, position: Position) {
        self.position = position;
    }

    /// Applies the following entries as another release does. Its members started for it.
    pub fn set_rules(&mut self, rules: Rules) {
        if self.settings.rules != rules {
            self.settings.rules = rules;
            self.former.forget();
            self.alarms.release_changed();
        }
    }

    /// Says how many voting members the primary has from now on.
    pub fn set_voters(&mut self, voters: usize) {
        self.settings.voters = voters;
    }

    /// Where the state stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the state takes as given.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What makes the digests in [`KeyMeta`].
    #[must_use]
    pub fn digest_key(&self) -> &DigestKey {
        &self.settings.digest_key
    }

    /// Users and roles.
    #[must_use]
    pub fn auth(&self) -> &AuthState {
        &self.auth
    }

    /// The raised alarms.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// What is known of `key`; None if it does not exist.
    #[must_use]
    pub fn key(&self, key: &[u8]) -> Option<&KeyMeta> {
        self.keys.get(key)
    }

    /// Every key, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (&[u8], &KeyMeta)> {
        self.keys.iter().map(|(key, meta)| (key.as_ref(), meta))
    }

    /// The keys in `range`, ascending.
    pub fn keys_in(&self, range: &KeyRange) -> impl Iterator<Item = (&[u8], &KeyMeta)> {
        self.keys
            .range::<[u8], _>(range.bounds())
            .map(|(key, meta)| (key.as_ref(), meta))
    }

    /// The lease, if it exists.
    #[must_use]
    pub fn lease(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// Every lease, by id.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = (LeaseId, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// The leases behind this one, or all, by id.
    pub fn leases_after(&self, id: Option<LeaseId>) -> impl Iterator<Item = (LeaseId, &Lease)> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        let leases = self.leases.range((from, Bound::Unbounded));
        leases.map(|(id, lease)| (*id, lease))
    }

    /// The revisions above the compact revision that deleted keys and put them again, with these
    /// keys. A compaction exactly there loses them in the primary (etcd issue 22376).
    pub fn reputs(&self) -> impl Iterator<Item = (Revision, impl Iterator<Item = &[u8]>)> {
        self.reputs
            .iter()
            .map(|(revision, keys)| (*revision, keys.iter().map(AsRef::as_ref)))
    }

    /// The keys that `revision` deleted and put again.
    pub(super) fn reputs_at(&self, revision: Revision) -> impl Iterator<Item = Bytes> {
        let keys = self.reputs.get(&revision).into_iter().flatten();
        keys.map(|key| Bytes::copy_from_slice(key))
    }

    /// How many keys `revision` deleted and put again, and the first of them; None if it did not.
    pub(super) fn reput_at(&self, revision: Revision) -> Option<(usize, Bytes)> {
        let keys = self.reputs.get(&revision)?;
        let first = keys.first()?;
        Some((keys.len(), Bytes::copy_from_slice(first)))
    }

    /// True if some key lies in `range`.
    pub(super) fn holds_any(&self, range: &KeyRange) -> bool {
        self.keys_in(range).next().is_some()
    }

    /// Writes a key and attaches it to its lease, if that exists, and to no other.
    pub(super) fn set_key(&mut self, key: &[u8], meta: KeyMeta) {
        let old = if let Some(slot) = self.keys.get_mut(key) {
            Some(std::mem::replace(slot, meta))
        } else {
            self.keys.insert(key.into(), meta);
            None
        };
        if let Some(old) = old
            && old.lease != meta.lease
        {
            self.detach(old.lease, key);
        }
        if let Some(lease) = self.leases.get_mut(&meta.lease)
            && !lease.keys.contains(key)
        {
            lease.keys.insert(key.into());
        }
    }

    /// Removes every key in `range` and detaches it from its lease.
    pub(super) fn remove_keys(&mut self, range: &KeyRange) {
        let (start, end) = range.bounds();
        let bounds = (start.map(Box::from), end.map(Box::from));
        for (key, meta) in self.keys.extract_if::<_, (_, _)>(bounds, |_, _| true) {
            if let Some(lease) = self.leases.get_mut(&meta.lease) {
                lease.keys.remove(&key);
            }
        }
    }

    /// Ends a lease, whose keys are gone by now.
    pub(super) fn remove_lease(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    /// Notes what is left of a lease, if that exists.
    pub(super) fn set_remaining(&mut self, id: LeaseId, remaining: i64) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.remaining = remaining;
        }
    }

    /// Moves the compact revision, and forgets what is dangerous only above it.
    pub(super) fn compact(&mut self, revision: Revision) {
        self.position.compact_revision = revision;
        self.reputs = self
            .reputs
            .split_off(&Revision(revision.0.saturating_add(1)));
    }

    fn detach(&mut self, lease: LeaseId, key: &[u8]) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.remove(key);
        }
    }
}
