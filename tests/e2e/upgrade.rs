//! A primary that is upgraded while it is followed.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::harness::{Cluster, Version, attach, eventually, wait_same_keys_and_values};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_of_several_releases_are_reported() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_5)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_5).no_fsync().start().await?;
    let mut syncer = attach(&primary, &standby, &[]).await?;
    for member in 0..primary.size() {
        let shown = |count: usize| {
            move |status: &serde_json::Value| {
                let releases = status["primary_releases"].as_array();
                releases.is_some_and(|releases| releases.len() == count)
            }
        };
        let before = if member == 0 { 1 } else { 2 };
        syncer
            .wait_status("the releases", SOON, shown(before))
            .await?;
        primary.stop(member).await?;
        primary.restart_as(member, Version::V3_6).await?;
        let after = if member == 2 { 1 } else { 2 };
        syncer
            .wait_status("the new release", SOON, shown(after))
            .await?;
        let client = primary.client().await?;
        for n in 0..100 {
            let key = format!("upgraded/{member}/{n}");
            client.kv_client().put(key, "value", None).await?;
        }
        wait_same_keys_and_values(&primary, &standby, SOON).await?;
    }
    let status = syncer.status().await?;
    let release = status["primary_releases"][0].as_str();
    let release = release.context("no release")?;
    assert!(release.starts_with("3.6."), "{release}");
    eventually("the log says so", SOON, async || {
        let log = syncer.log()?;
        ensure!(log.contains("several releases"), "{log}");
        ensure!(log.contains("one release again"), "{log}");
        Ok(())
    })
    .await
}
