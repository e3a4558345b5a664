//! What the stream cannot go on behind: named by index, kind and remedy, and shown until a person
//! ends the process.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{SOON, assert_halts, assert_not_ready, one_member};
use crate::harness::{Cluster, Syncer, http_get};

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

/// The leader must not send its database again and again to one that cannot take it.
#[tokio::test]
async fn a_snapshot_that_is_needed_halts_and_is_not_sent_in_a_loop() -> Result<()> {
    let primary = one_member().snapshot_count(50).catch_up_entries(10);
    let (primary, standby) = tokio::try_join!(primary.start(), one_member().start())?;
    let mut client = primary.client().await?;
    for number in 0..300 {
        client.put(format!("key/{number}"), "", None).await?;
    }
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    let status = syncer
        .wait_status("it halts", SOON, |status| status["phase"] == "halted")
        .await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let sent = snapshots_sent(&primary).await?;
    ensure!((1.0..=3.0).contains(&sent), "{sent} snapshots");
    client.put("unharmed", "", None).await?;
    ensure!(status["raft"]["acknowledged"] == 0, "{status}");
    let words = [
        "offers a snapshot at index",
        "cannot install",
        "remove this member",
    ];
    assert_not_ready(&syncer, &words).await?;
    assert_halts(&mut syncer, 19, &words).await?;
    let sent = snapshots_sent(&primary).await?;
    ensure!(sent <= 4.0, "{sent} snapshots");
    Ok(())
}
