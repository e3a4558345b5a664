//! Leases of the primary on the standby: the same ids, the same keys, gone when the primary's are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etcd_client::{
    Client, CompactionOptions, GetOptions, LeaseGrantOptions, PutOptions, Txn, TxnOp,
};

use etcd_syncer::checkpoint::Checkpoint;
use etcd_syncer::ids::LeaseId;
use etcd_syncer::reserved;

use crate::harness::{
    Cluster, LeaseInfo, LeftOver, Syncer, Version, assert_same_keys_and_values,
    assert_same_lease_keys, attach, eventually, read_leases,
};

const SOON: Duration = Duration::from_secs(10);
/// From an event on the primary to the same on the standby, on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);
const TTL: i64 = 600;

async fn grant(client: &Client, id: i64, ttl: i64) -> Result<()> {
    let options = LeaseGrantOptions::new().with_id(id);
    client.lease_client().grant(ttl, Some(options)).await?;
    Ok(())
}

async fn revoke(client: &Client, id: i64) -> Result<()> {
    client.lease_client().revoke(id).await?;
    Ok(())
}

async fn put(client: &Client, key: &str, lease: i64) -> Result<()> {
    let options = PutOptions::new().with_lease(lease);
    client.kv_client().put(key, "value", Some(options)).await?;
    Ok(())
}

async fn wait_same(primary: &Cluster, standby: &Cluster, within: Duration) -> Result<()> {
    eventually("the standby equals the primary", within, async || {
        assert_same_keys_and_values(primary, standby).await?;
        assert_same_lease_keys(primary, standby, LeftOver::None).await
    })
    .await
}

/// Two clusters and a syncer between them.
struct Pair {
    primary: Cluster,
    standby: Cluster,
    client: Client,
    syncer: Syncer,
}

impl Pair {
    async fn start(from: Version, to: Version, args: &[&str]) -> Result<Self> {
        let primary = Cluster::builder(from).no_fsync().start().await?;
        let standby = Cluster::builder(to).no_fsync().start().await?;
        let syncer = attach(&primary, &standby, args).await?;
        Ok(Self {
            client: primary.client().await?,
            primary,
            standby,
            syncer,
        })
    }

    async fn wait_same(&self, within: Duration) -> Result<()> {
        wait_same(&self.primary, &self.standby, within).await
    }

    async fn standby_leases(&self) -> Result<BTreeMap<i64, LeaseInfo>> {
        read_leases(&self.standby.client().await?).await
    }

