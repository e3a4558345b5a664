//! One test for each rule, with whole outputs.

use super::fixture::*;
use super::*;
use crate::ids::{LeaseId, Revision};
use crate::range::KeyRange;

#[test]
fn a_put_writes_one_key_in_one_revision() {
    let mut f = Fixture::new();
    assert_eq!(
        f.done(Op::Put(put("a", "1"))),
        Resolved {
            index: RaftIndex(5),
            revision: Revision(5),
            compact_revision: Revision(-1),
            kind: "put",
            outcome: Outcome::Effect,
            changes: puts(vec![given("a", "1", 0)]),
            lease: None,
            auth: vec![],
            alarm: None,
            disagreement: None,
        }
    );
    assert_eq!(f.meta("a"), Some((2, 5, 2, 0)));
    f.changes(Op::Put(put("n", "")));
    assert_eq!(f.meta("n"), Some((6, 6, 1, 0)));
}

#[test]
fn a_put_can_keep_value_and_lease() {
    let mut f = Fixture::new();
    assert_eq!(
        f.changes(Op::Put(put_value_kept("b", 0))),
        puts(vec![kept("b", 0)])
    );
    assert!(f.attached(7).is_empty(), "lease 0 detaches");
    assert_eq!(
        f.changes(Op::Put(put_value_kept("c", 7))),
        puts(vec![kept("c", 7)])
    );
    assert_eq!(
        f.changes(Op::Put(put_lease_kept("c", "9"))),
        puts(vec![given("c", "9", 7)])
    );
    assert_eq!(f.attached(7), [b"c"]);
    // A value beside ignore_value is not written.
    let both = PutRequest {
        value: "8".into(),
        ..put_value_kept("c", 0)
    };
    assert_eq!(f.changes(Op::Put(both)), puts(vec![kept("c", 0)]));
    assert!(f.holds(compare(0, 3, "c", TargetUnion::Value("9".into()))));
}

#[test]
fn puts_are_refused_for_a_missing_lease_or_key() {
    let mut f = Fixture::new();
    f.nothing(Op::Put(put_leased("b", "x", 3039)), "lease not found");
    f.nothing(Op::Put(put_value_kept("nope", 0)), "key not found");
    f.nothing(Op::Put(put_lease_kept("nope", "x")), "key not found");
}

#[test]
fn deletes_take_every_form_of_range() {
    let gone = |start: &'static str, end: &'static [u8]| {
        let mut f = Fixture::new();
        let changes = f.changes(Op::DeleteRange(delete(start, end)));
        let left: Vec<_> = f.state.keys().map(|(key, _)| key.to_vec()).collect();
        (changes, left.concat())
    };
    assert_eq!(gone("b", b""), (deletes(vec![single("b")]), b"ac".into()));
    assert_eq!(
        gone("a", b"c"),
        (deletes(vec![between(b"a", b"c")]), b"c".into())
    );
    assert_eq!(
        gone("b", ALL),
        (deletes(vec![KeyRange::from("b".into())]), b"a".into())
    );
    let mut f = Fixture::new();
    for (start, end) in [("zzz", ""), ("z", "a"), ("a", "a"), ("d", "e")] {
        f.nothing(Op::DeleteRange(delete(start, end)), "no key changes");
    }
}

#[test]
fn a_key_deleted_and_put_again_is_fresh() {
    let mut f = Fixture::new();
    f.changes(Op::DeleteRange(delete("b", "")));
    assert!(f.attached(7).is_empty());
    f.changes(Op::Put(put("b", "1")));
    assert_eq!(f.meta("b"), Some((6, 6, 1, 0)));
}

#[test]
fn a_range_delete_is_split_around_what_is_put_again() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![op(delete("a", ALL)), op(put("b", "9"))]));
    assert_eq!(
        changes,
        Changes {
            puts: vec![given("b", "9", 0)],
            deletes: vec![
                between(b"a", b"b"),
                KeyRange::from(b"b\0".as_slice().into())
            ],
        }
    );
    assert_eq!(f.meta("b"), Some((5, 5, 1, 0)));
    // Now only b is left, so neither side of it holds a key.
    let changes = f.changes(always(vec![op(delete("a", ALL)), op(put("b", "9"))]));
    assert_eq!(changes, puts(vec![given("b", "9", 0)]));
}

