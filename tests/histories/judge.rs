//! Resolves a whole log from its first entry on, as one observer of the primary.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use etcd_syncer::entry::{self, Committed, Entry, Header};
use etcd_syncer::resolve::{
    Changes, DigestKey, Outcome, Position, PrimaryState, Problem, Resolution, Resolved, Rules,
    Settings, Value, Values, Version,
};

use crate::picture::{Kv, Picture};

/// Whose way of applying entries is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// The reference of a primary with so many voters.
    Voters(usize),
    /// This member's own: it proposed some entries, and not the others.
    Member(u64),
}

/// Counts over entries.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By kind and outcome; `effect`, or the reason for none.
    pub(crate) entries: BTreeMap<(&'static str, &'static str), u64>,
    /// Entries that members may take differently, by cause.
    pub(crate) disagreements: BTreeMap<String, u64>,
    /// Entries that needed values.
    pub(crate) reads: u64,
    /// Entries that ended a history, by what could not be told.
    pub(crate) halts: BTreeMap<String, u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        for (key, count) in &other.entries {
            *self.entries.entry(*key).or_default() += count;
        }
        for (key, count) in &other.disagreements {
            *self.disagreements.entry(key.clone()).or_default() += count;
        }
        for (key, count) in &other.halts {
            *self.halts.entry(key.clone()).or_default() += count;
        }
        self.reads += other.reads;
    }

    /// Entries with and without effect.
    pub(crate) fn sums(&self) -> (u64, u64) {
        let sum = |effect: bool| {
            let counted = self.entries.iter();
            counted
                .filter(|((_, outcome), _)| (*outcome == EFFECT) == effect)
                .map(|(_, count)| count)
                .sum()
        };
        (sum(true), sum(false))
    }
}

const EFFECT: &str = "effect";

/// What came of an entry.
#[derive(Debug)]
pub(crate) enum Fed {
    Taken(Box<Resolved>),
    Halted(Problem),
}

/// A resolver with what a standby would hold, and a memory of everything.
#[derive(Clone)]
pub(crate) struct Judge {
    state: PrimaryState,
    view: View,
    /// What remains of leases is in the database.
    pub(crate) stores_remaining: bool,
    values: BTreeMap<Bytes, Bytes>,
    history: BTreeMap<i64, BTreeMap<Bytes, Option<Kv>>>,
    /// By revision, the entry that made it.
    pub(crate) made_by: BTreeMap<i64, u64>,
    /// By entry: revision, compact revision and auth revision after it.
    pub(crate) marks: BTreeMap<u64, (i64, i64, u64)>,
    pub(crate) tally: Tally,
}

pub(crate) fn rules(release: &str) -> Result<Rules> {
    let version = Version::parse(release).with_context(|| format!("{release} is no release"))?;
    Ok(Rules::of(version)?)
}

