//! Databases that find leases half-way: announced to end, or held by nobody but the standby.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::apply::End;
use etcd_syncer::checkpoint::Checkpoint;
use etcd_syncer::ids::{LeaseId, RaftIndex};
use etcd_syncer::ledger::Sizes;
use etcd_syncer::pipeline::HistoryPolicy;
use etcd_syncer::reserved;
use etcd_syncer::resync;
use tokio::time::Instant;

use super::primary::{Content, Primary};
use super::process::{Process, STREAM, Setup};
use super::requests::{grant, log, put, put_all, revoke};
use super::stream::{HOLD, limited};
use super::until_through;
use super::way::{Counted, Event, Way};
use crate::fake_standby::{FakeLease, FakeStandby};

const SETUP: Setup = Setup {
    hold: HOLD,
    history: HistoryPolicy::Keep,
    sizes: Sizes {
        journal_bytes_min: 1 << 20,
        journals_min: 5,
        chunk_bytes: 700,
        journals_deleted: 4,
    },
    at_a_time: 1,
};

/// Behind this the first lease of [`comes_again`] has ended.
const ENDED: u64 = 7;
/// A lease that no stream knows.
const FOREIGN: LeaseId = LeaseId(99);

/// A large lease that ends, and comes again with the same keys, or with some of them.
fn comes_again(is_whole: bool) -> Primary {
    let names: Vec<String> = (0..18)
        .map(|number| format!("many/{:-<60}/{number:02}", ""))
        .collect();
    let some = |from: usize| put_all(names[from..from + 6].iter().map(String::as_str), "m", 4);
    let mut requests = vec![put("a", "1", 0), grant(4), some(0), some(6), some(12)];
    requests.extend([put("n", "1", 4), revoke(4)]);
    if is_whole {
        requests.extend([grant(4), some(0), some(6), some(12), put("n", "1", 4)]);
    } else {
        requests.push(put("n", "1", 0));
        requests.push(put_all(names[6..12].iter().map(String::as_str), "m", 0));
    }
    let end = requests.len() as u64;
    Primary::new(log(requests), &[end])
}

/// The standby holds what the primary does.
fn assert_same(way: &Way, primary: &Primary, run: &str) {
    let (mut state, after) = (way.keys.state(), primary.last());
    // What nobody keeps alive has expired by now.
    state.let_time_pass();
    let ours = reserved::range();
    let theirs = state.keys.iter().filter(|(key, _)| !ours.contains(key));
    let found = theirs.map(|(key, kept)| (key.clone(), (kept.value.clone(), kept.lease)));
    assert_eq!(found.collect::<Content>(), after.content, "{run}");
    let leases: Vec<LeaseId> = state.leases.leases.keys().copied().collect();
    let expected: Vec<LeaseId> = after.state.leases().map(|(id, _)| id).collect();
    assert_eq!(leases, expected, "{run}");
}

/// The last checkpoint that was written.
fn written(way: &Way) -> Option<Checkpoint> {
    let state = way.keys.state();
    let stored = state.keys.get(&reserved::checkpoint_key(STREAM))?;
    Some(Checkpoint::decode(&stored.value).unwrap())
}

/// The first process gets entries, each later one the database; `resyncs` in between if so.
async fn live(way: &Way, primary: &Primary, number: u64, resyncs: bool) {
    let end = primary.log.len() as u64;
    if number == 1 {
        let process = Process::begin(way, SETUP).await;
        let entries = primary.entries(RaftIndex(0), ENDED);
        drop(process.stream(entries).await);
    } else if resyncs && number == 2 && written(way).is_some() {
        while resync::mark(&mut way.clone(), STREAM).await.is_err() {}
    }
    let mut process = Process::begin(way, SETUP).await;
    if process.checkpoint().index.0 < end {
        process.install(primary.database(end)).await;
    }
    let process = process.settle().await;
    tokio::time::sleep(HOLD + Duration::from_secs(5)).await;
    process.end().await;
}

async fn a_database_after_an_end(is_whole: bool, resyncs: bool) {
    let primary = comes_again(is_whole);
    let announced = Cell::new(0);
    for at in 0.. {
        let mut events_left = 0;
        for event in [Event::Crash(false), Event::Crash(true)] {
            let run = format!("{event:?} at {at}, whole: {is_whole}, resyncs: {resyncs}");
            let way = Way::new(limited(FakeStandby::new()), Counted::Writes, [(at, event)]);
            fastrand::seed(1);
            until_through(&way, &run, async |way: &Way, number| {
                if written(way).is_some_and(|found| found.ending_lease == LeaseId(4)) {
                    announced.set(announced.get() + 1);
                }
                Box::pin(live(way, &primary, number, resyncs)).await;
            })
            .await;
            assert_same(&way, &primary, &run);
            events_left += way.events_left();
        }
        if events_left > 0 {
            break;
        }
    }
    assert!(announced.get() > 2, "{}", announced.get());
}

