//! What a snapshot has otherwise than the standby, piece by piece in the order of keys. Pure over a
//! [`PageSource`].

use std::collections::BTreeMap;

use bytes::Bytes;

use super::piece::{Piece, Row};
use crate::ids::LeaseId;
use crate::range::KeyRange;
use crate::resolve::{Alarms, AuthDelta, Delta, Digest, KeyMeta, PrimaryState, Settings, Value};
use crate::scope::Scope;
use crate::snapshot::bbolt::{self, PageSource};
use crate::snapshot::{Contents, LiveKey, ValueAt, Values};

/// Keys in one piece, so that even where nothing differs the progress is seen.
const COMPARED_MAX: usize = 50_000;
/// Leases in one piece.
const LEASES_MAX: usize = 20_000;
/// What a row costs in a request beside its key, twice, and its value.
const ROW_BYTES: usize = 64;

/// What was compared, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys of the snapshot that were looked at.
    pub compared: usize,
    /// Keys that were written.
    pub puts: usize,
    /// Keys that were deleted.
    pub deletes: usize,
    /// Keys that the standby had with the same value, and other revisions.
    pub same_value: usize,
    /// Bytes of values written.
    pub value_bytes: u64,
}

/// Walks through both.
#[derive(Debug)]
pub struct Diff<'a, S: ?Sized> {
    source: &'a S,
    contents: &'a Contents,
    before: &'a PrimaryState,
    scope: &'a Scope,
    ops_max: usize,
    bytes_max: usize,
    /// The next key of the snapshot.
    place: usize,
    /// Where the keys of before begin that are still to be looked at.
    from: Bytes,
    leases: usize,
    is_over: bool,
    digests: Vec<Digest>,
    tally: Tally,
}

/// A key of the snapshot whose value must be looked at.
struct Wanted {
    place: usize,
    at: ValueAt,
    before: Option<KeyMeta>,
}

impl<'a, S: PageSource + ?Sized> Diff<'a, S> {
    /// Between `contents`, whose values `source` has, and `before`, in pieces of about so many
    /// operations and bytes. Values are written of what is in `scope`.
    #[must_use]
    pub fn new(
        source: &'a S,
        (contents, before): (&'a Contents, &'a PrimaryState),
        scope: &'a Scope,
        ops_max: usize,
        bytes_max: usize,
    ) -> Self {
        Self {
            source,
            contents,
            before,
            scope,
            ops_max,
            bytes_max,
            place: 0,
            from: Bytes::new(),
            leases: 0,
            is_over: false,
            digests: Vec::with_capacity(contents.keys.len()),
            tally: Tally::default(),
        }
    }

