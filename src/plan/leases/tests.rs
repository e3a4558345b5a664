//! Batches with leases against a naive etcd: all short sequences, cut into batches in all ways, and
//! long ones by chance.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::{RaftIndex, Revision, Term};
use crate::plan::{Batch, Unit, Write};
use crate::range::KeyRange;
use crate::resolve::{Changes, Delta, Put, Value};

/// A request to the primary: leases and keys are small numbers, lease 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Grant(i64),
    Revoke(i64),
    Put(u8, i64),
    Delete(u8),
}

/// The leases of an etcd, and the lease of each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Etcd {
    leases: BTreeSet<LeaseId>,
    keys: BTreeMap<Bytes, LeaseId>,
}

fn key(number: u8) -> Bytes {
    Bytes::copy_from_slice(&[b'a' + number])
}

fn single(key: &Bytes) -> KeyRange {
    KeyRange::single(key)
}

impl Etcd {
    fn has(&self, id: LeaseId) -> bool {
        id == LeaseId(0) || self.leases.contains(&id)
    }

    /// Keys attached to a lease.
    fn attached(&self, id: LeaseId) -> Vec<Bytes> {
        let keys = self.keys.iter().filter(|(_, lease)| **lease == id);
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// Does a request as etcd does; what came of it, if anything.
    fn serve(&mut self, op: Op) -> (Option<LeaseChange>, Changes) {
        let mut changes = Changes::default();
        let mut lease = None;
        match op {
            Op::Grant(id) if !self.has(LeaseId(id)) => {
                self.leases.insert(LeaseId(id));
                let id = LeaseId(id);
                lease = Some(LeaseChange::Granted { id, ttl: 60 });
            }
            Op::Revoke(id) if self.leases.remove(&LeaseId(id)) => {
                let id = LeaseId(id);
                changes.deletes = self.attached(id).iter().map(single).collect();
                self.keys.retain(|_, lease| *lease != id);
                lease = Some(LeaseChange::Revoked { id });
            }
            Op::Put(number, id) if self.has(LeaseId(id)) => {
                self.keys.insert(key(number), LeaseId(id));
                changes.puts.push(Put {
                    key: key(number),
                    value: Value::Given(Bytes::new()),
                    lease: LeaseId(id),
                });
            }
            Op::Delete(number) if self.keys.remove(&key(number)).is_some() => {
                changes.deletes.push(single(&key(number)));
            }
            Op::Grant(_) | Op::Revoke(_) | Op::Put(..) | Op::Delete(_) => {}
        }
        (lease, changes)
    }

    /// Does what a batch asks, as a standby: fails where etcd would refuse it.
    fn replay(&mut self, plan: &LeasePlan, batch: &Batch) -> Result<(), String> {
        for id in &plan.grants {
            if !self.leases.insert(*id) {
                return Err(format!("{id} is granted twice"));
            }
        }
        for write in batch.writes() {
            match write {
                Write::Put(put) => {
                    if !self.has(put.lease) {
                        return Err(format!("a put names {}, which is not there", put.lease));
                    }
                    self.keys.insert(put.key, put.lease);
                }
                Write::Delete(range) => self.keys.retain(|key, _| !range.contains(key)),
            }
        }
        for id in &plan.revokes {
            if !self.attached(*id).is_empty() {
                return Err(format!("{id} is revoked with keys attached to it"));
            }
            if !self.leases.remove(id) {
                return Err(format!("{id} is revoked and was not there"));
            }
        }
        Ok(())
    }
}

/// Runs `ops` on a primary and in batches on a standby; bit n of `cuts` ends a batch after op n.
fn check(ops: &[Op], cuts: u32) -> Result<(), String> {
    let (mut primary, mut standby) = (Etcd::default(), Etcd::default());
    let mut batch = Batch::default();
    for (at, op) in ops.iter().enumerate() {
        let (lease, changes) = primary.serve(*op);
        let index = u64::try_from(at).unwrap() + 1;
        batch.add(Unit {
            index: RaftIndex(index),
            term: Term(1),
            revision: Revision(1),
            compact_revision: Revision(-1),
            members: None,
            changes,
            lease,
            auth: Vec::new(),
            delta: Delta::default(),
        });
        if cuts >> at & 1 == 1 || at + 1 == ops.len() {
            let batch = std::mem::take(&mut batch);
            standby.replay(&batch.leases(), &batch)?;
            if standby != primary {
                return Err(format!("{standby:?} for {primary:?}"));
            }
        }
    }
    Ok(())
}

/// Every sequence of `length` requests out of `all`, in every division into batches.
fn check_all(all: &[Op], length: u32) -> usize {
    let mut runs = 0;
    for number in 0..all.len().pow(length) {
        let mut rest = number;
        let mut ops = Vec::new();
        for _ in 0..length {
            ops.push(all[rest % all.len()]);
            rest /= all.len();
        }
        for cuts in 0..1 << (length - 1) {
            if let Err(why) = check(&ops, cuts) {
                panic!("{ops:?}, cuts {cuts:b}: {why}");
            }
            runs += 1;
        }
    }
    runs
}

fn requests(leases: i64, keys: u8) -> Vec<Op> {
    let mut all = Vec::new();
    for lease in 1..=leases {
        all.extend([Op::Grant(lease), Op::Revoke(lease)]);
    }
    for key in 0..keys {
        all.push(Op::Delete(key));
        all.extend((0..=leases).map(|lease| Op::Put(key, lease)));
    }
    all
}

#[test]
fn all_short_sequences_in_all_batches_leave_the_same_leases() {
    let mut runs = 0;
    for length in 1..=4 {
        runs += check_all(&requests(2, 2), length);
    }
    runs += check_all(&requests(1, 1), 6);
    assert!(runs > 600_000, "only {runs} runs");
}

fn an_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (1..4_i64).prop_map(Op::Grant),
        (1..4_i64).prop_map(Op::Revoke),
        (0..4_u8, 0..4_i64).prop_map(|(key, lease)| Op::Put(key, lease)),
        (0..4_u8).prop_map(Op::Delete),
    ]
}

proptest! {
    #[test]
    fn long_sequences_leave_the_same_leases(
        ops in prop::collection::vec(an_op(), 1..30),
        cuts in any::<u32>(),
    ) {
        prop_assert_eq!(check(&ops, cuts), Ok(()));
    }
}

#[test]
fn a_plan_holds_what_changed_over_the_batch() {
    let granted = |id| LeaseChange::Granted {
        id: LeaseId(id),
        ttl: 5,
    };
    let revoked = |id| LeaseChange::Revoked { id: LeaseId(id) };
    let plan = LeasePlan::of([
        granted(4),
        revoked(3),
        granted(-1),
        revoked(2),
        granted(2),
        granted(5),
        revoked(5),
        revoked(1),
        granted(1),
        revoked(1),
    ]);
    let expected = LeasePlan {
        grants: vec![LeaseId(-1), LeaseId(4)],
        revokes: vec![LeaseId(1), LeaseId(3)],
        passed: vec![LeaseId(5)],
    };
    assert_eq!(plan, expected);
    assert!(!plan.is_empty());
    assert!(LeasePlan::of([revoked(1), granted(1)]).is_empty());
}
