//! A standby in memory: etcd's rules for one transaction, and a network that fails when told to.
//!
//! Calls are numbered from 0, writes and reads alike, over all handles. Whatever [`Fault`] stands at
//! a number happens to that call. `standby_suite` holds the fake to what real etcd does.

mod leases;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use etcd_syncer::ids::{ClusterId, LeaseId};
use etcd_syncer::plan::{Nested, Write};
use etcd_syncer::range::KeyRange;
use etcd_syncer::resolve::{Put, Value};
use etcd_syncer::scope::Scope;
use etcd_syncer::standby::{About, Answer, Failure, Guard, KeyValue, Standby, Stored, Transaction};

pub(crate) use leases::{FakeLease, FakeLeases, LeaseFault};

/// What happens to one call. Faults of writes happen to reads in so far as they make sense there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The request is lost, and nobody says so.
    LostRequest,
    /// It is done; the answer is lost.
    LostAnswer,
    /// It looks lost, and is done right before the call so many numbers later.
    Late(usize),
    /// It is done and answered, and a copy arrives right before the call so many numbers later.
    Copied(usize),
    /// It is done, the answer is lost, and a copy arrives as with [`Fault::Copied`].
    LostAnswerCopied(usize),
    /// It is done, and the answer says that there is no space.
    NoSpaceApplied,
    /// It is not done, with this answer.
    Fails(Failure),
    /// The caller ends before the request is out.
    CrashBefore,
    /// The request is done, and the caller ends before the answer is in.
    CrashAfter,
    /// The caller ends, and the request is done right before the call so many numbers later.
    CrashLate(usize),
    /// Right before the call somebody else moves the checkpoint.
    OtherWriter,
    /// Right before the call somebody else deletes the checkpoint.
    Deleted,
}

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) value: Bytes,
    pub(crate) created: i64,
    pub(crate) modified: i64,
    pub(crate) version: i64,
    pub(crate) lease: LeaseId,
}

/// All that is stored at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    /// The last checkpoint that was written.
    pub(crate) checkpoint: Bytes,
    pub(crate) revision: i64,
    pub(crate) keys: BTreeMap<Bytes, Kept>,
}

/// What the standby itself knows, whatever its callers were told.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) revision: i64,
    pub(crate) keys: BTreeMap<Bytes, Kept>,
    /// The checkpoint of each transaction that was done, in order.
    pub(crate) history: Vec<Bytes>,
    /// What there was after each change of a stream, in order, if that is asked for.
    pub(crate) moments: Option<Vec<Moment>>,
    /// How many calls there were.
    pub(crate) calls: usize,
    /// How often another endpoint was asked for.
    pub(crate) endpoint_changes: usize,
    pub(crate) leases: FakeLeases,
    faults: BTreeMap<usize, Fault>,
    under_way: Vec<(usize, Transaction)>,
    scope: Scope,
    txn_ops_max: usize,
    request_bytes_max: usize,
}

/// What somebody else writes to the checkpoint.
pub(crate) const THEIRS: &[u8] = b"theirs";
/// The fake's cluster.
pub(crate) const CLUSTER: ClusterId = ClusterId(0xfa4e);

/// A handle; all of them share one standby.
#[derive(Clone, Debug)]
pub(crate) struct FakeStandby(Arc<Mutex<State>>);

/// What becomes of a call beside the work that it asks for.
enum Course {
    Answered,
    Unanswered(Failure),
    Crashed,
}

impl FakeStandby {
    /// An empty standby with etcd's limits.
    pub(crate) fn new() -> Self {
        Self::with_faults([])
    }

    pub(crate) fn with_faults(faults: impl IntoIterator<Item = (usize, Fault)>) -> Self {
        Self(Arc::new(Mutex::new(State {
            revision: 1,
            keys: BTreeMap::new(),
            history: Vec::new(),
            moments: None,
            calls: 0,
            endpoint_changes: 0,
            leases: FakeLeases::default(),
            faults: faults.into_iter().collect(),
            under_way: Vec::new(),
            scope: Scope::all(),
            txn_ops_max: 128,
            request_bytes_max: 3 << 19,
        })))
    }

