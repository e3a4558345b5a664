//! A standby that fails, is full or takes less than was thought.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, GetOptions, Txn, TxnOp};

use super::{
    assert_halts, assert_standby_trouble, assert_stops, assert_waits, one_member, pair, put_alone,
    stored_checkpoint, streaming, wait_streaming,
};
use crate::harness::{
    Cluster, Keys, Syncer, Version, assert_same_keys_and_values, read_keys,
    wait_same_keys_and_values,
};

const CATCH_UP: Duration = Duration::from_secs(30);

async fn with_standby(args: &[&str]) -> Result<(Cluster, Cluster)> {
    let standby = one_member().extra_args(args.iter().copied());
    tokio::try_join!(one_member().start(), standby.start())
}

/// Puts `numbers` as the values of 20 keys, one after the other.
async fn count(mut client: Client, numbers: std::ops::Range<u32>) -> Result<()> {
    for number in numbers {
        let key = format!("count/{:02}", number % 20);
        client.put(key, number.to_string(), None).await?;
    }
    Ok(())
}

/// Every state of every key was written once: both sides count the same versions.
async fn assert_each_state_once(primary: &Cluster, standby: &Cluster) -> Result<()> {
    let (_, ours) = read_keys(&primary.client().await?).await?;
    let (_, theirs) = read_keys(&standby.client().await?).await?;
    for (key, stored) in &ours {
        let copy = theirs.get(key).context("a key is missing")?;
        ensure!(
            stored.version == copy.version,
            "{}: {stored:?} and {copy:?}",
            key.escape_ascii()
        );
    }
    Ok(())
}

