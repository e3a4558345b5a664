//! The work that is done on the primary.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::Client;
use tokio::task::JoinSet;

use crate::harness::{Workload, connect};

/// Clients that do random mixed work on few keys.
pub(crate) const MIXED: usize = 8;
/// Clients that put new keys.
pub(crate) const STEADY: usize = 4;
/// All of them.
pub(crate) const CLIENTS: usize = MIXED + STEADY;

const VALUE_BYTES: usize = 200;
/// After an outage, before the next attempt.
const PAUSE: Duration = Duration::from_millis(50);

/// The clients, which end with whoever waits for them.
pub(crate) struct Working(JoinSet<Result<u64>>);

impl Working {
    /// Starts clients that work until so much time has passed.
    pub(crate) fn start(endpoints: &[String], until: Duration) -> Self {
        let mut clients = JoinSet::new();
        let until = Instant::now() + until;
        for client in 0..MIXED {
            let mut endpoints = endpoints.to_vec();
            let first = client % endpoints.len().max(1);
            endpoints.rotate_left(first);
            clients.spawn(mixed(endpoints, client as u64, until));
        }
        for client in 0..STEADY {
            clients.spawn(steady(endpoints.to_vec(), client, until));
        }
        Self(clients)
    }

    /// Waits for their end; the number of operations that they did.
    ///
    /// # Errors
    /// If the primary refused something that it must not refuse.
    pub(crate) async fn end(mut self) -> Result<u64> {
        let mut total = 0;
        while let Some(done) = self.0.join_next().await {
            total += done.context("a client panicked")??;
        }
        Ok(total)
    }
}

async fn mixed(endpoints: Vec<String>, client: u64, until: Instant) -> Result<u64> {
    let mut total = 0;
    for round in 0.. {
        if Instant::now() >= until {
            break;
        }
        let work = Workload::new(client << 32 | round)
            .clients(1)
            .keys(2000)
            .operations(50);
        total += work.run_on(endpoints.clone()).await?.total();
    }
    Ok(total)
}

async fn steady(endpoints: Vec<String>, client: usize, until: Instant) -> Result<u64> {
    let kv = connect(&endpoints).await?;
    let mut done = 0;
    while Instant::now() < until {
        // Without an answer it may have been done or not; putting it twice does no harm.
        match put(&kv, &format!("new/{client}/{done:06}")).await {
            Ok(()) => done += 1,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    Ok(done)
}

async fn put(client: &Client, key: &str) -> Result<(), etcd_client::Error> {
    let value: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(VALUE_BYTES)
        .collect();
    let mut kv = client.kv_client();
    kv.put(key, value, None).await.map(drop)
}
