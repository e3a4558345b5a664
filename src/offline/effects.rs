//! What each entry of a log did, worked out offline. Pure.
//!
//! An entry that compares values by order needs these values. There is no standby to ask, so the
//! values of the keys that are ever compared so are kept; a first pass over the log finds them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::entry::{self, Committed, Entry, Op};
use crate::pb::etcdpb::{Compare, RequestOp, TxnRequest, request_op::Request};
use crate::range::KeyRange;
use crate::range_set::RangeSet;
use crate::resolve::{Error, PrimaryState, Resolution, Resolved, Rules, Value, Values};

/// The keys whose values some entry compares by order.
#[derive(Clone, Debug, Default)]
pub struct Compared(RangeSet);

/// A state that is taken from entry to entry.
#[derive(Debug)]
pub struct Effects {
    state: PrimaryState,
    compared: Compared,
    values: BTreeMap<Bytes, Bytes>,
}

/// The number of a compare's target that means the value.
const TARGET_VALUE: i32 = 3;
/// The numbers of compares that need no order.
const EQUALITIES: [i32; 2] = [0, 3];

impl Compared {
    /// Looks at an entry that will be applied. One that is not understood will not be.
    pub fn look_at(&mut self, committed: &Committed) {
        if let Ok(entry) = entry::decode(committed)
            && let Op::Txn(txn) = &entry.op
        {
            self.look_at_txn(txn);
        }
    }

    fn look_at_txn(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            self.look_at_compare(compare);
        }
        for RequestOp { request } in txn.success.iter().chain(&txn.failure) {
            if let Some(Request::RequestTxn(nested)) = request {
                self.look_at_txn(nested);
            }
        }
    }

    fn look_at_compare(&mut self, compare: &Compare) {
        if compare.target == TARGET_VALUE
            && !EQUALITIES.contains(&compare.result)
            && let Some(range) = KeyRange::of_request(&compare.key, &compare.range_end)
        {
            self.0.insert(range);
        }
    }

    /// True if the value of `key` is to be kept.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        self.0.contains(key)
    }
}

impl Effects {
    /// Goes on from `state`, with all entries to come looked at.
    #[must_use]
    pub fn new(state: PrimaryState, compared: Compared) -> Self {
        Self {
            state,
            compared,
            values: BTreeMap::new(),
        }
    }

    /// The state after the last entry.
    #[must_use]
    pub fn state(&self) -> &PrimaryState {
        &self.state
    }

    /// Gives the value of a key that existed before the first entry.
    pub fn set_value(&mut self, key: &[u8], value: Bytes) {
        if self.compared.contains(key) {
            self.values.insert(Bytes::copy_from_slice(key), value);
        }
    }

    /// From now on the primary applies entries by these rules.
    pub fn set_rules(&mut self, rules: Rules) {
        self.state.set_rules(rules);
    }

    /// From now on the primary has so many voters.
    pub fn set_voters(&mut self, voters: usize) {
        self.state.set_voters(voters);
    }

    /// Takes in the next entry.
    ///
    /// # Errors
    /// What cannot be decided. Nothing that follows can be, either.
    pub fn apply(&mut self, entry: &Entry) -> Result<Resolved, Error> {
        let mut values = Values::default();
        loop {
            match self.state.resolve_with(entry, &values)? {
                Resolution::Done(resolved) => {
                    self.keep(&resolved);
                    return Ok(resolved);
                }
                // It asks again only for what it was not given yet.
                Resolution::NeedsValues(keys) => {
                    for key in keys {
                        let value = self.values.get(&key).cloned();
                        values.insert(key, value);
                    }
                }
            }
        }
    }

    fn keep(&mut self, resolved: &Resolved) {
        for range in &resolved.changes.deletes {
            let (start, end) = range.bounds();
            let bounds = (
                start.map(Bytes::copy_from_slice),
                end.map(Bytes::copy_from_slice),
            );
            let gone = self.values.extract_if::<_, (_, _)>(bounds, |_, _| true);
            gone.for_each(drop);
        }
        for put in &resolved.changes.puts {
            if let Value::Given(value) = &put.value
                && self.compared.contains(&put.key)
            {
                // Copies: the entry's buffer is not to be held for them.
                let key = Bytes::copy_from_slice(&put.key);
                self.values.insert(key, Bytes::copy_from_slice(value));
            }
        }
    }
}
