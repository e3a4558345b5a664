//! What the stream cannot go on behind: named by index, kind and remedy, and shown until a person
//! ends the process.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{SOON, one_member};
use crate::harness::{Cluster, Syncer, http_get, wait_same_keys_and_values};

/// How many snapshots the member has begun to send.
async fn snapshots_sent(primary: &Cluster) -> Result<f64> {
    let address = primary.client_endpoints()[0].replace("http://", "");
    let metrics = http_get(&address, "/metrics").await?.body;
    let count = |name: &str| -> f64 {
        let lines = metrics.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    Ok(count("etcd_network_snapshot_send_success{")
        + count("etcd_network_snapshot_send_failures{")
        + count("etcd_network_snapshot_send_inflights_total{"))
}

/// The leader must not send its database again and again.
#[tokio::test]
async fn a_snapshot_that_is_needed_is_sent_once() -> Result<()> {
    let primary = one_member().snapshot_count(50).catch_up_entries(10);
    let (primary, standby) = tokio::try_join!(primary.start(), one_member().start())?;
    let mut client = primary.client().await?;
    for number in 0..300 {
        client.put(format!("key/{number}"), "", None).await?;
    }
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    syncer
        .wait_status("it streams", SOON, |status| {
            status["phase"] == "streaming" && status["raft"]["durable"].as_u64() > Some(300)
        })
        .await?;
    client.put("behind it", "", None).await?;
    wait_same_keys_and_values(&primary, &standby, SOON).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    // A transfer counts when it begins and when it has ended.
    let sent = snapshots_sent(&primary).await?;
    ensure!((1.0..=2.0).contains(&sent), "{sent} snapshots");
    Ok(())
}
