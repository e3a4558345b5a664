//! Entries in, batches out.

use prost::Message as _;

use super::*;
use crate::entry::Committed;
use crate::ids::Term;
use crate::pb::etcdpb::{self, InternalRaftRequest};
use crate::plan::Write;
use crate::resolve::{DigestKey, Position, Put, Settings, Value, Version};
use crate::scope;

const LIMITS: Limits = Limits {
    batch_ops_max: 100,
    batch_bytes_max: 1 << 20,
    txn_ops_max: 128,
};

fn settings() -> Settings {
    Settings {
        digest_key: DigestKey::new(&[7; 32]),
        lease_ttl_min: 2,
        rules: Rules::of(Version::new(3, 6, 14)).unwrap(),
        voters: 1,
    }
}

fn pipeline(policy: HistoryPolicy) -> Pipeline {
    scoped(Scope::all(), policy)
}

fn scoped(scope: Scope, policy: HistoryPolicy) -> Pipeline {
    let state = PrimaryState::new(settings(), Position::START);
    Pipeline::new(state, Arc::new(scope), LIMITS, policy)
}

/// Keys below `a/`, named as below `copy/`, but for those below `a/x/`.
fn part() -> Scope {
    let text = |text: &str| vec![text.to_owned()];
    let prefixes = scope::parse(&text("a/"), &text("a/x/"), &text("a/=copy/"));
    Scope::new(prefixes.unwrap()).unwrap()
}

fn handout(index: u64, request: InternalRaftRequest) -> Handout {
    let header = etcdpb::RequestHeader {
        id: index,
        ..Default::default()
    };
    let request = InternalRaftRequest {
        header: Some(header),
        ..request
    };
    let data = request.encode_to_vec().into();
    let entry = Committed {
        index: RaftIndex(index),
        term: Term(2),
        kind: 0,
        data,
    };
    Handout {
        entry,
        members: None,
    }
}

fn put(key: &str, value: &str) -> InternalRaftRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    let put = etcdpb::PutRequest {
        key,
        value,
        ..Default::default()
    };
    InternalRaftRequest {
        put: Some(put),
        ..Default::default()
    }
}

/// If the value of `key` is greater than `than`, puts `then`.
fn put_if_greater(key: &str, than: &str, then: &str) -> InternalRaftRequest {
    put_if_all_greater(&[key], than, then)
}

fn put_if_all_greater(keys: &[&str], than: &str, then: &str) -> InternalRaftRequest {
    let compare = |key: &&str| etcdpb::Compare {
        result: 1,
        target: 3,
        key: (*key).to_owned().into(),
        target_union: Some(etcdpb::compare::TargetUnion::Value(than.to_owned().into())),
        ..Default::default()
    };
    let put = etcdpb::PutRequest {
        key: then.to_owned().into(),
        value: "v".into(),
        ..Default::default()
    };
    let op = etcdpb::RequestOp {
        request: Some(etcdpb::request_op::Request::RequestPut(put)),
    };
    let txn = etcdpb::TxnRequest {
        compare: keys.iter().map(compare).collect(),
        success: vec![op],
        ..Default::default()
    };
    InternalRaftRequest {
        txn: Some(txn),
        ..Default::default()
    }
}

fn unknown() -> InternalRaftRequest {
    let enable = etcdpb::DowngradeVersionTestRequest::default();
    InternalRaftRequest {
        downgrade_version_test: Some(enable.clone()),
        auth_status: Some(etcdpb::AuthStatusRequest {}),
        ..Default::default()
    }
}

fn batch(pipeline: &mut Pipeline) -> (Vec<u64>, Vec<Write>) {
    match pipeline.poll().unwrap() {
        Polled::Batch(batch) => {
            let indexes = batch.units().iter().map(|unit| unit.index.0).collect();
            (indexes, batch.writes().collect())
        }
        other => panic!("{other:?}"),
    }
}

fn written(key: &str, value: &str) -> Write {
    let value = Value::Given(Bytes::from(value.to_owned()));
    Write::Put(Put {
        key: key.to_owned().into(),
        value,
        lease: crate::ids::LeaseId(0),
    })
}

fn is_idle(pipeline: &mut Pipeline) -> bool {
    matches!(pipeline.poll(), Ok(Polled::Idle))
}

