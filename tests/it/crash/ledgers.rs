//! Whole ledgers as standbys may come to hold them: records changed, cut, swapped, missing, of other
//! places, or made to be harmful. What is loaded is the state that was written, or nothing is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::base::Base;
use etcd_syncer::checkpoint::{Checkpoint, Phase, Place};
use etcd_syncer::exit::{Exit, Fatal};
use etcd_syncer::ids::LeaseId;
use etcd_syncer::reserved;
use fastrand::Rng;
use tokio::sync::watch;
use tokio::time::Instant as TokioInstant;

use super::process::{self, STREAM};
use super::stream::{self, Run};
use crate::fake_standby::{FakeLease, FakeStandby, Kept, Moment};

/// Ledgers that were changed at random.
const RANDOM: usize = 1_000;
/// Of those, one in so many is brought back to what the primary holds.
const MENDED: usize = 25;
/// On a busy machine; each takes milliseconds.
const LONGEST: Duration = Duration::from_secs(20);

type Keys = BTreeMap<Bytes, Kept>;

/// What becomes of a standby with these keys.
enum Verdict {
    Loaded(Box<Base<FakeStandby>>),
    /// To be compared with the standby's own keys.
    Damaged,
    Refused(Fatal),
}

fn standby(keys: &Keys, revision: i64) -> FakeStandby {
    let standby = FakeStandby::new().remembering();
    let standby = stream::limited(standby);
    let mut state = standby.state();
    state.keys.clone_from(keys);
    state.revision = revision;
    let expires = TokioInstant::now() + stream::HOLD;
    let leases = keys.values().map(|kept| kept.lease);
    for id in leases.filter(|id| *id != LeaseId(0)) {
        let lease = FakeLease { ttl: 180, expires };
        state.leases.leases.insert(id, lease);
    }
    drop(state);
    standby
}

async fn verdict(keys: &Keys) -> Verdict {
    let standby = standby(keys, 1_000);
    let began = Instant::now();
    let taken = process::take(&standby, stream::HOLD, watch::Sender::default()).await;
    let verdict = match taken {
        Err(error) => Verdict::Refused(error),
        Ok((base, _, _)) if base.checkpoint.is_by_content() => Verdict::Damaged,
        Ok((base, _, _)) => Verdict::Loaded(Box::new(base)),
    };
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    verdict
}

fn checkpoint_of(keys: &Keys) -> Checkpoint {
    Checkpoint::decode(&keys[&reserved::checkpoint_key(STREAM)].value).unwrap()
}

/// Moments with ledgers worth changing: at rest, while a base is written, while a database is
/// installed.
async fn moments() -> Vec<Moment> {
    let run = stream::undisturbed().await;
    let moments = run.moments.into_iter().filter(|moment| {
        let checkpoint = Checkpoint::decode(&moment.checkpoint).unwrap();
        let journals = checkpoint.ledger.next_journal - checkpoint.ledger.first_journal;
        checkpoint.ledger.base_chunks > 1
            && journals > 2
            && !checkpoint.is_by_content()
            && checkpoint.ending_lease == LeaseId(0)
    });
    let moments: Vec<Moment> = moments.collect();
    let phases = moments.iter().map(|one| checkpoint_of(&one.keys).phase);
    let installing = phases.filter(|phase| *phase != Phase::Streaming).count();
    assert!(moments.len() > 20 && installing > 1, "{}", moments.len());
    moments
}

/// The keys of the records that count.
fn counted(keys: &Keys) -> Vec<Bytes> {
    let place = checkpoint_of(keys).ledger;
    let chunks =
        (0..place.base_chunks).map(|chunk| reserved::ledger_chunk(STREAM, place.generation, chunk));
    let journals = (place.first_journal..place.next_journal)
        .map(|number| reserved::ledger_journal(STREAM, number));
    chunks.chain(journals).collect()
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(0..from.len())]
}

/// Changes one value in one place or several.
fn scratch(rng: &mut Rng, value: &Bytes) -> Bytes {
    let mut value = value.to_vec();
    match rng.usize(0..6) {
        0 => {
            let at = rng.usize(0..value.len());
            value[at] ^= 1 << rng.u8(0..8);
        }
        1 => {
            for _ in 0..rng.usize(1..5) {
                let at = rng.usize(0..value.len());
                value[at] = rng.u8(..);
            }
        }
        2 => value.truncate(rng.usize(0..value.len())),
        3 => value.extend((0..rng.usize(1..40)).map(|_| rng.u8(..))),
        4 => {
            let at = rng.usize(0..value.len());
            value.remove(at);
        }
        _ => {
            let (from, to) = (rng.usize(0..value.len()), rng.usize(0..value.len()));
            let some = value[from.min(to)..from.max(to)].to_vec();
            value.splice(from..from, some);
        }
    }
    value.into()
}

