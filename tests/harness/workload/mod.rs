//! Random mixed work against a cluster, the same for the same seed.

mod generate;
mod op;
mod txn;
mod worker;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::cluster::Cluster;

pub use generate::OpStream;
pub use op::{Op, Put, Read, Span};

/// Random mixed work: concurrent clients that put, delete, read, compare and swap, run nested
/// transactions and use leases, over a limited number of keys.
///
/// What each client asks for depends on the seed and the client's number alone; how the clients'
/// requests mix, and thus what they do, is up to the cluster.
#[derive(Clone, Debug)]
pub struct Workload {
    seed: u64,
    clients: usize,
    operations: usize,
    keys: usize,
    prefix: Vec<u8>,
    value_bytes: usize,
    lease_ttl: i64,
    pause: Duration,
}

impl Workload {
    /// Eight clients that do 1000 operations altogether on 200 keys below `work/`, with values of
    /// up to 256 bytes and leases of 600 seconds.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            clients: 8,
            operations: 1000,
            keys: 200,
            prefix: b"work/".to_vec(),
            value_bytes: 256,
            lease_ttl: 600,
            pause: Duration::ZERO,
        }
    }

    /// How many clients work at the same time.
    #[must_use]
    pub fn clients(mut self, clients: usize) -> Self {
        self.clients = clients.max(1);
        self
    }

    /// How many operations all clients do altogether.
    #[must_use]
    pub fn operations(mut self, operations: usize) -> Self {
        self.operations = operations;
        self
    }

    /// How many keys there are to work on, at least 20.
    #[must_use]
    pub fn keys(mut self, keys: usize) -> Self {
        self.keys = keys.max(20);
        self
    }

    /// What all keys begin with.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Vec<u8>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long values are at most, in bytes, apart from a short mark of client and operation.
    #[must_use]
    pub fn value_bytes(mut self, bytes: usize) -> Self {
        self.value_bytes = bytes;
        self
    }

    /// How long leases live, in seconds; nobody keeps them alive.
    #[must_use]
    pub fn lease_ttl(mut self, seconds: i64) -> Self {
        self.lease_ttl = seconds;
        self
    }

    /// How long each client rests after each operation.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// The operations of one client, in order.
    pub fn stream(&self, client: usize) -> OpStream {
        OpStream::new(self, client)
    }

    /// Does the work on `cluster`.
    ///
    /// # Errors
    /// As [`Workload::run_on`].
    pub async fn run(&self, cluster: &Cluster) -> Result<Counters> {
        self.clone().run_on(cluster.client_endpoints()).await
    }

    /// Does the work on the cluster at these endpoints; can be spawned to go on while members are
    /// killed. An operation without an answer is tried again at the next endpoint, which may do it
    /// twice, and is given up after 20 seconds.
    ///
    /// # Errors
    /// If a request fails for a reason that is neither a legitimate refusal nor an outage.
    pub async fn run_on(self, endpoints: Vec<String>) -> Result<Counters> {
        let mut workers = JoinSet::new();
        for client in 0..self.clients {
            let extra = usize::from(client < self.operations % self.clients);
            let operations = self.operations / self.clients + extra;
            let stream = self.stream(client).take(operations);
            workers.spawn(worker::work(endpoints.clone(), client, stream, self.pause));
        }
        let mut total = Counters::default();
        while let Some(counters) = workers.join_next().await {
            let counters = counters.context("a client of the workload panicked")?;
            total.add(&counters.context("a client of the workload failed")?);
        }
        Ok(total)
    }
}

/// What a workload did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Operations that the cluster did.
    pub done: u64,
    /// Operations that the cluster legitimately refused.
    pub refused: u64,
    /// Attempts without an answer: done or not, who knows.
    pub unknown: u64,
    /// Operations that never got an answer.
    pub given_up: u64,
    /// Compare-and-swaps that swapped.
    pub swapped: u64,
    /// Compare-and-swaps that found something else, as those with a stale revision must.
    pub not_swapped: u64,
    /// Transactions whose compares held.
    pub txn_then: u64,
    /// Transactions whose compares did not hold.
    pub txn_else: u64,
    /// Operations by kind, however they ended.
    pub kinds: BTreeMap<&'static str, u64>,
    /// Refused operations by what the cluster said.
    pub refusals: BTreeMap<String, u64>,
    /// The highest revision that an answer named.
    pub revision: i64,
}

impl Counters {
    /// Adds the counts of another client or run.
    pub fn add(&mut self, other: &Self) {
        self.done += other.done;
        self.refused += other.refused;
        self.unknown += other.unknown;
        self.given_up += other.given_up;
        self.swapped += other.swapped;
        self.not_swapped += other.not_swapped;
        self.txn_then += other.txn_then;
        self.txn_else += other.txn_else;
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        for (refusal, count) in &other.refusals {
            *self.refusals.entry(refusal.clone()).or_default() += count;
        }
        self.revision = self.revision.max(other.revision);
    }

    /// Operations asked for, however they ended.
    pub fn total(&self) -> u64 {
        self.done + self.refused + self.given_up
    }
}
