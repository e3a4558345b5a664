//! Until the primary lists us.

use anyhow::{Context, Result, ensure};

use super::{assert_ends, assert_stops, assert_waits, one_member, pair, wait_streaming};
use crate::harness::{Cluster, Syncer, Version};

#[tokio::test]
async fn client_urls_as_peer_urls_end_it() -> Result<()> {
    let (primary, standby) = pair().await?;
    let mut syncer = Syncer::builder(&primary, &standby)?
        .primary_peer_urls(primary.client_endpoints())
        .spawn()?;
    let url = &primary.client_endpoints()[0];
    assert_ends(&mut syncer, 10, &[url, "no member of the primary answers"]).await
}

#[tokio::test]
async fn a_primary_that_is_down_is_waited_for() -> Result<()> {
    let (mut primary, standby) = pair().await?;
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    primary.stop(0).await?;
    let mut syncer = builder.spawn()?;
    let url = primary.peer_urls()[0].clone();
    assert_waits(&mut syncer, "joining", &[&url, "refused"]).await?;
    primary.restart(0).await?;
    wait_streaming(&mut syncer).await?;
    ensure!(syncer.get("/readyz").await?.status == 200, "not ready");
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn a_stop_while_waiting_is_obeyed() -> Result<()> {
    let (mut primary, standby) = pair().await?;
    let mut syncer = Syncer::builder(&primary, &standby)?.spawn()?;
    assert_waits(&mut syncer, "joining", &["member add"]).await?;
    assert_stops(&mut syncer).await?;
    primary.stop(0).await?;
    syncer.respawn()?;
    assert_waits(&mut syncer, "joining", &["refused"]).await?;
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn urls_of_two_clusters_end_it() -> Result<()> {
    let (primary, other) = pair().await?;
    let standby = one_member().start().await?;
    let urls = [primary.peer_urls(), other.peer_urls()].concat();
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.primary_peer_urls(urls.clone()).spawn()?;
    let ids = [primary.cluster_id().await?, other.cluster_id().await?].map(|id| format!("{id:x}"));
    let words = [
        &urls[0],
        &urls[1],
        ids[0].as_str(),
        &ids[1],
        "name one cluster only",
    ];
    assert_ends(&mut syncer, 11, &words).await
}

#[tokio::test]
async fn client_urls_of_another_cluster_end_it() -> Result<()> {
    let (primary, other) = pair().await?;
    let standby = one_member().start().await?;
    let ids = [primary.cluster_id().await?, other.cluster_id().await?].map(|id| format!("{id:x}"));
    let endpoints = other.client_endpoints().join(",");
    let builder = Syncer::builder(&primary, &standby)?.args(["--primary-endpoints", &endpoints]);
    primary.add_learner(&builder.peer_url()).await?;
    let mut syncer = builder.spawn()?;
    let words = [
        "--primary-endpoints",
        "--primary-peer-urls",
        ids[0].as_str(),
        &ids[1],
        "name one cluster only",
    ];
    assert_ends(&mut syncer, 11, &words).await
}

/// The message names a command; whoever runs it, as it stands, is done.
#[tokio::test]
async fn the_command_that_adds_us_is_shown_and_right() -> Result<()> {
    let (primary, standby) = pair().await?;
    let mut syncer = Syncer::builder(&primary, &standby)?.spawn()?;
    let cluster = format!("{:x}", primary.cluster_id().await?);
    let url = syncer.peer_url();
    let words = [cluster.as_str(), &url, "etcdctl", "--learner"];
    let why = assert_waits(&mut syncer, "joining", &words).await?;
    let command = why.split('`').nth(1).context("no command")?;
    let mut parts = command.split(' ');
    ensure!(parts.next() == Some("etcdctl"), "{command}");
    let output = tokio::process::Command::new(Version::V3_7.binaries()?.etcdctl)
        .args(parts)
        .output()
        .await?;
    ensure!(output.status.success(), "{command}: {output:?}");
    wait_streaming(&mut syncer).await?;
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn a_voter_is_told_apart() -> Result<()> {
    let primary = Cluster::builder(Version::V3_7)
        .members(3)
        .no_fsync()
        .extra_args(["--strict-reconfig-check=false"]);
    let (primary, standby) = tokio::try_join!(primary.start(), one_member().start())?;
    let builder = Syncer::builder(&primary, &standby)?;
    let url = builder.peer_url();
    let peer_urls = format!("--peer-urls={url}");
    primary
        .etcdctl(&["member", "add", "syncer", &peer_urls])
        .await?;
    let mut syncer = builder.spawn()?;
    let words = [url.as_str(), "is a voter", "as a learner", "--learner"];
    assert_ends(&mut syncer, 12, &words).await?;
    primary.client().await?.put("unharmed", "", None).await?;
    Ok(())
}
