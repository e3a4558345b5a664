//! The whole life of a stream: first contact, entries over several bases and journals of the ledger,
//! a database by what differs from the ledger, a compaction, a database by what differs from the
//! standby's own keys, and entries again. Whatever write is lost or the last one of its process, the
//! standby ends up the same, and shows nothing on the way that the primary did not show.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::ids::{LeaseId, RaftIndex};
use etcd_syncer::learner::Handout;
use etcd_syncer::ledger::Sizes;
use etcd_syncer::pipeline::HistoryPolicy;
use etcd_syncer::reserved;
use etcd_syncer::resolve::{AuthState, Login, PrimaryState};
use etcd_syncer::resync;
use tokio::sync::watch;

use super::primary::{Content, Primary, with_members};
use super::process::{self, MEMBER, PRIMARY, Process, STREAM, Setup};
use super::requests::{
    add_role, add_user, compact, delete, delete_user, enable_auth, grant, grant_role, if_greater,
    log as log_of, put, put_all, put_and_delete, revoke, set_password,
};
use super::until_through;
use super::way::{Counted, EVENTS, Event, Way};
use crate::fake_standby::{FakeStandby, Kept, Moment};

/// So small that the deletes of a large lease do not fit into one request.
const REQUEST_BYTES_MAX: usize = 1_500;
/// Enough, if lists are nested.
const TXN_OPS_MAX: usize = 16;
const SIZES: Sizes = Sizes {
    journal_bytes_min: 1 << 20,
    journals_min: 5,
    chunk_bytes: 700,
    journals_deleted: 4,
};
pub(crate) const HOLD: Duration = Duration::from_secs(180);
/// Long enough for a look at all leases.
const QUIET: Duration = Duration::from_secs(65);
/// Pairs of events for each course.
const PAIRS: usize = 40;

/// The primary's log is cut behind these: what follows comes as a database.
const FIRST_CUT: u64 = 20;
const FIRST_DATABASE: u64 = 27;
/// Here somebody has the standby's own keys compared.
const RESYNC: u64 = 36;
/// What a leader sends that made another database since.
const NEWER_DATABASE: u64 = 31;
const SECOND_DATABASE: u64 = 42;

/// How entries and databases come.
#[derive(Clone, Copy, Debug)]
struct Course {
    at_a_time: usize,
    /// Which database comes once one is being installed.
    database: u64,
}

const ONE_BY_ONE: Course = at_a_time(1);

const fn at_a_time(at_a_time: usize) -> Course {
    Course {
        at_a_time,
        database: FIRST_DATABASE,
    }
}

/// What a process can get that has come so far.
enum Offer {
    Entries(u64),
    Database(u64),
    /// Nothing, as a person wants the stream to begin with a database.
    Resync,
    Nothing,
}

fn offer(primary: &Primary, checkpoint: &Checkpoint, course: Course) -> Offer {
    let index = checkpoint.index.0;
    let end = primary.log.len() as u64;
    match checkpoint.phase {
        Phase::Installing { .. } if index < FIRST_DATABASE => Offer::Database(course.database),
        Phase::Installing { .. } => Offer::Database(SECOND_DATABASE),
        Phase::Streaming if index < FIRST_CUT => Offer::Entries(FIRST_CUT),
        Phase::Streaming if index < FIRST_DATABASE => Offer::Database(FIRST_DATABASE),
        Phase::Streaming if index < RESYNC => Offer::Entries(RESYNC),
        Phase::Streaming if index < SECOND_DATABASE => Offer::Resync,
        Phase::Streaming if index < end => Offer::Entries(end),
        Phase::Streaming => Offer::Nothing,
    }
}

/// Many keys with long names.
fn many(from: usize) -> Vec<String> {
    let names = from..from + 6;
    names
        .map(|number| format!("many/{:-<60}/{number:02}", ""))
        .collect()
}

fn put_many(from: usize) -> etcd_syncer::pb::etcdpb::InternalRaftRequest {
    let names = many(from);
    put_all(names.iter().map(String::as_str), "m", 4)
}

