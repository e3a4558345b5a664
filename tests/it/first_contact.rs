//! Whether a process may write to a standby: what the checkpoints in it say of scopes.

use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::reserved;
use etcd_syncer::scope::{Prefixes, Rewrite, Scope, parse};
use etcd_syncer::standby::{Claim, Contact, ContactError, Guard, first_contact};

use crate::fake_standby::FakeStandby;

const PRIMARY: ClusterId = ClusterId(1);

fn scope(include: &[&str], rewrite: &[&str]) -> Scope {
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    Scope::new(parse(&texts(include), &[], &texts(rewrite)).unwrap()).unwrap()
}

fn checkpoint(scope: Prefixes) -> Vec<u8> {
    let checkpoint = Checkpoint {
        primary: PRIMARY,
        member: MemberId(2),
        index: RaftIndex(3),
        term: Term(1),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: 7,
        batch: 1,
        ledger: Place::empty([0; 32]),
        ending_lease: LeaseId(0),
        scope,
    };
    checkpoint.encode()
}

/// A standby of stream `other`, which has a ledger.
fn standby_of(other: &str, record: &[u8]) -> FakeStandby {
    let standby = FakeStandby::new();
    let key = reserved::checkpoint_key(other);
    standby.state().put(&key, record);
    let chunk = reserved::ledger_chunk(other, 1, 0);
    standby.state().put(&chunk, b"chunk");
    standby
}

async fn ask(standby: &FakeStandby, scope: &Scope) -> Result<Contact, ContactError> {
    let mut standby = standby.clone().scope(scope.clone());
    let claim = Claim {
        stream: "s",
        primary: PRIMARY,
        scope,
    };
    first_contact(&mut standby, &claim).await
}

#[tokio::test]
async fn a_stream_keeps_its_scope() {
    let before = scope(&["b/", "a/"], &["a/=c/"]);
    let standby = standby_of("s", &checkpoint(before.prefixes().clone()));
    let same = ask(&standby, &scope(&["a/", "b/"], &["a/=c/"]))
        .await
        .unwrap();
    assert_eq!(same.guard, Guard::WrittenAt(2));
    for other in [
        Scope::all(),
        scope(&["a/"], &["a/=c/"]),
        scope(&["a/", "b/"], &[]),
        scope(&["a/", "b/"], &["a/=d/"]),
    ] {
        let error = ask(&standby, &other).await.unwrap_err();
        assert!(matches!(error, ContactError::OtherScope { .. }), "{error}");
        let message = error.to_string();
        let (found, expected) = (before.prefixes().to_string(), other.prefixes().to_string());
        for words in [found.as_str(), &expected, "another --stream"] {
            assert!(message.contains(words), "{message}");
        }
    }
    let everything = standby_of("s", &checkpoint(Prefixes::default()));
    assert!(ask(&everything, &Scope::all()).await.is_ok());
    assert!(ask(&everything, &before).await.is_err());
}

#[tokio::test]
async fn streams_share_a_standby_and_no_key() {
    let theirs = scope(&["a/", "b/"], &["a/=one/"]);
    for other in ["a", "s0", "z-last"] {
        let standby = standby_of(other, &checkpoint(theirs.prefixes().clone()));
        standby.state().put(b"one/1", b"theirs");
        for ours in [
            scope(&["a/"], &[]),
            scope(&["b/"], &["b/=two/"]),
            scope(&["one/"], &["one/=uno/"]),
        ] {
            let contact = ask(&standby, &ours).await.unwrap();
            assert_eq!(contact.guard, Guard::NothingThere);
        }
        for (ours, shared) in [
            (Scope::all(), "b/"),
            (scope(&["b/1"], &[]), "b/1"),
            (scope(&["x/"], &["x/=one/x"]), "one/x"),
        ] {
            let error = ask(&standby, &ours).await.unwrap_err();
            let message = error.to_string();
            let remedy = format!("`etcdctl del --prefix -etcd-syncer-meta-/{other}/`");
            for words in [format!("stream {other:?}"), shared.to_owned(), remedy] {
                assert!(message.contains(&words), "{message} lacks {words}");
            }
        }
    }
}

#[tokio::test]
async fn a_stream_that_cannot_be_understood_may_have_any_key() {
    let senseless = Prefixes {
        rewrite: vec![Rewrite::default()],
        ..Prefixes::default()
    };
    for (record, words) in [
        (checkpoint(senseless), "its scope is none"),
        (b"garbage".to_vec(), "does not decode"),
    ] {
        let standby = standby_of("other", &record);
        let error = ask(&standby, &scope(&["a/"], &[])).await.unwrap_err();
        let message = error.to_string();
        for words in [words, "stream \"other\""] {
            assert!(message.contains(words), "{message}");
        }
    }
    // What has no checkpoint is no stream.
    let standby = FakeStandby::new();
    for key in [
        "-etcd-syncer-meta-/",
        "-etcd-syncer-meta-/a",
        "-etcd-syncer-meta-/b/ledger/1",
    ] {
        standby.state().put(key.as_bytes(), b"1");
    }
    standby
        .state()
        .put(b"-etcd-syncer-meta-/\xff/checkpoint", b"1");
    assert!(ask(&standby, &Scope::all()).await.is_ok());
}

#[tokio::test]
async fn a_scope_must_fit_into_the_first_transaction() {
    let prefixes: Vec<String> = (10..30).map(|number| format!("{number}/")).collect();
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let scope = scope(&prefixes, &[]);
    assert_eq!(scope.standby_ranges().len(), 20);
    let enough = FakeStandby::new().txn_ops(21);
    assert!(ask(&enough, &scope).await.is_ok());
    let few = FakeStandby::new().txn_ops(20);
    let message = ask(&few, &scope).await.unwrap_err().to_string();
    for words in ["20 ranges", "19 at most", "--max-txn-ops"] {
        assert!(message.contains(words), "{message}");
    }
    // Later on nothing is looked at any more.
    let key = reserved::checkpoint_key("s");
    let record = checkpoint(scope.prefixes().clone());
    few.state().put(&key, &record);
    assert!(ask(&few, &scope).await.is_ok());
}
