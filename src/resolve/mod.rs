//! Works out what each entry did to the primary, from the entry and the state before it. Pure.
//!
//! ```text
//! entry --decide--> Decision --apply--> Resolved
//!            ^                     |
//!            +--- PrimaryState <---+
//! ```
//!
//! - Deciding reads the state and changes nothing, so an entry that is refused, undecidable or in
//!   need of values leaves the state as it was.
//! - A Txn is decided as a whole against the state before it: compares, choice of branches at every
//!   level, refusals. Then its writes are taken in order on top of that state and summed up as one
//!   net effect.
//! - Before its request is looked at, an entry passes the layers of checks that the release, the
//!   alarms and auth put there. Where members may take an entry differently, it is decided for each
//!   way, and the majority's counts if that is known.
//! - Values are not kept. Equality is decided by digests; order needs values, which the caller
//!   fetches.
//!
//! # Source
//! etcd `server/etcdserver/apply.go`, `server/mvcc/kvstore_txn.go`, `server/lease/lessor.go`, 3.4
//! to 3.7.

mod alarm;
mod auth;
mod backend;
mod changes;
mod class;
mod compare;
mod decide;
mod delta;
mod digest;
mod effect;
mod error;
mod guard;
mod lease;
mod rules;
mod state;
mod txn;
mod write;

#[cfg(test)]
mod tests;

pub use crate::version::Version;
pub use alarm::{AlarmParts, Alarms};
pub use auth::{AuthChange, AuthState, FormerParts, Login, Password, Permission, Role, User};
pub use changes::{
    AlarmChange, Cause, Changes, Disagreement, LeaseChange, Outcome, Put, Resolved, Value,
};
pub use delta::{AuthDelta, Delta, Small};
pub use digest::{Digest, DigestKey, Values};
pub use error::{Error, Problem, ShownKey};
pub use rules::{Rules, UnknownVersion};
pub use state::{DEFAULT_LEASE_TTL_MIN, KeyMeta, Lease, Position, PrimaryState, Settings};

use bytes::Bytes;

use crate::entry::Entry;
use decide::decide;
use effect::{Decision, Told};

/// What came of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// The state is now the one after the entry, and this is what changed.
    Done(Resolved),
    /// The entry compares values by order, and these keys' values are missing, ascending. The state
    /// is unchanged. Write everything before the entry to the standby, read these keys there, and
    /// call [`PrimaryState::resolve_with`] with all of them. Another call may ask for more.
    NeedsValues(Vec<Bytes>),
}

impl PrimaryState {
    /// Takes in the entry after the last one.
    ///
    /// # Errors
    /// What cannot be decided; the state is unchanged and the stream must halt.
    pub fn resolve(&mut self, entry: &Entry) -> Result<Resolution, Error> {
        self.resolve_with(entry, &Values::default())
    }

    /// Takes in the entry after the last one, with values that it was found to need.
    ///
    /// # Errors
    /// As [`PrimaryState::resolve`], and if a value is not the one that the primary holds.
    pub fn resolve_with(&mut self, entry: &Entry, values: &Values) -> Result<Resolution, Error> {
        let failed = |problem| Error {
            index: entry.index,
            kind: entry.op.kind(),
            problem,
        };
        let expected = self.position.index.next();
        if entry.index != expected {
            return Err(failed(Problem::OutOfOrder { expected }));
        }
        let decided = decide(self, values, entry).map_err(failed)?;
        let told = match decided.decision {
            Decision::Nothing(reason) => Told::nothing(reason),
            Decision::Effect(effect) => effect.apply(self),
            Decision::Needs(mut keys) => {
                keys.extend(values.keys().cloned());
                return Ok(Resolution::NeedsValues(keys.into_iter().collect()));
            }
        };
        self.position.index = entry.index;
        Ok(Resolution::Done(Resolved {
            index: entry.index,
            revision: self.position.revision,
            compact_revision: self.position.compact_revision,
            kind: entry.op.kind(),
            outcome: told.outcome,
            changes: told.changes,
            lease: told.lease,
            auth: told.auth,
            alarm: told.alarm,
            disagreement: decided.disagreement,
        }))
    }
}