fn log() -> Vec<Handout> {
    let first = [
        put("a", "1", 0),
        grant(1),
        put("b", "1", 1),
        add_user("root", "hash of root"),
        put_all(["c", "d", "e"], "1", 1),
        grant_role("root", "root"),
        put_and_delete("f", "1", "a", "b"),
        grant(2),
        put("b", "2", 2),
        add_role("r"),
        add_user("u", "hash of u"),
        revoke(1),
        put("a", "2", 0),
        if_greater("a", "1", ("g", "then"), ("g", "otherwise")),
        compact(4),
        grant(1),
        put("c", "3", 1),
        put("i", "1", 0),
        grant_role("u", "r"),
        put("a", "3", 2),
    ];
    let unseen = [
        delete("b", ""),
        put("h", "1", 0),
        revoke(1),
        put("a", "4", 0),
        set_password("u", "another hash of u"),
        grant(3),
        put("k", "1", 3),
    ];
    let second = [
        put("h", "2", 3),
        enable_auth(),
        compact(18),
        put("i", "2", 0),
        revoke(2),
        delete("g", "i"),
        put("a", "5", 3),
        put("b", "5", 0),
        put("l", "1", 0),
    ];
    let unseen_too = [
        put("l", "2", 0),
        delete_user("u"),
        delete("i", ""),
        grant(6),
        put("m", "1", 6),
        revoke(3),
    ];
    let last = [
        grant(4),
        put_many(0),
        put_many(10),
        put_many(20),
        put("n", "1", 4),
        revoke(4),
        add_user("w", ""),
        put("m", "2", 6),
        compact(30),
        add_user("x", "hash of x"),
        set_password("root", "another hash of root"),
        put("a", "9", 0),
    ];
    let all = first.into_iter().chain(unseen).chain(second);
    let mut log = log_of(all.chain(unseen_too).chain(last));
    for (at, voters, learners) in [
        (4, vec![1], vec![MEMBER.0]),
        (23, vec![1, 2, 3], vec![MEMBER.0]),
        (45, vec![2, 3], vec![MEMBER.0, 5]),
    ] {
        log[at] = with_members(log[at].clone(), &voters, &learners);
    }
    log
}

fn primary() -> Primary {
    let primary = Primary::new(log(), &[FIRST_DATABASE, NEWER_DATABASE, SECOND_DATABASE]);
    assert_eq!(primary.log.len() as u64, SECOND_DATABASE + 12);
    primary
}

/// One process, until nothing is left to do for it.
async fn live(way: &Way, primary: &Primary, course: Course) {
    let setup = Setup {
        hold: HOLD,
        history: HistoryPolicy::Keep,
        sizes: SIZES,
        at_a_time: course.at_a_time,
    };
    let mut process = Process::begin(way, setup).await;
    loop {
        match offer(primary, process.checkpoint(), course) {
            Offer::Entries(up_to) => {
                let entries = primary.entries(process.checkpoint().index, up_to);
                process = process.stream(entries).await;
            }
            Offer::Database(index) => process.install(primary.database(index)).await,
            Offer::Resync => {
                drop(process);
                while resync::mark(&mut way.clone(), STREAM).await.is_err() {}
                process = Process::begin(way, setup).await;
            }
            Offer::Nothing => break,
        }
    }
    let process = process.settle().await;
    tokio::time::sleep(QUIET).await;
    assert_no_lease_is_left(way, primary);
    // Those that nobody keeps alive expire.
    tokio::time::sleep(HOLD - QUIET + Duration::from_secs(5)).await;
    assert_eq!(process.lost(), 0);
    process.end().await;
}

/// The standby's own keys do not tell of an empty lease: one that ended before a database was
/// installed by them may be left until it expires.
fn assert_no_lease_is_left(way: &Way, primary: &Primary) {
    let state = way.keys.state();
    let end = &primary.last().state;
    let streamed = &primary.at(RaftIndex(SECOND_DATABASE)).state;
    for id in state.leases.leases.keys() {
        let ended_before = streamed.lease(*id).is_none() && id.0 < 4;
        assert!(end.lease(*id).is_some() || ended_before, "{id} is left");
        let is_empty = state.keys.values().all(|kept| kept.lease != *id);
        assert!(end.lease(*id).is_some() || is_empty, "{id} is not empty");
    }
}

/// A run, and all that it did.
pub(crate) struct Run {
    name: String,
    way: Way,
    pub(crate) moments: Vec<Moment>,
    processes: u64,
}