#[test]
fn a_new_key_put_and_deleted_leaves_nothing_but_a_revision() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![op(put("n", "1")), op(delete("n", ""))]));
    assert_eq!(changes, Changes::default());
    // One that existed is deleted.
    let changes = f.changes(always(vec![op(put("a", "1")), op(delete("a", ""))]));
    assert_eq!(changes, deletes(vec![single("a")]));
}

#[test]
fn many_writes_of_one_key_come_to_the_last() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![
        op(put("c", "4")),
        op(put_value_kept("c", 7)),
        nested(vec![
            op(put_lease_kept("c", "5")),
            op(put_value_kept("a", 0)),
        ]),
        op(put_value_kept("c", 7)),
    ]));
    assert_eq!(changes, puts(vec![kept("a", 0), given("c", "5", 7)]));
    assert_eq!(f.meta("c"), Some((4, 5, 5, 7)));
    assert_eq!(f.attached(7), [b"b", b"c"]);
}

#[test]
fn overlapping_deletes_become_one() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![
        op(delete("a", "c")),
        op(delete("b", "d")),
        op(delete("x", "y")),
    ]));
    assert_eq!(changes, deletes(vec![between(b"a", b"d")]));
}

#[test]
fn nested_compares_see_the_state_before_the_entry() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![
        op(put("k1", "x")),
        op(txn(
            vec![compare(1, 0, "k1", TargetUnion::Version(0))],
            vec![op(put("k2", "yes"))],
            vec![op(put("k2", "no"))],
        )),
    ]));
    assert_eq!(
        changes,
        puts(vec![given("k1", "x", 0), given("k2", "no", 0)])
    );
}

#[test]
fn siblings_run_in_order() {
    let mut f = Fixture::new();
    let changes = f.changes(always(vec![
        nested(vec![op(put("k", "1"))]),
        nested(vec![op(delete("k", ""))]),
    ]));
    assert_eq!(changes, Changes::default());
}

#[test]
fn a_txn_is_refused_as_a_whole() {
    let mut f = Fixture::new();
    let good = || op(put("g", "1"));
    let refused = [
        (op(put_leased("h", "1", 777)), "lease not found"),
        (op(put_value_kept("h", 0)), "key not found"),
        (nested(vec![op(put_lease_kept("h", "1"))]), "key not found"),
        (
            nested(vec![op(range_at(100_000))]),
            "range at a future revision",
        ),
    ];
    for (bad, reason) in refused {
        f.nothing(always(vec![good(), bad]), reason);
    }
    // Judged by the state before the entry, so a put before does not help.
    f.nothing(
        always(vec![good(), op(put_value_kept("g", 0))]),
        "key not found",
    );
    // What does not run is not judged.
    let changes = f.changes(Op::Txn(txn(
        vec![],
        vec![good()],
        vec![op(put_leased("h", "1", 777))],
    )));
    assert_eq!(changes, puts(vec![given("g", "1", 0)]));
}

#[test]
fn a_txn_without_writes_makes_no_revision() {
    let mut f = Fixture::new();
    let reason = "no key changes";
    f.nothing(always(vec![]), reason);
    f.nothing(always(vec![nested(vec![op(range_at(0))])]), reason);
    f.nothing(always(vec![op(delete("zzz", ""))]), reason);
}

#[test]
fn ranges_between_compact_and_current_revision_are_let_through() {
    let mut f = Fixture::new();
    let at = |revision| always(vec![op(put("g", "")), nested(vec![op(range_at(revision))])]);
    f.changes(at(-1));
    f.nothing(at(-2), "range at a compacted revision");
    f.done(compact(5));
    f.nothing(at(-1), "range at a compacted revision");
    f.nothing(at(4), "range at a compacted revision");
    f.changes(at(5));
    f.changes(at(6));
    f.nothing(at(8), "range at a future revision");
}

