//! A ledger that is written while the state moves on loads as the state itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::record::{self, Kind};
use super::*;
use crate::checkpoint::Place;
use crate::ids::{LeaseId, MemberId, RaftIndex, Revision};
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{
    AlarmParts, Alarms, AuthDelta, Delta, DigestKey, FormerParts, KeyMeta, Login, Password,
    Permission, Position, PrimaryState, Role, Rules, Settings, User, Version,
};
use bytes::Bytes;

const STREAM: &str = "s";

fn settings() -> Settings {
    Settings {
        digest_key: DigestKey::new(&[7; 32]),
        lease_ttl_min: 2,
        rules: Rules::of(Version::new(3, 5, 33)).unwrap(),
        voters: 1,
    }
}

fn position(revision: i64) -> Position {
    Position {
        index: RaftIndex(u64::try_from(revision).unwrap()),
        revision: Revision(revision),
        compact_revision: Revision(3),
    }
}

/// One entry's worth of changes, on few keys and leases so that they meet.
#[derive(Clone, Debug)]
enum Change {
    Put(u8, u8),
    Delete(u8, u8),
    Grant(u8),
    Revoke(u8),
    User(u8, Option<u8>),
    Alarm(bool),
}

/// The standby's ledger records and the state that they should describe.
struct World {
    state: PrimaryState,
    ledger: Ledger,
    records: BTreeMap<Bytes, Bytes>,
    revision: i64,
    open: Journal,
}

impl World {
    fn new() -> Self {
        let state = PrimaryState::new(settings(), position(3));
        let ledger = Ledger::new(STREAM, None, state.digest_key());
        Self {
            state,
            ledger,
            records: BTreeMap::new(),
            revision: 3,
            open: Journal::default(),
        }
    }

    /// What the resolver would tell of a change, if it is one.
    fn delta(&self, change: &Change) -> Option<Delta> {
        let mut delta = Delta::default();
        let lease = |id: u8| LeaseId(i64::from(id));
        match change {
            Change::Put(key, id) => {
                let id = if self.state.lease(lease(*id)).is_some() {
                    lease(*id)
                } else {
                    LeaseId(0)
                };
                let meta = KeyMeta {
                    created: Revision(self.revision / 2),
                    modified: Revision(self.revision),
                    version: i64::from(*key),
                    lease: id,
                    digest: self.state.digest_key().digest(&self.revision.to_le_bytes()),
                };
                delta.puts.push((name(*key), meta));
                delta.reputs.push((Revision(self.revision), name(*key)));
            }
            Change::Delete(from, to) => {
                delta
                    .deletes
                    .push(KeyRange::between(name(*from), name(*to))?);
            }
            Change::Grant(id) => {
                self.state.lease(lease(*id)).is_none().then_some(())?;
                delta.granted.push((lease(*id), i64::from(*id) * 10));
            }
            Change::Revoke(id) => {
                let attached = self.state.lease(lease(*id))?.keys();
                let attached = attached.map(Bytes::copy_from_slice);
                delta.deletes = attached.map(|key| KeyRange::single(&key)).collect();
                delta.revoked.push(lease(*id));
            }
            Change::User(user, password) => {
                let user_now = password.map(|password| User {
                    password: Password::Digest([password; 16]),
                    login: Login::Password,
                    roles: vec!["r".to_owned(); usize::from(password % 3)],
                });
                let role = Role::restored(
                    vec![Permission {
                        kind: 2,
                        key: name(*user),
                        range_end: Bytes::new(),
                    }],
                    BTreeSet::from([name(*user)]),
                );
                delta.auth = Some(AuthDelta {
                    enabled: user % 2 == 0,
                    revision: self.state.auth().revision() + 1,
                    users: BTreeMap::from([(format!("u{user}"), user_now)]),
                    roles: BTreeMap::from([(format!("r{user}"), password.map(|_| role))]),
                    former: FormerParts {
                        users: BTreeMap::from([(format!("f{user}"), (true, user % 2 == 0))]),
                        first: (user % 3 > 0).then(|| format!("f{user}")),
                    },
                });
            }
            Change::Alarm(raised) => {
                delta.alarms = Some(Alarms::of_parts(AlarmParts {
                    raised: BTreeSet::from_iter(raised.then_some((MemberId(9), 1))),
                    online: raised.then_some([true, false, true]),
                    restarts_seen: *raised,
                }));
            }
        }
        Some(delta)
    }