/// With little room.
pub(crate) fn limited(standby: FakeStandby) -> FakeStandby {
    standby
        .request_bytes(REQUEST_BYTES_MAX)
        .txn_ops(TXN_OPS_MAX)
}

async fn run(primary: &Primary, events: &[(usize, Event)], course: Course) -> Run {
    let name = format!("{events:?}, {course:?}");
    let keys = limited(FakeStandby::new().remembering());
    let way = Way::new(keys, Counted::Writes, events.iter().copied());
    // What processes draw by lot they draw alike in every run.
    fastrand::seed(1);
    run_on(primary, way, name, course).await
}

async fn run_on(primary: &Primary, way: Way, name: String, course: Course) -> Run {
    let live = async |way: &Way, _| Box::pin(live(way, primary, course)).await;
    let processes = until_through(&way, &name, live).await;
    let moments = way.keys.state().moments.take().unwrap();
    Run {
        name,
        way,
        moments,
        processes,
    }
}

/// A run in which nothing happens.
pub(crate) async fn undisturbed() -> Run {
    run(&primary(), &[], ONE_BY_ONE).await
}

/// A run that goes on with what a standby holds.
pub(crate) async fn going_on(standby: FakeStandby, name: &str) -> Run {
    let way = Way::new(standby, Counted::Writes, []);
    fastrand::seed(2);
    run_on(&primary(), way, name.to_owned(), ONE_BY_ONE).await
}

/// Holds the end of a run to what the primary holds.
pub(crate) async fn check_end(run: &Run) {
    run.check_end(&primary()).await;
}

fn of_primary(keys: &BTreeMap<Bytes, Kept>) -> Content {
    let ours = reserved::range();
    let theirs = keys.iter().filter(|(key, _)| !ours.contains(key));
    theirs
        .map(|(key, kept)| (key.clone(), (kept.value.clone(), kept.lease)))
        .collect()
}

/// Each state that each key ever had, its version included; none where it was deleted.
fn histories(moments: &[Moment]) -> BTreeMap<Bytes, Vec<Option<Kept>>> {
    let ours = reserved::range();
    let mut histories: BTreeMap<Bytes, Vec<Option<Kept>>> = BTreeMap::new();
    let mut last: BTreeMap<Bytes, Kept> = BTreeMap::new();
    for moment in moments {
        let names: BTreeSet<&Bytes> = last.keys().chain(moment.keys.keys()).collect();
        for key in names.into_iter().filter(|key| !ours.contains(key)) {
            let (before, now) = (last.get(key), moment.keys.get(key));
            if before.map(|kept| kept.modified) != now.map(|kept| kept.modified) {
                // Revisions of the standby depend on how often its processes began.
                let state = now.map(|kept| Kept {
                    created: 0,
                    modified: 0,
                    ..kept.clone()
                });
                histories.entry(key.clone()).or_default().push(state);
            }
        }
        last.clone_from(&moment.keys);
    }
    histories
}

impl Run {
    /// Holds all of it to what the primary did.
    async fn check(&self, primary: &Primary) {
        self.check_moments(primary);
        self.check_end(primary).await;
    }

    async fn check_end(&self, primary: &Primary) {
        let checkpoint = self.check_checkpoint(primary);
        self.check_compaction(&checkpoint);
        self.check_content(primary, &checkpoint);
        let run = &self.name;
        let taken = process::take(&self.way.keys, HOLD, watch::Sender::default()).await;
        let (base, _keeping, _) = taken.unwrap();
        assert_eq!(base.checkpoint.phase, Phase::Streaming, "{run}: damaged");
        assert_same(&base.state, primary, run);
    }

    fn check_content(&self, primary: &Primary, checkpoint: &Checkpoint) {
        let run = &self.name;
        let mut state = self.way.keys.state();
        state.let_time_pass();
        let after = primary.last();
        assert_eq!(of_primary(&state.keys), after.content, "{run}");
        let leases: Vec<LeaseId> = state.leases.leases.keys().copied().collect();
        let expected: Vec<LeaseId> = after.state.leases().map(|(id, _)| id).collect();
        assert_eq!(leases, expected, "{run}");
        let left = self.way.users.state().model.differences(after.state.auth());
        assert!(left.is_empty(), "{run}: {left:?}");
        // Nothing is left of our own but what counts.
        let place = &checkpoint.ledger;
        let chunks = (0..place.base_chunks)
            .map(|chunk| reserved::ledger_chunk(STREAM, place.generation, chunk));
        let journals = (place.first_journal..place.next_journal)
            .map(|number| reserved::ledger_journal(STREAM, number));
        let mut counted: Vec<Bytes> = chunks.chain(journals).collect();
        counted.push(reserved::checkpoint_key(STREAM));
        counted.sort();
        let ours = reserved::range();
        let found = state.keys.keys().filter(|key| ours.contains(key));
        assert!(found.eq(counted.iter()), "{run}: something else is left");
    }