#[test]
fn only_the_proposer_judges_top_level_ranges() {
    let ask = || always(vec![op(put("d1", "")), op(range_at(100_000))]);
    let reason = "range at a future revision";
    let disagreement = || Disagreement {
        cause: Cause::TopLevelRange,
        keys: vec![single("d1")],
    };

    let mut three = Fixture::new();
    let resolved = three.done(ask());
    assert_eq!(resolved.changes, puts(vec![given("d1", "", 0)]));
    assert_eq!(resolved.disagreement, Some(disagreement()));

    let mut one = Fixture::new();
    one.state.set_voters(1);
    let resolved = one.done(ask());
    assert_eq!(resolved.outcome, Outcome::None(reason));
    assert_eq!(resolved.disagreement, Some(disagreement()));

    let mut two = Fixture::new();
    two.state.set_voters(2);
    let problem = two.halts(ask());
    assert!(matches!(problem, Problem::MembersDisagree(_)), "{problem}");

    let mut new = Fixture::new();
    new.state.set_rules(rules_of("3.7.1"));
    new.nothing(ask(), reason);

    // All refuse, or nothing would have changed anyway.
    let bad = op(put_leased("h", "1", 777));
    two.nothing(always(vec![bad, op(range_at(9))]), "lease not found");
    two.nothing(always(vec![op(range_at(100_000))]), "no key changes");
}

#[test]
fn entries_that_crash_members_halt() {
    let mut f = Fixture::new();
    let poisons = [
        always(vec![op(delete("a", ALL)), op(put_value_kept("b", 0))]),
        always(vec![op(delete("a", ALL)), op(put_lease_kept("b", "1"))]),
        always(vec![RequestOp { request: None }]),
        Op::Txn(txn(
            vec![],
            vec![],
            vec![nested(vec![RequestOp { request: None }])],
        )),
        always(vec![nested(vec![op(RangeRequest {
            sort_order: 0,
            sort_target: 5,
            ..range_at(0)
        })])]),
    ];
    for poison in poisons {
        let problem = f.halts(poison);
        assert!(matches!(problem, Problem::Poison(_)), "{problem}");
    }
    let mut new = Fixture::new();
    new.state.set_rules(rules_of("3.7.1"));
    let undefined = RangeRequest {
        sort_target: 5,
        ..range_at(0)
    };
    new.changes(always(vec![op(put("a", "")), nested(vec![op(undefined)])]));
    // A defined target, or a place where only the proposer crashes, once.
    let range = |sort_order, sort_target| RangeRequest {
        sort_order,
        sort_target,
        ..range_at(0)
    };
    for harmless in [
        nested(vec![op(range(2, 4))]),
        nested(vec![op(range(7, 0))]),
        op(range(1, 5)),
    ] {
        f.changes(always(vec![op(put("a", "")), harmless]));
    }
}

#[test]
fn a_kept_lease_that_is_gone_crashes_members() {
    let mut f = Fixture::new();
    let meta = KeyMeta {
        lease: LeaseId(99),
        ..*f.state.key(b"a").expect("exists")
    };
    f.state.restore_key(b"a", meta);
    let problem = f.halts(Op::Put(put_lease_kept("a", "1")));
    assert!(matches!(problem, Problem::Poison(_)), "{problem}");
    f.changes(Op::Put(put("a", "1")));
}

#[test]
fn compares_of_numbers() {
    let mut f = Fixture::new();
    f.changes(Op::Put(put("a", "2")));
    let version = TargetUnion::Version;
    // a: created 2, modified 5, version 2; b: created and modified 3, version 1, lease 7
    let rows = [
        (0, 0, "a", version(2), true),
        (0, 0, "a", version(1), false),
        (1, 0, "a", version(1), true),
        (2, 0, "a", version(2), false),
        (3, 0, "a", version(2), false),
        (3, 0, "a", version(3), true),
        (0, 1, "a", TargetUnion::CreateRevision(2), true),
        (0, 2, "a", TargetUnion::ModRevision(5), true),
        (2, 2, "a", TargetUnion::ModRevision(5), false),
        (0, 4, "b", TargetUnion::Lease(7), true),
        (1, 4, "b", TargetUnion::Lease(6), true),
        // Absent keys count as zero.
        (0, 0, "no", version(0), true),
        (0, 1, "no", TargetUnion::CreateRevision(0), true),
        (2, 2, "no", TargetUnion::ModRevision(1), true),
        (0, 4, "no", TargetUnion::Lease(0), true),
        // An operand of another target counts as zero.
        (0, 0, "a", TargetUnion::ModRevision(2), false),
        (1, 0, "a", TargetUnion::ModRevision(2), true),
        (0, 4, "a", version(9), true),
        // Unknown operators hold, unknown targets are equal.
        (4, 0, "a", version(77), true),
        (-1, 0, "no", version(77), true),
        (0, 5, "a", version(77), true),
        (0, 5, "no", version(77), true),
        (1, 5, "a", version(0), false),
        (2, 5, "a", version(0), false),
        (3, 5, "a", version(0), false),
        (9, 9, "a", version(0), true),
    ];
    for (result, target, key, operand, expected) in rows {
        let compare = compare(result, target, key, operand);
        assert_eq!(f.holds(compare.clone()), expected, "{compare:?}");
    }
}

