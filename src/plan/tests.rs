//! Batches against a plain map.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::ids::{LeaseId, Revision, Term};
use crate::range::KeyRange;
use crate::resolve::{Delta, Put, Value};

const LIMITS: Limits = Limits {
    batch_ops_max: 6,
    batch_bytes_max: 10_000,
    txn_ops_max: 128,
};

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, value: &str) -> Put {
    Put {
        key: key(name),
        value: Value::Given(key(value)),
        lease: LeaseId(0),
    }
}

fn kept(name: &str, lease: i64) -> Put {
    Put {
        key: key(name),
        value: Value::Kept,
        lease: LeaseId(lease),
    }
}

fn range(start: &str, end: &str) -> KeyRange {
    KeyRange::between(key(start), key(end)).unwrap()
}

fn unit(index: u64, puts: Vec<Put>, deletes: Vec<KeyRange>) -> Unit {
    Unit {
        index: RaftIndex(index),
        term: Term(1),
        revision: Revision(i64::try_from(index).unwrap()),
        compact_revision: Revision(-1),
        members: None,
        changes: Changes { puts, deletes },
        lease: None,
        auth: Vec::new(),
        delta: Delta::default(),
    }
}

fn push(planner: &mut Planner, unit: Unit, history: History) -> bool {
    planner.push(unit, history).unwrap().is_none()
}

fn writes(planner: &mut Planner) -> Vec<Write> {
    planner
        .take()
        .map(|batch| batch.writes().collect())
        .unwrap_or_default()
}

#[test]
fn a_key_touched_twice_ends_the_batch_or_keeps_its_last_state() {
    for second in [
        unit(2, vec![put("a", "2")], vec![]),
        unit(2, vec![], vec![range("a", "b")]),
    ] {
        let mut planner = Planner::new(LIMITS);
        assert!(push(
            &mut planner,
            unit(1, vec![put("a", "1")], vec![]),
            History::Keep
        ));
        assert!(!push(&mut planner, second.clone(), History::Keep));
        assert!(push(&mut planner, second, History::Last));
        assert_eq!(planner.take().map(|batch| batch.ops()), Some(1));
    }
    let mut planner = Planner::new(LIMITS);
    push(
        &mut planner,
        unit(1, vec![], vec![range("a", "c")]),
        History::Keep,
    );
    assert!(!push(
        &mut planner,
        unit(2, vec![put("b", "1")], vec![]),
        History::Keep
    ));
    assert!(push(
        &mut planner,
        unit(2, vec![put("d", "1")], vec![]),
        History::Keep
    ));
}

#[test]
fn a_put_into_a_deleted_range_parts_it() {
    let mut planner = Planner::new(LIMITS);
    push(
        &mut planner,
        unit(1, vec![], vec![range("a", "z")]),
        History::Last,
    );
    push(
        &mut planner,
        unit(2, vec![put("m", "1")], vec![]),
        History::Last,
    );
    assert_eq!(
        writes(&mut planner),
        [
            Write::Delete(range("a", "m")),
            Write::Delete(range("m\0", "z")),
            Write::Put(put("m", "1")),
        ]
    );
}

#[test]
fn a_kept_value_is_the_one_from_the_same_batch_if_it_has_one() {
    let mut planner = Planner::new(LIMITS);
    push(
        &mut planner,
        unit(1, vec![put("a", "1")], vec![]),
        History::Last,
    );
    push(
        &mut planner,
        unit(2, vec![kept("a", 7), kept("b", 8)], vec![]),
        History::Last,
    );
    let attached = Put {
        lease: LeaseId(7),
        ..put("a", "1")
    };
    assert_eq!(
        writes(&mut planner),
        [Write::Put(attached), Write::Put(kept("b", 8))]
    );
}

#[test]
fn our_own_keys_are_neither_replicated_nor_deleted() {
    let mut planner = Planner::new(LIMITS);
    let ours = format!("{}s/checkpoint", reserved::PREFIX);
    let all = KeyRange::from(key("\0"));
    push(
        &mut planner,
        unit(1, vec![put(&ours, "x"), put("a", "1")], vec![]),
        History::Last,
    );
    push(
        &mut planner,
        unit(2, vec![], vec![all.clone()]),
        History::Last,
    );
    assert_eq!(
        writes(&mut planner),
        all.without(&reserved::range())
            .into_iter()
            .map(Write::Delete)
            .collect::<Vec<_>>()
    );
}

#[test]
fn limits_end_a_batch_but_never_split_an_entry() {
    let mut planner = Planner::new(LIMITS);
    let many = |from: u64| {
        (from..from + 10)
            .map(|n| put(&n.to_string(), "v"))
            .collect()
    };
    assert!(
        push(&mut planner, unit(1, many(10), vec![]), History::Last),
        "alone it goes"
    );
    assert!(!push(
        &mut planner,
        unit(2, vec![put("a", "1")], vec![]),
        History::Last
    ));
    assert!(
        push(&mut planner, unit(2, vec![], vec![]), History::Last),
        "nothing to carry"
    );
    assert_eq!(planner.take().unwrap().units().len(), 2);
    let heavy = "x".repeat(9_990);
    assert!(push(
        &mut planner,
        unit(3, vec![put("a", &heavy)], vec![]),
        History::Last
    ));
    assert!(!push(
        &mut planner,
        unit(4, vec![put("b", "1")], vec![]),
        History::Last
    ));
    assert!(planner.take().is_some() && planner.take().is_none());
}

