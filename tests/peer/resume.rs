//! A learner that stops and comes back as a node that is cut where it was: the primary goes on
//! from there, also when another process leads it by then.

use anyhow::{Result, ensure};
use etcd_syncer::peer::Config;

use crate::etcd::{Cluster, Version};
use crate::real::{Us, beginning, put};

async fn goes_on_from_a_cut(version: Version) -> Result<()> {
    let mut primary = Cluster::builder(version).no_fsync().start().await?;
    // From 3.6 on a log loses its first entry soon: we are there before.
    let (us, inbox) = Us::join(&primary, Config::default()).await?;
    let mut learning = us.learn(beginning(), inbox, None);
    let first = primary.status(0).await?.raft_index();
    learning.follow_to(first).await?;
    put(&primary, "early", 400).await?;
    let last = primary.status(0).await?.raft_index();
    learning.follow_to(last).await?;
    ensure!(learning.put.len() >= 400, "{} puts", learning.put.len());
    let (mut cut, url) = (learning.stop().await?, us.url.clone());
    us.leave().await?;
    for (round, is_restarted) in [false, true, false].into_iter().enumerate() {
        put(&primary, "held", 300).await?;
        if is_restarted {
            primary.restart(0).await?;
        }
        let (us, inbox) = Us::come_back(&primary, Config::default(), &url).await?;
        ensure!(cut.members.learners == [us.found.identity.us.0], "{cut:?}");
        let index = cut.index;
        let mut learning = us.learn(cut, inbox, None);
        put(&primary, "late", 300).await?;
        let last = primary.status(0).await?.raft_index();
        learning.follow_to(last).await?;
        let puts = learning.put.len();
        ensure!(puts >= 600, "round {round}: {puts} puts behind {index}");
        ensure!(us.transport.stats().snapshots_begun.value() == 0);
        cut = learning.stop().await?;
        us.leave().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_of_3_4_goes_on_where_it_was() -> Result<()> {
    goes_on_from_a_cut(Version::V3_4).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_of_3_5_goes_on_where_it_was() -> Result<()> {
    goes_on_from_a_cut(Version::V3_5).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_of_3_6_goes_on_where_it_was() -> Result<()> {
    goes_on_from_a_cut(Version::V3_6).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_of_3_7_goes_on_where_it_was() -> Result<()> {
    goes_on_from_a_cut(Version::V3_7).await
}
