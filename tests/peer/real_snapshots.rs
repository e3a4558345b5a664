//! Snapshots of real leaders: received, held while the primary is written, gone on from.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use etcd_syncer::ids::MemberId;
use etcd_syncer::peer::snapshot::{Over, Phase};
use etcd_syncer::peer::{Config, Inbound};

use crate::etcd::{Cluster, ClusterBuilder, Version, eventually};
use crate::learner_snapshots::cut_at;
use crate::real::{SOON, Us, assert_bbolt, beginning, judge, put, snapshots_begun};

/// A primary that keeps next to no log, as far as its release lets itself be told so.
fn forgetful(version: Version) -> ClusterBuilder {
    let builder = Cluster::builder(version).no_fsync().snapshot_count(100);
    match version {
        Version::V3_4 => builder,
        Version::V3_5 | Version::V3_6 | Version::V3_7 => builder.catch_up_entries(10),
    }
}

/// Enough entries for its log to be cut.
fn forgotten(version: Version) -> usize {
    match version {
        Version::V3_4 => 5500,
        Version::V3_5 | Version::V3_6 | Version::V3_7 => 3000,
    }
}

/// From an empty learner to one that follows, over a snapshot that takes ten seconds to install.
async fn receives_holds_and_goes_on(version: Version) -> Result<()> {
    let mut primary = forgetful(version).start().await?;
    put(&primary, "early", forgotten(version)).await?;
    let (us, inbox) = Us::join(&primary, Config::default()).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    let (received, inbox) = learning.snapshot().await?;

    assert_bbolt(received.path());
    let (revision, keys) = judge(version, received.path()).await?;
    let early = i64::try_from(forgotten(version))?;
    ensure!(revision > early, "revision {revision}");
    ensure!(keys >= u64::try_from(early)?, "{keys} keys");
    let applied = primary.status(0).await?.raft_index();
    ensure!(
        received.index().0 <= applied,
        "{} of {applied}",
        received.index()
    );
    ensure!(
        received.index().0 + 5 > applied,
        "{} of {applied}",
        received.index()
    );
    let listed: BTreeSet<u64> = primary
        .member_list()
        .await?
        .iter()
        .map(|m| m.id())
        .collect();
    let members = received.members().map_err(|error| anyhow!("{error}"))?;
    ensure!(members.iter().map(|m| m.id.0).collect::<BTreeSet<_>>() == listed);
    let ours = members.iter().find(|m| m.id == us.found.identity.us);
    let ours = ours.context("we are in it")?;
    ensure!(
        ours.is_learner && ours.peer_urls == [us.url.clone()],
        "{ours:?}"
    );
    let shown = us.transport.snapshot_progress().borrow().clone().unwrap();
    ensure!(shown.bytes == received.bytes(), "{shown:?}");
    ensure!(matches!(shown.phase, Phase::Held { .. }), "{shown:?}");

    // Far more than the log keeps, while nobody answers.
    for _ in 0..10 {
        put(&primary, "held", 300).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    ensure!(
        received.request().is_over().is_none(),
        "the leader waits no more"
    );

    let (index, cut) = (received.index(), cut_at(&received));
    let mut learning = us.learn(cut, inbox, Some(received));
    put(&primary, "late", 500).await?;
    let last = primary.status(0).await?.raft_index();
    learning.follow_to(last).await?;
    // The held ones were written ten times over.
    let puts = i64::try_from(learning.put.len())?;
    ensure!(puts >= 10 * 300 + 500, "{puts} puts behind {index}");
    let now = primary.client().await?.get("early/0", None).await?;
    let now = now.header().context("a header")?.revision();
    ensure!(
        revision + puts == now,
        "{revision} + {puts} puts, not {now}"
    );

    // All is well on the leader's side, and it stays so.
    let all = primary.status(0).await?.raft_index();
    learning.follow_to(all).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    ensure!(
        snapshots_begun(&primary, 0).await? == 1.0,
        "more than one snapshot"
    );
    ensure!(us.transport.stats().snapshots_begun.value() == 1);
    ensure!(us.transport.stats().snapshots_installed.value() == 1);
    let spooled = std::fs::read_dir(us.spool())?.count();
    ensure!(spooled == 0, "{spooled} files are left in the spool");
    ensure!(primary.member_logs(0)?.contains("sent database snapshot"));
    primary.process(0)?;
    learning.stop().await?;
    us.leave().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_4_is_held_and_gone_on_from() -> Result<()> {
    receives_holds_and_goes_on(Version::V3_4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_5_is_held_and_gone_on_from() -> Result<()> {
    receives_holds_and_goes_on(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_6_is_held_and_gone_on_from() -> Result<()> {
    receives_holds_and_goes_on(Version::V3_6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_3_7_is_held_and_gone_on_from() -> Result<()> {
    receives_holds_and_goes_on(Version::V3_7).await
}

/// Rule H13 with real leaders: as long as the disk is full, few snapshots are sent, and fewer and
/// fewer; once there is room, one is all it takes.
async fn sends_few_that_fail(version: Version) -> Result<()> {
    let primary = forgetful(version).start().await?;
    put(&primary, "early", forgotten(version)).await?;
    let folder = tempfile::tempdir()?;
    let spool = folder.path().join("spool");
    std::fs::write(&spool, "this is no folder")?;
    let config = Config {
        spool: Some(spool.clone()),
        snapshot_retry_min: Duration::from_secs(4),
        ..Config::default()
    };
    let (us, inbox) = Us::join(&primary, config).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    eventually("a snapshot fails", SOON, async || {
        ensure!(us.transport.stats().snapshots_failed.value() == 1);
        Ok(())
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let sent = snapshots_begun(&primary, 0).await?;
    // At 0 and 4 seconds; the next one at 12.
    ensure!((2.0..=3.0).contains(&sent), "{sent} snapshots");
    std::fs::remove_file(&spool)?;
    let (received, inbox) = learning.snapshot().await?;
    let cut = cut_at(&received);
    let mut learning = us.learn(cut, inbox, Some(received));
    put(&primary, "late", 100).await?;
    let last = primary.status(0).await?.raft_index();
    learning.follow_to(last).await?;
    let sent = snapshots_begun(&primary, 0).await?;
    ensure!((3.0..=5.0).contains(&sent), "{sent} snapshots");
    us.leave().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h13_a_leader_of_3_4_sends_few_snapshots_that_fail() -> Result<()> {
    sends_few_that_fail(Version::V3_4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h13_a_leader_of_3_7_sends_few_snapshots_that_fail() -> Result<()> {
    sends_few_that_fail(Version::V3_7).await
}

/// The leadership moves while a snapshot is installed: the old leader is let go at once, and we go
/// on from the snapshot, or from the new leader's.
async fn goes_on_behind_another_leader(version: Version) -> Result<()> {
    let mut primary = forgetful(version).members(3).start().await?;
    put(&primary, "early", forgotten(version)).await?;
    let old = primary.leader().await?;
    let (us, inbox) = Us::join(&primary, Config::default()).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    let (mut received, mut inbox) = learning.snapshot().await?;
    ensure!(received.from() == MemberId(primary.member_id(old)?));
    primary.move_leader((old + 1) % 3).await?;
    let mut request = received.request();
    let over = tokio::time::timeout(Duration::from_secs(5), request.over()).await;
    let over = over.context("the old leader is not let go")?;
    ensure!(matches!(over, Over::NewerTerm(_)), "{over:?}");
    eventually("the old leader sends nothing", SOON, async || {
        let name = "etcd_network_snapshot_send_inflights_total{";
        let sends = crate::real::metric(&primary, old, name).await?;
        ensure!(sends == 0.0, "{sends} snapshots");
        Ok(())
    })
    .await?;
    // Each leader has cut its log on its own: what we hold may or may not be enough.
    put(&primary, "held", 1000).await?;
    let mut snapshots = 1;
    loop {
        let cut = cut_at(&received);
        let mut learning = us.learn(cut, inbox, Some(received));
        let last = primary.status(0).await?.raft_index();
        if let Err(error) = learning.follow_to(last).await {
            (received, inbox) = learning.snapshot().await.context(error)?;
            snapshots += 1;
            continue;
        }
        put(&primary, "late", 100).await?;
        let last = primary.status(0).await?.raft_index();
        learning.follow_to(last).await?;
        break;
    }
    ensure!(snapshots <= 2, "{snapshots} snapshots");
    us.leave().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_of_the_leadership_of_3_5_ends_a_held_request() -> Result<()> {
    goes_on_behind_another_leader(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_of_the_leadership_of_3_7_ends_a_held_request() -> Result<()> {
    goes_on_behind_another_leader(Version::V3_7).await
}

/// A leader that dies while we install comes back, finds us behind, and needs no second snapshot
/// if its log still reaches back to the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_killed_meanwhile_is_gone_on_with() -> Result<()> {
    let mut primary = forgetful(Version::V3_6).start().await?;
    put(&primary, "early", 3000).await?;
    let (us, inbox) = Us::join(&primary, Config::default()).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    let (received, inbox) = learning.snapshot().await?;
    primary.kill(0)?;
    let mut request = received.request();
    let over = tokio::time::timeout(Duration::from_secs(5), request.over()).await;
    ensure!(over.context("nobody notices")? == Over::Disconnected);
    primary.restart(0).await?;
    put(&primary, "late", 5).await?;
    let mut learning = us.learn(cut_at(&received), inbox, Some(received));
    let last = primary.status(0).await?.raft_index();
    learning.follow_to(last).await?;
    ensure!(us.transport.stats().snapshots_begun.value() == 1);
    us.leave().await
}

/// Removed while a snapshot is held: the leader cuts its request, and we hear why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_meanwhile_is_heard() -> Result<()> {
    let mut primary = forgetful(Version::V3_6).start().await?;
    put(&primary, "early", 1000).await?;
    let (us, inbox) = Us::join(&primary, Config::default()).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    let (received, mut inbox) = learning.snapshot().await?;
    primary.remove_member(us.found.identity.us.0).await?;
    let mut request = received.request();
    let over = tokio::time::timeout(Duration::from_secs(5), request.over()).await;
    ensure!(over.context("nobody notices")? == Over::Disconnected);
    let heard = tokio::time::timeout(SOON, inbox.recv()).await?;
    ensure!(matches!(heard, Some(Inbound::Removed { .. })), "{heard:?}");
    us.leave().await
}