    /// At each checkpoint that says so, the standby shows what the primary did.
    fn check_moments(&self, primary: &Primary) {
        let run = &self.name;
        let mut last = 0;
        for moment in &self.moments {
            let checkpoint = Checkpoint::decode(&moment.checkpoint).unwrap();
            let index = checkpoint.index;
            assert!(index.0 >= last, "{run}: back from {last} to {index}");
            last = index.0;
            let shown = of_primary(&moment.keys);
            let content = &primary.at(index).content;
            if checkpoint.phase != Phase::Streaming {
                continue;
            }
            if checkpoint.ending_lease == LeaseId(0) {
                assert_eq!(shown, *content, "{run}: at {index}");
            } else {
                let next = &primary.at(RaftIndex(index.0 + 1)).content;
                assert!(shown == *content || shown == *next, "{run}: at {index}");
            }
        }
    }

    fn check_checkpoint(&self, primary: &Primary) -> Checkpoint {
        let run = &self.name;
        let key = reserved::checkpoint_key(STREAM);
        let stored = self.way.keys.state().keys[&key].value.clone();
        let found = Checkpoint::decode(&stored).unwrap();
        let after = primary.last();
        let position = after.state.position();
        let expected = Checkpoint {
            primary: PRIMARY,
            member: MEMBER,
            index: position.index,
            term: found.term,
            voters: after.voters.clone(),
            learners: after.learners.clone(),
            revision: position.revision,
            compact_revision: position.compact_revision,
            phase: Phase::Streaming,
            ending_lease: LeaseId(0),
            ..found.clone()
        };
        assert_eq!(found, expected, "{run}");
        found
    }

    /// No state is given up that the primary still shows.
    fn check_compaction(&self, checkpoint: &Checkpoint) {
        let run = &self.name;
        let compacted = self.way.keys.state().leases.compacted;
        let given_up = self.moments.iter().rev();
        let mut given_up = given_up.filter(|moment| moment.revision <= compacted);
        if let Some(moment) = given_up.next() {
            let at = Checkpoint::decode(&moment.checkpoint).unwrap();
            assert!(at.revision <= checkpoint.compact_revision, "{run}");
        }
    }
}

fn assert_same(loaded: &PrimaryState, primary: &Primary, run: &str) {
    let after = primary.last();
    let state = &after.state;
    assert_eq!(loaded.position(), state.position(), "{run}");
    assert_eq!(loaded.keys().len(), state.keys().len(), "{run}");
    for ((key, found), (expected_key, expected)) in loaded.keys().zip(state.keys()) {
        assert_eq!(key, expected_key, "{run}");
        let value = &after.content[key].0;
        let expected = etcd_syncer::resolve::KeyMeta {
            digest: loaded.digest_key().digest(value),
            ..*expected
        };
        assert_eq!(*found, expected, "{run}: {key:?}");
    }
    assert!(loaded.leases().eq(state.leases()), "{run}: leases");
    assert_eq!(loaded.alarms(), state.alarms(), "{run}");
    assert_eq!(
        known(loaded.auth(), loaded),
        known(state.auth(), loaded),
        "{run}"
    );
}

/// Name, digest of the password, login and roles.
type KnownUser = (String, Option<[u8; 16]>, Login, Vec<String>);

/// What a ledger knows of users.
fn known(auth: &AuthState, loaded: &PrimaryState) -> (bool, u64, Vec<KnownUser>, Vec<String>) {
    let users = auth.users().iter().map(|(name, user)| {
        let digest = user.password.to_digest("", loaded.digest_key());
        (name.clone(), digest, user.login, user.roles.clone())
    });
    (
        auth.is_enabled(),
        auth.revision(),
        users.collect(),
        auth.roles().keys().cloned().collect(),
    )
}