/// Changes a standby's ledger; what was done to it.
fn change(rng: &mut Rng, keys: &mut Keys, others: &[Moment]) -> String {
    let mut there = counted(keys);
    there.retain(|key| keys.contains_key(key));
    let key = pick(rng, &there).clone();
    let shown = String::from_utf8_lossy(&key).into_owned();
    match rng.usize(0..10) {
        0..3 => {
            let value = scratch(rng, &keys[&key].value);
            keys.get_mut(&key).unwrap().value = value;
            format!("{shown} scratched")
        }
        3 => {
            let other = pick(rng, &there).clone();
            let (one, two) = (keys[&key].value.clone(), keys[&other].value.clone());
            keys.get_mut(&key).unwrap().value = two;
            keys.get_mut(&other).unwrap().value = one;
            format!("{shown} swapped with {other:?}")
        }
        4 => {
            let other = pick(rng, &there).clone();
            keys.get_mut(&key).unwrap().value = keys[&other].value.clone();
            format!("{shown} is {other:?}")
        }
        5 => {
            keys.remove(&key);
            format!("{shown} is gone")
        }
        6 if rng.bool() => {
            let place = checkpoint_of(keys).ledger;
            let name = reserved::ledger_chunk(STREAM, place.generation + 1, 0);
            keys.insert(name, keys[&key].clone());
            format!("{shown} is in the next base")
        }
        6 => {
            let name = [&key[..], &[rng.u8(..)]].concat();
            keys.insert(name.into(), keys[&key].clone());
            format!("{shown} is there twice")
        }
        7 => {
            // Of another generation of the same ledger.
            let other = pick(rng, others);
            let theirs = counted(&other.keys);
            let theirs = pick(rng, &theirs).clone();
            keys.get_mut(&key).unwrap().value = other.keys[&theirs].value.clone();
            format!("{shown} is {theirs:?} of another moment")
        }
        _ => {
            let key = reserved::checkpoint_key(STREAM);
            let value = scratch(rng, &keys[&key].value);
            keys.get_mut(&key).unwrap().value = value;
            "the checkpoint is scratched".to_owned()
        }
    }
}

/// Of which records count.
type Change = fn(&mut Place);

fn assert_exact(found: &Base<FakeStandby>, expected: &Base<FakeStandby>, what: &str) {
    // Each process has a number of its own.
    let checkpoint = Checkpoint {
        writer: expected.checkpoint.writer,
        ..found.checkpoint.clone()
    };
    assert_eq!(checkpoint, expected.checkpoint, "{what}");
    assert_eq!(found.ledger.place(), expected.ledger.place(), "{what}");
    assert_eq!(found.ledger.bytes(), expected.ledger.bytes(), "{what}");
    let (found, expected) = (&found.state, &expected.state);
    assert_eq!(found.position(), expected.position(), "{what}");
    assert!(found.keys().eq(expected.keys()), "{what}: keys");
    assert!(found.leases().eq(expected.leases()), "{what}: leases");
    assert_eq!(found.auth(), expected.auth(), "{what}");
    assert_eq!(found.alarms(), expected.alarms(), "{what}");
}

/// Nobody takes a checkpoint that was changed for another one.
fn assert_refused(error: &Fatal, what: &str) {
    assert_eq!(error.exit, Exit::ForeignCheckpoint, "{what}: {error}");
    assert!(
        error.to_string().contains("read the checkpoint"),
        "{what}: {error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_ledger_is_loaded_as_it_was_or_not_at_all() {
    let moments = moments().await;
    let mut rng = Rng::with_seed(3);
    let (mut exact, mut damaged, mut unreadable, mut mended) = (0, 0, 0, 0);
    for number in 0..RANDOM {
        let moment = pick(&mut rng, &moments);
        let Verdict::Loaded(expected) = verdict(&moment.keys).await else {
            panic!("{number}: it was not whole before");
        };
        let mut keys = moment.keys.clone();
        let mut what = format!("{number}: ");
        for _ in 0..rng.usize(1..3) {
            what += &change(&mut rng, &mut keys, &moments);
            what += "; ";
            if Checkpoint::decode(&keys[&reserved::checkpoint_key(STREAM)].value).is_err() {
                break;
            }
        }
        match verdict(&keys).await {
            Verdict::Loaded(found) => {
                assert_exact(&found, &expected, &what);
                exact += 1;
            }
            Verdict::Damaged => {
                damaged += 1;
                if damaged % MENDED == 0 {
                    let standby = standby(&keys, moment.revision);
                    mend(standby, &what).await;
                    mended += 1;
                }
            }
            Verdict::Refused(error) => {
                assert_refused(&error, &what);
                unreadable += 1;
            }
        }
    }
    println!("{exact} exact, {damaged} damaged, {mended} mended, {unreadable} unreadable");
    assert!(exact > 10 && damaged > 500 && mended > 20 && unreadable > 100);
}

/// A record of any content whose checksum holds.
fn sealed(key: &Bytes, packing: u8, length: usize, content: &[u8]) -> Bytes {
    let text = std::str::from_utf8(key).unwrap();
    let parts: Vec<&str> = text.split('/').collect();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (kind, generation, number) = match parts[..] {
        [.., "base", generation, chunk] => (1, number(generation), number(chunk)),
        [.., "journal", journal] => (2, 0, number(journal)),
        _ => panic!("{text} is no record"),
    };
    let mut record = vec![1, kind, packing, 0];
    record.extend(generation.to_le_bytes());
    record.extend(number.to_le_bytes());
    record.extend(u32::try_from(length).unwrap().to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&record), content);
    record.extend(crc.to_le_bytes());
    record.extend(content);
    record.into()
}