#[tokio::test]
async fn a_lost_quorum_is_waited_for_and_nothing_is_lost_or_doubled() -> Result<()> {
    let standby = Cluster::builder(Version::V3_7).members(3).no_fsync();
    let (primary, mut standby) = tokio::try_join!(one_member().start(), standby.start())?;
    let builder =
        Syncer::builder(&primary, &standby)?.args(["--history=keep", "--standby-timeout=1s"]);
    let (mut syncer, _) = streaming(&primary, builder).await?;
    let counting = tokio::spawn(count(primary.client().await?, 0..2000));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let leader = standby.leader().await?;
    let dead = [leader, (leader + 1) % 3];
    for member in dead {
        standby.kill(member)?;
    }
    counting.await??;
    put_alone(&primary, "late", b"1".to_vec()).await?;
    assert_standby_trouble(&mut syncer, &[]).await?;
    for member in dead {
        standby.spawn(member)?;
    }
    standby.wait_ready().await?;
    wait_same_keys_and_values(&primary, &standby, CATCH_UP).await?;
    assert_each_state_once(&primary, &standby).await?;
    let status = wait_streaming(&mut syncer).await?;
    ensure!(status["standby_trouble"].is_null(), "{status}");
    ensure!(syncer.get("/readyz").await?.status == 200, "not ready");
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn a_standby_that_is_down_at_first_is_waited_for() -> Result<()> {
    let (primary, mut standby) = pair().await?;
    let builder = Syncer::builder(&primary, &standby)?;
    primary.add_learner(&builder.peer_url()).await?;
    standby.stop(0).await?;
    let mut syncer = builder.spawn()?;
    let endpoint = standby.client_endpoints()[0].clone();
    let words = ["ask the standby", &endpoint, "is it up"];
    assert_waits(&mut syncer, "contacting", &words).await?;
    standby.restart(0).await?;
    wait_streaming(&mut syncer).await?;
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn a_full_standby_is_named_with_the_remedy_and_waited_for() -> Result<()> {
    let (primary, standby) = with_standby(&["--quota-backend-bytes=4194304"]).await?;
    let builder = Syncer::builder(&primary, &standby)?.args(["--batch-bytes-max=200000"]);
    let (mut syncer, _) = streaming(&primary, builder).await?;
    let mut client = primary.client().await?;
    for number in 0..100u8 {
        let key = format!("big/{}", number % 10);
        client.put(key, vec![number; 64 << 10], None).await?;
    }
    let words = [
        "out of space",
        "database space exceeded",
        "compact and defragment",
        "--quota-backend-bytes",
        "etcdctl alarm disarm",
    ];
    assert_standby_trouble(&mut syncer, &words).await?;
    let revision = standby.status(0).await?;
    let revision = revision.header().context("a header")?.revision();
    standby
        .etcdctl(&["compact", "--physical", &revision.to_string()])
        .await?;
    standby.etcdctl(&["defrag"]).await?;
    standby.etcdctl(&["alarm", "disarm"]).await?;
    wait_same_keys_and_values(&primary, &standby, CATCH_UP).await?;
    let status = wait_streaming(&mut syncer).await?;
    ensure!(status["standby_trouble"].is_null(), "{status}");
    assert_stops(&mut syncer).await
}

#[tokio::test]
async fn what_is_too_large_for_the_standby_is_parted_and_then_halts() -> Result<()> {
    let (primary, standby) = with_standby(&["--max-request-bytes=100000"]).await?;
    let mut client = primary.client().await?;
    // After the first 100 entries etcd 3.7 cuts the first one off its log.
    for number in 0..60 {
        let key = format!("small/{number}");
        client.put(key, vec![0; 8000], None).await?;
    }
    let (mut syncer, _) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    wait_same_keys_and_values(&primary, &standby, CATCH_UP).await?;
    ensure!(syncer.log()?.contains("parting a batch"), "never parted");

    put_alone(&primary, "before", Vec::new()).await?;
    let index = put_alone(&primary, "large", vec![0; 200_000]).await?;
    let entry = format!("entry {index} does not fit");
    let words = [&entry, "--max-request-bytes", "on the standby"];
    assert_halts(&mut syncer, 19, &words).await?;
    // What came before it is there.
    let mut client = standby.client().await?;
    ensure!(client.get("before", None).await?.count() == 1, "lost");
    ensure!(stored_checkpoint(&mut client).await?.index.0 == index - 1);
    client.put("alive", "", None).await?;
    Ok(())
}

async fn put_at_once(primary: &Cluster, prefix: &str, keys: usize) -> Result<u64> {
    let ops: Vec<_> = (0..keys)
        .map(|key| TxnOp::put(format!("{prefix}/{key:03}"), "", None))
        .collect();
    primary
        .client()
        .await?
        .txn(Txn::new().and_then(ops))
        .await?;
    Ok(primary.status(0).await?.raft_index())
}

fn revisions(keys: &Keys, prefix: &str) -> Vec<i64> {
    let ours = keys
        .iter()
        .filter(|(key, _)| key.starts_with(prefix.as_bytes()));
    let mut found: Vec<i64> = ours.map(|(_, stored)| stored.mod_revision).collect();
    found.dedup();
    found
}

#[tokio::test]
async fn short_operation_lists_are_nested_and_too_long_a_revision_halts() -> Result<()> {
    let (primary, standby) = with_standby(&["--max-txn-ops=11"]).await?;
    put_at_once(&primary, "first", 27).await?;
    let mut client = primary.client().await?;
    for number in 0..60 {
        client.put(format!("single/{number}"), "", None).await?;
    }
    client
        .delete(
            "first/",
            Some(etcd_client::DeleteOptions::new().with_prefix()),
        )
        .await?;
    let (mut syncer, _) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    ensure!(syncer.log()?.contains("txn_ops_max=11"), "another limit");
    put_at_once(&primary, "second", 27).await?;
    wait_same_keys_and_values(&primary, &standby, CATCH_UP).await?;
    let (_, keys) = read_keys(&standby.client().await?).await?;
    ensure!(
        revisions(&keys, "second").len() == 1,
        "a revision was parted"
    );

    let index = put_at_once(&primary, "third", 100).await?;
    let entry = format!("entry {index} changes 100 keys");
    let words = [&entry, "takes 27 at most", "`--max-txn-ops`", "it is 11"];
    assert_halts(&mut syncer, 19, &words).await?;
    let (_, keys) = read_keys(&standby.client().await?).await?;
    ensure!(revisions(&keys, "third").is_empty(), "half a revision");
    Ok(())
}

/// Stopped in the middle of work, the standby holds what the primary held at the revision that the
/// checkpoint names.
#[tokio::test]
async fn a_stop_under_load_leaves_a_whole_prefix() -> Result<()> {
    let (primary, standby) = pair().await?;
    let (mut syncer, _) = streaming(&primary, Syncer::builder(&primary, &standby)?).await?;
    let counting = tokio::spawn(count(primary.client().await?, 0..1500));
    syncer
        .wait_status("some of the work", CATCH_UP, |status| {
            status["revision"]["primary"].as_i64() > Some(200)
        })
        .await?;
    let seen = syncer.status().await?["revision"]["primary"]
        .as_i64()
        .context("a revision")?;
    assert_stops(&mut syncer).await?;
    counting.await??;
    let mut client = standby.client().await?;
    let revision = stored_checkpoint(&mut client).await?.revision.0;
    let (last, _) = read_keys(&primary.client().await?).await?;
    ensure!(
        (seen..last).contains(&revision),
        "stopped at {revision}, between {seen} and {last}"
    );
    let options = GetOptions::new().with_prefix();
    let then = primary
        .client()
        .await?
        .get("count/", Some(options.clone().with_revision(revision)))
        .await?;
    let now = client.get("count/", Some(options)).await?;
    let contents = |answer: &etcd_client::GetResponse| -> Vec<(Vec<u8>, Vec<u8>)> {
        let kvs = answer.kvs().iter();
        kvs.map(|kv| (kv.key().to_vec(), kv.value().to_vec()))
            .collect()
    };
    ensure!(contents(&then) == contents(&now), "at revision {revision}");
    ensure!(
        assert_same_keys_and_values(&primary, &standby)
            .await
            .is_err(),
        "the work was over before the stop"
    );
    Ok(())
}
