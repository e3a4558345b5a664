//! One client at work.

use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{
    Client, Compare, CompareOp, Error, LeaseGrantOptions, ResponseHeader, Txn, TxnOp,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::super::client::{REQUEST_WITHIN, connect, is_unavailable};
use super::Counters;
use super::op::{Op, Put};

const GIVE_UP_AFTER: Duration = Duration::from_secs(20);
const RETRY_PAUSE: Duration = Duration::from_millis(100);

struct Worker {
    endpoints: Vec<String>,
    current: usize,
    client: Client,
    counters: Counters,
}

/// Does `operations` one after the other, first at endpoint number `client`.
pub async fn work(
    endpoints: Vec<String>,
    client: usize,
    operations: impl Iterator<Item = Op> + Send + 'static,
    pause: Duration,
) -> Result<Counters> {
    anyhow::ensure!(!endpoints.is_empty(), "there is no endpoint to work on");
    let current = client % endpoints.len();
    let mut worker = Worker {
        client: connect(&endpoints[current..=current]).await?,
        endpoints,
        current,
        counters: Counters::default(),
    };
    for op in operations {
        worker.persist(&op).await?;
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok(worker.counters)
}

impl Worker {
    /// Does `op`, at one endpoint after the other if there is no answer.
    async fn persist(&mut self, op: &Op) -> Result<()> {
        *self.counters.kinds.entry(op.kind()).or_default() += 1;
        let deadline = Instant::now() + GIVE_UP_AFTER;
        loop {
            // One operation is two requests at most.
            let outcome = timeout(REQUEST_WITHIN * 2, self.attempt(op)).await;
            match outcome {
                Ok(Ok(())) => {
                    self.counters.done += 1;
                    return Ok(());
                }
                Ok(Err(error)) if is_unavailable(&error) => {}
                Ok(Err(error)) => return self.refused(op, error),
                Err(_) => {}
            }
            self.counters.unknown += 1;
            if Instant::now() >= deadline {
                self.counters.given_up += 1;
                return Ok(());
            }
            sleep(RETRY_PAUSE).await;
            self.current = (self.current + 1) % self.endpoints.len();
            self.client = connect(&self.endpoints[self.current..=self.current]).await?;
        }
    }

    fn refused(&mut self, op: &Op, error: Error) -> Result<()> {
        if let Error::GRpcStatus(status) = &error
            && matches!(
                status.code(),
                Code::InvalidArgument
                    | Code::NotFound
                    | Code::AlreadyExists
                    | Code::FailedPrecondition
                    | Code::OutOfRange
                    | Code::ResourceExhausted
            )
        {
            self.counters.refused += 1;
            let message = status.message().to_owned();
            *self.counters.refusals.entry(message).or_default() += 1;
            return Ok(());
        }
        let endpoint = &self.endpoints[self.current];
        Err(error).with_context(|| format!("{endpoint} can't do {op:?}"))
    }

    async fn attempt(&mut self, op: &Op) -> Result<(), Error> {
        match op {
            Op::Put(put) => {
                let (key, value) = (put.key.clone(), put.value.clone());
                let answer = self.client.put(key, value, Some(put.options())).await?;
                self.saw(answer.header());
            }
            Op::Delete(span) => {
                let options = span.delete_options();
                let answer = self.client.delete(span.start(), Some(options)).await?;
                self.saw(answer.header());
            }
            Op::Read(read) => {
                let options = read.options(self.counters.revision);
                let answer = self.client.get(read.span.start(), Some(options)).await?;
                self.saw(answer.header());
            }
            Op::Swap { put, stale } => self.swap(put, *stale).await?,
            Op::Txn(plan) => {
                let answer = self.client.txn(plan.txn(self.counters.revision)).await?;
                self.saw(answer.header());
                if answer.succeeded() {
                    self.counters.txn_then += 1;
                } else {
                    self.counters.txn_else += 1;
                }
            }
            Op::Grant { id, ttl } => {
                let options = LeaseGrantOptions::new().with_id(*id);
                let answer = self.client.lease_grant(*ttl, Some(options)).await?;
                self.saw(answer.header());
            }
            Op::Revoke { id } => {
                let answer = self.client.lease_revoke(*id).await?;
                self.saw(answer.header());
            }
        }
        Ok(())
    }

    async fn swap(&mut self, put: &Put, stale: bool) -> Result<(), Error> {
        let read = self.client.get(put.key.clone(), None).await?;
        // 0 for a key that is not there.
        let mut revision = read.kvs().first().map_or(0, |kv| kv.mod_revision());
        if stale {
            // No key was ever changed at revision 1.
            revision = (revision - 1).max(1);
        }
        let key = put.key.clone();
        let compare = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
        let then = TxnOp::put(key.clone(), put.value.clone(), Some(put.options()));
        let txn = Txn::new()
            .when([compare])
            .and_then([then])
            .or_else([TxnOp::get(key, None)]);
        let answer = self.client.txn(txn).await?;
        self.saw(answer.header());
        if answer.succeeded() {
            self.counters.swapped += 1;
        } else {
            self.counters.not_swapped += 1;
        }
        Ok(())
    }

    fn saw(&mut self, header: Option<&ResponseHeader>) {
        let revision = header.map_or(0, ResponseHeader::revision);
        self.counters.revision = self.counters.revision.max(revision);
    }
}