#[tokio::test(start_paused = true)]
async fn a_database_has_a_large_lease_again_that_was_ending() {
    for is_whole in [true, false] {
        a_database_after_an_end(is_whole, false).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_has_it_again_and_the_ledger_does_not_count() {
    for is_whole in [true, false] {
        a_database_after_an_end(is_whole, true).await;
    }
}

fn is_journal(key: &Bytes) -> bool {
    let all = reserved::ledger_journal(STREAM, 0)..reserved::ledger_journal(STREAM, u64::MAX);
    all.contains(key)
}

/// Keys and leases at the end of one process.
async fn standby_with_leases(primary: &Primary) -> Way {
    let way = Way::new(limited(FakeStandby::new()), Counted::Writes, []);
    fastrand::seed(1);
    let process = Process::begin(&way, SETUP).await;
    let entries = primary.entries(RaftIndex(0), 4);
    process.stream(entries).await.end().await;
    way
}

/// A process waits long for a database that it needs.
async fn wait_for_a_database(way: Way, primary: &Primary, run: &str) {
    let expires = Instant::now() + HOLD;
    let lease = FakeLease { ttl: 180, expires };
    way.keys.state().leases.leases.insert(FOREIGN, lease);
    let mut process = Process::begin(&way.of_another(), SETUP).await;
    assert!(process.checkpoint().is_by_content(), "{run}");
    tokio::time::sleep(20 * HOLD).await;
    let held: Vec<LeaseId> = {
        let mut state = way.keys.state();
        state.let_time_pass();
        let found = state.keys.get(&b"kept"[..]).map(|kept| kept.lease);
        assert_eq!(found, Some(LeaseId(1)), "{run}");
        state.leases.leases.keys().copied().collect()
    };
    assert_eq!(held, [LeaseId(1), LeaseId(2)], "{run}");
    let end = primary.log.len() as u64;
    process.install(primary.database(end)).await;
    let process = process.settle().await;
    tokio::time::sleep(2 * HOLD).await;
    assert_eq!(process.lost(), 0, "{run}");
    process.end().await;
    assert_same(&way, primary, run);
}

#[tokio::test(start_paused = true)]
async fn leases_outlast_the_wait_for_a_database() {
    let requests = [
        grant(1),
        grant(2),
        put_all(["kept", "taken over"], "1", 1),
        put("ends", "1", 2),
        revoke(2),
        grant(3),
        put("taken over", "1", 3),
    ];
    for is_damaged in [false, true] {
        let requests = requests.clone();
        let primary = Primary::new(log(requests), &[7]);
        let run = format!("damaged: {is_damaged}");
        let way = standby_with_leases(&primary).await;
        if is_damaged {
            let mut state = way.keys.state();
            let journal = state.keys.keys().find(|key| is_journal(key)).cloned();
            state.keys.remove(&journal.unwrap());
        } else {
            resync::mark(&mut way.of_another(), STREAM).await.unwrap();
        }
        wait_for_a_database(way, &primary, &run).await;
    }
}

/// Nothing is deleted before it is known that the ledger can say so.
#[tokio::test(start_paused = true)]
async fn a_lease_does_not_end_that_the_ledger_has_no_room_for() {
    let mut rng = fastrand::Rng::with_seed(3);
    let names: Vec<String> = (0..18)
        .map(|_| (0..60).map(|_| rng.alphanumeric()).collect())
        .collect();
    let some = |from: usize| put_all(names[from..from + 3].iter().map(String::as_str), "m", 4);
    let mut requests = vec![grant(4)];
    requests.extend((0..18).step_by(3).map(some));
    requests.push(revoke(4));
    let primary = Primary::new(log(requests), &[]);
    let standby = FakeStandby::new().request_bytes(1_000).txn_ops(16);
    let way = Way::new(standby, Counted::Writes, []);
    fastrand::seed(1);
    let entries = primary.entries(RaftIndex(0), primary.log.len() as u64);
    let end = Process::begin(&way, SETUP).await.halt(entries).await;
    assert!(matches!(end, End::TooLarge { .. }), "{end}");
    let state = way.keys.state();
    let kept = state.keys.values().filter(|kept| kept.lease == LeaseId(4));
    assert_eq!(kept.count(), names.len());
}
