//! A learner that works, is stopped for a minute, or is killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use crate::harness::{Cluster, Version, attach, connect};

const WRITERS: usize = 16;
const VALUE_BYTES: usize = 256;
/// One write in so many writers' round trips may be slow; one slower than this is an outage.
const SLOWEST_WRITE: Duration = Duration::from_secs(2);

/// What writers saw in one phase.
#[derive(Debug)]
struct Phase {
    name: &'static str,
    writes_per_second: f64,
    failed: u64,
    slowest: Duration,
}

/// Writes at full speed for `lasting`.
async fn write(primary: &Cluster, name: &'static str, lasting: Duration) -> Result<Phase> {
    let stop = Arc::new(AtomicBool::new(false));
    let failed = Arc::new(AtomicU64::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = connect(&primary.client_endpoints()).await?;
        let (stop, failed) = (Arc::clone(&stop), Arc::clone(&failed));
        writers.spawn(async move {
            let (mut done, mut slowest) = (0_u64, Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let key = format!("load/{writer}/{}", done % 1000);
                let started = Instant::now();
                match client.put(key, vec![b'v'; VALUE_BYTES], None).await {
                    Ok(_) => done += 1,
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
                slowest = slowest.max(started.elapsed());
            }
            (done, slowest)
        });
    }
    let started = Instant::now();
    tokio::time::sleep(lasting).await;
    stop.store(true, Ordering::Relaxed);
    let (mut done, mut slowest) = (0, Duration::ZERO);
    while let Some(writer) = writers.join_next().await {
        let (writes, slow) = writer?;
        done += writes;
        slowest = slowest.max(slow);
    }
    let writes_per_second = done as f64 / started.elapsed().as_secs_f64();
    let phase = Phase {
        name,
        writes_per_second,
        failed: failed.load(Ordering::Relaxed),
        slowest,
    };
    println!(
        "{:<28} {:>8.0} writes/s, {} failed, slowest {:.0} ms",
        phase.name,
        phase.writes_per_second,
        phase.failed,
        phase.slowest.as_secs_f64() * 1000.0
    );
    Ok(phase)
}

async fn leader_terms(primary: &Cluster) -> Result<u64> {
    Ok(primary.status(0).await?.raft_term())
}

async fn harmless(version: Version) -> Result<()> {
    println!("primary and standby of {version:?}, three members and one");
    let mut primary = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    let standby = Cluster::builder(version).no_fsync().start().await?;
    let term = leader_terms(&primary).await?;
    let ten = Duration::from_secs(10);
    let mut phases = Vec::new();

    let mut syncer = attach(&primary, &standby, &[]).await?;
    phases.push(write(&primary, "learner at work", ten).await?);
    syncer.pause()?;
    phases.push(write(&primary, "learner stopped, 0 to 10 s", ten).await?);
    phases.push(write(&primary, "learner stopped, 10 to 60 s", 5 * ten).await?);
    syncer.kill()?;
    phases.push(write(&primary, "learner killed", ten).await?);
    let status = primary.member_list().await?;
    let learner = status
        .iter()
        .find(|member| member.is_learner())
        .expect("it is listed")
        .id();
    primary.remove_member(learner).await?;
    let alone = write(&primary, "no learner", ten).await?;

    for phase in phases.iter().chain([&alone]) {
        ensure!(
            phase.failed == 0,
            "{}: {} writes failed",
            phase.name,
            phase.failed
        );
        ensure!(
            phase.slowest < SLOWEST_WRITE,
            "{}: {:?}",
            phase.name,
            phase.slowest
        );
    }
    // The learner at work shares two cores with the primary, so only what follows it can be compared.
    for phase in &phases[1..] {
        let ratio = phase.writes_per_second / alone.writes_per_second;
        println!(
            "{:<28} {ratio:.2} of the rate without a learner",
            phase.name
        );
        ensure!(
            ratio > 0.7,
            "{}: {ratio:.2} of the rate without a learner",
            phase.name
        );
    }
    ensure!(
        leader_terms(&primary).await? == term,
        "the primary had an election"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harmless_to_3_5() -> Result<()> {
    harmless(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harmless_to_3_7() -> Result<()> {
    harmless(Version::V3_7).await
}