#[test]
fn compares_of_values_by_equality() {
    let f = Fixture::new();
    let value = |value: &'static str| TargetUnion::Value(value.into());
    let rows = [
        (0, "a", value("1"), true),
        (0, "a", value("2"), false),
        (3, "a", value("1"), false),
        (3, "a", value("2"), true),
        (7, "a", value("2"), true),
        // An equal value is neither greater nor less: no need to know it.
        (1, "a", value("1"), false),
        (2, "a", value("1"), false),
        // Absent keys hold for no operator.
        (0, "no", value(""), false),
        (1, "no", value(""), false),
        (2, "no", value("z"), false),
        (3, "no", value("1"), false),
        (9, "no", value("1"), false),
        // No operand of its own is the empty value.
        (3, "a", TargetUnion::Version(1), true),
    ];
    for (result, key, operand, expected) in rows {
        let compare = compare(result, 3, key, operand);
        assert_eq!(f.holds(compare.clone()), expected, "{compare:?}");
    }
}

#[test]
fn compares_of_ranges_must_hold_for_every_key() {
    let f = Fixture::new();
    let over = |key, end: &'static [u8], modified| Compare {
        range_end: end.into(),
        ..compare(1, 2, key, TargetUnion::ModRevision(modified))
    };
    let rows = [
        (over("a", ALL, 1), true),
        (over("a", ALL, 2), false),
        (over("b", ALL, 2), true),
        (over("a", b"b", 2), false),
        (over("b", b"d", 2), true),
        // Nothing in it: compared once with zero.
        (over("x", b"z", 0), false),
        (over("z", b"a", -1), true),
    ];
    for (compare, expected) in rows {
        assert_eq!(f.holds(compare.clone()), expected, "{compare:?}");
    }
}

fn by_order(result: i32, key: &'static str, end: &'static [u8], value: &'static str) -> Compare {
    Compare {
        range_end: end.into(),
        ..compare(result, 3, key, TargetUnion::Value(value.into()))
    }
}

fn values(of: &[(&'static str, Option<&'static str>)]) -> Values {
    let mut values = Values::default();
    for (key, value) in of {
        values.insert((*key).into(), value.map(Bytes::from));
    }
    values
}

#[test]
fn order_needs_values_and_asks_for_all_it_needs() {
    let mut f = Fixture::new();
    let ask = Op::Txn(txn(
        vec![by_order(1, "a", ALL, "0")],
        vec![op(txn(
            vec![by_order(2, "b", b"", "9")],
            vec![op(put("b", "less"))],
            vec![],
        ))],
        vec![op(put("no", ""))],
    ));
    let needs = |keys: &[&'static str]| {
        let keys = keys.iter().map(|key| Bytes::from(*key)).collect();
        Ok(Resolution::NeedsValues(keys))
    };
    let before = f.state.position();
    let asked = f.try_with(ask.clone(), &Values::default());
    assert_eq!(asked, needs(&["a", "b", "c"]));
    // What was given is asked for again together with what is missing.
    let some = values(&[("a", Some("1")), ("c", Some("3"))]);
    assert_eq!(f.try_with(ask.clone(), &some), needs(&["a", "b", "c"]));
    assert_eq!(f.state.position(), before);
    let all = values(&[("a", Some("1")), ("b", Some("2")), ("c", Some("3"))]);
    let Ok(Resolution::Done(resolved)) = f.try_with(ask, &all) else {
        panic!("not done");
    };
    assert_eq!(resolved.changes, puts(vec![given("b", "less", 0)]));
}

