//! Writing as fast as the primary takes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use etcd_client::{Client, GetOptions};
use tokio::task::JoinSet;

use crate::harness::connect;

/// Connections that the writers share.
const CONNECTIONS: usize = 8;

/// What was written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    pub(crate) keys: u64,
    pub(crate) took: Duration,
}

impl Written {
    pub(crate) fn per_second(self) -> f64 {
        per_second(self.keys, self.took)
    }
}

/// Rate of a count.
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    number(count) / took.as_secs_f64().max(1e-9)
}

/// A count to calculate with; none here comes near the limit.
pub(crate) fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// When writers are done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many keys.
    Keys(u64),
    /// After so much time.
    Time(Duration),
}

/// Random bytes, so that nothing can be compressed away.
pub(crate) fn value(bytes: usize) -> Vec<u8> {
    std::iter::repeat_with(|| fastrand::u8(..))
        .take(bytes)
        .collect()
}

/// `writers` put `<prefix><number>`, each number once, each waiting for its answer.
///
/// # Errors
/// If a put fails.
pub(crate) async fn write(
    endpoints: &[String],
    prefix: &'static str,
    writers: usize,
    value_bytes: usize,
    until: Until,
) -> Result<Written> {
    let mut connections = Vec::new();
    for i in 0..CONNECTIONS.min(writers) {
        let client = connect(&[&endpoints[i % endpoints.len()]]).await?;
        // Connected before the clock starts.
        client.kv_client().get("any", None).await?;
        connections.push(client);
    }
    let numbers = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for i in 0..writers {
        let client = connections[i % connections.len()].clone();
        let numbers = Arc::clone(&numbers);
        let writer = Writer {
            client,
            numbers,
            prefix,
            value_bytes,
        };
        tasks.spawn(writer.run(started, until));
    }
    let mut keys = 0;
    while let Some(done) = tasks.join_next().await {
        keys += done.context("a writer panicked")??;
    }
    Ok(Written {
        keys,
        took: started.elapsed(),
    })
}

struct Writer {
    client: Client,
    numbers: Arc<AtomicU64>,
    prefix: &'static str,
    value_bytes: usize,
}

impl Writer {
    async fn run(self, started: Instant, until: Until) -> Result<u64> {
        let mut kv = self.client.kv_client();
        let mut value = value(self.value_bytes);
        let mut keys = 0;
        loop {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let go_on = match until {
                Until::Keys(count) => number < count,
                Until::Time(time) => started.elapsed() < time,
            };
            if !go_on {
                return Ok(keys);
            }
            if let Some(byte) = value.first_mut() {
                *byte = fastrand::u8(..);
            }
            kv.put(format!("{}{number:09}", self.prefix), value.clone(), None)
                .await
                .context("a put failed")?;
            keys += 1;
        }
    }
}

/// How many keys with this prefix there are.
///
/// # Errors
/// If they can't be counted.
pub(crate) async fn count(client: &Client, prefix: &str) -> Result<u64> {
    let options = GetOptions::new().with_prefix().with_count_only();
    let answer = client.kv_client().get(prefix, Some(options)).await;
    let count = answer.context("can't count the keys")?.count();
    Ok(u64::try_from(count)?)
}

/// Waits until a key is there, and tells how long that took; none at the deadline.
///
/// # Errors
/// If it can't be read.
pub(crate) async fn wait_for(
    client: &Client,
    key: &str,
    within: Duration,
) -> Result<Option<Duration>> {
    const PERIOD: Duration = Duration::from_millis(10);
    let started = Instant::now();
    while started.elapsed() < within {
        let options = GetOptions::new().with_count_only();
        let answer = client.kv_client().get(key, Some(options)).await;
        if answer.context("can't look for the last key")?.count() > 0 {
            return Ok(Some(started.elapsed()));
        }
        tokio::time::sleep(PERIOD).await;
    }
    Ok(None)
}