impl Judge {
    pub(crate) fn new(release: &str, view: View, lease_ttl_min: i64) -> Result<Self> {
        let settings = Settings {
            digest_key: DigestKey::new(&[1; 32]),
            lease_ttl_min,
            rules: rules(release)?,
            voters: match view {
                View::Voters(voters) => voters,
                View::Member(_) => 3,
            },
        };
        Ok(Self {
            state: PrimaryState::new(settings, Position::START),
            view,
            stores_remaining: stores_remaining(release),
            values: BTreeMap::new(),
            history: BTreeMap::new(),
            made_by: BTreeMap::new(),
            marks: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    pub(crate) fn state(&self) -> &PrimaryState {
        &self.state
    }

    /// What a standby would hold.
    pub(crate) fn values(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.values
    }

    /// Goes on by the rules of another release.
    pub(crate) fn set_release(&mut self, release: &str) -> Result<()> {
        self.state.set_rules(rules(release)?);
        self.stores_remaining = stores_remaining(release);
        Ok(())
    }

    pub(crate) fn picture(&self) -> Result<Picture> {
        Picture::of_state(&self.state, &self.values, &self.history)
    }

    /// Feeds entries until one halts; says which.
    pub(crate) fn feed_all(&mut self, log: &[Committed]) -> Result<Option<u64>> {
        for committed in log {
            if let Fed::Halted(problem) = self.feed(committed)? {
                let count = self.tally.halts.entry(problem.to_string());
                *count.or_default() += 1;
                return Ok(Some(committed.index.0));
            }
        }
        Ok(None)
    }

    /// Feeds the entry that comes next.
    pub(crate) fn feed(&mut self, committed: &Committed) -> Result<Fed> {
        let entry = entry::decode(committed)?;
        if let View::Member(id) = self.view {
            self.state
                .set_voters(if is_by(&entry.header, id) { 1 } else { 3 });
        }
        let before = self.state.position();
        let mut values = Values::default();
        let mut asked = 0;
        let resolved = loop {
            match self.state.resolve_with(&entry, &values) {
                Ok(Resolution::Done(resolved)) => break resolved,
                Ok(Resolution::NeedsValues(keys)) => {
                    ensure!(keys.len() > asked, "{entry:?} asks for the same again");
                    asked = keys.len();
                    values = Values::default();
                    for key in keys {
                        let value = self.values.get(&key).cloned();
                        values.insert(key, value);
                    }
                }
                Err(error) => {
                    ensure!(self.state.position() == before, "{error} moved the state");
                    return Ok(Fed::Halted(error.problem));
                }
            }
        };
        self.count(&resolved, asked > 0);
        self.take(&entry, &resolved, before)?;
        Ok(Fed::Taken(Box::new(resolved)))
    }

    fn count(&mut self, resolved: &Resolved, read: bool) {
        let outcome = match resolved.outcome {
            Outcome::Effect => EFFECT,
            Outcome::None(reason) => reason,
        };
        let count = self.tally.entries.entry((resolved.kind, outcome));
        *count.or_default() += 1;
        if let Some(disagreement) = &resolved.disagreement {
            let cause = format!("{:?}", disagreement.cause);
            *self.tally.disagreements.entry(cause).or_default() += 1;
        }
        self.tally.reads += u64::from(read);
    }

    fn take(&mut self, entry: &Entry, resolved: &Resolved, before: Position) -> Result<()> {
        let revision = resolved.revision.0;
        let step = revision - before.revision.0;
        ensure!((0..=1).contains(&step), "{entry:?} made {step} revisions");
        let Changes { puts, deletes } = &resolved.changes;
        ensure!(
            step == 1 || resolved.changes.is_empty(),
            "{entry:?} changed keys at no revision"
        );
        let mut touched = BTreeMap::new();
        for range in deletes {
            let gone: Vec<Bytes> = self
                .values
                .keys()
                .filter(|key| range.contains(key))
                .cloned()
                .collect();
            ensure!(!gone.is_empty(), "{entry:?} deletes nothing");
            for key in gone {
                self.values.remove(&key);
                touched.insert(key, None);
            }
        }
        for put in puts {
            if let Value::Given(value) = &put.value {
                self.values.insert(put.key.clone(), value.clone());
            }
            let value = self.values.get(&put.key);
            let value = value.with_context(|| format!("{entry:?} keeps a value it lacks"))?;
            let meta = self.state.key(&put.key).context("a put key is not there")?;
            ensure!(put.lease == meta.lease, "{entry:?}: two leases");
            let kv = Kv {
                created: meta.created.0,
                modified: meta.modified.0,
                version: meta.version,
                lease: meta.lease.0,
                value: value.clone(),
            };
            ensure!(
                touched.insert(put.key.clone(), Some(kv)).is_none(),
                "{entry:?}: twice"
            );
        }
        if step == 1 {
            self.history.insert(revision, touched);
            self.made_by.insert(revision, entry.index.0);
        }
        let compact = resolved.compact_revision.0;
        let auth = self.state.auth().revision();
        self.marks.insert(entry.index.0, (revision, compact, auth));
        Ok(())
    }
}

/// Before 3.6 only if a flag says so.
fn stores_remaining(release: &str) -> bool {
    !release.starts_with("3.4.") && !release.starts_with("3.5.")
}

/// Whether the member with this id proposed the entry.
fn is_by(header: &Header, member: u64) -> bool {
    header.id >> 48 == member & 0xffff
}
