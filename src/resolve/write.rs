//! The writes of one entry: taken one after the other, each seeing the earlier ones, and summed up
//! as their net effect before anything of the state changes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::changes::{Changes, Put, Value};
use super::error::Problem;
use super::state::{KeyMeta, PrimaryState};
use crate::ids::{LeaseId, Revision};
use crate::pb::etcdpb::PutRequest;
use crate::range::KeyRange;
use crate::range_set::RangeSet;

/// Collects the writes of one entry on top of the state before it.
pub(super) struct Writer<'a> {
    state: &'a PrimaryState,
    /// The revision that the entry makes.
    revision: Revision,
    /// Every key put so far, also if deleted since.
    written: BTreeMap<Bytes, Written>,
    /// What was deleted and not put again since.
    deleted: RangeSet,
}

struct Written {
    meta: KeyMeta,
    value: Value,
    /// The entry deleted the key at some time before it put it.
    reput: bool,
}

/// What the writes of one entry come to: exactly one revision.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Write {
    revision: Revision,
    pub(super) changes: Changes,
    /// Of each put in `changes`, in the same order.
    metas: Vec<KeyMeta>,
    reputs: Vec<Bytes>,
}

impl<'a> Writer<'a> {
    /// Starts the writes of an entry.
    ///
    /// # Errors
    /// [`Problem::Overflow`] if there is no further revision.
    pub(super) fn new(state: &'a PrimaryState) -> Result<Self, Problem> {
        let next = state.position.revision.0.checked_add(1);
        Ok(Self {
            state,
            revision: Revision(next.ok_or(Problem::Overflow("the revision"))?),
            written: BTreeMap::new(),
            deleted: RangeSet::default(),
        })
    }

    /// Puts a key.
    ///
    /// # Errors
    /// [`Problem::Poison`] if something is to be kept of a key that is not there any more.
    pub(super) fn put(&mut self, request: &PutRequest) -> Result<(), Problem> {
        let key = &request.key;
        let earlier = self.written.get(key);
        let stored = self.state.key(key);
        let is_gone = self.deleted.contains(key);
        let current = if is_gone {
            None
        } else {
            earlier.map(|written| &written.meta).or(stored)
        };
        let reput = earlier.is_some_and(|written| written.reput)
            || (is_gone && (earlier.is_some() || stored.is_some()));

        let (value, digest) = if request.ignore_value {
            let current = current.ok_or(KEY_GONE)?;
            let value = earlier.map_or(Value::Kept, |written| written.value.clone());
            (value, current.digest)
        } else {
            let digest = self.state.digest_key().digest(&request.value);
            (Value::Given(request.value.clone()), digest)
        };
        let lease = if request.ignore_lease {
            self.kept_lease(current.ok_or(KEY_GONE)?)?
        } else {
            LeaseId(request.lease)
        };
        let version = current.map_or(Some(1), |meta| meta.version.checked_add(1));
        let meta = KeyMeta {
            created: current.map_or(self.revision, |meta| meta.created),
            modified: self.revision,
            version: version.ok_or(Problem::Overflow("the version of a key"))?,
            lease,
            digest,
        };
        self.deleted.remove(&KeyRange::single(key));
        self.written
            .insert(key.clone(), Written { meta, value, reput });
        Ok(())
    }

    /// Deletes a range.
    pub(super) fn delete(&mut self, range: KeyRange) {
        self.deleted.insert(range);
    }

    /// What all of it comes to; None if nothing was changed, which makes no revision.
    pub(super) fn finish(self) -> Option<Write> {
        let Self {
            state,
            revision,
            written,
            deleted,
        } = self;
        let held = |range: &&KeyRange| state.holds_any(range);
        let deletes: Vec<KeyRange> = deleted.iter().filter(held).cloned().collect();
        if written.is_empty() && deletes.is_empty() {
            return None;
        }
        let mut write = Write {
            revision,
            changes: Changes {
                puts: Vec::new(),
                deletes,
            },
            metas: Vec::new(),
            reputs: Vec::new(),
        };
        for (key, written) in written {
            if deleted.contains(&key) {
                continue;
            }
            if written.reput {
                write.reputs.push(key.clone());
            }
            write.metas.push(written.meta);
            write.changes.puts.push(Put {
                key,
                value: written.value,
                lease: written.meta.lease,
            });
        }
        Some(write)
    }

    /// The lease of a key that is put without naming one.
    fn kept_lease(&self, current: &KeyMeta) -> Result<LeaseId, Problem> {
        if current.lease != LeaseId(0) && self.state.lease(current.lease).is_none() {
            return Err(LEASE_GONE);
        }
        Ok(current.lease)
    }
}

impl Write {
    /// Makes the state as it is after the entry.
    pub(super) fn apply(&self, state: &mut PrimaryState) {
        for range in &self.changes.deletes {
            state.remove_keys(range);
        }
        for (put, meta) in self.changes.puts.iter().zip(&self.metas) {
            state.set_key(&put.key, *meta);
        }
        for key in &self.reputs {
            state.restore_reput(self.revision, key);
        }
        state.position.revision = self.revision;
    }
}

const KEY_GONE: Problem =
    Problem::Poison("a put keeps the value or lease of a key that the same txn deleted before");
const LEASE_GONE: Problem = Problem::Poison("a put keeps the lease of a key whose lease is gone");
