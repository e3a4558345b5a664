//! Snapshots that `etcdctl snapshot save` wrote.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{path, refused, replayed};
use crate::harness::{Cluster, Version, Workload, assert_same_keys_and_values};

async fn saved(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version).no_fsync().start().await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    Workload::new(6).operations(300).run(&primary).await?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("saved.db");
    let (file, release) = (path(&file)?, primary.binaries()?.version.clone());
    let endpoint = primary.client_endpoints().remove(0);
    let mut etcdctl = Command::new(&primary.binaries()?.etcdctl);
    etcdctl.env("ETCDCTL_API", "3");
    etcdctl.args(["--endpoints", &endpoint, "snapshot", "save", file]);
    let done = etcdctl.output()?;
    ensure!(done.status.success(), "{done:?}");
    let cluster = format!("{:x}", primary.cluster_id().await?);

    let alone = ["--snapshot", file, "--primary-version", &release];
    refused(&standby, &alone, 64, &["--primary-cluster-id", "--wal"]).await?;
    if version != Version::V3_4 {
        // What follows is in no log that is given.
        let named = [&alone[..], &["--primary-cluster-id", &cluster]].concat();
        let report = replayed(&standby, &named).await?;
        ensure!(report["to_index"] == report["installed_index"], "{report}");
        assert_same_keys_and_values(&primary, &standby).await?;
        let again = replayed(&standby, &named).await?;
        ensure!(again["from_index"] == report["to_index"], "{again}");
    }
    Workload::new(7).operations(300).run(&primary).await?;
    primary.kill(0)?;
    let wal = path(primary.data_dir(0)?)?.to_owned();
    let behind = [&alone[..], &["--wal", &wal]].concat();
    let other = Cluster::builder(Version::V3_7).no_fsync().start().await?;
    for standby in [&standby, &other] {
        let report = replayed(standby, &behind).await?;
        let index = report["to_index"].as_u64().context("an index")?;
        ensure!(report["installed_index"].as_u64() < Some(index), "{report}");
    }
    primary.restart(0).await?;
    assert_same_keys_and_values(&primary, &standby).await?;
    assert_same_keys_and_values(&primary, &other).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_4_and_the_log_behind_it() -> Result<()> {
    Box::pin(saved(Version::V3_4)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_5_and_the_log_behind_it() -> Result<()> {
    Box::pin(saved(Version::V3_5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_6_and_the_log_behind_it() -> Result<()> {
    Box::pin(saved(Version::V3_6)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_7_and_the_log_behind_it() -> Result<()> {
    Box::pin(saved(Version::V3_7)).await
}
