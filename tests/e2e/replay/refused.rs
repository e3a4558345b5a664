//! Files that cannot be used: each says why, and nothing is written.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{path, refused, replay, replayed};
use crate::harness::{Cluster, Version, Workload, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_cluster_a_running_member_and_a_gap() -> Result<()> {
    let builder = || Cluster::builder(Version::V3_6).no_fsync();
    let mut primary = builder().snapshot_count(50).start().await?;
    let mut other = builder().start().await?;
    let standby = builder().start().await?;
    Workload::new(8).operations(300).run(&primary).await?;
    let (dir, foreign) = (path(primary.data_dir(0)?)?.to_owned(), other.data_dir(0)?);
    let foreign = path(foreign)?.to_owned();
    let of_primary = ["--data-dir", &dir];
    refused(&standby, &of_primary, 21, &["db", "etcd"]).await?;
    primary.stop(0).await?;
    other.stop(0).await?;

    let both = ["--data-dir", &dir, "--data-dir", &foreign];
    refused(&standby, &both, 11, &["belongs to cluster"]).await?;
    let none = ["--data-dir", "/nonexistent"];
    refused(&standby, &none, 1, &["/nonexistent"]).await?;
    // Without the database nobody knows what came before the log.
    let wal = primary.data_dir(0)?.join("member/wal");
    let folder = tempfile::tempdir()?;
    for file in std::fs::read_dir(&wal)? {
        let file = file?;
        std::fs::copy(file.path(), folder.path().join(file.file_name()))?;
    }
    let names: Vec<_> = std::fs::read_dir(folder.path())?.collect::<Result<_, _>>()?;
    ensure!(!names.is_empty());
    let log_only = ["--data-dir", path(folder.path())?];
    refused(&standby, &log_only, 64, &["--primary-version", "3.5.33"]).await?;

    let report = replayed(&standby, &of_primary).await?;
    ensure!(report["to_index"].as_u64() > Some(0), "{report}");
    let words = ["was made from cluster", "--stream"];
    refused(&standby, &["--data-dir", &foreign], 15, &words).await?;
    let same = ["--data-dir", &dir, "--data-dir", &dir];
    refused(&standby, &same, 1, &["both belong to member"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_are_missing() -> Result<()> {
    let mut primary = Cluster::builder(Version::V3_7)
        .members(3)
        .no_fsync()
        .snapshot_count(100)
        .catch_up_entries(10)
        .start()
        .await?;
    let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    // A member that was sent a snapshot has a hole in its log.
    let late = (primary.leader().await? + 1) % 3;
    primary.kill(late)?;
    let endpoints = primary.client_endpoints().into_iter().enumerate();
    let endpoints = endpoints.filter(|(member, _)| *member != late);
    let endpoints = endpoints.map(|(_, endpoint)| endpoint).collect();
    let work = Workload::new(9).operations(900).clients(8);
    work.run_on(endpoints).await?;
    primary.restart(late).await?;
    Workload::new(10).operations(50).run(&primary).await?;
    for member in 0..3 {
        primary.stop(member).await?;
    }
    let folder = tempfile::tempdir()?;
    let wal = primary.data_dir(late)?.join("member/wal");
    for file in std::fs::read_dir(&wal)? {
        let file = file?;
        std::fs::copy(file.path(), folder.path().join(file.file_name()))?;
    }
    let copy = path(folder.path())?;
    let args = ["--data-dir", copy, "--primary-version", "3.7.1"];
    let words = ["is in none of the data directories", "install"];
    refused(&standby, &args, 16, &words).await?;
    // With its database in place the hole does not matter.
    let dir = path(primary.data_dir(late)?)?;
    let report = replayed(&standby, &["--data-dir", dir]).await?;
    ensure!(report["installed_index"].as_u64() > Some(0), "{report}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_was_removed() -> Result<()> {
    for version in [Version::V3_4, Version::V3_5, Version::V3_6] {
        let mut primary = Cluster::builder(version)
            .members(3)
            .no_fsync()
            .start()
            .await?;
        let standby = Cluster::builder(Version::V3_6).no_fsync().start().await?;
        Workload::new(11).operations(100).run(&primary).await?;
        let gone = (primary.leader().await? + 1) % 3;
        let id = primary.status(gone).await?;
        let id = id.header().context("a header")?.member_id();
        primary.remove_member(id).await?;
        eventually("it ends", Duration::from_secs(20), async || {
            let dir = primary.data_dir(gone)?.join("member/snap/db");
            let locked = std::fs::File::open(dir)?.try_lock_shared();
            ensure!(locked.is_ok(), "it runs");
            Ok(())
        })
        .await?;
        let release = primary.binaries()?.version.clone();
        let dir = path(primary.data_dir(gone)?)?;
        let args = ["--data-dir", dir, "--primary-version", &release];
        let output = replay(&standby, &args).await?;
        if version == Version::V3_4 && output.status.success() {
            // It may have ended before it noted that its removal was committed. What it knew to be
            // committed is right all the same.
            let report: Value = serde_json::from_slice(&output.stdout)?;
            let entries = report["undetermined"][0]["entries"].as_array();
            let mut entries = entries.context("a list")?.iter();
            ensure!(
                entries.any(|entry| entry["kind"] == "conf_change"),
                "{report}"
            );
        } else {
            refused(&standby, &args, 1, &["it was removed"]).await?;
        }
        primary.kill(gone)?;
    }
    Ok(())
}
