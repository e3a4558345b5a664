//! Decoding, resolving and planning as one object: committed entries in, batches out. Pure.
//!
//! An entry goes this way: [`entry::decode`] makes a typed operation of its bytes,
//! [`PrimaryState::resolve`] works out what that did to the primary, and the [`Planner`] collects
//! effects into batches. The state runs ahead of the standby by exactly what is queued here and
//! what the caller is writing. It knows every key of the primary; a batch changes those in scope,
//! under the names that they have on the standby.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{self, Entry};
use crate::ids::{RaftIndex, Revision};
use crate::learner::Handout;
use crate::plan::{Batch, History, Limits, Planner, TooLarge, Unit, on_standby};
use crate::resolve::{
    self, Disagreement, Outcome, PrimaryState, Resolution, Resolved, Rules, ShownKey, Small, Values,
};
use crate::scope::Scope;

/// Why the stream cannot go on. Each names the entry.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The entry is not understood.
    #[error("decode the log: {0}")]
    Decode(#[from] entry::Error),
    /// The entry's effect cannot be decided.
    #[error("resolve the log: {0}")]
    Resolve(#[from] resolve::Error),
    /// The entry does not fit into the standby.
    #[error("plan a batch: {0}")]
    Plan(#[from] TooLarge),
    /// The entry's effect depends on a value that the standby does not hold.
    #[error(
        "resolve entry {index} ({kind}): it compares by order the value of {key}, which is not in the \
         stream's scope, so its value is not known here; begin again with another --stream and a scope \
         that has the key in it, or install a snapshot taken after the entry"
    )]
    OutOfScope {
        /// The entry.
        index: RaftIndex,
        /// Name of its kind.
        kind: &'static str,
        /// The key, as the primary names it.
        key: ShownKey,
    },
    /// The entry is the first beyond what was asked for.
    #[error("entry {index} makes revision {revision}, beyond the last one that is wanted")]
    Beyond {
        /// The entry.
        index: RaftIndex,
        /// The revision after it.
        revision: Revision,
    },
}

/// When to leave out states that a key had between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryPolicy {
    /// Always write each state.
    Keep,
    /// Always write only the last one.
    Last,
    /// Each state while close behind, only the last one while catching up.
    Auto,
}

/// What the caller is to do next.
#[derive(Debug)]
pub enum Polled {
    /// Write this batch.
    Batch(Box<Batch>),
    /// Read these keys from the standby, which now holds everything before the entry that asks for
    /// them, and call [`Pipeline::provide`]. The names are those on the standby.
    Read(Vec<Bytes>),
    /// Wait for entries.
    Idle,
}

/// How many entries of one kind were seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Tally {
    /// Those that changed something.
    pub with_effect: u64,
    /// Those that changed nothing.
    pub without_effect: u64,
}

/// More entries than this waiting is catching up.
const CLOSE_BEHIND_ENTRIES: usize = 2_000;

/// The way from the log to the standby, up to the door of the standby.
#[derive(Debug)]
pub struct Pipeline {
    queue: VecDeque<Handout>,
    state: PrimaryState,
    scope: Arc<Scope>,
    planner: Planner,
    policy: HistoryPolicy,
    /// Resolved, and not in a batch because the batch before it had to go first.
    held: Option<Unit>,
    /// Decoded, and waiting for values.
    asking: Option<Asking>,
    /// Why nothing comes after what was handed out, if nothing does.
    refused: Option<Error>,
    /// The last revision that is wanted.
    until: Option<Revision>,
    /// Batches that the standby refused, whole or halved, to go before everything else.
    halves: VecDeque<Batch>,
    tallies: BTreeMap<&'static str, Tally>,
    disagreements: Vec<(RaftIndex, Disagreement)>,
    /// Those parts of the state as of the last entry resolved.
    small: Small,
}

#[derive(Debug)]
struct Asking {
    entry: Entry,
    handout: Handout,
    /// As the standby names them.
    wanted: Vec<Bytes>,
    values: Values,
}

