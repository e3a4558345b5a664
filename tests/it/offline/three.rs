//! Three members, all lost at once, and what two or one of them can tell.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_syncer::offline::{Basis, Error, Recovery};
use etcd_syncer::wal::{self, Wal};

use super::load::Load;
use super::recovery;
use super::resolved::Content;
use crate::harness::{Cluster, Version, Workload};

/// Kills all of them under load. Any two must know all that was acknowledged, and each of `pairs`
/// must agree with what the cluster holds that starts from these two alone.
async fn all_killed(version: Version, pairs: &[[usize; 2]]) -> Result<()> {
    let mut cluster = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    Workload::new(3).operations(200).run(&cluster).await?;
    for pair in pairs {
        let load = Load::start(&cluster.client().await?);
        tokio::time::sleep(Duration::from_millis(700)).await;
        for member in 0..3 {
            cluster.kill(member)?;
        }
        let acknowledged = load.ended().await?;
        ensure!(!acknowledged.is_empty());
        let everything = recovery(&cluster, &[0, 1, 2])?;
        for pair in [[0, 1], [0, 2], [1, 2]] {
            let found = recovery(&cluster, &pair)?;
            ensure!(matches!(found.basis(), Basis::Elected { .. }));
            ensure!(found.bound() >= everything.known());
            let held = Content::of_log(&cluster, &found)?.keys;
            for (key, revision) in &acknowledged {
                let ours = held.get(key).map(|stored| stored.mod_revision);
                ensure!(ours == Some(*revision), "{pair:?} {key:?}: {ours:?}");
            }
        }
        for member in 0..3 {
            one_alone(&recovery(&cluster, &[member])?, &everything)?;
        }
        drop(everything);
        let ours = Content::of_log(&cluster, &recovery(&cluster, pair)?)?;
        // Only the better log of two can win.
        for member in pair {
            cluster.spawn(*member)?;
        }
        cluster.wait_ready().await?;
        let client = cluster.client_of(pair[0]).await?;
        ours.ensure_equals(&Content::of_members(&client).await?)?;
        let third = 3 - pair[0] - pair[1];
        cluster.restart(third).await?;
    }
    Ok(())
}

/// One of three decides nothing beyond what it knows, and hides nothing.
fn one_alone(found: &Recovery, everything: &Recovery) -> Result<()> {
    ensure!(matches!(found.basis(), Basis::Known { .. }));
    let dir = &found.dirs()[0];
    ensure!(found.bound() == dir.commit() && found.bound() <= everything.bound());
    let open = dir.commit().distance_to(dir.last().1);
    let shown = found.undetermined();
    let shown = shown.iter().map(|tail| tail.last.0 - tail.first.0 + 1);
    ensure!(shown.sum::<u64>() == open);
    Ok(())
}

#[tokio::test]
async fn members_of_3_4() -> Result<()> {
    all_killed(Version::V3_4, &[[0, 1]]).await
}

#[tokio::test]
async fn members_of_3_5() -> Result<()> {
    all_killed(Version::V3_5, &[[0, 1], [0, 2], [1, 2]]).await
}

#[tokio::test]
async fn members_of_3_6() -> Result<()> {
    all_killed(Version::V3_6, &[[1, 2]]).await
}

#[tokio::test]
async fn members_of_3_7() -> Result<()> {
    all_killed(Version::V3_7, &[[0, 1], [0, 2], [1, 2]]).await
}

/// A leader that is cut off writes what nobody else gets; when it comes back, that is replaced.
async fn overwritten(version: Version) -> Result<()> {
    let mut cluster = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .start()
        .await?;
    Workload::new(4).operations(100).run(&cluster).await?;
    let leader = cluster.leader().await?;
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    for other in &others {
        cluster.kill(*other)?;
    }
    let client = cluster.client_of(leader).await?;
    for number in 0..5 {
        let put = client.clone();
        let put = async move {
            let key = format!("lost/{number}");
            put.kv_client().put(key, "never committed", None).await
        };
        let answer = tokio::time::timeout(Duration::from_millis(50), put).await;
        ensure!(!matches!(answer, Ok(Ok(_))), "it was committed");
    }
    cluster.kill(leader)?;
    let alone = recovery(&cluster, &[leader])?;
    let tail = alone.undetermined();
    let tail = tail.first().context("nothing is open")?;
    ensure!(tail.last.0 - tail.first.0 >= 3, "{tail:?}");
    drop(alone);
    for other in &others {
        cluster.spawn(*other)?;
    }
    cluster.wait_ready().await?;
    Workload::new(5)
        .operations(100)
        .run_on(vec![
            cluster.client_endpoints()[others[0]].clone(),
            cluster.client_endpoints()[others[1]].clone(),
        ])
        .await?;
    // While it is away, its tail is still there, and the other two know better.
    for other in &others {
        cluster.kill(*other)?;
    }
    let all = recovery(&cluster, &[0, 1, 2])?;
    let Basis::Elected { member } = *all.basis() else {
        anyhow::bail!("{:?}", all.basis());
    };
    let loser = all.dirs()[leader].member();
    ensure!(member != loser);
    let ours = Content::of_log(&cluster, &all)?;
    ensure!(!ours.keys.contains_key(b"lost/0".as_slice()));
    drop(all);
    for member in 0..3 {
        cluster.spawn(member)?;
    }
    cluster.wait_ready().await?;
    let theirs = Content::of_members(&cluster.client_of(leader).await?).await?;
    ours.ensure_equals(&theirs)?;
    cluster.stop(leader).await?;
    let wal = Wal::open(wal::locate(cluster.data_dir(leader)?)?)?;
    ensure!(wal.overwritten() >= 4, "{} overwritten", wal.overwritten());
    let alone = Content::of_log(&cluster, &recovery(&cluster, &[leader])?)?;
    alone.ensure_equals(&theirs)
}

#[tokio::test]
async fn an_overwritten_tail_of_3_4() -> Result<()> {
    Box::pin(overwritten(Version::V3_4)).await
}

#[tokio::test]
async fn an_overwritten_tail_of_3_5() -> Result<()> {
    Box::pin(overwritten(Version::V3_5)).await
}

#[tokio::test]
async fn an_overwritten_tail_of_3_6() -> Result<()> {
    Box::pin(overwritten(Version::V3_6)).await
}

#[tokio::test]
async fn an_overwritten_tail_of_3_7() -> Result<()> {
    Box::pin(overwritten(Version::V3_7)).await
}

#[tokio::test]
async fn directories_that_do_not_belong_together() -> Result<()> {
    let mut one = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    let mut other = Cluster::builder(Version::V3_6).no_fsync().start().await?;
    one.stop(0).await?;
    other.stop(0).await?;
    let open = |cluster: &Cluster| -> Result<_> {
        Ok(etcd_syncer::offline::DataDir::open(
            cluster.data_dir(0)?,
            None,
        )?)
    };
    let foreign = Recovery::of(vec![open(&one)?, open(&other)?]);
    ensure!(matches!(foreign, Err(Error::OtherCluster { .. })));
    let twice = Recovery::of(vec![open(&one)?, open(&one)?]);
    ensure!(matches!(twice, Err(Error::SameMember { .. })));
    ensure!(matches!(Recovery::of(vec![]), Err(Error::NoDirectory)));
    let found = recovery(&one, &[0])?;
    let foreign = super::at_the_beginning(etcd_syncer::ids::ClusterId(1));
    ensure!(matches!(
        found.behind(&foreign),
        Err(Error::OtherCluster { .. })
    ));
    Ok(())
}
