//! Whole ledgers as standbys may come to hold them: records changed, cut, swapped, missing, of other
//! places, or made to be harmful. What is loaded is the state that was written, or nothing is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etcd_syncer::checkpoint::{Checkpoint, Phase};
use etcd_syncer::ids::LeaseId;
use etcd_syncer::ledger::{Damaged, Loaded};
use etcd_syncer::reserved;
use etcd_syncer::standby::ContactError;
use fastrand::Rng;
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
#[derive(Debug)]
enum Verdict {
    Loaded(Box<(Checkpoint, Loaded)>),
    Damaged(Damaged),
    Unreadable(ContactError),
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
    let mut standby = standby(keys, 1_000);
    let began = Instant::now();
    let verdict = match process::contact(&mut standby).await {
        Err(error) => Verdict::Unreadable(error),
        Ok(contact) => {
            let checkpoint = contact.checkpoint.unwrap();
            match process::load(&mut standby, &checkpoint).await {
                Err(damaged) => Verdict::Damaged(damaged),
                Ok(loaded) => Verdict::Loaded(Box::new((checkpoint, loaded))),
            }
        }
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
            && !process::is_by_content(&checkpoint)
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

fn assert_exact(found: &(Checkpoint, Loaded), keys: &Keys, expected: &Loaded, what: &str) {
    let (checkpoint, loaded) = found;
    assert_eq!(*checkpoint, checkpoint_of(keys), "{what}");
    assert_eq!(loaded.ledger.place(), expected.ledger.place(), "{what}");
    assert_eq!(loaded.ledger.bytes(), expected.ledger.bytes(), "{what}");
    assert_eq!(loaded.ended, expected.ended, "{what}");
    let (found, expected) = (&loaded.state, &expected.state);
    assert_eq!(found.position(), expected.position(), "{what}");
    assert!(found.keys().eq(expected.keys()), "{what}: keys");
    assert!(found.leases().eq(expected.leases()), "{what}: leases");
    assert_eq!(found.auth(), expected.auth(), "{what}");
    assert_eq!(found.alarms(), expected.alarms(), "{what}");
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
                assert_exact(&found, &moment.keys, &expected.1, &what);
                exact += 1;
            }
            Verdict::Damaged(_) => {
                damaged += 1;
                if damaged % MENDED == 0 {
                    let standby = standby(&keys, moment.revision);
                    mend(standby, &what).await;
                    mended += 1;
                }
            }
            Verdict::Unreadable(error) => {
                let is_clean = matches!(error, ContactError::Unreadable { .. });
                assert!(is_clean, "{what}: {error}");
                unreadable += 1;
            }
        }
    }
    println!("{exact} exact, {damaged} damaged, {mended} mended, {unreadable} unreadable");
    assert!(exact > 50 && damaged > 500 && mended > 20 && unreadable > 100);
}

/// Lets a process go on from a ledger that is damaged.
async fn mend(standby: FakeStandby, what: &str) {
    let run: Run = stream::going_on(standby, what).await;
    let began = Checkpoint::decode(&run.moments[0].checkpoint).unwrap();
    assert!(process::is_by_content(&began), "{what}");
    stream::check_end(&run).await;
}
