//! A resolver, a model and a standby, fed with the same ops and compared after each.

use std::collections::BTreeMap;

use super::model::{Crash, Model};
use super::*;
use crate::ids::{LeaseId, Revision};
use crate::range::KeyRange;

#[derive(Clone)]
pub(super) struct Trio {
    pub(super) state: PrimaryState,
    voters: usize,
    model: Model,
    standby: Standby,
}

/// What a standby holds that got nothing but net changes.
#[derive(Clone, Default)]
pub(super) struct Standby {
    /// Value and lease by key.
    keys: BTreeMap<Bytes, (Bytes, LeaseId)>,
    /// The TTL of each lease that it was told of.
    leases: BTreeMap<LeaseId, i64>,
}

/// Whether a history can go on.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Continues,
    Halts,
}

impl Trio {
    pub(super) fn new(voters: usize) -> Self {
        let settings = Settings {
            voters,
            ..settings()
        };
        Self {
            voters,
            state: PrimaryState::new(settings, Position::START),
            model: Model::new(),
            standby: Standby::default(),
        }
    }

    /// Feeds the op to all three and asserts that they agree.
    pub(super) fn feed(&mut self, op: &Op) -> Step {
        let before = self.model.clone();
        // The majority's way is the proposer's if it is alone.
        let modelled = self.model.apply(op, self.voters == 1);
        let (mut other, mut otherwise) = (self.model.clone(), Ok(()));
        if matches!(op, Op::Txn(_)) {
            other = before.clone();
            otherwise = other.apply(op, self.voters != 1);
        }
        let header = Header::default();
        let resolved = match resolve(&mut self.state, &self.standby, &header, op) {
            Ok(resolved) => resolved,
            Err(problem) => {
                self.assert_halt_is_due(op, &problem, &before, &other, [modelled, otherwise]);
                return Step::Halts;
            }
        };
        assert_eq!(modelled, Ok(()), "a crash went unnoticed: {op:?}");
        assert_eq!(otherwise, Ok(()), "a crash went unnoticed: {op:?}");
        assert_eq!(
            resolved.disagreement.is_some(),
            other != self.model,
            "{op:?}"
        );
        if let (Op::Compaction(_), true) = (op, before.compacted < self.model.compacted) {
            assert!(!before.reputs.contains(&self.model.compacted), "{op:?}");
        }
        assert_eq!(
            resolved.outcome == Outcome::Effect,
            before != self.model,
            "{op:?}"
        );
        assert_well_formed(&resolved, &before, &self.model);
        self.standby.write(resolved);
        assert_equal(&self.state, &self.standby, &self.model);
        Step::Continues
    }

    /// Every halt has a cause that the model sees, too.
    fn assert_halt_is_due(
        &self,
        op: &Op,
        problem: &Problem,
        before: &Model,
        other: &Model,
        modelled: [Result<(), Crash>; 2],
    ) {
        match problem {
            Problem::Poison(_) => assert!(modelled.contains(&Err(Crash)), "{op:?}"),
            Problem::CompactionLosesKeys { revision, .. } => {
                assert!(before.reputs.contains(&revision.0), "{op:?}");
            }
            Problem::MembersDisagree(_) => {
                assert_eq!(self.voters, 2);
                assert_ne!(other, &self.model, "{op:?}");
            }
            other => panic!("{other:?} for {op:?}"),
        }
        // An error leaves the state as it was.
        assert_equal(&self.state, &self.standby, before);
    }
}

/// Resolves the next entry, with values from the standby if it needs them.
pub(super) fn resolve(
    state: &mut PrimaryState,
    standby: &Standby,
    header: &Header,
    op: &Op,
) -> Result<Resolved, Problem> {
    let entry = Entry {
        header: header.clone(),
        ..entry(state.position().index.next().0, op.clone())
    };
    let mut values = Values::default();
    let mut asked = 0;
    loop {
        let before = state.position();
        match state.resolve_with(&entry, &values) {
            Ok(Resolution::Done(resolved)) => return Ok(resolved),
            Ok(Resolution::NeedsValues(keys)) => {
                assert_eq!(state.position(), before);
                assert!(keys.len() > asked, "asks for the same again");
                asked = keys.len();
                values = Values::default();
                for key in keys {
                    let value = standby.keys.get(&key).map(|(value, _)| value.clone());
                    values.insert(key, value);
                }
            }
            Err(error) => {
                assert_eq!((error.index, error.kind), (entry.index, op.kind()));
                return Err(error.problem);
            }
        }
    }
}

