//! The real writer over a network that fails in every way, at every call: each batch is applied
//! exactly once and in order, whatever happens; and with another writer about, never one too many.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::ids::{ClusterId, LeaseId, MemberId, RaftIndex, Revision, Term};
use etcd_syncer::plan::{Nested, Write, nest};
use etcd_syncer::range::KeyRange;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{Put, Value};
use etcd_syncer::standby::{
    Contact, ContactError, Error, Failure, Guard, Standby, Writer, first_contact,
};
use tokio::sync::watch;

use crate::fake_standby::{CLUSTER, FakeStandby, Fault, THEIRS};

const PRIMARY: ClusterId = ClusterId(1);
const MEMBER: MemberId = MemberId(2);
const STREAM: &str = "s";
/// Longer than any wait of the writer: a call that takes so long has crashed.
const CRASHED: Duration = Duration::from_secs(3600);

fn put(key: &'static str, value: &'static str) -> Write {
    Write::Put(Put {
        key: key.into(),
        value: Value::Given(value.into()),
        lease: LeaseId(0),
    })
}

fn kept(key: &'static str) -> Write {
    Write::Put(Put {
        key: key.into(),
        value: Value::Kept,
        lease: LeaseId(0),
    })
}

fn delete(start: &'static str, end: &'static str) -> Write {
    Write::Delete(KeyRange::between(start.into(), end.into()).unwrap())
}

/// The batches of every run; the first is the first contact and writes nothing but the checkpoint.
fn batches() -> Vec<Vec<Write>> {
    vec![
        vec![],
        vec![put("a", "1"), put("b", "1")],
        vec![kept("a"), put("c", "2")],
        vec![delete("b", "d")],
        vec![put("b", "4")],
        vec![],
        vec![delete("b", "c"), kept("a"), put("z", "6")],
    ]
}

fn checkpoint(process: u64, batch: usize) -> Checkpoint {
    let number = u64::try_from(batch).unwrap();
    Checkpoint {
        primary: PRIMARY,
        member: MEMBER,
        index: RaftIndex(number),
        term: Term(1),
        voters: Vec::new(),
        learners: Vec::new(),
        revision: Revision(1),
        compact_revision: Revision(-1),
        phase: Phase::Streaming,
        writer: process,
        batch: number,
        ledger: Place::empty([0; 32]),
        ending_lease: LeaseId(0),
    }
}

fn nested(batch: &[Write]) -> Vec<Nested<Write>> {
    nest(batch.to_vec(), 127).unwrap()
}

fn key() -> Bytes {
    reserved::checkpoint_key(STREAM)
}

/// How one process ended.
#[derive(Debug)]
enum Ended {
    /// All batches are written.
    Done,
    Crashed,
    Failed(Error),
}

async fn contact(standby: &mut FakeStandby) -> Option<Contact> {
    let key = key();
    loop {
        let asked = first_contact(standby, STREAM, &key, PRIMARY);
        match tokio::time::timeout(CRASHED, asked).await {
            Ok(Ok(contact)) => return Some(contact),
            Ok(Err(ContactError::Unreachable(_))) => {}
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => return None,
        }
    }
}

/// One process, from its first contact to its end.
async fn process(standby: &FakeStandby, number: u64) -> Ended {
    let mut standby = standby.clone();
    let Some(contact) = contact(&mut standby).await else {
        return Ended::Crashed;
    };
    let first = contact.checkpoint.map_or(0, |c| c.index.0 + 1);
    let (trouble, seen) = watch::channel(None);
    let mut writer = Writer::new(standby, key(), contact.guard, trouble);
    let done = usize::try_from(first).unwrap();
    for (batch, writes) in batches().iter().enumerate().skip(done) {
        let checkpoint = checkpoint(number, batch);
        let write = writer.write(nested(writes), &checkpoint);
        match tokio::time::timeout(CRASHED, write).await {
            Ok(Ok(_)) => assert_eq!(*seen.borrow(), None, "trouble that is over"),
            Ok(Err(error)) => return Ended::Failed(error),
            Err(_) => return Ended::Crashed,
        }
    }
    Ended::Done
}

/// What the keys hold after the first `count` batches: value and version.
fn contents_after(count: usize) -> BTreeMap<Bytes, (Bytes, i64)> {
    let mut keys: BTreeMap<Bytes, (Bytes, i64)> = BTreeMap::new();
    for write in batches()[..count].iter().flatten() {
        match write {
            Write::Delete(range) => keys.retain(|key, _| !range.contains(key)),
            Write::Put(put) => {
                let (value, version) = keys.entry(put.key.clone()).or_default();
                *version += 1;
                if let Value::Given(given) = &put.value {
                    value.clone_from(given);
                }
            }
        }
    }
    keys
}

