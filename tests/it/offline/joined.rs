//! A member whose log has a hole, since it was sent a snapshot.

use anyhow::{Context, Result, ensure};
use etcd_syncer::ids::{MemberId, RaftIndex};
use etcd_syncer::offline::Error;

use super::{at_the_beginning, recovery};
use crate::harness::{Cluster, Version, Workload};

async fn lagging(version: Version) -> Result<()> {
    let mut builder = Cluster::builder(version)
        .members(3)
        .no_fsync()
        .snapshot_count(100);
    if version != Version::V3_4 {
        builder = builder.catch_up_entries(10);
    }
    let mut cluster = builder.start().await?;
    let late = (cluster.leader().await? + 1) % 3;
    cluster.kill(late)?;
    let others: Vec<usize> = (0..3).filter(|member| *member != late).collect();
    let endpoints = cluster.client_endpoints();
    let endpoints = others.iter().map(|member| endpoints[*member].clone());
    // 3.4 keeps 5000 entries for those who are late.
    let operations = if version == Version::V3_4 { 9000 } else { 900 };
    let work = Workload::new(6).operations(operations).clients(16);
    work.run_on(endpoints.collect()).await?;
    cluster.restart(late).await?;
    Workload::new(7).operations(100).run(&cluster).await?;
    for member in 0..3 {
        cluster.stop(member).await?;
    }
    let alone = recovery(&cluster, &[late])?;
    let dir = &alone.dirs()[0];
    let gaps = dir.wal().gaps();
    ensure!(gaps.len() == 1, "{gaps:?}");
    let start = dir.wal().start().context("it begins with a snapshot")?;
    ensure!(gaps[0].last < dir.wal().first() && start.index >= gaps[0].last);
    let members = dir.membership_at(alone.bound())?.context("who is there")?;
    let members: Vec<_> = members.members().collect();
    ensure!(members.len() == 3 && members.iter().all(|m| m.peer_urls.len() == 1));

    // From the beginning it cannot tell, and behind the hole it can.
    let mut checkpoint = at_the_beginning(alone.cluster());
    let missing = alone.behind(&checkpoint).err();
    ensure!(
        matches!(missing, Some(Error::NotHeld { .. })),
        "{missing:?}"
    );
    checkpoint.index = gaps[0].last;
    checkpoint.term = dir.wal().term_of(gaps[0].last).context("its term")?;
    let handouts = alone.behind(&checkpoint)?.collect::<Result<Vec<_>, _>>()?;
    let first = handouts.first().context("nothing")?.entry.index;
    ensure!(first == checkpoint.index.next());
    ensure!(handouts.last().map(|last| last.entry.index) == Some(alone.bound()));

    // With another member that has the entries in the hole, from the beginning.
    let both = recovery(&cluster, &[late, others[0]])?;
    let whole = both.behind(&at_the_beginning(both.cluster()))?;
    let whole = whole.collect::<Result<Vec<_>, _>>()?;
    ensure!(whole.len() as u64 == both.bound().0, "{}", whole.len());
    let members = whole.iter().filter_map(|handout| handout.members.as_ref());
    ensure!(
        members
            .last()
            .is_some_and(|members| members.voters.len() == 3)
    );

    let mut wrong = checkpoint.clone();
    wrong.term.0 += 1;
    ensure!(matches!(
        alone.behind(&wrong),
        Err(Error::HistoryConflict { .. })
    ));
    let mut ahead = checkpoint;
    ahead.index = RaftIndex(alone.bound().0 + 1);
    ahead.voters = vec![MemberId(1)];
    ensure!(matches!(
        alone.behind(&ahead),
        Err(Error::NothingNew { .. })
    ));
    Ok(())
}

#[tokio::test]
async fn a_late_member_of_3_4() -> Result<()> {
    lagging(Version::V3_4).await
}

#[tokio::test]
async fn a_late_member_of_3_5() -> Result<()> {
    lagging(Version::V3_5).await
}

#[tokio::test]
async fn a_late_member_of_3_6() -> Result<()> {
    lagging(Version::V3_6).await
}

#[tokio::test]
async fn a_late_member_of_3_7() -> Result<()> {
    lagging(Version::V3_7).await
}