fn packed(key: &Bytes, body: &[u8]) -> Bytes {
    sealed(key, 1, body.len(), &lz4_flex::block::compress(body))
}

/// A field of a message.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut field);
    field.extend(content);
    field
}

/// The most memory that this process had since the last call, in MiB.
fn memory_since() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kib >> 10
}

/// Bodies that are small as long as they are packed.
fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    const BYTES: usize = 9 << 20;
    let elements = |number: u8| [number << 3 | 2, 0].repeat(BYTES / 2);
    vec![
        ("nothing", vec![0; BYTES]),
        ("ranges", elements(1)),
        ("leases", elements(3)),
        ("reputs", elements(5)),
        ("users", field(6, &elements(3))),
        ("roles", field(6, &elements(4))),
        ("roles of a user", field(6, &field(3, &elements(6)))),
        ("permissions", field(6, &field(4, &elements(3)))),
        ("alarms", field(7, &elements(1))),
        ("columns", field(4, &elements(7))),
        ("rows", field(4, &field(6, &vec![1; 33 << 20]))),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_made_to_be_harmful_does_no_harm() {
    let moments = moments().await;
    let whole = &moments[0].keys;
    let some = counted(whole);
    let (chunk, journal) = (&some[0], some.last().unwrap());
    let bombs = bombs().into_iter();
    let mut records: Vec<(&str, Bytes)> = bombs
        .map(|(what, body)| (what, packed(chunk, &body)))
        .collect();
    for length in [u32::MAX as usize, (64 << 20) + 1, 64 << 20, 1] {
        records.push(("a wrong length", sealed(chunk, 1, length, &[0; 40])));
        records.push(("a wrong length", sealed(chunk, 0, length, &[0; 40])));
    }
    for packing in 2..6 {
        records.push(("a packing", sealed(chunk, packing, 0, &[])));
    }
    let before = memory_since();
    for (what, record) in records {
        assert!(record.len() < 1 << 20, "{what}: {} bytes", record.len());
        let mut keys = whole.clone();
        keys.get_mut(chunk).unwrap().value = record;
        let verdict = verdict(&keys).await;
        assert!(matches!(verdict, Verdict::Damaged), "{what} is loaded");
        let memory = memory_since();
        assert!(
            memory < before + 256,
            "{what}: {memory} MiB, {before} before"
        );
    }
    // Any bytes at all, once the checksum holds.
    let mut rng = Rng::with_seed(5);
    for _ in 0..RANDOM {
        let key = if rng.bool() { chunk } else { journal };
        let content: Vec<u8> = (0..rng.usize(0..300)).map(|_| rng.u8(..)).collect();
        let packing = rng.u8(0..2);
        let length = [content.len(), rng.usize(0..1 << 20)][rng.usize(0..2)];
        let mut keys = whole.clone();
        keys.get_mut(key).unwrap().value = sealed(key, packing, length, &content);
        let _any = verdict(&keys).await;
    }
}

#[tokio::test(start_paused = true)]
async fn counts_beyond_all_bounds_are_refused() {
    let moments = moments().await;
    let whole = &moments[0].keys;
    let place = checkpoint_of(whole).ledger;
    let changes: [(&str, Change); 7] = [
        ("chunks", |place| place.base_chunks = u32::MAX),
        ("no chunks", |place| place.base_chunks = 0),
        ("journals", |place| place.next_journal = u64::MAX),
        ("far journals", |place| {
            (place.first_journal, place.next_journal) = (u64::MAX - 1, u64::MAX);
        }),
        ("the last journals", |place| {
            (place.first_journal, place.next_journal) = (u64::MAX, u64::MAX);
        }),
        ("a generation", |place| place.generation = u64::MAX),
        ("many journals", |place| place.next_journal += 1 << 40),
    ];
    for (what, change) in changes {
        let mut checkpoint = checkpoint_of(whole);
        checkpoint.ledger = place.clone();
        change(&mut checkpoint.ledger);
        let mut keys = whole.clone();
        let key = reserved::checkpoint_key(STREAM);
        keys.get_mut(&key).unwrap().value = checkpoint.encode().into();
        match verdict(&keys).await {
            Verdict::Refused(error) => assert_refused(&error, what),
            Verdict::Damaged => mend(standby(&keys, 1_000), what).await,
            // Without a base the journals are all that there is.
            Verdict::Loaded(_) => assert_eq!(what, "no chunks"),
        }
    }
}

/// Lets a process go on from a ledger that is damaged.
async fn mend(standby: FakeStandby, what: &str) {
    let run: Run = stream::going_on(standby, what).await;
    let began = Checkpoint::decode(&run.moments[0].checkpoint).unwrap();
    assert!(began.is_by_content(), "{what}");
    stream::check_end(&run).await;
}
