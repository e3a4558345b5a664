//! The real standby, through etcd's public client API.
//!
//! One endpoint at a time: an ordered writer gains nothing from spreading its requests, and after a
//! failure the next endpoint is tried. The client's own retry of writes is not used.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp,
};

use super::{About, Answer, Failure, Guard, KeyValue, Standby, Stored, Transaction};
use crate::ids::{ClusterId, LeaseId};
use crate::plan::{Nested, Write};
use crate::range::KeyRange;
use crate::reserved;
use crate::resolve::{Put, Value};
use crate::scope::Scope;

/// How to reach a standby.
#[derive(Clone, Debug)]
pub struct Options {
    /// Client URLs, tried one at a time.
    pub endpoints: Vec<String>,
    /// How long one request may take.
    pub request_timeout: Duration,
    /// Which keys of it are the stream's.
    pub scope: Arc<Scope>,
}

/// A standby reached over the network.
pub struct Etcd {
    options: Options,
    endpoint: usize,
    client: Option<Client>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Beyond this length of an operation list no standby is asked whether it takes it.
const TXN_OPS_PROBED_MAX: usize = 4096;

impl Etcd {
    /// A standby at one of `options.endpoints`; nothing is connected yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            endpoint: 0,
            client: None,
        }
    }

    /// The endpoint that is used now.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.options.endpoints[self.endpoint]
    }

    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let options = ConnectOptions::new()
            .with_connect_timeout(self.options.request_timeout)
            .with_keep_alive(Duration::from_secs(5), Duration::from_secs(5))
            .with_require_leader(true);
        let client = Box::pin(Client::connect([self.endpoint()], Some(options)))
            .await
            .map_err(|error| Failure::NotApplied(self.told_by(&error.to_string())))?;
        self.client = Some(client.clone());
        Ok(client)
    }

    /// One request with its deadline.
    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.options.request_timeout, Box::pin(request)).await {
            Ok(answer) => {
                answer.map_err(|error| Failure::of(&error).from_endpoint(self.endpoint()))
            }
            Err(_) => Err(Failure::Unknown(self.told_by(&format!(
                "nothing within {:?}",
                self.options.request_timeout
            )))),
        }
    }

    fn told_by(&self, what: &str) -> String {
        format!("{what} from {}", self.endpoint())
    }

    async fn takes_txn_ops(&mut self, count: usize) -> Result<bool, Failure> {
        let mut client = self.client().await?;
        // Only reads and no write, so it never enters the standby's log; the list is checked first.
        let compares = vec![Compare::version("-", CompareOp::Less, 0); count];
        match self.ask(client.txn(Txn::new().when(compares))).await {
            Ok(_) => Ok(true),
            Err(Failure::TooManyOps(_)) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

impl Standby for Etcd {
    async fn write(&mut self, transaction: &Transaction) -> Result<Answer, Failure> {
        let mut client = self.client().await?;
        let mut ops = vec![TxnOp::put(
            transaction.checkpoint_key.as_ref(),
            transaction.checkpoint.as_ref(),
            None,
        )];
        ops.extend(transaction.writes.iter().map(operation));
        let txn = Txn::new()
            .when(compares(transaction, &self.options.scope))
            .and_then(ops);
        let response = self.ask(client.txn(txn)).await?;
        if !response.succeeded() {
            return Ok(Answer::GuardFailed);
        }
        match response.header() {
            Some(header) => Ok(Answer::Applied(header.revision())),
            None => Err(Failure::Unknown("an answer without a header".to_owned())),
        }
    }

    async fn read(&mut self, key: &Bytes) -> Result<Option<Stored>, Failure> {
        let mut client = self.client().await?;
        let mut response = self.ask(client.get(key.as_ref(), None)).await?;
        Ok(response.take_kvs().into_iter().next().map(|kv| {
            let mod_revision = kv.mod_revision();
            let (_, value) = kv.into_key_value();
            Stored {
                value: value.into(),
                mod_revision,
            }
        }))
    }

    async fn read_range(
        &mut self,
        range: &KeyRange,
        limit: usize,
    ) -> Result<Vec<KeyValue>, Failure> {
        let mut client = self.client().await?;
        let options = GetOptions::new()
            .with_range(range.request_end())
            .with_limit(i64::try_from(limit).unwrap_or(i64::MAX));
        let request = client.get(range.start().as_ref(), Some(options));
        let mut response = self.ask(request).await?;
        let found = response.take_kvs().into_iter().map(|kv| {
            let lease = LeaseId(kv.lease());
            let (key, value) = kv.into_key_value();
            KeyValue {
                key: key.into(),
                value: value.into(),
                lease,
            }
        });
        Ok(found.collect())
    }

    async fn about(&mut self) -> Result<About, Failure> {
        let mut client = self.client().await?;
        let options = GetOptions::new().with_count_only();
        let response = self
            .ask(client.get(reserved::PREFIX, Some(options)))
            .await?;
        let header = response
            .header()
            .ok_or_else(|| Failure::Unknown("an answer without a header".to_owned()))?;
        Ok(About {
            cluster: ClusterId(header.cluster_id()),
            revision: header.revision(),
        })
    }

    async fn foreign_keys(&mut self, limit: usize) -> Result<Vec<Bytes>, Failure> {
        let mut client = self.client().await?;
        let mut found = Vec::new();
        for range in self.options.scope.standby_ranges() {
            let wanted = i64::try_from(limit - found.len()).unwrap_or(i64::MAX);
            if wanted == 0 {
                break;
            }
            let options = GetOptions::new()
                .with_range(range.request_end())
                .with_limit(wanted)
                .with_keys_only();
            let mut response = self
                .ask(client.get(range.start().as_ref(), Some(options)))
                .await?;
            found.extend(
                response
                    .take_kvs()
                    .into_iter()
                    .map(|kv| kv.into_key_value().0.into()),
            );
        }
        Ok(found)
    }

    async fn txn_ops_max(&mut self) -> Result<usize, Failure> {
        // The answer is in lowest..highest.
        let (mut lowest, mut highest) = (1, TXN_OPS_PROBED_MAX);
        if self.takes_txn_ops(128).await? {
            lowest = 128;
            if !self.takes_txn_ops(129).await? {
                return Ok(128);
            }
        }
        while lowest + 1 < highest {
            let middle = lowest.midpoint(highest);
            if self.takes_txn_ops(middle).await? {
                lowest = middle;
            } else {
                highest = middle;
            }
        }
        Ok(lowest)
    }

    fn try_another_endpoint(&mut self) {
        self.client = None;
        self.endpoint = (self.endpoint + 1) % self.options.endpoints.len();
    }
}

fn compares(transaction: &Transaction, scope: &Scope) -> Vec<Compare> {
    let key = transaction.checkpoint_key.as_ref();
    match transaction.guard {
        Guard::WrittenAt(revision) => {
            vec![Compare::mod_revision(key, CompareOp::Equal, revision)]
        }
        Guard::NothingThere => {
            // A range compare holds if each key in the range has version 0, so if there is no key.
            let empty = scope.standby_ranges().iter().map(|range| {
                Compare::version(range.start().as_ref(), CompareOp::Equal, 0)
                    .with_range(range.request_end())
            });
            std::iter::once(Compare::version(key, CompareOp::Equal, 0))
                .chain(empty)
                .collect()
        }
    }
}

fn operation(nested: &Nested<Write>) -> TxnOp {
    match nested {
        Nested::Txn(inner) => {
            TxnOp::txn(Txn::new().and_then(inner.iter().map(operation).collect::<Vec<_>>()))
        }
        Nested::Op(Write::Put(Put {
            key,
            value: Value::Given(value),
            ..
        })) => TxnOp::put(key.as_ref(), value.as_ref(), None),
        Nested::Op(Write::Put(Put {
            key,
            value: Value::Kept,
            ..
        })) => TxnOp::put(
            key.as_ref(),
            [],
            Some(PutOptions::new().with_ignore_value()),
        ),
        Nested::Op(Write::Delete(range)) => {
            let options = DeleteOptions::new().with_range(range.request_end());
            TxnOp::delete(range.start().as_ref(), Some(options))
        }
    }
}