impl Pipeline {
    /// A pipeline that goes on from `state`, to a standby that holds what is in `scope`.
    #[must_use]
    pub fn new(
        state: PrimaryState,
        scope: Arc<Scope>,
        limits: Limits,
        policy: HistoryPolicy,
    ) -> Self {
        Self {
            small: state.small(),
            queue: VecDeque::new(),
            state,
            scope,
            planner: Planner::new(limits),
            policy,
            held: None,
            asking: None,
            refused: None,
            until: None,
            halves: VecDeque::new(),
            tallies: BTreeMap::new(),
            disagreements: Vec::new(),
        }
    }

    /// Our copy of the primary's metadata, as of the last entry resolved.
    #[must_use]
    pub fn state(&self) -> &PrimaryState {
        &self.state
    }

    /// The same, when no more entries are to come.
    #[must_use]
    pub fn into_state(self) -> PrimaryState {
        self.state
    }

    /// Index of the last entry resolved, and the revision after it.
    #[must_use]
    pub fn resolved(&self) -> (RaftIndex, Revision) {
        let position = self.state.position();
        (position.index, position.revision)
    }

    /// Entries by kind.
    #[must_use]
    pub fn tallies(&self) -> &BTreeMap<&'static str, Tally> {
        &self.tallies
    }

    /// Takes the entries on which members of the primary may have disagreed, since the last call.
    pub fn take_disagreements(&mut self) -> Vec<(RaftIndex, Disagreement)> {
        std::mem::take(&mut self.disagreements)
    }

    /// Entries waiting to be resolved.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Which keys go to the standby, and under which names.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// True if the state is ahead of all batches that were handed out, as far as `key` goes, which
    /// is named as on the standby.
    #[must_use]
    pub fn is_ahead_at(&self, key: &[u8]) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|unit| unit.changes.touch(key))
            || self.planner.touches_key(key)
            || self.halves.iter().any(|half| half.touches_key(key))
    }

    /// True once an entry was refused that the state has taken in: what the state says is then not
    /// what the standby is to hold.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.refused.is_some()
    }

    /// From now on the primary applies entries by these rules.
    pub fn set_rules(&mut self, rules: Rules) {
        self.state.set_rules(rules);
    }

    /// Refuses the first entry that makes a revision beyond this one. The state has taken that
    /// entry in then, and is of no more use.
    #[must_use]
    pub fn until(mut self, revision: Option<Revision>) -> Self {
        self.until = revision;
        self
    }

    /// Takes committed entries in, in order.
    pub fn push(&mut self, handouts: impl IntoIterator<Item = Handout>) {
        self.queue.extend(handouts);
    }

    /// What to do next. If a batch changes users or roles, those of [`Pipeline::state`] are what it
    /// leads to, until the next call.
    ///
    /// To be called only while no batch is being written, as what it asks to be read must be what
    /// the standby holds after the last batch.
    ///
    /// # Errors
    /// [`Error`]: the stream must halt. What came before the entry at fault was handed out already.
    pub fn poll(&mut self) -> Result<Polled, Error> {
        if let Some(half) = self.halves.pop_front() {
            return Ok(Polled::Batch(Box::new(half)));
        }
        match self.fill() {
            Ok(()) => {}
            // The entries before the one at fault still go to the standby; the next call fails
            // again.
            Err(_) if !self.planner.is_empty() => {}
            Err(error) => return Err(error),
        }
        if let Some(batch) = self.planner.take() {
            return Ok(Polled::Batch(Box::new(batch)));
        }
        Ok(match &self.asking {
            Some(asking) => Polled::Read(asking.wanted.clone()),
            None => Polled::Idle,
        })
    }

    /// Values that were asked for; None for a key that the standby does not hold.
    ///
    /// # Errors
    /// [`Error::Resolve`] if they are not what the primary holds; [`Error::OutOfScope`] if they
    /// were not enough, and the standby does not have the others.
    pub fn provide(
        &mut self,
        values: impl IntoIterator<Item = (Bytes, Option<Bytes>)>,
    ) -> Result<(), Error> {
        let Some(mut asking) = self.asking.take() else {
            return Ok(());
        };
        for (name, value) in values {
            if let Some(key) = self.scope.to_primary(&name) {
                asking.values.insert(key, value);
            }
        }
        match self.state.resolve_with(&asking.entry, &asking.values)? {
            Resolution::Done(resolved) => self.hold(resolved, asking.handout),
            Resolution::NeedsValues(wanted) => {
                let names = self.names(&asking.entry, &wanted, &asking.values);
                // Without them the entry stays where it is, and so does what comes behind it.
                let asking = self.asking.insert(asking);
                asking.wanted = names?;
                Ok(())
            }
        }
    }

    /// The names of those keys whose values are not known yet and the standby has. They may be
    /// enough without the others: one compare that does not hold decides for all.
    fn names(&self, entry: &Entry, wanted: &[Bytes], known: &Values) -> Result<Vec<Bytes>, Error> {
        let unknown = wanted.iter().filter(|key| !known.knows(key));
        let (mut names, mut others) = (Vec::new(), Vec::new());
        for key in unknown {
            match self.scope.to_standby(key) {
                Some(name) => names.push(name),
                None => others.push(key.clone()),
            }
        }
        if !names.is_empty() {
            return Ok(names);
        }
        Err(Error::OutOfScope {
            index: entry.index,
            kind: entry.op.kind(),
            key: ShownKey(others.into_iter().next().unwrap_or_default()),
        })
    }

    /// The standby refused the size of a batch: takes it back in two halves, or returns false if it
    /// is a single entry.
    #[must_use]
    pub fn give_back(&mut self, batch: Batch) -> bool {
        let Some((first, second)) = batch.split() else {
            return false;
        };
        self.halves.push_front(second);
        self.halves.push_front(first);
        true
    }

    /// A batch could not be written yet: it is handed out again as it is.
    pub fn take_back(&mut self, batch: Batch) {
        self.halves.push_front(batch);
    }

    /// Resolves entries into the open batch until it is full, an entry needs values or none is
    /// left.
    fn fill(&mut self) -> Result<(), Error> {
        let history = match self.policy {
            HistoryPolicy::Keep => History::Keep,
            HistoryPolicy::Last => History::Last,
            HistoryPolicy::Auto if self.queue.len() > CLOSE_BEHIND_ENTRIES => History::Last,
            HistoryPolicy::Auto => History::Keep,
        };
        loop {
            if let Some(unit) = self.held.take()
                && let Some(back) = self.planner.push(unit, history)?
            {
                self.held = Some(back);
                return Ok(());
            }
            if let Some(error) = &self.refused {
                return Err(error.clone());
            }
            if self.asking.is_some() {
                return Ok(());
            }
            let Some(handout) = self.queue.front() else {
                return Ok(());
            };
            let entry = entry::decode(&handout.entry)?;
            let resolution = self.state.resolve(&entry)?;
            let values = Values::default();
            let names = match &resolution {
                Resolution::Done(_) => Vec::new(),
                Resolution::NeedsValues(wanted) => self.names(&entry, wanted, &values)?,
            };
            let Some(handout) = self.queue.pop_front() else {
                return Ok(());
            };
            match resolution {
                Resolution::Done(resolved) => self.hold(resolved, handout)?,
                Resolution::NeedsValues(_) => {
                    self.asking = Some(Asking {
                        entry,
                        handout,
                        wanted: names,
                        values,
                    });
                }
            }
        }
    }

    fn hold(&mut self, resolved: Resolved, handout: Handout) -> Result<(), Error> {
        let (index, revision) = (resolved.index, resolved.revision);
        if self.until.is_some_and(|until| until < revision) {
            let beyond = Error::Beyond { index, revision };
            return Err(self.refused.insert(beyond).clone());
        }
        let tally = self.tallies.entry(resolved.kind).or_default();
        match resolved.outcome {
            Outcome::Effect => tally.with_effect += 1,
            Outcome::None(_) => tally.without_effect += 1,
        }
        let delta = self.state.delta(&resolved, &self.small);
        self.small = self.state.small();
        if let Some(members) = &handout.members {
            self.state.set_voters(members.voters.len());
        }
        if let Some(disagreement) = &resolved.disagreement {
            self.disagreements
                .push((resolved.index, disagreement.clone()));
        }
        assert!(self.held.is_none(), "two entries held at once");
        self.held = Some(Unit {
            index: resolved.index,
            term: handout.entry.term,
            revision: resolved.revision,
            compact_revision: resolved.compact_revision,
            members: handout.members,
            changes: on_standby(resolved.changes, &self.scope),
            lease: resolved.lease,
            auth: resolved.auth,
            delta,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