    /// Notes every moment from now on.
    pub(crate) fn remembering(self) -> Self {
        self.state().moments = Some(Vec::new());
        self
    }

    pub(crate) fn request_bytes(self, max: usize) -> Self {
        self.state().request_bytes_max = max;
        self
    }

    pub(crate) fn txn_ops(self, max: usize) -> Self {
        self.state().txn_ops_max = max;
        self
    }

    /// Which keys of it are the stream's.
    pub(crate) fn scope(self, scope: Scope) -> Self {
        self.state().scope = scope;
        self
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that is still under way arrives.
    pub(crate) fn let_all_arrive(&self) {
        self.state().arrive(usize::MAX);
    }
}

impl State {
    /// Somebody else puts a key.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.revision += 1;
        let put = Put {
            key: Bytes::copy_from_slice(key),
            value: Value::Given(Bytes::copy_from_slice(value)),
            lease: LeaseId(0),
        };
        self.put_at_revision(&put);
    }

    /// Somebody else deletes a key.
    pub(crate) fn delete(&mut self, key: &[u8]) {
        self.revision += 1;
        self.keys.remove(key);
    }

    /// Somebody else deletes everything.
    pub(crate) fn clear(&mut self) {
        self.revision += 1;
        self.keys.clear();
    }

    /// Begins a call: takes its fault, and lets what is due arrive before it.
    fn begin(&mut self, checkpoint_key: Option<&Bytes>) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.let_time_pass();
        self.arrive(call);
        let fault = self.faults.remove(&call);
        match (&fault, checkpoint_key) {
            (Some(Fault::OtherWriter), Some(key)) => {
                let key = key.clone();
                self.put(&key, THEIRS);
                None
            }
            (Some(Fault::Deleted), Some(key)) => {
                self.revision += 1;
                self.keys.remove(key);
                None
            }
            _ => fault,
        }
    }

    fn arrive(&mut self, call: usize) {
        let (due, later) = std::mem::take(&mut self.under_way)
            .into_iter()
            .partition(|(at, _)| *at <= call);
        self.under_way = later;
        for (_, transaction) in due {
            // Nobody is there for the answer.
            let _ = self.apply(&transaction);
        }
    }

    fn send_later(&mut self, calls: usize, transaction: &Transaction) {
        // The number of this call was counted already.
        let at = self.calls - 1 + calls;
        self.under_way.push((at, transaction.clone()));
    }

    fn apply(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        let writes = flat(&transaction.writes);
        self.check(transaction, &writes)?;
        if !self.holds(transaction) {
            return Ok(Answer::GuardFailed);
        }
        for write in &writes {
            if let Write::Put(put) = write
                && !self.has_lease(put.lease)
            {
                let what = "etcdserver: requested lease not found";
                return Err(Failure::LeaseNotFound(what.to_owned()));
            }
            if let Write::Put(put) = write
                && put.value == Value::Kept
                && !self.keys.contains_key(&put.key)
            {
                return Err(Failure::Diverged("etcdserver: key not found".to_owned()));
            }
        }
        self.revision += 1;
        self.put_at_revision(&Put {
            key: transaction.checkpoint_key.clone(),
            value: Value::Given(transaction.checkpoint.clone()),
            lease: LeaseId(0),
        });
        for write in &writes {
            match write {
                Write::Put(put) => self.put_at_revision(put),
                Write::Delete(range) => self.keys.retain(|key, _| !range.contains(key)),
            }
        }
        self.history.push(transaction.checkpoint.clone());
        self.remember();
        Ok(Answer::Applied(self.revision))
    }

    fn remember(&mut self) {
        if let (Some(moments), Some(checkpoint)) = (&mut self.moments, self.history.last()) {
            moments.push(Moment {
                checkpoint: checkpoint.clone(),
                revision: self.revision,
                keys: self.keys.clone(),
            });
        }
    }

    /// What etcd refuses before it proposes a transaction.
    fn check(&self, transaction: &Transaction, writes: &[Write]) -> Result<(), Failure> {
        let bytes: usize = writes.iter().map(write_bytes).sum();
        if bytes > self.request_bytes_max {
            let what = "etcdserver: request is too large";
            return Err(Failure::TooLarge(what.to_owned()));
        }
        let outermost = transaction.writes.len() + 1;
        let compares = match transaction.guard {
            Guard::WrittenAt(_) => 1,
            Guard::NothingThere => 1 + self.scope.standby_ranges().len(),
        };
        let limit = self.txn_ops_max;
        let fits = outermost.max(compares) <= limit
            && transaction
                .writes
                .iter()
                .all(|entry| entry_fits(entry, limit - outermost));
        if !fits {
            let what = "etcdserver: too many operations in txn request";
            return Err(Failure::TooManyOps(what.to_owned()));
        }
        let puts = writes.iter().filter_map(|write| match write {
            Write::Put(put) => Some(&put.key),
            Write::Delete(_) => None,
        });
        let mut puts: Vec<&Bytes> = puts.chain([&transaction.checkpoint_key]).collect();
        let count = puts.len();
        puts.sort();
        puts.dedup();
        let deleted = writes.iter().any(|write| match write {
            Write::Put(_) => false,
            Write::Delete(range) => puts.iter().any(|key| range.contains(key)),
        });
        if puts.len() < count || deleted {
            let what = "etcdserver: duplicate key given in txn request";
            return Err(Failure::Refused(what.to_owned()));
        }
        Ok(())
    }

    fn holds(&self, transaction: &Transaction) -> bool {
        let checkpoint = self.keys.get(&transaction.checkpoint_key);
        match transaction.guard {
            Guard::WrittenAt(revision) => checkpoint.is_some_and(|kept| kept.modified == revision),
            Guard::NothingThere => checkpoint.is_none() && self.foreign().next().is_none(),
        }
    }

    fn foreign(&self) -> impl Iterator<Item = &Bytes> {
        let ranges = self.scope.standby_ranges();
        let in_scope = |key: &Bytes| ranges.iter().any(|range| range.contains(key));
        self.keys.keys().filter(move |key| in_scope(key))
    }

    fn put_at_revision(&mut self, put: &Put) {
        let old = self.keys.get(&put.key);
        let value = match (&put.value, old) {
            (Value::Given(value), _) => value.clone(),
            (Value::Kept, Some(old)) => old.value.clone(),
            (Value::Kept, None) => panic!("a value of nothing was kept"),
        };
        let kept = Kept {
            value,
            created: old.map_or(self.revision, |old| old.created),
            modified: self.revision,
            version: old.map_or(0, |old| old.version) + 1,
            lease: put.lease,
        };
        self.keys.insert(put.key.clone(), kept);
    }
}