#[test]
fn values_are_not_asked_for_when_another_compare_fails() {
    let mut f = Fixture::new();
    let changes = f.changes(Op::Txn(txn(
        vec![
            by_order(1, "a", b"", "0"),
            compare(0, 0, "a", TargetUnion::Version(9)),
        ],
        vec![],
        vec![op(put("no", ""))],
    )));
    assert_eq!(changes, puts(vec![given("no", "", 0)]));
}

#[test]
fn a_value_that_is_not_the_primarys_halts() {
    let ask = Op::Txn(txn(vec![by_order(1, "a", b"", "0")], vec![], vec![]));
    for wrong in [Some("5"), None] {
        let mut f = Fixture::new();
        let values = values(&[("a", wrong)]);
        assert_eq!(
            f.try_with(ask.clone(), &values),
            Err(Problem::StandbyDiffers {
                key: ShownKey("a".into())
            })
        );
    }
}

#[test]
fn compactions_only_go_forward_and_not_into_the_future() {
    let mut f = Fixture::new();
    f.nothing(compact(-1), "compacted already");
    f.nothing(compact(5), "compaction at a future revision");
    for revision in [0, 3, 4] {
        let resolved = f.done(compact(revision));
        assert_eq!(resolved.outcome, Outcome::Effect);
        assert_eq!(resolved.compact_revision, Revision(revision));
        assert_eq!(resolved.revision, Revision(4));
        assert!(resolved.changes.is_empty());
    }
    f.nothing(compact(4), "compacted already");
    f.nothing(compact(0), "compacted already");
}

#[test]
fn a_compaction_that_loses_live_keys_halts() {
    let rewrite = || {
        always(vec![
            op(delete("a", ALL)),
            op(put("b", "9")),
            op(put("c", "9")),
        ])
    };
    let mut f = Fixture::new();
    f.changes(rewrite());
    f.changes(Op::Put(put("z", "")));
    assert_eq!(
        f.halts(compact(5)),
        Problem::CompactionLosesKeys {
            revision: Revision(5),
            keys: 2,
            first: ShownKey("b".into()),
        }
    );
    // One below and one above are harmless.
    for revision in [4, 6] {
        assert_eq!(f.done(compact(revision)).outcome, Outcome::Effect);
    }
    assert_eq!(f.state.reputs().count(), 0);
    // Neither is a key that was put first, or that did not exist when it was deleted.
    f.changes(always(vec![op(put("b", "9")), op(delete("b", ""))]));
    f.changes(always(vec![op(delete("x", ALL)), op(put("y", "9"))]));
    for revision in [7, 8] {
        assert_eq!(f.done(compact(revision)).outcome, Outcome::Effect);
    }
}

#[test]
fn grants_store_the_raised_ttl() {
    let mut f = Fixture::new();
    let granted = |id, ttl| {
        let id = LeaseId(id);
        Some(LeaseChange::Granted { id, ttl })
    };
    for (id, ttl, stored) in [
        (1, 1, 2),
        (2, 60, 60),
        (-3, -5, 2),
        (4, 9_000_000_000, 9_000_000_000),
    ] {
        let resolved = f.done(grant(id, ttl));
        assert_eq!(resolved.lease, granted(id, stored));
        assert_eq!(resolved.outcome, Outcome::Effect);
        assert_eq!(resolved.revision, Revision(4));
        assert!(resolved.changes.is_empty());
    }
    f.nothing(grant(0, 60), "lease id 0");
    f.nothing(grant(2, 70), "lease exists already");
    f.nothing(grant(5, 9_000_000_001), "lease ttl too large");
}

