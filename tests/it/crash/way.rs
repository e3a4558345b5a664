//! A standby as processes reach it: each call has a number, and at some of them a process ends or an
//! answer is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::plan::auth::AuthCall;
use etcd_syncer::range::KeyRange;
use etcd_syncer::resolve::Permission;
use etcd_syncer::standby::{
    About, Answer, Auth, Compaction, Failure, Granted, KeyValue, LeaseStatus, Leases, Standby,
    Stored, Transaction,
};
use tokio_util::sync::CancellationToken;

use crate::fake_auth::FakeAuth;
use crate::fake_standby::FakeStandby;

/// What happens at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The process ends; whether the call is done first.
    Crash(bool),
    /// The answer is lost, and the process lives on; whether the call is done.
    Lost(bool),
}

pub(crate) const EVENTS: [Event; 4] = [
    Event::Crash(false),
    Event::Crash(true),
    Event::Lost(false),
    Event::Lost(true),
];

/// Which calls have numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Those that change something. A call for many leases or users counts as one for each.
    Writes,
    /// All, but for what a first contact asks.
    All,
}

/// The calls of all processes together.
#[derive(Debug)]
struct Calls {
    counted: Counted,
    count: usize,
    events: BTreeMap<usize, Event>,
    /// What each counted call was.
    names: Vec<&'static str>,
}

/// One process's way to the standby. Clones are ways of the same process.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) keys: FakeStandby,
    pub(crate) users: FakeAuth,
    calls: Arc<Mutex<Calls>>,
    dead: CancellationToken,
}

fn lost() -> Failure {
    Failure::Unknown("no answer".to_owned())
}

impl Way {
    pub(crate) fn new(
        keys: FakeStandby,
        counted: Counted,
        events: impl IntoIterator<Item = (usize, Event)>,
    ) -> Self {
        let calls = Calls {
            counted,
            count: 0,
            events: events.into_iter().collect(),
            names: Vec::new(),
        };
        Self {
            keys,
            users: FakeAuth::new(true),
            calls: Arc::new(Mutex::new(calls)),
            dead: CancellationToken::new(),
        }
    }

    /// The way of another process, to the same standby.
    pub(crate) fn of_another(&self) -> Self {
        Self {
            dead: CancellationToken::new(),
            ..self.clone()
        }
    }

    /// Cancelled when the process ends.
    pub(crate) fn dead(&self) -> CancellationToken {
        self.dead.clone()
    }

    /// What the calls were that were counted so far.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.calls().names.clone()
    }

    /// How many events are still to come.
    pub(crate) fn events_left(&self) -> usize {
        self.calls().events.len()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn event(&self, name: &'static str, kind: Counted) -> Option<Event> {
        let mut calls = self.calls();
        if calls.counted == Counted::Writes && kind == Counted::All {
            return None;
        }
        let number = calls.count;
        calls.count += 1;
        calls.names.push(name);
        calls.events.remove(&number)
    }

    /// One call. What has ended hears nothing any more.
    async fn call<T>(
        &self,
        name: &'static str,
        kind: Counted,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.dead.is_cancelled() {
            return std::future::pending().await;
        }
        let mut this = self.clone();
        match self.event(name, kind) {
            None => call(&mut this).await,
            Some(Event::Lost(is_done)) => {
                if is_done {
                    let _nobody_hears = call(&mut this).await;
                }
                Err(lost())
            }
            Some(Event::Crash(is_done)) => {
                if is_done {
                    let _nobody_hears = call(&mut this).await;
                }
                self.dead.cancel();
                std::future::pending().await
            }
        }
    }

    async fn write_one<T>(
        &self,
        name: &'static str,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.call(name, Counted::Writes, call).await
    }

    async fn ask<T>(
        &self,
        name: &'static str,
        call: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.call(name, Counted::All, call).await
    }
}

fn only<T>(mut answers: Vec<Result<T, Failure>>) -> Result<T, Failure> {
    answers.pop().expect("one answer")
}

impl Standby for Way {
    async fn write(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        let write = async |this: &mut Self| this.keys.write(transaction).await;
        self.write_one("transaction", write).await
    }

    async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Failure> {
        self.ask("read", async |this: &mut Self| this.keys.read(key).await)
            .await
    }

    async fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Failure> {
        let read = async |this: &mut Self| this.keys.read_range(range, limit).await;
        self.ask("range", read).await
    }

    async fn about(&mut self) -> Result<About, Failure> {
        self.keys.about().await
    }

    async fn foreign_keys(&mut self, limit: usize) -> Result<Vec<Bytes>, Failure> {
        self.keys.foreign_keys(limit).await
    }

    async fn txn_ops_max(&mut self) -> Result<usize, Failure> {
        self.keys.txn_ops_max().await
    }

    fn try_another_endpoint(&mut self) {}
}

impl Leases for Way {
    async fn grant(&mut self, ids: &[LeaseId], ttl: i64) -> Vec<Result<Granted, Failure>> {
        let mut answers = Vec::new();
        for id in ids {
            let grant = async |this: &mut Self| only(this.keys.grant(&[*id], ttl).await);
            answers.push(self.write_one("grant", grant).await);
        }
        answers
    }

    async fn revoke(&mut self, ids: &[LeaseId]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::new();
        for id in ids {
            let revoke = async |this: &mut Self| only(this.keys.revoke(&[*id]).await);
            answers.push(self.write_one("revoke", revoke).await);
        }
        answers
    }

    async fn keep_alive(&mut self, ids: &[LeaseId]) -> Result<Vec<Option<i64>>, Failure> {
        let renew = async |this: &mut Self| this.keys.keep_alive(ids).await;
        self.ask("keep alive", renew).await
    }

    async fn leases(&mut self) -> Result<Vec<LeaseId>, Failure> {
        self.ask("leases", async |this: &mut Self| this.keys.leases().await)
            .await
    }

    async fn time_to_live(&mut self, ids: &[LeaseId]) -> Vec<Result<Option<LeaseStatus>, Failure>> {
        let mut answers = Vec::new();
        for id in ids {
            let ask = async |this: &mut Self| only(this.keys.time_to_live(&[*id]).await);
            answers.push(self.ask("time to live", ask).await);
        }
        answers
    }
}

impl Compaction for Way {
    async fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        let compact = async |this: &mut Self| this.keys.compact(revision).await;
        self.write_one("compact", compact).await
    }
}

impl Auth for Way {
    async fn is_auth_enabled(&mut self) -> Result<bool, Failure> {
        self.users.is_auth_enabled().await
    }

    async fn takes_hashes(&mut self) -> Result<bool, Failure> {
        self.users.takes_hashes().await
    }

    async fn users(&mut self) -> Result<Vec<String>, Failure> {
        self.users.users().await
    }

    async fn roles_of(&mut self, users: &[String]) -> Result<Vec<Option<Vec<String>>>, Failure> {
        self.users.roles_of(users).await
    }

    async fn roles(&mut self) -> Result<Vec<String>, Failure> {
        self.users.roles().await
    }

    async fn permissions_of(
        &mut self,
        roles: &[String],
    ) -> Result<Vec<Option<Vec<Permission>>>, Failure> {
        self.users.permissions_of(roles).await
    }

    async fn change_auth(&mut self, calls: &[AuthCall]) -> Vec<Result<(), Failure>> {
        let mut answers = Vec::new();
        for call in calls {
            let call = std::slice::from_ref(call);
            let change = async |this: &mut Self| only(this.users.change_auth(call).await);
            answers.push(self.write_one("users", change).await);
        }
        answers
    }

    fn leave_endpoint(&mut self) {}
}
