//! Every history of up to four ops over two keys and two leases: each put, delete, grant, revoke
//! and compaction, and one Txn for each way in which requests of a Txn can meet.

use super::harness::{Step, Trio};
use super::*;

fn value_compare(result: i32, key: &'static str, value: &'static str) -> Compare {
    compare(result, 3, key, TargetUnion::Value(value.into()))
}

fn alphabet() -> Vec<Op> {
    let run = |txn| Op::Txn(txn);
    let always = |ops| Op::Txn(txn(vec![], ops, vec![]));
    let a_exists = || vec![compare(1, 0, "a", TargetUnion::Version(0))];
    vec![
        // every put, with each lease or none, and keeping what there is
        Op::Put(put("a", "1")),
        Op::Put(put_leased("a", "2", 1)),
        Op::Put(put_leased("a", "2", 2)),
        Op::Put(put("b", "1")),
        Op::Put(put_leased("b", "1", 1)),
        Op::Put(put_leased("b", "1", 2)),
        Op::Put(put_lease_kept("a", "1")),
        Op::Put(put_lease_kept("b", "2")),
        Op::Put(put_value_kept("a", 0)),
        Op::Put(put_value_kept("b", 1)),
        Op::Put(PutRequest {
            ignore_lease: true,
            ..put_value_kept("b", 0)
        }),
        // every delete
        Op::DeleteRange(delete("a", "")),
        Op::DeleteRange(delete("b", "")),
        Op::DeleteRange(delete("a", "b")),
        Op::DeleteRange(delete("a", ALL)),
        grant(1, 1),
        grant(2, 60),
        revoke(1),
        revoke(2),
        compact(2),
        compact(3),
        // delete everything and put anew, or put first
        run(txn(
            a_exists(),
            vec![op(delete("a", ALL)), op(put_leased("b", "3", 1))],
            vec![op(put("a", "4")), op(put("b", "4"))],
        )),
        // the second put keeps what the first or an earlier entry wrote
        always(vec![
            op(delete("b", ALL)),
            op(put("b", "5")),
            op(put_value_kept("b", 0)),
            op(put_lease_kept("a", "6")),
        ]),
        // a crash if a exists
        always(vec![op(delete("a", ALL)), op(put_value_kept("a", 0))]),
        // nested: decided before the first put, deleted by the second sibling
        always(vec![
            op(put_leased("b", "7", 2)),
            op(txn(a_exists(), vec![op(put("a", "7"))], vec![])),
            op(txn(
                vec![],
                vec![op(delete("b", ""))],
                vec![op(put("a", "8"))],
            )),
        ]),
        run(txn(
            vec![value_compare(1, "a", "1"), value_compare(2, "b", "3")],
            vec![op(put("a", "9"))],
            vec![op(delete("b", "")), op(range_at(3))],
        )),
        // numbers of one key, and of all keys
        run(txn(
            vec![
                compare(0, 4, "a", TargetUnion::Lease(1)),
                Compare {
                    range_end: ALL.into(),
                    ..compare(2, 2, "a", TargetUnion::ModRevision(4))
                },
            ],
            vec![op(put_leased("b", "", 1)), op(put_lease_kept("a", "2"))],
            vec![op(put_value_kept("b", 2))],
        )),
    ]
}

#[test]
fn every_short_history_equals_the_model() {
    let alphabet = alphabet();
    let mut nodes = 0;
    extend(&Trio::new(3), &alphabet, 4, &mut nodes);
    assert!(nodes > 500_000, "only {nodes} histories");
}

fn extend(trio: &Trio, alphabet: &[Op], left: usize, nodes: &mut usize) {
    if left == 0 {
        return;
    }
    for op in alphabet {
        let mut next = trio.clone();
        *nodes += 1;
        if next.feed(op) == Step::Continues {
            extend(&next, alphabet, left - 1, nodes);
        }
    }
}