#[test]
fn what_waits_becomes_one_batch() {
    let mut pipeline = pipeline(HistoryPolicy::Auto);
    assert!(is_idle(&mut pipeline));
    pipeline.push([handout(1, put("a", "1")), handout(2, put("b", "2"))]);
    let expected = (vec![1, 2], vec![written("a", "1"), written("b", "2")]);
    assert_eq!(batch(&mut pipeline), expected);
    assert!(is_idle(&mut pipeline));
    assert_eq!(pipeline.resolved(), (RaftIndex(2), Revision(3)));
    assert_eq!(
        pipeline.tallies()["put"],
        Tally {
            with_effect: 2,
            without_effect: 0
        }
    );
}

#[test]
fn history_is_kept_while_close_behind_and_left_out_while_catching_up() {
    let mut close = pipeline(HistoryPolicy::Auto);
    close.push([handout(1, put("a", "1")), handout(2, put("a", "2"))]);
    assert_eq!(batch(&mut close), (vec![1], vec![written("a", "1")]));
    assert_eq!(batch(&mut close), (vec![2], vec![written("a", "2")]));
    let mut behind = pipeline(HistoryPolicy::Auto);
    let many = CLOSE_BEHIND_ENTRIES as u64 + 1;
    behind.push((1..=many).map(|index| handout(index, put("a", &index.to_string()))));
    let (indexes, writes) = batch(&mut behind);
    assert_eq!(
        (indexes.len() as u64, writes),
        (many, vec![written("a", &many.to_string())])
    );
}

#[test]
fn an_ordering_compare_is_asked_of_the_standby_after_everything_before_it() {
    for (value, outcome) in [("m", true), ("c", false)] {
        let mut pipeline = pipeline(HistoryPolicy::Auto);
        pipeline.push([
            handout(1, put("a", value)),
            handout(2, put_if_greater("a", "k", "b")),
            handout(3, put("c", "3")),
        ]);
        assert_eq!(batch(&mut pipeline), (vec![1], vec![written("a", value)]));
        let asked = pipeline.poll().unwrap();
        assert!(
            matches!(asked, Polled::Read(ref keys) if *keys == ["a"]),
            "{asked:?}"
        );
        pipeline
            .provide([("a".into(), Some(Bytes::from(value)))])
            .unwrap();
        let mut expected = vec![written("c", "3")];
        if outcome {
            expected.insert(0, written("b", "v"));
        }
        assert_eq!(batch(&mut pipeline), (vec![2, 3], expected));
    }
}

#[test]
fn a_standby_that_holds_something_else_is_found_out() {
    let mut pipeline = pipeline(HistoryPolicy::Auto);
    pipeline.push([
        handout(1, put("a", "m")),
        handout(2, put_if_greater("a", "k", "b")),
    ]);
    batch(&mut pipeline);
    assert!(matches!(pipeline.poll(), Ok(Polled::Read(_))));
    let error = pipeline
        .provide([("a".into(), Some(Bytes::from("x")))])
        .unwrap_err();
    assert!(matches!(error, Error::Resolve(_)), "{error}");
}

#[test]
fn what_comes_before_an_entry_that_is_not_understood_still_goes_out() {
    let mut pipeline = pipeline(HistoryPolicy::Auto);
    pipeline.push([
        handout(1, put("a", "1")),
        handout(2, unknown()),
        handout(3, put("b", "2")),
    ]);
    assert_eq!(batch(&mut pipeline), (vec![1], vec![written("a", "1")]));
    for _ in 0..2 {
        let error = pipeline.poll().unwrap_err();
        assert!(matches!(error, Error::Decode(_)), "{error}");
        assert!(error.to_string().contains("entry 2"), "{error}");
    }
}

#[test]
fn a_batch_that_was_too_large_comes_back_in_halves() {
    let mut pipeline = pipeline(HistoryPolicy::Auto);
    pipeline.push((1..=3).map(|index| handout(index, put(&format!("k{index}"), "v"))));
    let Ok(Polled::Batch(whole)) = pipeline.poll() else {
        panic!("no batch")
    };
    assert!(pipeline.give_back(*whole));
    assert_eq!(batch(&mut pipeline).0, [1]);
    let Ok(Polled::Batch(rest)) = pipeline.poll() else {
        panic!("no batch")
    };
    assert!(pipeline.give_back(*rest));
    assert_eq!(batch(&mut pipeline).0, [2]);
    let Ok(Polled::Batch(single)) = pipeline.poll() else {
        panic!("no batch")
    };
    assert!(!pipeline.give_back(*single), "one entry cannot be parted");
}