/// What must be in a run for the others to be worth anything.
fn assert_covers(undisturbed: &Run) {
    let names = undisturbed.way.names();
    let count = |name: &str| names.iter().filter(|one| **one == name).count();
    let shown: Vec<_> = ["transaction", "grant", "revoke", "users", "compact"]
        .map(|name| (name, count(name)))
        .into();
    println!("{} writes: {shown:?}", names.len());
    let checkpoints = undisturbed.moments.iter();
    let checkpoints: Vec<Checkpoint> = checkpoints
        .map(|moment| Checkpoint::decode(&moment.checkpoint).unwrap())
        .collect();
    let has = |what: &dyn Fn(&Checkpoint) -> bool| checkpoints.iter().any(what);
    let bases: BTreeSet<u64> = checkpoints
        .iter()
        .filter(|one| one.ledger.base_chunks > 1)
        .map(|one| one.ledger.generation)
        .collect();
    assert!(bases.len() > 2, "bases of several chunks: {bases:?}");
    assert!(has(&|one| one.ending_lease == LeaseId(4)), "no large lease");
    assert!(has(&|one| one.is_by_content()), "no second database");
    let by_ledger = |one: &Checkpoint| one.phase != Phase::Streaming && !one.is_by_content();
    assert!(has(&by_ledger), "no first database");
    assert!(count("grant") > 4 && count("revoke") > 3, "{shown:?}");
    assert!(count("users") > 6 && count("compact") > 1, "{shown:?}");
}

/// Runs with this event at each write in turn.
async fn at_every_write(event: Event, course: Course) {
    let primary = primary();
    let undisturbed = run(&primary, &[], course).await;
    undisturbed.check(&primary).await;
    let expected = histories(&undisturbed.moments);
    for at in 0.. {
        let run = run(&primary, &[(at, event)], course).await;
        if run.way.events_left() > 0 {
            assert!(at >= undisturbed.way.names().len(), "{}", run.name);
            break;
        }
        run.check(&primary).await;
        if course.database == FIRST_DATABASE {
            assert_eq!(histories(&run.moments), expected, "{}", run.name);
        }
        let crashes = matches!(event, Event::Crash(_));
        assert_eq!(run.processes, 1 + u64::from(crashes), "{}", run.name);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_happens() {
    let primary = primary();
    let undisturbed = undisturbed().await;
    undisturbed.check(&primary).await;
    assert_eq!(undisturbed.processes, 1);
    assert_covers(&undisturbed);
}

#[tokio::test(start_paused = true)]
async fn a_process_ends_before_any_write() {
    at_every_write(Event::Crash(false), ONE_BY_ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_ends_behind_any_write() {
    at_every_write(Event::Crash(true), ONE_BY_ONE).await;
}

#[tokio::test(start_paused = true)]
async fn any_write_is_lost() {
    at_every_write(Event::Lost(false), ONE_BY_ONE).await;
}

#[tokio::test(start_paused = true)]
async fn any_answer_is_lost() {
    at_every_write(Event::Lost(true), ONE_BY_ONE).await;
}

#[tokio::test(start_paused = true)]
async fn a_process_with_much_before_it_ends_behind_any_write() {
    at_every_write(Event::Crash(true), at_a_time(100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_newer_database_comes_after_the_end_of_a_process() {
    let database = NEWER_DATABASE;
    let course = Course {
        database,
        ..ONE_BY_ONE
    };
    at_every_write(Event::Crash(true), course).await;
}

#[tokio::test(start_paused = true)]
async fn two_things_happen_in_one_run() {
    let primary = primary();
    let mut rng = fastrand::Rng::with_seed(11);
    for course in [1, 3, 100].map(at_a_time) {
        let undisturbed = run(&primary, &[], course).await;
        undisturbed.check(&primary).await;
        let expected = histories(&undisturbed.moments);
        let writes = undisturbed.way.names().len();
        for _ in 0..PAIRS {
            let first = rng.usize(0..writes);
            let second = first + 1 + rng.usize(0..40);
            let events = [first, second].map(|at| (at, EVENTS[rng.usize(0..EVENTS.len())]));
            let run = run(&primary, &events, course).await;
            run.check(&primary).await;
            assert_eq!(histories(&run.moments), expected, "{}", run.name);
        }
    }
}
