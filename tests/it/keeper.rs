//! The keeper of leases over a standby that fails in every way.

use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::plan::{CompactionPolicy, Nested, Write};
use etcd_syncer::reserved;
use etcd_syncer::resolve::{Put, Value};
use etcd_syncer::standby::keeper::{Error, Event, Handle, Keeper, Known, Options, View};
use etcd_syncer::standby::{Answer, Failure, Guard, Leases, Standby, Transaction};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fake_standby::{FakeStandby, LeaseFault};

const HOLD: Duration = Duration::from_secs(3600);
const A: LeaseId = LeaseId(1);
const B: LeaseId = LeaseId(2);
const HOUR: Duration = Duration::from_secs(3600);
/// Longer than a quick thing takes, waits after a few failures included.
const QUICK: Duration = Duration::from_secs(2);

/// A keeper at work on a fake.
struct Run {
    standby: FakeStandby,
    handle: Handle,
    view: watch::Receiver<View>,
    _stop: tokio_util::sync::DropGuard,
}

fn run(standby: &FakeStandby, held: &[LeaseId]) -> Run {
    run_after(standby, held, &[])
}

/// A keeper behind a process that had ended `ended`.
fn run_after(standby: &FakeStandby, held: &[LeaseId], ended: &[LeaseId]) -> Run {
    let (sender, view) = watch::channel(View::default());
    let standby = standby.clone();
    let options = Options {
        ttl: HOLD,
        compaction: CompactionPolicy::Follow,
    };
    let known = Known {
        held: held.to_vec(),
        ended: ended.iter().copied().collect(),
    };
    let (keeper, handle) = Keeper::new(|| standby.clone(), options, known, sender);
    let stop = CancellationToken::new();
    tokio::spawn(keeper.run(stop.clone()));
    Run {
        standby,
        handle,
        view,
        _stop: stop.drop_guard(),
    }
}

impl Run {
    fn view(&self) -> View {
        self.view.borrow().clone()
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.standby.state().leases.leases.keys().copied().collect()
    }

    fn calls(&self, name: &str) -> Vec<Vec<LeaseId>> {
        let state = self.standby.state();
        let calls = state.leases.calls.iter();
        let calls = calls.filter(|(called, _)| *called == name);
        calls.map(|(_, ids)| ids.clone()).collect()
    }

    /// Lets time pass until this is so.
    async fn until(&mut self, within: Duration, what: impl Fn(&View) -> bool) -> View {
        let waiting = self.view.wait_for(what);
        let found = tokio::time::timeout(within, waiting).await;
        let found = found.map(|view| view.unwrap().clone());
        found.unwrap_or_else(|_| panic!("{:?}", self.view()))
    }

