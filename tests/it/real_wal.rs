//! Data directories that real members of each release wrote.

use anyhow::{Result, ensure};
use etcd_syncer::wal::{self, End, Wal};

use crate::harness::{Cluster, Version, Workload};

async fn stopped(version: Version) -> Result<()> {
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    Workload::new(7).operations(300).run(&cluster).await?;
    let applied = cluster.status(0).await?.raft_applied_index();
    cluster.stop(0).await?;
    let wal = Wal::open(wal::locate(cluster.data_dir(0)?)?)?;
    ensure!(*wal.end() == End::Clean, "{:?}", wal.end());
    let entries = wal::collect_committed(cluster.data_dir(0)?)?;
    let last = entries.last().map_or(0, |entry| entry.index);
    ensure!(last >= applied && applied > 200, "{last}, {applied}");
    for (expected, entry) in (1..).zip(&entries) {
        ensure!(entry.index == expected, "{entry:?} at {expected}");
    }
    Ok(())
}

#[tokio::test]
async fn a_log_of_3_4() -> Result<()> {
    stopped(Version::V3_4).await
}

#[tokio::test]
async fn a_log_of_3_5() -> Result<()> {
    stopped(Version::V3_5).await
}

#[tokio::test]
async fn a_log_of_3_6() -> Result<()> {
    stopped(Version::V3_6).await
}

#[tokio::test]
async fn a_log_of_3_7() -> Result<()> {
    stopped(Version::V3_7).await
}
