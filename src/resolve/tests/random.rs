//! Random histories.

use proptest::prelude::*;

use super::harness::{Step, Trio};
use super::*;

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["a", "b", "c", "d", "dd", "e"]).prop_map(Bytes::from)
}

fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        3 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(ALL)),
        3 => key(),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "1", "2", "3"]).prop_map(Bytes::from)
}

fn lease() -> impl Strategy<Value = i64> {
    prop_oneof![4 => Just(0), 4 => 1_i64..4, 1 => Just(-1)]
}

fn revision() -> impl Strategy<Value = i64> {
    prop_oneof![5 => Just(0_i64), 5 => 1_i64..12, 1 => -2_i64..0, 1 => Just(1000)]
}

fn any_put() -> impl Strategy<Value = PutRequest> {
    let rarely = || prop::bool::weighted(0.2);
    (key(), value(), lease(), any::<bool>(), rarely(), rarely()).prop_map(
        |(key, value, lease, prev_kv, ignore_value, ignore_lease)| PutRequest {
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        },
    )
}

/// Which ranges are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spans {
    All,
    /// None whose end is before its key.
    Ordinary,
}

/// A key and a range end.
pub(super) fn span(of: Spans) -> impl Strategy<Value = (Bytes, Bytes)> {
    (key(), range_end()).prop_map(move |(key, end)| {
        let is_inverted = !end.is_empty() && end.as_ref() != ALL && end <= key;
        if of == Spans::Ordinary && is_inverted {
            (key, Bytes::new())
        } else {
            (key, end)
        }
    })
}

fn any_delete(spans: Spans) -> impl Strategy<Value = DeleteRangeRequest> {
    (span(spans), prop::bool::weighted(0.2)).prop_map(|((key, range_end), prev_kv)| {
        DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        }
    })
}

fn any_range(spans: Spans) -> impl Strategy<Value = RangeRequest> {
    (span(spans), revision()).prop_map(|((key, range_end), revision)| RangeRequest {
        key,
        range_end,
        revision,
        ..RangeRequest::default()
    })
}

fn any_compare(spans: Spans) -> impl Strategy<Value = Compare> {
    let own = prop_oneof![3 => 0_i32..5, 2 => Just(3)];
    // Mostly the target that the operand belongs to, now and then another or an unknown one.
    let target = prop_oneof![9 => Just(None), 1 => (-1_i32..7).prop_map(Some)];
    let result = prop_oneof![12 => 0_i32..4, 1 => Just(9)];
    let operand = (own, -1_i64..9, value(), prop::bool::weighted(0.95));
    (result, target, span(spans), operand).prop_map(
        |(result, target, (key, range_end), (own, number, value, is_set))| {
            let operand = match own {
                0 => TargetUnion::Version(number),
                1 => TargetUnion::CreateRevision(number),
                2 => TargetUnion::ModRevision(number),
                3 => TargetUnion::Value(value),
                _ => TargetUnion::Lease(number),
            };
            Compare {
                result,
                target: target.unwrap_or(own),
                key,
                range_end,
                target_union: is_set.then_some(operand),
            }
        },
    )
}

fn any_txn(spans: Spans) -> impl Strategy<Value = TxnRequest> {
    let compares = move || prop::collection::vec(any_compare(spans), 0..3);
    let leaf = prop_oneof![
        6 => any_put().prop_map(op),
        3 => any_delete(spans).prop_map(op),
        1 => any_range(spans).prop_map(op),
    ];
    let list = leaf.prop_recursive(3, 24, 4, move |inner| {
        let ops = || prop::collection::vec(inner.clone(), 0..4);
        (compares(), ops(), ops()).prop_map(|(c, success, failure)| op(txn(c, success, failure)))
    });
    let ops = || prop::collection::vec(list.clone(), 0..5);
    (compares(), ops(), ops()).prop_map(|(c, success, failure)| txn(c, success, failure))
}

pub(super) fn any_op(spans: Spans) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any_put().prop_map(Op::Put),
        3 => any_delete(spans).prop_map(Op::DeleteRange),
        12 => any_txn(spans).prop_map(Op::Txn),
        1 => (-1_i64..20).prop_map(compact),
        4 => (-1_i64..4, -1_i64..9).prop_map(|(id, ttl)| grant(id, ttl)),
        2 => (-1_i64..4).prop_map(revoke),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    /// State, standby and leases equal the model's after each entry; a history ends at a halt that
    /// the model sees the cause of.
    #[test]
    fn random_histories_equal_the_model(
        voters in 1_usize..4,
        ops in prop::collection::vec(any_op(Spans::All), 1..40),
    ) {
        let mut trio = Trio::new(voters);
        for op in &ops {
            if trio.feed(op) == Step::Halts {
                break;
            }
        }
    }
}
