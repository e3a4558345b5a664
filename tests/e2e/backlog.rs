//! A learner that was stopped until a large backlog lay behind it catches up, at a bounded price.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_client::{Txn, TxnOp};
use tokio::task::JoinSet;

use crate::harness::{Cluster, Version, attach, connect, wait_same_keys_and_values};

const VALUE_BYTES: usize = 100_000;
const VALUES: usize = 2_500;
const WRITERS: usize = 16;
/// What may be sent for each byte of the backlog, in tenths.
const SENT_TENTHS_MAX: u64 = 25;
const MEMORY_BYTES_MAX: u64 = 400_000_000;

async fn write_backlog(endpoints: &[String]) -> Result<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = connect(endpoints).await?;
        writers.spawn(async move {
            for n in (writer..VALUES).step_by(WRITERS) {
                let value = vec![b'a' + u8::try_from(n % 26)?; VALUE_BYTES];
                client.put(format!("backlog/{n}"), value, None).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    Ok(())
}

async fn backlog(version: Version) -> Result<()> {
    let primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(version).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    let before = received(&syncer.status().await?);
    syncer.pause()?;
    write_backlog(&primary.client_endpoints()).await?;
    syncer.resume()?;
    let resumed = std::time::Instant::now();
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(90)).await?;
    let took = resumed.elapsed();

    let status = syncer.status().await?;
    let backlog = (VALUE_BYTES * VALUES) as u64;
    let sent = received(&status) - before;
    let peak = syncer.peak_rss_bytes()?;
    println!(
        "{version:?}: {backlog} bytes behind, caught up in {took:.1?}; received {sent} bytes \
         ({:.2} times), {} rejects, {} appends dropped, peak memory {peak} bytes",
        sent as f64 / backlog as f64,
        status["transport"]["rejects_sent"],
        status["transport"]["appends_dropped"],
    );
    ensure!(
        sent * 10 < backlog * SENT_TENTHS_MAX,
        "the leader sent {sent} bytes"
    );
    ensure!(peak < MEMORY_BYTES_MAX, "peak memory {peak}");
    Ok(())
}

/// Bytes that came in, whichever way.
fn received(status: &serde_json::Value) -> u64 {
    let channels = status["transport"]["received_bytes"].as_object();
    channels.map_or(0, |channels| {
        channels
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_250_mb_in_3_5() -> Result<()> {
    backlog(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_250_mb_in_3_7() -> Result<()> {
    backlog(Version::V3_7).await
}

/// A leader probes with a part of its log, and sends all of the rest once that was acknowledged: which
/// is what is durable, and may end within what it sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_large_entries_is_taken_at_once() -> Result<()> {
    const ENTRIES: usize = 600;
    let primary = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut client = primary.client().await?;
    for entry in 0..ENTRIES {
        let put = |n| TxnOp::put(format!("key/{entry:04}/{n:03}"), vec![b'v'; 256], None);
        let puts: Vec<TxnOp> = (0..128).map(put).collect();
        client.txn(Txn::new().and_then(puts)).await?;
    }
    let started = std::time::Instant::now();
    let syncer = attach(&primary, &standby, &[]).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(60)).await?;
    let status = syncer.status().await?;
    let probes = status["transport"]["rejects_sent"].as_u64();
    println!("taken in {:.1?}, {probes:?} rejects", started.elapsed());
    let sent = received(&status);
    let log = (ENTRIES * 128 * 290) as u64;
    ensure!(sent < log * 2, "the leader sent {sent} bytes of {log}");
    ensure!(probes < Some(4), "{probes:?} rejects");
    Ok(())
}