    /// What status says about leases, once it is so.
    async fn leases(
        &mut self,
        accepts: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<serde_json::Value> {
        let status = self.syncer.wait_status("leases", SOON, |status| {
            status["phase"] == "streaming" && accepts(&status["leases"])
        });
        Ok(status.await?["leases"].take())
    }
}

async fn life_of_leases(from: Version, to: Version) -> Result<()> {
    let mut pair = Pair::start(from, to, &[]).await?;
    let client = pair.client.clone();
    let (a, b, c) = (0x77, -5, i64::MAX);
    for id in [a, b, c] {
        grant(&client, id, TTL).await?;
    }
    for (key, lease) in [("a1", a), ("a2", a), ("b1", b), ("x", a), ("y", b)] {
        put(&client, key, lease).await?;
    }
    // Moved to another lease, and to none.
    put(&client, "x", b).await?;
    put(&client, "y", 0).await?;
    pair.wait_same(SOON).await?;
    let leases = pair.standby_leases().await?;
    ensure!(leases.len() == 3, "{leases:?}");
    let hold = |lease: &LeaseInfo| lease.granted_ttl == 86_400;
    ensure!(leases.values().all(hold), "{leases:?}");

    // A revoke takes the keys along at once, here and there.
    revoke(&client, a).await?;
    let revoked = Instant::now();
    pair.wait_same(AT_ONCE).await?;
    println!("{from:?} -> {to:?}: a revoke after {:?}", revoked.elapsed());

    // So does an expiry, which the primary decides.
    grant(&client, a, 2).await?;
    put(&client, "short", a).await?;
    pair.wait_same(AT_ONCE).await?;
    eventually("the lease expires", Duration::from_secs(30), async || {
        let left = client.kv_client().get("short", None).await?;
        ensure!(left.kvs().is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    pair.wait_same(AT_ONCE).await?;
    ensure!(!pair.standby_leases().await?.contains_key(&a));

    // The id is used again, at once and many times over.
    for round in 0..50 {
        grant(&client, a, TTL).await?;
        put(&client, &format!("again{}", round % 3), a).await?;
        if round % 4 != 3 {
            revoke(&client, a).await?;
        } else {
            put(&client, "again0", 0).await?;
            revoke(&client, a).await?;
        }
    }
    grant(&client, a, TTL).await?;
    put(&client, "last", a).await?;
    pair.wait_same(SOON).await?;
    let leases = pair.leases(|leases| leases["ending"] == 0).await?;
    ensure!(leases["held"] == 3 && leases["lost"] == 0, "{leases}");
    ensure!(leases["trouble"].is_null(), "{leases}");
    let held = "etcd_syncer_standby_leases{state=\"held\"}";
    ensure!(pair.syncer.metric(held).await? == 3.0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_of_leases_3_4_to_3_7() -> Result<()> {
    Box::pin(life_of_leases(Version::V3_4, Version::V3_7)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_of_leases_3_6_to_3_5() -> Result<()> {
    Box::pin(life_of_leases(Version::V3_6, Version::V3_5)).await
}

/// Lease 9 with so many keys, and others in between, so that no range covers them all.
async fn large_lease(pair: &Pair, keys: usize, padding: &str) -> Result<()> {
    grant(&pair.client, 9, TTL).await?;
    let names: Vec<String> = (0..keys).map(|n| format!("k/{n:05}{padding}")).collect();
    for some in names.chunks(100) {
        let put = |name: &String| {
            let options = PutOptions::new().with_lease(9);
            TxnOp::put(name.as_str(), "v", Some(options))
        };
        let ops: Vec<TxnOp> = some.iter().map(put).collect();
        let txn = Txn::new().and_then(ops);
        pair.client.kv_client().txn(txn).await?;
    }
    for name in names.iter().step_by(10) {
        put(&pair.client, &format!("{name}+"), 0).await?;
    }
    pair.wait_same(Duration::from_secs(60)).await
}

/// The numbers of keys that the standby held, one after the other, since `from`.
async fn counts_since(standby: &Client, from: i64) -> Result<Vec<i64>> {
    let now = standby.kv_client().get("k", None).await?;
    let now = now.header().context("a header")?.revision();
    let mut counts = Vec::new();
    for revision in from..=now {
        let options = GetOptions::new().with_prefix().with_count_only();
        let options = options.with_revision(revision);
        let page = standby.kv_client().get("k/", Some(options)).await?;
        counts.push(page.count());
    }
    counts.dedup();
    Ok(counts)
}

async fn revision_of(client: &Client) -> Result<i64> {
    let answer = client.kv_client().get("k", None).await?;
    Ok(answer.header().context("a header")?.revision())
}

/// All keys of a lease vanish in one revision of the standby, however many they are: in one
/// transaction, or, where they are too many for one, by the standby's own revoke.
async fn many_keys_vanish_at_once(keys: usize, padding: &str, whole: bool) -> Result<()> {
    let pair = Pair::start(Version::V3_6, Version::V3_6, &[]).await?;
    large_lease(&pair, keys, padding).await?;
    let standby = pair.standby.client().await?;
    let before = revision_of(&standby).await?;
    revoke(&pair.client, 9).await?;
    pair.wait_same(SOON).await?;
    put(&pair.client, "after", 0).await?;
    pair.wait_same(SOON).await?;
    let counts = counts_since(&standby, before).await?;
    let left = i64::try_from(keys / 10)?;
    let all = i64::try_from(keys)? + left;
    ensure!(counts == [all, left], "{counts:?}");
    let log = pair.syncer.log()?;
    let by_revoke = log.contains("the standby revokes a large lease itself");
    ensure!(by_revoke == whole, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_keys_vanish_at_once() -> Result<()> {
    Box::pin(many_keys_vanish_at_once(10_000, "", false)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_keys_than_a_transaction_takes_vanish_at_once() -> Result<()> {
    Box::pin(many_keys_vanish_at_once(25_000, &"x".repeat(80), true)).await
}

/// A process ends while the standby revokes a large lease: before it does, and after it did.
async fn the_end_of_a_large_lease_is_taken_up(done: bool) -> Result<()> {
    let mut pair = Pair::start(Version::V3_5, Version::V3_7, &[]).await?;
    large_lease(&pair, 25_000, &"x".repeat(80)).await?;
    let standby = pair.standby.client().await?;
    pair.syncer.kill()?;
    revoke(&pair.client, 9).await?;
    let key = reserved::checkpoint_key("test");
    let found = standby.kv_client().get(key.as_ref(), None).await?;
    let found = found.kvs().first().context("a checkpoint")?;
    let mut checkpoint = Checkpoint::decode(found.value())?;
    checkpoint.ending_lease = LeaseId(9);
    let mut kv = standby.kv_client();
    kv.put(key.as_ref(), checkpoint.encode(), None).await?;
    if done {
        revoke(&standby, 9).await?;
    }
    pair.syncer.respawn()?;
    pair.wait_same(Duration::from_secs(60)).await?;
    let leases = pair.leases(|leases| leases["ending"] == 0).await?;
    ensure!(leases["lost"] == 0 && leases["held"] == 0, "{leases}");
    // The id is free again.
    grant(&pair.client, 9, TTL).await?;
    put(&pair.client, "again", 9).await?;
    pair.wait_same(SOON).await?;
    let found = standby.kv_client().get(key.as_ref(), None).await?;
    let found = found.kvs().first().context("a checkpoint")?;
    let checkpoint = Checkpoint::decode(found.value())?;
    ensure!(checkpoint.ending_lease == LeaseId(0), "{checkpoint:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_large_lease_is_taken_up_before_it_is_done() -> Result<()> {
    Box::pin(the_end_of_a_large_lease_is_taken_up(false)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_large_lease_is_taken_up_after_it_was_done() -> Result<()> {
    Box::pin(the_end_of_a_large_lease_is_taken_up(true)).await
}

/// A lease that somebody ends on the standby is made again if that is possible, and never silently.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_lost_on_the_standby() -> Result<()> {
    let mut pair = Pair::start(Version::V3_5, Version::V3_6, &[]).await?;
    let client = pair.client.clone();
    let standby = pair.standby.client().await?;
    for id in [1, 2, 3] {
        grant(&client, id, TTL).await?;
    }
    put(&client, "kept", 2).await?;
    put(&client, "lost", 3).await?;
    pair.wait_same(SOON).await?;

    // One without keys: the next put that names it finds it again.
    revoke(&standby, 1).await?;
    put(&client, "new", 1).await?;
    pair.wait_same(SOON).await?;
    let leases = pair.leases(|leases| leases["restored"] == 1).await?;
    ensure!(leases["lost"] == 1, "{leases}");

    // One whose key is still there: it is attached again, and keeps its value.
    put(&standby, "kept", 0).await?;
    revoke(&standby, 2).await?;
    put(&client, "new2", 2).await?;
    pair.wait_same(SOON).await?;
    let leases = pair.leases(|leases| leases["restored"] == 2).await?;
    ensure!(leases["lost"] == 2, "{leases}");

    // One whose key went with it: the stream halts and says so. The batch is not written.
    revoke(&standby, 3).await?;
    put(&client, "new3", 3).await?;
    let status = pair.syncer.wait_status("a halt", SOON, |status| {
        let reason = status["halted"]["reason"].as_str().unwrap_or_default();
        reason.contains("lost lease 3") && reason.contains("resync")
    });
    status.await?;
    let written = standby.kv_client().get("new3", None).await?;
    ensure!(written.kvs().is_empty(), "{written:?}");
    // What is left is still kept alive.
    let leases = pair.standby_leases().await?;
    ensure!(
        leases.contains_key(&1) && leases.contains_key(&2),
        "{leases:?}"
    );
    pair.syncer.terminate()?;
    ensure!(pair.syncer.wait_exit(SOON).await? == Some(19));
    Ok(())
}

async fn compaction(args: &[&str]) -> Result<(Pair, Client)> {
    let pair = Pair::start(Version::V3_7, Version::V3_4, args).await?;
    for n in 0..20 {
        put(&pair.client, &format!("c/{}", n % 3), 0).await?;
    }
    pair.wait_same(SOON).await?;
    let last = pair.client.kv_client().get("c/0", None).await?;
    let revision = last.header().context("a header")?.revision();
    let physical = CompactionOptions::new().with_physical();
    let mut kv = pair.client.kv_client();
    kv.compact(revision, Some(physical)).await?;
    put(&pair.client, "c/after", 0).await?;
    pair.wait_same(SOON).await?;
    let standby = pair.standby.client().await?;
    Ok((pair, standby))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_is_carried_over() -> Result<()> {
    let (mut pair, standby) = compaction(&[]).await?;
    let leases = pair
        .leases(|leases| leases["compacted"].as_i64() > Some(0))
        .await?;
    let compacted = leases["compacted"].as_i64().context("a revision")?;
    let at = |revision: i64| Some(GetOptions::new().with_revision(revision));
    let before = standby.kv_client().get("c/0", at(compacted - 1)).await;
    let error = before.err().context("it was not compacted")?.to_string();
    ensure!(error.contains("compacted"), "{error}");
    let there = standby.kv_client().get("c/0", at(compacted)).await?;
    ensure!(there.kvs().len() == 1, "{there:?}");
    // All but the last few revisions are gone.
    let now = there.header().context("a header")?.revision();
    ensure!(now - compacted <= 5, "{compacted} of {now}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compaction_is_left_out_if_told_to() -> Result<()> {
    let (pair, standby) = compaction(&["--compaction", "none"]).await?;
    let status = pair.syncer.status().await?;
    ensure!(status["leases"]["compacted"] == 0, "{status}");
    let old = Some(GetOptions::new().with_revision(3));
    standby.kv_client().get("c/0", old).await?;
    Ok(())
}
