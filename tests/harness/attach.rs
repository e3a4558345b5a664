//! Puts the program between two clusters.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::cluster::Cluster;
use super::syncer::{Syncer, SyncerBuilder};

const BEGUN_WITHIN: Duration = Duration::from_secs(30);

/// Adds the learner to the primary, starts the program with `args` and waits until the stream has
/// begun.
///
/// # Errors
/// If it has not after 30 seconds.
pub async fn attach(primary: &Cluster, standby: &Cluster, args: &[&str]) -> Result<Syncer> {
    let builder = Syncer::builder(primary, standby)?.args(args.iter().copied());
    let (syncer, _) = attach_within(primary, builder, BEGUN_WITHIN).await?;
    Ok(syncer)
}

/// The same for any program, and for any time; also says how long it took from its start.
///
/// # Errors
/// If the stream has not begun in time.
pub async fn attach_within(
    primary: &Cluster,
    builder: SyncerBuilder,
    within: Duration,
) -> Result<(Syncer, Duration)> {
    primary.add_learner(&builder.peer_url()).await?;
    let started = Instant::now();
    let mut syncer = builder.spawn()?;
    syncer
        .wait_status("the stream to begin", within, |status| {
            status["phase"] == "streaming" && status["raft"]["durable"].as_u64() > Some(0)
        })
        .await?;
    Ok((syncer, started.elapsed()))
}