/// The standby revokes such a lease itself, so the planner lets it pass, alone.
#[test]
fn the_end_of_a_lease_is_never_too_large() {
    let mut planner = Planner::new(Limits {
        txn_ops_max: 2,
        ..LIMITS
    });
    let keys: Vec<KeyRange> = (0..20)
        .map(|n| KeyRange::single(&key(&format!("{n:02}"))))
        .collect();
    let mut ended = unit(1, vec![], keys.clone());
    ended.lease = Some(LeaseChange::Revoked { id: LeaseId(7) });
    assert!(push(&mut planner, ended, History::Last));
    let next = unit(2, vec![put("z", "1")], vec![]);
    assert!(!push(&mut planner, next, History::Last), "it goes alone");
    let batch = planner.take().unwrap();
    assert_eq!((batch.ops(), batch.units().len()), (20, 1));
    assert_eq!(batch.leases().revokes, [LeaseId(7)]);
    let plain = planner.push(unit(2, vec![], keys), History::Last);
    assert!(plain.is_err(), "{plain:?}");
}

#[test]
fn what_can_never_fit_names_the_flag() {
    let limits = Limits {
        txn_ops_max: 3,
        ..LIMITS
    };
    let puts = (0..20).map(|n| put(&n.to_string(), "v")).collect();
    let error = Planner::new(limits)
        .push(unit(7, puts, vec![]), History::Last)
        .unwrap_err();
    assert_eq!(
        (error.index, error.ops, error.capacity),
        (RaftIndex(7), 20, capacity(list_max(3)))
    );
    assert!(error.to_string().contains("--max-txn-ops"));
}

type Model = BTreeMap<Bytes, (Bytes, LeaseId)>;

/// Applies writes in the worst order: deletes last, as nothing of a batch may depend on order.
fn apply(model: &mut Model, batch: &Batch) {
    let (puts, deletes): (Vec<_>, Vec<_>) = batch
        .writes()
        .partition(|write| matches!(write, Write::Put(_)));
    for write in puts.into_iter().chain(deletes) {
        match write {
            Write::Put(Put {
                key,
                value: Value::Given(value),
                lease,
            }) => {
                model.insert(key, (value, lease));
            }
            Write::Put(Put {
                key,
                value: Value::Kept,
                lease,
            }) => {
                model.get_mut(&key).expect("a kept value was there").1 = lease;
            }
            Write::Delete(range) => model.retain(|key, _| !range.contains(key)),
        }
    }
}

/// One random entry: a put, a put that keeps the value, or a range delete, over eight keys.
fn step() -> impl Strategy<Value = (u8, u8, u8)> {
    (0_u8..3, 0_u8..8, 0_u8..9)
}

fn effect(model: &Model, index: u64, (kind, at, to): (u8, u8, u8)) -> Changes {
    let name = Bytes::copy_from_slice(&[b'a' + at]);
    let value = Value::Given(Bytes::from(format!("v{index}")));
    let lease = LeaseId(i64::from(to));
    match kind {
        0 => Changes {
            puts: vec![Put {
                key: name,
                value,
                lease,
            }],
            deletes: vec![],
        },
        1 if model.contains_key(&name) => Changes {
            puts: vec![Put {
                key: name,
                value: Value::Kept,
                lease,
            }],
            deletes: vec![],
        },
        2 => {
            let end = Bytes::copy_from_slice(&[b'a' + to]);
            Changes {
                puts: vec![],
                deletes: KeyRange::between(name, end).into_iter().collect(),
            }
        }
        _ => Changes::default(),
    }
}

proptest! {
    #[test]
    fn batches_leave_the_same_keys_as_the_entries_one_by_one(
        steps in prop::collection::vec(step(), 1..40),
        keep in any::<bool>(),
        split in any::<bool>(),
    ) {
        let history = if keep { History::Keep } else { History::Last };
        let (mut expected, mut standby) = (Model::new(), Model::new());
        let mut planner = Planner::new(LIMITS);
        let mut flush = |planner: &mut Planner| {
            let Some(batch) = planner.take() else { return };
            match if split { batch.clone().split() } else { None } {
                Some((first, second)) => {
                    apply(&mut standby, &first);
                    apply(&mut standby, &second);
                }
                None => apply(&mut standby, &batch),
            }
        };
        for (index, step) in (1..).zip(steps) {
            let changes = effect(&expected, index, step);
            let next = unit(index, changes.puts.clone(), changes.deletes.clone());
            let mut alone = Batch::default();
            alone.add(next.clone());
            apply(&mut expected, &alone);
            if let Some(back) = planner.push(next, history).unwrap() {
                flush(&mut planner);
                prop_assert!(planner.push(back, history).unwrap().is_none());
            }
            let batch = planner.open.clone();
            let mut rest = Changes::default();
            for write in batch.writes() {
                match write {
                    Write::Put(put) => rest.puts.push(put),
                    Write::Delete(range) => rest.deletes.push(range),
                }
            }
            prop_assert!(batch.bytes() >= weight(&rest));
        }
        flush(&mut planner);
        prop_assert_eq!(standby, expected);
    }
}