fn flat(list: &[Nested<Write>]) -> Vec<Write> {
    list.iter()
        .flat_map(|entry| match entry {
            Nested::Op(write) => vec![write.clone()],
            Nested::Txn(inner) => flat(inner),
        })
        .collect()
}

fn entry_fits(entry: &Nested<Write>, limit: usize) -> bool {
    match entry {
        Nested::Op(_) => true,
        Nested::Txn(inner) => {
            inner.len() <= limit && inner.iter().all(|e| entry_fits(e, limit - inner.len()))
        }
    }
}

fn write_bytes(write: &Write) -> usize {
    match write {
        Write::Put(put) => match &put.value {
            Value::Given(value) => put.key.len() + value.len(),
            Value::Kept => put.key.len(),
        },
        Write::Delete(range) => range.start().len() + range.end().map_or(0, Bytes::len),
    }
}

fn no_answer() -> Failure {
    Failure::Unknown("no answer".to_owned())
}

/// How a write goes on after its fault; what is to be done now is done.
fn write_course(
    state: &mut State,
    fault: Option<Fault>,
    transaction: &Transaction,
) -> (Course, Option<Result<Answer, Failure>>) {
    let Some(fault) = fault else {
        return (Course::Answered, Some(state.apply(transaction)));
    };
    match fault {
        Fault::LostRequest => (Course::Unanswered(no_answer()), None),
        Fault::LostAnswer => {
            let answer = state.apply(transaction);
            (Course::Unanswered(no_answer()), Some(answer))
        }
        Fault::Late(calls) => {
            state.send_later(calls, transaction);
            (Course::Unanswered(no_answer()), None)
        }
        Fault::Copied(calls) => {
            state.send_later(calls, transaction);
            (Course::Answered, Some(state.apply(transaction)))
        }
        Fault::LostAnswerCopied(calls) => {
            state.send_later(calls, transaction);
            let answer = state.apply(transaction);
            (Course::Unanswered(no_answer()), Some(answer))
        }
        Fault::NoSpaceApplied => {
            let answer = state.apply(transaction);
            let what = "etcdserver: mvcc: database space exceeded".to_owned();
            (Course::Unanswered(Failure::NoSpace(what)), Some(answer))
        }
        Fault::Fails(failure) => (Course::Unanswered(failure), None),
        Fault::CrashBefore => (Course::Crashed, None),
        Fault::CrashAfter => (Course::Crashed, Some(state.apply(transaction))),
        Fault::CrashLate(calls) => {
            state.send_later(calls, transaction);
            (Course::Crashed, None)
        }
        Fault::OtherWriter | Fault::Deleted => panic!("{fault:?} comes before a call"),
    }
}