    /// What was compared so far.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// The next piece, which may be empty; None behind the last.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, bbolt::Error> {
        if self.leases < self.contents.leases.len() {
            return Ok(Some(self.next_leases()));
        }
        if !self.is_over {
            return self.next_keys().map(Some);
        }
        Ok(None)
    }

    /// What follows all keys, and the state of the primary that the snapshot holds.
    #[must_use]
    pub fn finish(self, settings: Settings) -> (Piece, PrimaryState) {
        let digests = self.digests;
        let none = Digest::from_bytes([0; 16]);
        let state = self.contents.primary_state(settings, |place, _| {
            digests.get(place).copied().unwrap_or(none)
        });
        let rest = rest(self.before, &state);
        let piece = Piece {
            rest,
            ..Piece::default()
        };
        (piece, state)
    }

    /// Leases go before keys, so that keys find the leases that they are attached to.
    fn next_leases(&mut self) -> Piece {
        let mut piece = Piece::default();
        let rest = self.contents.leases.iter().skip(self.leases);
        for lease in rest.take(LEASES_MAX) {
            self.leases += 1;
            let known = self.before.lease(lease.id).map(crate::resolve::Lease::ttl);
            if known != Some(lease.ttl) {
                piece.granted.push((lease.id, lease.ttl));
            }
        }
        piece
    }

    fn next_keys(&mut self) -> Result<Piece, bbolt::Error> {
        let mut piece = Piece::default();
        let mut wanted: Vec<Wanted> = Vec::new();
        let (mut bytes, mut compared) = (0, 0);
        let first_place = self.place;
        let range = KeyRange::from(self.from.clone());
        let mut before = self.before.keys_in(&range).peekable();
        let mut last: Option<Bytes> = None;
        loop {
            let ops = piece.deletes.len() + wanted.len();
            if ops >= self.ops_max || bytes >= self.bytes_max || compared >= COMPARED_MAX {
                break;
            }
            let live = self.contents.keys.get(self.place);
            let old = before.peek().copied();
            compared += 1;
            match (live, old) {
                (None, None) => {
                    self.is_over = true;
                    break;
                }
                (live, Some((key, _))) if live.is_none_or(|live| key < live.key) => {
                    let key = Bytes::copy_from_slice(key);
                    bytes += ROW_BYTES + 2 * key.len();
                    last = Some(key.clone());
                    piece.deletes.push(key);
                    before.next();
                }
                (Some(live), old) => {
                    let old = old.filter(|(key, _)| *key == live.key);
                    if old.is_some() {
                        before.next();
                    }
                    let old = old.map(|(_, meta)| *meta);
                    let is_same = |old: &KeyMeta| self.is_same(old, &live);
                    match old.filter(is_same) {
                        Some(old) => self.digests.push(old.digest),
                        None => {
                            bytes += ROW_BYTES + 2 * live.key.len() + length(live.value);
                            wanted.push(Wanted {
                                place: self.place,
                                at: live.value,
                                before: old,
                            });
                            // Known once its value is read.
                            self.digests.push(Digest::from_bytes([0; 16]));
                        }
                    }
                    last = Some(Bytes::copy_from_slice(live.key));
                    self.place += 1;
                }
                (None, Some(_)) => {}
            }
        }
        drop(before);
        if let Some(last) = last {
            self.from = KeyRange::single(&last).end().cloned().unwrap_or_default();
        }
        self.tally.compared += self.place - first_place;
        let deletes = piece.deletes.iter();
        self.tally.deletes += deletes.filter(|key| self.scope.contains(key)).count();
        piece.rows = self.read(&wanted)?;
        Ok(piece)
    }

    /// One history gives a revision to one write only.
    fn is_same(&self, old: &KeyMeta, live: &LiveKey<'_>) -> bool {
        old.modified == live.modified
            && old.created == live.created
            && old.version == live.version
            && old.lease == live.lease
            && self.lease_before(old) == self.lease_now(live.lease)
    }

    /// The lease that a key of before is attached to.
    fn lease_before(&self, old: &KeyMeta) -> LeaseId {
        let lease = self.before.lease(old.lease);
        lease.map_or(LeaseId(0), |_| old.lease)
    }

    /// The lease that a key of the snapshot with this lease field is attached to. After a restore
    /// from a backup the field may name a lease that is gone.
    fn lease_now(&self, field: LeaseId) -> LeaseId {
        let leases = &self.contents.leases;
        let found = leases.binary_search_by_key(&field, |lease| lease.id);
        found.map_or(LeaseId(0), |_| field)
    }

    /// The rows of the keys whose values are wanted.
    fn read(&mut self, wanted: &[Wanted]) -> Result<Vec<Row>, bbolt::Error> {
        let places = wanted.iter().enumerate();
        let places = places.map(|(number, one)| (one.at, number)).collect();
        let mut values = Values::new(self.source, places);
        let mut found: BTreeMap<usize, Bytes> = BTreeMap::new();
        while let Some((number, value)) = values.next_value()? {
            found.insert(number, Bytes::copy_from_slice(value));
        }
        let mut rows = Vec::with_capacity(wanted.len());
        for (one, (_, value)) in wanted.iter().zip(found) {
            let Some(live) = self.contents.keys.get(one.place) else {
                continue;
            };
            let digest = self.before.digest_key().digest(&value);
            if let Some(slot) = self.digests.get_mut(one.place) {
                *slot = digest;
            }
            let lease = self.lease_now(live.lease);
            let is_there = one
                .before
                .is_some_and(|old| old.digest == digest && self.lease_before(&old) == lease);
            // The ledger knows every key; the standby has those in scope.
            let in_scope = self.scope.contains(live.key);
            let is_new = in_scope && !is_there;
            if is_new {
                self.tally.puts += 1;
                self.tally.value_bytes += u64::try_from(value.len()).unwrap_or(u64::MAX);
            } else if in_scope {
                self.tally.same_value += 1;
            }
            rows.push(Row {
                key: Bytes::copy_from_slice(live.key),
                meta: meta(&live, digest),
                lease,
                value: is_new.then_some(Value::Given(value)),
            });
        }
        Ok(rows)
    }
}

fn meta(live: &LiveKey<'_>, digest: Digest) -> KeyMeta {
    KeyMeta {
        created: live.created,
        modified: live.modified,
        version: live.version,
        lease: live.lease,
        digest,
    }
}

fn length(at: ValueAt) -> usize {
    usize::try_from(at.bytes).unwrap_or(usize::MAX)
}

/// What is not about keys and new leases.
fn rest(before: &PrimaryState, after: &PrimaryState) -> Delta {
    let ended = before.leases().map(|(id, _)| id);
    let ended: Vec<LeaseId> = ended.filter(|id| after.lease(*id).is_none()).collect();
    let mut auth = AuthDelta::all(after);
    for name in before.auth().users().keys() {
        auth.users.entry(name.clone()).or_default();
    }
    for name in before.auth().roles().keys() {
        auth.roles.entry(name.clone()).or_default();
    }
    let is_new = before.auth() != after.auth();
    let alarms: Option<&Alarms> = Some(after.alarms()).filter(|now| *now != before.alarms());
    let reputs = after.reputs().flat_map(|(revision, keys)| {
        let keys = keys.map(Bytes::copy_from_slice);
        keys.map(move |key| (revision, key)).collect::<Vec<_>>()
    });
    Delta {
        revoked: ended,
        reputs: reputs.collect(),
        auth: is_new.then_some(auth),
        alarms: alarms.cloned(),
        ..Delta::default()
    }
}