#[test]
fn a_revoke_deletes_the_attached_keys_in_one_revision() {
    let mut f = Fixture::new();
    f.changes(Op::Put(put_leased("a", "5", 7)));
    let resolved = f.done(revoke(7));
    assert_eq!(
        resolved,
        Resolved {
            index: RaftIndex(6),
            revision: Revision(6),
            compact_revision: Revision(-1),
            kind: "lease_revoke",
            outcome: Outcome::Effect,
            changes: deletes(vec![single("a"), single("b")]),
            lease: Some(LeaseChange::Revoked { id: LeaseId(7) }),
            auth: vec![],
            alarm: None,
            disagreement: None,
        }
    );
    f.nothing(revoke(7), "lease not found");
    f.done(grant(7, 60));
    let resolved = f.done(revoke(7));
    assert_eq!(resolved.revision, Revision(6));
    assert_eq!(
        resolved.lease,
        Some(LeaseChange::Revoked { id: LeaseId(7) })
    );
}

#[test]
fn a_lease_checkpoint_is_noted_and_does_nothing() {
    let mut f = Fixture::new();
    let checkpoint = |id, remaining_ttl| etcdpb::LeaseCheckpoint { id, remaining_ttl };
    f.nothing(
        Op::LeaseCheckpoint(etcdpb::LeaseCheckpointRequest {
            checkpoints: vec![checkpoint(7, 30), checkpoint(8, 30)],
        }),
        "only the remaining time of leases",
    );
    let lease = f.state.lease(LeaseId(7)).expect("exists");
    assert_eq!((lease.ttl(), lease.remaining()), (60, 30));
    assert_eq!(f.state.lease(LeaseId(8)), None);
}

#[test]
fn kinds_without_effect_are_counted() {
    let mut f = Fixture::new();
    let alarm = |action| {
        Op::Alarm(etcdpb::AlarmRequest {
            action,
            member_id: 1,
            alarm: 1,
        })
    };
    let v2 = Op::V2 {
        method: "PUT".into(),
        path: "/0/version".into(),
    };
    let rows = [
        (Op::Empty, "a term opens"),
        (
            Op::ConfChange(crate::pb::raftpb::ConfChange::default()),
            "membership",
        ),
        (v2, "cluster information"),
        (
            Op::ClusterVersionSet(Default::default()),
            "cluster information",
        ),
        (
            Op::ClusterMemberAttrSet(Default::default()),
            "cluster information",
        ),
        (
            Op::DowngradeInfoSet(Default::default()),
            "cluster information",
        ),
        (Op::DowngradeVersionTest, "cluster information"),
        (Op::Range(range_at(1000)), "read only"),
        (Op::Authenticate(Default::default()), "read only"),
        (Op::AuthStatus, "read only"),
        (Op::AuthUserGet, "read only"),
        (Op::AuthUserList, "read only"),
        (Op::AuthRoleGet, "read only"),
        (Op::AuthRoleList, "read only"),
        (alarm(0), "read only"),
        (alarm(7), "unknown alarm action"),
    ];
    for (op, reason) in rows {
        f.nothing(op, reason);
    }
}

#[test]
fn entries_come_one_after_the_other() {
    let mut f = Fixture::new();
    for index in [3, 4, 6] {
        let error = f.state.resolve(&entry(index, Op::Empty)).unwrap_err();
        let expected = RaftIndex(5);
        assert_eq!(error.problem, Problem::OutOfOrder { expected });
    }
    assert!(f.state.resolve(&entry(5, Op::Empty)).is_ok());
}

#[test]
fn a_restored_state_equals_the_one_it_was_taken_from() {
    let mut f = Fixture::new();
    f.changes(always(vec![
        op(delete("a", ALL)),
        op(put_leased("b", "9", 7)),
    ]));
    let mut copy = PrimaryState::new(settings(), f.state.position());
    for (id, lease) in f.state.leases() {
        copy.restore_lease(id, lease.ttl(), lease.remaining());
    }
    for (key, meta) in f.state.keys() {
        copy.restore_key(key, *meta);
    }
    for (revision, keys) in f.state.reputs() {
        keys.for_each(|key| copy.restore_reput(revision, key));
    }
    assert_eq!(format!("{copy:?}"), format!("{:?}", f.state));
}

#[test]
fn long_keys_are_cut_in_messages() {
    let key = ShownKey(vec![b'k'; 70].into());
    let shown = format!("\"{}\"... (70 bytes)", "k".repeat(64));
    assert_eq!(key.to_string(), shown);
    assert_eq!(
        ShownKey(Bytes::from_static(b"\0\xff")).to_string(),
        r#""\x00\xff""#
    );
}
