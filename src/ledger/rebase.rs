//! Writes a state down piece by piece while it moves on. Pure.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::part;
use super::record::{self, Kind};
use crate::ids::{LeaseId, RaftIndex};
use crate::range::KeyRange;
use crate::resolve::{AuthDelta, Delta, PrimaryState};

/// Leases in one chunk.
const CHUNK_LEASES_MAX: usize = 20_000;
/// What a row takes beside its key.
const ROW_BYTES: usize = 28;

/// A base that is being written.
#[derive(Clone, Debug)]
pub(super) struct Rebase {
    pub(super) generation: u64,
    /// The first journal that is to be taken in after it.
    pub(super) first_journal: u64,
    pub(super) chunks: u32,
    pub(super) bytes: u64,
    /// Bytes of the journals before that one.
    pub(super) covered: u64,
    /// The state's index at its last chunk.
    pub(super) reached: RaftIndex,
    cursor: Cursor,
}

/// Where the next chunk begins.
#[derive(Clone, Debug)]
enum Cursor {
    /// With users, roles, alarms, and leases.
    Beginning,
    /// With the leases behind this one.
    Leases(LeaseId),
    /// With this key or the first behind it.
    Keys(Bytes),
    /// There is none.
    End,
}

impl Rebase {
    pub(super) fn new(generation: u64, first_journal: u64, covered: u64) -> Self {
        Self {
            generation,
            first_journal,
            chunks: 0,
            bytes: 0,
            covered,
            reached: RaftIndex(0),
            cursor: Cursor::Beginning,
        }
    }

    /// Writes the next chunk down, of about `bytes_max`; None if there is none.
    pub(super) fn next_chunk(
        &mut self,
        state: &PrimaryState,
        not_carried: &BTreeSet<String>,
        bytes_max: usize,
    ) -> Option<(u32, Bytes)> {
        let mut delta = Delta::default();
        let first_key = || Cursor::Keys(Bytes::new());
        match &self.cursor {
            Cursor::Beginning => {
                delta.auth = Some(AuthDelta::all(state));
                delta.alarms = Some(state.alarms().clone());
                for (revision, keys) in state.reputs() {
                    let keys = keys.map(Bytes::copy_from_slice);
                    delta.reputs.extend(keys.map(|key| (revision, key)));
                }
                self.cursor =
                    leases(state, None, &mut delta).map_or_else(first_key, Cursor::Leases);
            }
            Cursor::Leases(after) => {
                let after = Some(*after);
                self.cursor =
                    leases(state, after, &mut delta).map_or_else(first_key, Cursor::Leases);
            }
            Cursor::Keys(from) => {
                let next = keys(state, from, bytes_max, &mut delta);
                self.cursor = next.map_or(Cursor::End, Cursor::Keys);
            }
            Cursor::End => return None,
        }
        let number = self.chunks;
        let kind = Kind::Chunk {
            generation: self.generation,
            number: u64::from(number),
        };
        // With the users.
        let not_carried = delta.auth.as_ref().map(|_| not_carried);
        let body = part::encode(&delta, not_carried, state.digest_key());
        let record = record::seal(kind, &body);
        self.chunks += 1;
        self.bytes += u64::try_from(record.len()).unwrap_or(u64::MAX);
        self.reached = state.position().index;
        Some((number, record))
    }
}

/// The next leases; returns the last one if more follow.
fn leases(state: &PrimaryState, after: Option<LeaseId>, delta: &mut Delta) -> Option<LeaseId> {
    let mut rest = state.leases_after(after);
    let taken = rest.by_ref().take(CHUNK_LEASES_MAX);
    delta.granted = taken.map(|(id, lease)| (id, lease.ttl())).collect();
    rest.next()?;
    delta.granted.last().map(|(id, _)| *id)
}

/// The next keys; returns the first one that is left.
fn keys(state: &PrimaryState, from: &Bytes, bytes_max: usize, delta: &mut Delta) -> Option<Bytes> {
    let mut bytes = 0;
    for (key, meta) in state.keys_in(&KeyRange::from(from.clone())) {
        bytes += key.len() + ROW_BYTES;
        if bytes > bytes_max && !delta.puts.is_empty() {
            return Some(Bytes::copy_from_slice(key));
        }
        delta.puts.push((Bytes::copy_from_slice(key), *meta));
    }
    None
}
