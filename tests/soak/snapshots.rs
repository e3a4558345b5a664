//! Large snapshots, absences and restarts: what each costs, and that all is equal afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{Txn, TxnOp};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::harness::{Cluster, Syncer, Version, attach_within, connect, wait_same_keys_and_values};

const VALUE_BYTES: usize = 256;
const EQUAL_WITHIN: Duration = Duration::from_secs(300);

fn setting(name: &str, default: usize) -> usize {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn value(seed: usize) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed as u64);
    (0..VALUE_BYTES).map(|_| rng.u8(..)).collect()
}

/// Fills a primary by large transactions.
pub(crate) async fn fill(primary: &Cluster, keys: usize) -> Result<()> {
    let started = Instant::now();
    let mut workers = Vec::new();
    for worker in 0..4 {
        let mut client = primary.client().await?;
        workers.push(tokio::spawn(async move {
            let mut key = worker;
            while key < keys {
                let mut puts = Vec::new();
                while key < keys && puts.len() < 128 {
                    puts.push(TxnOp::put(
                        format!("registry/pods/{key:08}"),
                        value(key),
                        None,
                    ));
                    key += 4;
                }
                client.txn(Txn::new().and_then(puts)).await?;
            }
            anyhow::Ok(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    println!(
        "{keys} keys written in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Writes at a rate until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    working: JoinHandle<Result<()>>,
}

impl Load {
    pub(crate) fn start(primary: &Cluster, per_second: u32, keys: usize) -> Self {
        let (stop, done) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let endpoints = primary.client_endpoints();
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&done));
        let working = tokio::spawn(async move {
            let client = connect(&endpoints).await?;
            let mut ticks = tokio::time::interval(Duration::from_millis(10));
            let mut number = 0_usize;
            let each = usize::try_from(per_second / 100)?.max(1);
            while !stopped.load(Ordering::Relaxed) {
                ticks.tick().await;
                let puts = (0..each).map(|i| {
                    let mut client = client.clone();
                    let key = format!("registry/pods/{:08}", (number + i) * 7919 % keys);
                    let value = value(number + i);
                    async move { client.put(key, value, None).await }
                });
                // A member that restarts refuses some; what matters is what was taken.
                for put in futures_util::future::join_all(puts).await {
                    if put.is_ok() {
                        counted.fetch_add(1, Ordering::Relaxed);
                    }
                }
                number += each;
            }
            Ok(())
        });
        Self {
            stop,
            done,
            working,
        }
    }

    pub(crate) async fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.working.await??;
        Ok(self.done.load(Ordering::Relaxed))
    }
}

async fn equal(primary: &Cluster, standby: &Cluster, syncer: &Syncer) -> Result<()> {
    let same = wait_same_keys_and_values(primary, standby, EQUAL_WITHIN).await;
    same.with_context(|| syncer.log().unwrap_or_default())
}

fn installed(syncer: &Syncer) -> Result<Vec<String>> {
    let log = syncer.log()?;
    let lines = log
        .lines()
        .filter(|line| line.contains("the snapshot is installed"));
    Ok(lines.map(str::to_owned).collect())
}

fn is_streaming(status: &Value) -> bool {
    status["phase"] == "streaming" && status["raft"]["durable"].as_u64() > Some(0)
}

async fn restarted(syncer: &mut Syncer, what: &str) -> Result<()> {
    syncer.kill()?;
    let started = Instant::now();
    syncer.respawn()?;
    syncer
        .wait_status("the first batch", Duration::from_secs(60), |status| {
            status["batches"]["written"].as_u64() > Some(0)
        })
        .await?;
    let took = started.elapsed();
    println!(
        "{what}: killed, and {:.2} s later it has written",
        took.as_secs_f64()
    );
    ensure!(
        took < Duration::from_secs(2),
        "{:.2} s until the first batch",
        took.as_secs_f64()
    );
    Ok(())
}

/// Attaches to a large primary whose log is cut, under load.
async fn large(version: Version) -> Result<()> {
    let keys = setting("ETCD_SYNCER_TEST_KEYS", 1_000_000);
    println!("{version:?}: {keys} keys of {VALUE_BYTES} bytes");
    let quota = ["--quota-backend-bytes", "8589934592"];
    let primary = Cluster::builder(version)
        .no_fsync()
        .snapshot_count(1_000)
        .extra_args(quota)
        .start()
        .await?;
    let standby = Cluster::builder(version)
        .no_fsync()
        .extra_args(quota)
        .start()
        .await?;
    fill(&primary, keys).await?;
    let load = Load::start(&primary, 500, keys);
    let (mut syncer, took) = attach_within(
        &primary,
        Syncer::builder(&primary, &standby)?,
        Duration::from_secs(300),
    )
    .await?;
    println!(
        "{version:?}: streaming {:.1} s after the start",
        took.as_secs_f64()
    );
    println!("{version:?}: {}", installed(&syncer)?.join("\n"));
    println!(
        "{version:?}: peak memory {} MiB",
        syncer.peak_rss_bytes()? >> 20
    );
    tokio::time::sleep(Duration::from_secs(3)).await;
    let status = syncer.status().await?;
    println!(
        "{version:?}: lag {}, snapshot {}",
        status["lag"], status["snapshot"]
    );
    println!("{version:?}: {}", status["primary_state"]);
    restarted(&mut syncer, &format!("{version:?}")).await?;
    let writes = load.stop().await?;
    equal(&primary, &standby, &syncer).await?;
    let count = installed(&syncer)?.len();
    println!("{version:?}: equal after {writes} writes meanwhile, {count} snapshots");
    ensure!(count == 1, "a second snapshot: {}", syncer.log()?);
    Ok(())
}

/// Down for a minute under 2,000 writes/s.
async fn away(version: Version, expected: usize) -> Result<()> {
    let (keys, changing) = (200_000, 20_000);
    let mut builder = Cluster::builder(version).members(3).no_fsync();
    if expected == 0 {
        // A minute's writes are more than 3.5 keeps by default.
        builder = builder.snapshot_count(200_000);
    }
    let primary = builder.start().await?;
    let standby = Cluster::builder(version).no_fsync().start().await?;
    fill(&primary, keys).await?;
    let (mut syncer, _) = attach_within(
        &primary,
        Syncer::builder(&primary, &standby)?,
        Duration::from_secs(60),
    )
    .await?;
    // As long as a leader keeps its log for the sake of a snapshot that it has sent.
    tokio::time::sleep(Duration::from_secs(32)).await;
    let before = installed(&syncer)?.len();
    let load = Load::start(&primary, 2_000, changing);
    tokio::time::sleep(Duration::from_secs(3)).await;
    syncer.kill()?;
    let seconds = setting("ETCD_SYNCER_TEST_AWAY_SECONDS", 60);
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let started = Instant::now();
    syncer.respawn()?;
    syncer
        .wait_status(
            "the stream to catch up",
            Duration::from_secs(120),
            |status| is_streaming(status) && status["lag"]["entries"].as_u64() < Some(1_000),
        )
        .await?;
    println!(
        "{version:?}: caught up in {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let writes = load.stop().await?;
    equal(&primary, &standby, &syncer).await?;
    let snapshots = installed(&syncer)?.split_off(before);
    println!(
        "{version:?}: equal after {writes} writes; {}",
        snapshots.join("\n")
    );
    ensure!(
        snapshots.len() == expected,
        "{} snapshots: {}",
        snapshots.len(),
        syncer.log()?
    );
    for snapshot in &snapshots {
        let puts = snapshot
            .split(' ')
            .find_map(|word| word.strip_prefix("puts="));
        let puts: usize = puts.context("no count of puts")?.parse()?;
        ensure!(
            puts <= changing,
            "{puts} written where {changing} keys changed at most"
        );
    }
    Ok(())
}

/// All members restart, one after the other, under 1,000 writes/s.
async fn rolling(version: Version) -> Result<()> {
    let keys = 20_000;
    let mut primary = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    let standby = Cluster::builder(version).no_fsync().start().await?;
    fill(&primary, keys).await?;
    let (syncer, _) = attach_within(
        &primary,
        Syncer::builder(&primary, &standby)?,
        Duration::from_secs(60),
    )
    .await?;
    let before = installed(&syncer)?.len();
    let load = Load::start(&primary, 1_000, keys);
    for member in 0..primary.size() {
        tokio::time::sleep(Duration::from_secs(5)).await;
        primary.stop(member).await?;
        primary.restart(member).await?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let writes = load.stop().await?;
    equal(&primary, &standby, &syncer).await?;
    let snapshots = installed(&syncer)?.split_off(before);
    let count = snapshots.len();
    println!("{version:?}: equal after {writes} writes and three restarts, {count} snapshots");
    println!("{}", snapshots.join("\n"));
    Ok(())
}

macro_rules! soak {
    ($name:ident, $body:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            $body.await
        }
    };
}

soak!(a_large_primary_is_attached_3_4, large(Version::V3_4));
soak!(a_large_primary_is_attached_3_6, large(Version::V3_6));
soak!(a_large_primary_is_attached_3_7, large(Version::V3_7));
soak!(a_minute_away_costs_a_snapshot_3_7, away(Version::V3_7, 1));
soak!(a_minute_away_costs_no_snapshot_3_5, away(Version::V3_5, 0));
soak!(a_rolling_restart_3_6, rolling(Version::V3_6));
soak!(a_rolling_restart_3_7, rolling(Version::V3_7));
