//! Puts the program between two clusters.

use std::time::Duration;

use anyhow::Result;

use crate::harness::{Cluster, Syncer};

/// Adds the learner to the primary, starts the program and waits until the stream has begun.
pub(crate) async fn attach(primary: &Cluster, standby: &Cluster, args: &[&str]) -> Result<Syncer> {
    let builder = Syncer::builder(primary, standby)?.args(args.iter().copied());
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    syncer
        .wait_status("the stream to begin", Duration::from_secs(30), |status| {
            status["phase"] == "streaming" && status["raft"]["durable"].as_u64() > Some(0)
        })
        .await?;
    Ok(syncer)
}