    /// Resolves an entry: the state is ahead of what is written.
    fn resolve(&mut self, change: &Change) {
        self.revision += 1;
        let Some(delta) = self.delta(change) else {
            return;
        };
        self.open.add(&delta);
        self.state.take_in(delta);
        self.state.restore_position(position(self.revision));
    }

    /// Writes the batch of all entries resolved since the last one.
    fn write(&mut self) {
        let open = std::mem::take(&mut self.open);
        let (weight, delta) = (open.bytes(), open.delta());
        if let Some((key, record, place)) = self.ledger.journal(&delta, self.state.digest_key()) {
            let bytes = record.len();
            // What a record has beside its lines, and a line of each column.
            let is_weighed = delta.auth.is_none() && delta.alarms.is_none();
            assert!(!is_weighed || bytes <= weight + 64, "{bytes} for {weight}");
            self.records.insert(key, record);
            self.ledger.journaled(place, bytes);
        }
    }

    /// Writes one more record of a base, if there is one to write.
    fn step(&mut self, durable: i64) -> bool {
        let durable = RaftIndex(u64::try_from(durable).unwrap());
        let Some(step) = self.ledger.step(&self.state, durable) else {
            return false;
        };
        if let Some((key, record)) = step.put.clone() {
            self.records.insert(key, record);
        }
        if let Some(range) = &step.delete {
            self.records.retain(|key, _| !range.contains(key));
        }
        self.ledger.stepped(step);
        true
    }

    fn load(&self) -> Result<Loaded, Damaged> {
        let place = self.ledger.place().clone();
        let mut loader = Loader::new(STREAM, place, settings(), self.state.position());
        while let Some(key) = loader.next_key() {
            let record = self.records.get(&key).cloned();
            loader.take_in(&key, &record.ok_or(Damaged::Missing(key.clone()))?)?;
        }
        loader.finish()
    }

    fn assert_loads(&self) {
        let loaded = self.load().unwrap();
        assert_same(&loaded.state, &self.state);
        assert_eq!(loaded.ledger.place(), self.ledger.place());
        assert_eq!(loaded.ledger.bytes(), self.ledger.bytes());
    }
}

fn assert_same(loaded: &PrimaryState, state: &PrimaryState) {
    assert!(loaded.keys().eq(state.keys()), "keys differ");
    assert!(loaded.leases().eq(state.leases()), "leases differ");
    assert_eq!(loaded.auth(), state.auth());
    assert_eq!(loaded.alarms(), state.alarms());
    let reputs = |state: &PrimaryState| {
        let all = state.reputs().flat_map(|(revision, keys)| {
            keys.map(move |key| (revision, key.to_vec()))
                .collect::<Vec<_>>()
        });
        all.collect::<Vec<_>>()
    };
    assert_eq!(reputs(loaded), reputs(state));
}

fn name(key: u8) -> Bytes {
    format!("/registry/{key:03}").into()
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => (0..12_u8, 0..4_u8).prop_map(|(key, lease)| Change::Put(key, lease)),
        2 => (0..12_u8, 0..12_u8).prop_map(|(from, to)| Change::Delete(from, to)),
        2 => (1..4_u8).prop_map(Change::Grant),
        2 => (1..4_u8).prop_map(Change::Revoke),
        1 => (0..3_u8, proptest::option::of(0..9_u8)).prop_map(|(u, p)| Change::User(u, p)),
        1 => any::<bool>().prop_map(Change::Alarm),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    Resolve(Change),
    Write,
    Rebase,
    Step,
}