/// Asserts what holds for every outcome.
pub(super) fn assert_well_formed(resolved: &Resolved, before: &Model, after: &Model) {
    let Changes { puts, deletes } = &resolved.changes;
    assert!(puts.is_sorted_by(|a, b| a.key < b.key), "{puts:?}");
    let disjoint = |a: &KeyRange, b: &KeyRange| a.start() < b.start() && !a.overlaps(b);
    assert!(deletes.is_sorted_by(disjoint), "{deletes:?}");
    for range in deletes {
        assert!(puts.iter().all(|put| !range.contains(&put.key)));
        assert!(before.keys.keys().any(|key| range.contains(key)));
    }
    assert_eq!(resolved.revision.0, after.revision);
    assert_eq!(resolved.compact_revision.0, after.compacted);
    assert!((0..=1).contains(&(resolved.revision.0 - before.revision)));
    if resolved.revision.0 == before.revision {
        assert!(resolved.changes.is_empty());
    }
}

impl Standby {
    pub(super) fn write(&mut self, resolved: Resolved) {
        for range in resolved.changes.deletes {
            self.keys.retain(|key, _| !range.contains(key));
        }
        for put in resolved.changes.puts {
            let value = match put.value {
                Value::Given(value) => value,
                Value::Kept => self.keys[&put.key].0.clone(),
            };
            self.keys.insert(put.key, (value, put.lease));
        }
        match resolved.lease {
            Some(LeaseChange::Granted { id, ttl }) => {
                assert_eq!(self.leases.insert(id, ttl), None);
            }
            Some(LeaseChange::Revoked { id }) => assert!(self.leases.remove(&id).is_some()),
            None => {}
        }
    }
}

/// Asserts that a resolver and a standby hold what the model holds.
pub(super) fn assert_equal(state: &PrimaryState, standby: &Standby, model: &Model) {
    let digest_key = state.digest_key();
    let stated = state.keys().map(|(key, meta)| (key.to_vec(), *meta));
    let modelled = model.keys.iter().map(|(key, kv)| {
        let meta = KeyMeta {
            created: Revision(kv.created),
            modified: Revision(kv.modified),
            version: kv.version,
            lease: LeaseId(kv.lease),
            digest: digest_key.digest(&kv.value),
        };
        (key.to_vec(), meta)
    });
    assert!(stated.eq(modelled), "{:?} {model:?}", state);

    let held = standby.keys.iter();
    let modelled = model.keys.iter();
    assert!(
        held.map(|(key, (value, lease))| (key, value, lease.0))
            .eq(modelled.map(|(key, kv)| (key, &kv.value, kv.lease))),
        "{:?} {model:?}",
        standby.keys
    );

    assert_eq!(state.leases().len(), model.leases.len());
    assert_eq!(standby.leases.len(), model.leases.len());
    for (id, lease) in state.leases() {
        assert_eq!(Some(&lease.ttl()), model.leases.get(&id.0));
        assert_eq!(Some(&lease.ttl()), standby.leases.get(&id));
        let attached = model.keys.iter().filter(|(_, kv)| kv.lease == id.0);
        assert!(lease.keys().eq(attached.map(|(key, _)| key.as_ref())));
    }
    assert_eq!(state.position().revision.0, model.revision);
    assert_eq!(state.position().compact_revision.0, model.compacted);
    let reputs = state.reputs().map(|(revision, _)| revision.0);
    let modelled = model.reputs.range(model.compacted + 1..);
    assert!(reputs.eq(modelled.copied()));
}