    async fn hold(&self, ids: &[LeaseId], within: Duration) {
        let hold = self.handle.hold(ids.to_vec());
        tokio::time::timeout(within, hold).await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn leases_are_made_kept_alive_and_ended() {
    let mut run = run(&FakeStandby::new(), &[]);
    run.hold(&[B, A], QUICK).await;
    run.hold(&[], QUICK).await;
    run.hold(&[A], QUICK).await;
    assert_eq!(run.leases(), [A, B]);
    assert_eq!(run.calls("grant"), [[A, B]]);
    tokio::time::sleep(50 * HOUR).await;
    assert_eq!(run.leases(), [A, B]);
    let view = run.view();
    assert_eq!((view.held, view.granted, view.lost), (2, 2, 0));
    // Three times an hour each, and no more.
    assert!((298..=302).contains(&view.renewed), "{view:?}");

    run.handle.release(vec![A]).await.unwrap();
    let view = run.until(QUICK, |view| view.revoked == 1).await;
    assert_eq!((view.held, view.ending), (1, 0));
    assert_eq!(run.leases(), [B]);
    // A stream that has ended is no reason to let go of anything.
    let Run {
        standby, handle, ..
    } = run;
    drop(handle);
    assert_eq!(standby.clone().leases().await.unwrap(), [B]);
}

/// What a stream says last is done, though it has ended before anybody listened.
#[tokio::test(start_paused = true)]
async fn the_last_word_of_a_stream_counts() {
    let run = run(&FakeStandby::new(), &[]);
    run.hold(&[A, B], QUICK).await;
    let Run {
        standby,
        handle,
        mut view,
        _stop: stop,
    } = run;
    assert!(!view.borrow().is_done);
    for _ in 0..9 {
        standby.state().put(b"a", b"1");
    }
    handle.release(vec![A]).await.unwrap();
    handle.release(vec![B]).await.unwrap();
    handle.compact(5).await.unwrap();
    drop(handle);
    let done = tokio::time::timeout(QUICK, view.wait_for(|view| view.is_done)).await;
    let done = done.unwrap().unwrap().clone();
    assert_eq!((done.revoked, done.compacted), (2, 5));
    assert!(standby.state().leases.leases.is_empty());
    drop(stop);
}

#[tokio::test(start_paused = true)]
async fn leases_outlive_the_stream_that_held_them() {
    let run = run(&FakeStandby::new(), &[]);
    run.hold(&[A], QUICK).await;
    let Run {
        standby,
        handle,
        _stop: stop,
        ..
    } = run;
    drop(handle);
    tokio::time::sleep(10 * HOUR).await;
    assert_eq!(standby.clone().leases().await.unwrap(), [A]);
    drop(stop);
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(standby.clone().leases().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn many_leases_are_renewed_without_a_burst() {
    let run = run(&FakeStandby::new(), &[]);
    let ids: Vec<LeaseId> = (1..=20_000).map(LeaseId).collect();
    run.hold(&ids, QUICK).await;
    assert_eq!(run.calls("grant").len(), 20);
    tokio::time::sleep(3 * HOUR).await;
    assert_eq!(run.leases().len(), ids.len());
    let calls = run.calls("keep_alive");
    let largest = calls.iter().map(Vec::len).max().unwrap();
    // 20,000 in 1,200 seconds.
    assert!((16..=18).contains(&largest), "{largest}");
    let (renewed, expected) = (run.view().renewed, 9 * 20_000);
    assert!(renewed.abs_diff(expected) < 100, "{renewed}");
}

fn failing(kind: fn(String) -> Failure) -> LeaseFault {
    LeaseFault::Fails(kind("told to".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_grant_is_tried_until_it_is_there() {
    let one = [
        LeaseFault::Lost,
        LeaseFault::LostAnswer,
        LeaseFault::Half,
        failing(Failure::NotApplied),
        failing(Failure::NoSpace),
        failing(Failure::Unknown),
    ];
    for first in &one {
        for second in &one {
            let faults = vec![first.clone(), second.clone()];
            let standby = FakeStandby::new().lease_faults("grant", faults);
            let mut run = run(&standby, &[]);
            run.hold(&[A, B, LeaseId(3)], QUICK).await;
            assert_eq!(run.leases().len(), 3, "{first:?}, {second:?}");
            let view = run.until(QUICK, |view| view.trouble.is_none()).await;
            assert_eq!((view.held, view.lost), (3, 0));
        }
    }
    // A lease that was there before gets its whole time before anybody relies on it.
    for fault in [LeaseFault::Lost, failing(Failure::NotApplied)] {
        let standby = FakeStandby::new().lease_faults("keep_alive", vec![fault]);
        standby.clone().grant(&[A], 10).await;
        tokio::time::sleep(Duration::from_secs(9)).await;
        let run = run(&standby, &[]);
        run.hold(&[A], QUICK).await;
        tokio::time::sleep(HOUR).await;
        assert_eq!(run.leases(), [A]);
        let view = run.view();
        assert_eq!((view.held, view.lost), (1, 0));
        assert!(view.renewed > 800, "a third of 10 s each: {view:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_grant_is_told_and_the_next_one_is_tried() {
    let faults = vec![failing(Failure::Refused)];
    let run = run(&FakeStandby::new().lease_faults("grant", faults), &[]);
    let refused = run.handle.hold(vec![A]).await;
    let told = Failure::Refused("told to".to_owned());
    assert_eq!(refused, Err(Error::Refused(told)));
    run.hold(&[B], Duration::from_secs(5)).await;
    assert_eq!(run.leases(), [B]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_standby_lost_is_reported_once() {
    let mut run = run(&FakeStandby::new(), &[]);
    run.hold(&[A, B], QUICK).await;
    run.standby.state().revoke_lease(A);
    let minute = Duration::from_secs(61);
    let gone = tokio::time::timeout(minute, run.handle.event()).await;
    assert_eq!(gone.unwrap(), Ok(Event::Gone(vec![A])));
    assert_eq!(run.view().lost, 1);
    assert_eq!(run.leases(), [B], "it is for others to make it again");
    let again = tokio::time::timeout(HOUR, run.handle.event()).await;
    assert!(again.is_err(), "{again:?}");
    run.hold(&[A], QUICK).await;
    tokio::time::sleep(2 * HOUR).await;
    assert_eq!(run.leases(), [A, B]);
    assert_eq!(run.handle.try_event(), None);
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_told_what_is_missing() {
    for fault in [LeaseFault::Lost, failing(Failure::NotApplied)] {
        let mut run = run(&FakeStandby::new(), &[]);
        run.hold(&[A, B], QUICK).await;
        tokio::time::sleep(QUICK).await;
        assert_eq!(run.handle.missing().await, Ok(vec![]));
        run.standby.state().revoke_lease(B);
        let standby = run.standby.clone();
        let _same = standby.lease_faults("leases", vec![fault.clone(), fault]);
        let missing = tokio::time::timeout(QUICK, run.handle.missing()).await;
        assert_eq!(missing.unwrap(), Ok(vec![B]));
        assert_eq!(run.handle.try_event(), None, "told twice");
        assert_eq!(run.handle.missing().await, Ok(vec![]));
    }
    let faults = vec![failing(Failure::Refused)];
    let mut run = run(&FakeStandby::new(), &[]);
    run.hold(&[A], QUICK).await;
    tokio::time::sleep(QUICK).await;
    let _same = run.standby.clone().lease_faults("leases", faults);
    let refused = run.handle.missing().await;
    assert!(matches!(refused, Err(Error::Refused(_))), "{refused:?}");
    run.until(QUICK, |view| view.trouble.is_some()).await;
    run.until(HOUR, |view| view.trouble.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_start_finds_what_was_lost_meanwhile() {
    let standby = FakeStandby::new();
    standby.clone().grant(&[A], 3600).await;
    let mut run = run(&standby, &[A, B]);
    let gone = tokio::time::timeout(QUICK, run.handle.event()).await;
    assert_eq!(gone.unwrap(), Ok(Event::Gone(vec![B])));
    let found = tokio::time::timeout(QUICK, run.handle.event()).await;
    assert_eq!(found.unwrap(), Ok(Event::Found(vec![(A, vec![])])));
    run.until(QUICK, |view| view.held == 1 && view.renewed == 1)
        .await;
}

#[tokio::test(start_paused = true)]
async fn an_outage_shorter_than_the_hold_loses_nothing() {
    let mut run = run(&FakeStandby::new(), &[]);
    run.hold(&[A], QUICK).await;
    tokio::time::sleep(HOUR).await;
    for name in ["keep_alive", "leases"] {
        // Two thirds of the hold, an attempt every three seconds.
        let faults = vec![LeaseFault::Lost; 500];
        let _same = run.standby.clone().lease_faults(name, faults);
    }
    run.until(HOUR, |view| view.trouble.is_some()).await;
    tokio::time::sleep(2 * HOUR).await;
    let view = run.view();
    assert_eq!((view.held, view.lost, view.trouble), (1, 0, None));
    assert_eq!(run.leases(), [A]);
}

fn put(key: &'static str, lease: LeaseId) -> Transaction {
    let put = Put {
        key: Bytes::from_static(key.as_bytes()),
        value: Value::Given(Bytes::new()),
        lease,
    };
    Transaction {
        guard: Guard::NothingThere,
        checkpoint_key: reserved::checkpoint_key("s"),
        checkpoint: Bytes::new(),
        writes: vec![Nested::Op(Write::Put(put))],
    }
}

/// A revoke that nobody answered arrives a minute later, when its id is in use again: it finds no
/// lease, and no key of the new one is lost.
#[tokio::test(start_paused = true)]
async fn a_late_revoke_meets_nothing_of_a_new_lease() {
    for fault in [
        LeaseFault::Late(Duration::from_secs(60)),
        LeaseFault::LostAnswer,
        LeaseFault::Lost,
    ] {
        let standby = FakeStandby::new().lease_faults("revoke", vec![fault.clone()]);
        let mut run = run(&standby, &[]);
        run.hold(&[A], QUICK).await;
        run.handle.release(vec![A]).await.unwrap();
        run.until(QUICK, |view| view.revoked == 1).await;
        let started = Instant::now();
        let look = async {
            tokio::time::sleep(Duration::from_secs(90)).await;
            let trouble = run.view().trouble.unwrap_or_default();
            assert!(trouble.contains("comes again"), "{trouble:?}");
        };
        tokio::join!(run.hold(&[A], Duration::from_secs(130)), look);
        assert!(started.elapsed() > Duration::from_secs(110), "{fault:?}");
        run.until(QUICK, |view| view.trouble.is_none()).await;
        let written = run.standby.write(&put("k", A)).await;
        assert!(matches!(written, Ok(Answer::Applied(_))), "{written:?}");
        tokio::time::sleep(HOUR).await;
        let kept = run.standby.read(&"k".into()).await.unwrap();
        assert!(kept.is_some(), "{fault:?}");
        assert_eq!(run.handle.try_event(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answered_revoke_delays_nobody() {
    let faults = vec![failing(Failure::NotApplied)];
    let mut run = run(&FakeStandby::new().lease_faults("revoke", faults), &[]);
    run.hold(&[A, B], QUICK).await;
    run.handle.release(vec![A]).await.unwrap();
    run.hold(&[A], QUICK).await;
    run.handle.release(vec![A, B]).await.unwrap();
    run.until(QUICK, |view| view.ending == 0).await;
    run.hold(&[B], QUICK).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(run.leases(), [B]);
}

#[tokio::test(start_paused = true)]
async fn the_last_compaction_counts() {
    let lost = vec![LeaseFault::Lost, failing(Failure::NotApplied)];
    let mut run = run(&FakeStandby::new().lease_faults("compact", lost), &[]);
    for _ in 0..9 {
        run.standby.state().put(b"a", b"1");
    }
    run.handle.compact(3).await.unwrap();
    run.handle.compact(5).await.unwrap();
    run.until(QUICK, |view| view.compacted == 5).await;
    // One of the future, or one that is refused for another reason, is left out.
    run.handle.compact(99).await.unwrap();
    tokio::time::sleep(HOUR).await;
    assert_eq!(run.view().compacted, 5);
    assert_eq!(run.view().trouble, None);
    run.handle.compact(7).await.unwrap();
    run.until(QUICK, |view| view.compacted == 7).await;
    assert_eq!(run.standby.state().leases.compacted, 7);
    assert_eq!(run.calls("compact").len(), 5);
}

/// After a start the keys of every lease are looked at once, as fast as they are taken.
#[tokio::test(start_paused = true)]
async fn a_start_shows_the_keys_of_every_lease() {
    let standby = FakeStandby::new();
    let ids: Vec<LeaseId> = (1..=1_000).map(LeaseId).collect();
    standby.clone().grant(&ids, 3600).await;
    let written = standby.clone().write(&put("k", LeaseId(7))).await;
    assert!(matches!(written, Ok(Answer::Applied(_))), "{written:?}");
    let faults = vec![
        LeaseFault::Half,
        LeaseFault::Lost,
        failing(Failure::Refused),
    ];
    let mut run = run(&standby.lease_faults("time_to_live", faults), &ids);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = run.calls("time_to_live");
    assert!(asked.len() <= 2, "nobody takes them: {}", asked.len());
    let mut all = Vec::new();
    while let Ok(event) = tokio::time::timeout(HOUR, run.handle.event()).await {
        match event.unwrap() {
            Event::Gone(gone) => panic!("{gone:?}"),
            Event::Found(found) => all.extend(found),
        }
    }
    // One call was refused for good: those leases are left out.
    assert_eq!(all.len(), 1_000 - 256, "{}", all.len());
    let attached = |(_, keys): &&(LeaseId, Vec<Bytes>)| !keys.is_empty();
    let attached: Vec<_> = all.iter().filter(attached).collect();
    assert_eq!(attached, [&(LeaseId(7), vec![Bytes::from("k")])]);
}

/// What a process before left behind is ended, and nothing else that is there.
#[tokio::test(start_paused = true)]
async fn left_overs_are_ended() {
    let [stranger, passed, again] = [LeaseId(3), LeaseId(4), LeaseId(5)];
    let standby = FakeStandby::new();
    let there = [A, B, stranger, passed, again];
    standby.clone().grant(&there, 900_000).await;
    let mut run = run_after(&standby, &[A], &[B, LeaseId(99), again]);
    // Granted once more before anybody looked.
    run.hold(&[again], QUICK).await;
    // If somebody looked first, that one is ended and made anew.
    let is_done = |view: &View| view.revoked >= 1 && (view.held, view.ending) == (2, 0);
    let before = run.until(QUICK, is_done).await.revoked;
    assert_eq!(run.leases(), [A, stranger, passed, again]);
    // These came and went in one batch; nobody but the process before can have made one of them.
    let ids = vec![A, passed, LeaseId(98)];
    run.handle.pass(ids).await.unwrap();
    run.until(QUICK, |view| view.revoked > before).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(run.leases(), [A, stranger, again]);
    let ended = run.calls("revoke").concat();
    let others: Vec<_> = ended.into_iter().filter(|id| *id != again).collect();
    assert_eq!(others, [B, passed]);
}

#[tokio::test(start_paused = true)]
async fn what_passes_before_the_first_look_is_ended_too() {
    let standby = FakeStandby::new().lease_faults("leases", vec![LeaseFault::Lost]);
    standby.clone().grant(&[A, B], 900_000).await;
    let mut run = run_after(&standby, &[], &[]);
    run.handle.pass(vec![B]).await.unwrap();
    run.until(QUICK, |view| view.revoked == 1).await;
    assert_eq!(run.leases(), [A]);
}

/// A standby with too many leases for one list: renewals find what is lost.
#[tokio::test(start_paused = true)]
async fn without_a_list_renewals_find_what_is_lost() {
    let faults = vec![failing(Failure::Refused); 100];
    let mut run = run(&FakeStandby::new().lease_faults("leases", faults), &[]);
    run.hold(&[A, B], QUICK).await;
    run.until(QUICK, |view| view.trouble.is_some()).await;
    run.standby.state().revoke_lease(A);
    let gone = tokio::time::timeout(HOUR, run.handle.event()).await;
    assert_eq!(gone.unwrap(), Ok(Event::Gone(vec![A])));
    assert_eq!((run.view().held, run.view().lost), (1, 1));
    assert!(run.calls("leases").len() < 100, "it was never listed");
}