proptest! {
    /// However batches, chunks and the moments at which a base begins fall together.
    #[test]
    fn what_is_loaded_is_the_state(acts in prop::collection::vec(prop_oneof![
        6 => any_change().prop_map(Act::Resolve),
        3 => Just(Act::Write),
        1 => Just(Act::Rebase),
        5 => Just(Act::Step),
    ], 0..120)) {
        let mut world = World::new();
        world.ledger.set_sizes(Sizes { chunk_bytes: 1, ..Sizes::default() });
        let mut durable = 3;
        for act in acts {
            match act {
                Act::Resolve(change) => world.resolve(&change),
                Act::Write => {
                    world.write();
                    durable = world.revision;
                    world.assert_loads();
                }
                Act::Rebase => world.ledger.begin_rebase(),
                Act::Step => {
                    world.step(durable);
                }
            }
        }
        world.write();
        world.assert_loads();
        let durable = world.revision;
        while world.step(durable) {}
        world.assert_loads();
        // What is left is what counts.
        let place = world.ledger.place();
        let journals = place.next_journal - place.first_journal;
        let counted = u64::from(place.base_chunks) + journals;
        prop_assert_eq!(u64::try_from(world.records.len()).unwrap(), counted);
    }

    #[test]
    fn a_record_that_is_not_whole_is_found_out(
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
        cut in any::<bool>(),
    ) {
        let mut world = World::new();
        let user = Change::User(0, Some(1));
        for change in [Change::Grant(1), Change::Put(1, 1), Change::Put(2, 0), user] {
            world.resolve(&change);
        }
        world.write();
        let key = world.records.keys().next().unwrap().clone();
        let mut record = world.records.get(&key).unwrap().to_vec();
        let at = at.index(record.len());
        if cut {
            record.truncate(at);
        } else {
            record[at] ^= 1 << bit;
        }
        world.records.insert(key, record.into());
        prop_assert!(matches!(world.load(), Err(Damaged::Record(..))));
    }

    /// Records with a right checksum and any body at all.
    #[test]
    fn any_body_is_decoded_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let kind = Kind::Journal { number: 3 };
        let opened = record::open(kind, &record::seal(kind, &body));
        prop_assert_eq!(opened.as_ref(), Ok(&body));
        let _decoded = part::decode(&body);
    }

    /// Bodies that were once right.
    #[test]
    fn a_changed_body_is_decoded_or_refused(
        changes in prop::collection::vec(any_change(), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut world = World::new();
        for change in &changes {
            world.resolve(change);
        }
        let delta = world.open.delta();
        let users = Some(BTreeSet::from(["u1".to_owned(), "u2".to_owned()]));
        let mut body = part::encode(&delta, users.as_ref(), world.state.digest_key());
        prop_assert_eq!(part::decode(&body), Ok((delta, users)));
        if !body.is_empty() {
            for (at, byte) in flips {
                let at = at.index(body.len());
                body[at] = byte;
            }
        }
        if let Ok((delta, _)) = part::decode(&body) {
            world.state.take_in(delta);
        }
    }
}

#[test]
fn a_record_that_is_missing_or_another_is_named() {
    let mut world = World::new();
    for key in 0..3 {
        world.resolve(&Change::Put(key, 0));
        world.write();
    }
    let middle = reserved::ledger_journal(STREAM, 1);
    let kept = world.records.remove(&middle).unwrap();
    assert_eq!(world.load().unwrap_err(), Damaged::Missing(middle.clone()));
    let other = world
        .records
        .get(&reserved::ledger_journal(STREAM, 2))
        .unwrap()
        .clone();
    world.records.insert(middle.clone(), other);
    assert_eq!(
        world.load().unwrap_err(),
        Damaged::Record(middle.clone(), RecordError::Misplaced)
    );
    world.records.insert(middle, kept);
    world.assert_loads();
}

#[test]
fn a_hash_or_password_is_not_in_the_ledger() {
    let secret = |text: &'static str| crate::secret::Secret::new(text);
    let user = |password| {
        Some(User {
            password,
            login: Login::Password,
            roles: Vec::new(),
        })
    };
    let auth = AuthDelta {
        enabled: true,
        revision: 5,
        users: BTreeMap::from([
            (
                "a".to_owned(),
                user(Password::Hash(secret("$2a$10$hashhash"))),
            ),
            (
                "b".to_owned(),
                user(Password::Clear(secret("hunter2hunter2"))),
            ),
        ]),
        roles: BTreeMap::new(),
        former: FormerParts::default(),
    };
    let delta = Delta {
        auth: Some(auth),
        ..Delta::default()
    };
    let body = part::encode(&delta, None, &settings().digest_key);
    for shown in ["hashhash", "hunter2"] {
        assert!(
            !body
                .windows(shown.len())
                .any(|window| window == shown.as_bytes())
        );
    }
    let auth = part::decode(&body).unwrap().0.auth.unwrap();
    let is_digest = |user: &Option<User>| {
        let password = user.as_ref().map(|user| &user.password);
        matches!(password, Some(Password::Digest(_)))
    };
    assert!(auth.users.values().all(is_digest), "{auth:?}");
}

#[test]
fn a_place_is_empty_at_first() {
    let world = World::new();
    assert_eq!(*world.ledger.place(), Place::empty([7; 32]));
    world.assert_loads();
}
