//! One member: stopped, killed, with a log of several files.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_client::CompactionOptions;
use etcd_syncer::offline::Basis;
use etcd_syncer::wal::{self, End};

use super::load::Load;
use super::recovery;
use super::resolved::Content;
use crate::harness::{Cluster, Version, Workload, eventually, http_get};

async fn busy(version: Version) -> Result<Cluster> {
    let cluster = Cluster::builder(version).no_fsync().start().await?;
    let counters = Workload::new(7).operations(900).run(&cluster).await?;
    let mut client = cluster.client().await?;
    client
        .compact(counters.revision - 50, Some(CompactionOptions::new()))
        .await?;
    cluster.etcdctl(&["role", "add", "r"]).await?;
    let user = ["user", "add", "alice", "--new-user-password", "hunter2"];
    cluster.etcdctl(&user).await?;
    Workload::new(8).operations(100).run(&cluster).await?;
    Ok(cluster)
}

/// Stops it, reads its folder, starts it again and compares; then the same with a kill under load.
async fn stopped_and_killed(version: Version) -> Result<()> {
    let mut cluster = busy(version).await?;
    let applied = cluster.status(0).await?.raft_applied_index();
    cluster.stop(0).await?;
    let found = recovery(&cluster, &[0])?;
    let dir = &found.dirs()[0];
    ensure!(*dir.wal().end() == End::Clean, "{:?}", dir.wal().end());
    ensure!(
        dir.commit() == dir.last().1,
        "a clean stop leaves nothing open"
    );
    ensure!(found.bound().0 >= applied && applied > 700, "{applied}");
    let entries = wal::collect_committed(cluster.data_dir(0)?)?;
    ensure!(entries.len() as u64 == found.bound().0);
    let ours = Content::of_log(&cluster, &found)?;
    drop(found);
    cluster.restart(0).await?;
    ours.ensure_equals(&Content::of_members(&cluster.client().await?).await?)?;
    ensure!(ours.keys.len() > 50, "{} keys", ours.keys.len());

    let load = Load::start(&cluster.client().await?);
    tokio::time::sleep(Duration::from_millis(800)).await;
    cluster.kill(0)?;
    let acknowledged = load.ended().await?;
    ensure!(acknowledged.len() > 100, "{} puts", acknowledged.len());
    let found = recovery(&cluster, &[0])?;
    // The only voter commits what it has.
    ensure!(matches!(found.basis(), Basis::Elected { .. }));
    ensure!(found.bound() == found.dirs()[0].last().1);
    ensure!(found.undetermined().is_empty());
    let ours = Content::of_log(&cluster, &found)?;
    for (key, revision) in &acknowledged {
        let held = ours.keys.get(key).map(|stored| stored.mod_revision);
        ensure!(held == Some(*revision), "{key:?}: {held:?}");
    }
    drop(found);
    cluster.restart(0).await?;
    ours.ensure_equals(&Content::of_members(&cluster.client().await?).await?)
}

#[tokio::test]
async fn a_member_of_3_4() -> Result<()> {
    stopped_and_killed(Version::V3_4).await
}

#[tokio::test]
async fn a_member_of_3_5() -> Result<()> {
    stopped_and_killed(Version::V3_5).await
}

#[tokio::test]
async fn a_member_of_3_6() -> Result<()> {
    stopped_and_killed(Version::V3_6).await
}

#[tokio::test]
async fn a_member_of_3_7() -> Result<()> {
    stopped_and_killed(Version::V3_7).await
}

/// Writes more than one file takes.
async fn cut(version: Version) -> Result<()> {
    let mut cluster = Cluster::builder(version).no_fsync().start().await?;
    let client = cluster.client().await?;
    let mut kv = client.kv_client();
    for number in 0..75_u32 {
        let value = vec![number.to_le_bytes()[0]; 1_000_000];
        kv.put(format!("big/{}", number % 5), value, None).await?;
    }
    cluster.kill(0)?;
    let found = recovery(&cluster, &[0])?;
    let files = found.dirs()[0].wal().files().len();
    ensure!(files == 2, "{files} files");
    let ours = Content::of_log(&cluster, &found)?;
    drop(found);
    cluster.restart(0).await?;
    ours.ensure_equals(&Content::of_members(&cluster.client().await?).await?)?;
    ensure!(ours.keys.len() == 5 && ours.revision == 76);
    Ok(())
}

#[tokio::test]
async fn a_log_of_two_files_of_3_5() -> Result<()> {
    cut(Version::V3_5).await
}

#[tokio::test]
async fn a_log_of_two_files_of_3_7() -> Result<()> {
    cut(Version::V3_7).await
}

/// One file with records of four releases.
#[tokio::test]
async fn a_log_of_every_release() -> Result<()> {
    // 3.6 does not start over what a health check of 3.4 writes, unless that is in a snapshot.
    let builder = Cluster::builder(Version::V3_4).snapshot_count(40);
    let mut cluster = builder.no_fsync().start().await?;
    for version in Version::ALL {
        if version != Version::V3_4 {
            cluster.restart_as(0, version).await?;
        }
        let work = Workload::new(5).operations(100);
        let work = work.prefix(format!("{}/", version.minor()));
        work.run(&cluster).await?;
        // The next release starts only once the cluster's version has followed.
        let wanted = format!("\"{}.0\"", version.minor());
        let address = cluster.client_endpoints()[0].replace("http://", "");
        eventually("the version rises", Duration::from_secs(20), async || {
            let answer = http_get(&address, "/version").await?.body;
            ensure!(
                answer.contains(&format!("\"etcdcluster\":{wanted}")),
                "{answer}"
            );
            Ok(())
        })
        .await?;
    }
    let theirs = Content::of_members(&cluster.client().await?).await?;
    cluster.stop(0).await?;
    let found = recovery(&cluster, &[0])?;
    ensure!(found.dirs()[0].wal().files().len() == 1);
    Content::of_log(&cluster, &found)?.ensure_equals(&theirs)
}

#[tokio::test]
async fn a_running_member_is_left_alone() -> Result<()> {
    let cluster = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let error = recovery(&cluster, &[0])
        .err()
        .map(|error| error.to_string());
    let error = error.unwrap_or_default();
    ensure!(error.contains("is in use by an etcd"), "{error:?}");
    Ok(())
}