/// The batches that were applied, in order; all of them whole, and nothing else.
fn applied(standby: &FakeStandby) -> Vec<u64> {
    standby.let_all_arrive();
    let state = standby.state();
    let decoded = state.history.iter().map(|c| Checkpoint::decode(c).unwrap());
    let batches: Vec<u64> = decoded.map(|checkpoint| checkpoint.index.0).collect();
    let ours = reserved::range();
    let contents: BTreeMap<_, _> = state
        .keys
        .iter()
        .filter(|(key, _)| !ours.contains(key))
        .map(|(key, kept)| (key.clone(), (kept.value.clone(), kept.version)))
        .collect();
    assert_eq!(contents, contents_after(batches.len()));
    batches
}

fn in_order(count: usize) -> Vec<u64> {
    (0..).take(count).collect()
}

fn temporary() -> Vec<Fault> {
    let failed = |kind: fn(String) -> Failure| Fault::Fails(kind("told to".to_owned()));
    vec![
        Fault::LostRequest,
        Fault::LostAnswer,
        Fault::Late(1),
        Fault::Late(2),
        Fault::Late(3),
        Fault::Late(5),
        Fault::Copied(1),
        Fault::LostAnswerCopied(1),
        Fault::LostAnswerCopied(3),
        Fault::NoSpaceApplied,
        failed(Failure::NotApplied),
        failed(Failure::NoSpace),
        failed(Failure::Unknown),
    ]
}

/// Calls before the first batch: who it is, the checkpoint, its keys, its limit.
const CONTACT_CALLS: usize = 4;
/// Beyond the last call of any run with one or two faults.
const CALLS: usize = CONTACT_CALLS + 7 + 5;

#[tokio::test(start_paused = true)]
async fn every_placement_of_one_or_two_faults_writes_each_batch_once() {
    let mut runs = 0;
    for (at, fault) in places(&temporary()) {
        for (later, other) in places(&temporary()) {
            // The same place twice is one fault.
            if later < at || (later == at && other != fault) {
                continue;
            }
            let faults = [(at, fault.clone()), (later, other.clone())];
            let standby = FakeStandby::with_faults(faults);
            let ended = process(&standby, 7).await;
            let run = format!("{fault:?} at {at}, {other:?} at {later}");
            assert!(matches!(ended, Ended::Done), "{run}: {ended:?}");
            assert_eq!(applied(&standby), in_order(batches().len()), "{run}");
            runs += 1;
        }
    }
    println!("{runs} runs");
}

fn places(faults: &[Fault]) -> impl Iterator<Item = (usize, Fault)> {
    (0..CALLS).flat_map(|at| faults.iter().map(move |fault| (at, fault.clone())))
}

/// A process ends at any call, and the next one goes on from the checkpoint. What the first one left
/// under way can fence the second, which writes nothing then; the third gets through.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_call_loses_and_doubles_nothing() {
    let crashes = [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::CrashLate(1),
        Fault::CrashLate(2),
        Fault::CrashLate(3),
        Fault::CrashLate(5),
        Fault::CrashLate(6),
        Fault::CrashLate(9),
    ];
    for (at, crash) in places(&crashes) {
        for (later, fault) in places(&[temporary(), crashes.to_vec()].concat()) {
            if later <= at {
                continue;
            }
            let run = format!("{crash:?} at {at}, {fault:?} at {later}");
            let standby = FakeStandby::with_faults([(at, crash.clone()), (later, fault)]);
            let mut ends = Vec::new();
            loop {
                let number = u64::try_from(ends.len()).unwrap() + 1;
                match process(&standby, number).await {
                    Ended::Done => break,
                    Ended::Failed(Error::Refused(why)) => panic!("{run}: {why}"),
                    ended @ (Ended::Crashed | Ended::Failed(Error::Fenced { .. })) => {
                        ends.push(ended);
                    }
                }
                assert!(ends.len() <= 4, "{run}: {ends:?}");
            }
            assert_eq!(applied(&standby), in_order(batches().len()), "{run}");
        }
    }
}