impl FakeStandby {
    /// A call that changes nothing.
    async fn ask<T>(
        &self,
        key: Option<&Bytes>,
        answer: impl FnOnce(&State) -> T,
    ) -> Result<T, Failure> {
        let course = {
            let mut state = self.state();
            match state.begin(key) {
                None => return Ok(answer(&state)),
                Some(Fault::Copied(_) | Fault::OtherWriter | Fault::Deleted) => {
                    return Ok(answer(&state));
                }
                Some(Fault::Fails(failure)) => Course::Unanswered(failure),
                Some(Fault::CrashBefore | Fault::CrashAfter | Fault::CrashLate(_)) => {
                    Course::Crashed
                }
                Some(
                    Fault::LostRequest
                    | Fault::LostAnswer
                    | Fault::Late(_)
                    | Fault::LostAnswerCopied(_)
                    | Fault::NoSpaceApplied,
                ) => Course::Unanswered(no_answer()),
            }
        };
        match course {
            Course::Unanswered(failure) => Err(failure),
            Course::Answered | Course::Crashed => std::future::pending().await,
        }
    }
}

impl Standby for FakeStandby {
    async fn write(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        let (course, answer) = {
            let mut state = self.state();
            let fault = state.begin(Some(&transaction.checkpoint_key));
            write_course(&mut state, fault, transaction)
        };
        match course {
            Course::Answered => answer.expect("an answer"),
            Course::Unanswered(failure) => Err(failure),
            Course::Crashed => std::future::pending().await,
        }
    }

    async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Failure> {
        let read = |state: &State| {
            state.keys.get(key).map(|kept| Stored {
                value: kept.value.clone(),
                mod_revision: kept.modified,
            })
        };
        self.ask(Some(key), read).await
    }

    async fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Failure> {
        self.ask(None, |state| {
            let keys = state.keys.range::<[u8], _>(range.bounds());
            let found = keys.map(|(key, kept)| KeyValue {
                key: key.clone(),
                value: kept.value.clone(),
                lease: kept.lease,
            });
            found.take(limit).collect()
        })
        .await
    }

    async fn about(&mut self) -> Result<About, Failure> {
        let about = |state: &State| About {
            cluster: CLUSTER,
            revision: state.revision,
        };
        self.ask(None, about).await
    }

    async fn foreign_keys(&mut self, limit: usize) -> Result<Vec<Bytes>, Failure> {
        let foreign = |state: &State| state.foreign().take(limit).cloned().collect();
        self.ask(None, foreign).await
    }

    async fn txn_ops_max(&mut self) -> Result<usize, Failure> {
        self.ask(None, |state| state.txn_ops_max).await
    }

    fn try_another_endpoint(&mut self) {
        self.state().endpoint_changes += 1;
    }
}
