//! Leases that come, go and come again: an end or a lost answer at any call leaves them and their
//! keys as the primary has them.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_syncer::entry;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::learner::Handout;
use etcd_syncer::ledger::Sizes;
use etcd_syncer::pipeline::HistoryPolicy;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{DigestKey, Position, PrimaryState};

use super::process::{Process, Setup, settings};
use super::requests::{self, grant, put, revoke};
use super::until_through;
use super::way::{Counted, EVENTS, Event, Way};
use crate::fake_standby::FakeStandby;

/// Renewed three times in it.
const HOLD: Duration = Duration::from_secs(180);
/// Long enough for a look at all leases and for each to be renewed.
const QUIET: Duration = Duration::from_secs(65);
/// Pairs of events at each pace.
const PAIRS: usize = 80;
/// How many entries the first process gets at a time, and each later one.
type Pace = (usize, usize);
/// What comes one by one first and all at once later may come and go in one batch.
const PACES: [Pace; 4] = [(1, 1), (3, 3), (100, 100), (1, 100)];
const HOUR: Duration = Duration::from_secs(3600);

fn log() -> Vec<Handout> {
    requests::log([
        grant(1),
        put("a", "v", 1),
        grant(2),
        put("b", "v", 2),
        put("c", "v", 1),
        put("a", "v", 2),
        revoke(1),
        grant(1),
        put("d", "v", 1),
        put("b", "v", 0),
        revoke(2),
        grant(3),
        revoke(3),
        grant(-4),
        put("e", "v", -4),
        revoke(1),
        put("f", "v", -4),
        grant(5),
    ])
}

/// The primary at the end of the log.
fn primary() -> PrimaryState {
    let mut state = PrimaryState::new(settings(DigestKey::new(&[7; 32]), 1), Position::START);
    for handout in log() {
        state
            .resolve(&entry::decode(&handout.entry).unwrap())
            .unwrap();
    }
    state
}

fn setup(at_a_time: usize, hold: Duration) -> Setup {
    Setup {
        hold,
        history: HistoryPolicy::Last,
        sizes: Sizes::default(),
        at_a_time,
    }
}

/// One process, until everything is written and was quiet for a while.
async fn live(way: &Way, setup: Setup) {
    let process = Process::begin(way, setup).await;
    let rest = log().into_iter();
    let done = process.checkpoint().index;
    let rest = rest.filter(|handout| handout.entry.index > done);
    let process = process.stream(rest.collect()).await.settle().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(process.lost(), 0);
    process.end().await;
}

fn assert_same(standby: &FakeStandby, run: &str) {
    let primary = primary();
    let state = standby.state();
    let ours = reserved::range();
    let foreign = state.keys.iter().filter(|(key, _)| !ours.contains(key));
    let found: BTreeMap<&[u8], LeaseId> = foreign
        .map(|(key, kept)| (key.as_ref(), kept.lease))
        .collect();
    let expected = primary.keys().map(|(key, meta)| (key, meta.lease));
    assert_eq!(found, expected.collect(), "{run}");
    let leases: Vec<LeaseId> = state.leases.leases.keys().copied().collect();
    let expected: Vec<LeaseId> = primary.leases().map(|(id, _)| id).collect();
    assert_eq!(leases, expected, "{run}");
}

/// Processes one after the other until one is through; how many calls they made.
async fn lives(events: &[(usize, Event)], pace: Pace) -> usize {
    let run = format!("{events:?}, {pace:?} at a time");
    let each = events.iter().copied();
    let way = Way::new(FakeStandby::new().txn_ops(16), Counted::All, each);
    let (first, later) = pace;
    // What processes draw by lot they draw alike in every run.
    fastrand::seed(1);
    until_through(&way, &run, async |way, number| {
        let at_a_time = if number == 1 { first } else { later };
        Box::pin(live(way, setup(at_a_time, HOLD))).await;
    })
    .await;
    // A pair may lie behind the last call.
    let is_pair = events.len() > 1;
    assert!(
        is_pair || way.events_left() == 0,
        "{run}: it did not happen"
    );
    assert_same(&way.keys, &run);
    way.names().len()
}

#[tokio::test(start_paused = true)]
async fn an_end_or_a_lost_answer_at_any_call() {
    for pace in PACES {
        let calls = lives(&[], pace).await;
        assert!(calls > 8, "only {calls} calls");
        for at in 0..calls {
            for event in EVENTS {
                lives(&[(at, event)], pace).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_events_in_one_run() {
    let mut rng = fastrand::Rng::with_seed(7);
    for pace in PACES {
        let calls = lives(&[], pace).await;
        for _ in 0..PAIRS {
            let first = rng.usize(0..calls);
            let second = first + 1 + rng.usize(0..calls / 2);
            let events = [first, second].map(|at| (at, EVENTS[rng.usize(0..EVENTS.len())]));
            lives(&events, pace).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_outlast_an_hour_of_absence() {
    let end = (12, Event::Crash(true));
    let way = Way::new(FakeStandby::new().txn_ops(16), Counted::All, [end]);
    let setup = setup(3, 24 * HOUR);
    let first = way.of_another();
    let dead = first.dead();
    tokio::select! {
        () = Box::pin(live(&first, setup)) => panic!("it did not end"),
        () = dead.cancelled() => {}
    }
    tokio::time::sleep(HOUR).await;
    Box::pin(live(&way.of_another(), setup)).await;
    assert_same(&way.keys, "an hour later");
}