/// A login, which changes nothing.
fn authenticate() -> InternalRaftRequest {
    InternalRaftRequest {
        authenticate: Some(etcdpb::AuthenticateRequest::default()),
        ..Default::default()
    }
}

fn add_user(name: &str) -> InternalRaftRequest {
    let add = etcdpb::AuthUserAddRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    InternalRaftRequest {
        auth_user_add: Some(add),
        ..Default::default()
    }
}

#[test]
fn users_come_in_batches_of_their_own_with_the_state_that_they_lead_to() {
    let mut pipeline = pipeline(HistoryPolicy::Last);
    pipeline.push([
        handout(1, put("a", "1")),
        handout(2, add_user("u")),
        handout(3, authenticate()),
        handout(4, add_user("v")),
        handout(5, add_user("v")),
        handout(6, put("a", "2")),
        handout(7, put("b", "2")),
        handout(8, add_user("w")),
    ]);
    let mut seen = Vec::new();
    while let Ok(Polled::Batch(batch)) = pipeline.poll() {
        let indexes: Vec<u64> = batch.units().iter().map(|unit| unit.index.0).collect();
        let users = pipeline
            .state()
            .auth()
            .users()
            .keys()
            .cloned()
            .collect::<String>();
        assert!(!batch.changes_auth() || batch.ops() == 0);
        seen.push((indexes, batch.changes_auth().then_some(users)));
    }
    let users = |names: &str| Some(names.to_owned());
    let expected = [
        (vec![1], None),
        (vec![2, 3, 4, 5], users("uv")),
        (vec![6, 7], None),
        (vec![8], users("uvw")),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn what_is_not_in_scope_moves_the_checkpoint_and_nothing_else() {
    let mut pipeline = scoped(part(), HistoryPolicy::Auto);
    let delete = etcdpb::DeleteRangeRequest {
        key: "a/x/".into(),
        range_end: "b".into(),
        ..Default::default()
    };
    let delete = InternalRaftRequest {
        delete_range: Some(delete),
        ..Default::default()
    };
    pipeline.push([
        handout(1, put("b", "1")),
        handout(2, put("a/x/1", "1")),
        handout(3, put("-etcd-syncer-meta-/s/checkpoint", "1")),
    ]);
    assert_eq!(batch(&mut pipeline), (vec![1, 2, 3], vec![]));
    assert_eq!(pipeline.resolved(), (RaftIndex(3), Revision(4)));
    assert_eq!(pipeline.state().keys().len(), 3, "all are known");
    pipeline.push([handout(4, put("a/1", "1")), handout(5, delete)]);
    let range = |start: &'static str, end: &'static str| {
        let range = crate::range::KeyRange::between(start.into(), end.into());
        Write::Delete(range.unwrap())
    };
    let writes = vec![range("copy/x0", "copy0"), written("copy/1", "1")];
    assert_eq!(batch(&mut pipeline), (vec![4, 5], writes));
    assert_eq!(pipeline.state().keys().len(), 3);
}

#[test]
fn a_unit_that_waits_for_the_next_batch_is_renamed_once() {
    let text = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let names = scope::parse(&text(&["a", "b"]), &[], &text(&["a=b", "b=c"])).unwrap();
    let mut pipeline = scoped(Scope::new(names).unwrap(), HistoryPolicy::Keep);
    pipeline.push([handout(1, put("a", "1")), handout(2, put("a", "2"))]);
    assert_eq!(batch(&mut pipeline), (vec![1], vec![written("b", "1")]));
    assert_eq!(batch(&mut pipeline), (vec![2], vec![written("b", "2")]));
}

#[test]
fn a_value_is_read_under_the_name_that_it_has_on_the_standby() {
    let mut pipeline = scoped(part(), HistoryPolicy::Auto);
    pipeline.push([
        handout(1, put("a/1", "m")),
        handout(2, put_if_greater("a/1", "k", "a/2")),
    ]);
    batch(&mut pipeline);
    let asked = pipeline.poll().unwrap();
    assert!(
        matches!(asked, Polled::Read(ref names) if *names == ["copy/1"]),
        "{asked:?}"
    );
    let found = [("copy/1".into(), Some(Bytes::from("m")))];
    pipeline.provide(found).unwrap();
    let expected = (vec![2], vec![written("copy/2", "v")]);
    assert_eq!(batch(&mut pipeline), expected);
}

#[test]
fn an_ordering_compare_of_what_is_not_in_scope_stops_the_stream_by_name() {
    let mut pipeline = scoped(part(), HistoryPolicy::Auto);
    pipeline.push([
        handout(1, put("b", "m")),
        handout(2, put("a/1", "1")),
        handout(3, put_if_greater("b", "k", "a/2")),
        handout(4, put("a/3", "1")),
    ]);
    let before = (vec![1, 2], vec![written("copy/1", "1")]);
    assert_eq!(batch(&mut pipeline), before);
    for _ in 0..2 {
        let error = pipeline.poll().unwrap_err();
        assert!(matches!(error, Error::OutOfScope { .. }), "{error}");
        let message = error.to_string();
        for words in ["entry 3 (txn)", "\"b\"", "another --stream"] {
            assert!(message.contains(words), "{message}");
        }
    }
}

/// Of several compares one that does not hold is enough.
#[test]
fn what_is_in_scope_may_decide_for_all() {
    for (value, decides) in [("c", true), ("m", false)] {
        let mut pipeline = scoped(part(), HistoryPolicy::Auto);
        pipeline.push([
            handout(1, put("b", "m")),
            handout(2, put("a/1", value)),
            handout(3, put_if_all_greater(&["b", "a/1"], "k", "a/2")),
        ]);
        batch(&mut pipeline);
        let asked = pipeline.poll().unwrap();
        assert!(
            matches!(asked, Polled::Read(ref names) if *names == ["copy/1"]),
            "{asked:?}"
        );
        let provided = pipeline.provide([("copy/1".into(), Some(Bytes::from(value)))]);
        if decides {
            provided.unwrap();
            assert_eq!(batch(&mut pipeline), (vec![3], vec![]));
        } else {
            let error = provided.unwrap_err();
            assert!(matches!(error, Error::OutOfScope { .. }), "{error}");
            assert!(matches!(pipeline.poll(), Ok(Polled::Read(_))));
            assert_eq!(pipeline.provide([]), Err(error), "it does not go on");
        }
    }
}

/// What is not in scope is told to the ledger, so it counts.
#[test]
fn a_batch_has_an_end_though_nothing_in_it_is_in_scope() {
    let limits = Limits {
        batch_bytes_max: 1_000,
        ..LIMITS
    };
    let state = PrimaryState::new(settings(), Position::START);
    let mut pipeline = Pipeline::new(state, Arc::new(part()), limits, HistoryPolicy::Last);
    pipeline.push((1..=100).map(|index| handout(index, put(&format!("b{index}"), "v"))));
    let (indexes, writes) = batch(&mut pipeline);
    assert!((10..30).contains(&indexes.len()), "{}", indexes.len());
    assert_eq!(writes, []);
    // One key again and again is one line.
    let state = PrimaryState::new(settings(), Position::START);
    let mut pipeline = Pipeline::new(state, Arc::new(part()), limits, HistoryPolicy::Last);
    pipeline.push((1..=100).map(|index| handout(index, put("b", "v"))));
    assert_eq!(batch(&mut pipeline).0.len(), 100);
}

/// The state has taken it in, and the standby will not.
#[test]
fn what_is_beyond_the_limit_is_said_before_the_last_batch_is_written() {
    let mut pipeline = pipeline(HistoryPolicy::Keep).until(Some(Revision(2)));
    assert!(!pipeline.is_beyond());
    pipeline.push([handout(1, put("a", "1")), handout(2, put("a", "2"))]);
    assert_eq!(batch(&mut pipeline).0, [1]);
    assert!(pipeline.is_beyond());
    assert!(matches!(pipeline.poll(), Err(Error::Beyond { .. })));
}