/// Somebody else moves or deletes the checkpoint at any call, with a fault before or after: the
/// stream is fenced, and nothing of ours comes after.
#[tokio::test(start_paused = true)]
async fn another_writer_at_any_call_fences_us() {
    for (at, interference) in places(&[Fault::OtherWriter, Fault::Deleted]) {
        // Before that there is no checkpoint of ours that could be moved.
        if !(CONTACT_CALLS + 1..=CONTACT_CALLS + 6).contains(&at) {
            continue;
        }
        for (place, fault) in places(&temporary()) {
            if place == at || place <= CONTACT_CALLS {
                continue;
            }
            let run = format!("{interference:?} at {at}, {fault:?} at {place}");
            let standby = FakeStandby::with_faults([(at, interference.clone()), (place, fault)]);
            let ended = process(&standby, 7).await;
            assert!(
                matches!(ended, Ended::Failed(Error::Fenced { .. })),
                "{run}: {ended:?}"
            );
            let done = applied(&standby);
            assert_eq!(done, in_order(done.len()), "{run}");
            assert!(done.len() <= at - CONTACT_CALLS, "{run}: {done:?}");
            let state = standby.state();
            let found = state.keys.get(&key()).map(|kept| kept.value.as_ref());
            let theirs = (interference == Fault::OtherWriter).then_some(THEIRS);
            assert_eq!(found, theirs, "{run}");
        }
    }
}

fn writer(standby: &FakeStandby, guard: Guard) -> Writer<FakeStandby> {
    let (trouble, _) = watch::channel(None);
    Writer::new(standby.clone(), key(), guard, trouble)
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_the_batch_and_the_next_may_go_on() {
    for failure in [
        Failure::TooLarge("told to".to_owned()),
        Failure::TooManyOps("told to".to_owned()),
        Failure::Diverged("told to".to_owned()),
        Failure::Refused("told to".to_owned()),
    ] {
        let standby = FakeStandby::with_faults([(0, Fault::Fails(failure.clone()))]);
        let mut writer = writer(&standby, Guard::NothingThere);
        let refused = writer.write(vec![], &checkpoint(7, 0)).await;
        assert_eq!(refused, Err(Error::Refused(failure)));
        assert!(applied(&standby).is_empty());
        let written = writer.write(vec![], &checkpoint(7, 0)).await.unwrap();
        assert_eq!((written.revision, written.attempts), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_appear_after_first_contact_are_not_written_over() {
    let standby = FakeStandby::new();
    standby.state().put(b"a", b"somebody's");
    let mut writer = writer(&standby, Guard::NothingThere);
    let error = writer.write(vec![], &checkpoint(7, 0)).await.unwrap_err();
    assert!(error.to_string().contains("keys appeared"), "{error}");
    assert!(standby.state().history.is_empty());
}

/// The trouble is shown while there is one, another endpoint is tried where that can help, and the
/// attempts are counted.
#[tokio::test(start_paused = true)]
async fn trouble_is_shown_until_it_is_over() {
    let no_space = Failure::NoSpace("told to".to_owned());
    let not_applied = Failure::NotApplied("told to".to_owned());
    for (failure, changes) in [(no_space, 0), (not_applied, 40)] {
        let faults = (0..400).map(|call| (call, Fault::Fails(failure.clone())));
        let standby = FakeStandby::with_faults(faults);
        let (trouble, seen) = watch::channel(None);
        let guard = Guard::NothingThere;
        let mut writer = Writer::new(standby.clone(), key(), guard, trouble);
        let first = checkpoint(7, 0);
        {
            let write = writer.write(vec![], &first);
            let waited = tokio::time::timeout(Duration::from_secs(120), write).await;
            assert!(waited.is_err(), "{waited:?}");
        }
        assert_eq!(*seen.borrow(), Some(failure.to_string()));
        let calls = standby.state().calls;
        // Waits grow to three seconds and no longer.
        assert!((40..110).contains(&calls), "{calls} calls");
        assert!(standby.state().endpoint_changes >= changes);
    }
}

#[tokio::test]
async fn the_fake_is_who_it_says() {
    let mut standby = FakeStandby::new();
    assert_eq!(standby.about().await.unwrap().cluster, CLUSTER);
    let same = first_contact(&mut standby, STREAM, &key(), CLUSTER).await;
    assert_eq!(same, Err(ContactError::SameCluster(CLUSTER)));
}

/// What no transaction guards is preceded by a look at the checkpoint.
#[tokio::test(start_paused = true)]
async fn a_look_at_the_checkpoint_waits_for_an_answer_and_sees_another_writer() {
    let faults = [
        (1, Fault::LostAnswer),
        (2, Fault::Fails(Failure::NotApplied("no leader".to_owned()))),
    ];
    let standby = FakeStandby::with_faults(faults);
    let mut writer = writer(&standby, Guard::NothingThere);
    writer.write(vec![], &checkpoint(7, 0)).await.unwrap();
    assert_eq!(writer.check().await, Ok(()));
    standby.state().put(&key(), THEIRS);
    let fenced = writer.check().await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
    standby.state().clear();
    let fenced = writer.check().await;
    assert!(matches!(fenced, Err(Error::Fenced { .. })), "{fenced:?}");
}
