//! A learner that the primary takes out again, and a stream that somebody else takes over.

use std::time::Duration;

use anyhow::{Result, ensure};
use etcd_syncer::ids::RaftIndex;

use super::{assert_waits, pair, store_checkpoint, stored_checkpoint, streaming, wait_streaming};
use crate::harness::{Syncer, wait_same_keys_and_values};

#[tokio::test]
async fn the_entry_that_removes_us_ends_it() -> Result<()> {
    let (mut primary, standby) = pair().await?;
    let (mut syncer, learner) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    primary.client().await?.put("last", "words", None).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(10)).await?;
    primary.remove_member(learner).await?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    let log = syncer.log()?;
    ensure!(code == Some(17), "{code:?}: {log}");
    ensure!(log.contains("was removed from the primary"), "{log}");
    // Started again, it is not listed: somebody may add it again.
    syncer.respawn()?;
    assert_waits(&mut syncer, "joining", &["member add", "--learner"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_removal_while_it_sleeps_ends_it_when_it_wakes() -> Result<()> {
    let (mut primary, standby) = pair().await?;
    let (mut syncer, learner) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    syncer.pause()?;
    primary.remove_member(learner).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    syncer.resume()?;
    let code = syncer.wait_exit(Duration::from_secs(30)).await?;
    let log = syncer.log()?;
    ensure!(code == Some(17), "{code:?}: {log}");
    ensure!(log.contains("was removed from the primary"), "{log}");
    primary.client().await?.put("unharmed", "", None).await?;
    Ok(())
}

/// Somebody moves the checkpoint, as a second process on the stream would.
#[tokio::test]
async fn another_writer_ends_it() -> Result<()> {
    let (primary, standby) = pair().await?;
    let (mut syncer, _) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    wait_streaming(&mut syncer).await?;
    wait_same_keys_and_values(&primary, &standby, Duration::from_secs(10)).await?;
    let mut client = standby.client().await?;
    let mut theirs = stored_checkpoint(&mut client).await?;
    theirs.writer = 0xabc;
    theirs.index = RaftIndex(theirs.index.0 + 1);
    store_checkpoint(&mut client, theirs.encode()).await?;
    primary.client().await?.put("late", "", None).await?;
    let code = syncer.wait_exit(Duration::from_secs(15)).await?;
    let log = syncer.log()?;
    ensure!(code == Some(18), "{code:?}: {log}");
    for word in [
        "another writer took over",
        "0000000000000abc",
        "stop one of them",
    ] {
        ensure!(log.contains(word), "no {word:?} in {log}");
    }
    ensure!(client.get("late", None).await?.kvs().is_empty(), "written");
    ensure!(stored_checkpoint(&mut client).await? == theirs, "written");
    Ok(())
}
